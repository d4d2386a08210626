"""HTTP to a service catalogue: whole answers, and streams of lines, all of bounded size.

Only GET is ever sent.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import msgspec
from twisted.internet import defer, error
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone, ResponseFailed
from twisted.web.http import PotentialDataLoss
from twisted.web.http_headers import Headers

__all__ = ["LIMIT", "TIMEOUT", "Answer", "AskError", "Ended", "Source", "decoded"]

#: Bytes of an answer, and of what a stream sends that nobody has taken yet.
LIMIT: Final = 16 << 20
#: Seconds until an answer begins, and until it is whole.
TIMEOUT: Final = 10.0
#: Characters of what a catalogue says of an error.
_MAX_SAID: Final = 200

T = TypeVar("T")


class AskError(Exception):
    """A catalogue cannot be asked, or its answer cannot be used.  The message is one line.

    ``status`` is that of HTTP, 0 without one.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(" ".join(message.split()))
        self.status = status


class Ended(AskError):
    """A stream has ended."""


class _Said(msgspec.Struct):
    """What Docker and Kubernetes say of an error."""

    message: str = ""


class Answer(Protocol):
    """The body of an answer, as it comes.  Whoever has it reads it with :meth:`whole`, or line by
    line, and then calls :meth:`close`."""

    def __init__(self, reactor: Any, limit: int = LIMIT) -> None:
        self._reactor = reactor
        self._limit = limit
        self._held = bytearray()
        #: How much of it has no end of a line.
        self._searched = 0
        #: Why nothing more comes; ``None`` while more may come.
        self._over: AskError | None = None
        self._waiting: defer.Deferred[None] | None = None

    def dataReceived(self, data: bytes) -> None:
        """More has come."""
        if self._over is not None:
            return
        if len(self._held) + len(data) > self._limit:
            self._end(AskError(f"it sends more than {self._limit} bytes at a time"))
            self.close()
            return
        self._held += data
        self._wake()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The answer has ended, or the connection has."""
        if isinstance(reason.value, ResponseDone | PotentialDataLoss):
            self._end(Ended("the answer has ended"))
        else:
            self._end(AskError(f"the answer broke off: {_why(reason.value)}"))

    def close(self) -> None:
        """Read no more."""
        if self.transport is not None:
            self.transport.loseConnection()

    async def whole(self) -> bytes:
        """All of it.  Raises AskError."""
        until = self._reactor.seconds() + TIMEOUT
        while self._over is None:
            if not await self._more(until):
                raise AskError(f"no whole answer within {TIMEOUT:g} seconds")
        if not isinstance(self._over, Ended):
            raise self._over
        return bytes(self._held)

    async def line(self, until: float) -> bytes | None:
        """The next line that is not empty; ``None`` if none comes before ``until``, in the
        reactor's seconds.  Raises AskError, :class:`Ended` at the end."""
        while True:
            end = self._held.find(b"\n", self._searched)
            if end >= 0:
                found = bytes(self._held[:end]).strip()
                del self._held[: end + 1]
                self._searched = 0
                if found:
                    return found
                continue
            self._searched = len(self._held)
            if self._over is not None:
                raise self._over
            if not await self._more(until):
                return None

    async def _more(self, until: float) -> bool:
        """Wait until something has happened; whether it has before ``until``."""
        delay = until - self._reactor.seconds()
        if delay <= 0:
            return False
        self._waiting = defer.Deferred()
        try:
            await self._waiting.addTimeout(delay, self._reactor)
        except defer.TimeoutError:
            return False
        finally:
            self._waiting = None
        return True

    def _end(self, why: AskError) -> None:
        self._over = self._over or why
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.called:
            self._waiting.callback(None)


class Source:
    """Sends GET with ``agent``, a :class:`twisted.web.client.Agent`."""

    def __init__(self, reactor: Any, agent: Any) -> None:
        self._reactor = reactor
        self._agent = agent

    async def get(self, url: str, headers: Mapping[str, str] | None = None) -> bytes:
        """The body of a good answer.  Raises AskError."""
        answer = await self.open(url, headers)
        try:
            return await answer.whole()
        finally:
            answer.close()

    async def open(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """A good answer, whose body is to be read.  Raises AskError."""
        sent = Headers({"user-agent": ["slardar"], "accept": ["application/json"]})
        for name, value in (headers or {}).items():
            sent.setRawHeaders(name, [value])
        asked = self._agent.request(b"GET", url.encode("ascii"), sent)
        try:
            response = await asked.addTimeout(TIMEOUT, self._reactor)
        except defer.TimeoutError:
            raise AskError(f"no answer within {TIMEOUT:g} seconds") from None
        except defer.CancelledError:
            raise
        except (error.ConnectError, error.ConnectionClosed, ResponseFailed, OSError) as problem:
            raise AskError(_why(problem)) from None
        except Exception as problem:  # TLS and the parser of HTTP have many kinds.
            raise AskError(f"{type(problem).__name__}: {_why(problem)}") from None
        answer = Answer(self._reactor)
        response.deliverBody(answer)
        if response.code == 200:
            return answer
        try:
            said = decoded(await answer.whole(), _Said).message
        except AskError:
            said = ""
        finally:
            answer.close()
        said = f": {ascii(said[:_MAX_SAID])[1:-1]}" if said else ""
        raise AskError(f"it answers HTTP {response.code}{said}", response.code)


def decoded(text: bytes, kind: type[T]) -> T:
    """JSON as ``kind`` declares it.  Raises AskError."""
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise AskError(f"it sends what cannot be read: {problem}") from None


def _why(problem: BaseException | None) -> str:
    """The reason in an error of Twisted, which may be wrapped in others."""
    while isinstance(problem, ResponseFailed) and problem.reasons:
        problem = problem.reasons[-1].value
    return ascii(str(problem) or type(problem).__name__)[1:-1][:_MAX_SAID]
