"""How often a hook was called, how often it failed, and how long it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from mypy_extensions import i64

__all__ = ["CallStats", "bucket_of"]

#: Parts of each doubling of the time: a bucket is at most a quarter wider than the last.
_PARTS = 4

#: Calls that are timed in any case, and of how many of the later ones one is: to read the
#: clock twice and to sort what it says takes a tenth of the time around a short call.
_FIRST: Final = 1000
_ONE_IN: Final = 8


def bucket_of(nanoseconds: int) -> int:
    """The bucket of a time below 2**63: 4 for each doubling, so that it is known within 25 %."""
    # As a machine's integer, where this is compiled.
    left: i64 = nanoseconds
    if left < 4:
        return nanoseconds
    bits: i64 = 3
    while left >= 8:
        left >>= 1
        bits += 1
    return (bits << 2) | (left & 3)


def _end_of(bucket: int) -> int:
    """The nanoseconds at which a bucket ends."""
    bits, part = bucket >> 2, bucket & 3
    return (_PARTS + part + 1) << (bits - 3) if bits > 2 else bucket + 1


class CallStats:
    """Counters that only grow, and can be added up.

    Every call is counted; the times are those of the first thousand and of one in eight of
    those after them.
    """

    __slots__ = ("buckets", "calls", "errors", "nanoseconds")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        #: Of the calls that were timed.
        self.nanoseconds = 0
        #: How many of these took a time of each bucket.
        self.buckets: dict[int, int] = {}

    @property
    def times_next(self) -> bool:
        """Whether the next call is to be timed."""
        return self.calls < _FIRST or self.calls % _ONE_IN == 0

    def ended(self) -> None:
        """A call has ended, well or not, that was not timed."""
        self.calls += 1

    def took(self, nanoseconds: int) -> None:
        """The same for one that was."""
        self.calls += 1
        self.nanoseconds += nanoseconds
        bucket = bucket_of(nanoseconds)
        self.buckets[bucket] = self.buckets.get(bucket, 0) + 1

    def add(
        self,
        calls: int,
        errors: int,
        nanoseconds: int,
        buckets: Mapping[int, int] | Iterable[tuple[int, int]],
    ) -> None:
        """Add what somebody else has counted."""
        self.calls += calls
        self.errors += errors
        self.nanoseconds += nanoseconds
        for bucket, count in buckets.items() if isinstance(buckets, Mapping) else buckets:
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    @property
    def mean_us(self) -> float:
        """Microseconds of a call on average; 0 before the first."""
        timed = sum(self.buckets.values())
        return round(self.nanoseconds / timed / 1000, 1) if timed else 0.0

    @property
    def p99_us(self) -> float:
        """Microseconds within which 99 of 100 calls ended, at most 25 % too many."""
        # How many calls may take longer, and one more.
        left = sum(self.buckets.values()) // 100 + 1
        for bucket in sorted(self.buckets, reverse=True):
            left -= self.buckets[bucket]
            if left <= 0:
                return round(_end_of(bucket) / 1000, 1)
        return 0.0
