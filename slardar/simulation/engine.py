"""Virtual time: events in their order, whatever time they take to compute."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any

from slardar.http1.interfaces import Clock

__all__ = ["Engine"]

#: Where the clock begins.  Some rules take a time of 0 for "never".
BEGIN = 1000.0


class Engine:
    """Calls what is due at its time, and keeps the clock that the classes under it read."""

    def __init__(self) -> None:
        self.clock = Clock(BEGIN)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = itertools.count()

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.clock.now - BEGIN

    def at(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Make a call so many seconds after the beginning.  Calls of one time are made in the
        order in which they were given."""
        event = (BEGIN + seconds, next(self._numbers), call, arguments)
        heapq.heappush(self._events, event)

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Make a call so many seconds from now."""
        event = (self.clock.now + seconds, next(self._numbers), call, arguments)
        heapq.heappush(self._events, event)

    def run(self) -> None:
        """Make all calls, and those that they bring."""
        while self._events:
            self.clock.now, _, call, arguments = heapq.heappop(self._events)
            call(*arguments)
