"""slardar in this process, with stand-ins for all servers: what becomes of requests, before anybody
serves a configuration.

Two data planes have the same routes and hooks.  One has the servers of the configuration, is asked
where a request would go, and connects to nobody.  The other one serves requests on ports that the
kernel chooses; each of its upstreams has one server, the stand-in.
"""

# Twisted has few types.
# mypy: disable-error-code="no-untyped-call,misc"

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from msgspec import structs
from twisted.internet import defer
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Protocol
from twisted.web.resource import Resource
from twisted.web.server import Request as WebRequest
from twisted.web.server import Site as WebSite

from slardar.config import Health, Settings, Tls
from slardar.dataplane.listener_kinds import LISTENER_KINDS, HttpKind, ListenerKind
from slardar.dataplane.plain_channel import PlainChannel
from slardar.dataplane.poller import Poller
from slardar.dataplane.proxy import DataPlane
from slardar.dataplane.system import Socket
from slardar.errors import ConfigError
from slardar.hooks.engine import ScriptError
from slardar.http1.interfaces import ChannelBase, ChannelProtocol
from slardar.model.hook import Code, Hook, HookKey, check_new_hook_name
from slardar.model.listener import ListenerSpec
from slardar.model.live import Live
from slardar.model.parse import parse_upstream
from slardar.model.server import Upstream
from slardar.model.snapshot import Snapshot
from slardar.plugins import balancer_factory
from slardar.resolve import Names
from slardar.testing.candidate import read_candidate
from slardar.testing.expectations import Asked, Expectation, Outcome, ServerReply, asked

__all__ = ["Site"]

#: Seconds for one request.
_PATIENCE: Final = 10.0
#: The address from which requests come; they tell another one with the PROXY protocol.
_OWN: Final = "127.83.76.65"
#: Keys of an upstream that say how its servers are spoken to: the stand-in speaks plain HTTP.
_OF_SERVERS: Final = ("servers", "cluster", "tls", "proxy_protocol", "typ", "http_opts")
#: The protocol of the listener whose requests count as those of https.
_SECURE: Final = "https in the clear"


class _Anywhere(Names):
    """Says of every name that it is an address of this machine: nobody is connected to."""

    def _ask(self, name: str, known: Any) -> None:
        self._answer(name, known, [(socket.AF_INET, "127.0.0.1")])


class _StandIn(Resource):
    """Every server: it remembers what it was asked, and answers as the expectation says."""

    isLeaf = True  # noqa: N815 - Twisted's name

    def __init__(self) -> None:
        super().__init__()
        self.reply = ServerReply()
        self.request: tuple[str, Mapping[str, str]] | None = None

    def render(self, request: Any) -> bytes:
        """Answer one request."""
        headers = _joined(
            (name.decode("latin-1"), value.decode("latin-1"))
            for name, values in request.requestHeaders.getAllRawHeaders()
            for value in values
        )
        line = f"{request.method.decode('latin-1')} {request.uri.decode('latin-1')}"
        self.request = line, headers
        request.setResponseCode(self.reply.status)
        request.responseHeaders.removeHeader(b"server")
        for name, value in self.reply.headers.items():
            request.setHeader(name.encode("latin-1"), value.encode("latin-1"))
        return self.reply.body.encode()


class _Request(WebRequest):
    # The reply has the headers that the expectation gives it, and no type of Twisted's.
    defaultContentType = None  # noqa: N815 - Twisted's name


class _Client(Protocol):
    """Keeps what comes until the end."""

    def __init__(self) -> None:
        self.data = bytearray()
        self.ended: defer.Deferred[None] = defer.Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.data += data

    def connectionLost(self, reason: Any = None) -> None:
        self.ended.callback(None)


