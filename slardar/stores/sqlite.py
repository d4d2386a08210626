"""The embedded default store: one SQLite file.

SQLite blocks, most of all while it waits for the disk, so everything that touches
the file (:mod:`slardar.stores.sqlite_file`) happens in a thread of its own, in the
order of the calls.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, TypeVar

from twisted.internet import defer
from zope.interface import implementer

from slardar.errors import ConfigError, StoreError
from slardar.interfaces import IStore
from slardar.model.change import Change, Recorded, Revision, StoredState
from slardar.stores.sqlite_file import SqliteFile, peek
from slardar.stores.thread import StoreThread
from slardar.stores.written import encode

__all__ = ["SqliteStore", "from_place", "peek"]

T = TypeVar("T")


@implementer(IStore)
class SqliteStore:
    """Keeps every change in the file ``path``, on the disk before it answers.

    A relative ``path`` starts from the folder that is current when :meth:`open` is
    called.  One store at a time can have the file open, on the whole machine; others
    may read it meanwhile with SQLite's own tools.  ``reactor`` runs the callbacks of the store's
    thread, and ends the thread when it stops.
    """

    def __init__(self, path: str | os.PathLike[str], reactor: Any) -> None:
        self._path = os.fspath(path)
        self._reactor = reactor
        self._thread: StoreThread | None = None
        #: Each open makes a new one.
        self._file: SqliteFile | None = None
        #: Whether commits are taken: from the call of open to the call of close.
        self._accepts = False
        self._kept = 1000

    def open(self) -> defer.Deferred[StoredState]:
        """Open the file, and make it if it is missing.  Fires with what it holds.

        Fails with a StoreError that names the file.  The store can be opened again after that, and
        after it was closed.
        """
        if self._thread is not None and not self._thread.ended:
            return defer.fail(StoreError(f"{self._path}: this store is open already"))
        try:
            file = SqliteFile(os.path.abspath(self._path))
        except OSError as error:
            return defer.fail(
                StoreError(f"{self._path}: cannot tell the current folder: {error.strerror}")
            )
        thread = StoreThread(self._reactor, "slardar-store", file.close)
        self._file, self._thread, self._accepts = file, thread, True
        file.keep = self._kept

        def failed(failure: T) -> T:
            self._accepts = False
            thread.end()
            return failure

        return thread.run(file.open).addErrback(failed)

    def commit(
        self, expected: Revision, changes: Sequence[Change], version: int
    ) -> defer.Deferred[Revision]:
        """Make the changes durable as one; see :class:`slardar.interfaces.IStore`.

        A commit that fails has changed nothing.  Calls need not wait for each other.  Cancelling
        the Deferred does not stop the commit.
        """
        try:
            thread, file = self._in_use()
            rows = [(one, encode(one)) for one in changes]
        except StoreError as error:
            return defer.fail(error)
        return thread.run(file.commit, expected, rows, version)

    def keep_history(self, versions: int) -> None:
        """Keep so many versions; see :class:`slardar.interfaces.IStore`."""
        self._kept = versions
        if self._file is not None:
            self._file.keep = versions

    def history(self, before: int | None, limit: int) -> defer.Deferred[list[Recorded]]:
        """Changes of the past, newest version first; see :class:`slardar.interfaces.IStore`.

        The commits that are called after it wait for it, some 0.05 s at most.
        """
        try:
            thread, file = self._in_use()
        except StoreError as error:
            return defer.fail(error)
        return thread.run(file.history, before, limit)

    def state_at(self, version: int) -> defer.Deferred[StoredState]:
        """The state that ``version`` left; see :class:`slardar.interfaces.IStore`."""
        try:
            thread, file = self._in_use()
        except StoreError as error:
            return defer.fail(error)
        return thread.run(file.state_at, version)

    def _in_use(self) -> tuple[StoreThread, SqliteFile]:
        thread, file = self._thread, self._file
        if thread is None or file is None or thread.ended or not self._accepts:
            raise StoreError(f"{self._path}: this store is not open")
        return thread, file

    def close(self) -> defer.Deferred[None]:
        """Finish the commits under way, let go of the file and end the thread."""
        self._accepts = False
        thread, file = self._thread, self._file
        if thread is None or file is None or thread.ended:
            return defer.succeed(None)

        def closed(result: T) -> T:
            thread.end()
            return result

        return thread.run(file.close).addBoth(closed)


def from_place(place: str, reactor: Any) -> SqliteStore:
    """The store of ``sqlite:FILE``; opens nothing.  Raises ConfigError without a file."""
    if not place:
        raise ConfigError("expected the name of a file after sqlite:")
    return SqliteStore(place, reactor)
