"""The head of a request: what it holds, and how it is parsed, strictly.

See :mod:`slardar.http1.heads` for the grammar.  :func:`read_request` takes the heads that
:mod:`slardar.http1.scan` can read, and :func:`parse_request` takes or refuses all.
"""

from __future__ import annotations

import re
from typing import Any, Final

import httptools

from slardar.http1.headers import TAKEN_OUT, drop_named, named_to_drop, starts, tokens
from slardar.http1.heads import (
    CHUNKED,
    CODING,
    CONNECTION,
    CONTENT_LENGTH,
    DROPPED,
    EXPECT,
    EXPLAIN,
    FORWARDED,
    FORWARDED_FOR,
    FORWARDED_HOST,
    FORWARDED_PROTO,
    HOST_NAME,
    KEEP_ALIVE,
    LENGTH_DIGITS,
    OF_REQUEST,
    PASSES,
    REAL_IP,
    REQUEST_ID,
    TE,
    UPGRADE,
    BadMessage,
    field,
    joined,
    judge,
)
from slardar.http1.passing import PassingLines
from slardar.http1.scan import CLOSES, KEEPS, MINOR, ScannedRequest, scan_request
from slardar.http1.tls import TlsFacts
from slardar.model.names import usual_ipv6
from slardar.model.networks import Networks

__all__ = ["Request", "Told", "normal_host", "parse_request", "read_request"]

# RFC 3986 3.2.2 without the sub-delimiters and percent-encoding, which no name
# that is looked up in DNS or in a table of upstreams has.
_HOST: Final = re.compile(
    rb"(?:(?P<name>[A-Za-z0-9._~-]{1,255})|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\])(?::(?P<port>[0-9]{0,5}))?"
)
_EXPLAIN_LINE: Final = re.compile(rb"(?i)(?<=\n)x[-_]slardar[-_]explain:[^\n]*\n")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PROTOCOL: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?")
# A member of Transfer-Encoding: a name, with parameters or without (RFC 9112 7).
_CODING_MEMBER: Final = re.compile(
    rb"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)"
    rb"(?:[ \t]*;[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*=[ \t]*"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+|\"[^\"\\,]*\"))*[ \t]*"
)


#: Names that were read before: a site has few hosts, and thousands of requests for each.
_KNOWN_HOSTS: Final[dict[bytes, str]] = {}
_MOST_KNOWN: Final = 4096


def normal_host(authority: bytes) -> str:
    """The name in a Host value: lower case, without port, brackets and a dot at its end.

    Raises :class:`BadMessage` (400) for a value that is no host.  As in nginx, two dots in
    a row are refused: some servers take them for a folder.
    """
    name = _KNOWN_HOSTS.get(authority)
    if name is None:
        name = _read_host(authority)
        if len(_KNOWN_HOSTS) >= _MOST_KNOWN:
            _KNOWN_HOSTS.clear()
        _KNOWN_HOSTS[authority] = name
    return name


def _read_host(authority: bytes) -> str:
    match = _HOST.fullmatch(authority)
    if match is None or int(match["port"] or 0) > 65535:
        raise BadMessage(400, "the Host is not a valid host name")
    if match["v6"] is not None:
        address = match["v6"].decode("ascii").lower()
        try:
            # In its usual form: routes and hooks are for an address, not for one spelling.
            return usual_ipv6(address)
        except ValueError:
            raise BadMessage(400, "the Host is not a valid IPv6 address") from None
    name = match["name"].decode("ascii").lower()
    if name[0] == "." or ".." in name:
        raise BadMessage(400, "the Host is not a valid host name")
    return name.rstrip(".")


#: Looked up once: mypyc looks up names of modules that it does not compile at each use.
_scan: Final = scan_request


class Told:
    """What a request tells of its client, besides the attributes of :class:`Request`."""

    __slots__ = ("authority", "by_client", "forwarded", "real_ip", "trusted")

    def __init__(self, by_client: bool) -> None:
        #: The request came with such headers; else a hook has set them.
        self.by_client = by_client
        #: The values of Forwarded and X-Real-IP, until it is settled whether they are believed.
        self.forwarded: bytes | None = None
        self.real_ip: bytes | None = None
        #: The networks that were trusted then; ``None`` if the peer is in none of them.
        self.trusted: Networks | None = None
        #: The Host that the client sent, where a hook has set another one.
        self.authority: bytes | None = None


