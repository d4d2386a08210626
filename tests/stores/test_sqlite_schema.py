"""Files of older schema versions are backed up and upgraded, completely or not at all."""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from slardar.errors import NotFoundError, StoreError
from slardar.stores.sqlite_file import SqliteFile
from slardar.stores.sqlite_schema import APPLICATION, SCHEMA, Schema
from slardar.stores.written import PRUNED_AT_ONCE, encode
from slardar.testing.stores import change_of

ADD_NOTES = "CREATE TABLE notes (version INTEGER, note TEXT);"
FILL_NOTES = "INSERT INTO notes SELECT version, who FROM changes;"


#: The schema of this version, and those of the tests: one and two steps ahead.
NOW, NEXT, LAST = SCHEMA.version, SCHEMA.version + 1, SCHEMA.version + 2


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A store of this version with one upstream."""
    path = tmp_path / "data" / "slardar.db"
    path.parent.mkdir()
    file = SqliteFile(str(path), SCHEMA)
    file.open()
    change = change_of("a", {"mode": "rr"})
    file.commit(0, [(change, encode(change))], 1)
    file.close()
    return path


@pytest.fixture
def schema(tmp_path: Path) -> Schema:
    """A schema that is two steps ahead."""
    folder = tmp_path / "schema"
    shutil.copytree(SCHEMA.folder, folder)
    now = (SCHEMA.folder / f"sqlite-{NOW}.sql").read_text()
    (folder / f"sqlite-{NEXT}.sql").write_text(now + ADD_NOTES)
    (folder / f"sqlite-{LAST}.sql").write_text(now + ADD_NOTES)
    (folder / f"sqlite-{NOW}-to-{NEXT}.sql").write_text(ADD_NOTES)
    (folder / f"sqlite-{NEXT}-to-{LAST}.sql").write_text(FILL_NOTES)
    return Schema(folder, LAST)


def ask(path: Path, question: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(question).fetchall()


def test_schema_files_are_complete() -> None:
    """Each version has a whole schema, and there is a step from each to the next."""
    names = {f"sqlite-{n}.sql" for n in range(1, SCHEMA.version + 1)}
    names |= {f"sqlite-{n}-to-{n + 1}.sql" for n in range(1, SCHEMA.version)}
    assert names <= set(os.listdir(SCHEMA.folder))
    # A COMMIT in a file would end the transaction of _run.
    for name in names:
        text = re.sub("--.*", "", (SCHEMA.folder / name).read_text())
        assert not re.search(r"\b(BEGIN|COMMIT|PRAGMA|VACUUM)\b", text, re.IGNORECASE)


def test_older_file_is_upgraded_step_by_step(path: Path, schema: Schema) -> None:
    """Every step is taken once, in order, and the state is still there."""
    for _ in range(2):
        file = SqliteFile(str(path), schema)
        assert file.open().upstreams == {"a": {"mode": "rr"}}
        file.close()
    assert ask(path, "SELECT * FROM notes") == [(1, "test")]
    assert ask(path, "PRAGMA user_version") == [(LAST,)]


def test_older_file_is_backed_up(path: Path, schema: Schema) -> None:
    """The copy is private, has the old version, and can be put back."""
    file = SqliteFile(str(path), schema)
    file.open()
    file.close()
    backup = path.with_name(f"slardar.db-backup-v{NOW}")
    assert sorted(os.listdir(path.parent)) == ["slardar.db", f"slardar.db-backup-v{NOW}"]
    assert stat.S_IMODE(backup.stat().st_mode) == 0o600
    os.replace(backup, path)
    file = SqliteFile(str(path))
    assert file.open().upstreams == {"a": {"mode": "rr"}}
    file.close()


def test_failed_upgrade_changes_nothing(path: Path, schema: Schema) -> None:
    """If a later step fails, earlier steps are rolled back, too."""
    step = schema.folder / f"sqlite-{NEXT}-to-{LAST}.sql"
    for wrong in ("INSERT INTO notes VALUES (1, 'one'); INSERT INTO nowhere VALUES (1);", None):
        if wrong is None:
            step.unlink()
        else:
            step.write_text(wrong)
        with pytest.raises(StoreError, match=f"^{re.escape(str(path))}: cannot open this store: "):
            SqliteFile(str(path), schema).open()
        assert ask(path, "PRAGMA user_version") == [(NOW,)]
        assert ask(path, "SELECT name FROM sqlite_master WHERE name = 'notes'") == []
    step.write_text(FILL_NOTES)
    file = SqliteFile(str(path), schema)
    file.open()
    file.close()
    assert ask(path, "SELECT * FROM notes") == [(1, "test")]


def test_upgrade_without_backup_is_not_made(path: Path, schema: Schema) -> None:
    """If the copy cannot be written, the file does not change."""
    path.with_name(f"slardar.db-backup-v{NOW}.part").mkdir()
    with pytest.raises(StoreError, match=r"cannot open this store: Is a directory$"):
        SqliteFile(str(path), schema).open()
    assert ask(path, "PRAGMA user_version") == [(NOW,)]


def test_new_file_is_of_the_newest_version(tmp_path: Path, schema: Schema) -> None:
    """It is made directly, without steps and without a backup."""
    path = tmp_path / "data" / "new.db"
    path.parent.mkdir()
    file = SqliteFile(str(path), schema)
    file.open()
    file.close()
    assert ask(path, "PRAGMA user_version") == [(LAST,)]
    assert os.listdir(path.parent) == ["new.db"]


def test_failed_creation_leaves_an_empty_file(tmp_path: Path, schema: Schema) -> None:
    """A schema that fails half way leaves nothing, and the next start makes the whole store."""
    whole = (schema.folder / f"sqlite-{LAST}.sql").read_text()
    (schema.folder / f"sqlite-{LAST}.sql").write_text(whole + "CREATE TABLE changes (twice);")
    path = tmp_path / "new.db"
    with pytest.raises(StoreError, match=r"cannot open this store: table changes already exists$"):
        SqliteFile(str(path), schema).open()
    assert path.stat().st_size == 0
    (schema.folder / f"sqlite-{LAST}.sql").write_text(whole)
    file = SqliteFile(str(path), schema)
    file.open()
    file.close()
    assert ask(path, "PRAGMA user_version") == [(LAST,)]


def test_upgraded_file_may_be_described_otherwise(path: Path, schema: Schema) -> None:
    """A step that alters a table leaves another text than the whole schema of the newest version
    has.  A file of either is taken, again and again."""
    (schema.folder / f"sqlite-{NEXT}-to-{LAST}.sql").write_text("ALTER TABLE notes ADD more TEXT;")
    whole = schema.folder / f"sqlite-{LAST}.sql"
    whole.write_text(
        whole.read_text().replace("note TEXT", "note TEXT, more TEXT -- of any kind\n")
    )
    for place in (path, path.with_name("new.db")):
        for _ in range(2):
            file = SqliteFile(str(place), schema)
            file.open()
            file.close()


@pytest.mark.parametrize("version", [NOW, LAST])
def test_other_schema_is_refused(path: Path, schema: Schema, version: int) -> None:
    """SQLite would take this description, and every change fail.  The file is not touched, not
    even by an upgrade."""
    if version == LAST:
        file = SqliteFile(str(path), schema)
        file.open()
        file.close()
    data = bytearray(path.read_bytes())
    data[data.index(b"PRIMARY KEY,\n    v")] ^= 1
    path.write_bytes(data)
    files = sorted(os.listdir(path.parent))
    with pytest.raises(
        StoreError, match=r"damaged or altered \(its tables .*: restore it from a backup$"
    ):
        SqliteFile(str(path), schema).open()
    assert path.read_bytes() == data
    assert sorted(os.listdir(path.parent)) == files


def test_comments_of_a_schema_may_change(path: Path, tmp_path: Path) -> None:
    """A file made by a slardar whose schema had other comments is taken."""
    folder = tmp_path / "same"
    shutil.copytree(SCHEMA.folder, folder)
    for text in folder.iterdir():
        text.write_text(text.read_text().replace("epoch seconds", "since 1970"))
    assert "since 1970" in (folder / f"sqlite-{NOW}.sql").read_text()
    file = SqliteFile(str(path), Schema(folder, NOW))
    assert file.open().upstreams == {"a": {"mode": "rr"}}
    file.close()


def test_what_others_have_added_is_left_alone(path: Path) -> None:
    """ANALYZE makes a table, and an operator may have one more index."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript("CREATE INDEX by_who ON changes (who); ANALYZE;")
    file = SqliteFile(str(path))
    assert file.open().upstreams == {"a": {"mode": "rr"}}
    file.close()
    assert ask(path, "SELECT name FROM sqlite_master WHERE name = 'by_who'") == [("by_who",)]


