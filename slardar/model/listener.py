"""A listener as a value: where clients are accepted, and how they are served."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

__all__ = [
    "HTTP",
    "HTTPS",
    "PROXIED",
    "UNNAMED",
    "ListenerSpec",
    "socket_endpoint",
    "spec_of",
    "specs_of",
]

#: The protocol of listeners whose clients send HTTP requests.
HTTP: Final = "http"
#: That of listeners whose clients send them inside of TLS.
HTTPS: Final = "https"
#: Before an endpoint string: connections begin with a PROXY protocol header.  (The name of
#: Twisted's own plugin for it.)
PROXIED: Final = "haproxy:"
#: Endpoints for TLS, and those on which they listen; the options are the same.
_SECURE: Final = {"tls": "tcp", "tls6": "tcp6"}


class ListenerSpec(Struct, frozen=True):
    """One listener; every connection that it accepts carries this value."""

    #: The listener's name, for people and for processes.  It stays the same over a restart
    #: and an upgrade, and does not depend on other listeners.
    id: str
    #: Twisted's endpoint string of the socket.
    endpoint: str
    #: The protocol of its connections (:mod:`slardar.dataplane.listener_kinds`).
    protocol: str = HTTP
    #: Whether a connection begins with a TLS handshake.
    tls: bool = False
    #: Whether a connection begins with a PROXY protocol header, which tells the client's
    #: address.
    proxy_protocol: bool = False
    #: The upstream of every connection; ``None``: each request finds its own upstream.
    upstream: str | None = None

    @property
    def scheme(self) -> bytes:
        """The scheme of its URLs, for a listener with the protocol HTTP."""
        return b"https" if self.tls else b"http"


#: Stands for the listener of connections that no listener has accepted.
UNNAMED: Final = ListenerSpec("", "")


def spec_of(endpoint: str, number: int = 1) -> ListenerSpec:
    """The listener of the ``number``-th occurrence of an endpoint string in ``listen``.

    Its id is the string; ``tcp:0#2`` for the second occurrence of ``tcp:0``.  The
    endpoint of the socket is without ``haproxy:``, and has ``tcp:`` for ``tls:``.
    """
    plain = socket_endpoint(endpoint)
    secure = plain != endpoint.removeprefix(PROXIED)
    return ListenerSpec(
        endpoint if number == 1 else f"{endpoint}#{number}",
        plain,
        HTTPS if secure else HTTP,
        secure,
        proxy_protocol=endpoint.startswith(PROXIED),
    )


def socket_endpoint(endpoint: str) -> str:
    """Twisted's endpoint string for the socket of an endpoint of ``listen``."""
    kind, colon, rest = endpoint.removeprefix(PROXIED).partition(":")
    return _SECURE.get(kind, kind) + colon + rest


def specs_of(endpoints: Iterable[str]) -> tuple[ListenerSpec, ...]:
    """The listeners of all endpoint strings, in order."""
    seen: dict[str, int] = {}
    specs = []
    for endpoint in endpoints:
        seen[endpoint] = seen.get(endpoint, 0) + 1
        specs.append(spec_of(endpoint, seen[endpoint]))
    return tuple(specs)
