"""Heads of requests and replies, parsed strictly.

The grammar is llhttp's, through httptools: it refuses bare CR or LF, folded
lines, blanks before a colon, control characters, and lengths that disagree.  (From
httptools 0.6.4 on: the llhttp of 0.6.2 let folded lines of replies through.)
What llhttp leaves open is decided here: which versions, targets and hosts are
accepted, which headers belong to one connection only, and how the body that
follows is delimited.

A head is fed to llhttp whole, after its end has been found, and its body is not,
so the place where a message ends is never in doubt.  llhttp judges; the lines it
has judged are then split here and go on as they are.  (Measured for ten headers:
being called back for each costs 2.0 µs, judging without calls 0.5 and splitting,
with a look at the first three bytes of each line, 0.7.  What is said on almost every
connection is known as a whole line, and never taken apart.)
"""

from __future__ import annotations

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address
from typing import Any

import httptools

from slardar.http1.headers import (
    KEEP_ALIVE_LINES,
    REPLY_SPECIAL,
    REPLY_STARTS,
    REQUEST_SPECIAL,
    REQUEST_STARTS,
    drop_named,
    tokens,
)

__all__ = [
    "CHUNKED",
    "UNTIL_CLOSE",
    "BadMessage",
    "Reply",
    "Request",
    "normal_host",
    "parse_reply",
    "parse_request",
]

#: Values of ``length`` for bodies whose size is not known beforehand.
CHUNKED = -1
UNTIL_CLOSE = -2

# RFC 3986 3.2.2 without the sub-delimiters and percent-encoding, which no name
# that is looked up in DNS or in a table of upstreams has.
_HOST = re.compile(
    rb"(?:(?P<name>[A-Za-z0-9._~-]{1,255})|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\])(?::(?P<port>[0-9]{0,5}))?"
)
#: Digits of the largest Content-Length that llhttp takes (2**64 - 1).  It reads over
#: any number of zeros in front, which int() does not.
_LENGTH_DIGITS = 20
_TOKEN = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PROTOCOL = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?")
_TRANSFER_ENCODING = re.compile(rb"\r\ntransfer-encoding:[ \t]*([^\r\n]*)", re.IGNORECASE)
_LENGTH = re.compile(rb"\r\ncontent-length:", re.IGNORECASE)
# A reason phrase that may go on a wire (RFC 9112 4): no control characters.
_REASON = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class _Listener:
    """A parser's listener that wants to hear nothing: llhttp only judges."""


_LISTENER = _Listener()