def test_first_version_is_upgraded(tmp_path: Path) -> None:
    """Its changes are the history, without the places from which they came; and they go when they
    are older than the history's limit, a bounded number at a time."""
    path = tmp_path / "slardar.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript((SCHEMA.folder / "sqlite-1.sql").read_text())
        for number in range(1, 3 * PRUNED_AT_ONCE + 1):
            row = (number, number, 1.5, "ops", "upstream", f"u{number % 3}", f"[{number}]")
            connection.execute("INSERT INTO changes VALUES (?, ?, ?, ?, ?, ?, ?)", row)
            connection.execute("INSERT OR REPLACE INTO state VALUES (?, ?, ?)", row[4:])
        connection.execute(f"PRAGMA application_id = {APPLICATION}")
        connection.execute("PRAGMA user_version = 1")
        connection.commit()
    file = SqliteFile(str(path))
    state = file.open()
    last = 3 * PRUNED_AT_ONCE
    assert state.upstreams == {"u0": [last], "u1": [last - 2], "u2": [last - 1]}
    (found,) = file.history(None, 1)
    assert (found.version, found.old, found.change.place) == (last, [last - 3], "")
    assert file.state_at(2).upstreams == {"u1": [1], "u2": [2]}
    file.keep = 5
    change = change_of("u0", "new")
    counts = []
    for number in range(1, 5):
        file.commit(last + number - 1, [(change, encode(change))], last + number)
        counts += ask(path, "SELECT count(*) FROM changes")[0]
    # Three things have a change before the oldest version.
    assert counts == [2 * PRUNED_AT_ONCE + 4, PRUNED_AT_ONCE + 5, 8, 8]
    assert file.state_at(last - 1).upstreams == {**state.upstreams, "u0": [last - 3]}
    with pytest.raises(NotFoundError, match=rf"^no version 7 .*, which has {last - 1} to "):
        file.state_at(7)
    file.close()
    file = SqliteFile(str(path))
    assert file.open().upstreams == {**state.upstreams, "u0": "new"}
    file.close()
