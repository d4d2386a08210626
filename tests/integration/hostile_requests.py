"""Hostile and odd requests: what is sent, what comes back, what the server may see.

``REFUSED`` requests get one error, the connection is closed, and the server sees
nothing.  The body of those in ``BROKEN`` is wrong: the server may see the beginning
of the request but never all of it.  A ``GET /smuggled`` follows every one of them and
must never be served.  ``PASSED`` requests reach the server, once, as they are said to.
"""

# ruff: noqa: E501 - a table is easier to read with one case a line

from __future__ import annotations

from typing import NamedTuple

from tests.integration.wire import LIMITS

__all__ = ["BROKEN", "PASSED", "REFUSED", "SMUGGLED", "Broken", "Passed", "Refused"]

SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: app\r\n\r\n"

_G = b"GET /a HTTP/1.1\r\nHost: app\r\n"
_P = b"POST /a HTTP/1.1\r\nHost: app\r\n"
_C = _P + b"Transfer-Encoding: chunked\r\n\r\n"


class Refused(NamedTuple):
    """The bytes of a request, and the only status of its answer."""

    name: str
    sent: bytes
    status: int = 400


class Broken(NamedTuple):
    """The bytes of a request that fails within its body, and the status of its answer."""

    name: str
    sent: bytes
    status: int = 400


class Passed(NamedTuple):
    """The requests that the server gets."""

    name: str
    sent: bytes
    #: Request line and body of each request that the server gets, in order.
    seen: tuple[tuple[bytes, bytes], ...] = ((b"GET /a HTTP/1.1", b""),)
    #: Headers of the last request: those it must have with exactly these values ...
    has: tuple[tuple[bytes, bytes], ...] = ()
    #: ... and the names of headers that it must not have.
    lacks: tuple[bytes, ...] = ()
    trailers: tuple[tuple[bytes, bytes], ...] = ()
    #: Whether the connection can be used again afterwards.
    open: bool = True
    #: The statuses of the replies; if none are given, a 200 for each request seen.
    statuses: tuple[int, ...] = ()
    #: Whether the client closes its side after sending.
    half_close: bool = False


def _line(line: bytes) -> bytes:
    return line + b"\r\nHost: app\r\n\r\n"


def _header(line: bytes, body: bytes = b"") -> bytes:
    return _P + line + b"\r\n\r\n" + body


def _host(value: bytes) -> bytes:
    return b"GET /a HTTP/1.1\r\nHost: " + value + b"\r\n\r\n"


