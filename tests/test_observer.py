"""An observer of requests is one class, and hears of both ways in: listeners and twisted.web."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.endpoints import TCP4ClientEndpoint, connectProtocol
from twisted.web.resource import Resource

from slardar.http1.interfaces import Observer
from slardar.http1.record import RequestRecord
from slardar.web import MetricsResource, ReverseProxyResource, StreamingRequest
from tests.dataplane.kit import logged
from tests.embedded import Embedded
from tests.integration.wire import RawClient
from tests.test_web import wait

GET = b"GET /%s HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"


class Notes(Observer):
    """Writes down what it is told, and fails where it is told to."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []
        self.fails = False

    def request_ended(self, record: RequestRecord) -> None:
        record.kept = True
        self.records.append(record)
        if self.fails:
            raise RuntimeError("a bug of an observer's")


class Site:
    """A site in which slardar is embedded, and that slardar's own listener serves, too."""

    def __init__(self, embedded: Embedded) -> None:
        self.embedded = embedded
        self.notes = Notes()

    async def begin(self, factory: Any = None, **settings: Any) -> None:
        self.origin, server = await self.embedded.origin()
        config = {"upstreams": {"app": {"servers": [server]}}, **settings}
        self.proxy: ReverseProxyResource = self.embedded.proxy(config)
        self.proxy.plane.observers.add(self.notes)
        await self.embedded.serve(self.proxy, factory)
        place = await self.proxy.plane.listen("tcp:0:interface=127.0.0.1")
        self.port = int(place.rpartition(":")[2])

    async def ask(self, sent: bytes) -> RawClient:
        """A client of slardar's own listener."""
        endpoint = TCP4ClientEndpoint(self.embedded.reactor, "127.0.0.1", self.port)
        client = await connectProtocol(endpoint, RawClient(self.embedded.reactor))
        await client.send(sent)
        await client.until(lambda: client.ended)
        return client


@pytest_twisted.async_yield_fixture
async def site() -> AsyncIterator[Site]:
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    embedded = Embedded(reactor)
    yield Site(embedded)
    await embedded.stop()


async def silent(*_: Any) -> None:
    """A server that says nothing."""


def told(record: RequestRecord) -> tuple[Any, ...]:
    """What does not depend on time and ports."""
    uri = None if record.request is None else record.request.uri
    return (uri, record.status, record.answered_by, record.upstream, len(record.attempts))


@pytest.mark.real
@pytest_twisted.ensureDeferred
async def test_both_ways_in_are_told(site: Site) -> None:
    """Served and refused requests, requests and bytes that are none: one record each."""
    await site.begin()
    for ask in (site.ask, site.embedded.ask):
        site.notes.records.clear()
        await ask(GET % b"one")
        await ask((GET % b"two").replace(b"app", b"other"))
        await ask(b"GET /bad HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n\r\n")
        assert [told(record) for record in site.notes.records] == [
            ("/one", 200, "server", "app", 1),
            ("/two", 502, "slardar", "", 0),
            (None, 400, "slardar", "", 0),
        ]
        one, two, bad = site.notes.records
        assert one.server.startswith("127.0.0.1:")
        assert one.client == bad.client == b"127.0.0.1"
        assert one.started <= one.attempts[0].first_byte <= one.ended
        assert two.error == "no upstream for host 'other'"
        assert bad.error == "the Host is not a valid host name"
        assert one.bytes_in == len(GET % b"one") or ask is not site.ask
        assert one.listener == ("tcp:0:interface=127.0.0.1" if ask == site.ask else "")


@pytest.mark.real
@pytest_twisted.ensureDeferred
async def test_decisions_are_kept_of_both_ways(site: Site) -> None:
    """The reply has the id, for a request that brings an admin's token."""
    token = {"name": "t", "role": "admin", "sha256": hashlib.sha256(b"boss").hexdigest()}
    await site.begin(control={"tokens": [token]})
    for ask in (site.ask, site.embedded.ask):
        for value, count in ((b"boss", 1), (b"nobody", 0)):
            head = (GET % b"one").replace(b"app", b"app\r\nX-Slardar-Explain: " + value)
            (reply,) = (await ask(head)).replies()
            ids = reply.all(b"x-decision-id")
            assert len(ids) == count
    record = site.notes.records[0]
    assert record.decision is not None
    found = await site.proxy.plane.decision(record.decision.id)
    assert found is not None
    assert (found.decision.upstream, found.status) == ("app", 200)


@pytest.mark.real
@pytest_twisted.ensureDeferred
async def test_body_that_streams_is_counted(site: Site) -> None:
    """The record of a streaming request of twisted.web's has its bytes."""
    await site.begin(StreamingRequest)
    body = b"x" * 100000
    head = b"POST /up HTTP/1.1\r\nHost: app\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n"
    await site.embedded.ask(head + body)
    (record,) = site.notes.records
    assert told(record) == ("/up", 200, "server", "app", 1)
    assert record.bytes_in > 100000


