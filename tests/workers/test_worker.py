"""What a worker does with the director's messages; the link is in memory."""

from __future__ import annotations

import fcntl
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from msgspec import structs
from twisted.python.failure import Failure

from slardar.config import Settings
from slardar.dataplane.selection import Selection
from slardar.health.verdicts import Ejection, Heartbeat, Verdict
from slardar.http1.request import Request
from slardar.model.listener import ListenerSpec
from slardar.model.live import Peer
from slardar.model.parse import parse_routes, parse_upstream
from slardar.model.server import Upstream
from slardar.model.snapshot import Snapshot
from slardar.workers import messages
from slardar.workers.commands import Link
from slardar.workers.messages import (
    Addresses,
    Begin,
    Delta,
    Done,
    Drain,
    Listening,
    Ping,
    Report,
    TimeServers,
    Verdicts,
    WorkerSocket,
)
from slardar.workers.worker import Worker, end_without_memory
from tests.dataplane.kit import HandReactor, logged, pump
from tests.workers.kit import connect, deliver, result_of, snapshot, upstream

LISTENER = ListenerSpec("tcp:0", "tcp:0")
FAILS = {"server": {"max_fails": 1, "fail_timeout": 10}}


class Director:
    """The other end of a worker's link."""

    def __init__(self) -> None:
        self.reactor = HandReactor()
        self.ends = 0
        self.said: list[Any] = []
        self.worker = Worker(self.reactor, self._ended, first_socket=-1)
        self.link = Link(self._took, lambda: None)
        self.transports = connect(self.link, self.worker.link)

    def _ended(self) -> None:
        self.ends += 1

    def _took(self, data: bytes) -> bytes:
        self.said.append(messages.decode_from_worker(data))
        return b""

    def tell(self, message: Any) -> Done:
        """Send a message, and return the answer."""
        answer = self.link.send(messages.encode(message))
        deliver(*self.transports)
        return messages.decode_answer(result_of(answer))

    def begin(self, first: Snapshot, *sockets: bool, **known: Any) -> Done:
        """Let the worker begin."""
        whole = messages.raw(messages.encode(messages.whole(first)))
        settings = messages.lean_settings(Settings())
        mine = tuple(WorkerSocket(place, LISTENER, shared) for place, shared in enumerate(sockets))
        return self.tell(Begin(0, settings, whole, mine, len(mine), **known))

    def reports(self, seconds: float = 1.05) -> list[Any]:
        """The worker's reports within so many seconds."""
        self.said.clear()
        for _ in range(round(seconds / 0.05)):
            self.reactor.advance(0.05)
            self.plane._poller.clock.now += 0.05
        for _ in range(5):
            self.reactor.advance(0)
        deliver(*self.transports)
        return self.said

    @property
    def plane(self) -> Any:
        """The worker's data plane."""
        return self.worker._plane

    def selection(self, name: str) -> Selection:
        """An upstream in use, as its first request makes it."""
        found: Selection = self.plane.selections.get(name) or self.plane.first_use(name)
        return found

    def peers(self, name: str) -> list[Peer]:
        """The servers of an upstream."""
        return self.selection(name).peers


@pytest.fixture
def director(_hidden_heap: None) -> Iterator[Director]:
    """A director with a worker that has not begun; nothing of it remains after the test."""
    found = Director()
    yield found
    if found.plane is not None and not found.worker._stopping:
        found.plane.stop(0)
        for _ in range(50):
            found.reactor.advance(0.05)


def test_worker_serves_what_it_begins_with(director: Director) -> None:
    """It confirms the version."""
    assert director.begin(snapshot(7, upstream("a", 1), upstream("b", 2))) == Done(7)
    assert [peer.key for peer in director.peers("b")] == ["127.0.0.1:2"]
    assert director.tell(Ping()) == Done(7)


