"""A call is charged for what it keeps, with about the bytes that Python takes for it."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

import pytest

from slardar.hooks import budget
from slardar.hooks.script import HookFailure
from tests.hooks.python.loading import Hooks, request

#: What a hook keeps in ``out``; each takes more than a mebibyte.
KEPT = [
    "'x' * 1000000 + 'y' * 1000",
    "'\\U0001f600' * 1000000",
    "'\\u0416' * 1000000",
    "('\\U0001f600' * 900 + ' ') * 1000",
    "b'x' * 1000000 + b'y' * 40000",
    "('\\U0001f600' * 30000 + ' ').split(' ') * 2000",
    "('\\U0001f600\\U0001f601 ' * 20000).split(' ')",
    "list('\\u0416\\u0417' * 20000)",
    "['\\U0001f600' * 300 + str(i) for i in range(1000)]",
    "[(1 << 4000) + i for i in range(4000)]",
    "list(range(1000, 60000))",
    "dict(zip(range(1000, 40000), range(1000, 40000)))",
    "set(range(1000, 30000))",
    "('ab ' * 40000).split(' ')",
    "[b'x' * 300 for _ in range(5000)]",
]
#: Loops that put small things where they stay.
FILLED = [
    "out = {}\nfor i in range(1000, 20000):\n    out[i] = i",
    "out = {}\nfor i in range(1000, 20000):\n    out.setdefault(i, i)",
    "out = set()\nfor i in range(1000, 20000):\n    out.add(i)",
    "out = []\nfor i in range(1000, 40000):\n    out.append(i * 2)",
    "out = []\nfor i in range(1000, 4000):\n    out.insert(0, str(i) * 10)",
    "out = []\nfor i in range(1000, 40000):\n    out += [str(i)]",
    "out = {}\nfor i in range(1000, 20000):\n    out.update({i: i})",
]


@pytest.fixture
def slow() -> Iterator[Hooks]:
    """An engine with enough time for a measurement."""
    found = Hooks(20.0)
    yield found
    found.close()


@pytest.mark.parametrize(
    "body", [*(f"out = {one}" for one in KEPT), *FILLED], ids=lambda body: body[:60]
)
def test_kept_bytes_are_counted(slow: Hooks, body: str) -> None:
    """The charge is at least a third, and at most 12 times, of what Python has allocated."""
    lines = "".join(f"    {line}\n" for line in body.split("\n"))
    script = slow.load(f"def on_request(request):\n{lines}    request.context['out'] = out\n")
    asked = request()
    script.on_request(request())
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        script.on_request(asked)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert kept > 100_000
    assert kept / 3 <= budget._call.used <= kept * 12, (kept, budget._call.used)


def test_wide_characters_end_a_call(hooks: Hooks) -> None:
    """Ten million characters of four bytes are too much, because their bytes count."""
    body = "request.context['out'] = ['\\U0001f600' * 1000000 for _ in range(10)]"
    with pytest.raises(HookFailure, match="expected less memory"):
        hooks.result(body)
    hooks.result(body.replace("range(10)", "range(7)"))


def test_what_has_made_much_is_noticed(hooks: Hooks) -> None:
    """Much that a call makes asks for a look at the memory after it, and little does not."""
    hooks.result("request.context['out'] = 1")
    budget.NOTICED[0] = False
    hooks.result("request.context['out'] = 'x' * 900000")
    small = budget.NOTICED[0]
    hooks.result("request.context['out'] = ['x' * 900000 for _ in range(3)]")
    assert (small, budget.NOTICED[0]) == (False, True)
