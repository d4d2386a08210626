"""The director's view of the hooks in its workers: counters, failures, suspensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from twisted.logger import Logger

from slardar.hooks.failures import FailureWindow
from slardar.hooks.loaded import mark_of, used_modules
from slardar.hooks.report import HookReport, HookTally, ShadowReport
from slardar.model.hook import Code, Hook, HookKey

__all__ = ["HookWatch"]

_log = Logger("slardar.workers")


class HookWatch:
    """Adds up what all workers say of hooks, and decides for all of them.

    ``suspend(mark)`` tells every worker not to run a version any more;
    ``seconds()`` is a clock that only grows.
    """

    def __init__(self, seconds: Callable[[], float], suspend: Callable[[int], None]) -> None:
        self._seconds = seconds
        self._suspend = suspend
        self._failures = FailureWindow()
        #: The versions there are, by mark; and the modules that each uses, with their
        #: versions.
        self._paths: dict[int, str] = {}
        self._modules: dict[int, dict[str, str]] = {}
        self._suspended: set[int] = set()
        self.tally = HookTally()

    @property
    def suspended(self) -> tuple[int, ...]:
        """The versions that no worker is to run."""
        return tuple(sorted(self._suspended))

    def set_hooks(self, hooks: Mapping[HookKey, Hook]) -> None:
        """These are the hooks from now on; what is known of others is forgotten, and what
        scripts have done with other modules than those of now is not held against them."""
        modules: dict[str, dict[str, Code]] = {"lua": {}, "python": {}}
        for hook in hooks.values():
            if not hook.is_script and hook.active is not None:
                modules[hook.language][hook.name] = hook.active
        before = self._modules
        self._paths, self._modules = {}, {}
        for hook in hooks.values():
            for code in (hook.active, hook.previous, hook.staged):
                if code is not None:
                    mark = mark_of(hook.path, code)
                    self._paths[mark] = hook.path
                    used = self._modules[mark] = used_modules(code, modules[hook.language])
                    if before.get(mark, used) != used:
                        self._suspended.discard(mark)
                        self._failures.forget(mark)
        self._suspended &= set(self._paths)
        self._failures.keep(set(self._paths))
        self.tally.keep({(path, mark) for mark, path in self._paths.items()})

    def reported(self, worker: int, reports: Iterable[HookReport | ShadowReport]) -> None:
        """A worker has reported; only what it says of versions that there are counts."""
        self.tally.take(worker, [one for one in reports if self._paths.get(one.mark) == one.path])

    def failed(self, mark: int) -> None:
        """A version has failed in some worker."""
        if mark in self._paths and self._failures.note(mark, self._seconds()):
            self._put_out(mark, "it failed too often")

    def worker_ended(self, worker: int, running: int, hung: bool) -> None:
        """A worker has ended, and its last note was that it ran version ``running``.

        One that hung or crashed (``hung``) did so in the hook, which must not do the same
        to the next worker; one that was killed may have met its end there by chance.
        """
        self.tally.worker_ended(worker)
        if running not in self._paths:
            return
        if hung:
            self._put_out(running, "a worker ended in it")
        else:
            self.failed(running)

    def _put_out(self, mark: int, reason: str) -> None:
        if mark not in self._suspended:
            self._suspended.add(mark)
            _log.error(
                "{path} is suspended everywhere: {reason}", path=self._paths[mark], reason=reason
            )
            self._suspend(mark)
