"""The kinds of listeners: what serves the connections that a listener accepts.

A kind makes two things: what serves a connection, and its channel.
The data plane is given a table of kinds, and picks one by the listener's protocol.  A
further protocol is a further entry of the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mypy_extensions import mypyc_attr

from slardar.dataplane.plain_channel import PlainChannel
from slardar.dataplane.poller import Poller
from slardar.dataplane.system import Socket
from slardar.dataplane.tls_channel import TlsChannel
from slardar.dataplane.tls_contexts import TlsContexts
from slardar.errors import ConfigError
from slardar.http1.client import ClientConnection
from slardar.http1.interfaces import ChannelBase, ChannelProtocol, Connection, PlaneBase
from slardar.http1.proxy_header import Ends
from slardar.model.listener import HTTP, HTTPS, ListenerSpec

__all__ = ["LISTENER_KINDS", "HttpKind", "ListenerKind", "find_kind", "with_tls"]


@mypyc_attr(allow_interpreted_subclasses=True)
class ListenerKind:
    """How the connections of one protocol are served."""

    __slots__ = ()

    def make_connection(
        self, plane: PlaneBase, address: bytes, listener: ListenerSpec
    ) -> Connection:
        """What serves a connection; ``address`` is the client's, without port."""
        raise NotImplementedError

    def make_channel(
        self, poller: Poller, sock: Socket, protocol: ChannelProtocol, listener: ListenerSpec
    ) -> ChannelBase:
        """The channel on the socket that was accepted."""
        raise NotImplementedError

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
        channel = self.make_channel(poller, sock, connection, listener)
        channel.ends = ends
        connection.attach(channel)
        return connection


@mypyc_attr(allow_interpreted_subclasses=True)
class HttpKind(ListenerKind):
    """HTTP, on a channel that sends and receives bytes as they are."""

    __slots__ = ()

    def make_connection(
        self, plane: PlaneBase, address: bytes, listener: ListenerSpec
    ) -> Connection:
        """See the base."""
        return ClientConnection(plane, address, listener)

    def make_channel(
        self, poller: Poller, sock: Socket, protocol: ChannelProtocol, listener: ListenerSpec
    ) -> ChannelBase:
        """See the base."""
        # A client that expects TLS must never be served in the clear.
        assert not listener.tls
        return PlainChannel(poller, sock, protocol)


class HttpsKind(HttpKind):
    """HTTP inside of TLS, with the certificates of ``contexts``."""

    __slots__ = ("_contexts",)

    def __init__(self, contexts: TlsContexts) -> None:
        self._contexts = contexts

    def make_channel(
        self, poller: Poller, sock: Socket, protocol: ChannelProtocol, listener: ListenerSpec
    ) -> ChannelBase:
        """See the base."""
        return TlsChannel(poller, sock, protocol, self._contexts, listener)


#: The kinds that slardar has, by their protocols.
LISTENER_KINDS: Final[Mapping[str, ListenerKind]] = {HTTP: HttpKind()}


def with_tls(
    kinds: Mapping[str, ListenerKind], contexts: TlsContexts
) -> Mapping[str, ListenerKind]:
    """These kinds, and that of HTTP inside of TLS with the certificates of ``contexts``."""
    return {HTTPS: HttpsKind(contexts), **kinds}


def find_kind(kinds: Mapping[str, ListenerKind], listener: ListenerSpec) -> ListenerKind:
    """The kind of a listener.  Raises ConfigError if there is none for its protocol."""
    kind = kinds.get(listener.protocol)
    if kind is None:
        raise ConfigError(f"listen: {listener.id}: nothing serves {listener.protocol!r} here")
    return kind
