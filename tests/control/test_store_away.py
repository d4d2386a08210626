"""A configuration whose store is away, or has lost what is served."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from slardar.config import parse_settings
from slardar.control.actions import Actions
from slardar.errors import ConflictError, StoreError
from slardar.events import EventLog
from slardar.model.change import StoredState, Value
from slardar.model.hook import Code, Hook, written
from slardar.stores.copy import Copied
from slardar.stores.kept import KeptStore
from tests.control.board import Board
from tests.control.fakes import (
    NOW,
    FakePlane,
    WebClient,
    error_of,
    make_actions,
    result_of,
    upstream,
)
from tests.stores.far import FakeCopy, FarStore

URL = "board:u:secret@shared"


class Node:
    """One slardar among those that share a board; ``copy`` outlives it."""

    def __init__(
        self, board: Board, copy: FakeCopy | None = None, reason: str = "", **settings: Any
    ) -> None:
        self.far = FarStore(board)
        self.far.reason = reason
        self.copy = copy or FakeCopy()
        self.clock = Clock()
        self.store = KeptStore(
            self.far,  # type: ignore[arg-type]
            URL,
            self.copy,  # type: ignore[arg-type]
            self.clock,
            self.now,
        )
        self.plane = FakePlane()
        self.actions: Actions = make_actions(self.store, self.plane, **settings)
        self.actions.clock = self.now
        self.events: list[Any] = []
        self.actions.publish = self.events.append

    def now(self) -> float:
        return NOW + self.clock.seconds()

    @property
    def ports(self) -> dict[str, list[int]]:
        found = self.plane.snapshot.upstreams
        return {name: [server.port for server in one.servers] for name, one in found.items()}

    @property
    def shown(self) -> dict[str, Any]:
        shown: dict[str, Any] = self.actions.status()["store"]
        return shown

    @property
    def stale(self) -> str:
        (line,) = [
            line
            for line in "".join(self.actions.metrics()).splitlines()
            if line.startswith("slardar_store_stale_seconds")
        ]
        return line.split()[1]

    def stop(self) -> None:
        result_of(self.store.close())


@pytest.fixture
def board() -> Board:
    return Board()


def test_status_and_metrics_say_how_the_store_is(board: Board) -> None:
    """Without a password; with the age and the reason while it is away."""
    node = Node(board)
    assert node.shown == {"url": "board:shared", "status": "ok", "copy": {"file": "copy.db"}}
    assert node.stale == "0.000"
    node.clock.advance(100)
    node.far.cut("refused")
    node.clock.advance(2.5)
    shown = node.shown
    assert (shown["status"], shown["age"], shown["reason"]) == ("stale", 2.5, "refused")
    assert shown["since"]
    assert node.stale == "2.500"
    node.copy.problem = "disk full"
    assert node.shown["copy"] == {"file": "copy.db", "problem": "disk full"}
    node.far.heal()
    assert node.shown["status"] == "ok"
    assert node.stale == "0.000"
    assert [(one.status, one.reason) for one in node.events] == [("stale", "refused"), ("back", "")]


def test_changes_are_refused_with_503_and_nothing_else_changes(board: Board) -> None:
    """At once, with the reason, also where the history is asked for."""
    node = Node(board, upstreams={"file": upstream(9)})
    result_of(node.actions.set_upstream("a", upstream(1), "x"))
    node.far.cut("no route to host")
    client = WebClient(node.actions)
    for method, path, body in (
        ("PUT", "/upstream/a", upstream(2)),
        ("DELETE", "/upstream/file", None),
        ("PUT", "/routes", []),
        ("GET", "/history", None),
        ("POST", "/rollback/0", None),
    ):
        reply = client.call(method, path, body)
        assert reply.status == 503, (method, path)
        assert "no route to host" in reply.json["msg"]
    assert node.ports == {"a": [1], "file": [9]}
    assert len(node.plane.applied) == 2
    # What needs no store works: the file is read again.
    settings = parse_settings({"upstreams": {"file": upstream(8)}})
    assert result_of(node.actions.take_settings(settings, "HUP")).version == 2
    assert node.ports == {"a": [1], "file": [8]}
    # What others have written meanwhile is served when the store is back.
    board.write([Value("upstream", "a", upstream(3))])
    node.far.heal()
    assert node.ports == {"a": [3], "file": [8]}
    told = [event.status for event in node.events if hasattr(event, "status")]
    assert told == ["stale", "back"]
    assert result_of(node.actions.set_upstream("a", upstream(4), "x")).version == 4
    # What the file says is on record by then.
    assert board.state.file["upstreams.file"]["servers"][0]["port"] == 8


def test_restart_while_the_store_is_away_serves_what_was_served(board: Board) -> None:
    """Upstreams, removals of what the file has, routes, services and hooks; the version, too."""
    file = {"upstreams": {"file": upstream(9), "gone": upstream(8)}}
    first = Node(board, **file)
    result_of(first.actions.set_upstream("a", upstream(1), "x"))
    result_of(first.actions.remove_upstream("gone", "x"))
    result_of(first.actions.set_routes([{"path": "/x", "upstream": "a"}], "x"))
    board.write([Value("hook", "python/script.a", written(hook("one")))])
    board.tell()
    first.stop()
    again = Node(board, first.copy, "refused", **file)
    assert again.shown["status"] == "stale"
    assert again.ports == {"a": [1], "file": [9]}
    assert again.actions.snapshot.fingerprint == first.actions.snapshot.fingerprint
    assert again.actions.snapshot.version == 3  # what the store has counted
    with capturedLogs() as logged:
        again.far.reason = ""
        again.clock.advance(1)
    assert again.shown["status"] == "ok"
    # The store has nothing new, so nothing is a version.
    assert len(again.plane.applied) == 1
    assert not [one for one in logged if str(formatEvent(one)).startswith("version")]
    assert result_of(again.actions.set_upstream("a", upstream(2), "x")).version == 4
    # And a restart of the one with the store there.
    again.stop()
    third = Node(board, again.copy, **file)
    assert third.ports == {"a": [2], "file": [9]}


def hook(code: str) -> Hook:
    return Hook("python", "script.a", active=Code.of(code, NOW))


def test_first_start_without_the_store_serves_the_file(board: Board) -> None:
    """And the store's upstreams as soon as it is there."""
    board.write([Value("upstream", "a", upstream(1))])
    node = Node(board, None, "refused", upstreams={"file": upstream(9)})
    assert node.ports == {"file": [9]}
    error_of(node.actions.set_upstream("b", upstream(1), "x"), StoreError)
    node.far.reason = ""
    node.clock.advance(1)
    assert node.ports == {"a": [1], "file": [9]}


