"""Draws the comparison as an SVG: one panel for each kind of load, one row for each proxy.

The axis is logarithmic, because the proxies lie a factor of thirty apart.  A dot is the
median; the line through it reaches from the lowest round to the highest.  The drawing has
its own background, so that it can be read on a light and on a dark page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape

from benchmarks.figures import FIGURES, Spread
from benchmarks.proxies import PROXIES, REFERENCE, SUBJECT
from benchmarks.results import Results

__all__ = ["MARGIN", "WIDTH", "Panel", "Row", "draw", "line", "sheet", "svg", "text_at"]

STYLE = """\
svg { color-scheme: light dark; }
.page { fill: #ffffff; stroke: #d0d7de; }
text { font: 13px system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif; fill: #1f2328; }
.title { font-size: 17px; font-weight: 600; }
.panel { font-size: 14px; font-weight: 600; }
.quiet { fill: #59636e; font-size: 12px; }
.grid { stroke: #d8dee4; }
.one { stroke: #59636e; stroke-width: 1.5; }
.target { stroke: #bc4c00; stroke-dasharray: 4 3; stroke-width: 1.5; }
.targettext { fill: #bc4c00; font-size: 12px; }
.span { stroke: #8c959f; stroke-width: 2; }
.dot { fill: #6e7781; }
.subject .span { stroke: #0969da; stroke-width: 3; }
.subject .dot { fill: #0969da; }
.subject text { font-weight: 700; }
@media (prefers-color-scheme: dark) {
  .page { fill: #0d1117; stroke: #3d444d; }
  text { fill: #f0f6fc; }
  .quiet { fill: #9198a1; }
  .grid { stroke: #2a313c; }
  .one { stroke: #9198a1; }
  .target { stroke: #f0883e; }
  .targettext { fill: #f0883e; }
  .span { stroke: #656c76; }
  .dot { fill: #9198a1; }
  .subject .span { stroke: #4493f8; }
  .subject .dot { fill: #4493f8; }
}"""

WIDTH = 980
MARGIN = 24
COLUMNS = 2
NAME_WIDTH = 165
VALUE_WIDTH = 48
ROW_HEIGHT = 22
PANEL_HEAD = 52
PANEL_GAP = 30
HEAD = 66


@dataclass(frozen=True)
class Row:
    """One proxy's value in one panel."""

    name: str
    title: str
    value: Spread


@dataclass(frozen=True)
class Panel:
    """One kind of load."""

    title: str
    rows: Sequence[Row]
    #: The target of slardar.
    target: float | None


def _panels(results: Results) -> Iterator[Panel]:
    titles = {
        "small": "CPU per request, small replies",
        "64k": "CPU per request, 64 KiB replies",
        "1m": "CPU per request, 1 MiB replies",
        "oneshot": "CPU per request, one on each connection",
        "p99": "p99 at 1,000 connections",
        "tls-small": "TLS: CPU per request, small replies",
        "tls-64k": "TLS: CPU per request, 64 KiB replies",
        "tls-1m": "TLS: CPU per request, 1 MiB replies",
        "handshakes": "TLS: CPU per full handshake",
        "resumed": "TLS: CPU per resumed handshake",
    }
    # Where a rate is promised, costs are drawn.
    targets = {
        figure.key: round(1 / figure.target, 2) if figure.more_is_better else figure.target
        for figure in FIGURES
    }
    for name, title in titles.items():
        ratio = results.p99_ratio if name == "p99" else results.cpu_ratio
        rows = [
            Row(proxy.name, proxy.title, value)
            for proxy in PROXIES.values()
            if (value := ratio(name, proxy.name)) is not None
        ]
        if rows:
            yield Panel(title, rows, targets.get(name))


def draw(results: Results) -> str | None:
    """The picture, or None if there is nothing to compare with."""
    panels = list(_panels(results))
    return svg(panels) if panels else None


def _ticks(panels: Sequence[Panel]) -> list[float]:
    """Powers of two from below the lowest value to above the highest."""
    values = [
        edge for panel in panels for row in panel.rows for edge in (row.value.low, row.value.high)
    ]
    first = math.floor(math.log2(min([*values, 0.5])))
    last = math.ceil(math.log2(max([*values, 2.0])))
    return [2.0**power for power in range(first, last + 1)]


class _Scale:
    """The place of a ratio on a panel's axis."""

    def __init__(self, ticks: Sequence[float], left: float, width: float) -> None:
        self._first, self._last = math.log2(ticks[0]), math.log2(ticks[-1])
        self._left, self._width = left, width

    def __call__(self, ratio: float) -> float:
        share = (math.log2(ratio) - self._first) / (self._last - self._first)
        return round(self._left + share * self._width, 1)


def text_at(x: float, y: float, text: str, style: str = "", anchor: str = "start") -> str:
    """A text at a place; ``style`` is a class of :data:`STYLE`."""
    return f'<text x="{x:g}" y="{y:g}" class="{style}" text-anchor="{anchor}">{escape(text)}</text>'


def line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    """A straight line."""
    return f'<line x1="{x1:g}" y1="{y1:g}" x2="{x2:g}" y2="{y2:g}" class="{style}"/>'


def _height(panel: Panel) -> int:
    return PANEL_HEAD + ROW_HEIGHT * len(panel.rows)


def _draw_panel(
    panel: Panel, x: float, y: float, width: float, ticks: Sequence[float]
) -> Iterator[str]:
    scale = _Scale(ticks, x + NAME_WIDTH, width - NAME_WIDTH - VALUE_WIDTH)
    top, bottom = y + PANEL_HEAD - 8, y + _height(panel)
    yield text_at(x, y + 14, panel.title, "panel")
    for tick in ticks:
        yield line(scale(tick), top, scale(tick), bottom, "one" if tick == 1 else "grid")
        label = f"{tick:g}" if tick >= 1 else f"1/{1 / tick:g}"
        yield text_at(scale(tick), top - 6, label, "quiet", "middle")
    if panel.target is not None:
        place = scale(panel.target)
        yield line(place, top, place, bottom, "target")
        yield text_at(x + width, y + 14, f"slardar's target {panel.target:g}", "targettext", "end")
    for index, row in enumerate(panel.rows):
        middle = y + PANEL_HEAD + ROW_HEIGHT * index + ROW_HEIGHT / 2
        yield '<g class="subject">' if row.name == SUBJECT else "<g>"
        yield text_at(x, middle + 4.5, row.title)
        if row.name != REFERENCE:
            yield line(scale(row.value.low), middle, scale(row.value.high), middle, "span")
        yield f'<circle cx="{scale(row.value.median):g}" cy="{middle:g}" r="5" class="dot"/>'
        value = row.value.median
        yield text_at(
            x + width, middle + 4.5, f"{value:.2f}" if value < 10 else f"{value:.1f}", "", "end"
        )
        yield "</g>"


def svg(panels: Sequence[Panel]) -> str:
    """The panels in two columns on one sheet, all with the same axis."""
    ticks = _ticks(panels)
    width = (WIDTH - 2 * MARGIN - (COLUMNS - 1) * PANEL_GAP * 2) / COLUMNS
    parts: list[str] = []
    y = float(HEAD + MARGIN / 2)
    for start in range(0, len(panels), COLUMNS):
        together = panels[start : start + COLUMNS]
        for column, panel in enumerate(together):
            x = MARGIN + column * (width + PANEL_GAP * 2)
            parts.extend(_draw_panel(panel, x, y, width, ticks))
        y += max(_height(panel) for panel in together) + PANEL_GAP
    height = y + MARGIN / 2
    title = "slardar and other proxies on one core: smaller is better"
    note = "ratio to nginx+Lua in the same round: the median, and the range over the rounds"
    return sheet(parts, height, title, note)


def sheet(parts: Sequence[str], height: float, title: str, note: str, style: str = "") -> str:
    """The whole picture: a page with a title and a note at its top, :data:`WIDTH` wide.

    ``style`` comes behind :data:`STYLE`.
    """
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}"'
        f' width="{WIDTH}" height="{height:g}" role="img" aria-label="{title}">',
        f"<style>{STYLE}{style}</style>",
        f'<rect x="0.5" y="0.5" width="{WIDTH - 1}" height="{height - 1:g}" rx="8" class="page"/>',
        text_at(MARGIN, 34, title, "title"),
        text_at(MARGIN, 54, note, "quiet"),
    ]
    return "\n".join([*head, *parts, "</svg>", ""])
