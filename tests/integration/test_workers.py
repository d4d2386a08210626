"""slardar with worker processes, as an operator meets it: twistd and real processes."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import PATIENCE, FileServer, Nginx, Program, Slardar, curl

#: A user's balancers that misbehave in workers only.
TRAP = """
import os, sys

IS_WORKER = "workers" in sys.argv[0]

class Trap:
    def __init__(self, servers, options):
        pass

    def pick(self, servers, request):
        if IS_WORKER and request.path == "/exit":
            os._exit(3)
        while IS_WORKER and request.path == "/hang":
            pass
        return servers[0]
"""
DEADLY = """
import os, sys

if "workers" in sys.argv[0]:
    print("about to die", flush=True)
    os._exit(4)

class Deadly:
    def __init__(self, servers, options):
        pass

    def pick(self, servers, request):
        return servers[0]
"""


def until(is_so: Callable[[], Any], what: str, seconds: float = PATIENCE) -> float:
    """Wait until a condition is true; returns how long it took."""
    begin = time.monotonic()
    while not is_so():
        assert time.monotonic() - begin < seconds, f"{what}: not within {seconds} s"
        time.sleep(0.01)  # noqa: TID251 the test has nothing else to do
    return time.monotonic() - begin


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Team(Slardar):
    """slardar with workers."""

    def __init__(self, folder: Path, *options: str, count: int = 2) -> None:
        super().__init__(folder, "--workers", str(count), *options)

    def status(self) -> dict[str, Any]:
        """The answer to ``GET /status``."""
        code, status = self.call("GET", "/status")
        assert code == 200
        found: dict[str, Any] = status
        return found

    def pids(self) -> dict[str, int]:
        """The process ids of the workers."""
        return {name: about["pid"] for name, about in self.status()["workers"].items()}

    def are_alive(self) -> bool:
        """Whether every worker serves."""
        return set(self.status()["config_timer"].values()) == {"alive"}

    def connect(self) -> http.client.HTTPConnection:
        """A client with a connection that stays open."""
        client = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        client.connect()
        return client


def ask(client: http.client.HTTPConnection, path: str = "/who", host: str = "a") -> bytes:
    """The body of a reply, which must be good."""
    client.request("GET", path, headers={"Host": host})
    reply = client.getresponse()
    body = reply.read()
    assert reply.status == 200, (reply.status, body)
    return body


@pytest.fixture
def team(tmp_path: Path, start: Start, nginx: Nginx) -> Team:
    """Two workers in front of nginx."""
    found: Team = start(Team(tmp_path, "--upstream", f"a={nginx.address}")).ready()
    return found


def test_clients_are_spread_evenly(team: Team) -> None:
    """Of 256 clients that keep their connections, every worker has at least half of its share."""
    with ExitStack() as stack:
        for _ in range(256):
            client = team.connect()
            stack.callback(client.close)
            assert ask(client) == b"nginx\n"

        def counts() -> list[int]:
            return [about["connections"] for about in team.status()["workers"].values()]

        until(lambda: sum(counts()) == 256, "all are reported")
        assert len(counts()) == 2
        assert min(counts()) >= 64, counts()
        status = team.status()
        assert status["statistics"]["requests"] == 256
        assert status["cls:a"][0][0]["requests"] == 256
        assert sum(about["requests"] for about in status["workers"].values()) == 256


def test_answer_to_a_change_means_that_all_workers_serve_it(
    team: Team, files: FileServer, nginx: Nginx
) -> None:
    """Many new connections right after it all see the change."""
    programs = (nginx, files)
    for turn in range(10):
        program = programs[turn % 2]
        body = {"servers": [{"host": "127.0.0.1", "port": program.port}]}
        code, answer = team.call("PUT", "/upstream/b?receipt=1", body)
        assert code == 200
        version = answer["version"]
        assert answer["workers"] == {"worker-0": version, "worker-1": version}
        expected = b"nginx\n" if turn % 2 == 0 else b"http.server\n"
        for _ in range(20):
            client = team.connect()
            assert ask(client, host="b") == expected
            client.close()
    assert team.call("DELETE", "/upstream/b")[0] == 200
    for _ in range(20):
        assert team.get("b", "/who")[0] == 502
    until(
        lambda: {about["version"] for about in team.status()["workers"].values()} == {11},
        "all report the version",
    )


def test_configuration_of_many_pieces_arrives(team: Team, files: FileServer) -> None:
    """The message of this upstream is far beyond AMP's limit of 65,535 bytes."""
    servers = [{"host": "127.0.0.1", "port": files.port, "weight": 1}]
    servers += [
        {"host": f"10.1.{n // 250}.{n % 250}", "port": 80, "weight": 0} for n in range(1500)
    ]
    code, answer = team.call("PUT", "/upstream/big?receipt=1", {"servers": servers})
    assert (code, answer["workers"]) == (200, {"worker-0": 1, "worker-1": 1})
    for _ in range(10):
        assert team.get("big", "/who") == (200, "http.server\n")
    # A replacement gets it at its beginning.
    os.kill(team.pids()["worker-0"], signal.SIGKILL)
    team.wait_for("worker-0 .* ended")
    until(team.are_alive, "a replacement serves")
    for _ in range(10):
        assert team.get("big", "/who") == (200, "http.server\n")