class BadMessage(Exception):
    """A message that is refused; ``status`` is the reply a client gets for it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


@lru_cache(maxsize=4096)
def normal_host(authority: bytes) -> str:
    """The name in a Host value: lower case, without port, brackets and a dot at its end.

    Raises :class:`BadMessage` (400) for what is no host: as in nginx, a name has no
    two dots in a row, which some servers take for a folder.  Remembered, because a
    site has few hosts and thousands of requests for each.
    """
    match = _HOST.fullmatch(authority)
    if match is None or int(match["port"] or 0) > 65535:
        raise BadMessage(400, "the Host is not a valid host name")
    if match["v6"] is not None:
        address = match["v6"].decode("ascii").lower()
        try:
            IPv6Address(address)
        except AddressValueError:
            raise BadMessage(400, "the Host is not a valid IPv6 address") from None
        return address
    name = match["name"].decode("ascii").lower()
    if name[0] == "." or ".." in name:
        raise BadMessage(400, "the Host is not a valid host name")
    return name.rstrip(".")


class Request:
    """The head of a request, as it will go to the origin.

    ``lines`` holds the header lines that pass unchanged, without their CRLF; what
    belongs to one connection only is not among them but in the fields.  Its first
    element is the place of the request line, which the writer fills in.
    """

    __slots__ = (
        "address",
        "authority",
        "chunked",
        "cluster_key",
        "connection",
        "expects",
        "forwarded_for",
        "forwarded_host",
        "forwarded_proto",
        "hash_key",
        "host",
        "keep_alive",
        "length",
        "lines",
        "minor",
        "request_id",
        "scheme",
        "takes_trailers",
        "target",
        "upgrade",
        "verb",
    )

    def __init__(self, verb: bytes, target: bytes, lines: list[bytes]) -> None:
        #: Method and target as bytes; the target is in origin form (or ``*``).
        self.verb = verb
        self.target = target
        #: The Host header's value, and the name in it (see :func:`normal_host`).
        self.authority = b""
        self.host = ""
        #: Minor version of HTTP/1.
        self.minor = 1
        self.lines = lines
        #: Bytes of body that follow, or :data:`CHUNKED`.
        self.length = 0
        self.keep_alive = True
        #: What ``Connection`` names, or ``None`` without such a header.
        self.connection: list[bytes] | None = None
        #: Whether the client waits for a 100 before it sends the body.
        self.expects = False
        #: The protocol to upgrade to, when the client asked for a tunnel.
        self.upgrade: bytes | None = None
        self.takes_trailers = False
        self.forwarded_for: bytes | None = None
        self.forwarded_proto: bytes | None = None
        self.forwarded_host: bytes | None = None
        self.request_id: bytes | None = None
        #: The client's address and scheme, set by whoever accepted it.
        self.address = b""
        self.scheme = b"http"
        #: What a hook chose for the hash balancers and for named clusters.
        self.hash_key: str | None = None
        self.cluster_key: Any = None

    # The attributes that slardar.interfaces.IRequest promises to balancers.

    @property
    def method(self) -> str:
        return self.verb.decode("ascii")

    @property
    def uri(self) -> str:
        return self.target.decode("ascii")

    @property
    def client(self) -> str:
        return self.address.decode("ascii")

    @property
    def path(self) -> str:
        return self.target.partition(b"?")[0].decode("ascii")

    def get_header(self, name: str) -> str | None:
        """The first value of a header that passes to the origin, or ``None``."""
        return find_header(self.lines, name)

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.uri} host={self.host}>"


class Reply:
    """The head of a reply.

    ``lines`` holds the status line and the header lines that pass unchanged, without
    their CRLF.  ``length`` says how the origin delimits the
    body: a number of bytes, :data:`CHUNKED` or :data:`UNTIL_CLOSE`.
    ``declared`` is the Content-Length that was written, also where no body
    follows (a reply to HEAD, a 304).
    """

    __slots__ = ("declared", "keep_alive", "length", "lines", "status", "upgrade")

    def __init__(self, status: int, lines: list[bytes]) -> None:
        self.status = status
        self.lines = lines
        self.length = UNTIL_CLOSE
        self.declared = -1
        self.keep_alive = False
        self.upgrade: bytes | None = None

    def get_header(self, name: str) -> str | None:
        """The first value of a header that passes downstream, or ``None``."""
        return find_header(self.lines, name)

    def __repr__(self) -> str:
        return f"<Reply {self.status} length={self.length}>"


def find_header(lines: list[bytes], name: str) -> str | None:
    """The first value of ``name`` in a list of header lines, or ``None``."""
    wanted = name.lower().encode("latin-1") + b":"
    size = len(wanted)
    for line in lines:
        if line[:size].lower() == wanted:
            return line[size:].strip(b" \t").decode("latin-1")
    return None


def parse_request(head: bytes, max_headers: int = 100, max_url: int = 8192) -> Request:
    """The request whose head is ``head``, up to and with its empty line.

    ``max_headers`` bounds the number of header lines, ``max_url`` the bytes of the
    target.  Raises :class:`BadMessage` with the status that the client shall get.
    """
    try:
        httptools.HttpRequestParser(_LISTENER).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise _refusal(head, error) from None
    # llhttp has seen no line end but CRLF, so this is how it saw the lines.
    lines = head[:-4].split(b"\r\n")
    # Exactly two blanks and a known version: this also refuses HTTP/0.9 (RFC 9112 3).
    try:
        verb, target, version = lines[0].split(b" ")
    except ValueError:
        version = b""
    kept = [b""]
    if version == b"HTTP/1.1":
        request = Request(verb, target, kept)
    elif version == b"HTTP/1.0":
        request = Request(verb, target, kept)
        request.minor = 0
        request.keep_alive = False
    else:
        raise BadMessage(400, "the request line is not METHOD TARGET HTTP/1.1")
    if len(lines) - 1 > max_headers:
        raise BadMessage(431, "the request has too many headers")
    if len(target) > max_url:
        raise BadMessage(414, "the request target is too long")
    keep = kept.append
    for line in lines[1:]:
        if line[:3] not in REQUEST_STARTS or line[:13] == b"Content-Type:":
            keep(line)
        elif line in KEEP_ALIVE_LINES:
            # What nearly every client says; a "close" beside it wins, see _settle.
            request.keep_alive = True
        else:
            name, _, value = line.partition(b":")
            lowered = name.lower()
            if lowered not in REQUEST_SPECIAL:
                keep(line)
            elif lowered == b"host":
                if request.authority:
                    raise BadMessage(400, "the request has more than one Host")
                request.authority = value = value.strip(b" \t")
                request.host = normal_host(value)
            else:
                _take(request, lowered, value.strip(b" \t"))
    if (
        request.connection is None
        and request.authority
        and target[0] == 47  # "/"
        and b"#" not in target
        and verb != b"CONNECT"
    ):
        request.upgrade = None
    else:
        _settle(request, target)
    return request


def _take(request: Request, name: bytes, value: bytes) -> None:
    """A header other than Host that does not pass as it is."""
    attribute = _JOINED.get(name)
    if attribute is not None:
        setattr(request, attribute, _joined(getattr(request, attribute), value))
    elif name == b"connection":
        request.connection = (request.connection or []) + tokens(value)
    elif name == b"content-length":
        if len(value) > _LENGTH_DIGITS:
            raise BadMessage(400, "the Content-Length has too many digits")
        request.length = int(value)
    elif name == b"transfer-encoding":
        if request.minor == 0 or request.length == CHUNKED:
            raise BadMessage(400, "Transfer-Encoding is not allowed here")
        if value.lower() != b"chunked":
            raise BadMessage(501 if value else 400, "the transfer coding is not known")
        request.length = CHUNKED
    elif name == b"expect":
        if value.lower() != b"100-continue":
            raise BadMessage(417, "the expectation is not known")
        request.expects = request.minor == 1
    elif name == b"upgrade":
        request.upgrade = value
    elif name == b"te":
        request.takes_trailers = request.takes_trailers or b"trailers" in tokens(value)


#: Headers that are kept for the writer, by the field that keeps them.
_JOINED = {
    b"x-forwarded-for": "forwarded_for",
    b"x-forwarded-host": "forwarded_host",
    b"x-forwarded-proto": "forwarded_proto",
    b"x-request-id": "request_id",
}


def _joined(known: bytes | None, value: bytes) -> bytes | None:
    """Two lines of a list header as one; an empty one adds nothing (RFC 9110 5.6.1)."""
    if not value:
        return known
    return value if known is None else known + b", " + value


def _settle(request: Request, target: bytes) -> None:
    """Decide what only the whole head can tell: target, host, connection, upgrade."""
    if request.verb == b"CONNECT":
        raise BadMessage(501, "CONNECT is not served here")
    if target[:1] != b"/" or b"#" in target:
        request.target, named = _origin_form(request.verb, target)
        if named is not None:
            host = normal_host(named)
            if request.authority and host != request.host:
                raise BadMessage(400, "the Host and the request target disagree")
            request.authority, request.host = named, host
    if not request.authority and request.minor:
        raise BadMessage(400, "the request has no Host")
    connection = request.connection
    if connection is None:
        request.upgrade = None
        return
    if b"close" in connection:
        request.keep_alive = False
    elif b"keep-alive" in connection:
        request.keep_alive = True
    if request.upgrade is not None and not (b"upgrade" in connection and _may_tunnel(request)):
        request.upgrade = None
    drop_named(request.lines, connection)


def _refusal(head: bytes, error: httptools.HttpParserError) -> BadMessage:
    """What llhttp's refusal means to the client: 501 for what is unknown, else 400."""
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        method = head.split(b" ", 1)[0]
        if len(method) <= 32 and _TOKEN.fullmatch(method):
            return BadMessage(501, "the method is not known")
    elif "Transfer-Encoding" in str(error):
        codings = _TRANSFER_ENCODING.findall(head)
        if len(codings) == 1 and _TOKEN.fullmatch(codings[0]) and not _LENGTH.search(head):
            return BadMessage(501, "the transfer coding is not known")
    return BadMessage(400, f"the request is malformed: {error}")


