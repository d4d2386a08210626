"""The head of a reply: what it holds, and how it is parsed, strictly.

See :mod:`slardar.http1.heads` for the grammar.  :func:`read_reply` takes the heads that
:mod:`slardar.http1.scan` can read, and :func:`parse_reply` takes or refuses all.
"""

from __future__ import annotations

import re
from typing import Any, Final

import httptools
from mypy_extensions import mypyc_attr

from slardar.http1.headers import REPLY_SPECIAL, drop_named, named_to_drop, starts, tokens
from slardar.http1.heads import (
    CHUNKED,
    CODING,
    CONNECTION,
    CONTENT_LENGTH,
    KEEP_ALIVE,
    LENGTH_DIGITS,
    NOTHING,
    OF_REPLY,
    PASSES,
    UNTIL_CLOSE,
    UPGRADE,
    BadMessage,
    field,
    joined,
    judge,
)
from slardar.http1.passing import PassingLines
from slardar.http1.scan import CLOSES, KEEPS, MINOR, ScannedReply, scan_reply

__all__ = ["Reply", "ReplyCheck", "parse_reply", "read_reply"]

# A reason phrase that may go on a wire (RFC 9112 4): no control characters.
_REASON: Final = re.compile(rb"[\t\x20-\x7e\x80-\xff]*")


@mypyc_attr(acyclic=True, free_list_len=1)
class Reply(PassingLines):
    """The head of a reply.

    ``lines`` holds the status line and the header lines that pass unchanged, without
    their CRLF.  ``length`` says how the origin delimits the body: a number of bytes,
    :data:`CHUNKED` or :data:`UNTIL_CLOSE`.  ``declared`` is the Content-Length of the
    head, even if no body follows (a reply to HEAD, a 304).  ``upgrade`` is the value of
    Upgrade, which is not in ``lines``; it has a meaning in a 101 and a 426 only.
    """

    __slots__ = (
        "declared",
        "head",
        "keep_alive",
        "length",
        "size",
        "status",
        "upgrade",
    )

    def __init__(
        self, status: int, lines: list[bytes] | None, block: bytes = b"", size: int = 0
    ) -> None:
        PassingLines.__init__(self, lines, block)
        self.status = status
        #: How many bytes the head has as the server sent it, up to and with its empty line.
        self.size = size
        #: These bytes; empty where :func:`read_reply` has read them, until hooks are to see them.
        self.head = b""
        self.length = UNTIL_CLOSE
        self.declared = -1
        self.keep_alive = False
        self.upgrade: bytes | None = None

    def client_status(self) -> int:
        """The status that the client gets.

        A hook may have changed it (:meth:`set_status_line`); ``status`` stays the server's.
        """
        lines = self._lines
        return self.status if lines is None else int(lines[0][9:12])

    def set_status_line(self, line: bytes) -> None:
        """Let the client get this status line (``HTTP/1.1 200 OK``, without CRLF)."""
        self.lines[0] = line

    def __repr__(self) -> str:
        return f"<Reply {self.status} length={self.length}>"


_STARTS: Final = starts(REPLY_SPECIAL)
#: Looked up once: mypyc looks up names of modules that it does not compile at each use.
_scan: Final = scan_reply


def read_reply(
    data: bytes, raw_method: bytes, max_head: int = 65536, max_headers: int = 1000
) -> Reply | None:
    """The reply whose head is at the beginning of ``data``, if it can be read fast.

    ``max_head`` bounds the bytes of the head; for the others see :func:`parse_reply`, which
    returns the same reply for the same head.  ``None`` says nothing of the head, not even that
    it is whole.
    """
    # An Any, so that mypyc checks the items once and not twice.
    found: Any = _scan(data)
    if found is None:
        return None
    scanned: ScannedReply = found
    behind, status, count, flags, block, length, told = scanned
    size = len(data) - behind
    if size > max_head or count > max_headers:
        return None
    reply = Reply(status, None, block, size)
    if length >= 0:
        reply.declared = length
    keep_alive = flags & (MINOR | KEEPS) != 0
    if told is not None:
        named: list[bytes] | None = None
        for meaning, value in told:
            if meaning == CONNECTION:
                named = tokens(value) if named is None else named + tokens(value)
            elif meaning == UPGRADE:
                reply.upgrade = joined(reply.upgrade, value)
        if named is not None:
            keep_alive = _settle(reply, named, keep_alive)
    if flags & CLOSES:
        keep_alive = False
    _frame(reply, raw_method, length, keep_alive)
    return reply


def _settle(reply: Reply, named: list[bytes], keep_alive: bool) -> bool:
    """Whether the connection stays, by what ``Connection`` names, whose headers go."""
    if b"close" in named:
        keep_alive = False
    elif b"keep-alive" in named:
        keep_alive = True
    if named_to_drop(named):
        drop_named(reply.lines, named)
    return keep_alive


