"""A turn of the poller ends in time with any kind of work, and no work is lost."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slardar.balancers.wrr import WeightedRoundRobin
from slardar.config import Settings
from slardar.dataplane.channel import FIRST_SIZE, SMALL, Channel
from slardar.dataplane.listener import Listener
from slardar.dataplane.listener_kinds import LISTENER_KINDS
from slardar.dataplane.plain_channel import PlainChannel
from slardar.dataplane.poller import FEW, TICK, TURN, Poller
from slardar.dataplane.pool import Pool
from slardar.dataplane.proxy import DataPlane
from slardar.http1.interfaces import ChannelBase, Step
from slardar.model.listener import spec_of
from slardar.model.live import Live
from tests.dataplane.conftest import Connect
from tests.dataplane.kit import HandReactor, Recorder, tcp_pair

#: Pieces of work, each as long as a turn: more of them than are done between looks at the clock.
COUNT = 3 * FEW


def work() -> None:
    """Be busy for as long as a turn may last."""
    end = time.monotonic() + TURN
    while time.monotonic() < end:
        pass


class Busy(Recorder):
    """Takes long in every call, and counts the calls."""

    def __init__(self, done: list[int], number: int) -> None:
        super().__init__()
        self.done = done
        self.number = number

    def _work(self) -> None:
        work()
        self.done.append(self.number)

    def received(self, channel: Any, data: Any) -> None:
        super().received(channel, data)
        self._work()

    def drained(self, channel: Any) -> None:
        self._work()

    def lost(self, channel: Any, message: str) -> None:
        self._work()

    def ended(self, channel: Any) -> None:
        self._work()

    def late(self, channel: Any) -> None:
        self._work()

    def relayed(self, channel: Any, size: int) -> None:
        """Moving a body is what takes long."""


class Slow(Step):
    """A step that takes long."""

    def __init__(self, done: list[Any], number: Any) -> None:
        self.done = done
        self.number = number

    def look(self) -> None:
        work()

    def go_on(self) -> None:
        self.done.append(self.number)


class Stepping(Recorder):
    """Puts its work off, under a key."""

    def __init__(self, done: list[Any], number: Any, key: str) -> None:
        super().__init__()
        self.done = done
        self.number = number
        self.key = key

    def received(self, channel: Any, data: Any) -> None:
        super().received(channel, data)
        assert channel.put_off(Slow(self.done, self.number), self.key)


def small(channel: Channel, far: socket.socket, busy: Busy, connect: Connect) -> None:
    far.send(b"x")


def large(channel: Channel, far: socket.socket, busy: Busy, connect: Connect) -> None:
    far.send(b"x" * (SMALL + 1))


def eager(channel: Channel, far: socket.socket, busy: Busy, connect: Connect) -> None:
    channel.eager = True
    far.send(b"x" * (SMALL + 1))


def stepping(channel: Channel, far: socket.socket, busy: Busy, connect: Connect) -> None:
    channel.protocol = Stepping(busy.done, busy.number, "a")
    far.send(b"x")


def queued(channel: Channel, far: socket.socket, busy: Busy, connect: Connect) -> None:
    channel.bulk = True
    channel.queue = "a"
    far.send(b"x")


def ends(channel: Channel, far: socket.socket, busy: Busy, connect: Connect) -> None:
    far.close()


def breaks(channel: Channel, far: socket.socket, busy: Busy, connect: Connect) -> None:
    channel.pause()
    channel.write(b"x")
    far.close()


def late(channel: Channel, far: socket.socket, busy: Busy, connect: Connect) -> None:
    channel.deadline = time.monotonic() - 1


class SlowToMove:
    """A socket to which bodies are sent slowly."""

    def __init__(self, sock: socket.socket, busy: Busy) -> None:
        self._sock = sock
        self._busy = busy

    def send(self, data: Any, flags: int = 0) -> int:
        self._busy.late(None)
        return self._sock.send(data, flags)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def moving(channel: Channel, far: socket.socket, busy: Busy, connect: Connect) -> None:
    sink, _, _ = connect(unix=True)
    sink.sock = SlowToMove(sink.sock, busy)  # type: ignore[assignment]
    channel.relay(sink, 100)
    far.send(b"x")


KINDS = [small, large, eager, stepping, queued, ends, breaks, late, moving]


@pytest.mark.real
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_turn_ends_in_time(
    poller: Poller, hand: HandReactor, connect: Connect, kind: Callable[..., None]
) -> None:
    """It ends after a few pieces of any kind at the latest; the reactor goes on with the rest,
    in order, and each piece is done once."""
    done: list[int] = []
    for number in range(COUNT):
        channel, far, busy = connect(Busy(done, number), unix=kind not in (breaks, large))
        kind(channel, far, busy, connect)
    turns = [0]
    if kind is late:
        hand.rightNow += TICK
    else:
        poller.doRead()
        turns.append(len(done))
    while len(done) < COUNT:
        # These need no event.
        hand.turn()
        turns.append(len(done))
        assert turns[-1] - turns[-2] in range(1, FEW + 1), turns
    assert turns[1] <= FEW
    assert sorted(done) == list(range(COUNT))
    if kind is not late:
        assert done == sorted(done)
    hand.turn()
    assert len(done) == COUNT


def test_others_come_between_two_turns(poller: Poller, hand: HandReactor, connect: Connect) -> None:
    """The reactor's timers and readers run in between; the poller runs by itself only while
    work is left."""
    done: list[int] = []
    for number in range(2):
        _, far, _ = connect(Busy(done, number), unix=True)
        far.send(b"x" * (SMALL + 1))
    poller.doRead()
    (call,) = [call for call in hand.getDelayedCalls() if call.time == hand.seconds()]
    poller.doRead()
    assert call.active()
    assert sorted(done) == [0, 1]
    hand.turn()
    assert not call.active()
    assert all(call.time > hand.seconds() for call in hand.getDelayedCalls())


def test_stop_forgets_the_rest(hand: HandReactor) -> None:
    """A poller that has stopped has no call left in the reactor."""
    poller = Poller(hand)
    poller.start()
    done: list[int] = []
    fars = []
    for number in range(2):
        near, far = socket.socketpair()
        near.setblocking(False)
        PlainChannel(poller, near, Stepping(done, number, "a"))
        fars.append(far)
        far.send(b"x")
    poller.doRead()
    poller.stop()
    assert not hand.getDelayedCalls()
    assert done == [0]
    for far in fars:
        far.close()


def test_slow_ones_wait_for_themselves(poller: Poller, hand: HandReactor, connect: Connect) -> None:
    """Twenty steps of one key leave room for another key's steps, and for channels without
    steps."""
    done: list[Any] = []
    for number in range(20):
        _, far, _ = connect(Stepping(done, number, "slow"), unix=True)
        far.send(b"x")
    poller.doRead()
    assert done == [0]
    _, far, _ = connect(Stepping(done, "other", "other"), unix=True)
    far.send(b"x")
    _, far, free = connect(unix=True)
    far.send(b"x")
    poller.doRead()
    # The channel without a step is served at once, the other key in the turn after the next.
    assert free.data == b"x"
    for _ in range(2):
        hand.turn()
    assert "other" in done[:4]
    while len(done) < 21:
        hand.turn()
    done.remove("other")
    assert done == list(range(20))


def test_step_of_a_channel_that_has_closed_is_left_out(
    poller: Poller, hand: HandReactor, connect: Connect
) -> None:
    """The step may take long, and nobody waits for it any more."""
    done: list[int] = []
    channels = []
    for number in range(4):
        channel, far, _ = connect(Stepping(done, number, "a"), unix=True)
        channels.append(channel)
        far.send(b"x")
    poller.doRead()
    channels[1].close()
    channels[2].close()
    hand.turn()
    assert done == [0, 3]


@pytest.mark.real
def test_what_was_read_keeps_its_channel_busy(poller: Poller, connect: Connect) -> None:
    """Until its bytes are handled, the channel is not read again, is not late, is not quiet,
    and gets no request."""
    poller.turn = 0.0
    pairs = [connect(unix=True) for _ in range(3 * FEW)]
    for _, far, _ in pairs:
        far.send(b"one")
    # The first few use up the turn; the bytes of the next are read and wait.
    poller.doRead()
    waiting = [(channel, far, protocol) for channel, far, protocol in pairs if channel.arriving]
    assert waiting == [] or all(protocol.data == b"" for _, _, protocol in waiting)
    while not waiting:
        poller.begin_turn()
        poller._tell(*poller._take_events(poller._epoll, poller._channels, 100))
        waiting = [pair for pair in pairs if pair[0].arriving]
    channel, far, protocol = waiting[0]
    far.send(b"two")
    channel.deadline = time.monotonic() - 1
    channel.late()
    channel.readable()
    channel.event(1)
    assert protocol.events == []
    assert channel.deadline > 0
    assert not channel.is_quiet()
    pool = Pool(poller, "127.0.0.1", 9, 2)
    pool.idle.append(channel)
    other = pool.acquire(Recorder(), False, False)
    assert other is not channel
    assert channel.closed
    if other is not None:
        other.close()


def test_events_left_over_find_nobody_in_a_number_that_is_used_again(
    poller: Poller, hand: HandReactor, connect: Connect
) -> None:
    """The channel of a left-over event may close before the event is handled, and a new
    channel may get its descriptor's number."""
    done: list[int] = []
    channels = []
    for number in range(4):
        channel, far, _ = connect(Busy(done, number), unix=True)
        far.send(b"x" * (SMALL + 1))
        channels.append(channel)
    poller.doRead()
    assert done == [0]
    numbers = {channel.fd for channel in channels[1:]}
    for channel in channels[1:]:
        channel.close()
    fresh = [connect(unix=True) for _ in range(4)]
    assert numbers & {channel.fd for channel, _, _ in fresh}, "no number was used again"
    for _ in range(3):
        hand.turn()
        poller.doRead()
    assert done == [0]
    assert all(protocol.data == b"" and not protocol.events for _, _, protocol in fresh)


