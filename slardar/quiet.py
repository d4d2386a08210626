"""Connections of Twisted's HTTP client that log nothing, and end at once."""

# Twisted's client has no types that are strict enough.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.web.client import HTTPConnectionPool
from zope.interface import implementer

__all__ = ["QuietPool"]


class QuietPool(HTTPConnectionPool):
    """A pool for :class:`twisted.web.client.Agent`.

    With Twisted's own pool, each connection has two lines in the log, "Starting factory" and
    "Stopping factory".  And a connection with TLS to a server that hangs never ends: Twisted waits
    for the server to end TLS.  Here it is cut.
    """

    def getConnection(self, key: Any, endpoint: Any) -> Deferred[Any]:
        """What Twisted's agent asks a pool for."""
        return super().getConnection(key, _QuietEndpoint(endpoint))


@implementer(IStreamClientEndpoint)
class _QuietEndpoint:
    def __init__(self, endpoint: Any) -> None:
        self._endpoint = endpoint

    def __repr__(self) -> str:
        return repr(self._endpoint)

    def connect(self, factory: Any) -> Deferred[Any]:
        factory.noisy = False
        connected: Deferred[Any] = self._endpoint.connect(factory)
        return connected.addCallback(_cut_when_lost)


def _cut_when_lost(protocol: Any) -> Any:
    transport = protocol.transport

    def cut() -> None:
        if transport.connected:
            transport.abortConnection()

    # Twisted gives whoever reads a body no other way to end the connection.
    transport.loseConnection = cut
    return protocol
