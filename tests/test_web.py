"""ReverseProxyResource in a real twisted.web site, with real servers behind it."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.testing import MemoryReactorClock
from twisted.web.http_headers import Headers
from twisted.web.resource import IResource, Resource
from zope.interface.verify import verifyObject

from slardar.config import parse_settings
from slardar.dataplane.web_request import WebRequest
from slardar.dataplane.webheads import read_head, without_prefix
from slardar.errors import ConfigError
from slardar.http1.heads import BadMessage
from slardar.http1.reply import Reply
from slardar.model.networks import Networks
from slardar.testing.playbook import FakeObserver
from slardar.web import ReverseProxyResource, StreamingRequest, make_plane
from tests.certificates import Authority
from tests.embedded import Embedded
from tests.integration.programs import free_port
from tests.integration.sockets import Origin
from tests.integration.wire import RawClient

pytestmark = pytest.mark.real

GET = b"GET /x HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
EVIL = b"GET /evil HTTP/1.1\r\nHost: app\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest_twisted.async_yield_fixture
async def embedded() -> AsyncIterator[Embedded]:
    """A site that serves nothing yet."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    embedded = Embedded(reactor)
    yield embedded
    await embedded.stop()


class Page(Resource):
    """A page of the site, which shows the posted body."""

    isLeaf = True  # noqa: N815 Twisted's name

    def render(self, request: Any) -> bytes:
        return b"page " + request.content.read()


async def single(
    embedded: Embedded, factory: Any = None, timeout: float = 60, **config: Any
) -> Any:
    """The server of the only upstream of a site that is all proxy."""
    origin, server = await embedded.origin()
    upstream = {"servers": [server], **config.pop("upstream", {})}
    proxy = embedded.proxy({"upstreams": {"app": upstream}, "default_upstream": "app", **config})
    await embedded.serve(proxy, factory, timeout)
    return origin


def answer(origin: Any, data: bytes, close: bool = False) -> None:
    """Let the server answer every request with these bytes."""

    async def send(connection: Any, request: Any) -> None:
        await connection.send(data)
        if close:
            connection.transport.loseConnection()

    origin.answer = send


async def wait(embedded: Embedded, condition: Any) -> None:
    """Wait for a condition that no client's connection can show."""
    from tests.integration.wire import PATIENCE

    end = embedded.reactor.seconds() + PATIENCE
    while not condition():
        assert embedded.reactor.seconds() < end, "it did not happen in time"
        turn: Deferred[None] = Deferred()
        embedded.reactor.callLater(0.005, turn.callback, None)
        await turn


# Configuration.


@pytest.mark.real(False)
def test_is_a_resource() -> None:
    """It is an IResource that takes everything below its path."""
    resource = ReverseProxyResource.from_config(MemoryReactorClock(), {})
    assert verifyObject(IResource, resource)
    assert resource.isLeaf


@pytest.mark.real(False)
def test_wrong_configuration_is_refused() -> None:
    """Every mistake has a line with its path, and nothing is added to the reactor."""
    reactor = MemoryReactorClock()
    bad = {"upstreams": {"app": {"servers": [{"host": "x", "port": "y"}], "mode": "none"}}, "z": 1}
    with pytest.raises(ConfigError) as error:
        ReverseProxyResource.from_config(reactor, bad)
    assert any("upstreams.app.servers[0].port" in line for line in error.value.problems)
    with pytest.raises(ConfigError, match='upstreams: expected one named "other"'):
        ReverseProxyResource.from_config(reactor, {"upstreams": {}}, "other")
    settings = parse_settings(
        {"upstreams": {"app": {"servers": [{"host": "1.1.1.1", "port": 1}], "mode": "none"}}}
    )
    with pytest.raises(ConfigError, match=r"upstreams\.app\.mode: expected"):
        make_plane(reactor, settings)
    with pytest.raises(ConfigError, match="services: expected none"):
        make_plane(reactor, {"services": {"app": {"dns_service": "app.example"}}})
    assert reactor.getReaders() == []


@pytest.mark.real(False)
def test_plane_stops_with_the_reactor() -> None:
    """The plane drains once, before the reactor shuts down."""
    reactor = MemoryReactorClock()
    plane = make_plane(reactor, {})
    assert len(reactor.getReaders()) == 1
    ((trigger, arguments, keywords),) = reactor.triggers["before"]["shutdown"]
    assert trigger(*arguments, **keywords) is not None
    assert plane.draining
    assert reactor.getReaders() == []
    assert trigger(*arguments, **keywords) is None


# Heads.


def web_request(version: bytes, *headers: tuple[bytes, list[bytes]], uri: bytes = b"/x") -> Any:
    """A request of twisted.web with these headers."""
    known = Headers()
    for name, values in headers:
        known.setRawHeaders(name, [b"-"])
        # HTTP/2 appends to this list without checking the values.
        known.getRawHeaders(name)[:] = values  # type: ignore[index]
    return SimpleNamespace(
        method=b"GET",
        uri=uri,
        clientproto=version,
        requestHeaders=known,
        channel=SimpleNamespace(),
        isSecure=lambda: True,
        getClientAddress=lambda: SimpleNamespace(host="::1"),
    )


@pytest.mark.real(False)
def test_http2_head() -> None:
    """A request of HTTP/2 becomes one of HTTP/1.1, its cookies one header."""
    web = web_request(b"HTTP/2", (b"host", [b"app"]), (b"cookie", [b"a=1", b"b=2"]))
    request = read_head(web, 1000, 10, 100, Networks())
    assert (request.minor, request.host) == (1, "app")
    assert request.get_header("cookie") == "a=1; b=2"
    assert (request.scheme, request.address) == (b"https", b"::1")


