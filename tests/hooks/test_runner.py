"""Which hooks of a process see a request, and what becomes of it."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Mapping
from typing import Any

import pytest

from slardar.config import Hooks
from slardar.errors import ConfigError
from slardar.hooks.call_note import MOST_CALLS, CallNote
from slardar.hooks.engine import ScriptError
from slardar.hooks.loaded import Loaded, mark_of
from slardar.hooks.objects import HookRequest
from slardar.hooks.report import HookReport, ShadowReport
from slardar.hooks.runner import Runner
from slardar.hooks.script import HookFailure
from slardar.http1.interfaces import HookedRequest
from slardar.http1.request import Request
from slardar.http1.writer import RequestIds, request_head
from slardar.model.hook import Code, Hook
from tests.dataplane.kit import logged
from tests.hooks.kit import Action, FakeEngine, code, hook, hooks, raising, reply_of, request_of


class Running:
    """A runner on engines of the test, whose clock stands still unless the test moves it."""

    def __init__(self, on_error: Any = "reject", **actions: Action) -> None:
        self.now = 1000.0
        self.failed: list[Loaded] = []
        #: Where the call under way is noted, and the marks that were there while actions ran.
        self.noted = [0]
        self.marks: list[int] = []
        self.actions: dict[str, Action] = {
            "note": lambda request, response: self.marks.append(self.noted[0] & 0xFFFFFFFF),
            **{name.replace("__", ":"): action for name, action in actions.items()},
        }
        self.engines: dict[str, FakeEngine] = {}
        self.runner = Runner(
            Hooks(on_error=on_error),
            lambda: self.now,
            self.failed.append,
            CallNote(self.noted),
            self._engine,
        )

    def _engine(self, language: str, settings: Hooks, shown: Mapping[str, Any], log: Any) -> Any:
        engine = FakeEngine(settings.budget, shown, log, self.actions)
        self.engines[language] = engine
        return engine

    @property
    def engine(self) -> FakeEngine:
        """The Python engine."""
        return self.engines["python"]

    def load(self, *some: Hook) -> bool:
        """Run these hooks from now on."""
        return self.runner.load(hooks(*some))

    def ask(self, request: Request | None = None) -> HookedRequest:
        """Let the hooks see a request."""
        hooked = self.runner.request(request_of() if request is None else request)
        return HookedRequest() if hooked is None else hooked

    def status(self, request: Request | None = None) -> int:
        """The status with which a request is answered; 0 if it goes on."""
        answer = self.ask(request).answer
        return 0 if answer is None else answer.status

    def calls(self) -> list[str]:
        """The codes that ran since the last call of this method."""
        found = [code for engine in self.engines.values() for _, code in engine.calls]
        for engine in self.engines.values():
            engine.calls.clear()
        return found

    def states(self) -> dict[str, str]:
        """The state of each version, by the mark of its code."""
        return {
            f"{one.path} {one.mark}": one.state
            for one in self.runner.reports()
            if isinstance(one, HookReport)
        }

    def report(self, version: Code, path: str = "python/script.www.a.test") -> HookReport:
        """The report on one version."""
        (found,) = [
            one
            for one in self.runner.reports()
            if isinstance(one, HookReport) and one.mark == mark_of(path, version)
        ]
        return found

    def shadow(self) -> ShadowReport:
        """The report on the only shadow."""
        (found,) = [one for one in self.runner.reports() if isinstance(one, ShadowReport)]
        return found


A = "script.www.a.test"


def rejects(status: int) -> Action:
    """A hook that answers the request."""
    return lambda request, response: request.reject(status)


def sets(name: str, value: str) -> Action:
    """A hook that sets a header."""
    return lambda request, response: request.headers.set(name, value)


# Which scripts run.


def test_no_hooks_no_row() -> None:
    """Modules alone, and scripts that were only staged, see no request."""
    running = Running()
    assert not running.load()
    assert not running.load(hook("modules.x", "note"), hook(A, staged="note"))
    assert running.runner.request(request_of()) is None
    assert running.engines == {}


def test_scripts_run_in_their_order() -> None:
    """The scripts of every host run first, Lua before Python, and then those of the host."""
    running = Running()
    assert running.load(
        hook(A, "python-host"),
        hook("script.*", "python-all"),
        hook("lua/script.WWW.a.test", "lua-host"),
        hook("lua/script.*", "lua-all"),
        hook("script.other.test", "other"),
    )
    assert running.ask().answer is None
    engines = running.engines
    assert [code for _, code in engines["lua"].calls] == ["lua-all", "lua-host"]
    assert [code for _, code in engines["python"].calls] == ["python-all", "python-host"]
    running.calls()
    running.ask(request_of(host="third.test"))
    assert sorted(running.calls()) == ["lua-all", "python-all"]
    running.ask(request_of(host="other.test:80"))
    assert sorted(running.calls()) == ["lua-all", "other", "python-all"]


def test_order_across_languages() -> None:
    """Each script sees what earlier ones did, in whatever language."""
    order: list[str] = []
    actions: dict[str, Action] = {
        name: (lambda request, response, name=name: order.append(name))
        for name in ("1", "2", "3", "4")
    }
    running = Running()
    running.actions.update(actions)
    running.load(
        hook("script.*", "2"), hook("lua/script.*", "1"), hook(A, "4"), hook(f"lua/{A}", "3")
    )
    running.ask()
    assert order == ["1", "2", "3", "4"]


def test_other_host_has_no_hooks() -> None:
    """No hook is asked, and no object is made for its request."""
    running = Running()
    running.load(hook(A, "note"))
    assert running.runner.request(request_of(host="b.test")) is None


def test_scripts_are_those_of_the_host_asked_for() -> None:
    """A hook that changes Host changes the upstream, and not which scripts run."""
    running = Running(moves=lambda request, response: setattr(request, "host", "b.test"))
    running.load(hook("script.*", "moves"), hook(A, "mine"), hook("script.b.test", "other"))
    request = request_of()
    running.ask(request)
    assert running.calls() == ["moves", "mine"]
    assert request.host == "b.test"


def test_next_script_sees_what_was_done() -> None:
    """It sees headers, choices and the context; the upstream chosen last counts."""
    seen: list[Any] = []

    def first(request: HookRequest, response: Any) -> None:
        request.headers["X-A"] = "1"
        request.upstream, request.hash_key = "one", "k"
        request.context["user"] = "u"

    def second(request: HookRequest, response: Any) -> None:
        seen.extend((request.headers["x-a"], request.upstream, request.hash_key))
        seen.append(request.context["user"])

    running = Running(first=first, second=second)
    running.load(hook("script.*", "first"), hook(A, "second"))
    assert running.ask().upstream == "one"
    assert seen == ["1", "one", "k", "u"]
    running.actions["second"] = lambda request, response: setattr(request, "upstream", None)
    running.load(hook("script.*", "first"), hook(A, "second"))
    running.engine.actions.update(running.actions)
    assert running.ask().upstream is None


def test_answer_ends_the_row() -> None:
    """No later script sees the request, whose own lines are as they came."""
    running = Running(no=rejects(403))
    running.load(hook("script.*", "no"), hook(A, "late"))
    request = request_of()
    hooked = running.ask(request)
    assert hooked.answer is not None
    assert (hooked.answer.status, json.loads(hooked.body)["msg"]) == (403, "Forbidden")
    assert not hooked.sees_reply
    assert running.calls() == ["no"]


def test_context_is_a_requests_own() -> None:
    """The next request begins with an empty context."""
    seen: list[int] = []

    def count(request: HookRequest, response: Any) -> None:
        request.context["n"] = request.context.get("n", 0) + 1
        seen.append(request.context["n"])

    running = Running(count=count)
    running.load(hook("script.*", "count"), hook(A, "count"))
    running.ask()
    running.ask()
    assert seen == [1, 2, 1, 2]


# Versions.


def test_what_a_hook_keeps_of_a_request_writes_nowhere() -> None:
    """Not even while the request goes on, or while another hook has it."""
    running = Running()
    kept: list[Any] = []

    def keep(request: Any, response: Any) -> None:
        request.headers.set("X-A", "1")
        kept.append(request.headers)

    def write(request: Any, response: Any) -> None:
        kept[-1].set("X-B", "late")
        request.context["seen"] = request.headers.get("x-b")

    running.actions.update(keep=keep, write=write)
    running.load(hook("script.*", "keep"), hook(A, "write"))
    request = request_of("X-C: 3")
    running.ask(request)
    kept[-1].set("X-D", "later")
    assert request.head_lines()[1:] == [b"X-C: 3", b"X-A: 1"]


def test_hook_of_replies_sees_its_request_as_it_left_it() -> None:
    """The proxy and other hooks may have changed the head since."""
    running = Running()
    seen: list[Any] = []
    running.actions.update(
        set=sets("X-A", "1"),
        more=sets("X-B", "2"),
        **{"reply:look": lambda request, response: seen.append(request.headers.items())},
    )
    for first in ("set reply:look", "reply:look"):
        running.load(hook("script.*", first), hook(A, "more"))
        request = request_of("X-C: 3")
        hooked = running.ask(request)
        request_head(request, RequestIds(b"id"), "")
        hooked.reply(reply_of())
    assert seen[0][1:] == [("X-C", "3"), ("X-A", "1")]
    assert seen[1][1:] == [("X-C", "3")]


def test_version_that_is_loaded_stays() -> None:
    """A change of another hook, or one that changes nothing, does not load it again."""
    running = Running()
    one, other = hook(A, "note"), hook("script.b.test", "note")
    running.load(one, other)
    running.load(one, hook("script.b.test", "new"))
    running.load(one)
    assert [script.code for script in running.engine.loaded] == ["note", "note", "new"]


def test_removed_script_runs_no_more() -> None:
    """When no script is left, no request is shown to hooks."""
    running = Running()
    running.load(hook(A, "note"), hook("script.*", "all"))
    assert running.load(hook("script.*", "all"))
    running.ask()
    assert running.calls() == ["all"]
    assert not running.load()


def test_request_ends_with_the_version_it_began_with() -> None:
    """The old version sees the reply, and is closed when no request needs it any more."""
    running = Running(old=sets("X", "old"))
    running.load(hook(A, "old reply:old"))
    hooked = running.ask()
    old = weakref.ref(running.engine.loaded.pop())
    running.load(hook(A, "new reply:new"))
    running.calls()
    assert old() is not None
    assert hooked.reply(reply_of()) is None
    assert running.calls() == ["old reply:old"]
    running.ask().reply(reply_of())
    assert running.calls() == ["new reply:new"] * 2
    assert old() is not None
    del hooked
    gc.collect()
    assert old() is None


def test_request_outlives_all_hooks() -> None:
    """The old version sees the reply even if no hook is left."""
    running = Running()
    running.load(hook(A, "reply:old"))
    hooked = running.ask()
    running.load()
    hooked.reply(reply_of())
    assert running.calls() == ["reply:old"]


def test_unloadable_script_does_not_stop_the_others() -> None:
    """It is shown with its reason, and its requests are treated as if it had failed."""
    running = Running()
    broken = code("unloadable")
    with logged() as events:
        assert running.load(hook(A, broken), hook("script.*", "all"), hook("script.b.test", "fine"))
    assert len(events) == 1
    assert running.status() == 500
    assert running.status(request_of(host="b.test")) == 0
    report = running.report(broken)
    assert (report.state, report.error) == ("failed", f"{A}: line 1: it cannot be loaded")
    assert running.failed == []


def test_engines_own_mistake_does_not_stop_the_others() -> None:
    """The log tells where the bug is, and the state what it is."""
    running = Running()
    broken = code("breaks-engine")
    with logged() as events:
        assert running.load(hook(A, broken), hook("script.b.test", "fine"))
    assert any("log_failure" in event for event in events)
    assert running.status() == 500
    assert running.report(broken).error == f"{A}: could not be loaded: RuntimeError"


def test_engine_that_cannot_be_made_is_a_failed_script() -> None:
    """A process that lacks a language still serves requests."""

    def no_engine(*_: Any) -> Any:
        raise ConfigError("hooks: expected Lua to be installed")

    runner = Runner(Hooks(), lambda: 0.0, engines=no_engine)
    with logged():
        assert runner.load(hooks(hook(A, "note")))
    (report,) = runner.reports()
    assert isinstance(report, HookReport)
    assert (report.state, report.error) == ("failed", "hooks: expected Lua to be installed")


# Modules.


def test_module_reloads_its_users_only() -> None:
    """Scripts are loaded again that use the module, directly or through others."""
    running = Running()
    scripts = [hook(A, "modules.b"), hook("script.b.test", "modules.a"), hook("script.*", "none")]
    middle = hook("modules.b", "modules.a")
    running.load(hook("modules.a", "one"), middle, *scripts)
    before = len(running.engine.loaded)
    running.load(hook("modules.a", "two"), middle, *scripts)
    assert [script.code for script in running.engine.loaded[before:]] == ["modules.b", "modules.a"]
    assert running.engine.loaded[-1].modules == {"modules.a": "two"}
    before = len(running.engine.loaded)
    running.load(hook("modules.a", "two"), middle, hook("modules.c", "other"), *scripts)
    assert len(running.engine.loaded) == before


def test_module_of_the_other_language_is_another() -> None:
    """Both languages may have a module of this name."""
    running = Running()
    with logged():
        running.load(hook("lua/modules.a", "one"), hook(A, "modules.a"))
    assert running.status() == 500


def test_script_gets_its_chance_when_its_module_comes() -> None:
    """A script that could not be loaded without its module is loaded then."""
    running = Running()
    script = hook(A, "modules.a")
    with logged():
        running.load(script)
        assert running.status() == 500
    running.load(script, hook("modules.a", "here"))
    assert running.status() == 0


def test_counters_go_on_with_another_module() -> None:
    """The version of the script is the same."""
    running = Running()
    version = code("modules.a")
    running.load(hook(A, version), hook("modules.a", "one"))
    running.ask()
    running.load(hook(A, version), hook("modules.a", "two"))
    running.ask()
    assert running.report(version).calls == 2


# Failures.


@pytest.mark.parametrize(
    ("on_error", "status"), [("reject", 500), ("continue", 0), ("previous", 500)]
)
@pytest.mark.parametrize("word", ["raise", "bug", "unloadable"])
def test_failure_of_a_request(on_error: Any, status: int, word: str) -> None:
    """on_error says what happens; the client is not told why."""
    running = Running(touch=sets("X-Touched", "1"))
    with logged():
        running.load(hook(A, f"touch {word}", on_error=on_error))
        request = request_of()
        hooked = running.ask(request)
    assert (hooked.answer.status if hooked.answer else 0) == status
    assert request.get_header("x-touched") is None
    if status:
        assert json.loads(hooked.body) == {"status": 500, "msg": "a hook failed"}


def test_settings_say_what_a_failure_does_by_default() -> None:
    """The on_error of a hook wins over the setting."""
    running = Running("continue")
    with logged():
        running.load(hook(A, "raise"), hook("script.b.test", "raise", on_error="reject"))
        assert running.status() == 0
        assert running.status(request_of(host="b.test")) == 500


def test_failure_leaves_nothing_behind() -> None:
    """Nothing of its changes of the request, its choices and the context stays."""

    def half(request: HookRequest, response: Any) -> None:
        request.headers["X"] = "1"
        request.host, request.method, request.upstream = "b.test", "POST", "other"
        request.context["key"] = "changed"
        request.context["new"] = "1"
        request.reject(403)
        raise HookFailure("error", "half-way")

    seen: list[Any] = []
    running = Running(
        "continue",
        half=half,
        first=lambda request, response: request.context.update(key="kept"),
        last=lambda request, response: seen.append((request.upstream, dict(request.context))),
    )
    with logged():
        running.load(hook("lua/script.*", "first"), hook("script.*", "half"), hook(A, "last"))
        request = request_of()
        hooked = running.ask(request)
    assert (request.host, request.method, request.head_lines()) == ("www.a.test", "GET", [b""])
    assert (hooked.answer, hooked.upstream) == (None, None)
    assert seen == [(None, {"key": "kept"})]


def test_previous_version_stands_in() -> None:
    """It stands in for this request; if it fails as well, the client gets a 500."""
    running = Running(touch=sets("X-Previous", "1"))
    with logged():
        running.load(hook(A, "raise", previous="touch", on_error="previous"))
        request = request_of()
        assert running.status(request) == 0
        assert request.get_header("x-previous") == "1"
        assert running.calls() == ["raise", "touch"]
        running.load(hook(A, "raise", previous="touch raise", on_error="previous"))
        assert running.status() == 500


def test_previous_version_is_not_loaded_for_nothing() -> None:
    """It is loaded only if on_error lets it stand in."""
    running = Running()
    running.load(hook(A, "note", previous="old"))
    assert [script.code for script in running.engine.loaded] == ["note"]


def test_five_failures_in_a_minute_suspend() -> None:
    """The hook is not run any more, and its requests are treated as if it had failed."""
    running = Running()
    broken = code("raise")
    with logged() as events:
        running.load(hook(A, broken))
        for _ in range(4):
            assert running.status() == 500
            running.now += 14.9
        assert running.report(broken).state == "active"
        assert running.status() == 500
        assert running.report(broken).state == "suspended"
        running.calls()
        assert running.status() == 500
    assert running.calls() == []
    assert running.report(broken).errors == 5
    assert len(running.failed) == 5
    assert sum("is suspended" in event["log_format"] for event in events) == 1


def test_failures_far_apart_do_not_suspend() -> None:
    """Only five failures within sixty seconds suspend."""
    running = Running()
    with logged():
        running.load(hook(A, "raise"))
        for _ in range(20):
            running.status()
            running.now += 15.1
    assert set(running.states().values()) == {"active"}


def test_posting_again_ends_a_suspension() -> None:
    """Even the same code ends it, since it is another posting."""
    running = Running()
    with logged():
        running.load(hook(A, code("raise")))
        for _ in range(5):
            running.status()
        running.calls()
        running.load(hook(A, code("raise")))
        running.status()
    assert running.calls() == ["raise"]


def test_suspension_from_elsewhere() -> None:
    """The director suspends a version by its mark, and other versions go on."""
    running = Running(no=rejects(403))
    version = code("no")
    running.load(hook(A, version), hook("script.b.test", "no"))
    with logged() as events:
        running.runner.suspend(mark_of(f"python/{A}", version))
        running.runner.suspend(mark_of(f"python/{A}", version))
    assert len(events) == 1
    assert running.status() == 500
    assert running.status(request_of(host="b.test")) == 403
    # A change of something else does not lift it.
    running.load(hook(A, version), hook("script.c.test", "no"))
    assert running.status() == 500


def test_suspended_version_is_not_even_loaded() -> None:
    """Loading it may have ended a worker; it is shown as suspended."""
    running = Running()
    version = code("note")
    running.runner.suspend(mark_of(f"python/{A}", version))
    running.load(hook(A, version), hook("script.*", "all"))
    assert [script.code for script in running.engine.loaded] == ["all"]
    assert running.report(version).state == "suspended"
    assert running.status() == 500


def test_other_module_of_its_own_ends_that() -> None:
    """Another version of a module that the hook does not use ends nothing, as at the director."""
    running = Running()
    version, x = code("modules.x"), hook("modules.x", "ex")
    running.runner.suspend(mark_of(f"python/{A}", version))
    running.load(hook(A, version), x)
    running.load(hook(A, version), x, hook("modules.y", "why"))
    assert running.engines == {}
    assert running.status() == 500
    running.load(hook(A, version), hook("modules.x", "new"))
    assert running.report(version).state == "active"
    assert running.status() == 0


def test_other_module_ends_a_suspension() -> None:
    """The script is loaded anew with the module, and its failures count anew."""
    running = Running()
    version = code("modules.a raise")
    with logged():
        running.load(hook(A, version), hook("modules.a", "one"))
        for _ in range(5):
            running.status()
        assert running.report(version).state == "suspended"
        running.load(hook(A, version), hook("modules.a", "two"))
        assert running.report(version).state == "active"
        running.calls()
        running.status()
        assert running.calls() == ["modules.a raise"]
        assert running.report(version).state == "active"


def test_suspended_with_previous_goes_to_the_one_before() -> None:
    """A suspended version is treated like one that fails."""
    running = Running(no=rejects(403))
    with logged():
        running.load(hook(A, "raise", previous="no", on_error="previous"))
        for _ in range(6):
            assert running.status() == 403
    assert running.calls()[-2:] == ["no", "no"]


def test_request_under_way_ends_with_its_version_even_if_that_is_suspended() -> None:
    """The version may finish what it began."""
    running = Running()
    version = code("reply:note")
    running.load(hook(A, version))
    hooked = running.ask()
    with logged():
        running.runner.suspend(mark_of(f"python/{A}", version))
    assert hooked.reply(reply_of()) is None
    assert running.calls() == ["reply:note"]


# Replies.


def test_scripts_see_the_reply_last_first() -> None:
    """Each sees the reply as the script before it left it."""
    seen: list[Any] = []

    def inner(request: HookRequest, response: Any) -> None:
        response.headers["X"] = "inner"
        response.status = 503

    def outer(request: HookRequest, response: Any) -> None:
        seen.append((response.status, response.headers["x"], request.context.get("user")))
        response.headers.remove("Server")

    running = Running(
        reply__inner=inner,
        reply__outer=outer,
        user=lambda request, response: request.context.update(user="u"),
    )
    running.load(hook("script.*", "reply:outer"), hook(A, "user reply:inner"))
    hooked = running.ask()
    assert hooked.sees_reply
    reply = reply_of("Server: x", "Content-Length: 2")
    assert hooked.reply(reply) is None
    assert seen == [(503, "inner", "u")]
    assert reply.head_lines() == [b"HTTP/1.1 503 Service Unavailable", b"X: inner"]


def test_reply_is_answered_instead() -> None:
    """The first script that answers wins; the others do not see the reply."""
    running = Running(reply__no=rejects(403), reply__touch=sets("X", "1"))
    running.load(hook("script.*", "reply:touch"), hook(A, "reply:no"))
    instead = running.ask().reply(reply_of())
    assert instead is not None
    assert (instead[0].status, json.loads(instead[1])["status"]) == (403, 403)
    assert [code for code in running.calls() if code == "reply:touch"] == []


@pytest.mark.parametrize(
    ("on_error", "status"), [("reject", 500), ("continue", 0), ("previous", 500)]
)
@pytest.mark.parametrize("word", ["reply:raise", "reply:bug"])
def test_failure_of_a_reply(on_error: Any, status: int, word: str) -> None:
    """on_error says what happens.

    Nothing that the script did is applied, and the other scripts still see the reply.
    """

    def touch(request: HookRequest, response: Any) -> None:
        response.headers["X-Touched"] = "1"
        response.status = 503
        request.context["new"] = 1

    seen: list[Any] = []
    running = Running(
        reply__touch=touch,
        reply__look=lambda request, response: seen.append((response.status, request.context)),
    )
    running.load(hook("script.*", "reply:look"), hook(A, f"reply:touch {word}", on_error=on_error))
    reply = reply_of("X: 1")
    with logged():
        instead = running.ask().reply(reply)
    assert (instead[0].status if instead else 0) == status
    assert reply.head_lines() == [b"HTTP/1.1 200 OK", b"X: 1"]
    assert seen == ([] if status else [(200, {})])
    assert len(running.failed) == 1


# Canaries.


def test_canary_gets_its_share() -> None:
    """The share of a hundred requests in a row is exact, and of ten about right."""
    running = Running()
    running.load(hook(A, "active", staged="canary", canary=30))
    for _ in range(3):
        for _ in range(100):
            running.ask()
        calls = running.calls()
        assert calls.count("canary") == 30
        assert all(2 <= calls[at : at + 10].count("canary") <= 4 for at in range(0, 100, 10))


def test_canary_before_anything_is_active() -> None:
    """For the other requests there is no hook yet."""
    running = Running(no=rejects(403))
    assert running.load(hook(A, staged="no", canary=10))
    statuses = [running.status() for _ in range(100)]
    assert (statuses.count(403), statuses.count(0)) == (10, 90)


def test_canary_for_all() -> None:
    """A share of 100 is allowed."""
    running = Running()
    running.load(hook(A, "active", staged="canary", canary=100))
    for _ in range(50):
        running.ask()
    assert set(running.calls()) == {"canary"}


def test_failing_canary_is_replaced_by_what_is_in_service() -> None:
    """on_error does not matter; once the canary is suspended no request gets it."""
    running = Running(no=rejects(403))
    canary = code("raise")
    with logged():
        running.load(hook(A, "no", staged=canary, canary=50))
        assert {running.status() for _ in range(100)} == {403}
    calls = running.calls()
    assert (calls.count("raise"), calls.count("no")) == (5, 100)
    assert running.report(canary).state == "suspended"


def test_failing_canary_alone_is_a_failure() -> None:
    """No version in service can stand in for its share."""
    running = Running()
    with logged():
        running.load(hook(A, staged="raise", canary=100))
        assert running.status() == 500


# Shadows.


def test_shadow_runs_without_effect() -> None:
    """It sees what the version in service saw, and only the comparison is kept."""

    def shadow(request: HookRequest, response: Any) -> None:
        request.headers["X"] = "shadow"
        request.context["x"] = "shadow"
        request.context["list"].append(1)
        request.upstream = "other"

    seen: list[Any] = []
    running = Running(
        first=lambda request, response: request.context.update(list=[]),
        active=sets("X", "active"),
        shadow=shadow,
        last=lambda request, response: seen.append(dict(request.context)),
    )
    active, staged = code("active"), code("shadow")
    running.load(
        hook("lua/script.*", "first"),
        hook("script.*", active, staged=staged, shadow=True),
        hook(A, "last"),
    )
    request = request_of()
    hooked = running.ask(request)
    assert request.get_header("x") == "active"
    assert hooked.upstream is None
    assert seen == [{"list": []}]
    report = running.shadow()
    assert (report.mark, report.compared, report.differing) == (
        mark_of("python/script.*", staged), 1, 1,
    )  # fmt: skip
    (example,) = map(json.loads, report.examples)
    assert example["request"] == "GET www.a.test/a?b=1"
    assert example["active"]["headers"]["x"] == ["active"]
    assert example["staged"]["upstream"] == "other"
    # The shadow counts for itself.
    assert running.report(active, "python/script.*").calls == 1
    assert (report.calls, report.errors) == (1, 0)


def test_shadow_that_does_the_same_does_not_differ() -> None:
    """The way in which it does it does not matter."""
    running = Running(one=rejects(403), other=rejects(403))
    running.load(hook(A, "one", staged="other", shadow=True))
    assert running.status() == 403
    assert (running.shadow().compared, running.shadow().differing) == (1, 0)


def test_failing_shadow_is_its_own_affair() -> None:
    """The failure counts in its report, and suspends nothing."""
    running = Running(no=rejects(403))
    with logged() as events:
        running.load(hook(A, "no", staged="raise", shadow=True))
        for _ in range(10):
            assert running.status() == 403
    assert events == []
    assert running.failed == []
    assert set(running.states().values()) == {"active"}
    assert (running.shadow().errors, running.shadow().differing) == (10, 10)
    assert running.noted == [0]


def test_shadow_sees_where_the_active_one_fails() -> None:
    """The report tells what the shadow would do instead."""
    running = Running(no=rejects(403))
    with logged():
        running.load(hook(A, "raise", staged="no", shadow=True))
        assert running.status() == 500
    (example,) = map(json.loads, running.shadow().examples)
    assert example["active"]["failed"] is True
    assert example["staged"]["answer"] == 403


def test_shadow_sees_replies() -> None:
    """It sees a copy of each reply, from before the version in service changed it."""

    def active(request: HookRequest, response: Any) -> None:
        response.headers["X"] = "active"

    def staged(request: HookRequest, response: Any) -> None:
        assert "X" not in response.headers
        response.status = 503

    running = Running(reply__active=active, reply__staged=staged)
    for code_of_active in ("reply:active", "nothing"):
        running.load(hook(A, code_of_active, staged="reply:staged", shadow=True))
        reply = reply_of()
        hooked = running.ask()
        assert hooked.sees_reply
        assert hooked.reply(reply) is None
        assert reply.head_lines()[0] == b"HTTP/1.1 200 OK"
        report = running.shadow()
        assert (report.compared, report.differing) == (1, 1)
        (example,) = map(json.loads, report.examples)
        assert (example["active"]["status"], example["staged"]["status"]) == (200, 503)


def test_shadow_costs_a_bounded_share() -> None:
    """It sees a hundred requests of each second."""
    running = Running()
    running.load(hook(A, "active", staged="shadow", shadow=True))
    for _ in range(150):
        running.ask()
    assert running.shadow().compared == 100
    running.now += 1
    running.ask()
    assert running.shadow().compared == 101


def test_shadow_that_takes_long_sees_few() -> None:
    """It may take a tenth of each second: two calls that use up a budget of 50 ms."""
    running = Running()
    running.load(hook(A, "active", staged="shadow", shadow=True))
    running.ask()
    running.runner._sampler.took(99_999_999)
    running.ask()
    running.ask()
    assert running.shadow().compared < 3
    running.now += 1
    running.ask()
    assert running.calls().count("shadow") <= 3


def test_shadow_without_a_version_in_service_is_compared_with_none() -> None:
    """The comparison shows what a new rule would do before it does anything."""
    running = Running(shadow=rejects(403))
    assert running.load(hook(A, staged="shadow", shadow=True))
    assert running.status() == 0
    assert (running.shadow().compared, running.shadow().differing) == (1, 1)
    (example,) = map(json.loads, running.shadow().examples)
    assert example["staged"]["answer"] == 403


def test_context_that_cannot_be_copied_is_not_shadowed() -> None:
    """A value that is not plain might give access to the real context."""
    running = Running(
        first=lambda request, response: request.context.update(thing=object()),
    )
    running.load(hook("script.*", "first"), hook(A, "active", staged="shadow", shadow=True))
    assert running.status() == 0
    assert running.shadow().compared == 0


def test_comparison_survives_changes_of_others() -> None:
    """It begins anew with another version on either side."""
    running = Running()
    watched = hook(A, "active", staged="shadow", shadow=True)
    running.load(watched)
    running.ask()
    running.load(watched, hook("script.b.test", "other"))
    assert running.shadow().compared == 1
    running.load(hook(A, "active2", staged=watched.staged, shadow=True))
    assert running.shadow().compared == 0


# The note of what is running.


def test_mark_is_there_while_a_hook_runs() -> None:
    """Another process reads the mark, which is gone after the call, even after a failure."""
    running = Running()
    running.actions["reply:note"] = running.actions["note"]
    version, broken = code("note reply:note"), code("note raise")
    with logged():
        running.load(hook("script.*", version), hook(A, broken, on_error="continue"))
        running.ask().reply(reply_of())
    expected = [mark_of("python/script.*", version), mark_of(f"python/{A}", broken)]
    assert running.marks == [*expected, expected[0]]
    assert running.noted == [0]


def test_mark_is_there_while_a_hook_is_loaded() -> None:
    """A hook may hang while it is loaded, too."""
    marks: list[int] = []

    class Engine(FakeEngine):
        def used(self, name: str, code: str, modules: Mapping[str, str]) -> frozenset[str]:
            marks.append(items[0] & 0xFFFFFFFF)
            return super().used(name, code, modules)

    items = [0]
    note = CallNote(items)
    note.calls = MOST_CALLS
    runner = Runner(Hooks(), lambda: 0.0, None, note, lambda *_: Engine())
    version, broken = code("note"), code("unloadable")
    with logged():
        runner.load(hooks(hook(A, version), hook("script.b.test", broken)))
    assert marks == [mark_of(f"python/{A}", version), mark_of("python/script.b.test", broken)]
    # Both were counted, and the count began anew.
    assert (items, note.calls) == ([0], 1)


# Checks.


def test_check_reads_and_loads() -> None:
    """The code is loaded if modules are given, and does not stay loaded."""
    running = Running()
    assert running.runner.check("python", A, "modules.a x", None) == ("modules.a",)
    assert running.engine.loaded == []
    assert running.runner.check("python", A, "modules.a x", {"modules.a": "y"}) == ("modules.a",)
    assert [script.closed for script in running.engine.loaded] == [1]
    with pytest.raises(ScriptError, match="expected better code"):
        running.runner.check("python", A, "wrong", None)
    with pytest.raises(ScriptError, match=r"module modules\.a is not active"):
        running.runner.check("python", A, "modules.a", {})


@pytest.mark.parametrize(
    "text", ["modules." + "x" * 300, " ".join(f"modules.m{n}" for n in range(1001))]
)
def test_code_names_a_bounded_number_of_modules(text: str) -> None:
    """A worker could not report more to the director."""
    with pytest.raises(ScriptError, match=f"{A}: expected at most 1000 modules"):
        Running().runner.check("python", A, text, None)


def test_engine_is_made_once_with_what_hooks_may_read() -> None:
    """One engine runs all scripts of a language, with the budget of the settings."""
    running = Running()
    running.load(hook(A, "note"), hook("script.b.test", "note"))
    engine = running.engine
    running.load(hook("script.c.test", "note"))
    assert running.engine is engine
    assert engine.budget == 0.05


def test_counters() -> None:
    """Calls for requests and replies, errors, and time are counted."""
    running = Running()
    version = code("for-requests reply:raise")
    running.load(hook(A, version))
    with logged():
        running.ask().reply(reply_of())
    report = running.report(version)
    assert (report.path, report.calls, report.errors) == (f"python/{A}", 2, 1)
    assert report.nanoseconds > 0
    assert sum(count for _, count in report.buckets) == 2


def test_log_says_which_hook_failed_and_where() -> None:
    """The line helps the author of the hook."""
    running = Running(fails=raising(HookFailure("error", "line 3: ValueError: no\r\nfake: line")))
    with logged() as events:
        running.load(hook(A, "fails"))
        running.status()
    (event,) = [event for event in events if "line" in event]
    assert event["line"] == f"python/{A}: line 3: ValueError: no  fake: line"
