"""A store that lives elsewhere and can be cut off, and a copy of it in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet import defer

from slardar.errors import StoreError
from slardar.model.change import StoredState
from slardar.stores.copy import Copied
from tests.control.board import Board, BoardStore

__all__ = ["FakeCopy", "FarStore"]


class FakeCopy:
    """A copy in memory, which is written at once."""

    path = "copy.db"
    problem = ""

    def __init__(self, copied: Copied | None = None) -> None:
        self.copied = copied

    def open(self) -> defer.Deferred[Copied | None]:
        return defer.succeed(self.copied)

    def keep(self, state: StoredState, time: float) -> None:
        self.copied = Copied(state, time)

    def close(self) -> defer.Deferred[None]:
        return defer.succeed(None)


class FarStore(BoardStore):
    """A way to the board that can be cut, or swallow everything."""

    def __init__(self, board: Board) -> None:
        super().__init__(board)
        self.reason = ""
        self.is_silent = False
        self.opened = self.asked = 0

    def open(self) -> defer.Deferred[Any]:
        self.opened += 1
        if self.reason:
            return defer.fail(StoreError(self.reason))
        return defer.Deferred() if self.is_silent else super().open()

    def commit(self, *arguments: Any) -> defer.Deferred[Any]:
        self.asked += 1
        return defer.Deferred() if self.is_silent else super().commit(*arguments)

    def history(self, *arguments: Any) -> defer.Deferred[Any]:
        self.asked += 1
        return defer.Deferred() if self.is_silent else super().history(*arguments)

    def cut(self, reason: str = "refused") -> None:
        self.reason = reason
        self.failed(reason)

    def heal(self) -> None:
        self.reason = ""
        if self.changed is not None:
            self.changed(self.board.state)
