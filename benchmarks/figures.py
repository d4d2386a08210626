"""The figures that the project promises, and how they are computed."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.load import Sample

__all__ = [
    "CPU_OF_MANY",
    "FIGURES",
    "TIMES_CHEAPER",
    "Figure",
    "Spread",
    "ratios",
    "spread",
    "verdict",
]


@dataclass(frozen=True)
class Spread:
    """The median of some values, the lowest and the highest."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> Spread | None:
    """The spread of the values; None if there are none."""
    if not values:
        return None
    return Spread(statistics.median(values), min(values), max(values))


def ratios(
    samples: Iterable[Sample],
    series: str,
    proxy: str,
    reference: str,
    value: Callable[[Sample], float],
) -> list[float]:
    """``proxy`` divided by ``reference``, one for each round in which both were measured."""
    of_series = [sample for sample in samples if sample.series == series]
    base = {sample.round: value(sample) for sample in of_series if sample.proxy == reference}
    return [
        value(sample) / base[sample.round]
        for sample in of_series
        if sample.proxy == proxy and base.get(sample.round)
    ]


@dataclass(frozen=True)
class Figure:
    """One promise: its value must reach ``target`` and should reach ``aim``.

    Smaller is better, unless ``more_is_better``.
    """

    key: str
    title: str
    unit: str
    target: float
    aim: float | None
    more_is_better: bool = False


#: The key of the figure that compares with Twisted's own reverse proxy.
TIMES_CHEAPER = "times_cheaper"
#: The key of the CPU time under the load ``p99``.
CPU_OF_MANY = "cpu_of_many"

FIGURES = (
    Figure("small", "CPU per small keep-alive request, ratio to nginx+Lua", "", 1.0, 0.85),
    Figure("64k", "CPU per 64 KiB reply, ratio to nginx+Lua", "", 1.0, 0.9),
    Figure("1m", "CPU per 1 MiB reply, ratio to nginx+Lua", "", 0.9, 0.8),
    Figure(
        "oneshot",
        "CPU per request when every client connection carries one request, ratio to nginx+Lua",
        "",
        1.1,
        0.95,
    ),
    Figure("p99", "p99 at 1,000 connections, ratio to nginx+Lua", "", 1.0, 0.8),
    Figure(CPU_OF_MANY, "CPU per request at 1,000 connections, ratio to nginx+Lua", "", 1.0, 0.8),
    Figure(
        TIMES_CHEAPER,
        "times less CPU per small request than `ReverseProxyResource`",
        "",
        25.0,
        35.0,
        more_is_better=True,
    ),
    Figure("memory", "resident memory for 1,000 idle keep-alive clients, above idle", "MB", 16, 8),
    Figure(
        "download",
        "peak resident memory while 50 slow clients (1 MB/s each) download 200 MB, above idle",
        "MB",
        60,
        None,
    ),
    Figure("tls-small", "TLS: CPU per small keep-alive request, ratio to nginx+Lua", "", 1.1, 1.0),
    Figure("tls-64k", "TLS: CPU per 64 KiB reply, ratio to nginx+Lua", "", 1.0, 0.9),
    Figure("tls-1m", "TLS: CPU per 1 MiB reply, ratio to nginx+Lua", "", 1.0, 0.9),
    Figure(
        "handshakes",
        "TLS: full handshakes a second on one core, ratio to nginx+Lua",
        "",
        0.7,
        0.9,
        more_is_better=True,
    ),
    Figure(
        "resumed",
        "TLS: resumed handshakes a second on one core, ratio to nginx+Lua",
        "",
        0.6,
        0.9,
        more_is_better=True,
    ),
    Figure("tls-memory", "TLS: resident memory for 1,000 idle clients, above idle", "MB", 30, 20),
    Figure(
        "update",
        "update of one upstream among 10,000 upstreams of 10 servers",
        "ms",
        5,
        1,
    ),
)


def verdict(figure: Figure, value: float | None) -> str:
    """The verdict on a value: aim met, target met, missed or not measured."""
    if value is None:
        return "not measured"

    def reached(limit: float) -> bool:
        return value >= limit if figure.more_is_better else value <= limit

    if figure.aim is not None and reached(figure.aim):
        return "aim met"
    return "target met" if reached(figure.target) else "**missed**"
