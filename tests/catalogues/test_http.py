"""Answers of catalogues, as they come: bounded, and each failure in one line."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any

import pytest
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss

from slardar.catalogues.http import TIMEOUT, Answer, AskError, Ended, Source


class Reply:
    """A reply of the agent whose body the test sends."""

    def __init__(self, code: int = 200) -> None:
        self.code = code
        self.body: Any = None

    def deliverBody(self, body: Any) -> None:
        self.body = body
        body.makeConnection(StringTransport())

    def ends(self, data: bytes = b"", why: Exception | None = None) -> None:
        """Send the rest."""
        self.body.dataReceived(data)
        self.body.connectionLost(Failure(why or ResponseDone()))


class Agent:
    """Answers with what the test has."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, ...]] = []

    def request(self, method: bytes, url: bytes, headers: Any) -> Any:
        self.asked.append((method, url, dict(headers.getAllRawHeaders())))
        return self.answer


def begun(coroutine: Coroutine[Any, Any, Any]) -> Deferred[Any]:
    """A coroutine that runs; what it finds is told by its Deferred."""
    return Deferred.fromCoroutine(coroutine)


def failure_of(deferred: Deferred[Any]) -> str:
    """The message of the AskError with which it has failed."""
    failures: list[Any] = []
    deferred.addErrback(failures.append)
    (failure,) = failures
    assert failure.check(AskError), failure
    return str(failure.value)


def result_of(deferred: Deferred[Any]) -> Any:
    """What has been found."""
    found: list[Any] = []
    deferred.addCallback(found.append)
    return found[0]


@pytest.fixture
def reactor() -> Any:
    return Clock()


@pytest.fixture
def answer(reactor: Any) -> Answer:
    """An answer that may hold 20 bytes."""
    answer = Answer(reactor, 20)
    answer.makeConnection(StringTransport())
    return answer


def test_lines_of_a_stream(answer: Answer) -> None:
    """In whatever pieces they come; empty lines, which keep a connection open, mean nothing."""
    answer.dataReceived(b"on")
    line = begun(answer.line(5))
    assert not line.called
    answer.dataReceived(b"e\n\n\r\ntwo\nth")
    assert result_of(line) == b"one"
    assert result_of(begun(answer.line(5))) == b"two"
    answer.dataReceived(b"ree\n")
    answer.connectionLost(Failure(ResponseDone()))
    assert result_of(begun(answer.line(5))) == b"three"
    assert failure_of(begun(answer.line(5))) == "the answer has ended"


def test_line_that_does_not_come(answer: Answer, reactor: Any) -> None:
    """Nothing is lost: a line that comes later is the next one."""
    line = begun(answer.line(5))
    reactor.advance(4.9)
    assert not line.called
    reactor.advance(0.1)
    assert result_of(line) is None
    answer.dataReceived(b"a\n")
    assert result_of(begun(answer.line(0))) == b"a"
    assert result_of(begun(answer.line(0))) is None


def test_stream_that_holds_too_much(answer: Answer) -> None:
    """Lines that were taken do not count; the connection is closed, and what comes is dropped."""
    for _ in range(9):
        answer.dataReceived(b"0123456789abcdef\n")
        assert result_of(begun(answer.line(5))) == b"0123456789abcdef"
    answer.dataReceived(b"0123456789")
    assert not answer.transport.disconnecting
    line = begun(answer.line(5))
    answer.dataReceived(b"0123456789a")
    assert answer.transport.disconnecting
    answer.dataReceived(b"\n")
    assert failure_of(line) == "it sends more than 20 bytes at a time"
    answer.connectionLost(Failure(ResponseDone()))
    assert failure_of(begun(answer.line(5))) == "it sends more than 20 bytes at a time"


@pytest.mark.parametrize("why", [ResponseDone(), PotentialDataLoss()])
def test_end_of_a_stream(answer: Answer, why: Exception) -> None:
    """Whoever waits for a line is told."""
    line = begun(answer.line(5))
    answer.connectionLost(Failure(why))
    failures: list[Any] = []
    line.addErrback(failures.append)
    assert failures[0].check(Ended)


def test_stream_that_breaks_off(answer: Answer) -> None:
    """The reason is that of the connection."""
    line = begun(answer.line(5))
    answer.connectionLost(Failure(ResponseFailed([Failure(ConnectionLost("reset"))])))
    assert failure_of(line).startswith("the answer broke off: Connection to the other side")


def test_whole_answer(reactor: Any) -> None:
    """Only GET is sent, with the headers that are given."""
    reply = Reply()
    agent = Agent(succeed(reply))
    found = begun(Source(reactor, agent).get("http://a/b", {"authorization": "Bearer x"}))
    reply.body.dataReceived(b"[1,\n")
    assert not found.called
    reply.ends(b"2]")
    assert result_of(found) == b"[1,\n2]"
    ((method, url, headers),) = agent.asked
    assert (method, url, headers[b"Authorization"]) == (b"GET", b"http://a/b", [b"Bearer x"])
    assert reply.body.transport.disconnecting


def test_answer_that_does_not_come(reactor: Any) -> None:
    """It is waited for, but not for ever; neither is its end."""
    source = Source(reactor, Agent(Deferred()))
    found = begun(source.get("http://a/"))
    reactor.advance(TIMEOUT)
    assert failure_of(found) == "no answer within 10 seconds"
    reply = Reply()
    found = begun(Source(reactor, Agent(succeed(reply))).get("http://a/"))
    for _ in range(int(TIMEOUT)):
        reply.body.dataReceived(b" ")
        reactor.advance(1)
    assert failure_of(found) == "no whole answer within 10 seconds"
    assert reply.body.transport.disconnecting


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, b'{"message": "no\\nmemory"}', "it answers HTTP 500: no\\nmemory"),
        (401, b"Unauthorized", "it answers HTTP 401"),
        (301, b"", "it answers HTTP 301"),
        (404, b'{"message": 5}', "it answers HTTP 404"),
        (403, b'{"message": "' + b"x" * 999 + b'"}', "it answers HTTP 403: " + "x" * 200),
    ],
)
def test_bad_status(reactor: Any, status: int, body: bytes, said: str) -> None:
    """What the answer says of it is told, but not any length of it."""
    reply = Reply(status)
    found = begun(Source(reactor, Agent(succeed(reply))).open("http://a/"))
    reply.ends(body)
    assert failure_of(found) == said


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OSError(2, "No such file"), "[Errno 2] No such file"),
        (ResponseFailed([Failure(ResponseFailed([Failure(OSError("x"))]))]), "x"),
        (ValueError("a\nb"), "ValueError: a\\nb"),
    ],
)
def test_nobody_answers(reactor: Any, error: Exception, said: str) -> None:
    """Whatever the agent raises becomes one line."""
    assert failure_of(begun(Source(reactor, Agent(fail(error))).get("http://a/"))) == said


def test_question_that_is_cancelled(reactor: Any) -> None:
    """Nothing goes on."""
    cancelled: list[Any] = []
    found = begun(Source(reactor, Agent(Deferred(cancelled.append))).get("http://a/"))
    found.addErrback(lambda _: None)
    found.cancel()
    assert len(cancelled) == 1
    assert not reactor.getDelayedCalls()