@pytest.mark.parametrize("is_json", [True, False])
def test_last_good_value_outlives_a_restart(board: Board, is_json: bool) -> None:
    """Of an upstream that somebody has spoilt in the store meanwhile: no upstream, or no JSON."""
    first = Node(board)
    result_of(first.actions.set_upstream("a", upstream(1), "x"))
    result_of(first.actions.set_upstream("b", upstream(1), "x"))
    first.stop()
    board.write([Value("upstream", "b", upstream(2))])
    spoilt = Value("upstream", "a", {"servers": 5})
    if is_json:
        board.write([spoilt])
    else:
        board.spoil(spoilt)
    again = Node(board, first.copy)
    assert again.ports == {"a": [1], "b": [2]}
    assert "upstreams.a" in again.actions.status()["failed"]
    # And one more restart, and one without the store.
    again.stop()
    third = Node(board, again.copy)
    assert third.ports == {"a": [1], "b": [2]}
    third.stop()
    fourth = Node(board, third.copy, "refused")
    assert fourth.ports == {"a": [1], "b": [2]}
    fourth.far.reason = ""
    fourth.clock.advance(1)
    assert fourth.ports == {"a": [1], "b": [2]}
    assert "upstreams.a" in fourth.actions.status()["failed"]


def test_store_that_has_lost_all_is_held_until_it_is_told(board: Board) -> None:
    """Every node goes on; one call on one of them makes all of them take the loss."""
    one, other = Node(board, upstreams={"file": upstream(9)}), Node(board)
    for name in ("a", "b"):
        result_of(one.actions.set_upstream(name, upstream(1), "x"))
    board.tell()
    version = one.actions.snapshot.version
    lose(board)
    board.tell()
    assert one.ports == {"a": [1], "b": [1], "file": [9]}
    assert other.ports == {"a": [1], "b": [1]}
    assert one.shown["status"] == other.shown["status"] == "held"
    client = WebClient(one.actions)
    reply = client.call("PUT", "/upstream/c", upstream(3))
    assert reply.status == 409
    assert "POST /store/accept" in reply.json["msg"]
    assert client.call("POST", "/store/accept", If_Match='"0"').status == 412
    assert one.shown["status"] == "held"
    events = [event.status for event in one.events if hasattr(event, "status")]
    assert events == ["held"]
    reply = client.call("POST", "/store/accept?receipt=1")
    assert reply.json["status"] == 200
    assert reply.json["version"] == version + 1
    assert one.ports == {"file": [9]}
    assert one.shown["status"] == "ok"
    assert other.ports == {"a": [1], "b": [1]}
    board.tell()
    assert other.ports == {}
    assert other.shown["status"] == "ok"
    assert client.call("PUT", "/upstream/c", upstream(3)).status == 200
    board.tell()
    assert other.ports == {"c": [3]}
    (entry,) = client.call("GET", f"/history?before={version + 2}&limit=1").json[:1]
    assert (entry["kind"], entry["version"]) == ("file", version + 1)


