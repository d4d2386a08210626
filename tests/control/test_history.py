"""The history of the configuration: what it tells, and the way back."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.logger import capturedLogs, formatEvent

from slardar.config import parse_settings
from slardar.control.actions import Actions
from slardar.control.changes import Next
from slardar.control.hooks import local_time
from slardar.errors import ConfigError, NotFoundError, StoreError
from slardar.model.change import Author, Value
from slardar.stores.memory import MemoryStore
from tests.control.fakes import (
    NOW,
    PLUGINS,
    FakePlane,
    FakeStore,
    WebClient,
    error_of,
    make_actions,
    result_of,
    upstream,
)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def actions(store: FakeStore) -> Actions:
    """With an upstream of the file, which has a password."""
    return make_actions(store, FakePlane(), upstreams={"file": upstream(1, **{"pass": "hunter2"})})


def wait(answer: Any) -> Any:
    return result_of(ensureDeferred(answer))


def entries(actions: Actions, before: int | None = None) -> list[dict[str, Any]]:
    """The history without what the file says."""
    found = wait(actions.history.page(before, 1000))
    return [one for one in found if one["kind"] != "file"]


def served(actions: Actions) -> tuple[Any, Any, Any]:
    """All that is served."""
    snapshot = actions.snapshot
    return actions.upstreams(), snapshot.routes, snapshot.hooks


def test_change_is_told(actions: Actions) -> None:
    """With version, time, author, the address, what it changed, and both values."""
    result_of(actions.set_upstream("a", upstream(1), Author("ops", "192.0.2.7")))
    result_of(actions.patch_server("a", "127.0.0.1:1", {"weight": 5}, "carol"))
    newest, first = entries(actions)
    assert newest["new"]["servers"][0]["weight"] == 5
    assert newest["old"] == first["new"]
    assert {**newest, "old": None, "new": None} == {
        "version": 2,
        "time": local_time(NOW),
        "who": "carol",
        "from": None,
        "kind": "upstream",
        "name": "a",
        "diff": "servers.127.0.0.1:1.weight: 1 -> 5",
        "old": None,
        "new": None,
    }
    assert (first["who"], first["from"], first["old"]) == ("ops", "192.0.2.7", None)
    assert first["diff"].startswith('+ servers: [{"host": "127.0.0.1", "port": 1')


def test_first_change_of_an_upstream_of_the_file(actions: Actions) -> None:
    """What the file said is the value before; after a return to the file it is the value after.
    No password is told."""
    result_of(actions.patch_server("file", "127.0.0.1:1", {"weight": 5}, "ops"))
    result_of(actions.set_upstream("file", {"pass": "hunter3"}, "ops"))
    result_of(actions.return_upstream("file", "ops"))
    returned, password, weight = entries(actions)
    assert weight["diff"] == "servers.127.0.0.1:1.weight: 1 -> 5"
    # The file's password is not on record.
    assert password["diff"] == "pass: ******** -> ********"
    assert returned["diff"].splitlines()[:2] == [
        "returned to the file's",
        "servers.127.0.0.1:1.weight: 5 -> 1",
    ]
    assert "hunter" not in repr(wait(actions.history.page(None, 100)))
    assert "hunter" not in repr(wait(actions.history.version(3)))
    (said,) = [one for one in wait(actions.history.page(None, 100)) if one["kind"] == "file"]
    assert (said["version"], said["who"], said["name"]) == (1, "file", "upstreams.file")


def test_edit_of_the_file_is_told(actions: Actions, store: FakeStore) -> None:
    """With what it says of each thing now; an edit that is not served comes with the next
    change."""
    file = {"file": upstream(2), "more": upstream(3)}
    settings = parse_settings({"upstreams": file, "default_upstream": "more"}, "", PLUGINS)
    result_of(actions.take_settings(settings, "HUP"))
    found = wait(actions.history.page(None, 100))
    assert [(one["who"], one["name"]) for one in found] == [
        ("file", "default_upstream"),
        ("file", "upstreams.file"),
        ("file", "upstreams.more"),
        ("HUP", ""),
    ]
    assert found[3]["diff"] == "in service: file\nin service: more"
    result_of(actions.set_upstream("more", upstream(4), "ops"))
    edited = {"upstreams": {**file, "more": upstream(5)}, "default_upstream": "more"}
    result_of(actions.take_settings(parse_settings(edited, "", PLUGINS), "HUP"))
    assert actions.snapshot.version == 2
    result_of(actions.set_routes([], "ops"))
    told = wait(actions.history.page(None, 1))
    assert [(one["version"], one["kind"], one["name"]) for one in told] == [
        (3, "file", "upstreams.more"),
        (3, "routes", ""),
    ]
    result_of(actions.set_routes([], "ops"))
    assert [one["kind"] for one in wait(actions.history.page(None, 1))] == ["routes"]
    assert store.state.file["upstreams.more"]["servers"][0]["port"] == 5


def test_what_the_file_says_is_recorded_once(store: FakeStore) -> None:
    """Not again after a restart with the same file, nor after a commit that has failed and is
    made again."""
    file = {"a": upstream(1)}
    actions = make_actions(store, FakePlane(), upstreams=file)
    store.error = StoreError("full")
    error_of(actions.set_routes([], "ops"), StoreError)
    store.error = None
    result_of(actions.set_routes([], "ops"))
    again = make_actions(store, FakePlane(), upstreams=file)
    result_of(again.set_routes([], "ops"))
    assert [one.name for one in store.said] == ["upstreams.a"]
    empty = make_actions(store, FakePlane())
    result_of(empty.set_routes([], "ops"))
    assert [one.value for one in store.said[1:]] == [None]
    assert store.state.file == {}


def test_whole_configuration_of_then(actions: Actions) -> None:
    """With the file's part of then; the version before the first change has nothing else."""
    result_of(actions.set_upstream("a", upstream(1), "ops"))
    result_of(actions.set_routes([{"path": "/x", "upstream": "a"}], "ops"))
    result_of(actions.remove_upstream("file", "ops"))
    result_of(actions.remove_upstream("a", "ops"))
    then = wait(actions.history.version(2))
    assert list(then["upstreams"]) == ["a", "file"]
    assert then["upstreams"]["file"]["pass"] == "********"
    assert then["routes"] == [{"path": "/x", "upstream": "a"}]
    assert then["services"] == {}
    assert then["origins"] == {
        "upstreams": {"a": "control", "file": "file"},
        "services": {},
        "routes": "control",
        "settings": {},
    }
    assert (then["version"], then["default_upstream"], then["hooks"]) == (2, None, {})
    assert [one["kind"] for one in then["changes"]] == ["routes"]
    assert list(wait(actions.history.version(3))["upstreams"]) == ["a"]
    assert wait(actions.history.version(0))["upstreams"] == {}
    message = error_of(ensureDeferred(actions.history.version(9)), NotFoundError)
    assert message == "no version 9 in the history, which has 0 to 4"


