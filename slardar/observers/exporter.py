"""Posts spans to a collector, as OTLP over HTTP, and never makes anybody wait.

What waits is bounded; what finds no room is dropped and counted.  One post is under way at a
time.  A collector that does not answer, or that is busy, is asked again later: after the
seconds that it has named, else after more and more of them.  The answers by which it is
busy are those of https://opentelemetry.io/docs/specs/otlp/#otlphttp-response.
"""

# Twisted's agent and failures have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import gzip
from collections import deque
from collections.abc import Callable
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IBodyProducer
from zope.interface import implementer

from slardar import __version__
from slardar.backoff import backoff
from slardar.observers.spans import RequestSpan
from slardar.quiet import QuietPool

__all__ = ["Exporter"]

#: Requests that wait at most: a second of a busy machine.
_MOST: Final = 4096
#: Requests in a post, and seconds that one waits for others at most.  A post of 128 takes
#: the director some milliseconds.
_BATCH: Final = 128
_TICK: Final = 1.0
#: Seconds for a connection, and for a whole post.
_CONNECT: Final = 5.0
_POST: Final = 10.0
#: Seconds until the next try: the first time, at most, and at most if the collector has
#: named them.
_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
_LONGEST_ASKED: Final = 300.0
#: Seconds for what waits when the process stops.
_LAST: Final = 2.0
#: Bytes of an answer that are read.
_MAX_ANSWER: Final = 65536
#: Statuses by which a collector asks for another try.
_BUSY: Final = frozenset((429, 502, 503, 504))
#: Seconds between two lines of the log about what is lost.
_COMPLAINTS: Final = 60.0

_log: Final = Logger("slardar.tracing")


