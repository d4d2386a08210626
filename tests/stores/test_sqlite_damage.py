"""A damaged file is noticed at the start, never by the first change that meets the damage."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from twisted.logger import capturedLogs, formatEvent

from slardar.errors import StoreError
from slardar.model.change import StoredState
from slardar.stores import sqlite_check
from slardar.stores.sqlite_file import SqliteFile
from slardar.stores.written import encode
from slardar.testing.stores import change_of

PAGE = 4096
#: The log's text about a value that somebody has edited, or that is damaged.
STANDS = "is not what the last change made of it"
#: The texts of refusals.  The first three are for damage that makes it another kind of file.
LINES = (
    "expected a store of slardar, not another database",
    "use a newer slardar",
    "this version cannot serve",
    ": expected JSON: ",
    "restore it from a backup",
)


def commit(file: SqliteFile, version: int, name: str, value: object) -> int:
    change = change_of(name, value)
    revision = file.commit(version, [(change, encode(change))], version + 1)
    assert isinstance(revision, int)
    return revision


class Sound:
    """A file without damage.  Its representation is short: Hypothesis shows the arguments of a
    test that fails, and the file would hide the others."""

    def __init__(self, data: bytes, state: StoredState) -> None:
        self.data = data
        self.state = state

    def __repr__(self) -> str:
        return f"<Sound {len(self.data)} bytes>"


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Sound:
    """A store as after a long run, and its state: changed and removed upstreams, values of
    many sizes, free pages."""
    path = tmp_path_factory.mktemp("sound") / "slardar.db"
    file = SqliteFile(str(path))
    file.open()
    draw = random.Random(1)
    for version in range(90):
        size = draw.choice((10, 200, 200, 900, 6000))
        value = None if version % 17 == 0 else {"text": f"{version}" + "x" * size}
        commit(file, version, f"u{draw.randrange(40)}", value)
    commit(file, 90, "", [])
    file.close()
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        # This makes free pages, as a table of a later version may.
        connection.execute("CREATE TABLE filler AS SELECT zeroblob(50000)")
        connection.execute("DROP TABLE filler")
        assert connection.execute("PRAGMA freelist_count").fetchone()[0] > 5
    file.open()
    file.close()
    data = path.read_bytes()
    whole = SqliteFile(str(path))
    state = whole.open()
    whole.close()
    return Sound(data, state)


@pytest.fixture
def check(tmp_path: Path, sound: Sound) -> Callable[[bytes], bool]:
    """Opens a file with these bytes.  Returns True if it was refused with a helpful line; else
    asserts that the state is complete and changes are taken."""
    path = tmp_path / "slardar.db"

    def opened(data: bytes) -> bool:
        for leftover in tmp_path.glob("slardar.db*"):
            leftover.unlink()
        path.write_bytes(data)
        file = SqliteFile(str(path))
        try:
            with capturedLogs() as logged:
                state = file.open()
        except StoreError as error:
            message = str(error)
            assert message.startswith(f"{path}: ")
            assert "\n" not in message
            assert any(line in message for line in LINES), message
            assert path.read_bytes() == data, "it is left as it is"
            return True
        try:
            told = any(STANDS in formatEvent(event) for event in logged)
            assert state == sound.state or told
            version = state.version
            for name, value in (("u1", {"text": "y"}), ("new", {"text": "z" * 9000}), ("u2", None)):
                version = commit(file, version, name, value)
        finally:
            file.close()
        again = file.open()
        file.close()
        assert again.version == version
        return False

    return opened


def test_sound_file_is_taken(sound: Sound, check: Callable[[bytes], bool]) -> None:
    """The check does not refuse a good file."""
    assert not check(sound.data)


@pytest.mark.parametrize("filling", [0x00, 0xA5])
def test_overwritten_page(sound: Sound, check: Callable[[bytes], bool], filling: int) -> None:
    """Any page may be overwritten; only free pages, and old values that are not served, may be
    lost without a refusal."""
    data = sound.data
    starts = range(0, len(data), PAGE)
    refused = sum(
        check(data[:start] + bytes([filling]) * PAGE + data[start + PAGE :]) for start in starts
    )
    assert refused > 0.5 * len(starts)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
# The two versions of the format in the header, and one that SQLite has no error of its own for.
@example(places=[(18, 0xFF)])
@example(places=[(18, 3), (19, 3)])
@example(places=[(47, 2)])
# Valid SQL still, and SQLite opens it: a table without its key.
@example(places=[(b"PRIMARY KEY,\n    v", 1)])
@example(places=[(b"PRIMARY KEY,\n    version", 1)])
@given(
    places=st.lists(
        # The first page has the header and the schema.
        st.tuples(st.integers(0, PAGE) | st.integers(0, 10**9), st.integers(1, 255)),
        min_size=1,
        max_size=3,
    )
)
def test_changed_bytes(
    sound: Sound,
    check: Callable[[bytes], bool],
    places: list[tuple[int | bytes, int]],
) -> None:
    """A few bytes may change anywhere: in a value, in the structure of a page, in the header, in
    the schema."""
    data = bytearray(sound.data)
    for found, bits in places:
        place = data.index(found) if isinstance(found, bytes) else found
        data[place % len(data)] ^= bits
    check(bytes(data))


def test_value_that_nobody_changed(tmp_path: Path) -> None:
    """A changed byte within a value leaves every page well-formed.  It may be a person's edit,
    so the value is served, and the log says that no change has made it."""
    path = tmp_path / "slardar.db"
    file = SqliteFile(str(path))
    file.open()
    commit(file, 0, "www", {"servers": [{"host": "127.0.0.1", "port": 8001}]})
    file.close()
    data = path.read_bytes()
    assert data.count(b"8001") == 2
    for start in (data.index(b"8001"), data.rindex(b"8001")):
        path.write_bytes(data[:start] + b"8081" + data[start + 4 :])
        with capturedLogs() as logged:
            file.open()
        file.close()
        (line,) = [formatEvent(event) for event in logged if event["log_level"].name == "error"]
        assert line.startswith(f"{path}: upstreams.www {STANDS}")
        assert line.endswith("restore it from a backup")


def test_log_is_not_passed_over(tmp_path: Path) -> None:
    """The header says that there is no log beside the file, while there is one."""
    path = tmp_path / "slardar.db"
    file = SqliteFile(str(path))
    file.open()
    commit(file, 0, "www", {})
    log = path.with_name("slardar.db-wal")
    kept = log.read_bytes()
    assert kept
    file.close()
    log.write_bytes(kept)
    data = path.read_bytes()
    path.write_bytes(data[:18] + b"\1\1" + data[20:])
    with pytest.raises(StoreError, match=r"damaged \(its header .*a backup$"):
        file.open()
    assert log.read_bytes() == kept


def test_time_is_bounded(tmp_path: Path) -> None:
    """A query that would take for ever is given up, and the connection goes on."""
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT sum(i) FROM n"
    with closing(sqlite3.connect(tmp_path / "a.db", isolation_level=None)) as connection:
        assert sqlite_check._within(connection, 0.05, endless) is None
        assert sqlite_check._within(connection, 5, "SELECT 'one'") == ("one",)
        assert sqlite_check._within(connection, 5, "SELECT 1 WHERE 0") == ()


def test_what_could_not_be_looked_at_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table from which slardar serves is checked all the same."""
    path = tmp_path / "slardar.db"
    file = SqliteFile(str(path))
    file.open()
    commit(file, 0, "www", {})
    file.close()
    monkeypatch.setattr(sqlite_check, "_within", lambda *_: None)
    with capturedLogs() as logged:
        assert file.open().upstreams == {"www": {}}
    file.close()
    (line,) = [formatEvent(event) for event in logged if event["log_level"].name == "warn"]
    assert line.startswith(f"{path}: too large to be looked through within 20 s: only ")
