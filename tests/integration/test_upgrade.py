"""The upgrade in place, as an operator and clients meet it: real processes, real signals."""

from __future__ import annotations

import errno
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import CHECKOUT, PATIENCE, TWISTD, Nginx, curl, free_port
from tests.integration.sockets import Client, Connection, Origin
from tests.integration.test_workers import is_running, until
from tests.integration.upgrades import Clients, Upgraded


@pytest.mark.parametrize(("workers", "upgrades"), [(0, 4), (2, 10)])
def test_no_request_fails(
    tmp_path: Path, start: Start, nginx: Nginx, workers: int, upgrades: int
) -> None:
    """Upgrades in turn under load: clients with kept and with new connections all get replies."""
    site = start(Upgraded(tmp_path, "--upstream", f"a={nginx.address}", count=workers)).ready()
    pids = [site.pid]
    with Clients(site) as clients:
        clients.more(100)
        for _ in range(upgrades):
            pids.append(site.upgrade())
            clients.more(100)
    assert clients.failures == []
    assert len(set(pids)) == upgrades + 1
    until(lambda: not any(map(is_running, pids[:-1])), "the old generations end")
    assert site.pid_in_file() == site.current
    assert not (tmp_path / "twistd.pid.old").exists()


def change(site: Upgraded, name: str, port: int) -> int:
    """Make an upstream by a call; returns the version that serves it."""
    body = {"servers": [{"host": "127.0.0.1", "port": port}]}
    code, answer = site.call("PUT", f"/upstream/{name}?receipt=1", body)
    assert code == 200, answer
    version: int = answer["version"]
    return version


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def holds_tunnel(connection: Connection) -> None:
    """A server that switches protocols, and then sends everything back."""
    if connection.head() is not None:
        connection.send(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        while data := connection.sock.recv(1000):
            connection.send(data)


@pytest.fixture
def echo() -> Iterator[Origin]:
    """A server of tunnels."""
    server = Origin(holds_tunnel)
    yield server
    server.stop()


def open_tunnel(site: Upgraded) -> Client:
    """A client with a tunnel through slardar."""
    client = Client(("127.0.0.1", site.port))
    client.ask("/", "echo", "GET", "Connection: Upgrade", "Upgrade: echo")
    assert client.head()[0] == 101
    return client


def say(client: Client, text: bytes) -> None:
    """Send a text, and assert that it comes back."""
    client.send(text)
    assert client.exactly(len(text)) == text


def pids(site: Upgraded) -> list[int]:
    """The generations in the newest process's status."""
    return [one["pid"] for one in site.status()["generations"]]


@pytest.mark.parametrize("workers", [0, 1])
def test_tunnels_stay_with_the_generation_before(
    tmp_path: Path, start: Start, echo: Origin, workers: int
) -> None:
    """They go on through an upgrade, and their generation is listed meanwhile; the second
    upgrade after it ends them."""
    options = ("--upstream", f"echo=127.0.0.1:{echo.port}")
    site = start(Upgraded(tmp_path, *options, count=workers)).ready()
    first = site.current
    with open_tunnel(site) as old:
        say(old, b"before")
        second = site.upgrade()
        say(old, b"after")
        until(lambda: pids(site) == [second, first], "both are listed")
        until(lambda: site.status()["generations"][1]["connections"] == 1, "it is counted")
        generations = site.status()["generations"]
        assert generations[1]["age"] >= generations[0]["age"]
        assert set(generations[0]) == {"pid", "age", "connections"}
        with open_tunnel(site) as new:
            third = site.upgrade()
            old.wait_closed()
            until(lambda: not is_running(first), "the first generation ends")
            say(new, b"after")
            until(lambda: pids(site) == [third, second], "the first is not listed any more")
        until(lambda: not is_running(second), "the second ends behind its last tunnel")
        until(lambda: pids(site) == [third], "one is left")


def test_drain_ends_the_generation_before(tmp_path: Path, start: Start, echo: Origin) -> None:
    """A tunnel is cut off when ``timeouts.drain`` is over."""
    (tmp_path / "slardar.yaml").write_text("timeouts: {drain: 1}\n")
    options = ("--config", "slardar.yaml", "--upstream", f"echo=127.0.0.1:{echo.port}")
    site = start(Upgraded(tmp_path, *options)).ready()
    first = site.current
    with open_tunnel(site) as tunnel:
        site.upgrade()
        tunnel.wait_closed()
    until(lambda: not is_running(first), "it ends")


def test_stop_ends_all_generations(tmp_path: Path, start: Start, echo: Origin) -> None:
    """TERM to the newest process also ends those before it, and it waits for them."""
    (tmp_path / "slardar.yaml").write_text("timeouts: {drain: 100}\n")
    options = ("--config", "slardar.yaml", "--upstream", f"echo=127.0.0.1:{echo.port}")
    site = start(Upgraded(tmp_path, *options)).ready()
    first = site.current
    with open_tunnel(site) as tunnel:
        # At a stop the drain time of the newest process counts.
        (tmp_path / "slardar.yaml").write_text("timeouts: {drain: 1}\n")
        second = site.upgrade()
        os.kill(second, signal.SIGTERM)
        tunnel.wait_closed()
        until(lambda: not is_running(first), "the old generation ends")
        until(lambda: not is_running(second), "the new one ends")
    assert list(tmp_path.glob("*.pid*")) == []


def test_death_of_the_new_one_does_not_hurry_the_old(
    tmp_path: Path, start: Start, echo: Origin
) -> None:
    """The new process is killed when it serves; the old one still finishes its requests."""
    options = ("--upstream", f"echo=127.0.0.1:{echo.port}")
    site = start(Upgraded(tmp_path, *options)).ready()
    first = site.current
    with open_tunnel(site) as tunnel:
        second = site.upgrade()
        os.kill(second, signal.SIGKILL)
        until(lambda: not is_running(second), "it is dead")
        for _ in range(5):
            say(tunnel, b"still there")
        assert is_running(first)
    until(lambda: not is_running(first), "the old generation ends by itself")


def test_reply_under_way_is_finished(site: Configured) -> None:
    """The old process finishes it; its idle clients leave with their next request, or soon."""
    with Client(("127.0.0.1", site.port)) as client, Client(("127.0.0.1", site.port)) as idle:
        assert idle.get("/who", "a").status == 200
        client.ask("/slow", "a")
        assert client.head()[0] == 200
        old = site.current
        site.upgrade()
        got = idle.get("/who", "a")
        assert (got.status, got.headers["connection"]) == (200, "close")
        assert client.exactly(200_000).count(b"x") == 200_000
    until(lambda: not is_running(old), "the old generation ends")


@pytest.mark.parametrize("store", ["memory:", "sqlite:slardar.db"])
@pytest.mark.parametrize("workers", [0, 2])
def test_state_is_handed_over(
    tmp_path: Path, start: Start, nginx: Nginx, store: str, workers: int
) -> None:
    """Changes and removals hold, and versions go on from there."""
    options = ("--store", store, "--upstream", f"gone={nginx.address}")
    site = start(Upgraded(tmp_path, *options, count=workers)).ready()
    assert change(site, "a", nginx.port) == 1
    assert site.call("DELETE", "/upstream/gone")[0] == 200
    assert site.call("PUT", "/routes", [{"host": "routed", "upstream": "a"}])[0] == 200
    before = site.status()
    for turn in range(2):
        site.upgrade()
        after = site.status()
        assert after["fingerprint"] == before["fingerprint"]
        assert after["shd_config_version"] == 3 + turn
        assert site.get("a", "/who") == (200, "nginx\n")
        assert site.get("routed", "/who") == (200, "nginx\n")
        assert site.get("gone", "/who")[0] == 502
        assert change(site, f"b{turn}", nginx.port) == 4 + turn
        before = site.status()


def test_health_is_handed_over(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """A server that requests have put out of service gets no requests."""
    site = start(Upgraded(tmp_path)).ready()
    dead = {"host": "127.0.0.1", "port": free_port(), "max_fails": 1, "fail_timeout": 600}
    live = {"host": "127.0.0.1", "port": nginx.port}
    # Without heartbeats, which would find it out first.
    body = {"servers": [dead, live], "enable": False}
    assert site.call("PUT", "/upstream/a", body)[0] == 200

    def server() -> dict[str, Any]:
        found: dict[str, Any] = site.status()["cls:a"][0][0]
        return found

    def is_out() -> bool:
        assert site.get("a", "/who") == (200, "nginx\n")
        return server()["status"] == "err"

    until(is_out, "a request has failed")
    site.upgrade()
    for _ in range(10):
        assert site.get("a", "/who") == (200, "nginx\n")
    until(lambda: server()["status"] == "err", "it is known to be out")
    assert server()["requests"] == 0


@pytest.mark.parametrize("counts", [(2, 3, 1), (3, 2), (1, 3), (0, 2, 0)], ids=str)
def test_number_of_workers_may_change(
    tmp_path: Path, start: Start, nginx: Nginx, counts: tuple[int, ...]
) -> None:
    """There may be more or fewer, under load: no request fails, and all workers get some."""
    path = tmp_path / "slardar.yaml"

    def write(count: int) -> None:
        upstreams = {"a": {"servers": [{"host": "127.0.0.1", "port": nginx.port}]}}
        path.write_text(json.dumps({"workers": count, "upstreams": upstreams}))

    write(counts[0])
    site = start(Upgraded(tmp_path, "--config", "slardar.yaml", count=None)).ready()
    with Clients(site, keeping=2, fresh=4) as clients:
        clients.more(50)
        for count in counts[1:]:
            write(count)
            site.upgrade()
            clients.more(50)

            def all_serve(count: int = count) -> bool:
                served = [about["requests"] for about in site.status()["workers"].values()]
                return len(served) == max(count, 1) and min(served) > 0

            until(all_serve, "each worker has had requests")
    assert clients.failures == []


#: A user's balancer whose module waits, in the director or in workers, while a file
#: exists, or ends the process.
MODULE = """
import os, select, sys

if ("workers" in sys.argv[0]) == (os.path.exists("in-workers")):
    open("imported", "w").close()
    while os.path.exists("wait"):
        select.select((), (), (), 0.02)
    if os.path.exists("die"):
        os._exit(4)

class Slow:
    def __init__(self, servers, options):
        pass

    def pick(self, servers, request):
        return servers[0]
"""


class Configured(Upgraded):
    """With a configuration file that is changed before an upgrade."""

    def __init__(self, folder: Path, nginx: Nginx, count: int = 2) -> None:
        self.folder, self.nginx = folder, nginx
        (folder / "slow.py").write_text(MODULE)
        self.write()
        super().__init__(folder, "--config", "slardar.yaml", count=count, listen=False)

    #: The process ids of the first generation's workers.
    workers: list[int]

    def write(self, mode: str = "wrr", **settings: object) -> None:
        """Write the file."""
        servers = [{"host": "127.0.0.1", "port": self.nginx.port}]
        upstreams = {"a": {"servers": servers, "mode": mode}}
        listen = ["tcp:0:interface=127.0.0.1"]
        text = json.dumps({"upstreams": upstreams, "listen": listen, **settings})
        (self.folder / "slardar.yaml").write_text(text)

    def mark(self, *names: str) -> None:
        """Tell the user's module what to do."""
        for name in names:
            (self.folder / name).touch()

    def unmark(self, *names: str) -> None:
        """Tell the user's module what to do no longer."""
        for name in names:
            (self.folder / name).unlink()

    def goes_on(self, version: int) -> None:
        """Assert that everything works as before the upgrade; a change makes ``version``."""
        until(lambda: self.pid_in_file() == self.current, "the pidfile is back")
        assert not (self.folder / "twistd.pid.old").exists()
        assert change(self, "b", self.nginx.port) == version
        assert pids(self) == [self.current]


def break_file(site: Configured) -> str:
    site.write(timeouts={"read": "long"}, workers=-1)
    return r"slardar\.yaml: timeouts\.read: .*; .*slardar\.yaml: workers"


def break_mode(site: Configured) -> str:
    site.write("nowhere.Balancer")
    return r"upstreams\.a\.mode: cannot import nowhere"


def break_import(site: Configured) -> str:
    (site.folder / "msgspec.py").write_text("this is no Python\n")
    return "SyntaxError"


def break_store(site: Configured) -> str:
    site.write(store="sqlite:missing/slardar.db")
    return r"it cannot start: .*missing/slardar\.db: the folder .* does not exist"


def break_port(site: Configured) -> str:
    # The endpoint on which it listens already, with another string.
    taken = f"tcp:{site.port}:interface=127.0.0.1"
    site.write(listen=["tcp:0:interface=127.0.0.1", taken])
    return rf"it cannot start: .*127\.0\.0\.1:{site.port}"


def break_workers(site: Configured) -> str:
    site.mark("in-workers", "die")
    site.write("slow.Slow")
    return "it cannot start: worker-[01] .*ended with exit code 4, 3 times in a row"


@pytest.mark.parametrize(
    "spoil", [break_file, break_mode, break_import, break_store, break_port, break_workers]
)
def test_old_one_goes_on_if_the_new_one_cannot_start(
    tmp_path: Path, start: Start, nginx: Nginx, spoil: Callable[[Configured], str]
) -> None:
    """One line has the reason; the old process has lost no request, takes changes again, and
    can be upgraded once the mistake is corrected."""
    site = start(Configured(tmp_path, nginx)).ready()
    assert change(site, "b", nginx.port) == 1
    with Clients(site) as clients:
        clients.more(20)
        reason = spoil(site)
        site.usr2()
        site.wait_for(f"not upgraded: .*{reason}.*; pid {site.current} goes on")
        site.goes_on(2)
        clients.more(20)
        assert site.output.count("not upgraded") == 1
        for path in ("msgspec.py", "in-workers", "die"):
            (tmp_path / path).unlink(missing_ok=True)
        site.write()
        site.upgrade()
        clients.more(20)
        assert change(site, "b", nginx.port) == 3
    assert clients.failures == []


@pytest.fixture
def site(tmp_path: Path, start: Start, nginx: Nginx) -> Configured:
    """Two workers, and a configuration file that can be changed."""
    found: Configured = start(Configured(tmp_path, nginx)).ready()
    found.workers = children(found.current)
    return found


def hang(site: Configured, *marks: str) -> int:
    """Upgrade to a new process that hangs; returns its process id.

    With the mark ``in-workers`` it has the store by then, and waits for its workers.
    """
    site.mark("wait", *marks)
    site.write("slow.Slow")
    site.usr2()
    until(lambda: (site.folder / "imported").exists(), "it has begun")
    (site.folder / "imported").unlink()
    (child,) = [one for one in children(site.current) if not is_worker(one)]
    return child


def is_worker(pid: int) -> bool:
    """Whether a process is a worker; the spare counts, too."""
    return b"slardar.workers.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()


@pytest.mark.parametrize("marks", [(), ("in-workers",)], ids=["early", "late"])
def test_old_one_goes_on_if_the_new_one_is_killed(site: Configured, marks: tuple[str, ...]) -> None:
    """``kill -9`` comes before it has the store, and after."""
    with Clients(site) as clients:
        clients.more(20)
        child = hang(site, *marks)
        site.usr2()
        site.wait_for("USR2: an upgrade is under way already")
        os.kill(child, signal.SIGKILL)
        site.wait_for(f"not upgraded: it ended by signal 9; pid {site.current} goes on")
        site.goes_on(1)
        site.unmark("wait")
        clients.more(20)
        site.upgrade()
        assert change(site, "b", site.nginx.port) == 2
    assert clients.failures == []


def test_change_during_an_upgrade_waits(site: Configured) -> None:
    """The process that has the store answers a call that comes meanwhile; a call on a
    connection of the old process is told to come again."""
    kept = http.client.HTTPConnection("127.0.0.1", site.control, timeout=PATIENCE)
    kept.connect()

    def change_kept() -> http.client.HTTPResponse:
        kept.request("DELETE", "/upstream/a")
        return kept.getresponse()

    hang(site, "in-workers")
    with ThreadPoolExecutor() as pool:
        calls = [pool.submit(change, site, "b", site.nginx.port), pool.submit(change_kept)]
        assert not wait(calls, 0.3).done
        site.unmark("wait")
        assert calls[0].result(PATIENCE) == 1
        reply = calls[1].result(PATIENCE)
        assert (reply.status, reply.getheader("Retry-After")) == (503, "1")
        assert b"upgraded" in reply.read()
    kept.close()
    assert site.get("a", "/who") == (200, "nginx\n")


@pytest.mark.parametrize("marks", [(), ("in-workers",)], ids=["early", "late"])
def test_stop_ends_an_upgrade_too(site: Configured, marks: tuple[str, ...]) -> None:
    """TERM comes to the old process while the new one starts: neither is left."""
    child = hang(site, *marks)
    workers = children(child)
    os.kill(site.current, signal.SIGTERM)
    site.wait_for("not upgraded: the old process was told to stop")
    assert site.wait() in (0, -signal.SIGTERM)
    until(lambda: not any(map(is_running, [child, *workers])), "the new one ends")
    assert list(site.folder.glob("*.pid*")) == []


def test_daemon_with_unix_sockets(tmp_path: Path, nginx: Nginx) -> None:
    """twistd's daemon changes to another folder: the names on its command line are found
    again, and the sockets' files stay until the last generation removes them."""
    (tmp_path / "run").mkdir()
    upstreams = {"a": {"servers": [{"host": "127.0.0.1", "port": nginx.port}]}}
    (tmp_path / "slardar.yaml").write_text(json.dumps({"upstreams": upstreams}))
    command = [*TWISTD, "--rundir", "run", "--pidfile", "site.pid", "slardar"]
    command += ["--config", "slardar.yaml", "--workers", "2", "--listen", "unix:requests.sock"]
    command += ["--control", "unix:control.sock", "--store", "sqlite:slardar.db"]
    environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=60)
    run = tmp_path / "run"

    def call(name: str, path: str, *words: str) -> str:
        place = ("--unix-socket", str(run / f"{name}.sock"))
        code, text = curl(f"http://a{path}", *place, *words)
        assert code == 200, text
        return text

    def generations() -> list[int]:
        found = json.loads(call("control", "/status"))["generations"]
        return [one["pid"] for one in found]

    def current() -> int:
        return int((tmp_path / "site.pid").read_text())

    pids = [current()]
    try:
        until((run / "control.sock").exists, "it runs")
        files = [(run / f"{name}.sock").stat().st_ino for name in ("requests", "control")]
        for _ in range(2):
            assert call("requests", "/who") == "nginx\n"
            os.kill(pids[-1], signal.SIGUSR2)
            until(lambda: generations()[0] != pids[-1], "the new one serves", 2 * PATIENCE)
            pids.append(current())
            assert generations()[0] == pids[-1]
        until(lambda: not any(map(is_running, pids[:-1])), "the old ones end")
        assert call("requests", "/who") == "nginx\n"
        for name, number in zip(("requests", "control"), files, strict=True):
            assert (run / f"{name}.sock").stat().st_ino == number
            assert os.readlink(run / f"{name}.sock.lock") == str(pids[-1])
        # Without a terminal the mistake is in the log.
        (tmp_path / "slardar.yaml").write_text("speed: 1\n")
        os.kill(pids[-1], signal.SIGUSR2)
        log = tmp_path / "twistd.log"
        until(lambda: "not upgraded" in log.read_text(), "it fails")
        assert "slardar.yaml: speed" in log.read_text()
        until(lambda: (tmp_path / "site.pid").exists(), "the pidfile is back")
        assert current() == pids[-1]
        assert call("requests", "/who") == "nginx\n"
        os.kill(pids[-1], signal.SIGTERM)
        until(lambda: not is_running(pids[-1]), "it ends")
    finally:
        for pid in pids:
            if is_running(pid):
                os.kill(pid, signal.SIGKILL)
    assert not list(tmp_path.glob("*.pid*"))
    assert not list(run.glob("*.sock*"))
    # Two processes have written to the log at a time, and no line over the other's.
    text = log.read_text()
    assert text.count(" starting up.") >= len(pids)
    assert all(re.match(r"\d{4}-\d\d-\d\dT", line) for line in text.splitlines())


#: Code that does what systemd does for a socket unit, and then becomes the program.
SYSTEMD = """
import os, socket, sys
sock = socket.create_server(("127.0.0.1", 0))
os.dup2(sock.fileno(), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_FDNAMES="web", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def test_socket_of_systemd(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """The socket that systemd passed to the first process goes from one process to the next."""
    site = Upgraded(
        tmp_path,
        *("--listen", "systemd:domain=INET:index=0", "--upstream", f"a={nginx.address}"),
        before=(sys.executable, "-c", SYSTEMD),
        listen=False,
    )
    start(site).ready()
    with Clients(site) as clients:
        for _ in range(2):
            clients.more(20)
            site.upgrade()
        clients.more(20)
    assert clients.failures == []


def test_endpoints_may_change(site: Configured) -> None:
    """A new endpoint is opened, and a removed one is closed with the old generation."""
    before = site.port
    listen = ["unix:requests.sock", "unix:other.sock"]
    site.write(listen=["tcp:0:interface=127.0.0.1", *listen])
    with Clients(site) as clients:
        clients.more(20)
        site.upgrade()
        for name in ("requests", "other"):
            place = ("--unix-socket", str(site.folder / f"{name}.sock"))
            assert curl("http://a/who", *place) == (200, "nginx\n")
        clients.more(20)
    assert clients.failures == []
    site.write(listen=listen[:1])
    site.upgrade()
    until(lambda: not (site.folder / "other.sock").exists(), "the file is removed")
    assert curl("http://a/who", "--unix-socket", str(site.folder / "requests.sock"))[0] == 200

    def is_refused() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", before)) == errno.ECONNREFUSED

    until(is_refused, "the port is closed")
