"""The store's thread: it keeps the order, never blocks the reactor, and always ends."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred

from slardar.errors import StoreError
from slardar.model.change import StoredState
from slardar.stores.sqlite import SqliteStore
from slardar.stores.sqlite_file import SqliteFile
from slardar.stores.thread import StoreThread
from slardar.testing.stores import change_of

CHECKOUT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture
def reactor() -> Any:
    from twisted.internet import reactor  # noqa: TID251

    return reactor


def store_threads() -> list[str]:
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if "slardar-store" in name]


@pytest_twisted.ensureDeferred
async def test_thread_is_the_stores_own_and_ends(tmp_path: Path, reactor: Any) -> None:
    """There is one thread while the store is open, and none after close has fired or open has
    failed."""
    assert store_threads() == []
    store = SqliteStore(tmp_path / "slardar.db", reactor)
    await store.open()
    assert len(store_threads()) == 1
    await store.close()
    assert store_threads() == []
    with pytest.raises(StoreError):
        await SqliteStore(tmp_path, reactor).open()
    assert store_threads() == []


@pytest_twisted.ensureDeferred
async def test_failed_open_can_be_tried_again(tmp_path: Path, reactor: Any) -> None:
    """The error names the file; the same store opens once the cause is gone."""
    path = tmp_path / "later" / "slardar.db"
    store = SqliteStore(str(path), reactor)
    with pytest.raises(StoreError, match=f"^{path}: the folder {path.parent} does not exist$"):
        await store.open()
    with pytest.raises(StoreError, match="not open"):
        await store.commit(0, [change_of("a", {})], 1)
    path.parent.mkdir()
    assert await store.open() == StoredState(0, {}, None)
    await store.close()


@pytest_twisted.ensureDeferred
async def test_calls_need_not_wait_for_open(tmp_path: Path, reactor: Any) -> None:
    """A commit and a close right after open are done after it; if open fails, they fail, too."""
    store = SqliteStore(tmp_path / "slardar.db", reactor)
    answers = [store.open(), store.commit(0, [change_of("a", {})], 1), store.close()]
    assert [await answer for answer in answers] == [StoredState(0, {}, None), 1, None]
    store = SqliteStore(tmp_path / "missing" / "slardar.db", reactor)
    opening, committing = store.open(), store.commit(0, [change_of("a", {})], 1)
    closing = store.close()
    with pytest.raises(StoreError, match="does not exist"):
        await opening
    with pytest.raises(StoreError, match="not open"):
        await committing
    assert await closing is None


@pytest_twisted.ensureDeferred
async def test_relative_path_starts_at_the_folder_of_open(
    tmp_path: Path, reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not start at the folder in which the store object was made, nor at a later one."""
    for name in ("first", "second", "third"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "first")
    store = SqliteStore("slardar.db", reactor)
    monkeypatch.chdir(tmp_path / "second")
    opening = store.open()
    monkeypatch.chdir(tmp_path / "third")
    await opening
    assert await store.commit(0, [change_of("a", {})], 1) == 1
    await store.close()
    assert [os.listdir(tmp_path / name) for name in ("first", "second", "third")] == [
        [],
        ["slardar.db"],
        [],
    ]


@pytest_twisted.ensureDeferred
async def test_folder_that_is_gone_is_an_error(
    tmp_path: Path, reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A relative path from a removed folder fails like any other open."""
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(StoreError, match=r"^slardar\.db: cannot tell the current folder: "):
        await SqliteStore("slardar.db", reactor).open()


@pytest_twisted.ensureDeferred
async def test_slow_disk_does_not_hold_the_reactor(
    tmp_path: Path, reactor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a commit waits, the reactor goes on; later commits keep their order."""
    store = SqliteStore(tmp_path / "slardar.db", reactor)
    await store.open()
    entered, disk = threading.Event(), threading.Event()
    commit = SqliteFile.commit

    def slow(*arguments: Any) -> int:
        entered.set()
        assert disk.wait(30)
        return commit(*arguments)

    monkeypatch.setattr(SqliteFile, "commit", slow)
    answers = [store.commit(n, [change_of("a", n)], n + 1) for n in range(5)]
    closing = store.close()
    # This loop ends only if the reactor turns while the thread is held.
    while not entered.is_set():
        turn: Deferred[None] = Deferred()
        reactor.callLater(0, turn.callback, None)
        await turn
    assert not any(answer.called for answer in [*answers, closing])
    disk.set()
    await closing
    assert [await answer for answer in answers] == [1, 2, 3, 4, 5]


STOPPED = """
import os, sys, threading
from twisted.internet import reactor
from slardar.model.change import Change
from slardar.stores.sqlite import SqliteStore

store = SqliteStore(sys.argv[1], reactor)

def use(state):
    for n in range(20):
        store.commit(n, [Change("upstream", "a", n, "test", 0.0)], n + 1)
    reactor.stop()

reactor.callWhenRunning(lambda: store.open().addCallback(use))
reactor.run()
print([thread.name for thread in threading.enumerate()])
print(os.listdir(os.path.dirname(sys.argv[1])))
outcome = []
store.commit(20, [Change("upstream", "a", 20, "test", 0.0)], 21).addErrback(outcome.append)
store.close().addCallback(outcome.append)
print(outcome[0].getErrorMessage(), outcome[1])
"""

NEVER_RUN = """
import sys
from twisted.internet import reactor
from slardar.stores.sqlite import SqliteStore

SqliteStore(sys.argv[1], reactor).open()
"""


def run(program: str, path: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.real
def test_stopped_reactor_ends_the_thread(tmp_path: Path) -> None:
    """Without a close, queued commits are made, the file is closed, and the thread ends."""
    path = tmp_path / "slardar.db"
    lines = run(STOPPED, path).splitlines()
    said = f"{path}: this store is not open None"
    # SQLite's other files are gone, so the file was closed before the process ended.
    assert lines == ["['MainThread']", "['slardar.db']", said]
    file = SqliteFile(str(path))
    assert file.open() == StoredState(20, {"a": 19}, revision=20)
    file.close()


@pytest.mark.real
def test_reactor_that_never_ran_does_not_hold_the_process(tmp_path: Path) -> None:
    """The process ends, although nobody could close the store."""
    assert run(NEVER_RUN, tmp_path / "slardar.db") == ""


@pytest_twisted.ensureDeferred
async def test_failure_in_the_thread_is_the_callers(reactor: Any) -> None:
    """An exception of a function fails its Deferred, and the thread goes on."""
    thread = StoreThread(reactor, "slardar-store", lambda: None)
    with pytest.raises(ZeroDivisionError):
        await thread.run(lambda: 1 // 0)
    assert await thread.run(lambda *numbers: sum(numbers), 1, 2) == 3
    thread.end()
    thread.end()
    assert thread.ended
    assert store_threads() == []
