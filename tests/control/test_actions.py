"""The operations: what a change does to store, snapshot and plane, and in which order."""

from __future__ import annotations

from typing import Any

import pytest
from zope.interface.verify import verifyObject

from slardar.config import Settings, parse_settings
from slardar.control.actions import Actions, ApplyError, Receipt
from slardar.errors import ConfigError, ConflictError, NotFoundError, StoreError
from slardar.interfaces import IPlane, IStore
from slardar.model.change import StoredState
from slardar.stores.memory import MemoryStore
from tests.control.fakes import (
    NOW,
    PLUGINS,
    FakePlane,
    FakeStore,
    error_of,
    make_actions,
    result_of,
    upstream,
)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def plane() -> FakePlane:
    return FakePlane()


@pytest.fixture
def actions(store: FakeStore, plane: FakePlane) -> Actions:
    return make_actions(store, plane, upstreams={"file": upstream(8001, 8002, mode="hash")})


def ports(actions: Actions, name: str) -> list[int]:
    """The ports of an upstream in the present configuration."""
    return [server.port for server in actions.snapshot.upstreams[name].servers]


def test_fakes_are_what_they_stand_for(store: FakeStore, plane: FakePlane) -> None:
    """They provide the interfaces of the real ones."""
    verifyObject(IStore, store)
    verifyObject(IPlane, plane)


# The start.


def test_start_serves_the_settings(store: FakeStore, plane: FakePlane) -> None:
    """With an empty store everything comes from the file, at version 0, and is new."""
    actions = make_actions(
        store,
        plane,
        upstreams={"a": upstream(1), "b": upstream(2)},
        routes=[{"path": "/x", "upstream": "a"}],
        default_upstream="b",
    )
    (snapshot, changed), *rest = plane.applied
    assert not rest
    assert snapshot is actions.snapshot
    assert sorted(changed) == ["a", "b"]
    assert (snapshot.version, snapshot.default_upstream) == (0, "b")
    assert [snapshot.route("any", path) for path in ("/x", "/")] == ["a", "b"]
    assert store.changes == []


def test_stored_state_wins_by_name(plane: FakePlane) -> None:
    """A stored upstream replaces the file's, and a removed one stays away."""
    state = StoredState(41, {"a": upstream(11), "b": None, "c": upstream(13)})
    file = {"a": upstream(1), "b": upstream(2), "d": upstream(4)}
    actions = make_actions(FakeStore(state), plane, upstreams=file)
    assert actions.snapshot.version == 41
    assert {name: ports(actions, name) for name in actions.upstreams()} == {
        "a": [11],
        "c": [13],
        "d": [4],
    }
    assert "failed" not in actions.status()


@pytest.mark.parametrize(("stored", "target"), [(None, "file"), ([], None), ("own", "own")])
def test_stored_routes_win_if_ever_set(plane: FakePlane, stored: Any, target: str | None) -> None:
    """An empty list counts as set, None does not."""
    routes = [{"upstream": "own"}] if stored == "own" else stored
    state = StoredState(1, {}, routes)
    actions = make_actions(FakeStore(state), plane, routes=[{"upstream": "file"}])
    assert actions.snapshot.route("any", "/") == target


def test_unusable_stored_state_is_left_out_and_shown(plane: FakePlane) -> None:
    """The start goes on; the rest is served; the status has the reason."""
    broken: dict[str, Any] = {
        "gone": upstream(1, mode="my.lost.Class"),
        "junk": 5,
        "b@d": upstream(2),
        "deep": {"servers": [], "mode_opts": {"a": float("nan"), "b": b"no JSON"}},
    }
    store = FakeStore(StoredState(3, {**broken, "good": upstream(9)}, {"not": "a list"}))
    actions = make_actions(store, plane, upstreams={"gone": upstream(7)})
    assert list(actions.upstreams()) == ["good"]
    assert plane.applied[0][1] == ["good"]
    assert store.changes == []
    failed = actions.status()["failed"]
    assert sorted(failed) == ["routes", *sorted(f"upstreams.{name}" for name in broken)]
    assert "no balancer my.lost.Class" in failed["upstreams.gone"]
    assert "expected a list of routes" in failed["routes"]
    with pytest.raises(NotFoundError, match=r"cannot be used: .*my\.lost\.Class"):
        actions.upstream("gone")


