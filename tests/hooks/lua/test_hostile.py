"""Every hostile hook ends as it must and in time, and other hooks go on unaffected."""

from __future__ import annotations

import time
from typing import Any

import pytest

from slardar.hooks.engine import ScriptError
from slardar.hooks.lua.codec import FUNCTIONS
from slardar.hooks.lua.runtime import ROOM
from slardar.hooks.script import HookFailure
from tests.hooks.lua.helpers import make_engine, make_request
from tests.hooks.lua.hostile import EATERS, HOSTILE, Hostile

#: Other tests on the same cores stretch the CPU time that these measure.
pytestmark = pytest.mark.real

#: Of CPU time, in seconds.
BUDGET = 0.05


def make_shared(budget: float) -> Any:
    """An engine with a harmless script."""
    engine = make_engine(budget)
    engine.bystander = engine.load(
        "script.bystander",
        "local m = require 'modules.m' m.n = m.n + 1 ngx.req.set_header('X-N', m.n)"
        " ngx.req.set_header('X-Upper', ('abc'):upper():gsub('B', 'x') .. tostring(poison))",
        {"modules.m": "return {n = 0}"},
    )
    engine.calls = 0
    return engine


@pytest.fixture(scope="module")
def shared() -> Any:
    """One engine for all hostile hooks."""
    return make_shared(BUDGET)


@pytest.fixture(scope="module")
def patient() -> Any:
    """An engine with a larger budget, so that memory ends first even on a busy machine."""
    return make_shared(40 * BUDGET)


def test_enough() -> None:
    """There are many hostile hooks, each with a name of its own."""
    assert len(HOSTILE) >= 80
    assert len({case.name for case in HOSTILE}) == len(HOSTILE)


@pytest.mark.parametrize("case", HOSTILE, ids=[case.name for case in HOSTILE])
def test_hostile(case: Hostile, shared: Any, patient: Any) -> None:
    """The hook ends as it must, soon, and changes nothing for others."""
    engine = patient if case in EATERS else shared
    request = make_request()
    before = repr((request.method, request.uri, request.headers.items()))
    began = time.thread_time()
    try:
        script = engine.load("script.x", case.code, {})
    except ScriptError as error:
        outcome = f"error: {error}"
    else:
        began = time.thread_time()
        try:
            script.on_request(request)
        except HookFailure as failure:
            message = failure.message
            outcome = failure.kind if failure.kind != "error" else f"error: {message}"
        else:
            if request.answer is None:
                outcome = "on"
                after = repr((request.method, request.uri, request.headers.items()))
                assert after == before
            else:
                outcome = "says: " + request.answer.body.decode("latin-1").removesuffix("\n")
    spent = time.thread_time() - began
    assert len(outcome) < 1100
    assert "\n" not in outcome
    kind, _, wanted = case.outcome.partition(": ")
    if kind == "error":
        assert outcome.startswith("error: script.x: ")
        assert wanted in outcome
    else:
        assert outcome == case.outcome
    assert spent < 2 * engine.budget
    if case.outcome == "budget":
        # One that makes large things early gets a part of it only.
        assert spent >= 0.5 * engine.budget

    # And then another one.
    engine.calls += 1
    request = make_request()
    engine.bystander.on_request(request)
    assert request.headers.get("x-n") == str(engine.calls)
    assert request.headers.get("x-upper") == "AxCnil"
    assert engine.runtime.used < engine.memory + ROOM


def test_logs_have_one_line_each(shared: Any) -> None:
    """Lines that hooks log have no control characters and a limited length."""
    assert shared.lines
    assert all(text.isprintable() and len(text) < 5000 for _, text in shared.lines)


@pytest.mark.parametrize("budget", [0.01, 0.2])
def test_other_budgets(budget: float) -> None:
    """The configured budget holds."""
    engine = make_engine(budget)
    script = engine.load(
        "script.x", "while true do pcall(function() while true do end end) end", {}
    )
    began = time.thread_time()
    with pytest.raises(HookFailure):
        script.on_request(make_request())
    assert budget <= time.thread_time() - began < 2 * budget


def test_again_and_again(shared: Any) -> None:
    """A script that breaks its budget in each call leaves nothing behind."""
    script = shared.load("script.x", "local t = {} while true do t[1] = {} end", {})
    for _ in range(5):
        began = time.thread_time()
        with pytest.raises(HookFailure):
            script.on_request(make_request())
        assert time.thread_time() - began < 2 * BUDGET


def test_requests_do_not_see_each_other(shared: Any) -> None:
    """What a script breaks for itself ends with the request, except in modules."""
    code = "if ngx.ctx.x or y then ngx.say('seen') end ngx.ctx.x, y = 1, 1 ngx.var.x_z = 'z'"
    script = shared.load("script.x", code, {})
    for _ in range(3):
        request = make_request()
        script.on_request(request)
        assert request.answer is None


@pytest.mark.parametrize("kib", [100, 900])
def test_what_another_has_made_is_as_slow(kib: int) -> None:
    """A large text that another script has made does not show by its memory.

    To make a number of it takes as long, and must still be stopped in time.
    """
    engine = make_engine(BUDGET)
    make = (
        "local p = string.rep('1', 1024) local t = {} "
        f"for i = 1, {kib} do t[i] = p end local s = table.concat(t) "
    )
    holder = engine.load(
        "script.a", "local m = require('modules.m')", {"modules.m": make + "return { s = s }"}
    )
    holder.on_request(make_request())
    burn = "while true do local x = " + " + ".join(["s + 0"] * 200) + " end"
    script = engine.load("script.b", make + burn, {})
    for _ in range(3):
        began = time.thread_time()
        with pytest.raises(HookFailure) as failure:
            script.on_request(make_request())
        assert failure.value.kind == "budget"
        assert time.thread_time() - began < 2 * BUDGET


def test_call_that_returns_too_late_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A call fails if it takes long at its very end, after the last look of Lua."""

    def slow(text: str) -> str:
        end = time.thread_time() + 1.2 * BUDGET
        while time.thread_time() < end:
            pass
        return text

    monkeypatch.setitem(FUNCTIONS, "md5", slow)
    engine = make_engine(BUDGET)
    quick = engine.load("script.y", "ngx.req.set_header('X-A', 'b')", {})
    late = engine.load("script.x", "ngx.req.set_header('X-B', 'b') ngx.say(ngx.md5('a'))", {})
    for _ in range(3):
        request = make_request()
        with pytest.raises(HookFailure) as failure:
            late.on_request(request)
        assert failure.value.kind == "budget"
        assert request.answer is None
        # The time before a call is not its own.
        quick.on_request(request)
        assert request.headers.get("x-a") == "b"
