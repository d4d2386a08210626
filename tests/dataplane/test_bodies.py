"""Bodies that hooks read, over real sockets: through listeners, and through twisted.web."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from slardar.config import Hooks, Limits, Settings, Timeouts
from slardar.web import StreamingRequest
from tests.embedded import Embedded
from tests.hooks.kit import hook, hooks
from tests.integration.sockets import (
    Client,
    Connection,
    Origin,
    Served,
    in_thread,
    reply,
    wait_for,
)

pytestmark = pytest.mark.real

#: A usual hook: it checks JSON and rewrites it.
SCRIPT = """
import json

def on_request(request):
    if request.method != "POST":
        return
    if request.body_too_large:
        request.headers["X-Large"] = "1"
        return
    try:
        order = json.loads(request.body)
    except ValueError:
        return request.reject(400, "expected JSON")
    order["by"] = request.client
    request.body = json.dumps(order)
"""


def echo(connection: Connection) -> None:
    """Answer with the body of the request."""
    while (asked := connection.request()) is not None:
        _, headers, body = asked
        large = headers.get("x-large", "0")
        connection.send(reply(body, 200, f"X-Large: {large}", f"X-Size: {len(body)}"))


@pytest_twisted.async_yield_fixture(params=["plain", "tls"])
async def served(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Served]:
    """A data plane that serves clients without TLS, or with it."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    folder = tmp_path if request.param == "tls" else None
    served = Served(reactor, Limits(), Timeouts(), folder=folder)
    await served.begin("tcp:0:interface=127.0.0.1")
    yield served
    # Their budget's timer would tick on.
    served.plane._plane_hooks.get_runner().load({})
    await served.end()


@pytest.fixture
def origin() -> Iterator[Origin]:
    """A server that returns the bytes that it got."""
    made = Origin(echo)
    yield made
    made.stop()


def run_script(served: Served, code: str) -> None:
    """Run ``code`` for every host."""
    served.snapshot = served.snapshot.with_hooks(hooks(hook("script.*", code)))
    served.run(served.plane.apply, served.snapshot, [])


def head_of(length: int, *lines: str) -> bytes:
    """The head of a POST."""
    first = ("POST / HTTP/1.1", "Host: up", f"Content-Length: {length}", *lines)
    return "\r\n".join((*first, "", "")).encode()


def ask(client: Client, body: bytes) -> Any:
    """One POST with its body right after its head."""
    client.send(head_of(len(body)))
    client.send(body)
    return client.reply()


@in_thread
def test_json_is_checked_and_rewritten(served: Served, origin: Origin) -> None:
    """All on one connection, also refused requests."""
    served.put("up", origin)
    run_script(served, SCRIPT)
    with served.client() as client:
        for _ in range(3):
            got = ask(client, b'{"a": 1}')
            assert json.loads(got.body) == {"a": 1, "by": "127.0.0.1"}
            assert ask(client, b"no").status == 400
            assert client.get("/").status == 200
    assert len(origin.connections) == 1
    assert served.statistic("refused") == 3
    assert served.statistic("requests") == 9


@in_thread
def test_client_that_expects_a_100(served: Served, origin: Origin) -> None:
    """It gets a 100 before a server is chosen."""
    served.put("up", origin)
    run_script(served, SCRIPT)
    with served.client() as client:
        client.send(head_of(8, "Expect: 100-continue"))
        assert client.head()[0] == 100
        assert origin.connections == []
        client.send(b'{"a": 1}')
        assert client.reply().status == 200


@in_thread
def test_large_uploads_stream(served: Served, origin: Origin) -> None:
    """Bodies beyond the limit go to the server as they arrive, with a length or in chunks."""
    served.put("up", origin)
    run_script(served, SCRIPT)
    body = bytes(range(256)) * 8192
    with served.client() as client:
        client.send(head_of(len(body)))
        client.send(body[:1000])
        wait_for(lambda: origin.connections, "the request's way to the server")
        client.send(body[1000:])
        got = client.reply()
        assert (got.headers["x-large"], got.headers["x-size"]) == ("1", str(len(body)))
        assert got.body == body
        client.send(b"POST / HTTP/1.1\r\nHost: up\r\nTransfer-Encoding: chunked\r\n\r\n")
        for start in range(0, len(body), 50_000):
            piece = body[start : start + 50_000]
            client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        client.send(b"0\r\n\r\n")
        assert client.reply().body == body
        assert json.loads(ask(client, b"{}").body) == {"by": "127.0.0.1"}


