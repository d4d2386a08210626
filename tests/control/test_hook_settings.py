"""Settings that hooks read: the calls, the store, the file, and what others see of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.defer import ensureDeferred
from twisted.logger import LogEvent, formatEvent, globalLogPublisher

from slardar.config import parse_settings
from slardar.control.actions import Actions
from slardar.errors import ConfigError, ConflictError, NotFoundError
from slardar.events import Changed, Event
from slardar.model.change import StoredState, Value
from slardar.model.hook import Code, Hook, written
from slardar.model.setting import MAX_SETTING
from slardar.stores.memory import MemoryStore
from tests.control.board import Board, BoardStore
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

SECRET = "hunter2"


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The texts of what the configuration logs."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_namespace"] == "slardar.control":
            lines.append(formatEvent(event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


def actions_of(store: Any, **settings: Any) -> Actions:
    return make_actions(store, FakePlane(), **settings)


@pytest.fixture
def actions(store: FakeStore) -> Actions:
    return actions_of(store)


def served(actions: Actions) -> dict[str, Any]:
    """The settings that the plane has."""
    plane: Any = actions.plane
    return {name: json.loads(text) for name, text in plane.snapshot.settings.items()}


def put(actions: Actions, name: str, value: Any) -> int:
    version: int = result_of(actions.hook_settings.set(name, value, "ops")).version
    return version


# Changes.


def test_setting_is_stored_and_served(actions: Actions, store: FakeStore, log: list[str]) -> None:
    """As one version, with one line in the log and one event, which do not tell its value."""
    events: list[Event] = []
    actions.publish = events.append
    assert put(actions, "myargs", {"key": SECRET}) == 1
    assert served(actions) == {"myargs": {"key": SECRET}}
    assert store.state.settings == {"myargs": {"key": SECRET}}
    before = actions.snapshot.fingerprint
    assert put(actions, "myargs", SECRET) == 2
    assert actions.snapshot.fingerprint != before
    assert result_of(actions.hook_settings.remove("myargs", "ops")).version == 3
    assert (served(actions), dict(store.state.settings)) == ({}, {})
    assert log == [
        "version 1: settings.myargs set by ops",
        "version 2: settings.myargs set by ops",
        "version 3: settings.myargs removed by ops",
    ]
    assert events == [Changed("setting", "myargs", version, "ops") for version in (1, 2, 3)]


def test_value_may_be_any_word(actions: Actions, log: list[str]) -> None:
    """``file`` is only a text here; elsewhere it returns to the file."""
    put(actions, "a", "file")
    assert served(actions) == {"a": "file"}
    assert log == ["version 1: settings.a set by ops"]
    assert ensure(actions.history.page(None, 10))[0]["diff"] == "set"


def test_others_stay_the_same_objects(actions: Actions) -> None:
    """So workers are told of nothing else, and hooks stay loaded."""
    result_of(actions.set_upstream("a", upstream(1), "ops"))
    before = actions.snapshot
    put(actions, "a", 1)
    after = actions.snapshot
    assert after.hooks is before.hooks
    assert after.upstreams["a"] is before.upstreams["a"]
    assert actions.plane.applied[-1][1] == []  # type: ignore[attr-defined]
    result_of(actions.set_upstream("a", upstream(2), "ops"))
    assert actions.snapshot.settings is after.settings


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("exit", 1, "settings.exit: slardar.exit is a function of Lua hooks"),
        ("upstreams/a", {}, "settings.upstreams/a: stores keep other things under upstreams"),
        ("a", None, "settings.a: expected a value, got null"),
        ("a", SECRET * MAX_SETTING, f"settings.a: expected at most {MAX_SETTING} bytes of JSON"),
        ("number/deeper", SECRET, "left out, for settings.number is no object"),
        ("object", SECRET, "settings.object/deeper: left out, for settings.object is no object"),
    ],
)
def test_wrong_setting_is_refused(
    actions: Actions, store: FakeStore, name: str, value: Any, wanted: str
) -> None:
    """Nothing has changed, and the message does not tell the value."""
    put(actions, "number", 5)
    put(actions, "object/deeper", 1)
    message = error_of(actions.hook_settings.set(name, value, "ops"), ConfigError)
    assert wanted in message
    assert SECRET not in message
    assert (actions.snapshot.version, store.state.version) == (2, 2)


def test_what_is_not_there_cannot_be_removed(store: FakeStore) -> None:
    """What only the file has is taken out there."""
    actions = actions_of(store, settings={"of-file": 1})
    message = error_of(actions.hook_settings.remove("none", "ops"), NotFoundError)
    assert message == "no setting none"
    message = error_of(actions.hook_settings.remove("of-file", "ops"), ConflictError)
    assert message == "settings.of-file: only the file has it: take it out there"
    assert error_of_one(actions, "none") == "no setting none"


def error_of_one(actions: Actions, name: str) -> str:
    with pytest.raises(NotFoundError) as raised:
        actions.hook_settings.one(name)
    return str(raised.value)


# The file and the store.


def test_store_wins_over_the_file(store: FakeStore) -> None:
    """Until what was set is removed, over restarts; the status tells where each comes from."""
    file = {"settings": {"both": "file", "of-file": {"x": 1}}}
    actions = actions_of(store, **file)
    put(actions, "both", "set")
    put(actions, "of-file/y", 2)
    for again in (actions, actions_of(store, **file)):
        assert served(again) == {"both": "set", "of-file": {"x": 1}, "of-file/y": 2}
        origins = again.origins()
        assert origins["settings"] == {"both": "control", "of-file": "file", "of-file/y": "control"}
        assert origins["shadowed"] == ["settings.both"]
    result_of(actions.hook_settings.remove("both", "ops"))
    assert served(actions)["both"] == "file"


def test_file_is_read_again(store: FakeStore, log: list[str]) -> None:
    """What it says otherwise is served, as one version; an edit of what was set is told."""
    actions = actions_of(store, settings={"a": 1, "b": 1, "gone": SECRET})
    put(actions, "b", 2)
    log.clear()
    settings = parse_settings({"settings": {"a": SECRET, "b": SECRET}})
    assert result_of(actions.take_settings(settings, "HUP")).version == 2
    assert served(actions) == {"a": SECRET, "b": 2}
    assert log == [
        "version 2: file set by HUP: settings a, gone",
        "settings.b: the file's edit is not served, for a change through the control channel"
        " holds; DELETE /setting/b returns to the file's",
    ]
    assert result_of(actions.take_settings(settings, "HUP")) is None
    # The file may be where a secret is to stay.
    put(actions, "c", 1)
    assert SECRET not in str(store.said)


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ([], "settings: expected an object of settings by name"),
        ({1.5: 1}, "settings[1.5]: expected a name"),
        ({"exit": 1}, "settings.exit: slardar.exit is a function"),
        ({"a": {1: 2}}, "settings.a: expected keys that are texts"),
        ({"a": 1, "a/b": 2}, "settings.a/b: left out, for settings.a is no object"),
        ({"a": None}, "settings.a: expected a value, got null"),
    ],
)
def test_wrong_file_is_refused(settings: Any, wanted: str) -> None:
    with pytest.raises(ConfigError) as raised:
        parse_settings({"settings": settings})
    (line,) = raised.value.problems
    assert line.startswith(wanted)


def test_what_a_store_has_too_much_is_left_out(log: list[str]) -> None:
    """At the start everything else is served, and the status and the log tell why."""
    state = StoredState(1, {"u": upstream(1)}, settings={"bad": {"x": "y" * (1 << 20)}, "good": 1})
    actions = actions_of(FakeStore(state))
    assert (list(actions.snapshot.upstreams), served(actions)) == (["u"], {"good": 1})
    reason = f"settings.bad: expected at most {MAX_SETTING} bytes of JSON"
    assert actions.status()["failed"] == {"settings.bad": reason}
    assert log == [f"stored and left out: {reason}"]
    assert error_of_one(actions, "bad") == f"no setting bad in use: {reason}"
    # A value that cannot be used either is refused.  A good one sets it right, and so does its
    # removal.
    error_of(actions.hook_settings.set("bad", "y" * (1 << 20), "ops"), ConfigError)
    put(actions, "bad", 2)
    assert "failed" not in actions.status()
    actions = actions_of(FakeStore(state))
    result_of(actions.hook_settings.remove("bad", "ops"))
    assert "failed" not in actions.status()


def test_name_that_is_left_out_is_refused_again() -> None:
    """Until there is an object above it."""
    actions = actions_of(FakeStore(StoredState(1, settings={"a": 5, "a/b": 1})))
    assert (served(actions), list(actions.failed)) == ({"a": 5}, ["settings.a/b"])
    error_of(actions.hook_settings.set("a/b", 2, "ops"), ConfigError)
    put(actions, "a", {})
    assert (served(actions), actions.failed) == ({"a": {}, "a/b": 1}, {})


def test_what_nobody_can_read_is_overwritten() -> None:
    """A store may hold bytes that are neither JSON nor text."""
    broken = {"settings.a": "a: expected UTF-8"}
    actions = actions_of(FakeStore(StoredState(1, settings={"b": 1}, broken=broken)))
    put(actions, "a", 1)
    assert served(actions) == {"a": 1, "b": 1}
    assert "settings.a" not in actions.failed


def test_others_may_write_what_is_wrong(log: list[str]) -> None:
    """The last good value stays, all else that they have written is served, and changes go on."""
    board = Board()
    one = actions_of(BoardStore(board))
    put(one, "a", 1)
    bad, good = Value("setting", "a", [float(2**70), "\x00" * 20_000]), Value("setting", "b", 2)
    board.write([bad, good, Value("upstream", "u", upstream(1))])
    log.clear()
    board.tell()
    reason = f"settings.a: expected at most {MAX_SETTING} bytes of JSON"
    for actions in (one, actions_of(BoardStore(board))):
        assert list(actions.snapshot.upstreams) == ["u"]
        assert actions.status()["failed"] == {"settings.a": reason}
    assert served(one) == {"a": 1, "b": 2}
    assert log[:2] == [
        f"stored and left out: {reason}",
        "version 2: upstreams.u, settings.b set by store: upstreams +u; settings b",
    ]
    log.clear()
    # If nothing else is new, it is still told, once.
    board.write([Value("setting", "a", "\x00" * 30_000)])
    board.tell()
    assert (served(one), log) == ({"a": 1, "b": 2}, [])
    assert put(one, "b", 3) == 3
    assert served(one) == {"a": 1, "b": 3}
    board.write([Value("setting", "a", 5)])
    board.tell()
    assert (served(one), one.failed) == ({"a": 5, "b": 3}, {})


def hook_of(code: str) -> Any:
    return written(Hook("python", "script.a", active=Code.of(code, NOW)))


def test_hook_may_come_with_the_setting_that_it_needs() -> None:
    """Its code is looked at with the settings that it will have: what others have written is served
    at once, and so is a version that is gone back to."""
    board = Board()
    actions = actions_of(BoardStore(board))
    board.write([Value("hook", "python/script.a", hook_of("reads-x")), Value("setting", "x", 1)])
    board.tell()
    assert (list(actions.snapshot.hooks), served(actions)) == ([("python", "script.a")], {"x": 1})
    state = actions.held
    ensure(actions.history.roll_back(0, "ops"))
    assert (dict(actions.snapshot.hooks), served(actions)) == ({}, {})
    ensure(actions.take_desired(state, "ops"))
    assert (list(actions.snapshot.hooks), served(actions)) == ([("python", "script.a")], {"x": 1})


def test_hook_may_come_before_the_setting_that_it_needs() -> None:
    """Others may write the setting later, or an operator sets it here, or the file has it."""
    board = Board()
    by_others, here, of_file = (actions_of(BoardStore(board)) for _ in range(3))
    board.write([Value("hook", "python/script.a", hook_of("reads-x"))])
    board.tell()
    for actions in (by_others, here, of_file):
        assert list(actions.failed) == ["hooks.python/script.a"]
        assert not actions.snapshot.hooks
    result_of(of_file.take_settings(parse_settings({"settings": {"x": 1}}), "HUP"))
    assert (list(of_file.snapshot.hooks), of_file.failed) == ([("python", "script.a")], {})
    board.tell()
    put(here, "x", 1)
    board.tell()
    for actions in (by_others, here):
        assert (list(actions.snapshot.hooks), actions.failed) == ([("python", "script.a")], {})


def test_posted_hook_is_looked_at_with_the_present_settings(actions: Actions) -> None:
    """Whether it is put into service or into the shadow."""
    client = WebClient(actions)
    for query in ("activate=1", "shadow=1"):
        reply = client.call("POST", f"/python/script.a?{query}", b"reads-x")
        assert (reply.status, "no such setting" in reply.json["msg"]) == (400, True)
    put(actions, "x", 1)
    for query in ("activate=1", "shadow=1"):
        assert client.call("POST", f"/python/script.a?{query}", b"reads-x").status == 200


# The history.


def ensure(answer: Any) -> Any:
    return result_of(ensureDeferred(answer))


def test_history_tells_no_value() -> None:
    """It tells that one was set, changed or removed, and goes back to it."""
    store = MemoryStore()
    actions = Actions(parse_settings({"settings": {"f": SECRET}}), store, FakePlane(), PLUGINS,
                      lambda: NOW)  # fmt: skip
    result_of(actions.start())
    put(actions, "a", SECRET)
    put(actions, "a", [SECRET, 2])
    result_of(actions.hook_settings.remove("a", "ops"))
    found = ensure(actions.history.page(None, 100))
    told = [(one["kind"], one["name"], one["diff"], one["old"], one["new"]) for one in found]
    assert [one for one in told if one[0] == "setting"] == [
        ("setting", "a", "removed", "********", None),
        ("setting", "a", "changed", "********", "********"),
        ("setting", "a", "set", None, "********"),
    ]
    then = ensure(actions.history.version(2))
    assert then["settings"] == {"a": "********", "f": "********"}
    assert then["origins"]["settings"] == {"a": "control", "f": "file"}
    assert SECRET not in json.dumps([found, then])
    ensure(actions.history.roll_back(1, "ops"))
    assert served(actions) == {"a": SECRET, "f": SECRET}
    ensure(actions.history.roll_back(0, "ops"))
    assert served(actions) == {"f": SECRET}


# Calls.


def token(name: str, role: str, **rest: Any) -> dict[str, Any]:
    return {"name": name, "role": role, "sha256": hashlib.sha256(name.encode()).hexdigest(), **rest}


def test_calls(actions: Actions) -> None:
    """Over HTTP; a slash in a name is percent-encoded."""
    client = WebClient(actions)
    assert client.call("PUT", "/setting/myargs", b'{"arg0": 0}').json == {"status": 200}
    assert client.call("PUT", "/setting/a%2Fb", b'"text"').status == 200
    assert client.call("GET", "/settings").json == {"a/b": "text", "myargs": {"arg0": 0}}
    one = client.call("GET", "/setting/myargs")
    assert (one.json, one.headers["X-Slardar-Origin"]) == ({"arg0": 0}, "control")
    for body in (b"", b"text", b"{", b"NaN", b'{"a":1,"a":2}', b"[" * 10_000, b"\xff", b"null"):
        reply = client.call("PUT", "/setting/myargs", body)
        assert (reply.status, reply.json["status"]) == (400, 400), body
    assert client.call("PUT", "/setting/exit", b"1").status == 400
    assert client.call("DELETE", "/setting/a%2Fb").json == {"status": 200}
    assert client.call("DELETE", "/setting/a%2Fb").status == 404
    assert client.call("GET", "/setting/a%2Fb").status == 404
    assert served(actions) == {"myargs": {"arg0": 0}}


def test_change_may_have_a_condition(actions: Actions) -> None:
    """As other changes."""
    client = WebClient(actions)
    assert client.call("PUT", "/setting/a", b"1", **{"If-Match": "*"}).status == 412
    assert client.call("PUT", "/setting/a", b"1", **{"If-None-Match": "*"}).status == 200
    assert client.call("PUT", "/setting/a", b"2", **{"If-None-Match": "*"}).status == 412
    assert served(actions) == {"a": 1}


def test_only_admins_of_all_names_see_values(actions: Actions) -> None:
    """Every hook may read every setting, so a team's token may neither see nor set one, whatever
    its name."""
    put(actions, "www.team.example", SECRET)
    client = WebClient(
        actions,
        tokens=[
            token("boss", "admin"),
            token("look", "read"),
            token("team", "admin", names=["www.team.example"]),
        ],
    )
    path = "/setting/www.team.example"
    calls = [("GET", "/settings"), ("GET", path), ("PUT", path), ("DELETE", path)]
    for name, wanted in (("look", 403), ("team", 403), ("boss", 200)):
        for method, path in calls:
            reply = client.call(method, path, b"1" if method == "PUT" else None,
                                Authorization=f"Bearer {name}")  # fmt: skip
            assert reply.status == wanted, (name, method, path)
            assert wanted == 200 or SECRET.encode() not in reply.body
    put(actions, "a", SECRET)
    for name in ("look", "team"):
        for path in ("/status", "/history", "/upstreams", "/openapi.json", "/metrics"):
            reply = client.call("GET", path, Authorization=f"Bearer {name}")
            assert SECRET.encode() not in reply.body