def test_worker_times_servers_for_a_while(director: Director) -> None:
    """As long as the director has said."""
    director.begin(snapshot(1, upstream("a", 1)))
    counting = director.plane.observers.counting
    assert director.plane.clock.now >= counting.timed_until
    assert director.tell(TimeServers(15.0)) == Done(1)
    assert counting.timed_until == director.plane.clock.now + 15


@pytest.mark.real
def test_worker_accepts_on_the_sockets_it_inherited(director: Director) -> None:
    """They are in the order of their descriptors; a connection knows its listener."""
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        first.listen()
        descriptor = os.dup(first.fileno())
        director.worker._first_socket = descriptor
        director.begin(snapshot(1), False)
        (listener,) = director.plane._clients.listeners
        assert listener.fd == descriptor
        assert not os.get_inheritable(descriptor)
        assert listener.sock.getsockname() == first.getsockname()
        with socket.create_connection(first.getsockname()):
            pump(director.plane._poller, lambda: director.plane._clients.connected)
            (connection,) = director.plane._clients.connected
            assert connection.listener == LISTENER


def test_change_leads_from_its_base_only(director: Director) -> None:
    """A worker at another version says so, and changes nothing."""
    first = snapshot(7, upstream("a", 1), upstream("b", 2))
    director.begin(first)
    following = first.with_upstream(upstream("a", 3)).without_upstream("b").at_version(8)
    change = messages.delta(first, following, ["a", "b"])
    assert director.tell(change) == Done(8)
    assert [peer.port for peer in director.peers("a")] == [3]
    assert director.plane.first_use("b") is None
    assert director.tell(change) == Done(8, stale=True)
    assert director.tell(messages.whole(first)) == Done(7)
    assert [peer.port for peer in director.peers("a")] == [1]


def test_whole_configuration_touches_what_differs_only(director: Director) -> None:
    """An upstream that stayed the same keeps its selection."""
    first = snapshot(1, upstream("same", 1), upstream("other", 2))
    director.begin(first)
    same, other = director.selection("same"), director.selection("other")
    second = snapshot(5, upstream("same", 1), upstream("other", 3), upstream("new", 4))
    assert director.tell(messages.whole(second)) == Done(5)
    assert director.selection("same") is same
    assert director.selection("other") is not other
    assert director.peers("new")


def test_routes_and_default_are_followed(director: Director) -> None:
    """The change touches no upstream."""
    first = snapshot(1, upstream("a", 1))
    director.begin(first)
    routed = first.with_routes(parse_routes([{"host": "x", "upstream": "a"}], "routes"))
    assert director.tell(messages.delta(first, routed, [])) == Done(2)
    assert director.plane._snapshot.route("x", "/") == "a"
    change = Delta(2, 3, (), (), None, "a")
    assert director.tell(change) == Done(3)
    assert director.plane._snapshot.route("x", "/") == "a"
    assert director.plane._snapshot.route("other", "/") == "a"


def test_configuration_that_is_refused_leaves_the_old_one(director: Director) -> None:
    """The answer has the reason; the worker stays at its version, and knows it."""
    first = snapshot(1, upstream("a", 1))
    director.begin(first)
    director.selection("a")
    wrong = first.with_upstream(upstream("a", 2, mode="no.such.Balancer"))
    done = director.tell(messages.delta(first, wrong, ["a"]))
    assert done.version == 1
    assert "no.such" in done.error
    assert director.peers("a")[0].port == 1
    right = first.with_upstream(upstream("a", 3))
    assert director.tell(messages.delta(first, right, ["a"])) == Done(2)


def test_mistake_of_the_director_is_answered(director: Director) -> None:
    """The answer names the mistake, and the link goes on."""
    assert director.tell(messages.whole(snapshot(1))).error == "expected begin first"
    with logged() as events:
        answer = director.link.send(b"{}")
        deliver(*director.transports)
    assert events
    del answer
    # Bytes that are no message end the link: the director would not send them.
    assert director.worker.link.is_lost


