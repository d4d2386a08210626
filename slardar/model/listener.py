"""A listener as a value: where clients are accepted, and how they are served."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from msgspec import Struct

from slardar.model.tls import VERIFY, Verify

__all__ = [
    "HTTP",
    "HTTPS",
    "PROXIED",
    "UNNAMED",
    "ListenerSpec",
    "socket_endpoint",
    "spec_of",
    "specs_of",
    "verify_options",
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
#: Options of these endpoints that are not Twisted's: what clients have to show.
_OF_CLIENTS: Final = ("verify", "ca")
#: A part of an endpoint string, and a character that a backslash takes its meaning from.
_PART: Final = re.compile(r"(?:[^:\\]|\\.)*", re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


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
    #: What clients of this listener have to show; ``None``: what ``tls.client`` says.
    verify: Verify | None = None
    #: The file of their CAs; empty: that of ``tls.client``.
    ca: str = ""


#: Stands for the listener of connections that no listener has accepted.
UNNAMED: Final = ListenerSpec("", "")


def spec_of(endpoint: str, number: int = 1) -> ListenerSpec:
    """The listener of the ``number``-th occurrence of an endpoint string in ``listen``.

    Its id is the string; ``tcp:0#2`` for the second occurrence of ``tcp:0``.  The
    endpoint of the socket is without ``haproxy:``, has ``tcp:`` for ``tls:``, and none of the
    options ``verify`` and ``ca``.
    """
    plain = socket_endpoint(endpoint)
    secure = plain != endpoint.removeprefix(PROXIED)
    options = verify_options(endpoint)
    verify: Verify | None = None
    if options:
        # What is none of these is refused by whoever reads the settings.
        verify = VERIFY.get(options.get("verify", ""), "require")
    return ListenerSpec(
        endpoint if number == 1 else f"{endpoint}#{number}",
        plain,
        HTTPS if secure else HTTP,
        secure,
        proxy_protocol=endpoint.startswith(PROXIED),
        verify=verify,
        ca=options.get("ca", ""),
    )


def socket_endpoint(endpoint: str) -> str:
    """Twisted's endpoint string for the socket of an endpoint of ``listen``."""
    endpoint = endpoint.removeprefix(PROXIED)
    kind, colon, rest = endpoint.partition(":")
    if kind not in _SECURE:
        return endpoint
    parts = [part for part in _parts(rest) if _key(part) not in _OF_CLIENTS]
    return _SECURE[kind] + colon + ":".join(parts)


def verify_options(endpoint: str) -> dict[str, str]:
    """The options ``verify`` and ``ca`` of an endpoint of ``listen``, without escapes."""
    kind, _, rest = endpoint.removeprefix(PROXIED).partition(":")
    if kind not in _SECURE:
        return {}
    return {
        _key(part): _ESCAPED.sub(r"\1", part.partition("=")[2])
        for part in _parts(rest)
        if _key(part) in _OF_CLIENTS
    }


def _parts(text: str) -> list[str]:
    """The parts of an endpoint string between its colons, with their escapes."""
    parts = []
    place = 0
    while place <= len(text):
        found = _PART.match(text, place)
        assert found is not None
        parts.append(found[0])
        place = found.end() + 1
    return parts


def _key(part: str) -> str:
    """The name of an option of an endpoint string; empty for what has none."""
    name, equals, _ = part.partition("=")
    return name if equals else ""


def specs_of(endpoints: Iterable[str]) -> tuple[ListenerSpec, ...]:
    """The listeners of all endpoint strings, in order."""
    seen: dict[str, int] = {}
    specs = []
    for endpoint in endpoints:
        seen[endpoint] = seen.get(endpoint, 0) + 1
        specs.append(spec_of(endpoint, seen[endpoint]))
    return tuple(specs)
