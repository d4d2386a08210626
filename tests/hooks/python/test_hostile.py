"""Each hostile hook ends as it must, in time and within its limits."""

from __future__ import annotations

import gc
import resource
import sys
import time
from typing import Any

import pytest

from slardar.hooks import budget as budgets
from slardar.hooks.engine import ScriptError
from slardar.hooks.errno import ERRNOS
from slardar.hooks.python.builtins import BUILTINS
from slardar.hooks.python.modules import IMPORTABLE, find
from slardar.hooks.script import HookFailure
from tests.hooks.python.hostile import BURNS, ESCAPES, HOSTILE, WIRE, Hostile
from tests.hooks.python.loading import Hooks
from tests.hooks.python.loading import request as new_request

#: Other tests on the same cores stretch the CPU time that these measure.
pytestmark = pytest.mark.real

#: What a call may add to the process in the end, in MiB, whatever it does.
MAX_GROWTH = 96
BUDGET = 0.05


def source(case: Hostile) -> str:
    if "def on_request(" in case.code:
        return case.code
    return "def on_request(request):\n" + "".join(f"  {line}\n" for line in case.code.split("\n"))


def of(cases: list[Hostile]) -> Any:
    return pytest.mark.parametrize("case", cases, ids=[case.name for case in cases])


def outcome(hooks: Hooks, case: Hostile) -> tuple[str, str, Any]:
    """What became of a hook, the message, and the request."""
    code = source(case)
    asked = new_request()
    try:
        hooks.engine.check("script.x", code)
    except ScriptError as error:
        return "check", str(error), asked
    try:
        script = hooks.load(code)
    except ScriptError as error:
        return "load", str(error), asked
    try:
        script.on_request(asked)
    except HookFailure as failure:
        return failure.kind, failure.message, asked
    return "nothing", repr(asked.context.get("out")), asked


@pytest.mark.real(False)
def test_corpus_is_as_large_as_it_should_be() -> None:
    """There are enough hostile hooks, each with a name of its own."""
    assert len(HOSTILE) >= 300
    assert len({case.name for case in HOSTILE}) == len(HOSTILE)


def shared() -> str:
    """Everything that all hooks share, as far as a hook could change it."""
    return repr(
        (
            sorted((name, repr(value)) for name, value in BUILTINS.items()),
            [(name, error.code, error.msg) for name, error in ERRNOS.items()],
            [(name, sorted(names)) for name, names in sorted(IMPORTABLE.items())],
            [
                sorted((name, repr(value)) for name, value in find(module, None).names.items())
                for module in sorted(IMPORTABLE)
            ],
        )
    )


@pytest.mark.real(False)
@of([*ESCAPES, *WIRE])
def test_escape_and_injection(hooks: Hooks, case: Hostile) -> None:
    """The hook is refused or fails, and changes nothing of the request or of what hooks share."""
    if sys.version_info < case.since:
        pytest.skip("this Python does not know the syntax")
    before, fresh = shared(), new_request()
    must, says, asked = outcome(hooks, case)
    assert must == case.must, says
    if case.must == "nothing":
        assert says == case.says
    else:
        assert case.says in says
        assert says.startswith("script.x: line ")
        assert "\n" not in says
    assert shared() == before
    if "headers without end" not in case.name and "headers too long" not in case.name:
        assert asked.headers.items() == fresh.headers.items()
    assert (asked.method, asked.host, asked.client) == (fresh.method, fresh.host, fresh.client)
    if "query too many" not in case.name:
        assert asked.uri == fresh.uri
    assert asked.answer is None
    # Every line that would go on the wire is one line.
    for line in asked.headers.lines:
        assert not {0, 10, 13} & set(line)


@pytest.mark.usefixtures("_hidden_heap")
@of(BURNS)
def test_burn(
    case: Hostile, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook ends within twice its budget of CPU time, and takes little memory."""
    # The speed of the machine must not decide which limit a hook meets.  A busy machine makes
    # few large values in a budget, and a fast one makes many.
    if case.must == "budget":
        budget = BUDGET
        monkeypatch.setattr(budgets, "MAX_MEMORY", sys.maxsize)
    else:
        budget = 5 * BUDGET
    hooks = Hooks(budget)
    request.addfinalizer(hooks.close)
    gc.collect()
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    script = hooks.load(source(case))
    asked = new_request()
    must, says = "nothing", ""
    began = time.thread_time()
    try:
        script.on_request(asked)
    except HookFailure as failure:
        taken = time.thread_time() - began
        must, says = failure.kind, failure.message
    else:
        taken = time.thread_time() - began
        says = repr(asked.context.get("out"))
    assert must == case.must, says
    assert case.says in says
    assert taken < 2 * budget
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - grown) / 1024 < MAX_GROWTH
    # It is as usable as before.
    with pytest.raises(HookFailure) if must != "nothing" else _nothing():
        script.on_request(new_request())


class _nothing:  # noqa: N801 - stands for pytest.raises
    def __enter__(self) -> None:
        pass

    def __exit__(self, *error: object) -> None:
        pass