@pytest.mark.real(False)
@pytest.mark.parametrize("value", [b"a\r\nX: y", b"a\ny", b"a\ry", b"a\r\n\r\nGET / HTTP/1.1"])
def test_line_breaks_in_a_value_are_refused(value: bytes) -> None:
    """A value that would become another header, or another request, is refused."""
    web = web_request(b"HTTP/2", (b"host", [b"app"]), (b"x", [value]))
    with pytest.raises(BadMessage):
        read_head(web, 1000, 10, 100, Networks())


@pytest.mark.real(False)
def test_head_too_large() -> None:
    """The plane's limits hold."""
    web = web_request(b"HTTP/1.1", (b"host", [b"app"]), (b"x", [b"y" * 1000]))
    with pytest.raises(BadMessage) as error:
        read_head(web, 1000, 10, 100, Networks())
    assert error.value.status == 431


@pytest.mark.real(False)
@pytest.mark.parametrize(
    ("target", "segments", "left"),
    [
        (b"/api/users?x=/y", 1, b"/users?x=/y"),
        (b"/api", 1, b"/"),
        (b"/api/", 1, b"/"),
        (b"/api?x", 1, b"/?x"),
        (b"/a%2Fb/c/d%2F", 2, b"/d%2F"),
        (b"/api//x", 1, b"//x"),
    ],
)
def test_without_prefix(target: bytes, segments: int, left: bytes) -> None:
    """Segments are left out as they were sent; the rest is a path."""
    assert without_prefix(target, segments) == left


# Requests and replies.


@pytest_twisted.ensureDeferred
async def test_balancer_adds_headers(embedded: Embedded) -> None:
    """The cookie of ``sticky`` gets into the server's reply, and not if the client has it."""
    options = {"mode": "sticky", "mode_opts": {"secret": "x" * 16}}
    await single(embedded, upstream=options)
    (reply,) = (await embedded.ask(GET)).replies()
    (cookie,) = reply.all(b"set-cookie")
    assert cookie.endswith(b"; Path=/; HttpOnly; SameSite=Lax")
    pair = cookie.partition(b";")[0]
    again = GET.replace(b"Connection", b"Cookie: a=b; %b\r\nConnection" % pair)
    (reply,) = (await embedded.ask(again)).replies()
    assert (reply.status, reply.all(b"set-cookie")) == (200, [])


@pytest_twisted.ensureDeferred
async def test_trusted_proxies(embedded: Embedded) -> None:
    """``trusted`` and ``forwarded`` hold here, too, and observers get the believed client."""
    sent = (
        b"GET / HTTP/1.1\r\nHost: app\r\nX-Forwarded-For: 6.6.6.6, 1.1.1.1\r\n"
        b"X-Forwarded-Proto: https\r\nX-Real-IP: 1.1.1.1\r\nForwarded: for=1.1.1.1\r\n"
        b"Connection: close\r\n\r\n"
    )
    own = b"for=127.0.0.1;proto=http;host=app"
    for trusted, client, proto, real, forwarded in (
        ([], b"127.0.0.1", b"http", [], own),
        (["127.0.0.1"], b"1.1.1.1", b"https", [b"1.1.1.1"], b"for=1.1.1.1, " + own),
    ):
        origin, server = await embedded.origin()
        answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        proxy = embedded.proxy(
            {
                "upstreams": {"app": {"servers": [server]}},
                "trusted": trusted,
                "forwarded": True,
            },
            "app",
        )
        observer = proxy.plane.observer = FakeObserver()
        await embedded.serve(proxy)
        await embedded.ask(sent)
        (request,) = origin.seen()
        assert request.all(b"x-forwarded-for") == [b"6.6.6.6, 1.1.1.1, 127.0.0.1"]
        assert request.all(b"x-forwarded-proto") == [proto]
        assert request.all(b"x-real-ip") == real
        assert request.all(b"forwarded") == [forwarded]
        assert [record.client for record in observer.records] == [client]


@pytest_twisted.ensureDeferred
async def test_headers_both_ways(embedded: Embedded) -> None:
    """Headers follow the rules of a listener; of twisted.web's own headers only the date is
    added."""
    origin = await single(embedded)
    answer(
        origin,
        b"HTTP/1.1 203 Some Reason\r\nContent-Length: 2\r\nServer: mine\r\nX-A: 1\r\nX-A: 2\r\n"
        b"Set-Cookie: a=b\r\nSet-Cookie: c=d\r\nKeep-Alive: timeout=5\r\nConnection: X-Hop\r\n"
        b"X-Hop: y\r\nTrailer: X-Sum\r\n\r\nok",
    )
    client = await embedded.ask(
        b"GET /x?a=%20b HTTP/1.1\r\nHost: App:81\r\nX-Forwarded-For: 1.2.3.4\r\n"
        b"X-B: 1\r\nX-B: 2\r\n"
        b"Connection: close, X-Hop\r\nX-Hop: y\r\nUpgrade: websocket\r\nTE: trailers\r\n\r\n"
    )
    (reply,) = client.replies()
    assert reply.first == b"HTTP/1.1 203 Some Reason"
    assert reply.body == b"ok"
    assert reply.all(b"x-a") == [b"1", b"2"]
    assert reply.all(b"set-cookie") == [b"a=b", b"c=d"]
    assert reply.all(b"server") == [b"mine"]
    assert len(reply.all(b"date")) == 1
    for name in (b"content-type", b"keep-alive", b"x-hop", b"trailer"):
        assert reply.all(name) == []
    (request,) = origin.seen()
    assert request.first == b"GET /x?a=%20b HTTP/1.1"
    assert request.all(b"host") == [b"App:81"]
    assert request.all(b"x-forwarded-for") == [b"1.2.3.4, 127.0.0.1"]
    assert request.all(b"x-forwarded-proto") == [b"http"]
    assert request.all(b"x-forwarded-host") == [b"App:81"]
    assert len(request.all(b"x-request-id")) == 1
    assert request.all(b"x-b") == [b"1", b"2"]
    for name in (b"connection", b"x-hop", b"upgrade", b"te"):
        assert request.all(name) == []


