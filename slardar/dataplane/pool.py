"""The connections to one server: those waiting for work, and how to make one."""

from __future__ import annotations

import errno
import ipaddress
import os
import socket
from typing import Final

from slardar.dataplane.plain_channel import ChannelFactory, PlainChannel
from slardar.dataplane.poller import Poller
from slardar.dataplane.server_channel import ServerChannel
from slardar.dataplane.server_terms import ServerContexts, ServerTerms
from slardar.dataplane.system import Socket, connected_socket
from slardar.http1.interfaces import Bytes, ChannelBase, ChannelProtocol, PoolBase
from slardar.model.tls import ServerTls

__all__ = ["Pool", "begin_connect", "is_literal", "is_shortage", "literal_address"]

#: Seconds an idle connection is kept; nginx's keepalive_timeout for upstreams.
IDLE_SECONDS: Final = 60.0
#: Seconds an idle connection above the limit is kept.  With 1,000 clients the number of requests
#: under way swings by hundreds many times a second; without these seconds each swing would close
#: connections and make new ones (measured: for 7 % of the requests, which took 100 ms and more).
SURPLUS_SECONDS: Final = 0.25
#: Seconds for which the other addresses of a name are preferred to one to which no connection
#: could be made.
AVOID_SECONDS: Final = 10.0

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

    Those above ``limit`` are kept for a moment only, see :data:`SURPLUS_SECONDS`.

    A server whose name has several addresses is used at all of them in turn: at those of
    IPv4, and at those of IPv6 while no connection can be made to any of IPv4.

    With ``proxy_protocol`` each connection begins with a PROXY protocol header of this version,
    which tells a client.  Such a connection is used again for requests with the same header
    only, as in HAProxy: those that came over the same connection of the same client.

    With :meth:`set_tls` connections are made over TLS.  One is used again for the name alone for
    which the server has shown its certificate.

    ``make_channel`` makes the channels of new connections without TLS.
    """

    __slots__ = (
        "_avoided",
        "_is_plain",
        "_kept",
        "_make_channel",
        "_mark",
        "_marks",
        "_poller",
        "_preferred",
        "_several",
        "_terms",
        "_turn",
        "_usual",
        "addresses",
        "closed",
        "host",
        "idle",
        "limit",
        "port",
        "proxy_protocol",
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
        self.host = host
        self.port = port
        #: Addresses of the server, as ``(family, address)``; empty until its name is
        #: resolved.
        self.addresses: list[tuple[int, str]] = literal_address(host)
        self._several: bool = False
        #: The version of the PROXY protocol header; 0: there is none.
        self.proxy_protocol: int = 0
        #: How connections begin TLS; ``None``: they do not.
        self._terms: ServerTerms | None = None
        #: One address, no header, and one name at most: any idle connection serves any request.
        self._is_plain: bool = True
        #: How many requests have taken their turn at several addresses.
        self._turn: int = 0
        #: A number for each address: its channels have it as their ``mark``.  An address that
        #: has left and comes back gets another number.  ``_mark`` was given last.
        self._mark: int = 0
        self._marks: dict[tuple[int, str], int] = dict.fromkeys(self.addresses, 0)
        self._kept: set[int] = set()
        #: The mark of the first address, which most servers have alone; -1 without any.
        self._usual: int = -1
        self._keep_marks()
        #: The addresses of the preferred family.
        self._preferred: list[tuple[int, str]] = self.addresses
        #: Until when, in monotonic seconds, other addresses are preferred to these.
        self._avoided: dict[tuple[int, str], float] = {}
        self.idle: list[ChannelBase] = []
        #: The most idle connections that are kept for long; the upstream's ``keepalive``.  With 0
        #: none is kept at all.
        self.limit = limit
        self.closed = False

    def __repr__(self) -> str:
        return f"<Pool {self.addresses}:{self.port} idle={len(self.idle)}>"

    def acquire(self, protocol: ChannelProtocol, fresh: bool, check: bool) -> ChannelBase | None:
        """See the base."""
        if not self._is_plain:
            return self._acquire_fitting(protocol, fresh, check)
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
        self.shortage = ""
        return self._connect(protocol, self.addresses[0]) if self.addresses else None

    def _acquire_fitting(
        self, protocol: ChannelProtocol, fresh: bool, check: bool
    ) -> ChannelBase | None:
        """A channel to the address whose turn it is, with the header and the name of this
        protocol."""
        self.shortage = ""
        version, terms = self.proxy_protocol, self._terms
        header = protocol.proxy_header(version) if version else b""
        name = ""
        if terms is not None:
            name = terms.name or protocol.server_name() or terms.host
        for _ in range(len(self.addresses)):
            address = self._next_address()
            if not fresh:
                mark = self._marks[address]
                # From the newest on.
                for channel in self.idle[::-1]:
                    if channel.mark != mark or channel.introduced != header:
                        continue
                    if channel.name != name:
                        continue
                    self.idle.remove(channel)
                    if channel.arriving or (check and not channel.is_quiet()):
                        channel.close()
                        continue
                    channel.protocol = protocol
                    return channel
            made = self._connect(protocol, address)
            if made is not None or self.shortage:
                if made is not None:
                    made.introduced, made.name = header, name
                    if version and terms is None:
                        made.protocol = _Introduction(protocol)
                return made
            # Such as an IPv6 address on a machine without IPv6.
            self._avoid(address)
        return None

    def _next_address(self) -> tuple[int, str]:
        """The address whose turn it is."""
        turn = self._turn
        self._turn = turn + 1
        some = self._preferred
        if self._avoided:
            now = self._poller.clock.now
            for address in [one for one, until in self._avoided.items() if until <= now]:
                del self._avoided[address]
            good = [one for one in self.addresses if one not in self._avoided]
            some = _of_first_family(good) or self.addresses
        return some[turn % len(some)]

    def _avoid(self, address: tuple[int, str]) -> None:
        self._avoided[address] = self._poller.clock.now + AVOID_SECONDS

    def release(self, channel: ChannelBase) -> None:
        """See the base.  It is closed if it cannot be used again."""
        mark = channel.mark
        if self.closed or channel.at_end or (mark != self._usual and mark not in self._kept):
            channel.close()
            return
        seconds = IDLE_SECONDS
        if len(self.idle) >= self.limit:
            if not self.limit:
                channel.close()
                return
            if channel.introduced or self._is_by_name():
                # The oldest one's client may be gone, or nobody asks for its name any more; any
                # other channel here may not be for the next request of this one's client.  At
                # once: there may be any number of clients and names.
                self.idle.pop(0).close()
            else:
                seconds = SURPLUS_SECONDS
        channel.protocol = self
        channel.eager = False
        channel.wait(seconds)
        channel.resume()
        self.idle.append(channel)

    def other_address(self, tried: int, mark: int) -> bool:
        """See the base."""
        if self._several:
            for address, own in self._marks.items():
                if own == mark:
                    self._avoid(address)
        return tried < len(self.addresses)

    def set_addresses(self, addresses: list[tuple[int, str]]) -> None:
        """The server's name has these addresses now.

        An address that is not among them drains: its idle connections are closed now, and
        busy ones once they are released.
        """
        if addresses == self.addresses:
            return
        marks: dict[tuple[int, str], int] = {}
        for address in addresses:
            mark = self._marks.get(address)
            if mark is None:
                mark = self._mark = self._mark + 1
            marks[address] = mark
        self.addresses, self._marks = addresses, marks
        self._several = len(addresses) > 1
        self._look_whether_plain()
        self._preferred = _of_first_family(addresses)
        self._turn = 0
        for address in [one for one in self._avoided if one not in marks]:
            del self._avoided[address]
        self._keep_marks()
        kept, idle = self._kept, self.idle
        self.idle = [channel for channel in idle if channel.mark in kept]
        for channel in idle:
            if channel.mark not in kept:
                channel.close()

    def set_proxy_protocol(self, version: int) -> None:
        """Begin connections with a header of this version from now on; 0: with none.

        With another version before, idle connections are closed now, and busy ones once they
        are released.
        """
        if version == self.proxy_protocol:
            return
        self.proxy_protocol = version
        self._begin_anew()

    def set_tls(self, tls: ServerTls | None, contexts: ServerContexts) -> None:
        """Make connections over TLS with these settings from now on; ``None``: in the clear.

        With other settings before, idle connections are closed now, and busy ones once they are
        released.
        """
        terms = self._terms
        if tls == (None if terms is None else terms.tls):
            return
        self._terms = None if tls is None else ServerTerms(contexts, tls, self.host, self.port)
        self._begin_anew()

    def _look_whether_plain(self) -> None:
        self._is_plain = not (self._several or self.proxy_protocol or self._is_by_name())

    def _is_by_name(self) -> bool:
        """Whether connections are for requests with one name each."""
        return self._terms is not None and not self._terms.name

    def _begin_anew(self) -> None:
        """None of the connections that there are is to be used again."""
        self._look_whether_plain()
        for address in self._marks:
            self._mark += 1
            self._marks[address] = self._mark
        self._keep_marks()
        self.drop_idle()

    def _keep_marks(self) -> None:
        """Channels to the addresses that there are now may be kept when they are released."""
        self._kept = set(self._marks.values())
        self._usual = next(iter(self._marks.values()), -1)

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

    def _connect(self, protocol: ChannelProtocol, to: tuple[int, str]) -> ChannelBase | None:
        family, address = to
        try:
            sock = begin_connect(family, address, self.port)
        except OSError as error:
            if is_shortage(error):
                self.shortage = os.strerror(error.errno or 0)
            return None
        terms = self._terms
        channel: ChannelBase
        if terms is None:
            channel = self._make_channel(self._poller, sock, protocol, True)
        else:
            channel = ServerChannel(self._poller, sock, protocol, terms)
        channel.mark = self._marks[to]
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


class _Introduction(ChannelProtocol):
    """Stands for the protocol of a channel that is being connected, and sends the header."""

    __slots__ = ("_protocol",)

    def __init__(self, protocol: ChannelProtocol) -> None:
        self._protocol = protocol

    def connected(self, channel: ChannelBase) -> None:
        protocol = self._protocol
        channel.protocol = protocol
        # In one packet with the head of the request.
        channel.write_soon(channel.introduced)
        protocol.connected(channel)

    def lost(self, channel: ChannelBase, message: str) -> None:
        self._protocol.lost(channel, message)

    def late(self, channel: ChannelBase) -> None:
        self._protocol.late(channel)


def _of_first_family(addresses: list[tuple[int, str]]) -> list[tuple[int, str]]:
    """The addresses that are of the family of the first one."""
    return [address for address in addresses if address[0] == addresses[0][0]]


def begin_connect(family: int, address: str, port: int) -> Socket:
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
    return connected_socket(sock)


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
