"""What was counted since it was told last, as one process tells it to another.

A worker tells the director, and a process that is replaced its successor.  The numbers are
differences, so whoever takes them only adds; a worker that dies takes nothing back.  Every
value that a worker sends is checked.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Annotated

from msgspec import Meta, Struct

from slardar.observers.counts import Bucket, Counting, ServerCounts, UpstreamCounts, buckets_of

__all__ = ["Counted", "HookCounted", "Present", "ServerCounted", "UpstreamCounted", "counted_in"]

#: At most the largest integer that a double holds exactly; no counter comes near it.
Counter = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(ge=0, le=1e15)]
Code = Annotated[int, Meta(ge=0, le=999)]
#: The name of an upstream, a server (``host:port``), a listener, or a hook.
Label = Annotated[str, Meta(max_length=400)]
Buckets = Annotated[tuple[Counter, ...], Meta(max_length=101)]
Codes = dict[Code, Counter]
Kinds = Annotated[
    dict[Annotated[str, Meta(pattern=r"\A[a-z_]{1,20}\Z")], Counter], Meta(max_length=20)
]


class ServerCounted(Struct, array_like=True, frozen=True):
    """The attempts on one server, as :class:`slardar.observers.counts.ServerCounts`."""

    server: Label
    codes: Codes
    failures: Kinds = {}
    ejections: Counter = 0
    #: Empty: its replies were not timed.
    buckets: Buckets = ()


class UpstreamCounted(Struct, array_like=True, frozen=True):
    """The requests of one upstream, as :class:`slardar.observers.counts.UpstreamCounts`."""

    upstream: Label
    codes: Codes = {}
    #: Empty: none of the upstream's requests is told here.
    buckets: Buckets = ()
    seconds: Seconds = 0.0
    bytes_in: Counter = 0
    bytes_out: Counter = 0
    retries: Counter = 0
    exhausted: Counter = 0
    servers: tuple[ServerCounted, ...] = ()


class HookCounted(Struct, array_like=True, frozen=True):
    """The calls of one hook, in all its versions."""

    calls: Counter
    errors: Counter
    seconds: Seconds


class Counted(Struct, tag="counted", frozen=True):
    """A part of what was counted since the last message of this kind."""

    upstreams: tuple[UpstreamCounted, ...] = ()
    refused: Kinds = {}
    added: Buckets = ()
    added_seconds: Seconds = 0.0
    #: What a process that is replaced tells beside that.
    hooks: dict[Label, HookCounted] = {}
    restarts: Counter = 0
    dropped: Counter = 0
    #: The bounds of the buckets, if they may be other ones than the taker's.
    bounds: tuple[float, ...] | None = None
    added_bounds: tuple[float, ...] | None = None


class Present(Struct, tag="present", frozen=True):
    """What there is in a worker at present, which ends with it: client connections by
    listener, and tunnels by upstream."""

    connections: Annotated[dict[Label, Counter], Meta(max_length=10000)] = {}
    tunnels: dict[Label, Counter] = {}


def counted_in(counting: Counting, size: int) -> Iterator[Counted]:
    """Take what ``counting`` has counted, in parts of about ``size`` servers.

    What is counted between two parts is told the next time.
    """
    upstreams = counting.take_upstreams()
    added = _counts(counting.added)
    if counting.refused or counting.added_seconds or any(added):
        refused, counting.refused = counting.refused, {}
        counting.added = buckets_of(counting.added_bounds)
        seconds, counting.added_seconds = counting.added_seconds, 0.0
        yield Counted(refused=refused, added=added, added_seconds=seconds)
    found: list[UpstreamCounted] = []
    room = size
    for name, counts in upstreams.items():
        servers = iter(counts.servers.items())
        part = _servers(servers, room)
        found.append(_upstream(name, counts, part))
        # An upstream costs as much as a server, if only a little is known of it.
        room -= max(1, len(part))
        while room <= 0:
            yield Counted(tuple(found))
            found, room = [], size
            part = _servers(servers, room)
            if part:
                found.append(UpstreamCounted(name, servers=part))
                room -= len(part)
    if found:
        yield Counted(tuple(found))


def _servers(servers: Iterator[tuple[str, ServerCounts]], size: int) -> tuple[ServerCounted, ...]:
    return tuple(
        ServerCounted(
            key, _codes(about.good, about.codes), about.failures, buckets=_counts(about.buckets)
        )
        for key, about in islice(servers, size)
    )


def _upstream(
    name: str, counts: UpstreamCounts, servers: tuple[ServerCounted, ...]
) -> UpstreamCounted:
    return UpstreamCounted(
        name,
        _codes(counts.good, counts.codes),
        _counts(counts.buckets),
        counts.seconds,
        counts.bytes_in,
        counts.bytes_out,
        counts.retries,
        counts.exhausted,
        servers,
    )


def _counts(buckets: list[Bucket]) -> tuple[int, ...]:
    return tuple([bucket.count for bucket in buckets])


def _codes(good: int, others: dict[int, int]) -> dict[int, int]:
    return {200: good, **others} if good else others
