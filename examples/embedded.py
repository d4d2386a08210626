"""slardar inside a twisted.web site: a page of the site, and a proxy below /api.

::

    python examples/backends.py 8001 8002 &
    python examples/embedded.py 8000 8001 8002 &
    curl localhost:8000/
    curl localhost:8000/api/users

These commands serve port 8000 of 127.0.0.1, and pass ``/api/users`` on as ``/users`` to
the servers on ports 8001 and 8002 in turn.  ``StreamingRequest`` passes uploads on as they
arrive; without it twisted.web reads each upload first.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from twisted.internet import defer, endpoints, task
from twisted.web import resource, server

from slardar.web import ReverseProxyResource, StreamingRequest


class Page(resource.Resource):
    """A page of the site."""

    def render_GET(self, request: server.Request) -> bytes:
        request.setHeader(b"Content-Type", b"text/plain; charset=utf-8")
        return b"This page is the site's own; what is below /api is passed on.\n"


async def serve(reactor, port: int, backends: Sequence[int]) -> None:
    servers = [{"host": "127.0.0.1", "port": backend} for backend in backends]
    config = {"upstreams": {"api": {"servers": servers}}, "timeouts": {"drain": 10}}
    root = resource.Resource()
    root.putChild(b"", Page())
    root.putChild(
        b"api", ReverseProxyResource.from_config(reactor, config, "api", strip_prefix=True)
    )
    site = server.Site(root, requestFactory=StreamingRequest)
    endpoint = endpoints.TCP4ServerEndpoint(reactor, port, interface="127.0.0.1")
    place = (await endpoint.listen(site)).getHost()
    print(f"serving on http://{place.host}:{place.port}/", flush=True)
    await defer.Deferred()  # until the reactor is stopped


if __name__ == "__main__":
    port, *backends = [int(argument) for argument in sys.argv[1:]] or [8000, 8001, 8002]
    task.react(lambda reactor: defer.ensureDeferred(serve(reactor, port, backends)))