class Load:
    """A few clients that send requests again and again, on new connections."""

    def __init__(self, team: Team, clients: int) -> None:
        self._team = team
        self._end = threading.Event()
        self.good = 0
        self.broken: list[str] = []
        self.refused: list[str] = []
        self._threads = [threading.Thread(target=self._run) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _run(self) -> None:
        while not self._end.is_set():
            try:
                client = self._team.connect()
            except OSError as error:
                self.refused.append(repr(error))
                continue
            try:
                assert ask(client) == b"nginx\n"
                self.good += 1
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.broken.append(repr(error))
            client.close()

    def stop(self) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join(PATIENCE)


@pytest.fixture
def load(team: Team) -> Iterator[Load]:
    """Four clients of the team."""
    found = Load(team, 4)
    yield found
    found.stop()


def test_spare_worker_takes_the_place_at_once(team: Team, load: Load) -> None:
    """It has imported everything, and needs only the configuration."""

    def processes() -> set[int]:
        words = Path(f"/proc/{team.pid}/task/{team.pid}/children").read_text().split()
        return set(map(int, words))

    until(lambda: len(processes()) == 3, "a spare worker waits")
    (spare,) = processes() - set(team.pids().values())
    # Its imports are done when it listens to its link.
    until(lambda: _is_asleep(spare), "it has nothing to do")
    os.kill(team.pids()["worker-1"], signal.SIGKILL)
    team.wait_for(r"worker-1 \(pid \d+\) ended by signal 9")
    until(team.are_alive, "a replacement serves", 5)
    assert team.pids()["worker-1"] == spare
    team.wait_for(rf"worker-1 \(pid {spare}\) serves")
    until(lambda: len(processes()) == 3, "the next one waits")
    load.stop()
    assert load.refused == []


def _is_asleep(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return stat[0] == "S" and int(stat[11]) > 10


def test_killed_worker_costs_its_own_requests_and_is_replaced(team: Team, load: Load) -> None:
    """No connection is refused: connections that wait for the dead worker wait for the next
    one."""
    until(lambda: load.good > 20, "requests are served")
    victim = team.pids()["worker-0"]
    before = team.status()["statistics"]["requests"]
    os.kill(victim, signal.SIGKILL)
    team.wait_for(r"worker-0 \(pid \d+\) ended by signal 9")
    seconds = until(team.are_alive, "a replacement serves", 10)
    assert seconds < 5  # a second on a machine with nothing else to do
    assert team.pids()["worker-0"] not in (victim, None)
    served = load.good
    until(lambda: load.good > served + 50, "requests are served")
    load.stop()
    assert load.refused == []
    # Each client had at most one request under way.
    assert len(load.broken) <= 4, load.broken
    status = team.status()
    assert status["workers"]["worker-0"]["restarts"] == 1
    assert status["workers"]["worker-1"]["restarts"] == 0
    until(lambda: team.status()["statistics"]["requests"] > before, "totals do not go back")


def test_workers_end_with_a_killed_director(tmp_path: Path, team: Team, nginx: Nginx) -> None:
    """They end within two seconds, whatever they do; a new start serves the changes."""
    body = {"servers": [{"host": "127.0.0.1", "port": nginx.port}]}
    assert team.call("PUT", "/upstream/kept", body)[0] == 200
    workers = list(team.pids().values())
    with socket.create_connection(("127.0.0.1", team.port), timeout=20) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        team.signal(signal.SIGKILL)
        team.wait()
        seconds = until(lambda: not any(map(is_running, workers)), "the workers are gone", 10)
    assert seconds < 3
    second = Team(tmp_path, "--listen", f"tcp:{team.port}:interface=127.0.0.1")
    try:
        second.ready()
        assert second.get("kept", "/who") == (200, "nginx\n")
    finally:
        second.end()


def test_port_is_free_at_once_after_a_killed_director(tmp_path: Path, team: Team) -> None:
    """Its workers may still be finishing requests."""
    with socket.create_connection(("127.0.0.1", team.port), timeout=20) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        team.signal(signal.SIGKILL)
        (tmp_path / "twistd.pid").unlink()
        second = Team(tmp_path, "--listen", f"tcp:{team.port}:interface=127.0.0.1")
        try:
            second.ready()
        finally:
            second.end()


def test_second_start_on_a_port_in_use_fails(tmp_path: Path, team: Team) -> None:
    """SO_REUSEPORT on the workers' sockets does not let it in."""
    second = Team(tmp_path / "second", "--listen", f"tcp:{team.port}:interface=127.0.0.1")
    try:
        assert second.wait() == 1
        (line,) = [line for line in second.output.splitlines() if "cannot start" in line]
        assert str(team.port) in line
    finally:
        second.end()
    assert team.get("a", "/who") == (200, "nginx\n")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stop_finishes_what_is_under_way(team: Team, number: int) -> None:
    """This also holds if the signal goes to the whole group, as a terminal's Ctrl-C does."""
    workers = list(team.pids().values())
    with ExitStack() as stack:
        clients = []
        for _ in range(6):
            client = socket.create_connection(("127.0.0.1", team.port), timeout=20)
            clients.append(stack.enter_context(client))
            client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        received = [client.recv(65536) for client in clients]
        for pid in workers:
            os.kill(pid, number)
        team.signal(number)
        team.wait_for("stopping")
        for index, client in enumerate(clients):
            while part := client.recv(65536):
                received[index] += part
    assert [reply.count(b"x" * 1000) for reply in received] == [200] * 6
    assert team.wait() in (0, -number)
    assert not any(map(is_running, workers))
    assert "killed" not in team.output
    assert "ended by signal" not in team.output


def test_stop_waits_no_longer_than_the_drain(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """A reply that would take longer than ``timeouts.drain`` is cut off."""
    (tmp_path / "slardar.yaml").write_text("timeouts: {drain: 0.2}\n")
    options = ("--config", "slardar.yaml", "--upstream", f"a={nginx.address}")
    team = start(Team(tmp_path, *options)).ready()
    with socket.create_connection(("127.0.0.1", team.port), timeout=20) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(65536).startswith(b"HTTP/1.1 200")
        team.signal(signal.SIGTERM)
        received = 0
        while part := client.recv(65536):
            received += len(part)
    assert received < 200_000
    assert team.wait() in (0, -signal.SIGTERM)
    assert "killed" not in team.output


def test_unix_socket_is_served_by_all_workers(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """There is one socket only; its file is removed with the last worker."""
    options = ("--listen", "unix:requests.sock", "--upstream", f"a={nginx.address}")
    team = start(Team(tmp_path, *options)).ready()
    path = tmp_path / "requests.sock"
    words = ["--unix-socket", str(path)]
    for name in ("worker-0", "worker-1"):
        # If one worker is stopped, the other one serves.
        pid = team.pids()[name]
        os.kill(pid, signal.SIGKILL)
        assert curl("http://a/who", *words) == (200, "nginx\n")
        until(lambda pid=pid: pid not in team.pids().values() and team.are_alive(), "replaced")
    assert team.stop() in (0, -signal.SIGTERM)
    assert not path.exists()


def test_server_that_fails_one_worker_is_out_for_all(
    tmp_path: Path, start: Start, nginx: Nginx
) -> None:
    """It is out within a second, also in a worker that never asked it, and in a new one."""
    team = start(Team(tmp_path)).ready()
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))  # refuses: it does not listen
        dead = {"host": "127.0.0.1", "port": deaf.getsockname()[1]}
        dead.update({"max_fails": 1, "fail_timeout": 60})
        good = {"host": "127.0.0.1", "port": nginx.port}
        # Without heartbeats, which would find it out first.
        team.call("PUT", "/upstream/a", {"servers": [dead, good], "enable": False})
        client = team.connect()
        for _ in range(2):
            assert ask(client) == b"nginx\n"  # one of them by a second attempt

        def told() -> list[str]:
            return [one["status"] for one in team.status()["cls:a"][0]]

        until(lambda: told()[0] == "err", "status shows it")
        time.sleep(0.5)  # noqa: TID251 what is promised is a time: within a second
        with ExitStack() as stack:
            for _ in range(40):
                other = team.connect()
                stack.callback(other.close)
                assert ask(other) == b"nginx\n"

            def asked() -> list[int]:
                return [about["requests"] for about in team.status()["workers"].values()]

            until(lambda: sum(asked()) == 42, "all are reported")
            assert min(asked()) > 0
            assert team.status()["cls:a"][0][0]["failures"] == 1
            victim = team.pids()["worker-1"]
            os.kill(victim, signal.SIGKILL)
            until(lambda: team.pids()["worker-1"] not in (victim, None), "replaced")
            until(team.are_alive, "a replacement serves")
        before = sum(asked())
        for _ in range(20):
            assert team.get("a", "/who") == (200, "nginx\n")
        until(lambda: sum(asked()) == before + 20, "they are reported")
        assert team.status()["cls:a"][0][0]["failures"] <= 1
        client.close()


@pytest.fixture
def traps(tmp_path: Path, start: Start, nginx: Nginx) -> Team:
    """Two workers with a user's balancer that may end or hang them."""
    (tmp_path / "traps.py").write_text(TRAP)
    team: Team = start(Team(tmp_path)).ready()
    servers = [{"host": "127.0.0.1", "port": nginx.port}]
    assert team.call("PUT", "/upstream/a", {"servers": servers, "mode": "traps.Trap"})[0] == 200
    return team


def test_worker_that_hangs_is_replaced(traps: Team) -> None:
    """It is replaced after two seconds; the log shows where it hung, and the other worker
    serves on."""
    begin = time.monotonic()
    before = traps.pids()
    with socket.create_connection(("127.0.0.1", traps.port), timeout=20) as client:
        client.sendall(b"GET /hang HTTP/1.1\r\nHost: a\r\n\r\n")
        assert client.recv(100) == b""
    assert time.monotonic() - begin < 10
    traps.wait_for("did not answer for 2 s")
    # CPython may crash while it prints where it hangs: in the middle of a call its list of
    # frames is not always complete.
    traps.wait_for(r"worker-\d: .*traps.py.*pick|ended by signal 11")
    until(traps.are_alive, "a replacement serves")
    assert len({*before.values(), *traps.pids().values()}) == 3
    for _ in range(10):
        assert traps.get("a", "/who") == (200, "nginx\n")


def test_change_is_confirmed_though_a_worker_dies(traps: Team) -> None:
    """Changes go on while workers come and go, and all serve the last one."""
    for turn in range(4):
        client = traps.connect()
        client.request("GET", "/exit", headers={"Host": "a"})
        with pytest.raises((OSError, http.client.HTTPException)):
            client.getresponse()
        client.close()
        servers = [{"host": "127.0.0.1", "port": 1 + turn}]
        assert traps.call("PUT", f"/upstream/u{turn}", {"servers": servers})[0] == 200
    until(traps.are_alive, "all serve")
    version = traps.status()["shd_config_version"]
    until(
        lambda: {about["version"] for about in traps.status()["workers"].values()} == {version},
        "all report the version",
    )


def test_worker_that_cannot_live_does_not_spin(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """The start is given up with one line; the worker's output is in the log."""
    (tmp_path / "traps.py").write_text(DEADLY)
    server = f"{{host: 127.0.0.1, port: {nginx.port}}}"
    text = f"upstreams: {{a: {{mode: traps.Deadly, servers: [{server}]}}}}"
    (tmp_path / "slardar.yaml").write_text(text)
    team: Program = start(Team(tmp_path, "--config", "slardar.yaml", count=1))
    assert team.wait() == 1
    (line,) = [line for line in team.output.splitlines() if "cannot start" in line]
    assert "worker-0" in line
    assert "exit code 4, 3 times in a row" in line
    assert "worker-0: about to die" in team.output
    assert team.output.count("ended with exit code 4") <= 5
    assert "Traceback" not in team.output


def test_worker_that_dies_while_serving_is_restarted_ever_more_slowly(
    tmp_path: Path, start: Start, nginx: Nginx
) -> None:
    """A class that ends each worker that loads it does not use up the machine; a change that
    removes it ends this."""
    (tmp_path / "traps.py").write_text(DEADLY)
    team = start(Team(tmp_path, count=1)).ready()
    servers = [{"host": "127.0.0.1", "port": nginx.port}]
    body = {"servers": servers, "mode": "traps.Deadly"}
    team.call("PUT", "/upstream/bad?wait=0", body)
    os.kill(team.pids()["worker-0"], signal.SIGKILL)

    def deaths() -> int:
        return str(team.output).count("ended with exit code 4")

    until(lambda: deaths() >= 3, "it dies")
    first, begin = deaths(), time.monotonic()
    until(lambda: deaths() >= first + 2, "it dies")
    assert time.monotonic() - begin >= 0.5  # the sum of the pauses
    team.call("DELETE", "/upstream/bad?wait=0")
    team.call("PUT", "/upstream/a", {"servers": servers})
    until(team.are_alive, "it serves again")
    assert team.get("a", "/who") == (200, "nginx\n")


def test_descriptors_are_not_what_limits_it(team: Team) -> None:
    """The soft limit is the hard limit, in the director and in each worker."""
    for pid in (team.pid, *team.pids().values()):
        text = Path(f"/proc/{pid}/limits").read_text()
        (line,) = [line for line in text.splitlines() if line.startswith("Max open files")]
        soft, hard = line.split()[3:5]
        assert hard == "unlimited" or int(soft) == min(int(hard), 1 << 20)


def test_all_cores_are_used_by_default(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """``auto`` is a worker for each core that the process may use."""
    team = start(Team(tmp_path, "--workers", "auto", "--upstream", f"a={nginx.address}")).ready()
    assert len(team.pids()) == len(os.sched_getaffinity(0))
    assert team.get("a", "/who") == (200, "nginx\n")
