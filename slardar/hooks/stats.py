"""Counts how often a hook was called, how often it failed, and how long it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

from mypy_extensions import i64

__all__ = ["CallStats", "bucket_of"]

#: Buckets for each doubling of the time, so a bucket ends at most 25 % above its beginning.
_PARTS = 4

#: The first calls are all timed, and of the later ones one in :data:`_ONE_IN`.  Reading the
#: clock twice and counting the time takes a tenth of the time that a short call costs.
_FIRST: Final = 1000
_ONE_IN: Final = 8


def bucket_of(nanoseconds: int) -> int:
    """The bucket of a time below 2**63 ns.

    There are 4 buckets for each doubling, so the time is known within 25 %.
    """
    # The compiled code uses a machine integer for this type.
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
    """Counters that only grow, and that can be added up.

    Every call is counted.  The first thousand calls are timed, and then one call in eight.
    """

    __slots__ = ("buckets", "calls", "errors", "nanoseconds")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        #: The time of all calls that were timed.
        self.nanoseconds = 0
        #: How many of the timed calls fell into each bucket.
        self.buckets: dict[int, int] = {}

    @property
    def times_next(self) -> bool:
        """Whether the next call must be timed."""
        return self.calls < _FIRST or self.calls % _ONE_IN == 0

    def ended(self) -> None:
        """Count a call that was not timed, whether it ended well or not."""
        self.calls += 1

    def took(self, nanoseconds: int) -> None:
        """Count a call that was timed."""
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
        """Add what another process has counted."""
        self.calls += calls
        self.errors += errors
        self.nanoseconds += nanoseconds
        for bucket, count in buckets.items() if isinstance(buckets, Mapping) else buckets:
            self.buckets[bucket] = self.buckets.get(bucket, 0) + count

    @property
    def mean_us(self) -> float:
        """Microseconds of a call on average; 0 before the first call."""
        timed = sum(self.buckets.values())
        return round(self.nanoseconds / timed / 1000, 1) if timed else 0.0

    @property
    def p99_us(self) -> float:
        """Microseconds within which 99 of 100 calls ended; at most 25 % too high."""
        # One more than the number of calls that may take longer.
        left = sum(self.buckets.values()) // 100 + 1
        for bucket in sorted(self.buckets, reverse=True):
            left -= self.buckets[bucket]
            if left <= 0:
                return round(_end_of(bucket) / 1000, 1)
        return 0.0