def test_unusable_upstream_can_be_replaced_or_removed(plane: FakePlane) -> None:
    """Both are normal changes, and the upstream is no longer shown as failed."""
    broken = upstream(1, mode="lost")
    store = FakeStore(StoredState(3, {"a": broken, "b": broken}, 7))
    actions = make_actions(store, plane)
    assert result_of(actions.set_upstream("a", upstream(5), "x")).version == 4
    assert result_of(actions.remove_upstream("b", "x")).version == 5
    assert list(actions.status()["failed"]) == ["routes"]
    assert result_of(actions.set_routes([], "x")).version == 6
    assert "failed" not in actions.status()
    assert [change.value for change in store.changes][1] is None
    assert actions.snapshot.version == 6
    assert list(actions.upstreams()) == ["a"]
    assert "no upstream b" in error_of(actions.remove_upstream("b", "x"), NotFoundError)


def test_store_that_cannot_be_opened_fails_the_start(store: FakeStore, plane: FakePlane) -> None:
    """The plane serves nothing then."""
    store.error = StoreError("sqlite: no such folder")
    actions = Actions(Settings(), store, plane, PLUGINS)
    assert error_of(actions.start(), StoreError) == "sqlite: no such folder"
    assert plane.applied == []


# Changes.


def test_change_goes_to_the_store_then_to_the_plane(
    actions: Actions, store: FakeStore, plane: FakePlane
) -> None:
    """The record has the change, its author and its time; the plane gets the name of the
    changed upstream."""
    receipt = result_of(actions.set_upstream("new", upstream(8003), "ops"))
    assert receipt == Receipt(1, {"worker-0": 1})
    (change,) = store.changes
    assert (change.kind, change.name, change.who, change.time) == ("upstream", "new", "ops", NOW)
    assert change.value == actions.upstream("new")
    assert plane.applied[-1] == (actions.snapshot, ["new"])
    assert actions.snapshot.version == store.state.version == 1
    assert ports(actions, "new") == [8003]


def test_servers_keep_the_other_keys_and_cluster_replaces_them(actions: Actions) -> None:
    """As in lua-resty-checkups."""
    result_of(actions.set_upstream("file", upstream(8005), "x"))
    assert (actions.upstream("file")["mode"], ports(actions, "file")) == ("hash", [8005])
    result_of(actions.set_upstream("file", {"cluster": [upstream(1), upstream(2)]}, "x"))
    assert "mode" not in actions.upstream("file")
    assert ports(actions, "file") == [1, 2]


def test_same_content_is_a_new_version(actions: Actions, store: FakeStore) -> None:
    """Every accepted change counts, and is recorded."""
    for version in (1, 2):
        assert result_of(actions.set_upstream("a", upstream(1), "x")).version == version
    assert len(store.changes) == 2


def test_one_server_is_changed(actions: Actions, store: FakeStore) -> None:
    """The other servers stay, and the whole upstream is stored."""
    result_of(actions.patch_server("file", "127.0.0.1:8002", {"state": "drain"}, "x"))
    first, second = actions.snapshot.upstreams["file"].servers
    assert (first.state, second.state) == ("up", "drain")
    assert store.changes[0].value["servers"][1]["state"] == "drain"
    assert store.changes[0].value["mode"] == "hash"


def test_removed_upstream_leaves_a_mark(
    actions: Actions, store: FakeStore, plane: FakePlane
) -> None:
    """None in the store keeps the file's upstream away after a restart."""
    assert result_of(actions.remove_upstream("file", "x")).version == 1
    assert (store.changes[0].kind, store.changes[0].value) == ("upstream", None)
    assert plane.applied[-1][1] == ["file"]
    assert actions.upstreams() == {}
    again = make_actions(
        FakeStore(StoredState(1, {"file": None})), FakePlane(), upstreams={"file": upstream(1)}
    )
    assert again.upstreams() == {}