@pytest.mark.real
def test_listeners_of_a_turn(poller: Poller, hand: HandReactor) -> None:
    """Clients are accepted in turns, too, and no listener is forgotten."""
    accepted: list[socket.socket] = []
    clients = []

    def accept(sock: socket.socket, address: bytes) -> None:
        work()
        accepted.append(sock)

    for _ in range(3):
        sock = socket.create_server(("127.0.0.1", 0))
        clients += [socket.create_connection(sock.getsockname()) for _ in range(3)]
        Listener(poller, sock, accept)
    poller.doRead()
    assert len(accepted) == 3
    while len(accepted) < 9:
        hand.turn()
    for sock in accepted + clients:
        sock.close()


def test_pipelined_requests_take_turns(hand: HandReactor) -> None:
    """A thousand requests in one read are refused one after the other: each is answered, other
    channels get their turns, and the client's end is noticed."""
    plane = DataPlane(hand, Settings(), Live(), lambda mode: WeightedRoundRobin)
    plane.start()
    poller = plane._poller
    poller.turn = 0.0
    near, far = socket.socketpair()
    near.setblocking(False)
    plane._clients.accepted(LISTENER_KINDS["http"], spec_of("unix:x"), near, b"unix:")
    far.setblocking(False)
    far.sendall(b"GET / HTTP/1.1\r\nHost: nobody\r\n\r\n" * 1000)
    far.shutdown(socket.SHUT_WR)
    turns, replies = 0, b""
    end = time.monotonic() + 10
    while plane.statistics()["connections"]:
        assert time.monotonic() < end, "it did not come to its end"
        before = plane.requests
        poller.doRead()
        assert plane.requests - before <= 64
        turns += 1
        try:
            replies += far.recv(1 << 20)
        except BlockingIOError:
            pass
    while piece := far.recv(1 << 20):
        replies += piece
    assert replies.count(b"HTTP/1.1 502 ") == plane.requests == 1000
    assert turns > 1000 // 64
    far.close()
    poller.stop()


