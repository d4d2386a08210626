"""The line of the log about a change: who, what, and no value that may be a secret."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent

from slardar.control.actions import Actions
from slardar.control.audit import describe_change
from slardar.control.changes import Next
from slardar.model.change import Value
from slardar.model.hook import Code, Hook
from slardar.model.parse import parse_routes, parse_upstream
from slardar.model.snapshot import Snapshot
from tests.control.fakes import FakePlane, FakeStore, make_actions, result_of


def server(number: int, **keys: Any) -> dict[str, Any]:
    return {"host": f"10.0.0.{number}", "port": 80, **keys}


def line(before: Any, after: Any) -> str:
    """The text about an upstream that becomes another; ``None`` is no upstream."""
    old = Snapshot.build(1, {}, (), None)
    if before is not None:
        old = old.with_upstream(parse_upstream("a", before, "a"))
    new = Snapshot.build(1, {}, (), None)
    if after is not None:
        new = new.with_upstream(parse_upstream("a", after, "a"))
    return describe_change(old, Next([Value("upstream", "a", after)], new, ["a"]))


ONE = {"servers": [server(1)]}


@pytest.mark.parametrize(
    ("before", "after", "wanted"),
    [
        (None, ONE, "new, with 10.0.0.1:80"),
        (ONE, None, "it had 10.0.0.1:80"),
        (ONE, {"servers": [{"host": "::1", "port": 80}]}, "+[::1]:80; -10.0.0.1:80"),
        (None, None, ""),
        (ONE, ONE, ""),
        (ONE, {"servers": [server(1), server(2)]}, "+10.0.0.2:80"),
        (ONE, {"servers": [server(2)]}, "+10.0.0.2:80; -10.0.0.1:80"),
        (ONE, {"servers": [server(1, weight=5)]}, "10.0.0.1:80 weight 1 -> 5"),
        (ONE, {"servers": [server(1, state="drain")]}, "10.0.0.1:80 state (not given) -> drain"),
        (ONE, {**ONE, "mode": "hash", "try": 2}, "mode (not given) -> hash, try (not given) -> 2"),
        (
            {"servers": [server(1), server(2)]},
            {"servers": [server(2), server(1)]},
            "the order or the levels of its servers",
        ),
        (ONE, {"cluster": [{"servers": [server(1)]}]}, "the order or the levels of its servers"),
        (
            ONE,
            {"servers": [server(number) for number in range(1, 10)]},
            "+10.0.0.2:80, +10.0.0.3:80, +10.0.0.4:80, +10.0.0.5:80, +10.0.0.6:80 and 3 more",
        ),
    ],
)
def test_upstream(before: Any, after: Any, wanted: str) -> None:
    """Servers that come, go and change; keys, with the values of plain settings."""
    assert line(before, after) == wanted


def test_no_secret_is_shown() -> None:
    """Options and the query of an HTTP heartbeat show only their keys."""
    after = {**ONE, "mode_opts": {"secret": "s3cret"}, "http_opts": {"query": "GET /?s3cret"}}
    assert line(ONE, after) == "http_opts, mode_opts"
    assert line(after, {**ONE, "mode_opts": {"secret": "s3cret2"}}) == "http_opts, mode_opts"


def test_hook_is_named_by_its_versions() -> None:
    """Its code is not shown."""
    one, two = Code.of("s3cret = 1", 1.0), Code.of("s3cret = 2", 2.0)

    def said(before: Hook | None, after: Hook | None) -> str:
        empty = Snapshot.build(1, {}, (), None)
        old = empty if before is None else empty.with_hooks({before.key: before})
        new = empty if after is None else empty.with_hooks({after.key: after})
        return describe_change(old, Next([Value("hook", "lua/script.a", None)], new))

    def hook(**keys: Any) -> Hook:
        return Hook("lua", "script.a", **keys)

    assert said(None, hook(staged=one)) == f"staged: {one.version}"
    assert said(hook(staged=one), hook(active=one)) == f"in service: {one.version}"
    assert said(hook(active=one), None) == ""
    before = hook(active=one, staged=two)
    assert said(before, hook(active=one, staged=two, canary=10)) == "canary: 10 %"
    assert said(before, hook(active=one, staged=two, shadow=True)) == "in the shadow"
    assert said(before, hook(active=one, staged=two, on_error="continue")) == "on_error: continue"


def test_routes_and_files() -> None:
    """How many routes come and go, and which upstreams a file has changed."""
    one = parse_routes([{"path": "/a", "upstream": "a"}, {"path": "/b", "upstream": "b"}], "")
    a = parse_upstream("a", ONE, "a")
    before = Snapshot.build(1, {"a": a, "b": a}, one, None)
    after = Snapshot.build(
        2, {"a": parse_upstream("a", {**ONE, "try": 1}, "a"), "c": a}, one[1:], "c"
    )
    said = describe_change(before, Next([Value("file", "", {})], after))
    assert said == "upstreams +c, -b, a; routes +0 -1; default_upstream c"
    turned = Snapshot.build(2, {}, one[::-1], None)
    before = Snapshot.build(1, {}, one, None)
    assert (
        describe_change(before, Next([Value("routes", "", [])], turned))
        == "the order of the routes"
    )


def test_several_things_are_told_together() -> None:
    """Each hook with what has become of it; of different sorts the names, and the first few
    where there are many."""
    code = Code.of("s3cret = 1", 1.0)
    hooks = [Hook("lua", f"script.{letter}", active=code) for letter in "abcdefg"]
    empty = Snapshot.build(1, {}, (), None)
    full = empty.with_hooks({hook.key: hook for hook in hooks})
    following = Next([Value("hook", hook.path, {}) for hook in hooks], full)
    said = describe_change(empty, following)
    assert said.startswith(f"lua/script.a in service: {code.version}, lua/script.b in service: ")
    assert said.endswith(" and 2 more")
    assert (following.verb, following.path) == (
        "set",
        "hooks.lua/script.a, hooks.lua/script.b, hooks.lua/script.c, hooks.lua/script.d,"
        " hooks.lua/script.e and 2 more",
    )
    values = [Value("upstream", "a", ONE), Value("hook", "lua/script.a", {})]
    after = empty.with_upstream(parse_upstream("a", ONE, "a")).with_hooks({hooks[0].key: hooks[0]})
    assert describe_change(empty, Next(values, after)) == "upstreams +a; hooks lua/script.a"


KEYS = st.sampled_from(["mode", "try", "keepalive", "mode_opts", "http_opts", "enable"])
NUMBERS = st.lists(st.integers(1, 30), min_size=1, max_size=30, unique=True)


@given(NUMBERS, NUMBERS, KEYS, st.integers(1, 9))
def test_line_is_one_line_and_short(
    before: list[int], after: list[int], key: str, weight: int
) -> None:
    """It never fails for any difference, and is empty only if nothing differs."""
    values: dict[str, Any] = {
        "mode": "hash",
        "try": 3,
        "keepalive": 5,
        "mode_opts": {"a\nb": 1},
        "http_opts": {"query": "x" * 1000},
        "enable": False,
    }
    old = {"servers": [server(number) for number in before]}
    new = {"servers": [server(number, weight=weight) for number in after], key: values[key]}
    said = line(old, new)
    assert said
    assert len(said) <= 500
    assert "\n" not in said


def test_log_tells_who_and_what() -> None:
    """Each change has one line."""
    actions: Actions = make_actions(FakeStore(), FakePlane())
    with capturedLogs() as logged:
        result_of(actions.set_upstream("a", ONE, "ops"))
        result_of(actions.patch_server("a", "10.0.0.1:80", {"weight": 7}, "ops"))
        result_of(actions.remove_upstream("a", "ops"))
    said = [formatEvent(event) for event in logged]
    assert said == [
        "version 1: upstreams.a set by ops: new, with 10.0.0.1:80",
        "version 2: upstreams.a set by ops: 10.0.0.1:80 weight 1 -> 7",
        "version 3: upstreams.a removed by ops: it had 10.0.0.1:80",
    ]