def test_rollback_is_a_new_version(actions: Actions, store: FakeStore) -> None:
    """With everything that was set at that time, in one commit; nobody loses what came after."""
    result_of(actions.set_upstream("a", upstream(1), "ops"))
    result_of(actions.set_routes([{"upstream": "a"}], "ops"))
    before = served(actions)
    result_of(actions.set_upstream("a", upstream(2), "ops"))
    result_of(actions.set_upstream("b", upstream(3), "ops"))
    result_of(actions.remove_upstream("file", "ops"))
    result_of(actions.return_routes("ops"))
    after = served(actions)
    done = wait(actions.history.roll_back(2, Author("carol", "unix")))
    assert (done.receipt.version, done.file, actions.snapshot.version) == (7, [], 7)
    assert served(actions) == before
    told = [one for one in entries(actions) if one["version"] == 7]
    assert [(one["kind"], one["name"]) for one in told] == [
        ("rollback", ""),
        ("upstream", "a"),
        ("upstream", "b"),
        ("upstream", "file"),
        ("routes", ""),
    ]
    assert {(one["who"], one["from"]) for one in told} == {("carol", "unix")}
    assert (told[0]["diff"], told[0]["new"]) == ("back to version 2", 2)
    wait(actions.history.roll_back(6, "ops"))
    assert served(actions) == after
    # Back to what is served already is a version, too.
    assert wait(actions.history.roll_back(8, "ops")).receipt.version == 9
    wait(actions.history.roll_back(0, "ops"))
    assert list(actions.upstreams()) == ["file"]


def test_file_is_not_rolled_back(actions: Actions) -> None:
    """Its present values count, and the answer names what it said otherwise then."""
    result_of(actions.set_upstream("a", upstream(1), "ops"))
    file = {"upstreams": {"file": upstream(9), "a": upstream(8)}, "default_upstream": "a"}
    result_of(actions.take_settings(parse_settings(file, "", PLUGINS), "HUP"))
    done = wait(actions.history.roll_back(1, "ops"))
    assert done.file == ["default_upstream", "upstreams.file"]
    assert actions.upstream("file")["servers"][0]["port"] == 9
    assert actions.upstream("a")["servers"][0]["port"] == 1


