"""Events over HTTP: the stream, and what becomes of clients that do not read."""

from __future__ import annotations

import hashlib
import json
import socket
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_twisted
from twisted.internet.error import ConnectionDone
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from slardar.config import parse_settings
from slardar.control import room
from slardar.control.actions import Actions
from slardar.control.changes import Next
from slardar.control.http import make_site
from slardar.control.room import Standing
from slardar.errors import NotFoundError, StoreError
from slardar.events import EventLog, Health, HookState, Store, Worker
from slardar.model.change import Value
from tests.control.board import Board, BoardStore
from tests.control.fakes import (
    PLUGINS,
    FakePlane,
    FakeStore,
    WebClient,
    error_of,
    make_actions,
    result_of,
    upstream,
)


class Told(NamedTuple):
    """A block of a stream."""

    id: str
    data: dict[str, Any] | None


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def actions(clock: Clock) -> Actions:
    return with_events(make_actions(FakeStore(), FakePlane()), clock)


def with_events(actions: Actions, clock: Clock) -> Actions:
    actions.events = EventLog(clock, size=64)
    actions.publish = actions.events.publish
    return actions


class Listener(WebClient):
    """A client that has asked for events."""

    def __init__(self, actions: Actions, query: str = "", **words: Any) -> None:
        headers = words.pop("headers", {})
        super().__init__(actions, **words)
        self.rest = b""
        self.request("GET", f"/events{query}", **headers)

    def blocks(self) -> list[Told]:
        """What has come since the last call, comments and the head left out."""
        data = self.transport.value()
        self.transport.clear()
        if b"\r\n\r\n" in data and data.startswith(b"HTTP/1.1 200"):
            self.head, _, data = data.partition(b"\r\n\r\n")
        text = b""
        while data:
            length, _, rest = data.partition(b"\r\n")
            text += rest[: int(length, 16)]
            data = rest[int(length, 16) + 2 :]
        found = []
        for block in text.decode().split("\n\n")[:-1]:
            lines = dict(line.split(": ", 1) for line in block.splitlines() if line[0] != ":")
            data_ = json.loads(lines["data"]) if "data" in lines else None
            found.append(Told(lines.get("id", ""), data_))
        return found

    def events(self) -> list[dict[str, Any]]:
        """The events that have come since the last call, without their times."""
        found = [one.data for one in self.blocks() if one.data is not None]
        assert all(one.pop("time") > 0 for one in found)
        return found


def test_stream_begins_at_once(actions: Actions, clock: Clock) -> None:
    """With its head, and a place to come back to."""
    client = Listener(actions)
    assert b": slardar" in client.transport.value()
    (first,) = client.blocks()
    lines = client.head.decode().split("\r\n")
    assert lines[0] == "HTTP/1.1 200 OK"
    assert {"Content-Type: text/event-stream", "Cache-Control: no-store"} <= set(lines)
    assert first.data is None
    result_of(actions.set_upstream("a", upstream(1), "ops"))
    clock.advance(0.05)
    (told,) = client.blocks()
    assert told.data is not None
    again = Listener(actions, headers={"Last_Event_ID": first.id})
    assert again.events() == [{"kind": "upstream", "name": "a", "version": 1, "who": "ops"}]
    again = Listener(actions, f"?after={told.id}")
    assert again.events() == []


def test_every_change_is_told(actions: Actions, clock: Clock) -> None:
    """With what it sets, and the upstreams that are served otherwise."""
    client = Listener(actions)
    client.blocks()
    result_of(actions.set_upstream("a", upstream(1), "ops"))
    result_of(actions.set_routes([], "ops"))
    settings = parse_settings({"upstreams": {"f": upstream(2)}}, "", PLUGINS)
    result_of(actions.take_settings(settings, "HUP"))
    result_of(actions.take_desired(actions.held.after([Value("upstream", "a", None)], 0, 0), "x"))
    clock.advance(0.05)
    assert [(one["kind"], one["name"], one["version"]) for one in client.events()] == [
        ("upstream", "a", 1),
        ("routes", "", 2),
        ("upstream", "f", 3),
        ("file", "", 3),
        ("upstream", "a", 4),
    ]
    error_of(actions.remove_upstream("none", "ops"), NotFoundError)
    clock.advance(0.05)
    assert client.events() == []


def test_large_change_is_told_in_part(actions: Actions, clock: Clock) -> None:
    """A hundred things, and how many more; else it would drive out all other events."""
    many = actions.held.after(
        [Value("upstream", f"u{number}", upstream(1)) for number in range(130)], 0, 0
    )
    # The ring of the other tests has no place for them.
    log = EventLog(clock)
    actions.events, actions.publish = log, log.publish
    client = Listener(actions, "?kind=routes")
    everything = Listener(actions)
    for one in (client, everything):
        one.blocks()
    result_of(actions.take_desired(many, "x"))
    clock.advance(0.05)
    assert client.events() == [{"kind": "more", "version": 1, "count": 30}]
    assert len(everything.events()) == 101


