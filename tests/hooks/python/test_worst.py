"""No single operation of a hook takes long, whatever its values are."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from slardar.hooks.script import HookFailure
from tests.hooks.python.loading import Hooks, request
from tests.hooks.python.worst import CALLS, VALUES

#: Other tests on the same cores stretch the CPU time that these measure.
pytestmark = pytest.mark.real

#: So short that what can be stopped is stopped, and what is left cannot be.
BUDGET = 0.005
#: Seconds of CPU time that one function written in C may take, with the above.
LONGEST = 0.05
#: Calls in one script.
TOGETHER = 100

_made: dict[str, Any] = {}
_NAMES = re.compile(r"\b(?:" + "|".join(VALUES) + r")\b")


def value(name: str) -> Any:
    """One of the values, as a fresh copy if a call may change it."""
    made = _made.get(name)
    if made is None:
        made = _made[name] = VALUES[name]()
    return made.copy() if type(made) in (list, dict, set) else made


def script(calls: list[str]) -> str:
    """A hook that makes the call whose number is in the context."""
    lines = []
    for number, call in enumerate(calls):
        lines.append(f"def call{number}({', '.join(['request', *names(call)])}):")
        lines += [f"    {line}" for line in call.split("\n")]
    lines.append(f"calls = [{', '.join(f'call{number}' for number in range(len(calls)))}]")
    lines.append("def on_request(request):")
    lines.append("    calls[request.context['number']](request, *request.context['values'])")
    return "\n".join(lines)


def names(call: str) -> list[str]:
    return list(dict.fromkeys(_NAMES.findall(re.sub(r"(?<=\.)\w+", "", call))))


def seconds(hooks: Hooks, loaded: Any, number: int, call: str) -> float:
    """The CPU time of one call."""
    asked = request()
    asked.context["number"] = number
    asked.context["values"] = tuple(map(value, names(call)))
    began = time.thread_time()
    try:
        loaded.on_request(asked)
    except HookFailure:
        pass
    return time.thread_time() - began


@pytest.mark.parametrize("first", range(0, len(CALLS), TOGETHER))
def test_nothing_takes_long(first: int) -> None:
    """Neither a call that works nor a call that is refused takes long."""
    hooks = Hooks(BUDGET)
    calls = CALLS[first : first + TOGETHER]
    loaded = hooks.load(script(calls))
    slow = {}
    try:
        for number, call in enumerate(calls):
            # A busy machine may take long for the first, and for no more than that.
            if seconds(hooks, loaded, number, call) >= LONGEST:
                again = min(seconds(hooks, loaded, number, call) for _ in range(2))
                if again >= LONGEST:
                    slow[call] = again
    finally:
        hooks.close()
    assert not slow


def test_every_value_is_used() -> None:
    """The calls use every value in the table."""
    assert {name for call in CALLS for name in names(call)} == set(VALUES)
    assert len(CALLS) > 3000
