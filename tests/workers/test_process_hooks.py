"""A worker process and its hooks: the note of which is running, hanging, and memory."""

from __future__ import annotations

import os
import signal

import pytest
from twisted.internet.defer import Deferred

from slardar.workers import messages
from slardar.workers.marks import Mark, make_mark, open_mark
from slardar.workers.messages import Done
from slardar.workers.process import ANSWER, SILENCE
from tests.dataplane.kit import logged
from tests.workers.test_process import Pretended, ready


def noted(worker: Pretended, value: int) -> None:
    """Let the worker note that a hook is running."""
    descriptor = make_mark()
    worker.process.mark = Mark(os.dup(descriptor))
    open_mark(descriptor)[0] = value


def test_last_note_is_read_when_it_has_ended() -> None:
    """And its descriptor let go."""
    before = len(os.listdir("/proc/self/fd"))
    worker = ready()
    noted(worker, 4711)
    worker.exit(9)
    assert (worker.process.last_mark, worker.process.hung) == (4711, False)
    assert worker.process.mark is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_end_without_a_note() -> None:
    """One that was never started has none."""
    worker = ready()
    worker.exit(9)
    assert worker.process.last_mark == 0


@pytest.mark.parametrize(
    ("number", "hung"),
    [
        (signal.SIGSEGV, True), (signal.SIGBUS, True), (signal.SIGILL, True),
        (signal.SIGFPE, True), (signal.SIGABRT, True), (signal.SIGKILL, False),
        (signal.SIGTERM, False), (None, False),
    ],
)  # fmt: skip
def test_crash_is_its_own_doing(number: int | None, hung: bool) -> None:
    """What somebody else did to it is not."""
    worker = ready()
    noted(worker, 7)
    worker.exit(number)
    assert worker.process.hung is hung


def test_worker_that_was_killed_for_hanging_hung() -> None:
    """Whatever signal ended it in the end."""
    worker = ready()
    worker.answer = Deferred()
    worker.look(0)
    worker.exchange()
    with logged():
        worker.look(SILENCE)
        worker.clock.advance(1)
    worker.exit(signal.SIGKILL)
    assert worker.process.hung


@pytest.mark.parametrize("ask", ["tell", "load"])
def test_worker_that_did_not_answer_in_time_hung(ask: str) -> None:
    """It may be a hook that never comes to its end while it is loaded."""
    worker = Pretended()
    worker.answer = Deferred()
    getattr(worker.process, ask)(b"x").addErrback(lambda _gone: None)
    worker.exchange()
    with logged():
        worker.clock.advance(100)
    worker.exit(signal.SIGKILL)
    assert worker.process.hung


def test_worker_that_talked_nonsense_did_not_hang() -> None:
    """It is killed for another reason."""
    worker = Pretended()
    worker.answer = b"nonsense"
    answer = worker.process.tell(b"x", ANSWER)
    answer.addErrback(lambda _gone: None)
    with logged():
        worker.exchange()
    worker.exit(signal.SIGKILL)
    assert not worker.process.hung
    assert messages.decode_answer(messages.encode(Done(1))) == Done(1)


# Memory.


def test_memory_of_a_process_is_read() -> None:
    """What it has of its own; of a process that there is not, none."""
    worker = ready()
    worker.process.pid = os.getpid()
    with open("/proc/self/status", encoding="ascii") as file:
        (line,) = [line for line in file if line.startswith("RssAnon:")]
    assert worker.process.memory() == pytest.approx(int(line.split()[1]) * 1024, rel=0.2)
    worker.process.pid = 2**22 + 1
    assert worker.process.memory() == 0
