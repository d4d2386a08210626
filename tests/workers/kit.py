"""Shared by these tests: links in memory, upstreams, snapshots."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone
from twisted.python.failure import Failure

from slardar.model.parse import parse_upstream
from slardar.model.server import Upstream
from slardar.model.snapshot import Snapshot
from slardar.workers.commands import Link

__all__ = [
    "MemoryTransport",
    "connect",
    "deliver",
    "failure_of",
    "result_of",
    "snapshot",
    "upstream",
]


class MemoryTransport:
    """Keeps written bytes until :func:`deliver` takes them to the other side."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.link: Link | None = None
        self.peer: MemoryTransport | None = None
        self.is_open = True

    def write(self, data: bytes) -> None:
        if self.is_open:
            self.written.append(data)

    def loseConnection(self) -> None:
        self._end(ConnectionDone())

    def abortConnection(self) -> None:
        self.written.clear()
        self._end(ConnectionAborted())

    def _end(self, reason: Exception) -> None:
        if self.is_open:
            self.is_open = False
            if self.peer is not None and self.peer.link is not None:
                deliver(self)
            if self.link is not None:
                self.link.connectionLost(Failure(reason))
            if self.peer is not None:
                self.peer._end(ConnectionDone())


def connect(one: Link, other: Link) -> tuple[MemoryTransport, MemoryTransport]:
    """Give two links transports that are connected to each other."""
    ends = MemoryTransport(), MemoryTransport()
    ends[0].peer, ends[1].peer = ends[1], ends[0]
    for end, link in zip(ends, (one, other), strict=True):
        end.link = link
        link.makeConnection(end)
    return ends


def deliver(*transports: MemoryTransport) -> None:
    """Take all written bytes to the other side, also those that are written meanwhile."""
    while any(end.written for end in transports):
        for end in transports:
            while end.written:
                data = end.written.pop(0)
                assert end.peer is not None
                assert end.peer.link is not None
                end.peer.link.dataReceived(data)


def result_of(deferred: Deferred[Any]) -> Any:
    """The result of a Deferred that has fired; raises the exception if it has failed."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "it has not fired"
    if isinstance(results[0], Failure):
        results[0].raiseException()
    return results[0]


def failure_of(deferred: Deferred[Any]) -> BaseException:
    """The exception with which a Deferred has failed."""
    results: list[Any] = []
    deferred.addBoth(results.append)
    assert results, "it has not fired"
    assert isinstance(results[0], Failure), results[0]
    return results[0].value


def upstream(name: str, *ports: int, **keys: Any) -> Upstream:
    """An upstream of servers on the loopback address."""
    server = keys.pop("server", {})
    servers = [{"host": "127.0.0.1", "port": port, **server} for port in ports]
    return parse_upstream(name, {"servers": servers, **keys}, name)


def snapshot(version: int, *upstreams: Upstream) -> Snapshot:
    """A snapshot of these upstreams."""
    return Snapshot.build(version, {one.name: one for one in upstreams}, (), None)
