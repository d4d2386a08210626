"""The workers together, and hooks: who checks them, who is told, who is replaced."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from slardar.errors import NotReadyError
from slardar.hooks.checker import Result
from slardar.hooks.engine import ScriptError
from slardar.hooks.loaded import mark_of
from slardar.hooks.report import HookReport
from slardar.model.hook import Hook
from slardar.model.listener import spec_of
from slardar.model.snapshot import Snapshot
from slardar.workers.messages import (
    Begin,
    Delta,
    Drain,
    Grown,
    HookFailed,
    HookHeavy,
    Report,
    SuspendHook,
)
from tests.dataplane.kit import logged
from tests.hooks.kit import code, hook, hooks
from tests.workers.kit import failure_of, result_of, upstream
from tests.workers.team import FakeProcess, Team

A = "python/script.a"
VERSION = code("x")
MARK = mark_of(A, VERSION)


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    """The events that were logged, deaths among them."""
    with logged() as events:
        yield events


def with_hooks(version: int, *some: Hook) -> Snapshot:
    """A snapshot of one upstream and these hooks."""
    return Snapshot.build(version, {"a": upstream("a", 1)}, (), None, hooks(*some))


FIRST = with_hooks(1, hook("script.a", VERSION))


def report(calls: int, mark: int = MARK) -> Report:
    """A report on so many calls of the hook."""
    about = HookReport(A, mark, "active", "", calls, 0, calls * 1000, ((40, calls),))
    return Report(1, 1, 1, 0, 0, 0, 0, (), (about,))


# Checks.


def results(*some: Result) -> Any:
    """The results of the process that checks code."""

    async def check(items: Any) -> list[Result]:
        assert len(items) == len(some)
        return list(some)

    return check


def test_no_worker_checks() -> None:
    """A process that serves nobody checks; its answer is the answer."""
    team = Team(2)
    team.start(FIRST)
    told = [list(process.told) for process in team.processes]
    checker: Any = team.workers._checker
    checker.check = results(Result(("modules.x",)))
    checked = team.workers.check_hook("python", "script.b", "code", {"modules.x": "y"})
    assert result_of(checked) == ("modules.x",)
    checker.check = results(Result((), "script.b: line 1: no"))
    error = failure_of(team.workers.check_hook("python", "script.b", "code", None))
    assert isinstance(error, ScriptError)
    assert str(error) == "script.b: line 1: no"
    assert [process.told for process in team.processes] == told


def test_nobody_there_to_check() -> None:
    """The error does not blame the code."""
    team = Team(1)
    team.start(FIRST)
    # The clock of the test starts no process.
    error = failure_of(team.workers.check_hook("python", "script.b", "code", None))
    assert isinstance(error, NotReadyError)
    assert not isinstance(error, ScriptError)


def test_stored_hook_that_breaks_a_limit_is_loaded_by_nobody() -> None:
    """Every worker begins with this decision."""
    team = Team(1)
    checker: Any = team.workers._checker
    checker.check = results(Result((), "script.a: too long", True))
    result_of(team.workers.check_stored(FIRST.hooks))
    process = team.start(FIRST)
    assert process.told[0].refused == {MARK: "script.a: too long"}
    new = hook("script.a", "x")
    team.apply(FIRST.with_hooks({new.key: new}))
    process.die()
    team.clock.advance(0)
    assert team.processes[1].told[0].refused == {}


# Suspensions.


def test_failures_of_all_workers_suspend_everywhere() -> None:
    """Workers without failures suspend it, too, and so do replacements."""
    team = Team(2)
    team.start(FIRST)
    one, other = team.processes
    for process in (one, one, other, one):
        process.say(HookFailed(MARK))
    assert one.of(SuspendHook) == []
    other.say(HookFailed(MARK))
    assert one.of(SuspendHook) == other.of(SuspendHook) == [SuspendHook(MARK)]
    other.die()
    team.clock.advance(0)
    assert team.processes[2].told[0].suspended == (MARK,)


def test_activation_ends_a_suspension() -> None:
    """Replacements run the hook again."""
    team = Team(1)
    team.start(FIRST)
    for _ in range(5):
        team.processes[0].say(HookFailed(MARK))
    new = hook("script.a", "x")
    team.apply(FIRST.with_hooks({new.key: new}))
    team.processes[0].die()
    team.clock.advance(0)
    assert team.processes[1].told[0].suspended == ()


def test_worker_that_hung_in_a_hook_suspends_it() -> None:
    """It is suspended before the replacement begins; the others are told."""
    team = Team(2)
    team.start(FIRST)
    one, other = team.processes
    one.last_mark, one.hung = MARK, True
    one.die("ended by signal 9")
    assert other.of(SuspendHook) == [SuspendHook(MARK)]
    team.clock.advance(0)
    assert team.processes[2].told[0].suspended == (MARK,)


def test_worker_that_was_killed_in_a_hook_does_not_at_once() -> None:
    """The fifth kill in a minute does, in whichever worker."""
    team = Team(2)
    team.start(FIRST)
    for number in range(5):
        assert team.living[1].of(SuspendHook) == []
        process = team.living[0]
        process.last_mark = MARK
        process.die("ended by signal 9")
        team.clock.advance(1 + number)
    assert team.living[1].of(SuspendHook) == [SuspendHook(MARK)]


def test_worker_that_hung_elsewhere_suspends_nothing() -> None:
    """It hung outside of any hook, or in one that was removed."""
    team = Team(2)
    team.start(FIRST)
    for mark in (0, MARK + 1):
        process = team.living[0]
        process.last_mark, process.hung = mark, True
        process.die()
        team.clock.advance(20)
    assert team.workers._hooks.suspended == ()


def test_spare_worker_that_dies_suspends_nothing() -> None:
    """It has run no hook."""
    team = Team(1, spare=True)
    team.start(FIRST)
    team.clock.advance(4)
    spare = team.processes[1]
    spare.last_mark, spare.hung = MARK, True
    spare.die()
    assert team.workers._hooks.suspended == ()


# Counters.


def test_counters_of_all_workers() -> None:
    """They are summed up; those of a worker that has ended stay."""
    team = Team(2)
    team.start(FIRST)
    one, other = team.processes
    one.say(report(5))
    other.say(report(7))
    other.say(report(8))
    one.say(report(100, MARK + 1))
    tally = team.workers.hook_tally()
    assert tally.totals(A, MARK).stats.calls == 13
    assert tally.totals(A, MARK + 1).stats.calls == 0
    other.die()
    team.clock.advance(0)
    team.processes[2].say(report(1))
    assert tally.totals(A, MARK).stats.calls == 14


# Changes.


def test_hooks_reach_the_workers() -> None:
    """They come with the change."""
    team = Team(1)
    process = team.start(with_hooks(1))
    script = hook("script.a", VERSION)
    following = with_hooks(1).with_hooks({script.key: script})
    assert team.apply(following) == {"workers": {"worker-0": 2}}
    (change,) = process.of(Delta)
    assert change.hooks == (script,)


# Memory.


@pytest.mark.real
def test_worker_that_is_too_large_is_replaced() -> None:
    """Another worker begins in its place with its sockets; the old one finishes its requests,
    and gets no more messages."""
    team = Team(2)
    result_of(team.workers.listen(spec_of("tcp:0:interface=127.0.0.1")))
    old = team.start(FIRST)
    old.say(report(5))
    old.say(Grown())
    assert [process.number for process in team.processes] == [0, 1, 0]
    new = team.processes[2]
    assert new.sockets == old.sockets
    assert isinstance(new.told[0], Begin)
    assert old.of(Drain) == [Drain(5)]
    assert team.living == [new, team.processes[1]]
    script = hook("script.a", "other")
    assert team.apply(FIRST.with_hooks({script.key: script})) == {
        "workers": {"worker-0": 2, "worker-1": 2}
    }
    assert old.of(Delta) == []
    # Its counters are kept, and its last report is not counted twice.
    old.say(report(9))
    old.say(HookFailed(MARK))
    team.clock.advance(2)
    assert len(team.processes) == 3
    old.die("ended with exit code 0")
    team.clock.advance(2)
    assert len(team.processes) == 3
    assert team.workers.statistics()["workers"]["worker-0"]["restarts"] == 1
    assert team.workers._supervisor.leaving == set()
    team.workers.stop()


def test_counters_of_a_replaced_worker_stay() -> None:
    """They stay beside those of its replacement."""
    team = Team(1)
    old = team.start(FIRST)
    old.say(report(5))
    old.say(Grown())
    old.say(report(9))
    team.processes[1].say(report(2))
    old.die()
    assert team.workers.hook_tally().totals(A, MARK).stats.calls == 7


def test_replaced_worker_that_does_not_end_is_killed() -> None:
    """It is killed a little after the time of a drain."""
    team = Team(1)
    old = team.start(FIRST)
    old.say(Grown())
    team.clock.advance(5.9)
    assert old.kills == []
    team.clock.advance(0.2)
    assert old.kills == ["it did not end in time"]


def test_stop_waits_for_those_that_are_leaving() -> None:
    """It waits no longer than for the others."""
    team = Team(1)
    old = team.start(FIRST)
    old.say(Grown())
    stopped = team.workers.stop(1.0)
    assert old.of(Drain) == [Drain(5), Drain(1)]
    team.processes[1].die("ended with exit code 0")
    assert not stopped.called
    team.clock.advance(2.1)
    assert "it did not end in time" in old.kills
    old.die()
    assert result_of(stopped) is None
    assert team.clock.getDelayedCalls() == []


def test_replacement_that_cannot_be_started_is_tried_again() -> None:
    """The old worker has ended by then; in the end there is one worker, and not two."""
    team = Team(1)
    old = team.start(FIRST)
    failures = 2

    def prepare(process: FakeProcess) -> None:
        nonlocal failures
        if failures:
            failures -= 1
            raise BlockingIOError("no more processes")

    team.prepare = prepare
    old.say(Grown())
    assert team.living == []
    assert old.of(Drain) == [Drain(5)]
    old.die("ended with exit code 0")
    team.clock.pump([0.1] * 30)
    assert team.living == team.processes[1:]
    assert len(team.living) == 1
    assert team.workers._supervisor.leaving == set()


def test_no_worker_is_replaced_while_stopping() -> None:
    """They end anyway."""
    team = Team(1)
    old = team.start(FIRST)
    team.workers.stop()
    old.say(Grown())
    team.clock.advance(1)
    assert len(team.processes) == 1


def test_heavy_hook_is_suspended_everywhere() -> None:
    """One worker's report is enough, also of a leaving worker.  Leaving workers are told, too,
    and replacements begin with it."""
    team = Team(2)
    old = team.start(FIRST)
    old.say(Grown())
    old.say(HookHeavy(MARK, "it held too much"))
    told = [SuspendHook(MARK, "it held too much")]
    assert [process.of(SuspendHook) for process in team.processes] == [told] * 3
    tally = team.workers.hook_tally()
    totals = tally.totals(A, MARK)
    assert (totals.state, totals.error) == ("suspended", "it held too much")
    team.processes[1].die()
    team.clock.advance(0)
    begin = team.processes[3].told[0]
    assert (begin.suspended, begin.reasons, begin.count) == (
        (MARK,), {MARK: "it held too much"}, 2,
    )  # fmt: skip
    # A second report changes nothing, nor does one about a removed hook.
    team.processes[2].say(HookHeavy(MARK, "again"))
    team.processes[2].say(HookHeavy(MARK + 1, "who"))
    assert team.processes[2].of(SuspendHook) == told
    new = hook("script.a", "x")
    team.apply(FIRST.with_hooks({new.key: new}))
    assert team.workers._hooks.reasons == {}


def test_memory_of_those_that_are_leaving_is_bounded() -> None:
    """The largest are killed until all workers are within the bound; a worker that serves is
    not."""
    team = Team(3)
    team.start(FIRST)
    leaving = list(team.processes)
    for process, size in zip(leaving, (250, 300, 200), strict=True):
        process.size = size << 20
        process.say(Grown())
    team.clock.advance(0.5)
    assert not any(process.kills for process in team.processes)
    serving = team.processes[3:]
    serving[0].size = 250 << 20
    team.clock.advance(0.5)
    assert [bool(process.kills) for process in leaving] == [False, True, False]
    leaving[1].die()
    serving[0].size = 1 << 30
    team.clock.advance(0.5)
    assert [bool(process.kills) for process in leaving] == [True, True, True]
    assert not any(process.kills for process in serving)


def test_replaced_worker_cannot_have_another_replaced() -> None:
    """Reports count only for the worker that sent them."""
    team = Team(1)
    old = team.start(FIRST)
    old.say(Grown())
    old.say(Grown())
    assert len(team.processes) == 2
