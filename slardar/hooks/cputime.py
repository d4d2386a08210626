"""CPU time since a call began, at the price of a look at the monotonic clock.

The kernel takes half a microsecond to tell the CPU time of a thread, which is ten times
as long as for the monotonic clock.  So calls are measured by the monotonic clock.  The CPU
time is read only after a call that took long by the monotonic clock, and now and then
between calls.
"""

from __future__ import annotations

from time import thread_time
from typing import Final

__all__ = ["CpuClock"]

#: Seconds for which one reading of the CPU time serves the calls that begin after it.  The
#: CPU time of a call may be measured too short by this much.
_FRESH: Final = 0.001


class CpuClock:
    """CPU time of this thread, for calls whose beginning is known by the monotonic clock.

    Between a reading and the beginning of a call, the thread cannot have used more CPU
    time than the monotonic clock has advanced.  So the result for a call is never too high.
    """

    __slots__ = ("_ahead", "began")

    def __init__(self) -> None:
        #: When the call under way began, by the monotonic clock; :meth:`at` uses it.
        self.began = 0.0
        #: By how much the monotonic clock was ahead of the CPU time at the last reading.
        self._ahead = 0.0

    def read(self, now: float) -> float:
        """Read the CPU time.

        Returns the monotonic time from which on a call that begins needs a new reading.
        """
        self._ahead = now - thread_time()
        return now + _FRESH

    def at(self) -> float:
        """An upper bound of what ``thread_time()`` was when the call under way began."""
        return self.began - self._ahead

    def used(self, began: float) -> float:
        """A lower bound of the seconds of CPU time since a call began."""
        return thread_time() - (began - self._ahead)
