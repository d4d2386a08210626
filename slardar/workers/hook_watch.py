"""The director's view of the hooks in its workers: counters, failures, suspensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from twisted.logger import Logger

from slardar.events import Publish, ignore
from slardar.hooks.report import TOO_OFTEN, HookReport, HookTally, ShadowReport
from slardar.hooks.states import HookStates
from slardar.hooks.suspensions import Suspensions
from slardar.model.hook import Hook, HookKey

__all__ = ["HookWatch"]

_log = Logger("slardar.workers")


class HookWatch:
    """Adds up what the workers report of hooks, and decides which versions are suspended.

    ``suspend(mark)`` tells every worker to stop running a version;
    ``seconds()`` is a monotonic clock; ``publish`` is told of failures and suspensions.
    """

    def __init__(
        self,
        seconds: Callable[[], float],
        suspend: Callable[[int], None],
        publish: Publish = ignore,
    ) -> None:
        self._seconds = seconds
        self._states = HookStates(publish)
        self._suspend = suspend
        self._suspensions = Suspensions()
        self.tally = HookTally()
        # Status shows a version as suspended at once, before any worker reports it.
        self.tally.suspended = self._suspensions.marks
        self.tally.reasons = self._suspensions.reasons

    @property
    def suspended(self) -> tuple[int, ...]:
        """The versions that no worker may run."""
        return tuple(sorted(self._suspensions.marks))

    @property
    def reasons(self) -> dict[int, str]:
        """Why they are suspended, for some of them."""
        return dict(self._suspensions.reasons)

    @property
    def refused(self) -> dict[int, str]:
        """The versions that no worker may load, and why."""
        return dict(self._suspensions.refused)

    def refuse(self, reasons: Mapping[int, str]) -> None:
        """Let no worker load these versions.  To be called before :meth:`set_hooks`."""
        self._suspensions.refused.update(reasons)

    def set_hooks(self, hooks: Mapping[HookKey, Hook]) -> None:
        """Replace the hooks; what is known of hooks that are gone is forgotten."""
        self._suspensions.set_hooks(hooks)
        self._states.keep(self._suspensions.marks)
        self.tally.keep({(path, mark) for mark, path in self._suspensions.paths.items()})

    def reported(self, worker: int, reports: Iterable[HookReport | ShadowReport]) -> None:
        """A worker has reported; reports on versions that do not exist are ignored."""
        paths = self._suspensions.paths
        known = [one for one in reports if paths.get(one.mark) == one.path]
        self.tally.take(worker, known)
        self._states.reported(known)

    def failed(self, mark: int) -> None:
        """A version has failed in a worker."""
        path = self._suspensions.paths.get(mark)
        if path is None:
            return
        self._states.call_failed(path)
        if self._suspensions.failed(mark, self._seconds()):
            self._suspend_everywhere(mark, TOO_OFTEN)

    def heavy(self, mark: int, reason: str) -> None:
        """A worker has suspended a version because it holds too much memory."""
        suspensions = self._suspensions
        if mark in suspensions.paths and mark not in suspensions.marks:
            suspensions.reasons[mark] = reason
            self._suspend_everywhere(mark, reason)

    def worker_ended(self, worker: int, running: int, hung: bool) -> None:
        """A worker has ended while it ran version ``running`` (0: none).

        ``hung``: the worker hung or crashed in this version, which is suspended before it
        ends the next worker.  A worker that was killed for another reason may have run the
        version by chance: the version counts as failed once.
        """
        self.tally.worker_ended(worker)
        if running not in self._suspensions.paths:
            return
        if hung:
            self._suspend_everywhere(running, "a worker ended in it")
        else:
            self.failed(running)

    def _suspend_everywhere(self, mark: int, reason: str) -> None:
        suspensions = self._suspensions
        if mark not in suspensions.marks:
            suspensions.marks.add(mark)
            path = suspensions.paths[mark]
            _log.error("{path} is suspended everywhere: {reason}", path=path, reason=reason)
            self._states.suspended(mark, path, reason)
            self._suspend(mark)