@pytest_twisted.ensureDeferred
async def test_routing(embedded: Embedded) -> None:
    """Routes, Host and default choose the upstream, unless it is fixed; the path of the
    proxy's resource is passed on, or left out."""
    servers = [await embedded.origin() for _ in range(3)]
    names = [b"first", b"second", b"third"]
    for (origin, _), name in zip(servers, names, strict=True):
        answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(name), name))
    upstreams = {
        name.decode(): {"servers": [server]}
        for (_, server), name in zip(servers, names, strict=True)
    }
    plane_proxy = embedded.proxy(
        {"upstreams": upstreams, "routes": [{"path": "/routed", "upstream": "second"}]}
    )
    root = Resource()
    root.putChild(b"", plane_proxy)
    root.putChild(b"routed", plane_proxy)
    root.putChild(b"host", plane_proxy)
    root.putChild(b"fixed", ReverseProxyResource(plane_proxy.plane, "third"))
    root.putChild(b"api", ReverseProxyResource(plane_proxy.plane, "third", strip_prefix=True))
    root.putChild(b"gone", ReverseProxyResource(plane_proxy.plane, "gone"))
    root.putChild(b"page", Page())
    await embedded.serve(root)

    async def ask(host: bytes, path: bytes) -> tuple[int, bytes]:
        client = await embedded.ask(
            b"GET %b HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % (path, host)
        )
        (reply,) = client.replies()
        return reply.status, reply.body

    assert await ask(b"first", b"/") == (200, b"first")
    assert await ask(b"SECOND:80", b"/host/x") == (200, b"second")
    assert await ask(b"first", b"/routed") == (200, b"second")
    assert await ask(b"first", b"/fixed/a?b") == (200, b"third")
    assert servers[2][0].seen()[-1].first == b"GET /fixed/a?b HTTP/1.1"
    assert await ask(b"first", b"/api/a%2F?b") == (200, b"third")
    assert servers[2][0].seen()[-1].first == b"GET /a%2F?b HTTP/1.1"
    assert await ask(b"first", b"/page") == (200, b"page ")
    assert (await ask(b"first", b"/gone"))[0] == 502
    status, body = await ask(b"unknown", b"/")
    assert status == 502
    assert body == b'{"status": 502, "msg": "no upstream for host \'unknown\'"}\n'


@pytest_twisted.ensureDeferred
async def test_error_by_accept(embedded: Embedded) -> None:
    """An error is a page for a browser, and the connection can be used again."""
    await single(embedded, default_upstream=None)
    client = await embedded.connect()
    await client.send(b"GET / HTTP/1.1\r\nHost: other\r\nAccept: text/html,*/*;q=0.8\r\n\r\n" + GET)
    await client.until(lambda: client.ended)
    error, good = client.replies()
    assert error.status == 502
    assert error.all(b"content-type") == [b"text/html; charset=utf-8"]
    assert error.all(b"server") == []
    assert good.status == 200


@pytest.mark.parametrize(
    ("verb", "sent", "head", "body"),
    [
        (b"HEAD", b"200 OK\r\nContent-Length: 5", b"content-length: 5", b""),
        (b"GET", b"304 Not Modified\r\nContent-Length: 5\r\nETag: x", b"content-length: 5", b""),
        (b"GET", b"204 No Content", b"204 no content", b""),
        (b"GET", b"200 OK\r\nContent-Length: 0", b"content-length: 0", b""),
        (
            b"GET",
            b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
            b"content-length: 2",
            b"ab",
        ),
        (
            b"GET",
            b"200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n",
            b"transfer-encoding: chunked",
            b"2\r\nab\r\n0\r\n\r\n",
        ),
    ],
    ids=["HEAD", "304", "204", "empty", "chunks at once", "chunks with trailer"],
)
@pytest_twisted.ensureDeferred
async def test_framing(
    embedded: Embedded, verb: bytes, sent: bytes, head: bytes, body: bytes
) -> None:
    """A reply is framed as HTTP demands for its method and status."""
    origin = await single(embedded)
    answer(origin, b"HTTP/1.1 " + sent + (b"" if b"\r\n\r\n" in sent else b"\r\n\r\n"))
    client = await embedded.ask(b"%b /x HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n" % verb)
    got_head, _, got_body = client.data.partition(b"\r\n\r\n")
    assert head in got_head.lower()
    assert got_head.lower().count(b"content-length") + got_head.count(b"chunked") == (
        b"204" not in sent
    )
    assert b"Content-Type" not in got_head
    assert got_body == body


@pytest_twisted.ensureDeferred
async def test_close_delimited(embedded: Embedded) -> None:
    """A body that ends with the server's connection gets chunks for HTTP/1.1, and ends with
    the connection for HTTP/1.0."""
    origin = await single(embedded)
    answer(origin, b"HTTP/1.0 200 OK\r\n\r\nabc", close=True)
    (reply,) = (await embedded.ask(GET)).replies()
    assert (reply.body, reply.all(b"transfer-encoding")) == (b"abc", [b"chunked"])
    old = await embedded.ask(b"GET /x HTTP/1.0\r\n\r\n")
    assert old.data.startswith(b"HTTP/1.0 200 OK\r\n")
    assert old.data.endswith(b"\r\n\r\nabc")
    assert b"Content-Length" not in old.data
    assert not old.broken


