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
with a look at two bytes of each line, 0.7.)
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

import httptools

from slardar.http1.headers import REPLY_SPECIAL, REQUEST_SPECIAL, Starts, drop_named, tokens
from slardar.model.names import usual_ipv6

__all__ = [
    "CHUNKED",
    "UNTIL_CLOSE",
    "BadMessage",
    "Reply",
    "ReplyCheck",
    "Request",
    "normal_host",
    "parse_reply",
    "parse_request",
]

#: Values of ``length`` for bodies whose size is not known beforehand.
CHUNKED: Final = -1
UNTIL_CLOSE: Final = -2

# RFC 3986 3.2.2 without the sub-delimiters and percent-encoding, which no name
# that is looked up in DNS or in a table of upstreams has.
_HOST: Final = re.compile(
    rb"(?:(?P<name>[A-Za-z0-9._~-]{1,255})|\[(?P<v6>[0-9A-Fa-f:.]{2,45})\])(?::(?P<port>[0-9]{0,5}))?"
)
#: Digits of the largest Content-Length that llhttp takes (2**64 - 1).  It reads over
#: any number of zeros in front, which int() does not.
_LENGTH_DIGITS: Final = 20
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PROTOCOL: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+(?:/[!#$%&'*+.^_`|~0-9A-Za-z-]+)?")
# A member of Transfer-Encoding: a name, with parameters or without (RFC 9112 7).
_CODING_MEMBER: Final = re.compile(
    rb"[ \t]*([!#$%&'*+.^_`|~0-9A-Za-z-]+)"
    rb"(?:[ \t]*;[ \t]*[!#$%&'*+.^_`|~0-9A-Za-z-]+[ \t]*=[ \t]*"
    rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+|\"[^\"\\,]*\"))*[ \t]*"
)
# A reason phrase that may go on a wire (RFC 9112 4): no control characters.
_REASON: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


class BadMessage(Exception):
    """A message that is refused; ``status`` is the reply a client gets for it."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class _Whole:
    """A parser's listener that hears of one thing: a message has come to its end."""

    __slots__ = ("complete",)

    def __init__(self) -> None:
        self.complete = False

    def on_message_complete(self) -> None:
        self.complete = True


class _Judge:
    """Feeds heads to llhttp, which refuses what is no HTTP.

    A parser of requests is used again if it has seen a whole message, as that of a
    request without a body is; making one anew costs more than the feeding.  A refusal
    counts only from a parser that has seen nothing before.
    """

    __slots__ = ("_make_reply_parser", "_make_request_parser", "_parser", "_whole")

    def __init__(self) -> None:
        self._make_request_parser: Any = httptools.HttpRequestParser
        self._make_reply_parser: Any = httptools.HttpResponseParser
        self._whole = _Whole()
        self._parser: Any = None

    def request(self, head: bytes) -> None:
        """Raises httptools' errors."""
        whole = self._whole
        whole.complete = False
        parser = self._parser
        if parser is not None:
            try:
                parser.feed_data(head)
            except (httptools.HttpParserError, httptools.HttpParserUpgrade):
                whole.complete = False
            else:
                if not whole.complete:
                    self._parser = None
                return
        self._parser = None
        parser = self._make_request_parser(whole)
        parser.feed_data(head)
        if whole.complete:
            self._parser = parser

    def reply(self, head: bytes) -> None:
        """Raises httptools' errors."""
        self._make_reply_parser(_NOTHING).feed_data(head)


_NOTHING: Final = object()
_judge: Final = _Judge()


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
            # In its usual form: what a route or a hook is for is not a spelling.
            return usual_ipv6(address)
        except ValueError:
            raise BadMessage(400, "the Host is not a valid IPv6 address") from None
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
        "cluster_key",
        "connection",
        "expects",
        "forwarded_for",
        "forwarded_host",
        "forwarded_proto",
        "hash_key",
        "head",
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

    def __init__(self, verb: bytes, target: bytes, lines: list[bytes], head: bytes = b"") -> None:
        #: Method and target as bytes; the target is in origin form (or ``*``).
        self.verb = verb
        self.target = target
        #: The Host header's value, and the name in it (see :func:`normal_host`).
        self.authority = b""
        self.host = ""
        #: Minor version of HTTP/1.
        self.minor = 1
        self.lines = lines
        #: The head as the client sent it, up to and with its empty line.
        self.head = head
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
    follows (a reply to HEAD, a 304).  ``upgrade`` is the server's Upgrade, for a 101 or a
    426; it is no line, and means nothing elsewhere.
    """

    __slots__ = ("declared", "head", "keep_alive", "length", "lines", "status", "upgrade")

    def __init__(self, status: int, lines: list[bytes], head: bytes = b"") -> None:
        self.status = status
        self.lines = lines
        #: The head as the server sent it, up to and with its empty line.
        self.head = head
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


# What a header line says: something to pass on as it is, something to drop, or this.
_PASSES: Final = -1
_DROPPED: Final = 0
_HOST_NAME: Final = 1
_CONNECTION: Final = 2
_CONTENT_LENGTH: Final = 3
_CODING: Final = 4
_EXPECT: Final = 5
_UPGRADE: Final = 6
_TE: Final = 7
_FORWARDED_FOR: Final = 8
_FORWARDED_HOST: Final = 9
_FORWARDED_PROTO: Final = 10
_REQUEST_ID: Final = 11

_MEANINGS: Final[dict[bytes, int]] = {
    b"host": _HOST_NAME,
    b"connection": _CONNECTION,
    b"content-length": _CONTENT_LENGTH,
    b"transfer-encoding": _CODING,
    b"expect": _EXPECT,
    b"upgrade": _UPGRADE,
    b"te": _TE,
    b"x-forwarded-for": _FORWARDED_FOR,
    b"x-forwarded-host": _FORWARDED_HOST,
    b"x-forwarded-proto": _FORWARDED_PROTO,
    b"x-request-id": _REQUEST_ID,
}


#: What most heads have and begins like a name above: known, so that it is not looked at
#: in every other way.
_USUAL = (
    b"content-disposition",
    b"content-encoding",
    b"content-language",
    b"content-security-policy",
    b"content-type",
    b"x-requested-with",
)


def _spelled(names: frozenset[bytes]) -> dict[bytes, int]:
    """What a line of these names means, by the name in its usual spellings."""
    meanings = dict.fromkeys(_USUAL, _PASSES)
    meanings.update((name, _MEANINGS.get(name, _DROPPED)) for name in names)
    return {
        spelled: meaning
        for name, meaning in meanings.items()
        for spelled in (name, name.title(), name.upper())
    }


_OF_REQUEST: Final[dict[bytes, int]] = _spelled(REQUEST_SPECIAL)
_OF_REPLY: Final[dict[bytes, int]] = _spelled(REPLY_SPECIAL)

#: The usual ways to say that a connection stays open.
_KEEP_ALIVE: Final = frozenset(
    (b"Connection: keep-alive", b"Connection: Keep-Alive", b"connection: keep-alive")
)

_REQUEST_STARTS: Final = Starts(REQUEST_SPECIAL)
_REPLY_STARTS: Final = Starts(REPLY_SPECIAL)
#: Columns of these tables, for the lookups of every line.
_REQUEST_FIRST: Final[bytes] = _REQUEST_STARTS.first
_REQUEST_THIRD: Final[bytes] = _REQUEST_STARTS.third
_REPLY_FIRST: Final[bytes] = _REPLY_STARTS.first
_REPLY_THIRD: Final[bytes] = _REPLY_STARTS.third


def _field(line: bytes, meanings: dict[bytes, int]) -> tuple[int, bytes]:
    """What a header line means, by ``meanings`` (else ``_PASSES``), and its value.

    Nearly all lines that come here are spelled and spaced in the usual way, and need
    one call where others need three.
    """
    parts = line.split(b": ", 1)
    if len(parts) == 2:
        value = parts[1]
        if value and value[0] > 32 and value[-1] > 32:
            meaning = meanings.get(parts[0])
            if meaning is not None:
                return meaning, value
    colon = line.find(b":")
    meaning = meanings.get(line[:colon].lower())
    return _PASSES if meaning is None else meaning, line[colon + 1 :].strip(b" \t")


def parse_request(head: bytes, max_headers: int = 100, max_url: int = 8192) -> Request:
    """The request whose head is ``head``, up to and with its empty line.

    ``max_headers`` bounds the number of header lines, ``max_url`` the bytes of the
    target.  Raises :class:`BadMessage` with the status that the client shall get.
    """
    try:
        _judge.request(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        raise _refusal(head, error) from None
    # llhttp has seen no line end but CRLF, so this is how it saw the lines.
    lines = head[:-4].split(b"\r\n")
    # Exactly two blanks and a known version: this also refuses HTTP/0.9 (RFC 9112 3).
    start = lines[0].split(b" ")
    version = start[2] if len(start) == 3 else b""
    if version != b"HTTP/1.1" and version != b"HTTP/1.0":
        raise BadMessage(400, "the request line is not METHOD TARGET HTTP/1.1")
    verb = start[0]
    target = start[1]
    kept: list[bytes] = [b""]
    request = Request(verb, target, kept, head)
    if version == b"HTTP/1.0":
        request.minor = 0
        request.keep_alive = False
    del lines[0]
    if len(lines) > max_headers:
        raise BadMessage(431, "the request has too many headers")
    if len(target) > max_url:
        raise BadMessage(414, "the request target is too long")
    for line in lines:
        first = line[0]
        if not _REQUEST_FIRST[first] or (
            len(line) > 2 and not _REQUEST_THIRD[first << 8 | line[2]]
        ):
            kept.append(line)
        elif len(line) == 22 and line in _KEEP_ALIVE:
            # What nearly every client says; a "close" beside it wins, see _settle.
            request.keep_alive = True
        else:
            meaning, value = _field(line, _OF_REQUEST)
            if meaning == _PASSES:
                kept.append(line)
            elif meaning != _DROPPED:
                _take(request, meaning, value)
    if (
        request.connection is None
        and request.authority
        and target[0] == 47  # "/"
        and 35 not in target  # "#"; for a byte as bytes, Python first fails at another way
        and verb != b"CONNECT"
    ):
        request.upgrade = None
    else:
        _settle(request, target)
    return request


def _take(request: Request, meaning: int, value: bytes) -> None:
    """A header that does not pass as it is."""
    if meaning == _HOST_NAME:
        if request.authority:
            raise BadMessage(400, "the request has more than one Host")
        request.authority = value
        request.host = normal_host(value)
    elif meaning == _CONNECTION:
        request.connection = (request.connection or []) + tokens(value)
    elif meaning == _CONTENT_LENGTH:
        if len(value) > _LENGTH_DIGITS:
            raise BadMessage(400, "the Content-Length has too many digits")
        request.length = int(value)
    elif meaning == _FORWARDED_FOR:
        request.forwarded_for = _joined(request.forwarded_for, value)
    elif meaning == _FORWARDED_HOST:
        request.forwarded_host = _joined(request.forwarded_host, value)
    elif meaning == _FORWARDED_PROTO:
        request.forwarded_proto = _joined(request.forwarded_proto, value)
    elif meaning == _REQUEST_ID:
        request.request_id = _joined(request.request_id, value)
    elif meaning == _CODING:
        if request.minor == 0 or request.length == CHUNKED:
            raise BadMessage(400, "Transfer-Encoding is not allowed here")
        if value.lower() != b"chunked":
            raise _refused_coding(value)
        request.length = CHUNKED
    elif meaning == _EXPECT:
        if value.lower() != b"100-continue":
            raise BadMessage(417, "the expectation is not known")
        request.expects = request.minor == 1
    elif meaning == _UPGRADE:
        request.upgrade = value
    elif meaning == _TE:
        request.takes_trailers = request.takes_trailers or b"trailers" in tokens(value)


def _refused_coding(value: bytes) -> BadMessage:
    """What a Transfer-Encoding means to the client that is not just ``chunked``.

    llhttp has passed the head, so the last coding of all such lines is ``chunked``, and
    the end of the body would be known (RFC 9112 6.3).  But a coding before it is not.
    """
    for member in value.split(b",")[:-1]:
        found = _CODING_MEMBER.fullmatch(member)
        if found is None or found[1].lower() == b"chunked":
            return BadMessage(400, "the Transfer-Encoding is malformed")
    if _CODING_MEMBER.fullmatch(value, value.rfind(b",") + 1) is None:
        return BadMessage(400, "the Transfer-Encoding is malformed")
    return BadMessage(501, "the transfer coding is not known")


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
    """What llhttp's refusal means to the client: 501 for an unknown method, else 400."""
    if isinstance(error, httptools.HttpParserInvalidMethodError):
        method = head.split(b" ", 1)[0]
        if len(method) <= 32 and _TOKEN.fullmatch(method):
            return BadMessage(501, "the method is not known")
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
        _judge.reply(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        reason = str(error)
        if reason.startswith("Pause"):
            # A 101 must say to what (RFC 9110 15.2.2); httptools takes no other.
            reason = "a 101 without Upgrade and Connection"
        raise BadMessage(502, f"the server's reply is malformed: {reason}") from None
    lines = head[:-4].split(b"\r\n")
    known = _STATUS_LINES.get(lines[0])
    if known is None:
        known = _status_line(lines[0])
    del lines[0]
    if len(lines) > max_headers:
        raise BadMessage(502, "the server's reply has too many headers")
    status = known.status
    kept: list[bytes] = [known.line]
    reply = Reply(status, kept, head)
    keep_alive = known.minor == 1
    length = UNTIL_CLOSE
    named: list[bytes] | None = None
    for line in lines:
        first = line[0]
        if not _REPLY_FIRST[first] or (len(line) > 2 and not _REPLY_THIRD[first << 8 | line[2]]):
            kept.append(line)
            continue
        if line[:16] == b"Content-Length: ":
            # The line that nearly every reply has.
            meaning, value = _CONTENT_LENGTH, line[16:].strip(b" \t")
        elif len(line) == 22 and line in _KEEP_ALIVE:
            keep_alive = True
            continue
        else:
            meaning, value = _field(line, _OF_REPLY)
        if meaning == _PASSES:
            kept.append(line)
            continue
        if meaning == _CONTENT_LENGTH:
            if len(value) > _LENGTH_DIGITS:
                raise BadMessage(502, "the server's Content-Length has too many digits")
            length = reply.declared = int(value)
        elif meaning == _CONNECTION:
            named = tokens(value) if named is None else named + tokens(value)
        elif meaning == _CODING:
            if length == CHUNKED or value.lower() != b"chunked" or not known.minor:
                raise BadMessage(502, "the server's reply has an unknown transfer coding")
            length = CHUNKED
        elif meaning == _UPGRADE:
            reply.upgrade = _joined(reply.upgrade, value)
    if named is not None:
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


#: How every reply begins that is passed on; llhttp takes other protocols and versions too.
_BEGINNING: Final = b"HTTP/1."


class ReplyCheck:
    """The head of a reply that comes in pieces, refused at the first byte that is wrong.

    Each byte is looked at once, however small the pieces are.  A head that passes is still
    to be parsed when its end is here.
    """

    __slots__ = ("_begun", "_parser")

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(_NOTHING)
        #: How many bytes of the beginning have come.
        self._begun = 0

    def feed(self, data: bytes) -> None:
        """The next piece; there must be no empty line in what was fed.

        Raises :class:`BadMessage` (502).
        """
        begun = self._begun
        if begun < len(_BEGINNING):
            piece = data[: len(_BEGINNING) - begun]
            if not _BEGINNING.startswith(piece, begun):
                raise BadMessage(502, "the server's reply is not HTTP/1")
            self._begun = begun + len(piece)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise BadMessage(502, f"the server's reply is malformed: {error}") from None


class _StatusLine:
    """A status line: its status, its minor version, and the line to pass on."""

    __slots__ = ("line", "minor", "status")

    def __init__(self, status: int, minor: int, line: bytes) -> None:
        self.status = status
        self.minor = minor
        self.line = line


def _status_line(line: bytes) -> _StatusLine:
    """An uncommon status line."""
    if line[:9] not in (b"HTTP/1.1 ", b"HTTP/1.0 "):
        raise BadMessage(502, "the server's reply is not HTTP/1")
    code, _, reason = line[9:].partition(b" ")
    if len(code) != 3 or not code.isdigit() or not 100 <= int(code) <= 999:
        raise BadMessage(502, "the server's reply has no valid status")
    if not _REASON.fullmatch(reason):
        raise BadMessage(502, "the server's reply has control characters in its reason")
    return _StatusLine(int(code), int(line[7:8]), b"HTTP/1.1 %b %b" % (code, reason))


def _common_status_lines() -> dict[bytes, _StatusLine]:
    """The standard status lines, which need no look at their parts."""
    from http import HTTPStatus

    table = {}
    for status in HTTPStatus:
        for minor in (0, 1):
            line = b"HTTP/1.%d %d %b" % (minor, status, status.phrase.encode("ascii"))
            table[line] = _StatusLine(int(status), minor, b"HTTP/1.1" + line[8:])
    return table


_STATUS_LINES: Final = _common_status_lines()
