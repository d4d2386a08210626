"""Writes the heads of requests to servers, of interim replies to clients, and decisions' ids.

A head is built from its parsed form, so that the server parses what slardar parsed.  To
the lines that pass unchanged the writer adds the headers that the next connection needs.
"""

from __future__ import annotations

import os
from typing import Final

from slardar.http1.heads import GET
from slardar.http1.record import DecisionNote
from slardar.http1.reply import Reply
from slardar.http1.request import Request
from slardar.http1.scan import write_request

__all__ = ["RequestIds", "decision_lines", "interim_head", "request_head"]

#: Looked up once: mypyc looks up names of modules that it does not compile at each use.
_write_request: Final = write_request
_LAST_DIGITS: Final[tuple[bytes, ...]] = tuple(b"%02x" % number for number in range(256))


class RequestIds:
    """Makes ``X-Request-Id`` values: 16 random digits of the process, then a counter.

    The values are unique across processes and restarts, but not secret.
    """

    __slots__ = ("_beginning", "_made", "_prefix")

    def __init__(self, prefix: bytes | None = None) -> None:
        self._prefix: bytes = prefix if prefix is not None else os.urandom(8).hex().encode("ascii")
        self._made: int = 0
        #: What 256 values begin with: all of them but for the last two digits.
        self._beginning: bytes = self._prefix + b"000000"

    def fresh(self) -> bytes:
        """The next value."""
        made = self._made = self._made + 1
        last = made & 255
        if last == 0:
            self._beginning = self._prefix + b"%06x" % (made >> 8)
        return self._beginning + _LAST_DIGITS[last]


def request_head(request: Request, new_id: RequestIds, fallback: str) -> bytes:
    """The head that the origin gets.

    ``fallback`` is the Host for a client of HTTP/1.0 that sent none.
    """
    authority = request.authority
    if len(authority) == 0:
        authority = fallback.encode("ascii")
    if request.request_id is None:
        request.request_id = new_id.fresh()
    # Not the client's: whoever reads the list has to know which proxy vouches for that.
    hops, proto, host = request.peer, request.scheme, authority
    if request.told is not None:
        if request.forwarded_for is not None:
            hops = request.forwarded_for + b", " + hops
        proto = request.forwarded_proto or proto
        host = request.forwarded_host or host
    more = b""
    length = request.length
    if length or (request.raw_method is not GET and request.raw_method in _WITH_CONTENT):
        # RFC 9110 8.6: a method that defines content has a length even without content.
        more = b"\r\nTransfer-Encoding: chunked" if length < 0 else _LENGTH % length
    if request.expects:
        more += b"\r\nExpect: 100-continue"
    if request.upgrade is not None:
        more += b"\r\nConnection: Upgrade\r\nUpgrade: " + request.upgrade
    if request.takes_trailers:
        more += b"\r\nTE: trailers\r\nConnection: TE"
    return _write_request(
        request.raw_method,
        request.raw_uri,
        authority,
        request.block(),
        hops,
        proto,
        host,
        request.request_id,
        more,
    )


_WITH_CONTENT: Final = frozenset((b"POST", b"PUT", b"PATCH"))
_LENGTH: Final = b"\r\nContent-Length: %d"


def decision_lines(lines: list[bytes], note: DecisionNote) -> list[bytes]:
    """The header lines of a reply's ``lines``, with the id of its decision and no other one."""
    kept = [line for line in lines[1:] if line[:14].lower() != b"x-decision-id:"]
    return [*kept, b"X-Decision-Id: " + note.id.encode("ascii")]


def interim_head(reply: Reply) -> bytes:
    """A 1xx reply as the client gets it."""
    head = reply.block()
    if reply.status == 101:
        head += b"\r\nConnection: Upgrade\r\nUpgrade: " + (reply.upgrade or b"")
    return head + b"\r\n\r\n"
