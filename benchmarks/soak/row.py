"""One figure with its target, and the sizes of a run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["FULL", "SHORT", "Row", "Scale", "number", "percentile"]


@dataclass(frozen=True)
class Scale:
    """How much a run does; the figures are promised for the defaults."""

    #: Connections of wrk, which sends requests without a pause on each.
    connections: int = 32
    #: Seconds of changes at ``changes_a_second``; ``warm_up`` seconds of them are the warm-up.
    change_seconds: float = 60.0
    changes_a_second: float = 20.0
    warm_up: float = 15.0
    #: The share of ``changes_a_second`` that must be reached for the figure to count.
    rate_kept: float = 0.95
    #: Changes and requests over which memory is measured, and the most seconds that they may
    #: take beyond ``change_seconds``.
    memory_changes: int = 10_000
    memory_requests: int = 1_000_000
    memory_seconds: float = 90.0
    #: The growth of memory that is allowed, per cent.
    growth: float = 5.0
    #: HUPs, and as many USR2s.
    signals: int = 10
    #: Backends that are replaced.
    replaced: int = 12
    #: Calls that are timed, and the number of upstreams meanwhile.
    calls: int = 300
    upstreams: int = 1000
    #: The target of the calls' 99th percentile, milliseconds.
    call_ms: float = 20.0
    tunnels: int = 1000
    tunnel_changes: int = 100
    #: Tunnels are held so many seconds after the upgrade: longer than the old generation
    #: keeps idle connections.
    tunnel_seconds: float = 6.0
    #: Workers that are killed.
    kills: int = 3
    #: Seconds within which a worker's replacement must serve.
    back: float = 1.0
    #: Seconds of one run with one worker, or with two.
    throughput: float = 5.0

    def times(self, factor: float) -> Scale:
        """A scale with ``factor`` times as much; limits and numbers of connections stay."""

        def some(count: int) -> int:
            return max(1, round(count * factor))

        return Scale(
            connections=self.connections,
            change_seconds=self.change_seconds * factor,
            changes_a_second=self.changes_a_second,
            warm_up=self.warm_up * factor,
            rate_kept=self.rate_kept,
            memory_changes=some(self.memory_changes),
            memory_requests=some(self.memory_requests),
            memory_seconds=self.memory_seconds * factor,
            growth=self.growth,
            signals=some(self.signals),
            replaced=some(self.replaced),
            calls=some(self.calls),
            upstreams=self.upstreams,
            call_ms=self.call_ms,
            tunnels=self.tunnels,
            tunnel_changes=some(self.tunnel_changes),
            tunnel_seconds=self.tunnel_seconds,
            kills=some(self.kills),
            back=self.back,
            throughput=self.throughput * factor,
        )


FULL = Scale()
#: A small run for the tests, on a machine that does other things, too: counts must be right,
#: and times have generous targets.
SHORT = Scale(
    connections=2,
    change_seconds=1.5,
    warm_up=0.5,
    rate_kept=0.1,
    memory_changes=100,
    memory_requests=500,
    memory_seconds=10.0,
    growth=50.0,
    signals=1,
    replaced=1,
    calls=10,
    upstreams=50,
    call_ms=5000.0,
    tunnels=20,
    tunnel_changes=6,
    tunnel_seconds=0.2,
    kills=1,
    back=20.0,
    throughput=0.3,
)


@dataclass
class Row:
    """One line of the report."""

    figure: str
    target: str
    measured: str = "not measured"
    #: Whether the target is met; None for a number without a target.
    met: bool | None = False
    #: Further lines for the report.
    notes: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> str:
        """The verdict in one word."""
        if self.met is None:
            return "reported"
        return "met" if self.met else "**missed**"


def number(value: float) -> str:
    """A count with commas between thousands."""
    return f"{value:,.0f}"


def percentile(values: Sequence[float], part: float) -> float:
    """The smallest value that ``part`` per cent of the values do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, -int(-len(ordered) * part // 100) - 1)]
