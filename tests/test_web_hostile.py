"""The corpus of hostile and odd requests, through a twisted.web site.

twisted.web parses first, and more leniently; whatever it lets through must be refused
behind it, or be passed on as the one thing that it can mean.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted

from slardar.web import StreamingRequest
from tests.embedded import Embedded
from tests.integration.hostile_requests import (
    BROKEN,
    PASSED,
    REFUSED,
    SMUGGLED,
    Broken,
    Passed,
    Refused,
)
from tests.integration.wire import LIMITS, RawClient, RawOrigin

pytestmark = pytest.mark.real

#: Cases that twisted.web makes harmless: folded lines become one (RFC 9112 5.2 allows
#: this), zeros before a number are ignored, ``*`` is answered by the site, and bytes after
#: the last chunk are dropped up to an empty line.
TAMED = {
    "folded",
    "folded by tab",
    "folded empty value",
    "CL folded",
    "CL of zeros",
    "TE folded",
    "TE tab behind",
    "TE blank before name",
    "size of many zeros",
    "asterisk with GET",
    "LF ends the body",
    "request behind no end",
    "trailer folded",
    "trailer without colon",
    "trailer without name",
    "trailer blank before colon",
    "trailer with NUL",
    "trailer with CR",
    "trailer with LF",
    "trailers too large",
    "trailer too long",
}
#: Sizes so large that twisted.web waits for ever for the rest of the chunk.
WAITS = {"size overflow", "size overflow to zero"}
#: Bodies that are too large, for which twisted.web waits unless it streams.
WAITS_READING = {
    "CL overflow",
    "CL far too many digits",
    "CL largest",
    "CL one too large",
    "one chunk larger than the limit",
}
#: Cases that twisted.web answers itself, cannot do, or refuses.
OTHERWISE = {
    "blank lines before it",
    "bare LF before it",
    "chunk blanks",
    "OPTIONS of the server",  # twisted.web's own answer
    "half-closed",  # a client that closes its side has left
    "two, then half-closed",
}
#: Headers that are not passed on, because twisted.web cannot use the answer to them.
NOT_PASSED = (b"te", b"connection", b"upgrade", b"trailer", b"expect")


@pytest_twisted.async_yield_fixture(scope="module", params=[None, StreamingRequest])
async def site(request: Any) -> AsyncIterator[tuple[Embedded, RawOrigin]]:
    """A site that is all proxy, which reads bodies first, or streams."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    embedded = Embedded(reactor)
    origin, server = await embedded.origin()
    limits = {"head": LIMITS.head, "url": LIMITS.url, "body": LIMITS.body}
    config = {
        "upstreams": {"app": {"servers": [server]}},
        "default_upstream": "app",
        "limits": limits,
        "timeouts": {"linger": 0.05},
    }
    await embedded.serve(embedded.proxy(config), request.param)
    yield embedded, origin
    await embedded.stop()


def _named(case: Any) -> str:
    return str(case.name).replace(" ", "-")


async def _send(embedded: Embedded, sent: bytes) -> RawClient:
    client = await embedded.connect()
    await client.send(sent)
    return client


def _first_lines(origin: RawOrigin) -> list[bytes]:
    return [request.first for request in origin.seen()]


@pytest.mark.parametrize("case", REFUSED + BROKEN, ids=_named)
@pytest_twisted.ensureDeferred
async def test_refused(site: tuple[Embedded, RawOrigin], case: Refused | Broken) -> None:
    """The client gets an error and then the end; the server never gets the whole request, nor
    the bytes after it."""
    embedded, origin = site
    origin.forget()
    known = list(origin.connections)
    client = await _send(embedded, case.sent + SMUGGLED)
    waits = case.name in WAITS or (case.name in WAITS_READING and not embedded.streams)
    if waits or case.name in TAMED:
        if not waits:
            await client.until(lambda: b"\r\n\r\n" in client.data)
        await embedded_settle(embedded, origin)
        client.transport.abortConnection()
        await client.until(lambda: client.ended)
        for line in _first_lines(origin):
            assert not waits
            assert line in (b"GET /a HTTP/1.1", b"POST /a HTTP/1.1", b"GET /smuggled HTTP/1.1")
        return
    await client.until(lambda: client.ended)
    assert client.data[:10] in (b"HTTP/1.1 4", b"HTTP/1.1 5", b"HTTP/1.0 4", b"HTTP/1.0 5"), (
        client.data
    )
    first, _, rest = client.data.partition(b"\r\n\r\n")
    if b"HTTP/1." in rest:
        # twisted.web found the body malformed after slardar had refused the request and
        # told the client that the connection ends.
        assert embedded.streams
        assert b"\r\nConnection: close" in first
        assert rest.endswith(b"HTTP/1.1 400 Bad Request\r\n\r\n")
    await embedded_settle(embedded, origin)
    assert _first_lines(origin) == []
    for connection in [each for each in origin.connections if each not in known]:
        assert b"/smuggled" not in connection.rest
        if connection.rest:
            await connection.until(lambda gone=connection: gone.ended)


async def embedded_settle(embedded: Embedded, origin: RawOrigin) -> None:
    """Wait until the server has read all bytes that were written to it before."""
    for _ in range(2):
        client = await embedded.ask(
            b"GET /settle HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
        )
        assert client.replies()[0].body == b"/settle"


@pytest.mark.parametrize(
    "case", [case for case in PASSED if case.name not in OTHERWISE], ids=_named
)
@pytest_twisted.ensureDeferred
async def test_passed(site: tuple[Embedded, RawOrigin], case: Passed) -> None:
    """The server gets exactly the intended requests, with the header rules of a listener."""
    embedded, origin = site
    origin.forget()
    client = await _send(embedded, case.sent)
    if case.half_close:
        client.transport.loseWriteConnection()
        await client.until(lambda: client.ended)
    elif case.open:
        await client.send(b"GET /last HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
        await client.until(lambda: client.ended)
    else:
        await client.until(lambda: client.ended)
    await embedded_settle(embedded, origin)
    seen = [each for each in origin.seen() if b" /last " not in each.first]
    assert [(request.first, request.body) for request in seen] == list(case.seen)
    assert not any(b"smuggled" in rest for rest in origin.unfinished())
    if not seen:
        return
    for name, value in case.has:
        if name not in NOT_PASSED:
            assert seen[-1].all(name) == [value]
    for name in case.lacks:
        assert seen[-1].all(name) == []
    for name in (b"te", b"connection", b"upgrade", b"trailer"):
        assert seen[-1].all(name) == []
    for name in (b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"x-request-id"):
        assert len(seen[-1].all(name)) == 1
