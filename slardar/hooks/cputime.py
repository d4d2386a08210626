"""CPU time since a call began, at the price of a look at the wall's clock.

The kernel takes half a microsecond to tell the CPU time of a thread, ten times as much
as for the monotonic clock.  So a call is measured by the latter, and the former is read
only for what took long by it, and now and then between calls.
"""

from __future__ import annotations

from time import thread_time
from typing import Final

__all__ = ["CpuClock"]

#: Seconds for which one reading serves the calls that begin after it: by so much the CPU
#: time of a call may be taken for too short.
_FRESH: Final = 0.001


class CpuClock:
    """CPU time of this thread, for calls whose beginning the monotonic clock tells.

    Between a reading and the beginning of a call the thread was busy for no longer than
    what the monotonic clock says.  So no call is said to have taken more than it has.
    """

    __slots__ = ("_ahead", "began")

    def __init__(self) -> None:
        #: When the call under way began, by the monotonic clock; for :meth:`at`.
        self.began = 0.0
        #: By how much the monotonic clock was ahead of the CPU's.
        self._ahead = 0.0

    def read(self, now: float) -> float:
        """Read the CPU's clock; answers until when that serves the calls that begin."""
        self._ahead = now - thread_time()
        return now + _FRESH

    def at(self) -> float:
        """What ``thread_time()`` was when the call began, at most."""
        return self.began - self._ahead

    def used(self, began: float) -> float:
        """Seconds of CPU time since a call began, at least."""
        return thread_time() - (began - self._ahead)
