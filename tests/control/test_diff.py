"""The diff of two values: a line for each difference, and never too long."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slardar.control.diff import diff
from tests.properties.test_model import FIXED

LONG = "x" * 70


def server(port: int, **keys: Any) -> dict[str, Any]:
    return {"host": "10.0.0.1", "port": port, **keys}


ONE = {"servers": [server(1)]}


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        (ONE, ONE, ""),
        (None, None, ""),
        (None, {"mode": "rr", **ONE}, '+ mode: "rr"\n+ servers: [{"host": "10.0.0.1", "port": 1}]'),
        ({"mode": "rr"}, None, '- mode: "rr"'),
        (
            # Together they would not fit on a line.
            {"servers": [server(n, note=LONG) for n in (1, 2)], "mode": "rr"},
            None,
            "".join(
                f'- servers.10.0.0.1:{n}: {{"host": "10.0.0.1", "port": {n}, "note": "{LONG}"}}\n'
                for n in (1, 2)
            )
            + '- mode: "rr"',
        ),
        (
            {"servers": [server(1, weight=1), server(2)]},
            {"servers": [server(1, weight=5), server(3)]},
            "servers.10.0.0.1:1.weight: 1 -> 5\n"
            '- servers.10.0.0.1:2: {"host": "10.0.0.1", "port": 2}\n'
            '+ servers.10.0.0.1:3: {"host": "10.0.0.1", "port": 3}',
        ),
        (
            {"servers": [{"host": "::1", "port": 1, "weight": 1}]},
            {"servers": [{"host": "::1", "port": 1}]},
            "- servers.[::1]:1.weight: 1",
        ),
        (
            {"servers": [server(1), server(2)]},
            {"servers": [server(2), server(1)]},
            "servers: in another order",
        ),
        (
            {"cluster": [{"servers": [server(1)]}, {"servers": [server(2)]}]},
            {"cluster": [{"servers": [server(1)]}, {"servers": [server(2)], "try": 3}]},
            "+ cluster.1.try: 3",
        ),
        ({"try": 1, "public": False}, {"try": 1, "public": 0}, "public: false -> 0"),
        ({"mode": "rr"}, {"mode": None}, 'mode: "rr" -> null'),
        ({"mode_opts": {"a": [1, 2]}}, {"mode_opts": {"a": [2, 3]}}, "mode_opts.a:\n- 1\n+ 3"),
        ({"x_\x07": 1}, {}, "- 'x_\\x07': 1"),
        ([{"path": "/a"}, {"path": "/b"}], [{"path": "/b"}], '- {"path": "/a"}'),
        ([], [1], "+ 1"),
        ([1], None, "- [1]"),
        ("v1", "v2", '"v1" -> "v2"'),
        (None, "v2", '+ "v2"'),
        (
            {"active": {"code": "a\nb\nc\nd\n", "version": "1"}},
            {"active": {"code": "a\nx\nc\nd\n", "version": "2"}},
            'active.code:\n- b\n+ x\nactive.version: "1" -> "2"',
        ),
        ({"active": None}, {"active": {"code": "a\nb"}}, "active.code:\n+ a\n+ b"),
        ({"a": "x\ny"}, {"a": ["x"]}, 'a: "x\\ny" -> ["x"]'),
        ({"a": {}}, {}, "- a: {}"),
    ],
)
def test_lines(old: Any, new: Any, wanted: str) -> None:
    """Each difference is one line, or the lines that differ of a text or a list."""
    assert diff(old, new) == wanted


@pytest.mark.parametrize(
    ("old", "new", "wanted"),
    [
        ({"pass": "hunter2"}, {"pass": "hunter3"}, "pass: ******** -> ********"),
        ({"pass": "hunter\n2"}, {"pass": "hunter\n3"}, "pass: ******** -> ********"),
        ({}, {"mode_opts": {"secret": "hunter2"}}, '+ mode_opts: {"secret": "********"}'),
        ({"mode_opts": {"secret": "hunter2"}}, {}, '- mode_opts: {"secret": "********"}'),
        (
            {"mode_opts": {"secret": "hunter2"}},
            {"mode_opts": 1},
            'mode_opts: {"secret": "********"} -> 1',
        ),
    ],
)
def test_secrets_are_not_shown(old: Any, new: Any, wanted: str) -> None:
    """Only that they differ."""
    assert diff(old, new) == wanted


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 3) | st.text(max_size=3) | st.just("a\nb"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=2) | st.sampled_from(["host", "port"]), inner, max_size=3
        )
    ),
    max_leaves=12,
)


@FIXED
@given(json_values, json_values)
def test_there_is_a_diff_if_they_differ(old: Any, new: Any) -> None:
    """Whatever the values are: a diff is empty only for equal ones, and has short lines."""
    found = diff(old, new)
    same = json.dumps(old, sort_keys=True) == json.dumps(new, sort_keys=True)
    if old is not None and new is not None:
        assert (found == "") == same
    assert all(len(line) < 500 for line in found.splitlines())


@pytest.mark.real
def test_large_values_take_a_bounded_time() -> None:
    """Of code, lists and servers that have nothing in common, in CPU time."""
    cases: list[tuple[Any, Any]] = [
        ({"code": "x\n" * 100_000}, {"code": "y\nx\n" * 100_000}),
        ({"code": "x\ny\n" * 100}, {"code": "y\nx\nx\n" * 66}),
        ([*range(100_000)], [*range(100_000, 0, -1)]),
        *(
            ({"servers": [server(n) for n in range(count)]}, {"servers": [server(0)] * 3})
            for count in (1000, 10_000)
        ),
        (
            {"servers": [server(n) for n in range(9000)]},
            {"servers": [server(n) for n in range(9001)]},
        ),
        ({str(n): n for n in range(50_000)}, {str(n): n + 1 for n in range(50_000)}),
        ({"a": "x" * 4_000_000}, {"a": "y" * 4_000_000}),
        ({"a": "x" * 400_000}, {"a": "y" * 400_000}),
    ]
    for old, new in cases:
        start = time.process_time()
        found = diff(old, new)
        assert time.process_time() - start < 0.5
        assert 0 < len(found) < 60_000
