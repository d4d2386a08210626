"""The copy of a store in a file of this machine."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from msgspec.structs import replace
from twisted.logger import capturedLogs, formatEvent

from slardar.model.change import TO_FILE, StoredState
from slardar.stores.copy import Copied, StateCopy
from slardar.stores.sqlite_file import SqliteFile, peek
from tests.control.fakes import upstream

URL = "consul:http://127.0.0.1:8500/x/"
STATE = StoredState(
    7,
    {"a": upstream(1), "gone": None},
    [{"upstream": "a"}],
    {"lua/script.a": {"active": 1}},
    "3f",
    {},
    {"s": {"dns_service": "x"}},
    {"myargs": [1, {"b": None}]},
)


class Copies:
    """Opens copies one after the other at the same place."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def make(self, url: str = URL) -> StateCopy:
        from twisted.internet import reactor  # noqa: TID251

        return StateCopy(str(self.path), url, reactor)

    async def written(self, state: StoredState, time: float, url: str = URL) -> None:
        copy = self.make(url)
        await copy.open()
        copy.keep(state, time)
        await copy.close()
        assert copy.problem == ""

    async def read(self, url: str = URL) -> Copied | None:
        copy = self.make(url)
        copied = await copy.open()
        await copy.close()
        return copied


@pytest.fixture
def copies(tmp_path: Path) -> Copies:
    return Copies(tmp_path / "copy.db")


def same(copied: Copied | None, state: StoredState, time: float) -> None:
    assert copied is not None
    assert (replace(copied.state, revision=state.revision), copied.time) == (state, time)


@pytest_twisted.ensureDeferred
async def test_state_comes_back(copies: Copies) -> None:
    """With every kind of thing, the version of the store and the time; only its owner may read
    the file."""
    assert await copies.read() is None
    await copies.written(STATE, 12.5)
    same(await copies.read(), STATE, 12.5)
    assert stat.S_IMODE(os.stat(copies.path).st_mode) == 0o600
    # A later state, with an older version.
    then = StoredState(3, {"b": upstream(2)}, TO_FILE)
    await copies.written(then, 13.5)
    found = await copies.read()
    assert found is not None
    assert found.state.version == 3
    assert found.state.upstreams == {"a": TO_FILE, "b": upstream(2), "gone": TO_FILE}
    assert (found.state.hooks, found.state.settings, found.state.routes) == ({}, {}, TO_FILE)
    assert not any(found.state.decides_service(name) for name in found.state.services)


@pytest_twisted.ensureDeferred
async def test_states_are_gathered(copies: Copies) -> None:
    """A hundred changes are one commit, a second later."""
    copy = copies.make()
    await copy.open()
    for number in range(100):
        copy.keep(StoredState(number, {"a": upstream(number + 1)}), number)
    await copy.close()
    copied = await copies.read()
    assert copied is not None
    assert copied.state.upstreams == {"a": upstream(100)}
    assert copied.state.revision == 2  # the upstream, and what the file is about


@pytest_twisted.ensureDeferred
async def test_only_what_differs_is_written(copies: Copies) -> None:
    """A note of the time is one row."""
    await copies.written(STATE, 1.0)
    before = await copies.read()
    await copies.written(STATE, 2.0)
    after = await copies.read()
    assert before is not None
    assert after is not None
    assert after.state.revision == int(before.state.revision) + 1


@pytest_twisted.ensureDeferred
async def test_copy_of_another_store_is_not_used(copies: Copies) -> None:
    """A line says so, and it stays until there is something to be written."""
    other = "consul:http://127.0.0.1:8500/y/"
    await copies.written(STATE, 1.0)
    with capturedLogs() as logged:
        assert await copies.read(other) is None
    (line,) = [formatEvent(event) for event in logged]
    assert line is not None
    assert line.endswith(f"is a copy of {URL}, not of {other}, and is not used")
    same(await copies.read(), STATE, 1.0)
    await copies.written(StoredState(1, {"b": upstream(1)}), 2.0, other)
    assert await copies.read() is None
    found = await copies.read(other)
    assert found is not None
    assert [name for name in found.state.upstreams if found.state.decides(name)] == ["b"]


