"""The command: what metrics cost, for a request, in memory, and for a scrape.

python -m benchmarks.metrics                    1,000 upstreams of 10 servers, 2 workers
python -m benchmarks.metrics --only request     or memory, or scrape

- request: the CPU time of a small request, counted and with no observer at all, in turns, in this
  process.  For figures that hold, slardar must be compiled (`make bench` says how).
- memory: what the counters of so many servers take in a worker.
- scrape: the CPU time of the director for one scrape, and how long requests take meanwhile.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import selectors
import socket
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.events import percentile
from benchmarks.processes import LOOPBACK, Program, free_port
from benchmarks.procfs import cpu_of

TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
#: Limits of the figures: CPU of a request against one that is not counted; megabytes of a worker's
#: counters; milliseconds of the director's CPU time for a scrape.
MOST_RATIO, MOST_MB, MOST_MS = 1.03, 30.0, 300.0

REQUEST = b"GET /index.html?x=1 HTTP/1.1\r\nHost: a\r\nUser-Agent: wrk\r\nAccept: */*\r\n\r\n"
REPLY = (
    b"HTTP/1.1 200 OK\r\nServer: x\r\nDate: Sat, 28 Nov 2026 21:00:00 GMT\r\n"
    b"Content-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
)
#: Clients of a plane, which ask at one time.
CLIENTS = 16


class Rig:
    """A data plane in this process with its clients and its server, driven by hand."""

    def __init__(self, observed: bool) -> None:
        from twisted.internet.task import Clock

        from slardar.config import Settings
        from slardar.dataplane.proxy import DataPlane
        from slardar.model.live import Live
        from slardar.model.parse import parse_upstream
        from slardar.model.snapshot import Snapshot
        from slardar.plugins import balancer_factory

        class Reactor(Clock):
            """Knows readers, which nobody watches."""

            def addReader(self, reader: Any) -> None:
                """Nothing: the poller is called by hand."""

            removeReader = addReader  # noqa: N815 - Twisted's name

        self._reactor = Reactor()  # type: ignore[no-untyped-call]
        self.plane = DataPlane(self._reactor, Settings(), Live(), balancer_factory)
        if not observed:
            self.plane.observer = None
        self._listener = socket.create_server((LOOPBACK, 0))
        self._listener.setblocking(False)
        server = {"host": LOOPBACK, "port": self._listener.getsockname()[1]}
        upstream = parse_upstream("a", {"servers": [server]}, "a")
        self.plane.start()
        places: list[str] = []
        self.plane.listen(f"tcp:0:interface={LOOPBACK}").addCallback(places.append)
        port = int(places[0].rpartition(":")[2])
        self.plane.apply(Snapshot.build(1, {"a": upstream}, (), None), ["a"])
        self._clients = [socket.create_connection((LOOPBACK, port)) for _ in range(CLIENTS)]
        for client in self._clients:
            client.setblocking(False)
        self._servers: list[socket.socket] = []

    def _turn(self) -> float:
        self._reactor.advance(0.0001)  # type: ignore[no-untyped-call]
        begin = time.process_time()
        self.plane._poller.doRead()
        return time.process_time() - begin

    def ask(self, rounds: int) -> float:
        """Microseconds of CPU time of one request."""
        used = 0.0
        for _ in range(rounds):
            for client in self._clients:
                client.send(REQUEST)
            asked = 0
            while asked < CLIENTS:
                used += self._turn()
                asked += self._serve()
            left = list(self._clients)
            while left:
                used += self._turn()
                left = [client for client in left if not _take(client)]
        return used / rounds / CLIENTS * 1e6

    def _serve(self) -> int:
        """Answer what has come; returns how many."""
        try:
            while True:
                server, _ = self._listener.accept()
                server.setblocking(False)
                self._servers.append(server)
        except BlockingIOError:
            pass
        served = 0
        for server in self._servers:
            if _take(server):
                server.send(REPLY)
                served += 1
        return served

    def close(self) -> None:
        """Close all sockets."""
        for sock in (*self._clients, *self._servers, self._listener):
            sock.close()
        stopped: list[None] = []
        self.plane.stop(0.0, 0.0).addBoth(stopped.append)
        while not stopped:
            self._turn()
            self._reactor.advance(0.3)  # type: ignore[no-untyped-call]


def _take(sock: socket.socket) -> bool:
    try:
        return bool(sock.recv(65536))
    except BlockingIOError:
        return False


def measure_request(rounds: int, say: Callable[[str], object]) -> bool:
    """The CPU time of a request that is counted against one that is not."""
    rigs = [Rig(False), Rig(True)]
    for rig in rigs:
        rig.ask(20)
    took: list[list[float]] = [[], []]
    for number in range(rounds):
        for which in (0, 1) if number % 2 else (1, 0):
            took[which].append(rigs[which].ask(30))
    for rig in rigs:
        rig.close()
    ratio = statistics.median(on / off for off, on in zip(*took, strict=True))
    plain, counted = (statistics.median(some) for some in took)
    say(
        f"a request: {plain:.2f} µs without an observer, {counted:.2f} µs counted,"
        f" ratio {ratio:.3f} (median of {rounds} pairs; quickest {min(took[0]):.2f} and"
        f" {min(took[1]):.2f} µs)"
    )
    return ratio <= MOST_RATIO


def measure_memory(upstreams: int, servers: int, say: Callable[[str], object]) -> bool:
    """What the counters of a worker take that has used every server in one second."""
    import tracemalloc

    from slardar.config import Metrics
    from slardar.http1.record import RequestRecord
    from slardar.observers.counts import Counting

    metrics = Metrics()
    counting = Counting(metrics.buckets, metrics.added_buckets)
    names = [f"upstream-{number}.example.com" for number in range(upstreams)]
    keys = [f"10.0.0.{number}:8080" for number in range(servers)]
    tracemalloc.start()
    record = RequestRecord(b"127.0.0.1", None, 1.0)
    for name in names:
        for key in keys:
            for status in (200, 404):
                record.begin(b"127.0.0.1", None, 1.0, "")
                record.upstream, record.status = name, status
                attempt = record.attempt(key, 1.0)
                attempt.status, attempt.failure = status, "" if status == 200 else "status"
                counting.request_ended(record)
    used = tracemalloc.get_traced_memory()[0] / 1e6
    tracemalloc.stop()
    say(f"memory: {used:.1f} MB for the counters of {upstreams * servers} servers in a worker")
    return used <= MOST_MB


class Backend(threading.Thread):
    """Answers everybody on some addresses, all on one port."""

    def __init__(self, addresses: int) -> None:
        super().__init__(daemon=True)
        self.addresses = [f"127.0.1.{number + 1}" for number in range(addresses)]
        self._selector = selectors.DefaultSelector()
        self._ends = threading.Event()
        self.port = free_port()
        for address in self.addresses:
            listener = socket.create_server((address, self.port), backlog=1000)
            listener.setblocking(False)
            self._selector.register(listener, selectors.EVENT_READ, True)

    def run(self) -> None:
        """Serve until :meth:`stop`."""
        while not self._ends.is_set():
            for key, _ in self._selector.select(0.1):
                sock: Any = key.fileobj
                if key.data:
                    client, _ = sock.accept()
                    self._selector.register(client, selectors.EVENT_READ, False)
                elif _take(sock):
                    sock.send(REPLY)
                else:
                    self._selector.unregister(sock)
                    sock.close()
        for key in list(self._selector.get_map().values()):
            key.fileobj.close()  # type: ignore[union-attr]
        self._selector.close()

    def stop(self) -> None:
        """Close all sockets."""
        self._ends.set()
        self.join()


class Asking(threading.Thread):
    """Asks one upstream again and again, and notes how long each reply takes."""

    def __init__(self, port: int, name: str) -> None:
        super().__init__(daemon=True)
        self._port, self._name = port, name
        self.ends = threading.Event()
        self.took: list[float] = []

    def run(self) -> None:
        """Ask, with a pause, so that slardar is not busy with this alone."""
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=30)
        while not self.ends.wait(0.001):
            begin = time.monotonic()
            _ask(connection, self._name)
            self.took.append(time.monotonic() - begin)
        connection.close()


def _ask(connection: http.client.HTTPConnection, name: str) -> None:
    connection.request("GET", "/", headers={"Host": name})
    reply = connection.getresponse()
    reply.read()
    if reply.status != 200:
        raise RuntimeError(f"a request got {reply.status}")


def _scrape(port: int) -> int:
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=60)
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "gzip"})
    size = len(connection.getresponse().read())
    connection.close()
    return size


def _configuration(backend: Backend, upstreams: int) -> Iterator[tuple[str, Any]]:
    servers = [{"host": address, "port": backend.port} for address in backend.addresses]
    for number in range(upstreams):
        body = {"enable": False, "keepalive": 0, "servers": servers}
        yield f"upstream-{number}.example.com", body


def measure_scrape(words: argparse.Namespace, say: Callable[[str], object]) -> bool:
    """The director's CPU time for a scrape, and requests meanwhile."""
    backend = Backend(words.servers)
    backend.start()
    port, control = free_port(), free_port()
    upstreams = dict(_configuration(backend, words.upstreams))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "slardar.yaml")
        file.write_text(json.dumps({"upstreams": upstreams, "store": "memory:"}))
        command = [
            *(*TWISTD, "--nodaemon", "slardar", "--config", str(file)),
            *("--workers", str(words.workers), "--listen", f"tcp:{port}:interface={LOOPBACK}"),
            *("--control", f"tcp:{control}:interface={LOOPBACK}"),
        ]
        program = Program("slardar", command, frozenset(os.sched_getaffinity(0)), Path(folder))
        try:
            program.wait_for_port(port)
            connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
            for name in upstreams:
                for _ in range(words.servers):
                    _ask(connection, name)
            connection.close()
            time.sleep(2.5)  # noqa: TID251 - the workers tell what they have counted
            costs: list[float] = []
            times: dict[bool, list[float]] = {False: [], True: []}
            size = 0
            for number in range(2 * words.rounds):
                scrapes = bool(number % 2)
                asking = Asking(port, next(iter(upstreams)))
                asking.start()
                before = cpu_of([program.pid])
                begin = time.monotonic()
                if scrapes:
                    size = _scrape(control)
                    costs.append((cpu_of([program.pid]) - before).run * 1000)
                time.sleep(max(0.0, 1.0 - (time.monotonic() - begin)))  # noqa: TID251 - as above
                asking.ends.set()
                asking.join()
                times[scrapes] += asking.took
        finally:
            program.stop()
            backend.stop()
    cost = statistics.median(costs)
    say(
        f"a scrape of {words.upstreams} upstreams of {words.servers} servers, {words.workers}"
        f" workers: {cost:.0f} ms of the director's CPU time ({min(costs):.0f} to"
        f" {max(costs):.0f}), {size / 1000:.0f} kB with gzip"
    )
    for scrapes, took in times.items():
        say(
            f"requests {'during scrapes' if scrapes else 'without scrapes'}:"
            f" p50 {percentile(took, 50) * 1000:.2f} ms, p99 {percentile(took, 99) * 1000:.2f} ms,"
            f" slowest {max(took) * 1000:.1f} ms of {len(took)}"
        )
    return cost <= MOST_MS


def main(arguments: Sequence[str] | None = None, say: Callable[[str], object] = print) -> int:
    """Run it; the exit code is 1 if a figure is beyond its limit."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.metrics")
    parser.add_argument("--only", choices=("request", "memory", "scrape"))
    parser.add_argument("--upstreams", type=int, default=1000)
    parser.add_argument("--servers", type=int, default=10)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    words = parser.parse_args(arguments)
    good = True
    if words.only in (None, "request"):
        good &= measure_request(words.rounds * 8, say)
    if words.only in (None, "memory"):
        good &= measure_memory(words.upstreams, words.servers, say)
    if words.only in (None, "scrape"):
        good &= measure_scrape(words, say)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
