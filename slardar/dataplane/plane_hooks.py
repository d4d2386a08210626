"""The hooks of one data plane: what runs them, who looks at their code, what they hold."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from twisted.internet import defer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from slardar.config import Hooks
from slardar.dataplane.poller import Poller
from slardar.errors import NotReadyError
from slardar.events import Publish, ignore
from slardar.hooks.checker import Item
from slardar.hooks.checking import Checker, NoCheckError
from slardar.hooks.loaded import Loaded
from slardar.hooks.memory import LOOK, Limits, MemoryWatch, limits_of
from slardar.hooks.rehearsal import Rehearsal
from slardar.hooks.report import HookReport, ShadowReport
from slardar.hooks.runner import Runner
from slardar.hooks.states import HookStates
from slardar.http1.request import Request
from slardar.model.hook import Hook, HookKey

__all__ = ["HookMemory", "PlaneHooks"]

_log = Logger("slardar.dataplane")


class HookMemory(NamedTuple):
    """How much the hooks of a worker may hold, who is told, and whether the kernel
    enforces it (see :class:`slardar.hooks.memory.MemoryWatch`)."""

    limits: Limits
    suspended: Callable[[int, str], None]
    grown: Callable[[], None]
    has_wall: bool = False


class PlaneHooks:
    """Runs the hooks of one data plane.

    ``route(host, path)`` gives the name of the upstream that routes and Host lead to.
    ``buffered()`` gives the bytes in the buffers of connections, which takes long to find
    out; ``expected()`` the bytes that connections without their buffers, requests and the
    configuration account for.  ``make_runner`` is for a process with engines of its own;
    without it a process that serves nobody looks at code, and ``publish`` is told of failures
    and suspensions.
    """

    def __init__(
        self,
        reactor: Any,
        poller: Poller,
        settings: Hooks,
        route: Callable[[str, str], str | None],
        buffered: Callable[[], int],
        expected: Callable[[], int],
        make_runner: Callable[[Hooks], Runner] | None = None,
        memory: HookMemory | None = None,
        publish: Publish = ignore,
    ) -> None:
        self._states = HookStates(publish)
        self._reactor = reactor
        self._poller = poller
        self._settings = settings
        self._route = route
        self._buffered = buffered
        self._expected = expected
        self.make_runner = make_runner
        #: What runs hooks, once there have been any.
        self.runner: Runner | None = None
        #: Looks at code; ``None`` where hooks run in engines of the process's own.
        self.checker = Checker(reactor, settings) if make_runner is None else None
        #: What hooks read as settings, as JSON texts by name.
        self._values: Mapping[str, str] = {}
        self._known = memory
        #: Watches what hooks hold, once there have been any.
        self._memory: MemoryWatch | None = None
        self._looks = LoopingCall(self._look_at_memory)
        self._looks.clock = reactor
        #: Bytes in the buffers of connections, at the last look.
        self._buffers = 0
        #: The most bytes that engines have ever had within limits of their own.
        self._engines_held = 0
        self._is_stopping = False

    # What runs them.

    def take(self, hooks: Mapping[HookKey, Hook]) -> Runner | None:
        """Run these hooks from now on; answers what runs them, or ``None`` if there are none.

        Raises ConfigError if this process cannot run any.
        """
        if self.runner is None and not hooks:
            return None
        runner = self.get_runner()
        if self._memory is None:
            try:
                self._watch_memory(runner)
            except OSError as error:
                _log.warn("what hooks hold is not limited: {error}", error=error)
        has_scripts = runner.load(hooks)
        if self.make_runner is None:
            reports = list(runner.reports())
            self._states.keep({one.mark for one in reports})
            self._states.reported(reports)
        return runner if has_scripts else None

    def take_settings(self, settings: Mapping[str, str], hooks: Mapping[HookKey, Hook]) -> None:
        """Let the hooks, which stay as they are loaded, read these settings from now on.

        One of ``hooks``, those in service, that could not be loaded is tried again.
        """
        self._values = settings
        runner = self.runner
        if runner is not None and runner.take_settings(settings):
            self.take(hooks)

    def _call_failed(self, loaded: Loaded) -> None:
        """A call of a hook of this process has failed."""
        self._states.call_failed(loaded.path)
        if loaded.suspended:
            self._states.suspended(loaded.mark, loaded.path, loaded.error)

    def get_runner(self) -> Runner:
        """What runs hooks, made when it is first needed.

        Raises ConfigError if this process cannot run any.
        """
        if self.runner is None:
            if self.make_runner is not None:
                self.runner = self.make_runner(self._settings)
            else:
                self.runner = Runner(self._settings, self._reactor.seconds, self._call_failed)
            self.runner.route = self._route
            self.runner.take_settings(self._values)
        return self.runner

    def suspend(self, mark: int, reason: str) -> None:
        """Do not run the version with this mark any more, nor load it if it is not yet."""
        self.get_runner().suspend(mark, reason)
        if reason and self._memory is not None:
            self._memory.collect()

    def refuse(self, reasons: Mapping[int, str]) -> None:
        """Do not load the versions with these marks, for these reasons."""
        if reasons:
            self.get_runner().refuse(reasons)

    def reports(self) -> Iterator[HookReport | ShadowReport]:
        """The counters of every script there is."""
        return iter(()) if self.runner is None else self.runner.reports()

    def rehearsal(self, hooks: Mapping[HookKey, Hook], request: Request) -> Rehearsal | None:
        """Copies of those of ``hooks`` that see ``request``; ``None`` if none does."""
        runner = self.runner
        if runner is None or not runner.sees(request):
            return None
        return Rehearsal(runner, hooks.values(), request)

    def seen_by(self, host: str) -> list[str]:
        """The paths of the scripts that see the requests for a host, in their order."""
        return [] if self.runner is None else self.runner.paths(host)

    # Their code.

    def check(
        self,
        language: str,
        name: str,
        code: str,
        modules: Mapping[str, str] | None,
        settings: Mapping[str, str],
    ) -> defer.Deferred[tuple[str, ...]]:
        """Whether code is fit to be a hook; see ``IPlane.check_hook``.

        Where hooks run in engines of the process's own, it reads the present settings.
        """
        if self.checker is None:
            return defer.maybeDeferred(self._check_here, language, name, code, modules)
        known = None if modules is None else dict(modules)
        item = Item(language, name, code, known, dict(settings))
        return defer.ensureDeferred(self._check(self.checker, item))

    async def _check(self, checker: Checker, item: Item) -> tuple[str, ...]:
        # If no hook of this language can run here, this one cannot.
        self.get_runner().engine(item.language)
        try:
            return await checker.check_one(item)
        except NoCheckError as error:
            if self._is_stopping or checker.has_answered:
                raise NotReadyError(str(error)) from None
            # No process can be started here: do as a program does that has no other.
            _log.warn("code is looked at by the process that serves: {error}", error=error)
        return self._check_here(item.language, item.name, item.code, item.modules)

    def _check_here(
        self, language: str, name: str, code: str, modules: Mapping[str, str] | None
    ) -> tuple[str, ...]:
        return self.get_runner().check(language, name, code, modules)

    async def check_stored(self, hooks: Mapping[HookKey, Hook]) -> None:
        """Refuse those that cannot be loaded; see ``IPlane.check_stored``."""
        if self.checker is None:
            return
        try:
            self.refuse(await self.checker.find_dangerous(hooks))
        except NoCheckError as error:
            _log.warn("the hooks of the store are loaded unseen: {error}", error=error)

    # What they hold.

    def _watch_memory(self, runner: Runner) -> None:
        """Note what the process has now, which is no hook's, and look at it from now on."""
        known = self._known
        self._buffers = self._buffered()
        if known is None:
            # This process is another program's, or there is none to replace it.
            memory = MemoryWatch(limits_of(1), self._expected_memory, self._suspend_heavy)
        else:
            memory = MemoryWatch(
                known.limits,
                self._expected_memory,
                runner.suspend,
                known.suspended,
                known.grown,
                known.has_wall,
            )
        self._memory = memory
        runner.watch(memory)
        self._poller.out_of_memory = memory.ran_out
        self._looks.start(LOOK)

    def _suspend_heavy(self, mark: int, reason: str = "") -> None:
        """A version holds too much."""
        self.get_runner().suspend(mark, reason)
        self._states.reported(self.reports())

    def _look_at_memory(self) -> None:
        assert self._memory is not None
        try:
            self._buffers = self._buffered()
            self._memory.look()
        except MemoryError:
            self._memory.ran_out()

    def _expected_memory(self) -> int:
        """Bytes that are not hooks', and those that an engine has a limit of its own for."""
        if self.runner is not None:
            # An engine keeps for the next script what it has had once.
            self._engines_held = max(self._engines_held, self.runner.held)
        return self._engines_held + self._buffers + self._expected()

    # The end.

    def stop_checking(self) -> None:
        """Look at no more code: the plane is about to stop."""
        self._is_stopping = True
        if self.checker is not None:
            self.checker.stop()

    def stop(self) -> None:
        """Watch what hooks hold no more."""
        if self._looks.running:
            self._looks.stop()
