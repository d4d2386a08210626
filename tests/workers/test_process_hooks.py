"""A worker process and its hooks: the note which hook is running, hanging, and memory."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from slardar.hooks.call_note import CallNote
from slardar.workers import messages
from slardar.workers.marks import BEATS, RUNNING, Mark, make_mark, open_mark
from slardar.workers.messages import Done
from slardar.workers.process import ANSWER, SILENCE, START
from tests.dataplane.kit import logged
from tests.workers.kit import result_of
from tests.workers.test_process import Pretended, ready


def noted(worker: Pretended, value: int, monkeypatch: pytest.MonkeyPatch | None = None) -> Note:
    """Let the worker note that a hook is running; the note may change later."""
    descriptor = make_mark()
    worker.process.mark = Mark(os.dup(descriptor))
    note = Note(open_mark(descriptor))
    note.items[RUNNING] = value
    if monkeypatch is not None:
        patched: Any = worker.process
        monkeypatch.setattr(patched, "_cpu_time", lambda: note.cpu_time)
        worker.process.budget = 0.05
    return note


class Note:
    """The note of a worker, and its CPU time."""

    def __init__(self, items: memoryview) -> None:
        self.items = items
        self._call = CallNote(items)
        self.cpu_time = 5.0

    def beat(self) -> None:
        """Show that its reactor turns."""
        self.items[BEATS] += 1

    def call(self, running: int) -> None:
        """Begin another call."""
        self._call.begin(running)


def test_last_note_is_read_when_it_has_ended() -> None:
    """Then the note's descriptor is closed."""
    before = len(os.listdir("/proc/self/fd"))
    worker = ready()
    noted(worker, 4711)
    worker.exit(9)
    assert (worker.process.last_mark, worker.process.hung) == (4711, False)
    assert worker.process.mark is None
    assert len(os.listdir("/proc/self/fd")) == before


def test_end_without_a_note() -> None:
    """A worker that was never started has no note."""
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
    """A signal from somebody else does not count as a crash of the hook."""
    worker = ready()
    noted(worker, 7)
    worker.exit(number)
    assert worker.process.hung is hung


def silent(worker: Pretended, seconds: float, does: Any = lambda: None) -> list[int]:
    """Look after a worker that does not answer; returns the signals that it gets."""
    worker.answer = Deferred()
    with logged():
        for _ in range(round(seconds / 0.5)):
            if worker.signals:
                break
            worker.look(0.5)
            worker.exchange()
            does()
    return worker.signals


@pytest.mark.parametrize("does", [Note.beat, lambda note: note.call(7), lambda note: note.call(0)])
def test_worker_that_goes_on_is_alive(does: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is alive if its reactor turns, or if each look finds it in another call: whether it
    answers or not, and though a hook is running at each look."""
    worker = ready()
    note = noted(worker, 7, monkeypatch)
    does(note)

    def go_on() -> None:
        note.cpu_time += 0.5
        does(note)

    assert silent(worker, 60, go_on) == []
    # Its time counts from its last sign of life.
    assert silent(worker, SILENCE - 0.5) == []
    assert silent(worker, 1) == [signal.SIGUSR1]


def test_worker_hung_in_the_call_that_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """It has been in one call, which has used more CPU time than allowed."""
    worker = ready()
    note = noted(worker, 0, monkeypatch)
    note.beat()
    worker.look(0.5)
    note.call(4711)
    worker.look(0.5)
    note.cpu_time += 0.11
    assert silent(worker, SILENCE) == [signal.SIGUSR1]
    worker.exit(signal.SIGKILL)
    assert (worker.process.last_mark, worker.process.hung) == (4711, True)


def uses_no_cpu(note: Note) -> None:
    """The process was stopped, or others had the processors."""
    note.cpu_time += 0.09


def runs_no_hook(note: Note) -> None:
    """The worker hangs elsewhere."""
    note.items[RUNNING] = 0
    note.cpu_time += 2


def uses_cpu(note: Note) -> None:
    """It uses enough CPU time for a call that has not ended."""
    note.cpu_time += 2


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (uses_no_cpu, lambda note: None),
        (runs_no_hook, lambda note: None),
        # The call was about to end, as the next look shows.
        (uses_cpu, lambda note: note.call(7)),
        (uses_cpu, Note.beat),
    ],
)
def test_worker_that_hangs_may_not_hang_in_the_hook(
    before: Any, after: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is killed all the same, and the hook is not to blame."""
    worker = ready()
    note = noted(worker, 7, monkeypatch)
    note.beat()
    worker.look(0.5)
    before(note)
    assert silent(worker, SILENCE + 0.5) == [signal.SIGUSR1]
    after(note)
    worker.clock.advance(1)
    assert worker.signals == [signal.SIGUSR1, signal.SIGKILL]
    worker.exit(signal.SIGKILL)
    assert not worker.process.hung


@pytest.mark.parametrize("ask", ["tell", "load"])
@pytest.mark.parametrize("in_a_call", [True, False])
def test_worker_that_did_not_answer_in_time_hung(
    ask: str, in_a_call: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hung if it was in one call all the time, for example one that never ends while it is
    loaded."""
    worker = Pretended()
    note = noted(worker, 7 * in_a_call, monkeypatch)
    worker.answer = Deferred()
    getattr(worker.process, ask)(b"x").addErrback(lambda _gone: None)
    worker.exchange()
    with logged():
        for _ in range(100):
            worker.look(0.5)
            note.cpu_time += 0.5
    assert worker.signals == [signal.SIGKILL]
    worker.exit(signal.SIGKILL)
    assert worker.process.hung is in_a_call


def test_worker_that_goes_on_has_more_time_to_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be busy, but its caller does not wait for ever."""
    worker = ready()
    note = noted(worker, 7, monkeypatch)
    worker.answer = Deferred()
    answer = worker.process.tell(b"x")
    answer.addErrback(lambda _gone: None)
    worker.exchange()
    with logged() as events:
        while not worker.signals:
            note.beat()
            worker.look(0.5)
            worker.exchange()
    assert worker.signals == [signal.SIGKILL]
    assert worker.clock.seconds() == pytest.approx(START, abs=2)
    assert "s what it was told" in events[0]["reason"]
    worker.exit(signal.SIGKILL)
    assert not worker.process.hung


def test_directors_own_delay_is_not_that_of_who_was_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer may have come while the director was held up."""
    worker = ready()
    note = noted(worker, 0, monkeypatch)
    note.beat()
    worker.look(0.5)
    answer = worker.process.tell(b"x")
    note.beat()
    worker.clock.advance(60)
    assert worker.signals == []
    worker.exchange()
    assert result_of(answer) == Done(1)
    assert worker.clock.getDelayedCalls() == []


def test_cpu_time_of_a_process_is_read() -> None:
    """It is that of its main thread; a process that does not exist has none."""
    worker = ready()
    worker.process.pid = os.getpid()
    before = worker.process._cpu_time()
    end = time.thread_time() + 0.1
    while time.thread_time() < end:
        pass
    assert 0.05 < worker.process._cpu_time() - before < 5
    worker.process.pid = 2**22 + 1
    assert worker.process._cpu_time() == 0.0


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
    """It is the memory that only this process has; a process that does not exist has none."""
    worker = ready()
    worker.process.pid = os.getpid()
    with open("/proc/self/status", encoding="ascii") as file:
        (line,) = [line for line in file if line.startswith("RssAnon:")]
    assert worker.process.memory() == pytest.approx(int(line.split()[1]) * 1024, rel=0.2)
    worker.process.pid = 2**22 + 1
    assert worker.process.memory() == 0
