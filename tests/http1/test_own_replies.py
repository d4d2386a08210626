"""Errors that slardar makes itself."""

from __future__ import annotations

import json

import pytest

from slardar.http1.own_replies import error_reply, status_line


def test_json() -> None:
    """Clients that did not ask for a page get status and reason as JSON."""
    reply, body = error_reply(502, 'no "x"')
    assert reply.status == 502
    assert reply.lines == [b"HTTP/1.1 502 Bad Gateway", b"Content-Type: application/json"]
    assert json.loads(body) == {"status": 502, "msg": 'no "x"'}
    assert body.endswith(b"\n")
    assert reply.length == reply.declared == len(body)
    assert reply.keep_alive


def test_page() -> None:
    """A browser gets a page in which no part of the message is markup."""
    reply, body = error_reply(404, '<script>"\xe9', "text/html, */*")
    assert reply.lines[1] == b"Content-Type: text/html; charset=utf-8"
    page = body.decode()
    assert page.startswith("<!doctype html>")
    assert "<h1>404 Not Found</h1><p>&lt;script&gt;&quot;\xe9</p>" in page
    assert reply.length == len(body)


@pytest.mark.parametrize(
    ("accept", "page"),
    [
        (None, False),
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        ("TEXT/HTML;q=0.9", True),
        ("text/html, application/json", True),
        ("application/json, text/html", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("text/plain", False),
    ],
)
def test_by_accept(accept: str | None, page: bool) -> None:
    """Of HTML and JSON the one that Accept names first; JSON if it names neither."""
    reply, _ = error_reply(500, "x", accept)
    assert (b"text/html" in reply.lines[1]) == page


def test_code() -> None:
    """A hook's exit shows its code."""
    reply, _ = error_reply(403, "x", code=1001)
    assert reply.lines[2] == b"X-Error-Code: 1001"


@pytest.mark.parametrize(
    ("status", "line"),
    [
        (504, b"HTTP/1.1 504 Gateway Timeout"),
        (421, b"HTTP/1.1 421 Misdirected Request"),
        (499, b"HTTP/1.1 499 Client Closed Request"),
        (799, b"HTTP/1.1 799 Error"),
    ],
)
def test_status_line(status: int, line: bytes) -> None:
    """Every status has a phrase."""
    assert status_line(status) == line
