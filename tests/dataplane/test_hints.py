"""Hints on the wire: a reply's, and what the client gets of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_twisted

from slardar.config import Limits, Timeouts
from tests.integration.sockets import Connection, Origin, Served, in_thread, reply

pytestmark = pytest.mark.real


@pytest_twisted.async_yield_fixture
async def served() -> AsyncIterator[Served]:
    """A data plane that serves."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    served = Served(reactor, Limits(), Timeouts())
    await served.begin("tcp:0:interface=127.0.0.1")
    yield served
    await served.end()


def drains(connection: Connection) -> None:
    """A server that wants no more requests."""
    head = b"HTTP/1.1 200 OK\r\nX-Slardar-Hint: drain\r\nContent-Length: 5\r\n\r\n"
    while connection.request() is not None:
        connection.send(head + b"drain")


@pytest.fixture
def origins() -> Iterator[tuple[Origin, Origin]]:
    """A server that drains, and one that says nothing."""
    made = (Origin(drains), Origin())
    yield made
    for origin in made:
        origin.stop()


@in_thread
def test_hint_of_a_reply(served: Served, origins: tuple[Origin, Origin]) -> None:
    """With the key it is heeded and taken out; without it the header is one like others."""
    servers = [origin.server for origin in origins]
    served.put("up", servers=servers)
    with served.client() as client:
        got = [client.get("/") for _ in range(4)]
        assert ["x-slardar-hint" in one.headers for one in got] == [True, False, True, False]
        served.put("up", servers=servers, hints=True)
        got = [client.get("/") for _ in range(5)]
        assert not any("x-slardar-hint" in one.headers for one in got)
        assert sum(one.body == b"drain" for one in got) == 1


def switches(connection: Connection) -> None:
    """A server that says something of itself before its final reply, or instead of one."""
    head = b"X-Slardar-Hint: %b\r\n"
    while (asked := connection.request()) is not None:
        connection.send(b"HTTP/1.1 103 Early\r\nLink: </a>\r\n" + head % b"weight=7" + b"\r\n")
        if asked[0].startswith("GET /switch "):
            lines = b"Connection: Upgrade\r\nUpgrade: echo\r\n"
            connection.send(b"HTTP/1.1 101 Go\r\n" + lines + head % b"drain" + b"\r\n")
            return
        connection.send(reply())


@in_thread
def test_hint_of_an_interim_reply(served: Served) -> None:
    """Hints of 103 and 101 are heeded and taken out, too."""
    origin = Origin(switches)
    served.put("up", servers=[origin.server], hints=True)
    try:
        with served.client() as client:
            client.ask("/")
            for status in (103, 200):
                got, headers = client.head()
                assert got == status
                assert "x-slardar-hint" not in headers
            assert client.exactly(2) == b"ok"
            assert served.live_of(origin).weight == 7
            client.ask("/switch", "up", "GET", "Connection: Upgrade", "Upgrade: echo")
            for status in (103, 101):
                got, headers = client.head()
                assert got == status
                assert "x-slardar-hint" not in headers
            assert served.live_of(origin).drains
    finally:
        origin.stop()
