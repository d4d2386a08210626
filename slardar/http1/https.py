"""What clients are told of https: where to come with TLS, and that they should stay there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from slardar.http1.interfaces import PlaneBase
from slardar.http1.request import Request, normal_host
from slardar.http1.scan import find_value

__all__ = ["asked_host", "hsts_line", "https_url", "needs_hsts"]

_HSTS: Final = b"strict-transport-security"
#: The ports of http and https, which a URL leaves out.
_HTTP_PORT: Final = 80
_HTTPS_PORT: Final = 443


def https_url(request: Request, came_to: int, ports: Sequence[int], port: int = 0) -> bytes:
    """The URL of ``request`` with https.

    The request has come to the port ``came_to`` of this machine (0: another machine has passed
    it on); TLS is spoken on ``ports``, in the order of the settings.  ``port`` is where clients
    are sent in any case; 0 lets it be found out:

    - 443 if TLS is spoken there;
    - 443, too, if the client has come by port 80 of another machine, which passes its ports
      on: its Host names no port, and it is not port 80 that it has come to here;
    - else the first of ``ports``.
    """
    if not port:
        named = request.authority.rpartition(b":")[2].isdigit() and b":" in request.authority
        is_mapped = came_to != _HTTP_PORT and not named
        port = _HTTPS_PORT
        if ports and _HTTPS_PORT not in ports and not is_mapped:
            port = ports[0]
    host = request.host.encode("ascii")
    if b":" in host:
        host = b"[" + host + b"]"
    if port != _HTTPS_PORT:
        host += b":%d" % port
    # The server as a whole has no path (RFC 9112 3.2.4).
    target = b"" if request.raw_uri == b"*" else request.raw_uri
    return b"https://" + host + target


def hsts_line(max_age: int, subdomains: bool, preload: bool) -> bytes:
    """The line of Strict-Transport-Security (RFC 6797 6.1); ``max_age`` is in seconds."""
    value = f"max-age={max_age}"
    if subdomains:
        value += "; includeSubDomains"
    if preload:
        value += "; preload"
    return b"Strict-Transport-Security: " + value.encode("ascii")


def asked_host(request: Request) -> str:
    """The name of the host that the client has asked for, whatever a hook has made of it."""
    told = request.told
    if told is None or told.authority is None:
        return request.host
    return normal_host(told.authority) if told.authority else ""


def needs_hsts(block: bytes, plane: PlaneBase, host: str) -> bool:
    """Whether the plane's Strict-Transport-Security goes into a reply over TLS with this block
    (:mod:`slardar.http1.scan`): ``host`` has a certificate, and the reply has no such header,
    of which a browser takes the first one."""
    return plane.has_certificate(host) and find_value(block, _HSTS) is None
