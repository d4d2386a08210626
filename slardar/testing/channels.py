"""Channels, pools and a clock without sockets or time, for tests of HTTP logic.

A :class:`RecordingChannel` follows the rules of ``slardar.dataplane.channel.Channel``.  The
test is the peer at its other end.
"""

from __future__ import annotations

import itertools

from slardar.http1.interfaces import Bytes, ChannelBase, ChannelProtocol, Clock, PoolBase

__all__ = ["FakeClock", "FakePool", "RecordingChannel"]

#: These are as in ``slardar.dataplane.channel``.
HIGH_MARK = 65536
LOW_MARK = 16384
READ_SIZE = 65536
#: An eager channel gives views of what is larger.
SMALL = 8192
#: A channel in ``bulk`` that is not eager reads so much at once.
FIRST_SIZE = SMALL

_ENDLESS = 1 << 60
_numbers = itertools.count(1)


class FakeClock(Clock):
    """Monotonic seconds that pass when the test says so."""

    def __init__(self, now: float = 1000.0) -> None:
        super().__init__(now)

    def advance(self, seconds: float) -> None:
        """Let ``seconds`` pass."""
        self.now += seconds


class RecordingChannel(ChannelBase):
    """A channel that keeps what is written to it, and whose peer is the test.

    The test acts for the peer with :meth:`deliver`, :meth:`end`, :meth:`lose`,
    :meth:`connect`, :meth:`take`, :meth:`stall` and :meth:`drain`.  As on a socket, bytes
    that are delivered while the channel is paused wait.  The protocol hears of bytes and
    ends when the test calls :meth:`pump`.  A write after ``close`` or ``finish_writing`` is
    a bug of the code under test and raises AssertionError.
    """

    def __init__(
        self,
        clock: FakeClock,
        protocol: ChannelProtocol | None = None,
        connecting: bool = False,
        name: str = "",
    ) -> None:
        super().__init__(protocol or ChannelProtocol(), connecting)
        self.clock = clock
        self.fd = next(_numbers)
        self.name = name or f"channel {self.fd}"
        #: Nothing is read: the peer has to wait.
        self.paused = False
        #: The channel was closed with a reset.
        self.aborted = False
        #: Our side has ended, and the peer knows it.
        self.finished = False
        #: Writes fail, as on a connection that the peer has reset.
        self.broken = False
        #: The peer's kernel has acknowledged everything that was sent.
        self.acknowledged = True
        #: The idle seconds that the last ``probe`` asked for.
        self.probed: int | None = None
        #: The most bytes that ever waited to be sent.
        self.most_unsent = 0
        #: How many more bytes the peer takes at once; see :meth:`stall`.
        self._room = _ENDLESS
        self._taken = bytearray()
        self._out: bytearray | None = None
        self._finishing = False
        self._leaving = False
        self._incoming: list[bytes] = []
        self._filled = False
        self._end = False

    def __repr__(self) -> str:
        state = "closed" if self.closed else "connecting" if self.connecting else "open"
        return f"<RecordingChannel {self.name} {state}>"

    # What the code under test calls.

    def wait(self, seconds: float) -> None:
        """See the base."""
        self.deadline = self.clock.now + seconds

    @property
    def unsent(self) -> bool:
        """Whether bytes wait for the peer to take them."""
        return self._out is not None

    def write(self, data: Bytes) -> bool:
        """Send, as far as the peer takes the bytes; False on a broken connection."""
        assert not self.closed, f"{self!r} is written to after close"
        assert not self._finishing, f"{self!r} is written to after its end"
        if self.broken:
            return False
        sent = 0
        if self._out is None:
            sent = min(len(data), self._room)
            self._room -= sent
            self._taken += memoryview(data)[:sent]
        if sent < len(data):
            self._out = self._out or bytearray()
            self._out += memoryview(data)[sent:]
            self.most_unsent = max(self.most_unsent, len(self._out))
            if len(self._out) > HIGH_MARK:
                self.congested = True
        return True

    def write_soon(self, data: bytes) -> None:
        """Send at once: there are no batches here."""
        self.write(data)

    def write_both(self, head: bytes, data: Bytes) -> None:
        """Send a head and a body."""
        self.write(head + bytes(data))

    def pause(self) -> None:
        """Deliver nothing until :meth:`resume`."""
        self.paused = True

    def resume(self) -> None:
        """Deliver again, unless nothing more can come."""
        if not (self.at_end or self.connecting):
            self.paused = False

    def is_quiet(self) -> bool:
        """Whether the peer has neither sent nor ended."""
        return not (self._incoming or self._end or self.broken)

    def probe(self, idle: int) -> None:
        """Remember the idle seconds."""
        self.probed = idle

    def finish_writing(self) -> None:
        """End our side when the peer has taken everything."""
        self._finishing = True
        if self._out is None:
            self.finished = True

    def close_when_flushed(self) -> None:
        """When the peer has taken everything, close; or, if something is unread or not
        acknowledged, end our side."""
        if self.closed:
            return
        self._leaving = self._finishing = True
        if self._out is None:
            if self._is_settled():
                self.close()
            else:
                self.finished = True

    def _is_settled(self) -> bool:
        return self.at_end or (self.acknowledged and not self._incoming)

    def close(self) -> None:
        """Close; what the peer has not taken is lost."""
        self.closed = True
        self._out = None

    def abort(self) -> None:
        """Close with a reset."""
        if not self.closed:
            self.aborted = True
            self.close()

    # What the test does as the peer.

    def take(self) -> bytes:
        """What the peer has got since the last call."""
        taken = bytes(self._taken)
        self._taken.clear()
        return taken

    def stall(self) -> None:
        """The peer takes no more bytes until :meth:`drain`."""
        self._room = 0

    def drain(self, size: int | None = None) -> None:
        """The peer takes ``size`` of the bytes that wait; with ``None`` it takes all of them,
        and all that follow."""
        if size is None:
            self._room = _ENDLESS
        out = self._out
        if out is None or self.closed:
            return
        sent = len(out) if size is None else min(size, len(out))
        self._taken += out[:sent]
        del out[:sent]
        if out:
            self.wait(self.send_timeout)
        else:
            self._out = None
            if self._leaving and self._is_settled():
                self.lose("connection closed")
                return
            self.finished = self._finishing
        if not out or (self.congested and len(out) <= LOW_MARK):
            self.congested = False
            self.protocol.drained(self)

    def deliver(self, data: bytes) -> None:
        """The peer sends ``data``; each :meth:`pump` brings as much as one read."""
        self._incoming += [data[i : i + READ_SIZE] for i in range(0, len(data), READ_SIZE)]

    def end(self) -> None:
        """The peer closes its side behind what it has sent."""
        self._end = True

    def lose(self, message: str = "Connection reset by peer") -> None:
        """The connection breaks, or cannot be made."""
        if not self.closed:
            self.protocol.lost(self, message)
            self.close()

    def connect(self) -> None:
        """The connection is made."""
        assert self.connecting
        self.connecting = self.paused = False
        self.protocol.connected(self)

    def pump(self) -> bool:
        """Tell the protocol the next thing that happened; False if there was nothing."""
        if self.closed or self.paused or self.connecting or self.at_end:
            return False
        if self._incoming:
            self._receive(self._next_read())
            return True
        if self._end:
            self.at_end = True
            self.protocol.ended(self)
            self.paused = True
            return True
        return False

    def read_on(self) -> bytes:
        """See the base."""
        filled, self._filled = self._filled, False
        return self._incoming.pop(0) if filled and self._incoming else b""

    def _next_read(self) -> bytes:
        data = self._incoming.pop(0)
        if self.bulk and not self.eager:
            self._filled = len(data) >= FIRST_SIZE
            if len(data) > FIRST_SIZE:
                self._incoming.insert(0, data[FIRST_SIZE:])
                data = data[:FIRST_SIZE]
        return data

    def _receive(self, data: bytes) -> None:
        if self.eager and len(data) > SMALL:
            # A real channel uses its buffer again.  Here, releasing a view that was kept fails.
            with memoryview(data) as view:
                self.protocol.received(self, view)
        else:
            self.protocol.received(self, data)

    def look_at_clock(self) -> None:
        """Tell the protocol if the deadline has passed."""
        if not self.closed and 0.0 < self.deadline < self.clock.now:
            self.deadline = 0.0
            self.protocol.late(self)


