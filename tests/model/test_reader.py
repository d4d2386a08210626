"""Plain objects are read into structures, with every mistake."""

from __future__ import annotations

from types import MappingProxyType
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from slardar.errors import ConfigError
from slardar.model.reader import Problems, joined, read, read_partly, shown


class Inner(Struct, frozen=True, forbid_unknown_fields=True):
    """A structure within another."""

    size: Annotated[int, Meta(ge=1, description="a size")]
    kind: Literal["a", "b"] = "a"


class Outer(Struct, frozen=True, forbid_unknown_fields=True):
    """One field of each kind."""

    inner: Inner = Inner(1)
    many: tuple[Inner, ...] = ()
    names: tuple[str, ...] = ()
    flags: dict[str, bool] = {}
    ratio: float | None = None
    tries: int = msgspec.field(default=1, name="try")


def mistakes(raw: Any, path: str = "x") -> list[str]:
    """The mistakes that ``read`` finds in ``raw``."""
    problems = Problems()
    assert read(Outer, raw, path, problems) is None
    return problems.lines


def test_right_input_is_read() -> None:
    """It may be any mapping, with the keys as they are written."""
    problems = Problems()
    raw = {"inner": {"size": 2}, "many": [{"size": 3, "kind": "b"}], "try": 5, "ratio": 1}
    expected = Outer(Inner(2), (Inner(3, "b"),), tries=5, ratio=1.0)
    assert read(Outer, raw, "x", problems) == expected
    assert read(Outer, MappingProxyType(raw), "x", problems) == expected
    assert read(Outer, {}, "x", problems) == Outer()
    assert problems.lines == []


@pytest.mark.parametrize(
    ("raw", "lines"),
    [
        (None, ["x: expected an object, got null"]),
        ([], ["x: expected an object, got []"]),
        ({"inner": 5}, ["x.inner: expected an object, got 5"]),
        ({"inner": {}}, ["x.inner.size: is missing"]),
        ({"inner": {"size": 0}}, ["x.inner.size: expected a size, got 0"]),
        ({"many": {}}, ["x.many: expected a list, got {}"]),
        (
            {"many": [{"size": 1}, {"size": "x", "kind": "c"}, 5]},
            [
                'x.many[1].size: expected a size, got "x"',
                'x.many[1].kind: expected one of a, b, got "c"',
                "x.many[2]: expected an object, got 5",
            ],
        ),
        ({"names": "abc"}, ['x.names: expected a list, got "abc"']),
        ({"names": ["a", 1, None]}, ["x.names[1]: expected a string, got 1", "x.names[2]: "]),
        ({"flags": {"a": True, "b c": 1}}, ['x.flags["b c"]: expected true or false, got 1']),
        ({"ratio": "1"}, ['x.ratio: expected a number or null, got "1"']),
        ({"try": True}, ["x.try: expected an integer, got true"]),
        ({"tires": 1}, ["x.tires: unknown key"]),
        ({"inne": 1}, ['x.inne: unknown key (did you mean "inner"?)']),
        ({5: 1}, ["x[5]: unknown key"]),
        ({None: 1}, ["x[null]: unknown key"]),
        ({"a\nb": 1}, ['x["a\\nb"]: unknown key']),
        ({"ratio": float("nan"), "try": 1.5, "q": 0}, ["x.try: expected", "x.q: unknown key"]),
    ],
)
def test_every_mistake_is_one_line(raw: Any, lines: list[str]) -> None:
    """The line has the place, the expected value and the given value."""
    found = mistakes(raw)
    assert len(found) == len(lines)
    for one, wanted in zip(found, lines, strict=True):
        assert one.startswith(wanted)


def test_without_a_path_the_key_stands_alone() -> None:
    """A file's own keys have no dot in front."""
    assert mistakes({"inner": {"size": 0}, "a b": 1}, "") == [
        "inner.size: expected a size, got 0",
        '["a b"]: unknown key',
    ]
    assert mistakes(5, "") == ["expected an object, got 5"]


def test_part_that_is_right_can_be_had() -> None:
    """Wrong keys get their defaults, and are noted."""
    problems = Problems()
    raw = {"inner": {"size": 0}, "many": [{"size": 7}], "try": "x", "no": 1}
    assert read_partly(Outer, raw, "x", problems) == Outer(many=(Inner(7),))
    assert len(problems.lines) == 3
    assert read_partly(Outer, 5, "x", problems) == Outer()
    assert len(problems.lines) == 4


def test_values_are_shown_short_and_on_one_line() -> None:
    """This holds for any value, also for those that JSON cannot hold."""
    endless: list[Any] = []
    endless.append(endless)
    assert shown("a\nb\u2028\x1b") == '"a\\nb\\u2028\\u001b"'
    assert shown(endless) == "list"
    assert shown(object()) == "object"
    assert shown(10**5000) == "int"
    assert len(shown("x" * 1000)) == 60


def test_paths_are_one_line() -> None:
    """A plain key after a dot, any other in brackets."""
    assert joined("", "a") == "a"
    assert joined("a", "*.b-c") == "a.*.b-c"
    assert joined("a", "b\r\nc") == 'a["b\\r\\nc"]'
    assert joined("a", "ä") == 'a["\\u00e4"]'


def test_problems_are_raised_together() -> None:
    """All lines are raised at once; without lines nothing is raised; ``add_first`` notes a
    place once."""
    problems = Problems()
    problems.raise_if_any()
    problems.add("a", "one")
    problems.add_first("a", "again")
    problems.add_first("b", "two")
    with pytest.raises(ConfigError) as caught:
        problems.raise_if_any()
    assert caught.value.problems == ("a: one", "b: two")
    assert str(caught.value) == "a: one; b: two"
