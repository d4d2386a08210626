"""Hooks through ReverseProxyResource, in a real twisted.web site."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.ssl import Certificate, PrivateCertificate, optionsForClientTLS

from slardar.web import StreamingRequest
from tests.certificates import Authority
from tests.dataplane.test_hooks import engine_of
from tests.embedded import Embedded
from tests.hooks.kit import Action, hook, hooks
from tests.integration.wire import RawClient

pytestmark = pytest.mark.real

GET = b"GET /x HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
POST = b"POST /x HTTP/1.1\r\nHost: app\r\nContent-Length: 5\r\n\r\nhello"


@pytest_twisted.async_yield_fixture
async def embedded() -> AsyncIterator[Embedded]:
    """A site that serves nothing yet."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    embedded = Embedded(reactor)
    yield embedded
    await embedded.stop()


async def serve(
    embedded: Embedded,
    request: Action | None = None,
    response: Action | None = None,
    factory: Any = None,
    tls: Any = None,
) -> Any:
    """The server behind a proxy on which one script acts on requests and replies."""
    origin, server = await embedded.origin()
    proxy = embedded.proxy({"upstreams": {"app": {"servers": [server]}}, "default_upstream": "app"})
    actions = {"request": request, "reply:response": response}
    given = {name: action for name, action in actions.items() if action is not None}
    engine_of(proxy.plane, given)
    snapshot = proxy.plane._snapshot.with_hooks(hooks(hook("script.*", " ".join(given))))
    await proxy.plane.apply(snapshot, [])
    await embedded.serve(proxy, factory, tls=tls)
    return origin


def body_of(client: RawClient) -> bytes:
    """The body of the only reply."""
    (reply,) = client.replies()
    return reply.body


@pytest.mark.parametrize("factory", [None, StreamingRequest])
@pytest_twisted.ensureDeferred
async def test_answer(embedded: Embedded, factory: Any) -> None:
    """The answer has its headers, and the connection goes on if the body has arrived."""
    origin = await serve(
        embedded,
        lambda request, _: request.respond(201, "made", {"X-A": "1", "Set-Cookie": "a=1"}),
        factory=factory,
    )
    client = await embedded.ask(GET)
    (reply,) = client.replies()
    assert (reply.status, reply.body) == (201, b"made")
    assert reply.all(b"x-a") == [b"1"]
    assert reply.all(b"set-cookie") == [b"a=1"]
    assert reply.all(b"content-length") == [b"4"]
    again = await embedded.connect()
    again.verbs = [b"POST"]
    await again.send(POST)
    await again.until(lambda: len(again.replies()) == 1)
    assert again.replies()[0].status == 201
    assert origin.seen() == []
    again.transport.abortConnection()


@pytest_twisted.ensureDeferred
async def test_rejection(embedded: Embedded) -> None:
    """It has the form that the client accepts, and no body for HEAD."""
    await serve(embedded, lambda request, _: request.reject(403, "no"))
    assert json.loads(body_of(await embedded.ask(GET))) == {"status": 403, "msg": "no"}
    page = await embedded.ask(GET.replace(b"\r\n\r\n", b"\r\nAccept: text/html\r\n\r\n"))
    assert b"<p>no</p>" in body_of(page)
    head = await embedded.ask(GET.replace(b"GET", b"HEAD"))
    (reply,) = head.replies()
    assert (reply.status, reply.body) == (403, b"")
    assert int(reply.all(b"content-length")[0]) > 0


@pytest.mark.parametrize("status", [204, 304])
@pytest_twisted.ensureDeferred
async def test_answer_without_a_body(embedded: Embedded, status: int) -> None:
    """No body is sent, whatever the hook gave."""
    await serve(embedded, lambda request, _: request.respond(status, "hello"))
    (reply,) = (await embedded.ask(GET)).replies()
    assert (reply.status, reply.body) == (status, b"")
    assert reply.all(b"content-length") == []


@pytest.mark.parametrize("factory", [None, StreamingRequest])
@pytest.mark.parametrize("sent", [GET, POST, POST[:-3]])
@pytest_twisted.ensureDeferred
async def test_444(embedded: Embedded, factory: Any, sent: bytes) -> None:
    """The connection ends without a byte."""
    if factory is None and sent == POST[:-3]:
        pytest.skip("twisted.web waits for the body")
    await serve(embedded, lambda request, _: request.reject(444), factory=factory)
    client = await embedded.connect()
    await client.send(sent)
    await client.until(lambda: client.ended)
    assert client.data == b""


