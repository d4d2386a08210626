"""Traces: every request that has ended has its place in one."""

from __future__ import annotations

from collections.abc import Callable

from slardar.http1.interfaces import Observer
from slardar.http1.record import RequestRecord
from slardar.http1.tracing import Tracer

__all__ = ["Traces"]


class Traces(Observer):
    """The first observer where requests are traced.

    A request gets its context with the head that a server is sent.  One that reached no
    server gets it here, for the observers behind this one.  ``tell(record)`` is called for
    those that are sampled, if spans go anywhere.
    """

    __slots__ = ("_tell", "_tracer")

    def __init__(self, tracer: Tracer, tell: Callable[[RequestRecord], None] | None = None) -> None:
        self._tracer: Tracer = tracer
        self._tell: Callable[[RequestRecord], None] | None = tell

    def request_ended(self, record: RequestRecord) -> None:
        request = record.request
        if record.trace is None and request is not None:
            record.trace = self._tracer.follow(request.head_lines())
        trace = record.trace
        if trace is not None and trace.sampled and self._tell is not None:
            self._tell(record)
