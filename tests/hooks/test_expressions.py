"""The cost of a regular expression is estimated before RE2 gets it."""

from __future__ import annotations

import time

import pytest
import re2  # type: ignore[import-untyped]

from slardar.hooks.expressions import MAX_COMPILING, compiling_cost, matching_cost

_BYTES = re2.Options.Encoding.LATIN1
_TEXT = re2.Options.Encoding.UTF8


def options(is_folded: bool, is_bytes: bool) -> re2.Options:
    made = re2.Options()
    made.encoding = _BYTES if is_bytes else _TEXT
    made.case_sensitive = not is_folded
    made.log_errors = False
    made.max_mem = 1 << 18
    return made


#: Those that take long for their length.
HEAVY = [
    r"\pL" * 1300,
    r"(?i)" + r"\pL" * 300,
    r"[^\pL\pN]" * 400,
    r"\pL{1000}" * 100,
    r"(?:\pL{30}x){30}" * 100,
    ".{0,1000}" * 450,
    "a{0,999}?" * 440,
    "(?:a{10}){100}" * 300,
    "|".join([r"\pL"] * 1000),
    "(?:" * 9 + "a" + "){0,2}" * 9,
    "[a-z]{1000}" * 350,
    "(a){1000}" * 400,
    "[" * 4000,
    "[[:a" * 1000,
    "(?i)" + "[\u0100-\U0010ffff]" * 500,
]


@pytest.mark.parametrize("pattern", HEAVY, ids=range(len(HEAVY)))
@pytest.mark.parametrize("is_bytes", [False, True])
@pytest.mark.parametrize("is_folded", [False, True])
def test_what_is_compiled_takes_no_longer_than_the_limit(
    pattern: str, is_folded: bool, is_bytes: bool
) -> None:
    """RE2 stays within the limit, and the estimate itself is quick."""
    began = time.thread_time()
    if compiling_cost(pattern, is_folded, is_bytes) <= MAX_COMPILING:
        try:
            re2.compile(pattern.encode(), options(is_folded, is_bytes))
        except re2.error:
            pass
    assert time.thread_time() - began < 0.05


@pytest.mark.parametrize(
    "pattern",
    [
        r"^(?:[\w.+-]{1,64})@(?:[\w-]{1,63}\.){1,8}\w{2,24}$",
        r"(?i)\p{L}{3,20}",
        r"^/(?:[a-z]{2}(?:-[A-Z]{2})?)/\p{Lu}\p{Ll}*(?:/[^/]{1,255}){0,16}$",
        "[A-Za-z0-9!#$%&'*+/=?^_{|}~-]{1,1000}",
        r"\{\d+\}" + "a{x}{,3}",
        "|".join(f"word{n}" for n in range(400)),
    ],
)
@pytest.mark.parametrize("is_bytes", [False, True])
def test_ordinary_ones_are_far_below_it(pattern: str, is_bytes: bool) -> None:
    """No ordinary expression is refused for its cost."""
    assert compiling_cost(pattern, False, is_bytes) < MAX_COMPILING / 2


def test_what_is_repeated_counts_so_often() -> None:
    """Nested repetitions multiply, and repetitions in a row add up."""
    one = compiling_cost("abc", False, False)
    assert one == 3
    assert compiling_cost("(?:abc){10}", False, False) >= 10 * one
    assert compiling_cost("(?:(?:abc){10}){10}", False, False) >= 100 * one
    assert compiling_cost("(?:abc){2,9}(?:abc){9}", False, False) >= 18 * one
    assert compiling_cost("((abc", False, False) >= one


#: Patterns and subjects that are slow for their size: places of groups are copied.
SLOW = [
    ("()" * 2000, "a" * 900),
    ("()" * 2000, ""),
    ("(a?)" * 300 + "b", "a" * 3000),
    ("(a*)" * 100, "a" * 10000),
    ("(" * 1000 + "a" + ")*" * 1000, "a" * 1000),
    ("(?:" + "()" * 500 + "a)*", "a" * 1000),
    ("(?:" + "()" * 60 + "a|b)*", "ab" * 10000),
    ("(?:.{0,500})b", "a" * 2500),
    ("((((((((((a))))))))))*", "a" * 60000),
]


@pytest.mark.parametrize(("pattern", "subject"), SLOW, ids=range(len(SLOW)))
def test_matching_takes_no_longer_than_what_is_reckoned(pattern: str, subject: str) -> None:
    """A match takes at most 20 ms, groups included, and little memory."""
    made = re2.compile(pattern.encode(), options(False, True))
    steps = matching_cost(made.programsize, made.groups, len(subject))
    began = time.thread_time()
    if steps <= 4_000_000:
        made.search(subject.encode())
    assert time.thread_time() - began < 0.05
