"""No answered change is lost to ``kill -9``."""

from __future__ import annotations

import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from slardar.stores.sqlite import SqliteStore
from tests.stores.writer import change_to

pytestmark = pytest.mark.real

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SEED = 1995
#: Seconds within which a writer on a busy machine must have written a line.
PATIENCE = 30.0


class Writers:
    """The process that forks writers, which are killed one after the other."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.stores.writer"],
            cwd=CHECKOUT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self._said = b""
        #: The writer that has not ended yet.
        self._writer: int | None = None

    def killed(self, path: Path, lines: int, seconds: float) -> int:
        """The last version that a writer answered; 0: it only opened, -1: not even that.

        It is killed ``seconds`` after it has written so many lines.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(f"{path}\n".encode())
        self._process.stdin.flush()
        self._writer = int(self._line().removeprefix("pid "))
        said = [self._line() for _ in range(lines)]
        # The writer does not know the moment of the kill; the claim holds for any.
        threading.Event().wait(seconds)
        os.kill(self._writer, signal.SIGKILL)
        said += iter(self._line, f"ended {int(signal.SIGKILL)}")
        self._writer = None
        return max([-1, *(int(line.removeprefix("open ")) for line in said)])

    def _line(self) -> str:
        """The next line of the writers' process."""
        assert self._process.stdout is not None
        pipe = self._process.stdout.fileno()
        while b"\n" not in self._said:
            assert select.select([pipe], [], [], PATIENCE)[0], "the writer says nothing"
            data = os.read(pipe, 65536)
            assert data, "the writers have ended by themselves"
            self._said += data
        line, _, self._said = self._said.partition(b"\n")
        if line == b"ended 0":
            self._writer = None
            pytest.fail("the writer has ended by itself: its words are on stderr")
        return line.decode()

    def end(self) -> None:
        """End the process, and the writer if a test has failed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._writer is not None and b"ended" not in self._said:
            os.kill(self._writer, signal.SIGKILL)
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.kill()
        self._process.wait()


@pytest.fixture
def writers() -> Iterator[Writers]:
    writers = Writers()
    yield writers
    writers.end()


async def check(path: Path, answered: int) -> int:
    """Assert that the file has every answered change, and at most one more."""
    from twisted.internet import reactor  # noqa: TID251

    store = SqliteStore(path, reactor)
    state = await store.open()
    await store.close()
    assert max(answered, 0) <= state.version <= max(answered, 0) + 1
    upstreams: dict[str, Any] = {}
    routes = None
    made = [change_to(version) for version in range(1, state.version + 1)]
    for change in made:
        if change.kind == "routes":
            routes = change.value
        else:
            upstreams[change.name] = change.value
    assert state.upstreams == upstreams
    assert state.routes == routes
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute("SELECT version, time, kind, name FROM changes ORDER BY id")
        assert rows.fetchall() == [(c.time, c.time, c.kind, c.name) for c in made]
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        connection.close()
    return state.version


@pytest_twisted.ensureDeferred
async def test_killed_writer_loses_no_answered_change(tmp_path: Path, writers: Writers) -> None:
    """Forty kills on one file, at any moment: while opening, committing, cleaning up."""
    chance = random.Random(SEED)
    path = tmp_path / "slardar.db"
    version = 0
    for _ in range(40):
        answered = writers.killed(path, chance.randrange(15), chance.uniform(0, 0.004))
        version = await check(path, max(answered, version))
    assert version > 100


@pytest_twisted.ensureDeferred
async def test_killed_creation_leaves_nothing_half_made(tmp_path: Path, writers: Writers) -> None:
    """Ten kills on a new file: the next start finds a whole store, or makes one."""
    chance = random.Random(SEED)
    for number in range(10):
        path = tmp_path / f"{number}.db"
        await check(path, writers.killed(path, 0, chance.uniform(0, 0.03)))