def test_rollback_that_cannot_be_served_changes_nothing(store: FakeStore) -> None:
    """All of it or nothing: one part of then is not right any more."""
    actions = make_actions(store, FakePlane())
    result_of(actions.set_upstream("a", upstream(1, mode="hash"), "ops"))
    result_of(actions.set_upstream("b", upstream(1), "ops"))
    result_of(actions.remove_upstream("a", "ops"))
    result_of(actions.remove_upstream("b", "ops"))
    # The balancer is gone since.
    store.past._rows[0] = (*store.past._rows[0][:2], '{"servers": [], "mode": "hash"}')
    before = served(actions), len(store.changes)
    message = error_of(ensureDeferred(actions.history.roll_back(2, "ops")), ConfigError)
    assert message.startswith("upstreams.a.servers: ")
    assert (served(actions), len(store.changes)) == before
    store.error = StoreError("full")
    error_of(ensureDeferred(actions.history.roll_back(3, "ops")), StoreError)
    assert served(actions) == before[0]


def test_limit_of_the_settings_holds(store: FakeStore) -> None:
    """From the start, and another one from the time at which the file is read again."""
    actions = make_actions(store, FakePlane(), history={"versions": 2})
    for number in range(1, 6):
        result_of(actions.set_upstream("a", upstream(number), "ops"))
    assert [one["version"] for one in entries(actions)] == [5, 4]
    message = error_of(ensureDeferred(actions.history.roll_back(2, "ops")), NotFoundError)
    assert message == "no version 2 in the history, which has 3 to 5"
    settings = parse_settings({"history": {"versions": 3}}, "", PLUGINS)
    assert result_of(actions.take_settings(settings, "HUP")) is None
    result_of(actions.set_upstream("a", upstream(6), "ops"))
    assert [one["version"] for one in entries(actions)] == [6, 5, 4]
    wait(actions.history.roll_back(3, "ops"))
    assert actions.upstream("a")["servers"][0]["port"] == 3


@pytest.mark.parametrize("versions", [0, 1_000_001, 1.5, None])
def test_wrong_limit_is_refused(versions: Any) -> None:
    with pytest.raises(ConfigError, match=r"^history\.versions: expected an integer from 1 to"):
        parse_settings({"history": {"versions": versions}})


