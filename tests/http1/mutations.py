"""Heads that resemble those of clients and servers, and what both forms of the parser say of them.

Each head is one of :data:`REQUESTS` or :data:`REPLIES` with some changes: bytes, lines, pieces
of other heads.  The Python form, which llhttp judges for, is the oracle.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any

import httptools

from slardar.http1.heads import BadMessage, judge
from slardar.http1.reply import parse_reply, read_reply
from slardar.http1.request import Request, parse_request, read_request
from slardar.http1.writer import RequestIds, request_head

END = b"\r\n\r\n"

#: A line of each header that means something to slardar, some of them twice, and some others.
LINES = [
    b"Host: app", b"Host: www.Example.com:8080", b"HOST:\tapp ", b"Host: [::1]:80", b"Host: a b",
    b"Host:", b"Connection: keep-alive", b"Connection: Keep-Alive", b"connection: keep-alive",
    b"CONNECTION: KEEP-ALIVE", b"Connection:keep-alive", b"Connection: close",
    b"Connection: Close ",
    b"Connection: close, X-Foo", b"Connection: X-Foo,, Cookie", b"Connection: Upgrade",
    b"Connection: keep-alive, Upgrade", b"Connection: TE", b"Connection:", b"Connection: a b",
    b"Keep-Alive: timeout=5", b"Proxy-Connection: keep-alive", b"Upgrade: websocket",
    b"Upgrade: h2c", b"Upgrade: a/1", b"Upgrade:", b"Content-Length: 0", b"Content-Length: 5",
    b"Content-Length: 007", b"Content-Length:5", b"content-length:\t5\t", b"Content-Length: -1",
    b"Content-Length: 5,5", b"Content-Length: 18446744073709551615", b"Content-Length: +5",
    b"Content-Length: 18446744073709551616", b"Content-Length: 999999999999999999",
    b"Content-Length: 9223372036854775808", b"Content-Length: " + b"0" * 30, b"Content-Length: 5 5",
    b"Content-Length:", b"Content_Length: 5", b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: Chunked ", b"transfer-encoding:chunked",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: gzip",
    b"Transfer-Encoding: chunked, chunked", b"Transfer-Encoding:",
    b"Transfer_Encoding: chunked", b"Transfer-Encoding: \"chunked\"", b"Expect: 100-continue",
    b"Expect: 100-Continue", b"Expect: other", b"Expect:", b"TE: trailers", b"TE: gzip",
    b"X-Forwarded-For: 1.1.1.1 \t", b"x-forwarded-for:", b"X_Forwarded_For: 6.6.6.6",
    b"X-Forwarded_For: 6.6.6.6", b"X-Forwarded-Proto: https", b"X-Forwarded-Host: www",
    b"X-Request-Id: abc\t", b"X_Request-Id: abc", b"Forwarded: for=3.3.3.3", b"X-Real-IP: 5.5.5.5",
    b"X_Real_IP: 6.6.6.6", b"X-Slardar-Explain: token", b"x_slardar_explain: token",
    b"X-Client-Cert-Subject: CN=x", b"Proxy: x", b"Proxy-Authorization: Basic eDp5",
    b"HTTP2-Settings: x", b"User-Agent: curl/8.5.0", b"Accept: */*", b"Accept-Encoding: gzip, br",
    b"Accept-Language: en-US,en;q=0.5", b"Cookie: a=b; c=d", b"X-Foo: 1", b"Cookie:",
    b"Cache-Control: max-age=0", b"If-None-Match: \"x\"", b"Referer: http://app/", b"X:y", b"X:",
    b"X: \xe9\xff", b"X:\t a\tb \t", b"X: " + b"a" * 40, b"A" * 40 + b": 1", b"X-Requested-With: a",
    b"Content-Type: text/plain", b"Date: Sun, 06 Nov 1994 08:49:37 GMT", b"Server: nginx",
    b"Set-Cookie: a=b", b"Set-Cookie: c=d", b"Trailer: X", b"Vary: Accept-Encoding",
    b"ETag: \"5f\"", b"Location: /x", b"X-Slardar-Hint: drain", b"Retry-After: 5",
]  # fmt: skip
#: Bytes that are wrong in most places.
SCRAPS = [
    b"\r", b"\n", b"\r\n", END, b"\0", b"\x01", b"\x0b", b"\x1f", b"\x7f", b"\x80", b"\xff", b" ",
    b"\t", b":", b" :", b": ", b"#", b"?", b"/", b"*", b"_", b"-", b"\r\n ", b"\r\n\t", b"\n\n",
    b"http://app", b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"GET ", b",", b";", b"\"", b"@", b"0",
]  # fmt: skip
_REQUEST_LINES = [
    b"GET / HTTP/1.1", b"GET /a/b?c=d&e=%20 HTTP/1.1", b"POST /in HTTP/1.1", b"HEAD / HTTP/1.1",
    b"PUT /x HTTP/1.1", b"DELETE /x HTTP/1.1", b"OPTIONS * HTTP/1.1", b"OPTIONS /x HTTP/1.1",
    b"PATCH / HTTP/1.1", b"TRACE / HTTP/1.1", b"GET / HTTP/1.0", b"POST / HTTP/1.0",
    b"GET http://app/x HTTP/1.1", b"CONNECT app:1 HTTP/1.1", b"PROPFIND / HTTP/1.1",
    b"FROB / HTTP/1.1", b"get / HTTP/1.1", b"GET  / HTTP/1.1", b"GET / HTTP/1.2", b"GET /",
    b"GET /a#b HTTP/1.1", b"GET /\xe9 HTTP/1.1", b"GET /" + b"a" * 100 + b" HTTP/1.1",
    b"GET /!\"$%&'()*+,-.:;<=>?@[\\]^_`{|}~ HTTP/1.1", b"GET / HTTP/1.1 ", b"PRI * HTTP/2.0",
    b"SOURCE / HTTP/1.1", b"GET / ICE/1.0", b"DESCRIBE / RTSP/1.0", b"M-SEARCH / HTTP/1.1",
]  # fmt: skip
_STATUS_LINES = [
    b"HTTP/1.1 200 OK", b"HTTP/1.0 200 OK", b"HTTP/1.1 404 Not Found", b"HTTP/1.1 204 No Content",
    b"HTTP/1.1 304 Not Modified", b"HTTP/1.1 103 Early Hints", b"HTTP/1.1 100 Continue",
    b"HTTP/1.1 101 Switching Protocols", b"HTTP/1.1 426 Upgrade Required", b"HTTP/1.1 204",
    b"HTTP/1.1 204 ", b"HTTP/1.1 999 \xe9", b"HTTP/1.1 099 X", b"HTTP/1.1 1000 X",
    b"HTTP/2.0 200 OK", b"HTTP/1.1 2x0 X", b"ICY 200 OK",
    b"HTTP/1.1  200 OK", b"HTTP/1.1 200  OK", b"HTTP/1.1 200\tOK",
    b"HTTP/1.1 500 Internal Server Error", b"HTTP/1.1 000 X", b"http/1.1 200 OK",
]  # fmt: skip
_USUAL_REQUEST = [
    b"Host: www.example.com", b"User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:109.0)",
    b"Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8", b"Accept-Language: en-US,en;q=0.5",
    b"Accept-Encoding: gzip, deflate, br", b"Cookie: session=0123456789abcdef",
    b"Connection: keep-alive", b"Cache-Control: max-age=0",
]  # fmt: skip
_USUAL_REPLY = [
    b"Server: nginx/1.22.1", b"Date: Sun, 06 Nov 1994 08:49:37 GMT", b"Content-Type: text/plain",
    b"Content-Length: 5", b"Connection: keep-alive", b"ETag: \"5f-1\"", b"Accept-Ranges: bytes",
]  # fmt: skip


def joined(first: bytes, lines: list[bytes]) -> bytes:
    """A head of these lines."""
    return b"\r\n".join((first, *lines, b"", b""))


REQUESTS = [joined(first, _USUAL_REQUEST) for first in _REQUEST_LINES] + [
    joined(_REQUEST_LINES[0], [b"Host: app", line]) for line in LINES
]
REPLIES = [joined(first, _USUAL_REPLY) for first in _STATUS_LINES] + [
    joined(_STATUS_LINES[0], [line]) for line in LINES
]


def mutated(seeds: list[bytes], dice: random.Random) -> bytes:
    """One of the heads, changed in up to four ways; it ends with its first empty line."""
    head = dice.choice(seeds)
    for _ in range(dice.choice((0, 1, 1, 1, 2, 2, 3, 4))):
        way = dice.random()
        if way < 0.55:
            # Lines come, go and change places.
            first, *lines = head[:-4].split(b"\r\n")
            change = dice.random()
            if change < 0.7 or not lines:
                lines.insert(dice.randint(0, len(lines)), dice.choice(LINES))
            elif change < 0.85:
                del lines[dice.randrange(len(lines))]
            else:
                dice.shuffle(lines)
            head = joined(first, lines)
            continue
        at = dice.randint(0, len(head))
        if way < 0.7:
            head = head[:at] + dice.choice(SCRAPS) + head[at:]
        elif way < 0.8:
            head = head[:at] + bytes((dice.randrange(256),)) + head[at + 1 :]
        elif way < 0.87:
            head = head[:at] + head[at + dice.randint(1, 6) :]
        elif way < 0.93:
            # The case of a letter changes.
            head = head[:at] + head[at : at + 1].swapcase() + head[at + 1 :]
        else:
            other = dice.choice(seeds)
            head = head[:at] + other[dice.randint(0, len(other)) :]
    return head[: head.index(END) + 4] if END in head else head.rstrip(b"\r\n") + END


def heads(seeds: list[bytes], seed: int) -> Iterator[bytes]:
    """Heads without end; the same ones for the same number ``seed``."""
    dice = random.Random(seed)
    yield from seeds
    while True:
        yield mutated(seeds, dice)


def described(outcome: Any) -> Any:
    """All fields of a request or a reply, or the reason of its refusal."""
    if isinstance(outcome, BadMessage):
        return outcome.status, outcome.message
    values = {name: getattr(outcome, name) for name in dir(outcome) if name[0] != "_"}
    if isinstance(outcome, Request) and outcome.told is not None:
        values["told"] = described(outcome.told)
    return {name: value for name, value in values.items() if not callable(value)}


def outcome_of(parse: Callable[..., Any], *arguments: Any) -> Any:
    """What ``parse`` returns, or its BadMessage; no other exception may come."""
    try:
        return parse(*arguments)
    except BadMessage as error:
        return error


def written(request: Request) -> bytes:
    """The head that a server gets."""
    request.peer = request.address = b"192.0.2.1"
    return request_head(request, RequestIds(b"id"), "10.0.0.1:80")


def check_request(head: bytes, behind: bytes = b"") -> bool:
    """Whether the fast form reads the head; if it does, both forms must agree in everything.

    ``behind`` is what stands behind the head, which must make no difference.
    """
    fast = read_request(head + behind)
    if fast is None:
        return False
    whole = described(parse_request(head))
    assert fast.head == head
    block = fast.block()
    assert block == b"\r\n".join(whole["lines"])
    again = read_request(head)
    assert again is not None
    sent = written(again)
    assert sent == written(parse_request(head))
    assert described(fast) == whole
    # llhttp has been asked by parse_request, and takes what the server gets, too.
    try:
        judge.request(sent)
    except httptools.HttpParserUpgrade:
        assert fast.upgrade is not None
    return True


def check_reply(head: bytes, method: bytes = b"GET", behind: bytes = b"") -> bool:
    """Whether the fast form reads the head; if it does, both forms must agree in everything."""
    fast = read_reply(head + behind, method)
    if fast is None:
        return False
    whole = described(parse_reply(head, method))
    assert fast.client_status() == fast.status
    assert fast.head == b""
    fast.head = head
    assert fast.block() == b"\r\n".join(whole["lines"])
    assert described(fast) == whole
    return True
