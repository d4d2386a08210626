"""The director's view of hooks: counters of all workers, and suspensions."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock

from slardar.events import Event, HookState
from slardar.hooks.loaded import mark_of
from slardar.hooks.report import HookReport, ShadowReport
from slardar.model.hook import Code, Hook
from slardar.workers.hook_watch import HookWatch
from tests.dataplane.kit import logged
from tests.hooks.kit import code, hook, hooks

A = "python/script.a"


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    """The events that were logged, suspensions among them."""
    with logged() as events:
        yield events


class Watch(HookWatch):
    """A watch with a clock of the test, which records suspensions."""

    def __init__(self, *some: Hook) -> None:
        self.clock = Clock()
        self.told: list[int] = []
        self.events: list[Event] = []
        super().__init__(self.clock.seconds, self.told.append, self.events.append)
        self.set_hooks(hooks(*some))

    def fail(self, mark: int, times: int = 5, apart: float = 1.0) -> None:
        """Report so many failures."""
        for _ in range(times):
            self.failed(mark)
            self.clock.advance(apart)


def mark(version: Code, path: str = A) -> int:
    """The mark of a version of the script, or of another hook."""
    return mark_of(path, version)


def report(version: Code, calls: int = 1, path: str = A, **rest: Any) -> HookReport:
    """The report of a worker."""
    state = rest.pop("state", "active")
    return HookReport(path, rest.pop("mark", mark(version, path)), state, "", calls, 0, calls, ())


def test_failures_of_all_workers_suspend(log: list[Any]) -> None:
    """Five within a minute suspend it; every worker is told once."""
    version = code("x")
    watch = Watch(hook("script.a", version))
    watch.fail(mark(version), 4)
    assert (watch.suspended, watch.told) == ((), [])
    watch.fail(mark(version), 3)
    assert watch.suspended == (mark(version),)
    assert watch.told == [mark(version)]
    (event,) = log
    assert (event["path"], event["reason"]) == (A, "it failed too often")


def test_failures_far_apart_do_not() -> None:
    """Failures of several versions together do not either."""
    one, other = code("x"), code("y")
    watch = Watch(hook("script.a", one), hook("script.b", other))
    watch.fail(mark(one), 20, apart=15.5)
    watch.clock.advance(60)
    for _ in range(4):
        watch.fail(mark(one), 1)
        watch.fail(mark(other, "python/script.b"), 1)
    assert watch.told == []


def test_versions_that_there_are_not_do_not_count() -> None:
    """A version that a worker invents takes no memory, and suspends nothing."""
    version = code("x")
    watch = Watch(hook("script.a", version))
    for number in range(1000):
        watch.fail(number, 6, apart=0)
        watch.reported(0, [report(version, mark=number), report(version, path="python/script.b")])
        watch.worker_ended(0, number, True)
    assert watch.told == []
    assert watch._suspensions._failures._times == {}
    assert watch.tally._reports == {}
    watch.reported(0, [report(version, 7)])
    assert watch.tally.totals(A, mark(version)).stats.calls == 7


def test_shadows_are_counted_by_their_version() -> None:
    """Only staged versions have shadows."""
    active, staged = code("x"), code("y")
    watch = Watch(hook("script.a", active, staged=staged, shadow=True))
    about = ShadowReport(A, mark(staged), 4, 2, (), 4, 0, 4, ())
    watch.reported(0, [about])
    watch.reported(1, [about])
    assert watch.tally.shadow(A, mark(staged)).compared == 8


def test_worker_that_hung_or_crashed_in_a_hook_suspends_it(log: list[Any]) -> None:
    """It is suspended at once, since the next worker would end there, too."""
    version = code("x")
    watch = Watch(hook("script.a", version))
    watch.worker_ended(0, mark(version), True)
    assert watch.told == [mark(version)]
    assert log[0]["reason"] == "a worker ended in it"


def test_worker_that_was_killed_in_a_hook_is_a_failure() -> None:
    """One kill may be by chance; five within a minute are not."""
    version = code("x")
    watch = Watch(hook("script.a", version))
    watch.reported(0, [report(version, 3)])
    for _ in range(4):
        watch.worker_ended(0, mark(version), False)
    assert watch.told == []
    watch.worker_ended(0, 0, True)
    watch.worker_ended(0, 0, False)
    assert watch.told == []
    watch.worker_ended(0, mark(version), False)
    assert watch.told == [mark(version)]
    assert watch.tally.totals(A, mark(version)).stats.calls == 3


def test_activation_ends_a_suspension() -> None:
    """This holds for another posting, also of equal code; suspensions of removed hooks are
    forgotten."""
    version, again = code("x"), code("x")
    watch = Watch(hook("script.a", version))
    watch.fail(mark(version))
    watch.set_hooks(hooks(hook("script.a", again, previous=version)))
    assert watch.suspended == (mark(version),)
    watch.fail(mark(again), 4)
    assert watch.told == [mark(version)]
    watch.set_hooks(hooks(hook("script.a", again)))
    assert watch.suspended == ()
    watch.set_hooks({})
    assert (watch._suspensions.paths, watch._suspensions._failures._times) == ({}, {})


def test_changes_of_others_do_not() -> None:
    """A change of a module that the hook does not use does not either."""
    version = code("modules.x")
    script = hook("script.a", version)
    x = hook("modules.x", "ex")
    watch = Watch(script, x)
    watch.fail(mark(version))
    watch.set_hooks(hooks(script, x, hook("modules.y", "why"), hook("lua/modules.x", "other")))
    watch.set_hooks(hooks(script, x, hook("script.b", "modules.x")))
    assert watch.suspended == (mark(version),)


def test_other_module_ends_it_for_those_that_use_it() -> None:
    """Direct and indirect users count: the workers load them anew."""
    direct, through, alone = code("modules.x"), code("modules.y"), code("alone")
    scripts = [hook("script.a", direct), hook("script.b", through), hook("script.c", alone)]
    marks = [mark(direct), mark(through, "python/script.b"), mark(alone, "python/script.c")]
    y = hook("modules.y", "modules.x")
    watch = Watch(hook("modules.x", "ex"), y, *scripts)
    for one in marks:
        watch.fail(one)
    assert watch.suspended == tuple(sorted(marks))
    watch.set_hooks(hooks(hook("modules.x", "new"), y, *scripts))
    assert watch.suspended == (marks[2],)
    watch.fail(marks[0], 4)
    assert len(watch.told) == 3
    watch.fail(marks[0], 1)
    assert watch.told[3:] == [marks[0]]


def test_same_module_posted_again_changes_nothing() -> None:
    """Equal code is the same version."""
    version = code("modules.x")
    script = hook("script.a", version)
    watch = Watch(script, hook("modules.x", "ex"))
    watch.fail(mark(version))
    watch.set_hooks(hooks(script, hook("modules.x", "ex")))
    assert watch.suspended == (mark(version),)


def test_failures_and_suspensions_are_published() -> None:
    """A suspension once, whoever tells of it; a version that cannot be loaded, too."""
    version, other = code("x"), code("y")
    watch = Watch(hook("script.a", version), hook("script.b", other))
    watch.fail(mark(version), 6)
    watch.reported(0, [report(version, state="suspended")])
    failed = report(other, path="python/script.b", state="failed")
    for worker in (0, 1):
        watch.reported(worker, [failed])
    a_call = HookState(A, "failed", "a call has failed: the log says more")
    assert watch.events == [
        *[a_call] * 5,
        HookState(A, "suspended", "it failed too often"),
        a_call,
        HookState("python/script.b", "failed", ""),
    ]
    # The same version, loaded anew, is told of anew.
    watch.set_hooks(hooks(hook("script.a", version), hook("script.b", other)))
    watch.reported(0, [report(version, state="suspended"), failed])
    assert watch.events[8:] == [HookState("python/script.b", "failed", "")]
    watch.heavy(mark(other, "python/script.b"), "it holds too much")
    assert watch.events[9:] == [HookState("python/script.b", "suspended", "it holds too much")]
