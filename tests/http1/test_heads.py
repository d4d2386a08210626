"""Heads of requests and replies: which are accepted, and what happens to each header."""

from __future__ import annotations

import pytest

from slardar.http1.heads import CHUNKED, UNTIL_CLOSE, BadMessage
from slardar.http1.reply import Reply, parse_reply
from slardar.http1.request import _KNOWN_HOSTS, _MOST_KNOWN, Request, normal_host, parse_request
from slardar.http1.writer import RequestIds, interim_head, request_head


def request(*lines: bytes, first: bytes = b"GET /a HTTP/1.1", host: bytes = b"app") -> Request:
    """The request with these header lines and a Host."""
    return parse_request(b"\r\n".join((first, b"Host: " + host, *lines, b"", b"")))


def refusal(*lines: bytes, first: bytes = b"GET /a HTTP/1.1", host: bytes = b"app") -> int:
    """The status with which such a request is refused."""
    with pytest.raises(BadMessage) as caught:
        request(*lines, first=first, host=host)
    assert str(caught.value) == caught.value.message
    return caught.value.status


def reply(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK", verb: bytes = b"GET") -> Reply:
    """The reply with these header lines."""
    return parse_reply(b"\r\n".join((first, *lines, b"", b"")), verb)


def bad_reply(*lines: bytes, first: bytes = b"HTTP/1.1 200 OK") -> str:
    """The reason why such a reply is refused."""
    with pytest.raises(BadMessage) as caught:
        reply(*lines, first=first)
    assert caught.value.status == 502
    return caught.value.message


# Requests.


def test_plain_request() -> None:
    """``lines`` holds the lines that pass, after a place for the request line."""
    head = request(b"Accept: */*", b"X: y", first=b"GET /a?b=c HTTP/1.1", host=b"App:80")
    assert (head.raw_method, head.raw_uri, head.minor) == (b"GET", b"/a?b=c", 1)
    assert (head.authority, head.host) == (b"App:80", "app")
    assert head.lines == [b"", b"Accept: */*", b"X: y"]
    assert (head.length, head.keep_alive, head.expects, head.upgrade) == (0, True, False, None)
    assert repr(head) == "<Request GET /a?b=c host=app>"


def test_what_balancers_see() -> None:
    """The attributes of IRequest are text."""
    head = request(b"X-Key: \xe9 ", first=b"POST /a?b HTTP/1.1")
    head.address = b"192.0.2.1"
    assert (head.method, head.uri, head.path, head.client) == (
        "POST",
        "/a?b",
        "/a",
        "192.0.2.1",
    )
    assert head.get_header("x-KEY") == "\xe9"
    assert head.get_header("x") is None


def test_lines_of_a_request_are_replaced() -> None:
    """The lines that take their place are what the server gets, and what is found by name."""
    head = request(b"Accept: */*", b"X: y")
    lines = head.head_lines()
    assert lines[1:] == [b"Accept: */*", b"X: y"]
    head.replace_head_lines([b"what is here does not matter", b"X: z"])
    assert (head.get_header("x"), head.get_header("accept")) == ("z", None)
    assert request_head(head, RequestIds(b"id"), "").startswith(
        b"GET /a HTTP/1.1\r\nHost: app\r\nX: z\r\nX-Forwarded-For: "
    )


def test_http_1_0() -> None:
    """It needs no Host, and its connection ends unless the client asks to keep it."""
    head = parse_request(b"GET / HTTP/1.0\r\n\r\n")
    assert (head.minor, head.host, head.authority, head.keep_alive) == (0, "", b"", False)
    assert request(b"Connection: Keep-Alive", first=b"GET / HTTP/1.0").keep_alive
    assert not request(b"Expect: 100-continue", first=b"GET / HTTP/1.0").expects


def test_number_of_headers() -> None:
    """The limit counts header lines and not the request line."""
    head = b"GET / HTTP/1.1\r\nHost: app\r\n%b\r\n"
    assert len(parse_request(head % (b"X: y\r\n" * 99)).lines) == 100
    with pytest.raises(BadMessage) as caught:
        parse_request(head % (b"X: y\r\n" * 100))
    assert caught.value.status == 431
    with pytest.raises(BadMessage):
        parse_request(head % b"X: y\r\n", max_headers=1)


def test_size_of_the_target() -> None:
    """A target of exactly the limit passes."""
    head = b"GET /%b HTTP/1.1\r\nHost: app\r\n\r\n"
    assert len(parse_request(head % (b"a" * 8191)).raw_uri) == 8192
    with pytest.raises(BadMessage) as caught:
        parse_request(head % (b"a" * 8192))
    assert caught.value.status == 414


@pytest.mark.parametrize(
    ("authority", "name"),
    [
        (b"app", "app"),
        (b"WWW.Example.com:8080", "www.example.com"),
        (b"a.", "a"),
        (b"a.:80", "a"),
        (b"a:", "a"),
        (b"a_b-c~d.1", "a_b-c~d.1"),
        (b"192.0.2.1:65535", "192.0.2.1"),
        (b"[::1]", "::1"),
        (b"[2001:DB8::A]:80", "2001:db8::a"),
        (b"[::ffff:192.0.2.1]:", "::ffff:192.0.2.1"),
        (b"a" * 255, "a" * 255),
    ],
)
def test_host(authority: bytes, name: str) -> None:
    """The name is in lower case, without port, brackets and a dot at its end."""
    assert normal_host(authority) == name


@pytest.mark.parametrize(
    "authority",
    [
        b"", b".", b"..", b".a", b"a..b", b"a..", b"a b", b"a,b", b"u@a", b"a/b", b"a?", b"a#",
        b"a%61", b"a:b", b"a:-1", b"a:65536", b"a:123456", b"a:1:2", b":80", b"[", b"[]",
        b"[::1", b"::1", b"[::g]", b"[:::]", b"[1.2.3.4]", b"[::1]x", b"[fe80::1%eth0]",
        b"\xe9", b"a\0", b"*", b"a\\b", b"a" * 256,
    ],
)  # fmt: skip
def test_no_host(authority: bytes) -> None:
    """Other values than a host name or address with a port are refused."""
    with pytest.raises(BadMessage) as caught:
        normal_host(authority)
    assert caught.value.status == 400


def test_many_hosts() -> None:
    """A client that invents hosts fills no memory."""
    for number in range(3 * _MOST_KNOWN):
        assert normal_host(b"h%d.example:80" % number) == f"h{number}.example"
        assert len(_KNOWN_HOSTS) <= _MOST_KNOWN


def test_hosts_and_targets() -> None:
    """There is one Host; an absolute target must agree with it, and wins over it."""
    head = request(first=b"GET http://APP:81/x?y HTTP/1.1")
    assert (head.raw_uri, head.authority, head.host) == (b"/x?y", b"APP:81", "app")
    assert request(first=b"GET https://app HTTP/1.1").raw_uri == b"/"
    assert request(first=b"GET http://app?x HTTP/1.1").raw_uri == b"/?x"
    assert request(first=b"OPTIONS http://app HTTP/1.1").raw_uri == b"*"
    assert request(first=b"OPTIONS http://app/ HTTP/1.1").raw_uri == b"/"
    assert request(first=b"OPTIONS * HTTP/1.1").raw_uri == b"*"
    assert parse_request(b"GET http://b/ HTTP/1.0\r\n\r\n").host == "b"
    # HTTP/1.1 demands a Host, but an absolute target names the host as well.
    assert parse_request(b"GET http://b/ HTTP/1.1\r\n\r\n").host == "b"
    for first in (
        b"GET http://other/ HTTP/1.1",
        b"GET ftp://app/ HTTP/1.1",
        b"GET * HTTP/1.1",
        b"GET /#x HTTP/1.1",
        b"GET http://app/#x HTTP/1.1",
        b"GET http://u@app/ HTTP/1.1",
    ):
        assert refusal(first=first) == 400
    assert refusal(b"Host: app") == 400
    with pytest.raises(BadMessage, match="no Host"):
        parse_request(b"GET / HTTP/1.1\r\n\r\n")


@pytest.mark.parametrize(
    ("first", "status"),
    [
        (b"FROB / HTTP/1.1", 501),
        (b"get / HTTP/1.1", 501),
        (b"CONNECT app:1 HTTP/1.1", 501),
        (b"F(B / HTTP/1.1", 400),
        (b"F" * 33 + b" / HTTP/1.1", 400),
        (b"GET / HTTP/1.2", 400),
        (b"GET / HTTP/2.0", 400),
        (b"GET /", 400),
        (b"GET  / HTTP/1.1", 400),
        (b"DESCRIBE / RTSP/1.0", 400),
    ],
)
def test_request_lines(first: bytes, status: int) -> None:
    """501 for unknown methods, 400 for lines that are not HTTP/1."""
    assert refusal(first=first) == status


def test_lengths() -> None:
    """A request has a length in digits, or chunks, or neither, but never two of them."""
    assert request(b"Content-Length: 003").length == 3
    assert request(b"content-length:\t3 ").length == 3
    assert request(b"TRANSFER-ENCODING: Chunked").length == CHUNKED
    assert request(b"Content-Length: 18446744073709551615").length == 2**64 - 1
    for value in (b"", b"+3", b"3,3", b"0x3", b"18446744073709551616", b"0" * 20 + b"3"):
        assert refusal(b"Content-Length: " + value) == 400
    # More digits than int() takes.
    assert refusal(b"Content-Length: " + b"0" * 5000 + b"3") == 400
    assert refusal(b"Content-Length: 3", b"Content-Length: 3") == 400
    assert refusal(b"Content-Length: 3", b"Transfer-Encoding: chunked") == 400
    assert refusal(b"Transfer-Encoding: chunked", b"Content-Length: 3") == 400


def test_transfer_codings() -> None:
    """501 for an unknown coding before a last chunked one, 400 if the end is in doubt; several
    lines are one list (RFC 9112 6.3)."""
    for value in (
        b"gzip, chunked", b"xchunked, chunked", b"identity,chunked", b"gzip ;q=1 ,\tchunked",
        b'gzip;q="a b";r=c, deflate, Chunked',
    ):  # fmt: skip
        assert refusal(b"Transfer-Encoding: " + value) == 501
        assert refusal(b"Transfer-Encoding: " + value, b"Content-Length: 3") == 400
        assert refusal(b"Transfer-Encoding: " + value, first=b"POST / HTTP/1.0") == 400
        parts = [b"Transfer-Encoding: " + part.strip() for part in value.split(b",")]
        assert refusal(*parts) == 501
        assert refusal(*reversed(parts)) == 400
    for value in (
        b"gzip", b"xchunked", b"chunkedx", b"identity", b"chunked, identity", b"chunked, gzip",
        b"chunked, chunked", b"chunked, gzip, chunked", b'"chunked"', b"chunked;x", b"chunked;a=b",
        b"", b",", b",chunked", b"chunked,", b"gzip,,chunked", b"g zip, chunked", b"gzip;, chunked",
        b"gz\xefp, chunked", b'gzip;q="a,b", chunked', b"gzip;q, chunked",
    ):  # fmt: skip
        assert refusal(b"Transfer-Encoding: " + value) == 400
        assert refusal(b"Transfer-Encoding: chunked", b"Transfer-Encoding: " + value) == 400
    assert refusal(b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked") == 400
    assert refusal(b"Transfer-Encoding: chunked", first=b"POST / HTTP/1.0") == 400


def test_expectations() -> None:
    """Only 100-continue is known."""
    assert request(b"Expect: 100-Continue").expects
    assert refusal(b"Expect: other") == 417


def test_hop_by_hop_headers() -> None:
    """The connection's headers do not pass, nor the headers that Connection names."""
    head = request(
        b"Connection: close, X-Foo,, Cookie",
        b"connection: X-Bar",
        b"Keep-Alive: 5",
        b"Proxy-Connection: x",
        b"Proxy-Authorization: x",
        b"TE: gzip, trailers",
        b"X-Foo: 1",
        b"x-bar: 2",
        b"Cookie: c",
        b"X-Baz: 3",
    )
    assert head.lines == [b"", b"Cookie: c", b"X-Baz: 3"]
    assert head.takes_trailers
    assert not head.keep_alive
    assert not request(b"TE: gzip").takes_trailers
    assert request(b"TE: trailers", b"TE: gzip").takes_trailers


def test_headers_that_lie() -> None:
    """The lies are httpoxy, h2c settings, and spellings that CGI takes for slardar's own
    headers."""
    head = request(
        b"Proxy: x",
        b"HTTP2-Settings: x",
        b"X_Forwarded_For: x",
        b"X-Forwarded_For: x",
        b"x_forwarded-for: x",
        b"x_request_id: x",
        b"X-Real_IP: x",
        b"Transfer_Encoding: x",
        b"Content_Length: 5",
        b"X_Other: 1",
    )
    assert head.lines == [b"", b"X_Other: 1"]
    assert (head.length, head.forwarded_for, head.request_id) == (0, None, None)


def test_forwarded_headers() -> None:
    """Several lines are one list; an empty line is no line.  None of them passes yet."""
    head = request(
        b"X-Forwarded-For: 1.1.1.1",
        b"x-forwarded-for: 2.2.2.2",
        b"X-Forwarded-For:",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: www",
        b"X-Request-Id: abc",
        b"Forwarded: for=3.3.3.3",
        b"FORWARDED: for=4.4.4.4",
        b"x-real-ip: 5.5.5.5",
        b"X_Real_IP: 6.6.6.6",
    )
    assert head.lines == [b""]
    assert head.told is not None
    assert head.told.forwarded == b"for=3.3.3.3, for=4.4.4.4"
    assert head.told.real_ip == b"5.5.5.5"
    assert head.forwarded_for == b"1.1.1.1, 2.2.2.2"
    assert (head.forwarded_proto, head.forwarded_host) == (b"https", b"www")
    assert head.request_id == b"abc"
    assert request(b"X-Request-Id: ").request_id is None
    assert request(b"X-Request-Id: abc", b"X-Forwarded-Port: 1", b"X-Real: 2").told is None


@pytest.mark.parametrize(
    ("lines", "protocol"),
    [
        ([b"Connection: Upgrade", b"Upgrade: websocket"], b"websocket"),
        ([b"Connection: keep-alive, upgrade", b"Upgrade: a/1"], b"a/1"),
        ([b"Upgrade: websocket"], None),
        ([b"Connection: close", b"Upgrade: websocket"], None),
        ([b"Connection: Upgrade", b"Upgrade: h2c"], None),
        ([b"Connection: Upgrade", b"Upgrade: H2"], None),
        ([b"Connection: Upgrade", b"Upgrade: TLS/1.2"], None),
        ([b"Connection: Upgrade", b"Upgrade: HTTP/2.0"], None),
        ([b"Connection: Upgrade", b"Upgrade: websocket, h2c"], None),
        ([b"Connection: Upgrade", b"Upgrade: websocket", b"Upgrade: h2c"], None),
        ([b"Connection: Upgrade", b"Upgrade:"], None),
        ([b"Connection: Upgrade", b"Upgrade: websocket", b"Content-Length: 1"], None),
        ([b"Connection: Upgrade", b"Upgrade: websocket", b"Transfer-Encoding: chunked"], None),
    ],
)
def test_upgrades(lines: list[bytes], protocol: bytes | None) -> None:
    """An upgrade is offered to the server only for one protocol that is not HTTP, and without
    a body."""
    head = request(*lines)
    assert head.upgrade == protocol
    assert head.lines == [b""]


def test_upgrade_in_http_1_0() -> None:
    """HTTP/1.0 has no upgrade (RFC 9110 7.8)."""
    head = request(b"Connection: Upgrade", b"Upgrade: websocket", first=b"GET / HTTP/1.0")
    assert head.upgrade is None


# Replies.


def test_plain_reply() -> None:
    """The length is taken out; the other lines pass."""
    head = reply(b"Content-Type: x", b"Content-Length: 5", b"X: y ")
    assert (head.status, head.length, head.declared, head.keep_alive) == (200, 5, 5, True)
    assert head.lines == [b"HTTP/1.1 200 OK", b"Content-Type: x", b"X: y "]
    assert head.get_header("x") == "y"
    assert repr(head) == "<Reply 200 length=5>"


def test_head_of_a_reply_is_changed() -> None:
    """The client gets the changed lines and the changed status; the server's status is kept."""
    head = reply(b"X: y", first=b"HTTP/1.1 103 Early Hints")
    assert head.head_lines() == [b"HTTP/1.1 103 Early Hints", b"X: y"]
    head.replace_head_lines([*head.head_lines()[:1], b"X: z"])
    head.add_header_lines([b"A: b", b"C: d"])
    head.set_status_line(b"HTTP/1.1 199 Other")
    assert (head.client_status(), head.status, head.get_header("x")) == (199, 103, "z")
    assert interim_head(head) == b"HTTP/1.1 199 Other\r\nX: z\r\nA: b\r\nC: d\r\n\r\n"


@pytest.mark.parametrize(
    ("first", "status", "written"),
    [
        (b"HTTP/1.0 200 OK", 200, b"HTTP/1.1 200 OK"),
        (b"HTTP/1.1 404 Not Found", 404, b"HTTP/1.1 404 Not Found"),
        (b"HTTP/1.1 404 Nowhere", 404, b"HTTP/1.1 404 Nowhere"),
        (b"HTTP/1.1 204", 204, b"HTTP/1.1 204 "),
        (b"HTTP/1.1 204 ", 204, b"HTTP/1.1 204 "),
        (b"HTTP/1.0 799 \xe9", 799, b"HTTP/1.1 799 \xe9"),
    ],
)
def test_status_lines(first: bytes, status: int, written: bytes) -> None:
    """The version becomes slardar's, the rest stays the server's."""
    head = reply(first=first)
    assert head.status == status
    assert head.lines == [written]


@pytest.mark.parametrize(
    "first",
    [
        b"HTTP/2.0 200 OK", b"HTTP/0.9 200 OK", b"HTTP/1.1 099 X", b"HTTP/1.1 1000 X",
        b"HTTP/1.1 2x0 X", b"HTTP/1.1 200 \x01", b"ICY 200 OK", b"", b"HTTP/1.1 200 a\nX: y",
        b"HTTP/1.1 200 a\rX: y",
    ],
)  # fmt: skip
def test_bad_status_lines(first: bytes) -> None:
    """Each of them is a 502."""
    assert "server's reply" in bad_reply(first=first)


@pytest.mark.parametrize(
    "lines",
    [
        [b"Content-Length: 5", b"Transfer-Encoding: chunked"],
        [b"Transfer-Encoding: chunked", b"Content-Length: 5"],
        [b"Content-Length: 5", b"Content-Length: 5"],
        [b"Content-Length: x"],
        [b"Content-Length: " + b"0" * 5000 + b"5"],
        [b"Transfer-Encoding: gzip"],
        [b"Transfer-Encoding: chunked", b"Transfer-Encoding: chunked"],
        [b"X: y", b" z"],
        [b"X: y\nZ: z"],
        [b"X: \0"],
        [b"X: y"] * 1001,
    ],
)
def test_bad_replies(lines: list[bytes]) -> None:
    """Replies that no client may see are a 502."""
    assert "server's" in bad_reply(*lines)


def test_chunked_in_http_1_0_reply() -> None:
    """HTTP/1.0 has no transfer codings (RFC 9112 6.1)."""
    assert "coding" in bad_reply(b"Transfer-Encoding: chunked", first=b"HTTP/1.0 200 OK")


def test_number_of_reply_headers() -> None:
    """The limit counts header lines and not the status line."""
    assert len(reply(*[b"X: y"] * 1000).lines) == 1001


@pytest.mark.parametrize(
    ("first", "lines", "verb", "length", "keep_alive"),
    [
        (b"HTTP/1.1 200 OK", [], b"GET", UNTIL_CLOSE, False),
        (b"HTTP/1.1 200 OK", [b"Connection: keep-alive"], b"GET", UNTIL_CLOSE, False),
        (b"HTTP/1.1 200 OK", [b"Transfer-Encoding: chunked"], b"GET", CHUNKED, True),
        (b"HTTP/1.1 200 OK", [b"Content-Length: 5"], b"HEAD", 0, True),
        (b"HTTP/1.1 200 OK", [], b"HEAD", 0, True),
        (b"HTTP/1.1 204 No Content", [b"Content-Length: 5"], b"GET", 0, True),
        (b"HTTP/1.1 304 Not Modified", [b"Transfer-Encoding: chunked"], b"GET", 0, True),
        (b"HTTP/1.1 103 Early Hints", [], b"GET", 0, True),
        (b"HTTP/1.1 200 OK", [b"Content-Length: 5", b"Connection: close"], b"GET", 5, False),
        (b"HTTP/1.0 200 OK", [b"Content-Length: 5"], b"GET", 5, False),
        (b"HTTP/1.0 200 OK", [b"Content-Length: 5", b"Connection: keep-alive"], b"GET", 5, True),
    ],
)
def test_length_of_replies(
    first: bytes, lines: list[bytes], verb: bytes, length: int, keep_alive: bool
) -> None:
    """RFC 9112 6.3: how the body ends, and whether the connection can stay open."""
    head = reply(*lines, first=first, verb=verb)
    assert (head.length, head.keep_alive) == (length, keep_alive)


def test_hop_by_hop_headers_of_replies() -> None:
    """They are removed, and so are the headers that Connection names, except those that it may
    not name."""
    head = reply(
        b"Connection: X-Foo, Set-Cookie, Content-Length",
        b"Keep-Alive: 5",
        b"Upgrade: h2c",
        b"Proxy-Connection: x",
        b"X-Foo: 1",
        b"Set-Cookie: a",
        b"Set-Cookie: b",
        b"Content-Length: 0",
    )
    assert head.lines == [b"HTTP/1.1 200 OK", b"Set-Cookie: a", b"Set-Cookie: b"]
    assert (head.length, head.upgrade) == (0, b"h2c")


def test_switch_of_protocols() -> None:
    """A 101 is parsed like other heads, whether it was asked for or not."""
    head = reply(
        b"Connection: Upgrade",
        b"Upgrade: websocket",
        b"X: y",
        first=b"HTTP/1.1 101 Switching Protocols",
    )
    assert (head.status, head.upgrade, head.lines[1:]) == (101, b"websocket", [b"X: y"])


@pytest.mark.parametrize("lines", [[], [b"Upgrade: websocket"], [b"Connection: Upgrade"]])
def test_switch_to_nothing(lines: list[bytes]) -> None:
    """A 101 must name the new protocol (RFC 9110 15.2.2)."""
    assert "101 without" in bad_reply(*lines, first=b"HTTP/1.1 101 Switching Protocols")
