"""Connections that begin with a PROXY protocol header, on real sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from slardar.balancers.wrr import WeightedRoundRobin
from slardar.config import Limits, Settings
from slardar.dataplane.poller import TICK
from slardar.dataplane.proxy import DataPlane
from slardar.http1.interfaces import Observer
from slardar.http1.proxy_header import LOCAL, Ends, header_of
from slardar.http1.record import RequestRecord
from slardar.model.live import Live
from tests.dataplane.kit import PATIENCE, HandReactor, logged, pump, reset

pytestmark = pytest.mark.real

GET = b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n"
ENDS = Ends("192.0.2.7", 4660, "198.51.100.1", 443)
HEADERS = [header_of(version, ENDS, b"192.0.2.7") for version in (1, 2)]


class Records(Observer):
    """Keeps the records of all requests."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []

    def request_ended(self, record: RequestRecord) -> None:
        record.kept = True
        self.records.append(record)


class Place:
    """A data plane that listens behind a proxy, and its clients."""

    def __init__(
        self,
        endpoint: str = "tcp:0:interface=127.0.0.1",
        connections: int = 100,
        trusted: tuple[str, ...] = (),
    ) -> None:
        self.hand = HandReactor()
        settings = Settings(limits=Limits(connections=connections), trusted=trusted)
        make_balancer: Any = lambda mode: WeightedRoundRobin  # noqa: E731
        self.plane = DataPlane(self.hand, settings, Live(), make_balancer)
        self.plane.observer = self.seen = Records()
        self.plane.start()
        self.poller = self.plane._poller
        places: list[Any] = []
        self.plane.listen(f"haproxy:{endpoint}").addBoth(places.append)
        self.place = str(places[0])
        self.clients: list[socket.socket] = []

    def connect(self) -> socket.socket:
        """A new connection, which the plane has accepted."""
        before = self.plane._clients.accepts
        client = self.begin()
        pump(self.poller, lambda: self.plane._clients.accepts > before)
        return client

    def begin(self) -> socket.socket:
        """A new connection."""
        kind, _, where = self.place.partition(" ")
        if kind == "unix":
            client = socket.socket(socket.AF_UNIX)
            client.connect(where)
        else:
            host, _, port = where.rpartition(":")
            client = socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)
        self.clients.append(client)
        client.setblocking(False)
        return client

    def answer(self, client: socket.socket) -> bytes:
        """What it gets until a whole reply or the end is there; ``b"reset"`` for a reset."""
        got = bytearray()

        def is_over() -> bool:
            try:
                data = client.recv(65536)
            except BlockingIOError:
                return False
            except ConnectionResetError:
                got.extend(b"reset")
                return True
            got.extend(data)
            return not data or got.rstrip().endswith((b"}", b"</html>"))

        pump(self.poller, is_over)
        return bytes(got)

    def stop(self) -> None:
        self.plane.stop(0.0)
        for _ in range(4):
            self.hand.advance(0.1)
        for client in self.clients:
            client.close()


@pytest.fixture
def new_place() -> Iterator[Callable[..., Place]]:
    """Makes places that end with the test."""
    places: list[Place] = []

    def make(*words: Any, **options: Any) -> Place:
        places.append(Place(*words, **options))
        return places[-1]

    yield make
    for place in places:
        place.stop()


@pytest.fixture
def place(new_place: Callable[..., Place]) -> Place:
    """A place that listens on a TCP port."""
    return new_place()


def connection(place: Place) -> Any:
    """The one connection there is."""
    (found,) = place.plane._clients.connected
    return found