def test_file_that_is_read_again_does_not_keep_a_node_from_following(board: Board) -> None:
    """Its versions are of this node alone: what another node has accepted is taken all the same."""
    one, other = Node(board), Node(board)
    result_of(one.actions.set_upstream("a", upstream(1), "x"))
    board.tell()
    lose(board)
    board.tell()
    for port in range(1, 6):
        settings = parse_settings({"upstreams": {"file": upstream(port)}})
        assert result_of(other.actions.take_settings(settings, "HUP"))
    assert other.shown["status"] == "held"
    result_of(one.actions.accept("x"))
    board.tell()
    assert other.ports == {"file": [5]}
    assert other.shown["status"] == "ok"


def lose(board: Board) -> None:
    """Start the board anew, without its data."""
    board.texts.clear()
    board.version = 0
    board.writes += 100


def test_there_is_nothing_to_accept_mostly(board: Board) -> None:
    """409, with every store."""
    assert error_of(Node(board).actions.accept("x"), ConflictError)
    client = WebClient(make_actions(FarStore(board), FakePlane()))
    assert client.call("POST", "/store/accept").status == 409
    assert client.call("GET", "/store/accept").status == 405


def test_loss_that_cannot_be_stored_is_not_taken(board: Board) -> None:
    """The store has gone meanwhile: what is served stays, and it is held again when it is back."""
    node = Node(board)
    result_of(node.actions.set_upstream("a", upstream(1), "x"))
    lose(board)
    board.tell()
    node.far.is_silent = True
    accepted = node.actions.accept("x")
    node.clock.advance(30)
    error_of(accepted, StoreError)
    node.far.is_silent = False
    assert node.ports == {"a": [1]}
    assert node.shown["status"] == "held"
    node.far.cut()
    error_of(node.actions.accept("x"), StoreError)
    node.far.heal()
    assert node.shown["status"] == "held"
    lose(board)
    node.far.heal()
    error_of(node.actions.set_upstream("b", upstream(2), "x"), ConflictError)
    assert result_of(node.actions.accept("x")).version == 2
    assert node.ports == {}


