"""Two channels joined after a 101: bytes go through unread, both ways.

Each direction ends on its own (half-close).  Each direction is no faster than the side
that reads it.
"""

from __future__ import annotations

from typing import Final

from slardar.http1.interfaces import (
    Bytes,
    ChannelBase,
    ExchangeBase,
    PlaneBase,
    TunnelBase,
    request_ended,
)
from slardar.http1.record import RequestRecord

__all__ = ["Tunnel"]

#: Seconds that one side has to close after the other is gone.  Bytes that it sends
#: meanwhile are read and dropped: a socket that is closed with unread bytes is reset, and
#: the bytes on their way to this side would be lost.
_LINGER: Final = 5.0


class Tunnel(TunnelBase):
    """The protocol of both channels of a tunnel.

    It continues ``exchange``, whose server has switched protocols.  When both channels are
    closed, it tells the exchange, the plane and, with a ``record``, the plane's observer,
    once.  There is no idle timeout: a WebSocket may be silent for hours, and TCP
    keep-alive (switched on here) finds a peer that is gone.  But a side that has bytes to
    take must take them within its channel's ``send_timeout``.
    """

    __slots__ = (
        "_client",
        "_closing",
        "_ended",
        "_exchange",
        "_origin",
        "_plane",
    )

    def __init__(
        self,
        client: ChannelBase,
        origin: ChannelBase,
        plane: PlaneBase,
        exchange: ExchangeBase,
        record: RequestRecord | None = None,
    ) -> None:
        super().__init__(record)
        self._client = client
        self._origin = origin
        self._plane = plane
        #: ``None`` once the tunnel is over.
        self._exchange: ExchangeBase | None = exchange
        #: The tunnel passes nothing on any more; bytes written before are still sent.
        self._closing = False
        self._ended: list[ChannelBase] = []
        for channel in (client, origin):
            channel.protocol = self
            channel.deadline = 0.0
            channel.bulk = channel.eager = True
            channel.probe(idle=60)
            channel.resume()
        # The bytes that came with the request and with the 101 have been written already.
        for channel in (client, origin):
            if channel.congested:
                self._wait_for(channel)

    def __repr__(self) -> str:
        return f"<Tunnel {self._client!r} {self._origin!r}>"

    def received(self, channel: ChannelBase, data: Bytes) -> None:
        """Pass bytes from one side to the other."""
        if self._closing:
            return
        record = self.record
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
        """One side has taken its bytes: read on from the other."""
        if self._closing:
            channel.wait(_LINGER)
            return
        self._other(channel).resume()
        channel.deadline = 0.0

    def ended(self, channel: ChannelBase) -> None:
        """One side has half-closed: half-close the other after its last byte."""
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
        """One side broke: send the other what was written, and close it."""
        channel.close()
        self.close()

    def late(self, channel: ChannelBase) -> None:
        """One side missed its deadline, to take bytes or to close: close both sides."""
        channel.close()
        self.close()

    def close(self) -> None:
        """Close each side after the bytes that are written to it."""
        if not self._closing:
            self._closing = True
            for channel in (self._client, self._origin):
                channel.close_when_flushed()
                if not channel.closed:
                    channel.resume()
                    seconds = channel.send_timeout if channel.unsent else _LINGER
                    channel.wait(seconds)
        self._look_whether_over()

    def _look_whether_over(self) -> None:
        exchange = self._exchange
        if exchange is not None and self._client.closed and self._origin.closed:
            self._exchange = None
            exchange.tunnel_ended()
            self._plane.tunnel_closed(self)
            if self.record is not None:
                request_ended(self._plane, self.record)

    def _wait_for(self, channel: ChannelBase) -> None:
        """``channel`` is congested: read no more from the other side until it has drained."""
        self._other(channel).pause()
        channel.wait(channel.send_timeout)

    def _other(self, channel: ChannelBase) -> ChannelBase:
        return self._origin if channel is self._client else self._client
