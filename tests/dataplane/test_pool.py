"""The connections to one server."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from slardar.dataplane.channel import Channel
from slardar.dataplane.plain_channel import PlainChannel
from slardar.dataplane.poller import TICK, Poller
from slardar.dataplane.pool import (
    AVOID_SECONDS,
    IDLE_SECONDS,
    SURPLUS_SECONDS,
    Pool,
    is_literal,
    literal_address,
)
from slardar.model.server import Server
from tests.dataplane.kit import HandReactor, Recorder, is_silent, pump

pytestmark = pytest.mark.real


class Origin:
    """A listening server.  The test accepts its connections."""

    def __init__(self, stack: ExitStack, host: str = "127.0.0.1") -> None:
        self.sock = stack.enter_context(socket.create_server((host, 0)))
        self.sock.settimeout(10)
        self.port: int = self.sock.getsockname()[1]
        self._stack = stack

    def accept(self) -> socket.socket:
        sock, _ = self.sock.accept()
        sock.settimeout(10)
        return self._stack.enter_context(sock)


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A server that ends with the test."""
    with ExitStack() as stack:
        yield Origin(stack)


@pytest.fixture
def pool(poller: Poller, origin: Origin) -> Pool:
    """A pool of connections to ``origin`` that keeps two of them idle at most."""
    return Pool(poller, "127.0.0.1", origin.port, 2)


def opened(poller: Poller, pool: Pool, origin: Origin) -> tuple[Channel, socket.socket]:
    """A new connection, ready for use, and its other end."""
    protocol = Recorder()
    channel = pool.acquire(protocol, True, False)
    assert channel is not None
    assert channel.connecting
    pump(poller, lambda: protocol.events == ["connected"])
    return channel, origin.accept()


def idle_ones(poller: Poller, pool: Pool, origin: Origin, count: int) -> list[Channel]:
    """Connections that were in use together, and are given back in their order."""
    channels = [opened(poller, pool, origin)[0] for _ in range(count)]
    for channel in channels:
        pool.release(channel)
    return channels


def sweep_after(pool: Pool, hand: HandReactor, seconds: float) -> None:
    """Look for late channels as if those of the pool had been idle for ``seconds`` more."""
    for channel in pool.idle:
        channel.deadline -= seconds
    hand.advance(TICK)


def test_newest_idle_connection_is_used_first(poller: Poller, pool: Pool, origin: Origin) -> None:
    """LIFO: the connection that worked last is the least likely to have been closed."""
    first, _ = opened(poller, pool, origin)
    second, _ = opened(poller, pool, origin)
    pool.release(first)
    pool.release(second)
    assert "idle=2" in repr(pool)
    protocol = Recorder()
    assert pool.acquire(protocol, False, False) is second
    assert second.protocol is protocol
    assert pool.acquire(protocol, False, False) is first
    third = pool.acquire(protocol, False, False)
    assert third is not None
    assert third.connecting


def test_fresh_leaves_the_idle_ones_alone(poller: Poller, pool: Pool, origin: Origin) -> None:
    """A caller that asks for a new connection gets one."""
    idle, _ = opened(poller, pool, origin)
    pool.release(idle)
    fresh, _ = opened(poller, pool, origin)
    assert fresh is not idle
    assert pool.idle == [idle]


def test_no_more_idle_ones_than_the_limit(
    poller: Poller, hand: HandReactor, pool: Pool, origin: Origin
) -> None:
    """One too many is closed soon; a lower limit closes the oldest, a higher limit closes none."""
    channels = idle_ones(poller, pool, origin, 3)
    assert pool.idle == channels
    sweep_after(pool, hand, SURPLUS_SECONDS)
    assert pool.idle == channels[:2]
    assert channels[2].closed
    pool.set_limit(5)
    assert pool.idle == channels[:2]
    pool.set_limit(1)
    assert pool.idle == [channels[1]]
    assert channels[0].closed
    pool.set_limit(0)
    assert pool.idle == []
    last, _ = opened(poller, pool, origin)
    pool.release(last)
    assert last.closed


def test_one_above_the_limit_serves_the_next_request(
    poller: Poller, hand: HandReactor, pool: Pool, origin: Origin
) -> None:
    """A load that swings finds its connections again; the one used last is closed first."""
    channels = idle_ones(poller, pool, origin, 4)
    assert pool.acquire(Recorder(), False, True) is channels[3]
    sweep_after(pool, hand, SURPLUS_SECONDS)
    assert not channels[3].closed
    assert channels[2].closed
    pool.release(channels[3])
    assert pool.idle == [*channels[:2], channels[3]]
    sweep_after(pool, hand, SURPLUS_SECONDS)
    assert pool.idle == channels[:2]
    # What takes a place within the limit has the whole time.
    taken = pool.acquire(Recorder(), False, True)
    assert taken is channels[1]
    pool.release(taken)
    assert taken.deadline == poller.clock.now + IDLE_SECONDS


