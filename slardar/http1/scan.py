"""Writes heads.

The lines that pass unchanged are a *block*: as in a head, with CRLF between them and without one
at the end.  Before them stands what is in place of the first line: nothing in a request's block,
the status line in a reply's.
"""

from __future__ import annotations

from slardar.http1.heads import CHUNKED

__all__ = ["write_reply", "write_request"]


def write_request(
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


def write_reply(block: bytes, length: int, more: bytes, body: bytes) -> bytes:
    """The head that a client gets, and ``body`` behind it.

    ``length`` is that of a Content-Length, ``CHUNKED``, or another negative number for neither.
    ``more`` is further lines, each with a CRLF before it.
    """
    if length >= 0:
        return b"%b\r\nContent-Length: %d%b\r\n\r\n%b" % (block, length, more, body)
    if length == CHUNKED:
        block += b"\r\nTransfer-Encoding: chunked"
    return b"".join((block, more, b"\r\n\r\n", body))
