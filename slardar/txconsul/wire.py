"""One question to one agent over HTTP: sent by treq, answered in time and in bounds, or an error.

The connections are kept in a pool of Twisted's.  Its habit of asking again by itself is off: who
asks knows better whether a question may be asked twice.
"""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from weakref import WeakSet

from OpenSSL import SSL
from service_identity import VerificationError
from treq.client import HTTPClient as Treq
from twisted.internet import defer
from twisted.internet.abstract import isIPAddress, isIPv6Address
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    wrapClientTLS,
)
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from twisted.web.client import URI, HTTPConnectionPool, ResponseDone
from twisted.web.client import Agent as TwistedAgent
from twisted.web.http_headers import Headers
from twisted.web.iweb import IAgent, IAgentEndpointFactory
from zope.interface import implementer

from slardar.txconsul.agents import Agent
from slardar.txconsul.errors import AgentError, BrokenAnswerError, NoAnswerError, UnreachableError

__all__ = ["Answer", "AnswerHeaders", "Question", "Wire"]

#: Seconds for which an unused connection is kept: shorter than what firewalls and proxies allow.
_IDLE = 30
#: Bytes that a head may have, and everything else that is no body.
_MAX_HEAD = 64 * 1024
#: Seconds after which the kernel probes a silent connection, and between its probes; after so many
#: of them without an answer the connection is dead.  A query may wait for minutes on a connection
#: whose other end is gone without a word.
_PROBE_AFTER, _PROBE_EVERY, _PROBES = 15, 5, 3


class Question:
    """What an agent is asked."""

    __slots__ = ("body", "headers", "is_cancelled", "method", "target", "timeout")

    def __init__(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes, timeout: float
    ) -> None:
        self.method = method
        #: The path and the query, encoded.
        self.target = target
        self.headers = headers
        self.body = body
        #: Seconds until the whole answer must be there.
        self.timeout = timeout
        self.is_cancelled = False


class AnswerHeaders(Mapping[str, str]):
    """The headers of an answer; the case of their names does not matter, the last value counts."""

    def __init__(self, headers: Headers) -> None:
        self._values = {
            name.decode("latin-1").lower(): values[-1].decode("latin-1")
            for name, values in headers.getAllRawHeaders()
        }

    def __getitem__(self, name: str) -> str:
        return self._values[name.lower()]

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and name.lower() in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return repr(self._values)


class Answer:
    """What an agent has answered."""

    __slots__ = ("body", "code", "headers")

    def __init__(self, code: int, headers: AnswerHeaders, body: bytes) -> None:
        self.code = code
        self.headers = headers
        self.body = body


class Wire:
    """Connections to agents.  ``creator`` makes those of TLS; ``max_body`` is in bytes."""

    def __init__(
        self,
        reactor: Any,
        connect_timeout: float,
        max_body: int,
        kept: int,
        creator: Callable[[str], Any] | None,
    ) -> None:
        self._reactor = reactor
        self._max_body = max_body
        #: Connections that were made, and that something still knows.
        self._made: WeakSet[Any] = WeakSet()
        self._endpoints = _Endpoints(reactor, connect_timeout, creator, self._made.add)
        self._pool = HTTPConnectionPool(reactor, persistent=True)
        self._pool.maxPersistentPerHost = kept
        self._pool.cachedConnectionTimeout = _IDLE
        self._pool.retryAutomatically = False

    def close(self) -> defer.Deferred[Any]:
        """Close all connections at once."""
        closed: defer.Deferred[Any] = self._pool.closeCachedConnections()
        for connection in list(self._made):
            _cut(connection)
        return closed

    def ask(self, agent: Agent, question: Question) -> defer.Deferred[Answer]:
        """Put the question to one agent.  Fails with AgentError.

        When the Deferred is cancelled, the connection is closed at once.
        """

        def out_of_time(_result: Any, _timeout: float) -> Answer:
            raise NoAnswerError(f"{agent.name}: no answer within {question.timeout:g} seconds")

        exchange = _Exchange(self._pool, self._max_body)
        answer = defer.Deferred.fromCoroutine(
            exchange.run(self._reactor, self._endpoints, agent, question)
        )
        answer.addErrback(_explained, agent)
        return answer.addTimeout(question.timeout, self._reactor, onTimeoutCancel=out_of_time)


