"""A store that forgets: for trying things out, and for tests."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from twisted.internet import defer
from zope.interface import implementer

from slardar.errors import ConfigError, StoreError
from slardar.interfaces import IForgetfulStore
from slardar.model.change import Change, Revision, StoredState
from slardar.stores.written import conflict, encode, stored_state

__all__ = ["MemoryStore", "from_place"]


@implementer(IForgetfulStore)
class MemoryStore:
    """Keeps changes until it is closed.  Every Deferred has fired when it is returned."""

    def __init__(self) -> None:
        self._opened = False
        self._version = 0
        #: Counts the commits.
        self._revision = 0
        self._texts: dict[tuple[str, str], str | None] = {}

    @property
    def state(self) -> StoredState:
        """What it holds now."""
        return stored_state(
            self._version,
            self._revision,
            ((kind, name, text) for (kind, name), text in self._texts.items()),
        )

    def take_over(self, state: StoredState) -> None:
        """Hold the state that another process's store held.  To be called before :meth:`open`."""
        self._version = state.version
        self._texts = {
            (kind, name): None if value is None else msgspec.json.encode(value).decode()
            for kind, values in (("upstream", state.upstreams), ("service", state.services))
            for name, value in values.items()
        }
        for name, value in state.hooks.items():
            self._texts["hook", name] = msgspec.json.encode(value).decode()
        if state.routes is not None:
            self._texts["routes", ""] = msgspec.json.encode(state.routes).decode()

    def open(self) -> defer.Deferred[Any]:
        """Fires with the state that it has taken over, or an empty one at version 0."""
        if self._opened:
            return defer.fail(StoreError("memory: this store is open already"))
        self._opened = True
        return defer.succeed(self.state)

    def commit(
        self, expected: Revision, changes: Sequence[Change], version: int
    ) -> defer.Deferred[Revision]:
        """Keep the changes, all or none."""
        if not self._opened:
            return defer.fail(StoreError("memory: this store is not open"))
        try:
            texts = [((one.kind, one.name), encode(one)) for one in changes]
        except StoreError as error:
            return defer.fail(error)
        if expected != self._revision:
            return defer.fail(conflict(self._revision, expected))
        self._texts.update(texts)
        self._version = version
        self._revision += 1
        return defer.succeed(self._revision)

    def close(self) -> defer.Deferred[None]:
        """Forget everything."""
        self._opened = False
        self._version = self._revision = 0
        self._texts.clear()
        return defer.succeed(None)


def from_place(place: str, reactor: Any) -> MemoryStore:
    """The store of ``memory:``.  Raises ConfigError if anything follows."""
    if place:
        raise ConfigError("expected nothing after memory:")
    return MemoryStore()
