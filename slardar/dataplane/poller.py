"""The reader that Twisted knows for all requests: readable when a socket of the data plane is.

A batch of events has these parts:

1. everything small is read, of servers' connections and of others by turns;
2. all of it is handled;
3. steps are taken: hooks see the requests that began, then these requests go on;
4. everything small is sent;
5. the bodies of large replies are moved, and what follows from that is handled and sent;
6. handshakes of TLS go on, within their share of the turn;
7. connections end whose clients wanted an end after the reply: a client that has taken the reply by
   now has ended its side, which leaves little to do for ours (see ``system.end_side``).

A reply of a server does not wait behind the requests of a thousand clients: what was begun is
ended before more is begun, and fewer connections to servers are in use at a time (measured with
1,000 clients: a quarter less CPU a request).

To do all this for one event after the other would cost about a third more CPU a request
(measured with 64 connections).  The kernel's code, Python's and large bodies push each other
out of the processor's caches, and a peer that sleeps between two sends must be woken for each.

A turn of the reactor ends after :data:`TURN` seconds, whatever it consists of.  What is left
is done in the next turns, in order: first what was read, then what is to be read.  Steps are
the exception.  One of them may take as long as a turn, so those that a turn leaves over wait
in queues (see :mod:`slardar.dataplane.steps`), and requests that need no step overtake them.

(Longer than 500 lines: the parts of a batch share its lists and its clock, and each line of
them is on the path of every request.)
"""

from __future__ import annotations

import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeAlias

from twisted.internet.base import DelayedCall
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.python.failure import Failure
from zope.interface import classImplements

from slardar.dataplane.failurelog import BugLog
from slardar.dataplane.pipe import Pipe
from slardar.dataplane.pollable import EPOLLIN, Batched, Pollable
from slardar.dataplane.steps import StepQueues
from slardar.dataplane.system import Epoll, take_events
from slardar.http1.interfaces import Clock, Step

__all__ = ["Poller"]

#: Events taken in one turn of the reactor: enough to spread the turn's cost, few
#: enough that timers and the control plane wait for some milliseconds at most.
BATCH: Final = 256
#: Events handled in one batch, and half as many more of clients where servers send as many:
#: what is read of 1,000 clients at a time leaves the processor's cache before it is handled
#: (measured: 5 % dearer with 256).
AT_ONCE: Final = 128

#: Seconds after which a turn ends: long beside the reactor's own part of it (6 µs), and so
#: short that nobody notices several of them, even with steps that hooks make long.
TURN: Final = 0.01
#: Small pieces of work between two looks at the clock.  They mostly take a fifth of a
#: millisecond together, but a user's own balancer may take longer.
FEW: Final = 8
#: The share of a turn that ``turns`` get: a flood of handshakes makes others wait a third
#: longer, and no more.
TURNS_SHARE: Final = 0.3

#: Seconds between two looks for late channels.  Deadlines are seconds long, so a
#: quarter is exact enough; ten thousand channels cost about a millisecond a look.
TICK: Final = 0.25

#: The channels of which epoll tells, and epoll's mask for each.  Two lists instead of one with
#: pairs, and channels without a type: compiled, a pair would be made and taken apart for each
#: event, and each list would look at the type of each channel.
_Events: TypeAlias = "tuple[list[Any], list[int]]"
_NONE: Final[_Events] = ([], [])
#: Bound here, so that the compiled code does not look it up each time.
_now: Final = time.monotonic