def test_routes_are_set_and_shown_as_written(actions: Actions, store: FakeStore) -> None:
    """They have no key that nobody wrote."""
    routes = [
        {"upstream": "file", "host": "*.a.com", "path": "/x"},
        {"upstream": "b", "path_regex": "^/y"},
    ]
    assert result_of(actions.set_routes(routes, "x")) == Receipt(1, {"worker-0": 1})
    assert actions.routes() == routes
    assert (store.changes[0].kind, store.changes[0].name) == ("routes", "")
    assert store.changes[0].value == routes


def test_state_survives_a_store_and_a_restart(plane: FakePlane) -> None:
    """The next process serves what one process committed to a real store."""
    store = MemoryStore()
    actions = make_actions(store, plane)
    result_of(actions.set_upstream("*.a.com", upstream(1, mode="hash"), "x"))
    result_of(actions.set_upstream("gone", upstream(2), "x"))
    result_of(actions.remove_upstream("gone", "x"))
    result_of(actions.set_routes([{"upstream": "*.a.com"}], "x"))
    again = make_actions(FakeStore(store.state), FakePlane())
    assert again.snapshot.fingerprint == actions.snapshot.fingerprint
    assert again.snapshot.version == 4


@pytest.mark.parametrize(
    ("name", "body", "message"),
    [
        ("a b", upstream(1), "name: expected a name of letters"),
        ("a", [], "upstreams.a"),
        ("a", {}, 'upstreams.a: expected "servers" or "cluster"'),
        ("a", upstream(0), "upstreams.a.servers[0].port: expected an integer from 1 to 65535"),
        ("a", upstream(1, mode="lost"), "upstreams.a.mode: no balancer lost"),
        ("a", upstream(1, weigth=1), "upstreams.a.weigth: unknown key"),
        ("file", upstream(mode=7), "upstreams.file.mode"),
    ],
)
def test_wrong_upstream_changes_nothing(
    actions: Actions, store: FakeStore, plane: FakePlane, name: str, body: Any, message: str
) -> None:
    """The line names the key; neither store nor plane is called."""
    assert message in error_of(actions.set_upstream(name, body, "x"), ConfigError)
    unchanged(actions, store, plane)


def unchanged(actions: Actions, store: FakeStore, plane: FakePlane) -> None:
    """Assert that everything is as it was after the start."""
    assert (store.changes, len(plane.applied)) == ([], 1)
    assert actions.snapshot is plane.snapshot
    assert actions.snapshot.version == 0


def test_what_is_unknown_changes_nothing(
    actions: Actions, store: FakeStore, plane: FakePlane
) -> None:
    """Unknown upstreams and servers are named; routes are checked."""
    for deferred, kind, message in [
        (actions.remove_upstream("b", "x"), NotFoundError, "no upstream b"),
        (actions.patch_server("b", "127.0.0.1:1", {}, "x"), NotFoundError, "no upstream b"),
        (
            actions.patch_server("file", "127.0.0.1:1", {"weight": 1}, "x"),
            NotFoundError,
            "127.0.0.1:1",
        ),
        (actions.patch_server("file", "8001", {"weight": 1}, "x"), ConfigError, "HOST:PORT"),
        (
            actions.patch_server("file", "127.0.0.1:8001", {"weight": "x"}, "x"),
            ConfigError,
            "upstreams.file.127.0.0.1:8001.weight: expected an integer",
        ),
        (actions.set_routes({}, "x"), ConfigError, "routes: expected a list"),
    ]:
        assert message in error_of(deferred, kind)
    unchanged(actions, store, plane)
    with pytest.raises(NotFoundError, match="no upstream b"):
        actions.upstream("b")


@pytest.mark.parametrize("error", [StoreError("disk full"), ConflictError("at version 5")])
def test_store_failure_changes_nothing(
    actions: Actions, store: FakeStore, plane: FakePlane, error: Exception
) -> None:
    """Only what is stored is served, and the next change works as usual."""
    store.error = error
    assert error_of(actions.set_upstream("a", upstream(1), "x"), type(error)) == str(error)
    unchanged(actions, store, plane)
    store.error = None
    assert result_of(actions.set_upstream("a", upstream(1), "x")).version == 1


