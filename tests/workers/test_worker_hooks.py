"""What a worker does with hooks; the link is in memory, and the engine is the test's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from slardar.config import Hooks, Settings
from slardar.hooks.call_note import CallNote
from slardar.hooks.loaded import Loaded, mark_of
from slardar.hooks.runner import Runner
from slardar.model.hook import Code, Hook
from slardar.model.snapshot import Snapshot
from slardar.workers import messages
from slardar.workers.marks import BEATS, LARGEST
from slardar.workers.messages import Begin, Done, Drain, HookFailed, Report, SuspendHook
from tests.dataplane.kit import logged
from tests.hooks.kit import FakeEngine, code, hook, hooks, request_of
from tests.workers.kit import deliver, upstream
from tests.workers.test_worker import Director

A = "script.www.a.test"


class HookDirector(Director):
    """A director with a worker that runs hooks on an engine of the test."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = FakeEngine()
        self.mark = [0, 0]
        self.note = CallNote(self.mark)
        worker: Any = self.worker
        failed = worker._reporter.hook_failed

        def make_runner(settings: Hooks) -> Runner:
            return Runner(settings, self.reactor.seconds, failed, self.note, lambda *_: self.engine)

        worker._make_runner = make_runner

    def begin_with(self, first: Snapshot, suspended: tuple[int, ...] = ()) -> Done:
        """Let the worker begin."""
        whole = messages.raw(messages.encode(messages.whole(first)))
        settings = messages.lean_settings(Settings())
        return self.tell(Begin(0, settings, whole, (), 0, suspended=suspended))

    def change(self, base: Snapshot, following: Snapshot) -> Done:
        """Change the worker from one version to another."""
        return self.tell(messages.delta(base, following, []))

    def ask(self, host: str = "www.a.test") -> int:
        """The status with which hooks answer a request; 0 if it goes on."""
        if self.plane.hooks is None:
            return -1
        hooked = self.plane.hooks.request(request_of(host=host))
        return 0 if hooked is None or hooked.answer is None else hooked.answer.status

    def loaded(self) -> list[str]:
        """The codes that were loaded since the last call."""
        found = [script.code for script in self.engine.loaded]
        self.engine.loaded.clear()
        return found


@pytest.fixture
def director(_hidden_heap: None) -> Iterator[HookDirector]:
    """A director with a worker that has not begun; nothing of it remains after the test."""
    found = HookDirector()
    yield found
    if found.plane is not None and not found.worker._stopping:
        found.plane.stop(0)
        for _ in range(50):
            found.reactor.advance(0.05)


def with_hooks(version: int, *some: Hook) -> Snapshot:
    """A snapshot of one upstream and these hooks."""
    return Snapshot.build(
        version, {"www.a.test": upstream("www.a.test", 1)}, (), None, hooks(*some)
    )


def test_worker_without_hooks_has_no_runner(director: HookDirector) -> None:
    """Hooks cost nothing then."""
    director.begin_with(with_hooks(1))
    assert director.plane.hooks is None
    assert director.plane._plane_hooks.runner is None


def test_worker_begins_with_hooks(director: HookDirector) -> None:
    """A broken hook does not stop it."""
    with logged():
        assert director.begin_with(
            with_hooks(7, hook(A, "fine"), hook("script.b.test", "unloadable"))
        ) == Done(7)
    assert director.ask() == 0
    assert director.ask("b.test") == 500
    assert director.ask("c.test") == 0


def test_change_of_hooks(director: HookDirector) -> None:
    """New, changed and removed hooks are followed; the others are not touched."""
    one, two = hook(A, "one"), hook("script.b.test", "two")
    first = with_hooks(1, one, two)
    director.begin_with(first)
    assert director.loaded() == ["one", "two"]
    three = hook("script.c.test", "three")
    second = first.with_hooks({two.key: None, three.key: three})
    assert director.change(first, second) == Done(2)
    assert director.loaded() == ["three"]
    assert set(director.worker._snapshot.hooks) == {one.key, three.key}
    third = second.with_hooks({one.key: None, three.key: None})
    assert director.change(second, third) == Done(3)
    assert director.plane.hooks is None


