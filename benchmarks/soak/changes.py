"""Changes upstreams under load, and watches failed requests and memory."""

from __future__ import annotations

import itertools
import statistics
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from benchmarks.procfs import resident
from benchmarks.soak.clients import SMALL, Crowd, nap
from benchmarks.soak.load import Wrk
from benchmarks.soak.row import Row, Scale, number
from benchmarks.soak.site import Ground, Site, upstream

__all__ = ["changes"]

#: The number of upstreams without load; one of them changes with each change of the other.
OTHERS = 50
#: The most callers at a time.
CALLERS = 8


class Changer:
    """Changes one upstream with each step, by turns the one under load and another."""

    def __init__(self, site: Site, ports: tuple[int, int]) -> None:
        self._site = site
        self._steps = self._bodies(ports)
        self._lock = threading.Lock()
        self.count = 0

    def step(self) -> None:
        """Change the next upstream; may be called from any thread."""
        with self._lock:
            name, body = next(self._steps)
            self.count += 1
        self._site.put(name, body)

    def together(self, goal: int, end: float) -> None:
        """Change with several callers at a time, until the count or the moment is reached."""

        def steps() -> None:
            while self.count < goal and time.monotonic() < end:
                self.step()

        with ThreadPoolExecutor(CALLERS) as pool:
            for caller in [pool.submit(steps) for _ in range(CALLERS)]:
                caller.result()

    @staticmethod
    def _bodies(ports: tuple[int, int]) -> Iterator[tuple[str, dict[str, object]]]:
        """Bodies of changes: servers go and come back, weights and balancers change."""
        first, second = ports
        for turn in itertools.count():
            yield SMALL.host, upstream(first, mode="wrr")
            yield f"other-{turn % OTHERS}", upstream(first, 9 + turn % 7)
            yield SMALL.host, upstream(second, mode="wrr")
            yield f"other-{(turn + 25) % OTHERS}", upstream(second)
            body = upstream(first, second, mode=("wrr", "least_conn", "p2c", "random")[turn % 4])
            body["servers"][0]["weight"] = 1 + turn % 5
            yield SMALL.host, body


class Memory:
    """Resident MiB of each process, as the median of some measurements."""

    def __init__(self, site: Site) -> None:
        self.pids = site.pids()
        self.looks: dict[str, list[float]] = {name: [] for name in self.pids}

    def look(self) -> None:
        """Measure once more."""
        for name, pid in self.pids.items():
            self.looks[name].append(resident([pid]))

    def medians(self) -> dict[str, float]:
        """The median of each process."""
        return {name: statistics.median(seen) for name, seen in self.looks.items()}


def _requests(site: Site) -> int:
    found: int = site.status()["statistics"]["requests"]
    return found


def changes(ground: Ground, scale: Scale) -> list[Row]:
    """Requests that fail while upstreams change, and the growth of memory."""
    failed = Row(
        f"failed requests under full load, upstreams changing "
        f"{scale.changes_a_second:g} times a second for {scale.change_seconds:g} s",
        "0",
    )
    memory = Row(
        f"growth of memory over {number(scale.memory_changes)} changes and "
        f"{number(scale.memory_requests)} requests, after warm-up",
        f"≤ {scale.growth:g} % of each process",
    )
    with Site(ground, "changes") as site:
        changer = Changer(site, ground.backends.ports)
        with Crowd(site.port) as crowd, Wrk(site.port, scale.connections) as wrk:
            begin = time.monotonic()
            _at_a_rate(changer, scale.warm_up, scale.changes_a_second)
            before = Memory(site)
            for _ in range(5):
                before.look()
                _at_a_rate(changer, 0.2, scale.changes_a_second)
            first_changes, first_requests = changer.count, _requests(site)
            rest = scale.change_seconds - scale.warm_up - 1.0
            _at_a_rate(changer, rest, scale.changes_a_second)
            rate = changer.count / (time.monotonic() - begin)
        wrk.stop()
        failed.measured = f"{wrk.failed + crowd.failed}"
        failed.met = wrk.failed + crowd.failed + crowd.closing == 0
        if rate < scale.rate_kept * scale.changes_a_second:
            failed.met = False
            failed.notes.append("the changes were not answered at that rate")
        failed.notes += [
            f"{number(wrk.requests)} requests of wrk at {number(wrk.per_second)} a second, "
            f"{number(crowd.good)} of the strict clients, {changer.count} changes, "
            f"{rate:.1f} a second; sent into a closing connection: {crowd.closing}",
            *wrk.said(),
            *crowd.said(),
        ]
        ground.say(f"{failed.figure}: {failed.measured}")

        end = time.monotonic() + scale.memory_seconds
        changes_left = scale.memory_changes + first_changes
        requests_left = scale.memory_requests + first_requests
        with Wrk(site.port, scale.connections) as wrk:
            changer.together(changes_left, end)
            while time.monotonic() < end and _requests(site) < requests_left:
                _at_a_rate(changer, 0.5, 2.0)
            after = Memory(site)
            for _ in range(5):
                after.look()
                _at_a_rate(changer, 0.2, scale.changes_a_second)
            done = (changer.count - first_changes, _requests(site) - first_requests)
        if wrk.failed:
            failed.met = False
            failed.notes.append(f"in the phase for memory: {', '.join(wrk.said())}")
    _growth(memory, before, after, scale.growth)
    memory.notes.append(f"{number(done[0])} changes and {number(done[1])} requests")
    if done[0] < scale.memory_changes or done[1] < scale.memory_requests:
        memory.met = False
        memory.notes.append(f"the rest did not fit into {scale.memory_seconds:g} s more")
    return [failed, memory]


def _growth(row: Row, before: Memory, after: Memory, limit: float) -> None:
    """Compare the memory; a process that was replaced misses the figure."""
    first, last = before.medians(), after.medians()
    parts = []
    for name, start in first.items():
        parts.append(f"{name} {(last[name] / start - 1) * 100:+.1f} %")
        row.notes.append(f"{name}: {start:.1f} MiB, then {last[name]:.1f} MiB resident")
    row.measured = ", ".join(parts)
    row.met = all(last[name] <= start * (1 + limit / 100) for name, start in first.items())
    if before.pids != after.pids:
        row.met = False
        row.notes.append(f"processes were replaced: {before.pids}, then {after.pids}")


def _at_a_rate(changer: Changer, seconds: float, rate: float) -> None:
    """Start ``rate`` changes a second without waiting for answers, up to ``CALLERS``."""
    begin = time.monotonic()
    calls: list[Future[None]] = []
    with ThreadPoolExecutor(CALLERS) as pool:
        while (passed := time.monotonic() - begin) < seconds:
            if len(calls) < passed * rate:
                calls.append(pool.submit(changer.step))
            else:
                nap(0.005)
        for call in calls:
            call.result()
