"""What can be told of a hook's code without running it: uses of what hooks do not have.

Two degrees.  *Certain*: whenever the code runs, it reaches this line, so it cannot work at
all, and is refused.  Not certain: the line is within a function or a branch, and whoever
posts the code is warned.  Where there is doubt it is a warning: a refusal of code that works
would be worse than a late failure.

To be called on code whose syntax and size have been checked, in a process that may take some
tenths of a second for it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Checked", "Notice", "refusals", "warnings_of"]

#: Lines that are kept of one piece of code, and characters of each.
_MAX_LINES = 20
_MAX_TEXT = 300


class Notice(NamedTuple):
    """One use of what is not there."""

    line: int
    text: str
    certain: bool


class Checked(tuple[str, ...]):
    """The modules that code names, as a tuple; with the warnings about it."""

    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, requires: Iterable[str], warnings: Iterable[str] = ()) -> Checked:
        """Both together."""
        made = cls(requires)
        made.warnings = tuple(warnings)
        return made


def refusals(name: str, notices: Iterable[Notice]) -> list[str]:
    """A line for each use that is certain."""
    return [f"{name}: {line}" for line in _lines(one for one in notices if one.certain)]


def warnings_of(notices: Iterable[Notice]) -> tuple[str, ...]:
    """A line for each use that is not."""
    return tuple(_lines(one for one in notices if not one.certain))


def _lines(notices: Iterable[Notice]) -> list[str]:
    found = sorted({(one.line, one.text) for one in notices})
    lines = [f"line {line}: {text}"[:_MAX_TEXT] for line, text in found[:_MAX_LINES]]
    if len(found) > _MAX_LINES:
        lines.append(f"and {len(found) - _MAX_LINES} more")
    return lines