def test_much_to_show_is_shown_in_pieces(actions: Actions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two pieces others have their turn."""
    for number in range(20):
        result_of(actions.set_upstream("a", upstream(number + 1), "ops"))
    turns: list[Deferred[None]] = []

    def turn() -> Deferred[None]:
        turns.append(Deferred())
        return turns[-1]

    actions.history.turn = turn
    monkeypatch.setattr("slardar.control.pieces._PIECE", -1.0)
    answer = ensureDeferred(actions.history.page(None, 100))
    while not answer.called:
        turns[-1].callback(None)
    assert len(turns) == 21
    assert len(result_of(answer)) == 21
    actions.history.turn = lambda: succeed(None)
    monkeypatch.setattr("slardar.control.pieces._PIECE", 5.0)
    assert len(entries(actions)) == 20


# Over HTTP.


@pytest.fixture
def client(actions: Actions) -> WebClient:
    return WebClient(actions, IPv4Address("TCP", "192.0.2.7", 40000))


def test_calls(client: WebClient, actions: Actions) -> None:
    """The history, a version of it, and a rollback with the answer of the contract."""
    for number in (1, 2, 3):
        assert client.call("PUT", "/upstream/a", upstream(number)).status == 200
    told = client.call("GET", "/history?limit=1")
    assert told.status == 200
    (entry,) = told.json
    assert [entry[key] for key in ("version", "who", "from")] == [3, "http", "192.0.2.7"]
    assert [one["version"] for one in client.call("GET", "/history?before=3").json] == [2, 1, 1]
    assert client.call("GET", "/history?before=1").json == []
    then = client.call("GET", "/history/2")
    assert then.json["upstreams"]["a"]["servers"][0]["port"] == 2
    reply = client.call("POST", "/rollback/1", If_Match='"3"')
    assert (reply.status, reply.json) == (200, {"status": 200, "version": 4})
    assert reply.headers["ETag"] == '"4"'
    assert actions.upstream("a")["servers"][0]["port"] == 1
    late = client.call("POST", "/rollback/2", If_Match='"3"')
    assert (late.status, late.headers["ETag"]) == (412, '"4"')
    reply = client.call("POST", "/rollback/2?receipt=1")
    assert reply.json == {"status": 200, "version": 5, "workers": {"worker-0": 5}}


def test_rollback_tells_what_of_the_file_differs(client: WebClient, actions: Actions) -> None:
    client.call("PUT", "/routes", [])
    result_of(actions.take_settings(parse_settings({}, "", PLUGINS), "HUP"))
    reply = client.call("POST", "/rollback/1")
    assert reply.json == {"status": 200, "version": 3, "file": ["upstreams.file"]}


@pytest.mark.parametrize(
    ("method", "path", "status", "says"),
    [
        ("GET", "/history/9", 404, "no version 9 in the history, which has 0 to 1"),
        ("POST", "/rollback/9", 404, "no version 9 in the history, which has 0 to 1"),
        ("POST", "/rollback/-1", 400, 'version: expected the number of a version, got "-1"'),
        ("GET", f"/history/{10**18}", 400, "version: expected the number of a version"),
        ("GET", "/history?before=x", 400, 'before: expected the number of a version, got "x"'),
        ("GET", "/history?limit=0", 400, 'limit: expected a number from 1 to 1000, got "0"'),
        ("GET", "/history?limit=1001", 400, "limit: expected a number from 1 to 1000"),
        ("GET", "/history?limit=10000000", 400, "limit: expected a number from 1 to 1000"),
        ("GET", "/rollback/1", 405, "expected POST"),
    ],
)
def test_wrong_calls(client: WebClient, method: str, path: str, status: int, says: str) -> None:
    client.call("PUT", "/routes", [])
    reply = client.call(method, path)
    assert reply.status == status
    assert reply.json["msg"].startswith(says)


def test_place_of_a_unix_socket(actions: Actions) -> None:
    WebClient(actions, UNIXAddress(None)).call("PUT", "/routes", [])
    assert entries(actions)[0]["from"] == "unix"


def test_store_that_cannot_be_read(client: WebClient, store: FakeStore) -> None:
    store.error = StoreError("the disk is gone")
    for method, path in (("GET", "/history"), ("GET", "/history/0"), ("POST", "/rollback/0")):
        assert client.call(method, path).status == 503


def test_log_names_a_rollback(actions: Actions) -> None:
    result_of(actions.set_upstream("a", upstream(1), "ops"))
    with capturedLogs() as logged:
        wait(actions.history.roll_back(0, "ops"))
    (line,) = [formatEvent(event) for event in logged if "version 2" in formatEvent(event)]
    assert line == "version 2: rollback, upstreams.a set by ops: upstreams -a"


def test_memory_store_that_is_taken_over_has_a_new_history() -> None:
    """It begins with the state that another process held."""
    first = make_actions(MemoryStore(), FakePlane(), upstreams={"file": upstream(1)})
    result_of(first.set_upstream("a", upstream(1), "ops"))
    result_of(first.set_upstream("a", upstream(2), "ops"))
    heir = MemoryStore()
    heir.take_over(result_of(first.hand_over()))
    actions = make_actions(heir, FakePlane(), upstreams={"file": upstream(1)})
    result_of(actions.set_upstream("a", upstream(3), "ops"))
    assert [one["version"] for one in wait(actions.history.page(None, 100))] == [3]
    wait(actions.history.roll_back(2, "ops"))
    assert actions.upstream("a")["servers"][0]["port"] == 2
    error_of(ensureDeferred(actions.history.roll_back(1, "ops")), NotFoundError)


def test_reason_alone_is_a_change(actions: Actions) -> None:
    """A state that is held already is taken for a reason, and not without."""
    assert result_of(actions.take_desired(actions.held, "ops")) is None
    reason = Value("rollback", "", 0)
    assert result_of(actions.take_desired(actions.held, "ops", reason=reason)).version == 1


def test_version_that_committed_nothing_can_be_gone_back_to(actions: Actions) -> None:
    """A catalogue has made it, say.  It is not told of, and counts for no limit."""

    def follow() -> None:
        following = Next([Value("service", "s", {})], actions.snapshot, stored=actions.held)
        result_of(actions.change(lambda: following, "the catalogue"))

    actions.store.keep_history(2)
    result_of(actions.set_upstream("a", upstream(1), "ops"))
    for _ in range(5):
        follow()
    result_of(actions.set_upstream("a", upstream(2), "ops"))
    follow()
    assert [one["version"] for one in entries(actions)] == [7, 1]
    assert wait(actions.history.version(8))["upstreams"]["a"]["servers"][0]["port"] == 2
    assert wait(actions.history.version(8))["changes"] == []
    error_of(ensureDeferred(actions.history.roll_back(9, "ops")), NotFoundError)
    assert wait(actions.history.roll_back(4, "ops")).receipt.version == 9
    assert actions.upstream("a")["servers"][0]["port"] == 1
