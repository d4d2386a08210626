"""One view of servers' health in all workers, and how soon each of them has it.

Every worker is asked all the time, on a connection of its own.  A balancer answers in a header
which servers it was offered, and when: all processes read the same monotonic clock.
"""

from __future__ import annotations

import http.client
import os
import queue
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import pytest

from tests.integration.conftest import Start
from tests.integration.test_workers import Team, until
from tests.integration.upgrades import Upgraded

WORKERS = 3
#: Servers that are put out by each of the three: requests, ejection, heartbeats.
ROUNDS = 5
KINDS = ("requests", "ejection", "heartbeats")
#: Seconds in which every worker has heard of it.
SOON = 0.1
#: Processes that must be scheduled one after the other: a worker, the director, a worker.
STEPS = 3

BALANCER = """
import os, time
from slardar.balancers.base import Balancer

class Telling(Balancer):
    def __init__(self, servers, options):
        self.view = ""
        self.bad_at = 0.0

    def pick(self, servers, request):
        self.view = f"{time.monotonic()} {','.join(peer.key for peer in servers)}"
        wanted = request.get_header("X-Server")
        return next((peer for peer in servers if peer.key == wanted), servers[-1])

    def finished(self, server, outcome):
        if outcome.failed or outcome.status == 500:
            self.bad_at = time.monotonic()

    def reply_headers(self, server, request):
        return [(b"X-View", f"{os.getpid()} {self.bad_at} {self.view}".encode())]
"""
#: Says when it woke up, and how much too late.
SLEEPER = """
import time

pytestmark = pytest.mark.alone
while True:
    wanted = time.monotonic() + 0.002
    time.sleep(0.002)
    now = time.monotonic()
    if now - wanted > 0.001:
        print(now, now - wanted, flush=True)
"""


class Backend(socketserver.StreamRequestHandler):
    """A server that does what a request for it says, and is sick when the test says so."""

    server: Listener

    def handle(self) -> None:
        while True:
            head = b""
            while not head.endswith(b"\r\n\r\n"):
                line = self.rfile.readline()
                if not line:
                    return
                head += line
            status = b"200 OK"
            if b"X-Server: %b\r\n" % self.server.key.encode() in head:
                if b"X-Do: close" in head:
                    return
                if b"X-Do: 500" in head:
                    status = b"500 Bad"
            if head.startswith(b"GET /health") and self.server.is_sick:
                status = b"503 Sick"
                self.server.sick_at = self.server.sick_at or time.monotonic()
            try:
                self.wfile.write(b"HTTP/1.1 %b\r\nContent-Length: 0\r\n\r\n" % status)
            except OSError:
                return


class Listener(socketserver.ThreadingTCPServer):
    """Where one server listens."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Backend)
        self.port: int = self.server_address[1]
        self.key = f"127.0.0.1:{self.port}"
        self.is_sick = False
        #: When it first told a heartbeat so.
        self.sick_at = 0.0
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()


class View:
    """What one worker offers to its balancer, asked again and again on one connection."""

    def __init__(self, team: Team) -> None:
        self.client = team.connect()
        self._wanted: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()
        self._over = threading.Event()
        #: By server, when it was offered no more.
        self.out: dict[str, float] = {}
        self.offered: set[str] = set()
        #: When a request of this connection failed last.
        self.bad_at = 0.0
        self.pid = 0
        #: The seconds that each finding took to come here.
        self.waits: dict[str, list[float]] = {kind: [] for kind in KINDS}
        self.ask()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def ask(self, **headers: str) -> None:
        """One request, and what its reply says."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.client.request("GET", "/", headers={"Host": "a", **named})
        reply = self.client.getresponse()
        text = reply.read()
        assert "X-View" in reply.headers, (reply.status, text)
        pid, bad_at, at, keys = reply.headers["X-View"].split()
        offered = set(keys.split(","))
        for key in self.offered - offered:
            self.out.setdefault(key, float(at))
        self.pid, self.bad_at, self.offered = int(pid), float(bad_at), offered

    def want(self, **headers: str) -> None:
        """Send this with the next request."""
        self._wanted.put(headers)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        while not self._over.wait(0.003):
            try:
                headers = self._wanted.get_nowait()
            except queue.Empty:
                headers = {}
            try:
                self.ask(**headers)
            except (OSError, http.client.HTTPException):
                return

    def stop(self) -> None:
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(10)
        self.client.close()


@pytest.fixture
def listeners() -> Iterator[list[Listener]]:
    """Servers for every round, and one that stays."""
    found = [Listener() for _ in range(len(KINDS) * ROUNDS + 1)]
    yield found
    for listener in found:
        listener.shutdown()
        listener.server_close()


