"""Spans as OTLP's messages, with the names of OpenTelemetry's conventions for HTTP.

https://opentelemetry.io/docs/specs/semconv/http/http-spans/ names the attributes; those of
slardar's own begin with ``slardar.``.  Needs the package ``opentelemetry-proto``, so only
what exports spans imports this module.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from typing import Any, Final

from google.protobuf.message import DecodeError  # type: ignore[import-untyped,unused-ignore]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from slardar import __version__
from slardar.http1.record import BY_SERVER, HEDGED, STALE
from slardar.observers.spans import AttemptSpan, RequestSpan

__all__ = ["encoded", "rejected"]

#: The methods that the conventions know; any other is told as ``_OTHER``, for names of spans
#: must be few.
_METHODS: Final = frozenset(
    ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE")
)


def encoded(spans: Iterable[RequestSpan], service: str) -> tuple[bytes, int]:
    """The message that exports these requests, and how many of them it has.

    Those are left out that cannot be written, which only a hostile worker sends.
    """
    message = ExportTraceServiceRequest()
    resource = message.resource_spans.add()
    host = socket.gethostname()
    _set(
        resource.resource,
        ("service.name", service),
        ("service.version", __version__),
        ("service.instance.id", f"{host}:{os.getpid()}"),
        ("host.name", host),
    )
    scope = resource.scope_spans.add()
    scope.scope.name = "slardar"
    scope.scope.version = __version__
    count = 0
    for one in spans:
        try:
            some = _spans(one)
        except ValueError:
            continue
        scope.spans.extend(some)
        count += 1
    return message.SerializeToString(), count


def rejected(body: bytes) -> int:
    """How many spans a collector did not take, as its good answer says."""
    try:
        answer = ExportTraceServiceResponse.FromString(body)
    except DecodeError:
        return 0
    return max(0, int(answer.partial_success.rejected_spans))


def _spans(request: RequestSpan) -> list[Any]:
    """The span of a request, and those of its attempts."""
    trace_id = bytes.fromhex(request.trace_id)
    span_id = bytes.fromhex(request.span_id)
    method = request.method if request.method in _METHODS else "_OTHER"
    name = "HTTP" if method == "_OTHER" else method
    span = Span(
        trace_id=trace_id,
        span_id=span_id,
        parent_span_id=bytes.fromhex(request.parent_id),
        flags=_FLAGS if request.parent_id else 1,
        name=name,
        kind=Span.SPAN_KIND_SERVER,
        start_time_unix_nano=request.started,
        end_time_unix_nano=max(request.started, request.ended),
    )
    _set(
        span,
        ("http.request.method", method),
        ("http.request.method_original", request.method if method == "_OTHER" else ""),
        ("url.scheme", request.scheme),
        ("url.path", request.path),
        ("server.address", request.host),
        ("client.address", request.client),
        ("network.protocol.version", request.protocol),
        ("http.response.status_code", request.status),
        ("error.type", _error_type(request)),
        ("slardar.upstream", request.upstream),
        ("slardar.answered_by", request.answered_by),
        ("slardar.hook", request.hook),
        ("slardar.request_id", request.request_id),
        ("slardar.worker", request.worker),
        ("slardar.attempts", request.tries),
        ("slardar.queued_seconds", request.queued),
    )
    if _error_type(request):
        span.status.code = Status.STATUS_CODE_ERROR
        span.status.message = request.error
    spans = [span]
    for index, attempt in enumerate(request.attempts):
        spans.append(_attempt(request, attempt, index, method, name, trace_id, span_id))
    return spans


#: The parent is another process's span: W3C's sampled flag, and OTLP's two bits for that.
_FLAGS: Final = 0x301
#: The parent is a span of this process.
_LOCAL: Final = 0x101


def _attempt(
    request: RequestSpan,
    attempt: AttemptSpan,
    index: int,
    method: str,
    name: str,
    trace_id: bytes,
    parent: bytes,
) -> Any:
    span = Span(
        trace_id=trace_id,
        span_id=os.urandom(8),
        parent_span_id=parent,
        flags=_LOCAL,
        name=name,
        kind=Span.SPAN_KIND_CLIENT,
        start_time_unix_nano=attempt.started,
        end_time_unix_nano=max(attempt.started, attempt.ended),
    )
    host, _, port = attempt.server.rpartition(":")
    # Neither is the server's fault, and the request goes on.
    is_given_up = attempt.failure in (STALE, HEDGED)
    error = "" if is_given_up else attempt.failure
    if not error and attempt.status >= 400:
        error = str(attempt.status)
    _set(
        span,
        ("http.request.method", method),
        ("http.request.resend_count", index),
        ("url.full", f"http://{attempt.server}{request.sent_path}"),
        ("server.address", host.strip("[]")),
        ("server.port", int(port) if port.isascii() and port.isdigit() else 0),
        ("http.response.status_code", attempt.status),
        ("error.type", error),
        ("slardar.given_up", attempt.failure if is_given_up else ""),
        ("slardar.upstream", request.upstream),
    )
    if error:
        span.status.code = Status.STATUS_CODE_ERROR
        span.status.message = attempt.error
    for event, when in (("connected", attempt.connected), ("first byte", attempt.first_byte)):
        if when:
            span.events.add(name=event, time_unix_nano=when)
    return span


def _error_type(request: RequestSpan) -> str:
    """Why the request has failed; empty if it has not, or if that was the client's fault."""
    if request.status >= 500:
        return str(request.status)
    if request.status == 0:
        return "client_left"
    if request.error and request.answered_by == BY_SERVER:
        return "broken_reply"
    return ""


def _set(target: Any, *attributes: tuple[str, str | int | float]) -> None:
    """Add the attributes that have a value: texts that are not empty, numbers other than 0."""
    for key, value in attributes:
        if not value:
            continue
        added = target.attributes.add(key=key).value
        if isinstance(value, str):
            added.string_value = value
        elif isinstance(value, int):
            added.int_value = value
        else:
            added.double_value = value