def _frame(reply: Reply, raw_method: bytes, length: int, keep_alive: bool) -> None:
    """Note how the body ends, in the order of RFC 9112 6.3."""
    status = reply.status
    if status < 200 or status == 204 or status == 304 or raw_method == b"HEAD":
        length = 0
    elif length == UNTIL_CLOSE:
        keep_alive = False
    reply.length = length
    reply.keep_alive = keep_alive


def parse_reply(head: bytes, raw_method: bytes, max_headers: int = 1000) -> Reply:
    """The reply to a ``raw_method`` request whose head is ``head``.

    Raises :class:`BadMessage` (502) for a reply that must not go to a client.
    """
    try:
        judge.reply(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        reason = str(error)
        if reason.startswith("Pause"):
            # A 101 must name the new protocol (RFC 9110 15.2.2); httptools refuses others.
            reason = "a 101 without Upgrade and Connection"
        raise BadMessage(502, f"the server's reply is malformed: {reason}") from None
    # As in a request: the first is the status line, the last one is empty.
    lines = head.splitlines()
    known = _STATUS_LINES.get(lines[0])
    if known is None:
        known = _status_line(lines[0])
    if len(lines) - 2 > max_headers:
        raise BadMessage(502, "the server's reply has too many headers")
    kept: list[bytes] = [known.line]
    keep_alive = known.minor == 1
    length, declared = UNTIL_CLOSE, -1
    named: list[bytes] | None = None
    upgrade: bytes | None = None
    for line in lines[1:-1]:
        row = _STARTS[line[0]]
        if (
            row is None
            or (len(line) > 2 and not row[line[2]])
            # Nearly every reply has this line, and the next one.
            or line[:14] == b"Content-Type: "
        ):
            kept.append(line)
            continue
        if line[:16] == b"Content-Length: ":
            meaning, value = CONTENT_LENGTH, line[16:].strip(b" \t")
        elif len(line) == 22 and line in KEEP_ALIVE:
            keep_alive = True
            continue
        else:
            meaning, value = field(line, OF_REPLY)
        if meaning == PASSES:
            kept.append(line)
            continue
        if meaning == CONTENT_LENGTH:
            if len(value) > LENGTH_DIGITS:
                raise BadMessage(502, "the server's Content-Length has too many digits")
            length = declared = int(value)
        elif meaning == CONNECTION:
            named = tokens(value) if named is None else named + tokens(value)
        elif meaning == CODING:
            if length == CHUNKED or value.lower() != b"chunked" or not known.minor:
                raise BadMessage(502, "the server's reply has an unknown transfer coding")
            length = CHUNKED
        elif meaning == UPGRADE:
            upgrade = joined(upgrade, value)
    reply = Reply(known.status, None, b"\r\n".join(kept), len(head))
    reply.head = head
    reply.declared = declared
    reply.upgrade = upgrade
    if named is not None:
        keep_alive = _settle(reply, named, keep_alive)
    _frame(reply, raw_method, length, keep_alive)
    return reply


#: The first bytes of every reply that is passed on.  llhttp also takes other protocols
#: and versions.
_BEGINNING: Final = b"HTTP/1."


class ReplyCheck:
    """Checks a reply's head that comes in pieces, and refuses it at the first wrong byte.

    Each byte is looked at once, however small the pieces are.  A head that passes must
    still be parsed once it is complete.
    """

    __slots__ = ("_begun", "_parser")

    def __init__(self) -> None:
        self._parser: Any = httptools.HttpResponseParser(NOTHING)
        #: How many bytes of ``_BEGINNING`` have arrived.
        self._begun = 0

    def feed(self, data: bytes) -> None:
        """Check the next piece.  The empty line that ends the head must not be fed.

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
    """Parse a status line that is not one of the standard ones."""
    if line[:9] not in (b"HTTP/1.1 ", b"HTTP/1.0 "):
        raise BadMessage(502, "the server's reply is not HTTP/1")
    code, _, reason = line[9:].partition(b" ")
    if len(code) != 3 or not code.isdigit() or not 100 <= int(code) <= 999:
        raise BadMessage(502, "the server's reply has no valid status")
    if not _REASON.fullmatch(reason):
        raise BadMessage(502, "the server's reply has control characters in its reason")
    return _StatusLine(int(code), int(line[7:8]), b"HTTP/1.1 %b %b" % (code, reason))


def _common_status_lines() -> dict[bytes, _StatusLine]:
    """The standard status lines, parsed beforehand."""
    from http import HTTPStatus

    table = {}
    for status in HTTPStatus:
        for minor in (0, 1):
            line = b"HTTP/1.%d %d %b" % (minor, status, status.phrase.encode("ascii"))
            table[line] = _StatusLine(int(status), minor, b"HTTP/1.1" + line[8:])
    return table


_STATUS_LINES: Final = _common_status_lines()
