"""Connections that begin with a PROXY protocol header: what is on them until its last byte.

The header is taken from the socket to the byte.  Then the socket gets the channel that its
listener's kind makes, as if the connection had been accepted at this moment.  So a kind of
listener needs to know nothing of headers, and no connection of another listener pays for them.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TypeAlias

from slardar.dataplane.channel import Channel
from slardar.dataplane.poller import Poller
from slardar.dataplane.system import Socket
from slardar.http1.interfaces import ChannelBase, ChannelProtocol, Connection, PlaneBase
from slardar.http1.proxy_header import MAX_HEADER, BadHeader, Ends, HeaderReader
from slardar.model.listener import ListenerSpec

__all__ = ["Greeted", "Greeting"]

#: Is called with a greeting whose header has come, the socket, and what the header tells.
Greeted: TypeAlias = Callable[["Greeting", Socket, Ends | None], None]


class Greeting(Connection):
    """The protocol of a connection whose header has not come yet; ``address`` is its peer's.

    The whole header must come within ``timeouts.client_header``.  A connection on which
    anything else comes is closed at once, without a reply; ``plane.turned_away`` is told.  One
    that ends before it has sent a byte is nobody's mistake: many health checks do so.
    """

    __slots__ = ("_greeted", "_plane", "_reader", "address", "listener")

    def __init__(
        self, plane: PlaneBase, address: bytes, listener: ListenerSpec, greeted: Greeted
    ) -> None:
        super().__init__(listener.id)
        self._plane = plane
        self._greeted = greeted
        self._reader = HeaderReader()
        self.address = address
        self.listener = listener

    def __repr__(self) -> str:
        return f"<Greeting {self.address!r} {self._reader.size}>"

    def begin(self, poller: Poller, sock: Socket) -> None:
        """Wait for the header on ``sock``, which was accepted."""
        self.attach(_HeaderChannel(poller, sock, self, self._reader))

    def attach(self, channel: ChannelBase) -> None:
        """Wait for the header on ``channel``."""
        self.channel = channel
        channel.wait(self._plane.client_header_timeout)

    @property
    def is_idle(self) -> bool:
        """Whether no byte of the header has come."""
        return not self._reader.size

    @property
    def is_fresh(self) -> bool:
        """Never: a proxy sends its header at once."""
        return False

    @property
    def held(self) -> int:
        """Bytes of the header that have come."""
        return self._reader.size

    def close(self) -> None:
        """End the connection now."""
        if not self.channel.closed:
            self.channel.close()
            self._plane.closed(self)

    def told(self, sock: Socket) -> None:
        """From the channel: the header is complete, and ``sock`` is nobody's any more."""
        self._greeted(self, sock, self._reader.ends)

    def refuse_connection(self, reason: str) -> None:
        """From the channel: close the connection, for this reason."""
        self.close()
        self._plane.turned_away(self.address, self.listener, reason)

    # From the channel, too.

    def ended(self, channel: ChannelBase) -> None:
        if self.is_idle:
            self.close()
        else:
            self.refuse_connection("the connection ended within its PROXY protocol header")

    def lost(self, channel: ChannelBase, message: str) -> None:
        self.close()

    def late(self, channel: ChannelBase) -> None:
        if self.is_idle:
            self.close()
        else:
            self.refuse_connection("the PROXY protocol header did not arrive in time")


class _HeaderChannel(Channel):
    """Reads a header, and not one byte behind it."""

    __slots__ = ("_greeting", "_reader")

    def __init__(
        self, poller: Poller, sock: Socket, greeting: Greeting, reader: HeaderReader
    ) -> None:
        protocol: ChannelProtocol = greeting
        super().__init__(poller, sock, protocol)
        self._greeting = greeting
        self._reader = reader

    def readable(self) -> None:
        """There are bytes, or the peer's end."""
        reader, sock = self._reader, self.sock
        try:
            data = sock.recv(MAX_HEADER, socket.MSG_PEEK)
            if data:
                # Only these leave the socket.
                sock.recv(reader.feed(data))
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or "connection lost")
            return
        except BadHeader as error:
            self._greeting.refuse_connection(str(error))
            return
        if not data:
            self.arrive(b"")
        elif reader.is_complete:
            self._poller.let_go(self)
            # Whatever is still to be done for this channel in the batch is void.
            self.closed = True
            self._greeting.told(sock)
