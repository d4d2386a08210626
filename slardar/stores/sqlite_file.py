"""The SQLite file behind the store: opened, written and closed.  All of it blocks.

Durable means: on the disk before ``commit`` returns, so that neither ``kill -9`` nor
a power cut takes an answered change back.  The file is in WAL mode, where a commit is
one append and one ``fdatasync``, and ``synchronous`` is EXTRA: the same as FULL there,
and as safe on a file system that cannot do WAL
(https://sqlite.org/pragma.html#pragma_synchronous).

Two processes that both make changes must not share a file: neither sees the other's.
SQLite's own exclusive mode would keep them apart, but also an operator's ``sqlite3
slardar.db`` or a backup of the running system.  So the file itself carries a ``flock``,
which SQLite does not use, and which ends with the process whatever ends it.  A second
lock file would stay behind when the first is moved.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import sqlite3
import stat
import tempfile
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from urllib.parse import quote

from slardar.errors import DamagedError, StoreError
from slardar.model.change import SECRET, Change, Recorded, Revision, StoredState
from slardar.stores import sqlite_history
from slardar.stores.sqlite_check import ADVICE, check_agreement, check_pages
from slardar.stores.sqlite_schema import SCHEMA, Schema
from slardar.stores.written import conflict, forget, kept_text, stored_state, wanted_oldest

__all__ = ["SqliteFile", "peek"]

#: Seconds to wait for the transaction of another program, such as an operator's shell.
_BUSY = 5.0
#: Words in SQLite's errors that mean a damaged page, or a damaged description of the tables.
_DAMAGE = ("malformed", "no such column", "no such table", "unsupported file format")
#: The mode of the file: it holds private keys, and the names and addresses of all servers.
_MODE = 0o600


class SqliteFile:
    """The file at the absolute ``path``, opened once.  For one thread only."""

    def __init__(self, path: str, schema: Schema = SCHEMA) -> None:
        self.path = path
        self._schema = schema
        #: The descriptor that carries the lock.  It must be closed after SQLite's:
        #: closing any descriptor of a file drops the process's POSIX locks on it.
        self._lock: int | None = None
        self._connection: sqlite3.Connection | None = None
        #: How many versions the history keeps, and those that it has; ``None`` before a commit.
        self.keep = 1000
        self._versions: deque[int] | None = None

    def open(self) -> StoredState:
        """Open the file, and make it first if it is missing or empty.  Returns what it holds.

        Raises StoreError, and leaves the file as it was, if the file is not a store of slardar, is
        damaged, comes from a newer version, is in use, or cannot be read and written.
        """
        try:
            with self._errors("cannot open this store"):
                self._lock = self._locked()
                if os.fstat(self._lock).st_size == 0:
                    self._claim(self._lock)
                self._check_format(self._lock)
                self._connection = connection = sqlite3.connect(
                    self.path, timeout=_BUSY, isolation_level=None
                )
                connection.execute("PRAGMA synchronous = EXTRA")
                # KiB of pages that SQLite keeps in memory.  Its default of 2,000 would be used up
                # after some 15,000 changes, though a commit touches a few pages only.
                connection.execute("PRAGMA cache_size = -256")
                # A private key that is replaced must not stay in what is free of the file.
                connection.execute("PRAGMA secure_delete = ON")
                self._schema.prepare(connection, self.path)
                check_pages(connection, self.path)
                connection.execute("PRAGMA journal_mode = WAL")
                return self._read(connection)
        except BaseException:
            self.close()
            raise

    def commit(
        self, expected: Revision, rows: Sequence[tuple[Change, str | None]], version: int
    ) -> Revision:
        """Write changes, each with the text of its value, as one; returns the new revision.

        Raises ConflictError or StoreError; nothing is written then.
        """
        connection = self._opened()
        with self._errors("cannot write"):
            self._check_in_place()
            connection.execute("BEGIN IMMEDIATE")
            try:
                if self._versions is None:
                    self._versions = sqlite_history.versions(connection)
                _, found = _last(connection)
                if found != expected:
                    raise conflict(found, expected)
                for one, text in rows:
                    connection.execute(
                        "INSERT INTO changes (version, time, who, place, kind, name, value)"
                        " VALUES (?, ?, ?, ?, ?, ?, ?)",
                        (
                            *(version, one.time, one.who, one.place, one.kind, one.name),
                            kept_text(one.kind, text),
                        ),
                    )
                    connection.execute(
                        "INSERT INTO state (kind, name, value) VALUES (?, ?, ?)"
                        " ON CONFLICT (kind, name) DO UPDATE SET value = excluded.value",
                        (one.kind, one.name, text),
                    )
                    if one.kind == "acme":
                        sqlite_history.forget_all_but_last(connection, one.kind, one.name)
                _, revision = _last(connection)
                versions = self._versions
                if any(one.kind != "acme" for one, _ in rows):
                    versions.append(version)
                wanted = wanted_oldest(versions, self.keep)
                oldest = None if wanted is None else sqlite_history.prune(connection, wanted)
                connection.execute("COMMIT")
            except BaseException:
                # On some errors SQLite ends the transaction by itself.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                self._versions = None
                raise
            if any(one.kind in SECRET for one, _ in rows):
                _empty_log(connection)
        if oldest is not None:
            forget(versions, oldest)
        return revision

    def history(self, before: int | None, limit: int) -> list[Recorded]:
        """See :meth:`slardar.interfaces.IStore.history`."""
        with self._errors("cannot read"):
            return sqlite_history.page(self._opened(), before, limit)

    def state_at(self, version: int) -> StoredState:
        """See :meth:`slardar.interfaces.IStore.state_at`."""
        with self._errors("cannot read"):
            return sqlite_history.state_at(self._opened(), version)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            raise StoreError(f"{self.path}: this store is not open")
        return self._connection

    def close(self) -> None:
        """Let go of the file, in any state; a second call does nothing."""
        connection, self._connection = self._connection, None
        lock, self._lock = self._lock, None
        try:
            if connection is not None:
                connection.close()
        finally:
            if lock is not None:
                os.close(lock)

    def _locked(self) -> int:
        """A descriptor of the file with the lock on it.  The file is made if it is missing."""
        try:
            # O_NONBLOCK: not to hang on a FIFO; it has no effect on a file.
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
            lock = os.open(self.path, flags, _MODE)
        except FileNotFoundError:
            raise StoreError(f"{self.path}: {self._why_missing()}") from None
        try:
            if not stat.S_ISREG(os.fstat(lock).st_mode):
                raise StoreError(f"{self.path}: expected a regular file")
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BaseException as error:
            os.close(lock)
            if isinstance(error, OSError) and error.errno == errno.EWOULDBLOCK:
                raise StoreError(f"{self.path}: in use by another slardar") from None
            raise
        return lock

    def _why_missing(self) -> str:
        """Why the file does not exist and cannot be made."""
        real = os.path.realpath(self.path)
        folder = os.path.dirname(real)
        if os.path.islink(self.path):
            return f"is a link to {real}, and the folder {folder} does not exist"
        if not os.path.isdir(folder):
            return f"the folder {folder} does not exist"
        return f"the folder {folder} takes no new file"  # /proc, say

    def _claim(self, lock: int) -> None:
        """Use an empty file: it was made just now, by ``touch``, or by a start that was cut
        short."""
        # If the path is a link, the log is beside the file that it leads to.
        log = f"{os.path.realpath(self.path)}-wal"
        if os.path.exists(log) and os.path.getsize(log):
            # SQLite would delete the log, which may be all that is left of a store.
            raise DamagedError(
                f"{self.path}: is empty although {log} is not:"
                " restore it from a backup, or move both away"
            )
        os.fchmod(lock, _MODE)

    def _check_format(self, lock: int) -> None:
        """Check by the header that the file can be written and its log read.

        With a write version that it does not know, SQLite opens a file for reading only.  With the
        write version of a file without a log, SQLite deletes the log
        (https://sqlite.org/fileformat.html#file_format_version_numbers).
        """
        header = os.pread(lock, 20, 0)
        if not header.startswith(b"SQLite format 3\0"):
            return  # it is new, or SQLite says what is wrong
        versions = header[18:]
        log = f"{os.path.realpath(self.path)}-wal"
        has_log = os.path.exists(log) and os.path.getsize(log) > 0
        if versions != b"\2\2" and (versions != b"\1\1" or has_log):
            raise DamagedError(
                f"{self.path}: damaged (its header has the format {versions.hex()}): {ADVICE}"
            )

    def _read(self, connection: sqlite3.Connection) -> StoredState:
        """The state.  Where it is not what the changes say, a line is logged."""
        check_agreement(connection, self.path)
        # A text that is not UTF-8 is not JSON either, and is refused as such.
        connection.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
        try:
            rows = connection.execute("SELECT kind, name, value FROM state")
            return stored_state(*_last(connection), rows)
        except StoreError as error:
            raise type(error)(f"{self.path}: {error}") from None
        finally:
            connection.text_factory = str

    def _check_in_place(self) -> None:
        """Raise StoreError if the file was removed or replaced: what is written would be lost."""
        assert self._lock is not None
        try:
            there = os.path.samestat(os.fstat(self._lock), os.stat(self.path))
        except FileNotFoundError:
            there = False
        if not there:
            raise StoreError(f"{self.path}: was removed or replaced while in use: restart slardar")

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        """Turn errors of SQLite and of the system into a StoreError that names the file."""
        try:
            yield
        except OSError as error:
            raise StoreError(f"{self.path}: {what}: {error.strerror}") from error
        except sqlite3.Error as error:
            text = " ".join(str(error).split())
            kind: type[StoreError] = DamagedError
            if "not a database" in text:
                text += f"; if it was one, its beginning is damaged: {ADVICE}"
            elif any(sign in text for sign in _DAMAGE):
                text += f": {ADVICE}"
            else:
                kind = StoreError
            raise kind(f"{self.path}: {what}: {text}") from error
        except UnicodeDecodeError as error:
            # SQLite has quoted a damaged schema.
            raise DamagedError(f"{self.path}: {what}: damaged: {ADVICE}") from error


def peek(path: str) -> StoredState | None:
    """What a store holds, even if a running slardar uses it; ``None`` if there is no such file.

    Nothing is written or checked, and the file is locked for a moment only.  Raises StoreError if
    the file cannot be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read: {error.strerror}") from None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        is_in_use = False
    except OSError:
        is_in_use = True
    finally:
        os.close(descriptor)
    try:
        if is_in_use:
            return _read_only(path, "mode=ro")
        log = f"{os.path.realpath(path)}-wal"
        if not os.path.exists(log):
            # SQLite makes no other files then.
            return _read_only(path, "immutable=1")
        # To read the log SQLite must write beside it, so it gets a copy of both.
        with tempfile.TemporaryDirectory() as folder:
            copy = os.path.join(folder, "copy.db")
            shutil.copyfile(path, copy)
            shutil.copyfile(log, f"{copy}-wal")
            return _read_only(copy, "mode=rw")
    except (OSError, sqlite3.Error, StoreError) as error:
        raise StoreError(f"{path}: cannot be read: {error}") from None


def _read_only(path: str, how: str) -> StoredState:
    connection = sqlite3.connect(f"file:{quote(path)}?{how}", uri=True, timeout=_BUSY)
    try:
        rows = connection.execute("SELECT kind, name, value FROM state").fetchall()
        return stored_state(*_last(connection), rows)
    finally:
        connection.close()


def _empty_log(connection: sqlite3.Connection) -> None:
    """Leave no private key that is replaced in the log, which keeps old pages until it is full.

    While another program reads the file, nothing is done.  The change is committed, so no error
    may undo it.
    """
    connection.execute("PRAGMA busy_timeout = 0")
    with suppress(sqlite3.Error):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {_BUSY * 1000:.0f}")


def _last(connection: sqlite3.Connection) -> tuple[int, int]:
    """The version of the last change, and the number of its row.  The number is the revision: every
    change adds a row."""
    # Two maxima in one plain SELECT would read the whole table.
    version, row = connection.execute(
        "SELECT (SELECT max(version) FROM changes), (SELECT max(id) FROM changes)"
    ).fetchone()
    return version or 0, row or 0
