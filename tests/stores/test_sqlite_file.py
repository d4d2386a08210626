"""Which files are opened as a store, which are refused, and that refused files stay unchanged."""

from __future__ import annotations

import os
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from slardar.errors import StoreError
from slardar.model.change import Change, StoredState
from slardar.stores.sqlite_file import SqliteFile
from slardar.stores.sqlite_schema import APPLICATION, SCHEMA
from slardar.stores.written import encode
from slardar.testing.stores import change_of

CHECKOUT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "slardar.db"


@contextmanager
def opened(path: Path) -> Iterator[tuple[SqliteFile, StoredState]]:
    file = SqliteFile(str(path))
    state = file.open()
    try:
        yield file, state
    finally:
        file.close()


def commit(file: SqliteFile, version: int, name: str, value: object) -> int:
    change = change_of(name, value)
    revision = file.commit(version, [(change, encode(change))], version + 1)
    assert isinstance(revision, int)
    return revision


def refusal(path: Path) -> str:
    """The message for a file that is refused: one line, which names the file."""
    file = SqliteFile(str(path))
    with pytest.raises(StoreError) as caught:
        file.open()
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def make(path: Path, **upstreams: object) -> None:
    """Make a store with these upstreams, one in each version."""
    with opened(path) as (file, state):
        for number, (name, value) in enumerate(upstreams.items()):
            commit(file, state.version + number, name, value)


def execute(path: Path, *statements: str) -> list[Any]:
    """The rows of the last of some SQL statements, through another connection."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        return [connection.execute(statement).fetchall() for statement in statements][-1]


def test_new_file_is_private_and_ours(path: Path) -> None:
    """It has mode 600 whatever the umask, slardar's mark, and is in WAL mode."""
    umask = os.umask(0)
    try:
        with opened(path) as (file, state):
            assert state == StoredState(0, {}, None)
            commit(file, 0, "a", {})
            made = [path, path.with_name("slardar.db-wal"), path.with_name("slardar.db-shm")]
            assert [stat.S_IMODE(one.stat().st_mode) for one in made] == [0o600] * 3
    finally:
        os.umask(umask)
    assert execute(path, "PRAGMA application_id") == [(APPLICATION,)]
    assert execute(path, "PRAGMA user_version") == [(SCHEMA.version,)]
    assert execute(path, "PRAGMA journal_mode") == [("wal",)]


def test_closed_store_is_one_file(path: Path) -> None:
    """No other file stays beside it, so it can be copied or moved alone."""
    make(path, a={})
    assert os.listdir(path.parent) == ["slardar.db"]


def test_every_change_is_logged(path: Path) -> None:
    """The log has each change in order, also those that the state no longer shows."""
    with opened(path) as (file, _):
        commit(file, 0, "a", {"mode": "rr"})
        commit(file, 1, "a", {"mode": "hash"})
        commit(file, 2, "", [])
        commit(file, 3, "a", None)
    columns = "SELECT version, time, who, kind, name, value FROM changes ORDER BY id"
    assert execute(path, columns) == [
        (1, 1700000000.25, "test", "upstream", "a", '{"mode":"rr"}'),
        (2, 1700000000.25, "test", "upstream", "a", '{"mode":"hash"}'),
        (3, 1700000000.25, "test", "routes", "", "[]"),
        (4, 1700000000.25, "test", "upstream", "a", None),
    ]
    assert execute(path, "SELECT kind, name, value FROM state ORDER BY kind") == [
        ("routes", "", "[]"),
        ("upstream", "a", None),
    ]
    plan = execute(path, "EXPLAIN QUERY PLAN SELECT * FROM changes WHERE version > 2")
    assert "changes_by_version" in plan[0][3]


def test_ten_thousand_upstreams_are_opened(path: Path) -> None:
    """All come back (it takes some 30 ms; at most a second is allowed)."""
    make(path)
    value = '{"servers":[{"host":"10.0.0.1","port":80},{"host":"10.0.0.2","port":80}]}'
    with closing(sqlite3.connect(path)) as connection, connection:
        for number in range(10000):
            row = (number + 1, 0.0, "test", "upstream", f"u{number}", value)
            connection.execute(
                "INSERT INTO changes (version, time, who, kind, name, value)"
                " VALUES (?, ?, ?, ?, ?, ?)",
                row,
            )
            connection.execute("INSERT INTO state VALUES (?, ?, ?)", row[3:])
    with opened(path) as (_, state):
        assert state.version == len(state.upstreams) == 10000
        assert state.upstreams["u9999"]["servers"][1] == {"host": "10.0.0.2", "port": 80}


def test_missing_folder_is_named(tmp_path: Path) -> None:
    """The folder is not made: most likely its name is mistyped, or it is not mounted yet."""
    folder = tmp_path / "missing"
    assert refusal(folder / "slardar.db") == f"the folder {folder} does not exist"
    assert not folder.exists()


