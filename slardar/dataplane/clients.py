"""The clients of one data plane: accepting them, how many there may be, and the drain."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from twisted.internet import defer
from twisted.logger import Logger

from slardar.dataplane.descriptors import clients_at_most, descriptor_limit
from slardar.dataplane.greeting import Greeting
from slardar.dataplane.inherited import open_listener
from slardar.dataplane.listener import Listener
from slardar.dataplane.listener_kinds import ListenerKind, find_kind
from slardar.dataplane.poller import Poller
from slardar.dataplane.sockets import Opened
from slardar.dataplane.system import Socket
from slardar.http1.interfaces import Connection, PlaneBase, TunnelBase
from slardar.http1.proxy_header import Ends
from slardar.http1.record import RequestRecord
from slardar.model.listener import ListenerSpec
from slardar.model.networks import read_address

__all__ = ["DRAIN_GRACE", "Clients"]

#: Seconds that a draining plane leaves connections without a request open: what their
#: clients have just sent may still be on its way, and gets a reply.
DRAIN_GRACE = 0.25
#: The same for clients that have not asked for anything yet.  Their first request is on its way: a
#: client does not send it again by itself if its connection is closed, as it does on a connection
#: that has served one.  The handshake of TLS takes two round trips before, of up to half a second
#: each for a phone.
FRESH_GRACE = 2.0
#: Seconds between two looks whether a draining plane is empty.
_DRAIN_LOOK = 0.05

_log = Logger("slardar.dataplane")


class Clients:
    """Accepts clients for ``plane``, at most ``connections`` at a time.

    ``kinds`` are the kinds of listeners, by their protocols.
    ``exhausted()`` is called when there is no descriptor left to accept a client with.
    """

    def __init__(
        self,
        reactor: Any,
        plane: PlaneBase,
        poller: Poller,
        kinds: Mapping[str, ListenerKind],
        connections: int,
        exhausted: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._plane = plane
        self._poller = poller
        self._kinds = kinds
        self._exhausted = exhausted
        self.listeners: list[Listener] = []
        #: The ids of all listeners that there were.
        self.listener_ids: set[str] = set()
        #: The ports of listeners with TLS, in order.
        self.tls_ports: list[int] = []
        #: The sockets that were opened here, or handed over by another process.
        self.opened: list[Opened] = []
        self.connected: set[Connection] = set()
        self.tunnels: set[TunnelBase] = set()
        #: How many clients were ever accepted.
        self.accepts = 0
        self._wanted = connections
        #: How many clients there are descriptors for; known when the plane starts.
        self._room = sys.maxsize
        #: How many clients there may be: the smaller of the two.
        self.at_most = connections
        self._full = False
        #: In the reactor's seconds, while the plane stops: how long clients without a
        #: request stay, and how long the others do.
        self._grace_ends = self._fresh_ends = self._drain_ends = 0.0

    def __len__(self) -> int:
        """Connections, tunnels included."""
        return len(self.connected) + len(self.tunnels)

    @property
    def held(self) -> int:
        """Bytes of requests that are in the buffers of connections."""
        return sum(connection.held for connection in self.connected)

    # Listening.

    def listen(self, listener: ListenerSpec, sockets: Sequence[socket.socket]) -> str:
        """Accept clients as ``IPlane.listen`` describes it; answers where."""
        # Before there is a socket that nobody would close.
        find_kind(self._kinds, listener)
        opened = open_listener(listener, sockets)
        self.opened.append(opened)
        for sock in opened.sockets:
            self.serve(sock.dup(), listener)
        return opened.place

    def serve(self, sock: socket.socket, listener: ListenerSpec, exclusive: bool = False) -> None:
        """Accept clients on a socket of ``listener``, which listens.

        ``exclusive``: other processes accept on the socket too.  Raises ConfigError if
        there is no such protocol.
        """
        self.listener_ids.add(listener.id)
        if listener.tls and sock.family in (socket.AF_INET, socket.AF_INET6):
            port = sock.getsockname()[1]
            if port not in self.tls_ports:
                self.tls_ports.append(port)
        accept = self.accepted_behind if listener.proxy_protocol else self.accepted
        accepted = partial(accept, find_kind(self._kinds, listener), listener)
        self.listeners.append(Listener(self._poller, sock, accepted, exclusive, self._exhausted))

    def own(self) -> None:
        """The process that handed sockets over uses them no more.

        Raises OSError if those of an endpoint cannot be owned; the others are then.
        """
        failure = None
        for opened in self.opened:
            try:
                opened.own()
            except OSError as error:
                failure = error
        if failure is not None:
            raise failure

    # Connections.

    def accepted(
        self, kind: ListenerKind, listener: ListenerSpec, sock: Socket, address: bytes
    ) -> None:
        """Serve a client that a listener has accepted; ``address`` is without port."""
        self._connected(kind.serve(self._plane, self._poller, sock, address, listener))

    def accepted_behind(
        self, kind: ListenerKind, listener: ListenerSpec, sock: Socket, address: bytes
    ) -> None:
        """Serve a client of a proxy, whose connection a listener has accepted, once the proxy
        has told the client's address.

        If the settings name the proxies that are believed, it must be one of them.
        """
        trusted = self._plane.trusted
        if not (trusted.is_empty or trusted.have(read_address(address))):
            sock.close()
            self._plane.turned_away(address, listener, "its peer is none of the trusted proxies")
            return
        greeting = Greeting(self._plane, address, listener, partial(self._greeted, kind))
        greeting.begin(self._poller, sock)
        self._connected(greeting)

    def _connected(self, connection: Connection) -> None:
        self.connected.add(connection)
        self.accepts += 1
        if len(self.connected) + len(self.tunnels) >= self.at_most:
            self._look_whether_full()

    def _greeted(
        self, kind: ListenerKind, greeting: Greeting, sock: Socket, ends: Ends | None
    ) -> None:
        """A proxy has told whose connection it is: the client's, or its own."""
        self.connected.discard(greeting)
        address = greeting.address if ends is None else ends.client.encode("ascii")
        listener = greeting.listener
        self.connected.add(kind.serve(self._plane, self._poller, sock, address, listener, ends))

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connected.discard(connection)
        if self._full:
            self._look_whether_full()

    def add_tunnel(self, tunnel: TunnelBase) -> None:
        """A connection became a tunnel."""
        self.tunnels.add(tunnel)

    def tunnel_closed(self, tunnel: TunnelBase) -> None:
        """A tunnel has ended."""
        self.tunnels.discard(tunnel)
        if self._full:
            self._look_whether_full()

    def records(self) -> Iterator[RequestRecord]:
        """The records of the requests under way, tunnels included, where somebody observes."""
        for connection in self.connected:
            record = connection.record
            if record is not None:
                yield record
        for tunnel in self.tunnels:
            if tunnel.record is not None:
                yield tunnel.record

    # How many there may be.

    def count_descriptors(self, reserved: int = 0) -> None:
        """Find out how many clients there are descriptors for, before there are any, if
        ``reserved`` descriptors are for others."""
        self._room = clients_at_most(reserved)
        self.allow(self._wanted)

    def allow(self, connections: int) -> None:
        """Accept at most so many clients, or fewer if there are descriptors for fewer.

        Nobody is sent away: if there are more, nobody is accepted until enough have left.
        """
        self._wanted = connections
        self.at_most = min(connections, self._room)
        if self._room < connections:
            _log.warn(
                "limits.connections: {room} clients at most instead of {wanted}, "
                "for {limit} files may be open",
                room=self._room,
                wanted=connections,
                limit=descriptor_limit(),
            )
        self._look_whether_full()

    def _look_whether_full(self) -> None:
        """Accept nobody while there are as many as there may be."""
        self._full = len(self) >= self.at_most
        for listener in self.listeners:
            if self._full:
                listener.pause()
            else:
                listener.resume()

    # The drain.

    def begin_drain(self, within: float, grace: float) -> None:
        """Drain for ``within`` seconds at most, and leave clients without a request for
        ``grace`` seconds; new ones for :data:`FRESH_GRACE`."""
        now = self._reactor.seconds()
        self._grace_ends, self._drain_ends = now + min(grace, within), now + within
        self._fresh_ends = now + min(max(grace, FRESH_GRACE), within)

    def hurry(self, within: float) -> None:
        """While the plane drains: take no more than ``within`` seconds from now."""
        now = self._reactor.seconds()
        self._drain_ends = min(self._drain_ends, now + within)
        self._grace_ends = min(self._grace_ends, now + min(within, DRAIN_GRACE))
        self._fresh_ends = min(self._fresh_ends, now + within)

    def stop_accepting(self) -> None:
        """Close the listening sockets, right behind the last client that they had for us."""
        # The path of a unix socket goes first.
        opened, self.opened = self.opened, []
        for one in opened:
            one.close()
        listeners, self.listeners = self.listeners, []
        for listener in listeners:
            listener.accept_all()
            listener.close()

    async def drain(self) -> None:
        """Wait until requests and tunnels are finished, or the time for them has passed;
        then close the connections that are left."""
        while self._is_busy():
            now = self._reactor.seconds()
            if now >= self._grace_ends:
                self._dismiss_idle(now)
            if now >= self._drain_ends:
                break
            if self._is_busy():
                await _later(self._reactor, _DRAIN_LOOK)
        for connection in list(self.connected):
            connection.close()
        for tunnel in list(self.tunnels):
            tunnel.close()

    async def flush(self) -> None:
        """Wait until closed connections have sent all they had to send, as long as the
        drain may take."""
        while len(self._poller) and self._reactor.seconds() < self._drain_ends:
            await _later(self._reactor, _DRAIN_LOOK)

    def _is_busy(self) -> bool:
        return bool(self.connected or self.tunnels or self._plane.exchanges)

    def _dismiss_idle(self, now: float) -> None:
        """Let go of the clients that have no request under way and none on its way."""
        for connection in list(self.connected):
            if not connection.is_idle or (connection.is_fresh and now < self._fresh_ends):
                continue
            if connection.channel.is_quiet():
                connection.ended(connection.channel)


def _later(reactor: Any, seconds: float) -> defer.Deferred[None]:
    waiting: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(seconds, waiting.callback, None)
    return waiting
