"""Plain counters of requests, as the request path adds to them."""

from __future__ import annotations

from collections.abc import Collection
from math import inf
from typing import Final

from mypy_extensions import i64

from slardar.http1.interfaces import Downstream, Observer, TunnelBase
from slardar.http1.own_replies import NO_REPLY
from slardar.http1.record import BY_HOOK, BY_SLARDAR, HEDGED, STALE, AttemptRecord, RequestRecord

__all__ = ["REASONS", "Bucket", "Counting", "ServerCounts", "UpstreamCounts", "buckets_of"]

#: Why a request has reached no upstream, by the status of slardar's answer.
REASONS: Final = {
    0: "client_left",
    308: "https",
    400: "bad_request",
    408: "timeout",
    413: "body_too_large",
    414: "target_too_long",
    431: "head_too_large",
    # A hook that wants no reply answers itself.
    NO_REPLY: "no_proxy_header",
    501: "not_implemented",
    502: "no_upstream",
    503: "unavailable",
}
#: Any other status, and the answer of a hook.
_OTHER: Final = "other"
_HOOK: Final = "hook"
#: Bytes that a request must have moved to be counted before its end.
_LARGE: Final = 1 << 20


class Bucket:
    """What took no longer than ``bound`` seconds, and longer than the bound before.

    An object for each: a number in it is counted up without an object for the sum.
    """

    __slots__ = ("bound", "count")

    def __init__(self, bound: float) -> None:
        self.bound: float = bound
        self.count: i64 = 0


def buckets_of(bounds: list[float]) -> list[Bucket]:
    """Empty buckets with these bounds, which ascend, and one for what takes longer."""
    return [Bucket(bound) for bound in [*bounds, inf]]


class ServerCounts:
    """The attempts on one server: ``good`` with the status 200, by far the most common one,
    ``codes`` with others (0: no reply), and ``failures`` by their kinds.

    ``buckets`` are the times of attempts that got a reply, as in :class:`UpstreamCounts`; empty
    while nobody looks at servers."""

    __slots__ = ("buckets", "codes", "failures", "good")

    def __init__(self) -> None:
        self.good: i64 = 0
        self.codes: dict[int, int] = {}
        self.failures: dict[str, int] = {}
        self.buckets: list[Bucket] = []


class UpstreamCounts:
    """The requests of one upstream.

    ``good`` and ``codes`` are as in :class:`ServerCounts`, of what clients got; ``buckets`` has
    the times of requests.
    """

    __slots__ = (
        "buckets",
        "bytes_in",
        "bytes_out",
        "codes",
        "exhausted",
        "good",
        "retries",
        "seconds",
        "servers",
    )

    def __init__(self, bounds: list[float]) -> None:
        self.good: i64 = 0
        self.codes: dict[int, int] = {}
        self.buckets: list[Bucket] = buckets_of(bounds)
        #: The seconds of all requests in ``buckets`` together.
        self.seconds: float = 0.0
        self.bytes_in: i64 = 0
        self.bytes_out: i64 = 0
        #: Attempts that followed a failed one, and those that the retry budget forbade.
        self.retries: i64 = 0
        self.exhausted: i64 = 0
        #: By ``host:port``.
        self.servers: dict[str, ServerCounts] = {}