def test_reports_come_once_a_second(director: Director) -> None:
    """A report has the servers that changed since the last one, and no others."""
    director.begin(snapshot(3, upstream("a", 1, 2)))
    peer, _ = director.peers("a")
    peer.live.requests, peer.live.active = 5, 1
    reports = director.reports()
    assert all(isinstance(report, Report) and report.version == 3 for report in reports)
    servers = [about for report in reports for about in report.servers]
    assert [(about.port, about.requests, about.active) for about in servers] == [
        (1, 5, 1),
        (2, 0, 0),
    ]
    assert [report.servers for report in director.reports()] == [()]
    peer.live.failures = 2
    (about,) = [about for report in director.reports() for about in report.servers]
    assert (about.port, about.failures) == (1, 2)


def test_many_servers_are_reported_in_slices(director: Director) -> None:
    """A message has at most a thousand servers, and requests get their turn in between."""
    many = [upstream(f"u{n}", *range(1, 301)) for n in range(10)]
    director.begin(snapshot(1, *many))
    for one in many:
        director.selection(one.name)
    reports = director.reports()
    assert sum(len(report.servers) for report in reports) == 3000
    assert max(len(report.servers) for report in reports) == 1000


def test_server_that_comes_again_is_reported_again(director: Director) -> None:
    """The director has forgotten it meanwhile."""
    first = snapshot(1, upstream("a", 1, 2))
    director.begin(first)
    director.selection("a")
    director.reports()
    second = first.with_upstream(upstream("a", 1))
    director.tell(messages.delta(first, second, ["a"]))
    third = second.with_upstream(upstream("a", 1, 2))
    director.tell(messages.delta(second, third, ["a"]))
    ports = {about.port for report in director.reports() for about in report.servers}
    assert ports == {1, 2}


def test_health_that_requests_found_out_is_told(director: Director) -> None:
    """The worker reports a server that went out, with the time, and its return."""
    director.begin(snapshot(1, upstream("a", 1, 2, **FAILS)))
    selection = director.selection("a")
    peer = selection.peers[0]
    selection.failed(peer, "connection refused")
    (told,) = verdicts(director, 0.3)
    assert (told.upstream, told.host, told.port) == ("a", "127.0.0.1", 1)
    assert 9 < told.down_for <= 10
    assert told.message == "connection refused"
    director.plane._poller.clock.now += 20
    peer.live.active = 1
    selection.succeeded(peer, 0.1, 200)
    (told,) = verdicts(director, 0.3)
    assert told.down_for == 0
    assert verdicts(director, 0.3) == []


def test_health_that_flaps_is_told_once_in_a_while(director: Director) -> None:
    """Many changes make few reports; the last state counts."""
    keys = {"server": {"max_fails": 1, "fail_timeout": 0}}
    director.begin(snapshot(1, upstream("a", 1, 2, **keys)))
    selection = director.selection("a")
    for _ in range(1000):
        selection.failed(selection.peers[0], "refused")
    assert len(verdicts(director, 0.1)) <= 1


def test_health_that_another_worker_found_out_is_heeded(director: Director) -> None:
    """The server gets no request until its time is over, or until it is reported back."""
    director.begin(snapshot(1, upstream("a", 1, 2, **FAILS)))
    selection = director.selection("a")
    director.tell(Verdicts((Verdict("a", "127.0.0.1", 1, 5, "refused"),)))
    assert picked(selection) == {2}
    director.tell(Verdicts((Verdict("a", "127.0.0.1", 1, 0, ""),)))
    assert picked(selection) == {1, 2}
    director.tell(Verdicts((Verdict("a", "127.0.0.1", 1, 5, "refused"),)))
    director.plane._poller.clock.now += 6
    assert picked(selection) == {1, 2}
    assert verdicts(director, 0.3) == []


def test_last_server_is_not_put_out_by_others(director: Director) -> None:
    """It is shown as unstable, and serves."""
    director.begin(snapshot(1, upstream("a", 1, 2, **FAILS)))
    selection = director.selection("a")
    director.tell(Verdicts((Verdict("a", "127.0.0.1", 1, 5, "refused"),)))
    director.tell(Verdicts((Verdict("a", "127.0.0.1", 2, 5, "refused"),)))
    assert picked(selection) == {2}
    assert selection.peers[1].live.status == "unstable"


