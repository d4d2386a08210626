"""slardar as an operator meets it: twistd, curl, and real servers behind it."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import CHECKOUT, TWISTD, FileServer, Nginx, Program, Slardar, curl


def servers(*programs: FileServer | Nginx) -> dict[str, object]:
    """An upstream of these programs."""
    return {"servers": [{"host": "127.0.0.1", "port": program.port} for program in programs]}


def counted(slardar: Slardar, host: str, times: int) -> dict[str, int]:
    """How often each server answered ``/who``."""
    found: dict[str, int] = {}
    for _ in range(times):
        status, body = slardar.get(host, "/who")
        assert status == 200
        found[body.strip()] = found.get(body.strip(), 0) + 1
    return found


def test_upstream_added_while_it_runs_is_reached(
    tmp_path: Path, start: Start, files: FileServer, nginx: Nginx
) -> None:
    """Before the call the Host is unknown; the next request after it is served."""
    slardar = start(Slardar(tmp_path)).ready()
    assert slardar.get("www.example.com", "/who")[0] == 502
    status, _ = slardar.call("PUT", "/upstream/www.example.com", servers(files, nginx))
    assert status == 200
    assert counted(slardar, "www.example.com", 4) == {"http.server": 2, "nginx": 2}
    assert slardar.get("other.example.com", "/who")[0] == 502


def test_weight_and_drain_are_followed_at_once(
    tmp_path: Path, start: Start, files: FileServer, nginx: Nginx
) -> None:
    """A server's share follows its weight; a draining server gets no new requests."""
    slardar = start(Slardar(tmp_path)).ready()
    slardar.call("PUT", "/upstream/a", servers(files, nginx))
    status, _ = slardar.call("PATCH", f"/upstream/a/{nginx.address}", {"weight": 4})
    assert status == 200
    assert counted(slardar, "a", 10) == {"http.server": 2, "nginx": 8}
    status, _ = slardar.call("PATCH", f"/upstream/a/{nginx.address}", {"state": "drain"})
    assert status == 200
    assert counted(slardar, "a", 3) == {"http.server": 3}