def test_store_is_told_of(clock: Clock) -> None:
    """When it takes no change, when it cannot be reached, and when all is well."""
    store = FakeStore()
    actions = with_events(make_actions(store, FakePlane()), clock)
    client = Listener(actions, "?kind=store")
    client.blocks()
    store.error = StoreError("full")
    for _ in range(3):
        error_of(actions.set_routes([], "ops"), StoreError)
    store.error = None
    result_of(actions.set_routes([], "ops"))
    result_of(actions.set_routes([], "ops"))
    clock.advance(0.05)
    assert client.events() == [
        {"kind": "store", "status": "error", "reason": "full"},
        {"kind": "store", "status": "back", "reason": ""},
    ]
    board = Board()
    shared = BoardStore(board)
    actions = with_events(make_actions(shared, FakePlane()), clock)
    client = Listener(actions, "?kind=store")
    client.blocks()
    shared.failed("away")
    board.write([Value("upstream", "a", upstream(1))])
    board.tell()
    clock.advance(0.05)
    assert [one["status"] for one in client.events()] == ["stale", "back"]


def test_kinds_are_chosen(actions: Actions, clock: Clock) -> None:
    client = Listener(actions, "?kind=health,worker")
    client.blocks()
    log = actions.events
    assert log is not None
    for event in (
        Health("a", "b:1", "ok"),
        HookState("lua/script.a", "failed"),
        Worker("worker-0", "started", 7),
    ):
        log.publish(event)
    clock.advance(0.05)
    assert [one["kind"] for one in client.events()] == ["health", "worker"]
    reply = WebClient(actions).call("GET", "/events?kind=health,gap")
    assert reply.status == 400
    assert reply.json["msg"].startswith("kind: expected some of acme_state, certificate, ")


def test_team_is_told_of_its_names_only(actions: Actions, clock: Clock) -> None:
    tokens = [
        {"name": "t", "sha256": hashlib.sha256(b"t").hexdigest(), "names": ["*.team.example"]}
    ]
    headers = {"Authorization": "Bearer t"}
    client = Listener(actions, "?after=x", tokens=tokens, headers=headers)
    assert client.events() == [{"kind": "gap"}]
    for name in ("a.team.example", "other.example"):
        result_of(actions.set_upstream(name, upstream(1), "ops"))
        actions.publish(Health(name, "b:1", "ok"))
        actions.publish(HookState(f"lua/script.{name}", "failed"))
        result_of(actions.change(lambda name=name: hook_change(actions, name), "ops"))
    result_of(actions.set_routes([], "ops"))
    actions.publish(Store("error"))
    clock.advance(0.05)
    found = client.events()
    assert [one["kind"] for one in found] == ["upstream", "health", "hook_state", "hook"]
    assert "other" not in repr(found)
    reply = WebClient(actions, tokens=tokens).call("GET", "/events")
    assert reply.status == 401


def hook_change(actions: Actions, name: str) -> Any:
    return Next([Value("hook", f"lua/script.{name}", None)], actions.snapshot)


def test_stream_shows_that_it_lives(actions: Actions, clock: Clock) -> None:
    """A sign every 15 seconds without an event, with the place in the ring."""
    client = Listener(actions, "?kind=routes")
    client.blocks()
    first = actions.events
    assert first is not None
    first.publish(Health("a", "b:1", "ok"))
    clock.advance(0.05)
    assert client.transport.value() == b""
    client.clock.advance(15)
    (sign,) = client.blocks()
    assert sign.data is None
    assert sign.id.endswith("-1")
    client.clock.advance(14.9)
    assert client.blocks() == []
    client.clock.advance(0.1)
    assert len(client.blocks()) == 1


def test_client_that_does_not_read_is_dropped(actions: Actions, clock: Clock) -> None:
    """After ten seconds; until then nothing more is written to it, and nobody waits for it."""
    client = Listener(actions)
    client.blocks()
    client.transport.stalls = True
    result_of(actions.set_routes([], "ops"))
    clock.advance(0.05)
    assert len(client.events()) == 1
    result_of(actions.set_routes([], "ops"))
    clock.advance(0.05)
    assert client.events() == []
    client.clock.advance(9.9)
    assert not client.transport.aborted
    client.transport.stalls = False
    client.channel.resumeProducing()
    assert len(client.events()) == 1
    client.clock.advance(10)
    assert not client.transport.aborted
    client.transport.stalls = True
    result_of(actions.set_routes([], "ops"))
    clock.advance(0.05)
    client.clock.advance(10)
    assert client.transport.aborted
    lose(client)
    assert_nothing_is_left(client, actions)


def test_client_that_the_ring_overtakes_is_dropped(actions: Actions, clock: Clock) -> None:
    """Others get every event meanwhile."""
    slow, quick = Listener(actions), Listener(actions)
    for client in (slow, quick):
        client.blocks()
    slow.transport.stalls = True
    for _ in range(70):
        result_of(actions.set_routes([], "ops"))
        clock.advance(0.05)
    assert len(quick.events()) == 70
    slow.transport.stalls = False
    slow.channel.resumeProducing()
    assert slow.transport.aborted
    lose(slow)
    assert actions.events is not None
    assert actions.events.readers == 1


