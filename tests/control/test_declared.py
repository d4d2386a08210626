"""What an operator declares in one text becomes one change."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from slardar.config import parse_settings
from slardar.control.actions import Actions
from slardar.control.conditions import Condition, PreconditionError
from slardar.control.declared import Declared
from slardar.errors import ConfigError
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

ROUTES = [{"host": "x", "path": "/", "upstream": "a"}]
SERVICE = {"dns_service": "_http._tcp.web.example"}
#: What the file says, which is served at first.
FILE = {"upstreams": {"file": upstream(1)}}


@pytest.fixture
def store() -> FakeStore:
    return FakeStore()


@pytest.fixture
def actions(store: FakeStore) -> Actions:
    made = Actions(parse_settings(FILE), store, FakePlane(), PLUGINS, lambda: NOW)
    result_of(made.start())
    result_of(made.set_upstream("a", upstream(1), "ops"))
    return made


def apply(actions: Actions, body: Any, prune: bool = False) -> Declared:
    done: Declared = result_of(actions.declared.apply(body, prune, "ops"))
    return done


def named(actions: Actions, body: Any, prune: bool = False) -> list[tuple[str, str]]:
    return [(one.kind, one.name) for one in actions.declared.differences(body, prune)]


def test_all_of_it_is_one_change(actions: Actions, store: FakeStore) -> None:
    version = actions.snapshot.version
    body = {
        "upstreams": {"a": upstream(1, 2), "b": upstream(3), "file": upstream(1)},
        "services": {"web": SERVICE},
        "routes": ROUTES,
    }
    changed = [("upstream", "a"), ("upstream", "b"), ("service", "web"), ("routes", "")]
    assert named(actions, body) == changed
    assert actions.snapshot.version == version
    done = apply(actions, body)
    assert [(one.kind, one.name) for one in done.differences] == changed
    assert done.differences[0].diff.startswith("+ servers.127.0.0.1:2: ")
    assert done.receipt is not None
    assert done.receipt.version == actions.snapshot.version == version + 1
    assert set(actions.snapshot.upstreams) == {"a", "b", "file", "web"}
    assert actions.routes() == ROUTES
    # The file's upstream is served as it is declared, so it stays the file's.
    assert not actions.held.decides("file")
    assert (actions.held.services, actions.held.routes) == ({"web": SERVICE}, ROUTES)
    again = apply(actions, body)
    assert (again.differences, again.receipt) == ([], None)
    assert actions.snapshot.version == version + 1


def test_value_is_whole(actions: Actions) -> None:
    """A key that is left out has its default again."""
    apply(actions, {"upstreams": {"a": {**upstream(1), "mode": "hash"}}})
    assert actions.snapshot.upstreams["a"].mode == "hash"
    (only,) = apply(actions, {"upstreams": {"a": upstream(1)}}).differences
    assert only.diff == '- mode: "hash"'
    assert actions.snapshot.upstreams["a"].mode == "wrr"


@pytest.mark.parametrize(
    ("body", "gone"),
    [
        ({"upstreams": {"a": upstream(1)}}, [("upstream", "file")]),
        ({"upstreams": {}}, [("upstream", "a"), ("upstream", "file")]),
        ({"upstreams": None}, [("upstream", "a"), ("upstream", "file")]),
        ({"services": {}}, [("service", "web")]),
        ({"routes": []}, []),
        ({}, []),
    ],
)
def test_prune(actions: Actions, body: Any, gone: list[tuple[str, str]]) -> None:
    """What a section does not name goes with ``prune`` only, and only in sections that are there.
    What the file has does not come back."""
    result_of(actions.services.set("web", SERVICE, "ops", False))
    assert named(actions, body) == []
    assert apply(actions, body).receipt is None
    assert named(actions, body, True) == gone
    apply(actions, body, True)
    assert set(actions.snapshot.upstreams) == {"a", "file", "web"} - {name for _, name in gone}
    for kind, name in gone:
        decides = actions.held.decides if kind == "upstream" else actions.held.decides_service
        assert decides(name)


@pytest.mark.parametrize("prune", [False, True])
def test_upstream_that_becomes_a_service_and_back(actions: Actions, prune: bool) -> None:
    assert named(actions, {"services": {"a": SERVICE}}, prune) == [
        ("upstream", "a"),
        ("service", "a"),
    ]
    apply(actions, {"services": {"a": SERVICE}})
    assert set(actions.snapshot.services) == {"a"}
    apply(actions, {"upstreams": {"a": upstream(1)}}, prune)
    assert not actions.snapshot.services
    assert [one.port for one in actions.snapshot.upstreams["a"].servers] == [1]


def test_answers_may_be_declared(actions: Actions) -> None:
    """What ``GET /upstreams`` answers, with servers in two places and no password."""
    secret = {**upstream(1), "typ": "mysql", "user": "u", "pass": "hunter2"}
    apply(actions, {"upstreams": {"a": secret}})
    web = WebClient(actions)
    shown = web.call("GET", "/upstreams").json
    assert "hunter2" not in repr(shown)
    assert named(actions, {"upstreams": shown}, True) == []
    shown["a"]["keepalive"] = 5
    (only,) = apply(actions, {"upstreams": shown}).differences
    assert only.diff == "+ keepalive: 5"
    assert actions.snapshot.upstreams["a"].source["pass"] == "hunter2"


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ([], ["expected an object with upstreams, services, routes, got []"]),
        (
            {"upstream": {}},
            ['"upstream": unknown key; expected some of upstreams, services, routes'],
        ),
        ({"upstreams": []}, ["upstreams: expected an object of upstreams by name"]),
        (
            {
                "upstreams": {"a b": upstream(1), "c": {"servers": 5}, "d": upstream(1)},
                "services": {"s": {}},
                "routes": [{"upstream": 1}],
            },
            [
                "upstreams",
                "upstreams.c.servers: expected ",
                "services.s: expected ",
                "routes[0].upstream: expected ",
            ],
        ),
    ],
)
def test_every_mistake_is_told_and_nothing_is_changed(
    actions: Actions, store: FakeStore, body: Any, lines: list[str]
) -> None:
    version, commits = actions.snapshot.version, len(store.changes)
    text = error_of(actions.declared.apply(body, True, "ops"), ConfigError)
    with pytest.raises(ConfigError) as found:
        actions.declared.differences(body, True)
    assert str(found.value) == text
    assert len(found.value.problems) == len(lines)
    for problem, line in zip(found.value.problems, lines, strict=True):
        assert problem.startswith(line)
    assert (actions.snapshot.version, len(store.changes)) == (version, commits)


def test_name_that_is_declared_twice(actions: Actions) -> None:
    body = {"upstreams": {"a": upstream(1)}, "services": {"a": SERVICE}}
    text = error_of(actions.declared.apply(body, False, "ops"), ConfigError)
    assert text == "services.a: expected another name, for upstreams.a has it, too"


def test_what_becomes_of_each(actions: Actions) -> None:
    """That a thing goes is not to be guessed from its lines."""
    body = {"upstreams": {"a": upstream(2), "b": upstream(1)}, "routes": ROUTES}
    found = actions.declared.differences(body, True)
    assert [(one.name, one.change) for one in found] == [
        ("file", "removed"),
        ("a", "changed"),
        ("b", "added"),
        ("", "changed"),
    ]


def test_condition(actions: Actions) -> None:
    """Who has looked at the differences changes what they saw, or nothing."""
    condition = Condition(['"0"'], [], ("apply",))
    made = actions.declared.apply({"routes": ROUTES}, False, "ops", True, condition)
    error_of(made, PreconditionError)
    assert actions.routes() == []


def test_others_changes_meanwhile_stay(actions: Actions, store: FakeStore) -> None:
    """The differences are found when it is the turn of the change."""
    first = actions.set_upstream("b", upstream(7), "carol")
    second = actions.declared.apply({"upstreams": {"a": upstream(2)}}, False, "ops")
    result_of(first)
    result_of(second)
    assert set(actions.snapshot.upstreams) == {"a", "b", "file"}


def test_calls() -> None:
    """Who may only ask sees the differences, and changes nothing."""
    tokens = [
        {"name": role, "role": role, "sha256": hashlib.sha256(role.encode()).hexdigest()}
        for role in ("read", "admin")
    ]
    web = WebClient(make_actions(FakeStore(), FakePlane()), tokens=tokens)
    body = b'{"upstreams": {"new": {"servers": [{"host": "127.0.0.1", "port": 1}]}}}'
    for path, role, status in (
        ("/diff", "read", 200),
        ("/apply", "read", 403),
        ("/apply?receipt=1", "admin", 200),
    ):
        reply = web.call("POST", path, body, Authorization=f"Bearer {role}")
        assert reply.status == status, path
        if path == "/diff":
            (only,) = reply.json
            assert (only["kind"], only["name"]) == ("upstream", "new")
    assert reply.json["version"] == int(reply.headers["ETag"].strip('"'))
    assert (reply.json["status"], len(reply.json["differences"])) == (200, 1)
    assert web.call("POST", "/diff", body, Authorization="Bearer read").json == []