def test_idle_time_is_bounded(
    poller: Poller, hand: HandReactor, pool: Pool, origin: Origin
) -> None:
    """An idle connection is closed after IDLE_SECONDS; one in use again is not."""
    idle, far = opened(poller, pool, origin)
    used, _ = opened(poller, pool, origin)
    poller.doRead()
    pool.release(used)
    pool.release(idle)
    assert idle.deadline == poller.clock.now + IDLE_SECONDS
    idle.deadline = poller.clock.now - 1.0
    hand.advance(TICK)
    assert idle.closed
    assert pool.idle == [used]
    assert far.recv(1) == b""


def test_byte_without_a_request_poisons(poller: Poller, pool: Pool, origin: Origin) -> None:
    """Bytes that no request asked for are never given to the next request."""
    channel, far = opened(poller, pool, origin)
    pool.release(channel)
    far.send(b"HTTP/1.1 200 OK\r\n\r\n")
    pump(poller, lambda: channel.closed)
    assert pool.idle == []


@pytest.mark.parametrize("way", ["end", "reset"])
def test_idle_connection_that_the_server_ends(
    poller: Poller, pool: Pool, origin: Origin, way: str
) -> None:
    """The connection leaves the pool."""
    channel, far = opened(poller, pool, origin)
    other, _ = opened(poller, pool, origin)
    pool.release(channel)
    pool.release(other)
    if way == "reset":
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    far.close()
    pump(poller, lambda: channel.closed)
    assert pool.idle == [other]


def test_check_finds_what_has_just_been_closed(poller: Poller, pool: Pool, origin: Origin) -> None:
    """Before a request that must not be sent twice, the kernel is asked: a connection with an
    end or bytes is closed, and the next one is taken."""
    good, _ = opened(poller, pool, origin)
    ended, far = opened(poller, pool, origin)
    pool.release(good)
    pool.release(ended)
    far.close()
    pump(poller, lambda: not ended.is_quiet() or ended.closed)
    assert pool.acquire(Recorder(), False, True) is good
    assert ended.closed


def test_connection_at_its_end_is_not_kept(poller: Poller, pool: Pool, origin: Origin) -> None:
    """A server that has ended its side takes no further request."""
    channel, far = opened(poller, pool, origin)
    far.close()
    pump(poller, lambda: channel.at_end)
    pool.release(channel)
    assert channel.closed


def test_released_connection_reads_again(poller: Poller, pool: Pool, origin: Origin) -> None:
    """One that was paused for a slow client reads again, so that its end is not missed."""
    channel, far = opened(poller, pool, origin)
    channel.pause()
    pool.release(channel)
    far.close()
    pump(poller, lambda: channel.closed)
    assert pool.idle == []


def test_closed_pool_lets_busy_ones_finish(poller: Poller, pool: Pool, origin: Origin) -> None:
    """The server was removed: idle connections close at once, a busy one when it is given back."""
    idle, _ = opened(poller, pool, origin)
    busy, far = opened(poller, pool, origin)
    pool.release(idle)
    pool.close()
    assert idle.closed
    assert not busy.closed
    busy.write(b"still")
    assert far.recv(10) == b"still"
    pool.release(busy)
    assert busy.closed


V4, V6 = socket.AF_INET, socket.AF_INET6


@pytest.fixture
def wide() -> Iterator[Origin]:
    """A server at every IPv4 address of this machine."""
    with ExitStack() as stack:
        yield Origin(stack, "0.0.0.0")


@pytest.fixture
def named(poller: Poller, wide: Origin) -> Pool:
    """A pool for a server that has three addresses; it keeps 10 connections idle."""
    pool = Pool(poller, "server.example", wide.port, 10)
    pool.set_addresses([(V4, f"127.0.0.{last}") for last in (1, 2, 3)])
    return pool


def led_to(far: socket.socket) -> str:
    """The last number of the address to which a connection was made."""
    name: str = far.getsockname()[0]
    return name.rpartition(".")[2]


