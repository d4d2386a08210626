"""Tests of HTTP logic as a play with three roles: a client, slardar, and servers.

A test lets the client and the servers send bytes, and looks at the bytes that they get::

    play = Playbook()
    play.client_sends(b"GET / HTTP/1.1\\r\\nHost: a.test\\r\\n\\r\\n")
    assert play.origin_gets().startswith(b"GET / HTTP/1.1\\r\\n")
    play.origin_sends(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nhi")
    assert play.client_gets().endswith(b"hi")
    play.finish()

``play.exchange(request, reply)`` is all of this in one call.

It needs no socket, no reactor and no time: the real connection and the real exchange
write to a :class:`~slardar.testing.channels.RecordingChannel`.
"""

from __future__ import annotations

from typing import Any

from slardar.dataplane.request_queue import RequestQueue
from slardar.dataplane.router import Router
from slardar.http1.bodies import SeenBody
from slardar.http1.client import ClientConnection
from slardar.http1.https import https_url
from slardar.http1.interfaces import (
    ChannelBase,
    ChannelProtocol,
    Downstream,
    ExchangeBase,
    Observer,
    Reminder,
    SelectionBase,
    Step,
    TunnelBase,
)
from slardar.http1.record import RequestRecord
from slardar.http1.request import Request
from slardar.http1.writer import RequestIds
from slardar.model.live import Peer, ServerLive
from slardar.model.server import Server
from slardar.model.snapshot import Choice
from slardar.testing.channels import FakeClock, FakePool, RecordingChannel

__all__ = ["FakeHost", "FakeObserver", "FakeSelection", "Playbook"]


class FakeObserver(Observer):
    """Keeps the record of every request that has ended."""

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []

    def request_ended(self, record: RequestRecord) -> None:
        """Keep one record."""
        assert record not in self.records, f"{record!r} has ended twice"
        record.kept = True
        self.records.append(record)


class FakeSelection(SelectionBase):
    """An upstream of ``servers`` servers, picked in their order."""

    def __init__(self, clock: FakeClock, servers: int = 1) -> None:
        super().__init__("fake")
        self._clock = clock
        self.tries = max(1, servers)
        self.retry_on = frozenset(("connect", "error", "timeout", "status"))
        self.peers: list[Peer] = []
        for number in range(1, servers + 1):
            peer = Peer(Server(host=f"10.0.0.{number}", port=80), ServerLive())
            peer.pool = FakePool(clock, peer.key)
            self.peers.append(peer)
        #: The retry budget, with the defaults of an upstream.
        self.share, self.least = 0.2, 10.0
        #: The most requests under way on each server; 0 is no limit.
        self.max_conns = 0
        #: What is to be taken soon: the queue's next step.
        self.steps: list[Step] = []
        #: Servers that are out of service.
        self.out: set[Peer] = set()
        #: What the exchange reported: ``(server, message)`` of failures, and
        #: ``(server, failed, status)`` of finished attempts.
        self.failures: list[tuple[str, str]] = []
        self.outcomes: list[tuple[str, bool, int]] = []

    def pick(self, request: Request, tried: list[Peer]) -> Peer | None:
        """The first server that is in service and not tried."""
        gone = self.out.union(tried)
        found = next((p for p in self.peers if p not in gone and not self.is_full(p)), None)
        if found is not None:
            found.live.active += 1
            found.live.requests += 1
        return found

    def is_full(self, peer: Peer) -> bool:
        """Whether a server has its limit of requests."""
        return 0 < self.max_conns <= peer.live.active

    def use_queue(self, size: int, timeout: float = 1.0) -> None:
        """Let requests wait while every server is full."""
        self.queue_size, self.queue_timeout = size, timeout
        self.queue = self.about.queue = RequestQueue(self.steps.append)
        self.queue.serve(self)

    def failed(self, peer: Peer, message: str) -> None:
        """Note a failed attempt."""
        peer.live.failures += 1
        self.failures.append((peer.key, message))

    def succeeded(self, peer: Peer, seconds: float, status: int) -> None:
        """Note a reply."""
        self.finished(peer, False, seconds, status)

    def finished(self, peer: Peer, failed: bool, seconds: float, status: int) -> None:
        """Note the end of an attempt."""
        peer.live.active -= 1
        assert peer.live.active >= 0, f"{peer.key} has finished more than it began"
        self.outcomes.append((peer.key, failed, status))
        if self.about.queue is not None:
            self.about.queue.room()

    def affords_retry(self) -> bool:
        """Whether the budget has room."""
        return self.budget.allows(self._clock.now, self.share, self.least)

    def refusal(self, request: Request, tried: bool) -> tuple[int, str]:
        """Status and message for a client if there is no server."""
        if not tried and len(self.out) < len(self.peers):
            return 503, "every server of upstream fake has its limit of connections"
        return 502, "no servers available in upstream fake"


