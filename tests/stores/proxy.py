"""A way to a server that a test can cut, heal and slow down."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer, protocol, reactor, task  # noqa: TID251

__all__ = ["End", "Proxy"]


class Proxy(protocol.Factory):
    """Passes bytes between its own port and a server's, in order, ``delay`` seconds later."""

    def __init__(self, port: int) -> None:
        #: The server's port, for connections to come.
        self.target = port
        self.delay = 0.0
        self.connections: set[End] = set()
        #: How many connections were made.
        self.accepted = 0
        self._listening: Any = None
        self.port = 0

    async def heal(self) -> None:
        """Listen, on the port of before if there was one."""
        if self._listening is None:
            self._listening = reactor.listenTCP(self.port, self, interface="127.0.0.1")
            self.port = self._listening.getHost().port

    async def cut(self) -> None:
        """Listen no more, and break all connections."""
        listening, self._listening = self._listening, None
        if listening is not None:
            await defer.maybeDeferred(listening.stopListening)
        for one in list(self.connections):
            one.transport.abortConnection()
        while self.connections:
            await task.deferLater(reactor, 0.001)

    def buildProtocol(self, _address: object) -> protocol.Protocol:
        self.accepted += 1
        return End(self, None)

    def connect(self, end: End) -> None:
        """Connect a client to the server."""
        creator = protocol.ClientCreator(reactor, End, self, end)
        connecting = creator.connectTCP("127.0.0.1", self.target)
        connecting.addErrback(lambda _: end.transport.abortConnection())


class End(protocol.Protocol):
    """One end; ``other`` is the client's, if this is the server's."""

    def __init__(self, proxy: Proxy, other: End | None) -> None:
        self.proxy = proxy
        self._other = other
        self._early: list[bytes] = []
        self.is_lost = False

    def connectionMade(self) -> None:
        self.proxy.connections.add(self)
        if self._other is None:
            self.proxy.connect(self)
        else:
            self._other.connected_to(self)

    def connected_to(self, server: End) -> None:
        """The server's end is there."""
        self._other = server
        if self.is_lost:
            server.transport.abortConnection()
        for data in self._early:
            server.take(data)

    def dataReceived(self, data: bytes) -> None:
        if self.proxy.delay:
            reactor.callLater(self.proxy.delay, self._pass_on, data)
        else:
            self._pass_on(data)

    def _pass_on(self, data: bytes) -> None:
        if self._other is None:
            self._early.append(data)
        else:
            self._other.take(data)

    def take(self, data: bytes) -> None:
        """Bytes from the other end."""
        self.transport.write(data)

    def connectionLost(self, reason: object = None) -> None:
        self.is_lost = True
        self.proxy.connections.discard(self)
        if self._other is not None:
            self._other.left()

    def left(self) -> None:
        """The other end is lost."""
        self.transport.abortConnection()