class Poller:
    """Carries events from private epolls to what is registered on them.

    A channel (:class:`slardar.dataplane.pollable.Batched`) leaves work to later parts of the
    batch under way, or to a later turn, by putting itself on a list: on ``arrived`` with what it
    has read in its ``came``, for its ``arrive``; on ``steps`` with a step and a key, for both
    parts of the step; on ``unsent`` for its ``flush``; on ``leaving`` for its ``leave``; on
    ``moving`` for its ``move``; on ``moved`` with the number of bytes, for its ``tell_moved``.
    On ``steps`` and ``unsent`` only while ``gathering``.  Work that takes long, and that others
    must not wait for, is put on ``turns``, for its ``take_turn``.
    """

    def __init__(self, reactor: Any) -> None:
        # Twisted has no type for a reactor that has both readers and delayed calls.
        self._reactor = reactor
        self._epoll = Epoll()
        #: Watches the connections to servers.  ``_epoll`` watches this one in turn, so that the
        #: reactor has one thing to look at.
        self._servers = Epoll()
        self._epoll.register(self._servers.fileno(), EPOLLIN)
        #: Of ``_epoll`` as many events were taken last time as were asked for.
        self._crowded = False
        self._take_events = take_events
        #: What is registered, by the numbers of the descriptors, and how many there are.  The
        #: kernel gives the lowest number that is free, so the list is as long as it has to be.
        self._channels: list[Pollable | None] = []
        self._count = 0
        #: What was removed while a batch runs.  New sockets must not get the old ones' numbers
        #: before the batch is over: its other events would reach a stranger.
        self._closing: list[Pollable] = []
        self._in_batch = False
        #: The lists of work put off, see above.
        self.arrived: list[Batched] = []
        self.steps: list[tuple[Batched, Step, str]] = []
        self.unsent: list[Batched] = []
        self.leaving: list[Batched] = []
        self.moving: list[Batched] = []
        self.moved: list[tuple[Batched, int]] = []
        self.turns: deque[Batched] = deque()
        #: Steps that belong to no channel.
        self._soon: deque[Step] = deque()
        #: Steps and events that turns left over.
        self._queued = StepQueues()
        self._held: _Events = _NONE
        #: Events that may still be taken in this turn.
        self.left = 0
        #: Seconds for a turn.
        self.turn = TURN
        #: When this turn ends (monotonic seconds, 0 before its first batch), and whether a
        #: look at the clock has found that it is over.
        self._ends = 0.0
        self._over = False
        #: Seconds that ``turns`` have taken in this turn.
        self._in_turns = 0.0
        #: Steps were taken in this turn.
        self._stepped = False
        #: Set by whoever has done much in one piece, so that the clock is looked at.
        self.much = False
        #: The call that goes on where a turn has ended.
        self._next: DelayedCall | None = None
        #: This is the part of a batch in which work may be put off.
        self.gathering = False
        self.pipe = Pipe()
        self._bugs = BugLog(time.monotonic)
        self._sweep = LoopingCall(self._find_late)
        self._sweep.clock = reactor
        #: The call that goes on with a sweep that took too long.
        self._next_sweep: DelayedCall | None = None
        #: Called when the process has no memory left, to give some back.
        self.out_of_memory: Callable[[], None] | None = None
        #: Monotonic seconds, read from the system once a batch.
        self.clock = Clock(time.monotonic())

    def start(self) -> None:
        """Join the reactor."""
        self._reactor.addReader(self)
        self._sweep.start(TICK, now=False)

    def stop(self) -> None:
        """Leave the reactor if it was joined, and close what is still registered.  A second
        call does no harm."""
        if self._sweep.running:
            self._sweep.stop()
            self._reactor.removeReader(self)
        for channel in self._registered():
            channel.close()
        self._servers.close()
        self._epoll.close()
        self.pipe.close()
        for call in (self._next, self._next_sweep):
            if call is not None:
                call.cancel()
        self._next = self._next_sweep = None

    # For what is registered.

    def end_turn(self) -> None:
        """Leave further events to the next turn, so that the reactor's timers and other
        readers come first."""
        self.left = 0

    def take_later(self, channel: Batched, step: Step, key: str) -> None:
        """Take a step in a later turn; may be called outside of a batch."""
        self._queued.put(channel, step, key)
        self._go_on_later()

    def take_soon(self, step: Step) -> None:
        """Take a step that belongs to no channel at the end of the batch under way, or in the
        next turn; may be called outside of a batch."""
        self._soon.append(step)
        if not self._in_batch:
            self._go_on_later()

    def add(self, channel: Pollable, events: int) -> None:
        """Register ``channel`` and watch it for ``events`` (level-triggered)."""
        fd, channels = channel.fd, self._channels
        # First, since it refuses a descriptor that is none.
        self._epoll_of(channel).register(fd, events)
        while len(channels) <= fd:
            channels.append(None)
        channels[fd] = channel
        self._count += 1

    def change(self, channel: Pollable, events: int) -> None:
        """Watch it for other events.  Errors and hang-ups are always told."""
        self._epoll_of(channel).modify(channel.fd, events)

    def unwatch(self, channel: Pollable) -> None:
        """Tell it nothing until :meth:`watch`, not even hang-ups."""
        self._epoll_of(channel).unregister(channel.fd)

    def watch(self, channel: Pollable, events: int) -> None:
        """Watch it for ``events`` again, after :meth:`unwatch`."""
        self._epoll_of(channel).register(channel.fd, events)

    def remove(self, channel: Pollable) -> None:
        """Forget the channel and close its socket, which leaves the epoll with that.

        Without effect on a channel that is not registered: the number of its descriptor may
        belong to another one by now.
        """
        if not self._has(channel):
            return
        self._forget(channel)
        if self._in_batch:
            self._closing.append(channel)
        else:
            channel.sock.close()
            channel.gone()

    def let_go(self, channel: Pollable) -> None:
        """Forget the channel and leave its socket open, for another channel to be made on."""
        if self._has(channel):
            self._forget(channel)
            self._epoll_of(channel).unregister(channel.fd)

    def _epoll_of(self, channel: Pollable) -> Epoll:
        return self._servers if channel.to_server else self._epoll

    def _has(self, channel: Pollable) -> bool:
        fd = channel.fd
        return fd < len(self._channels) and self._channels[fd] is channel

    def _forget(self, channel: Pollable) -> None:
        self._channels[channel.fd] = None
        self._count -= 1

    def _registered(self) -> list[Pollable]:
        return [channel for channel in self._channels if channel is not None]

    def __len__(self) -> int:
        return self._count

    def buffered(self) -> int:
        """Bytes that channels hold for their peers.  To count those of ten thousand channels
        takes a millisecond."""
        size = 0
        for channel in self._channels:
            if channel is not None:
                size += channel.held
        return size

    # For the reactor.

    def fileno(self) -> int:
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        return "data plane"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends: nothing is left to do, because :meth:`stop` was called before."""

    def doRead(self) -> None:
        """Handle batches of events, until there are none or the turn is over.

        Most batches are small, and by their end there is something new.  To go through the
        reactor for each would take 6 µs (measured).
        """
        self.begin_turn()
        try:
            while self.left > 0 and not self._over and self.handle_batch():
                pass
        except MemoryError:
            self._abandon()
        if (
            self.arrived
            or self._held[0]
            or self.moving
            or self._queued.keys
            or self._soon
            or self.turns
        ):
            self._go_on_later()

    def begin_turn(self) -> None:
        """Before the first batch of a turn."""
        self.left = BATCH
        self._ends = self._in_turns = 0.0
        self._over = self._stepped = False

    def _go_on_later(self) -> None:
        if self._next is None and not self._epoll.closed:
            self._next = self._reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._next = None
        self.doRead()

    def _abandon(self) -> None:
        """The poller itself, and not a channel, found no memory to go on with a batch.  The
        channels with work in the batch have lost some of it, so they fail."""
        if self.out_of_memory is not None:
            self.out_of_memory()
        channels = self.arrived
        channels += [one for one, _, _ in self.steps]
        channels += [one for one, _ in self.moved]
        channels += self.moving
        channels += self.unsent
        channels += self.leaving
        self.arrived, self.steps, self.moved = [], [], []
        self.moving, self.unsent, self.leaving = [], [], []
        self.gathering = self._in_batch = False
        self._close()
        for channel in channels:
            if self._has(channel):
                channel.failed()

    def handle_batch(self) -> bool:
        """Handle a batch of at most ``left`` events, or what is left of a batch; False if
        there was nothing to do."""
        found, masks = _NONE
        if not self.arrived and not self._held[0]:
            found, masks = self._look()
            if found:
                self.left -= len(found)
            elif (
                not self.moving
                and not self._queued.keys
                and not self._soon
                and not (self.turns and self._in_turns < TURNS_SHARE * self.turn)
            ):
                return False
        now = self.clock.now = _now()
        if self._ends == 0.0:
            self._ends = now + self.turn
        elif now >= self._ends:
            # Some work is done in each turn all the same.
            self._over = True
        self._in_batch = self.gathering = True
        if found:
            self._tell(found, masks)
            self._handle_arrived()
        else:
            # First what was read before, so that one batch at most is kept in memory.
            self._handle_arrived()
            if self._held[0] and not self._over:
                found, masks = self._held
                self._held = _NONE
                self._tell(found, masks)
                self._handle_arrived()
        self._flush()
        if self._soon:
            self._take_soon()
            self._flush()
        if self.moving:
            self._move()
            self._flush()
        while self.steps:
            # What was sent made room for requests that had come before.
            self._flush()
        if self._queued.keys and not (self._over and self._stepped):
            # After the rest of the batch has been sent; at least one in each turn.
            self._take_queued()
            self._flush()
        if self.turns:
            self._take_turns()
            self._flush()
        self.gathering = False
        if self.moving:
            # Some of this goes out with a body that is still to be moved.
            self.unsent = [channel for channel in self.unsent if channel.held]
        else:
            self.unsent.clear()
        if self.leaving:
            self._leave()
        self._in_batch = False
        if self._closing:
            self._close()
        return True

    def _leave(self) -> None:
        """Let channels end whose last bytes were sent in this batch."""
        leaving, self.leaving = self.leaving, []
        for channel in leaving:
            try:
                channel.leave()
            except BaseException:
                self._channel_failed(channel)

    def _look(self) -> _Events:
        """Take the events of a batch.

        Servers' connections may fill the batch.  Others get the room that is left, and half a
        batch more where less is left.  So more is ended than begun while there is more to end, and
        few requests are under way.  Both come by turns: a connection that a reply lets go of
        serves the next request.

        An event of ``_epoll`` tells that servers have sent something.  If ``_epoll`` has more
        events than were taken, this event may be among the rest, so the servers' epoll is asked.
        """
        most = room = min(self.left, AT_ONCE)
        first, first_masks = _NONE
        asked = self._crowded
        if asked:
            first, first_masks = self._take_events(self._servers, self._channels, most)
            room = max((most + 1) // 2, most - len(first))
        others, masks = self._take_events(self._epoll, self._channels, room)
        self._crowded = len(others) == room
        if not asked and (self._crowded or _tells_of_servers(others)):
            first, first_masks = self._take_events(self._servers, self._channels, most)
        if not first:
            return others, masks
        return _by_turns(first, others), _by_turns(first_masks, masks)

    def _close(self) -> None:
        """Close the sockets that were removed in this batch."""
        closing, self._closing = self._closing, []
        for channel in closing:
            channel.sock.close()
            channel.gone()

    def _is_over(self) -> bool:
        """Look at the clock: whether this turn has had its time."""
        self.much = False
        now = self.clock.looked = _now()
        if now >= self._ends:
            self._over = True
        return self._over

    # The next two loops look at the clock in the same way.  Each repeats these lines, because
    # a method called for every event would cost as much as the look itself.

    def _tell(self, found: list[Any], masks: list[int]) -> None:
        """Tell channels of their events, and hold the events that there is no time for."""
        channels: list[Any] = self._channels
        few = FEW
        for index in range(len(found)):
            channel: Pollable | None = found[index]
            # One that was told before may have closed this one.  Its number is still its own in
            # this batch; in a later one it may be another's.
            if channel is None or channels[channel.fd] is not channel:
                continue
            try:
                if masks[index] == EPOLLIN:
                    channel.readable()
                else:
                    channel.event(masks[index])
            except BaseException:
                self._channel_failed(channel)
            few -= 1
            if few and not self.much:
                continue
            few = FEW
            if self._is_over():
                self._held = found[index + 1 :], masks[index + 1 :]
                return

    def _handle_arrived(self) -> None:
        """Let channels handle what they have read, as far as there is time."""
        arrived = self.arrived
        few, index = FEW, 0
        # Some put more behind these.
        while index < len(arrived):
            channel = arrived[index]
            try:
                channel.arrive(channel.came)
            except BaseException:
                self._channel_failed(channel)
            index += 1
            few -= 1
            if few and not self.much:
                continue
            few = FEW
            if self._is_over():
                del arrived[:index]
                return
        arrived.clear()

    def _flush(self) -> None:
        """Take steps and send what was put off.  A second call does no harm."""
        while self.steps:
            self._take_steps()
        for channel in self.unsent:
            try:
                channel.flush()
            except BaseException:
                self._channel_failed(channel)

    def _take_steps(self) -> None:
        """Take the steps of this batch: first one part of all steps, then the other.

        Those that there is no time for are queued.  While others are queued, all are.
        """
        steps, self.steps = self.steps, []
        looked = 0
        if not self._queued.keys and not self._over:
            self._stepped = True
            for channel, step, _ in steps:
                looked += 1
                try:
                    step.look()
                except BaseException:
                    self._channel_failed(channel)
                if self._is_over():
                    break
        if looked < len(steps):
            for channel, step, key in steps[looked:]:
                self._queued.put(channel, step, key)
            del steps[looked:]
        for channel, step, _ in steps:
            try:
                step.go_on()
            except BaseException:
                self._channel_failed(channel)

    def _take_soon(self) -> None:
        """Take a step that belongs to no channel, and more while there is time."""
        while self._soon:
            step = self._soon.popleft()
            try:
                step.look()
                step.go_on()
            except BaseException:
                self._bugs.note("error in {step!r}", step=step)
            if self._is_over():
                return

    def _take_queued(self) -> None:
        """Take a queued step, and more while there is time."""
        while self._queued.keys:
            channel, step = self._queued.take()
            if channel.closed:
                continue
            before = len(self.unsent)
            try:
                step.look()
                step.go_on()
                # Now, and not after the next step, which may take long.
                for waiting in self.unsent[before:]:
                    waiting.flush()
            except BaseException:
                self._channel_failed(channel)
            if self._is_over():
                return

    def _take_turns(self) -> None:
        """Let channels do what takes long, within the share of the turn; at least one of them
        in each turn."""
        turns, most = self.turns, TURNS_SHARE * self.turn
        now = time.monotonic()
        while turns and (self._in_turns == 0.0 or (self._in_turns < most and now < self._ends)):
            channel = turns.popleft()
            try:
                channel.take_turn()
            except BaseException:
                self._channel_failed(channel)
            began, now = now, time.monotonic()
            self._in_turns += now - began
        if now >= self._ends:
            self._over = True

    def _move(self) -> None:
        """Move all bodies, then tell of them, so that neither work pushes the other out of
        the processor's caches."""
        moving, self.moving = self.moving, []
        for index, channel in enumerate(moving):
            try:
                channel.move()
            except BaseException:
                self._channel_failed(channel)
            if self._is_over():
                self.moving = moving[index + 1 :]
                break
        moved, self.moved = self.moved, []
        for channel, size in moved:
            try:
                channel.tell_moved(size)
            except BaseException:
                self._channel_failed(channel)

    def _find_late(self) -> None:
        """Tell channels that their deadline has passed, for as long as a turn; the next turn
        goes on with the rest."""
        if self._next_sweep is not None:
            return
        now = self.clock.now = time.monotonic()
        late = [c for c in self._channels if c is not None and 0.0 < c.deadline < now]
        few, ends = FEW, time.monotonic() + self.turn
        for channel in late:
            # One of them may have closed another, whose number may be in use again.
            if self._has(channel):
                try:
                    channel.late()
                except BaseException:
                    self._channel_failed(channel)
            few -= 1
            if not few:
                few = FEW
                if time.monotonic() >= ends:
                    self._next_sweep = self._reactor.callLater(0, self._sweep_on)
                    return

    def _sweep_on(self) -> None:
        self._next_sweep = None
        self._find_late()

    def _channel_failed(self, channel: Pollable) -> None:
        """Log a bug that was met on one channel.  It concerns no other channel.

        The channel decides what becomes of it (a listener goes on).  If that raises, too,
        the channel is closed.
        """
        try:
            if isinstance(sys.exc_info()[1], MemoryError) and self.out_of_memory is not None:
                self.out_of_memory()
            self._bugs.note("error on {channel!r}", channel=channel)
            channel.failed()
        except Exception:
            channel.close()
            self._bugs.note("error while closing {channel!r}", channel=channel)


def _tells_of_servers(found: list[Any]) -> bool:
    """Whether the servers' epoll may be among these: it has no channel."""
    return any(channel is None for channel in found)


def _by_turns(first: list[Any], others: list[Any]) -> list[Any]:
    """The items of both lists by turns, for as long as both have some; then the rest."""
    both = min(len(first), len(others))
    items: list[Any] = [None] * (2 * both)
    items[::2], items[1::2] = first[:both], others[:both]
    items += first[both:]
    items += others[both:]
    return items


# Not as a decorator: mypyc compiles no class that has one.
classImplements(Poller, IReadDescriptor)