class _Exchange:
    """One question and its answer on one connection of the pool.

    It is the pool that Twisted's agent sees, so that it knows which connection it was given and
    can break it.
    """

    def __init__(self, pool: HTTPConnectionPool, max_body: int) -> None:
        self._pool = pool
        self._max_body = max_body
        self._connection: Any = None
        self._received = 0
        #: What Twisted's agent asks of a pool, too.
        self.persistent = pool.persistent

    def getConnection(self, key: Any, endpoint: Any) -> defer.Deferred[Any]:
        """What Twisted's agent asks a pool for."""
        return self._pool.getConnection(key, endpoint).addCallback(self._lent)

    def _lent(self, connection: Any) -> Any:
        self._connection = connection
        connection.dataReceived = self._count
        return connection

    def _count(self, data: bytes) -> None:
        """Pass bytes on to the connection, unless the answer is too large.  Twisted has no limit
        for a head, nor for what may come between the chunks of a body."""
        self._received += len(data)
        if self._is_too_large:
            _cut(self._connection)
        else:
            type(self._connection).dataReceived(self._connection, data)

    @property
    def _is_too_large(self) -> bool:
        return self._received > self._max_body + self._max_body // 8 + _MAX_HEAD

    async def run(
        self, reactor: Any, endpoints: IAgentEndpointFactory, agent: Agent, question: Question
    ) -> Answer:
        """Send the question, and read the whole answer."""
        twisted = TwistedAgent.usingEndpointFactory(reactor, endpoints, self)
        try:
            response = await Treq(_Addressed(twisted, agent.base + question.target)).request(
                question.method,
                "http://agent/",
                headers=Headers({name: [value] for name, value in question.headers.items()}),
                data=question.body or None,
                # Who is told to go elsewhere would take the token along.
                allow_redirects=False,
                unbuffered=True,
                reactor=reactor,
            )
            headers = AnswerHeaders(response.headers)
            if 300 <= response.code < 400:
                raise BrokenAnswerError(f"status {response.code}: it leads elsewhere")
            body = _Body(self._max_body, response.length)
            response.original.deliverBody(body)
            return Answer(response.code, headers, await body.whole)
        except BaseException:
            if self._connection is not None:
                _cut(self._connection)
            if self._is_too_large:
                raise BrokenAnswerError(_too_large(self._max_body)) from None
            raise


def _cut(connection: Any) -> None:
    """End a connection of the pool without waiting for the other side.  Twisted's own ``abort``
    waits until the other side has ended TLS, and one that hangs never does."""
    connection.abort()
    if connection.transport.connected:
        connection.transport.abortConnection()


def _too_large(limit: int) -> str:
    return f"the answer has more than {limit} bytes"


@implementer(IAgent)
class _Addressed:
    """An agent that asks for one URL, as it is, and for no compression.

    treq writes URLs anew, and refuses those with an IPv6 address.  It asks for gzip, which takes
    more time than it saves between neighbours, and lets a small answer become a huge one.
    """

    def __init__(self, agent: IAgent, url: str) -> None:
        self._agent = agent
        self._url = url.encode("ascii")

    def request(
        self, method: bytes, _url: bytes, headers: Headers | None = None, *producer: Any
    ) -> Any:
        assert headers is not None
        headers.removeHeader(b"Accept-Encoding")
        return self._agent.request(method, self._url, headers, *producer)


