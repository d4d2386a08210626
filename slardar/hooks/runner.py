"""Runs the hooks of one data plane: for each request those of every host, then its host's.

A hook writes to objects of its own, and the changes are applied when the hook has ended
well.  A hook that fails half-way leaves nothing behind; its ``on_error`` says what becomes
of the request.  After five failures in a minute a hook is suspended: it does not run any
more, and each of its requests is treated as if the hook had failed.  So a rule that
protects something does not let requests pass because it is broken.

This file is long because a request, its reply and their shadows run hooks by the same
rules for time, memory and failures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter_ns
from typing import Any, Final

from msgspec.structs import replace
from twisted.logger import Logger

from slardar.config import Hooks
from slardar.hooks import shadow
from slardar.hooks.budget import NOTICED
from slardar.hooks.call_note import CallNote
from slardar.hooks.effects import (
    apply_reply,
    apply_request,
    make_reply,
    seen_reply,
    seen_request,
)
from slardar.hooks.engine import Engine, Log
from slardar.hooks.engines import MakeEngine, make_engine
from slardar.hooks.loaded import Loaded, Pressure, ScriptVersions
from slardar.hooks.loading import Loader
from slardar.hooks.logs import HookLog
from slardar.hooks.memory import MemoryWatch
from slardar.hooks.notices import Checked
from slardar.hooks.objects import HookAnswer, HookRequest, HookResponse
from slardar.hooks.report import HookReport, ShadowReport, reports_of
from slardar.hooks.script import HookFailure, Script
from slardar.hooks.settings import HookSettings
from slardar.hooks.stats import CallStats
from slardar.hooks.suspensions import Suspensions
from slardar.http1.bodies import SeenBody
from slardar.http1.interfaces import HookedRequest, HooksBase
from slardar.http1.reply import Reply
from slardar.http1.request import Request
from slardar.model.hook import Hook, HookKey

__all__ = ["Runner"]

_log = Logger("slardar.hooks")

#: Bound here, so that the compiled code does not look them up each time.
_now: Final = perf_counter_ns
_noticed: Final = NOTICED

#: All that a client is told if a broken hook has stopped its request.
_BROKEN = "a hook failed"

#: A shadow that has seen a request: the request's line for the report, the shadow's version,
#: the request as the shadow left it, and whether its decision differed.
_Shaded = tuple[str, Loaded, HookRequest, bool]


class Runner(HooksBase):
    """The hooks of one process.

    ``seconds()`` is a monotonic clock.  ``failed(loaded)`` is called after each failure of a
    hook.  ``note`` tells another process what runs; by default nobody is told.
    ``log(level, text)`` writes a line that a hook logs, or that is about a failed call; by
    default it goes to slardar's log.  ``values`` are the settings that hooks read.
    """

    def __init__(
        self,
        hooks: Hooks,
        seconds: Callable[[], float],
        failed: Callable[[Loaded], None] | None = None,
        note: CallNote | None = None,
        engines: MakeEngine = make_engine,
        log: Log | None = None,
        values: HookSettings | None = None,
    ) -> None:
        self._settings = hooks
        #: The settings that hooks read.
        self.values = HookSettings() if values is None else values
        self._engines = engines
        self._seconds = seconds
        self._tell = failed
        self._note = note
        self._write: Log = HookLog(seconds).write if log is None else log
        self._suspensions = Suspensions()
        self._loader = Loader(hooks, self._suspensions, note, engines, self._write, self.values)
        #: The scripts for each host that has some of its own, in the order in which they run.
        self._by_host: dict[str, tuple[ScriptVersions, ...]] = {}
        #: The scripts for the hosts that have none of their own.
        self._others: tuple[ScriptVersions, ...] = ()
        #: The hosts in ``_by_host`` that have a script that may read bodies, and whether
        #: ``_others`` has one.
        self._readers: frozenset[str] = frozenset()
        self._others_read = False
        #: ``route(host, path)`` returns the name of the upstream that host and path lead to,
        #: or ``None``; the data plane sets it.
        self.route: Any = None
        #: Watches the memory; ``_pressure`` tells each call whether memory is short.
        self._memory: MemoryWatch | None = None
        self._pressure = Pressure()
        self._sampler = shadow.Sampler()
        #: A ``Hooked`` that nobody holds, for the next request.
        self._unused: Hooked | None = None

    def watch(self, memory: MemoryWatch) -> None:
        """Let ``memory`` watch what calls add."""
        self._memory = self._loader.memory = memory
        self._pressure = memory.pressure

    # Loading.

    def load(self, hooks: Mapping[HookKey, Hook]) -> bool:
        """Run ``hooks`` from now on.  Returns whether there is any script to run.

        A version that is loaded already stays as it is, unless a module that it uses has
        changed.  A version that cannot be loaded is logged, and fails for each request.
        """
        self._loader.load(hooks)
        # The scripts of every host come first, and Lua before Python (a path begins with the
        # language).
        scripts = sorted(self._loader.scripts.values(), key=lambda versions: versions.path)
        general = tuple(versions for versions in scripts if versions.host == "*")
        hosts = {versions.host for versions in scripts} - {"*"}
        self._by_host = {
            host: general + tuple(versions for versions in scripts if versions.host == host)
            for host in hosts
        }
        self._others = general
        self._readers = frozenset(
            host for host, scripts in self._by_host.items() if _read_bodies(scripts)
        )
        self._others_read = _read_bodies(general)
        return bool(scripts)

    def take_settings(self, settings: Mapping[str, str]) -> bool:
        """Let hooks read these settings from now on, as JSON texts by name.

        Returns whether a version could not be loaded, which may be because it asked for a setting
        while it was loaded: :meth:`load` tries it again.
        """
        self._loader.take_settings(settings)
        return any(
            loaded.script is None
            for versions in self._loader.scripts.values()
            for loaded in versions.all()
        )

    def engine(self, language: str) -> Engine:
        """The engine of a language, which is made when it is first asked for."""
        return self._loader.engine(language)

    def check(
        self, language: str, name: str, code: str, modules: Mapping[str, str] | None
    ) -> Checked:
        """See :meth:`slardar.hooks.loading.Loader.check`."""
        return self._loader.check(language, name, code, modules)

    @property
    def held(self) -> int:
        """See :attr:`slardar.hooks.loading.Loader.held`."""
        return self._loader.held

    def suspend(self, mark: int, reason: str = "") -> None:
        """Do not run the version with this mark any more.

        Without a ``reason`` the version failed too often, here or in another process.
        """
        self._loader.suspend(mark, reason)

    def refuse(self, reasons: Mapping[int, str]) -> None:
        """See :meth:`slardar.hooks.loading.Loader.refuse`."""
        self._loader.refuse(reasons)

    def reports(self) -> Iterator[HookReport | ShadowReport]:
        """The counters of every version of every script."""
        return reports_of(self._loader.scripts.values())

    # Requests.

    def sees(self, request: Request) -> bool:
        """See :class:`slardar.http1.interfaces.HooksBase`."""
        return bool(self._others) or request.host in self._by_host

    def paths(self, host: str) -> list[str]:
        """The paths of the scripts that see the requests for a host, in their order."""
        return [versions.path for versions in self._by_host.get(host, self._others)]

    def request(self, request: Request) -> HookedRequest | None:
        """See :class:`slardar.http1.interfaces.HooksBase`."""
        scripts = self._others
        if self._by_host:
            scripts = self._by_host.get(request.host, scripts)
        if not scripts:
            return None
        hooked = self._unused
        if hooked is None:
            hooked = Hooked(self)
        else:
            self._unused = None
        for versions in scripts:
            if self._show_request(versions, request, hooked):
                break
        if (
            hooked.answer is None
            and hooked.upstream is None
            and hooked.new_body is None
            and not hooked.sees_reply
            and not hooked.hook
        ):
            # The caller need not know more, so the object serves the next request.
            hooked.context = None
            self._unused = hooked
            return None
        return hooked

    def reads_body(self, request: Request) -> bool:
        """See :class:`slardar.http1.interfaces.HooksBase`."""
        if request.host in self._by_host:
            return request.host in self._readers
        return self._others_read

    def request_with(
        self, request: Request, body: SeenBody | None, upstream: str | None
    ) -> HookedRequest | None:
        """See :class:`slardar.http1.interfaces.HooksBase`."""
        hooked = Hooked(self)
        hooked.seen_body = body
        hooked.upstream = upstream
        for versions in self._by_host.get(request.host, self._others):
            if self._show_request(versions, request, hooked):
                break
        return hooked

    def understudy(self, hooks: Iterable[Hook], log: Log) -> Runner:
        """Another runner, which does with the next request what this one would do.

        It loads copies of these ``hooks`` (those in service here, or some of them).  What the
        copies keep, count and log is their own, and ``log`` gets their lines.  A version that is
        suspended or not loaded here is so there, too.  There are no shadows, which change nothing.
        """
        made = Runner(
            self._settings, self._seconds, None, self._note, self._engines, log, self.values
        )
        made.route = self.route
        copied = {hook.key: replace(hook, shadow=False) for hook in hooks}
        for versions in self._loader.scripts.values():
            for loaded in versions.all():
                if loaded.suspended:
                    made.suspend(loaded.mark, loaded.error)
                elif loaded.script is None:
                    made.refuse({loaded.mark: loaded.error})
        made.load(copied)
        for path, versions in made._loader.scripts.items():
            known = self._loader.scripts.get(path)
            if known is not None:
                versions.take_turn_of(known)
        return made

    def rehearse(
        self, request: Request, seen_by: Callable[[ScriptVersions, HookedRequest], None]
    ) -> HookedRequest:
        """As :meth:`request_with`, for a request without a body; tells who has seen it."""
        hooked = Hooked(self)
        for versions in self._by_host.get(request.host, self._others):
            is_answered = self._show_request(versions, request, hooked)
            seen_by(versions, hooked)
            if is_answered:
                break
        return hooked

    def _show_request(self, versions: ScriptVersions, request: Request, hooked: Hooked) -> bool:
        """Let one script see the request.  True if the client gets an answer, so that no
        further script sees the request."""
        loaded = versions.choose()
        context = self._shade(versions, hooked) if versions.shadow is not None else None
        if loaded is None:
            # No version is in service, so the shadow is compared with doing nothing.
            if context is not None:
                untouched = seen_request(request, None, hooked.upstream, hooked.seen_body)
                self._compare(versions, request, hooked, context, untouched)
            return False
        seen = None
        while loaded is not None:
            script = loaded.runs
            if script is not None:
                seen = seen_request(
                    request, hooked.context, hooked.upstream, hooked.seen_body, self.route
                )
                if not script.on_requests or self._call(
                    loaded, script, seen, None, hooked.context, loaded.stats
                ):
                    break
                seen = None
            loaded = self._instead(versions, loaded)
        shaded = None
        if context is not None:
            shaded = self._compare(versions, request, hooked, context, seen)
        if seen is None or loaded is None:
            hooked.hook = versions.path
            if versions.on_error == "continue":
                return False
            hooked.error = _BROKEN
            return self._answer(HookAnswer(500, _BROKEN), request, hooked)
        if seen.answer is not None:
            hooked.hook = versions.path
            return self._answer(seen.answer, request, hooked)
        apply_request(seen, request)
        written = seen.written
        if written:
            if "upstream" in written:
                hooked.upstream = seen.chosen_upstream
            if "body" in written:
                hooked.new_body = seen.body
                hooked.seen_body = SeenBody(hooked.new_body)
        script = loaded.script
        if shaded is not None or (script is not None and script.on_replies):
            # All scripts that see the reply share one context.
            hooked.context = seen.context
            hooked.scripts.append((versions, loaded, seen, shaded))
            hooked.sees_reply = True
        else:
            hooked.context = seen.known_context
        return False

    def _instead(self, versions: ScriptVersions, failed: Loaded) -> Loaded | None:
        """The version to run after ``failed`` has failed, or ``None``.

        After a canary it is the version in service, and after that the previous one if the
        hook's ``on_error`` is ``previous``.
        """
        if failed is versions.canary and failed is not versions.active:
            return versions.active
        return versions.previous if failed is not versions.previous else None

    def _answer(self, answer: HookAnswer, request: Request, hooked: Hooked) -> bool:
        hooked.answer, hooked.body = make_reply(answer, request.get_header("accept"))
        return True

    # Shadows.

    def _shade(self, versions: ScriptVersions, hooked: Hooked) -> dict[str, Any] | None:
        """The context for the shadow; ``None`` if the shadow does not see this request."""
        if versions.shadow is None or versions.shadow.runs is None:
            return None
        if not self._sampler.take(self._seconds()):
            return None
        return {} if hooked.context is None else shadow.copied(hooked.context)

    def _compare(
        self,
        versions: ScriptVersions,
        request: Request,
        hooked: Hooked,
        context: dict[str, Any],
        seen: HookRequest | None,
    ) -> _Shaded | None:
        """Run the shadow for a request, and compare it with ``seen``, the request as the
        version in service left it.

        Returns what the shadow needs for the reply; ``None`` if it does not see the reply.
        """
        loaded, comparison = versions.shadow, versions.comparison
        script = None if loaded is None else loaded.runs
        staged = None
        if loaded is not None and script is not None:
            staged = seen_request(request, context, hooked.upstream, hooked.seen_body, self.route)
            if script.on_requests and not self._call_shadow(
                loaded, script, staged, None, context, comparison.stats
            ):
                staged = None
        what = f"{request.method} {request.host}{request.raw_uri.decode('latin-1')}"
        differs = comparison.note(
            what, shadow.request_decision(seen), shadow.request_decision(staged)
        )
        if loaded is None or script is None or staged is None or staged.answer is not None:
            return None
        if not script.on_replies:
            return None
        return what, loaded, staged, differs

    def _compare_reply(
        self,
        versions: ScriptVersions,
        shaded: _Shaded,
        request: HookRequest,
        seen: HookResponse | None,
        reply: Reply,
        reason: str | None,
    ) -> None:
        """Run the shadow for the reply, and compare it with ``seen``, the reply as the version
        in service left it.

        The changes in ``seen`` must not be applied to ``reply`` yet.
        """
        what, loaded, staged_request, differs = shaded
        comparison = versions.comparison
        staged_request.went_to(request.chosen_upstream)
        script = loaded.script
        staged: HookResponse | None = seen_reply(reply, reason)
        if script is None or not self._call_shadow(
            loaded, script, staged_request, staged, staged_request.context, comparison.stats
        ):
            staged = None
        comparison.note_reply(
            what,
            shadow.response_decision(request, seen),
            shadow.response_decision(staged_request, staged),
            differs,
        )

    # Replies.

    def reply(self, hooked: Hooked, reply: Reply, reason: str | None) -> tuple[Reply, bytes] | None:
        """Show a reply to the scripts that saw its request, the last one first.

        ``reason`` says why slardar made the reply; ``None`` if a server made it.  Returns
        what the client gets instead, which no script sees.
        """
        for versions, loaded, request, shaded in reversed(hooked.scripts):
            request.went_to(hooked.upstream)
            # ``script`` and not ``runs``: a request ends with the version that it began with,
            # even if the version was suspended meanwhile.
            script = loaded.script
            seen: HookResponse | None = seen_reply(reply, reason)
            if script is None or (
                script.on_replies
                and not self._call(loaded, script, request, seen, request.context, loaded.stats)
            ):
                seen = None
            if shaded is not None:
                self._compare_reply(versions, shaded, request, seen, reply, reason)
            if seen is None:
                hooked.hook = versions.path
                if versions.on_error == "continue":
                    continue
                hooked.error = _BROKEN
                return make_reply(HookAnswer(500, _BROKEN), request.headers.get("accept"))
            if request.answer is not None:
                hooked.hook = versions.path
                return make_reply(request.answer, request.headers.get("accept"))
            apply_reply(seen, reply)
        return None

    # Calls.

    def _call(
        self,
        loaded: Loaded,
        script: Script,
        request: HookRequest,
        response: HookResponse | None,
        context: dict[str, Any] | None,
        stats: CallStats,
    ) -> bool:
        """Call a script for a request, or for the ``response`` to it.  False if it failed.

        A script that fails leaves ``context`` as it found it.  ``stats`` count the call; they
        are the version's, or those of the comparison if the script is a shadow.
        """
        before = context.copy() if context else None
        # Every call of a shadow is timed, since its share of the time is limited.
        is_timed = stats is not loaded.stats or stats.times_next
        note = self._note
        if note is not None:
            note.begin(loaded.mark)
        began = _now() if is_timed else 0
        try:
            if self._pressure.is_high and self._memory is not None:
                if response is None:
                    self._memory.run(loaded, script.on_request, request)
                else:
                    self._memory.run(loaded, script.on_response, request, response)
            elif response is None:
                script.on_request(request)
            else:
                script.on_response(request, response)
        except HookFailure as failure:
            self._failed(loaded, failure, stats)
        except Exception as error:
            self._broken(loaded, error, stats)
        else:
            return True
        finally:
            if note is not None:
                note.end()
            if is_timed:
                stats.took(_now() - began)
            else:
                stats.ended()
            if _noticed[0]:
                self._look()
        if context is not None:
            context.clear()
            if before is not None:
                context.update(before)
        return False

    def _call_shadow(
        self,
        loaded: Loaded,
        script: Script,
        request: HookRequest,
        response: HookResponse | None,
        context: dict[str, Any] | None,
        stats: CallStats,
    ) -> bool:
        """Call a shadow, and charge its time to the share that shadows have."""
        before = stats.nanoseconds
        ended_well = self._call(loaded, script, request, response, context, stats)
        self._sampler.took(stats.nanoseconds - before)
        return ended_well

    def _look(self) -> None:
        """Look at the memory after a call that has made much or taken long."""
        _noticed[0] = False
        if self._memory is not None:
            self._memory.look()

    # Failures.

    def _broken(self, loaded: Loaded, error: Exception, stats: CallStats) -> None:
        """The engine raised an exception that is no HookFailure.

        The engine has a bug, which is logged in full, or there was no memory left even to
        tell of it.
        """
        if isinstance(error, MemoryError):
            failure = HookFailure("memory", f"{loaded.path}: MemoryError")
            self._failed(loaded, failure, stats)
            return
        _log.failure("{path}: the engine failed", path=loaded.path)
        self._failed(loaded, HookFailure("error", f"{type(error).__name__}"), stats)

    def _failed(self, loaded: Loaded, failure: HookFailure, stats: CallStats) -> None:
        stats.errors += 1
        if stats is not loaded.stats:
            # The failure of a shadow shows in its report only.
            return
        self._write("error", f"{loaded.path}: {failure.message}")
        if self._suspensions.failed(loaded.mark, self._seconds()):
            self.suspend(loaded.mark)
        if self._tell is not None:
            self._tell(loaded)


class Hooked(HookedRequest):
    """A request that hooks have seen, kept until its reply."""

    __slots__ = ("_runner", "context", "scripts", "seen_body")

    def __init__(self, runner: Runner) -> None:
        super().__init__()
        self._runner = runner
        #: The dict that the hooks of this request share; ``None`` until one asks.
        self.context: dict[str, Any] | None = None
        #: The request's body as hooks see it.  ``None`` if the body was not waited for and no
        #: hook has made one.
        self.seen_body: SeenBody | None = None
        #: The scripts that see the reply: each with the version, the request as the version
        #: left it, and the shadow.
        self.scripts: list[tuple[ScriptVersions, Loaded, HookRequest, _Shaded | None]] = []

    def reply(self, reply: Reply) -> tuple[Reply, bytes] | None:
        """See :class:`slardar.http1.interfaces.HookedRequest`."""
        return self._runner.reply(self, reply, None)

    def own_reply(self, reply: Reply, reason: str) -> tuple[Reply, bytes] | None:
        """See :class:`slardar.http1.interfaces.HookedRequest`."""
        return self._runner.reply(self, reply, reason)


def _read_bodies(scripts: tuple[ScriptVersions, ...]) -> bool:
    """Whether any version of ``scripts`` may read the body of a request."""
    return any(
        loaded.script is not None and loaded.script.reads_body
        for versions in scripts
        for loaded in versions.all()
    )