def test_health_is_heeded_before_the_first_request(director: Director) -> None:
    """This holds for a worker that has just begun, and for an upstream without requests."""
    out = Verdict("a", "127.0.0.1", 1, 5, "refused")
    director.begin(snapshot(1, upstream("a", 1, 2, **FAILS)), health=Verdicts((out,)))
    assert picked(director.selection("a")) == {2}
    assert director.tell(Verdicts((Verdict("gone", "127.0.0.1", 1, 5, ""),))) == Done(1)
    assert director.tell(Verdicts((Verdict("a", "127.0.0.1", 9, 5, ""),))) == Done(1)


def test_health_of_many_is_told_in_one_message(director: Director) -> None:
    """Of upstreams and servers alike, and told so once."""
    many = [upstream(f"u{n}", *range(1, 401), **FAILS) for n in range(3)]
    director.begin(snapshot(1, *many))
    for one in many:
        selection = director.selection(one.name)
        for peer in selection.peers[:-1]:
            selection.failed(peer, "refused")
    told = [one for one in director.reports(0.3) if isinstance(one, Verdicts)]
    assert [len(message.requests) for message in told] == [3 * 399]


def test_first_change_is_told_in_the_same_turn(director: Director) -> None:
    """What follows within 20 ms comes in one message, and then nothing more is planned."""
    director.begin(snapshot(1, upstream("a", *range(1, 9), **FAILS)))
    selection = director.selection("a")
    peers = selection.peers

    def told_after(seconds: float, *failing: int) -> list[list[int]]:
        director.said.clear()
        for number in failing:
            selection.failed(peers[number], "refused")
        director.reactor.advance(seconds)
        deliver(*director.transports)
        return [
            [one.port for one in message.requests]
            for message in director.said
            if isinstance(message, Verdicts)
        ]

    assert told_after(0, 0) == [[1]]
    assert told_after(0.01, 1) == []
    assert told_after(0.005, 2, 3) == []
    assert told_after(0.006) == [[2, 3, 4]]
    assert told_after(0.1) == []
    assert told_after(0, 4) == [[5]]
    assert director.worker._reporter.news._telling is not None
    director.tell(Drain(0))
    director.reactor.advance(1)
    assert director.worker._reporter.news._telling is None


def test_heartbeats_are_heeded(director: Director) -> None:
    """Until they say otherwise, at the beginning and later, and requests change nothing."""
    out = Heartbeat("a", "127.0.0.1", 1, "err", 1000.0, "no answer")
    first = snapshot(1, upstream("a", 1, 2, **FAILS))
    director.begin(first, health=Verdicts(heartbeats=(out,)))
    selection = director.selection("a")
    assert picked(selection) == {2}
    director.tell(Verdicts((Verdict("a", "127.0.0.1", 1, 0, ""),)))
    director.plane._poller.clock.now += 1e6
    assert picked(selection) == {2}
    edited = first.with_upstream(upstream("a", 1, 2, 3, **FAILS))
    director.tell(messages.delta(first, edited, ["a"]))
    assert picked(director.selection("a")) == {2, 3}
    back = Heartbeat("a", "127.0.0.1", 1, "ok", 1001.0, "")
    nobody = (
        Heartbeat("a", "127.0.0.1", 9, "err", 1.0, ""),
        Heartbeat("b", "h", 1, "err", 1.0, ""),
    )
    assert director.tell(Verdicts(heartbeats=(back, *nobody))).error == ""
    assert picked(director.selection("a")) == {1, 2, 3}


