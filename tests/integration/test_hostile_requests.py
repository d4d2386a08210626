"""A corpus of hostile and odd requests, through a real data plane to a real server.

Each is sent in one piece and again byte by byte (long ones in 100 pieces): how bytes
are cut into packets must change nothing.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted

from tests.integration.hostile_requests import (
    BROKEN,
    PASSED,
    REFUSED,
    SMUGGLED,
    Broken,
    Passed,
    Refused,
)
from tests.integration.wire import Proxied, RawClient

PIECES = pytest.mark.parametrize("pieces", [1, 100], ids=["whole", "pieces"])


def _named(case: Any) -> str:
    return str(case.name).replace(" ", "-")


@pytest_twisted.async_yield_fixture(scope="module", params=["plain", "tls"])
async def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Proxied]:
    """A data plane and its server, shared by all of this module."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    folder = tmp_path_factory.mktemp("ca") if request.param == "tls" else None
    proxied = Proxied(reactor, folder)
    await proxied.start()
    yield proxied
    await proxied.stop()


async def _send(proxied: Proxied, sent: bytes, pieces: int, half_close: bool = False) -> RawClient:
    proxied.origin.forget()
    client = await proxied.connect()
    if len(sent) < 300 and pieces > 1:
        pieces = len(sent) or 1
    await client.send(sent, pieces)
    if half_close:
        await client.end()
    return client


def _check_error(proxied: Proxied, client: RawClient, status: int) -> None:
    (reply,) = client.replies()
    assert reply.status == status
    assert reply.complete
    assert reply.all(b"connection") == [b"close"]
    assert reply.all(b"content-type") == [b"application/json"]
    assert b'"status": %d' % status in reply.body
    assert not client.broken


@pytest.mark.parametrize("case", REFUSED, ids=_named)
@PIECES
@pytest_twisted.ensureDeferred
async def test_refused(proxied: Proxied, case: Refused, pieces: int) -> None:
    """The client gets one error and the end; the server gets no byte of the request, nor of
    the bytes after it."""
    client = await _send(proxied, case.sent + SMUGGLED, pieces)
    await client.until(lambda: client.ended)
    _check_error(proxied, client, case.status)
    await proxied.settle()
    assert proxied.origin.seen() == []
    assert proxied.origin.unfinished() == []


@pytest.mark.parametrize("case", BROKEN, ids=_named)
@PIECES
@pytest_twisted.ensureDeferred
async def test_broken_body(proxied: Proxied, case: Broken, pieces: int) -> None:
    """The client gets one error and the end; the server never gets the whole request, and its
    connection is closed."""
    client = await _send(proxied, case.sent + SMUGGLED, pieces)
    await client.until(lambda: client.ended)
    _check_error(proxied, client, case.status)
    await proxied.settle()
    assert proxied.origin.seen() == []
    for connection in list(proxied.origin.connections):
        if connection.rest:
            await connection.until(lambda gone=connection: gone.ended)
            assert b"/smuggled" not in connection.rest


@pytest.mark.parametrize("case", PASSED, ids=_named)
@PIECES
@pytest_twisted.ensureDeferred
async def test_passed(proxied: Proxied, case: Passed, pieces: int) -> None:
    """The server gets exactly the intended requests, with exactly these headers."""
    client = await _send(proxied, case.sent, pieces, case.half_close)
    client.verbs = [line.split(b" ")[0] for line, _ in case.seen]
    statuses = list(case.statuses or [200] * len(case.seen))
    if case.open:
        await client.until(lambda: len(client.finals()) == len(statuses))
        # The connection is still in step: the next bytes are read as the next request.
        await client.send(b"GET /settle-here HTTP/1.1\r\nHost: app\r\n\r\n")
        await client.until(lambda: len(client.finals()) > len(statuses))
        last = client.finals()[-1]
        assert (last.status, last.body) == (200, b"/settle-here")
        replies = client.finals()[:-1]
    else:
        await client.until(lambda: client.ended)
        replies = client.replies()
    assert [reply.status for reply in replies] == statuses
    assert all(reply.complete for reply in replies)
    await proxied.settle()
    await proxied.leave(client)
    seen = proxied.origin.seen()
    assert [(request.first, request.body) for request in seen] == list(case.seen)
    if not seen:
        assert not any(b"smuggled" in rest for rest in proxied.origin.unfinished())
        return
    assert proxied.origin.unfinished() == []
    for name, value in case.has:
        assert seen[-1].all(name) == [value]
    for name in case.lacks:
        assert seen[-1].all(name) == []
    assert seen[-1].trailers == case.trailers
    # Nobody is trusted here.
    assert seen[-1].all(b"x-forwarded-proto") == [proxied.scheme]
    for name in (b"x-forwarded-for", b"x-forwarded-host", b"x-request-id"):
        assert len(seen[-1].all(name)) == 1
        assert seen[-1].all(name) != [b""]


@pytest.mark.real(False)
def test_corpus_is_large() -> None:
    """No case is there twice, and none is missing."""
    names = [case.name for cases in (REFUSED, BROKEN, PASSED) for case in cases]
    assert len(names) == len(set(names))
    assert len(names) >= 200


@pytest_twisted.ensureDeferred
async def test_error_page_by_accept(proxied: Proxied) -> None:
    """An error that slardar makes is a page for a browser and JSON for others."""
    for accept, kind, start in (
        (b"text/html,application/xhtml+xml,*/*;q=0.8", b"text/html; charset=utf-8", b"<!doctype"),
        (b"*/*", b"application/json", b'{"status": 413'),
        (b"application/json, text/html", b"application/json", b'{"status": 413'),
    ):
        client = await proxied.connect()
        await client.send(
            b"POST /a HTTP/1.1\r\nHost: app\r\nContent-Length: 99999\r\nAccept: %b\r\n\r\n" % accept
        )
        await client.until(lambda ended=client: ended.ended)
        (reply,) = client.replies()
        assert reply.status == 413
        assert reply.all(b"content-type") == [kind]
        assert reply.body.startswith(start)
