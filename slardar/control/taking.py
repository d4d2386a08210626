"""Changes that nobody asked for: what has come from outside is taken, one change after another."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from twisted.internet import defer
from twisted.logger import Logger

from slardar.control.changes import ApplyError, MovedError, Receipt, or_none

__all__ = ["Taking"]

_log = Logger("slardar.control")


class Taking:
    """Makes changes as long as something is there to be taken.

    ``is_due`` says whether something is there, ``change`` makes the next change, and ``problem`` is
    what the log says if a change fails that should not.  Whatever comes while a change waits for
    its turn is taken by that change or by the next one, so many things that come at once make few
    changes.  A process that has handed over its store takes nothing more.
    """

    def __init__(
        self, is_due: Callable[[], bool], change: Callable[[], Awaitable[Receipt]], problem: str
    ) -> None:
        self._is_due = is_due
        self._change = change
        self._problem = problem
        self._is_running = False

    def start(self) -> None:
        """Something has come.  Returns at once, and never fails."""
        if not self._is_running:
            self._is_running = True
            taken = defer.ensureDeferred(self._take())
            taken.addErrback(
                lambda failure: _log.failure("{problem}", failure=failure, problem=self._problem)
            )

    async def _take(self) -> None:
        try:
            while self._is_due():
                try:
                    await or_none(self._change())
                except ApplyError:
                    pass  # it has been logged
        except MovedError:
            pass
        finally:
            self._is_running = False
