"""A twisted.web site with slardar in it, in this process, for tests."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import Any

from twisted.internet.endpoints import (
    TCP4ClientEndpoint,
    TCP4ServerEndpoint,
    connectProtocol,
    wrapClientTLS,
)
from twisted.protocols.tls import TLSMemoryBIOFactory
from twisted.web.resource import Resource
from twisted.web.server import Site

from slardar.web import ReverseProxyResource, StreamingRequest
from tests.integration.wire import RawClient, RawOrigin

__all__ = ["Embedded"]


class Embedded:
    """A site on its own port, and the servers behind its proxies."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self._ports: list[Any] = []
        self._origins: list[RawOrigin] = []
        self._proxies: list[ReverseProxyResource] = []
        #: The requests that the site made for its clients, in order.
        self.requests: list[Any] = []

    async def origin(self) -> tuple[RawOrigin, dict[str, Any]]:
        """A new server, and its entry in an upstream."""
        origin = RawOrigin(self.reactor)
        port = await self.listen(origin)
        self._origins.append(origin)
        return origin, {"host": "127.0.0.1", "port": port}

    def proxy(
        self, config: Mapping[str, Any], upstream: str | None = None, **options: Any
    ) -> ReverseProxyResource:
        """A proxy with its own plane, which sends no heartbeats: its servers expect requests."""
        config = {"health": {"enabled": False}, **config}
        proxy = ReverseProxyResource.from_config(self.reactor, config, upstream, **options)
        self._proxies.append(proxy)
        return proxy

    async def serve(
        self, root: Resource, factory: Any = None, timeout: float = 60, tls: Any = None
    ) -> None:
        """Serve a site; ``factory`` makes its requests, ``tls`` its connections with TLS."""
        site = Site(root, timeout=timeout, reactor=self.reactor)
        make = factory or site.requestFactory
        #: Whether bodies are passed on as they arrive.
        self.streams = factory is StreamingRequest

        def make_request(*arguments: Any) -> Any:
            request = make(*arguments)
            self.requests.append(request)
            return request

        site.requestFactory = make_request
        wrapped = site if tls is None else TLSMemoryBIOFactory(tls, False, site)
        self.port = await self.listen(wrapped)

    async def connect(self, tls: Any = None) -> RawClient:
        """A new client of the site; ``tls`` makes its connection with TLS."""
        endpoint: Any = TCP4ClientEndpoint(self.reactor, "127.0.0.1", self.port)
        if tls is not None:
            endpoint = wrapClientTLS(tls, endpoint)
        client = await connectProtocol(endpoint, RawClient(self.reactor))
        client.transport.setTcpNoDelay(True)
        return client

    async def ask(self, sent: bytes, tls: Any = None) -> RawClient:
        """A client that has sent ``sent`` and got all replies: its connection has ended."""
        client = await self.connect(tls)
        client.verbs = [sent.split(b" ")[0]]
        await client.send(sent)
        await client.until(lambda: client.ended)
        return client

    async def stop(self) -> None:
        """End everything."""
        for port in self._ports:
            await port.stopListening()
        for request in self.requests:
            if getattr(request, "channel", None) is not None:
                request.transport.abortConnection()
        for origin in self._origins:
            for connection in origin.connections:
                connection.transport.abortConnection()
        for proxy in self._proxies:
            await proxy.stop()
        for origin in self._origins:
            for connection in origin.connections:
                await connection.until(lambda each=connection: each.ended)

    def narrow(self) -> None:
        """Make the kernel hold few bytes that the site and the servers have sent.

        This holds for connections that come from now on; without it a receiver's buffer may grow
        to tens of megabytes with what it is sent.
        """
        for port in self._ports:
            port.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 262_144)

    async def listen(self, factory: Any) -> int:
        """Listen on a port of the kernel's choice, until :meth:`stop`; returns it."""
        endpoint = TCP4ServerEndpoint(self.reactor, 0, interface="127.0.0.1")
        port = await endpoint.listen(factory)
        self._ports.append(port)
        return port.getHost().port  # type: ignore[no-any-return]
