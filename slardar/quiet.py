"""Connections of Twisted's HTTP client without two lines in the log for each of them."""

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
    """A pool for :class:`twisted.web.client.Agent`, whose default one logs "Starting factory" and
    "Stopping factory" for each connection."""

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
        return connected