class Sending(Recorder):
    """Sends its bytes back, sometimes in a step or after one."""

    def received(self, channel: ChannelBase, data: Any) -> None:
        super().received(channel, data)
        piece = bytes(data)
        if piece[0] % 3 == 0 and channel.put_off(_Back(channel, piece), str(piece[0] % 2)):
            return
        channel.write_soon(piece)


class _Back(Step):
    def __init__(self, channel: ChannelBase, data: bytes) -> None:
        self.channel = channel
        self.data = data

    def look(self) -> None:
        """The work is all in the other part."""

    def go_on(self) -> None:
        self.channel.write_soon(self.data)


PIECES = st.lists(
    st.tuples(
        st.integers(0, 4), st.binary(min_size=1, max_size=3), st.sampled_from([1, FIRST_SIZE])
    ),
    min_size=1,
    max_size=30,
)


@pytest.mark.real
@given(pieces=PIECES, turns=st.lists(st.sampled_from([0.0, 10.0]), min_size=1, max_size=20))
def test_nothing_is_lost_between_turns(
    pieces: list[tuple[int, bytes, int]], turns: list[float]
) -> None:
    """Bytes on any channel arrive in order and are answered in full, wherever turns end."""
    hand = HandReactor()
    poller = Poller(hand)
    poller.start()
    fars, protocols, sent = [], [], [b""] * 5
    try:
        for number in range(5):
            near, far = tcp_pair() if number == 0 else socket.socketpair()
            near.setblocking(False)
            far.setblocking(False)
            protocols.append(Sending())
            channel = PlainChannel(poller, near, protocols[-1])
            channel.bulk, channel.eager = number % 2 == 0, number == 3
            channel.queue = "q" if number == 4 else ""
            fars.append(far)
        back = [b""] * 5

        def collect() -> None:
            for number, far in enumerate(fars):
                try:
                    back[number] += far.recv(1 << 20)
                except BlockingIOError:
                    pass

        for step, (number, text, times) in enumerate(pieces):
            poller.turn = turns[step % len(turns)]
            data = text * times
            taken = fars[number].send(data)
            sent[number] += data[:taken]
            poller.doRead()
            hand.turn()
            collect()
        end = time.monotonic() + 10
        while [len(one) for one in back] != [len(one) for one in sent]:
            assert time.monotonic() < end, "not all came back"
            poller.doRead()
            collect()
        assert [protocol.data for protocol in protocols] == sent
        assert [sorted(one) for one in back] == [sorted(one) for one in sent]
    finally:
        poller.stop()
        for far in fars:
            far.close()
