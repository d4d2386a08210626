"""The bytes of the plays: requests, replies, and functions that read them."""

from __future__ import annotations

import re

GET = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n"
GET_10 = b"GET / HTTP/1.0\r\nHost: a.test\r\n\r\n"
GET_10_KEPT = b"GET / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"
CHUNKED_OK = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
UPGRADE = b"GET /chat HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


def get(path: str, *headers: str) -> bytes:
    """A GET of ``path`` with more header lines."""
    return "\r\n".join((f"GET {path} HTTP/1.1", "Host: a.test", *headers, "", "")).encode()


def post(body: bytes, *headers: str, method: str = "POST") -> bytes:
    """A request with a body of known length."""
    lines = (f"{method} /in HTTP/1.1", "Host: a.test", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body


def post_chunked(*headers: str, method: str = "POST") -> bytes:
    """The head of a request whose body comes in chunks."""
    lines = (f"{method} /in HTTP/1.1", "Host: a.test", "Transfer-Encoding: chunked", *headers)
    return "\r\n".join((*lines, "", "")).encode()


def reply(body: bytes, *headers: str, status: str = "200 OK") -> bytes:
    """A reply with a body of known length."""
    lines = (f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers)
    return "\r\n".join((*lines, "", "")).encode() + body


def statuses(data: bytes) -> list[int]:
    """The statuses of the replies in ``data``, in their order."""
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", data)]


def paths(data: bytes) -> list[bytes]:
    """The targets of the requests in ``data``, in their order."""
    return re.findall(rb"[A-Z]+ (\S+) HTTP/1\.1\r\n", data)


def body_of(data: bytes) -> bytes:
    """The bytes after the first head."""
    return data.partition(b"\r\n\r\n")[2]