class Site:
    """slardar with ``settings`` and ``hooks``, for requests one after the other.

    ``hooks`` is the code of each hook, by language and name.  Heartbeats, logs, traces, TLS and
    stores of the settings have no effect.  Nothing leaves this machine.

    ``start`` raises ConfigError for a hook whose code is refused.
    """

    def __init__(
        self, reactor: Any, settings: Settings, hooks: Mapping[HookKey, str] | None = None
    ) -> None:
        self._reactor = reactor
        self._hooks = dict(hooks or {})
        self._settings = structs.replace(
            settings,
            health=Health(enabled=False),
            access_log=(),
            tracing=None,
            workers=0,
            tls=Tls(),
            # If some are trusted, only they may tell a client's address.
            trusted=(*settings.trusted, _OWN) if settings.trusted else (),
        )
        self._stand_in = _StandIn()
        self._planes: list[DataPlane] = []
        self._port: Any = None
        self._ports: dict[str, int] = {}

    async def start(self) -> None:
        """Listen, and load the hooks."""
        web = WebSite(self._stand_in, reactor=self._reactor)
        web.requestFactory = _Request
        endpoint = TCP4ServerEndpoint(self._reactor, 0, interface="127.0.0.1")
        self._port = await endpoint.listen(web)
        kinds = {**LISTENER_KINDS, _SECURE: _SecureKind()}
        try:
            explaining, serving = (self._make_plane(kinds) for _ in range(2))
            settings = self._settings
            hooks = await self._loaded(serving)
            services = settings.first_services.values()
            upstreams = {
                **settings.first_upstreams,
                **{service.name: service.upstream(()) for service in services},
            }
            replaced = {name: self._replaced(one) for name, one in upstreams.items()}
            for plane, served in ((explaining, upstreams), (serving, replaced)):
                snapshot = Snapshot.build(
                    1,
                    served,
                    settings.first_routes,
                    settings.default_upstream,
                    hooks,
                    settings=settings.first_settings,
                )
                await plane.apply(snapshot, list(served))
            for scheme, protocol in (("http", "http"), ("https", _SECURE)):
                spec = ListenerSpec(
                    scheme, "tcp:0:interface=127.0.0.1", protocol, scheme == "https", True
                )
                where = await serving.listen(spec)
                self._ports[scheme] = int(where.rpartition(":")[2])
            for plane in self._planes:
                await plane.start()
        except BaseException:
            await self.stop()
            raise

    def _make_plane(self, kinds: Mapping[str, ListenerKind]) -> DataPlane:
        names = _Anywhere(self._reactor)
        plane = DataPlane(
            self._reactor, self._settings, Live(), balancer_factory, names, kinds=kinds
        )
        self._planes.append(plane)
        return plane

    async def _loaded(self, plane: DataPlane) -> dict[HookKey, Hook]:
        hooks = {}
        for (language, name), code in self._hooks.items():
            check_new_hook_name(language, name, "hooks")
            modules = {
                other: text
                for (one, other), text in self._hooks.items()
                if one == language and other.startswith("modules.") and other != name
            }
            settings = self._settings.first_settings
            try:
                found = await plane.check_hook(language, name, code, modules, settings)
            except ScriptError as error:
                raise ConfigError(f"{name}: {error}") from None
            hook = Hook(language, name, Code.of(code, 0.0, tuple(found)))  # type: ignore[arg-type]
            hooks[hook.key] = hook
        return hooks

    def _replaced(self, upstream: Upstream) -> Upstream:
        """The upstream with the stand-in in the place of its servers."""
        servers = {"servers": [{"host": "127.0.0.1", "port": self._port.getHost().port}]}
        source = {key: value for key, value in upstream.source.items() if key not in _OF_SERVERS}
        cluster = upstream.source.get("cluster")
        if isinstance(cluster, Mapping):
            source["cluster"] = dict.fromkeys(cluster, servers)
        else:
            source.update(servers)
        return parse_upstream(upstream.name, source, upstream.name)

    async def stop(self) -> None:
        """Stop listening, and end everything."""
        for plane in self._planes:
            await plane.stop(0.0, 0.0)
        if self._port is not None:
            await self._port.stopListening()

    # Requests.

    async def check(self, expectation: Expectation) -> list[str]:
        """What comes otherwise than expected, in a line each.  Raises ConfigError for a request
        that nobody can explain."""
        outcome = await self._outcome(expectation.request, expectation.reply)
        return expectation.differences(outcome)

    async def check_file(self, file: str | Path) -> list[str]:
        """The same of all that a file for ``slardar check`` expects.  Its ``config`` and ``hooks``
        have no effect here."""
        found = []
        for one in read_candidate(str(file)).expectations:
            found += [f"{one.name}: {line}" for line in await self.check(one)]
        return found

    async def ask(
        self,
        request: str,
        headers: Mapping[str, str] | None = None,
        body: str = "",
        client: str = "127.0.0.1",
        reply: ServerReply | None = None,
    ) -> Outcome:
        """What becomes of a request such as ``GET http://www.example.com/path`` from the address
        ``client``.  A server that gets it answers ``reply``.  Raises ConfigError for what is no
        request."""
        made = asked(request, headers, body, client)
        return await self._outcome(made, reply or ServerReply())

    async def _outcome(self, request: Asked, reply: ServerReply) -> Outcome:
        head = _head(request)
        found = await self._planes[0].explain(head, request.client)
        self._stand_in.reply, self._stand_in.request = reply, None
        data = await self._sent(request, head)
        status, headers, body = _read(data, request.method)
        sent = self._stand_in.request
        refusal = found.refusal
        if refusal is not None and sent is not None:
            # The stand-in is always there; a server of the configuration is not.
            status, headers, body, sent = refusal.status, {}, "", None
        servers = tuple(
            one.server for one in found.candidates if one.level == found.level and not one.reason
        )
        return Outcome(
            found.upstream,
            servers if sent is not None else (),
            status,
            headers,
            body,
            None if sent is None else sent[1],
            None if sent is None else sent[0],
            tuple(map(_told, found.hooks)),
        )

    async def _sent(self, request: Asked, head: bytes) -> bytes:
        port = self._ports[request.scheme]
        endpoint = TCP4ClientEndpoint(
            self._reactor, "127.0.0.1", port, _PATIENCE, bindAddress=(_OWN, 0)
        )
        client = await connectProtocol(endpoint, _Client())
        family, own = ("TCP6", "::1") if ":" in request.client else ("TCP4", "127.0.0.1")
        start = f"PROXY {family} {request.client} {own} 1 {port}\r\n".encode()
        client.transport.write(start + head + request.body.encode())
        client.ended.addTimeout(_PATIENCE, self._reactor, partial(_late, client))
        await client.ended
        return bytes(client.data)


