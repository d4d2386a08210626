"""How often something may be done: at once after a quiet time, and ever more rarely in a storm."""

from __future__ import annotations

__all__ = ["Pace"]


class Pace:
    """Steps of which ``burst`` may come at once after a quiet time.  Each one that has to wait
    makes the next one wait twice as long, from ``pause`` to ``longest`` seconds.

    Times are seconds of any clock that only goes forward.
    """

    __slots__ = ("_burst", "_free", "_longest", "_pause", "_step")

    def __init__(self, pause: float, longest: float, burst: int) -> None:
        self._pause = pause
        self._longest = longest
        #: Seconds that the steps of a burst may be too early.
        self._burst = (burst - 1) * pause
        #: Seconds that a step takes now.
        self._step = pause
        #: When all steps so far are paid for: the whole burst is free again.
        self._free = float("-inf")

    def delay(self, now: float) -> float:
        """Seconds until the next step, which will then be made."""
        at = max(now, self._free - self._burst)
        if now >= self._free:
            self._step = self._pause
        elif at > now:
            self._step = min(2 * self._step, self._longest)
        self._free = max(self._free, at) + self._step
        return at - now
