"""The one reader on the reactor."""

from __future__ import annotations

import socket
import time
from select import EPOLLIN
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import defer
from twisted.internet.interfaces import IReadDescriptor
from zope.interface.verify import verifyObject

from slardar.dataplane.channel import Channel
from slardar.dataplane.plain_channel import PlainChannel
from slardar.dataplane.poller import AT_ONCE, BATCH, TICK, TURN, Poller
from slardar.http1.interfaces import Step
from tests.dataplane.conftest import Connect
from tests.dataplane.kit import HandReactor, Recorder, is_silent, logged, pump, step

pytestmark = pytest.mark.real


@pytest.fixture
def poller(poller: Poller) -> Poller:
    """Its turns end by events, and not by the clock of a slow machine."""
    poller.turn = 60.0
    return poller


class Closer(Recorder):
    """Closes other channels as soon as it gets a call, and opens a new one."""

    def __init__(self, poller: Poller) -> None:
        super().__init__()
        self.poller = poller
        self.victims: list[Channel] = []
        self.opened: list[Channel] = []
        self.peers: list[socket.socket] = []

    def received(self, channel: Any, data: Any) -> None:
        super().received(channel, data)
        for victim in self.victims:
            if victim is not channel and not victim.closed:
                victim.close()
                near, far = socket.socketpair()
                self.peers.append(far)
                near.setblocking(False)
                self.opened.append(PlainChannel(self.poller, near, Recorder()))


@pytest.mark.real(False)
def test_poller_is_one_reader(hand: HandReactor) -> None:
    """The reactor sees one IReadDescriptor, from start to stop."""
    poller = Poller(hand)
    verifyObject(IReadDescriptor, poller)
    assert poller.logPrefix() == "data plane"
    poller.start()
    near, far = socket.socketpair()
    channel = PlainChannel(poller, near, Recorder())
    assert hand.readers == [poller]
    assert len(poller) == 1
    poller.stop()
    assert hand.readers == []
    assert channel.closed
    assert not hand.getDelayedCalls()
    assert far.recv(1) == b""
    poller.connectionLost(None)
    far.close()


@pytest.mark.real(False)
@pytest.mark.parametrize("starts", [True, False])
def test_stop_is_the_end(hand: HandReactor, starts: bool) -> None:
    """A poller can be stopped whether it was started or not, and twice.  Nothing that is asked
    for by then, or later, is left in the reactor."""
    poller = Poller(hand)
    if starts:
        poller.start()
    near, far = socket.socketpair()
    channel = PlainChannel(poller, near, Recorder())
    poller.take_soon(Step())
    poller.stop()
    poller.stop()
    assert channel.closed
    assert far.recv(1) == b""
    poller.take_soon(Step())
    assert not hand.readers
    assert not hand.getDelayedCalls()
    far.close()


@pytest.mark.real(False)
@pytest_twisted.ensureDeferred
async def test_poller_works_under_a_real_reactor(reactor: Any) -> None:
    """The reactor watches the poller's epoll and wakes when a channel has something."""
    heard: defer.Deferred[bytes] = defer.Deferred()

    class Heard(Recorder):
        def received(self, channel: Any, data: Any) -> None:
            heard.callback(bytes(data))

    poller = Poller(reactor)
    poller.start()
    try:
        near, far = socket.socketpair()
        near.setblocking(False)
        PlainChannel(poller, near, Heard())
        far.send(b"hello")
        heard.addTimeout(10, reactor)
        assert await heard == b"hello"
        far.close()
    finally:
        poller.stop()


@pytest.mark.real(False)
def test_socket_closed_in_a_batch_keeps_its_number_until_the_end(
    poller: Poller, connect: Connect
) -> None:
    """An earlier event of the batch may close a channel.  A later event for that channel finds
    nobody, and above all no new channel with the same descriptor."""
    closer = Closer(poller)
    fars = []
    for _ in range(20):
        channel, far, _ = connect(unix=True)
        channel.protocol = closer
        closer.victims.append(channel)
        fars.append(far)
    numbers = {channel.fd for channel in closer.victims}
    for far in fars:
        far.send(b"x")
    poller.doRead()
    # The first one closed all others before their events were looked at.
    assert closer.data == b"x"
    assert len(closer.opened) == 19
    assert not numbers & {channel.fd for channel in closer.opened}
    assert all(channel.sock.fileno() == -1 for channel in closer.victims if channel.closed)
    assert all(channel.protocol.events == [] for channel in closer.opened)
    for sock in closer.peers:
        sock.close()


