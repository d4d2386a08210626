"""Checks that a proxy works correctly before its speed is measured."""

from __future__ import annotations

import http.client
import ssl
import time

from benchmarks.backends import FILES, SMALL_BODY
from benchmarks.pair import HOST
from benchmarks.processes import LOOPBACK
from benchmarks.proxies import Running

__all__ = ["HOST", "CheckError", "check", "client_context", "wait_until_ready"]

REQUESTS = 12
READY_WITHIN = 5.0


class CheckError(Exception):
    """A proxy's reply differs from the server's."""


def _get(
    connection: http.client.HTTPConnection, path: str
) -> tuple[http.client.HTTPResponse, bytes]:
    connection.request("GET", path, headers={"Host": HOST})
    reply = connection.getresponse()
    body = reply.read()
    if reply.status != 200:
        raise CheckError(f"GET {path} answered {reply.status} instead of 200")
    return reply, body


def client_context() -> ssl.SSLContext:
    """For clients that take any certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def check(running: Running, backends: tuple[int, int]) -> None:
    """Send some requests through a proxy and check every byte of the replies.

    :raise CheckError: if a status, a body or a header is wrong, if only one of the
        servers gets requests, or if the proxy should keep connections to servers and
        does not.
    """
    wait_until_ready(running)
    connections = [http.client.HTTPConnection(LOOPBACK, running.port, timeout=10)]
    if running.proxy.speaks_tls:
        context = client_context()
        connections.append(
            http.client.HTTPSConnection(LOOPBACK, running.tls_port, timeout=10, context=context)
        )
    for connection in connections:
        try:
            _check(running, connection, backends)
        except (OSError, http.client.HTTPException) as error:
            raise CheckError(f"a request failed: {error!r}") from error
        finally:
            connection.close()


def wait_until_ready(running: Running) -> None:
    """Wait for the first good reply: some proxies listen before they know their routes.

    :raise CheckError: if none comes within ``READY_WITHIN`` seconds.
    """
    deadline = time.monotonic() + READY_WITHIN
    while True:
        connection = http.client.HTTPConnection(LOOPBACK, running.port, timeout=10)
        try:
            _get(connection, "/small/ready")
        except (CheckError, OSError, http.client.HTTPException) as error:
            if time.monotonic() > deadline:
                raise CheckError(f"it gives no good reply: {error!r}") from error
            running.program.pause(0.05)
        else:
            return
        finally:
            connection.close()


def _check(
    running: Running, connection: http.client.HTTPConnection, backends: tuple[int, int]
) -> None:
    served: set[str | None] = set()
    kept = False
    for number in range(REQUESTS):
        reply, body = _get(connection, f"/small/check/{number}?n={number}")
        if body != SMALL_BODY.encode():
            raise CheckError(f"the small body is wrong: {body[:80]!r}")
        if reply.getheader("Set-Cookie") is None or reply.getheader("ETag") is None:
            raise CheckError("headers of the server's reply are missing")
        served.add(reply.getheader("X-Served-By"))
        kept = kept or int(reply.getheader("X-Connection-Requests", "1")) > 1
    if served != {str(port) for port in backends}:
        raise CheckError(f"requests arrived at {served} instead of at both {backends}")
    if running.proxy.keeps_upstream and not kept:
        raise CheckError("it opens a new connection to the server for each request")
    for name, size in FILES.items():
        _, body = _get(connection, f"/{name}/check")
        if body != bytes(range(256)) * (size // 256):
            raise CheckError(f"the {name} file arrived damaged ({len(body)} bytes)")
    _, body = _get(connection, "/forwarded/a?b=c")
    _host, address, uri = body.decode().split("|")
    if uri != "/forwarded/a?b=c":
        raise CheckError(f"the server was asked for {uri} instead of /forwarded/a?b=c")
    # Any address is right: Envoy sends the machine's own for a client on loopback.
    if running.proxy.forwards_address and not address:
        raise CheckError("the server got no X-Forwarded-For")