class Request(PassingLines):
    """The head of a request, as it will go to the origin.

    ``lines`` holds the header lines that pass unchanged, without their CRLF.  Its first
    element is the place of the request line, which the writer has.  The headers of
    ``REQUEST_SPECIAL`` are not in ``lines``; those that matter have attributes.  Those of
    ``OF_TRUSTED`` come into ``lines`` when it is settled that they are believed.
    """

    __slots__ = (
        "address",
        "authority",
        "cluster_key",
        "expects",
        "explain",
        "forwarded_for",
        "forwarded_host",
        "forwarded_proto",
        "hash_key",
        "head",
        "host",
        "keep_alive",
        "length",
        "minor",
        "peer",
        "raw_method",
        "raw_uri",
        "request_id",
        "scheme",
        "takes_trailers",
        "tls",
        "told",
        "upgrade",
    )

    def __init__(
        self,
        raw_method: bytes,
        raw_uri: bytes,
        lines: list[bytes] | None,
        head: bytes = b"",
        block: bytes = b"",
    ) -> None:
        PassingLines.__init__(self, lines, block)
        #: ``method`` and ``uri`` as bytes: the request target in origin form, or ``*``.
        self.raw_method = raw_method
        self.raw_uri = raw_uri
        #: The Host header's value, and the name in it (see :func:`normal_host`).
        self.authority = b""
        self.host = ""
        #: Minor version of HTTP/1.
        self.minor = 1
        #: The head as the client sent it, up to and with its empty line; but for
        #: X-Slardar-Explain, which is for slardar alone.
        self.head = head
        #: Bytes of body that follow, or :data:`CHUNKED`.
        self.length = 0
        self.keep_alive = True
        #: Whether the client waits for a 100 before it sends the body.
        self.expects = False
        #: The protocol to upgrade to, when the client asked for a tunnel.
        self.upgrade: bytes | None = None
        self.takes_trailers = False
        #: ``None`` where nothing tells of another client than the peer; then the three below
        #: are ``None``, too.
        self.told: Told | None = None
        self.forwarded_for: bytes | None = None
        self.forwarded_proto: bytes | None = None
        self.forwarded_host: bytes | None = None
        self.request_id: bytes | None = None
        #: The value of X-Slardar-Explain, ``None`` without one.
        self.explain: bytes | None = None
        #: The addresses of whoever is connected, and of the client: the same, unless a trusted
        #: peer tells of another one (:mod:`slardar.http1.forwarded`).  They and the scheme are
        #: set by whoever accepted the peer.
        self.peer = b""
        self.address = b""
        self.scheme = b"http"
        #: What is known of the client's TLS; ``None`` if it came in the clear.
        self.tls: TlsFacts | None = None
        #: What a hook chose for the hash balancers and for named clusters.
        self.hash_key: str | None = None
        self.cluster_key: Any = None

    # The attributes that slardar.interfaces.IRequest promises to balancers.

    @property
    def method(self) -> str:
        return self.raw_method.decode("ascii")

    @property
    def uri(self) -> str:
        return self.raw_uri.decode("ascii")

    @property
    def client(self) -> str:
        return self.address.decode("ascii")

    @property
    def path(self) -> str:
        return self.raw_uri.partition(b"?")[0].decode("ascii")

    def block(self) -> bytes:
        """See the base."""
        lines = self._lines
        if lines is None:
            return self._block
        # Whatever a caller has put there would become a part of the line before it.
        lines[0] = b""
        return b"\r\n".join(lines)

    def take_tls(self, tls: TlsFacts) -> None:
        """Take what is known of the client's TLS; the server is told of its certificate."""
        self.tls = tls
        if tls.subject:
            self.add_header_lines([b"X-Client-Cert-Subject: " + tls.subject])

    def __repr__(self) -> str:
        return f"<Request {self.method} {self.uri} host={self.host}>"


_STARTS: Final = starts(TAKEN_OUT)