def lose(client: WebClient) -> None:
    client.channel.connectionLost(Failure(ConnectionDone()))


def assert_nothing_is_left(client: WebClient, actions: Actions) -> None:
    assert actions.events is not None
    assert actions.events.readers == 0
    assert client.clock.getDelayedCalls() == []
    assert client.site.room.guests == frozenset()


def test_client_that_goes_leaves_nothing(actions: Actions, clock: Clock) -> None:
    """Neither a reader nor a timer; also one that only closes its half."""
    client = Listener(actions)
    result_of(actions.set_routes([], "ops"))
    lose(client)
    clock.advance(0.05)
    assert_nothing_is_left(client, actions)
    client = Listener(actions)
    client.channel.readConnectionLost()
    assert client.transport.disconnecting
    lose(client)
    assert_nothing_is_left(client, actions)


def test_stream_ends_with_the_service(actions: Actions) -> None:
    """With its last chunk, so that the client sees a whole reply and comes back elsewhere."""
    client = Listener(actions)
    client.blocks()
    client.site.stopFactory()
    assert client.transport.value() == b"0\r\n\r\n"
    assert client.transport.disconnecting
    lose(client)
    assert_nothing_is_left(client, actions)


def test_head_has_no_stream(actions: Actions) -> None:
    client = WebClient(actions)
    client.request("HEAD", "/events")
    assert b"text/event-stream" in client.transport.value()
    assert actions.events is not None
    assert actions.events.readers == 0
    assert client.call("GET", "/routes").status == 200


def test_old_client_gets_a_stream(actions: Actions, clock: Clock) -> None:
    """HTTP/1.0 has no chunks: the stream ends with the connection."""
    client = WebClient(actions)
    client.send(b"GET /events HTTP/1.0\r\n\r\n")
    client.transport.clear()
    result_of(actions.set_routes([], "ops"))
    clock.advance(0.05)
    assert client.transport.value().startswith(b"id: ")


def test_streams_leave_room_for_changes(actions: Actions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Their number is limited; and a stream has to go before a body that is coming in, but after
    a connection that does nothing."""
    monkeypatch.setattr(room, "MAX_STREAMS", 2)
    monkeypatch.setattr("slardar.control.http.MAX_STREAMS", 2)
    monkeypatch.setattr(room, "MAX_CONNECTIONS", 4)
    seconds = Clock()
    site = make_site(actions, parse_settings({}).control, seconds)
    streams = []
    for _ in range(2):
        streams.append(Listener(actions, site=site))
        seconds.advance(1)
    refused = WebClient(actions, site=site)
    reply = refused.call("GET", "/events")
    assert (reply.status, reply.headers["Retry-After"]) == (503, "5")
    sending = WebClient(actions, site=site)
    sending.send(b"PUT /routes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n")
    assert WebClient(actions, site=site).call("PUT", "/routes", []).status == 200
    assert refused.transport.aborted, "it did nothing"
    for _ in range(2):
        client = WebClient(actions, site=site)
        client.send(b"PUT /routes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n")
    assert [client.transport.aborted for client in streams] == [True, False]
    assert not sending.transport.aborted
    assert streams[1].channel.standing is Standing.STREAMING


def test_program_without_events_says_so() -> None:
    reply = WebClient(make_actions(FakeStore(), FakePlane())).call("GET", "/events")
    assert reply.status == 503


@pytest.mark.real
@pytest_twisted.ensureDeferred
async def test_kernel_ends_what_nobody_acknowledges(actions: Actions, tmp_path: Path) -> None:
    """The socket of a stream over TCP has a limit; one of a unix socket needs none."""
    from twisted.internet import reactor  # noqa: TID251 - real sockets need the real one
    from twisted.internet.endpoints import serverFromString
    from twisted.internet.threads import deferToThread

    for place in ("tcp:0:interface=127.0.0.1", f"unix:{tmp_path / 'c.sock'}"):
        site = make_site(actions, parse_settings({}).control, reactor)
        port = await serverFromString(reactor, place).listen(site)
        if place.startswith("tcp"):
            sock = socket.create_connection(("127.0.0.1", port.getHost().port), timeout=10)
        else:
            sock = socket.socket(socket.AF_UNIX)
            sock.connect(str(tmp_path / "c.sock"))
        sock.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        head = await deferToThread(sock.recv, 4096)
        assert head.startswith(b"HTTP/1.1 200")
        (guest,) = site.room.guests
        if place.startswith("tcp"):
            server = guest.transport.getHandle()  # type: ignore[attr-defined]
            assert server.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 30_000
        await port.stopListening()
        data = b""
        while not data.endswith(b"0\r\n\r\n"):
            piece = await deferToThread(sock.recv, 4096)
            assert piece
            data += piece
        sock.close()