@pytest.mark.real
@pytest_twisted.ensureDeferred
async def test_client_that_leaves_is_told(site: Site) -> None:
    """Whoever is gone before the reply has a record without a status, on both ways."""
    await site.begin()
    site.origin.answer = silent
    for connect in (site.embedded.connect, None):
        site.notes.records.clear()
        if connect is not None:
            client = await connect()
        else:
            endpoint = TCP4ClientEndpoint(site.embedded.reactor, "127.0.0.1", site.port)
            client = await connectProtocol(endpoint, RawClient(site.embedded.reactor))
        seen = len(site.origin.seen())
        await client.send(GET % b"slow")
        await wait(site.embedded, lambda seen=seen: len(site.origin.seen()) > seen)
        client.transport.abortConnection()
        await wait(site.embedded, lambda: len(site.notes.records) == 1)
        (record,) = site.notes.records
        assert told(record) == ("/slow", 0, "", "app", 1)
        assert record.error == "the client closed the connection"


@pytest.mark.real
@pytest_twisted.ensureDeferred
async def test_access_log_of_a_site(site: Site, tmp_path: Path) -> None:
    """It has the requests of both ways in, and is written when the plane stops."""
    log = {"to": f"file:{tmp_path}/a.log", "format": "{uri} {status} {upstream} {event}"}
    await site.begin(access_log={**log, "interval": 0.1})
    for ask in (site.ask, site.embedded.ask):
        await ask(GET % b"one")
    # A request within the site that takes long is told of while it is under way.
    site.origin.answer = silent
    client = await site.embedded.connect()
    await client.send(GET % b"long")
    path = tmp_path / "a.log"
    await wait(site.embedded, lambda: path.exists() and b"begin" in path.read_bytes())
    client.transport.abortConnection()
    await site.proxy.stop()
    lines = path.read_text().splitlines()
    assert lines[:3] == ["/one 200 app -", "/one 200 app -", "/long 0 app begin"]
    assert lines[-1] == "/long 0 app end"


@pytest.mark.real
@pytest_twisted.ensureDeferred
async def test_trace_contexts_of_both_ways(site: Site, tmp_path: Path) -> None:
    """A server gets slardar's span, and the access log names it; a request that reaches no
    server is part of a trace, too, and bytes that are no request are not."""
    log = {"to": f"file:{tmp_path}/a.log", "format": "{uri} {trace_id} {span_id}"}
    await site.begin(access_log=log, tracing=True)
    trace_id = "4bf92f3577b34da6a3ce929d0e0e4736"
    header = f"traceparent: 00-{trace_id}-00f067aa0ba902b7-00\r\n\r\n".encode()
    sent = [
        (GET % b"one")[:-2] + header,
        (GET % b"two").replace(b"app", b"other")[:-2] + header,
        GET % b"three",
        b"GET / HTTP/1.1\r\nHost: a b\r\nConnection: close\r\n" + header,
    ]
    for ask in (site.ask, site.embedded.ask):
        for request in sent:
            await ask(request)
    await site.proxy.stop()
    lines = [line.split(" ") for line in (tmp_path / "a.log").read_text().splitlines()]
    assert [uri for uri, _, _ in lines] == ["/one", "/two", "/three", "-"] * 2
    for one, two, three, bad in (lines[:4], lines[4:]):
        assert one[1] == two[1] == trace_id != three[1]
        assert len({one[2], two[2], three[2]}) == 3
        assert bad[1:] == ["-", "-"]
    got = [request.all(b"traceparent") for request in site.origin.seen()]
    assert got == [
        [f"00-{trace_id}-{span_id}-01".encode()]
        for uri, trace_id, span_id in lines
        if uri in ("/one", "/three")
    ]


@pytest.mark.real
@pytest_twisted.ensureDeferred
async def test_observer_that_fails_harms_no_request(site: Site) -> None:
    """What it raises is logged, and the client has its reply."""
    await site.begin()
    site.notes.fails = True
    with logged() as events:
        for ask in (site.ask, site.embedded.ask):
            (reply,) = (await ask(GET % b"one")).replies()
            assert reply.status == 200
    assert len(site.notes.records) == 2
    said = [event["log_format"] for event in events]
    assert said.count("an observer of requests failed") == 1


@pytest.mark.real
@pytest_twisted.ensureDeferred
async def test_site_shows_what_was_counted(site: Site) -> None:
    """Requests of both ways in, once each; a client that leaves meanwhile harms nothing."""
    await site.begin()
    for ask in (site.ask, site.embedded.ask):
        await ask(GET % b"one")
    root = Resource()
    root.putChild(b"metrics", MetricsResource(site.embedded.reactor, site.proxy.plane))
    await site.embedded.serve(root)
    ask_metrics = b"GET /metrics HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
    for _ in range(2):
        (reply,) = (await site.embedded.ask(ask_metrics)).replies()
        assert reply.status == 200
        lines = reply.body.decode().splitlines()
        assert 'slardar_requests_total{upstream="app",code="200"} 2' in lines
        assert lines[-1].startswith("slardar_build_info")
        client = await site.embedded.connect()
        await client.send(ask_metrics)
        client.transport.abortConnection()
