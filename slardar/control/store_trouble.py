"""What is wrong with the store: shown by the status, and told once as an event."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from slardar.events import Publish, Store
from slardar.interfaces import IKeptStore
from slardar.stores.trouble import Trouble

__all__ = ["StoreTrouble"]


class StoreTrouble:
    """The trouble with one store.  ``clock`` gives epoch seconds."""

    def __init__(self, store: Any, clock: Callable[[], float], publish: Publish) -> None:
        self._store = store
        self._clock = clock
        self._publish = publish
        #: What was last told.
        self._told: Trouble | None = None

    @property
    def shown(self) -> Trouble | None:
        """What is wrong; ``None`` if nothing is known to be."""
        return self.of_store or self._told

    @property
    def of_store(self) -> Trouble | None:
        """What a store that lives elsewhere says of itself; ``None`` if all is well."""
        if not IKeptStore.providedBy(self._store):
            return None
        trouble: Trouble | None = self._store.trouble
        return trouble

    def refused(self, reason: str) -> None:
        """The store has not taken a change.  Not told while the store is known to be away."""
        if self.of_store is None:
            self._tell("error", reason)

    def away(self, reason: str) -> None:
        """The store cannot be reached, or holds a state back."""
        trouble = self.of_store
        self._tell("stale" if trouble is None else trouble.status, reason)

    def over(self) -> None:
        """The store has told its state, or has taken a change."""
        if self._told is not None:
            self._told = None
            self._publish(Store("back"))

    def _tell(self, status: Literal["error", "stale", "held"], reason: str) -> None:
        told = self._told
        if told is None or (told.status, told.reason) != (status, reason):
            since = told.since if told is not None and told.status == status else self._clock()
            self._told = Trouble(status, since, reason)
            self._publish(Store(status, reason))
