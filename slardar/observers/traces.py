"""Traces: every request that has ended has its place in one."""

from __future__ import annotations

from slardar.http1.interfaces import Observer
from slardar.http1.record import RequestRecord
from slardar.http1.tracing import Tracer

__all__ = ["Traces"]


class Traces(Observer):
    """The first observer where requests are traced.

    A request gets its context with the head that a server is sent.  One that reached no
    server gets it here, for the observers behind this one.
    """

    __slots__ = ("_tracer",)

    def __init__(self, tracer: Tracer) -> None:
        self._tracer: Tracer = tracer

    def request_ended(self, record: RequestRecord) -> None:
        request = record.request
        if record.trace is None and request is not None:
            record.trace = self._tracer.follow(request.head_lines())
