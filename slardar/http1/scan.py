"""Reads the heads that nearly all clients and servers send, and writes heads, fast.

Where the extension :mod:`slardar.http1.native` was built, its functions stand here.  Without it
those of this module do: they read no head, so each head is read by the Python form
(:func:`slardar.http1.request.parse_request`, :func:`slardar.http1.reply.parse_reply`), and they
write the same bytes.

A head that ``scan_request`` and ``scan_reply`` read is one that the Python form accepts too,
with the same result.  They refuse nothing: for a head that is malformed, not complete, or only
unusual, they return ``None``.

The lines that pass unchanged are a *block*: as in a head, with CRLF between them and without one
at the end.  Before them stands what is in place of the first line: nothing in a request's block,
the status line in a reply's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from slardar.http1.heads import CHUNKED

__all__ = [
    "CLOSES",
    "KEEPS",
    "MINOR",
    "ScannedReply",
    "ScannedRequest",
    "count_lines",
    "find_value",
    "find_values",
    "put_lines",
    "scan_reply",
    "scan_request",
    "write_reply",
    "write_request",
]

#: Flags of a head: of HTTP/1.1 and not 1.0; ``Connection`` says ``keep-alive``; it says ``close``.
MINOR: Final = 1
KEEPS: Final = 2
CLOSES: Final = 4

#: Headers that are left to the caller: what each means (:mod:`slardar.http1.heads`), and its
#: value.  ``None`` if there are none.
LeftHeaders = list[tuple[int, bytes]] | None
#: The head, method, target, number of header lines, flags, Host, X-Request-Id, the block of lines
#: that pass, the length of the body as :attr:`slardar.http1.request.Request.length` has it, and
#: the headers that are left.
ScannedRequest = tuple[bytes, bytes, bytes, int, int, bytes, bytes | None, bytes, int, LeftHeaders]
#: Bytes behind the head, status, number of header lines, flags, the block of lines that pass, the
#: length of the body as its headers have it, and the headers that are left.
ScannedReply = tuple[int, int, int, int, bytes, int, LeftHeaders]


def _scan_request(data: bytes) -> ScannedRequest | None:
    """Read the head of a request at the beginning of ``data``; ``None`` leaves it to others."""
    return None


def _scan_reply(data: bytes) -> ScannedReply | None:
    """Read the head of a reply at the beginning of ``data``; ``None`` leaves it to others."""
    return None


def _find_value(block: bytes, name: bytes) -> bytes | None:
    """The first value of a header in ``block``, or ``None``; ``name`` is in lower case."""
    start = block.lower().find(b"\r\n%b:" % name)
    if start < 0:
        return None
    start += len(name) + 3
    end = block.find(b"\r\n", start)
    return (block[start:] if end < 0 else block[start:end]).strip(b" \t")


def _find_values(block: bytes, name: bytes) -> list[bytes]:
    """Every value of a header in ``block``, in order; ``name`` is in lower case."""
    size = len(name) + 1
    lines = block.split(b"\r\n")[1:]
    return [line[size:].strip(b" \t") for line in lines if line[:size].lower() == name + b":"]


def _count_lines(block: bytes) -> int:
    """How many header lines ``block`` has."""
    return block.count(b"\r\n")


def _put_lines(
    block: bytes, name: bytes, made: bytes, most_lines: int, most_size: int
) -> bytes | None:
    """``block`` with the lines ``made`` in place of those of the header ``name``, in lower case.

    The lines ``made``, each with a CRLF before it, stand where the first of them stood, or behind
    all others if there was none.  ``None`` if that makes more than ``most_lines`` header lines, or
    more than ``most_size`` bytes in all lines, with one byte for the end of each.
    """
    start = name + b":"
    kept: list[bytes] = []
    first = -1
    for line in block.split(b"\r\n"):
        if not kept or line[: len(start)].lower() != start:
            kept.append(line)
        elif first < 0:
            first = len(kept)
    if first < 0:
        first = len(kept)
    kept[first:first] = made.split(b"\r\n")[1:]
    if len(kept) - 1 > most_lines or sum(map(len, kept)) + len(kept) > most_size:
        return None
    return b"\r\n".join(kept)


def _write_request(
    method: bytes,
    target: bytes,
    authority: bytes,
    block: bytes,
    hops: bytes,
    proto: bytes,
    host: bytes,
    request_id: bytes,
    more: bytes,
) -> bytes:
    """The head that a server gets; ``more`` is further lines, each with a CRLF before it."""
    return b"".join(
        (
            method,
            b" ",
            target,
            b" HTTP/1.1\r\nHost: ",
            authority,
            block,
            b"\r\nX-Forwarded-For: ",
            hops,
            b"\r\nX-Forwarded-Proto: ",
            proto,
            b"\r\nX-Forwarded-Host: ",
            host,
            b"\r\nX-Request-Id: ",
            request_id,
            more,
            b"\r\n\r\n",
        )
    )


def _write_reply(block: bytes, length: int, more: bytes, body: bytes, size: int) -> bytes:
    """The head that a client gets, and behind it the last ``size`` bytes of ``body``.

    ``length`` is that of a Content-Length, ``CHUNKED``, or another negative number for neither.
    ``more`` is further lines, each with a CRLF before it.
    """
    body = body[len(body) - size :]
    if length >= 0:
        return b"%b\r\nContent-Length: %d%b\r\n\r\n%b" % (block, length, more, body)
    if length == CHUNKED:
        block += b"\r\nTransfer-Encoding: chunked"
    return b"".join((block, more, b"\r\n\r\n", body))


scan_request = _scan_request
scan_reply = _scan_reply


count_lines = _count_lines
find_value = _find_value
find_values = _find_values
put_lines = _put_lines
write_request = _write_request
write_reply = _write_reply

if not TYPE_CHECKING:
    try:
        from slardar.http1.native import (
            count_lines,
            find_value,
            find_values,
            put_lines,
            scan_reply,
            scan_request,
            write_reply,
            write_request,
        )
    except ImportError:
        pass
