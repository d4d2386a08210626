"""Calls after some milliseconds, for what the poller's look at deadlines is too coarse for."""

from __future__ import annotations

import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from typing import Any, Final

from slardar.dataplane.failurelog import BugLog
from slardar.http1.interfaces import Clock, Reminder

__all__ = ["Reminders"]

#: Seconds between two looks at least: with ten thousand reminders a second, a delayed call
#: for each would cost more than what it is for.
GRAIN: Final = 0.002
#: Seconds for one look; the rest comes after the reactor's other work.
TURN: Final = 0.01


class Reminders:
    """Calls :meth:`Reminder.due` when the time has come, the earliest first.

    ``clock`` is brought up to date before.  ``seconds()`` are its seconds.
    """

    def __init__(
        self, reactor: Any, clock: Clock, seconds: Callable[[], float] = time.monotonic
    ) -> None:
        self._reactor = reactor
        self._clock = clock
        self._seconds = seconds
        #: By time; the number keeps the order of those of one time.
        self._heap: list[tuple[float, int, Reminder]] = []
        self._numbers = count()
        self._bugs = BugLog(seconds)
        #: The call for the earliest of them, and when it comes, by the clock.
        self._call: Any = None
        self._when = 0.0

    def __len__(self) -> int:
        return len(self._heap)

    def put(self, reminder: Reminder, seconds: float) -> None:
        """Call it so many seconds after the clock's time."""
        when = self._clock.now + seconds
        heappush(self._heap, (when, next(self._numbers), reminder))
        if self._call is None or when < self._when:
            self._set(when)

    def stop(self) -> None:
        """Call nothing any more."""
        self._heap.clear()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _set(self, when: float) -> None:
        if self._call is not None:
            self._call.cancel()
        self._when = when
        self._call = self._reactor.callLater(max(GRAIN, when - self._seconds()), self._look)

    def _look(self) -> None:
        self._call = None
        now = self._clock.now = self._seconds()
        ends = now + TURN
        heap = self._heap
        while heap and heap[0][0] <= now:
            reminder = heappop(heap)[2]
            try:
                reminder.due()
            except Exception:
                self._bugs.note("a reminder failed: {reminder!r}", reminder=reminder)
            if self._seconds() >= ends:
                break
        if heap and self._call is None:
            self._set(heap[0][0])