REFUSED = (
    # Lengths that disagree (RFC 9112 6.1, 6.3).
    Refused("CL then TE", _header(b"Content-Length: 6\r\nTransfer-Encoding: chunked", b"0\r\n\r\n")),
    Refused("TE then CL", _header(b"Transfer-Encoding: chunked\r\nContent-Length: 6", b"0\r\n\r\n")),
    Refused("CL and empty TE", _header(b"Content-Length: 3\r\nTransfer-Encoding:", b"abc")),
    Refused("CL and TE identity", _header(b"Content-Length: 3\r\nTransfer-Encoding: identity")),
    Refused("two CL that differ", _header(b"Content-Length: 3\r\nContent-Length: 5", b"abcde")),
    Refused("two CL that agree", _header(b"Content-Length: 3\r\nContent-Length: 3", b"abc")),
    Refused("CL list", _header(b"Content-Length: 3, 3", b"abc")),
    Refused("CL list without blank", _header(b"Content-Length: 3,5", b"abcde")),
    Refused("CL with plus", _header(b"Content-Length: +3", b"abc")),
    Refused("CL negative", _header(b"Content-Length: -3", b"abc")),
    Refused("CL with blank inside", _header(b"Content-Length: 3 0", b"abc")),
    Refused("CL hexadecimal", _header(b"Content-Length: 0x3", b"abc")),
    Refused("CL with underscore", _header(b"Content-Length: 1_0", b"abcdefghij")),
    Refused("CL fraction", _header(b"Content-Length: 3.0", b"abc")),
    Refused("CL exponent", _header(b"Content-Length: 1e1", b"abcdefghij")),
    Refused("CL empty", _header(b"Content-Length:", b"abc")),
    Refused("CL blank", _header(b"Content-Length:  \t", b"abc")),
    Refused("CL superscript digit", _header(b"Content-Length: \xb2", b"ab")),
    Refused("CL vertical tab", _header(b"Content-Length: \x0b3", b"abc")),
    Refused("CL quoted", _header(b'Content-Length: "3"', b"abc")),
    Refused("CL with parameter", _header(b"Content-Length: 3;x", b"abc")),
    Refused("CL overflow", _header(b"Content-Length: 18446744073709551616")),
    Refused("CL far too many digits", _header(b"Content-Length: " + b"9" * 400)),
    Refused("CL of zeros", _header(b"Content-Length: " + b"0" * 100 + b"3", b"abc")),
    Refused("CL folded", _header(b"Content-Length:\r\n 3", b"abc")),
    Refused("CL continued", _header(b"Content-Length: 3\r\n 4", b"abc")),
    Refused("CL blank before colon", _header(b"Content-Length : 3", b"abc")),
    Refused("CL largest", _header(b"Content-Length: 18446744073709551615"), 413),
    Refused("CL one too large", _header(b"Content-Length: %d" % (LIMITS.body + 1)), 413),
    # Transfer codings (RFC 9112 6.1, 7).
    Refused("TE unknown", _header(b"Transfer-Encoding: xchunked", b"0\r\n\r\n")),
    Refused("TE identity", _header(b"Transfer-Encoding: identity")),
    Refused("TE gzip", _header(b"Transfer-Encoding: gzip")),
    Refused("TE gzip and CL", _header(b"Transfer-Encoding: gzip\r\nContent-Length: 0")),
    Refused("TE gzip then chunked", _header(b"Transfer-Encoding: gzip, chunked"), 501),
    Refused("TE gzip chunked in two", _header(b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked"), 501),
    Refused("TE chunked gzip in two", _header(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: gzip")),
    Refused("TE comma first", _header(b"Transfer-Encoding: ,chunked")),
    Refused("TE chunked then identity", _header(b"Transfer-Encoding: chunked, identity")),
    Refused("TE trailing comma", _header(b"Transfer-Encoding: chunked,")),
    Refused("TE twice", _header(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")),
    Refused("TE chunked, identity in two", _header(b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity")),
    Refused("TE chunked twice in one", _header(b"Transfer-Encoding: chunked, chunked")),
    Refused("TE quoted", _header(b'Transfer-Encoding: "chunked"')),
    Refused("TE with parameter", _header(b"Transfer-Encoding: chunked;q=1")),
    Refused("TE vertical tab", _header(b"Transfer-Encoding: \x0bchunked")),
    Refused("TE form feed behind", _header(b"Transfer-Encoding: chunked\x0c")),
    Refused("TE tab behind", _header(b"Transfer-Encoding: chunked\t")),
    Refused("TE NUL", _header(b"Transfer-Encoding: chunked\0")),
    Refused("TE empty", _header(b"Transfer-Encoding:")),
    Refused("TE folded", _header(b"Transfer-Encoding:\r\n chunked")),
    Refused("TE blank before colon", _header(b"Transfer-Encoding : chunked")),
    Refused("TE tab before colon", _header(b"Transfer-Encoding\t: chunked")),
    Refused("TE blank before name", _header(b"X: y\r\n Transfer-Encoding: chunked")),
    Refused("TE behind bare LF", _header(b"X: y\nTransfer-Encoding: chunked")),
    Refused("TE behind bare CR", _header(b"X: y\rTransfer-Encoding: chunked")),
    Refused("TE in HTTP/1.0", b"POST /a HTTP/1.0\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
    # Line ends and header lines (RFC 9112 2.2, 5).
    Refused("bare LF all over", b"GET /a HTTP/1.1\nHost: app\n\n"),
    Refused("bare LF after request line", b"GET /a HTTP/1.1\nHost: app\r\n\r\n"),
    Refused("bare CR after request line", b"GET /a HTTP/1.1\rHost: app\r\n\r\n"),
    Refused("bare LF ends the head", _G + b"\n"),
    Refused("two CR in a line end", _G + b"X: y\r\r\n\r\n"),
    Refused("CR in a name", _G + b"X\r: y\r\n\r\n"),
    Refused("CR CR LF ends the head", _G + b"\r\r\n\r\n"),
    Refused("folded", _G + b"X: y\r\n z\r\n\r\n"),
    Refused("folded by tab", _G + b"X: y\r\n\tz\r\n\r\n"),
    Refused("folded empty value", _G + b"X:\r\n y\r\n\r\n"),
    Refused("blank before the first header", b"GET /a HTTP/1.1\r\n Host: app\r\n\r\n"),
    Refused("no colon", _G + b"X\r\n\r\n"),
    Refused("empty name", _G + b": y\r\n\r\n"),
    Refused("blank before colon", _G + b"X : y\r\n\r\n"),
    Refused("blank in a name", _G + b"X Y: z\r\n\r\n"),
    Refused("NUL in a name", _G + b"X\0: y\r\n\r\n"),
    Refused("NUL in a value", _G + b"X: \0\r\n\r\n"),
    Refused("control in a value", _G + b"X: \x01\r\n\r\n"),
    Refused("DEL in a value", _G + b"X: \x7f\r\n\r\n"),
    Refused("8-bit in a name", _G + b"X\xe9: y\r\n\r\n"),
    Refused("delimiter in a name", _G + b"X(: y\r\n\r\n"),
    Refused("quote in a name", _G + b'"X": y\r\n\r\n'),
    # Hosts (RFC 9112 3.2, RFC 9110 7.2).
    Refused("no Host", b"GET /a HTTP/1.1\r\n\r\n"),
    Refused("two Hosts that agree", _G + b"Host: app\r\n\r\n"),
    Refused("two Hosts that differ", _G + b"host: other\r\n\r\n"),
    Refused("empty Host", _host(b"")),
    Refused("Host with userinfo", _host(b"user@app")),
    Refused("Host with path", _host(b"app/x")),
    Refused("Host with blank", _host(b"app other")),
    Refused("Host with tab", _host(b"app\tother")),
    Refused("Host with comma", _host(b"app,other")),
    Refused("Host percent-encoded", _host(b"%61pp")),
    Refused("Host with letters for a port", _host(b"app:http")),
    Refused("Host with too large a port", _host(b"app:65536")),
    Refused("Host with two ports", _host(b"app:80:80")),
    Refused("Host with minus port", _host(b"app:-1")),
    Refused("Host dots", _host(b"..")),
    Refused("Host two dots in a row", _host(b"app..com")),
    Refused("Host dot first", _host(b".app")),
    Refused("Host 8-bit", _host(b"\xe9pp")),
    Refused("Host asterisk", _host(b"*")),
    Refused("Host IPv6 without brackets", _host(b"::1")),
    Refused("Host IPv6 unclosed", _host(b"[::1")),
    Refused("Host IPv6 that is none", _host(b"[:::::::::]")),
    Refused("Host IPv6 with zone", _host(b"[fe80::1%25eth0]")),
    Refused("Host with a query", _host(b"app?x")),
    Refused("Host with backslash", _host(b"app\\x")),
    # Targets (RFC 9112 3.2).
    Refused("absolute, other Host", _line(b"GET http://other/a HTTP/1.1")),
    Refused("absolute, userinfo", _line(b"GET http://user@app/a HTTP/1.1")),
    Refused("absolute, user and password", _line(b"GET http://u:p@app/a HTTP/1.1")),
    Refused("absolute, other scheme", _line(b"GET ftp://app/a HTTP/1.1")),
    Refused("absolute, no host", _line(b"GET http:///a HTTP/1.1")),
    Refused("absolute, bad port", _line(b"GET http://app:99999/a HTTP/1.1")),
    Refused("absolute, no Host header", b"GET http://user@app/a HTTP/1.1\r\n\r\n"),
    Refused("absolute, backslash", _line(b"GET http://app\\@other/a HTTP/1.1")),
    Refused("authority form with GET", _line(b"GET app:80 HTTP/1.1")),
    Refused("no slash", _line(b"GET a HTTP/1.1")),
    Refused("asterisk with GET", _line(b"GET * HTTP/1.1")),
    Refused("query only", _line(b"GET ?x HTTP/1.1")),
    Refused("fragment", _line(b"GET /a#b HTTP/1.1")),
    Refused("fragment in absolute form", _line(b"GET http://app/#b HTTP/1.1")),
    Refused("control in target", _line(b"GET /\x01 HTTP/1.1")),
    Refused("NUL in target", _line(b"GET /\0 HTTP/1.1")),
    Refused("DEL in target", _line(b"GET /\x7f HTTP/1.1")),
    Refused("tab in target", _line(b"GET /a\tb HTTP/1.1")),
    Refused("8-bit in target", _line(b"GET /\xe9 HTTP/1.1")),
    Refused("blank in target", _line(b"GET /a b HTTP/1.1")),
    Refused("CR in target", _line(b"GET /a\rb HTTP/1.1")),
    Refused("header in target", _line(b"GET /a HTTP/1.1\nX: y HTTP/1.1")),
    # Request lines, versions, methods.
    Refused("HTTP/0.9", b"GET /a\r\n\r\n"),
    Refused("HTTP/0.9 spelt out", _line(b"GET /a HTTP/0.9")),
    Refused("HTTP/1.2", _line(b"GET /a HTTP/1.2")),
    Refused("HTTP/1.10", _line(b"GET /a HTTP/1.10")),
    Refused("HTTP/01.1", _line(b"GET /a HTTP/01.1")),
    Refused("HTTP/2.0", _line(b"GET /a HTTP/2.0")),
    Refused("HTTP/2 preface", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    Refused("lower-case http", _line(b"GET /a http/1.1")),
    Refused("other protocol", _line(b"GET /a RTSP/1.0")),
    Refused("no version number", _line(b"GET /a HTTP/")),
    Refused("two blanks before target", _line(b"GET  /a HTTP/1.1")),
    Refused("two blanks before version", _line(b"GET /a  HTTP/1.1")),
    Refused("blank after version", _line(b"GET /a HTTP/1.1 ")),
    Refused("blank before method", _line(b" GET /a HTTP/1.1")),
    Refused("tab after method", _line(b"GET\t/a HTTP/1.1")),
    Refused("NUL before method", _line(b"\0GET /a HTTP/1.1")),
    Refused("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
    Refused("reply for a request", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
    Refused("method of another protocol", _line(b"DESCRIBE /a HTTP/1.1")),
    Refused("method unknown", _line(b"FROB /a HTTP/1.1"), 501),
    Refused("method in lower case", _line(b"get /a HTTP/1.1"), 501),
    Refused("method with delimiter", _line(b"GE(T /a HTTP/1.1")),
    Refused("CONNECT", b"CONNECT app:443 HTTP/1.1\r\nHost: app:443\r\n\r\n", 501),
    # Limits.
    Refused("target too long", _line(b"GET /" + b"a" * LIMITS.url + b" HTTP/1.1"), 414),
    Refused("target without end", b"GET /" + b"a" * (LIMITS.head + 200), 414),
    Refused("one header too many", _G + b"X: y\r\n" * LIMITS.headers + b"\r\n", 431),
    Refused("header too large", _G + b"X: " + b"a" * LIMITS.head + b"\r\n\r\n", 431),
    Refused("header without end", _G + b"X: " + b"a" * (LIMITS.head + 200), 431),
    Refused("small headers without end", _G + b"X: y\r\n" * 1000, 431),
    Refused("expectation unknown", _header(b"Expect: 200-ok"), 417),
    Refused("expectation list", _header(b"Expect: 100-continue, x"), 417),
)  # fmt: skip


BROKEN = (
    Broken("no size", _C + b"\r\nhello\r\n0\r\n\r\n"),
    Broken("size 0x", _C + b"0x5\r\nhello\r\n0\r\n\r\n"),
    Broken("size negative", _C + b"-5\r\nhello\r\n0\r\n\r\n"),
    Broken("size with plus", _C + b"+5\r\nhello\r\n0\r\n\r\n"),
    Broken("size behind blank", _C + b" 5\r\nhello\r\n0\r\n\r\n"),
    Broken("size no digit", _C + b"g\r\nhello\r\n0\r\n\r\n"),
    Broken("size with underscore", _C + b"0_5\r\nhello\r\n0\r\n\r\n"),
    Broken("size with comma", _C + b"5,5\r\nhello\r\n0\r\n\r\n"),
    Broken("size fraction", _C + b"5.0\r\nhello\r\n0\r\n\r\n"),
    Broken("size overflow", _C + b"10000000000000005\r\nhello\r\n0\r\n\r\n"),
    Broken("size overflow to zero", _C + b"10000000000000000\r\n\r\n"),
    Broken("size huge", _C + b"f" * 2000 + b"\r\nhello\r\n0\r\n\r\n"),
    Broken("size of many zeros", _C + b"0" * 40 + b"5\r\nhello\r\n0\r\n\r\n"),
    Broken("size ends with LF", _C + b"5\nhello\r\n0\r\n\r\n"),
    Broken("size ends with CR", _C + b"5\rhello\r\n0\r\n\r\n"),
    Broken("size ends with CR CR LF", _C + b"5\r\r\nhello\r\n0\r\n\r\n"),
    Broken("size NUL", _C + b"5\0\r\nhello\r\n0\r\n\r\n"),
    Broken("extension only", _C + b";x=y\r\nhello\r\n0\r\n\r\n"),
    Broken("extension without semicolon", _C + b"5 x\r\nhello\r\n0\r\n\r\n"),
    Broken("extension with CR", _C + b"5;x\ry\r\nhello\r\n0\r\n\r\n"),
    Broken("extension with LF", _C + b"5;x\ny\r\nhello\r\n0\r\n\r\n"),
    Broken("extension with NUL", _C + b"5;x\0\r\nhello\r\n0\r\n\r\n"),
    Broken("extension with LF hides a size", _C + b"2;\nxx\r\n4c\r\n0\r\n\r\n"),
    Broken("extension too long", _C + b"5;" + b"x" * 2000 + b"\r\nhello\r\n0\r\n\r\n"),
    Broken("no CRLF after data", _C + b"5\r\nhello0\r\n\r\n"),
    Broken("two bytes for CRLF", _C + b"5\r\nhelloXX0\r\n\r\n"),
    Broken("LF after data", _C + b"5\r\nhello\n0\r\n\r\n"),
    Broken("CR after data", _C + b"5\r\nhello\r0\r\n\r\n"),
    Broken("data longer than its size", _C + b"3\r\nhello\r\n0\r\n\r\n"),
    Broken("LF after last chunk", _C + b"0\n\r\n"),
    Broken("LF ends the body", _C + b"0\r\n\n"),
    Broken("request behind no end", _C + b"0\r\n" + SMUGGLED),
    Broken("trailer folded", _C + b"0\r\nX: y\r\n z\r\n\r\n"),
    Broken("trailer without colon", _C + b"0\r\nX\r\n\r\n"),
    Broken("trailer without name", _C + b"0\r\n: y\r\n\r\n"),
    Broken("trailer blank before colon", _C + b"0\r\nX : y\r\n\r\n"),
    Broken("trailer with NUL", _C + b"0\r\nX: \0\r\n\r\n"),
    Broken("trailer with CR", _C + b"0\r\nX: y\rz\r\n\r\n"),
    Broken("trailer with LF", _C + b"0\r\nX: y\nz: a\r\n\r\n"),
    Broken("trailers too large", _C + b"0\r\n" + b"X: yyyyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 700 + b"\r\n"),
    Broken("trailer too long", _C + b"0\r\nX: " + b"y" * 20000 + b"\r\n\r\n"),
    Broken("chunks larger than the limit", _C + b"1000\r\n" + b"x" * 4096 + b"\r\n1771\r\n" + b"x" * 6001 + b"\r\n0\r\n\r\n", 413),
    Broken("one chunk larger than the limit", _C + b"fffffff\r\n" + b"x" * 10001, 413),
)  # fmt: skip


def _posted(body: bytes, target: bytes = b"/a") -> tuple[tuple[bytes, bytes], ...]:
    return ((b"POST %b HTTP/1.1" % target, body),)


_GET = (b"GET /a HTTP/1.1", b"")
_NEXT = (b"GET /b HTTP/1.1", b"")
_B = b"GET /b HTTP/1.1\r\nHost: app\r\n\r\n"

PASSED = (
    Passed("plain", _G + b"\r\n", has=((b"host", b"app"), (b"x-forwarded-for", b"127.0.0.1"))),
    Passed("blank lines before it", b"\r\n\r\n" + _G + b"\r\n"),
    Passed("bare LF before it", b"\n" + _G + b"\r\n"),
    Passed("half-closed", _G + b"\r\n", half_close=True, open=False),
    Passed("two, then half-closed", _G + b"\r\n" + _B, (_GET, _NEXT), half_close=True, open=False),
    Passed("half-closed at once", b"", (), half_close=True, open=False),
    Passed("half-closed within a head", _G, (), half_close=True, open=False, statuses=(400,)),
    Passed(
        "half-closed within a body",
        _header(b"Content-Length: 5", b"abc"),
        (),
        half_close=True,
        open=False,
        statuses=(400,),
    ),
    Passed(
        "half-closed within chunks",
        _C + b"5\r\nhel",
        (),
        half_close=True,
        open=False,
        statuses=(400,),
    ),
    # Bodies.
    Passed("body", _header(b"Content-Length: 3", b"abc"), _posted(b"abc")),
    Passed("body of nothing", _header(b"Content-Length: 0"), _posted(b""), ((b"content-length", b"0"),)),
    Passed("POST without length", _P + b"\r\n", _posted(b""), ((b"content-length", b"0"),)),
    Passed("leading zeros", _header(b"Content-Length: 003", b"abc"), _posted(b"abc"), ((b"content-length", b"3"),)),
    Passed("blanks around the length", _header(b"Content-Length: \t3 ", b"abc"), _posted(b"abc"), ((b"content-length", b"3"),)),
    Passed("body of the largest size", _header(b"Content-Length: %d" % LIMITS.body, b"x" * LIMITS.body), _posted(b"x" * LIMITS.body)),
    Passed("GET with body", _G + b"Content-Length: 3\r\n\r\nabc", ((b"GET /a HTTP/1.1", b"abc"),)),
    Passed("DELETE with chunks", b"DELETE /a HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", ((b"DELETE /a HTTP/1.1", b"abc"),)),
    Passed("chunks", _C + b"5\r\nhello\r\n0\r\n\r\n", _posted(b"hello"), ((b"transfer-encoding", b"chunked"),)),
    Passed("TE in capitals", _header(b"TRANSFER-ENCODING: CHUNKED", b"5\r\nhello\r\n0\r\n\r\n"), _posted(b"hello"), ((b"transfer-encoding", b"chunked"),)),
    Passed("TE behind a tab", _header(b"Transfer-Encoding:\tchunked", b"5\r\nhello\r\n0\r\n\r\n"), _posted(b"hello"), ((b"transfer-encoding", b"chunked"),)),
    Passed("chunk sizes in both cases", _C + b"A\r\n0123456789\r\na\r\n0123456789\r\n0\r\n\r\n", _posted(b"0123456789" * 2)),
    Passed("chunk size with zeros", _C + b"005\r\nhello\r\n000\r\n\r\n", _posted(b"hello")),
    Passed("chunk extensions", _C + b'5;a=b;c="d;e"\r\nhello\r\n0;f\r\n\r\n', _posted(b"hello")),
    Passed("chunk blanks", _C + b"5 ;a\r\nhello\r\n0\t\r\n\r\n", _posted(b"hello")),
    Passed("chunks of nothing", _C + b"0\r\n\r\n", _posted(b"")),
    Passed("trailer", _C + b"0\r\nX-Sum: 1\r\n\r\n", _posted(b""), trailers=((b"x-sum", b"1"),)),
    Passed(
        "trailers that may not be",
        _C + b"0\r\nContent-Length: 9\r\nhost: evil\r\nTransfer-Encoding: x\r\nAuthorization: x\r\n"
        b"X-Forwarded-For: 6.6.6.6\r\nCookie: a=b\r\nConnection: close\r\nX_Forwarded_For: 6.6.6.6\r\n"
        b"If-None-Match: x\r\nX-Sum: 1\r\n\r\n",
        _posted(b""),
        trailers=((b"x-sum", b"1"),),
    ),
    # One request after the other, and requests inside bodies.
    Passed("two requests", _G + b"\r\n" + _B, (_GET, _NEXT)),
    Passed("length of nothing, then another", _G + b"Content-Length: 0\r\n\r\n" + _B, (_GET, _NEXT)),
    Passed("request behind a body", _header(b"Content-Length: 3", b"abc") + _B, (*_posted(b"abc"), _NEXT)),
    Passed("request behind chunks", _C + b"3\r\nabc\r\n0\r\n\r\n" + _B, (*_posted(b"abc"), _NEXT)),
    Passed("request inside a body", _header(b"Content-Length: %d" % len(SMUGGLED), SMUGGLED), _posted(SMUGGLED)),
    Passed("request inside a chunk", _C + b"%x\r\n%b\r\n0\r\n\r\n" % (len(SMUGGLED), SMUGGLED), _posted(SMUGGLED)),
    Passed("request in an extension", _C + b"3;GET /smuggled HTTP/1.1\r\nabc\r\n0\r\n\r\n", _posted(b"abc")),
    Passed("end of chunks inside a body", _header(b"Content-Length: 5", b"0\r\n\r\n") + _B, (*_posted(b"0\r\n\r\n"), _NEXT)),
    Passed("bad one behind a good one", _G + b"\r\nGET /\0 HTTP/1.1\r\n\r\n" + SMUGGLED, open=False, statuses=(200, 400)),
    Passed("CL TE behind a good one", _G + b"\r\n" + _header(b"Content-Length: 5\r\nTransfer-Encoding: chunked", b"0\r\n\r\n") + SMUGGLED, open=False, statuses=(200, 400)),
    Passed("nothing behind close", _G + b"Connection: close\r\n\r\n" + SMUGGLED, open=False),
    Passed("nothing behind HTTP/1.0", b"GET /a HTTP/1.0\r\nHost: app\r\n\r\n" + SMUGGLED, open=False),
    # Versions and methods.
    Passed("HTTP/1.0 without Host", b"GET /a HTTP/1.0\r\n\r\n", open=False),
    Passed("HTTP/1.0 kept alive", b"GET /a HTTP/1.0\r\nHost: app\r\nConnection: Keep-Alive\r\n\r\n", lacks=(b"connection",)),
    Passed("HEAD", b"HEAD /a HTTP/1.1\r\nHost: app\r\n\r\n", ((b"HEAD /a HTTP/1.1", b""),)),
    Passed("TRACE", b"TRACE /a HTTP/1.1\r\nHost: app\r\n\r\n", ((b"TRACE /a HTTP/1.1", b""),)),
    Passed("OPTIONS of the server", b"OPTIONS * HTTP/1.1\r\nHost: app\r\n\r\n", ((b"OPTIONS * HTTP/1.1", b""),)),
    Passed("OPTIONS of the server, absolute", b"OPTIONS http://app HTTP/1.1\r\nHost: app\r\n\r\n", ((b"OPTIONS * HTTP/1.1", b""),)),
    Passed("WebDAV", b"PROPFIND /a HTTP/1.1\r\nHost: app\r\n\r\n", ((b"PROPFIND /a HTTP/1.1", b""),)),
    # Targets and hosts.
    Passed("absolute", b"GET http://app/a HTTP/1.1\r\nHost: app\r\n\r\n", has=((b"host", b"app"),)),
    Passed("absolute, Host in capitals", b"GET HTTP://app/a HTTP/1.1\r\nHost: APP\r\n\r\n", has=((b"host", b"app"),)),
    Passed("absolute, without path", b"GET http://app?x HTTP/1.1\r\nHost: app\r\n\r\n", ((b"GET /?x HTTP/1.1", b""),)),
    Passed("absolute, HTTP/1.0", b"GET http://app:81/a HTTP/1.0\r\n\r\n", has=((b"host", b"app:81"),), open=False),
    Passed("port", _host(b"app:8080"), has=((b"host", b"app:8080"), (b"x-forwarded-host", b"app:8080"))),
    Passed("port of nothing", _host(b"app:"), has=((b"host", b"app:"),)),
    Passed("dot at the end", _host(b"app."), has=((b"host", b"app."),)),
    Passed("IPv6", _host(b"[::1]:80"), has=((b"host", b"[::1]:80"),)),
    Passed("percent-encoded", _line(b"GET /%2e%2e/%00%0d%0aX:%20y?a=%23 HTTP/1.1"), ((b"GET /%2e%2e/%00%0d%0aX:%20y?a=%23 HTTP/1.1", b""),)),
    Passed("dots and slashes", _line(b"GET //a/../b/./c;d?e?f HTTP/1.1"), ((b"GET //a/../b/./c;d?e?f HTTP/1.1", b""),)),
    Passed("target of the largest size", _line(b"GET /" + b"a" * (LIMITS.url - 1) + b" HTTP/1.1"), ((b"GET /" + b"a" * (LIMITS.url - 1) + b" HTTP/1.1", b""),)),
    Passed("as many headers as may be", _G + b"X: y\r\n" * (LIMITS.headers - 1) + b"\r\n"),
    # Headers of one connection (RFC 9110 7.6.1).
    Passed(
        "hop by hop",
        _G + b"Keep-Alive: timeout=5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: x\r\n"
        b"TE: gzip\r\nConnection: keep-alive, TE, X-Foo\r\nX-Foo: y\r\nx-foo: z\r\nX-Bar: y\r\n\r\n",
        has=((b"x-bar", b"y"),),
        lacks=(b"keep-alive", b"proxy-connection", b"proxy-authorization", b"te", b"connection", b"x-foo"),
    ),
    Passed("close names another", _G + b"Connection: close, X-Foo\r\nX-Foo: y\r\n\r\n", lacks=(b"x-foo", b"connection"), open=False),
    Passed("TE trailers", _G + b"TE: trailers\r\nConnection: TE\r\n\r\n", has=((b"te", b"trailers"), (b"connection", b"TE"))),
    Passed("Connection names Host", _G + b"Connection: Host\r\n\r\n", has=((b"host", b"app"),)),
    Passed("Connection names the length", _header(b"Connection: Content-Length\r\nContent-Length: 3", b"abc"), _posted(b"abc"), ((b"content-length", b"3"),)),
    Passed("Connection names the coding", _header(b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked", b"3\r\nabc\r\n0\r\n\r\n"), _posted(b"abc"), ((b"transfer-encoding", b"chunked"),)),
    Passed("Connection names who forwarded", _G + b"Connection: X-Forwarded-For\r\nX-Forwarded-For: 1.2.3.4\r\n\r\n", has=((b"x-forwarded-for", b"1.2.3.4, 127.0.0.1"),)),
    Passed("Connection names credentials", _G + b"Connection: Authorization, Cookie\r\nAuthorization: x\r\nCookie: y\r\n\r\n", has=((b"authorization", b"x"), (b"cookie", b"y"))),
    Passed("h2c", _G + b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n\r\n", lacks=(b"upgrade", b"connection", b"http2-settings")),
    Passed("h2c among others", _G + b"Connection: Upgrade\r\nUpgrade: websocket, h2c\r\n\r\n", lacks=(b"upgrade", b"connection")),
    Passed("TLS upgrade", _G + b"Connection: Upgrade\r\nUpgrade: TLS/1.2\r\n\r\n", lacks=(b"upgrade", b"connection")),
    Passed("HTTP/2 settings alone", _G + b"HTTP2-Settings: AAMAAABk\r\n\r\n", lacks=(b"http2-settings",)),
    Passed("upgrade that Connection does not name", _G + b"Upgrade: websocket\r\n\r\n", lacks=(b"upgrade", b"connection")),
    Passed("upgrade declined", _G + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", has=((b"upgrade", b"websocket"), (b"connection", b"Upgrade"))),
    Passed("upgrade with a body", _header(b"Connection: Upgrade\r\nUpgrade: websocket\r\nContent-Length: 3", b"abc"), _posted(b"abc"), lacks=(b"upgrade", b"connection")),
    # Headers that slardar sets or guards.
    Passed("spoofed addresses", _G + b"X-Forwarded-For: 1.1.1.1\r\nX-Forwarded-For: 2.2.2.2\r\n\r\n", has=((b"x-forwarded-for", b"1.1.1.1, 2.2.2.2, 127.0.0.1"),)),
    Passed("empty address", _G + b"X-Forwarded-For:\r\n\r\n", has=((b"x-forwarded-for", b"127.0.0.1"),)),
    Passed("spoofed with underscores", _G + b"X_Forwarded_For: 1.1.1.1\r\nContent_Length: 5\r\nTransfer_Encoding: x\r\n\r\n", lacks=(b"x_forwarded_for", b"content_length", b"transfer_encoding")),
    Passed("httpoxy", _G + b"Proxy: http://evil/\r\nPROXY: x\r\n\r\n", lacks=(b"proxy",)),
    Passed("request id with odd bytes", _G + b"X-Request-Id: \xff'\"<b>{}\r\n\r\n", has=((b"x-request-id", b"\xff'\"<b>{}"),)),
    Passed("scheme and host given", _G + b"X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: www\r\n\r\n", has=((b"x-forwarded-host", b"app"),)),
    Passed("client given", _G + b"X-Real-IP: 1.1.1.1\r\nx_real_ip: 1.1.1.1\r\nX-Real_IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\nFORWARDED: for=\"\r\n\r\n", lacks=(b"x-real-ip", b"x_real_ip", b"x-real_ip", b"forwarded")),
    Passed("8-bit value", _G + b"X: \x80\xff\r\n\r\n", has=((b"x", b"\x80\xff"),)),
    Passed("tab in a value", _G + b"X: a\tb\r\n\r\n", has=((b"x", b"a\tb"),)),
    Passed("empty value", _G + b"X:\r\n\r\n", has=((b"x", b""),)),
    Passed("Trailer", _G + b"Trailer: X-Sum\r\n\r\n", has=((b"trailer", b"X-Sum"),)),
    Passed("Expect", _header(b"Expect: 100-Continue\r\nContent-Length: 3", b"abc"), _posted(b"abc"), ((b"expect", b"100-continue"),)),
    Passed("Expect in HTTP/1.0", b"GET /a HTTP/1.0\r\nHost: app\r\nExpect: 100-continue\r\n\r\n", lacks=(b"expect",), open=False),
)  # fmt: skip
