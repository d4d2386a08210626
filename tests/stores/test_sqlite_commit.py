"""Commits that fail: the messages, and that no change is lost or half done."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from slardar.errors import ConflictError, StoreError
from slardar.model.change import SECRET, Change, Kind, StoredState
from slardar.stores import sqlite_file
from slardar.stores.sqlite_file import SqliteFile
from slardar.stores.written import encode

CHECKOUT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "slardar.db"


@pytest.fixture
def file(path: Path) -> Iterator[SqliteFile]:
    file = SqliteFile(str(path))
    file.open()
    yield file
    file.close()


def commit(file: SqliteFile, version: int, value: object, time: float = 0.0) -> int:
    change = Change("upstream", "a", value, "test", time)
    revision = file.commit(version, [(change, encode(change))], version + 1)
    assert isinstance(revision, int)
    return revision


def test_commit_waits_for_the_disk(file: SqliteFile) -> None:
    """EXTRA (3) is FULL (2) in WAL mode: each commit is synced.  With less it would not be."""
    assert file._connection is not None
    assert file._connection.execute("PRAGMA synchronous").fetchall() == [(3,)]
    assert file._connection.execute("PRAGMA journal_mode").fetchall() == [("wal",)]


FULL = """
import resource, sys
from slardar.errors import StoreError
from slardar.model.change import Change
from slardar.stores.sqlite_file import SqliteFile

def commit(version, size):
    change = Change("upstream", "a", "x" * size, "test", 0.0)
    return file.commit(version, [(change, '"' + change.value + '"')], version + 1)

file = SqliteFile(sys.argv[1])
file.open()
print(commit(0, 10))
before = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (100000, before[1]))
for attempt in range(3):
    try:
        commit(1, 200000)
    except StoreError as error:
        print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, before)
print(commit(1, 300000))
print(commit(2, 20))
file.close()
print(file.open())
file.close()
"""


@pytest.mark.real
def test_full_disk_loses_nothing(path: Path) -> None:
    """A refused write is a StoreError; when there is space again, commits work."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FULL, path],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    lines = done.stdout.splitlines()
    assert lines[0] == "1"
    assert len(set(lines[1:4])) == 1
    assert lines[1].startswith(f"{path}: cannot write: ")
    assert lines[4:6] == ["2", "3"]
    assert lines[6:] == [str(StoredState(3, {"a": "x" * 20}, revision=3))]


def test_database_full_is_rolled_back(file: SqliteFile) -> None:
    """SQLite's own "full" ends the transaction; its changes are gone, the rest stays."""
    assert commit(file, 0, "first") == 1
    connection = file._connection
    assert connection is not None
    pages = connection.execute("PRAGMA page_count").fetchone()[0]
    connection.execute(f"PRAGMA max_page_count = {pages + 3}").fetchall()
    with pytest.raises(StoreError, match=r": cannot write: database or disk is full$"):
        commit(file, 1, "x" * 100000)
    assert not connection.in_transaction
    assert connection.execute("SELECT value FROM state").fetchall() == [('"first"',)]
    connection.execute("PRAGMA max_page_count = 1000000").fetchall()
    assert commit(file, 1, "x" * 100000) == 2


def test_half_a_change_is_never_kept(file: SqliteFile) -> None:
    """A change that the log takes and the state does not is in neither."""
    assert file._connection is not None
    file._connection.execute(
        "CREATE TEMP TRIGGER refuse BEFORE INSERT ON state"
        " BEGIN SELECT RAISE(FAIL, 'not today'); END"
    )
    with pytest.raises(StoreError, match="not today"):
        commit(file, 0, {})
    file._connection.execute("DROP TRIGGER refuse")
    assert file._connection.execute("SELECT count(*) FROM changes").fetchall() == [(0,)]
    assert commit(file, 0, {}) == 1


def test_time_that_is_no_number_is_refused(file: SqliteFile) -> None:
    """SQLite has no NaN; the change is refused as a whole."""
    with pytest.raises(StoreError, match=r"cannot write: NOT NULL constraint failed"):
        commit(file, 0, {}, time=float("nan"))
    assert commit(file, 0, {}) == 1


def test_strange_transaction_is_waited_for(
    path: Path, file: SqliteFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program's open transaction makes the commit fail after a wait; later commits
    work."""
    assert sqlite_file._BUSY == 5.0
    assert file._connection is not None
    assert file._connection.execute("PRAGMA busy_timeout").fetchall() == [(5000,)]
    file._connection.execute("PRAGMA busy_timeout = 20")
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreError, match=r": cannot write: database is locked$"):
            commit(file, 0, {})
        other.execute("ROLLBACK")
    assert commit(file, 0, {}) == 1


@pytest.mark.parametrize("kind", SECRET)
@pytest.mark.parametrize("after", [{"key": "new"}, None])
def test_replaced_key_is_in_no_file(
    path: Path, file: SqliteFile, kind: Kind, after: object
) -> None:
    """Neither in the store nor in its log, even if the key was long and took pages of its own.

    While another program reads the file, the key stays in the log, and the change is made.
    """
    secrets = [f"{number}-is-secret-" * 800 for number in range(2)]

    def found() -> list[bool]:
        held = b"".join(one.read_bytes() for one in path.parent.iterdir())
        return [f"{number}-is-secret-".encode() in held for number in range(2)]

    def write(version: int, value: object) -> None:
        change = Change(kind, "a", value, "test", 0.0)
        file.commit(version, [(change, encode(change))], version + 1)

    write(0, {"key": secrets[0]})
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN")
        other.execute("SELECT count(*) FROM state").fetchall()
        write(1, {"key": secrets[1]})
        assert found() == [True, True]
    assert file._connection is not None
    assert file._connection.execute("PRAGMA busy_timeout").fetchall() == [(5000,)]
    write(2, after)
    assert found() == [False, False]


def test_strange_change_is_a_conflict(path: Path, file: SqliteFile) -> None:
    """The revision is the file's, so another program's change is not overwritten, whatever
    version it has."""
    with closing(sqlite3.connect(path)) as other, other:
        other.execute("INSERT INTO changes VALUES (1, 0, 0, 'me', 'upstream', 'b', '{}', '')")
    with pytest.raises(ConflictError, match="at revision 1, not 0: somebody else wrote"):
        commit(file, 0, {})
    assert commit(file, 1, {}) == 2


@pytest.mark.parametrize("replaced", [False, True])
def test_removed_file_takes_no_commit(path: Path, file: SqliteFile, replaced: bool) -> None:
    """A commit to a file without a name would be gone at the next start."""
    assert commit(file, 0, {}) == 1
    path.unlink()
    if replaced:
        path.touch()
    with pytest.raises(StoreError, match=r"removed or replaced while in use: restart slardar$"):
        commit(file, 1, {})


def test_closed_file_takes_no_commit(path: Path) -> None:
    """A file that was never opened takes none either."""
    file = SqliteFile(str(path))
    with pytest.raises(StoreError, match=r"this store is not open$"):
        commit(file, 0, {})
    file.open()
    file.close()
    with pytest.raises(StoreError, match=r"this store is not open$"):
        commit(file, 0, {})
    assert os.listdir(path.parent) == ["slardar.db"]