def read_request(
    data: bytes, max_head: int = 32768, max_headers: int = 100, max_url: int = 8192
) -> Request | None:
    """The request whose head is at the beginning of ``data``, if it can be read fast.

    ``max_head`` bounds the bytes of the head; for the others see :func:`parse_request`, which
    returns the same request for the same head.  ``None`` says nothing of the head, not even
    that it is whole.
    """
    # An Any, so that mypyc checks the items once and not twice.
    found: Any = _scan(data)
    if found is None:
        return None
    scanned: ScannedRequest = found
    head, raw_method, target, count, flags, authority, request_id, block, length, told = scanned
    if len(head) > max_head or count > max_headers or len(target) > max_url:
        return None
    request = Request(raw_method, target, None, head, block)
    if not flags & MINOR:
        request.minor = 0
        request.keep_alive = False
    if flags & KEEPS:
        request.keep_alive = True
    if flags & CLOSES:
        request.keep_alive = False
    request.length = length
    request.request_id = request_id
    try:
        if len(authority) > 0:
            request.authority = authority
            request.host = normal_host(authority)
        if told is not None:
            # A "close" alone is a flag, so that nothing more is named then.
            named: list[bytes] | None = None
            for meaning, value in told:
                if meaning == CONNECTION:
                    named = tokens(value) if named is None else named + tokens(value)
                else:
                    _take(request, meaning, value)
            if named is None:
                request.upgrade = None
            else:
                _settle(request, target, named)
    except BadMessage:
        # Which of several faults is told depends on their order.
        return None
    return request


