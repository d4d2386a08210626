"""Spans: what is told of a request, in bounded values, and as OTLP's messages."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from twisted.internet import defer
from twisted.internet.task import Clock

from slardar.http1.record import BY_HOOK, BY_SERVER, BY_SLARDAR, HEDGED, STALE, RequestRecord
from slardar.http1.tracing import TraceContext, Tracer
from slardar.observers.otlp import encoded, rejected
from slardar.observers.span_batches import SpanBatches
from slardar.observers.spans import RequestSpan, Spans, span_of
from slardar.observers.traces import Traces
from slardar.workers.messages import decode_from_worker, encode
from tests.integration.collector import attributes_of
from tests.observers.kit import record_of


def sampled_record(**about: Any) -> RequestRecord:
    """The record of a request that was sampled."""
    record = record_of(**about)
    record.trace = TraceContext(b"a" * 32, b"b" * 16, b"c" * 16, True)
    record.answered_by = BY_SERVER
    record.first.status = 200
    return record


def span(record: RequestRecord) -> RequestSpan:
    found = span_of(record, "worker-1")
    assert found is not None
    return found


def written(*records: RequestRecord) -> list[Any]:
    """The spans of requests, as a collector reads them."""
    body, count = encoded([span(record) for record in records], "edge")
    assert count == len(records)
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    (scope,) = resource.scope_spans
    return list(scope.spans)


def test_only_sampled_requests_are_told() -> None:
    """Others have no span; those that reached no server have a context all the same."""
    for share, count in ((0.0, 0), (1.0, 1)):
        told: list[RequestRecord] = []
        record = record_of()
        Traces(Tracer(share), told.append).request_ended(record)
        assert record.trace is not None
        assert len(told) == count
        assert (span_of(record, "") is not None) == bool(count)
    bad = RequestRecord(b"192.0.2.7", None, 1.0)
    Traces(Tracer(1.0), told.append).request_ended(bad)
    assert bad.trace is None
    assert span_of(bad, "") is None
    assert len(told) == 1


def test_context_of_a_request_is_kept() -> None:
    """It is made once: a server has it already."""
    record = sampled_record()
    trace = record.trace
    Traces(Tracer(1.0)).request_ended(record)
    assert record.trace is trace


def test_times_are_those_of_the_day() -> None:
    """In nanoseconds, although the record knows monotonic seconds only."""
    now = time.time_ns()
    found = span(sampled_record(seconds=0.25))
    assert abs(found.ended - now) < 5e9
    assert abs((found.ended - found.started) - 250_000_000) < 1000
    (attempt,) = found.attempts
    assert abs((attempt.connected - attempt.started) - 1_000_000) < 1000
    assert abs((attempt.first_byte - attempt.started) - 200_000_000) < 1000
    # Its end was not noted: it has ended with the request.
    assert attempt.ended == found.ended


def test_span_has_no_query() -> None:
    """Nor headers: both may have secrets."""
    record = sampled_record(target=b"/a?token=secret", headers=b"Cookie: secret\r\n")
    assert (span(record).path, span(record).sent_path) == ("/a", "/a")
    assert b"secret" not in encode(span(record))


def test_values_of_good_workers_fit() -> None:
    """Whatever a client, a hook or a server makes of them."""
    record = sampled_record()
    record.uri = b"/" + b"\xff" * 5000
    record.client = b"x" * 1000
    record.host = record.hook = record.upstream = "\u20ac" * 1000
    record.error = "x" * 5000
    assert record.request is not None
    record.request.request_id = b"\xff" * 5000
    for _ in range(100):
        record.attempt("h" * 1000 + ":80", record.started).error = "x" * 5000
    message = Spans((span(record),))
    assert decode_from_worker(encode(message)) == message
    assert len(encode(message)) < 65536
    assert message.requests[0].tries == 101


@pytest.mark.parametrize(
    "change",
    [
        {"trace_id": "A" * 32},
        {"trace_id": "a" * 31},
        {"trace_id": "a" * 32 + "\n"},
        {"span_id": ""},
        {"parent_id": "c" * 15},
        {"started": -1},
        {"ended": 2**63},
        {"status": 1000},
        {"method": "x" * 301},
        {"path": "x" * 1025},
        {"error": "x" * 1025},
        {"queued": -1.0},
        {"tries": 2**32},
        {"attempts": 17},
    ],
)
def test_values_of_a_hostile_worker_are_refused(change: dict[str, Any]) -> None:
    """The director would have to keep and to write them."""
    good = span(sampled_record())
    if "attempts" in change:
        change = {"attempts": good.attempts * change["attempts"]}
    bad = msgspec.structs.replace(good, **change)
    with pytest.raises(ValueError, match="no message"):
        decode_from_worker(encode(Spans((bad,))))
    with pytest.raises(ValueError, match="no message"):
        decode_from_worker(encode(Spans((good,) * 65)))


def test_what_cannot_be_written_is_left_out() -> None:
    """Half a surrogate is no text for protobuf; the other requests are written."""
    good = span(sampled_record())
    bad = msgspec.structs.replace(good, host="\ud800")
    body, count = encoded([bad, good, bad], "edge")
    assert count == 1
    (resource,) = ExportTraceServiceRequest.FromString(body).resource_spans
    assert len(resource.scope_spans[0].spans) == 2


def test_request_and_attempt() -> None:
    """Names, kinds, parents and flags as OpenTelemetry has them."""
    request, attempt = written(sampled_record())
    assert (request.trace_id, request.span_id) == (b"\xaa" * 16, b"\xbb" * 8)
    assert request.parent_span_id == b"\xcc" * 8
    assert (request.name, request.kind) == ("GET", Span.SPAN_KIND_SERVER)
    assert (attempt.name, attempt.kind) == ("GET", Span.SPAN_KIND_CLIENT)
    assert (attempt.trace_id, attempt.parent_span_id) == (request.trace_id, request.span_id)
    # Sampled; and whether the parent is a span of another process.
    assert (request.flags, attempt.flags) == (0x301, 0x101)
    found = attributes_of(attempt)
    assert (found["server.address"], found["server.port"]) == ("10.0.0.1", 80)
    assert found["url.full"] == "http://10.0.0.1:80/a"


def test_unknown_method_is_no_name() -> None:
    """A client must not fill a collector with names."""
    record = sampled_record()
    record.method = b"REPORT"
    request = written(record)[0]
    assert request.name == "HTTP"
    found = attributes_of(request)
    assert found["http.request.method"] == "_OTHER"
    assert found["http.request.method_original"] == "REPORT"


@pytest.mark.parametrize(
    ("status", "by", "error", "kind"),
    [
        (200, BY_SERVER, "", None),
        (404, BY_SERVER, "", None),
        (413, BY_SLARDAR, "the body of the request is too large", None),
        (444, BY_HOOK, "", None),
        (503, BY_SERVER, "", "503"),
        (502, BY_SLARDAR, "no upstream", "502"),
        (500, BY_HOOK, "a hook failed", "500"),
        (0, "", "the client closed the connection", "client_left"),
        (200, BY_SERVER, "the connection closed too early", "broken_reply"),
    ],
)
def test_failures_of_requests(status: int, by: str, error: str, kind: str | None) -> None:
    """What is the client's fault is none of a server's span."""
    record = sampled_record()
    record.status, record.answered_by, record.error = status, by, error
    request = written(record)[0]
    assert attributes_of(request).get("error.type") == kind
    assert (request.status.code == Status.STATUS_CODE_ERROR) == (kind is not None)


@pytest.mark.parametrize(
    ("status", "failure", "kind", "given_up"),
    [
        (200, "", None, None),
        (404, "", "404", None),
        (503, "status", "status", None),
        (0, "connect", "connect", None),
        (0, STALE, None, STALE),
        (0, HEDGED, None, HEDGED),
    ],
)
def test_failures_of_attempts(
    status: int, failure: str, kind: str | None, given_up: str | None
) -> None:
    """A client's span fails with a 4xx, too; an attempt that was given up has not failed."""
    record = sampled_record()
    record.first.status, record.first.failure = status, failure
    attempt = written(record)[1]
    found = attributes_of(attempt)
    assert (found.get("error.type"), found.get("slardar.given_up")) == (kind, given_up)
    assert (attempt.status.code == Status.STATUS_CODE_ERROR) == (kind is not None)


