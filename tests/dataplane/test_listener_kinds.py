"""Kinds of listeners: a further one is an entry of the table that a data plane is given."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from slardar.balancers.wrr import WeightedRoundRobin
from slardar.config import Settings
from slardar.dataplane.channel import Channel
from slardar.dataplane.listener_kinds import LISTENER_KINDS, HttpKind, ListenerKind
from slardar.dataplane.poller import Poller
from slardar.dataplane.proxy import DataPlane
from slardar.dataplane.system import Socket
from slardar.errors import ConfigError
from slardar.http1.interfaces import ChannelBase, ChannelProtocol, Connection, PlaneBase
from slardar.model.listener import ListenerSpec
from slardar.model.live import Live
from tests.dataplane.kit import PATIENCE, HandReactor, pump

pytestmark = pytest.mark.real

ANYWHERE = "tcp:0:interface=127.0.0.1"


class Swapping(Channel):
    """A channel whose bytes are not those of its socket: upper case is lower case there."""

    def __init__(
        self, poller: Poller, sock: Socket, protocol: ChannelProtocol, listener: ListenerSpec
    ) -> None:
        super().__init__(poller, sock, protocol)
        self.listener = listener

    def arrive(self, data: bytes) -> None:
        super().arrive(data.swapcase())

    def write(self, data: Any) -> bool:
        return super().write(bytes(data).swapcase())


class Echo(Connection):
    """Says what it hears, behind the name of its listener."""

    def __init__(self, plane: PlaneBase, address: bytes, listener: ListenerSpec) -> None:
        super().__init__(listener.id)
        self.plane, self.address, self.listener = plane, address, listener
        self.heard = False

    @property
    def is_idle(self) -> bool:
        return not self.heard

    @property
    def is_fresh(self) -> bool:
        return False

    @property
    def held(self) -> int:
        return 0

    def attach(self, channel: ChannelBase) -> None:
        self.channel = channel

    def received(self, channel: ChannelBase, data: Any) -> None:
        self.heard = True
        channel.write(f"{self.listener.id}: ".encode() + data)

    def ended(self, channel: ChannelBase) -> None:
        self.close()

    def close(self) -> None:
        self.channel.close()
        self.plane.closed(self)


class EchoKind(HttpKind):
    """Echoes on plain channels."""

    def make_connection(
        self, plane: PlaneBase, address: bytes, listener: ListenerSpec
    ) -> Connection:
        return Echo(plane, address, listener)


class SwappingKind(EchoKind):
    """Echoes on channels that swap."""

    def make_channel(
        self, poller: Poller, sock: Socket, protocol: ChannelProtocol, listener: ListenerSpec
    ) -> ChannelBase:
        return Swapping(poller, sock, protocol, listener)


class Place:
    """A data plane with these kinds of listeners, and clients of it."""

    def __init__(self, kinds: Mapping[str, ListenerKind]) -> None:
        self.hand = HandReactor()
        make_balancer: Any = lambda mode: WeightedRoundRobin  # noqa: E731
        self.plane = DataPlane(self.hand, Settings(), Live(), make_balancer, kinds=kinds)
        self.plane.start()
        self.clients: list[socket.socket] = []

    def listen(self, listener: ListenerSpec) -> int:
        """Listen; answers the port."""
        places: list[Any] = []
        self.plane.listen(listener).addBoth(places.append)
        return int(places[0].rpartition(":")[2])

    def ask(self, port: int, data: bytes) -> tuple[socket.socket, bytes]:
        """A new client's connection, and the answer to what it says."""
        client = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.clients.append(client)
        client.sendall(data)
        client.setblocking(False)
        got = bytearray()

        def answered() -> bool:
            try:
                got.extend(client.recv(1000))
            except BlockingIOError:
                pass
            return bool(got)

        pump(self.plane._poller, answered)
        return client, bytes(got)

    def stop(self) -> Deferred[None]:
        """Stop within no time."""
        done = self.plane.stop(0.0)
        for _ in range(4):
            self.hand.advance(0.1)
        return done


@pytest.fixture
def new_place() -> Iterator[Callable[..., Place]]:
    """Makes data planes that are stopped afterwards."""
    places: list[Place] = []

    def make(**kinds: ListenerKind) -> Place:
        places.append(Place({**LISTENER_KINDS, **kinds}))
        return places[-1]

    yield make
    for place in places:
        if not place.plane.draining:
            place.stop()
        for client in place.clients:
            client.close()


def test_listener_of_a_further_kind_is_an_entry(new_place: Callable[..., Place]) -> None:
    """It makes connection and channel, and both know the listener; HTTP is served
    beside it."""
    place = new_place(echo=SwappingKind())
    echo = ListenerSpec("the echo", ANYWHERE, protocol="echo", upstream="x")
    web = ListenerSpec("the web", ANYWHERE)
    echo_port, web_port = place.listen(echo), place.listen(web)
    client, answer = place.ask(echo_port, b"Hello")
    assert answer == b"THE ECHO: Hello"
    connections: list[Any] = list(place.plane._clients.connected)
    (connection,) = connections
    assert (connection.listener, connection.channel.listener) == (echo, echo)
    assert connection.address == b"127.0.0.1"
    _, answer = place.ask(web_port, b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 502 ")
    known = {connection.listener.id for connection in place.plane._clients.connected}
    assert known == {"the echo", "the web"}
    # It counts as every client does, until it has left.
    assert place.plane.statistics()["connections"] == 2
    client.close()
    pump(place.plane._poller, lambda: place.plane.statistics()["connections"] == 1)


def test_connections_of_every_kind_end_with_the_plane(new_place: Callable[..., Place]) -> None:
    """Also one that is busy, when the time is over."""
    place = new_place(echo=EchoKind())
    client, _ = place.ask(place.listen(ListenerSpec("e", ANYWHERE, protocol="echo")), b"x")
    assert place.stop().called
    client.setblocking(True)
    assert client.recv(1) == b""


@pytest.mark.real(False)
def test_protocol_that_nothing_serves_is_refused(new_place: Callable[..., Place]) -> None:
    """Before a socket is opened, and in a line that names the listener."""
    place = new_place()
    failures: list[Any] = []
    place.plane.listen(ListenerSpec("tcp:1", ANYWHERE, protocol="smoke")).addErrback(
        failures.append
    )
    assert failures[0].check(ConfigError)
    assert failures[0].getErrorMessage() == "listen: tcp:1: nothing serves 'smoke' here"
    assert place.plane.opened == []


def test_tls_is_never_served_in_the_clear(connect: Callable[..., Any]) -> None:
    """Whatever table of kinds forgets that a listener is for TLS."""
    channel, _, protocol = connect()
    secure = ListenerSpec("s", ANYWHERE, tls=True)
    with pytest.raises(AssertionError):
        HttpKind().make_channel(channel._poller, channel.sock, protocol, secure)
