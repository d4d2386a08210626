"""Small web servers to try a load balancer with: each reply names the server that sent it.

``python examples/backends.py 8001 8002`` serves on both ports of 127.0.0.1
until it is interrupted; for port 0 the system chooses a port.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from twisted.internet import defer, endpoints, error, task
from twisted.web import resource, server


class WhoAmI(resource.Resource):
    """Answers every path with the server's name and the request line."""

    isLeaf = True  # noqa: N815 Twisted's name

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def render(self, request: server.Request) -> bytes:
        host = request.getHeader(b"host") or b"-"
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        return b"%s serves %s %s for %s\n" % (
            self.name.encode(),
            request.method,
            request.uri,
            host,
        )


async def serve(reactor, ports: Sequence[int]) -> None:
    for port in ports:
        page = WhoAmI("")
        endpoint = endpoints.TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")
        try:
            place = (await endpoint.listen(server.Site(page))).getHost()
        except error.CannotListenError as refused:
            sys.exit(f"cannot serve on 127.0.0.1:{port}: {refused.socketError.strerror}")
        page.name = f"{place.host}:{place.port}"
        print(f"serving on http://{page.name}/", flush=True)
    await defer.Deferred()  # until the reactor is stopped


if __name__ == "__main__":
    ports = [int(argument) for argument in sys.argv[1:]] or [8001, 8002]
    task.react(lambda reactor: defer.ensureDeferred(serve(reactor, ports)))
