"""The command: readers of events at a rate of changes, and whether a change waits for them.

python -m benchmarks.events                     100 readers, 100 changes a second
python -m benchmarks.events --readers 128 --rate 200 --seconds 10 --workers 0

Rounds with readers, with readers of which one never reads, and without any take turns on one
slardar.  A reader's delay is from the time in the event, at which the store has held the change, to
the time at which a process beside slardar has read the event from its socket.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.processes import LOOPBACK, Program, free_port

ROOT = Path(__file__).resolve().parent.parent
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
REQUEST = b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n"
TIME = re.compile(rb'"time":([0-9.]+)')
#: Callers that make changes at one time.
CALLERS = 4
#: Rounds: how many readers of a hundred there are, and how many that never read.
ROUNDS = ((1.0, 0), (0.0, 0), (0.99, 1))


def percentile(values: Sequence[float], percent: float) -> float:
    """The value that so many percent of the values do not exceed; 0 if there are none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))] if ordered else 0.0


def read_events(port: int, count: int) -> None:
    """Be so many readers, until the input ends; then print the delays as JSON.

    ``ready`` is printed when every reader has its head.
    """
    selector = selectors.DefaultSelector()
    for _ in range(count):
        sock = socket.create_connection((LOOPBACK, port), timeout=30)
        sock.sendall(REQUEST)
        if not sock.recv(65536).startswith(b"HTTP/1.1 200"):
            raise RuntimeError("expected a stream of events")
        sock.setblocking(False)
        selector.register(sock, selectors.EVENT_READ, bytearray())
    selector.register(sys.stdin, selectors.EVENT_READ)
    print("ready", flush=True)
    delays: list[float] = []
    lost = 0
    while True:
        for key, _ in selector.select():
            if key.fileobj is sys.stdin:
                print(json.dumps({"delays": delays, "lost": lost}), flush=True)
                return
            data = key.fileobj.recv(262144)  # type: ignore[union-attr]
            now = time.time()
            if not data:
                lost += 1
                selector.unregister(key.fileobj)
                continue
            key.data.extend(data)
            end = key.data.rfind(b"\n")
            delays += [now - float(found) for found in TIME.findall(key.data, 0, end)]
            del key.data[:end]


class Readers:
    """Readers in a process beside slardar, and perhaps some that never read."""

    def __init__(self, port: int, count: int, idle: int) -> None:
        self.idle = []
        for _ in range(idle):
            sock = socket.socket()
            # So that a few events are too much for it.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
            sock.connect((LOOPBACK, port))
            sock.sendall(REQUEST)
            self.idle.append(sock)
        command = [sys.executable, "-m", "benchmarks.events", "--read", str(port), str(count)]
        self.process = subprocess.Popen(
            command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.process.stdout is not None
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("the readers could not begin")

    def end(self) -> dict[str, Any]:
        """What they have seen."""
        text, _ = self.process.communicate(timeout=60)
        for sock in self.idle:
            sock.close()
        found: dict[str, Any] = json.loads(text)
        return found


def change(port: int, rate: float, seconds: float) -> tuple[list[float], float]:
    """Make changes at this rate, from some callers in turn.

    Returns how long each took, and how many a second there were.
    """
    begin = time.monotonic()

    def call(first: int) -> list[float]:
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
        took = []
        for number in range(first, int(rate * seconds), CALLERS):
            wait = begin + number / rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)  # noqa: TID251 - a rate is what is asked for
            body = {"servers": [{"host": "10.0.0.1", "port": 1 + number % 60000}], "enable": False}
            start = time.monotonic()
            connection.request("PUT", "/upstream/changed.example.com", json.dumps(body))
            reply = connection.getresponse()
            reply.read()
            took.append(time.monotonic() - start)
            if reply.status != 200:
                raise RuntimeError(f"a change got {reply.status}")
        connection.close()
        return took

    with ThreadPoolExecutor(CALLERS) as threads:
        took = [one for some in threads.map(call, range(CALLERS)) for one in some]
    return took, len(took) / (time.monotonic() - begin)


def measure(words: argparse.Namespace, say: Callable[[str], object]) -> bool:
    """Measure, print, and return whether the figures are good."""
    changes: dict[tuple[float, int], list[float]] = {kind: [] for kind in ROUNDS}
    delays: list[float] = []
    rates: list[float] = []
    lost = expected = 0
    port = free_port()
    with tempfile.TemporaryDirectory() as folder:
        command = [
            *(*TWISTD, "--nodaemon", "slardar", "--workers", str(words.workers)),
            *("--listen", f"tcp:0:interface={LOOPBACK}"),
            *("--control", f"tcp:{port}:interface={LOOPBACK}"),
        ]
        cores = frozenset(os.sched_getaffinity(0))
        program = Program("slardar", command, cores, Path(folder))
        try:
            program.wait_for_port(port)
            for _ in range(words.rounds):
                for share, idle in ROUNDS:
                    count = int(words.readers * share)
                    readers = Readers(port, count, idle) if count else None
                    took, rate = change(port, words.rate, words.seconds)
                    rates.append(rate)
                    changes[share, idle] += took
                    if readers is not None:
                        time.sleep(0.2)  # noqa: TID251 - the last events are on the way
                        found = readers.end()
                        delays += found["delays"]
                        lost += found["lost"]
                        expected += count * len(took)
        finally:
            program.stop()
    p99 = percentile(delays, 99) * 1000
    say(
        f"{words.readers} readers, {min(rates):.0f} to {max(rates):.0f} changes a second,"
        f" {words.workers} workers:"
        f" {len(delays)} of {expected} events came, {lost} readers were dropped"
    )
    say(
        f"delivery: p50 {percentile(delays, 50) * 1000:.1f} ms, p99 {p99:.1f} ms,"
        f" slowest {max(delays, default=0.0) * 1000:.1f} ms"
    )
    for (share, idle), took in changes.items():
        kind = "with readers" if share == 1 else "with one that never reads" if idle else "alone"
        say(
            f"a change, {kind}: p50 {percentile(took, 50) * 1000:.1f} ms,"
            f" p99 {percentile(took, 99) * 1000:.1f} ms, slowest {max(took) * 1000:.1f} ms"
        )
    return p99 <= 100 and lost == 0 and len(delays) >= expected


def main() -> int:
    """Run it; the exit code is 1 if p99 of the delivery is above 100 ms, or events are missing."""
    if sys.argv[1:2] == ["--read"]:
        read_events(int(sys.argv[2]), int(sys.argv[3]))
        return 0
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events")
    parser.add_argument("--readers", type=int, default=100)
    parser.add_argument("--rate", type=float, default=100.0)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    return 0 if measure(parser.parse_args(), print) else 1


if __name__ == "__main__":
    sys.exit(main())
