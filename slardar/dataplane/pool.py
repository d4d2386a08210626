"""The connections to one server: those waiting for work, and how to make one."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Final

from slardar.dataplane.plain_channel import ChannelFactory, PlainChannel
from slardar.dataplane.poller import Poller
from slardar.http1.interfaces import Bytes, ChannelBase, ChannelProtocol, PoolBase

__all__ = ["Pool", "begin_connect", "is_literal", "is_shortage", "literal_address"]

#: Seconds an idle connection is kept; nginx's keepalive_timeout for upstreams.
IDLE_SECONDS: Final = 60.0

_PENDING: Final = (0, errno.EINPROGRESS)
#: This process or machine has used up its descriptors, memory or local ports.
_EXHAUSTED: Final = (
    errno.EMFILE,
    errno.ENFILE,
    errno.ENOBUFS,
    errno.ENOMEM,
    errno.EADDRNOTAVAIL,
)


class Pool(PoolBase):
    """Idle connections to one server of one upstream, newest first.

    The newest is used first (LIFO): the server is least likely to have closed it, and
    under less load the older ones time out.  The pool is also the protocol of its idle
    channels: it closes one on which anything comes, because no request asked for it.

    ``make_channel`` makes the channels of new connections.
    """

    __slots__ = (
        "_generation",
        "_make_channel",
        "_poller",
        "_turn",
        "addresses",
        "closed",
        "idle",
        "limit",
        "port",
    )

    def __init__(
        self,
        poller: Poller,
        host: str,
        port: int,
        limit: int,
        make_channel: ChannelFactory = PlainChannel,
    ) -> None:
        super().__init__()
        self._poller = poller
        self._make_channel: ChannelFactory = make_channel
        self.port = port
        #: Addresses of the server, as ``(family, address)``; empty until its name is
        #: resolved.
        self.addresses: list[tuple[int, str]] = literal_address(host)
        #: The next connection is made to the address with this number, modulo their count.
        self._turn = 0
        #: How often the addresses have changed; a channel keeps the number of its making.
        self._generation = 0
        self.idle: list[ChannelBase] = []
        #: The most idle connections that are kept; the upstream's ``keepalive``.
        self.limit = limit
        self.closed = False

    def __repr__(self) -> str:
        return f"<Pool {self.addresses}:{self.port} idle={len(self.idle)}>"

    def acquire(self, protocol: ChannelProtocol, fresh: bool, check: bool) -> ChannelBase | None:
        """See the base."""
        if not fresh:
            idle = self.idle
            while idle:
                channel = idle.pop()
                # What an idle channel has read was sent before this request.
                if channel.arriving or (check and not channel.is_quiet()):
                    channel.close()
                    continue
                channel.protocol = protocol
                return channel
        return self._connect(protocol)

    def release(self, channel: ChannelBase) -> None:
        """See the base.  It is closed if it cannot be used again."""
        if (
            self.closed
            or len(self.idle) >= self.limit
            or channel.at_end
            or channel.generation != self._generation
        ):
            channel.close()
            return
        channel.protocol = self
        channel.eager = False
        channel.wait(IDLE_SECONDS)
        channel.resume()
        self.idle.append(channel)

    def other_address(self, tried: int) -> bool:
        """See the base."""
        self._turn += 1
        return tried < len(self.addresses)

    def set_addresses(self, addresses: list[tuple[int, str]]) -> None:
        """The server's name has these addresses now.

        Connections made before are not used again, not even those that are busy now.
        """
        if addresses != self.addresses:
            self.addresses = addresses
            self._turn = 0
            self._generation += 1
            self.drop_idle()

    def set_limit(self, limit: int) -> None:
        """Keep ``limit`` idle connections at most.  If there are more, close the oldest."""
        self.limit = limit
        idle = self.idle
        surplus = idle[: max(0, len(idle) - limit)]
        del idle[: len(surplus)]
        for channel in surplus:
            channel.close()

    def drop_idle(self) -> None:
        """Close all idle connections."""
        idle, self.idle = self.idle, []
        for channel in idle:
            channel.close()

    def close(self) -> None:
        """The server is gone: close idle connections now and busy ones once they are released."""
        self.closed = True
        self.drop_idle()

    def _connect(self, protocol: ChannelProtocol) -> ChannelBase | None:
        self.shortage = ""
        if not self.addresses:
            return None
        family, address = self.addresses[self._turn % len(self.addresses)]
        try:
            sock = begin_connect(family, address, self.port)
        except OSError as error:
            if is_shortage(error):
                self.shortage = os.strerror(error.errno or 0)
            return None
        channel = self._make_channel(self._poller, sock, protocol, True)
        channel.generation = self._generation
        channel.bulk = True
        return channel

    # From an idle channel.

    def received(self, channel: ChannelBase, data: Bytes) -> None:
        """No request asked for this, so no request may get it."""
        self._discard(channel)

    def ended(self, channel: ChannelBase) -> None:
        self._discard(channel)

    def lost(self, channel: ChannelBase, message: str) -> None:
        self._discard(channel)

    def late(self, channel: ChannelBase) -> None:
        self._discard(channel)

    def drained(self, channel: ChannelBase) -> None:
        """Nothing waits to be sent on an idle channel."""

    def _discard(self, channel: ChannelBase) -> None:
        try:
            self.idle.remove(channel)
        except ValueError:
            pass
        channel.close()


def begin_connect(family: int, address: str, port: int) -> socket.socket:
    """A socket that is being connected.  Raises OSError if that has failed already."""
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        result = sock.connect_ex((address, port))
    except BaseException:
        sock.close()
        raise
    if result not in _PENDING:
        sock.close()
        raise OSError(result, os.strerror(result))
    return sock


def is_shortage(error: OSError) -> bool:
    """Whether a connection could not be made for want of something here, and not because of
    the server."""
    return error.errno in _EXHAUSTED


def is_literal(host: str) -> bool:
    """Whether ``host``, as the model spells it, is an address and no name."""
    return ":" in host or host.replace(".", "").isdigit()


def literal_address(host: str) -> list[tuple[int, str]]:
    """The one address that ``host`` is, or nothing if it is a name."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return []
    return [(socket.AF_INET6 if address.version == 6 else socket.AF_INET, host)]
