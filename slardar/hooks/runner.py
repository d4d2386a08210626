"""Runs the hooks of one data plane: for each request those of every host, then its own.

A hook sees a copy of the request, and what it did is applied when it has ended well: one
that fails half-way leaves nothing behind.  What its failure does to the request is its
``on_error``; after five failures in a minute it is not run any more, and each request
for it fares as if it had failed, so that a rule which protects something does not open
by being broken.
"""

from __future__ import annotations

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
from slardar.hooks.engine import Engine, HookFailure, Script, ScriptError
from slardar.hooks.engines import MakeEngine, make_engine
from slardar.hooks.failures import FailureWindow
from slardar.hooks.loaded import Loaded, Stage, mark_of, module_versions, used_modules
from slardar.hooks.logs import HookLog
from slardar.hooks.objects import Answer, HookRequest, HookResponse
from slardar.hooks.report import HookReport, ShadowReport, reports_of
from slardar.hooks.stats import CallStats
from slardar.http1.parser import Reply, Request
from slardar.http1.sides import HookedRequest, HooksBase
from slardar.model.hook import Code, Hook, HookKey

__all__ = ["Runner"]

_log = Logger("slardar.hooks")

#: What a client is told whose request a broken hook has stopped: no more than that.
_BROKEN = "a hook failed"
#: Modules that one piece of code may name, and characters of a name: what a worker can
#: tell the director.
_MAX_REQUIRES = 1000
_MAX_NAME = 255

