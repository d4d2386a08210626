"""The director's view of the hooks in its workers: counters, failures, suspensions."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from twisted.logger import Logger

from slardar.hooks.report import HookReport, HookTally, ShadowReport
from slardar.hooks.suspensions import Suspensions
from slardar.model.hook import Hook, HookKey

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
        self._suspensions = Suspensions()
        self.tally = HookTally()
        #: Shown as suspended at once, before any worker has said so.
        self.tally.suspended = self._suspensions.marks
        self.tally.reasons = self._suspensions.reasons

    @property
    def suspended(self) -> tuple[int, ...]:
        """The versions that no worker is to run."""
        return tuple(sorted(self._suspensions.marks))

    @property
    def reasons(self) -> dict[int, str]:
        """Why, for some of them."""
        return dict(self._suspensions.reasons)

    @property
    def refused(self) -> dict[int, str]:
        """The versions that no worker is even to load, and why."""
        return dict(self._suspensions.refused)

    def refuse(self, reasons: Mapping[int, str]) -> None:
        """Let no worker load these; said before the hooks are."""
        self._suspensions.refused.update(reasons)

    def set_hooks(self, hooks: Mapping[HookKey, Hook]) -> None:
        """These are the hooks from now on; what is known of others is forgotten."""
        self._suspensions.set_hooks(hooks)
        self.tally.keep({(path, mark) for mark, path in self._suspensions.paths.items()})

    def reported(self, worker: int, reports: Iterable[HookReport | ShadowReport]) -> None:
        """A worker has reported; only what it says of versions that there are counts."""
        paths = self._suspensions.paths
        self.tally.take(worker, [one for one in reports if paths.get(one.mark) == one.path])

    def failed(self, mark: int) -> None:
        """A version has failed in some worker."""
        known = mark in self._suspensions.paths
        if known and self._suspensions.failed(mark, self._seconds()):
            self._put_out(mark, "it failed too often")

    def heavy(self, mark: int, reason: str) -> None:
        """A worker has suspended a version for what it holds."""
        suspensions = self._suspensions
        if mark in suspensions.paths and mark not in suspensions.marks:
            suspensions.reasons[mark] = reason
            self._put_out(mark, reason)

    def worker_ended(self, worker: int, running: int, hung: bool) -> None:
        """A worker has ended, and its last note was that it ran version ``running``.

        One that hung or crashed (``hung``) did so in the hook, which must not do the same
        to the next worker; one that was killed may have met its end there by chance.
        """
        self.tally.worker_ended(worker)
        if running not in self._suspensions.paths:
            return
        if hung:
            self._put_out(running, "a worker ended in it")
        else:
            self.failed(running)

    def _put_out(self, mark: int, reason: str) -> None:
        suspensions = self._suspensions
        if mark not in suspensions.marks:
            suspensions.marks.add(mark)
            path = suspensions.paths[mark]
            _log.error("{path} is suspended everywhere: {reason}", path=path, reason=reason)
            self._suspend(mark)
