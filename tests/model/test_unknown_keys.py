"""Keys without meaning: users' own notes, and unknown keys in stores."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from slardar.config import parse_settings
from slardar.errors import ConfigError
from slardar.model.parse import merge_upstream, parse_routes, parse_upstream, patch_server
from slardar.model.reader import ANY_KEY
from slardar.model.routes import written_routes
from tests.fake_plugins import FakePlugins

S = {"host": "127.0.0.1", "port": 80}

#: Upstreams with a note, or another unknown key, in every object.
NOTED: list[dict[str, Any]] = [
    {"servers": [S], "KEY": {"any": ["thing"]}},
    {"servers": [{**S, "KEY": "web-1"}, {"host": "b", "port": 1, "weight": 2}]},
    {"cluster": [{"servers": [{**S, "KEY": 1}], "KEY": None}], "KEY": 5},
    {"cluster": {"dc": {"servers": [S], "KEY": 1}}},
    {"servers": [S], "http_opts": {"KEY": "a", "query": "x"}},
    {"servers": [{**S, "KEY": 1, "weight": 3}], "http_opts": {"KEY": 1}, "KEY": 1, "try": 2},
]


def replaced(value: Any, key: str) -> Any:
    """``value`` with ``key`` in the place of every KEY."""
    if isinstance(value, Mapping):
        return {key if k == "KEY" else k: replaced(v, key) for k, v in value.items()}
    return [replaced(item, key) for item in value] if isinstance(value, list) else value


def without(value: Any) -> Any:
    """``value`` without any KEY."""
    if isinstance(value, Mapping):
        return {k: without(v) for k, v in value.items() if k != "KEY"}
    return [without(item) for item in value] if isinstance(value, list) else value


def meaning(upstream: Any) -> Any:
    """All fields except how the upstream was written."""
    return {
        name: getattr(upstream, name)
        for name in upstream.__struct_fields__
        if name not in ("source", "digest", "unknown")
    }


@pytest.mark.parametrize("body", NOTED)
@pytest.mark.parametrize("key", ["x_owner", "x_"])
def test_notes_are_kept_anywhere(body: dict[str, Any], key: str) -> None:
    """They stay where they were in the source, and change nothing."""
    noted = replaced(body, key)
    upstream = parse_upstream("a", noted, "x")
    assert meaning(upstream) == meaning(parse_upstream("a", without(body), "x"))
    assert upstream.unknown == ()
    again = parse_upstream("a", upstream.source, "x")
    assert again == upstream
    assert str(upstream.source).count(f"'{key}'") == str(noted).count(f"'{key}'")


def test_notes_in_options_and_statuses() -> None:
    """Balancers do not get them as options, and they are no statuses."""
    asked: list[Any] = []

    def check_mode(mode: str, options: Mapping[str, Any], where: str) -> None:
        asked.append((mode, dict(options)))

    body = {
        "servers": [S],
        "mode": "header_hash",
        "mode_opts": {"x_why": 1, "header": "X"},
        "http_opts": {"statuses": {"502": False, "x_note": "gateway"}},
    }
    upstream = parse_upstream("a", body, "x", FakePlugins(check_mode))
    assert asked == [("header_hash", {"header": "X"})]
    assert upstream.mode_opts == {"header": "X"}
    assert upstream.failed_statuses == {502}
    assert upstream.source["mode_opts"] == body["mode_opts"]


def test_names_are_no_notes() -> None:
    """The name of an upstream or a named cluster may begin with ``x_``."""
    upstream = parse_upstream("a", {"cluster": {"x_dc": {"servers": [S]}}}, "x")
    assert [level.name for level in upstream.levels] == ["x_dc"]
    assert list(parse_settings({"upstreams": {"x_a": {"servers": [S]}}}).upstreams) == ["x_a"]


def test_notes_do_not_hide_mistakes() -> None:
    """Mistakes beside them, or below them, are still found."""
    body = {
        "servers": [{**S, "x_a": 1, "port": 0}, {**S, "x_b": 1, "weight": "x"}],
        "x_c": float("nan"),
        "tyr": 2,
    }
    with pytest.raises(ConfigError) as caught:
        parse_upstream("a", body, "x")
    places = [line.partition(": ")[0] for line in caught.value.problems]
    assert places == ["x.servers[0].port", "x.servers[1].weight", "x.tyr", "x.x_c"]


def test_notes_in_a_file() -> None:
    """They may stand on every level of the file."""
    settings = parse_settings(
        {
            "x_file": 1,
            "limits": {"x_limit": 1, "body": 5},
            "control": {"x_c": [], "tokens": [{"name": "a", "sha256": "0" * 64, "x_t": 1}]},
            "routes": [{"upstream": "a", "x_route": {"a": 1}}],
        }
    )
    assert settings.limits.body == 5
    assert settings.control.tokens[0].name == "a"
    assert written_routes(settings.first_routes) == [{"upstream": "a", "x_route": {"a": 1}}]


@pytest.mark.parametrize("note", [float("nan"), b"bytes", {1, 2}])
def test_notes_are_plain(note: object) -> None:
    """They must be values that JSON can hold."""
    with pytest.raises(ConfigError, match="routes\\[0\\]: expected what JSON can hold"):
        parse_routes([{"upstream": "a", "x_a": note}], "routes")
    with pytest.raises(ConfigError, match="x_a: expected a value that JSON can hold"):
        parse_upstream("a", {"servers": [S], "x_a": note}, "x")


def test_field_of_the_notes_is_a_note() -> None:
    """Users cannot set the field ``x_`` of a route."""
    (route,) = parse_routes([{"upstream": "a", "x_": {"path": "/"}}], "routes")
    assert written_routes((route,)) == [{"upstream": "a", "x_": {"path": "/"}}]


# In a store that others write.


@pytest.mark.parametrize("body", NOTED)
def test_unknown_key_in_a_store_is_kept(body: dict[str, Any]) -> None:
    """It changes nothing; a line names each key with its place, and has a hint for a typing
    mistake."""
    odd = replaced(body, "wieght")
    upstream = parse_upstream("a", odd, "x", passes=ANY_KEY)
    assert meaning(upstream) == meaning(parse_upstream("a", without(body), "x"))
    assert len(upstream.unknown) == str(odd).count("wieght")
    assert all("wieght: unknown key" in line for _, line in upstream.unknown)
    assert str(upstream.source).count("wieght") == str(odd).count("wieght")
    with pytest.raises(ConfigError):
        parse_upstream("a", odd, "x")


def test_unknown_key_does_not_excuse_a_mistake() -> None:
    """A value that cannot be used costs the upstream, in a store as elsewhere."""
    with pytest.raises(ConfigError) as caught:
        parse_upstream("a", {"servers": [{**S, "odd": 1}], "try": 0}, "x", passes=ANY_KEY)
    assert len(caught.value.problems) == 1


def test_unknown_key_that_is_there_is_no_mistake() -> None:
    """Otherwise the upstream could never be changed; another unknown key, or the same in
    another place, is a mistake."""
    body = {"servers": [{**S, "wieght": 2}], "odd": 1}
    current = parse_upstream("a", body, "x", passes=ANY_KEY)
    changed = merge_upstream(current, "a", {"mode": "hash"}, "x")
    assert (changed.source["odd"], changed.mode, len(changed.unknown)) == (1, "hash", 2)
    changed = patch_server(current, "127.0.0.1", 80, {"weight": 5}, "x")
    assert changed.source["servers"][0]["wieght"] == 2
    assert changed.servers[0].weight == 5
    changed = merge_upstream(current, "a", {"servers": [S]}, "x")
    assert [key for key, _ in changed.unknown] == [("UpstreamBody", "odd")]
    for wrong in ({"wieght": 1}, {"servers": [{**S, "odd": 1}]}, {"other": 1}):
        with pytest.raises(ConfigError, match="unknown key"):
            merge_upstream(current, "a", wrong, "x")
    with pytest.raises(ConfigError, match="unknown key"):
        patch_server(current, "127.0.0.1", 80, {"odd": 5}, "x")
    # Once the key is removed, it is a mistake again.
    with pytest.raises(ConfigError, match="unknown key"):
        merge_upstream(merge_upstream(current, "a", {"cluster": [{"servers": [S]}]}, "x"),
                       "a", {"odd": 1}, "x")  # fmt: skip


def test_unknown_key_of_a_route() -> None:
    """Routes keep them, too; a known key is never taken for one."""
    body = [{"upstream": "a", "paht": "/"}, {"upstream": "b", "x_n": 1, "path": "/b"}]
    routes = parse_routes(body, "routes", ANY_KEY)
    assert written_routes(routes) == body
    assert (routes[1].path, routes[1].notes) == ("/b", {"x_n": 1})
    # Routes are values and may be in a set.
    assert len({*routes, *routes}) == 2
    with pytest.raises(ConfigError, match="unknown key"):
        parse_routes(body, "routes")
    with pytest.raises(ConfigError, match="path: expected a path"):
        parse_routes([{"upstream": "a", "path": "b"}], "routes", ANY_KEY)


# Other forms of lua-resty-checkups.


def test_empty_mode_is_the_default() -> None:
    """Tools of upyun/slardar write it so."""
    asked: list[str] = []
    plugins = FakePlugins(lambda mode, *_: asked.append(mode))
    upstream = parse_upstream("a", {"servers": [S], "mode": ""}, "x", plugins)
    assert (upstream.mode, asked, upstream.source["mode"]) == ("wrr", ["wrr"], "")


@pytest.mark.parametrize("key", ["name", "user", "pass"])
def test_database_keys(key: str) -> None:
    """They are texts, kept as they are."""
    assert parse_upstream("a", {"servers": [S], key: "x"}, "x").source[key] == "x"
    with pytest.raises(ConfigError, match=f"x.{key}: expected a string"):
        parse_upstream("a", {"servers": [S], key: 5}, "x")