class FakePool(PoolBase):
    """A server's pool of recording channels.

    ``addresses`` is how many addresses the server's name has.  ``channels`` has all channels
    that were made, oldest first, and ``idle`` those that wait for a request.
    """

    def __init__(self, clock: FakeClock, name: str = "server", addresses: int = 1) -> None:
        super().__init__()
        self.clock = clock
        self.name = name
        self.addresses = addresses
        self.channels: list[RecordingChannel] = []
        self.idle: list[ChannelBase] = []
        #: No connection can be begun.  If that is this machine's fault, a test sets
        #: ``shortage``, too.
        self.exhausted = False

    def __repr__(self) -> str:
        return f"<FakePool {self.name} idle={len(self.idle)}>"

    def acquire(self, protocol: ChannelProtocol, fresh: bool, check: bool) -> ChannelBase | None:
        """The newest idle channel, or a new one that is connecting."""
        while not fresh and self.idle:
            channel = self.idle.pop()
            if check and not channel.is_quiet():
                channel.close()
                continue
            channel.protocol = protocol
            return channel
        if self.exhausted:
            return None
        name = f"{self.name} #{len(self.channels) + 1}"
        made = RecordingChannel(self.clock, protocol, connecting=True, name=name)
        made.bulk = True
        self.channels.append(made)
        return made

    def release(self, channel: ChannelBase) -> None:
        """Keep a channel whose request and reply are complete."""
        assert not channel.closed
        channel.protocol = self
        channel.eager = False
        channel.deadline = 0.0
        channel.resume()
        self.idle.append(channel)

    def other_address(self, tried: int, mark: int) -> bool:
        """Whether the name has an address that was not tried."""
        return tried < self.addresses

    def received(self, channel: ChannelBase, data: Bytes) -> None:
        """No request asked for these bytes."""
        self._discard(channel)

    def ended(self, channel: ChannelBase) -> None:
        self._discard(channel)

    def lost(self, channel: ChannelBase, message: str) -> None:
        self._discard(channel)

    def drained(self, channel: ChannelBase) -> None:
        """Nothing waits to be sent on an idle channel."""

    def late(self, channel: ChannelBase) -> None:
        self._discard(channel)

    def _discard(self, channel: ChannelBase) -> None:
        self.idle.remove(channel)
        channel.close()