def test_channel_that_raises_ends_alone(poller: Poller, connect: Connect) -> None:
    """A bug that is met on one channel is logged once and closes that channel.  The others of
    the batch get what is theirs."""

    class Broken(Recorder):
        def received(self, channel: Any, data: Any) -> None:
            raise ValueError("a bug")

    good, good_far, good_protocol = connect()
    bad, bad_far, _ = connect()
    bad.protocol = broken = Broken()
    good_far.send(b"good")
    bad_far.send(b"bad")
    with logged() as events:
        pump(poller, lambda: bad.closed and good_protocol.data)
    assert not good.closed
    assert good_protocol.data == b"good"
    assert broken.events == [("lost", "internal error")]
    assert [event["log_failure"].type for event in events] == [ValueError]
    assert bad_far.recv(1) == b""


def test_want_of_memory_ends_one_channel(poller: Poller, connect: Connect) -> None:
    """``out_of_memory`` is called before anything is logged, which takes memory, too."""

    class Short(Recorder):
        def received(self, channel: Any, data: Any) -> None:
            raise MemoryError

    told: list[list[Any]] = []
    good, good_far, good_protocol = connect()
    bad, bad_far, _ = connect()
    bad.protocol = Short()
    good_far.send(b"good")
    bad_far.send(b"bad")
    with logged() as events:
        poller.out_of_memory = lambda: told.append(list(events))
        pump(poller, lambda: bad.closed and good_protocol.data)
    assert told == [[]]
    assert not good.closed
    assert good_protocol.data == b"good"


def test_want_of_memory_between_channels_ends_those_of_the_batch(
    poller: Poller, connect: Connect
) -> None:
    """The poller has lost what was read for them.  Other channels and the poller go on."""
    good, good_far, good_protocol = connect()
    bad, bad_far, _ = connect()
    told: list[None] = []
    poller.out_of_memory = lambda: told.append(None)
    take_events = poller._take_events

    def short(*arguments: Any) -> Any:
        poller._take_events = take_events
        bad.came = b"x"
        poller.arrived.append(bad)
        poller.unsent.append(bad)
        raise MemoryError

    poller._take_events = short
    poller.doRead()
    assert told == [None]
    assert bad.closed
    assert bad_far.recv(1) == b""
    assert (poller.arrived, poller.unsent, poller.gathering) == ([], [], False)
    good_far.send(b"good")
    pump(poller, lambda: good_protocol.data)
    assert good_protocol.data == b"good"
    assert not good.closed


def test_bytes_that_wait_are_counted(poller: Poller, connect: Connect) -> None:
    """``buffered`` adds up what all channels hold."""
    one, _, _ = connect()
    other, _, _ = connect()
    assert poller.buffered() == 0
    sent = [one.write(bytes(1 << 24)), other.write(bytes(1 << 23))]
    assert sent == [True, True]
    assert 1 << 24 < poller.buffered() <= (1 << 24) + (1 << 23)
    assert poller.buffered() == one.held + other.held
    one.close()
    assert poller.buffered() == other.held


def test_channel_that_fails_even_at_its_end_is_closed(poller: Poller, connect: Connect) -> None:
    """A protocol that raises for everything it is told cannot keep its channel open."""

    class Hopeless(Recorder):
        def received(self, channel: Any, data: Any) -> None:
            raise ValueError("a bug")

        def lost(self, channel: Any, message: str) -> None:
            raise ValueError("another")

    channel, far, _ = connect()
    channel.protocol = Hopeless()
    far.send(b"x")
    with logged() as events:
        pump(poller, lambda: channel.closed)
    assert len(events) == 2
    assert len(poller) == 0
    assert channel.write(b"nothing more") is False


