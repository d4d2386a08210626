"""A copy of what is served, in a file of this machine, for the time when the store is away.

The file is an SQLite store like any other (:mod:`slardar.stores.sqlite_file`), so it carries the
same lock, has the same mode, and ``slardar store copy`` can read it.  One more record in it says
which store it is a copy of, and when the copy was the state of that store.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

from msgspec import Struct, structs
from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from slardar.errors import DamagedError, SlardarError, StoreError, one_line
from slardar.model.change import Change, StoredState, Value, differences
from slardar.stores.sqlite_file import SqliteFile
from slardar.stores.thread import StoreThread
from slardar.stores.written import encode

__all__ = ["Copied", "StateCopy", "reason_of"]

#: Seconds in which states are gathered before one is written, and between two attempts to write
#: to a file that takes nothing.
_GATHER = 1.0
_AGAIN = 60.0
#: The name of the record that says what the file is a copy of.
_ABOUT = "store"
#: Who has made the changes in the file.
_WHO = "copy"
#: The files of an SQLite database, by what follows the name of the first.
_FILES = ("", "-wal", "-shm")

_log = Logger("slardar.store")


class Copied(Struct, frozen=True):
    """What a copy holds."""

    state: StoredState
    #: When the store was last known to hold this state, in epoch seconds.
    time: float


class StateCopy:
    """The copy in the file ``path`` of the store that ``url`` names; ``url`` has no password.

    A copy that cannot be read or written harms nobody: ``problem`` says why, and the log says so
    once.  No method fails, and nothing blocks.
    """

    def __init__(self, path: str, url: str, reactor: Any) -> None:
        self.path = path
        self._reactor = reactor
        #: Why nothing is written at present; empty if all is well.
        self.problem = ""
        self._file = _CopyFile(path, url)
        self._thread: StoreThread | None = None
        #: What is to be written, and the call that does it.
        self._latest: Copied | None = None
        self._call: Any = None
        self._writing: Deferred[None] | None = None

    def open(self) -> Deferred[Copied | None]:
        """Open the file, and make it if it is missing.  Fires with the copy, or with ``None`` if
        there is none of this store."""
        self._file.path = os.path.abspath(self.path)
        self._thread = StoreThread(self._reactor, "slardar-copy", self._file.close)
        return self._thread.run(self._file.open).addErrback(self._failed)

    def keep(self, state: StoredState, time: float) -> None:
        """Write the state within a second, or a newer one that is given until then.  ``time`` is
        when the store was known to hold it."""
        self._latest = Copied(state, time)
        self._plan(_AGAIN if self.problem else _GATHER)

    def close(self) -> Deferred[None]:
        """Write what was given, and let go of the file."""
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        if self._call is not None:
            self._call.cancel()
            self._call = None
        thread, self._thread = self._thread, None
        if thread is None or thread.ended:
            return
        if self._writing is not None:
            await self._writing
        if self._latest is not None:
            await self._written(thread)
        await thread.run(self._file.close).addErrback(self._failed)
        thread.end()

    def _plan(self, seconds: float) -> None:
        if self._call is None and self._writing is None and self._thread is not None:
            self._call = self._reactor.callLater(seconds, self._write)

    def _write(self) -> None:
        self._call = None
        thread = self._thread
        if thread is None or thread.ended:
            return
        done: Deferred[None] = Deferred()
        self._writing = done

        def written(_: None) -> None:
            self._writing = None
            if self._latest is not None:
                self._plan(_AGAIN if self.problem else _GATHER)
            done.callback(None)

        self._written(thread).addCallback(written)

    def _written(self, thread: StoreThread) -> Deferred[None]:
        latest, self._latest = self._latest, None
        assert latest is not None

        def well(_: None) -> None:
            if self.problem:
                _log.info("{path}: the copy of the store is written again", path=self.path)
            self.problem = ""

        def failed(failure: Failure) -> None:
            self._failed(failure)
            if self._latest is None:
                self._latest = latest

        return thread.run(self._file.write, latest).addCallbacks(well, failed)

    def _failed(self, failure: Failure) -> None:
        """Note why, and log each reason once."""
        problem = reason_of(failure)
        if problem != self.problem:
            self.problem = problem
            _log.error("the copy of the store is not usable: {problem}", problem=problem)


class _CopyFile:
    """The file itself.  All of it blocks, and is for one thread."""

    def __init__(self, path: str, url: str) -> None:
        self.path = path
        self._url = url
        self._file: SqliteFile | None = None
        #: What the file holds, and what it is to be written after.
        self._held = StoredState()

    def open(self) -> Copied | None:
        """Raises StoreError if the file cannot be used."""
        try:
            found = self._opened()
        except DamagedError as error:
            _log.error("{error}: it is only a copy, and is made anew", error=error)
            for end in _FILES:
                if os.path.exists(self.path + end):
                    os.replace(self.path + end, f"{self.path}.damaged{end}")
            found = self._opened()
        about = found.file.get(_ABOUT)
        self._held = found
        if not isinstance(about, Mapping):
            if found.revision:
                self.close()
                raise StoreError(f"{self.path}: is a store itself, and no copy of one")
            return None
        if about.get("url") != self._url:
            _log.warn(
                "{path}: is a copy of {other}, not of {url}, and is not used",
                path=self.path,
                other=about.get("url"),
                url=self._url,
            )
            return None
        state = structs.replace(found, version=_number(about, "version", int), file={})
        return Copied(state, _number(about, "time", float))

    def _opened(self) -> StoredState:
        file = SqliteFile(self.path)
        file.keep = 1
        state = file.open()
        self._file = file
        return state

    def write(self, copied: Copied) -> None:
        """Bring the file to this state.  Raises StoreError if it cannot be written."""
        if self._file is None:
            self.open()
        assert self._file is not None
        held, state = self._held, copied.state
        about = {"url": self._url, "time": copied.time, "version": state.version}
        values = [*differences(held, state), Value("file", _ABOUT, about)]
        changes = [Change(one.kind, one.name, one.value, _WHO, copied.time) for one in values]
        rows = [(one, encode(one)) for one in changes]
        version = held.version + 1
        try:
            revision = self._file.commit(held.revision, rows, version)
        except BaseException:
            # It may have been removed: the next attempt opens it again.
            self.close()
            raise
        # The same objects: what has not changed is not looked at again.
        self._held = structs.replace(state, version=version, revision=revision)

    def close(self) -> None:
        """Let go of the file, in any state."""
        file, self._file = self._file, None
        if file is not None:
            file.close()


def reason_of(failure: Failure) -> str:
    """Why a store has failed, in one line; bugs of a third party's store included."""
    error = failure.value
    if error is None or isinstance(error, SlardarError):
        return " ".join(str(error).split())
    return one_line(error)


def _number(about: Mapping[str, Any], key: str, kind: Callable[[Any], Any]) -> Any:
    value = about.get(key)
    return kind(value) if isinstance(value, int | float) else kind(0)
