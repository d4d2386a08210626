"""The command ``slardar top``: a live view of all servers.

:class:`View` is what is shown and which keys do what; it knows neither a terminal nor slardar.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import click

from slardar.console.client import Client
from slardar.console.options import Number, control_options
from slardar.console.output import Cell, print_json, print_table, styled
from slardar.console.show import Row, rows_of
from slardar.errors import printable

__all__ = ["Line", "View", "top"]

#: The columns by which lines are sorted, in the order in which the key `s` goes through them.
_SORTS = ("rate", "errors", "active", "status", "weight", "name")
#: How bad a status is.
_BADNESS = {"err": 3, "unstable": 2, "unchecked": 1, "ok": 0}
_KEYS = "q end  s sort  r reverse  / filter  j k move  d drain  u up"
_ESCAPES = {"\x1b[A": "up", "\x1b[B": "down", "\x1b[5~": "page up", "\x1b[6~": "page down"}
#: How far each key moves the bar.
_STEPS = {"j": 1, "down": 1, "k": -1, "up": -1, "page down": 20, "page up": -20}


def _key_of(row: Row) -> tuple[str, str, int]:
    return row.upstream, row.server, row.level


class Line(NamedTuple):
    """One server, with what has changed since the look before."""

    row: Row
    #: Requests and failures a second.
    rate: float
    errors: float


class View:
    """What is shown."""

    def __init__(self, sort: str = "rate", wanted: str = "") -> None:
        self.sort = sort
        self.wanted = wanted
        self.is_reversed = False
        #: The text of the filter while it is typed.
        self.typed: str | None = None
        #: The place of the line under the bar, and the first line that is shown.
        self.place = self.first = 0
        #: The server under the bar, once the bar was moved: the bar goes where the server goes.
        self._chosen: tuple[str, str, int] | None = None
        #: What waits for a yes: ``drain`` or ``up``, and the server.
        self.asked: tuple[str, Line] | None = None
        self.message = ""
        self.is_over = False
        self.lines: list[Line] = []
        self._rows: dict[tuple[str, str, int], Row] = {}
        self._at = 0.0
        self.about = ""

    def take(self, status: Mapping[str, Any], now: float) -> None:
        """Take a status that was asked at ``now``, in monotonic seconds."""
        rows = {_key_of(row): row for row in rows_of(status)}
        seconds = now - self._at if self._rows else 0.0
        lines = []
        for key, row in rows.items():
            known = self._rows.get(key)
            rate = errors = 0.0
            # A counter is less than before when slardar was started anew.
            if known is not None and seconds > 0 and row.requests >= known.requests:
                rate = (row.requests - known.requests) / seconds
                errors = max(0, row.failures - known.failures) / seconds
            lines.append(Line(row, rate, errors))
        self._rows, self._at, self.lines = rows, now, lines
        self.about = (
            f"slardar {status['slardar_version']}, version {status['shd_config_version']}:"
            f" {sum(line.rate for line in lines):.0f} requests/s"
        )
        # A token for some names does not see what is of all of them.
        numbers = status.get("statistics")
        if numbers is not None:
            self.about += f", {numbers['active']} under way, {numbers['connections']} connections"

    def shown(self) -> list[Line]:
        """The lines that the filter leaves, in their order."""
        wanted = self.wanted.lower()
        found = [
            line
            for line in self.lines
            if wanted in line.row.upstream.lower()
            or wanted in line.row.server
            or wanted == line.row.status
            or wanted == line.row.state
        ]
        found.sort(key=self._key)
        return found[::-1] if self.is_reversed else found

    def _key(self, line: Line) -> Any:
        row = line.row
        name = (row.upstream, row.level, row.server)
        numbers: Mapping[str, float] = {
            "rate": line.rate,
            "errors": line.errors,
            "active": row.active,
            "status": _BADNESS.get(row.status, 0) + (0.5 if row.state != "up" else 0),
            "weight": row.weight,
            "name": 0,
        }
        return (-numbers[self.sort], name)

    def window(self, height: int) -> list[Line]:
        """The lines that fit, with the one under the bar among them."""
        found = self.shown()
        self._find(found)
        self.first = max(self.place - height + 1, min(self.first, self.place), 0)
        return found[self.first : self.first + height]

    def _find(self, found: Sequence[Line]) -> None:
        """Put the bar where its server is now, or leave it at its place if it is not shown."""
        keys = [_key_of(line.row) for line in found]
        if self._chosen in keys:
            self.place = keys.index(self._chosen)
        self.place = max(0, min(self.place, len(found) - 1))

    def _move(self, step: int) -> Line | None:
        """Move the bar, and choose the server under it."""
        found = self.shown()
        self._find(found)
        if not found:
            return None
        self.place = max(0, min(self.place + step, len(found) - 1))
        line = found[self.place]
        self._chosen = _key_of(line.row)
        return line

    def press(self, key: str) -> tuple[str, Line] | None:
        """A key was pressed.  Returns what is to be done: ``drain`` or ``up``, and the server."""
        self.message = ""
        if self.typed is not None:
            self._type(key)
        elif self.asked is not None:
            asked, self.asked = self.asked, None
            if key == "y":
                return asked
            self.message = "nothing is changed"
        elif key in ("q", "\x03"):
            self.is_over = True
        elif key == "s":
            self.sort = _SORTS[(_SORTS.index(self.sort) + 1) % len(_SORTS)]
        elif key == "r":
            self.is_reversed = not self.is_reversed
        elif key == "/":
            self.typed = ""
        elif key in _STEPS:
            self._move(_STEPS[key])
        elif key in ("d", "u"):
            line = self._move(0)
            if line is not None:
                self.asked = ("drain" if key == "d" else "up", line)
        return None

    def _type(self, key: str) -> None:
        assert self.typed is not None
        if key in ("\r", "\n"):
            self.wanted, self.typed = self.typed, None
        elif key in ("\x1b", "\x03"):
            self.typed = None
        elif key in ("\x7f", "\b"):
            self.typed = self.typed[:-1]
        elif len(key) == 1 and key.isprintable():
            self.typed += key

    def foot(self) -> str:
        """The last line."""
        if self.typed is not None:
            return f"filter: {self.typed}"
        if self.asked is not None:
            what, line = self.asked
            verb = "drain" if what == "drain" else "give requests again to"
            return f"{verb} {line.row.server} of {line.row.upstream}? y or n"
        filtered = f"  filter: {self.wanted}" if self.wanted else ""
        return self.message or f"{_KEYS}  by {self.sort}{filtered}"


_HEADS = (
    *("UPSTREAM", "SERVER", "STATUS", "STATE", "WEIGHT"),
    *("REQ/S", "ERR/S", "ACTIVE", "REQUESTS", "MESSAGE"),
)


#: The columns that a narrow terminal does not show, the first of them first.
_LEFT_OUT = ("REQUESTS", "ACTIVE", "WEIGHT", "MESSAGE", "ERR/S", "STATE")
#: Characters of a message for which other columns go, and of a name that are always shown.
_MESSAGE = 12
_SHORTEST = 8


def _cells(line: Line) -> Sequence[Cell]:
    row = line.row
    errors = f"{line.errors:.1f}"
    return (
        row.upstream,
        row.server,
        styled(row.status),
        styled(row.state),
        str(row.weight),
        f"{line.rate:.1f}",
        (errors, "red") if line.errors else errors,
        str(row.active),
        str(row.requests),
        row.message,
    )


@click.command()
@click.option(
    "--interval",
    type=Number("seconds from 0.2 to 60", 0.2, 60),
    default=1.0,
    show_default=True,
    metavar="SECONDS",
)
@click.option("--sort", type=click.Choice(_SORTS), default="rate", show_default=True)
@click.option("--filter", "wanted", default="", metavar="TEXT", help="Only names with TEXT.")
@click.option("--once", is_flag=True, help="Print it once, after one interval, and end.")
@click.option("--json", "as_json", is_flag=True, help="The same as JSON; implies --once.")
@control_options
def top(interval: float, sort: str, wanted: str, once: bool, as_json: bool, client: Client) -> None:
    """Watch the servers: requests a second, failures, what is under way.

    Sort with `s`, filter with `/`, choose a server with the arrows, drain it with `d`, and give it
    requests again with `u`.

    \b
    Example:
      slardar top
      slardar top --filter www.example.com --sort errors
      slardar top --once --json
    """
    view = View(sort, wanted)
    view.take(client.get("status"), time.monotonic())
    if once or as_json:
        # A command has no reactor that this could block.
        time.sleep(interval)  # noqa: TID251
        view.take(client.get("status"), time.monotonic())
        if as_json:
            print_json([_plain(line) for line in view.shown()])
        else:
            print_table(_HEADS, map(_cells, view.shown()))
        return
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise click.UsageError("expected a terminal; use --once elsewhere")
    _run(view, client, interval)


def _plain(line: Line) -> dict[str, Any]:
    return {**line.row._asdict(), "rate": round(line.rate, 3), "errors": round(line.errors, 3)}


def _run(view: View, client: Client, interval: float) -> None:
    from rich.console import Console
    from rich.live import Live

    console = Console()
    with _keys() as keys, Live(console=console, screen=True, auto_refresh=False) as live:
        due = time.monotonic() + interval
        while not view.is_over:
            live.update(_drawn(view, *console.size), refresh=True)
            for key in keys(max(0.0, due - time.monotonic())):
                _act(view, client, view.press(key))
            if time.monotonic() >= due:
                try:
                    view.take(client.get("status"), time.monotonic())
                except click.ClickException as error:
                    # It may be on its way to a new generation.
                    view.message = error.message
                due = time.monotonic() + interval


def _act(view: View, client: Client, wanted: tuple[str, Line] | None) -> None:
    if wanted is None:
        return
    state, line = wanted
    body = b'{"state": "%s"}' % state.encode()
    try:
        client.call("PATCH", ("upstream", line.row.upstream, line.row.server), body)
        view.take(client.get("status"), time.monotonic())
    except click.ClickException as error:
        view.message = error.message
    else:
        view.message = f"{line.row.server} of {line.row.upstream}: {state}"


def fitting(rows: Sequence[Sequence[Cell]], width: int) -> list[tuple[int, int]]:
    """The columns that fit into ``width``, each as its place in a row and how wide it is.

    Which server a line is about must be readable; so other columns are left out, the least
    important first, and the last one is cut.
    """
    widths = [
        max(len(head), *(len(printable(_text(row[place]))) for row in rows), 0)
        for place, head in enumerate(_HEADS)
    ]
    columns = list(range(len(_HEADS)))
    widths[-1] = min(widths[-1], _MESSAGE)

    def needed() -> int:
        return sum(widths[place] + 1 for place in columns) - 1

    for head in _LEFT_OUT:
        if needed() > width:
            columns.remove(_HEADS.index(head))
    # Names may be longer than any terminal is wide.
    widths[0] = max(_SHORTEST, widths[0] - max(0, needed() - width))
    if columns[-1] == len(_HEADS) - 1:
        widths[-1] += max(0, width - needed())
    return [(place, widths[place]) for place in columns]


def _text(cell: Cell) -> str:
    return cell if isinstance(cell, str) else cell[0]


def _drawn(view: View, width: int, height: int) -> Any:
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0), pad_edge=False)
    rows = [(line, _cells(line)) for line in view.window(max(1, height - 4))]
    shown = fitting([row for _, row in rows], width)
    for place, wide in shown:
        right = place in range(4, 9)
        table.add_column(
            _HEADS[place], no_wrap=True, width=wide, justify="right" if right else "left"
        )
    for number, (_, row) in enumerate(rows):
        cells = (
            Text(printable(_text(cell)), "" if isinstance(cell, str) else cell[1])
            for cell in (row[place] for place, _ in shown)
        )
        chosen = view.first + number == view.place
        table.add_row(*cells, style="reverse" if chosen else "")
    about = Text(printable(view.about), no_wrap=True, overflow="ellipsis")
    foot = Text(printable(view.foot()), style="dim", no_wrap=True, overflow="ellipsis")
    return Group(about, Text(), table, foot)


@contextlib.contextmanager
def _keys() -> Iterator[Any]:
    """A function that waits for keys, at most so many seconds, and returns those that came."""
    file = sys.stdin.fileno()
    before = termios.tcgetattr(file)

    def read(seconds: float) -> list[str]:
        ready, _, _ = select.select([file], [], [], seconds)
        if not ready:
            return []
        data = os.read(file, 1024)
        # No byte is the end of the terminal.
        return split_keys(data.decode("utf-8", "ignore")) if data else ["q"]

    try:
        tty.setcbreak(file)
        yield read
    finally:
        termios.tcsetattr(file, termios.TCSADRAIN, before)


def split_keys(text: str) -> list[str]:
    """The keys of what a terminal has sent: a letter each, or an arrow."""
    keys = []
    while text:
        for sent, key in _ESCAPES.items():
            if text.startswith(sent):
                keys.append(key)
                text = text[len(sent) :]
                break
        else:
            keys.append(text[0])
            text = text[1:]
    return keys
