"""What commands print: tables and colour on a terminal, plain columns elsewhere, JSON for scripts.

Much of it comes from servers, files and hooks of others.  Control characters are shown as escapes,
so no text can write over another one or steer the terminal.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any

import click

from slardar.errors import printable

__all__ = ["Cell", "columns", "print_diff", "print_json", "print_table", "styled"]

#: A cell of a table: a text, perhaps with a style of click's (``green``, ``bold red``).
Cell = str | tuple[str, str]

_COLOURS = {
    "ok": "green",
    "alive": "green",
    "active": "green",
    "unchecked": "yellow",
    "unstable": "yellow",
    "drain": "yellow",
    "staged": "yellow",
    "err": "red",
    "down": "red",
    "suspended": "red",
    "failed": "red",
}


def styled(word: str) -> Cell:
    """The word for a state, with its colour."""
    colour = _COLOURS.get(word)
    return word if colour is None else (word, colour)


def print_json(value: Any) -> None:
    """Print a value for scripts."""
    click.echo(json.dumps(value, indent=2))


def print_table(heads: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """Print rows.  On a terminal they are a table, in which long cells are folded; elsewhere each
    row is one line, for `grep` and `awk`."""
    found = [[_clean(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        _print_rich(heads, found)
    else:
        click.echo(columns([heads, *[[_text(cell) for cell in row] for row in found]]))


def columns(rows: Iterable[Sequence[str]]) -> str:
    """The rows as text, in columns as wide as their widest cell."""
    found = list(rows)
    widths = [max(map(len, column)) for column in zip(*found, strict=True)]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in found
    )
    return "\n".join(lines)


def print_diff(text: str, indent: str = "  ") -> None:
    """Print lines that begin with ``+`` or ``-``, in their colours."""
    for line in text.split("\n") if text else ():
        line = printable(line)
        colour = {"+": "green", "-": "red"}.get(line[:1])
        click.secho(indent + line, fg=colour)


def _print_rich(heads: Sequence[str], rows: list[list[Cell]]) -> None:
    # Imported here: it takes longer than most commands.
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", pad_edge=False)
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        # Text, so that nothing in it is taken for markup.
        table.add_row(*(Text(cell) if isinstance(cell, str) else Text(*cell) for cell in row))
    Console().print(table)


def _clean(cell: Cell) -> Cell:
    if isinstance(cell, str):
        return printable(cell)
    text, style = cell
    return printable(text), style


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]
