"""Heads of requests and replies, translated between twisted.web and slardar."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import ISSLTransport
from twisted.web.http import datetimeToString

from slardar.http1.forwarded import came_from
from slardar.http1.heads import BadMessage
from slardar.http1.proxy_header import Ends
from slardar.http1.reply import Reply
from slardar.http1.request import Request, parse_request
from slardar.http1.tls import TlsFacts
from slardar.http1.told_tls import told_tls
from slardar.model.networks import UNIX, Networks, peer_address

__all__ = ["client_ends", "peer_of", "read_head", "tls_of", "without_prefix", "write_head"]

#: Headers that twisted.web writes itself, or that announce trailers, which it cannot send.
_NOT_COPIED = frozenset((b"content-length", b"trailer"))


def read_head(
    web: Any, max_head: int, max_headers: int, max_url: int, trusted: Networks
) -> Request:
    """The request that twisted.web has parsed, parsed again under slardar's rules.

    twisted.web accepts more than it should (two Hosts, any framing on HTTP/1.0, any
    target).  What it has parsed is therefore written down as a head, and that head is
    read like any other.  ``max_head`` and ``max_url`` are bytes, and ``trusted`` the networks
    whose word about clients is believed.

    Raises :class:`BadMessage` with the status that the client gets.
    """
    head = _head(web)
    if len(head) > max_head:
        raise BadMessage(431, "the head of the request is too large")
    request = parse_request(head, max_headers, max_url)
    # twisted.web can become no tunnel and has no trailers.
    request.upgrade = None
    request.takes_trailers = False
    request.scheme = b"https" if web.isSecure() else b"http"
    tls = tls_of(web)
    if tls is not None:
        request.take_tls(tls)
    came_from(request, peer_of(web), trusted)
    return request


def peer_of(web: Any) -> bytes:
    """The peer's address, as a listener tells it: a client on a unix socket has none."""
    host = getattr(web.getClientAddress(), "host", None)
    return UNIX if host is None else peer_address(host)


def tls_of(web: Any) -> TlsFacts | None:
    """The client's TLS; ``None`` if the connection has none, whatever the application says.

    HTTP/2 of twisted.web tells nothing of its connection.
    """
    transport: Any = getattr(web.channel, "transport", None)
    if not ISSLTransport.providedBy(transport):
        return None
    # Imported here: a site without TLS does not pay for it.
    from OpenSSL.crypto import FILETYPE_ASN1, dump_certificate

    secure: Any = transport
    connection = secure.getHandle()
    # What the site lets in counts as verified: nobody else knows.
    certificate = secure.getPeerCertificate()
    return told_tls(
        connection.get_protocol_version_name(),
        (connection.get_servername() or b"").decode("ascii", "replace").lower(),
        connection.get_cipher_name() or "",
        b"" if certificate is None else dump_certificate(FILETYPE_ASN1, certificate),
    )


def client_ends(web: Any) -> Ends:
    """The two ends of the client's connection."""
    client, local = web.getClientAddress(), web.getHost()
    return Ends(
        getattr(client, "host", ""),
        getattr(client, "port", 0),
        getattr(local, "host", ""),
        getattr(local, "port", 0),
    )


def _head(web: Any) -> bytes:
    """The head of a request, in bytes, made from what twisted.web has parsed."""
    version = web.clientproto if web.clientproto == b"HTTP/1.0" else b"HTTP/1.1"
    lines = [b"%b %b %b" % (web.method, web.uri, version)]
    for name, values in web.requestHeaders.getAllRawHeaders():
        if name == b"Trailer":
            continue  # twisted.web drops the trailers that it announces
        if name == b"Cookie":
            # HTTP/2 may send each cookie in a field of its own (RFC 9113 8.2.3).
            values = [b"; ".join(values)]
        lines += [b"%b: %b" % (name, value) for value in values]
    head = b"\r\n".join((*lines, b"", b""))
    if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1:
        raise BadMessage(400, "the request has a line break within a header")
    return head


def write_head(web: Any, reply: Reply) -> None:
    """Give twisted.web the status and the headers of a reply."""
    # The status of the line, not of the reply: a hook may have changed it.
    lines = reply.head_lines()
    web.setResponseCode(reply.client_status(), lines[0][13:])
    # twisted.web would add a type that the server did not give, and its own name.
    web.defaultContentType = None
    headers = web.responseHeaders
    headers.removeHeader(b"server")
    headers.removeHeader(b"content-length")
    if not headers.hasHeader(b"date"):
        # RFC 9110 6.6.1: a proxy adds a date to a reply that has none.
        headers.setRawHeaders(b"Date", [datetimeToString()])  # type: ignore[no-untyped-call]
    given: dict[bytes, list[bytes]] = {}
    for line in lines[1:]:
        name, _, value = line.partition(b":")
        name = name.lower()
        value = value.strip(b" \t")
        if name == b"set-cookie":
            # The site's own cookies stay.
            web.cookies.append(value)
        elif name not in _NOT_COPIED:
            given.setdefault(name, []).append(value)
    for name, values in given.items():
        headers.setRawHeaders(name, values)


def without_prefix(target: bytes, segments: int) -> bytes:
    """``target``, a path with its query, without the first ``segments`` of its path."""
    path, mark, query = target.partition(b"?")
    return b"/" + b"/".join(path.split(b"/")[segments + 1 :]) + mark + query
