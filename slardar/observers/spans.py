"""What a span tells, as plain values: they go from workers to the director as JSON.

A hook may take over a worker, and the director reads what that worker sends: so every value
has a limit, which is checked there.  The texts of good workers are cut to fit.
"""

from __future__ import annotations

from time import monotonic, time
from typing import Annotated, Final

from msgspec import Meta, Struct

from slardar.http1.record import AttemptRecord, RequestRecord

__all__ = ["MAX_SPANS", "AttemptSpan", "RequestSpan", "Spans", "span_of"]

#: Requests in one message, at most.
MAX_SPANS: Final = 64
#: Attempts of a request that are told, at most.
_MAX_ATTEMPTS: Final = 16
#: Characters of a text, and of a name.
_MAX_TEXT: Final = 1024
_MAX_NAME: Final = 300

#: Nanoseconds of the epoch; 0: never.
Nanoseconds = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Status = Annotated[int, Meta(ge=0, le=999)]
Name = Annotated[str, Meta(max_length=_MAX_NAME)]
Text = Annotated[str, Meta(max_length=_MAX_TEXT)]
TraceId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{32}\Z")]
SpanId = Annotated[str, Meta(pattern=r"\A[0-9a-f]{16}\Z")]
#: Empty where the trace begins here.
ParentId = Annotated[str, Meta(pattern=r"\A(?:[0-9a-f]{16})?\Z")]


class AttemptSpan(Struct, array_like=True, frozen=True):
    """One attempt on one server; see :class:`slardar.http1.record.AttemptRecord`."""

    server: Name
    started: Nanoseconds
    connected: Nanoseconds
    first_byte: Nanoseconds
    ended: Nanoseconds
    status: Status
    failure: Name
    error: Text


class RequestSpan(Struct, array_like=True, frozen=True):
    """One request; see :class:`slardar.http1.record.RequestRecord`."""

    trace_id: TraceId
    span_id: SpanId
    parent_id: ParentId
    started: Nanoseconds
    ended: Nanoseconds
    client: Name
    scheme: Name
    method: Name
    host: Name
    #: As the client sent it, and as servers got it; without the query, which may have secrets.
    path: Text
    sent_path: Text
    protocol: Name
    status: Status
    answered_by: Name
    upstream: Name
    hook: Name
    error: Text
    request_id: Name
    worker: Name
    #: Seconds for which it waited until a server had room.
    queued: Annotated[float, Meta(ge=0, le=1e9)]
    #: How many attempts there were; the first ones are in ``attempts``.
    tries: Annotated[int, Meta(ge=0, le=2**31)]
    attempts: Annotated[tuple[AttemptSpan, ...], Meta(max_length=_MAX_ATTEMPTS)]


class Spans(Struct, tag="spans", frozen=True):
    """Requests that a worker has sampled, and that have ended."""

    requests: Annotated[tuple[RequestSpan, ...], Meta(max_length=MAX_SPANS)]


def span_of(record: RequestRecord, worker: str) -> RequestSpan | None:
    """The span of a request that has ended; ``None`` if it was not sampled.

    Nothing of the record is needed any more.
    """
    trace, request = record.trace, record.request
    if trace is None or not trace.sampled or request is None:
        return None
    # Of the times only the monotonic ones are known.
    epoch = time() - monotonic()
    return RequestSpan(
        trace.trace_id.decode("ascii"),
        trace.span_id.decode("ascii"),
        trace.parent_id.decode("ascii"),
        _nanoseconds(record.started, epoch),
        _nanoseconds(record.ended, epoch),
        _name(record.client),
        _name(request.scheme),
        _name(record.method),
        record.host[:_MAX_NAME],
        _path(record.uri),
        _path(request.raw_uri),
        "1.1" if request.minor else "1.0",
        record.status,
        record.answered_by,
        record.upstream[:_MAX_NAME],
        record.hook[:_MAX_NAME],
        record.error[:_MAX_TEXT],
        "" if request.request_id is None else _name(request.request_id),
        worker,
        max(0.0, record.queued),
        record.tries,
        tuple([_attempt(one, record.ended, epoch) for one in record.attempts[:_MAX_ATTEMPTS]]),
    )


def _attempt(attempt: AttemptRecord, ended: float, epoch: float) -> AttemptSpan:
    return AttemptSpan(
        attempt.server[:_MAX_NAME],
        _nanoseconds(attempt.started, epoch),
        _nanoseconds(attempt.connected, epoch),
        _nanoseconds(attempt.first_byte, epoch),
        _nanoseconds(attempt.ended or ended, epoch),
        attempt.status,
        attempt.failure,
        attempt.error[:_MAX_TEXT],
    )


def _nanoseconds(seconds: float, epoch: float) -> int:
    return int((seconds + epoch) * 1e9) if seconds else 0


def _name(raw: bytes) -> str:
    return raw[:_MAX_NAME].decode("utf-8", "backslashreplace")[:_MAX_NAME]


def _path(target: bytes) -> str:
    path = target.partition(b"?")[0][:_MAX_TEXT]
    return path.decode("utf-8", "backslashreplace")[:_MAX_TEXT]
