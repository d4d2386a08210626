"""Counts failures, and tells when a hook has failed too often to run again."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection

__all__ = ["FAILURES", "WINDOW", "FailureWindow"]

#: A hook is suspended after this many failures within this many seconds.
FAILURES = 5
WINDOW = 60.0


class FailureWindow:
    """Notes failures by any key; ``now`` is in seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._times: dict[object, deque[float]] = {}

    def note(self, key: object, now: float) -> bool:
        """Note a failure; True if it is one too many."""
        times = self._times.setdefault(key, deque(maxlen=FAILURES))
        times.append(now)
        return len(times) == FAILURES and now - times[0] <= WINDOW

    def forget(self, key: object) -> None:
        """Forget the failures of ``key``."""
        self._times.pop(key, None)

    def keep(self, keys: Collection[object]) -> None:
        """Forget the failures of all keys but these."""
        self._times = {key: times for key, times in self._times.items() if key in keys}
