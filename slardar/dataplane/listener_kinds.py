"""The kinds of listeners: what serves the connections that a listener accepts.

A kind is two factories: one makes what serves a connection, the other makes its channel.
The data plane is given a table of kinds, and picks one by the listener's protocol.  A
further protocol is a further entry of the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Final, NamedTuple, Protocol, cast

from slardar.dataplane.plain_channel import PlainChannel
from slardar.dataplane.poller import Poller
from slardar.dataplane.system import Socket
from slardar.dataplane.tls_channel import TlsChannel
from slardar.dataplane.tls_contexts import TlsContexts
from slardar.errors import ConfigError
from slardar.http1.client import ClientConnection
from slardar.http1.interfaces import ChannelBase, ChannelProtocol, PlaneBase
from slardar.http1.proxy_header import Ends
from slardar.http1.record import RequestRecord
from slardar.model.listener import HTTP, HTTPS, ListenerSpec

__all__ = [
    "LISTENER_KINDS",
    "Connection",
    "ListenerKind",
    "find_kind",
    "plain_channel",
    "with_tls",
]


class Connection(Protocol):
    """What serves a connection, as the data plane sees it.

    It is also the protocol of its channel (:class:`~slardar.http1.interfaces.ChannelProtocol`),
    and calls ``closed`` of the plane when it has ended.
    """

    channel: ChannelBase
    #: What is known of the request under way; ``None`` without one, or where nobody observes.
    record: RequestRecord | None

    @property
    def is_idle(self) -> bool:
        """Whether nothing is under way, so that a plane that drains may end it."""

    @property
    def is_fresh(self) -> bool:
        """Whether it has served nothing yet: a plane that drains leaves it more time."""

    @property
    def held(self) -> int:
        """Bytes that it keeps in memory, besides those in its channel."""

    def attach(self, channel: ChannelBase) -> None:
        """Begin to serve ``channel``."""

    def ended(self, channel: ChannelBase) -> None:
        """The client will send no more; also called to end a connection that is idle."""

    def close(self) -> None:
        """End the connection now, whatever is under way."""


class ListenerKind(NamedTuple):
    """How the connections of one protocol are served.

    ``make_connection(plane, address, listener)`` makes what serves a connection;
    ``address`` is the client's, without port.  ``make_channel(poller, sock, protocol,
    listener)`` makes the channel on the socket that was accepted.
    """

    make_connection: Callable[[PlaneBase, bytes, ListenerSpec], Connection]
    make_channel: Callable[[Poller, Socket, ChannelProtocol, ListenerSpec], ChannelBase]

    def serve(
        self,
        plane: PlaneBase,
        poller: Poller,
        sock: Socket,
        address: bytes,
        listener: ListenerSpec,
        ends: Ends | None = None,
    ) -> Connection:
        """Serve a connection that ``listener`` has accepted.

        ``ends`` are those that a PROXY protocol header has told.
        """
        connection = self.make_connection(plane, address, listener)
        protocol = cast("ChannelProtocol", connection)
        channel = self.make_channel(poller, sock, protocol, listener)
        channel.ends = ends
        connection.attach(channel)
        return connection


def plain_channel(
    poller: Poller, sock: Socket, protocol: ChannelProtocol, listener: ListenerSpec
) -> ChannelBase:
    """A channel that sends and receives bytes as they are."""
    # A client that expects TLS must never be served in the clear.
    assert not listener.tls
    return PlainChannel(poller, sock, protocol)


#: The kinds that slardar has, by their protocols.
LISTENER_KINDS: Final[Mapping[str, ListenerKind]] = {
    HTTP: ListenerKind(ClientConnection, plain_channel)
}


def with_tls(
    kinds: Mapping[str, ListenerKind], contexts: TlsContexts
) -> Mapping[str, ListenerKind]:
    """These kinds, and that of HTTP inside of TLS with the certificates of ``contexts``."""
    return {HTTPS: ListenerKind(ClientConnection, partial(_tls_channel, contexts)), **kinds}


def _tls_channel(
    contexts: TlsContexts,
    poller: Poller,
    sock: Socket,
    protocol: ChannelProtocol,
    listener: ListenerSpec,
) -> ChannelBase:
    return TlsChannel(poller, sock, protocol, contexts, listener)


def find_kind(kinds: Mapping[str, ListenerKind], listener: ListenerSpec) -> ListenerKind:
    """The kind of a listener.  Raises ConfigError if there is none for its protocol."""
    kind = kinds.get(listener.protocol)
    if kind is None:
        raise ConfigError(f"listen: {listener.id}: nothing serves {listener.protocol!r} here")
    return kind