def test_folder_and_fifo_are_refused(path: Path) -> None:
    """A path that is no regular file is refused at once."""
    path.mkdir()
    assert refusal(path) == "cannot open this store: Is a directory"
    path.rmdir()
    os.mkfifo(path)
    assert refusal(path) == "expected a regular file"


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_file_that_is_no_database_is_refused(path: Path, size: int) -> None:
    """It is refused whatever its length, and not changed."""
    path.write_bytes(b"upstreams:\n" * size)
    before = path.read_bytes()
    assert refusal(path) == (
        "cannot open this store: file is not a database; if it was one, its beginning is"
        " damaged: restore it from a backup"
    )
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    ["CREATE TABLE songs (title)", "PRAGMA user_version = 1", "PRAGMA application_id = 7"],
)
def test_database_of_another_program_is_refused(path: Path, statement: str) -> None:
    """A foreign table, version or mark is enough; the file is not changed."""
    execute(path, statement)
    before = path.read_bytes()
    assert refusal(path) == "expected a store of slardar, not another database"
    assert path.read_bytes() == before
    assert os.listdir(path.parent) == ["slardar.db"]


def test_newer_schema_is_refused(path: Path) -> None:
    """This version could miss parts of its content; the line says what to do."""
    make(path, a={})
    known, newer = SCHEMA.version, SCHEMA.version + 1
    execute(path, f"PRAGMA user_version = {newer}")
    wanted = f"has schema version {newer}, and this slardar knows 1 to {known}: use a newer slardar"
    assert refusal(path) == wanted
    assert execute(path, "PRAGMA user_version") == [(newer,)]


def test_file_cut_short_is_refused(path: Path) -> None:
    """A file without its end is damaged, not a smaller store."""
    make(path, a={"text": "x" * 50000})
    os.truncate(path, 20000)
    assert refusal(path) == (
        "cannot open this store: database disk image is malformed: restore it from a backup"
    )


def test_damaged_pages_are_refused(path: Path) -> None:
    """Whichever page is overwritten, either the whole state is returned or none."""
    make(path, **{f"u{number}": {"text": "x" * 300} for number in range(200)})
    with opened(path) as (_, whole):
        pass
    sound = path.read_bytes()
    refused = 0
    for start in range(0, len(sound), 4096):
        path.write_bytes(sound[:start] + b"\xa5" * 4096 + sound[start + 4096 :])
        try:
            # A free page has no content.
            with opened(path) as (_, state):
                assert state.upstreams == whole.upstreams
        except StoreError:
            refusal(path)
            refused += 1
    assert refused > 10


def test_damaged_index_is_refused(path: Path) -> None:
    """Reading the state does not need it, but the next commit would go wrong."""
    make(path, a={})
    question = "SELECT rootpage FROM sqlite_master WHERE name = 'sqlite_autoindex_state_1'"
    start = (execute(path, question)[0][0] - 1) * 4096
    sound = path.read_bytes()
    path.write_bytes(sound[:start] + b"\xa5" * 4096 + sound[start + 4096 :])
    assert refusal(path).startswith("damaged (")


@pytest.mark.parametrize(
    ("statement", "wanted"),
    [
        ("UPDATE {} SET value = '{{\"a\":'", "upstreams.a: expected JSON: "),
        ("UPDATE {} SET value = x'ff'", "upstreams.a: expected JSON: "),
        ("UPDATE {} SET kind = 'lua'", "holds lua 'a', which this version cannot serve"),
        ("UPDATE {} SET name = x'61'", "holds upstream b'a', which this version"),
        ("UPDATE {} SET value = CAST(x'ff' AS TEXT)", "upstreams.a: expected JSON: "),
        (
            "DROP TABLE state",
            "damaged or altered (its tables are not those of slardar): restore it",
        ),
        (
            "DROP TABLE changes",
            "damaged or altered (its tables are not those of slardar): restore it",
        ),
    ],
)
def test_state_that_cannot_be_served_is_refused(path: Path, statement: str, wanted: str) -> None:
    """A wrong edit by somebody else is not served in part."""
    make(path, a={})
    for table in ("state", "changes"):
        # Both tables have the change.
        if table == "state" or "{}" in statement:
            execute(path, statement.format(table))
    assert refusal(path).startswith(wanted)


def test_link_into_nowhere_is_named(path: Path) -> None:
    """The message names the missing folder to which the link leads."""
    target = path.parent / "unmounted" / "real.db"
    path.symlink_to(target)
    wanted = f"is a link to {target}, and the folder {target.parent} does not exist"
    assert refusal(path) == wanted
    (path.parent / "unmounted").mkdir()
    make(path, a={})
    assert target.exists()


def test_folder_that_takes_no_file_is_named() -> None:
    """The folder exists, whatever the system's error says."""
    assert refusal(Path("/proc/x.db")) == "the folder /proc takes no new file"


def test_log_behind_a_link_is_not_thrown_away(path: Path) -> None:
    """SQLite keeps the log beside the file itself, not beside the link."""
    (path.parent / "data").mkdir()
    real = path.parent / "data" / "real.db"
    real.touch()
    log = real.with_name("real.db-wal")
    log.write_bytes(b"changes")
    path.symlink_to(real)
    assert refusal(path).startswith(f"is empty although {log} is not")
    assert log.read_bytes() == b"changes"