class _SecureKind(HttpKind):
    """Takes what a trusted proxy has taken from TLS."""

    def make_channel(
        self, poller: Poller, sock: Socket, protocol: ChannelProtocol, listener: ListenerSpec
    ) -> ChannelBase:
        """See the base."""
        return PlainChannel(poller, sock, protocol)


def _late(client: _Client, _result: Any, _seconds: float) -> None:
    client.transport.abortConnection()  # type: ignore[union-attr]


def _head(request: Asked) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1", f"Host: {request.host}"]
    lines += [f"{name}: {value}" for name, value in request.headers]
    lines.append("Connection: close")
    if request.body:
        lines.append(f"Content-Length: {len(request.body.encode())}")
    return "\r\n".join((*lines, "", "")).encode("utf-8")


class _Bytes(io.BytesIO):
    """What HTTPResponse reads in the place of a socket."""

    def makefile(self, mode: str) -> _Bytes:
        return self


def _read(data: bytes, method: str) -> tuple[int, Mapping[str, str], str]:
    """Status, headers and body of a reply; 0 if there is none."""
    if not data:
        return 0, {}, ""
    reply = http.client.HTTPResponse(_Bytes(data), method=method)  # type: ignore[arg-type]
    try:
        reply.begin()
        body = reply.read()
    except http.client.HTTPException:
        return 0, {}, ""
    return reply.status, _joined(reply.getheaders()), body.decode("utf-8", "replace")


def _joined(lines: Iterable[tuple[str, str]]) -> Mapping[str, str]:
    found: dict[str, str] = {}
    for name, value in lines:
        name = name.lower()
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _told(hook: Any) -> str:
    why = f": {hook.error}" if hook.error else ""
    return f"{hook.hook} {hook.outcome}{why}"
