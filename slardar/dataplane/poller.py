"""The one reader that Twisted knows: readable when any data-plane socket is.

A batch of events has these parts: everything small is read, then all of it is handled,
then hooks see the requests that began, then these go on, then everything small is sent;
then the bodies of large replies are moved, and then what
follows from that is handled and sent.  Doing one after the other for each event would
cost about a third more CPU a request (measured with 64 connections): the kernel's code
and Python's push each other out of the caches, as a large body does with both, and a peer
that has gone to sleep between two sends must be woken for each.

A turn of the reactor ends after :data:`TURN` seconds, whatever it consists of.  What is
left then is done in the next turns, in order: first what was read, then what is to be
read.  Steps are the exception, because one of them may take as long as a turn: those that
a turn leaves over wait in a queue for each key (the host that was asked for), and these
queues take turns.  So a host whose hooks are slow waits for itself alone, and what needs
no step passes all of them by.
"""

from __future__ import annotations

import fcntl
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import classImplements

from slardar.http1.interfaces import Clock, Step

__all__ = ["Poller"]

#: Bytes that the pipe should hold through which bodies pass: what anybody may ask for.
_PIPE_SIZE: Final = 1 << 20

#: Events taken in one turn of the reactor: enough to spread the turn's cost, few
#: enough that timers and the control plane wait for some milliseconds at most.
BATCH: Final = 256

#: Seconds after which a turn ends: several of them and of the steps that hooks may take
#: pass before anybody notices, and the reactor's own part (6 µs) is nothing beside it.
TURN: Final = 0.01
#: Small pieces of work between two looks at the clock: a fifth of a millisecond, mostly,
#: but a balancer of a user's may take its time.
FEW: Final = 8

#: Seconds between two looks for late channels.  Deadlines are seconds long, so a
#: quarter is exact enough; ten thousand channels cost about a millisecond a look.
TICK: Final = 0.25

_NONE: Final[list[tuple[int, int]]] = []

_log: Final = Logger("slardar.dataplane")