def test_ejections_are_told_and_heeded(director: Director) -> None:
    """Its own in the same turn, those of others from the beginning on."""
    outlier = {"outlier": {"min_requests": 2, "max_share": 0.5}}
    out = Ejection("a", "127.0.0.1", 1, 5.0, 1, "slow")
    first = snapshot(1, upstream("a", 1, 2, 3, 4, **outlier))
    director.begin(first, health=Verdicts(extras=(out,)))
    selection = director.selection("a")
    assert picked(selection) == {2, 3, 4}
    assert director.reports(0.15) == []
    for _ in range(2):
        selection.peers[1].live.active += 1
        selection.succeeded(selection.peers[1], 0.1, 500)
    assert picked(selection) == {3, 4}
    ((told,),) = [one.extras for one in director.reports(0.15) if isinstance(one, Verdicts)]
    assert (told.port, told.seconds, told.times) == (2, 30.0, 1)
    director.tell(Verdicts(extras=(structs.replace(told, seconds=0.0),)))
    assert picked(selection) == {2, 3, 4}


def test_worker_looks_up_no_name(director: Director) -> None:
    """The director tells it the addresses: with the beginning, before a change, and when
    they have changed.  (A lookup would fail, for this reactor has no resolver.)"""

    def named(*names: str) -> Upstream:
        servers = [{"host": name, "port": 80} for name in names]
        return parse_upstream("a", {"servers": servers}, "a")

    def addresses() -> list[list[str]]:
        return [[text for _, text in peer.pool.addresses] for peer in director.peers("a")]

    first = snapshot(1, named("one.example"))
    director.begin(first, addresses={"one.example": ((2, "10.0.0.1"), (10, "::1"))})
    assert addresses() == [["10.0.0.1", "::1"]]
    director.tell(Addresses({"one.example": ((2, "10.0.0.2"),), "two.example": ((2, "10.0.0.3"),)}))
    second = first.with_upstream(named("one.example", "two.example")).at_version(2)
    assert director.tell(messages.delta(first, second, ["a"])) == Done(2)
    assert addresses() == [["10.0.0.2"], ["10.0.0.3"]]


def test_change_waits_for_what_the_director_finds(director: Director) -> None:
    """For a moment; a name without address is an answer too."""
    first = snapshot(1)
    director.begin(first)
    body = {"servers": [{"host": name, "port": 80} for name in ("x.example", "y.example")]}
    second = first.with_upstream(parse_upstream("a", body, "a")).at_version(2)
    answer = director.link.send(messages.encode(messages.delta(first, second, ["a"])))
    deliver(*director.transports)
    assert not answer.called
    director.tell(Addresses({"x.example": ()}))
    assert not answer.called
    director.tell(Addresses({"y.example": ((2, "10.0.0.1"),)}))
    deliver(*director.transports)
    assert messages.decode_answer(result_of(answer)) == Done(2)
    assert [bool(peer.pool.addresses) for peer in director.peers("a")] == [False, True]


def verdicts(director: Director, seconds: float) -> list[Verdict]:
    """What the worker says of servers within so many seconds; each message says something."""
    found = []
    for message in director.reports(seconds):
        if isinstance(message, Verdicts):
            assert message.requests
            found += message.requests
    return found


def picked(selection: Selection) -> set[int]:
    """The ports of the servers that get requests."""
    found = set()
    for _ in range(10):
        peer = selection.pick(Request(b"GET", b"/", [b""]), [])
        assert peer is not None
        found.add(peer.port)
    return found


def test_drained_worker_ends(director: Director) -> None:
    """It ends after its last report and the answer."""
    director.begin(snapshot(1, upstream("a", 1)))
    director.peers("a")[0].live.requests = 3
    answer = director.link.send(messages.encode(Drain(5)))
    deliver(*director.transports)
    director.reactor.advance(0.1)
    assert messages.decode_answer(result_of(answer)) == Done(1)
    assert [about.requests for report in director.said for about in report.servers] == [3]
    assert director.ends == 1
    assert director.worker.link.is_lost


