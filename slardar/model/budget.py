"""How many requests may be sent again: a share of those that came lately, and a few a second.

Without such a limit retries multiply an outage: servers that are too slow get every request
as often as there are servers, just when they can do the least.

The limit is a bucket of tokens.  Each retry takes one.  A second brings as many as a second
may have retries, and the bucket holds as many (at least one), so that a short outage after a
quiet time is not limited to a fraction of them.
"""

from __future__ import annotations

from typing import Final

__all__ = ["RetryBudget"]

#: Seconds over which requests are counted.
SECONDS: Final = 10


class RetryBudget:
    """The requests and the retries of one upstream in one process.

    Times are monotonic seconds.  For each request that begins its owner adds 1 to
    ``requests``, after a :meth:`turn` if the time is :attr:`turns` or later; this is so
    little because every request pays for it.
    """

    __slots__ = ("_at", "_before", "_since", "_tokens", "exhausted", "requests", "retries", "turns")

    def __init__(self) -> None:
        #: Requests since the second under way began.
        self.requests: int = 0
        #: When the second under way is over.
        self.turns: float = 0.0
        #: Requests of each second before it, the oldest first.
        self._before: list[int] = [0] * SECONDS
        #: When the first second began; negative before.
        self._since: float = -1.0
        #: Retries that may be made at once, as of a time.
        self._tokens: float = 0.0
        self._at: float = -1e9
        #: Retries so far, and those that were not made because too many had been.
        self.retries: int = 0
        self.exhausted: int = 0

    def __repr__(self) -> str:
        return f"<RetryBudget retries={self.retries} exhausted={self.exhausted}>"

    def turn(self, now: float) -> None:
        """Begin the second that ``now`` is in."""
        if self._since < 0.0:
            self._since = now
        passed = int(now - self.turns) + 1
        if passed > SECONDS:
            self._before = [0] * SECONDS
            self.turns = now + 1.0
        else:
            self._before = (self._before + [self.requests] + [0] * (passed - 1))[passed:]
            self.turns += passed
        self.requests = 0

    def recent(self, now: float) -> float:
        """The requests of the last 10 seconds; of the oldest second only the part that is
        within them counts."""
        if now >= self.turns:
            self.turn(now)
        oldest = self._before[0] * (self.turns - now)
        return self.requests + sum(self._before) - self._before[0] + oldest

    def allows(self, now: float, share: float, least: float) -> bool:
        """Whether a retry may be made, and count it as one that was not made if not.

        ``share`` of the requests may be sent again, and at least ``least`` a second.
        """
        recent = self.recent(now)
        # Requests before a process began are unknown, which does not mean that none came.
        seconds = min(float(SECONDS), max(1.0, now - self._since))
        rate = max(least, share * recent / seconds)
        most = max(1.0, rate) if rate > 0.0 else 0.0
        self._tokens = min(most, self._tokens + rate * (now - self._at))
        self._at = now
        if self._tokens >= 1.0:
            return True
        self.exhausted += 1
        return False

    def spend(self) -> None:
        """A retry is made."""
        self.retries += 1
        self._tokens = max(0.0, self._tokens - 1.0)
