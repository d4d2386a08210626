"""The tables of the SQLite file by schema version, and how an older file gets them.

``schema/sqlite-N.sql`` makes an empty file one of version N;
``schema/sqlite-N-to-M.sql`` takes a file one step from N to M = N + 1.  To change the
schema: write both files, raise the number in :data:`SCHEMA`, and keep the older files.
Comments in the files may change at any time; everything else of a version stays.
"""

from __future__ import annotations

import os
import re
import sqlite3
from contextlib import closing
from pathlib import Path

from slardar.errors import DamagedError, StoreError
from slardar.stores.sqlite_check import ADVICE

__all__ = ["APPLICATION", "SCHEMA", "Schema"]

#: SQLite's ``application_id``, by which a file is known as ours: "sldr".
APPLICATION = 0x736C6472


class Schema:
    """The schema of one version, and the steps that lead to it.  All of it blocks."""

    def __init__(self, folder: Path, version: int) -> None:
        self.folder = folder
        self.version = version

    def prepare(self, connection: sqlite3.Connection, path: str) -> None:
        """Bring the database to this version; ``path`` is the file it is in.

        An empty database gets its tables.  An older one is copied to ``path-backup-vN`` and then
        upgraded.  Either is one transaction: it happens whole or not at all.  Raises StoreError for
        a database of another program or of a newer version, or one whose tables are not ours, and
        does not touch it.
        """
        application, found = _identity(connection)
        if application != APPLICATION:
            tables = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
            if application or found or tables:
                raise StoreError(f"{path}: expected a store of slardar, not another database")
            self._run(connection, [f"sqlite-{self.version}.sql"])
            _sync_folder(path)
        elif not 1 <= found <= self.version:
            raise StoreError(
                f"{path}: has schema version {found}, and this slardar knows 1 to {self.version}:"
                " use a newer slardar"
            )
        else:
            self._check(connection, path, found)
            if found < self.version:
                _back_up(connection, f"{path}-backup-v{found}")
                self._run(connection, _steps(found, self.version))

    def _check(self, connection: sqlite3.Connection, path: str, found: int) -> None:
        """Check that the tables are described as the files of version ``found`` describe them.

        A changed byte there may still be a valid description: of a table that takes no commit, or
        that SQLite reads in another way.  Tables that somebody has added are left alone.
        """
        described = _described(connection)
        # The file was made as one of this version, or of an older one and upgraded since.
        if not any(described >= self._made(first, found) for first in range(found, 0, -1)):
            raise DamagedError(
                f"{path}: damaged or altered (its tables are not those of slardar): {ADVICE}"
            )

    def _made(self, first: int, last: int) -> set[tuple[bytes, ...]]:
        """The description of the tables in a file made as version ``first``, now ``last``."""
        with closing(sqlite3.connect(":memory:")) as connection:
            connection.executescript(self._script([f"sqlite-{first}.sql", *_steps(first, last)]))
            return _described(connection)

    def _script(self, names: list[str]) -> str:
        return "\n".join((self.folder / name).read_text(encoding="utf-8") for name in names)

    def _run(self, connection: sqlite3.Connection, names: list[str]) -> None:
        try:
            # BEGIN is part of the script: executescript would commit a transaction begun before.
            connection.executescript(f"BEGIN IMMEDIATE;\n{self._script(names)}")
            connection.execute(f"PRAGMA application_id = {APPLICATION}")
            connection.execute(f"PRAGMA user_version = {self.version}")
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise


def _steps(first: int, last: int) -> list[str]:
    """The files that take a file from version ``first`` to ``last``."""
    return [f"sqlite-{step}-to-{step + 1}.sql" for step in range(first, last)]


#: Comments and white space in SQL.  No string of ours has either in it.
_BETWEEN = re.compile(rb"(?:--[^\n]*|\s)+")


def _described(connection: sqlite3.Connection) -> set[tuple[bytes, ...]]:
    """Each table and index, as the database describes it, without comments."""
    connection.text_factory = bytes  # what is damaged may not be UTF-8
    try:
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    finally:
        connection.text_factory = str
    # An index that SQLite makes for a table by itself has no SQL.
    return {(*names, _BETWEEN.sub(b" ", sql or b"")) for *names, sql in rows}


def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    return application, version


def _back_up(connection: sqlite3.Connection, path: str) -> None:
    """Make a copy at ``path``.  It appears there only when it is whole and on the disk."""
    half = f"{path}.part"
    descriptor = os.open(half, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    os.close(descriptor)
    copy = sqlite3.connect(half, isolation_level=None)
    try:
        connection.backup(copy)
    finally:
        copy.close()
    os.replace(half, path)
    _sync_folder(path)


def _sync_folder(path: str) -> None:
    """Make the name of a new file as durable as its content."""
    folder = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


#: The schema that this version of slardar reads and writes.
SCHEMA = Schema(Path(__file__).with_name("schema"), 2)
