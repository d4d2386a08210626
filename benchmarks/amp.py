"""The command: what a change over AMP takes beside the store's own commit.

python -m benchmarks.amp                    300 changes over AMP, over HTTP, and of a store alone
python -m benchmarks.amp --changes 1000 --workers 2

The three take turns, one change each, so that a busy disk and a busy machine slow down all of them.
slardar and the store alone have a folder of their own each, on the same disk.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

from twisted.internet import defer, task, threads

import slardar.amp
from benchmarks.events import percentile
from benchmarks.processes import LOOPBACK, Program, free_port
from slardar.model.change import Change, StoredState
from slardar.stores.sqlite import SqliteStore

TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
NAME = "changed.example.com"
#: Milliseconds that a change over AMP may take longer than a commit alone, at the median.
MUST = 2.0


def body(number: int) -> dict[str, Any]:
    """The upstream of one change."""
    return {"servers": [{"host": "10.0.0.1", "port": 1 + number % 60000}], "enable": False}


async def measure(reactor: Any, words: argparse.Namespace) -> None:
    """Print how long each of the three takes."""
    with tempfile.TemporaryDirectory() as folder:
        served, alone = Path(folder, "served"), Path(folder, "alone")
        served.mkdir()
        alone.mkdir()
        control = free_port()
        command = [*TWISTD, "-n", "--pidfile=", "slardar", "--workers", str(words.workers)]
        command += ["--listen", f"tcp:{free_port()}:interface={LOOPBACK}"]
        command += ["--control", f"tcp:{control}:interface={LOOPBACK}"]
        store = SqliteStore(str(alone / "slardar.db"), reactor)
        cores = frozenset(os.sched_getaffinity(0))
        program = Program("slardar", command, cores, served)
        try:
            client = await connected(reactor, f"unix:{served}/slardar.sock")
            caller = http.client.HTTPConnection(LOOPBACK, control, timeout=30)
            state: StoredState = await store.open()
            took = await turns(words.changes, client, caller, store, state)
            caller.close()
            await client.close()
        finally:
            program.stop()
        await store.close()
    for name, times in took.items():
        p50, p99 = percentile(times, 50) * 1000, percentile(times, 99) * 1000
        print(f"{name:<18} p50 {p50:6.2f} ms   p99 {p99:6.2f} ms")
    more = statistics.median(took["over AMP"]) - statistics.median(took["the store alone"])
    verdict = "met" if more * 1000 <= MUST else "missed"
    print(
        f"over AMP, more than the store alone: {more * 1000:.2f} ms (at most {MUST:g}: {verdict})"
    )


async def connected(reactor: Any, endpoint: str) -> slardar.amp.Client:
    """A client, as soon as slardar listens."""
    for _ in range(300):
        try:
            return await slardar.amp.connect(reactor, endpoint, timeout=30)
        except Exception:
            await task.deferLater(reactor, 0.1)
    raise RuntimeError(f"nobody listens on {endpoint}")


async def turns(
    changes: int,
    client: slardar.amp.Client,
    caller: http.client.HTTPConnection,
    store: SqliteStore,
    state: StoredState,
) -> dict[str, list[float]]:
    """Seconds of each change, by the way in which it was made."""

    async def over_amp(number: int) -> None:
        await client.update_upstream(NAME, body(number))

    def call(number: int) -> None:
        caller.request("PUT", f"/upstream/{NAME}", json.dumps(body(number)))
        reply = caller.getresponse()
        reply.read()
        if reply.status != 200:
            raise RuntimeError(f"a change got {reply.status}")

    async def over_http(number: int) -> None:
        await threads.deferToThread(call, number)

    revision = state.revision

    async def alone(number: int) -> None:
        nonlocal revision
        change = Change("upstream", NAME, body(number), "bench", time.time())
        revision = await store.commit(revision, [change], number + 1)

    ways: dict[str, Callable[[int], Awaitable[None]]] = {
        "the store alone": alone,
        "over AMP": over_amp,
        "over HTTP": over_http,
    }
    took: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(changes):
        for name, change in ways.items():
            begin = time.perf_counter()
            await change(number)
            took[name].append(time.perf_counter() - begin)
    return took


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.amp", description=(__doc__ or "").partition("\n\n")[0]
    )
    parser.add_argument("--changes", type=int, default=300, help="changes in each way (300)")
    parser.add_argument("--workers", type=int, default=1, help="of slardar (1)")
    words = parser.parse_args(arguments)
    task.react(lambda reactor: defer.ensureDeferred(measure(reactor, words)))


if __name__ == "__main__":
    main()
