"""The control channel's connections under steps that Hypothesis makes."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule
from twisted.internet.error import ConnectionDone
from twisted.python.failure import Failure

from slardar.control import room
from slardar.control.http import ControlRequest
from slardar.control.room import Standing
from tests.control.fakes import FakePlane, FakeStore, WebClient, make_actions
from tests.properties.test_model import FIXED

#: Whole requests and pieces of requests.
PIECES = [
    b"GET /routes HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"HEAD /routes HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"PUT /routes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n[]",
    b"PUT /upstream/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 50\r\n\r\n",
    b"PUT /upstream/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"PUT /routes HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    b"PUT /routes HTTP/1.1\r\nHost: evil.example\r\nContent-Length: 9\r\n\r\n",
    b"PUT /routes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n\r\n",
    b"GET /routes HTTP/1.0\r\n\r\n",
    b"5\r\n12345\r\n",
    b"0\r\n\r\n",
    b"x" * 25,
    b"\r\n",
    b"G",
]


class Connections(RuleBasedStateMachine):
    """Any number of connections, in any state; the limits are small enough to be reached."""

    clients = Bundle("clients")

    def __init__(self) -> None:
        super().__init__()
        self.limits = (room.MAX_CONNECTIONS, room.MAX_BODIES, room.MAX_REPLIES)
        room.MAX_CONNECTIONS, room.MAX_BODIES, room.MAX_REPLIES = 3, 90, 7
        self.bugs: list[Failure] = []
        self.bug = ControlRequest._bug
        ControlRequest._bug = lambda _, bug: self.bugs.append(bug)  # type: ignore[method-assign]
        self.plane = FakePlane()
        self.plane.held = []
        actions = make_actions_held(self.plane)
        self.first = WebClient(actions)
        self.site, self.clock, self.actions = self.first.site, self.first.clock, actions
        self.open: list[WebClient] = [self.first]

    @rule(target=clients)
    def come(self) -> WebClient:
        """Make one more connection, if there is room."""
        busy = sum(one.standing is Standing.BUSY for one in self.site.room.guests)
        try:
            client = WebClient(self.actions, site=self.site)
        except AttributeError:  # the connection was refused
            assert busy == room.MAX_CONNECTIONS
            return self.first
        self.open.append(client)
        return client

    @rule(client=clients, piece=st.sampled_from(PIECES), count=st.integers(1, 2))
    def send(self, client: WebClient, piece: bytes, count: int) -> None:
        """Send bytes, if the connection is open."""
        if self._is_open(client):
            client.send(piece * count)

    @rule(client=clients)
    def stall(self, client: WebClient) -> None:
        """Stop reading."""
        client.transport.stalls = True

    @rule(client=clients)
    def read(self, client: WebClient) -> None:
        """Read all bytes."""
        client.transport.stalls = False
        client.transport.clear()
        if self._is_open(client) and client.transport.producer is not None:
            client.channel.resumeProducing()

    @rule(client=clients)
    def half_close(self, client: WebClient) -> None:
        """Send no more."""
        if self._is_open(client):
            client.channel.readConnectionLost()

    @rule(client=clients)
    def go(self, client: WebClient) -> None:
        """Close the connection."""
        if client in self.open:
            self._lose(client)

    @rule(seconds=st.sampled_from([1, 5, 11, 61]))
    def wait(self, seconds: int) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @rule()
    def serve(self) -> None:
        """Finish the oldest call under way."""
        if self.plane.held:
            self.plane.held.pop(0)()

    def _is_open(self, client: WebClient) -> bool:
        transport = client.transport
        return client in self.open and not transport.aborted and not transport.disconnecting

    def _lose(self, client: WebClient) -> None:
        self.open.remove(client)
        client.channel.connectionLost(Failure(ConnectionDone()))

    @invariant()
    def nothing_is_unexpected(self) -> None:
        """No call ends with a bug."""
        assert self.bugs == []

    @invariant()
    def limits_hold(self) -> None:
        """The limits of connections, and of bytes of incomplete bodies."""
        found: Any = self.site.room
        assert len(found.guests) <= room.MAX_CONNECTIONS
        assert found._body_bytes == sum(found._bodies.values()) <= room.MAX_BODIES
        assert found._reply_bytes == sum(found._replies.values())
        assert found._reply_bytes <= room.MAX_REPLIES or len(found._replies) == 1
        kept = sum(
            len(getattr(request, "_body", b""))
            for client in self.open
            for request in client.channel.requests
        )
        assert kept <= found._body_bytes

    def teardown(self) -> None:
        """When all connections are closed, nothing of them is left."""
        while self.plane.held:
            self.plane.held.pop(0)()
        for client in list(self.open):
            self._lose(client)
        found: Any = self.site.room
        assert (found.guests, found._body_bytes, found._reply_bytes) == (frozenset(), 0, 0)
        assert self.clock.getDelayedCalls() == []
        room.MAX_CONNECTIONS, room.MAX_BODIES, room.MAX_REPLIES = self.limits
        ControlRequest._bug = self.bug  # type: ignore[method-assign]


def make_actions_held(plane: FakePlane) -> Any:
    """Operations that have started; the plane holds later answers back."""
    held, plane.held = plane.held, None
    actions = make_actions(FakeStore(), plane)
    plane.held = held
    return actions


TestConnections = Connections.TestCase
TestConnections.settings = settings(FIXED, max_examples=60, stateful_step_count=30)
