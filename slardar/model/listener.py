"""A listener as a value: where clients are accepted, and how they are served."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from msgspec import Struct

__all__ = ["HTTP", "UNNAMED", "ListenerSpec", "spec_of", "specs_of"]

#: The protocol of listeners whose clients send HTTP requests.
HTTP: Final = "http"


class ListenerSpec(Struct, frozen=True):
    """One listener; every connection that it accepts carries this value."""

    #: Names the listener, for people and for processes.  It stays the same over a restart
    #: and an upgrade, and whatever other listeners there are.
    id: str
    #: Twisted's endpoint string of the socket.
    endpoint: str
    #: Which kind of connection it is for (:mod:`slardar.dataplane.listener_kinds`).
    protocol: str = HTTP
    #: Whether a connection begins with a TLS handshake.
    tls: bool = False
    #: Whether a connection begins with a PROXY protocol header, which tells the client's
    #: address.
    proxy_protocol: bool = False
    #: The upstream of every connection; ``None``: each request finds its own.
    upstream: str | None = None

    @property
    def scheme(self) -> bytes:
        """The scheme of the URLs that lead here, if it is a listener for HTTP."""
        return b"https" if self.tls else b"http"


#: The listener of connections that no listener has accepted.
UNNAMED: Final = ListenerSpec("", "")


def spec_of(endpoint: str, number: int = 1) -> ListenerSpec:
    """The listener of an endpoint string of ``listen``: the ``number``-th of this string.

    Its id is the string; ``tcp:0#2`` for the second one.
    """
    return ListenerSpec(endpoint if number == 1 else f"{endpoint}#{number}", endpoint)


def specs_of(endpoints: Iterable[str]) -> tuple[ListenerSpec, ...]:
    """The listeners of all of ``listen``, in order."""
    seen: dict[str, int] = {}
    specs = []
    for endpoint in endpoints:
        seen[endpoint] = seen.get(endpoint, 0) + 1
        specs.append(spec_of(endpoint, seen[endpoint]))
    return tuple(specs)
