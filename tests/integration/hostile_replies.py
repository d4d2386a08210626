"""Hostile and unusual replies: what the server sends, and what the client gets."""

# ruff: noqa: E501 - a table is easier to read with one case a line

from __future__ import annotations

from typing import NamedTuple

__all__ = ["POISON", "REPLIES", "Case"]

#: Bytes that no client may get.
POISON = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

_OK = b"HTTP/1.1 200 OK\r\n"
_TE = _OK + b"Transfer-Encoding: chunked\r\n\r\n"


class Case(NamedTuple):
    """One reply."""

    name: str
    sent: bytes
    status: int = 200
    #: The body that the client gets; ``None`` for an error that slardar made.
    body: bytes | None = b""
    #: Whether the server closes the connection after its bytes.
    closes: bool = False
    #: Whether the client can tell that the body is complete.
    complete: bool = True
    #: Set if it matters whether the head went out before the fault was seen: if the reply
    #: comes in pieces, the client gets this status and an incomplete body.
    cut_off: int = 0
    verb: bytes = b"GET"
    version: bytes = b"1.1"
    #: Header lines of the request, each with its CRLF.
    asked: bytes = b""
    #: Statuses of the interim replies that the client gets first.
    interim: tuple[int, ...] = ()
    #: Headers of the reply with exactly these values, in this order ...
    has: tuple[tuple[bytes, tuple[bytes, ...]], ...] = ()
    #: ... and the names of headers that it must not have.
    lacks: tuple[bytes, ...] = ()
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    #: Whether the client's connection, and the server's, can be used again.
    open: bool = True
    kept: bool = False


def _bad(name: str, sent: bytes, closes: bool = False) -> Case:
    """A reply that no client may get: a 502 instead, and the connection is not kept."""
    return Case(name, sent, 502, None, closes)


def _line(line: bytes) -> Case:
    return _bad(f"status line {line!r}", line + b"\r\nContent-Length: 2\r\n\r\nhi")


def _header(name: str, line: bytes) -> Case:
    return _bad(name, _OK + line + b"\r\n\r\nhello")


def _chunk(name: str, body: bytes) -> Case:
    """Wrong chunks: a 502, or a body that is cut off if its beginning has gone out."""
    return Case(name, _TE + body, 502, None, cut_off=200)


