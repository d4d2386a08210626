"""A store that forgets: for trying things out, and for tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import msgspec
from twisted.internet import defer
from zope.interface import implementer

from slardar.errors import ConfigError, StoreError
from slardar.interfaces import IForgetfulStore
from slardar.model.change import Change, Recorded, Revision, StoredState
from slardar.stores.history import History
from slardar.stores.written import conflict, encode, stored_state

__all__ = ["MemoryStore", "from_place"]

T = TypeVar("T")


@implementer(IForgetfulStore)
class MemoryStore:
    """Keeps changes until it is closed.  Every Deferred has fired when it is returned."""

    def __init__(self) -> None:
        self._opened = False
        self._version = 0
        #: Counts the commits.
        self._revision = 0
        self._texts: dict[tuple[str, str], str | None] = {}
        self._history = History()

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
        for kind, things in (
            ("hook", state.hooks),
            ("file", state.file),
            ("setting", state.settings),
            ("certificate", state.certificates),
            ("acme", state.acme),
        ):
            for name, value in things.items():
                self._texts[kind, name] = msgspec.json.encode(value).decode()
        if state.routes is not None:
            self._texts["routes", ""] = msgspec.json.encode(state.routes).decode()
        self._history = History(state.version, self._texts, self._history.keep)

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
            rows = [(one, encode(one)) for one in changes]
        except StoreError as error:
            return defer.fail(error)
        if expected != self._revision:
            return defer.fail(conflict(self._revision, expected))
        self._texts.update(((one.kind, one.name), text) for one, text in rows)
        self._history.add(version, rows)
        self._version = version
        self._revision += 1
        return defer.succeed(self._revision)

    def keep_history(self, versions: int) -> None:
        """Keep so many versions; see :class:`slardar.interfaces.IStore`."""
        self._history.keep = versions

    def history(self, before: int | None, limit: int) -> defer.Deferred[list[Recorded]]:
        """Changes of the past, newest version first; see :class:`slardar.interfaces.IStore`."""
        return self._when_open(self._history.page, before, limit)

    def state_at(self, version: int) -> defer.Deferred[StoredState]:
        """The state that ``version`` left; see :class:`slardar.interfaces.IStore`."""
        return self._when_open(self._history.state_at, version)

    def _when_open(self, ask: Callable[..., T], *arguments: Any) -> defer.Deferred[T]:
        if not self._opened:
            return defer.fail(StoreError("memory: this store is not open"))
        return defer.execute(ask, *arguments)

    def close(self) -> defer.Deferred[None]:
        """Forget everything."""
        self._opened = False
        self._version = self._revision = 0
        self._texts.clear()
        self._history = History(keep=self._history.keep)
        return defer.succeed(None)


def from_place(place: str, reactor: Any) -> MemoryStore:
    """The store of ``memory:``.  Raises ConfigError if anything follows."""
    if place:
        raise ConfigError("expected nothing after memory:")
    return MemoryStore()
