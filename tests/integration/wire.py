"""Raw HTTP for tests: a client and a server that send exactly the bytes they are told.

What they receive is read by a small parser of its own, which is stricter than any
program it stands for: whatever it finds wrong is an AssertionError.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet import defer
from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IHandshakeListener, ISSLTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.ssl import Certificate, optionsForClientTLS
from zope.interface import implementer

from slardar.balancers.wrr import WeightedRoundRobin
from slardar.config import ControlTls, Limits, Settings
from slardar.control.tls import ServerTls
from slardar.dataplane.proxy import DataPlane
from slardar.model.live import Live
from slardar.model.parse import parse_upstream
from slardar.model.snapshot import Snapshot
from slardar.model.tls import Keyring, Pair
from tests.certificates import Authority

__all__ = ["LIMITS", "Message", "Proxied", "RawClient", "RawOrigin", "take_reply", "take_request"]

#: Small limits, so that few bytes exceed them.
LIMITS = Limits(head=4096, headers=100, url=1024, body=10000)

#: Seconds within which a condition must come true, also on a busy machine.
PATIENCE = 20.0

_FIELD = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([\t\x20-\x7e\x80-\xff]*?)[ \t]*")
_REQUEST_LINE = re.compile(rb"[A-Z-]+ [\x21-\x7e]+ HTTP/1\.1")
_STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-9][0-9]{2}) [\t\x20-\x7e\x80-\xff]*")


class Message(NamedTuple):
    """A request or a reply as it was read."""

    first: bytes
    #: Names in lower case.
    headers: list[tuple[bytes, bytes]]
    body: bytes = b""
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    #: False for a reply that ended before its body did.
    complete: bool = True

    def all(self, name: bytes) -> list[bytes]:
        """Every value of a header."""
        return [value for known, value in self.headers if known == name]

    @property
    def status(self) -> int:
        """The status of a reply."""
        return int(self.first[9:12])


def _fields(lines: list[bytes]) -> list[tuple[bytes, bytes]]:
    fields = []
    for line in lines:
        match = _FIELD.fullmatch(line)
        assert match is not None, f"not a header line: {line!r}"
        fields.append((match[1].lower(), match[2]))
    return fields


def _take_head(data: bytes) -> tuple[Message, bytes] | None:
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        return None
    first, *lines = head.split(b"\r\n")
    return Message(first, _fields(lines)), rest


def _take_chunks(data: bytes) -> tuple[bytes, list[tuple[bytes, bytes]], bytes] | None:
    body = b""
    while True:
        line, end, data = data.partition(b"\r\n")
        if not end:
            return None
        assert re.fullmatch(rb"[0-9a-f]{1,15}", line), f"not a chunk size: {line!r}"
        size = int(line, 16)
        if not size:
            break
        if len(data) < size + 2:
            return None
        body += data[:size]
        assert data[size : size + 2] == b"\r\n"
        data = data[size + 2 :]
    if data[:2] == b"\r\n":
        return body, [], data[2:]
    trailers, end, rest = data.partition(b"\r\n\r\n")
    return (body, _fields(trailers.split(b"\r\n")), rest) if end else None


def _take_body(message: Message, data: bytes) -> tuple[Message, bytes] | None:
    """The body that Content-Length or chunks delimit; ``None`` if it is incomplete."""
    lengths, codings = message.all(b"content-length"), message.all(b"transfer-encoding")
    assert len(lengths) + len(codings) <= 1, "the end of the body is ambiguous"
    if codings:
        assert codings == [b"chunked"]
        taken = _take_chunks(data)
        if taken is None:
            return None
        body, trailers, rest = taken
        return message._replace(body=body, trailers=tuple(trailers)), rest
    size = int(lengths[0]) if lengths else 0
    return None if len(data) < size else (message._replace(body=data[:size]), data[size:])


def take_request(data: bytes) -> tuple[Message, bytes] | None:
    """The first request in ``data`` and the bytes after it; ``None`` if it is incomplete."""
    taken = _take_head(data)
    if taken is None:
        return None
    message, rest = taken
    assert _REQUEST_LINE.fullmatch(message.first), f"not a request line: {message.first!r}"
    assert len(message.all(b"host")) == 1
    return _take_body(message, rest)


def take_reply(data: bytes, verb: bytes, ended: bool) -> tuple[Message, bytes] | None:
    """The first reply in ``data``; once ``ended``, also one whose body is cut off."""
    taken = _take_head(data)
    if taken is None:
        return None
    message, rest = taken
    assert _STATUS_LINE.fullmatch(message.first), f"not a status line: {message.first!r}"
    status = message.status
    if verb == b"HEAD" or status < 200 or status in (204, 304):
        return message, rest
    if not message.all(b"content-length") and not message.all(b"transfer-encoding"):
        assert message.all(b"connection") == [b"close"], "a body with no end"
        return (message._replace(body=rest), b"") if ended else None
    whole = _take_body(message, rest)
    if whole is None and ended:
        return message._replace(body=rest, complete=False), b""
    return whole


class _Recorder(Protocol):
    """Keeps received bytes, and lets a test wait for them."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self.data = b""
        self.ended = False
        #: Whether the end came as a reset and not in order.
        self.broken = False
        self._waiting: list[tuple[Callable[[], bool], defer.Deferred[None]]] = []

    def dataReceived(self, data: bytes) -> None:
        self.data += data
        self.look()

    def connectionLost(self, reason: Any = None) -> None:
        self.ended = True
        self.broken = not reason.check(ConnectionDone)
        self.look()

    def look(self) -> None:
        """Wake the waiters whose condition has become true."""
        waiting, self._waiting = self._waiting, []
        for condition, waiter in waiting:
            if condition():
                waiter.callback(None)
            else:
                self._waiting.append((condition, waiter))

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition that only this connection's events can make true."""
        if not condition():
            waiter: defer.Deferred[None] = defer.Deferred()
            self._waiting.append((condition, waiter))
            waiter.addTimeout(PATIENCE, self._reactor)
            try:
                await waiter
            except defer.TimeoutError:
                raise AssertionError(
                    f"nothing more came after {self.data!r} (ended: {self.ended})"
                ) from None

    async def turn(self) -> None:
        """Let the reactor make one turn."""
        waiter: defer.Deferred[None] = defer.Deferred()
        self._reactor.callLater(0, waiter.callback, None)
        await waiter

    async def send(self, data: bytes, pieces: int = 1) -> None:
        """Send ``data`` in that many pieces, each in its own turn of the reactor."""
        size = max(1, -(-len(data) // pieces))
        for start in range(0, len(data), size):
            if self.ended:
                return
            self.transport.write(data[start : start + size])
            if pieces > 1:
                await self.turn()


@implementer(IHandshakeListener)
class RawClient(_Recorder):
    """A client's connection; ``verbs`` are the methods that it sent, in order."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self.verbs: list[bytes] = []
        #: A handshake of TLS is complete.
        self.shaken = False

    def handshakeCompleted(self) -> None:
        self.shaken = True
        self.look()

    async def end(self) -> None:
        """End this side of the connection, and read on."""
        if ISSLTransport.providedBy(self.transport):
            # Twisted sends a turn later what is written, and has no way to end one side.
            await self.until(lambda: self.shaken)
            await self.turn()
            await self.turn()
        self.transport.loseWriteConnection()

    def replies(self) -> list[Message]:
        """The replies so far; other bytes after them are an error once the connection ended."""
        replies: list[Message] = []
        data, verbs = self.data, iter(self.verbs)
        verb = next(verbs, b"GET")
        while data:
            taken = take_reply(data, verb, self.ended)
            if taken is None:
                assert not self.ended, f"cut off within a head: {data!r}"
                break
            message, data = taken
            replies.append(message)
            if message.status >= 200:
                verb = next(verbs, b"GET")
        return replies

    def finals(self) -> list[Message]:
        """The replies that are not interim."""
        return [reply for reply in self.replies() if reply.status >= 200]


class _OriginConnection(_Recorder):
    """One connection to the server."""

    def __init__(self, origin: RawOrigin) -> None:
        super().__init__(origin.reactor)
        self._origin = origin
        #: Whole requests, and the bytes after them.
        self.requests: list[Message] = []
        self.rest = b""

    def connectionMade(self) -> None:
        self.transport.setTcpNoDelay(True)

    def dataReceived(self, data: bytes) -> None:
        self.rest += data
        while True:
            taken = take_request(self.rest)
            if taken is None:
                break
            request, self.rest = taken
            self.requests.append(request)
            self._origin.requests.append((self, request))
            defer.ensureDeferred(self._origin.answer(self, request))
        super().dataReceived(data)


class RawOrigin(Factory):
    """A server that records every byte and answers as ``answer`` says."""

    noisy = False

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.connections: list[_OriginConnection] = []
        #: Every whole request with its connection, in the order of arrival.
        self.requests: list[tuple[_OriginConnection, Message]] = []
        self.answer: Callable[[_OriginConnection, Message], Any] = self.answer_ok

    def buildProtocol(self, address: Any) -> _OriginConnection:
        connection = _OriginConnection(self)
        self.connections.append(connection)
        return connection

    async def answer_ok(self, connection: _OriginConnection, request: Message) -> None:
        """200 with the request's target as the body, for any request."""
        body = request.first.split(b" ")[1]
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body)
        await connection.send(head if request.first[:5] == b"HEAD " else head + body)

    def seen(self) -> list[Message]:
        """The whole requests, except those of :meth:`Proxied.settle`."""
        return [
            request for _, request in self.requests if not request.first.startswith(b"GET /settle")
        ]

    def unfinished(self) -> list[bytes]:
        """The bytes after the last whole request of each connection."""
        return [connection.rest for connection in self.connections if connection.rest]

    def forget(self) -> None:
        """Forget what was recorded, except open connections."""
        self.requests = []
        self.connections = [each for each in self.connections if not each.ended]


class Proxied:
    """A data plane in this process with one server behind it.

    With ``folder``, in which certificates are made, clients come with TLS; with ``behind`` the
    server is spoken to over TLS.
    """

    def __init__(
        self, reactor: Any, folder: Path | None = None, behind: Path | None = None
    ) -> None:
        #: The server is spoken to over TLS.
        self.is_behind = behind is not None
        #: Nobody is spoken to over TLS.
        self.is_plain = folder is None and behind is None
        self._behind = None if behind is None else Authority(behind)
        self._reactor = reactor
        self._authority = None if folder is None else Authority(folder)
        self.scheme = b"http" if folder is None else b"https"
        self.origin = RawOrigin(reactor)
        self.plane = DataPlane(
            reactor, Settings(limits=LIMITS), Live(), lambda mode: WeightedRoundRobin
        )

    async def start(self) -> None:
        """Let both listen."""
        endpoint = TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1")
        factory: Any = self.origin
        tls: Any = False
        if self._behind is not None:
            cert, key = map(str, self._behind.issue("server", ("app",)))
            factory = ServerTls(ControlTls(cert, key)).wrap(factory, self._reactor)
            tls = {"ca": self._behind.file.read_text(), "server_name": "app"}
        self._port = await endpoint.listen(factory)
        self.origin_port: int = self._port.getHost().port
        server = {"host": "127.0.0.1", "port": self.origin_port, "tls": tls}
        app = parse_upstream("app", {"servers": [server]}, "app")
        kind = "tcp"
        if self._authority is not None:
            kind = "tls"
            cert, key = (path.read_text() for path in self._authority.issue("x", ("localhost",)))
            await self.plane.take_keyring(Keyring((Pair("x", cert, key, ("localhost",), "ec", 0),)))
        self.plane.start()
        place = await self.plane.listen(f"{kind}:0:interface=127.0.0.1")
        self.port = int(place.rpartition(":")[2])
        await self.plane.apply(Snapshot.build(1, {"app": app}, (), "app"), ["app"])

    async def stop(self) -> None:
        """End both, and every connection."""
        await self.plane.stop()
        await self._port.stopListening()
        for connection in self.origin.connections:
            if not connection.ended:
                connection.transport.abortConnection()
        for connection in self.origin.connections:
            await connection.until(lambda ended=connection: ended.ended)

    async def connect(self) -> RawClient:
        """A new client."""
        endpoint: Any = TCP4ClientEndpoint(self._reactor, "127.0.0.1", self.port)
        if self._authority is not None:
            trusted = Certificate.loadPEM(self._authority.file.read_text())
            endpoint = wrapClientTLS(optionsForClientTLS("localhost", trusted), endpoint)
        client = await connectProtocol(endpoint, RawClient(self._reactor))
        client.transport.setTcpNoDelay(True)
        return client

    async def get(self, target: bytes) -> Message:
        """The reply to a plain request on its own connection."""
        client = await self.connect()
        await client.send(b"GET %b HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n" % target)
        await client.until(lambda: client.ended)
        (reply,) = client.replies()
        return reply

    async def settle(self) -> None:
        """Wait until the server has read all that the plane wrote before.

        A turn of the reactor that reads the request written here also reads what was
        written earlier; the second request shows that such a turn is over.
        """
        for _ in range(2):
            assert (await self.get(b"/settle")).body == b"/settle"

    async def leave(self, client: RawClient) -> None:
        """End a client's connection, and wait until it is gone."""
        if not client.ended:
            client.transport.abortConnection()
        await client.until(lambda: client.ended)
