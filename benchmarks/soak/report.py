"""Writes ``SOAK.md`` from the rows of one run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks.report import table
from benchmarks.soak.row import Row

__all__ = ["markdown"]


def markdown(rows: Sequence[Row], machine: Mapping[str, str]) -> str:
    """The whole report."""
    lines = ["# Soak", "", "Written by `make soak`; do not edit. What it does is in"]
    lines += ["[docs/soak.md](../docs/soak.md).", ""]
    missed = sum(row.met is False for row in rows)
    judged = sum(row.met is not None for row in rows)
    lines += [f"{judged - missed} of {judged} figures are met.", ""]
    cells = [(row.figure, row.target, row.measured, row.verdict) for row in rows]
    lines += table(("figure", "must reach", "measured", ""), cells)
    lines += _details(rows)
    lines += ["## Machine and versions", ""]
    lines += table(("", ""), list(machine.items()))
    return "\n".join(lines)


def _details(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Details"
    yield ""
    for row in rows:
        if row.notes:
            yield f"**{row.figure}**"
            yield ""
            yield from (f"- {note}" for note in row.notes)
            yield ""
