"""Times calls of the control channel under load, and checks that an answer means service."""

from __future__ import annotations

from benchmarks.soak.clients import Crowd, Failure, Wanted, get
from benchmarks.soak.load import Wrk
from benchmarks.soak.origins import Backend
from benchmarks.soak.row import Row, Scale, number, percentile
from benchmarks.soak.site import Ground, Site, upstream

__all__ = ["calls"]

HOST = "changed.example.com"
#: New connections after each call: with two workers, one call in 128 reaches one worker only.
ASKED = 8
#: Seconds between two calls: they come at an operator's pace.
PAUSE = 0.01


def calls(ground: Ground, scale: Scale) -> list[Row]:
    """Whether a change is served when its call is answered, and how long a call takes."""
    served = Row("from the answer to POST /upstream to every worker serving it", "0 ms")
    took = Row(
        f"POST /upstream under load with {number(scale.upstreams)} upstreams, 99th percentile",
        f"≤ {scale.call_ms:g} ms",
    )
    room = ground.room("changed")
    backends = [Backend(room, ground.cores) for _ in range(2)]
    many = {f"service-{turn}.example.com": upstream(9, 10) for turn in range(scale.upstreams)}
    seconds: list[float] = []
    stale: list[str] = []
    try:
        with Site(ground, "calls", many) as site:
            with Crowd(site.port) as crowd, Wrk(site.port, scale.connections) as wrk:
                crowd.more(50)
                for turn in range(scale.calls):
                    backend = backends[turn % 2]
                    seconds.append(site.put(HOST, upstream(backend.port)))
                    wanted = Wanted(HOST, "/who", (backend.name,))
                    for _ in range(ASKED):
                        try:
                            get(site.port, wanted)
                        except Failure as failure:
                            stale.append(f"after call {turn + 1}: {failure}")
                    crowd.wait(PAUSE)
            wrk.stop()
    finally:
        for one in backends:
            one.stop()
    asked = scale.calls * ASKED
    served.measured = f"{len(stale)} of {number(asked)} new connections served something else"
    served.met = not stale
    served.notes += stale[:10]
    p50, p99 = percentile(seconds, 50) * 1000, percentile(seconds, 99) * 1000
    took.measured = f"{p99:.1f} ms"
    took.met = p99 <= scale.call_ms and wrk.failed + crowd.failed == 0
    took.notes += [
        f"median {p50:.1f} ms, slowest {max(seconds) * 1000:.1f} ms, of {len(seconds)} calls, each "
        f"on a connection of its own, while wrk got {number(wrk.per_second)} replies a second; "
        f"failed requests: {wrk.failed + crowd.failed}",
        *wrk.said(),
        *crowd.said(),
    ]
    return [served, took]