def test_backend_sees_who_asked(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """The Host passes unchanged, and the client's address is added."""
    slardar = start(Slardar(tmp_path, "--upstream", f"a.example={nginx.address}")).ready()
    assert slardar.get("a.example", "/host") == (200, "a.example 127.0.0.1\n")


def test_restart_serves_what_was_there(tmp_path: Path, start: Start, files: FileServer) -> None:
    """Changes and removals hold after a stop and a start."""
    options = ("--upstream", f"given={files.address}")
    first = start(Slardar(tmp_path, *options)).ready()
    assert first.get("given", "/who") == (200, "http.server\n")
    first.call("PUT", "/upstream/added", servers(files))
    assert first.call("DELETE", "/upstream/given")[0] == 200
    _, before = first.call("GET", "/status")
    assert first.stop() in (0, -signal.SIGTERM)

    second = start(Slardar(tmp_path, *options)).ready()
    assert second.get("added", "/who") == (200, "http.server\n")
    assert second.get("given", "/who")[0] == 502
    _, after = second.call("GET", "/status")
    assert after["fingerprint"] == before["fingerprint"]
    assert after["shd_config_version"] == before["shd_config_version"]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_hup_reads_the_file_again(
    tmp_path: Path, start: Start, files: FileServer, nginx: Nginx, workers: str
) -> None:
    """Upstreams and routes of the file are served without a restart; values that a call has
    changed stay; a wrong file changes nothing, and the log has the reason."""
    path = tmp_path / "slardar.yaml"

    def write(upstreams: dict[str, object], **rest: object) -> None:
        path.write_text(json.dumps({"upstreams": upstreams, **rest}))

    write({"kept": servers(files), "goes": servers(files), "called": servers(files)})
    options = ("--workers", workers, "--config", "slardar.yaml", "--upstream", f"o={nginx.address}")
    slardar = start(Slardar(tmp_path, *options)).ready()
    assert slardar.call("PUT", "/upstream/called", servers(nginx))[0] == 200
    _, before = slardar.call("GET", "/status")

    write(
        {"kept": servers(nginx), "new": servers(files), "called": servers(files)},
        routes=[{"host": "routed", "upstream": "new"}],
        default_upstream="o",
        timeouts={"connect": 2},
        store="memory:",
        conf_hash="second",
    )
    slardar.signal(signal.SIGHUP)
    slardar.wait_for(r"read again: timeouts hold from now on")
    slardar.wait_for(r"store: changed, but taken with USR2 or a start")
    slardar.wait_for(r"read again: version 2 is served")
    assert "upstreams.called: the file's edit" not in slardar.output
    assert slardar.get("kept", "/who") == (200, "nginx\n")
    assert slardar.get("new", "/who") == (200, "http.server\n")
    assert slardar.get("routed", "/who") == (200, "http.server\n")
    assert slardar.get("called", "/who") == (200, "nginx\n")
    # It was removed from the file, so the default upstream serves.
    assert slardar.get("goes", "/who") == (200, "nginx\n")
    _, after = slardar.call("GET", "/status")
    assert after["shd_config_version"] == before["shd_config_version"] + 1
    assert after["conf_hash"] == "second"

    write({"kept": {"servers": [{"host": "127.0.0.1", "port": "x"}]}}, speed=1)
    slardar.signal(signal.SIGHUP)
    slardar.wait_for(r"not read again: .*slardar\.yaml: .*upstreams\.kept\.servers\[0\]\.port")
    slardar.wait_for(r"not read again: .*speed")
    assert slardar.get("kept", "/who") == (200, "nginx\n")
    _, last = slardar.call("GET", "/status")
    assert last["fingerprint"] == after["fingerprint"]

    # The log names an edit that is not served because of a call, and the way back.
    write({"kept": servers(nginx), "called": {**servers(files), "try": 1}}, default_upstream="o")
    slardar.signal(signal.SIGHUP)
    slardar.wait_for(r"upstreams\.called: the file's edit is not served.*called\?to=file")
    assert slardar.get("called", "/who") == (200, "nginx\n")
    assert slardar.call("DELETE", "/upstream/called?to=file")[0] == 200
    assert slardar.get("called", "/who") == (200, "http.server\n")

    # With the same file a restart serves the same.
    write({"kept": servers(nginx), "new": servers(files)}, default_upstream="o")
    slardar.signal(signal.SIGHUP)
    slardar.wait_for(r"read again: version 5 is served")
    slardar.signal(signal.SIGHUP)
    slardar.wait_for(r"read again: nothing of upstreams and routes has changed")
    _, last = slardar.call("GET", "/status")
    assert slardar.stop() in (0, -signal.SIGTERM)
    again = start(Slardar(tmp_path, *options)).ready()
    _, restarted = again.call("GET", "/status")
    assert restarted["fingerprint"] == last["fingerprint"]
    assert restarted["shd_config_version"] == last["shd_config_version"]


@pytest.mark.parametrize("changes", [1, 7, 20])
def test_kill_loses_no_answered_change(
    tmp_path: Path, start: Start, files: FileServer, changes: int
) -> None:
    """``kill -9`` comes while changes stream in: every answered change is there after a start."""
    first = start(Slardar(tmp_path)).ready()
    answered: list[int] = []
    stopped = threading.Event()

    def change() -> None:
        number = 0
        while True:
            number += 1
            try:
                status, _ = first.call("PUT", f"/upstream/u{number}", servers(files))
            except (subprocess.CalledProcessError, ValueError):
                break  # killed in the middle of the call
            assert status == 200
            answered.append(number)
        stopped.set()

    thread = threading.Thread(target=change)
    thread.start()
    while len(answered) < changes:
        assert not stopped.wait(0.001)
    first.signal(signal.SIGKILL)
    thread.join()
    first.wait()

    second = start(Slardar(tmp_path)).ready()
    _, found = second.call("GET", "/upstreams")
    assert {f"u{number}" for number in answered} <= set(found)
    # The change whose answer was under way may be there, and no other.
    assert len(found) - len(answered) in (0, 1)
    assert second.get("u1", "/who") == (200, "http.server\n")


def test_stop_finishes_what_is_under_way(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """A reply that is half sent when TERM comes is sent to its end."""
    slardar = start(Slardar(tmp_path, "--upstream", f"a={nginx.address}")).ready()
    with socket.create_connection(("127.0.0.1", slardar.port), timeout=20) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        received = client.recv(65536)
        assert received.startswith(b"HTTP/1.1 200")
        slardar.signal(signal.SIGTERM)
        slardar.wait_for("stopping")
        while part := client.recv(65536):
            received += part
    assert received.count(b"x" * 1000) == 200
    assert slardar.wait() in (0, -signal.SIGTERM)
    assert not (tmp_path / "twistd.pid").exists()


def test_stop_waits_no_longer_than_the_drain(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """A reply that would take longer than ``timeouts.drain`` is cut off."""
    (tmp_path / "slardar.yaml").write_text("timeouts: {drain: 0.2}\n")
    options = ("--config", "slardar.yaml", "--upstream", f"a={nginx.address}")
    slardar = start(Slardar(tmp_path, *options)).ready()
    with socket.create_connection(("127.0.0.1", slardar.port), timeout=20) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        slardar.signal(signal.SIGTERM)
        received = 0
        while part := client.recv(65536):
            received += len(part)
    assert received < 200_000
    assert slardar.wait() in (0, -signal.SIGTERM)


@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("at_once", [True, False])
def test_second_signal_ends_the_drain(
    tmp_path: Path, start: Start, workers: str, at_once: bool
) -> None:
    """With one line, and with the record of the request that is broken off; further signals do
    nothing.  The exit code is that of the first one."""
    (tmp_path / "slardar.yaml").write_text(
        'timeouts: {drain: 300, read: 300}\naccess_log: {to: "file:a.log"}\n'
        "health: {enabled: false}\n"
    )
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        silent.settimeout(20)
        place = f"a=127.0.0.1:{silent.getsockname()[1]}"
        options = ("--config", "slardar.yaml", "--upstream", place, "--workers", workers)
        slardar = start(Slardar(tmp_path, *options)).ready()
        with socket.create_connection(("127.0.0.1", slardar.port), timeout=20) as client:
            client.sendall(b"GET /waits HTTP/1.1\r\nHost: a\r\n\r\n")
            there = silent.accept()[0]
            slardar.signal(signal.SIGTERM)
            if not at_once:
                slardar.wait_for("stopping: requests under way are finished first")
            slardar.signal(signal.SIGINT)
            slardar.signal(signal.SIGTERM)
            slardar.signal(signal.SIGINT)
            assert slardar.wait() in (-signal.SIGTERM, -signal.SIGINT)
            there.close()
    assert slardar.output.count("stopping at once: told to stop again") == 1
    assert "Traceback" not in slardar.output
    (line,) = (tmp_path / "a.log").read_text().splitlines()
    assert json.loads(line)["uri"] == "/waits"


def test_port_that_is_taken_ends_it_with_one_line(tmp_path: Path, start: Start) -> None:
    """The exit code is 1, the line names the address, and nothing is left behind."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        slardar = start(Slardar(tmp_path, "--listen", f"tcp:{port}:interface=127.0.0.1"))
        assert slardar.wait() == 1
    (line,) = [line for line in slardar.output.splitlines() if "cannot start" in line]
    assert str(port) in line
    assert "Traceback" not in slardar.output
    assert not (tmp_path / "twistd.pid").exists()


def test_store_that_cannot_be_opened_ends_it_with_one_line(tmp_path: Path, start: Start) -> None:
    """The exit code is 1 and the line names the file."""
    slardar = start(Slardar(tmp_path, "--store", "sqlite:missing/slardar.db"))
    assert slardar.wait() == 1
    (line,) = [line for line in slardar.output.splitlines() if "cannot start" in line]
    assert "missing/slardar.db" in line
    assert "Traceback" not in slardar.output


@pytest.mark.parametrize(
    ("text", "code", "answer"),
    [
        ("upstreams: {a: {servers: [{host: 127.0.0.1, port: 80}]}}\n", 0, "ok\n"),
        ("upstreams: {a: {servers: [{host: 127.0.0.1, port: x}]}}\nworkers: -1\n", 1, None),
    ],
)
def test_check_starts_nothing(tmp_path: Path, text: str, code: int, answer: str | None) -> None:
    """``--check`` prints ok or every error, leaves no file, and has a matching exit code."""
    (tmp_path / "slardar.yaml").write_text(text)
    done = subprocess.run(
        [*TWISTD, "--nodaemon", "slardar", "--config", "slardar.yaml", "--check"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(CHECKOUT)},
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == code, done.stderr
    if answer is None:
        assert len(done.stdout.splitlines()) == 2
        assert "upstreams.a.servers[0].port" in done.stdout
        assert "workers" in done.stdout
    else:
        assert done.stdout == answer
    assert [path.name for path in tmp_path.iterdir()] == ["slardar.yaml"]


def test_daemon_writes_its_pid_and_goes(tmp_path: Path, files: FileServer) -> None:
    """Without ``--nodaemon`` twistd's own pidfile and logfile work."""
    options = ["--listen", "unix:requests.sock", "--control", "unix:control.sock"]
    options += ["--upstream", f"a={files.address}"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    command = [*TWISTD, "slardar", *options]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=60)
    log = tmp_path / "twistd.log"
    pid = int((tmp_path / "twistd.pid").read_text())
    try:
        follow = Program(["tail", "-n", "+1", "-F", str(log), f"--pid={pid}"], tmp_path)
        try:
            follow.wait_for("requests on unix")
            words = ["--unix-socket", str(tmp_path / "requests.sock")]
            assert curl("http://a/who", *words) == (200, "http.server\n")
        finally:
            subprocess.run(["kill", "-TERM", str(pid)], check=True)
            follow.wait()  # tail ends when the daemon has
            follow.end()
    finally:
        subprocess.run(["kill", "-KILL", str(pid)], check=False, stderr=subprocess.DEVNULL)
    assert not (tmp_path / "twistd.pid").exists()


def test_keys_without_effect_are_said_once(tmp_path: Path, start: Start, files: FileServer) -> None:
    """An upstream of the file, and one of a call, are named with their places; they are not named
    again at each HUP."""
    path = tmp_path / "slardar.yaml"
    (server,) = servers(files)["servers"]
    upstream = {"cluster": [{"servers": [{**server, "backup": True}]}]}
    path.write_text(json.dumps({"upstreams": {"a": upstream}}))
    options = ("--config", "slardar.yaml", "--store", "memory:")
    slardar = start(Slardar(tmp_path, *options)).ready()
    assert slardar.call("PUT", "/upstream/b", upstream)[0] == 200
    for _ in range(2):
        slardar.signal(signal.SIGHUP)
        slardar.wait_for("read again: ")
    _, status = slardar.call("GET", "/status")
    assert status["origins"]["upstreams"] == {"a": "file", "b": "control"}
    said = [line for line in slardar.output.splitlines() if "taken, but without effect" in line]
    assert len(said) == 2
    for place in (
        " upstreams.a.cluster.servers.backup: ",
        " upstreams.b.cluster.servers.backup: ",
    ):
        assert sum(place in line for line in said) == 1, place
    assert slardar.get("a", "/who") == (200, "http.server\n")