REPLIES = (
    # Where the body ends (RFC 9112 6.3).
    _header("CL then TE", b"Content-Length: 5\r\nTransfer-Encoding: chunked"),
    _header("TE then CL", b"Transfer-Encoding: chunked\r\nContent-Length: 5"),
    _header("two CL that differ", b"Content-Length: 5\r\nContent-Length: 6"),
    _header("two CL that agree", b"Content-Length: 5\r\nContent-Length: 5"),
    _header("CL list", b"Content-Length: 5, 5"),
    _header("CL negative", b"Content-Length: -5"),
    _header("CL with plus", b"Content-Length: +5"),
    _header("CL hexadecimal", b"Content-Length: 0x5"),
    _header("CL empty", b"Content-Length:"),
    _header("CL letters", b"Content-Length: five"),
    _header("CL overflow", b"Content-Length: 18446744073709551621"),
    _header("CL of zeros", b"Content-Length: " + b"0" * 5000 + b"5"),
    _header("CL blank before colon", b"Content-Length : 5"),
    _header("CL folded", b"Content-Length:\r\n 5"),
    _header("TE unknown", b"Transfer-Encoding: xchunked"),
    _header("TE gzip", b"Transfer-Encoding: gzip, chunked"),
    _header("TE gzip alone", b"Transfer-Encoding: gzip"),
    _header("TE gzip last", b"Transfer-Encoding: chunked, gzip"),
    _header("TE gzip in two", b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"),
    _header("TE identity", b"Transfer-Encoding: identity"),
    _header("TE twice", b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
    _header("TE chunked twice in one", b"Transfer-Encoding: chunked, chunked"),
    _header("TE empty", b"Transfer-Encoding:"),
    _header("TE vertical tab", b"Transfer-Encoding: \x0bchunked"),
    _header("TE quoted", b'Transfer-Encoding: "chunked"'),
    _bad("TE in HTTP/1.0", b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    # Lines (RFC 9112 2.2, 5; RFC 9110 5.5).
    _header("bare LF", b"X: y\nSet-Cookie: evil=1"),
    _header("bare CR", b"X: y\rSet-Cookie: evil=1"),
    _header("two CR", b"X: y\r\r\nSet-Cookie: evil=1"),
    _header("folded", b"X: y\r\n z"),
    _header("folded by tab", b"X: y\r\n\tz"),
    _header("NUL in a value", b"X: \0"),
    _header("control in a value", b"X: \x1b[2J"),
    _header("NUL in a name", b"X\0: y"),
    _header("8-bit in a name", b"X\xe9: y"),
    _header("blank before colon", b"X : y"),
    _header("blank before the first header", b" X: y"),
    _header("no colon", b"X"),
    _header("empty name", b": y"),
    _bad("bare LF all over", b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi"),
    _bad("bare LF after the status line", b"HTTP/1.1 200 OK\nX: y\r\n\r\n"),
    _bad("blank line first", b"\r\n" + _OK + b"\r\n"),
    _bad("empty head", b"\r\n\r\n"),
    # Status lines (RFC 9112 4).
    _line(b"HTTP/1.1 099 X"),
    _line(b"HTTP/1.1 1000 X"),
    _line(b"HTTP/1.1 abc X"),
    _line(b"HTTP/1.1 20 X"),
    _line(b"HTTP/1.1 -20 X"),
    _line(b"HTTP/1.1  200 X"),
    _line(b"HTTP/1.1\t200 X"),
    _line(b"HTTP/1.1 200\tX"),
    _line(b"HTTP/1.1 200X"),
    _line(b"HTTP/1.1"),
    _line(b"HTTP/1.2 200 X"),
    _line(b"HTTP/0.9 200 X"),
    _line(b"HTTP/2.0 200 X"),
    _line(b"http/1.1 200 X"),
    _line(b"ICY 200 OK"),
    _line(b"RTSP/1.0 200 OK"),
    _line(b"GET / HTTP/1.1"),
    _line(b"HTTP/1.1 200 a\x01b"),
    _line(b"HTTP/1.1 200 a\0b"),
    _line(b"HTTP/1.1 200 a\rX: y"),
    _line(b"HTTP/1.1 200 a\nX: y"),
    # No HTTP at all.
    _bad("nothing", b"", closes=True),
    _bad("half a head", _OK + b"X: y\r\n", closes=True),
    _bad("HTTP/0.9", b"<html>hello</html>"),
    _bad("garbage", bytes(range(256)) * 4),
    _bad("garbage with an end", b"\xff\xfe\r\n\r\n"),
    _bad("TLS alert", b"\x15\x03\x01\x00\x02\x02\x46"),
    _bad("HTTP/2 settings", b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\x01"),
    _bad("SSH that waits", b"SSH-2.0-OpenSSH_9.2\r\n"),
    _bad("SMTP", b"220 mail.example ESMTP\r\n"),
    _bad("Redis", b"-ERR unknown command 'GET'\r\n"),
    _bad("an error page alone", b"HTTP/1.1 500\n"),
    _bad("HTTP/2 in words", b"HTTP/2 200\r\n"),
    _bad("header that never ends right", _OK + b"X y\r\n"),
    _bad("garbage behind a 100", b"HTTP/1.1 100 Continue\r\n\r\n<html>")._replace(interim=(100,)),
    _bad("SSH", b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    # Limits.
    _bad("head too large", _OK + b"X: " + b"y" * 70000 + b"\r\n\r\n"),
    _bad("head without end", _OK + b"X: " + b"y" * 70000),
    _bad("too many headers", _OK + b"X: y\r\n" * 1001 + b"\r\n"),
    Case("as many headers as may be", _OK + b"X: y\r\n" * 999 + b"Content-Length: 0\r\n\r\n", kept=True, has=((b"x", (b"y",) * 999),)),
    # Chunks (RFC 9112 7.1).
    _chunk("chunk size no digit", b"g\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size 0x", b"0x5\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size negative", b"-5\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size overflow", b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk size ends with LF", b"5\nhello\r\n0\r\n\r\n"),
    _chunk("chunk extension with LF", b"5;x\ny\r\nhello\r\n0\r\n\r\n"),
    _chunk("chunk without CRLF", b"5\r\nhelloXX0\r\n\r\n"),
    _chunk("chunk longer than its size", b"3\r\nhello\r\n0\r\n\r\n"),
    _chunk("trailer folded", b"5\r\nhello\r\n0\r\nX: y\r\n z\r\n\r\n"),
    _chunk("trailer with NUL", b"5\r\nhello\r\n0\r\nX: \0\r\n\r\n"),
    _chunk("LF ends the body", b"5\r\nhello\r\n0\r\n\n"),
    # Bodies that end too soon: the client can tell.
    Case("shorter than its length", _OK + b"Content-Length: 9\r\n\r\nhello", 200, b"hello", closes=True, complete=False, open=False),
    Case("no byte of its length", _OK + b"Content-Length: 9\r\n\r\n", 200, b"", closes=True, complete=False, open=False),
    Case("chunk cut off", _TE + b"9\r\nhello", 200, None, closes=True, complete=False, open=False),
    Case("no last chunk", _TE + b"5\r\nhello\r\n", 200, None, closes=True, complete=False, open=False),
    Case("no end of trailers", _TE + b"5\r\nhello\r\n0\r\n", 200, None, closes=True, complete=False, open=False),
    Case("cut off for HTTP/1.0", _OK + b"Content-Length: 9\r\n\r\nhello", 200, None, closes=True, complete=False, version=b"1.0", open=False),
    Case("chunk cut off for HTTP/1.0", _TE + b"9\r\nhello", 200, None, closes=True, complete=False, version=b"1.0", open=False),
    # Bytes beyond the reply: nobody gets them, and the connection is not kept.
    Case("bytes behind it", _OK + b"Content-Length: 5\r\n\r\nhello, world", 200, b"hello"),
    Case("two at once", _OK + b"Content-Length: 5\r\n\r\nhello" + POISON, 200, b"hello"),
    Case("two at once, chunked", _TE + b"5\r\nhello\r\n0\r\n\r\n" + POISON, 200, b"hello"),
    Case("two at once, the first of nothing", _OK + b"Content-Length: 0\r\n\r\n" + POISON, 200, b""),
    Case("HEAD with a body", _OK + b"Content-Length: 5\r\n\r\nhello", 200, b"", verb=b"HEAD", has=((b"content-length", (b"5",)),)),
    Case("HEAD with another reply", _OK + b"Content-Length: 6\r\n\r\n" + POISON, 200, b"", verb=b"HEAD", has=((b"content-length", (b"6",)),)),
    Case("204 with a body", b"HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n\r\nhello", 204, b"", lacks=(b"content-length", b"transfer-encoding")),
    Case("204 with chunks", b"HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 204, b"", lacks=(b"content-length", b"transfer-encoding")),
    Case("304 with a body", b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello", 304, b"", has=((b"content-length", (b"5",)),)),
    # Interim replies (RFC 9110 15.2).
    Case("100 first", b"HTTP/1.1 100 Continue\r\n\r\n" + _OK + b"Content-Length: 2\r\n\r\nhi", 200, b"hi", interim=(100,), kept=True),
    Case("100 and 103", b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\nConnection: x\r\n\r\n" + _OK + b"Content-Length: 2\r\n\r\nhi", 200, b"hi", interim=(100, 103), kept=True),
    Case("100 for HTTP/1.0", b"HTTP/1.1 100 Continue\r\n\r\n" + _OK + b"Content-Length: 2\r\n\r\nhi", 200, b"hi", version=b"1.0", open=False, kept=True),
    Case("100 with a length", b"HTTP/1.1 100 Continue\r\nContent-Length: 30\r\n\r\n" + _OK + b"Content-Length: 2\r\n\r\nhi", 200, b"hi", interim=(100,), kept=True),
    Case("100 and nothing more", b"HTTP/1.1 100 Continue\r\n\r\n", 502, None, closes=True, interim=(100,)),
    Case("100 without end", b"HTTP/1.1 100 Continue\r\n\r\n" * 40, 502, None, interim=(100,) * 16),
    _bad("101 that nobody asked for", b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + POISON),
    Case("101 for h2c", b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + POISON, 502, None, asked=b"Connection: Upgrade\r\nUpgrade: h2c\r\n"),
    Case("101 to nothing", b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + POISON, 502, None, asked=b"Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    # Harmless replies, which are passed on.
    Case("length", _OK + b"Content-Length: 5\r\n\r\nhello", 200, b"hello", kept=True, has=((b"content-length", (b"5",)),), lacks=(b"connection", b"transfer-encoding")),
    Case("length of nothing", _OK + b"Content-Length: 0\r\n\r\n", kept=True, has=((b"content-length", (b"0",)),)),
    Case("length with zeros", _OK + b"Content-Length: 0005\r\n\r\nhello", 200, b"hello", kept=True, has=((b"content-length", (b"5",)),)),
    Case("chunks", _TE + b"5\r\nhello\r\n6;x=y\r\n, worl\r\n1 \r\nd\r\n0\r\n\r\n", 200, b"hello, world", kept=True),
    Case("TE in capitals", _OK + b"TRANSFER-ENCODING: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n", 200, b"hello", kept=True),
    Case("chunks for HTTP/1.0", _TE + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", 200, b"hello", version=b"1.0", open=False, kept=True, lacks=(b"transfer-encoding",)),
    Case("trailers", _TE + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n", 200, b"hello", kept=True, trailers=((b"x-sum", b"1"),)),
    Case("trailers that may not be", _TE + b"5\r\nhello\r\n0\r\nX-Sum: 1\r\nContent-Length: 9\r\nSet-Cookie: evil=1\r\nTransfer-Encoding: x\r\nLocation: http://evil/\r\nConnection: close\r\n\r\n", 200, b"hello", kept=True, trailers=((b"x-sum", b"1"),)),
    Case("until the end", _OK + b"\r\nhello", 200, b"hello", closes=True, has=((b"transfer-encoding", (b"chunked",)),)),
    Case("until the end, for HTTP/1.0", _OK + b"\r\nhello", 200, b"hello", closes=True, version=b"1.0", open=False, has=((b"connection", (b"close",)),)),
    Case("HTTP/1.0", b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello"),
    Case("HTTP/1.0 kept alive", b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", kept=True),
    Case("close", _OK + b"Connection: close\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", lacks=(b"connection",)),
    Case("HEAD", _OK + b"Content-Length: 5\r\n\r\n", 200, b"", verb=b"HEAD", kept=True, has=((b"content-length", (b"5",)),)),
    Case("HEAD of chunks", _TE, 200, b"", verb=b"HEAD", kept=True),
    Case("204", b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", kept=True, lacks=(b"content-length", b"transfer-encoding")),
    Case("304", b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", 304, b"", kept=True, has=((b"etag", (b"x",)),), lacks=(b"content-length",)),
    Case("426", b"HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade, X\r\nX: y\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", 426, b"", kept=True, has=((b"upgrade", (b"websocket",)), (b"connection", (b"Upgrade",))), lacks=(b"x",)),
    Case("426 that does not name it", b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nUpgrade: HTTP/3.0\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 426, b"", has=((b"upgrade", (b"websocket, HTTP/3.0",)), (b"connection", (b"Upgrade",)))),
    Case("426 for HTTP/1.0", b"HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: x\r\nContent-Length: 2\r\n\r\nhi", 426, b"hi", version=b"1.0", open=False, kept=True, has=((b"upgrade", (b"x",)), (b"connection", (b"Upgrade", b"close")))),
    Case("426 to nothing", b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n", 426, b"", kept=True, lacks=(b"upgrade", b"connection")),
    Case("upgrade that is only advertised", _OK + b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 0\r\n\r\n", kept=True, lacks=(b"upgrade", b"connection")),
    Case("no reason", b"HTTP/1.1 200\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", kept=True),
    Case("8-bit reason", b"HTTP/1.1 200 \xc3\xa4\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", kept=True),
    Case("status of its own", b"HTTP/1.1 799 Mine\r\nContent-Length: 5\r\n\r\nhello", 799, b"hello", kept=True),
    Case("8-bit value", _OK + b"X: \xff\r\nContent-Length: 0\r\n\r\n", has=((b"x", (b"\xff",)),), kept=True),
    Case("percent-encoded line ends", _OK + b"Location: /%0d%0aSet-Cookie:x\r\nContent-Length: 0\r\n\r\n", has=((b"location", (b"/%0d%0aSet-Cookie:x",)),), lacks=(b"set-cookie",), kept=True),
    Case("cookies", _OK + b"Set-Cookie: a=1\r\nX: y\r\nSet-Cookie: a=2\r\nSet-Cookie: b=3\r\nContent-Length: 0\r\n\r\n", has=((b"set-cookie", (b"a=1", b"a=2", b"b=3")),), kept=True),
    Case("hop by hop", _OK + b"Keep-Alive: timeout=5\r\nProxy-Connection: x\r\nUpgrade: h2c\r\nTE: x\r\nConnection: keep-alive, X-Foo\r\nX-Foo: y\r\nX-Bar: y\r\nContent-Length: 0\r\n\r\n", has=((b"x-bar", (b"y",)),), lacks=(b"keep-alive", b"proxy-connection", b"upgrade", b"te", b"connection", b"x-foo"), kept=True),
    Case("Connection names what may not go", _OK + b"Connection: Content-Length, Set-Cookie, Content-Type, Date\r\nSet-Cookie: a=1\r\nContent-Type: text/x\r\nDate: x\r\nContent-Length: 5\r\n\r\nhello", 200, b"hello", has=((b"set-cookie", (b"a=1",)), (b"content-type", (b"text/x",)), (b"date", (b"x",)), (b"content-length", (b"5",))), kept=True),
)  # fmt: skip