def _may_tunnel(request: Request) -> bool:
    """Whether the upgrade is offered to the origin.

    h2c is not, nor are other versions of HTTP and TLS (RFC 2817): a tunnel of them
    would carry requests past every rule here.  The upgrade of a request with a body
    is ignored, as RFC 9110 7.8 allows.
    """
    value = request.upgrade or b""
    return (
        request.minor == 1
        and not request.length
        and _PROTOCOL.fullmatch(value) is not None
        and not value.lower().startswith((b"h2", b"http", b"tls"))
    )


def _origin_form(verb: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """Target and authority of a request target that is no plain path (RFC 9112 3.2)."""
    if target == b"*":
        if verb != b"OPTIONS":
            raise BadMessage(400, "the target * is for OPTIONS only")
        return target, None
    if b"#" in target:
        raise BadMessage(400, "the request target has a fragment")
    scheme, separator, rest = target.partition(b"://")
    if separator and scheme.lower() in (b"http", b"https"):
        cut = min(
            (index for index in (rest.find(b"/"), rest.find(b"?")) if index >= 0),
            default=len(rest),
        )
        authority, path = rest[:cut], rest[cut:]
        if path[:1] != b"/":
            # RFC 9112 3.2.1: an empty path is "/"; OPTIONS on it asks of the server.
            path = b"*" if verb == b"OPTIONS" and not path else b"/" + path
        return path, authority
    raise BadMessage(400, "the request target is neither a path nor an absolute URL")


def parse_reply(head: bytes, verb: bytes, max_headers: int = 1000) -> Reply:
    """The reply to a ``verb`` request whose head is ``head``.

    Raises :class:`BadMessage` (502) for what no client may see.
    """
    try:
        httptools.HttpResponseParser(_LISTENER).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        reason = str(error)
        if reason.startswith("Pause"):
            # A 101 must say to what (RFC 9110 15.2.2); httptools takes no other.
            reason = "a 101 without Upgrade and Connection"
        raise BadMessage(502, f"the server's reply is malformed: {reason}") from None
    lines = head[:-4].split(b"\r\n")
    if len(lines) - 1 > max_headers:
        raise BadMessage(502, "the server's reply has too many headers")
    known = _STATUS_LINES.get(lines[0])
    status, minor, first = known if known is not None else _status_line(lines[0])
    kept = [first]
    reply = Reply(status, kept)
    keep_alive = minor == 1
    length = UNTIL_CLOSE
    named: list[bytes] = []
    keep = kept.append
    for line in lines[1:]:
        if line[:3] not in REPLY_STARTS or line[:13] == b"Content-Type:":
            keep(line)
            continue
        if line in KEEP_ALIVE_LINES:
            keep_alive = True
            continue
        name, _, value = line.partition(b":")
        lowered = name.lower()
        if lowered not in REPLY_SPECIAL:
            keep(line)
            continue
        value = value.strip(b" \t")
        if lowered == b"content-length":
            if len(value) > _LENGTH_DIGITS:
                raise BadMessage(502, "the server's Content-Length has too many digits")
            length = reply.declared = int(value)
        elif lowered == b"connection":
            named += tokens(value)
        elif lowered == b"transfer-encoding":
            if length == CHUNKED or value.lower() != b"chunked" or minor == 0:
                raise BadMessage(502, "the server's reply has an unknown transfer coding")
            length = CHUNKED
        elif lowered == b"upgrade":
            reply.upgrade = value
    if named:
        if b"close" in named:
            keep_alive = False
        elif b"keep-alive" in named:
            keep_alive = True
        drop_named(kept, named)
    # RFC 9112 6.3, in its order.
    if status < 200 or status == 204 or status == 304 or verb == b"HEAD":
        length = 0
    elif length == UNTIL_CLOSE:
        keep_alive = False
    reply.length = length
    reply.keep_alive = keep_alive
    return reply


def _status_line(line: bytes) -> tuple[int, int, bytes]:
    """Status, minor version and the line to pass on, for an uncommon status line."""
    if line[:9] not in (b"HTTP/1.1 ", b"HTTP/1.0 "):
        raise BadMessage(502, "the server's reply is not HTTP/1")
    code, _, reason = line[9:].partition(b" ")
    if len(code) != 3 or not code.isdigit() or not 100 <= int(code) <= 999:
        raise BadMessage(502, "the server's reply has no valid status")
    if not _REASON.fullmatch(reason):
        raise BadMessage(502, "the server's reply has control characters in its reason")
    return int(code), int(line[7:8]), b"HTTP/1.1 %b %b" % (code, reason)


def _common_status_lines() -> dict[bytes, tuple[int, int, bytes]]:
    """The standard status lines, which need no look at their parts."""
    from http import HTTPStatus

    table = {}
    for status in HTTPStatus:
        for minor in (0, 1):
            line = b"HTTP/1.%d %d %b" % (minor, status, status.phrase.encode("ascii"))
            table[line] = (int(status), minor, b"HTTP/1.1" + line[8:])
    return table


_STATUS_LINES = _common_status_lines()