def test_plane_failure_keeps_memory_and_store_agreed(
    actions: Actions, store: FakeStore, plane: FakePlane
) -> None:
    """The change is stored, and the error says so; the next change is the version after it."""
    plane.error = RuntimeError("worker\nlost")
    message = error_of(actions.set_upstream("a", upstream(1), "x"), ApplyError)
    assert message == (
        "upstreams.a is stored as version 1, but is not served everywhere: worker lost"
    )
    assert actions.snapshot.version == store.state.version == 1
    assert result_of(actions.set_upstream("a", upstream(2), "x", wait=False)).version == 2
    plane.error = None
    assert result_of(actions.remove_upstream("a", "x")).version == 3


def test_without_wait_the_store_is_enough(actions: Actions, plane: FakePlane) -> None:
    """The plane gets the change all the same."""
    plane.held = []
    receipt = result_of(actions.set_upstream("a", upstream(1), "x", wait=False))
    assert receipt == Receipt(1, {})
    assert plane.snapshot is actions.snapshot
    plane.held.pop()()


def test_with_wait_the_plane_answers_first(actions: Actions, plane: FakePlane) -> None:
    """The receipt comes when every worker has confirmed."""
    plane.held = []
    change = actions.set_upstream("a", upstream(1), "x")
    assert not change.called
    plane.held.pop()()
    assert result_of(change) == Receipt(1, {"worker-0": 1})


def test_changes_are_made_one_at_a_time(
    actions: Actions, store: FakeStore, plane: FakePlane
) -> None:
    """The second change is checked against the result of the first; neither is lost."""
    store.held = []
    first = actions.set_upstream("file", upstream(1), "x")
    second = actions.patch_server("file", "127.0.0.1:1", {"weight": 9}, "y")
    third = actions.remove_upstream("file", "z")
    for version, change in enumerate((first, second, third), 1):
        assert not change.called
        assert len(store.held) == 1, "a change did not wait for the one before"
        store.held.pop()()
        assert result_of(change).version == version
    assert [change.who for change in store.changes] == ["x", "y", "z"]
    assert store.changes[1].value["servers"][0]["weight"] == 9
    assert [snapshot.version for snapshot, _ in plane.applied] == [0, 1, 2, 3]


def test_failed_change_lets_the_next_one_in(actions: Actions, store: FakeStore) -> None:
    """The lock is released wherever a change fails."""
    store.held = []
    first = actions.set_upstream("a", upstream(1), "x")
    wrong = actions.set_upstream("b", {}, "x")
    last = actions.set_upstream("c", upstream(3), "x")
    store.error = StoreError("disk full")
    store.held.pop()()
    error_of(first, StoreError)
    error_of(wrong, ConfigError)
    store.error = None
    store.held.pop()()
    assert result_of(last).version == 1
    assert list(actions.upstreams()) == ["c", "file"]


def test_slow_plane_holds_no_other_change_back(actions: Actions, plane: FakePlane) -> None:
    """Only its own caller waits for a slow lookup of a name."""
    plane.held = []
    slow = actions.set_upstream("slow", upstream(1), "x")
    quick = actions.set_upstream("quick", upstream(2), "x")
    assert [changed for _, changed in plane.applied[1:]] == [["slow"], ["quick"]]
    plane.held.pop()()
    assert (result_of(quick).version, slow.called) == (2, False)
    plane.held.pop()()
    assert result_of(slow).version == 1


# Other settings.


def settings_of(**settings: Any) -> Settings:
    """The settings of a file."""
    return parse_settings(settings)


def test_new_settings_are_served_where_the_store_is_silent(
    store: FakeStore, plane: FakePlane
) -> None:
    """New, changed and removed values together are one version; values that a call has set or
    removed stay."""
    actions = make_actions(
        store,
        plane,
        upstreams={name: upstream(1) for name in ("same", "differs", "goes", "set", "removed")},
    )
    result_of(actions.set_upstream("set", upstream(5), "http"))
    result_of(actions.remove_upstream("removed", "http"))
    new = settings_of(
        upstreams={
            "same": upstream(1),
            "differs": upstream(2),
            "new": upstream(3),
            "set": upstream(4),
            "removed": upstream(1),
        },
        routes=[{"path": "/x", "upstream": "new"}],
        default_upstream="new",
        conf_hash="two",
    )
    receipt = result_of(actions.take_settings(new, "HUP"))
    assert receipt.version == 3
    snapshot, changed = plane.applied[-1]
    assert sorted(changed) == ["differs", "goes", "new"]
    assert snapshot.version == 3
    assert sorted(snapshot.upstreams) == ["differs", "new", "same", "set"]
    assert ports(actions, "set") == [5]
    assert ports(actions, "differs") == [2]
    assert (snapshot.route("any", "/x/y"), snapshot.default_upstream) == ("new", "new")
    assert actions.status()["conf_hash"] == "two"
    # A second time there is no change left.
    assert result_of(actions.take_settings(new, "HUP")) is None
    assert actions.snapshot.version == 3