@pytest.mark.parametrize("damage", ["text", "page", "value"])
@pytest_twisted.ensureDeferred
async def test_damaged_copy_is_made_anew(copies: Copies, damage: str) -> None:
    """It is put aside, with a line of the log, and the node goes on."""
    await copies.written(STATE, 1.0)
    data = copies.path.read_bytes()
    if damage == "text":
        copies.path.write_bytes(b"no database at all, and long enough to be looked at" * 100)
    elif damage == "page":
        copies.path.write_bytes(data[:4096] + bytes(range(256)) * 16 + data[8192:])
    else:
        file = SqliteFile(str(copies.path))
        file.open()
        assert file._connection is not None
        file._connection.execute("UPDATE state SET value = '{' WHERE kind = 'upstream'")
        file.close()
    with capturedLogs() as logged:
        copy = copies.make()
        assert await copy.open() is None
    lines = [str(formatEvent(event)) for event in logged]
    assert [line for line in lines if line.endswith("it is only a copy, and is made anew")]
    copy.keep(STATE, 2.0)
    await copy.close()
    assert copy.problem == ""
    same(await copies.read(), STATE, 2.0)
    assert Path(f"{copies.path}.damaged").exists()


@pytest_twisted.ensureDeferred
async def test_store_is_not_taken_for_a_copy(copies: Copies) -> None:
    """A name given by mistake overwrites nothing: neither a store nor another database."""
    from slardar.stores.written import encode
    from slardar.testing.stores import change_of

    file = SqliteFile(str(copies.path))
    file.open()
    change = change_of("a", {"mode": "rr"})
    file.commit(0, [(change, encode(change))], 1)
    file.close()
    copy = copies.make()
    assert await copy.open() is None
    assert copy.problem == f"{copies.path}: is a store itself, and no copy of one"
    copy.keep(STATE, 1.0)
    await copy.close()
    found = peek(str(copies.path))
    assert found is not None
    assert found.upstreams == {"a": {"mode": "rr"}}


@pytest_twisted.ensureDeferred
async def test_copy_in_use_is_left_alone(copies: Copies) -> None:
    """Two processes never write to one file; the second has none until the first is gone, and
    says so once."""
    first, second = copies.make(), copies.make()
    await first.open()
    with capturedLogs() as logged:
        assert await second.open() is None
        second.keep(StoredState(9), 9.0)
        await second._written(second._thread)  # type: ignore[arg-type]
    assert second.problem.endswith("in use by another slardar")
    assert len(logged) == 1
    first.keep(STATE, 1.0)
    await first.close()
    second.keep(STATE, 2.0)
    await second._written(second._thread)  # type: ignore[arg-type]
    assert second.problem == ""
    await second.close()
    same(await copies.read(), STATE, 2.0)


@pytest_twisted.ensureDeferred
async def test_removed_copy_is_made_again(copies: Copies) -> None:
    """Whole, with the attempt after the one that noticed."""
    copy = copies.make()
    await copy.open()
    copy.keep(STATE, 1.0)
    thread: Any = copy._thread
    await copy._written(thread)
    copies.path.unlink()
    copy.keep(STATE, 2.0)
    await copy._written(thread)
    assert "was removed" in copy.problem
    await copy.close()
    assert copy.problem == ""
    same(await copies.read(), STATE, 2.0)


@pytest_twisted.ensureDeferred
async def test_folder_that_takes_nothing_is_nobodys_failure(tmp_path: Path) -> None:
    """The problem is shown, and no call fails."""
    copies = Copies(tmp_path / "none" / "copy.db")
    copy = copies.make()
    assert await copy.open() is None
    copy.keep(STATE, 1.0)
    await copy.close()
    assert "does not exist" in copy.problem