def parse_request(head: bytes, max_headers: int = 100, max_url: int = 8192) -> Request:
    """The request whose head is ``head``, up to and with its empty line.

    ``max_headers`` bounds the number of header lines, ``max_url`` the bytes of the
    target.  Raises :class:`BadMessage` with the status that the client gets.
    """
    try:
        judge.request(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise _refusal(head, error) from None
    # llhttp refuses every line end but CRLF, so these are the lines that it has judged.  The
    # first is the request line, the last one is empty.
    lines = head.splitlines()
    # Exactly two blanks and a known version: this also refuses HTTP/0.9 (RFC 9112 3).
    start = lines[0].split(b" ")
    version = start[2] if len(start) == 3 else b""
    if version != b"HTTP/1.1" and version != b"HTTP/1.0":
        raise BadMessage(400, "the request line is not METHOD TARGET HTTP/1.1")
    raw_method = start[0]
    target = start[1]
    kept: list[bytes] = [b""]
    request = Request(raw_method, target, kept, head)
    if version == b"HTTP/1.0":
        request.minor = 0
        request.keep_alive = False
    if len(lines) - 2 > max_headers:
        raise BadMessage(431, "the request has too many headers")
    if len(target) > max_url:
        raise BadMessage(414, "the request target is too long")
    named: list[bytes] | None = None
    begin = 1
    if lines[1][:6] == b"Host: ":
        # Nearly every client sends it as the first of its headers.
        _take(request, HOST_NAME, lines[1][6:].strip(b" \t"))
        begin = 2
    for line in lines[begin:-1]:
        row = _STARTS[line[0]]
        if row is None or (len(line) > 2 and not row[line[2]]):
            kept.append(line)
        elif len(line) == 22 and line in KEEP_ALIVE:
            # The header that nearly every client sends.  A "close" wins over it, see _settle.
            request.keep_alive = True
        else:
            meaning, value = field(line, OF_REQUEST)
            if meaning == PASSES:
                kept.append(line)
            elif meaning == CONNECTION:
                named = tokens(value) if named is None else named + tokens(value)
            elif meaning != DROPPED:
                _take(request, meaning, value)
    if (
        named is None
        and request.authority
        and target[0] == 47  # "/"
        and 35 not in target  # "#" as a number: Python looks for bytes more slowly
        and raw_method != b"CONNECT"
    ):
        request.upgrade = None
    else:
        _settle(request, target, named)
    return request


def _take(request: Request, meaning: int, value: bytes) -> None:
    """Take note of a header that does not pass unchanged."""
    if meaning == HOST_NAME:
        if request.authority:
            raise BadMessage(400, "the request has more than one Host")
        request.authority = value
        request.host = normal_host(value)
    elif meaning == CONTENT_LENGTH:
        if len(value) > LENGTH_DIGITS:
            raise BadMessage(400, "the Content-Length has too many digits")
        request.length = int(value)
    elif meaning == REQUEST_ID:
        request.request_id = joined(request.request_id, value)
    elif meaning == EXPLAIN:
        # Two of them are no token.
        request.explain = joined(request.explain, value)
        request.head = _EXPLAIN_LINE.sub(b"", request.head)
    elif meaning == CODING:
        if request.minor == 0 or request.length == CHUNKED:
            raise BadMessage(400, "Transfer-Encoding is not allowed here")
        if value.lower() != b"chunked":
            raise _refused_coding(value)
        request.length = CHUNKED
    elif meaning == EXPECT:
        if value.lower() != b"100-continue":
            raise BadMessage(417, "the expectation is not known")
        request.expects = request.minor == 1
    elif meaning == UPGRADE:
        request.upgrade = value
    elif meaning == TE:
        request.takes_trailers = request.takes_trailers or b"trailers" in tokens(value)
    else:
        _take_told(request, meaning, value)


def _take_told(request: Request, meaning: int, value: bytes) -> None:
    """Take note of a header that tells of another client than the peer."""
    told = request.told
    if told is None:
        told = request.told = Told(True)
    if meaning == FORWARDED_FOR:
        request.forwarded_for = joined(request.forwarded_for, value)
    elif meaning == FORWARDED_HOST:
        request.forwarded_host = joined(request.forwarded_host, value)
    elif meaning == FORWARDED_PROTO:
        request.forwarded_proto = joined(request.forwarded_proto, value)
    elif meaning == FORWARDED:
        told.forwarded = joined(told.forwarded, value)
    elif meaning == REAL_IP:
        told.real_ip = joined(told.real_ip, value)


def _refused_coding(value: bytes) -> BadMessage:
    """The refusal of a Transfer-Encoding that is not just ``chunked``.

    llhttp has accepted the head, so the last coding of these lines is ``chunked`` and the
    end of the body could be found (RFC 9112 6.3).  The codings before it are unknown here.
    """
    for member in value.split(b",")[:-1]:
        found = _CODING_MEMBER.fullmatch(member)
        if found is None or found[1].lower() == b"chunked":
            return BadMessage(400, "the Transfer-Encoding is malformed")
    if _CODING_MEMBER.fullmatch(value, value.rfind(b",") + 1) is None:
        return BadMessage(400, "the Transfer-Encoding is malformed")
    return BadMessage(501, "the transfer coding is not known")


def _settle(request: Request, target: bytes, named: list[bytes] | None) -> None:
    """Settle what depends on the whole head: target, host, connection, upgrade.

    ``named`` is what ``Connection`` names, ``None`` without such a header.
    """
    if request.raw_method == b"CONNECT":
        raise BadMessage(501, "CONNECT is not served here")
    if target[:1] != b"/" or 35 in target:
        request.raw_uri, authority = _origin_form(request.raw_method, target)
        if authority is not None:
            host = normal_host(authority)
            if request.authority and host != request.host:
                raise BadMessage(400, "the Host and the request target disagree")
            request.authority, request.host = authority, host
    if not request.authority and request.minor:
        raise BadMessage(400, "the request has no Host")
    if named is None:
        request.upgrade = None
        return
    if b"close" in named:
        request.keep_alive = False
    elif b"keep-alive" in named:
        request.keep_alive = True
    if request.upgrade is not None and not (b"upgrade" in named and _may_tunnel(request)):
        request.upgrade = None
    if named_to_drop(named):
        drop_named(request.lines, named)


def _refusal(head: bytes, error: httptools.HttpParserError) -> BadMessage:
    """The refusal that the client gets for llhttp's: 501 for an unknown method, else 400."""
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        method = head.split(b" ", 1)[0]
        if len(method) <= 32 and _TOKEN.fullmatch(method):
            return BadMessage(501, "the method is not known")
    return BadMessage(400, f"the request is malformed: {error}")


def _may_tunnel(request: Request) -> bool:
    """Whether the upgrade is offered to the origin.

    h2c, other versions of HTTP, and TLS (RFC 2817) are not offered: requests in such a
    tunnel would escape every rule here.  The upgrade of a request with a body is ignored,
    as RFC 9110 7.8 allows.
    """
    value = request.upgrade or b""
    return (
        request.minor == 1
        and not request.length
        and _PROTOCOL.fullmatch(value) is not None
        and not value.lower().startswith((b"h2", b"http", b"tls"))
    )


def _origin_form(raw_method: bytes, target: bytes) -> tuple[bytes, bytes | None]:
    """Path and authority of a request target that is no plain path (RFC 9112 3.2)."""
    if target == b"*":
        if raw_method != b"OPTIONS":
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
            # RFC 9112 3.2.1 and 3.2.4: an empty path is "/", for OPTIONS it is "*".
            path = b"*" if raw_method == b"OPTIONS" and not path else b"/" + path
        return path, authority
    raise BadMessage(400, "the request target is neither a path nor an absolute URL")
