"""A store that several slardars share, in one file: a board in memory that tells of changes.

Tests put this file into the folder of stores as ``board.py``: ``board:NAME`` is its URL.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ClassVar

from msgspec import structs
from twisted.internet import defer
from zope.interface import implementer

from slardar.errors import StoreError
from slardar.interfaces import IWatchedStore
from slardar.model.change import Change, Recorded, Revision, StoredState, Value
from slardar.stores.history import History
from slardar.stores.written import conflict, encode, stored_state

__all__ = ["Board", "BoardStore", "from_place"]


class Board:
    """What all stores of one name share.  Nobody is told anything before :meth:`tell`."""

    by_name: ClassVar[dict[str, Board]] = {}

    def __init__(self) -> None:
        self.texts: dict[tuple[str, str], str | None] = {}
        self.version = self.writes = 0
        #: Why values cannot be read, by key path.
        self.broken: dict[str, str] = {}
        self.past = History()
        self.stores: list[BoardStore] = []

    @property
    def revision(self) -> Revision:
        """A word from which neither the next nor an order can be told."""
        return hashlib.md5(b"%d" % self.writes, usedforsecurity=False).hexdigest()

    @property
    def state(self) -> StoredState:
        """What it holds."""
        rows = ((kind, name, text) for (kind, name), text in self.texts.items())
        state = stored_state(self.version, self.revision, rows)
        return structs.replace(state, broken=dict(self.broken))

    def write(self, values: Iterable[Value]) -> None:
        """Set things as somebody does who is no slardar and counts nothing."""
        for one in values:
            self.texts[one.kind, one.name] = encode(Change(one.kind, one.name, one.value, "x", 0.0))
            self.broken.pop(one.path, None)
        self.writes += 1

    def spoil(self, one: Value) -> None:
        """Write something there that nobody can read."""
        self.texts.pop((one.kind, one.name), None)
        self.broken[one.path] = f"{one.path}: board/{one.name}: expected JSON"
        self.writes += 1

    def tell(self) -> None:
        """Tell all who watch what it holds now."""
        for store in self.stores:
            if store.changed is not None:
                store.changed(self.state)


@implementer(IWatchedStore)
class BoardStore:
    """One slardar's way to the board."""

    def __init__(self, board: Board) -> None:
        self.board = board
        self.is_open = False
        self.changed: Callable[[StoredState], None] | None = None
        self.failed: Callable[[str], None] = lambda reason: None
        #: If a list: the answers to commits wait here, with the changes made.
        self.held: list[Callable[[], None]] | None = None

    def open(self) -> defer.Deferred[Any]:
        if self.is_open:
            return defer.fail(StoreError("board: open already"))
        self.is_open = True
        self.board.stores.append(self)
        return defer.succeed(self.board.state)

    def commit(
        self, expected: Revision, changes: Sequence[Change], version: int
    ) -> defer.Deferred[Revision]:
        if not self.is_open:
            return defer.fail(StoreError("board: not open"))
        try:
            for change in changes:
                encode(change)
        except StoreError as error:
            return defer.fail(error)
        if expected != self.board.revision:
            return defer.fail(conflict(self.board.revision, expected))
        self.board.write(changes)
        self.board.past.add(version, [(one, encode(one)) for one in changes])
        self.board.version = version
        answer: defer.Deferred[Revision] = defer.Deferred()
        revision = self.board.revision
        if self.held is None:
            answer.callback(revision)
        else:
            self.held.append(lambda: answer.callback(revision))
        return answer

    def keep_history(self, versions: int) -> None:
        self.board.past.keep = versions

    def history(self, before: int | None, limit: int) -> defer.Deferred[list[Recorded]]:
        return self._when_open(self.board.past.page, before, limit)

    def state_at(self, version: int) -> defer.Deferred[StoredState]:
        return self._when_open(self.board.past.state_at, version)

    def _when_open(self, ask: Callable[..., Any], *arguments: Any) -> defer.Deferred[Any]:
        if not self.is_open:
            return defer.fail(StoreError("board: not open"))
        return defer.execute(ask, *arguments)

    def watch(self, changed: Callable[[StoredState], None], failed: Callable[[str], None]) -> None:
        self.changed, self.failed = changed, failed

    def close(self) -> defer.Deferred[None]:
        if self.is_open:
            self.board.stores.remove(self)
        self.is_open, self.changed = False, None
        return defer.succeed(None)


def from_place(place: str, reactor: Any) -> BoardStore:
    """The store of ``board:NAME``."""
    return BoardStore(Board.by_name.setdefault(place, Board()))