@pytest_twisted.ensureDeferred
async def test_broken_reply(embedded: Embedded) -> None:
    """A reply that the server does not complete is not taken for a complete one."""
    origin = await single(embedded)
    answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", close=True)
    (reply,) = (await embedded.ask(GET)).replies()
    assert (reply.complete, reply.body) == (False, b"abc")
    answer(origin, b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", close=True)
    (reply,) = (await embedded.ask(GET)).replies()
    assert not reply.complete
    old = await embedded.ask(b"GET /x HTTP/1.0\r\n\r\n")
    assert old.broken, "an orderly end would be the end of the body"


@pytest_twisted.ensureDeferred
async def test_interim_replies(embedded: Embedded) -> None:
    """A 103 is passed on to HTTP/1.1 only; a 101 without Upgrade is an error."""
    origin = await single(embedded)
    answer(origin, b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK)
    early, reply = (await embedded.ask(GET)).replies()
    assert (early.status, early.all(b"link")) == (103, [b"</a>"])
    assert reply.body == b"ok"
    old = await embedded.ask(b"GET /x HTTP/1.0\r\n\r\n")
    assert b" 103 " not in old.data
    assert old.data.startswith(b"HTTP/1.0 200 OK")
    answer(origin, b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n")
    (reply,) = (
        await embedded.ask(
            b"GET / HTTP/1.1\r\nHost: app\r\nConnection: Upgrade, close\r\nUpgrade: x\r\n\r\n"
        )
    ).replies()
    assert reply.status == 502


@pytest.mark.real(False)
def test_switch_ends_the_server_connection() -> None:
    """If a server switched all the same, its connection would end, with a 502."""
    ended = []
    exchange = SimpleNamespace(tunnel_ended=lambda: ended.append("exchange"))
    origin = SimpleNamespace(close=lambda: ended.append("origin"))
    web_request = WebRequest(None, None, set(), False)
    web_request._exchange = exchange  # type: ignore[assignment]
    web_request.refuse = lambda status, message: ended.append(status)  # type: ignore
    web_request.switch(Reply(101, [b""]), origin, b"")
    assert ended == ["origin", "exchange", 502]


@pytest_twisted.ensureDeferred
async def test_retry_on_a_dead_server(embedded: Embedded) -> None:
    """A server that does not listen costs no request."""
    origin, server = await embedded.origin()
    dead = {"host": "127.0.0.1", "port": free_port()}
    proxy = embedded.proxy({"upstreams": {"app": {"servers": [dead, server]}}}, "app")
    await embedded.serve(proxy)
    for _ in range(4):
        (reply,) = (await embedded.ask(GET)).replies()
        assert reply.status == 200
    assert len(origin.seen()) == 4
    peers = proxy.plane.peers("app")
    assert peers[f"127.0.0.1:{dead['port']}"].failures > 0
    assert all(live.active == 0 for live in peers.values())
    assert proxy.plane.statistics()["active"] == 0


@pytest_twisted.ensureDeferred
async def test_client_that_leaves(embedded: Embedded) -> None:
    """A client that leaves ends its request, before and within the reply."""
    origin = await single(embedded)
    for sent in (b"", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"):
        answer(origin, sent)
        origin.forget()
        client = await embedded.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: app\r\n\r\n")
        await wait(embedded, lambda: origin.requests)
        await client.until(lambda data=sent, which=client: which.data.endswith(data[-3:]))
        client.transport.abortConnection()
        connection = origin.requests[-1][0]
        await connection.until(lambda each=connection: each.ended)
    plane = embedded.requests[0].site.resource.plane
    assert plane.statistics()["active"] == 0
    assert plane.peers("app").popitem()[1].active == 0


# Backpressure.

BIG = 10_000_000
#: The most bytes that a transport of Twisted may hold: its mark, and one large read.
HELD = 65536 + 262144 + 1000


def narrow(client: RawClient) -> None:
    """Make the client's kernel hold few unread bytes."""
    client.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 32768)


def unsent(transport: Any) -> int:
    """Bytes that a transport holds."""
    return len(transport.dataBuffer) - transport.offset + transport._tempDataLen


@pytest.mark.parametrize("framed", [b"Content-Length: %d" % BIG, b"Transfer-Encoding: chunked"])
@pytest_twisted.ensureDeferred
async def test_slow_client(embedded: Embedded, framed: bytes) -> None:
    """A client that does not read makes the server wait; when it reads, it gets everything."""
    origin = await single(embedded)
    embedded.narrow()
    body = bytes(range(250)) * (BIG // 250)
    sent = body if b"Length" in framed else b"%x\r\n%b\r\n0\r\n\r\n" % (BIG, body)
    answer(origin, b"HTTP/1.1 200 OK\r\n" + framed + b"\r\n\r\n" + sent)
    client = await embedded.connect()
    narrow(client)
    client.transport.pauseProducing()
    await client.send(GET)
    await wait(embedded, lambda: embedded.requests and embedded.requests[0].producer is not None)
    web = embedded.requests[0]
    # Wait until nothing moves: the server has more to send, and the site's bytes stay the same.
    before = -1
    while before != unsent(web.transport) or not before:
        before = unsent(web.transport)
        assert before <= HELD
        for _ in range(20):
            await client.turn()
    (connection,) = origin.connections
    assert unsent(connection.transport) > 0
    client.transport.resumeProducing()
    await client.until(lambda: client.ended)
    (reply,) = client.replies()
    assert hashlib.sha256(reply.body).digest() == hashlib.sha256(body).digest()


@pytest_twisted.ensureDeferred
async def test_client_that_takes_nothing(embedded: Embedded) -> None:
    """A client that takes no byte for ``timeouts.send`` seconds is dropped, with the server's
    reply; one that takes a little is not."""
    origin = await single(embedded, timeouts={"send": 0.3})
    answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + bytes(BIG))
    client = await embedded.connect()
    narrow(client)
    client.transport.pauseProducing()
    await client.send(GET)
    await wait(embedded, lambda: origin.connections and origin.connections[0].ended)
    client.transport.resumeProducing()
    await client.until(lambda: client.ended)
    assert client.broken
    assert len(client.data) < BIG


@pytest_twisted.ensureDeferred
async def test_slow_but_steady_client(embedded: Embedded) -> None:
    """A client that takes some bytes within each ``timeouts.send`` is not dropped."""
    origin = await single(embedded, timeouts={"send": 0.8})
    answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % BIG + bytes(BIG))
    client = await embedded.connect()
    narrow(client)
    await client.send(GET)
    await wait(embedded, lambda: embedded.requests and embedded.requests[0].producer is not None)
    web = embedded.requests[0]
    web.transport.getHandle().setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 32768)
    requests = web.site.resource._requests
    (web_request,) = requests
    looks = []
    watch = web_request._watch_client

    def look() -> None:
        looks.append(embedded.reactor.seconds())
        watch()

    web_request._watch_client = look
    size = 0
    # Read a little, then nothing for the time of two looks.
    while len(looks) < 2 or looks[-1] - looks[0] < 0.8:
        assert not client.ended
        size = len(client.data)
        client.transport.resumeProducing()
        await client.until(lambda least=size: len(client.data) > least or client.ended)
        client.transport.pauseProducing()
        pause: Deferred[None] = Deferred()
        embedded.reactor.callLater(0.05, pause.callback, None)
        await pause
        if len(client.data) > BIG:
            break
    client.transport.resumeProducing()
    await client.until(lambda: client.ended)
    assert client.replies()[0].complete


