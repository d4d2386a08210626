"""Settings that hooks read: names, values, limits, and which of several count."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import count
from typing import Any

import pytest

from slardar.errors import ConfigError
from slardar.model.setting import (
    MAX_SETTING,
    MAX_SETTINGS,
    MAX_TOTAL,
    parse_setting,
    settings_in_use,
)

LARGE = "x" * (MAX_SETTING - 2)


def nested(levels: int) -> Any:
    """A list in a list, and so on."""
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def in_use(stored: Mapping[str, Any], given: Mapping[str, str] | None = None) -> Mapping[str, str]:
    """The settings of a store, beside those of a file; none is left out."""
    found, failed = settings_in_use(given or {}, stored, {}, {})
    assert failed == {}
    return found


@pytest.mark.parametrize(
    "value",
    [
        *({"arg0": 0, "arg1": 1}, [], {}, "", False, 0, -0.5, [None], "\u00e9\U0001f600\x00"),
        *(2**64 - 1, -(2**63), LARGE, nested(32), {"__class__": {"": 1}}, {"a/b": 1}),
    ],
    ids=count(),
)
def test_value_is_kept(value: Any) -> None:
    """Any JSON within the limits, in ASCII."""
    text = parse_setting("a", value, "settings.a")
    assert text.isascii()
    assert json.loads(text) == value


def test_equal_values_have_one_text() -> None:
    """So nodes that read a setting from different places agree."""
    assert parse_setting("a", {"y": 1, "x": [1]}, "") == parse_setting("a", {"x": [1], "y": 1}, "")


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (None, "expected a value, got null"),
        (float("nan"), "expected numbers that are finite"),
        ([float("-inf")], "expected numbers that are finite"),
        (10**400, "expected integers of at most 64 bits"),
        ({"n": -(2**63) - 1}, "expected integers of at most 64 bits"),
        ({1: "one"}, "expected keys that are texts; put them in quotes"),
        ([{None: "one"}], "expected keys that are texts; put them in quotes"),
        ("\ud800", "expected text in UTF-8"),
        ({"\udfff": 1}, "expected text in UTF-8"),
        (b"bytes", "expected JSON, got bytes"),
        ([object()], "expected JSON, got object"),
        (nested(33), "expected at most 32 levels of lists and objects"),
        (nested(10_000), "expected at most 32 levels of lists and objects"),
        (LARGE + "x", f"expected at most {MAX_SETTING} bytes of JSON"),
        ("\x00" * (MAX_SETTING // 2), f"expected at most {MAX_SETTING} bytes of JSON"),
        ("x" * (1 << 20), f"expected at most {MAX_SETTING} bytes of JSON"),
        ([0] * 1_000_000, f"expected at most {MAX_SETTING} bytes of JSON"),
    ],
    ids=count(),
)
def test_value_is_refused(value: Any, wanted: str) -> None:
    """With one line, in which the value is not."""
    with pytest.raises(ConfigError) as raised:
        parse_setting("a", value, "settings.a")
    assert str(raised.value) == f"settings.a: {wanted}"


@pytest.mark.parametrize(
    "name", ["myargs", "a/b", "a b", "a/exit", "\u00e9", "__class__", "x" * 255]
)
def test_name_is_taken(name: str) -> None:
    parse_setting(name, 1, "")


@pytest.mark.parametrize(
    "name",
    [
        *("", "/", "/a", "a/", "a//b", "a\n", "\x00", "\ud800", "x" * 256, "/".join("a" * 17)),
        *("exit", "exit/a", "set_upstream", "set_hash_key", "set_cluster_key"),
        *("upstreams/a", "lua/script.a", "python", "routes", "services/x", "certificates/a"),
    ],
)
def test_name_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"^settings\.x: .*expected"):
        parse_setting(name, 1, "settings.x")


def test_store_wins_over_the_file() -> None:
    """By name; what only one of them has counts."""
    assert in_use({"a": 2, "c": "text"}, {"a": "1", "b": "1"}) == {
        "a": "2",
        "b": "1",
        "c": '"text"',
    }


def test_what_is_no_setting_is_passed_over() -> None:
    """Consul's folders are keys that end with a slash."""
    assert in_use({"myargs/": "", "a": None, "myargs/x": 1}) == {"myargs/x": "1"}


def test_nothing_new_is_the_same_object() -> None:
    """Then no worker is told anything."""
    stored = {"a": {"x": 1}}
    served = in_use(stored)
    again = {"a": {"x": 1}}
    assert settings_in_use({}, again, stored, served) == (served, {})
    assert settings_in_use({}, again, stored, served)[0] is served
    assert settings_in_use({}, {}, stored, served)[0] is not served


def test_last_good_value_stays() -> None:
    """Until there is another good one, whatever else changes meanwhile."""
    bad = {"a": float("nan"), "b": 1}
    served = in_use({"a": 1})
    served, failed = settings_in_use({}, bad, {"a": 1}, served)
    assert served == {"a": "1", "b": "1"}
    assert failed == {"settings.a": "settings.a: expected numbers that are finite"}
    assert settings_in_use({}, bad, bad, served, failed) == (served, failed)
    assert settings_in_use({}, {"a": 2}, bad, served, failed) == ({"a": "2"}, {})
    # One that has never been good is left out.
    assert settings_in_use({}, bad, {}, {})[0] == {"b": "1"}


def test_deeper_name_needs_an_object_above() -> None:
    """Else it is left out, from wherever both come."""
    assert in_use({"a": {}, "a/b": 1, "a/b.c": 2, "x/y": 1})
    found, failed = settings_in_use({"a": "5"}, {"a/b/c": 1, "ab": 1}, {}, {})
    assert found == {"a": "5", "ab": "1"}
    assert failed == {"settings.a/b/c": "settings.a/b/c: left out, for settings.a is no object"}
    found, failed = settings_in_use({}, {"a": {}, "a/b": [], "a/b/c": 1}, {}, {})
    assert found == {"a": "{}", "a/b": "[]"}
    assert list(failed) == ["settings.a/b/c"]


def test_what_leads_into_a_setting_counts_for_its_size() -> None:
    """Hooks read it as one value."""
    half = "x" * (MAX_SETTING // 2)
    found, failed = settings_in_use({}, {"a/1": half, "a/2": half, "b": half}, {}, {})
    assert sorted(found) == ["a/1", "b"]
    assert list(failed) == ["settings.a/2"]
    many = {f"a/{n:0250}": 1 for n in range(MAX_SETTINGS)}
    found, _ = settings_in_use({}, many, {}, {})
    assert 200 < len(found) < 300


def test_there_is_a_most_of_all() -> None:
    """By number and by size; one line tells of the rest."""
    found, failed = settings_in_use({}, {f"a{n:04}": n for n in range(MAX_SETTINGS + 5)}, {}, {})
    assert (len(found), list(failed)) == (MAX_SETTINGS, ["settings"])
    assert failed["settings"].endswith('left out: "a1000" and 4 more')
    found, failed = settings_in_use({}, {f"a{n}": LARGE for n in range(20)}, {}, {})
    assert (len(found), list(failed)) == (MAX_TOTAL // MAX_SETTING, ["settings"])