class _Body(Protocol):
    """Collects a body of at most so many bytes; ``whole`` fires with it."""

    def __init__(self, limit: int, length: int | str) -> None:
        self._limit = limit
        self._parts: list[bytes] = []
        self._size = 0
        self.whole: defer.Deferred[bytes] = defer.Deferred()
        self._is_over = False
        if isinstance(length, int) and length > limit:  # it is a word if it is not known
            self._fail()

    def _fail(self) -> None:
        self._end(Failure(BrokenAnswerError(_too_large(self._limit))))

    def dataReceived(self, data: bytes) -> None:
        self._size += len(data)
        if self._size <= self._limit:
            self._parts.append(data)
        else:
            self._fail()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._end(b"".join(self._parts) if reason.check(ResponseDone) else reason)

    def _end(self, result: bytes | Failure) -> None:
        self._parts = []
        if not self._is_over:
            self._is_over = True
            if isinstance(result, Failure):
                self.whole.errback(result)
            else:
                self.whole.callback(result)


@implementer(IAgentEndpointFactory)
class _Endpoints:
    """How an agent is connected to."""

    def __init__(
        self,
        reactor: Any,
        timeout: float,
        creator: Callable[[str], Any] | None,
        made: Callable[[Any], object],
    ) -> None:
        self._reactor = reactor
        self._timeout = timeout
        self._creator = creator
        self._made = made

    def endpointForURI(self, uri: URI) -> IStreamClientEndpoint:
        host = uri.host.decode()
        # For an address, HostnameEndpoint would wait 0.3 s before it says that nobody listens.
        make: Any = HostnameEndpoint
        if isIPAddress(host):
            make = TCP4ClientEndpoint
        elif isIPv6Address(host):
            make = TCP6ClientEndpoint
        endpoint = make(self._reactor, host, uri.port, self._timeout)
        if uri.scheme == b"https":
            assert self._creator is not None
            endpoint = wrapClientTLS(self._creator(host), endpoint)
        return _Endpoint(endpoint, self._made)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    """An endpoint that says when there is no connection, and has the kernel look after one.
    ``made`` is called with each connection."""

    def __init__(self, endpoint: IStreamClientEndpoint, made: Callable[[Any], object]) -> None:
        self._endpoint = endpoint
        self._made = made

    def connect(self, factory: Any) -> Any:
        # Nobody wants two lines in the log for each connection.
        factory.noisy = False
        return self._endpoint.connect(factory).addCallbacks(self._connected, _unreachable)

    def _connected(self, connection: Any) -> Any:
        self._made(connection)
        return _keep_alive(connection)


def _unreachable(failure: Failure) -> None:
    raise UnreachableError(_reason(_error_of(failure))) from None


def _keep_alive(protocol: Any) -> Any:
    handle = getattr(protocol.transport, "socket", None)
    if handle is not None:
        # A socket that is closed already has no options.
        with contextlib.suppress(OSError):
            for level, option, value in (
                (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
                (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_AFTER),
                (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_EVERY),
                (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES),
                (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
            ):
                handle.setsockopt(level, option, value)
    return protocol


def _explained(failure: Failure, agent: Agent) -> Answer:
    """Any failure of an exchange as an AgentError that names the agent."""
    error = _error_of(failure)
    if isinstance(error, defer.CancelledError):
        raise error
    reason = _reason(error)
    if isinstance(error, AgentError):
        raise type(error)(f"{agent.name}: {reason}") from None
    if any(isinstance(cause, VerificationError) for cause in _causes(error)) or (
        "certificate verify failed" in reason
    ):
        raise UnreachableError(f"{agent.name}: {reason}") from None
    raise BrokenAnswerError(f"{agent.name}: {reason}") from None


def _error_of(failure: Failure) -> BaseException:
    assert failure.value is not None
    return failure.value


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The errors that Twisted's HTTP client has wrapped."""
    reasons = getattr(error, "reasons", None)
    if not reasons:
        yield error
    else:
        for failure in reasons:
            yield from _causes(failure.value)


def _reason(error: BaseException) -> str:
    """One line for a person: no address of an object, and nothing of what was sent."""
    for cause in _causes(error):
        if isinstance(cause, SSL.Error):
            words = [part for entry in cause.args[0] for part in entry[2:]] if cause.args else []
            return f"TLS: {', '.join(words) or 'the connection ended'}"
        if isinstance(cause, VerificationError):
            return "TLS: the certificate is for another name"
        text = " ".join(str(cause).split())
        return text.rstrip(".") or type(cause).__name__
    return type(error).__name__