class Exporter:
    """Posts the spans of requests to ``url``.

    ``encode(spans)`` gives the message and how many requests it has; ``count_rejected(body)``
    reads a good answer.  ``agent`` and ``seconds`` are for tests.
    """

    def __init__(
        self,
        reactor: Any,
        url: bytes,
        encode: Callable[[list[RequestSpan]], tuple[bytes, int]],
        count_rejected: Callable[[bytes], int],
        agent: Any = None,
        most: int = _MOST,
    ) -> None:
        self._reactor = reactor
        self._url = url
        self._encode = encode
        self._count_rejected = count_rejected
        self._pool: Any = None
        self._agent = agent
        self._most = most
        self._queue: deque[RequestSpan] = deque()
        #: Requests whose spans a collector has taken, and that were dropped.
        self.exported = self.dropped = 0
        #: The post that is tried, compressed, and how many requests it has.
        self._body: bytes | None = None
        self._count = 0
        #: The post under way.
        self._post: defer.Deferred[Any] | None = None
        #: The call that posts next.
        self._next: Any = None
        #: Tries in a row that have failed.
        self._failures = 0
        self._next_complaint = 0.0
        #: Fires when everything is over; ``None`` before :meth:`stop`.
        self._ended: defer.Deferred[None] | None = None
        self._late: Any = None

    def put(self, span: RequestSpan) -> None:
        """Take the span of one more request."""
        if self._ended is not None or len(self._queue) >= self._most:
            self.dropped += 1
            return
        self._queue.append(span)
        if self._post is not None:
            return
        if self._next is None:
            self._next = self._reactor.callLater(_TICK, self._send)
        elif not self._failures and len(self._queue) == _BATCH:
            self._next.reset(0)

    # Posts.

    def _send(self) -> None:
        self._next = None
        if self._body is None:
            size = min(len(self._queue), _BATCH)
            body, self._count = self._encode([self._queue.popleft() for _ in range(size)])
            self.dropped += size - self._count
            self._body = gzip.compress(body, 5)
        post = self._post = defer.ensureDeferred(self._ask(self._body))
        post.addTimeout(_POST, self._reactor)
        post.addCallbacks(self._answered, self._failed)
        post.addErrback(self._broken)

    async def _ask(self, body: bytes) -> tuple[int, float | None, bytes]:
        """Status, seconds to wait and body of the collector's answer."""
        if self._agent is None:
            self._pool = QuietPool(self._reactor)
            self._agent = Agent(self._reactor, connectTimeout=_CONNECT, pool=self._pool)
        headers = Headers(
            {
                "Content-Type": ["application/x-protobuf"],
                "Content-Encoding": ["gzip"],
                "User-Agent": [f"slardar/{__version__}"],
            }
        )
        response = await self._agent.request(b"POST", self._url, headers, _Body(body))
        reader = _Reader()
        response.deliverBody(reader)
        answer = await reader.done
        asked = response.headers.getRawHeaders(b"retry-after", [b""])[0]
        return response.code, _seconds_of(asked), answer

    def _answered(self, answer: tuple[int, float | None, bytes]) -> None:
        code, asked, body = answer
        if code in _BUSY:
            self._try_again(f"it answers {code}", asked)
            return
        lost = self._count
        if 200 <= code < 300:
            # It tells how many spans it did not take, and a request has at least one.
            lost = min(lost, self._count_rejected(body))
        self.exported += self._count - lost
        self.dropped += lost
        if lost:
            self._complain(f"the collector did not take spans of {lost} requests ({code})")
        if self._failures:
            self._failures = 0
            _log.info("traces: {url} takes spans again", url=self._url.decode())
        self._post = self._body = None
        self._go_on()

    def _failed(self, failure: Failure) -> None:
        text = "no answer in time" if failure.check(defer.TimeoutError) else _text_of(failure)
        self._try_again(text, None)

    def _try_again(self, reason: str, asked: float | None) -> None:
        self._post = None
        if self._ended is not None:
            self._give_up()
            return
        if not self._failures:
            self._complain(f"cannot be posted: {reason}; spans wait for it")
        seconds = backoff(_PAUSE, _LONGEST_PAUSE, self._failures)
        self._failures += 1
        self._next = self._reactor.callLater(seconds if asked is None else asked, self._send)

    def _broken(self, failure: Failure) -> None:
        """A bug: the next spans may fare better."""
        _log.failure("spans could not be posted", failure=failure)
        self.dropped += self._count
        self._post = self._body = None
        self._go_on()

    def _go_on(self) -> None:
        if self._queue:
            is_full = len(self._queue) >= _BATCH or self._ended is not None
            self._next = self._reactor.callLater(0 if is_full else _TICK, self._send)
        elif self._ended is not None:
            self._end()

    def _complain(self, text: str) -> None:
        now = self._reactor.seconds()
        if now >= self._next_complaint:
            self._next_complaint = now + _COMPLAINTS
            _log.warn("traces: {url}: {text}", url=self._url.decode(), text=text)

    # The end.

    def stop(self) -> defer.Deferred[None]:
        """Post what waits, with one try and for two seconds at most."""
        done: defer.Deferred[None] = defer.Deferred()
        if self._ended is not None:
            self._ended.chainDeferred(done)
            return done
        self._ended = done
        if self._next is not None:
            self._next.cancel()
            self._next = None
        self._late = self._reactor.callLater(_LAST, self._out_of_time)
        if self._post is None:
            if self._body is None and not self._queue:
                self._end()
            else:
                self._send()
        return done

    def _out_of_time(self) -> None:
        if self._post is not None:
            # Ends in _failed.
            self._post.cancel()
        else:
            self._give_up()

    def _give_up(self) -> None:
        lost = len(self._queue) + (0 if self._body is None else self._count)
        self._queue.clear()
        self._body = None
        self.dropped += lost
        self._next_complaint = 0.0
        self._complain(f"the spans of {lost} requests are lost, for slardar stops")
        self._end()

    def _end(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None
        if self._late is not None and self._late.active():
            self._late.cancel()
        closed = None if self._pool is None else self._pool.closeCachedConnections()
        ended = self._ended
        if ended is not None and not ended.called:
            if closed is None:
                ended.callback(None)
            else:
                closed.addBoth(lambda _: ended.callback(None))


@implementer(IBodyProducer)
class _Body:
    """Bytes that are there already."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.length = len(data)

    def startProducing(self, consumer: Any) -> defer.Deferred[None]:
        consumer.write(self._data)
        return defer.succeed(None)

    def pauseProducing(self) -> None:
        pass

    def resumeProducing(self) -> None:
        pass

    def stopProducing(self) -> None:
        pass


class _Reader(Protocol):
    """Reads an answer; the connection of one that is too long is given up."""

    def __init__(self) -> None:
        self.done: defer.Deferred[bytes] = defer.Deferred(lambda _: self._abort())
        self._data = b""

    def dataReceived(self, data: bytes) -> None:
        self._data += data
        if len(self._data) > _MAX_ANSWER:
            self._abort()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if not self.done.called:
            self.done.callback(self._data[:_MAX_ANSWER])

    def _abort(self) -> None:
        if self.transport is not None:
            self.transport.loseConnection()


def _seconds_of(value: bytes) -> float | None:
    """The seconds of a Retry-After (RFC 9110 10.2.3), bounded; ``None`` without a good one."""
    text = value.decode("latin-1").strip()
    if text.isascii() and text.isdigit():
        # A number of any length.
        return min(float(text), _LONGEST_ASKED)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        when = when.replace(tzinfo=timezone.utc)
    seconds = (when - datetime.now(timezone.utc)).total_seconds()
    return min(max(0.0, seconds), _LONGEST_ASKED)


def _text_of(failure: Failure) -> str:
    """A failure in one line: twisted.web wraps the reasons in lists."""
    reasons = getattr(failure.value, "reasons", None)
    if reasons:
        return _text_of(reasons[0])
    return " ".join(failure.getErrorMessage().split())[:200] or str(failure.type)