@pytest.mark.real(False)
def test_batch_is_bounded_and_nobody_is_left_out(poller: Poller, connect: Connect) -> None:
    """One turn takes at most BATCH events; those left over come in the next one."""
    pairs = [connect(unix=True) for _ in range(BATCH + 20)]
    for _, far, _ in pairs:
        far.send(b"x")
    poller.doRead()
    heard = sum(1 for _, _, protocol in pairs if protocol.data)
    assert heard == BATCH
    poller.doRead()
    assert all(protocol.data == b"x" for _, _, protocol in pairs)


@pytest.mark.real(False)
def test_what_comes_meanwhile_belongs_to_the_turn(poller: Poller, connect: Connect) -> None:
    """Channels that have something by the end of a batch are served in the same turn, until the
    turn has had its events."""
    pairs = [connect(unix=True) for _ in range(3)]

    class Next(Recorder):
        def __init__(self, far: socket.socket) -> None:
            super().__init__()
            self.far = far

        def received(self, channel: Any, data: Any) -> None:
            super().received(channel, data)
            self.far.send(b"x")

    # Each wakes the next; the last one wakes the first.
    protocols = [Next(pairs[index - 2][1]) for index in range(3)]
    for (channel, _, _), protocol in zip(pairs, protocols, strict=True):
        channel.protocol = protocol
    pairs[0][1].send(b"x")
    poller.doRead()
    assert sum(len(protocol.data) for protocol in protocols) == BATCH
    assert min(len(protocol.data) for protocol in protocols) == BATCH // 3


@pytest.mark.real(False)
def test_turn_may_be_ended(poller: Poller, connect: Connect) -> None:
    """end_turn leaves further events to the reactor's next turn."""
    channel, far, _ = connect(unix=True)

    class Ends(Recorder):
        def received(self, channel: Any, data: Any) -> None:
            super().received(channel, data)
            far.send(b"x")
            poller.end_turn()

    channel.protocol = protocol = Ends()
    far.send(b"x")
    for turn in range(1, 4):
        poller.doRead()
        assert protocol.data == b"x" * turn


def test_sweep_finds_the_late_ones(poller: Poller, connect: Connect, hand: HandReactor) -> None:
    """A deadline that has passed is told once.  One of 0 never passes."""
    late, _, late_protocol = connect()
    early, _, early_protocol = connect()
    never, _, never_protocol = connect()
    late.deadline = time.monotonic() - 0.001
    early.deadline = time.monotonic() + 100.0
    hand.advance(TICK)
    assert late_protocol.events == ["late"]
    assert late.deadline == 0.0
    hand.advance(TICK)
    assert late_protocol.events == ["late"]
    assert early_protocol.events == []
    assert never_protocol.events == []
    assert not any(channel.closed for channel in (late, early, never))


@pytest.mark.real(False)
def test_late_channel_that_closes_another_late_one(
    poller: Poller, connect: Connect, hand: HandReactor
) -> None:
    """A channel that was closed during the sweep is not called, even if a new channel has its
    descriptor's number by then."""
    made: list[tuple[Channel, socket.socket, Recorder]] = []

    class CloseAll(Recorder):
        def late(self, channel: Any) -> None:
            super().late(channel)
            for victim in victims:
                if not victim.closed and victim is not channel:
                    victim.close()
                    made.append(connect(unix=True))

    protocols = [CloseAll(), CloseAll(), CloseAll()]
    victims: list[Channel] = []
    for protocol in protocols:
        channel, _, _ = connect(unix=True)
        channel.protocol = protocol
        channel.deadline = time.monotonic() - 1.0
        victims.append(channel)
    numbers = {victim.fd for victim in victims}
    hand.advance(TICK)
    assert sum(len(protocol.events) for protocol in protocols) == 1
    assert numbers & {channel.fd for channel, _, _ in made}, "no number was used again"
    assert all(protocol.events == [] for _, _, protocol in made)
    assert all(not channel.closed for channel, _, _ in made)
    # To remove a closed one again does not touch the channel that has its number now.
    for victim in victims:
        if victim.closed:
            poller.remove(victim)
    assert len(poller) == 1 + len(made)


