"""Measures how long a change of one upstream among very many takes, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.figures import spread

__all__ = ["UpdateTime", "measure_updates"]

UPSTREAMS = 10_000
SERVERS = 10
UPDATES = 300


@dataclass(frozen=True)
class UpdateTime:
    """Milliseconds of one update of an upstream that has had requests, until the new
    snapshot is in service."""

    median_ms: float
    low_ms: float
    high_ms: float
    #: The time to make the snapshot; median.
    snapshot_ms: float
    #: An update of an upstream that has had no request yet; median.
    idle_ms: float


def _upstream(parse: Any, number: int, generation: int = 0) -> Any:
    servers = [
        {"host": f"10.{number >> 8}.{number & 255}.{last}", "port": 8000 + generation}
        for last in range(1, SERVERS + 1)
    ]
    name = f"service-{number}.example.com"
    return parse(name, {"servers": servers}, "benchmark")


def make_plane(snapshot: Any) -> Any:
    """A data plane in this process that serves ``snapshot``, without a listener."""
    from twisted.internet import task

    from slardar.config import Settings
    from slardar.dataplane.proxy import DataPlane
    from slardar.model.live import Live
    from slardar.plugins import balancer_factory

    plane = DataPlane(task.Clock(), Settings(), Live(), balancer_factory)
    _apply(plane, snapshot, set(snapshot.upstreams))
    return plane


def _apply(plane: Any, snapshot: Any, changed: set[str]) -> None:
    """Put a snapshot in service; it has no names to look up, so this does not wait."""
    done = plane.apply(snapshot, changed)
    failures: list[Any] = []
    done.addErrback(failures.append)
    if failures:
        failures[0].raiseException()
    if not done.called:
        raise RuntimeError("apply() did not finish at once")


def use(plane: Any, name: str) -> None:
    """Begin a first request for an upstream, and send nothing.

    :raise RuntimeError: if the plane does not serve the upstream.
    """
    from slardar.http1.interfaces import Downstream
    from slardar.http1.request import parse_request

    class Nobody(Downstream):
        """The downstream of the request."""

        def refuse(self, status: int, message: str, hooked: Any = None) -> None:
            raise RuntimeError(message)

    request = parse_request(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % name.encode())
    exchange = plane.begin(Nobody(), request)
    exchange.cancel()


def measure_updates() -> UpdateTime:
    """Change one upstream after the other, and measure the time of each change.

    An upstream costs nothing until its first request.  So upstreams without requests are
    changed first, and then upstreams in use, which are the ones that count.

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
    # Every thirty-first upstream, once around: no upstream comes twice.
    changes = [
        _upstream(parse_upstream, turn * 31 % UPSTREAMS, generation=1)
        for turn in range(2 * UPDATES)
    ]
    idle, used = changes[:UPDATES], changes[UPDATES:]
    snapshot, idle_wholes, _ = _change(plane, snapshot, idle)
    for changed in used:
        use(plane, changed.name)
    _, wholes, parts = _change(plane, snapshot, used)
    whole, part, idle_whole = spread(wholes), spread(parts), spread(idle_wholes)
    assert whole is not None
    assert part is not None
    assert idle_whole is not None
    return UpdateTime(whole.median, whole.low, whole.high, part.median, idle_whole.median)


def _change(
    plane: Any, snapshot: Any, changes: Sequence[Any]
) -> tuple[Any, list[float], list[float]]:
    """Put each of these upstreams in service.

    Returns the last snapshot, and for each change two times in milliseconds: of the whole
    change, and of making the snapshot.
    """
    wholes, parts = [], []
    for changed in changes:
        began = time.perf_counter()
        snapshot = snapshot.with_upstream(changed)
        made = time.perf_counter()
        _apply(plane, snapshot, {changed.name})
        ended = time.perf_counter()
        wholes.append((ended - began) * 1000)
        parts.append((made - began) * 1000)
    return snapshot, wholes, parts
