"""``twisted.web.proxy.ReverseProxyResource`` in front of two servers in turn.

    python -m benchmarks.twisted_resource PORT BACKEND_PORT BACKEND_PORT

Access and connection logs are off, as they are for the other proxies.
"""

from __future__ import annotations

import itertools
import sys
from typing import Any

from twisted.internet import defer, endpoints, task
from twisted.web.proxy import ProxyClientFactory, ReverseProxyResource
from twisted.web.resource import Resource
from twisted.web.server import Site

# Twisted's own annotations leave these calls untyped.
# mypy: disable-error-code="no-untyped-call"


class TakingTurns(Resource):
    """Gives each request to its next resource, in turn."""

    def __init__(self, resources: list[ReverseProxyResource]) -> None:
        super().__init__()
        self._turn = itertools.cycle(resources)

    def getChildWithDefault(self, path: bytes, request: Any) -> Any:
        return next(self._turn).getChild(path, request)


class QuietSite(Site):
    """A Site that writes no access log."""

    def log(self, request: object) -> None:
        """Do nothing."""


async def serve(reactor: Any, port: str, *backends: str) -> None:
    ProxyClientFactory.noisy = False
    resources = [
        ReverseProxyResource("127.0.0.1", int(backend), b"", reactor=reactor)
        for backend in backends
    ]
    place = f"tcp:{int(port)}:interface=127.0.0.1:backlog=4096"
    await endpoints.serverFromString(reactor, place).listen(QuietSite(TakingTurns(resources)))
    await defer.Deferred()


if __name__ == "__main__":
    task.react(lambda reactor, *words: defer.ensureDeferred(serve(reactor, *words)), sys.argv[1:])