@pytest.mark.parametrize("header", HEADERS)
@pytest.mark.parametrize("bytewise", [False, True])
def test_client_is_whom_the_header_tells(place: Place, header: bytes, bytewise: bool) -> None:
    """For the connection, the record and the channel, whether the request comes in the segment
    of the header or byte by byte."""
    client = place.connect()
    if bytewise:
        for byte in header + GET:
            client.send(bytes([byte]))
            place.poller.doRead()
    else:
        client.sendall(header + GET)
    assert place.answer(client).startswith(b"HTTP/1.1 502 ")
    found = connection(place)
    assert (found.peer, found.listener_id) == (b"192.0.2.7", "haproxy:tcp:0:interface=127.0.0.1")
    assert repr(found.channel.both_ends()) == repr(ENDS)
    assert [record.client for record in place.seen.records] == [b"192.0.2.7"]
    # The connection is kept, and has one header only.
    client.sendall(GET)
    assert place.answer(client).startswith(b"HTTP/1.1 502 ")
    client.sendall(header)
    assert place.answer(client)[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 501")


@pytest.mark.parametrize("header", LOCAL[1:])
def test_connection_of_the_proxy_itself_keeps_its_peer(place: Place, header: bytes) -> None:
    """LOCAL, and UNKNOWN."""
    client = place.connect()
    client.sendall(header + GET)
    assert place.answer(client).startswith(b"HTTP/1.1 502 ")
    assert connection(place).peer == b"127.0.0.1"
    ends = connection(place).channel.both_ends()
    assert (ends.client, ends.client_port) == client.getsockname()
    assert (ends.local, ends.local_port) == client.getpeername()


@pytest.mark.parametrize("kind", ["tcp6", "unix"])
def test_sockets_of_all_kinds(new_place: Callable[..., Place], tmp_path: Path, kind: str) -> None:
    """The header is the same."""
    where = r"tcp6:0:interface=\:\:1" if kind == "tcp6" else f"unix:{tmp_path}/s"
    place = new_place(where)
    client = place.connect()
    client.sendall(HEADERS[1] + GET)
    assert place.answer(client).startswith(b"HTTP/1.1 502 ")
    assert connection(place).peer == b"192.0.2.7"
    own = place.connect()
    own.sendall(LOCAL[2] + GET)
    place.answer(own)
    assert place.seen.records[-1].client == (b"::1" if kind == "tcp6" else b"unix:")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (GET, "does not begin with"),
        (b"\x16\x03\x01\x02\x00\x01\x00", "does not begin with"),
        (HEADERS[0][:-2] + b"\n" + GET, "is malformed"),
        (HEADERS[1][:12] + b"\x11" + HEADERS[1][13:] + GET, "unknown version"),
    ],
)
def test_what_is_no_header_gets_no_reply(place: Place, data: bytes, reason: str) -> None:
    """The connection is closed at once, counted, and in the access log with the peer."""
    client = place.connect()
    with logged() as events:
        client.sendall(data)
        assert place.answer(client) in (b"", b"reset")
    (record,) = place.seen.records
    assert (record.client, record.status, record.answered_by) == (b"127.0.0.1", 444, "slardar")
    assert reason in record.error
    assert place.plane.statistics()["refused"] == 1
    assert place.plane.statistics()["connections"] == 0
    (event,) = events
    text = event["log_format"].format(**event)
    assert text == (
        "a connection from 127.0.0.1 to haproxy:tcp:0:interface=127.0.0.1 was closed: "
        + record.error
    )


@pytest.mark.parametrize(
    ("trusted", "is_believed"),
    [
        ((), True),
        (("127.0.0.0/8",), True),
        (("10.0.0.0/8", "127.0.0.1"), True),
        (("10.0.0.0/8", "192.0.2.0/24"), False),
        (("unix:",), False),
    ],
)
def test_trusted_proxies_alone_are_heard(
    new_place: Callable[..., Place], trusted: tuple[str, ...], is_believed: bool
) -> None:
    """If they are named at all; another one is closed before it has said anything, also where
    the client that it would tell is trusted."""
    place = new_place(trusted=trusted)
    with logged() as events:
        client = place.connect() if is_believed else place.begin()
        if is_believed:
            client.sendall(HEADERS[1] + GET)
            assert place.answer(client).startswith(b"HTTP/1.1 502 ")
        else:
            assert place.answer(client) == b""
    (record,) = place.seen.records
    if is_believed:
        assert record.client == b"192.0.2.7"
    else:
        assert (record.client, record.status) == (b"127.0.0.1", 444)
        assert record.error == "its peer is none of the trusted proxies"
        assert len(events) == 1
        assert place.plane.statistics()["connections"] == 0


def test_unix_socket_is_trusted_by_its_name(
    new_place: Callable[..., Place], tmp_path: Path
) -> None:
    """``unix:`` stands for it."""
    place = new_place(f"unix:{tmp_path}/s", trusted=("unix:",))
    client = place.connect()
    client.sendall(HEADERS[1] + GET)
    assert place.answer(client).startswith(b"HTTP/1.1 502 ")
    other = new_place(f"unix:{tmp_path}/t", trusted=("127.0.0.1",))
    assert other.answer(other.begin()) == b""


def test_address_from_the_header_is_the_one_that_is_trusted_or_not(
    new_place: Callable[..., Place],
) -> None:
    """``X-Forwarded-For`` is the client's own word, unless the header tells a trusted proxy."""
    place = new_place(trusted=("127.0.0.1", "198.51.100.0/24"))
    asked = GET[:-2] + b"X-Forwarded-For: 203.0.113.5\r\n\r\n"
    for address in ("192.0.2.7", "198.51.100.3"):
        client = place.connect()
        client.sendall(header_of(1, Ends(address, 1, "::1", 2), address.encode()) + asked)
        place.answer(client)
    own = place.connect()
    own.sendall(LOCAL[2] + asked)
    place.answer(own)
    addresses = [record.request and record.request.address for record in place.seen.records]
    assert addresses == [b"192.0.2.7", b"203.0.113.5", b"203.0.113.5"]


