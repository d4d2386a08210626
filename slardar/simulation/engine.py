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


class _DelayedCall:
    """A call that may be cancelled: Twisted's IDelayedCall, as far as it is needed."""

    def __init__(self, when: float, call: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        self._when = when
        self._call: Callable[..., None] | None = call
        self._arguments = arguments

    def active(self) -> bool:
        """Whether the call is still to be made."""
        return self._call is not None

    def cancel(self) -> None:
        """Do not make the call."""
        self._call = None

    def getTime(self) -> float:
        """When the call is made."""
        return self._when

    def due(self) -> None:
        """The time has come."""
        call, self._call = self._call, None
        if call is not None:
            call(*self._arguments)


class Engine:
    """Calls what is due at its time, and keeps the clock that the classes under it read.

    It is the reactor of classes that need no more of one than calls at a later time.
    """

    def __init__(self) -> None:
        self.clock = Clock(BEGIN)
        self._events: list[tuple[float, int, Callable[..., None], tuple[Any, ...]]] = []
        self._numbers = itertools.count()
        self._stopped = False

    @property
    def elapsed(self) -> float:
        """Seconds since the beginning."""
        return self.clock.now - BEGIN

    def seconds(self) -> float:
        """The clock's seconds."""
        return self.clock.now

    def at(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Make a call so many seconds after the beginning.  Calls of one time are made in the
        order in which they were given."""
        event = (BEGIN + seconds, next(self._numbers), call, arguments)
        heapq.heappush(self._events, event)

    def after(self, seconds: float, call: Callable[..., None], *arguments: Any) -> None:
        """Make a call so many seconds from now."""
        event = (self.clock.now + seconds, next(self._numbers), call, arguments)
        heapq.heappush(self._events, event)

    def callLater(self, seconds: float, call: Callable[..., None], *arguments: Any) -> _DelayedCall:
        """Make a call so many seconds from now, unless it is cancelled before."""
        delayed = _DelayedCall(self.clock.now + seconds, call, arguments)
        self.after(seconds, delayed.due)
        return delayed

    def stop(self) -> None:
        """Make no more calls after the one under way."""
        self._stopped = True

    def run(self) -> None:
        """Make all calls, and those that they bring, until there are none or somebody stops it."""
        while self._events and not self._stopped:
            self.clock.now, _, call, arguments = heapq.heappop(self._events)
            call(*arguments)
