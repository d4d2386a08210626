"""Operations that work in pieces do what Python does at once."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from slardar.hooks.python.methods import METHODS
from slardar.hooks.python.operators import OPERATORS

SIGNS = {"_sub_": "-", "_and_": "&", "_or_": "|", "_xor_": "^"}
IN_PLACE = {"_isub_": "-=", "_iand_": "&=", "_ior_": "|=", "_ixor_": "^="}
METHOD_NAMES = (
    "difference", "intersection", "isdisjoint", "issubset", "issuperset", "symmetric_difference",
    "union", "update", "difference_update", "intersection_update",
)  # fmt: skip
random = Random(7)


def some(size: int, of: int) -> set[int]:
    return set(random.sample(range(of), size))


PAIRS: list[tuple[set[Any], set[Any]]] = [
    (some(600, 1000), some(500, 1000)),
    (some(600, 1000), set()),
    (set(), some(600, 1000)),
    (set(range(500)), set(range(1000))),
    (set(range(1000)), set(range(500))),
    (set(range(500)), set(range(500, 1000))),
    ({1, 2}, {2, 3}),
    ({(n, 1) for n in range(300)}, {(n, 1) for n in range(200, 500)}),
]


@pytest.mark.parametrize(("left", "right"), PAIRS, ids=range(len(PAIRS)))
@pytest.mark.parametrize("kind", [set, frozenset])
def test_operators_of_sets(left: set[Any], right: set[Any], kind: Any) -> None:
    """Values and types of results agree, for both types of sets on both sides and for one set
    twice."""
    for guard, sign in SIGNS.items():
        for one, other in ((kind(left), right), (left, kind(right)), (same := kind(left), same)):
            expected = eval(f"one {sign} other", {"one": one, "other": other})
            made = OPERATORS[guard](one, other)
            assert (made, type(made)) == (expected, type(expected)), sign
            assert made is not one
    for guard, sign in IN_PLACE.items():
        for other in (kind(right), None):
            names: dict[str, Any] = {"one": left.copy(), "other": other}
            mine = left.copy()
            exec(f"one {sign} {'other' if other is not None else 'one'}", names)
            made = OPERATORS[guard](mine, mine if other is None else other)
            assert made is mine
            assert made == names["one"], sign


@pytest.mark.parametrize(("left", "right"), PAIRS, ids=range(len(PAIRS)))
def test_methods_of_sets(left: set[Any], right: set[Any]) -> None:
    """The methods agree with a set, a list, and the set itself; some take several."""
    for name in METHOD_NAMES:
        arguments: list[tuple[Any, ...]] = [(right,), (sorted(right),), (frozenset(right),)]
        if name not in ("isdisjoint", "issubset", "issuperset", "symmetric_difference"):
            arguments += [(right, {1, 2, 3}), ()]
        for given in arguments:
            expected, mine = left.copy(), left.copy()
            result = getattr(expected, name)(*given)
            function = METHODS[set][name]
            assert function is not None
            made = function(mine, *given)
            assert (made, type(made), mine) == (result, type(result), expected), name
        with pytest.raises(TypeError):
            METHODS[set]["issubset"](left, right, right)  # type: ignore[misc]


def test_dicts() -> None:
    """Order and values of a copy agree, even if most items of the dict were deleted."""
    left = {n: n for n in range(900)}
    for n in range(0, 900, 2):
        del left[n]
    right = {n: -n for n in range(300, 700)}
    assert list(METHODS[dict]["copy"](left).items()) == list(left.items())  # type: ignore[misc]
    assert list(OPERATORS["_or_"](left, right).items()) == list((left | right).items())
    mine = left.copy()
    assert OPERATORS["_ior_"](mine, right) is mine
    assert list(mine.items()) == list((left | right).items())


@pytest.mark.parametrize("errors", ["backslashreplace", "xmlcharrefreplace", "ignore", "strict"])
@pytest.mark.parametrize("coding", ["utf-8", "latin1", "ascii"])
def test_codings(coding: str, errors: str) -> None:
    """The results agree for characters that lie across two pieces, and for broken ones."""
    texts = ["a" * n + "é\u4e00\U0001f600\udc80" * 9000 for n in range(4)]
    for text in [*texts, "a" * 40000]:
        check(
            lambda text=text: text.encode(coding, errors),
            METHODS[str]["encode"],
            text,
            coding,
            errors,
        )
    datas = [b"a" * n + "é\u4e00\U0001f600".encode() * 4000 + b"\xff\xe4\xb8" for n in range(4)]
    for data in [*datas, b"a" * 40000, b"\xff" * 40000]:
        check(
            lambda data=data: data.decode(coding, errors),
            METHODS[bytes]["decode"],
            data,
            coding,
            errors,
        )


def check(plain: Any, function: Any, *arguments: Any) -> None:
    try:
        expected = plain()
    except (UnicodeError, TypeError) as error:
        with pytest.raises(type(error)):
            function(*arguments)
    else:
        assert function(*arguments) == expected


def test_translations() -> None:
    """The results agree for characters that become none, one or several."""
    table = {97: "xyz", 98: None, 0x4E00: 99}
    text = "abc\u4e00" * 20000
    assert METHODS[str]["translate"](text, table) == text.translate(table)  # type: ignore[misc]
