"""Posting spans: batches, other tries, what is dropped, and the end."""

from __future__ import annotations

import gzip
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers

from slardar.observers.exporter import Exporter, _seconds_of


class FakeResponse:
    """An answer whose body is there."""

    def __init__(self, code: int, body: bytes, headers: dict[str, str]) -> None:
        self.code = code
        self.headers = Headers({name: [value] for name, value in headers.items()})
        self._body = body

    def deliverBody(self, protocol: Any) -> None:
        protocol.dataReceived(self._body)
        protocol.connectionLost(Failure(ResponseDone()))


class FakeAgent:
    """Keeps what is posted until a test answers."""

    def __init__(self) -> None:
        self.bodies: list[list[int]] = []
        self._waiting: defer.Deferred[Any] | None = None
        self.cancelled = 0

    def request(self, method: bytes, url: bytes, headers: Any, body: Any) -> Any:
        assert (method, url) == (b"POST", b"http://c/v1/traces")
        assert self._waiting is None, "one post at a time"
        written: list[bytes] = []
        body.startProducing(type("Consumer", (), {"write": staticmethod(written.append)}))
        assert body.length == len(written[0])
        self.bodies.append([int(text) for text in gzip.decompress(written[0]).split()])
        self._waiting = defer.Deferred(self._cancel)
        return self._waiting

    def _cancel(self, _: Any) -> None:
        self.cancelled += 1
        self._waiting = None

    def answer(self, code: int = 200, body: bytes = b"0", **headers: str) -> None:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        waiting.callback(FakeResponse(code, body, headers))

    def fail(self) -> None:
        waiting, self._waiting = self._waiting, None
        assert waiting is not None
        waiting.errback(Failure(ConnectionRefusedError("refused")))


def encode(spans: list[Any]) -> tuple[bytes, int]:
    good = [span for span in spans if span >= 0]
    return b" ".join(b"%d" % span for span in good), len(good)


class Kit:
    def __init__(self, most: int = 1000) -> None:
        self.clock = Clock()
        self.agent = FakeAgent()
        self.exporter = Exporter(self.clock, b"http://c/v1/traces", encode, int, self.agent, most)

    def put(self, *spans: Any) -> None:
        for span in spans:
            self.exporter.put(span)

    @property
    def counts(self) -> tuple[int, int]:
        return self.exporter.exported, self.exporter.dropped


@pytest.fixture
def kit() -> Kit:
    return Kit()


def test_few_spans_wait_for_others(kit: Kit) -> None:
    """For a second; many do not wait."""
    kit.put(1, 2)
    kit.clock.advance(0.9)
    assert kit.agent.bodies == []
    kit.clock.advance(0.2)
    assert kit.agent.bodies == [[1, 2]]
    kit.agent.answer()
    assert kit.counts == (2, 0)
    assert kit.clock.getDelayedCalls() == []
    kit.put(*range(300))
    kit.clock.advance(0)
    assert kit.agent.bodies[1:] == [list(range(128))]
    kit.agent.answer()
    kit.clock.advance(0)
    assert kit.agent.bodies[2] == list(range(128, 256))
    kit.agent.answer()
    kit.clock.advance(0.5)
    assert len(kit.agent.bodies) == 3
    kit.clock.advance(0.6)
    assert kit.agent.bodies[3] == list(range(256, 300))


def test_overflow_is_dropped_and_counted() -> None:
    """The spans that wait are as many as may, and the others are gone."""
    kit = Kit(most=10)
    kit.put(*range(25))
    kit.clock.advance(1)
    assert kit.agent.bodies == [list(range(10))]
    kit.agent.answer()
    assert kit.counts == (10, 15)


@pytest.mark.parametrize("code", [429, 502, 503, 504])
def test_busy_collector_is_asked_again(kit: Kit, code: int) -> None:
    """With the same post, after the seconds that it has named."""
    kit.put(1)
    kit.clock.advance(1)
    kit.agent.answer(code, **{"Retry-After": "7"})
    kit.put(2)
    kit.clock.advance(6.9)
    assert len(kit.agent.bodies) == 1
    kit.clock.advance(0.2)
    assert kit.agent.bodies == [[1], [1]]
    kit.agent.answer()
    assert kit.counts == (1, 0)
    kit.clock.advance(1)
    assert kit.agent.bodies[2] == [2]


