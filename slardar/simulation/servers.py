"""Servers that are only computed, and the connections to them."""

from __future__ import annotations

from collections import deque
from random import Random

from slardar.http1.interfaces import Bytes, ChannelBase, ChannelProtocol, Clock, PoolBase
from slardar.simulation.engine import Engine
from slardar.simulation.scenario import Behaviour, Change

__all__ = ["SimulatedPool", "SimulatedServer"]

_REPLIES = {
    True: b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n",
    False: b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
}


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
        #: Requests that it works on, and those that wait within it, each since when.
        self._busy: set[_Channel] = set()
        self._waiting: deque[tuple[_Channel, float]] = deque()
        self._open: set[_Channel] = set()
        #: Seconds that requests have waited within it, and the most that it worked on.
        self.waited = 0.0
        self.most = 0

    def change(self, change: Change) -> None:
        """Something happens to it."""
        if change.slow is not None:
            self._slow = change.slow
        if change.errors is not None:
            self._errors = change.errors
        if change.state is None or change.state == self.state:
            return
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

    def opened(self, channel: _Channel) -> None:
        """Somebody connects."""
        self._open.add(channel)
        self._engine.after(self._connect, self._answer_connect, channel)

    def _answer_connect(self, channel: _Channel) -> None:
        if self.state == "up":
            channel.connect()
        elif self.state == "dead":
            channel.lose("Connection refused")

    def closed(self, channel: _Channel) -> None:
        """A connection has ended; the server works on without a reason to stop."""
        self._open.discard(channel)

    def asked(self, channel: _Channel) -> None:
        """A request has come."""
        if self.state != "up":
            return
        if self._behaviour.capacity and len(self._busy) >= self._behaviour.capacity:
            self._waiting.append((channel, self._engine.clock.now))
        else:
            self._begin(channel)

    def _begin(self, channel: _Channel) -> None:
        self._busy.add(channel)
        self.most = max(self.most, len(self._busy))
        seconds = self._behaviour.time * self._slow
        if seconds and self._behaviour.spread == "exponential":
            seconds = self._random.expovariate(1 / seconds)
        self._engine.after(seconds, self._finish, channel)

    def _finish(self, channel: _Channel) -> None:
        if channel not in self._busy:
            return  # it died, or fell silent, over the request
        self._busy.remove(channel)
        if self._waiting:
            following, since = self._waiting.popleft()
            self.waited += self._engine.clock.now - since
            self._begin(following)
        channel.reply(_REPLIES[self._random.random() < self._errors])


class _Channel(ChannelBase):
    """A connection to a simulated server."""

    def __init__(self, engine: Engine, protocol: ChannelProtocol, server: SimulatedServer) -> None:
        super().__init__(protocol, True)
        self._engine = engine
        self._clock: Clock = engine.clock
        self._server = server
        server.opened(self)

    # From slardar.

    def wait(self, seconds: float) -> None:
        """See the base."""
        self.deadline = self._clock.now + seconds
        self._engine.after(seconds, self._look_at_clock)

    @property
    def unsent(self) -> bool:
        """Nothing waits to be sent."""
        return False

    def write(self, data: Bytes) -> bool:
        """Send a request, which is one write as there are no bodies."""
        if self.closed:
            return False
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
        if self.closed or not self.deadline:
            return
        left = self.deadline - self._clock.now
        if left > 0:
            self._engine.after(left, self._look_at_clock)
            return
        self.deadline = 0.0
        self.protocol.late(self)


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
        return _Channel(self._engine, protocol, self.server)

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
