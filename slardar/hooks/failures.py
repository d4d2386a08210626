"""When a hook has failed too often to be run again."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

__all__ = ["FAILURES", "WINDOW", "FailureWindow"]

#: So many failures within so many seconds suspend a hook.
FAILURES = 5
WINDOW = 60.0


class FailureWindow:
    """Notes failures by any key; ``now`` is in seconds of any clock that only grows."""

    def __init__(self) -> None:
        self._times: dict[object, deque[float]] = {}

    def note(self, key: object, now: float) -> bool:
        """One more failure; True if that is one too many."""
        times = self._times.setdefault(key, deque(maxlen=FAILURES))
        times.append(now)
        return len(times) == FAILURES and now - times[0] <= WINDOW

    def forget(self, key: object) -> None:
        """Begin anew."""
        self._times.pop(key, None)

    def keep(self, keys: Collection[object]) -> None:
        """Forget all others."""
        self._times = {key: times for key, times in self._times.items() if key in keys}