def test_late_that_raises_closes_only_its_channel(
    poller: Poller, connect: Connect, hand: HandReactor
) -> None:
    """The sweep goes on after a channel whose ``late`` has a bug."""

    class Broken(Recorder):
        def late(self, channel: Any) -> None:
            raise ValueError("a bug")

    bad, _, _ = connect()
    bad.protocol = Broken()
    good, _, good_protocol = connect()
    bad.deadline = good.deadline = time.monotonic() - 1.0
    with logged() as events:
        hand.advance(TICK)
    assert bad.closed
    assert good_protocol.events == ["late"]
    assert len(events) == 1


@pytest.mark.real(False)
def test_event_of_a_forgotten_descriptor_is_passed_over(poller: Poller) -> None:
    """The kernel may still know a descriptor that no channel has; its events do no harm."""
    near, far = socket.socketpair()
    poller._epoll.register(near.fileno(), EPOLLIN)
    far.send(b"x")
    poller.doRead()
    near.close()
    far.close()
    assert is_silent(poller)


class Answering(Recorder):
    """Answers what it receives, and writes down in what order things happened."""

    def __init__(self, log: list[str], name: str) -> None:
        super().__init__()
        self.log = log
        self.name = name

    def received(self, channel: Any, data: Any) -> None:
        self.log.append(f"{self.name} heard")
        channel.write_soon(b"one ")
        channel.write_soon(b"two")
        assert channel.unsent
        if self.name == "a":
            channel.close_when_flushed()


def test_batch_is_read_then_handled_then_sent(poller: Poller, connect: Connect) -> None:
    """All are read before any is handled, and all are handled before anything small is sent.
    What was put off is sent whole, before the connection closes."""
    log: list[str] = []
    a, far_a, _ = connect(Answering(log, "a"))
    b, far_b, _ = connect(Answering(log, "b"))
    for channel, name in ((a, "a"), (b, "b")):
        sock = channel.sock
        channel.sock = Watched(sock, log, name)
    far_a.sendall(b"hello")
    far_b.sendall(b"hello")
    pump(poller, lambda: a.closed and len(log) >= 6)
    names = [entry.split()[1] for entry in log]
    assert names[:6] == ["read", "read", "heard", "heard", "sent", "sent"]
    assert far_a.recv(100) == b"one two"
    assert far_a.recv(100) == b""
    assert far_b.recv(100) == b"one two"
    assert not b.unsent


def test_connections_end_when_all_is_sent(poller: Poller, connect: Connect) -> None:
    """A batch sends every reply before it ends the first connection, so that peers may end theirs
    meanwhile; each peer gets its reply and the end."""
    log: list[str] = []
    leaving = [connect(Answering(log, "a")) for _ in range(3)]
    for channel, far, _ in leaving:
        channel.sock = Watched(channel.sock, log, "a")
        far.sendall(b"hello")
    pump(poller, lambda: all(channel.closed for channel, _, _ in leaving))
    told = [entry.split()[1] for entry in log]
    assert told[:9] == ["read"] * 3 + ["heard"] * 3 + ["sent"] * 3
    # The form in C looks at the descriptor.
    assert set(told[9:]) <= {"looked"}
    for _, far, _ in leaving:
        assert far.recv(100) == b"one two"
        assert far.recv(100) == b""


@pytest.mark.parametrize("again", [False, True])
def test_servers_come_first(poller: Poller, connect: Connect, again: bool) -> None:
    """What a server sends does not wait behind clients that were there before, whatever was
    changed in what is watched."""
    server, far_server, reply = connect(unix=True, to_server=True)
    pump(poller, lambda: not server.connecting)
    if again:
        server.pause()
        server.resume()
        poller.unwatch(server)
        poller.watch(server, EPOLLIN)
    clients = [connect(unix=True) for _ in range(AT_ONCE)]
    for _, far, _ in clients:
        far.send(b"x")
    far_server.send(b"x")
    poller.begin_turn()
    poller.handle_batch()
    assert reply.data == b"x"
    assert sum(len(protocol.data) for _, _, protocol in clients) >= AT_ONCE // 2
    pump(poller, lambda: all(protocol.data for _, _, protocol in clients))


