"""Servers that are only computed, and the connections to them."""

from __future__ import annotations

from collections import deque
from functools import lru_cache
from random import Random

from slardar.http1.heads import find_header
from slardar.http1.interfaces import Bytes, ChannelBase, ChannelProtocol, Clock, PoolBase
from slardar.simulation.engine import Engine
from slardar.simulation.scenario import Behaviour, Change

__all__ = ["SimulatedChannel", "SimulatedPool", "SimulatedServer"]

_STATUSES = {True: "500 Internal Server Error", False: "200 OK"}


@lru_cache(maxsize=1000)
def _reply(failed: bool, hint: str) -> bytes:
    said = f"X-Slardar-Hint: {hint}\r\n" if hint else ""
    return f"HTTP/1.1 {_STATUSES[failed]}\r\n{said}Content-Length: 0\r\n\r\n".encode("ascii")


class SimulatedServer:
    """One server: what it is doing, and what happens to it."""

    def __init__(
        self, engine: Engine, behaviour: Behaviour, random: Random, connect: float
    ) -> None:
        self._engine = engine
        self._behaviour = behaviour
        self._random = random
        self._connect = connect
        self.state = "up"
        self._slow = 1.0
        self._errors = behaviour.errors
        self._hint = behaviour.hint
        #: Since when it is back after it was dead; ``None``: it was not dead.
        self._back_at: float | None = None
        #: Requests that it works on, and those that wait within it, each since when.
        self._busy: set[SimulatedChannel] = set()
        self._waiting: deque[tuple[SimulatedChannel, float]] = deque()
        self._open: set[SimulatedChannel] = set()
        #: Requests that it has taken, the seconds that they have waited within it, and the
        #: most that it worked on.
        self.taken = 0
        self.waited = 0.0
        self.most = 0
        #: Heartbeats that were sent to it.
        self.heartbeats = 0

    def change(self, change: Change) -> None:
        """Something happens to it."""
        if change.slow is not None:
            self._slow = change.slow
        if change.errors is not None:
            self._errors = change.errors
        if change.hint is not None:
            self._hint = change.hint
        if change.state is None or change.state == self.state:
            return
        if self.state == "dead":
            self._back_at = self._engine.clock.now
        self.state = change.state
        if self.state == "silent":
            self._busy.clear()
            self._waiting.clear()
        elif self.state == "dead":
            self._busy.clear()
            self._waiting.clear()
            for channel in list(self._open):
                channel.lose("Connection reset by peer")

    # For its channels.

    def opened(self, channel: SimulatedChannel) -> None:
        """Somebody connects."""
        self._open.add(channel)
        self._engine.after(self._connect, self._answer_connect, channel)

    def _answer_connect(self, channel: SimulatedChannel) -> None:
        if self.state == "up":
            channel.connect()
        elif self.state == "dead":
            channel.lose("Connection refused")

    def closed(self, channel: SimulatedChannel) -> None:
        """A connection has ended; the server works on without a reason to stop."""
        self._open.discard(channel)

    def asked(self, channel: SimulatedChannel) -> None:
        """A request has come."""
        if self.state != "up":
            return
        self.taken += 1
        if self._behaviour.capacity and len(self._busy) >= self._behaviour.capacity:
            self._waiting.append((channel, self._engine.clock.now))
        else:
            self._begin(channel)

    def _begin(self, channel: SimulatedChannel) -> None:
        self._busy.add(channel)
        self.most = max(self.most, len(self._busy))
        seconds = self._behaviour.time * self._slow * self._coldness()
        if seconds and self._behaviour.spread == "exponential":
            seconds = self._random.expovariate(1 / seconds)
        self._engine.after(seconds, self._finish, channel)

    def _coldness(self) -> float:
        warm_up = self._behaviour.warm_up
        if self._back_at is None or not warm_up:
            return 1.0
        left = 1 - (self._engine.clock.now - self._back_at) / warm_up
        return 1 + (self._behaviour.cold - 1) * max(0.0, left)

    def _finish(self, channel: SimulatedChannel) -> None:
        if channel not in self._busy:
            return  # it died, or fell silent, over the request
        self._busy.remove(channel)
        if self._waiting:
            following, since = self._waiting.popleft()
            self.waited += self._engine.clock.now - since
            self._begin(following)
        channel.reply(_reply(self._random.random() < self._errors, self._said()))

    def _said(self) -> str:
        full_at = self._behaviour.full_at
        is_full = full_at and len(self._busy) + len(self._waiting) >= full_at
        return ", ".join(filter(None, (self._hint, "full" if is_full else "")))


