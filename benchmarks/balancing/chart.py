"""Draws the figures of balancers as one SVG: dots on axes, and lines over time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.balancing.scenes import BACK, DIE
from benchmarks.picture import MARGIN, WIDTH, line, sheet, text_at

__all__ = ["Dots", "Lines", "draw"]

_STYLE = """
.s0 { fill: #0969da; stroke: #0969da; } .s1 { fill: #bc4c00; stroke: #bc4c00; }
.s2 { fill: #1a7f37; stroke: #1a7f37; } .s3 { fill: #8250df; stroke: #8250df; }
.curve { fill: none; stroke-width: 2; stroke-linejoin: round; }
@media (prefers-color-scheme: dark) {
  .s0 { fill: #4493f8; stroke: #4493f8; } .s1 { fill: #f0883e; stroke: #f0883e; }
  .s2 { fill: #3fb950; stroke: #3fb950; } .s3 { fill: #ab7df8; stroke: #ab7df8; }
  .curve { fill: none; }
}"""

_GAP = 56
_NAMES = 150
_VALUES = 46
_ROW = 20
_HEAD = 80
_PLOT = 170


@dataclass(frozen=True)
class Dots:
    """A row for each balancer, with a dot for each series."""

    title: str
    note: str
    series: Sequence[str]
    #: A name, and a value for each series (``None``: there is none).
    rows: Sequence[tuple[str, Sequence[float | None]]]
    #: The lowest and the highest of the axis, and its ticks.
    ticks: Sequence[float]
    logarithmic: bool = False
    #: What must be reached.
    target: float | None = None
    unit: str = ""

    @property
    def height(self) -> float:
        return _HEAD + _ROW * len(self.rows)


@dataclass(frozen=True)
class Lines:
    """A value for each second, for each series."""

    title: str
    note: str
    series: Mapping[str, Sequence[float]]
    ticks: Sequence[float]
    #: Seconds with a name: something happens.
    events: Mapping[float, str]
    percent: bool = False

    @property
    def height(self) -> float:
        return _HEAD + _PLOT + 6


def _legend(names: Sequence[str], x: float, y: float) -> Iterator[str]:
    if len(names) < 2:
        return
    for number, name in enumerate(names):
        yield f'<circle cx="{x + 4:g}" cy="{y - 4:g}" r="4" class="s{number}"/>'
        yield text_at(x + 13, y, name, "quiet")
        x += 28 + 6.6 * len(name)


def _label(value: float, unit: str = "") -> str:
    text = f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"
    return f"{text}{unit}"


def _place(value: float, ticks: Sequence[float], logarithmic: bool) -> float:
    """From 0 to 1 between the first and the last tick; beyond them at the edge."""
    value = min(max(value, ticks[0]), ticks[-1])
    if logarithmic:
        return math.log(value / ticks[0]) / math.log(ticks[-1] / ticks[0])
    return (value - ticks[0]) / (ticks[-1] - ticks[0])


def _dots(panel: Dots, x: float, y: float, width: float) -> Iterator[str]:
    left, room = x + _NAMES, width - _NAMES - _VALUES
    top, bottom = y + _HEAD - 8, y + panel.height
    yield text_at(x, y + 12, panel.title, "panel")
    yield text_at(x, y + 30, panel.note, "quiet")
    yield from _legend(panel.series, x, y + 48)
    for tick in panel.ticks:
        at = left + room * _place(tick, panel.ticks, panel.logarithmic)
        yield line(at, top, at, bottom, "grid")
        yield text_at(at, top - 4, _label(tick, panel.unit), "quiet", "middle")
    if panel.target is not None:
        at = left + room * _place(panel.target, panel.ticks, panel.logarithmic)
        yield line(at, top, at, bottom, "target")
        yield text_at(x + width, y + 30, f"must reach {panel.target:g}", "targettext", "end")
    for index, (name, values) in enumerate(panel.rows):
        middle = y + _HEAD + _ROW * index + _ROW / 2
        yield text_at(x, middle + 4.5, name)
        known = [value for value in values if value is not None]
        for number, value in enumerate(values):
            if value is not None:
                at = left + room * _place(value, panel.ticks, panel.logarithmic)
                yield f'<circle cx="{at:.1f}" cy="{middle:g}" r="{6 - 1.5 * number:g}"'
                yield f' class="s{number}"/>'
        if known:
            yield text_at(x + width, middle + 4.5, _label(known[0], panel.unit), "", "end")


def _lines(panel: Lines, x: float, y: float, width: float) -> Iterator[str]:
    left, room = x + 40, width - 40
    top, bottom = y + _HEAD - 18, y + _HEAD - 18 + _PLOT
    yield text_at(x, y + 12, panel.title, "panel")
    yield text_at(x, y + 30, panel.note, "quiet")
    yield from _legend(list(panel.series), x, y + 48)
    seconds = max(len(values) for values in panel.series.values())
    for tick in panel.ticks:
        at = bottom - _PLOT * _place(tick, panel.ticks, False)
        yield line(left, at, left + room, at, "grid")
        label = f"{tick:.0%}" if panel.percent else _label(tick)
        yield text_at(left - 6, at + 4, label, "quiet", "end")
    for second in range(0, seconds + 1, 10):
        yield text_at(left + room * second / seconds, bottom + 16, f"{second} s", "quiet", "middle")
    for number, (moment, name) in enumerate(panel.events.items()):
        at = left + room * moment / seconds
        yield line(at, top, at, bottom, "target")
        side = "start" if number else "end"
        yield text_at(at + (4 if number else -4), top + 12, name, "targettext", side)
    for number, values in enumerate(panel.series.values()):
        points = " ".join(
            f"{left + room * (second + 0.5) / seconds:.1f},"
            f"{bottom - _PLOT * _place(value, panel.ticks, False):.1f}"
            for second, value in enumerate(values)
        )
        yield f'<polyline points="{points}" class="s{number} curve"/>'


def _short(name: str) -> str:
    return name.partition(",")[0] + (" *" if "table" in name else "")


def _panels(found: Mapping[str, Any]) -> Iterator[Dots | Lines]:
    crowd, slow, ejected = found["crowd"], found["slow"], found["slow_outlier"]
    yield Dots(
        f"Load spread over {found['many']:,} equal servers",
        "requests of the busiest one over the mean",
        ("",),
        [(name, (scene["most"],)) for name, scene in crowd.items()],
        (1, 1.25, 1.5, 1.75, 2, 2.25),
    )
    yield Dots(
        "At one moment",
        "the most requests that one of them worked on; 2.4 on average",
        ("",),
        [(name, (float(scene["crowded"]),)) for name, scene in crowd.items()],
        (0, 5, 10, 15, 20, 25),
    )
    rows: list[tuple[str, Sequence[float | None]]] = []
    for name, by_count in found["moves"].items():
        for count, moved in by_count.items():
            rows.append(
                (
                    f"{_short(name)}, n = {int(count):,}",
                    (moved["removed"], moved["out"]),
                )
            )
    yield Dots(
        "Keys moved when one of n servers goes",
        "as multiples of 1/n; * a table of 655,373",
        ("removed by an edit", "out of service"),
        rows,
        (1, 1.5, 2, 4, 8),
        True,
        1.1,
    )
    yield Dots(
        "A few paths are very popular",
        "the most under way on one of 100 servers over the mean",
        ("all paths alike", "few popular"),
        [
            (name, (about["even"]["most"], about["skewed"]["most"]))
            for name, about in found["bounded"].items()
        ],
        (1, 2, 4, 8, 16),
        True,
    )
    yield Dots(
        "One of ten servers is ten times slower",
        "99th percentile of the reply time",
        ("no guard", "outlier"),
        [(name, (slow[name]["p99"] / 1000, ejected[name]["p99"] / 1000)) for name in slow],
        (0.05, 0.2, 1, 5, 20, 60),
        True,
        unit=" s",
    )
    yield Dots(
        "One of ten servers replies 500, quickly",
        "requests that fail",
        ("no guard", "max_fails", "outlier"),
        [
            (name, [guards[guard]["failed"] * 100 for guard in ("nothing", "max_fails", "outlier")])
            for name, guards in found["errors"].items()
        ],
        (0, 10, 20, 30, 40),
        unit=" %",
    )
    herd = found["herd"]
    events = {float(DIE): "all die", float(BACK): "they come back"}
    yield Lines(
        "All servers restart: requests that are served",
        "three tries of one second each; clients do not wait for better times",
        {name: about["good"] for name, about in herd.items()},
        (0, 0.25, 0.5, 0.75, 1),
        events,
        percent=True,
    )
    yield Lines(
        "All servers restart: attempts for each request",
        "what the servers are asked to do",
        {name: about["attempts"] for name, about in herd.items()},
        (0, 1, 2, 3, 4),
        events,
    )


def draw(found: Mapping[str, Any]) -> str:
    """The picture of one run."""
    width = (WIDTH - 2 * MARGIN - _GAP) / 2
    parts: list[str] = []
    y = 84.0
    panels = list(_panels(found))
    for start in range(0, len(panels), 2):
        together = panels[start : start + 2]
        for column, panel in enumerate(together):
            x = MARGIN + column * (width + _GAP)
            if isinstance(panel, Dots):
                parts += _dots(panel, x, y, width)
            else:
                parts += _lines(panel, x, y, width)
        y += max(panel.height for panel in together) + 34
    title = "Balancers of slardar, simulated: smaller is better, but for the requests served"
    note = "classes that serve, in virtual time; the numbers at the right belong to the blue dots"
    return sheet(parts, y, title, note, _STYLE)
