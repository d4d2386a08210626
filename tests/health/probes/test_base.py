"""What probes share."""

from __future__ import annotations

import pytest

from slardar.errors import ConfigError
from slardar.health.probes.base import ProbeOptions, readable
from slardar.health.probes.general import General
from slardar.health.probes.http import Http
from tests.health.probes.kit import talk


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"Host is blocked", "Host is blocked"),
        (b" two\r\nlines\0 ", "two lines"),
        (b"\x1b[31mred\x07", "[31mred"),
        (b"caf\xc3\xa9 \xff", "café �"),
        (b"x" * 1000, "x" * 197 + "..."),
        (b"\n" * 1000, ""),
        (b"", ""),
    ],
)
def test_text_of_a_server_is_made_readable(data: bytes, text: str) -> None:
    """It is one short line that a terminal shows as it is."""
    assert readable(data) == text


def test_general_is_content_with_a_connection() -> None:
    """It sends nothing and waits for nothing."""
    found = talk(General(ProbeOptions()).begin())
    assert (found.result.status, found.sent) == ("ok", b"")


def test_http_without_a_query_is_general() -> None:
    """lua-resty-checkups does so, too."""
    found = talk(Http(ProbeOptions("http", failed_statuses=frozenset({502}))).begin())
    assert (found.result.status, found.sent) == ("ok", b"")


@pytest.mark.parametrize(
    "query",
    [
        b"GET /status",
        b"GET /status HTTP/1.1",
        b"GET /status HTTP/1.1\r\nHost: x\r\n",
        b"GET /status HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n",
        b"GET HTTP/1.1\r\n\r\n",
        b"GET / HTTP/2\r\n\r\n",
        b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        b"/status",
    ],
)
def test_query_that_is_no_whole_request_is_refused(query: bytes) -> None:
    """A server would wait for the rest, and every heartbeat would fail."""
    with pytest.raises(ConfigError, match=r"^http_opts\.query: expected a whole request such as"):
        Http(ProbeOptions("http", http_query=query))


@pytest.mark.parametrize(
    "query",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"HEAD /status?x=1 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.0\n\n",
        b"POST /x HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_query_is_sent_as_it_is(query: bytes) -> None:
    """slardar adds no header."""
    check = Http(ProbeOptions("http", http_query=query)).begin()
    assert talk(check, [b"HTTP/1.1 200 OK\r\n\r\n"]).sent == query
