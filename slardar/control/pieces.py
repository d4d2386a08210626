"""Long work in pieces, between which the reactor has its turn."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, TypeAlias, TypeVar

__all__ = ["Turn", "in_pieces"]

#: Seconds of work in one piece.
_PIECE = 0.005

#: Gives a Deferred that fires in a later turn of the reactor; ``None``: there is no reactor.
Turn: TypeAlias = Callable[[], Awaitable[Any]] | None

T = TypeVar("T")


async def in_pieces(work: Iterable[T], turn: Turn) -> list[T]:
    """What ``work`` yields; each step of it is short."""
    found = []
    until = time.monotonic() + _PIECE
    for one in work:
        found.append(one)
        if turn is not None and time.monotonic() > until:
            await turn()
            until = time.monotonic() + _PIECE
    return found