def used(poller: Poller, pool: Pool, origin: Origin, ends: dict[Any, str]) -> str:
    """The address that a request gets, idle connections first; ``ends`` keeps who is where."""
    protocol = Recorder()
    channel = pool.acquire(protocol, False, True)
    assert channel is not None
    if channel.connecting:
        pump(poller, lambda: protocol.events == ["connected"])
        ends[channel] = led_to(origin.accept())
    pool.release(channel)
    return ends[channel]


def test_addresses_are_used_in_turn(poller: Poller, named: Pool, wide: Origin) -> None:
    """This also holds for connections that wait for work: each address gets its share, and
    no more connections are made than there are addresses."""
    ends: dict[Any, str] = {}
    assert [used(poller, named, wide, ends) for _ in range(9)] == ["1", "2", "3"] * 3
    assert len(ends) == 3


def test_address_that_leaves_drains(poller: Poller, named: Pool, wide: Origin) -> None:
    """Its idle connections are closed now and busy ones once they are released; those of
    other addresses stay.  To set the same addresses again changes nothing."""
    idle = [opened(poller, named, wide) for _ in range(3)]
    busy = [opened(poller, named, wide) for _ in range(3)]
    for channel, _ in idle:
        named.release(channel)
    named.set_addresses(list(named.addresses))
    assert named.idle == [channel for channel, _ in idle]
    named.set_addresses([(V4, "127.0.0.1"), (V4, "127.0.0.2"), (V4, "127.0.0.4")])
    assert [led_to(far) for channel, far in idle if channel.closed] == ["3"]
    assert not any(channel.closed for channel, _ in busy)
    busy[2][0].write(b"still")
    assert busy[2][1].recv(10) == b"still"
    for channel, _ in busy:
        named.release(channel)
    assert [led_to(far) for channel, far in busy if channel.closed] == ["3"]


def test_address_that_comes_back_is_new(poller: Poller, named: Pool, wide: Origin) -> None:
    """A connection from before, and one to the address that came last, is not kept once its
    address has left."""
    (one, _), (two, _), (three, _) = [opened(poller, named, wide) for _ in range(3)]
    named.set_addresses([(V4, "127.0.0.2")])
    named.release(three)
    assert three.closed
    named.set_addresses([(V4, "127.0.0.1"), (V4, "127.0.0.2")])
    named.release(one)
    assert one.closed
    named.release(two)
    assert named.idle == [two]


def test_every_address_is_tried_once(poller: Poller, origin: Origin) -> None:
    """A name with three addresses gets three attempts, one for each."""
    pool = Pool(poller, "server.example", origin.port, 2)
    assert pool.acquire(Recorder(), True, False) is None
    pool.set_addresses([(V4, f"127.0.0.{last}") for last in (2, 3, 4)])
    marks = []
    for attempt in (1, 2, 3):
        protocol = Recorder()
        channel = pool.acquire(protocol, True, False)
        assert channel is not None
        pump(poller, lambda protocol=protocol: protocol.events)  # type: ignore[misc]
        assert protocol.was_lost
        marks.append(channel.mark)
        assert pool.other_address(attempt, channel.mark) is (attempt < 3)
    assert len(set(marks)) == 3


def test_dead_address_is_avoided_for_a_while(
    poller: Poller, hand: HandReactor, named: Pool, wide: Origin
) -> None:
    """The others share its turns; if all are dead, they are used in turn all the same."""
    marks = {led_to(far): channel.mark for channel, far in (
        opened(poller, named, wide) for _ in range(3)
    )}  # fmt: skip

    def next_six() -> list[str]:
        found = []
        for _ in range(6):
            channel, far = opened(poller, named, wide)
            found.append(led_to(far))
            channel.close()
        return sorted(found)

    named.other_address(1, marks["2"])
    assert next_six() == ["1"] * 3 + ["3"] * 3
    for mark in marks.values():
        named.other_address(1, mark)
    assert next_six() == ["1", "1", "2", "2", "3", "3"]
    poller.clock.now += AVOID_SECONDS + 1
    assert next_six() == ["1", "1", "2", "2", "3", "3"]
    assert named._avoided == {}


def test_ipv6_is_used_while_ipv4_cannot_be(poller: Poller, wide: Origin) -> None:
    """The two are mostly the same servers, which mostly listen on IPv4."""
    pool = Pool(poller, "server.example", wide.port, 2)
    pool.set_addresses([(V4, "127.0.0.1"), (V4, "127.0.0.2"), (V6, "::1")])
    marks = {}
    for _ in range(4):
        channel, far = opened(poller, pool, wide)
        marks[led_to(far)] = channel.mark
    assert sorted(marks) == ["1", "2"]
    for mark in marks.values():
        pool.other_address(1, mark)
    assert pool._next_address() == (V6, "::1")


