"""A selection whose clock the test sets, and the requests on it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from slardar.dataplane.selection import Defaults, Selection
from slardar.health.checked import note_checked
from slardar.http1.request import Request, parse_request
from slardar.model.live import Live, Peer
from slardar.model.parse import parse_upstream
from slardar.plugins import balancer_factory
from slardar.testing.channels import FakeClock

#: Every balancer of slardar's own that needs no options.
MODES = ["wrr", "least_conn", "p2c", "random", "ewma", "hash"]


class Served:
    """The upstream ``up``, served; servers go by their ports on 127.0.0.1."""

    def __init__(self, **body: Any) -> None:
        self.clock = FakeClock()
        self.live = Live()
        #: The servers that were ejected.
        self.told: list[int] = []
        #: The servers that have said something new.
        self.hinted: list[int] = []
        self.edit(**body)

    def edit(self, **body: Any) -> None:
        """Replace the upstream, as a change of the configuration does."""
        upstream = parse_upstream("up", body, "up")
        make: Any = balancer_factory(upstream.mode)
        self.selection = Selection(
            upstream,
            self.live,
            make,
            Defaults(1, 1, 1),
            self.clock,
            on_ejected=self._on_ejected,
            on_hint=self._on_hint,
        )

    def _on_hint(self, name: str, peer: Peer) -> None:
        self.hinted.append(peer.port)

    def _on_ejected(self, name: str, peer: Peer) -> None:
        self.told.append(peer.port)

    def peer(self, port: int) -> Peer:
        """The server with this port."""
        return next(peer for peer in self.selection.peers if peer.port == port)

    def fail(self, port: int, status: int = 0, seconds: float = 0.1) -> None:
        """A request fails on the server."""
        peer = self.peer(port)
        peer.live.active += 1
        self.selection.failed(peer, "no reply")
        self.selection.finished(peer, True, seconds, status)

    def reply(self, port: int, status: int = 200, seconds: float = 0.1) -> None:
        """The server gives a reply that is no failure by nginx's rules."""
        peer = self.peer(port)
        peer.live.active += 1
        self.selection.succeeded(peer, seconds, status)

    def check(self, port: int, status: str) -> None:
        """Heartbeats say this of the server."""
        if note_checked(self.peer(port).live, status, 0.0, "refused"):
            self.selection.look("127.0.0.1", port)

    def pick(self, number: int = 0) -> int | None:
        """The server of one request, which is over at once."""
        peer = self.selection.pick(request(number), [])
        if peer is None:
            return None
        peer.live.active -= 1
        return peer.port

    def shares(self, count: int = 300) -> Counter[int | None]:
        """How many of so many requests each server gets."""
        return Counter(self.pick(number) for number in range(count))

    def picked(self, count: int = 100) -> set[int | None]:
        """The servers that get requests now."""
        return set(self.shares(count))

    def reasons(self) -> dict[str, str]:
        """Why servers get no request, by ``host:port``, as an operator is told."""
        levels = self.selection.preview(request()).levels
        return {one.server: one.reason for level in levels for one in level.candidates}

    def note(self, port: int) -> str:
        """What the server gets beyond its health, as an operator is told."""
        levels = self.selection.preview(request()).levels
        notes = {one.server: one.note for level in levels for one in level.candidates}
        return notes[f"127.0.0.1:{port}"]


def request(number: int = 0) -> Request:
    """A request; those with other numbers have other keys for the hashes."""
    asked = parse_request(b"GET /%d HTTP/1.1\r\nHost: up\r\n\r\n" % number)
    asked.address = b"10.0.0.1"
    return asked


def server(port: int, **rest: Any) -> dict[str, Any]:
    """One server."""
    return {"host": "127.0.0.1", "port": port, **rest}


def servers(count: int, **rest: Any) -> list[dict[str, Any]]:
    """So many servers, from port 1 on."""
    return [server(port, **rest) for port in range(1, count + 1)]
