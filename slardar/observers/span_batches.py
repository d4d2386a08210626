"""From a worker to the director: spans, many in a message, and few messages at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, Protocol

from twisted.internet import defer

from slardar.observers.spans import MAX_SPANS, RequestSpan, Spans

__all__ = ["SpanBatches", "SpanTarget"]

#: Seconds that a span waits for others at most.
_TICK: Final = 0.25
#: Messages that the other side has not answered, at most; then it has no time for more.
_UNANSWERED: Final = 8


class SpanTarget(Protocol):
    """Takes spans; nothing of it blocks."""

    #: Spans of requests that were handed on, and that were dropped.
    exported: int
    dropped: int

    def put(self, span: RequestSpan) -> None:
        """Take the span of one more request."""

    def stop(self) -> defer.Deferred[None]:
        """Hand on what there is; fires when that is done, or cannot be in time."""


class SpanBatches:
    """Sends spans with ``send(message)``, whose Deferred fires when the message has been
    answered; drops and counts them while too many messages are under way."""

    def __init__(self, reactor: Any, send: Callable[[Spans], defer.Deferred[Any]]) -> None:
        self._reactor = reactor
        self._send = send
        self.exported = self.dropped = 0
        self._spans: list[RequestSpan] = []
        self._unanswered = 0
        self._tick: Any = None

    def put(self, span: RequestSpan) -> None:
        self._spans.append(span)
        if len(self._spans) >= MAX_SPANS:
            self._flush()
        elif self._tick is None:
            self._tick = self._reactor.callLater(_TICK, self._ticked)

    def _ticked(self) -> None:
        self._tick = None
        self._flush()

    def _flush(self) -> None:
        if self._tick is not None:
            self._tick.cancel()
            self._tick = None
        spans, self._spans = self._spans, []
        if not spans:
            return
        if self._unanswered >= _UNANSWERED:
            self.dropped += len(spans)
            return
        self._unanswered += 1
        self._send(Spans(tuple(spans))).addBoth(self._answered)

    def _answered(self, _: Any) -> None:
        # If the message was lost, so is the link, and this process ends.
        self._unanswered -= 1

    def stop(self) -> defer.Deferred[None]:
        self._flush()
        return defer.succeed(None)