class FakeHost(Router):
    """The data plane around a connection and its exchanges, with the default settings: every
    name leads to ``selection``, if there is one."""

    def __init__(self, clock: FakeClock, selection: FakeSelection | None) -> None:
        super().__init__(clock)
        self.selection = selection
        self.new_id = RequestIds(b"id")
        #: The requests that began, and the statuses of replies that slardar made.
        self.began: list[Request] = []
        self.refused_with: list[int] = []
        self.tunnels: set[TunnelBase] = set()
        #: How often a connection reported its end.
        self.ends = 0
        #: The names that have a certificate; TLS is spoken on port 8443.
        self.certificates: set[str] = set()
        #: What waits for its time, with the time.
        self.reminders: list[tuple[float, Reminder]] = []

    def begin(
        self, downstream: Downstream, request: Request, channel: ChannelBase | None = None
    ) -> ExchangeBase | None:
        """Note that the request begins."""
        self.began.append(request)
        return super().begin(downstream, request, channel)

    def begin_with(
        self,
        downstream: Downstream,
        request: Request,
        body: SeenBody,
        channel: ChannelBase | None = None,
    ) -> ExchangeBase | None:
        """Note that the request begins."""
        self.began.append(request)
        return super().begin_with(downstream, request, body, channel)

    def choose(self, request: Request) -> Choice:
        """The one upstream, if there is one."""
        return Choice(None if self.selection is None else self.selection.name)

    def first_use(self, name: str) -> SelectionBase | None:
        """The one selection, whatever the name."""
        return self.selection

    def remind(self, reminder: Reminder, seconds: float) -> None:
        """Keep it until time has passed."""
        self.reminders.append((self.clock.now + seconds, reminder))

    def call_reminders(self) -> None:
        """Call those whose time has come."""
        due = [one for one in self.reminders if one[0] <= self.clock.now]
        for one in sorted(due, key=lambda one: one[0]):
            self.reminders.remove(one)
            one[1].due()

    def refused(self, status: int) -> None:
        """A request was answered by slardar itself."""
        super().refused(status)
        self.refused_with.append(status)

    def has_certificate(self, host: str) -> bool:
        """Whether it is one of ``certificates``."""
        return host in self.certificates

    def is_for_tls(self, host: str) -> bool:
        """As :meth:`has_certificate`: no client is asked for a certificate."""
        return host in self.certificates

    def https_place(self, request: Request, came_to: int) -> bytes:
        """On port 8443, or on the usual one where another machine passes ports on."""
        return https_url(request, came_to, [8443])

    def tunnel(self, tunnel: TunnelBase) -> None:
        """A connection became a tunnel."""
        self.tunnels.add(tunnel)

    def tunnel_closed(self, tunnel: TunnelBase) -> None:
        """A tunnel has ended."""
        self.tunnels.remove(tunnel)

    def closed(self, connection: ChannelProtocol) -> None:
        """A connection has ended."""
        self.ends += 1


