"""Made-up measurements."""

from __future__ import annotations

from benchmarks.load import Sample
from benchmarks.results import Results

__all__ = ["full_results", "sample"]


def sample(
    proxy: str, turn: int = 0, cpu_us: float = 10.0, series: str = "small", p99_ms: float = 2.0
) -> Sample:
    """A run of which only some numbers matter."""
    return Sample(
        series=series,
        proxy=proxy,
        round=turn,
        requests=30_000,
        seconds=3.0,
        p50_ms=1.0,
        p99_ms=p99_ms,
        failed=0,
        cpu_us=cpu_us,
        cpu_ticks_us=cpu_us,
        kernel_share=0.5,
        core_share=0.9,
        other_share=0.0,
    )


def full_results() -> Results:
    """Two rounds of three proxies under two kinds of load."""
    costs = {"slardar": 12.0, "nginx-lua": 10.0, "twisted": 300.0}
    return Results(
        machine={"CPU": "a test"},
        rounds=2,
        seconds=3,
        samples=[
            sample(proxy, turn, cost + turn, series)
            for series in ("small", "p99")
            for turn in range(2)
            for proxy, cost in costs.items()
        ],
    )
