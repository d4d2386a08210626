"""Two channels joined after a 101: bytes go through unread, both ways.

Each direction ends on its own (half-close), and each is slowed by the side that
takes its bytes.
"""

from __future__ import annotations

from typing import Any, Final

from slardar.http1.interfaces import ChannelBase, ExchangeBase, PlaneBase, TunnelBase
from slardar.http1.record import RequestRecord

__all__ = ["Tunnel"]

#: Seconds that a side has to end once the other is gone: what it says meanwhile is read
#: over, so that what is on its way to it is not lost to a reset.
_LINGER: Final = 5.0


class Tunnel(TunnelBase):
    """The protocol of both channels of a tunnel.

    It is made of ``exchange``, whose server has switched protocols.  When both channels
    are closed, the exchange, the plane and, with a ``record``, the plane's observer are
    told once.  There is no idle timeout: a WebSocket may be silent for hours, and TCP
    keep-alive (switched on here) finds a peer that is gone.  But a side that owes us room
    must make some within its channel's ``send_timeout``.
    """

    __slots__ = (
        "_client",
        "_closing",
        "_ended",
        "_exchange",
        "_origin",
        "_plane",
        "_record",
    )

    def __init__(
        self,
        client: ChannelBase,
        origin: ChannelBase,
        plane: PlaneBase,
        exchange: ExchangeBase,
        record: RequestRecord | None = None,
    ) -> None:
        self._client = client
        self._origin = origin
        self._plane = plane
        #: ``None`` once the tunnel is over.
        self._exchange: ExchangeBase | None = exchange
        self._record = record
        #: Nothing goes through any more; what is on its way arrives.
        self._closing = False
        self._ended: list[ChannelBase] = []
        for channel in (client, origin):
            channel.protocol = self
            channel.deadline = 0.0
            channel.bulk = channel.eager = True
            channel.probe(idle=60)
            channel.resume()
        # What was read behind the request and behind the 101 is on its way already.
        for channel in (client, origin):
            if channel.congested:
                self._wait_for(channel)

    def __repr__(self) -> str:
        return f"<Tunnel {self._client!r} {self._origin!r}>"

    def received(self, channel: ChannelBase, data: Any) -> None:
        """Bytes from one side go to the other."""
        if self._closing:
            return
        record = self._record
        if record is not None:
            if channel is self._client:
                record.bytes_in += len(data)
            else:
                record.bytes_out += len(data)
        other = self._other(channel)
        other.write(data)
        if other.congested:
            self._wait_for(other)

    def drained(self, channel: ChannelBase) -> None:
        """One side takes bytes again: read on from the other."""
        if self._closing:
            channel.deadline = self._plane.clock.now + _LINGER
            return
        self._other(channel).resume()
        channel.deadline = 0.0

    def ended(self, channel: ChannelBase) -> None:
        """One side says no more: so the other is told, once it has got everything."""
        if self._closing:
            channel.close_when_flushed()
            self._look_whether_over()
            return
        if channel in self._ended:
            return
        self._ended.append(channel)
        channel.pause()
        if len(self._ended) == 2:
            self.close()
        else:
            self._other(channel).finish_writing()

    def lost(self, channel: ChannelBase, message: str) -> None:
        """One side broke: the other gets what was under way, and an end."""
        channel.close()
        self.close()

    def late(self, channel: ChannelBase) -> None:
        """One side has taken nothing for its send timeout: it gets no more of it."""
        channel.close()
        self.close()

    def close(self) -> None:
        """End both sides, each behind what is on its way to it."""
        if not self._closing:
            self._closing = True
            for channel in (self._client, self._origin):
                channel.close_when_flushed()
                if not channel.closed:
                    channel.resume()
                    seconds = channel.send_timeout if channel.unsent else _LINGER
                    channel.deadline = self._plane.clock.now + seconds
        self._look_whether_over()

    def _look_whether_over(self) -> None:
        exchange = self._exchange
        if exchange is not None and self._client.closed and self._origin.closed:
            self._exchange = None
            exchange.tunnel_ended()
            self._plane.tunnel_closed(self)
            if self._record is not None:
                self._plane.request_ended(self._record)

    def _wait_for(self, channel: ChannelBase) -> None:
        """``channel`` has enough to send: read no more for it until it has sent it."""
        self._other(channel).pause()
        channel.deadline = self._plane.clock.now + channel.send_timeout

    def _other(self, channel: ChannelBase) -> ChannelBase:
        return self._origin if channel is self._client else self._client