def test_drain_of_a_worker_can_be_shortened(director: Director) -> None:
    """The first answer comes when the worker has drained, in the time of the second."""
    director.begin(snapshot(1))
    director.plane.exchanges = 1  # a request that does not end
    answer = director.link.send(messages.encode(Drain(100, 50)))
    deliver(*director.transports)
    assert director.tell(Drain(1)) == Done(1)
    director.reactor.pump([0.1] * 9)
    assert not answer.called
    director.reactor.pump([0.1] * 3)
    assert messages.decode_answer(result_of(answer)) == Done(1)
    assert director.ends == 1


@pytest.mark.real
def test_socket_that_does_not_listen_yet_is_served_later(director: Director) -> None:
    """It is served when the director says that it listens; a socket that does not yet still
    waits."""
    with socket.socket() as first, socket.socket() as second:
        numbers = []
        for sock in (first, second):
            sock.bind(("127.0.0.1", 0))
        # Two descriptors in a row, as in a worker, with numbers that nobody else uses.
        low = fcntl.fcntl(first.fileno(), fcntl.F_DUPFD, 500)
        numbers = [low, fcntl.fcntl(second.fileno(), fcntl.F_DUPFD, low + 1)]
        assert numbers[1] == low + 1
        director.worker._first_socket = low
        director.begin(snapshot(1), False, True)
        assert director.plane._clients.listeners == []
        second.listen()
        assert director.tell(Listening()) == Done(1)
        assert [listener.fd for listener in director.plane._clients.listeners] == numbers[1:]
        first.listen()
        director.tell(Listening())
        director.tell(Listening())
        assert [listener.fd for listener in director.plane._clients.listeners] == numbers[::-1]


@pytest.mark.real
def test_worker_without_director_ends(director: Director) -> None:
    """It accepts no connection from that moment on, and ends within two seconds."""
    with socket.socket() as first:
        first.bind(("127.0.0.1", 0))
        first.listen()
        director.worker._first_socket = os.dup(first.fileno())
        director.begin(snapshot(1), False)
        director.plane.exchanges = 1  # a request that does not end
        with logged():
            director.link.close()
        assert director.plane._clients.listeners == []
        for _ in range(28):
            director.reactor.advance(0.05)
        assert director.ends == 0
        director.reactor.advance(0.2)
        assert director.ends >= 1


@pytest.mark.parametrize(
    ("namespace", "error", "ends"),
    [
        ("twisted.internet.base", MemoryError(), [1]),
        ("slardar.dataplane", MemoryError(), []),
        ("twisted.internet.base", ValueError(), []),
        ("twisted.internet.base", None, []),
    ],
)
def test_want_of_memory_outside_of_connections_ends_the_process(
    monkeypatch: pytest.MonkeyPatch, namespace: str, error: Exception | None, ends: list[int]
) -> None:
    """Nobody knows what was not done; on a connection, only the connection ends."""
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    failure = None if error is None else Failure(error)
    end_without_memory({"log_namespace": namespace, "log_failure": failure})
    assert codes == ends


def test_counters_of_upstreams_are_reported_when_they_change(director: Director) -> None:
    """The limit that holds for all workers together is divided among them."""
    director.begin(snapshot(1, upstream("a", 1), upstream("b", 2)), count=5)
    selection = director.selection("a")
    director.selection("b")
    assert sum(selection.affords_retry() and not selection.budget.spend() for _ in range(9)) == 2
    director.selection("b").budget.spend()
    counts = [one.counts for report in director.reports() for one in report.upstreams]
    assert counts == [{"retries": 2, "retry_budget_exhausted": 7}, {"retries": 1}]
    assert [one for report in director.reports() for one in report.upstreams] == []
    # An edit leaves them as they are, and what is gone is not reported.
    edited = {"servers": [{"host": "127.0.0.1", "port": 3}], "retry_budget": None}
    change = parse_upstream("a", edited, "a")
    director.tell(Delta(1, 2, (change,), ("b",), None, None))
    assert director.selection("a").affords_retry()
    director.selection("a").budget.spend()
    counts = [one.counts for report in director.reports() for one in report.upstreams]
    assert counts == [{"retries": 3, "retry_budget_exhausted": 7}]
