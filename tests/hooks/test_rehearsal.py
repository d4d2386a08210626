"""Rehearsals: copies of the hooks in service see a request, and nobody notices."""

from __future__ import annotations

import gc
import re
import time
from typing import Any

import pytest

from slardar.config import Hooks
from slardar.hooks.loaded import mark_of
from slardar.hooks.rehearsal import Rehearsal, plain
from slardar.hooks.runner import Runner
from slardar.model.hook import Hook
from tests.dataplane.kit import logged
from tests.hooks.kit import FakeEngine, code, hook, hooks, request_of

HOST = "www.a.test"
KEEPS = {
    "python": (
        "seen = []\n"
        "def on_request(request):\n"
        "    seen.append(1)\n"
        "    log.info('seen')\n"
        "    request.headers['X-Seen'] = str(len(seen))\n"
    ),
    "lua": (
        "local kept = require('modules.kept')\n"
        "kept.seen = kept.seen + 1\n"
        "ngx.log(ngx.INFO, 'seen')\n"
        "ngx.req.set_header('X-Seen', kept.seen)\n"
    ),
}


def rehearse(runner: Runner, *some: Hook, **request: Any) -> Rehearsal:
    found = Rehearsal(runner, some, request_of(host=HOST, **request))
    found.run()
    return found


@pytest.mark.parametrize("language", ["python", "lua"])
def test_copies_keep_and_log_for_themselves(language: str) -> None:
    """What a hook keeps from request to request begins anew in a copy, and stays as it is in the
    hook; what the copy logs is told, and not logged."""
    some = [hook(f"{language}/script.{HOST}", KEEPS[language])]
    if language == "lua":
        some.append(hook("lua/modules.kept", "return {seen = 0}"))
    runner = Runner(Hooks(), time.monotonic)
    runner.load(hooks(*some))

    def seen() -> str | None:
        request = request_of(host=HOST)
        runner.request(request)
        return request.get_header("X-Seen")

    assert [seen(), seen()] == ["1", "2"]
    with logged() as lines:
        for _ in range(2):
            (effect,) = rehearse(runner, *some).effects
            assert effect.changes == ("+ X-Seen: 1",)
            (line,) = effect.log
            assert re.fullmatch(r"info: .*\bseen", line)
    assert lines == []
    assert seen() == "3"
    (report,) = runner.reports()
    assert (report.calls, report.errors) == (3, 0)


def runners() -> int:
    """How many there are; a compiled one takes no weak reference."""
    return sum(type(one) is Runner for one in gc.get_objects())


@pytest.mark.parametrize("language", ["python", "lua"])
def test_copies_go_with_the_request(language: str) -> None:
    """What runs them is held by nothing once they have run, nor by a circle of references."""
    some = [hook(f"{language}/script.{HOST}", KEEPS[language])]
    if language == "lua":
        some.append(hook("lua/modules.kept", "return {seen = 0}"))
    runner = Runner(Hooks(), time.monotonic)
    runner.load(hooks(*some))
    gc.disable()
    try:
        before = runners()
        found = Rehearsal(runner, some, request_of(host=HOST))
        assert runners() == before + 1
        found.run()
        assert [one.outcome for one in found.effects] == ["continues"]
        del found
        assert runners() == before
    finally:
        gc.enable()


def test_budget_holds() -> None:
    """A copy that does not end is stopped as the hook would be, and the hook is none the worse."""
    endless = hook(f"script.{HOST}", "def on_request(request):\n    while True:\n        pass\n")
    runner = Runner(Hooks(budget=0.01), time.monotonic)
    runner.load(hooks(endless))
    for _ in range(6):
        (effect,) = rehearse(runner, endless).effects
    assert effect.outcome == "failed"
    assert effect.error.endswith("expected an end within 10 ms of CPU time")
    (report,) = runner.reports()
    assert (report.calls, getattr(report, "state", "")) == (0, "active")


def fake(*some: Hook) -> tuple[Runner, FakeEngine]:
    engine = FakeEngine()
    runner = Runner(Hooks(), lambda: 0.0, engines=lambda *_: engine)
    runner.load(hooks(*some))
    return runner, engine


def test_only_those_that_see_the_request_are_loaded() -> None:
    """Those of every host and of its own, each once, and no shadow."""
    some = [
        hook(f"script.{HOST}", "mine", staged="shadow", shadow=True),
        hook("script.*", "all"),
        hook("script.other", "others"),
    ]
    runner, engine = fake(*some)
    engine.loaded.clear()
    found = rehearse(runner, *some)
    assert [one.code for one in engine.loaded] == ["mine", "all"]
    assert [one.hook for one in found.effects] == ["python/script.*", f"python/script.{HOST}"]


def test_suspended_and_unloadable_versions_are_so_in_the_copy() -> None:
    """The one is not run, the other is not tried again."""
    held, broken = code("held"), code("unloadable")
    some = [hook(f"script.{HOST}", held), hook("script.*", broken, on_error="continue")]
    runner, engine = fake(*some)
    runner.suspend(mark_of(some[0].path, held), "it holds too much")
    engine.loaded.clear()
    with logged() as lines:
        first, second = rehearse(runner, *some).effects
    assert (first.outcome, "cannot be loaded" in first.error) == ("failed", True)
    assert (second.outcome, second.error, second.status) == ("failed", "it holds too much", 500)
    assert (engine.loaded, lines) == ([], [])


def test_version_that_ran_is_named() -> None:
    """The one before, where the one in service fails and it stands in; a canary in its turn."""
    before, now = code("before"), code("raise")
    one = hook(f"script.{HOST}", now, previous=before, on_error="previous")
    (effect,) = rehearse(fake(one)[0], one).effects
    assert (effect.outcome, effect.version) == ("continues", before.version)
    canary = code("new")
    one = hook(f"script.{HOST}", before, staged=canary, canary=50)
    runner, engine = fake(one)
    for _ in range(10):
        foreseen = rehearse(runner, one).effects[0].version
        runner.request(request_of(host=HOST))
        assert foreseen == (canary if engine.calls[-1][1] == "new" else before).version
    assert {text for _, text in engine.calls} == {"new", "before"}


def test_values_are_bounded() -> None:
    """A hook may choose what is large or deep, or no value of JSON."""
    assert plain(["a", ("b", 1), {"c": None}]) == ["a", ["b", 1], {"c": None}]
    deep: list[Any] = []
    for _ in range(50):
        deep = [deep]
    assert str(plain(deep)).count("[") < 60
    assert len(plain("x" * 5000)) == 1000
    assert len(plain(list(range(5000)))) == 100
    assert isinstance(plain(b"x"), str)
    assert plain("\ud800") == "\\ud800"
    assert plain(2**80) == str(2**80)
    assert plain(float("nan")) == "nan"