def test_loss_is_held_across_a_restart(board: Board) -> None:
    """The copy knows what there was."""
    first = Node(board)
    result_of(first.actions.set_upstream("a", upstream(1), "x"))
    first.stop()
    lose(board)
    again = Node(board, first.copy)
    assert again.ports == {"a": [1]}
    assert again.shown["status"] == "held"
    again.stop()
    third = Node(board, again.copy)
    assert third.ports == {"a": [1]}
    result_of(third.actions.accept("x"))
    assert third.ports == {}
    third.stop()
    assert Node(board, third.copy).ports == {}


def test_last_upstream_may_be_removed_through_the_api(board: Board) -> None:
    """On every node: a slardar that does so was told to."""
    one, other = Node(board), Node(board)
    result_of(one.actions.set_upstream("a", upstream(1), "x"))
    board.tell()
    result_of(one.actions.remove_upstream("a", "x"))
    board.tell()
    assert one.ports == other.ports == {}
    assert one.shown["status"] == other.shown["status"] == "ok"


def test_older_state_is_a_change_like_any_other(board: Board) -> None:
    """A snapshot of the store that was restored: the version goes ahead all the same."""
    node = Node(board)
    result_of(node.actions.set_upstream("a", upstream(1), "x"))
    texts, version = dict(board.texts), board.version
    result_of(node.actions.set_upstream("a", upstream(2), "x"))
    result_of(node.actions.set_upstream("b", upstream(2), "x"))
    board.texts, board.version, board.writes = texts, version, board.writes + 1
    board.tell()
    assert node.ports == {"a": [1]}
    assert node.actions.snapshot.version == 4
    assert result_of(node.actions.set_upstream("c", upstream(3), "x")).version == 5
    node.stop()
    assert Node(board, node.copy).ports == {"a": [1], "c": [3]}


def test_nodes_that_agree_have_one_fingerprint(board: Board) -> None:
    """Whatever was away, and whatever led there."""
    one, other = Node(board), Node(board)
    result_of(one.actions.set_upstream("a", upstream(1), "x"))
    board.tell()
    other.far.cut()
    result_of(one.actions.set_upstream("b", upstream(2), "x"))
    assert one.actions.snapshot.fingerprint != other.actions.snapshot.fingerprint
    other.far.heal()
    fresh = Node(board)
    found = {node.actions.status()["fingerprint"] for node in (one, other, fresh)}
    assert len(found) == 1


def test_events_are_told_once(board: Board) -> None:
    """A store that says again and again that it is away is one event."""
    node = Node(board)
    log = EventLog(node.clock, node.now)
    node.actions.publish = log.publish
    reader = log.subscribe(lambda: None)
    for _ in range(5):
        node.far.cut("refused")
    node.far.heal()
    assert len(reader.take()) == 2


def test_copy_from_another_time_is_no_harm(board: Board) -> None:
    """A state that this version cannot serve in part."""
    copied = Copied(StoredState(3, {"a": upstream(1), "b": {"mode": "unknown"}}), NOW)
    node = Node(board, FakeCopy(copied), "refused")
    assert node.ports == {"a": [1]}
    assert "upstreams.b" in node.actions.status()["failed"]


def test_store_that_is_taken_back_while_it_is_away(board: Board) -> None:
    """An upgrade that fails changes nothing, and the store is followed again when it is back."""
    node = Node(board)
    result_of(node.actions.set_upstream("a", upstream(1), "x"))
    node.far.cut("refused")
    result_of(node.actions.hand_over())
    assert node.store.known_until == NOW
    node.clock.advance(10)
    node.events.clear()
    result_of(node.actions.take_back())
    assert node.ports == {"a": [1]}
    assert (node.shown["status"], node.shown["age"]) == ("stale", 10)
    assert node.events == []
    error_of(node.actions.set_upstream("b", upstream(2), "x"), StoreError)
    board.write([Value("upstream", "a", upstream(5))])
    node.far.reason = ""
    node.clock.advance(1)
    assert node.ports == {"a": [5]}
    assert node.shown["status"] == "ok"
    assert result_of(node.actions.set_upstream("b", upstream(2), "x")).version == 3
