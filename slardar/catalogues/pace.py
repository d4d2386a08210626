"""How often something may be done: at once after a quiet time, and rarely in a storm."""

from __future__ import annotations

__all__ = ["Pace"]


class Pace:
    """Steps that come ``pause`` seconds after each other on average, where ``burst`` of them may
    come at once after a quiet time (a leaky bucket).

    Times are seconds of any clock that only goes forward.
    """

    __slots__ = ("_burst", "_full", "_pause")

    def __init__(self, pause: float, burst: int) -> None:
        self._pause = pause
        self._burst = burst
        #: When the whole burst is free again.
        self._full = float("-inf")

    def delay(self, now: float) -> float:
        """Seconds until the next step may be made; 0: it may be made now."""
        return max(0.0, self._full - (self._burst - 1) * self._pause - now)

    def step(self, now: float) -> None:
        """A step is made."""
        self._full = max(self._full, now) + self._pause
