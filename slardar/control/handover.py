"""Who has the store during an upgrade in place: this process, nobody, or the process that follows.

The lock of changes is held as long as the store is given away, so changes wait meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import defer

from slardar.control.changes import MovedError
from slardar.interfaces import IForgetfulStore
from slardar.model.change import StoredState

__all__ = ["HandOver"]


class HandOver:
    """Gives ``store`` away, with the ``lock`` of changes.

    ``reopened`` is called with the state of a store that was closed and is open again, while the
    lock is still held.
    """

    def __init__(
        self, lock: defer.DeferredLock, store: Any, reopened: Callable[[StoredState], None]
    ) -> None:
        self._lock = lock
        self._store = store
        self._reopened = reopened
        self._has_moved = False

    def check(self) -> None:
        """Raises MovedError if another process has the store for good."""
        if self._has_moved:
            raise MovedError("slardar was upgraded meanwhile: ask again")

    def hand_over(self) -> defer.Deferred[StoredState | None]:
        """Let go of the store after the change under way.  :meth:`take_back` or :meth:`moved` must
        follow.

        Fires with the state of a store that forgets, with ``None`` for other stores.
        """
        return defer.ensureDeferred(self._hand_over())

    async def _hand_over(self) -> StoredState | None:
        await self._lock.acquire()
        if IForgetfulStore.providedBy(self._store):
            state: StoredState = self._store.state
            return state
        try:
            await self._store.close()
        except BaseException:
            self._lock.release()
            raise
        return None

    def take_back(self) -> defer.Deferred[None]:
        """Open the store again.  Fails with StoreError if it cannot be opened; the lock is released
        all the same."""
        return defer.ensureDeferred(self._take_back())

    async def _take_back(self) -> None:
        try:
            if not IForgetfulStore.providedBy(self._store):
                self._reopened(await self._store.open())
        finally:
            self._lock.release()

    def moved(self) -> None:
        """Another process has the store for good."""
        self._has_moved = True
        self._lock.release()