class Poller:
    """Carries events from a private epoll to the channels registered on it.

    A channel has ``readable()`` (its socket has bytes and nothing else happened),
    ``event(mask)`` (anything else), ``deadline`` (monotonic seconds, 0 for none),
    ``late()``, ``failed()`` and ``close()``.  It may put off what it has read, by
    appending itself and the data to ``arrived``, and what it sends, by appending itself
    to ``unsent`` while ``gathering``; its ``arrive(data)`` and ``flush()`` are called
    later in the batch then, or in a later turn: it must not read again before ``arrive``.
    So are ``move()``, if it appends itself to ``moving``, ``tell_moved(size)``, if it
    appends itself and the size to ``moved``, and both parts of a
    :class:`slardar.http1.interfaces.Step` that is appended to ``steps`` with it and a key while
    ``gathering``.  None of them may block.  Its ``held`` are the bytes that wait in it.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._epoll = select.epoll()
        self._poll = self._epoll.poll
        self._channels: dict[int, Any] = {}
        #: Sockets closed while a batch runs.  Their numbers must not be given to
        #: new sockets before the batch's other events have found nobody.
        self._closing: list[socket.socket] = []
        self._in_batch = False
        #: Channels that have read something in this batch, and what.
        self.arrived: list[tuple[Any, bytes]] = []
        #: What is to be done in two parts, for which channel, and in which queue it waits
        #: if there is no time for it.
        self.steps: list[tuple[Any, Step, str]] = []
        #: Steps that turns left over, by their keys; and the keys, the next one first.
        self._queues: dict[str, deque[tuple[Any, Step]]] = {}
        self._keys: deque[str] = deque()
        #: Events that a turn left over.
        self._held: list[tuple[Any, int]] = []
        #: Channels that have something to send at the end of this batch.
        self.unsent: list[Any] = []
        #: Channels that have much to pass on to others, and how much they passed on.
        self.moving: list[Any] = []
        self.moved: list[tuple[Any, int]] = []
        #: Events that may still be taken in this turn of the reactor.
        self.left = 0
        #: Seconds for a turn.  When this one ends, in monotonic seconds (0: not known yet),
        #: and whether a look at the clock has found that it is over.
        self.turn = TURN
        self._ends = 0.0
        self._over = False
        #: Steps were taken in this turn.
        self._stepped = False
        #: Much was done in one piece: set by who did it, so that the clock is looked at.
        self.much = False
        #: The call that goes on where a turn has ended.
        self._next: Any = None
        #: Whether this is the part of a batch in which sending may be put off.
        self.gathering = False
        #: Between splice's two halves; empty outside of them.  ``-1``: not made yet.
        self.pipe_in = self.pipe_out = -1
        self._sweep = LoopingCall(self._find_late)
        self._sweep.clock = reactor
        #: The call that goes on with a sweep that took too long.
        self._next_sweep: Any = None
        #: Gives the process room where the kernel has refused it some.
        self.out_of_memory: Callable[[], None] | None = None
        #: One system call a batch.
        self.clock = Clock(time.monotonic())

    def start(self) -> None:
        """Join the reactor."""
        self._reactor.addReader(self)
        self._sweep.start(TICK, now=False)

    def stop(self) -> None:
        """Leave the reactor, and close what is still registered."""
        if self._sweep.running:
            self._sweep.stop()
        for call in (self._next, self._next_sweep):
            if call is not None:
                call.cancel()
        self._next = self._next_sweep = None
        self._reactor.removeReader(self)
        for channel in list(self._channels.values()):
            channel.close()
        self._epoll.close()
        self.drop_pipe()

    # For channels.

    def end_turn(self) -> None:
        """Leave events that are not in this batch to the next turn of the reactor: before
        them come its timers and other readers."""
        self.left = 0

    def take_later(self, channel: Any, step: Step, key: str) -> None:
        """Take a step in a later turn: for whoever is called outside of a batch."""
        self._queue(channel, step, key)
        self._go_on_later()

    def make_pipe(self) -> bool:
        """Make the pipe, if there is none yet; False without descriptors for it."""
        if self.pipe_in < 0:
            try:
                self.pipe_out, self.pipe_in = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                return False
            try:
                fcntl.fcntl(self.pipe_in, fcntl.F_SETPIPE_SZ, _PIPE_SIZE)
            except OSError:
                pass  # the user has many pipes: it holds less at once
        return True

    def drop_pipe(self) -> None:
        """Forget the pipe, and what may be in it."""
        for pipe in (self.pipe_in, self.pipe_out):
            if pipe >= 0:
                os.close(pipe)
        self.pipe_in = self.pipe_out = -1

    def add(self, channel: Any, events: int) -> None:
        """Watch ``channel`` for ``events`` (level-triggered)."""
        self._channels[channel.fd] = channel
        self._epoll.register(channel.fd, events)

    def change(self, channel: Any, events: int) -> None:
        """Watch it for other events; errors and hang-ups are always told."""
        self._epoll.modify(channel.fd, events)

    def unwatch(self, channel: Any) -> None:
        """Tell it of nothing, until :meth:`watch`: not even of hang-ups."""
        self._epoll.unregister(channel.fd)

    def watch(self, channel: Any, events: int) -> None:
        """Tell it of ``events`` again, after :meth:`unwatch`."""
        self._epoll.register(channel.fd, events)

    def remove(self, channel: Any) -> None:
        """Forget the channel and close its socket (which leaves the epoll with it).

        Without effect on one that is not registered: its descriptor's number may
        belong to another by now.
        """
        if not self._has(channel):
            return
        del self._channels[channel.fd]
        if self._in_batch:
            self._closing.append(channel.sock)
        else:
            channel.sock.close()

    def _has(self, channel: Any) -> bool:
        return self._channels.get(channel.fd) is channel

    def __len__(self) -> int:
        return len(self._channels)

    def buffered(self) -> int:
        """Bytes that channels hold for their peers; a millisecond for ten thousand."""
        size = 0
        for channel in self._channels.values():
            size += channel.held
        return size

    # For the reactor.

    def fileno(self) -> int:
        return self._epoll.fileno()

    def logPrefix(self) -> str:
        return "data plane"

    def connectionLost(self, reason: Any) -> None:
        """The reactor is ending: nothing to do, :meth:`stop` was called before."""

    def doRead(self) -> None:
        """Handle batches of events, until there are none or it is others' turn.

        Most batches are small, and something new has come by their end.  Going through
        the reactor for it would take 6 µs (measured).
        """
        self.begin_turn()
        try:
            while self.left > 0 and not self._over and self.handle_batch():
                pass
        except MemoryError:
            self._abandon()
        if self.arrived or self._held or self.moving or self._keys:
            self._go_on_later()

    def begin_turn(self) -> None:
        """Before the first batch of a turn."""
        self.left = BATCH
        self._ends = 0.0
        self._over = self._stepped = False

    def _go_on_later(self) -> None:
        if self._next is None:
            self._next = self._reactor.callLater(0, self._go_on)

    def _go_on(self) -> None:
        self._next = None
        self.doRead()

    def _abandon(self) -> None:
        """There was no memory to go on with a batch, outside of any channel's own code:
        the channels that it was about have lost something, and are closed."""
        if self.out_of_memory is not None:
            self.out_of_memory()
        channels = [one for one, _ in self.arrived]
        channels += [step[0] for step in self.steps]
        channels += [one for one, _ in self.moved]
        channels += self.moving
        channels += self.unsent
        for waiting in (self.arrived, self.steps, self.moved, self.moving, self.unsent):
            waiting.clear()
        self.gathering = self._in_batch = False
        closing, self._closing = self._closing, []
        for sock in closing:
            sock.close()
        for channel in channels:
            if self._has(channel):
                channel.failed()

    def handle_batch(self) -> bool:
        """Handle one batch of events, at most ``left``, or what is left of one; False if
        there was nothing to do."""
        events = _NONE
        if not self.arrived and not self._held:
            events = self._poll(0, self.left)
            if events:
                self.left -= len(events)
            elif not self.moving and not self._keys:
                return False
        now = self.clock.now = time.monotonic()
        if self._ends == 0.0:
            self._ends = now + self.turn
        elif now >= self._ends:
            # A little of what has come is done all the same.
            self._over = True
        self._in_batch = self.gathering = True
        if events:
            self._tell(events)
            self._handle_arrived()
        else:
            # First what was read, so that no more of it lies about than one batch.
            self._handle_arrived()
            if self._held and not self._over:
                self._tell_held()
                self._handle_arrived()
        self._flush()
        if self.moving:
            self._move()
            self._flush()
        while self.steps:
            # What was sent has made room for requests that had come before.
            self._flush()
        if self._keys and not (self._over and self._stepped):
            # Behind the rest of the batch, which has been sent by now; one in each turn at
            # the least.
            self._take_queued()
            self._flush()
        self.gathering = False
        if self.moving:
            # Some of it goes with a body that is still to be moved.
            self.unsent = [channel for channel in self.unsent if channel.unsent]
        else:
            self.unsent.clear()
        self._in_batch = False
        if self._closing:
            closing, self._closing = self._closing, []
            for sock in closing:
                sock.close()
        return True

    def _is_over(self) -> bool:
        """Look at the clock: whether this turn has had its time."""
        self.much = False
        if time.monotonic() >= self._ends:
            self._over = True
        return self._over

    # The three loops that follow look at the clock in the same way, each for itself: a
    # method called for every event would cost what the look itself costs.

    def _tell(self, events: list[tuple[int, int]]) -> None:
        """Tell channels of their events; what there is no time for is held."""
        channels = self._channels
        few = FEW
        for index, (fd, event) in enumerate(events):
            channel = channels.get(fd)
            if channel is None:
                continue
            try:
                if event == 1:  # EPOLLIN alone
                    channel.readable()
                else:
                    channel.event(event)
            except BaseException:
                self._channel_failed(channel)
            few -= 1
            if few and not self.much:
                continue
            few = FEW
            if self._is_over():
                # With their channels, for the numbers may be others' in the next turn.
                self._held = [
                    (channels[left], event)
                    for left, event in events[index + 1 :]
                    if left in channels
                ]
                return

    def _tell_held(self) -> None:
        """The same for the events that were held."""
        held, self._held = self._held, []
        few = FEW
        for index, (channel, event) in enumerate(held):
            if not self._has(channel):
                continue
            try:
                channel.event(event)
            except BaseException:
                self._channel_failed(channel)
            few -= 1
            if few and not self.much:
                continue
            few = FEW
            if self._is_over():
                self._held = held[index + 1 :]
                return

    def _handle_arrived(self) -> None:
        """Handle what was read, as far as there is time."""
        arrived = self.arrived
        few = FEW
        for index, (channel, data) in enumerate(arrived):
            try:
                channel.arrive(data)
            except BaseException:
                self._channel_failed(channel)
            few -= 1
            if few and not self.much:
                continue
            few = FEW
            if self._is_over():
                del arrived[: index + 1]
                return
        arrived.clear()

    def _flush(self) -> None:
        """Do and send what was put off; twice does no harm."""
        while self.steps:
            self._take_steps()
        for channel in self.unsent:
            try:
                channel.flush()
            except BaseException:
                self._channel_failed(channel)

    def _take_steps(self) -> None:
        """Take the steps of this batch, one part of all of them after the other; those
        that there is no time for wait in their queues, as all do while others wait."""
        steps, self.steps = self.steps, []
        looked = 0
        if not self._keys and not self._over:
            self._stepped = True
            for channel, step, _ in steps:
                looked += 1
                try:
                    step.look()
                except BaseException:
                    self._channel_failed(channel)
                if self._is_over():
                    break
        left = steps[looked:]
        if left:
            del steps[looked:]
            for channel, step, key in left:
                self._queue(channel, step, key)
        for channel, step, _ in steps:
            try:
                step.go_on()
            except BaseException:
                self._channel_failed(channel)

    def _queue(self, channel: Any, step: Step, key: str) -> None:
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = deque()
            self._keys.append(key)
        queue.append((channel, step))

    def _take_queued(self) -> None:
        """Take one of the steps that wait, and more while there is time."""
        while self._keys:
            key = self._keys.popleft()
            queue = self._queues[key]
            channel, step = queue.popleft()
            if queue:
                self._keys.append(key)
            else:
                del self._queues[key]
            if channel.closed:
                continue
            before = len(self.unsent)
            try:
                step.look()
                step.go_on()
                # Now, and not behind the next one, which may take long.
                for waiting in self.unsent[before:]:
                    waiting.flush()
            except BaseException:
                self._channel_failed(channel)
            if self._is_over():
                return

    def _move(self) -> None:
        """Move bodies, then tell of it: each with caches that the other left alone."""
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
        """Tell those whose time is over; after a turn's time the rest waits for the
        reactor's next turn."""
        if self._next_sweep is not None:
            return
        now = self.clock.now = time.monotonic()
        late = [c for c in self._channels.values() if 0.0 < c.deadline < now]
        few, ends = FEW, time.monotonic() + self.turn
        for channel in late:
            # One that is late may have closed another, and its number be in use again.
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

    def _channel_failed(self, channel: Any) -> None:
        """A bug met on one channel concerns that channel and nothing else.

        What becomes of it is the channel's own business (a listener goes on); one
        that fails even at that is closed.
        """
        try:
            if isinstance(sys.exc_info()[1], MemoryError) and self.out_of_memory is not None:
                self.out_of_memory()
            _log.failure("error on {channel!r}", channel=channel)
            channel.failed()
        except Exception:
            channel.close()
            _log.failure("error while closing {channel!r}", channel=channel)


# Not as a decorator: mypyc compiles no class that has one.
classImplements(Poller, IReadDescriptor)