@pytest_twisted.ensureDeferred
async def test_444_instead_of_a_reply(embedded: Embedded) -> None:
    """This also works when a server has sent a reply."""
    origin = await serve(embedded, None, lambda request, response: request.reject(444))
    client = await embedded.connect()
    await client.send(GET)
    await client.until(lambda: client.ended)
    assert client.data == b""
    assert len(origin.seen()) == 1


@pytest.mark.parametrize("factory", [None, StreamingRequest])
@pytest_twisted.ensureDeferred
async def test_changed_request_and_reply(embedded: Embedded, factory: Any) -> None:
    """Both arrive as the hook has changed them, with the status."""

    def ask(request: Any, _: Any) -> None:
        request.method, request.path = "PUT", "/new"
        request.headers["X-A"] = request.client

    def answer(request: Any, response: Any) -> None:
        response.status = 418
        response.headers["X-B"] = "2"
        response.headers.remove("Server")

    origin = await serve(embedded, ask, answer, factory)
    client = await embedded.ask(POST.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    (reply,) = client.replies()
    assert reply.status == 418
    assert reply.all(b"x-b") == [b"2"]
    (seen,) = origin.seen()
    assert seen.first == b"PUT /new HTTP/1.1"
    assert seen.all(b"x-a") == [b"127.0.0.1"]
    assert seen.body == b"hello"


@pytest_twisted.ensureDeferred
async def test_head_and_get_are_kept_apart(embedded: Embedded) -> None:
    """The client's method decides what the client gets, whatever the server is asked."""
    other = {"GET": "HEAD", "HEAD": "GET"}
    origin = await serve(
        embedded, lambda request, _: setattr(request, "method", other[request.method])
    )
    asked_head = await embedded.ask(GET.replace(b"GET", b"HEAD"))
    (reply,) = asked_head.replies()
    assert (reply.status, reply.body) == (200, b"")
    asked_all = await embedded.ask(GET)
    (reply,) = asked_all.replies()
    assert (reply.status, reply.body, reply.all(b"content-length")) == (200, b"", [b"0"])
    assert [message.first.split(b" ")[0] for message in origin.seen()] == [b"GET", b"HEAD"]


@pytest_twisted.ensureDeferred
async def test_replaced_reply(embedded: Embedded) -> None:
    """The client gets the other reply, and no byte of the server's."""
    await serve(
        embedded,
        None,
        lambda request, response: request.respond(200, "instead", {"X-Was": response.status}),
    )
    (reply,) = (await embedded.ask(GET)).replies()
    assert (reply.status, reply.body) == (200, b"instead")
    assert reply.all(b"x-was") == [b"200"]


@pytest.mark.filterwarnings("ignore:Passing pyOpenSSL:DeprecationWarning")
@pytest_twisted.ensureDeferred
async def test_tls_of_the_site(embedded: Embedded, tmp_path: Path) -> None:
    """A hook sees what the site has settled with the client, and the server who it is."""
    authority = Authority(tmp_path)

    def pem(file: str, *names: str) -> Any:
        cert, key = authority.issue(file, names)
        return PrivateCertificate.loadPEM(cert.read_bytes() + key.read_bytes())

    trust = Certificate.loadPEM(authority.file.read_bytes())
    seen: list[Any] = []

    def look(request: Any, _: Any) -> None:
        tls = request.tls
        seen.append(tls and (request.scheme, tls.version, tls.cipher, tls.sni, tls.client_cert))

    origin = await serve(embedded, look, tls=pem("server", "app").options(trust))
    alice = pem("alice", "alice")
    client = optionsForClientTLS("app", trust, alice)
    await embedded.ask(GET, client)
    (request,) = origin.seen()
    assert request.all(b"x-forwarded-proto") == [b"https"]
    assert request.all(b"x-client-cert-subject") == [b"CN=alice"]
    ((scheme, version, cipher, sni, found),) = seen
    assert (scheme, sni) == ("https", "app")
    assert version.startswith("TLSv1.")
    assert cipher
    assert (found.subject, found.issuer, found.dns_names) == ("CN=alice", "CN=test ca", ("alice",))
    assert found.fingerprint == alice.digest("sha256").decode().replace(":", "").lower()


@pytest_twisted.ensureDeferred
async def test_site_without_tls(embedded: Embedded) -> None:
    """There is none, whatever the client says."""
    seen: list[Any] = []
    origin = await serve(embedded, lambda request, _: seen.append(request.tls))
    await embedded.ask(GET.replace(b"Connection", b"X-Client-Cert-Subject: CN=a\r\nConnection"))
    assert seen == [None]
    (request,) = origin.seen()
    assert request.all(b"x-client-cert-subject") == []
