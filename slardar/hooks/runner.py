"""Runs the hooks of one data plane: for each request those of every host, then its own.

A hook sees a copy of the request, and what it did is applied when it has ended well: one
that fails half-way leaves nothing behind.  What its failure does to the request is its
``on_error``; after five failures in a minute it is not run any more, and each request
for it fares as if it had failed, so that a rule which protects something does not open
by being broken.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, MutableSequence
from time import perf_counter_ns
from typing import Any

from twisted.logger import Logger

from slardar.config import Hooks
from slardar.errors import ConfigError
from slardar.hooks import shadow
from slardar.hooks.effects import (
    apply_reply,
    apply_request,
    make_reply,
    seen_reply,
    seen_request,
)
from slardar.hooks.engine import Engine, HookFailure, Script
from slardar.hooks.engines import MakeEngine, make_engine
from slardar.hooks.failures import FailureWindow
from slardar.hooks.loaded import Loaded, Stage, module_versions
from slardar.hooks.logs import HookLog
from slardar.hooks.objects import Answer, HookRequest, HookResponse
from slardar.hooks.report import HookReport, ShadowReport, reports_of
from slardar.http1.parser import Reply, Request
from slardar.http1.sides import HookedRequest, HooksBase
from slardar.model.hook import Code, Hook, HookKey

__all__ = ["Runner"]

_log = Logger("slardar.hooks")

#: What a client is told whose request a broken hook has stopped: no more than that.
_BROKEN = "a hook failed"


class Runner(HooksBase):
    """The hooks of one process.

    ``seconds()`` is a monotonic clock; ``failed(loaded)`` is told of each
    failure of a hook.  ``mark`` holds the number of the version that is running, for who
    watches from outside (:func:`slardar.hooks.loaded.mark_of`), and 0 while none is.
    """

    def __init__(
        self,
        hooks: Hooks,
        seconds: Callable[[], float],
        failed: Callable[[Loaded], None] | None = None,
        mark: MutableSequence[int] | None = None,
        engines: MakeEngine = make_engine,
    ) -> None:
        self._settings = hooks
        self._seconds = seconds
        self._tell = failed
        self._mark: MutableSequence[int] = [0] if mark is None else mark
        self._make_engine = engines
        self._engines: dict[str, Engine] = {}
        self._log = HookLog(seconds)
        self._failures = FailureWindow()
        self._loaded: dict[tuple[str, str, float], Loaded] = {}
        self._stages: dict[str, Stage] = {}
        self._by_host: dict[str, tuple[Stage, ...]] = {}
        #: For the hosts that have no scripts of their own.
        self._others: tuple[Stage, ...] = ()
        self._sampler = shadow.Sampler()

    # Loading.

    def load(self, hooks: Mapping[HookKey, Hook]) -> bool:
        """Run these from now on; answers whether there is any script to run.

        Versions that were loaded already stay as they are, unless a module that they use
        has changed.  One that cannot be loaded is logged, and fails for each request.
        """
        modules: dict[str, dict[str, Code]] = {"lua": {}, "python": {}}
        for (language, name), hook in hooks.items():
            if not hook.is_script and hook.active is not None:
                modules[language][name] = hook.active
        before, self._loaded = self._loaded, {}
        stages = {}
        for hook in hooks.values():
            if hook.is_script:
                stage = self._stage(hook, modules[hook.language], before)
                if stage.active is not None or stage.canary is not None:
                    stages[hook.path] = stage
        self._failures.keep({loaded.mark for loaded in self._loaded.values()})
        self._stages = stages
        self._order()
        return bool(stages)

    def _stage(
        self,
        hook: Hook,
        modules: Mapping[str, Code],
        before: Mapping[tuple[str, str, float], Loaded],
    ) -> Stage:
        stage = Stage(hook, hook.on_error or self._settings.on_error)

        def load(code: Code | None) -> Loaded | None:
            return None if code is None else self._load(hook, code, modules, before)

        stage.active = load(hook.active)
        if stage.on_error == "previous":
            stage.previous = load(hook.previous)
        if hook.canary:
            stage.canary = load(hook.staged)
        if hook.shadow and hook.active is not None:
            stage.shadow = load(hook.staged)
        known = self._stages.get(hook.path)
        if known is not None and known.shadow is stage.shadow and known.active is stage.active:
            stage.comparison = known.comparison
        return stage

    def _load(
        self,
        hook: Hook,
        code: Code,
        modules: Mapping[str, Code],
        before: Mapping[tuple[str, str, float], Loaded],
    ) -> Loaded:
        key = (hook.path, code.version, code.time)
        found = self._loaded.get(key) or before.get(key)
        if (
            found is None
            or found.script is None
            or found.modules != module_versions(frozenset(found.modules), modules)
        ):
            found = self._load_anew(hook, code, modules)
        self._loaded[key] = found
        return found

    def _load_anew(self, hook: Hook, code: Code, modules: Mapping[str, Code]) -> Loaded:
        script: Script | None = None
        error = ""
        sources = {name: module.code for name, module in modules.items()}
        try:
            script = self.engine(hook.language).load(hook.name, code.code, sources)
        except ConfigError as problem:
            error = str(problem)
        except Exception as problem:
            # An engine's own mistake must not keep the others from being loaded.
            _log.failure("{path} could not be loaded", path=hook.path)
            error = f"{hook.name}: could not be loaded: {type(problem).__name__}"
        if error:
            _log.error("{path} is not in service: {error}", path=hook.path, error=error)
            # Whatever module it may have needed: a change of any is another chance.
            return Loaded(
                hook.path, code, None, error, module_versions(frozenset(modules), modules)
            )
        assert script is not None
        return Loaded(hook.path, code, script, "", module_versions(script.requires, modules))

    def _order(self) -> None:
        """Put the scripts in rows: those of every host first, and Lua before Python."""
        stages = sorted(self._stages.values(), key=lambda stage: stage.path)
        general = tuple(stage for stage in stages if stage.host == "*")
        hosts = {stage.host for stage in stages} - {"*"}
        self._by_host = {
            host: general + tuple(stage for stage in stages if stage.host == host) for host in hosts
        }
        self._others = general

    def engine(self, language: str) -> Engine:
        """The engine of a language, made when it is first asked for."""
        engine = self._engines.get(language)
        if engine is None:
            engine = self._make_engine(language, self._settings, {}, self._log.write)
            self._engines[language] = engine
        return engine

    def check(
        self, language: str, name: str, code: str, modules: Mapping[str, str] | None
    ) -> frozenset[str]:
        """Whether code is fit to be a hook; answers the modules that it names.

        With ``modules`` it is also loaded, with these.  Raises ScriptError.
        """
        engine = self.engine(language)
        requires = engine.check(name, code)
        if modules is not None:
            engine.load(name, code, modules).close()
        return requires

    def suspend(self, mark: int) -> None:
        """Do not run a version any more: it failed too often, here or elsewhere."""
        for loaded in self._loaded.values():
            if loaded.mark == mark and not loaded.suspended:
                loaded.suspended = True
                _log.error(
                    "{path} (version {version}) is suspended until it is activated again",
                    path=loaded.path,
                    version=loaded.code.version,
                )

    def reports(self) -> Iterator[HookReport | ShadowReport]:
        """The counters of every script there is."""
        return reports_of(self._stages.values())

    # Requests.

    def request(self, request: Request) -> HookedRequest | None:
        """See :class:`slardar.http1.sides.HooksBase`."""
        stages = self._by_host.get(request.host, self._others)
        if not stages:
            return None
        hooked = Hooked(self)
        for stage in stages:
            if self._stage_request(stage, request, hooked):
                break
        return hooked

    def _stage_request(self, stage: Stage, request: Request, hooked: Hooked) -> bool:
        """Let one script see the request; True if the client gets an answer by that."""
        loaded = stage.choose()
        shaded = self._shade(stage, request, hooked)
        seen = None
        while loaded is not None:
            seen = self._see(loaded, request, hooked.context)
            if seen is not None:
                break
            loaded = self._instead(stage, loaded)
        if shaded is not None:
            staged = self._see(stage.shadow, *shaded, stats=stage.comparison.stats)
            what = f"{request.method} {request.host}{request.target.decode('latin-1')}"
            stage.comparison.note(
                what, shadow.request_decision(seen), shadow.request_decision(staged)
            )
        if seen is None or loaded is None:
            if stage.on_error == "continue":
                return False
            return self._answer(Answer(500, _BROKEN), request, hooked)
        if seen.answer is not None:
            return self._answer(seen.answer, request, hooked)
        apply_request(seen, request)
        if "upstream" in seen.written:
            hooked.upstream = seen.upstream
        script = loaded.script
        if script is not None and script.on_replies:
            hooked.scripts.append((stage, loaded, seen))
            hooked.sees_reply = True
        return False

    def _see(
        self,
        loaded: Loaded | None,
        request: Request,
        context: dict[str, Any],
        stats: Any = None,
    ) -> HookRequest | None:
        """Run one version for a request; ``None`` if it cannot be, or fails."""
        script = None if loaded is None else loaded.runs
        if loaded is None or script is None:
            return None
        seen = seen_request(request, context)
        if not script.on_requests:
            return seen
        stats = loaded.stats if stats is None else stats
        mark = self._mark
        mark[0] = loaded.mark
        began = perf_counter_ns()
        try:
            script.on_request(seen)
        except HookFailure as failure:
            self._failed(loaded, failure, stats)
            return None
        except Exception as error:
            self._broken(loaded, error, stats)
            return None
        finally:
            mark[0] = 0
            stats.took(perf_counter_ns() - began)
        return seen

    def _instead(self, stage: Stage, failed: Loaded) -> Loaded | None:
        """The version to run when one has failed: that in service instead of a canary,
        and then, if the hook wants that, the one before."""
        if failed is stage.canary and failed is not stage.active:
            return stage.active
        return stage.previous if failed is not stage.previous else None

    def _answer(self, answer: Answer, request: Request, hooked: Hooked) -> bool:
        hooked.answer, hooked.body = make_reply(answer, request.get_header("accept"))
        return True

    def _shade(
        self, stage: Stage, request: Request, hooked: Hooked
    ) -> tuple[Request, dict[str, Any]] | None:
        """What a shadow needs to see, if it is to see this request."""
        if stage.shadow is None or stage.shadow.runs is None:
            return None
        if not self._sampler.take(self._seconds()):
            return None
        context = _copied(hooked.context)
        return None if context is None else (request, context)

    # Replies.

    def reply(self, hooked: Hooked, reply: Reply) -> tuple[Reply, bytes] | None:
        """Show a reply to the scripts that saw its request, the last one first."""
        for stage, loaded, request in reversed(hooked.scripts):
            seen = self._see_reply(loaded, request, reply)
            if seen is None:
                if stage.on_error == "continue":
                    continue
                return make_reply(Answer(500, _BROKEN), request.headers.get("accept"))
            if request.answer is not None:
                return make_reply(request.answer, request.headers.get("accept"))
            apply_reply(seen, reply)
        return None

    def _see_reply(self, loaded: Loaded, request: HookRequest, reply: Reply) -> HookResponse | None:
        # Not ``runs``: a request ends with the version that it began with.
        script = loaded.script
        assert script is not None
        seen = seen_reply(reply)
        mark = self._mark
        mark[0] = loaded.mark
        began = perf_counter_ns()
        try:
            script.on_response(request, seen)
        except HookFailure as failure:
            self._failed(loaded, failure, loaded.stats)
            return None
        except Exception as error:
            self._broken(loaded, error, loaded.stats)
            return None
        finally:
            mark[0] = 0
            loaded.stats.took(perf_counter_ns() - began)
        return seen

    # Failures.

    def _broken(self, loaded: Loaded, error: Exception, stats: Any) -> None:
        """The engine raised what it must not: a mistake of ours, told in full."""
        _log.failure("{path}: the engine failed", path=loaded.path)
        self._failed(loaded, HookFailure("error", f"{type(error).__name__}"), stats)

    def _failed(self, loaded: Loaded, failure: HookFailure, stats: Any) -> None:
        stats.errors += 1
        if stats is not loaded.stats:
            # A shadow's failure is for its report alone.
            return
        self._log.write("error", f"{loaded.path}: {failure.message}")
        if self._failures.note(loaded.mark, self._seconds()):
            self.suspend(loaded.mark)
        if self._tell is not None:
            self._tell(loaded)


class Hooked(HookedRequest):
    """One request that hooks have seen, until its reply."""

    __slots__ = ("_runner", "context", "scripts")

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self._runner = runner
        #: The hooks' own for this request.
        self.context: dict[str, Any] = {}
        #: Those that want to see the reply, with what each saw of the request.
        self.scripts: list[tuple[Stage, Loaded, HookRequest]] = []

    def reply(self, reply: Reply) -> tuple[Reply, bytes] | None:
        """See :class:`slardar.http1.sides.HookedRequest`."""
        return self._runner.reply(self, reply)


def _copied(context: dict[str, Any]) -> dict[str, Any] | None:
    """A copy that nothing of the original can be reached through; ``None`` if there is
    none, for a context may hold anything."""
    if not context:
        return {}
    try:
        return copy.deepcopy(context)
    except Exception:
        return None
