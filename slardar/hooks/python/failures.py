"""Describes a call that did not end well, in one line for the hook's author."""

from __future__ import annotations

from types import TracebackType
from typing import Final

from slardar.hooks.budget import HOOK_NAME, OutOfBudget, OutOfMemory
from slardar.hooks.python.limits import text_of
from slardar.hooks.script import HookFailure

__all__ = ["failed", "one_line"]

_MAX_MESSAGE: Final = 300


def failed(name: str, error: BaseException, seconds: float, line: int = 1) -> HookFailure:
    """Make a failure of an exception, and keep nothing of the exception.

    ``name`` is the script's, ``seconds`` its budget.  ``line`` is named if the exception tells
    no line of the script, as when a function has returned too late.
    """
    places = _places(error.__traceback__)
    if not places or places[0][0] != name:
        places.insert(0, (name, line))
    # If a module failed, the line tells where the script called the module, too.
    where = f"{name}: line {places[0][1]}"
    for other, line in reversed(places):
        if other == name:
            where = f"{name}: line {line}"
            break
    if places[-1][0] != name:
        where += f": {places[-1][0]}: line {places[-1][1]}"
    if isinstance(error, OutOfMemory):
        return HookFailure("memory", f"{where}: expected less memory to be used in one call")
    if isinstance(error, OutOfBudget):
        return HookFailure(
            "budget", f"{where}: expected an end within {seconds * 1000:g} ms of CPU time"
        )
    kind = "memory" if isinstance(error, MemoryError) else "error"
    text = one_line(_message(error), _MAX_MESSAGE)
    return HookFailure(kind, f"{where}: {type(error).__name__}" + (f": {text}" if text else ""))


def _message(error: BaseException) -> str:
    try:
        return text_of(error)
    except (Exception, OutOfBudget):
        return "(its message cannot be shown)"


def one_line(text: str, limit: int) -> str:
    """A text as one line of at most ``limit`` characters, with escaped control characters."""
    cut = text[:limit]
    if not cut.isprintable():
        cut = "".join(one if one.isprintable() else ascii(one)[1:-1] for one in cut)[:limit]
    return cut if len(text) <= limit else cut[: limit - 3] + "..."


def _places(traceback: TracebackType | None) -> list[tuple[str, int]]:
    """The name and the line of each frame of the hook and its modules, the innermost last."""
    places: list[tuple[str, int]] = []
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_globals.get("__name__") == HOOK_NAME:
            places.append((frame.f_code.co_filename[1:-1], traceback.tb_lineno))
        traceback = traceback.tb_next
    return places
