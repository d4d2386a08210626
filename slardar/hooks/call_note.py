"""Notes which version of a hook runs, for a process that watches this one."""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import Final

__all__ = ["MOST_CALLS", "CallNote"]

#: The largest count of calls; the next one is 0.
MOST_CALLS: Final = 0x3FFFFFFF


class CallNote:
    """Which version runs, written as one number to the first of ``items``.

    ``items`` may be memory that both processes share, in 64 bits each.  The number is 0 while
    no version runs.  Else its low 32 bits are the mark of the version
    (:func:`slardar.hooks.loaded.mark_of`), and the others count calls, so that a call differs
    from the one before it.
    """

    __slots__ = ("_items", "calls")

    def __init__(self, items: MutableSequence[int]) -> None:
        self._items = items
        #: The calls that have begun.
        self.calls = 0

    def begin(self, mark: int) -> None:
        """The version with this mark is about to run."""
        calls = self.calls = (self.calls + 1) & MOST_CALLS
        self._items[0] = (calls << 32) | mark

    def end(self) -> None:
        """The version has ended."""
        self._items[0] = 0