# Bodies that twisted.web has read.


@pytest.mark.parametrize("factory", [None, StreamingRequest], ids=["read", "streamed"])
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest_twisted.ensureDeferred
async def test_bodies(embedded: Embedded, factory: Any, chunked: bool) -> None:
    """A body of any size arrives whole, with the client's framing; the connection goes on."""
    origin = await single(embedded, factory)
    client = await embedded.connect()
    bodies = [b"", b"x", b"a=b&c=d", bytes(range(256)) * 12_000]
    for body in bodies:
        head = (
            b"POST /p HTTP/1.1\r\nHost: app\r\nContent-Type: application/x-www-form-urlencoded\r\n"
        )
        if chunked:
            framed = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            await client.send(head + b"Transfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n")
        else:
            await client.send(head + b"Content-Length: %d\r\n\r\n" % len(body) + body)
    await client.until(lambda: len(client.replies()) == len(bodies))
    assert [request.body for request in origin.seen()] == bodies
    for request in origin.seen():
        assert bool(request.all(b"transfer-encoding")) is chunked


@pytest_twisted.ensureDeferred
async def test_read_body_waits_for_the_server(embedded: Embedded) -> None:
    """A body that twisted.web has read goes out no faster than the server takes it."""
    origin = await single(embedded)
    client = await embedded.connect()
    await client.send(b"GET /warm HTTP/1.1\r\nHost: app\r\n\r\n")
    await client.until(lambda: len(client.replies()) == 1)
    (connection,) = origin.connections
    connection.transport.pauseProducing()
    body = bytes(12_000_000)
    await client.send(b"POST /p HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n" % len(body))
    await client.send(body)
    proxy = embedded.requests[0].site.resource
    await wait(embedded, lambda: any(web_request._held for web_request in proxy._requests))
    (web_request,) = proxy._requests
    assert web_request._remaining > 0
    connection.transport.resumeProducing()
    await client.until(lambda: len(client.replies()) == 2)
    assert len(origin.seen()[-1].body) == len(body)


@pytest_twisted.ensureDeferred
async def test_reply_before_the_read_body_is_sent(embedded: Embedded) -> None:
    """The rest of the body is dropped when the reply comes; the client's connection can be
    used again."""
    origin = await single(embedded)
    client = await embedded.connect()
    await client.send(b"GET /warm HTTP/1.1\r\nHost: app\r\n\r\n")
    await client.until(lambda: len(client.replies()) == 1)
    (connection,) = origin.connections
    connection.transport.pauseProducing()
    body = EVIL * 400_000
    await client.send(b"POST /p HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n" % len(body))
    await client.send(body)
    proxy = embedded.requests[0].site.resource
    await wait(embedded, lambda: any(web_request._held for web_request in proxy._requests))
    await connection.send(b"HTTP/1.1 413 Too Much\r\nContent-Length: 2\r\n\r\nno")
    await client.until(lambda: len(client.replies()) == 2)
    await client.send(GET)
    await client.until(lambda: client.ended)
    assert [reply.status for reply in client.replies()] == [200, 413, 200]
    assert [request.first for request in origin.seen()] == [
        b"GET /warm HTTP/1.1",
        b"GET /x HTTP/1.1",
    ]


