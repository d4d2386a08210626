"""How long one upstream's change takes among very many, in this process."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import spread

__all__ = ["UpdateTime", "measure_updates"]

UPSTREAMS = 10_000
SERVERS = 10
UPDATES = 300


@dataclass(frozen=True)
class UpdateTime:
    """Milliseconds of one update: a new snapshot made and in service."""

    median_ms: float
    low_ms: float
    high_ms: float
    #: Of the median's update, the part that made the snapshot.
    snapshot_ms: float


def _upstream(parse: Any, number: int, generation: int = 0) -> Any:
    servers = [
        {"host": f"10.{number >> 8}.{number & 255}.{last}", "port": 8000 + generation}
        for last in range(1, SERVERS + 1)
    ]
    name = f"service-{number}.example.com"
    return parse(name, {"servers": servers}, "benchmark")


def make_plane(snapshot: Any) -> Any:
    """A data plane of this process that serves ``snapshot``, with no listener."""
    from twisted.internet import task

    from slardar.config import Settings
    from slardar.dataplane.proxy import DataPlane
    from slardar.model.live import Live
    from slardar.plugins import balancer_factory

    plane = DataPlane(task.Clock(), Settings(), Live(), balancer_factory)
    _apply(plane, snapshot, set(snapshot.upstreams))
    return plane


def _apply(plane: Any, snapshot: Any, changed: set[str]) -> None:
    """Put a snapshot in service; with addresses instead of names that waits for nobody."""
    done = plane.apply(snapshot, changed)
    failures: list[Any] = []
    done.addErrback(failures.append)
    if failures:
        failures[0].raiseException()
    if not done.called:
        raise RuntimeError("apply() did not finish at once")


def measure_updates() -> UpdateTime:
    """Change one upstream after the other and look at the clock.

    :raise ImportError: if slardar cannot be imported.
    :raise RuntimeError: if a change is not in service when ``apply`` returns.
    """
    from slardar.model.parse import parse_upstream
    from slardar.model.snapshot import Snapshot

    upstreams = {}
    for number in range(UPSTREAMS):
        upstream = _upstream(parse_upstream, number)
        upstreams[upstream.name] = upstream
    snapshot = Snapshot.build(1, upstreams, (), None)
    plane = make_plane(snapshot)
    wholes, parts = [], []
    for turn in range(UPDATES):
        changed = _upstream(parse_upstream, turn * 31 % UPSTREAMS, generation=1)
        began = time.perf_counter()
        snapshot = snapshot.with_upstream(changed)
        made = time.perf_counter()
        _apply(plane, snapshot, {changed.name})
        ended = time.perf_counter()
        wholes.append((ended - began) * 1000)
        parts.append((made - began) * 1000)
    whole, part = spread(wholes), spread(parts)
    assert whole is not None
    assert part is not None
    return UpdateTime(whole.median, whole.low, whole.high, part.median)
