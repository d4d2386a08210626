"""Access logs of the real program, with logrotate, rsyslog and collectors as users run them."""

from __future__ import annotations

import gzip
import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import CHECKOUT, TWISTD, Nginx, Program, free_port
from tests.integration.sockets import Client, Origin
from tests.integration.test_upgrade import holds_tunnel, open_tunnel, say
from tests.integration.test_workers import Team, ask, until
from tests.integration.upgrades import Clients, Upgraded

BOTH_FORMS = pytest.mark.parametrize("workers", [0, 2])


def parsed(data: bytes) -> list[dict[str, Any]]:
    """The lines of a log, each of which must be whole."""
    assert not data or data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


def lines_of(path: Path) -> list[dict[str, Any]]:
    return parsed(path.read_bytes()) if path.exists() else []


def configured(folder: Path, nginx: Nginx, log: object, **settings: object) -> tuple[str, str]:
    """Options for a configuration with this access log, and the upstream ``a``."""
    host, port = nginx.address.split(":")
    servers = [{"host": host, "port": int(port)}]
    upstreams = {"a": {"servers": servers}, "quiet": {"servers": servers, "access_log": False}}
    (folder / "slardar.yaml").write_text(
        json.dumps({"access_log": log, "upstreams": upstreams, **settings})
    )
    return "--config", "slardar.yaml"


def program(name: str) -> str:
    path = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    assert path is not None, f"{name} is needed: make test installs it"
    return path


@BOTH_FORMS
def test_every_request_has_a_line(tmp_path: Path, start: Start, nginx: Nginx, workers: int) -> None:
    """Those without an upstream, those that a hook answers or fails for, and bytes that are no
    request, too; but not those of an upstream that is left out."""
    options = configured(
        tmp_path, nginx, [{"to": "file:a.log"}, {"to": "file:b.log", "format": "combined"}]
    )
    team = start(Team(tmp_path, *options, count=workers)).ready()
    assert team.get("a", "/who?x=1")[0] == 200
    assert team.get("nobody", "/lost")[0] == 502
    assert team.get("quiet", "/who")[0] == 200
    with Client(("127.0.0.1", team.port)) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n")
        assert client.reply().status == 400
    code = 'def on_request(request):\n    if request.path == "/no":\n        request.reject(403)\n'
    code += '    if request.path == "/fails":\n        1 // 0\n'
    assert team.call("POST", "/python/script.a", code)[0] == 200
    assert team.call("PUT", "/python/script.a")[0] == 200
    assert [team.get("a", path)[0] for path in ("/no", "/fails", "/last")] == [403, 500, 404]
    log = tmp_path / "a.log"
    until(lambda: len(lines_of(log)) == 6, "all lines are there")
    lines = sorted(lines_of(log), key=lambda line: str(line["time"]))
    told = [(one["uri"], one["status"], one["server"], one["hook"], one["error"]) for one in lines]
    assert told == [
        ("/who?x=1", 200, nginx.address, None, None),
        ("/lost", 502, None, None, "no upstream for host 'nobody'"),
        (None, 400, None, None, "the Host is not a valid host name"),
        ("/no", 403, None, "python/script.a", None),
        ("/fails", 500, None, "python/script.a", "a hook failed"),
        ("/last", 404, nginx.address, None, None),
    ]
    assert lines[0]["request_id"] is not None
    assert lines[0]["user_agent"].startswith("curl/")
    assert {one["worker"] for one in lines} <= {f"worker-{n}" for n in range(max(workers, 1))}
    assert {one["client"] for one in lines} == {"127.0.0.1"}
    until(lambda: (tmp_path / "b.log").read_bytes().count(b"\n") == 6, "all are in both")
    assert team.status()["statistics"]["access_log_dropped"] == 0
    assert team.stop() == -signal.SIGTERM


def test_workers_write_to_the_standard_output_of_twistd(
    tmp_path: Path, start: Start, nginx: Nginx
) -> None:
    """Not through the director's log."""
    options = configured(tmp_path, nginx, {"to": "stdout", "format": "line: {uri} {status}."})
    team = start(Team(tmp_path, *options)).ready()
    for number in range(20):
        assert team.get("a", f"/who?{number}")[0] == 200
    for number in range(20):
        team.wait_for(rf"^line: /who\?{number} 200\.$")


