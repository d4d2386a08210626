"""One HTTP exchange with a member of etcd, on a connection of its own and with a deadline."""

# Twisted's client has no types that are strict enough.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IAgentEndpointFactory, IBodyProducer
from zope.interface import implementer

from slardar.errors import StoreError
from slardar.model.names import host_port
from slardar.stores.etcd_messages import AwayError, TooLargeError, printable

__all__ = ["Body", "Bytes", "Connection", "Deadline", "Member", "explained", "reason_of"]

T = TypeVar("T")

#: An answer that goes on arriving may take so many times as long as one that does not.
_PATIENCE: Final = 12


class Member(NamedTuple):
    """Where one member of etcd listens for clients."""

    host: str
    port: int
    secure: bool = False

    @property
    def url(self) -> str:
        """Its URL, without a slash at the end."""
        return f"http{'s' if self.secure else ''}://{host_port(self.host, self.port)}"

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"etcd {self.url}"


@implementer(IAgentEndpointFactory)
class Connection:
    """The one connection of an exchange: an agent makes it, and it can be cut at once."""

    def __init__(self, connect: Callable[[Member], Any], member: Member) -> None:
        self._connect = connect
        self._member = member
        self._transport: Any = None

    @property
    def made(self) -> bool:
        """Whether anything may have been sent."""
        return self._transport is not None

    def endpointForURI(self, uri: Any) -> Any:
        """The agent's question where to connect to."""
        return self

    def connect(self, factory: Any) -> Deferred[Any]:
        """Connect to the member.  The agent takes this for an endpoint's method."""

        def connected(protocol: Any) -> Any:
            self._transport = protocol.transport
            return protocol

        return self._connect(self._member).connect(factory).addCallback(connected)  # type: ignore[no-any-return]

    def cut(self) -> None:
        """End the connection, without waiting for the other side."""
        if self._transport is not None:
            self._transport.abortConnection()


@implementer(IBodyProducer)
class Bytes:
    """A body that is written at once, without a turn of the reactor for each piece."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: Any) -> Deferred[None]:
        """Write the body."""
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing is left to be paused."""

    def resumeProducing(self) -> None:
        """Nothing is left to be resumed."""

    def stopProducing(self) -> None:
        """Nothing is left to be stopped."""


class Deadline:
    """Ends what waits, unless something is heard from time to time."""

    def __init__(self, reactor: Any, seconds: float) -> None:
        self._reactor = reactor
        self.seconds = seconds
        #: Whether the time is over, or the caller has cancelled it.  The error that comes of it
        #: does not tell: a lookup of a name that is cancelled finds no such name, for example.
        self.passed = self.cancelled = False
        self._last = reactor.seconds() + seconds * _PATIENCE

    async def keep(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of ``work``."""
        self._call = self._reactor.callLater(self.seconds, self._expire)
        self._working: Deferred[Any] = Deferred.fromCoroutine(work)
        result: Deferred[Any] = Deferred(self._cancel)

        def worked(found: Any) -> None:
            if not result.called:
                result.callback(found)

        self._working.addBoth(worked)
        try:
            return await result  # type: ignore[no-any-return]
        finally:
            if self._call.active():
                self._call.cancel()

    def heard(self) -> None:
        """Something has arrived."""
        left = min(self.seconds, self._last - self._reactor.seconds())
        if self._call.active() and left > 0:
            self._call.reset(left)

    def _expire(self) -> None:
        self.passed = True
        self._working.cancel()

    def _cancel(self, result: Deferred[Any]) -> None:
        self.cancelled = True
        self._working.cancel()


class Body(Protocol):
    """Gathers a body of ``limit`` bytes at most."""

    def __init__(self, limit: int, heard: Callable[[], None]) -> None:
        self._limit = limit
        self._heard = heard
        self._parts = bytearray()
        self.done: Deferred[bytes] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self._heard()
        self._parts += data
        if len(self._parts) > self._limit:
            self._end(Failure(TooLargeError("")))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        is_whole = reason.check(ResponseDone, PotentialDataLoss)
        self._end(bytes(self._parts) if is_whole else reason)

    def _end(self, result: Any) -> None:
        if not self.done.called:
            self.done.callback(result)


@contextmanager
def explained(name: str, connection: Connection, deadline: Deadline) -> Iterator[None]:
    """Makes StoreErrors of what Twisted raises."""
    try:
        yield
    except StoreError:
        if deadline.cancelled:
            raise CancelledError from None
        raise
    except Exception as error:
        if deadline.cancelled:
            raise CancelledError from None
        if deadline.passed:
            reason = f"no answer within {deadline.seconds:g} s"
        else:
            reason = reason_of(Failure(error))
        lost = connection.made and not deadline.passed
        raise AwayError(f"{name}: {reason}", not connection.made, lost) from None


def reason_of(failure: Failure) -> str:
    """Why an exchange has failed, for a person."""
    error: Any = failure.value
    # Twisted's client wraps what has happened.
    reasons = getattr(error, "reasons", None)
    if reasons:
        return reason_of(reasons[0])
    # OpenSSL raises lists of triples.
    if error.args and isinstance(error.args[0], list):
        return printable("; ".join(str(one[-1]) for one in error.args[0] if one)) or "TLS failed"
    text = printable(str(error)).rstrip(".")
    return text or type(error).__name__