def test_address_that_cannot_be_connected_to_at_all(poller: Poller, wide: Origin) -> None:
    """The next one is taken at once, without a failure; the name of none has no channel."""
    pool = Pool(poller, "server.example", wide.port, 2)
    pool.set_addresses([(V4, "255.255.255.255"), (V4, "127.0.0.1")])
    for _ in range(3):
        assert led_to(opened(poller, pool, wide)[1]) == "1"
    pool.set_addresses([(V4, "255.255.255.255"), (V4, "no address")])
    assert pool.acquire(Recorder(), True, False) is None


def test_socket_that_cannot_be_made(
    poller: Poller, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a descriptor or a route there is no channel, and nothing raises."""

    def no_socket(*_: Any) -> socket.socket:
        raise OSError(errno.EMFILE, "none left")

    with monkeypatch.context() as patched:
        patched.setattr(socket, "socket", no_socket)
        assert pool.acquire(Recorder(), True, False) is None
    pool.set_addresses([(socket.AF_INET, "255.255.255.255")])
    assert pool.acquire(Recorder(), True, False) is None
    pool.set_addresses([(socket.AF_INET, "no address")])
    assert pool.acquire(Recorder(), True, False) is None
    assert len(poller) == 0


def test_idle_pool_is_silent(poller: Poller, pool: Pool, origin: Origin) -> None:
    """An idle connection causes no events, and calls that come twice do no harm."""
    channel, _ = opened(poller, pool, origin)
    pool.release(channel)
    assert is_silent(poller)
    pool.drained(channel)
    pool.lost(channel, "gone")
    pool.lost(channel, "gone twice")
    assert channel.closed


@pytest.mark.real(False)
@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", [(socket.AF_INET, "127.0.0.1")]),
        ("::1", [(socket.AF_INET6, "::1")]),
        ("fe80::1", [(socket.AF_INET6, "fe80::1")]),
        ("web1", []),
        ("10.example", []),
        ("localhost", []),
    ],
)
def test_literal_addresses(host: str, address: list[tuple[int, str]]) -> None:
    """An address needs no lookup, and the quick test for addresses agrees with the exact one."""
    assert literal_address(host) == address
    assert is_literal(Server(host, 80).host) is bool(address)


def test_shortage_of_this_machine_is_told_apart(
    poller: Poller, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pool says why when no descriptor is left, until there is one again."""

    def none_left(*_: Any) -> socket.socket:
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("slardar.dataplane.pool.socket.socket", none_left)
        assert pool.acquire(Recorder(), True, False) is None
    assert pool.shortage == "Too many open files"
    channel = pool.acquire(Recorder(), True, False)
    assert channel is not None
    assert pool.shortage == ""
    channel.close()


def test_channels_are_made_by_the_factory(poller: Poller, origin: Origin) -> None:
    """A pool for another kind of channel is given what makes it; without that, bytes are
    sent as they are."""

    class Other(Channel):
        pass

    plain, other = (
        Pool(poller, "127.0.0.1", origin.port, 2),
        Pool(poller, "127.0.0.1", origin.port, 2, Other),
    )
    for pool, kind, spliced in ((plain, PlainChannel, True), (other, Other, False)):
        channel, far = opened(poller, pool, origin)
        assert type(channel) is kind
        assert channel.takes_spliced is spliced
        assert channel.bulk
        channel.write(b"request")
        assert far.recv(100) == b"request"
        pool.release(channel)
        assert pool.acquire(Recorder(), False, True) is channel
        channel.close()


def test_unasked_reply_of_the_same_batch_is_never_used(
    poller: Poller, pool: Pool, origin: Origin
) -> None:
    """Bytes of an idle connection were read, and the pool was not told yet.  A request that is
    handled in between does not get that connection."""
    channel, far = opened(poller, pool, origin)
    pool.release(channel)
    far.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    pump(poller, lambda: not channel.is_quiet())
    given: list[Any] = []

    class Asking(Recorder):
        """Asks for a connection when it receives anything."""

        def received(self, channel: Any, data: Any) -> None:
            given.append(pool.acquire(Recorder(), False, False))

    near, other = socket.socketpair()
    near.setblocking(False)
    PlainChannel(poller, near, Asking())
    other.sendall(b"x")
    # Both have bytes before the batch, so both are read before either is handled.
    pump(poller, lambda: given)
    assert given[0] is not channel
    assert channel.closed
    assert channel not in pool.idle
    given[0].close()
    other.close()


# Connections that tell a client.


class Client(Recorder):
    """The protocol of a request of a client with this name."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def proxy_header(self, version: int) -> bytes:
        return f"{self.name} {version};".encode()

    def connected(self, channel: Any) -> None:
        super().connected(channel)
        channel.write(b"request")


def introduced(
    poller: Poller, pool: Pool, origin: Origin, name: str
) -> tuple[Channel, socket.socket]:
    """A new connection of a client, and its other end, which has got its header first."""
    client = Client(name)
    channel = pool.acquire(client, False, False)
    assert channel is not None
    assert channel.connecting
    pump(poller, lambda: client.events == ["connected"])
    assert channel.protocol is client
    far = origin.accept()
    wanted = f"{name} {pool.proxy_protocol};request".encode()
    assert far.recv(len(wanted), socket.MSG_WAITALL) == wanted
    return channel, far


def test_connection_serves_the_client_that_it_tells(
    poller: Poller, pool: Pool, origin: Origin
) -> None:
    """Also where others wait that are newer; a client without one gets a new connection."""
    pool.set_proxy_protocol(2)
    one, far = introduced(poller, pool, origin, "one")
    two, _ = introduced(poller, pool, origin, "two")
    pool.release(one)
    pool.release(two)
    again = Client("one")
    assert pool.acquire(again, False, False) is one
    assert one.protocol is again
    # The header was sent once.
    one.write(b"more")
    assert far.recv(100) == b"more"
    assert pool.acquire(Client("one"), False, False) not in (one, two)
    assert pool.idle == [two]


def test_oldest_connection_makes_room_for_the_next_client(
    poller: Poller, pool: Pool, origin: Origin
) -> None:
    """Its client is the likeliest to be gone.  Without room nothing is kept."""
    pool.set_proxy_protocol(1)
    channels = [introduced(poller, pool, origin, str(number))[0] for number in range(3)]
    for channel in channels:
        pool.release(channel)
    assert pool.idle == channels[1:]
    assert channels[0].closed
    pool.set_limit(0)
    last, _ = introduced(poller, pool, origin, "last")
    pool.release(last)
    assert last.closed
    assert pool.idle == []


def test_other_version_ends_the_connections_from_before(
    poller: Poller, pool: Pool, origin: Origin
) -> None:
    """Idle ones now, and busy ones once they are released; the same version ends none."""
    idle, _ = opened(poller, pool, origin)
    busy, _ = opened(poller, pool, origin)
    pool.release(idle)
    pool.set_proxy_protocol(0)
    assert pool.idle == [idle]
    pool.set_proxy_protocol(2)
    assert idle.closed
    pool.release(busy)
    assert busy.closed
    telling, _ = introduced(poller, pool, origin, "a")
    other, _ = introduced(poller, pool, origin, "a")
    pool.release(telling)
    pool.set_proxy_protocol(2)
    assert pool.idle == [telling]
    pool.set_proxy_protocol(0)
    assert telling.closed
    pool.release(other)
    assert other.closed
    plain, _ = opened(poller, pool, origin)
    pool.release(plain)
    assert pool.idle == [plain]


def test_every_address_gets_the_header(poller: Poller, named: Pool, wide: Origin) -> None:
    """An idle connection to another address is not used for the one whose turn it is."""
    named.set_proxy_protocol(1)
    channels = [introduced(poller, named, wide, "one") for _ in range(3)]
    assert sorted(led_to(far) for _, far in channels) == ["1", "2", "3"]
    for channel, _ in channels:
        named.release(channel)
    assert [named.acquire(Client("one"), False, False) for _ in range(3)] == [
        channel for channel, _ in channels
    ]


def test_connection_that_cannot_be_made_is_told_to_its_request(
    poller: Poller, hand: HandReactor, pool: Pool, origin: Origin
) -> None:
    """As without a header: that it is lost, and that it is late."""
    pool.set_proxy_protocol(2)
    late = Client("late")
    channel = pool.acquire(late, True, False)
    assert channel is not None
    channel.deadline = poller.clock.now - 1.0
    hand.advance(TICK)
    assert late.events[0] == "late"
    channel.close()
    origin.sock.close()
    lost = Client("lost")
    assert pool.acquire(lost, True, False) is not None
    pump(poller, lambda: lost.was_lost)
    assert lost.events == [("lost", "Connection refused")]