class Playbook:
    """One client with its connection, and ``servers`` servers (0: there is no upstream).

    Every request is observed, unless ``observed`` is False.  Servers accept connections at
    once unless ``accepting`` is False.  ``number`` names a server's connection: all are
    counted in the order in which they were made, and the newest is the default.
    """

    def __init__(self, servers: int = 1, observed: bool = True, **settings: Any) -> None:
        self.clock = FakeClock()
        self.selection = FakeSelection(self.clock, servers)
        self.host = FakeHost(self.clock, self.selection if servers else None)
        for name, value in settings.items():
            assert hasattr(self.host, name), f"no such setting: {name}"
            setattr(self.host, name, value)
        self.observer = FakeObserver()
        if observed:
            self.host.observer = self.observer
        self.accepting = True
        self.connection = ClientConnection(self.host, b"192.0.2.7")
        self.client = RecordingChannel(self.clock, self.connection, name="client")
        self.connection.attach(self.client)

    @property
    def origins(self) -> list[RecordingChannel]:
        """Every connection that was made to a server."""
        pools = [peer.pool for peer in self.selection.peers]
        return sorted((c for pool in pools for c in pool.channels), key=lambda c: c.fd)

    @property
    def origin(self) -> RecordingChannel:
        """The newest connection to a server."""
        return self.origins[-1]

    def settle(self) -> None:
        """Let everything happen that needs no time to pass."""
        moved = True
        while moved:
            moved = self.client.pump()
            for origin in self.origins:
                if origin.connecting and not origin.closed and self.accepting:
                    origin.connect()
                    moved = True
                moved = origin.pump() or moved
            while self.selection.steps:
                self.selection.steps.pop(0).go_on()
                moved = True

    def pass_time(self, seconds: float) -> None:
        """Let time pass; deadlines are checked every quarter of a second, and reminders come
        when they are due."""
        end = self.clock.now + seconds
        while self.clock.now < end:
            until = min([end, self.clock.now + 0.25, *(when for when, _ in self.host.reminders)])
            self.clock.advance(max(0.0, until - self.clock.now))
            self.host.call_reminders()
            for channel in (self.client, *self.origins):
                channel.look_at_clock()
            self.settle()

    @property
    def records(self) -> list[RequestRecord]:
        """The records of the requests that have ended."""
        return self.observer.records

    # The client.

    def client_sends(self, data: bytes) -> None:
        """The client sends ``data``, which is read in as few pieces as possible."""
        self.client.deliver(data)
        self.settle()

    def client_sends_bytewise(self, data: bytes) -> None:
        """The client sends ``data`` byte by byte."""
        for index in range(len(data)):
            self.client_sends(data[index : index + 1])

    def client_gets(self) -> bytes:
        """The bytes that the client has got since the last call."""
        return self.client.take()

    def client_ends(self) -> None:
        """The client closes its side and still reads."""
        self.client.end()
        self.settle()

    def client_leaves(self) -> None:
        """The client's connection breaks."""
        self.client.lose()
        self.settle()

    def client_drains(self, size: int | None = None) -> None:
        """The client takes waiting bytes; see :meth:`RecordingChannel.drain`."""
        self.client.drain(size)
        self.settle()

    # The servers.

    def origin_gets(self, number: int = -1) -> bytes:
        """The bytes that a server has got on a connection since the last call."""
        return self.origins[number].take()

    def origin_sends(self, data: bytes, number: int = -1) -> None:
        """A server sends ``data``, which is read in as few pieces as possible."""
        self.origins[number].deliver(data)
        self.settle()

    def origin_ends(self, number: int = -1) -> None:
        """A server closes its side."""
        self.origins[number].end()
        self.settle()

    def origin_breaks(self, number: int = -1) -> None:
        """A server's connection breaks."""
        self.origins[number].lose()
        self.settle()

    def origin_drains(self, size: int | None = None, number: int = -1) -> None:
        """A server takes waiting bytes."""
        self.origins[number].drain(size)
        self.settle()

    # Both.

    def exchange(self, request: bytes, reply: bytes) -> bytes:
        """The client sends ``request``, and the newest connection to a server gets ``reply``;
        answers what the client has got since it was last asked for."""
        self.client_sends(request)
        self.origin_sends(reply)
        return self.client_gets()

    # The end.

    def check(self) -> None:
        """Assert what holds at every moment: counters agree with the requests under way."""
        active = sum(peer.live.active for peer in self.selection.peers)
        most = self.host.exchanges * (2 if self.selection.hedge_after else 1)
        assert most >= active >= 0
        if self.connection.is_idle:
            assert not active
            assert not self.client.paused, "an idle client is not read from"

    def finish(self) -> None:
        """The client leaves, and nothing of it may remain.  Call this in every test."""
        self.check()
        for tunnel in list(self.host.tunnels):
            tunnel.close()
        self.client_leaves()
        # Time for bytes that are still sent, or read and dropped.
        self.pass_time(2 * self.host.send_timeout + 1)
        assert self.host.exchanges == 0, "an exchange was not counted out"
        for _, reminder in self.host.reminders:
            raise AssertionError(f"{reminder!r} was not called")
        if self.selection.queue is not None:
            assert self.selection.queue.waiting == 0, "a request still waits for room"
        for peer in self.selection.peers:
            assert peer.live.active == 0, f"{peer.key} counts a request that is over"
        ended = [record.request for record in self.records]
        for request in self.host.began if self.host.observer is not None else ():
            assert ended.count(request) == 1, f"{request!r} ended {ended.count(request)} times"
        assert self.client.closed
        assert self.host.ends == 1, f"the connection ended {self.host.ends} times"
        idle = [channel for peer in self.selection.peers for channel in peer.pool.idle]
        for origin in self.origins:
            assert origin.closed or origin in idle, f"{origin!r} is nobody's"