def test_ipv6_server() -> None:
    """Its address has no brackets, its URL has."""
    record = sampled_record()
    record.first.server = "[::1]:8080"
    found = attributes_of(written(record)[1])
    assert (found["server.address"], found["server.port"]) == ("::1", 8080)
    assert found["url.full"] == "http://[::1]:8080/a"


def test_answer_of_a_collector() -> None:
    """How many spans it did not take; a body that is none counts as a good one."""
    answer = ExportTraceServiceResponse()
    answer.partial_success.rejected_spans = 3
    assert rejected(answer.SerializeToString()) == 3
    assert rejected(b"") == rejected(b"{}") == rejected(b"\xff" * 10) == 0


Sent = list[tuple[Spans, defer.Deferred[Any]]]


@pytest.fixture
def batches() -> tuple[Clock, SpanBatches, Sent]:
    clock = Clock()
    sent: Sent = []

    def send(message: Spans) -> defer.Deferred[Any]:
        sent.append((message, defer.Deferred()))
        return sent[-1][1]

    return clock, SpanBatches(clock, send), sent


def test_spans_go_together(batches: tuple[Clock, SpanBatches, Sent]) -> None:
    """Few after a moment, many at once, and the last ones at the end."""
    clock, target, sent = batches
    one = span(sampled_record())
    target.put(one)
    target.put(one)
    assert sent == []
    clock.advance(0.3)
    assert [len(message.requests) for message, _ in sent] == [2]
    for _ in range(70):
        target.put(one)
    assert [len(message.requests) for message, _ in sent] == [2, 64]
    target.stop()
    assert [len(message.requests) for message, _ in sent] == [2, 64, 6]
    assert clock.getDelayedCalls() == []


def test_director_that_has_no_time(batches: tuple[Clock, SpanBatches, Sent]) -> None:
    """Few messages wait for it; what comes then is dropped and counted, until it answers."""
    clock, target, sent = batches
    one = span(sampled_record())
    for _ in range(64 * 10):
        target.put(one)
    assert (len(sent), target.dropped) == (8, 128)
    ends: list[Callable[[Any], None]] = [sent[0][1].callback, sent[1][1].errback]
    ends[0](b"")
    ends[1](ConnectionError("the link is lost"))
    for _ in range(64 * 3):
        target.put(one)
    assert (len(sent), target.dropped) == (10, 192)
    clock.advance(1)