def test_empty_file_becomes_a_store(path: Path) -> None:
    """``touch`` or an interrupted start made it; it is made private."""
    path.touch(0o644)
    make(path, a={})
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with opened(path) as (_, state):
        assert state == StoredState(1, {"a": {}}, revision=1)


@pytest.mark.real
def test_half_made_file_becomes_a_store(path: Path) -> None:
    """SQLite takes back the writes of an interrupted creation."""
    script = (CHECKOUT / "slardar/stores/schema/sqlite-1.sql").read_text()
    # A cache of one page writes pages to the file before the commit, which never comes.
    program = (
        "import os, sqlite3, sys\n"
        "connection = sqlite3.connect(sys.argv[1], isolation_level=None)\n"
        "connection.execute('PRAGMA cache_size = 1')\n"
        "connection.executescript('BEGIN IMMEDIATE;' + sys.stdin.read())\n"
        "connection.execute('INSERT INTO changes VALUES (1, 1, 0, 0, 0, 0, zeroblob(100000))')\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", program, path], input=script, text=True, check=True)
    assert path.stat().st_size > 4096
    assert path.with_name("slardar.db-journal").exists()
    with opened(path) as (_, state):
        assert state == StoredState(0, {}, None)


def test_log_without_its_file_is_not_thrown_away(path: Path) -> None:
    """An empty file beside a log with content is a loss to look at, not a new store."""
    path.touch()
    log = path.with_name("slardar.db-wal")
    log.write_bytes(b"changes")
    wanted = f"is empty although {log} is not: restore it from a backup, or move both away"
    assert refusal(path) == wanted
    assert log.read_bytes() == b"changes"


def test_file_is_opened_once_in_a_process(path: Path) -> None:
    """The second opening is refused and disturbs nothing; once the first is closed, it
    succeeds."""
    with opened(path) as (file, _):
        assert refusal(path) == "in use by another slardar"
        alias = path.with_name("alias.db")
        alias.symlink_to(path)
        assert refusal(alias) == "in use by another slardar"
        assert commit(file, 0, "a", {}) == 1
    with opened(path) as (_, state):
        assert state.version == 1


@pytest.mark.real
def test_file_is_opened_once_on_a_machine(path: Path) -> None:
    """Another process that has it open keeps it until it ends, even by a kill."""
    program = (
        "import sys; from slardar.stores.sqlite_file import SqliteFile\n"
        "file = SqliteFile(sys.argv[1]); file.open()\n"
        "print('open', flush=True); sys.stdin.read()\n"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", program, path],
        cwd=CHECKOUT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        assert refusal(path) == "in use by another slardar"
        other.kill()
    make(path, a={})


def test_running_store_can_be_read_and_backed_up(path: Path) -> None:
    """An operator's sqlite3 sees committed changes, and does not hinder the next commit."""
    with opened(path) as (file, _):
        commit(file, 0, "a", {})
        with closing(sqlite3.connect(path, isolation_level=None)) as reader:
            reader.execute("BEGIN")
            assert reader.execute("SELECT name FROM state").fetchall() == [("a",)]
            assert commit(file, 1, "b", {}) == 2
            reader.execute("COMMIT")
            with closing(sqlite3.connect(path.with_name("copy.db"))) as copy:
                reader.backup(copy)
    with opened(path.with_name("copy.db")) as (_, state):
        assert state == StoredState(2, {"a": {}, "b": {}}, revision=2)


def test_link_is_followed(path: Path) -> None:
    """The configured path may be a symbolic link."""
    real = path.with_name("real.db")
    path.symlink_to(real)
    make(path, a={})
    assert path.is_symlink()
    with opened(real) as (_, state):
        assert state.upstreams == {"a": {}}


def test_refused_file_can_be_opened_once_it_is_right(path: Path) -> None:
    """A refusal keeps nothing open: the same object opens a good file in its place."""
    path.write_bytes(b"no database")
    file = SqliteFile(str(path))
    with pytest.raises(StoreError):
        file.open()
    path.unlink()
    assert file.open() == StoredState(0, {}, None)
    file.close()
    file.close()


def test_private_key_that_is_replaced_is_not_in_the_file(path: Path) -> None:
    """Neither in the history nor in pages that are free; that one that counts is."""
    with opened(path) as (file, state):
        revision: Any = state.revision
        for number, kind in enumerate(("certificate", "acme") * 3):
            value = {"cert": "", "key": f"PRIVATE{number}" * 400}
            change = Change(kind, "a", value, "test", 1.0)  # type: ignore[arg-type]
            revision = file.commit(revision, [(change, encode(change))], number + 1)
    data = path.read_bytes()
    assert [b"PRIVATE%d" % number in data for number in range(6)] == 4 * [False] + 2 * [True]
    with opened(path) as (file, state):
        assert state.certificates["a"]["key"].startswith("PRIVATE4")
        assert state.acme["a"]["key"].startswith("PRIVATE5")