def test_own_log_as_json(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """Every line of both processes is an object, from the start to the end."""
    options = configured(tmp_path, nginx, {"to": "file:a.log"})
    command = [*TWISTD, "--nodaemon", "--logfile=own.log", "slardar", "--log-format=json", *options]
    command += ["--workers=1", "--listen=tcp:0:interface=127.0.0.1"]
    command += [f"--control=tcp:{free_port()}:interface=127.0.0.1"]
    slardar = start(Program(command, tmp_path))
    own = tmp_path / "own.log"
    until(lambda: own.exists() and "requests on" in own.read_text("utf-8"), "it serves")
    (tmp_path / "a.log").rename(tmp_path / "a.log.1")
    slardar.signal(signal.SIGUSR1)
    until((tmp_path / "a.log").exists, "the access log is opened anew")
    until((tmp_path / "own.log.1").exists, "the own log is moved, as twistd does it")
    slardar.signal(signal.SIGTERM)
    assert slardar.wait() == -signal.SIGTERM
    lines = [
        json.loads(line)
        for path in (tmp_path / "own.log.1", own)
        for line in path.read_text("utf-8").splitlines()
    ]
    assert {"twistd", "slardar"} <= {line["message"].partition(" ")[0] for line in lines}
    (serves,) = [line for line in lines if line["message"].endswith(" serves")]
    assert serves["fields"]["worker"] == "worker-0"
    assert any(line["namespace"] == "slardar.service" for line in lines)
    assert slardar.output == ""


def test_file_that_cannot_be_written_stops_the_start(
    tmp_path: Path, start: Start, nginx: Nginx
) -> None:
    """With one line that names it."""
    options = configured(tmp_path, nginx, {"to": "file:no/a.log"})
    slardar = start(Team(tmp_path, *options))
    assert slardar.wait() == 1
    slardar.wait_for(r"slardar\.yaml: access_log: file:no/a\.log: No such file or directory")


def test_hup_changes_the_logs(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """A wrong one changes nothing."""
    options = configured(tmp_path, nginx, None)
    team = start(Team(tmp_path, *options)).ready()
    assert team.get("a", "/before")[0] == 404
    configured(tmp_path, nginx, {"to": "file:a.log"})
    team.signal(signal.SIGHUP)
    team.wait_for("read again: access_log hold from now on")
    assert team.get("a", "/one")[0] == 404
    until(lambda: [line["uri"] for line in lines_of(tmp_path / "a.log")] == ["/one"], "it is there")
    configured(tmp_path, nginx, [{"to": "file:a.log"}, {"to": "file:no/b.log"}])
    team.signal(signal.SIGHUP)
    team.wait_for(r"not read again: access_log: file:no/b\.log: No such file or directory")
    assert team.get("a", "/two")[0] == 404
    until(lambda: len(lines_of(tmp_path / "a.log")) == 2, "the log goes on")
    assert team.get("a", "/last")[0] == 404
    assert team.stop() == -signal.SIGTERM
    assert [line["uri"] for line in lines_of(tmp_path / "a.log")] == ["/one", "/two", "/last"]


def rotated(folder: Path) -> list[dict[str, Any]]:
    """The lines of a log and of its predecessors."""
    lines: list[dict[str, Any]] = []
    for path in folder.glob("access.log*"):
        data = path.read_bytes()
        lines += parsed(gzip.decompress(data) if path.suffix == ".gz" else data)
    return lines


def test_logrotate_loses_no_line(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """Under load, with the file of the examples."""
    folder = tmp_path / "logs"
    folder.mkdir(mode=0o755)
    options = configured(tmp_path, nginx, {"to": f"file:{folder}/access.log"})
    team = start(Team(tmp_path, *options)).ready()
    conf = (CHECKOUT / "examples" / "logrotate.conf").read_text("utf-8")
    conf = conf.replace("/var/log/slardar", str(folder))
    conf = conf.replace("/run/slardar/twistd.pid", str(tmp_path / "twistd.pid"))
    (tmp_path / "logrotate.conf").write_text(conf)
    rotate = [program("logrotate"), "--force", "--state", str(tmp_path / "state")]
    with Clients(team) as clients:
        for _ in range(4):
            clients.more(100)
            until(lambda: (folder / "access.log").exists(), "there is a file")
            # An empty one would not be moved away.
            until(lambda: (folder / "access.log").stat().st_size > 0, "it is written to")
            subprocess.run([*rotate, str(tmp_path / "logrotate.conf")], check=True, timeout=20)
    assert clients.failures == []
    until(lambda: len(rotated(folder)) == clients.count, "all lines are there")
    assert len({line["request_id"] for line in rotated(folder)}) == clients.count
    assert len(list(folder.glob("*.gz"))) == 3
    assert team.status()["statistics"]["access_log_dropped"] == 0


def test_upgrade_loses_no_line(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """Both generations write to one file; the old one follows a file that is moved."""
    options = configured(tmp_path, nginx, {"to": "file:access.log"})
    site = start(Upgraded(tmp_path, *options)).ready()
    with Clients(site) as clients:
        clients.more(50)
        site.upgrade()
        (tmp_path / "access.log").rename(tmp_path / "access.log.1")
        os.kill(site.current, signal.SIGUSR1)
        clients.more(50)
    assert clients.failures == []
    until(lambda: len(rotated(tmp_path)) == clients.count, "all lines are there")


def test_worker_that_is_killed_loses_a_tenth_of_a_second(
    tmp_path: Path, start: Start, nginx: Nginx
) -> None:
    """What was written before is there, and the log goes on."""
    options = configured(tmp_path, nginx, {"to": "file:a.log"})
    team = start(Team(tmp_path, *options, count=1)).ready()
    for _ in range(20):
        assert team.get("a", "/who")[0] == 200
    until(lambda: len(lines_of(tmp_path / "a.log")) == 20, "all are there", 1.0)
    os.kill(team.pids()["worker-0"], signal.SIGKILL)
    assert team.get("a", "/who")[0] == 200
    until(lambda: len(lines_of(tmp_path / "a.log")) == 21, "the replacement writes")


def test_full_disk_costs_no_request(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """Lines wait, the log says so once, and when there is room again they are written."""
    options = configured(tmp_path, nginx, {"to": "file:a.log"})
    slardar = start(Team(tmp_path, *options, count=0)).ready()
    assert slardar.get("a", "/who")[0] == 200
    log = tmp_path / "a.log"
    until(lambda: len(lines_of(log)) == 1, "it is there")
    size = log.stat().st_size
    limits = resource.prlimit(slardar.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(slardar.pid, resource.RLIMIT_FSIZE, (size + 700, limits[1]))
    connection = slardar.connect()
    for _ in range(200):
        ask(connection)
    connection.close()
    slardar.wait_for(r"access log file:a\.log: cannot be written: File too large; lines wait")
    assert log.stat().st_size == size + 700
    resource.prlimit(slardar.pid, resource.RLIMIT_FSIZE, limits)
    until(lambda: log.read_bytes().count(b"\n") == 201, "all lines are there")
    assert {line["uri"] for line in lines_of(log)} == {"/who"}
    assert slardar.output.count("cannot be written") == 1
    assert slardar.status()["statistics"]["access_log_dropped"] == 0


def test_collector_that_comes_late_and_does_not_read(
    tmp_path: Path, start: Start, nginx: Nginx
) -> None:
    """Requests go on, and the collector gets every line."""
    options = configured(tmp_path, nginx, {"to": "unix:collector.sock"})
    team = start(Team(tmp_path, *options, count=0)).ready()
    assert team.get("a", "/who")[0] == 200
    team.wait_for(r"access log unix:collector\.sock: cannot be written: No such file or directory")
    with socket.socket(socket.AF_UNIX) as collector:
        # A path below the folder of the test is too long for some machines.
        collector.bind(os.path.relpath(tmp_path / "collector.sock"))
        collector.listen()
        connection = team.connect()
        for number in range(300):
            ask(connection, f"/who?{'x' * 3000}{number}")
        connection.close()
        got: list[bytes] = []

        def read(client: socket.socket) -> None:
            with client:
                while data := client.recv(65536):
                    got.append(data)

        def accept() -> None:
            while True:
                try:
                    client, _ = collector.accept()
                except OSError:
                    return
                threading.Thread(target=read, args=(client,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        until(lambda: b"".join(got).count(b"\n") == 301, "all lines have come")
        assert team.stop() == -signal.SIGTERM
        collector.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def echo() -> Iterator[Origin]:
    """A server of tunnels."""
    server = Origin(holds_tunnel)
    yield server
    server.stop()


def test_tunnel_is_told_while_it_lasts(
    tmp_path: Path, start: Start, echo: Origin, nginx: Nginx
) -> None:
    """When it begins, at the interval, and when it ends, with the bytes so far."""
    upstreams = {"echo": {"servers": [{"host": "127.0.0.1", "port": echo.port}]}}
    log = {"to": "file:a.log", "interval": 0.2}
    options = configured(tmp_path, nginx, log, upstreams=upstreams)
    site = start(Upgraded(tmp_path, *options)).ready()
    path = tmp_path / "a.log"
    with open_tunnel(site) as tunnel:
        until(lambda: [line["event"] for line in lines_of(path)] == ["begin"], "it begins", 5)
        say(tunnel, b"x" * 1000)
        until(lambda: lines_of(path)[-1]["bytes_in"] > 1000, "it is told what went through")
        assert lines_of(path)[-1]["event"] == "progress"
    until(lambda: lines_of(path)[-1]["event"] == "end", "it ends")
    lines = lines_of(path)
    assert {(line["uri"], line["status"], line["upstream"]) for line in lines} == {
        ("/", 101, "echo")
    }
    assert [line["event"] for line in lines].count("begin") == 1
    seconds = [line["seconds"] for line in lines]
    assert seconds == sorted(seconds)


_RSYSLOG = """\
module(load="imtcp") module(load="imudp") module(load="imuxsock" SysSock.Use="off")
input(type="imtcp" port="{tcp}" address="127.0.0.1")
input(type="imudp" port="{udp}" address="127.0.0.1")
input(type="imuxsock" Socket="{folder}/syslog.sock" UseSpecialParser="off" ParseHostname="on"
      RateLimit.Interval="0")
template(name="message" type="string" string="%inputname% %app-name% %msgid%:%msg:1:$%\\n")
action(type="omfile" file="{folder}/messages" template="message" asyncWriting="off")
global(workDirectory="{folder}" maxMessageSize="64k")
"""


class Rsyslog(Program):
    """Debian's rsyslog, with a configuration and a folder of its own."""

    def __init__(self, folder: Path, tcp: int, udp: int) -> None:
        self.messages_file = folder / "messages"
        path = folder / "rsyslog.conf"
        path.write_text(_RSYSLOG.format(folder=folder, tcp=tcp, udp=udp))
        pidfile = str(folder / "rsyslog.pid")
        super().__init__([program("rsyslogd"), "-n", "-f", str(path), "-i", pidfile], folder)

    def messages(self, source: str) -> list[dict[str, Any]]:
        """The messages that came in one way, each of which must be whole."""
        if not self.messages_file.exists():
            return []
        text = self.messages_file.read_text("utf-8")
        found = []
        for line in text.splitlines():
            head, _, message = line.partition(":")
            name, app, kind = head.split(" ")
            assert (app, kind) == ("slardar", "access")
            if name == source:
                found.append(json.loads(message))
        return found


def test_rsyslog_gets_every_line(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """Over TCP, UDP and its socket; over TCP also after it was stopped for a while."""
    tcp, udp = free_port(), free_port()
    rsyslog = start(Rsyslog(tmp_path, tcp, udp))
    until((tmp_path / "syslog.sock").exists, "rsyslog listens")
    with socket.socket() as probe:
        until(lambda: probe.connect_ex(("127.0.0.1", tcp)) == 0, "it listens on TCP, too")
    logs = [
        {"to": f"tcp:127.0.0.1:{tcp}", "syslog": True},
        {"to": f"udp:127.0.0.1:{udp}"},
        {"to": f"unixgram:{tmp_path}/syslog.sock"},
    ]
    team = start(Team(tmp_path, *configured(tmp_path, nginx, logs))).ready()
    hostile = 'quote" \\ {"status":1} 12 <190>1 \u00e9\u2028'
    headers = {"Host": "a", "User-Agent": hostile.encode()}
    connection = team.connect()
    for number in range(50):
        connection.request("GET", f"/who?{number}", headers=headers)
        assert connection.getresponse().read() == b"nginx\n"
    connection.close()
    uris = [f"/who?{number}" for number in range(50)]
    for source in ("imtcp", "imudp", "imuxsock"):
        until(lambda source=source: len(rsyslog.messages(source)) == 50, f"{source} has all")  # type: ignore[misc]
        assert [one["uri"] for one in rsyslog.messages(source)] == uris
        assert {one["user_agent"] for one in rsyslog.messages(source)} == {hostile}
    rsyslog.end()
    (tmp_path / "syslog.sock").unlink(missing_ok=True)
    for number in range(50, 60):
        assert team.get("a", f"/who?{number}")[0] == 200
    team.wait_for(r"access log tcp:\S+: cannot be written: Connection refused")
    start(Rsyslog(tmp_path, tcp, udp))
    for source in ("imtcp", "imuxsock"):
        until(lambda source=source: len(rsyslog.messages(source)) == 60, f"{source} has all")  # type: ignore[misc]
        found = sorted(int(one["uri"].partition("?")[2]) for one in rsyslog.messages(source))
        assert found == list(range(60))