def test_settings_reach_hooks_that_stay(director: HookDirector) -> None:
    """With the first configuration, with a change, and with a whole one; nothing is loaded again.
    Only a hook that could not be loaded is tried again: it may have asked for a setting."""
    one, broken = hook(A, "one"), hook("script.b.test", "unloadable")
    first = with_hooks(1, one).with_settings({"n": "1", "gone": "true"})
    director.begin_with(first)
    runner: Any = director.plane.hooks

    def texts() -> dict[str, str]:
        return {name: entry.text for name, entry in runner.values.items()}

    assert texts() == {"n": "1", "gone": "true"}
    assert director.loaded() == ["one"]
    second = first.with_settings({"n": "2"})
    assert director.change(first, second) == Done(3)
    assert texts() == {"n": "2"}
    third = second.with_settings({"n": "3"})
    director.tell(messages.whole(third))
    assert texts() == {"n": "3"}
    assert director.plane.hooks is runner
    assert director.loaded() == []
    with logged():
        fourth = third.with_hooks({broken.key: broken})
        director.change(third, fourth)
        loads = director.note.calls
        fifth = fourth.with_settings({"n": "4"})
        assert director.change(fourth, fifth) == Done(6)
    assert (director.note.calls, director.loaded()) == (loads + 1, [])


def test_change_of_something_else_leaves_the_hooks(director: HookDirector) -> None:
    """The table is the same object, and no hook is loaded; also after a whole configuration."""
    first = with_hooks(1, hook(A, "one"))
    director.begin_with(first)
    runner, known = director.plane.hooks, director.worker._snapshot.hooks
    director.loaded()
    second = first.with_upstream(upstream("b", 2))
    director.tell(messages.delta(first, second, ["b"]))
    third = second.with_routes(())
    assert director.change(second, third) == Done(3)
    assert director.worker._snapshot.hooks is known
    director.tell(messages.whole(third))
    assert director.plane.hooks is runner
    assert director.loaded() == []


def test_module_is_followed(director: HookDirector) -> None:
    """The scripts that use it are loaded again."""
    x = hook("modules.x", "ex")
    first = with_hooks(1, x, hook(A, "modules.x"), hook("script.b.test", "alone"))
    director.begin_with(first)
    director.loaded()
    new = hook("modules.x", "new")
    assert director.change(first, first.with_hooks({x.key: new})) == Done(2)
    assert director.loaded() == ["modules.x"]


def test_refused_version_is_not_loaded(director: HookDirector) -> None:
    """Reading it would break a limit; it is shown as failed, with the reason."""
    version = code("fine")
    mark = mark_of(f"python/{A}", version)
    whole = messages.raw(messages.encode(messages.whole(with_hooks(1, hook(A, version)))))
    settings = messages.lean_settings(Settings())
    director.tell(Begin(0, settings, whole, (), 0, refused={mark: "it hangs"}))
    assert director.loaded() == []
    assert director.ask() == 500
    (report,) = [about for one in director.reports() for about in getattr(one, "hooks", ())]
    assert (report.state, report.error) == ("failed", "it hangs")


def test_reason_of_a_suspension_is_reported(director: HookDirector) -> None:
    """It comes at once, or with the beginning of a replacement."""
    version = code("fine")
    mark = mark_of(f"python/{A}", version)
    first = with_hooks(1, hook(A, version))
    director.begin_with(first)
    with logged():
        director.tell(SuspendHook(mark, "it took too much"))
    reports = [about for one in director.reports() for about in getattr(one, "hooks", ())]
    assert (reports[-1].state, reports[-1].error) == ("suspended", "it took too much")
    other = HookDirector()
    whole = messages.raw(messages.encode(messages.whole(first)))
    settings = messages.lean_settings(Settings())
    reasons = {mark: "it took too much"}
    other.tell(Begin(0, settings, whole, (), 0, suspended=(mark,), reasons=reasons))
    (report,) = [about for one in other.reports() for about in getattr(one, "hooks", ())]
    assert (report.state, report.error) == ("suspended", "it took too much")
    other.plane.stop(0)


