"""How often a hook was called, how often it failed, and how long it took."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

__all__ = ["CallStats", "bucket_of"]

#: Parts of each doubling of the time: a bucket is at most a quarter wider than the last.
_PARTS = 4


def bucket_of(nanoseconds: int) -> int:
    """The bucket of a time: 4 for each doubling, so that it is known within 25 %."""
    bits = nanoseconds.bit_length()
    return (bits << 2) | ((nanoseconds >> (bits - 3)) & 3) if bits > 2 else nanoseconds


def _end_of(bucket: int) -> int:
    """The nanoseconds at which a bucket ends."""
    bits, part = bucket >> 2, bucket & 3
    return (_PARTS + part + 1) << (bits - 3) if bits > 2 else bucket + 1


class CallStats:
    """Counters that only grow, and can be added up."""

    __slots__ = ("buckets", "calls", "errors", "nanoseconds")

    def __init__(self) -> None:
        self.calls = 0
        self.errors = 0
        self.nanoseconds = 0
        #: How many calls took a time of each bucket.
        self.buckets: dict[int, int] = {}

    def took(self, nanoseconds: int) -> None:
        """A call has ended, well or not."""
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
        return round(self.nanoseconds / self.calls / 1000, 1) if self.calls else 0.0

    @property
    def p99_us(self) -> float:
        """Microseconds within which 99 of 100 calls ended, at most 25 % too many."""
        # How many calls may take longer, and one more.
        left = self.calls // 100 + 1
        for bucket in sorted(self.buckets, reverse=True):
            left -= self.buckets[bucket]
            if left <= 0:
                return round(_end_of(bucket) / 1000, 1)
        return 0.0