@in_thread
def test_many_slow_clients_and_a_fast_one(served: Served, origin: Origin) -> None:
    """The slow clients' bodies stay within the room, and never delay the fast client."""
    served.put("up", origin)
    run_script(served, SCRIPT)
    room = served.plane.bodies
    room.free = whole = 100_000
    slow = [served.client() for _ in range(50)]
    for client in slow:
        client.send(head_of(5001))
        client.send(b"x" * 5000)
    # Each of them waits, or has its refusal: what came later would be newer than the fast client.
    wait_for(lambda: len(room) + sum(client.is_answered() for client in slow) == len(slow))
    assert whole - room.free > 80_000
    with served.client() as client:
        assert ask(client, b'{"a": "%b"}' % (b"x" * 60_000)).status == 200
    assert room.free >= 0
    assert slow[0].reply().status == 503
    for client in slow:
        client.close()
    wait_for(lambda: room.free == whole, "the end of the slow clients")
    assert len(room) == 0


# Through twisted.web.


@pytest_twisted.async_yield_fixture
async def embedded() -> AsyncIterator[Embedded]:
    """A site that serves nothing yet."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    embedded = Embedded(reactor)
    yield embedded
    for proxy in embedded._proxies:
        proxy.plane._plane_hooks.get_runner().load({})
    await embedded.stop()


WEB = """
def on_request(request):
    if request.body_too_large:
        request.headers["X-Large"] = "1"
    elif b"no" in request.body:
        request.reject(403)
    elif b"up" in request.body:
        request.body = request.body.upper()
"""


@pytest.mark.parametrize("factory", [None, StreamingRequest])
@pytest.mark.parametrize("upstream", [None, "app"])
@pytest.mark.parametrize("chunked", [False, True])
@pytest_twisted.ensureDeferred
async def test_bodies_through_a_site(
    embedded: Embedded, factory: Any, upstream: str | None, chunked: bool
) -> None:
    """Hooks see bodies, read beforehand or as they arrive, for each way to find the upstream."""
    origin, server = await embedded.origin()
    proxy = embedded.proxy(
        {
            "upstreams": {"app": {"servers": [server]}},
            "default_upstream": "app",
            "hooks": {"body": 1000},
        },
        upstream,
    )
    snapshot = proxy.plane._snapshot.with_hooks(hooks(hook("script.*", WEB)))
    await proxy.plane.apply(snapshot, [])
    await embedded.serve(proxy, factory)
    seen = 0
    for body, status, arrives in (
        (b"yes", 200, b"yes"), (b"no", 403, None), (b"up" * 9, 200, b"UP" * 9), (b"", 200, b""),
        (b"no" * 5000, 200, b"no" * 5000), (b"x" * 1000, 200, b"x" * 1000),
    ):  # fmt: skip
        client = await embedded.connect()
        client.verbs = [b"POST"]
        head = b"POST /x HTTP/1.1\r\nHost: app\r\nConnection: close\r\n"
        if chunked:
            pieces = [body[:400], body[400:]]
            await client.send(head + b"Transfer-Encoding: chunked\r\n\r\n")
            for piece in pieces:
                if piece:
                    await client.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            await client.send(b"0\r\n\r\n")
        else:
            await client.send(head + b"Content-Length: %d\r\n\r\n" % len(body))
            await client.send(body)
        await client.until(lambda client=client: client.ended)  # type: ignore[misc]
        (got,) = client.replies()
        assert got.status == status
        if arrives is not None:
            seen += 1
            assert origin.seen()[-1].body == arrives
            assert origin.seen()[-1].all(b"x-large") == ([b"1"] if len(body) > 1000 else [])
        assert len(origin.seen()) == seen
    assert len(proxy.plane.bodies) == 0


@pytest_twisted.ensureDeferred
async def test_site_answers_expect(embedded: Embedded) -> None:
    """This also holds if the body is read as it arrives."""
    _, server = await embedded.origin()
    proxy = embedded.proxy({"upstreams": {"app": {"servers": [server]}}}, "app")
    snapshot = proxy.plane._snapshot.with_hooks(hooks(hook("script.*", WEB)))
    await proxy.plane.apply(snapshot, [])
    await embedded.serve(proxy, StreamingRequest)
    client = await embedded.connect()
    client.verbs = [b"POST"]
    await client.send(
        b"POST / HTTP/1.1\r\nHost: app\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n"
    )
    await client.until(lambda: b"100 Continue\r\n\r\n" in client.data)
    await client.send(b"no")
    await client.until(lambda: b" 403 " in client.data)
    client.transport.abortConnection()
    assert client.data.count(b"100 Continue") == 1


@pytest.mark.real(False)
def test_setting_reaches_the_plane(hand: Any) -> None:
    """``hooks.body`` is in bytes."""
    from slardar.balancers.wrr import WeightedRoundRobin
    from slardar.dataplane.proxy import DataPlane
    from slardar.model.live import Live

    settings = Settings(hooks=Hooks(body=123))
    plane = DataPlane(hand, settings, Live(), lambda mode: WeightedRoundRobin)
    assert plane.hook_body == 123
