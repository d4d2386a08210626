"""A corpus of hostile and odd replies, from a real server through a real data plane.

Each is sent in one piece and again byte by byte (long ones in 100 pieces).  After each,
other clients must get their own reply and nothing that this one left behind.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted

from tests.integration.hostile_replies import POISON, REPLIES, Case
from tests.integration.wire import Message, Proxied


def _named(case: Any) -> str:
    return str(case.name).replace(" ", "-")


@pytest_twisted.async_yield_fixture(scope="module", params=["plain", "tls", "behind"])
async def proxied(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Proxied]:
    """A data plane and its server, shared by all of this module."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    folder = tmp_path_factory.mktemp("ca")
    proxied = Proxied(
        reactor,
        folder if request.param == "tls" else None,
        folder if request.param == "behind" else None,
    )
    await proxied.start()
    yield proxied
    await proxied.stop()


def _answer_with(proxied: Proxied, sent: bytes, closes: bool, pieces: int) -> None:
    """Let the server answer /case with these bytes, and other paths as usual."""
    origin = proxied.origin
    origin.forget()
    if len(sent) < 300 and pieces > 1:
        pieces = len(sent) or 1

    async def answer(connection: Any, request: Message) -> None:
        if request.first.split(b" ")[1] != b"/case":
            await origin.answer_ok(connection, request)
            return
        await connection.send(sent, pieces)
        if closes and not connection.ended:
            connection.transport.loseConnection()

    origin.answer = answer


@pytest.mark.parametrize("case", REPLIES, ids=_named)
@pytest_twisted.ensureDeferred
async def test_reply(proxied: Proxied, case: Case) -> None:
    """The client gets the reply in the table, and the next client its own reply."""
    await _check_reply(proxied, case, 1)
    # How a server's bytes are cut says nothing to a client's TLS, and records are bytes.
    if proxied.is_plain:
        await _check_reply(proxied, case, 100)


async def _check_reply(proxied: Proxied, case: Case, pieces: int) -> None:
    _answer_with(proxied, case.sent, case.closes, pieces)
    client = await proxied.connect()
    client.verbs = [case.verb]
    await client.send(
        b"%b /case HTTP/%b\r\nHost: app\r\n%b\r\n" % (case.verb, case.version, case.asked)
    )
    status, body, complete, is_open = case.status, case.body, case.complete, case.open
    if case.cut_off and pieces > 1:
        status, body, complete, is_open = case.cut_off, None, False, False
    if is_open:
        await client.until(lambda: bool(client.finals()))
    else:
        await client.until(lambda: client.ended)
    if proxied.is_behind and case.version == b"1.0" and not complete and not client.data:
        # Reply and end came in one read, and the reset was there before the reply went out.
        assert client.broken
        return
    *interim, reply = client.replies()
    assert reply.status == status
    assert [each.status for each in interim] == list(case.interim)
    # For HTTP/1.0 the end of the connection ends a body; a reset does not.
    assert (reply.complete and not client.broken) == complete
    if body is not None:
        assert reply.body == body
    elif status == 502:
        assert b'"status": 502' in reply.body
    assert b"poison" not in client.data
    for name, values in case.has:
        assert tuple(reply.all(name)) == values
    for name in case.lacks:
        assert reply.all(name) == []
    assert reply.trailers == case.trailers

    # Another client, and this one again.
    last = proxied.origin.requests[-1][0]
    assert (await proxied.get(b"/after")).body == b"/after"
    connection, _ = proxied.origin.requests[-1]
    assert (connection is last) == case.kept
    if is_open:
        await client.send(b"GET /again HTTP/1.1\r\nHost: app\r\n\r\n")
        await client.until(lambda: len(client.finals()) == 2)
        assert client.finals()[1].body == b"/again"
    await proxied.leave(client)
    if not case.kept:
        await last.until(lambda: last.ended)
    seen = [request.first.split(b" ")[1] for request in proxied.origin.seen()]
    # A GET on a connection that turned out to be closed may be sent again, once.
    assert seen.count(b"/case") <= 2
    assert [target for target in seen if target != b"/case"] == [b"/after", b"/again"][
        : 1 + is_open
    ]


@pytest.mark.real(False)
def test_corpus_is_large() -> None:
    """No case is there twice, and none is missing."""
    names = [case.name for case in REPLIES]
    assert len(names) == len(set(names))
    assert len(names) >= 120


@pytest_twisted.ensureDeferred
async def test_reply_before_its_request(proxied: Proxied) -> None:
    """A reply that comes on an idle connection ends this connection: the next request gets its
    own reply on another one."""
    _answer_with(proxied, b"", False, 1)
    assert (await proxied.get(b"/before")).body == b"/before"
    connection, _ = proxied.origin.requests[-1]
    await connection.send(POISON)
    await connection.until(lambda: connection.ended)
    reply = await proxied.get(b"/next")
    assert reply.body == b"/next"
    assert proxied.origin.requests[-1][0] is not connection


@pytest_twisted.ensureDeferred
async def test_poison_and_request_at_once(proxied: Proxied) -> None:
    """A POST checks an idle connection before it uses it, so that a reply that waits there
    unread is never taken for its own."""
    _answer_with(proxied, b"", False, 1)
    assert (await proxied.get(b"/before")).body == b"/before"
    connection, _ = proxied.origin.requests[-1]
    # Both arrive before the plane has its next turn.
    client = await proxied.connect()
    connection.transport.write(POISON)
    await client.send(b"POST /post HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\n\r\nhi")
    await client.until(lambda: bool(client.finals()))
    (reply,) = client.finals()
    assert (reply.status, reply.body) == (200, b"/post")
    await proxied.leave(client)


@pytest_twisted.ensureDeferred
async def test_upgrade_that_was_asked_for(proxied: Proxied) -> None:
    """A 101 after an Upgrade makes a tunnel: bytes pass both ways, and so do the ends."""
    _answer_with(
        proxied,
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: x\r\n\r\nhello",
        False,
        1,
    )
    client = await proxied.connect()
    await client.send(
        b"GET /case HTTP/1.1\r\nHost: app\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    )
    await client.until(lambda: client.data.endswith(b"\r\n\r\nhello"))
    head = client.data[:-5]
    assert head.startswith(b"HTTP/1.1 101 Switching Protocols\r\n")
    assert head.count(b"Upgrade: websocket\r\n") == 1
    connection, _ = proxied.origin.requests[-1]
    await client.send(b"\x81\x00\r\n")
    await connection.until(lambda: connection.data.endswith(b"\x81\x00\r\n"))
    client.transport.loseConnection()
    await connection.until(lambda: connection.ended)
