"""What one proxy made of one fault, from the requests of clients and what the server was sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.failover.faults import FAULTS
from benchmarks.failover.load import Sample
from benchmarks.soak.row import percentile

__all__ = ["Outcome", "again_after", "judge", "out_after", "outcome"]

#: So many seconds without a request mean that a server is out: of the load, it would get a
#: request every 16 ms.
GAP = 0.5


@dataclass(frozen=True)
class Outcome:
    """One proxy under one fault."""

    proxy: str
    fault: str
    #: Seconds from the fault's begin to the last request before the server got none for
    #: ``GAP`` seconds; None if this never happened, or could not be seen.
    out: float | None
    #: Seconds from the fault's end to the first good reply of the server; None if none came.
    again: float | None
    #: Requests that the server was sent during the fault; None if this could not be seen.
    sent: int | None
    #: The requests that were under way when the fault began or begin later, and those that
    #: failed.
    requests: int
    gets_failed: int
    posts_failed: int
    #: Why they failed.
    reasons: Mapping[str, int]
    #: The times of those of them that began before the fault's end, failed ones included.
    p50_ms: float
    p99_ms: float


def out_after(sent: Iterable[float], begin: float, end: float) -> float | None:
    """Seconds from ``begin`` until the server got no more requests; None if it got some always.

    A server that gets some again later has been out all the same.
    """
    last = begin
    for at in [*(at for at in sent if begin <= at <= end), end]:
        if at - last >= GAP:
            return last - begin
        last = at
    return None


def again_after(samples: Iterable[Sample], server: str, end: float) -> float | None:
    """Seconds from ``end`` to the first request that ``server`` then answers; None if it does
    not."""
    return min(
        (
            sample.begun - end
            for sample in samples
            if sample.server == server and not sample.failure and sample.begun >= end
        ),
        default=None,
    )


def outcome(
    proxy: str,
    fault: str,
    server: str,
    samples: Sequence[Sample],
    sent: Sequence[float] | None,
    span: tuple[float, float],
) -> Outcome:
    """The outcome of a fault that lasted over ``span``."""
    begin, end = span
    counted = [sample for sample in samples if sample.begun + sample.seconds >= begin]
    failed = [sample for sample in counted if sample.failure]
    meanwhile = [sample.seconds * 1000 for sample in counted if sample.begun <= end]
    return Outcome(
        proxy,
        fault,
        None if sent is None else out_after(sent, begin, end),
        again_after(counted, server, end),
        None if sent is None else sum(begin <= at <= end for at in sent),
        len(counted),
        sum(sample.is_get for sample in failed),
        sum(not sample.is_get for sample in failed),
        Counter(sample.failure for sample in failed),
        percentile(meanwhile, 50),
        percentile(meanwhile, 99),
    )


def judge(fault: str, subject: str, outcomes: Iterable[Outcome]) -> tuple[str, bool | None]:
    """The target for the subject's failed idempotent requests under a fault, and whether it is
    met; None if there is nothing to compare."""
    failed = {found.proxy: found.gets_failed for found in outcomes if found.fault == fault}
    own = failed.pop(subject, None)
    if FAULTS[fault].must_hide:
        return "0", None if own is None else own == 0
    if own is None or not failed:
        return "the fewest of the others", None
    best = min(failed.values())
    return f"≤ {best}", own <= best