def test_suspended_version_is_not_run(director: HookDirector) -> None:
    """It is not run from the message on, and not loaded if the suspension is known before."""
    version = code("fine")
    mark = mark_of(f"python/{A}", version)
    director.begin_with(with_hooks(1, hook(A, version)))
    assert director.ask() == 0
    with logged():
        assert director.tell(SuspendHook(mark)) == Done(1)
        assert director.tell(SuspendHook(4711)) == Done(1)
    assert director.ask() == 500


def test_worker_begins_with_what_is_suspended(director: HookDirector) -> None:
    """The worker before may have ended when it loaded the hook."""
    version = code("fine")
    mark = mark_of(f"python/{A}", version)
    director.begin_with(with_hooks(1, hook(A, version), hook("script.b.test", "b")), (mark,))
    assert director.loaded() == ["b"]
    assert director.ask() == 500
    assert director.ask("b.test") == 0


def test_failures_are_told_at_once(director: HookDirector) -> None:
    """Each is reported, because the director counts those of all workers; failures of a shadow
    are not."""
    version = code("raise")
    director.begin_with(
        with_hooks(1, hook(A, version), hook("script.b.test", "fine", staged="raise", shadow=True))
    )
    with logged():
        director.ask()
        director.ask()
        director.ask("b.test")
    deliver(*director.transports)
    assert director.said == [HookFailed(mark_of(f"python/{A}", version))] * 2


def test_counters_of_hooks_are_reported_when_they_change(director: HookDirector) -> None:
    """They come with the report of each second; a version that comes back is reported anew."""
    version = code("fine")
    script = hook(A, version, staged="shadow", shadow=True)
    first = with_hooks(1, script)
    director.begin_with(first)
    director.ask()
    reports = [one for one in director.reports() if isinstance(one, Report)]
    found = {about.mark: about.calls for report in reports for about in report.hooks}
    assert found[mark_of(script.path, version)] == 1
    (shadow,) = [about for report in reports for about in report.shadows]
    assert (shadow.compared, shadow.differing) == (1, 0)
    quiet = [one for one in director.reports() if isinstance(one, Report)]
    assert all(report.hooks == report.shadows == () for report in quiet)
    second = first.with_hooks({script.key: None})
    director.change(first, second)
    director.reports()
    back = second.with_hooks({script.key: script})
    director.change(second, back)
    again = [about for report in director.reports() for about in report.hooks]
    assert {about.mark: about.calls for about in again}[mark_of(script.path, version)] == 0


def test_hook_that_hangs_is_known_by_the_note(director: HookDirector) -> None:
    """The note has its number while it runs."""
    seen: list[int] = []
    director.engine.actions["look"] = lambda request, response: seen.append(
        director.mark[0] & LARGEST
    )
    version = code("look")
    director.begin_with(with_hooks(1, hook(A, version)))
    director.ask()
    assert seen == [mark_of(f"python/{A}", version)]
    # It is noted while it is loaded, and while it is called.
    assert (director.mark, director.note.calls) == ([0, 0], 2)


def test_real_runner_of_a_worker(director: HookDirector) -> None:
    """It writes into the worker's note, and reports failures through the worker's link."""
    from slardar.workers.worker import Worker

    items = [0, 0]
    worker = Worker(director.reactor, lambda: None, mark=items)
    worker._plane = director.plane
    runner = worker._make_runner(Hooks())
    version: Code = code("x")
    told: list[Any] = []
    worker._reporter._send = told.append  # type: ignore[method-assign]
    assert runner._tell is not None
    runner._tell(Loaded("python/script.a", version, None, "", {}))
    assert told == [HookFailed(mark_of("python/script.a", version))]
    assert runner._note is not None
    runner._note.begin(7)
    assert items == [1 << 32 | 7, 0]


def test_worker_shows_that_it_goes_on(director: HookDirector) -> None:
    """It does so from the time it serves until it has drained."""
    director.worker._mark = director.mark
    director.reactor.advance(1)
    assert director.mark == [0, 0]
    director.begin_with(with_hooks(1))
    director.mark[BEATS] = LARGEST
    director.reactor.advance(0.25)
    director.reactor.advance(0.25)
    assert director.mark == [0, 1]
    director.tell(Drain(0.0))
    for _ in range(20):
        director.reactor.advance(0.1)
    last = list(director.mark)
    director.reactor.advance(1)
    assert director.mark == last
