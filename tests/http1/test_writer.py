"""Heads as they go on the wire."""

from __future__ import annotations

from slardar.http1.reply import parse_reply
from slardar.http1.request import Request, parse_request
from slardar.http1.writer import RequestIds, interim_head, request_head


def written(
    head: bytes, address: bytes = b"192.0.2.1", fallback: str = "10.0.0.1:80"
) -> list[bytes]:
    """The lines that the server gets for a client's head."""
    request = parse_request(head)
    request.peer = request.address = address
    data = request_head(request, RequestIds(b"id"), fallback)
    assert data[-4:] == b"\r\n\r\n"
    return data[:-4].split(b"\r\n")


def get(*lines: bytes, first: bytes = b"GET /a HTTP/1.1") -> bytes:
    """A request's head with a Host."""
    return b"\r\n".join((first, b"Host: app", *lines, b"", b""))


def test_plain() -> None:
    """The head has the request line, Host, the lines that pass, and slardar's headers."""
    assert written(get(b"X: y")) == [
        b"GET /a HTTP/1.1",
        b"Host: app",
        b"X: y",
        b"X-Forwarded-For: 192.0.2.1",
        b"X-Forwarded-Proto: http",
        b"X-Forwarded-Host: app",
        b"X-Request-Id: id00000001",
    ]


def test_given_headers() -> None:
    """X-Forwarded-For is extended, the others stay as the client gave them."""
    lines = written(
        get(
            b"X-Forwarded-For: 1.1.1.1",
            b"X-Forwarded-Proto: https",
            b"X-Forwarded-Host: www",
            b"X-Request-Id: mine",
        )
    )
    assert lines[2:] == [
        b"X-Forwarded-For: 1.1.1.1, 192.0.2.1",
        b"X-Forwarded-Proto: https",
        b"X-Forwarded-Host: www",
        b"X-Request-Id: mine",
    ]


def test_empty_headers() -> None:
    """An empty header counts as absent."""
    lines = written(
        get(b"X-Forwarded-For:", b"X-Forwarded-Proto:", b"X-Forwarded-Host:", b"X-Request-Id:")
    )
    assert lines == written(get())


def test_http_1_0_without_host() -> None:
    """The server gets its own address as Host, as with nginx."""
    lines = written(b"GET / HTTP/1.0\r\n\r\n")
    assert lines[:2] == [b"GET / HTTP/1.1", b"Host: 10.0.0.1:80"]
    assert b"X-Forwarded-Host: 10.0.0.1:80" in lines


def test_framing() -> None:
    """Length and chunks are written anew; a POST without content has a length, too."""
    post = b"POST /a HTTP/1.1"
    assert written(get(b"Content-Length: 007", first=post))[-1] == b"Content-Length: 7"
    assert written(get(b"Transfer-Encoding: CHUNKED"))[-1] == b"Transfer-Encoding: chunked"
    assert written(get(first=post))[-1] == b"Content-Length: 0"
    assert b"Content-Length: 0" not in written(get(b"Content-Length: 0"))


def test_connection_headers() -> None:
    """They are written for the next connection, if it needs them."""
    assert written(get(b"Connection: Upgrade", b"Upgrade: websocket"))[-2:] == [
        b"Connection: Upgrade",
        b"Upgrade: websocket",
    ]
    assert written(get(b"TE: trailers"))[-2:] == [b"TE: trailers", b"Connection: TE"]
    assert written(get(b"Expect: 100-continue"))[-1] == b"Expect: 100-continue"


def test_scheme() -> None:
    """X-Forwarded-Proto is the client's scheme."""
    request = parse_request(get())
    request.scheme = b"https"
    assert b"\r\nX-Forwarded-Proto: https\r\n" in request_head(request, RequestIds(), "x")


def test_request_id_is_remembered() -> None:
    """The request keeps its new id, for logs and for other attempts."""
    request: Request = parse_request(get())
    request_head(request, RequestIds(b"ab"), "x")
    assert request.request_id == b"ab00000001"


def test_request_ids_count() -> None:
    """In eight hexadecimal digits, and in more where eight are too few."""
    ids = RequestIds(b"ab")
    for number in range(1, 1000):
        assert ids.fresh() == b"ab%08x" % number
    ids._made = 2**32 - 2
    ids._beginning = b"abffffff"
    assert [ids.fresh() for _ in range(3)] == [b"abffffffff", b"ab100000000", b"ab100000001"]


def test_request_ids() -> None:
    """No two are alike, in one process or in two."""
    first, second = RequestIds(), RequestIds()
    ids = [first.fresh() for _ in range(1000)] + [second.fresh() for _ in range(1000)]
    assert len(set(ids)) == 2000
    assert all(len(each) == 24 and each.isalnum() for each in ids)


def test_interim_heads() -> None:
    """1xx as the server sent it; a 101 names the protocol."""
    hints = parse_reply(b"HTTP/1.1 103 Early Hints\r\nLink: x\r\nKeep-Alive: 5\r\n\r\n", b"GET")
    assert interim_head(hints) == b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n"
    switch = (
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: a/1\r\nX: y\r\n\r\n"
    )
    assert interim_head(parse_reply(switch, b"GET")) == (
        b"HTTP/1.1 101 Switching Protocols\r\nX: y\r\nConnection: Upgrade\r\nUpgrade: a/1\r\n\r\n"
    )