class Counting(Observer):
    """Counts requests until somebody takes the counts.

    ``bounds`` and ``added_bounds`` are the upper ends of the buckets in seconds, ascending:
    of the time of a request, and of the part of it in which no server had the request.
    """

    __slots__ = (
        "_last",
        "_last_name",
        "added",
        "added_bounds",
        "added_seconds",
        "bounds",
        "refused",
        "timed_until",
        "upstreams",
    )

    def __init__(self, bounds: tuple[float, ...], added_bounds: tuple[float, ...]) -> None:
        self.bounds: list[float] = list(bounds)
        self.added_bounds: list[float] = list(added_bounds)
        #: What was counted since the counts were taken last: only what was used is there.
        self.upstreams: dict[str, UpstreamCounts] = {}
        #: Of the upstream of the last request, to which the next one often goes, too.
        self._last: UpstreamCounts | None = None
        self._last_name: str = ""
        #: Requests that reached no upstream, by the reason.
        self.refused: dict[str, int] = {}
        self.added: list[Bucket] = buckets_of(self.added_bounds)
        self.added_seconds: float = 0.0
        #: Until when each server is timed, too, in the seconds of records.  That makes a request
        #: dearer, so somebody has to ask for it again and again.
        self.timed_until: float = 0.0

    def request_ended(self, record: RequestRecord) -> None:
        name = record.upstream
        status = record.status
        if not name:
            if status == 200 and record.answered_by == BY_SLARDAR:
                return  # the answer to a CA: nothing was refused
            reason = _HOOK if record.answered_by == BY_HOOK else REASONS.get(status, _OTHER)
            self.refused[reason] = self.refused.get(reason, 0) + 1
            return
        counts = self._last
        if counts is None or name is not self._last_name:
            counts = self._last = self._of(name)
            self._last_name = name
        counts.bytes_in += record.bytes_in - record.counted_in
        counts.bytes_out += record.bytes_out - record.counted_out
        if status == 200:
            counts.good += 1
        else:
            counts.codes[status] = counts.codes.get(status, 0) + 1
        if record.budget_exhausted:
            counts.exhausted += 1
        held = 0.0
        if record.tries == 1:
            first = record.first
            _count_attempt(counts, first)
            held = (first.ended or record.ended) - first.started
        elif record.tries:
            held = _count_attempts(counts, record)
        if status == 101:
            # How long a tunnel lasts says nothing of how quickly requests are served.
            return
        seconds = record.ended - record.started
        counts.seconds += seconds
        _count_time(counts.buckets, seconds)
        seconds -= held
        if seconds < 0.0:
            seconds = 0.0
        self.added_seconds += seconds
        _count_time(self.added, seconds)
        if record.ended < self.timed_until:
            if record.tries == 1:
                self._time(counts, record.first, held)
            elif record.tries:
                for attempt in record.attempts:
                    took = (attempt.ended or record.ended) - attempt.started
                    self._time(counts, attempt, took)

    def _time(self, counts: UpstreamCounts, attempt: AttemptRecord, seconds: float) -> None:
        """Count the time of an attempt that got a reply."""
        if attempt.status:
            server = counts.servers[attempt.server]
            if not server.buckets:
                server.buckets = buckets_of(self.bounds)
            _count_time(server.buckets, seconds)

    def _of(self, name: str) -> UpstreamCounts:
        counts = self.upstreams.get(name)
        if counts is None:
            counts = self.upstreams[name] = UpstreamCounts(self.bounds)
        return counts

    def take_upstreams(self) -> dict[str, UpstreamCounts]:
        """What was counted of upstreams, which begins anew."""
        taken, self.upstreams = self.upstreams, {}
        self._last = None
        return taken

    def look(
        self, connections: Collection[object], tunnels: Collection[TunnelBase]
    ) -> tuple[dict[str, int], dict[str, int]]:
        """Count the bytes so far of what is under way: a download or a tunnel may last for
        hours.

        Returns how many connections there are by listener, tunnels included, and tunnels by
        upstream.
        """
        by_listener: dict[str, int] = {}
        by_upstream: dict[str, int] = {}
        for connection in connections:
            if isinstance(connection, Downstream):
                listener = connection.listener_id
                by_listener[listener] = by_listener.get(listener, 0) + 1
                record = connection.record
                if record is not None and record.bytes_in + record.bytes_out > _LARGE:
                    self._count_bytes(record)
        for tunnel in tunnels:
            record = tunnel.record
            if record is not None:
                listener, upstream = record.listener, record.upstream
                by_listener[listener] = by_listener.get(listener, 0) + 1
                by_upstream[upstream] = by_upstream.get(upstream, 0) + 1
                self._count_bytes(record)
        return by_listener, by_upstream

    def _count_bytes(self, record: RequestRecord) -> None:
        name = record.upstream
        if not name:
            return
        counts = self._of(name)
        counts.bytes_in += record.bytes_in - record.counted_in
        counts.bytes_out += record.bytes_out - record.counted_out
        record.counted_in, record.counted_out = record.bytes_in, record.bytes_out


def _count_attempts(counts: UpstreamCounts, record: RequestRecord) -> float:
    """Count several attempts; returns the seconds in which a server had the request."""
    held = until = 0.0
    failed = False
    for attempt in record.attempts:
        _count_attempt(counts, attempt)
        if attempt.started >= until and failed:
            counts.retries += 1
        # Where hedged, two attempts go on at a time.
        ended = attempt.ended or record.ended
        held += max(0.0, ended - max(attempt.started, until))
        until = max(until, ended)
        failed = attempt.failure != STALE
    return held


def _count_attempt(counts: UpstreamCounts, attempt: AttemptRecord) -> None:
    server = counts.servers.get(attempt.server)
    if server is None:
        server = counts.servers[attempt.server] = ServerCounts()
    status = attempt.status
    failure = attempt.failure
    if status == 200:
        server.good += 1
    else:
        server.codes[status] = server.codes.get(status, 0) + 1
    if failure and failure != STALE and failure != HEDGED:
        server.failures[failure] = server.failures.get(failure, 0) + 1


def _count_time(buckets: list[Bucket], seconds: float) -> None:
    for bucket in buckets:
        if seconds <= bucket.bound:
            bucket.count += 1
            return
