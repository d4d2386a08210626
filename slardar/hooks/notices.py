"""Notices: places where a hook's code uses what hooks do not have.

The code is not run to find them.  A notice is certain if the code reaches the line whenever
it runs.  Such code cannot work, and is refused.  A notice is not certain if the line is
within a function or a branch.  Then whoever posts the code gets a warning.  In doubt a
notice is not certain: to refuse code that works would be worse than a late failure.

Finding notices may take some tenths of a second.  The syntax and the size of the code must
have been checked before.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

__all__ = ["Checked", "Notice", "refusals", "warnings_of"]

#: Lines that are kept for one hook, and characters of each.
_MAX_LINES = 20
_MAX_TEXT = 300


class Notice(NamedTuple):
    """One use of something that hooks do not have."""

    line: int
    text: str
    certain: bool


class Checked(tuple[str, ...]):
    """The modules that code names, as a tuple, with the warnings about the code."""

    warnings: tuple[str, ...] = ()

    @classmethod
    def of(cls, requires: Iterable[str], warnings: Iterable[str] = ()) -> Checked:
        """Make a value of both."""
        made = cls(requires)
        made.warnings = tuple(warnings)
        return made


def refusals(name: str, notices: Iterable[Notice]) -> list[str]:
    """A line for each notice that is certain."""
    return [f"{name}: {line}" for line in _lines(one for one in notices if one.certain)]


def warnings_of(notices: Iterable[Notice]) -> tuple[str, ...]:
    """A line for each notice that is not certain."""
    return tuple(_lines(one for one in notices if not one.certain))


def _lines(notices: Iterable[Notice]) -> list[str]:
    found = sorted({(one.line, one.text) for one in notices})
    lines = [f"line {line}: {text}"[:_MAX_TEXT] for line, text in found[:_MAX_LINES]]
    if len(found) > _MAX_LINES:
        lines.append(f"and {len(found) - _MAX_LINES} more")
    return lines