def test_servers_leave_room_for_clients(poller: Poller, connect: Connect) -> None:
    """A third of each batch is for others, however much servers send."""
    servers = [connect(unix=True, to_server=True) for _ in range(2 * AT_ONCE)]
    pump(poller, lambda: not any(channel.connecting for channel, _, _ in servers))
    clients = [connect(unix=True) for _ in range(AT_ONCE)]
    for _, far, _ in servers + clients:
        far.send(b"x")
    poller.begin_turn()
    poller.handle_batch()
    assert sum(len(protocol.data) for _, _, protocol in servers) == AT_ONCE
    # One event tells of the servers' epoll.
    assert sum(len(protocol.data) for _, _, protocol in clients) >= AT_ONCE // 2 - 1
    pump(poller, lambda: all(protocol.data for _, _, protocol in servers + clients))


@pytest.mark.parametrize(
    ("clients", "servers", "asked"),
    [
        (0, 0, ["all"]),
        (1, 0, ["all"]),
        (0, 1, ["all", "servers"]),
        (1, 1, ["all", "servers"]),
        (AT_ONCE, 0, ["all", "servers"]),
        (AT_ONCE, 1, ["all", "servers"]),
    ],
)
def test_servers_are_asked_where_they_may_have_sent(
    poller: Poller, connect: Connect, clients: int, servers: int, asked: list[str]
) -> None:
    """A look asks the servers' epoll only if the other one tells of it, or is full."""
    answers = [connect(unix=True, to_server=True)]
    pump(poller, lambda: not answers[0][0].connecting)
    requests = [connect(unix=True) for _ in range(AT_ONCE)]
    step(poller)
    sending = answers[:servers] + requests[:clients]
    for _, far, _ in sending:
        far.send(b"x")
    names = {id(poller._epoll): "all", id(poller._servers): "servers"}
    told: list[str] = []
    take_events = poller._take_events

    def noting(epoll: Any, *others: Any) -> Any:
        told.append(names[id(epoll)])
        return take_events(epoll, *others)

    poller._take_events = noting
    step(poller)
    assert told == asked
    assert all(protocol.data for _, _, protocol in answers[:servers])
    # Where a look was full, the next one begins with servers.
    told.clear()
    step(poller)
    assert told == (["servers", "all"] if clients == AT_ONCE else ["all"])
    pump(poller, lambda: all(protocol.data for _, _, protocol in sending))


class Noted(Step):
    """Writes down when its parts are done.  The second part may begin another step."""

    def __init__(self, log: list[str], name: str, channel: Any, more: bool) -> None:
        self.log = log
        self.name = name
        self.channel = channel
        self.more = more

    def look(self) -> None:
        if self.name == "bad":
            raise ValueError("a bug")
        self.log.append(f"{self.name} looks")

    def go_on(self) -> None:
        if self.name == "bad":
            return
        self.log.append(f"{self.name} goes on")
        if self.more:
            assert self.channel.put_off(Noted(self.log, self.name, self.channel, False))
        self.channel.write_soon(b"done")


class Stepping(Recorder):
    """Puts off its work as a step."""

    def __init__(self, log: list[str], name: str) -> None:
        super().__init__()
        self.log = log
        self.name = name

    def received(self, channel: Any, data: Any) -> None:
        self.log.append(f"{self.name} heard")
        assert channel.put_off(Noted(self.log, self.name, channel, data == b"more"))


def test_steps_of_a_batch_are_taken_together(poller: Poller, connect: Connect) -> None:
    """After everything is handled and before anything is sent: the first part of all steps,
    their second part, and then steps that followed from them.  One that raises ends its
    channel alone."""
    log: list[str] = []
    names = ("a", "bad", "b")
    pairs = [connect(Stepping(log, name)) for name in names]
    for (channel, far, _), name in zip(pairs, names, strict=True):
        channel.sock = Watched(channel.sock, log, name)
        far.sendall(b"more" if name == "b" else b"once")
    with logged() as events:
        pump(poller, lambda: log.count("a sent") + log.count("b sent") == 2)
    log = [entry for entry in log if not entry.endswith("read")]
    parts = [sorted(log[:3]), sorted(log[3:5]), sorted(log[5:7]), log[7:9], sorted(log[9:])]
    assert parts == [
        ["a heard", "b heard", "bad heard"],
        ["a looks", "b looks"],
        ["a goes on", "b goes on"],
        ["b looks", "b goes on"],
        ["a sent", "b sent"],
    ]
    assert pairs[1][0].closed
    assert len(events) == 1
    assert pairs[2][1].recv(100) == b"donedone"