@pytest_twisted.ensureDeferred
async def test_expect_is_answered_by_twisted_web(embedded: Embedded) -> None:
    """Without streaming twisted.web sends the 100, and the server is not asked."""
    origin = await single(embedded)
    client = await embedded.connect()
    await client.send(
        b"POST /p HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    await client.until(lambda: b"100 Continue" in client.data)
    await client.send(b"abc")
    await client.until(lambda: len(client.finals()) == 1)
    assert [reply.status for reply in client.replies()] == [100, 200]
    assert origin.seen()[0].all(b"expect") == []


@pytest_twisted.ensureDeferred
async def test_body_over_the_limit(embedded: Embedded) -> None:
    """A body that is too large is refused once it has been read; no byte of it goes to the
    server."""
    origin = await single(embedded, limits={"body": 10})
    client = await embedded.connect()
    await client.send(
        b"POST /p HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"b\r\n01234567890\r\n0\r\n\r\n"
    )
    await client.until(lambda: client.ended)
    (reply,) = client.replies()
    assert (reply.status, reply.all(b"connection")) == (413, [b"close"])
    assert origin.connections == []


# Bodies that are passed on as they arrive.


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
@pytest_twisted.ensureDeferred
async def test_streaming(embedded: Embedded, chunked: bool) -> None:
    """The server gets the beginning of a body before the client has sent its end."""
    origin = await single(embedded, StreamingRequest)
    client = await embedded.connect()
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 6"
    first, last = (b"3\r\nabc\r\n", b"3\r\ndef\r\n0\r\n\r\n") if chunked else (b"abc", b"def")
    await client.send(b"POST /p HTTP/1.1\r\nHost: app\r\n%b\r\n\r\n" % framing + first)
    await wait(embedded, lambda: origin.connections)
    (connection,) = origin.connections
    await connection.until(lambda: b"abc" in connection.rest)
    await client.send(last + GET)
    await client.until(lambda: client.ended)
    assert [reply.status for reply in client.replies()] == [200, 200]
    assert [request.body for request in origin.seen()] == [b"abcdef", b""]


@pytest_twisted.ensureDeferred
async def test_tiny_chunks_are_sent_together(embedded: Embedded) -> None:
    """Chunks that arrive in one turn of the reactor become one, where twisted.web delivers a
    thousand; a small chunk does not wait for more."""
    origin = await single(embedded, StreamingRequest)
    client = await embedded.connect()
    head = b"POST /p HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n"
    await client.send(head + b"1\r\nx\r\n")
    await wait(embedded, lambda: origin.connections)
    (connection,) = origin.connections
    await connection.until(lambda: connection.rest.endswith(b"1\r\nx\r\n"))
    arrived = bytearray()
    received = connection.dataReceived

    def note(data: bytes) -> None:
        arrived.extend(data)
        received(data)

    connection.dataReceived = note
    await client.send(b"1\r\ny\r\n" * 1000 + b"0\r\n\r\n")
    await client.until(lambda: len(client.replies()) == 1)
    assert arrived.count(b"y") == 1000
    # There is one chunk for each of the few reads.
    assert arrived.count(b"\r\n") < 40


@pytest_twisted.ensureDeferred
async def test_streaming_waits_for_the_server(embedded: Embedded) -> None:
    """A client sends no faster than the server takes; its timeout stops meanwhile, and runs
    again afterwards."""
    origin = await single(embedded, StreamingRequest, timeout=1.0)
    client = await embedded.connect()
    await client.send(b"GET /warm HTTP/1.1\r\nHost: app\r\n\r\n")
    await client.until(lambda: len(client.replies()) == 1)
    (connection,) = origin.connections
    connection.transport.pauseProducing()
    body = bytes(range(250)) * 80_000
    await client.send(b"POST /p HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n" % len(body))
    client.transport.write(body)
    await wait(embedded, lambda: embedded.requests[-1]._timeout is not None)
    web = embedded.requests[-1]
    waited: Deferred[None] = Deferred()
    embedded.reactor.callLater(1.2, waited.callback, None)  # longer than the site's timeout
    await waited
    assert not client.ended
    assert unsent(client.transport) > 0
    (web_request,) = web.site.resource._requests
    channel = web_request._exchange._attempt.channel
    assert len(channel._out) < 65536 + 65536 + 1000
    connection.transport.resumeProducing()
    await client.until(lambda: len(client.replies()) == 2)
    assert origin.seen()[-1].body == body
    # Now the client is idle, and is closed after the site's timeout.
    await client.until(lambda: client.ended)


@pytest_twisted.ensureDeferred
async def test_streaming_expect(embedded: Embedded) -> None:
    """The server decides whether it wants the body, and its answer is passed on."""
    origin = await single(embedded, StreamingRequest)
    client = await embedded.connect()
    head = b"POST /p HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    await client.send(head)
    await wait(embedded, lambda: origin.connections)
    (connection,) = origin.connections
    await connection.until(lambda: connection.rest.endswith(b"\r\n\r\n"))
    assert b"Expect: 100-continue" in connection.rest
    assert client.data == b""
    await connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await client.until(lambda: client.data == b"HTTP/1.1 100 Continue\r\n\r\n")
    await client.send(b"abc")
    await client.until(lambda: len(client.finals()) == 1)
    assert origin.seen()[0].body == b"abc"
    # If it does not want the body, twisted.web sends no 100 after the reply.
    origin.forget()
    await client.send(head)
    await connection.until(lambda: connection.rest.endswith(b"\r\n\r\n"))
    await connection.send(b"HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n")
    await client.until(lambda: len(client.finals()) == 2)
    last = client.replies()[-1]
    assert (last.status, last.all(b"connection")) == (417, [b"close"])
    assert client.data.count(b"100 Continue") == 1


@pytest_twisted.ensureDeferred
async def test_streaming_expect_waits_for_the_server(embedded: Embedded) -> None:
    """The site's timeout is for the client; it does not run while a server must answer."""
    origin = await single(embedded, StreamingRequest, timeout=0.2)
    client = await embedded.connect()
    await client.send(
        b"POST /p HTTP/1.1\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    await wait(embedded, lambda: origin.connections)
    waited: Deferred[None] = Deferred()
    embedded.reactor.callLater(0.5, waited.callback, None)
    await waited
    assert not client.ended
    await origin.connections[0].send(b"HTTP/1.1 100 Continue\r\n\r\n")
    await client.until(lambda: client.data == b"HTTP/1.1 100 Continue\r\n\r\n")
    # From now on the client's timeout runs again.
    await client.until(lambda: client.ended)
    assert origin.seen() == []


@pytest_twisted.ensureDeferred
async def test_streaming_expect_of_http_1_0(embedded: Embedded) -> None:
    """The Expect is ignored, so the client's timeout runs as usual."""
    await single(embedded, StreamingRequest, timeout=0.2)
    client = await embedded.connect()
    await client.send(
        b"POST /p HTTP/1.0\r\nHost: app\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n"
    )
    await client.until(lambda: client.ended)


@pytest.mark.parametrize("streams", [True, False])
@pytest_twisted.ensureDeferred
async def test_upgrade_required(embedded: Embedded, streams: bool) -> None:
    """A 426 names the protocol, and has ``Connection: Upgrade`` (RFC 9110 15.5.22)."""
    origin = await single(embedded, StreamingRequest if streams else None)
    answer(
        origin,
        b"HTTP/1.1 426 Upgrade Required\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Content-Length: 0\r\n\r\n",
    )
    for line, options in ((b"", [b"Upgrade"]), (b"Connection: close\r\n", [b"Upgrade", b"close"])):
        client = await embedded.connect()
        await client.send(b"GET / HTTP/1.1\r\nHost: app\r\n%b\r\n" % line)
        await client.until(lambda client=client: client.replies())
        (reply,) = client.replies()
        assert (reply.status, reply.all(b"upgrade")) == (426, [b"websocket"])
        assert reply.all(b"connection") == options


@pytest_twisted.ensureDeferred
async def test_refused_upload_gets_its_reply(embedded: Embedded) -> None:
    """A client that sends a whole body before it reads, more slowly than ``timeouts.linger``,
    gets the reply that was made at the body's beginning."""
    await single(embedded, StreamingRequest, limits={"body": 10}, timeouts={"linger": 0.3})
    client = await embedded.connect()
    client.transport.pauseProducing()
    size = 10 * 400_000
    await client.send(b"POST /p HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n" % size)
    for _ in range(10):
        waited: Deferred[None] = Deferred()
        embedded.reactor.callLater(0.05, waited.callback, None)
        await waited
        await client.send(b"x" * 400_000)
    client.transport.resumeProducing()
    await client.until(lambda: client.ended)
    (reply,) = client.replies()
    assert (reply.status, reply.complete, client.broken) == (413, True, False)


@pytest.mark.parametrize("complete", [True, False], ids=["whole body", "endless body"])
@pytest_twisted.ensureDeferred
async def test_reply_before_the_body(embedded: Embedded, complete: bool) -> None:
    """A reply before the end of the body ends the connection; no byte of the body is taken for
    a request."""
    limits = {} if complete else {"linger": 100_000}
    origin = await single(embedded, StreamingRequest, default_upstream=None, limits=limits)
    client = await embedded.connect()
    body = EVIL * 10_000
    length = len(body) * (1 if complete else 2)
    await client.send(b"POST /p HTTP/1.1\r\nHost: other\r\nContent-Length: %d\r\n\r\n" % length)
    await client.until(lambda: len(client.replies()) == 1)
    await client.send(body)
    await client.until(lambda: client.ended)
    (reply,) = client.replies()
    assert (reply.status, reply.all(b"connection")) == (502, [b"close"])
    assert origin.connections == []


@pytest_twisted.ensureDeferred
async def test_linger_ends(embedded: Embedded) -> None:
    """slardar does not wait for a client that has its reply and sends no more of its body."""
    await single(embedded, StreamingRequest, default_upstream=None, timeouts={"linger": 0.05})
    client = await embedded.ask(b"POST /p HTTP/1.1\r\nHost: other\r\nContent-Length: 9\r\n\r\nabc")
    (reply,) = client.replies()
    assert reply.status == 502


@pytest_twisted.ensureDeferred
async def test_streaming_over_the_limit(embedded: Embedded) -> None:
    """Chunks beyond the limit end the request, and the server never gets its end."""
    origin = await single(embedded, StreamingRequest, limits={"body": 10})
    client = await embedded.connect()
    await client.send(
        b"POST /p HTTP/1.1\r\nHost: app\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n"
    )
    await wait(embedded, lambda: origin.connections)
    (connection,) = origin.connections
    await connection.until(lambda: b"abcde" in connection.rest)
    await client.send(b"6\r\nfghijk\r\n0\r\n\r\n" + EVIL)
    await client.until(lambda: client.ended)
    (reply,) = client.replies()
    assert (reply.status, reply.all(b"connection")) == (413, [b"close"])
    await connection.until(lambda: connection.ended)
    assert origin.seen() == []


@pytest_twisted.ensureDeferred
async def test_streaming_client_that_leaves(embedded: Embedded) -> None:
    """A client that leaves within its body ends the request."""
    origin = await single(embedded, StreamingRequest)
    client = await embedded.connect()
    await client.send(b"POST /p HTTP/1.1\r\nHost: app\r\nContent-Length: 9\r\n\r\nabc")
    await wait(embedded, lambda: origin.connections)
    (connection,) = origin.connections
    await connection.until(lambda: connection.rest.endswith(b"abc"))
    client.transport.abortConnection()
    await connection.until(lambda: connection.ended)
    assert origin.seen() == []


@pytest_twisted.ensureDeferred
async def test_streaming_leaves_other_resources_alone(embedded: Embedded) -> None:
    """Pages of the site get their bodies whole, also a page that fails; so does a proxy with
    its own ``render``."""

    class Guarded(ReverseProxyResource):
        def render(self, request: Any) -> Any:
            if request.content.read() != b"secret":
                request.setResponseCode(403)
                return b"no"
            return super().render(request)

    class Root(Resource):
        def getChild(self, path: bytes, request: Any) -> Any:
            if request.content.read() == b"":
                raise RuntimeError("not yet")
            return Page()

    origin, server = await embedded.origin()
    proxy = embedded.proxy({"upstreams": {"app": {"servers": [server]}}}, "app")
    root = Root()
    root.putChild(b"page", Page())
    root.putChild(b"proxy", Guarded(proxy.plane, "app"))
    await embedded.serve(root, StreamingRequest)
    client = await embedded.connect()

    async def post(path: bytes, body: bytes) -> tuple[int, bytes]:
        count = len(client.replies())
        await client.send(
            b"POST %b HTTP/1.1\r\nHost: app\r\nContent-Length: %d\r\n\r\n" % (path, len(body))
        )
        await client.send(body)
        await client.until(lambda: len(client.replies()) > count)
        return client.replies()[-1].status, client.replies()[-1].body

    assert await post(b"/page", b"abc") == (200, b"page abc")
    assert await post(b"/other", b"abc") == (200, b"page ")
    assert await post(b"/proxy", b"guess") == (403, b"no")
    assert origin.seen() == []
    assert await post(b"/proxy", b"secret") == (200, b"/proxy")
    assert origin.seen()[0].body == b"secret"


# The end.


@pytest_twisted.ensureDeferred
async def test_stop(embedded: Embedded) -> None:
    """After ``stop`` requests under way are finished and new ones refused."""
    origin = await single(embedded)
    answer(origin, b"")
    client = await embedded.connect()
    await client.send(GET)
    await wait(embedded, lambda: origin.requests)
    proxy = embedded.requests[0].site.resource
    stopped = proxy.stop()
    (refused,) = (await embedded.ask(GET)).replies()
    assert refused.status == 503
    assert not stopped.called
    await origin.requests[0][0].send(OK)
    await client.until(lambda: client.ended)
    assert client.replies()[0].body == b"ok"
    await stopped
    await proxy.stop()
    (refused,) = (await embedded.ask(GET)).replies()
    assert refused.status == 503


@pytest_twisted.ensureDeferred
async def test_stop_cuts_what_lasts_too_long(embedded: Embedded) -> None:
    """A request that has not finished after ``timeouts.drain`` is cut off: with a 503, or
    within its reply."""
    origin = await single(embedded, timeouts={"drain": 0.1})
    answer(origin, b"")
    silent = await embedded.connect()
    await silent.send(GET)
    await wait(embedded, lambda: len(origin.requests) == 1)
    answer(origin, b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
    begun = await embedded.connect()
    await begun.send(GET)
    await begun.until(lambda: begun.data.endswith(b"abc"))
    proxy = embedded.requests[0].site.resource
    await proxy.stop()
    await silent.until(lambda: silent.ended)
    await begun.until(lambda: begun.ended)
    assert silent.replies()[0].status == 503
    assert not begun.replies()[0].complete
    assert proxy.plane.statistics()["active"] == 0


# Heartbeats.


async def test_servers_get_heartbeats(embedded: Embedded) -> None:
    """From the one process, unless the settings say otherwise; a server that is gone is out
    before any request asks it."""
    _, good = await embedded.origin()
    gone = {"host": "127.0.0.1", "port": free_port()}
    upstreams = {"app": {"servers": [good, gone]}}
    quiet = embedded.proxy({"upstreams": upstreams}).plane
    plane = embedded.proxy({"upstreams": upstreams, "health": {"interval": 0.1}}).plane

    def statuses(found: Any) -> list[str]:
        return [live.checked for live in found.peers("app").values()]

    await wait(embedded, lambda: statuses(plane) == ["ok", "err"])
    assert plane.statistics()["checkup_timer_alive"] is True
    assert quiet.statistics()["checkup_timer_alive"] is False
    assert statuses(quiet) == ["unchecked", "unchecked"]


# What servers are told.


class Hearing(Protocol):
    """A server that keeps what it hears, and answers the end of a head."""

    def __init__(self, heard: list[bytes]) -> None:
        self._heard = heard

    def dataReceived(self, data: bytes) -> None:
        self._heard.append(data)
        if data.endswith(b"\r\n\r\n"):
            self.transport.write(OK)  # type: ignore[union-attr]


async def test_server_is_told_the_client_of_the_site(embedded: Embedded) -> None:
    """In a PROXY protocol header, with both ends of its connection to the site."""
    heard: list[bytes] = []
    factory = Factory.forProtocol(lambda: Hearing(heard))  # type: ignore[arg-type]
    port = await embedded.listen(factory)
    servers = [{"host": "127.0.0.1", "port": port}]
    app = {"servers": servers, "proxy_protocol": 1}
    await embedded.serve(embedded.proxy({"upstreams": {"app": app}, "default_upstream": "app"}))
    client = await embedded.connect()
    peer = client.transport.getHost()
    await client.send(GET)
    await client.until(lambda: client.ended)
    assert client.data.startswith(b"HTTP/1.1 200 OK\r\n")
    wanted = b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (peer.port, embedded.port)
    assert b"".join(heard).startswith(wanted + b"GET /x HTTP/1.1\r\n")


@pytest_twisted.ensureDeferred
async def test_server_over_tls(embedded: Embedded, tmp_path: Path) -> None:
    """It is verified here, too; and files are read for settings that were read without them."""
    authority = Authority(tmp_path)
    server = Origin(authority=authority)
    try:
        config = {"upstreams": {"app": {"servers": [server.server]}}, "default_upstream": "app"}
        await embedded.serve(embedded.proxy(config))
        client = await embedded.ask(GET)
        assert client.replies()[0].body == b"origin"
        plain = {"host": "127.0.0.1", "port": server.port}
        tls = {"ca": str(authority.file), "server_name": "other"}
        settings = parse_settings(
            {"upstreams": {"app": {"servers": [plain], "tls": tls}}, "health": {"enabled": False}}
        )
        other = ReverseProxyResource.from_config(embedded.reactor, settings, "app")
        embedded._proxies.append(other)
        await embedded.serve(other)
        client = await embedded.ask(GET)
        (reply,) = client.replies()
        assert reply.status == 502
        assert b"not valid for 'other'" in reply.body
    finally:
        server.stop()