#: A version in the shadow of the one that a request gets: the request for the report, the
#: version, what it saw, and whether it would have made a difference.
_Shaded = tuple[str, Loaded, HookRequest, bool]


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
        #: The marks of versions that must not be run, loaded or not.
        self._suspended: set[int] = set()
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
        self._suspended &= {
            mark_of(hook.path, code)
            for hook in hooks.values()
            for code in (hook.active, hook.previous, hook.staged)
            if code is not None
        }
        stages = {}
        for hook in hooks.values():
            if hook.is_script:
                stage = self._stage(hook, modules[hook.language], before)
                if stage.versions():
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
        if hook.shadow:
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
        found = self._loaded.get(key)
        if found is not None:
            return found
        found = before.get(key)
        if found is None:
            found = self._load_anew(hook, code, modules)
        elif found.script is None or found.modules != module_versions(
            {*found.modules, *used_modules(code, modules)}, modules
        ):
            known = found
            if known.script is not None or known.modules != module_versions(modules, modules):
                # What it did with the former modules is not held against it.
                self._failures.forget(known.mark)
                self._suspended.discard(known.mark)
            found = self._load_anew(hook, code, modules)
            found.stats = known.stats
        self._loaded[key] = found
        return found

    def _load_anew(self, hook: Hook, code: Code, modules: Mapping[str, Code]) -> Loaded:
        script: Script | None = None
        error = ""
        mark = mark_of(hook.path, code)
        if mark in self._suspended:
            # Not even loaded: a worker may have met its end in that.
            found = Loaded(hook.path, code, None, "", module_versions(modules, modules))
            found.suspended = True
            return found
        sources = {name: module.code for name, module in modules.items()}
        self._mark[0] = mark
        try:
            script = self.engine(hook.language).load(hook.name, code.code, sources)
        except ConfigError as problem:
            error = str(problem)
        except Exception as problem:
            # An engine's own mistake must not keep the others from being loaded.
            _log.failure("{path} could not be loaded", path=hook.path)
            error = f"{hook.name}: could not be loaded: {type(problem).__name__}"
        finally:
            self._mark[0] = 0
        if error:
            _log.error("{path} is not in service: {error}", path=hook.path, error=error)
            # Whatever module it may have needed: a change of any is another chance.
            return Loaded(hook.path, code, None, error, module_versions(modules, modules))
        assert script is not None
        used = {**module_versions(script.requires, modules), **used_modules(code, modules)}
        return Loaded(hook.path, code, script, "", used)

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
        if len(requires) > _MAX_REQUIRES or any(len(one) > _MAX_NAME for one in requires):
            raise ScriptError(
                f"{name}: expected at most {_MAX_REQUIRES} modules, with names of at most"
                f" {_MAX_NAME} characters"
            )
        if modules is not None:
            engine.load(name, code, modules).close()
        return requires

    def suspend(self, mark: int) -> None:
        """Do not run a version any more: it failed too often, here or elsewhere."""
        self._suspended.add(mark)
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
        context = self._shade(stage, hooked) if stage.shadow is not None else None
        if loaded is None:
            # No version is in service for it, so a shadow is compared with none.
            if context is not None:
                untouched = seen_request(request, {}, hooked.upstream)
                self._compare(stage, request, hooked.upstream, context, untouched)
            return False
        seen = None
        while loaded is not None:
            seen = self._see(loaded, request, hooked.context, hooked.upstream)
            if seen is not None:
                break
            loaded = self._instead(stage, loaded)
        shaded = None
        if context is not None:
            shaded = self._compare(stage, request, hooked.upstream, context, seen)
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
        if shaded is not None or (script is not None and script.on_replies):
            hooked.scripts.append((stage, loaded, seen, shaded))
            hooked.sees_reply = True
        return False

    def _see(
        self,
        loaded: Loaded | None,
        request: Request,
        context: dict[str, Any],
        upstream: str | None,
        stats: CallStats | None = None,
    ) -> HookRequest | None:
        """Run one version for a request; ``None`` if it cannot be, or fails."""
        script = None if loaded is None else loaded.runs
        if loaded is None or script is None:
            return None
        seen = seen_request(request, context, upstream)
        if not script.on_requests:
            return seen
        before = context.copy() if context else None
        stats = loaded.stats if stats is None else stats
        mark = self._mark
        mark[0] = loaded.mark
        began = perf_counter_ns()
        try:
            script.on_request(seen)
        except HookFailure as failure:
            self._failed(loaded, failure, stats)
        except Exception as error:
            self._broken(loaded, error, stats)
        else:
            return seen
        finally:
            mark[0] = 0
            stats.took(perf_counter_ns() - began)
        _restore(context, before)
        return None

    def _instead(self, stage: Stage, failed: Loaded) -> Loaded | None:
        """The version to run when one has failed: that in service instead of a canary,
        and then, if the hook wants that, the one before."""
        if failed is stage.canary and failed is not stage.active:
            return stage.active
        return stage.previous if failed is not stage.previous else None

    def _answer(self, answer: Answer, request: Request, hooked: Hooked) -> bool:
        hooked.answer, hooked.body = make_reply(answer, request.get_header("accept"))
        return True

    # Shadows.

    def _shade(self, stage: Stage, hooked: Hooked) -> dict[str, Any] | None:
        """The context for a shadow, if that is to see this request."""
        if stage.shadow is None or stage.shadow.runs is None:
            return None
        if not self._sampler.take(self._seconds()):
            return None
        return shadow.copied(hooked.context)

    def _compare(
        self,
        stage: Stage,
        request: Request,
        upstream: str | None,
        context: dict[str, Any],
        seen: HookRequest | None,
    ) -> _Shaded | None:
        """Run a shadow for a request beside what the version in service has ``seen`` of it;
        answers what it needs for the reply, if it is to see that."""
        loaded, comparison = stage.shadow, stage.comparison
        before = comparison.stats.nanoseconds
        staged = self._see(loaded, request, context, upstream, comparison.stats)
        self._sampler.took(comparison.stats.nanoseconds - before)
        what = f"{request.method} {request.host}{request.target.decode('latin-1')}"
        differs = comparison.note(
            what, shadow.request_decision(seen), shadow.request_decision(staged)
        )
        if loaded is None or loaded.script is None or staged is None or staged.answer is not None:
            return None
        return (what, loaded, staged, differs) if loaded.script.on_replies else None

    def _compare_reply(
        self,
        stage: Stage,
        shaded: _Shaded,
        request: HookRequest,
        seen: HookResponse | None,
        reply: Reply,
    ) -> None:
        """The same for a reply; nothing of what was done to it is applied yet."""
        what, loaded, staged_request, differs = shaded
        comparison = stage.comparison
        before = comparison.stats.nanoseconds
        staged = self._see_reply(loaded, staged_request, reply, comparison.stats)
        self._sampler.took(comparison.stats.nanoseconds - before)
        comparison.note_reply(
            what,
            shadow.response_decision(request, seen),
            shadow.response_decision(staged_request, staged),
            differs,
        )

    # Replies.

    def reply(self, hooked: Hooked, reply: Reply) -> tuple[Reply, bytes] | None:
        """Show a reply to the scripts that saw its request, the last one first."""
        for stage, loaded, request, shaded in reversed(hooked.scripts):
            seen = self._see_reply(loaded, request, reply, loaded.stats)
            if shaded is not None:
                self._compare_reply(stage, shaded, request, seen, reply)
            if seen is None:
                if stage.on_error == "continue":
                    continue
                return make_reply(Answer(500, _BROKEN), request.headers.get("accept"))
            if request.answer is not None:
                return make_reply(request.answer, request.headers.get("accept"))
            apply_reply(seen, reply)
        return None

    def _see_reply(
        self, loaded: Loaded, request: HookRequest, reply: Reply, stats: CallStats
    ) -> HookResponse | None:
        # Not ``runs``: a request ends with the version that it began with.
        script = loaded.script
        assert script is not None
        seen = seen_reply(reply)
        if not script.on_replies:
            return seen
        context = request.context
        before = context.copy() if context else None
        mark = self._mark
        mark[0] = loaded.mark
        began = perf_counter_ns()
        try:
            script.on_response(request, seen)
        except HookFailure as failure:
            self._failed(loaded, failure, stats)
        except Exception as error:
            self._broken(loaded, error, stats)
        else:
            return seen
        finally:
            mark[0] = 0
            stats.took(perf_counter_ns() - began)
        _restore(context, before)
        return None

    # Failures.

    def _broken(self, loaded: Loaded, error: Exception, stats: CallStats) -> None:
        """The engine raised what it must not: a mistake of ours, told in full."""
        _log.failure("{path}: the engine failed", path=loaded.path)
        self._failed(loaded, HookFailure("error", f"{type(error).__name__}"), stats)

    def _failed(self, loaded: Loaded, failure: HookFailure, stats: CallStats) -> None:
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
        #: Those that want to see the reply, with what each saw of the request, and its
        #: shadow.
        self.scripts: list[tuple[Stage, Loaded, HookRequest, _Shaded | None]] = []

    def reply(self, reply: Reply) -> tuple[Reply, bytes] | None:
        """See :class:`slardar.http1.sides.HookedRequest`."""
        return self._runner.reply(self, reply)


def _restore(context: dict[str, Any], before: dict[str, Any] | None) -> None:
    """What a hook that failed has put into the context is gone."""
    context.clear()
    if before is not None:
        context.update(before)