def test_step_that_follows_from_sending(poller: Poller, connect: Connect) -> None:
    """It is taken in the same batch."""
    log: list[str] = []
    channel, far, _ = connect(Stepping(log, "a"))

    class Flushed(Watched):
        def send(self, data: Any, flags: int = 0) -> int:
            if log.count("a sent") == 0:
                assert channel.put_off(Noted(log, "a", channel, False))
            return super().send(data, flags)

    channel.sock = Flushed(channel.sock, log, "a")
    far.sendall(b"once")
    poller.doRead()
    assert log == ["a read", "a heard", *["a looks", "a goes on", "a sent"] * 2]


class Watched:
    """A socket that writes down when it is read and written."""

    def __init__(self, sock: socket.socket, log: list[str], name: str) -> None:
        self._sock = sock
        self._log = log
        self._name = name

    def recv(self, size: int, flags: int = 0) -> bytes:
        self._log.append(f"{self._name} {'looked' if flags else 'read'}")
        return self._sock.recv(size, flags)

    def send(self, data: Any, flags: int = 0) -> int:
        self._log.append(f"{self._name} sent")
        return self._sock.send(data, flags)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def test_channel_closed_by_another_hears_nothing_more(poller: Poller, connect: Connect) -> None:
    """It hears not even of what was read before it was closed."""
    closer = Closer(poller)
    first, far_first, _ = connect(closer)
    other = Closer(poller)
    second, far_second, _ = connect(other)
    closer.victims = [second]
    other.victims = [first]
    far_first.sendall(b"x")
    far_second.sendall(b"y")
    pump(poller, lambda: first.closed or second.closed)
    heard = closer.data + other.data
    assert heard in (b"x", b"y")
    for channel in closer.opened + other.opened:
        channel.close()
    for peer in closer.peers + other.peers:
        peer.close()


def test_outside_of_a_batch_nothing_is_put_off(poller: Poller, connect: Connect) -> None:
    """What a timer or twisted.web writes is sent at once."""
    channel, far, _ = connect()
    assert not channel.put_off(Noted([], "a", channel, False))
    channel.write_soon(b"now")
    assert not channel.unsent
    assert far.recv(100) == b"now"


class Counted(Step):
    """A step that belongs to no channel; it may take time, fail, and be followed by others."""

    def __init__(self, poller: Poller, seconds: float = 0.0, more: int = 0) -> None:
        self.poller, self.seconds, self.more, self.taken = poller, seconds, more, 0

    def look(self) -> None:
        """Nothing."""

    def go_on(self) -> None:
        self.taken += 1
        ends = time.monotonic() + self.seconds
        while time.monotonic() < ends:
            """The step is slow."""
        if self.more < 0:
            raise ValueError("broken")
        if self.taken <= self.more:
            self.poller.take_soon(self)


def test_step_without_a_channel(poller: Poller, connect: Connect, hand: HandReactor) -> None:
    """It is taken in the batch under way, or else in the next turn; one that fails is logged."""
    made: list[Counted] = []

    class Calls(Recorder):
        def received(self, channel: Any, data: Any) -> None:
            super().received(channel, data)
            made.append(Counted(poller, more=3))
            poller.take_soon(made[0])

    calls = Calls()
    channel, far, _ = connect(calls)
    far.send(b"x")
    pump(poller, lambda: calls.data)
    assert made[0].taken == 4
    other = Counted(poller)
    broken = Counted(poller, more=-1)
    poller.take_soon(broken)
    poller.take_soon(other)
    assert (broken.taken, other.taken) == (0, 0)
    with logged() as events:
        hand.turn()
    assert (broken.taken, other.taken) == (1, 1)
    assert len(events) == 1
    assert not channel.closed


@pytest.mark.real(False)
def test_steps_without_a_channel_end_a_turn(poller: Poller, hand: HandReactor) -> None:
    """However many follow one another, the reactor gets its turn; all are taken."""
    poller.turn = TURN
    steps = Counted(poller, 0.002, more=19)
    poller.take_soon(steps)
    turns = 0
    while steps.taken < 20:
        hand.turn()
        turns += 1
        assert turns <= 20
    assert turns > 1