def test_routes_of_a_call_outlive_new_settings(store: FakeStore, plane: FakePlane) -> None:
    """The store's routes win over the file's, as at a start."""
    actions = make_actions(store, plane, upstreams={"a": upstream(1)})
    result_of(actions.set_routes([{"path": "/x", "upstream": "a"}], "http"))
    new = settings_of(upstreams={"a": upstream(1)}, routes=[{"path": "/y", "upstream": "a"}])
    assert result_of(actions.take_settings(new, "HUP")) is None
    assert actions.routes() == [{"path": "/x", "upstream": "a"}]


def test_new_settings_that_cannot_be_stored_change_nothing(
    store: FakeStore, plane: FakePlane
) -> None:
    """Neither the served snapshot changes, nor the settings with which the next ones are
    compared."""
    actions = make_actions(store, plane, upstreams={"a": upstream(1)})
    store.error = StoreError("the disk is full")
    new = settings_of(upstreams={"b": upstream(1)}, conf_hash="two")
    assert "disk" in error_of(actions.take_settings(new, "HUP"), StoreError)
    assert sorted(actions.snapshot.upstreams) == ["a"]
    assert actions.status()["conf_hash"] is None
    store.error = None
    assert result_of(actions.take_settings(new, "HUP")).version == 1
    assert sorted(actions.snapshot.upstreams) == ["b"]


# A store that others write.


def test_unknown_key_in_the_store_costs_nothing(plane: FakePlane) -> None:
    """It is kept, named in the status, and does not prevent a change of the upstream; in the
    file or a call it is a mistake."""
    stored = {**upstream(1), "odd": {"a": 1}}
    stored["servers"][0]["wieght"] = 2
    state = StoredState(3, {"a": stored}, [{"upstream": "a", "paht": "/"}])
    store = FakeStore(state)
    actions = make_actions(store, plane)
    assert list(actions.upstreams()) == ["a"]
    assert actions.upstream("a")["odd"] == {"a": 1}
    status = actions.status()
    assert "failed" not in status
    assert status["ignored"] == [
        'upstreams.a.servers[0].wieght: unknown key (did you mean "weight"?)',
        "upstreams.a.odd: unknown key",
        "routes[0].paht: unknown key",
    ]
    result_of(actions.set_upstream("a", {"mode": "hash"}, "x"))
    assert store.changes[-1].value["odd"] == {"a": 1}
    result_of(actions.set_upstream("a", actions.upstream("a"), "x"))
    result_of(actions.patch_server("a", "127.0.0.1:1", {"weight": 2}, "x"))
    result_of(actions.set_routes(actions.routes(), "x"))
    assert store.changes[-1].value == [{"upstream": "a", "paht": "/"}]
    assert len(actions.status()["ignored"]) == 3
    assert "unknown key" in error_of(actions.set_upstream("b", stored, "x"), ConfigError)
    assert "unknown key" in error_of(actions.set_routes([{"hots": "a"}], "x"), ConfigError)
    result_of(actions.set_upstream("a", {"cluster": [upstream(1)]}, "x"))
    result_of(actions.set_routes([], "x"))
    assert "ignored" not in actions.status()


def test_password_is_stored_and_not_shown(actions: Actions, store: FakeStore) -> None:
    """Neither answers nor the status show it; an answer can be sent back."""
    result_of(actions.set_upstream("db", upstream(1, **{"typ": "mysql", "pass": "s3cret"}), "x"))
    shown = [actions.upstreams(), actions.upstream("db"), actions.status(), actions.routes()]
    assert "s3cret" not in str(shown)
    result_of(actions.set_upstream("db", dict(actions.upstream("db")), "x"))
    assert [change.value["pass"] for change in store.changes] == ["s3cret"] * 2