class SimulatedChannel(ChannelBase):
    """A connection to a simulated server."""

    def __init__(self, engine: Engine, protocol: ChannelProtocol, server: SimulatedServer) -> None:
        super().__init__(protocol, True)
        self._engine = engine
        self._clock: Clock = engine.clock
        self._server = server
        #: Bytes of a request's body that are still to come.
        self._owed = 0
        #: When the deadline is looked at next; 0: never.
        self._look_at = 0.0
        server.opened(self)

    # From slardar.

    def wait(self, seconds: float) -> None:
        """See the base."""
        self.deadline = self._clock.now + seconds
        self._look_at_clock()

    @property
    def unsent(self) -> bool:
        """Nothing waits to be sent."""
        return False

    def write(self, data: Bytes) -> bool:
        """Send a request: one write, and more if it has a body."""
        if self.closed:
            return False
        self._owed = self._owed - len(data) if self._owed else _body_left(bytes(data))
        if not self._owed:
            self._server.asked(self)
        # The deadline is set behind the write.
        self._engine.after(0.0, self._look_at_clock)
        return True

    def write_soon(self, data: bytes) -> None:
        """See the base."""
        self.write(data)

    def pause(self) -> None:
        """Nothing: replies have no body."""

    def resume(self) -> None:
        """Nothing: replies have no body."""

    def is_quiet(self) -> bool:
        """See the base."""
        return not self.closed

    def close(self) -> None:
        """See the base."""
        if not self.closed:
            self.closed = True
            self._server.closed(self)

    # From the server.

    def connect(self) -> None:
        """The connection is made."""
        if not self.closed:
            self.connecting = False
            self.protocol.connected(self)

    def reply(self, data: bytes) -> None:
        """A reply comes."""
        if not self.closed:
            self.protocol.received(self, data)

    def lose(self, message: str) -> None:
        """The connection breaks, or cannot be made."""
        if not self.closed:
            self.close()
            self.protocol.lost(self, message)

    def _look_at_clock(self) -> None:
        """See that there is a look when the deadline passes, or before."""
        now, deadline = self._clock.now, self.deadline
        if deadline and not self.closed and not now <= self._look_at <= deadline:
            self._look_at = max(now, deadline)
            self._engine.after(self._look_at - now, self._look, self._look_at)

    def _look(self, at: float) -> None:
        if at != self._look_at:
            return  # there is another look by now
        self._look_at = 0.0
        if self.closed or not self.deadline:
            return
        if self._clock.now < self.deadline:
            self._look_at_clock()
            return
        self.deadline = 0.0
        self.protocol.late(self)


def _body_left(data: bytes) -> int:
    """How much of a request's body comes behind ``data``, with which the request begins."""
    if b"-length:" not in data.lower():
        return 0
    head, _, rest = data.partition(b"\r\n\r\n")
    length = find_header(head.split(b"\r\n"), "Content-Length")
    return int(length) - len(rest) if length else 0


class SimulatedPool(PoolBase):
    """The connections to one simulated server, newest first."""

    def __init__(self, engine: Engine, server: SimulatedServer, limit: int) -> None:
        super().__init__()
        self._engine = engine
        self._limit = limit
        self._idle: list[ChannelBase] = []
        self.server = server

    def acquire(self, protocol: ChannelProtocol, fresh: bool, check: bool) -> ChannelBase | None:
        """See the base."""
        if not fresh and self._idle:
            channel = self._idle.pop()
            channel.protocol = protocol
            return channel
        return SimulatedChannel(self._engine, protocol, self.server)

    def release(self, channel: ChannelBase) -> None:
        """See the base."""
        if len(self._idle) >= self._limit:
            channel.close()
            return
        channel.protocol = self
        channel.deadline = 0.0
        self._idle.append(channel)

    def other_address(self, tried: int, mark: int) -> bool:
        """A simulated server has one address."""
        return False

    def lost(self, channel: ChannelBase, message: str) -> None:
        """An idle connection has broken."""
        self._idle.remove(channel)