class Sleeper:
    """How late the machine lets a process run that wants to."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", SLEEPER], stdout=subprocess.PIPE, text=True
        )
        self._late: list[tuple[float, float]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            at, late = line.split()
            self._late.append((float(at), float(late)))

    def worst(self, begin: float, end: float) -> float:
        """The most by which it was late between two times."""
        return max([late for at, late in self._late if at >= begin and at - late <= end], default=0)

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        assert self._process.stdout is not None
        self._process.stdout.close()


def test_what_is_found_reaches_every_worker_soon(
    tmp_path: Path, start: Start, listeners: list[Listener]
) -> None:
    """What requests find out in one worker, an ejection by one worker, and what heartbeats find
    out: the median of several is under a tenth of a second in each worker, apart from what the
    machine's scheduling costs."""
    (tmp_path / "telling.py").write_text(BALANCER)
    sleeper = start(Sleeper())
    team: Team = start(Team(tmp_path, count=WORKERS)).ready()
    servers = [
        {"host": "127.0.0.1", "port": one.port, "max_fails": 1, "fail_timeout": 60}
        for one in listeners
    ]
    query = "GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    body = {
        "servers": servers,
        "mode": "telling.Telling",
        "typ": "http",
        "http_opts": {"query": query, "statuses": {"503": False}},
        "interval": 0.2,
        # Each finding costs a retry.
        "retry_budget": None,
        "outlier": {"min_requests": 2, "max_share": 0.9, "latency": 0, "eject": 60},
    }
    assert team.call("PUT", "/upstream/a", body) == (200, {"status": 200})
    views = _a_view_of_each(team)
    try:
        for view in views:
            view.start()
        for number, listener in enumerate(listeners[:-1]):
            kind = KINDS[number % len(KINDS)]
            seconds = _seconds(kind, listener, views[number // 3 % WORKERS], views, sleeper)
            for view in views:
                view.waits[kind].append(seconds[view])
    finally:
        for view in views:
            view.stop()
    for view in views:
        for kind, found in view.waits.items():
            print(f"{kind}: {' '.join(f'{1000 * one:.1f}' for one in found)} ms")
            assert median(found) <= SOON, (kind, found)


def _a_view_of_each(team: Team) -> list[View]:
    """One view of each worker; which worker gets a connection is the kernel's choice."""
    views: dict[int, View] = {}

    def are_all() -> bool:
        view = View(team)
        if views.setdefault(view.pid, view) is not view:
            view.stop()
        return len(views) == WORKERS

    until(are_all, "every worker has a connection")
    return list(views.values())


def _seconds(
    kind: str, listener: Listener, finder: View, views: list[View], sleeper: Sleeper
) -> dict[View, float]:
    """Let something be found out of a server; the seconds until each worker heeded it."""
    if kind == "requests":
        finder.want(X_Server=listener.key, X_Do="close")
    elif kind == "ejection":
        for _ in range(2):
            finder.want(X_Server=listener.key, X_Do="500")
    else:
        listener.is_sick = True
    heeded = all_heeded(listener.key, views)
    until(heeded, f"{kind}: {listener.key} is out of service in every worker", 10)
    began = listener.sick_at if kind == "heartbeats" else finder.bad_at
    return {
        view: view.out[listener.key] - began - STEPS * sleeper.worst(began, view.out[listener.key])
        for view in views
    }


def all_heeded(key: str, views: list[View]) -> Callable[[], bool]:
    return lambda: all(key in view.out for view in views)


@pytest.mark.parametrize("count", [0, 1])
def test_penalties_and_slow_starts_outlive_workers_and_upgrades(
    tmp_path: Path, start: Start, listeners: list[Listener], count: int
) -> None:
    """A server that went out of service twice is held back the third time, and goes on climbing
    meanwhile, though the worker was killed and the process was upgraded."""
    team: Upgraded = start(Upgraded(tmp_path, count=count))
    team.ready()
    shaky, good = listeners[:2]
    body = {
        "servers": [
            {"host": "127.0.0.1", "port": shaky.port, "max_fails": 1, "fail_timeout": 0.2},
            {"host": "127.0.0.1", "port": good.port},
        ],
        "enable": False,
        "slow_start": 300,
        "retry_budget": None,
    }
    assert team.call("PUT", "/upstream/a", body) == (200, {"status": 200})

    def ask(**headers: str) -> None:
        client = team.connect()
        client.request("GET", "/", headers={"Host": "a", **headers})
        assert client.getresponse().status == 200
        client.close()

    def says(what: str, **headers: str) -> None:
        """Ask until the log says once more that the server is so."""
        line = f"server {shaky.key} is {what} service"
        before = team.output.count(line)

        def is_said() -> bool:
            ask(**headers)
            return team.output.count(line) > before

        until(is_said, line)

    def notes() -> dict[str, str]:
        (level,) = team.status()["cls:a"]
        return dict(level[0].get("notes", {}))

    close = {"X-Server": shaky.key, "X-Do": "close"}
    for _ in range(2):
        says("out of", **close)
        says("back in")
    for pid in team.pids().values() if count else ():
        os.kill(pid, signal.SIGKILL)
    until(team.are_alive, "workers serve")
    team.upgrade()
    assert team.call("PATCH", f"/upstream/a/{shaky.key}", {"fail_timeout": 30})[0] == 200

    def climbs() -> bool:
        ask()
        return "climbs" in notes().get("slow_start", "")

    until(climbs, "it climbs")
    says("out of", **close)
    until(lambda: "again and again" in notes().get("max_fails", ""), "it is held back")
