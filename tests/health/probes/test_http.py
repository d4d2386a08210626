"""``http``: what a reply says of the server."""

from __future__ import annotations

import pytest

from slardar.health.probes.base import ProbeOptions, Result
from slardar.health.probes.http import MAX_HEADS, Http
from tests.health.probes.kit import talk

QUERY = b"GET /status HTTP/1.1\r\nHost: x\r\n\r\n"
EARLY = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nServer: x\r\nX-Slardar-Hint: drain\r\nContent-Length: 5\r\n\r\nhello"


def probe(*failed: int, query: bytes = QUERY) -> Http:
    """A probe for which some statuses are failures."""
    return Http(ProbeOptions("http", http_query=query, failed_statuses=frozenset(failed)))


def result(*pieces: bytes, failed: tuple[int, ...] = (502,), query: bytes = QUERY) -> Result:
    """The result of one heartbeat."""
    return talk(probe(*failed, query=query).begin(), pieces).result


@pytest.mark.parametrize("status", [200, 204, 304, 404, 500, 503])
def test_status_is_good_unless_it_is_named(status: int) -> None:
    """``statuses`` alone decides, as for proxied replies."""
    reply = b"HTTP/1.1 %d Whatever\r\nContent-Length: 9\r\n\r\n" % status
    assert result(reply) == Result("ok")
    assert result(reply, failed=(502, status)) == Result("err", f"HTTP status {status}")


def test_body_is_not_waited_for() -> None:
    """The head alone gives the result, before anything else comes."""
    check = probe().begin()
    assert check.connected() == QUERY
    assert check.received(OK[:-6]) is None
    assert check.received(OK[-6:-5]) == Result("ok", "", {}, "drain")


def test_interim_reply_is_not_the_reply() -> None:
    """1xx replies are passed over, each alone and all in one piece; 101 is final."""
    refused = b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"
    assert result(EARLY + EARLY + refused).message == "HTTP status 502"
    assert result(EARLY, EARLY, refused).message == "HTTP status 502"
    upgrade = b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n"
    assert result(upgrade) == Result("ok")


def test_reply_to_head_may_announce_a_body() -> None:
    """The method of the query decides how the reply is read."""
    reply = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"
    assert result(reply, query=b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n") == Result("ok")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "the server closed the connection without a reply"),
        (EARLY, "the server closed the connection in the middle of its reply"),
        (OK[:30], "the server closed the connection in the middle of its reply"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "the server's reply is not HTTP/1"),
        (b"-ERR unknown command 'GET'\r\n", "the server's reply is not HTTP/1"),
        (b"HTTP/2 200\r\n\r\n", "the server's reply is not HTTP/1"),
        (b"HTTP/1.1 200 OK\r\nA : b\r\nC: d\r\n\r\n", "the server's reply is malformed: "),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
            "the server's reply has an unknown transfer coding",
        ),
        (b"HTTP/1.1 200 OK\r\nA: " + b"b" * MAX_HEADS, f"has more than {MAX_HEADS} bytes"),
        (EARLY * 1000 + OK, f"has more than {MAX_HEADS} bytes"),
    ],
)
def test_what_is_no_reply_is_a_failure(data: bytes, says: str) -> None:
    """What the data plane would not pass on fails; and it fails at the first wrong byte."""
    assert says in result(data).message
    assert result(data).status == "err"


def test_wrong_reply_fails_without_waiting_for_its_end() -> None:
    """A server of another protocol that waits for the client is found out at once."""
    check = probe().begin()
    check.connected()
    assert isinstance(check.received(b"+OK POP3 ready\r\n"), Result)


def test_hint_is_found_in_any_reply() -> None:
    """It is short and readable, and needs not pass to clients."""
    hint = b"X-Slardar-Hint:  weight=5 \r\n"
    assert result(b"HTTP/1.1 502 No\r\n" + hint + b"\r\n").hint == "weight=5"
    named = b"Connection: close, x-slardar-hint\r\n"
    assert result(b"HTTP/1.1 200 OK\r\n" + named + hint + b"\r\n").hint == "weight=5"
    long = b"X-Slardar-Hint: " + b"x" * 5000 + b"\r\n"
    assert len(result(b"HTTP/1.1 200 OK\r\n" + long + b"\r\n").hint) <= 200