def test_many_wrong_connections_are_two_lines(place: Place) -> None:
    """One at once, and one that counts the others."""
    with logged() as events:
        for _ in range(20):
            client = place.connect()
            client.sendall(GET)
            place.answer(client)
        assert len(events) == 1
        place.hand.advance(10.0)
    assert len(events) == 2
    assert events[1]["count"] == 19
    assert len(place.seen.records) == 20


def test_connection_that_sends_nothing_is_nobodys_mistake(place: Place) -> None:
    """Health checks connect and leave; neither that, nor a reset, nor silence is counted."""
    with logged() as events:
        place.connect().close()
        reset(place.connect())
        silent = place.connect()
        pump(place.poller, lambda: place.plane.statistics()["connections"] == 1)
        connection(place).channel.deadline = place.poller.clock.now - 1.0
        place.hand.advance(TICK)
        assert place.answer(silent) == b""
    assert (events, place.seen.records) == ([], [])
    assert place.plane.statistics()["connections"] == 0


def test_half_a_header_has_its_time(place: Place) -> None:
    """``timeouts.client_header`` in all, whatever comes meanwhile; an end within it is told."""
    client = place.connect()
    deadline = connection(place).channel.deadline
    assert deadline - place.poller.clock.now == pytest.approx(10, abs=0.1)
    for byte in HEADERS[1][:20]:
        client.send(bytes([byte]))
        place.poller.doRead()
    found = connection(place)
    pump(place.poller, lambda: found.held == 20)
    assert found.channel.deadline == deadline
    assert not found.is_idle
    found.channel.deadline = place.poller.clock.now - 1.0
    place.hand.advance(TICK)
    assert place.answer(client) == b""
    ended = place.connect()
    ended.sendall(HEADERS[0][:9])
    ended.shutdown(socket.SHUT_WR)
    assert place.answer(ended) == b""
    assert [record.error for record in place.seen.records] == [
        "the PROXY protocol header did not arrive in time",
        "the connection ended within its PROXY protocol header",
    ]


def test_half_headers_count_as_connections(new_place: Callable[..., Place]) -> None:
    """Beyond ``limits.connections`` nobody is accepted, and they are shown by listener."""
    place = new_place(connections=3)
    clients = [place.connect() for _ in range(3)]
    assert place.plane.statistics()["connections"] == 3
    assert place.plane.present()[0] == {"haproxy:tcp:0:interface=127.0.0.1": 3}
    late = socket.create_connection(clients[0].getpeername(), timeout=PATIENCE)
    place.clients.append(late)
    place.poller.doRead()
    assert place.plane._clients.accepts == 3
    clients[0].sendall(GET)
    pump(place.poller, lambda: place.plane._clients.accepts == 4)


def test_half_a_header_makes_no_work(place: Place) -> None:
    """What has come leaves the socket, so that the kernel does not tell it again."""
    client = place.connect()
    client.sendall(HEADERS[1][:20])
    pump(place.poller, lambda: connection(place).held == 20)
    place.poller.begin_turn()
    assert not place.poller.handle_batch()


def test_plane_that_stops_does_not_wait_for_headers(place: Place) -> None:
    """A silent connection ends with the grace, and one with half a header with the drain."""
    silent, half = place.connect(), place.connect()
    half.sendall(HEADERS[0][:9])
    pump(place.poller, lambda: any(one.held for one in place.plane._clients.connected))
    stopped = place.plane.stop(5.0, grace=0.5)
    for _ in range(12):
        place.hand.advance(0.05)
    assert place.answer(silent) == b""
    assert not stopped.called
    # The rest of its header, and a request, are in time.
    half.sendall(HEADERS[0][9:] + GET)
    assert b"Connection: close" in place.answer(half)
    for _ in range(12):
        place.hand.advance(0.5)
    assert stopped.called


def test_everything_behind_the_header_is_the_clients(place: Place) -> None:
    """Many requests in one segment with it, and the client's end."""
    client = place.connect()
    client.sendall(HEADERS[1] + GET * 30)
    client.shutdown(socket.SHUT_WR)
    got = b""
    while more := place.answer(client):
        got += more
    assert got.count(b"HTTP/1.1 502 ") == 30
    assert {record.client for record in place.seen.records} == {b"192.0.2.7"}
    assert place.plane.statistics()["connections"] == 0