def test_pauses_grow_and_end(kit: Kit) -> None:
    """Up to half a minute, and are short again after a good answer."""
    kit.put(1)
    kit.clock.advance(1)
    for longest in (1, 2, 4, 8, 16, 30, 30):
        kit.agent.fail()
        tries = len(kit.agent.bodies)
        kit.clock.advance(longest / 2 - 0.01)
        assert len(kit.agent.bodies) == tries
        kit.clock.advance(longest / 2 + 0.02)
        assert len(kit.agent.bodies) == tries + 1
    kit.agent.answer()
    kit.put(2)
    kit.clock.advance(1)
    kit.agent.fail()
    kit.clock.advance(1)
    assert kit.agent.bodies[-1] == [2]
    assert kit.counts == (1, 0)


def test_collector_that_does_not_answer(kit: Kit) -> None:
    """The post is given up after ten seconds, and tried again."""
    kit.put(1)
    kit.clock.advance(1)
    kit.clock.advance(10)
    assert kit.agent.cancelled == 1
    kit.clock.advance(1)
    assert kit.agent.bodies == [[1], [1]]


@pytest.mark.parametrize("code", [400, 401, 404, 413, 500])
def test_refused_spans_are_dropped(kit: Kit, code: int) -> None:
    """They would be refused again; the next ones may not be."""
    kit.put(1, 2)
    kit.clock.advance(1)
    kit.agent.answer(code)
    assert kit.counts == (0, 2)
    kit.put(3)
    kit.clock.advance(1)
    assert kit.agent.bodies == [[1, 2], [3]]


def test_spans_that_are_not_taken_are_counted(kit: Kit) -> None:
    """By a good answer; and those that cannot be written."""
    kit.put(1, -1, 2)
    kit.clock.advance(1)
    kit.agent.answer(200, b"1")
    assert kit.counts == (1, 2)


def test_stop_posts_what_waits(kit: Kit) -> None:
    """Without waiting for more; nothing is taken afterwards."""
    kit.put(*range(200))
    done: list[Any] = []
    kit.exporter.stop().addCallback(done.append)
    kit.agent.answer()
    kit.clock.advance(0)
    kit.agent.answer()
    assert done == [None]
    kit.put(1)
    assert kit.counts == (200, 1)
    assert kit.clock.getDelayedCalls() == []


def test_stop_is_short(kit: Kit) -> None:
    """A collector that does not answer has two seconds; one that fails gets no other try."""
    for fails in (False, True):
        kit = Kit()
        kit.put(*range(200))
        kit.clock.advance(0)
        done: list[Any] = []
        kit.exporter.stop().addCallback(done.append)
        if fails:
            kit.agent.fail()
        else:
            kit.clock.advance(1.9)
            assert done == []
            kit.clock.advance(0.2)
        assert done == [None]
        assert kit.counts == (0, 200)
        assert kit.clock.getDelayedCalls() == []


def test_stop_while_nothing_waits(kit: Kit) -> None:
    """At once, and a second time."""
    done: list[Any] = []
    kit.exporter.stop().addCallback(done.append)
    kit.exporter.stop().addCallback(done.append)
    assert done == [None, None]


def test_retry_after() -> None:
    """Seconds or a date, bounded; anything else is none."""
    later = datetime.now(timezone.utc) + timedelta(seconds=60)
    assert _seconds_of(b"5") == 5
    assert _seconds_of(b"9" * 400) == 300
    assert 50 < (_seconds_of(format_datetime(later, usegmt=True).encode()) or 0) <= 60
    assert _seconds_of(b"Sun, 06 Nov 1994 08:49:37 GMT") == 0
    for value in (b"", b"soon", b"-1", b"1.5", b"\xb2"):
        assert _seconds_of(value) is None
