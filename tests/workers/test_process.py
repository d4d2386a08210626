"""One worker process as the director sees it; the process is a fake."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.error import ProcessDone, ProcessExitedAlready, ProcessTerminated
from twisted.internet.task import Clock
from twisted.python.failure import Failure

from slardar.health.verdicts import Verdict
from slardar.workers import messages
from slardar.workers.commands import Link
from slardar.workers.messages import Done, Ping, Verdicts
from slardar.workers.process import ANSWER, SILENCE, START, WorkerGone, WorkerProcess
from tests.dataplane.kit import logged
from tests.workers.kit import MemoryTransport, connect, deliver, failure_of, result_of

PING = messages.encode(Ping())


class Pretended:
    """A process that does what the test says: the transport, and the other end of the link."""

    pid = 4711

    def __init__(self) -> None:
        self.clock = Clock()
        self.signals: list[int] = []
        self.took: list[Any] = []
        self.ends: list[str] = []
        self.heard: list[bytes] = []
        self.answer: Any = messages.encode(Done(1))
        self.exited = False
        self.process = WorkerProcess(
            self.clock,
            3,
            lambda process, message: self.took.append(message),
            lambda process, reason: self.ends.append(reason),
        )
        self.process.makeConnection(self)
        self.link = Link(self.hear, lambda: None)
        self.ends_of_link: tuple[MemoryTransport, MemoryTransport] = connect(
            self.process.link, self.link
        )

    def hear(self, message: bytes) -> Any:
        self.heard.append(message)
        return self.answer

    def exchange(self) -> None:
        deliver(*self.ends_of_link)

    def signalProcess(self, number: int) -> None:
        if self.exited:
            raise ProcessExitedAlready
        self.signals.append(number)

    def exit(self, number: int | None = None) -> None:
        """End, by a signal or by itself."""
        self.exited = True
        error = ProcessDone(0) if number is None else ProcessTerminated(None, number, number)
        self.process.processExited(Failure(error))

    def look(self, seconds: float, late: bool = False) -> None:
        """Let time pass, and look after the worker."""
        self.clock.advance(seconds)
        self.process.check(late)


def ready() -> Pretended:
    """A worker that serves."""
    found = Pretended()
    found.process.ready_at = 0.0
    return found


def test_answer_comes_to_whoever_asked() -> None:
    """No timer runs on."""
    worker = Pretended()
    worker.answer = messages.encode(Done(7))
    answer = worker.process.tell(b"x" * 100_000)
    worker.exchange()
    assert result_of(answer) == Done(7)
    assert worker.heard == [b"x" * 100_000]
    assert worker.clock.getDelayedCalls() == []


@pytest.mark.parametrize(("ask", "seconds"), [("tell", ANSWER), ("load", START)])
def test_worker_that_does_not_do_it_in_time_is_killed(ask: str, seconds: float) -> None:
    """The caller is told when the worker has ended, not before."""
    worker = Pretended()
    worker.answer = Deferred()
    answer = getattr(worker.process, ask)(b"x")
    worker.exchange()
    worker.clock.advance(seconds - 0.01)
    assert worker.signals == []
    with logged() as events:
        worker.clock.advance(0.01)
    assert len(events) == 1
    assert worker.signals == [signal.SIGKILL]
    worker.exit(9)
    worker.link.close()
    assert isinstance(failure_of(answer), WorkerGone)
    assert worker.ends == ["ended by signal 9"]


@pytest.mark.parametrize("answer", [b"", b"null", b'{"type":"done"}', b"\x80\x04K\x01."])
def test_answer_that_is_none_kills(answer: bytes) -> None:
    """A worker that sends nonsense cannot be relied on."""
    worker = Pretended()
    worker.answer = answer
    asked = worker.process.tell(b"x")
    with logged():
        worker.exchange()
        assert isinstance(failure_of(asked), WorkerGone)
    assert worker.signals == [signal.SIGKILL]


def test_message_that_is_none_kills() -> None:
    """Messages before it are passed on; later ones are not."""
    worker = ready()
    health = Verdicts((Verdict("a", "h", 1, 2.0, "x"),))
    worker.link.send(messages.encode(health))
    worker.exchange()
    assert worker.took == [health]
    with logged() as events:
        worker.link.send(b'{"type":"delta"}')
        worker.link.send(messages.encode(health))
        worker.exchange()
    assert worker.took == [health]
    assert worker.signals == [signal.SIGKILL]
    assert len(events) == 1


def test_worker_that_answers_is_left_alone() -> None:
    """There is one question at a time."""
    worker = ready()
    for _ in range(20):
        worker.look(0.5)
        worker.exchange()
    assert worker.heard == [PING] * 20
    assert worker.signals == []


def test_worker_that_hangs_is_killed() -> None:
    """It is killed after it has had the time to log where it hung."""
    worker = ready()
    worker.answer = Deferred()
    worker.look(0)
    worker.exchange()
    with logged() as events:
        for _ in range(round(SILENCE / 0.5) - 1):
            worker.look(0.5)
        assert worker.signals == []
        worker.look(0.5)
        assert worker.signals == [signal.SIGUSR1]
        worker.clock.advance(0.2)
        worker.look(5)
    assert worker.signals == [signal.SIGUSR1, signal.SIGKILL]
    assert worker.heard == [PING]
    assert len(events) == 1


def test_directors_own_delay_is_not_the_workers() -> None:
    """After a delay of the director, the worker's time begins anew."""
    worker = ready()
    worker.answer = Deferred()
    worker.look(0)
    worker.look(60, late=True)
    worker.look(SILENCE - 0.1)
    assert worker.signals == []
    with logged():
        worker.look(0.1)
    assert worker.signals == [signal.SIGUSR1]


def test_worker_that_loads_is_given_time() -> None:
    """It has more time before it serves, and while it takes a whole configuration."""
    worker = Pretended()
    worker.look(20)
    worker.process.ready_at = worker.clock.seconds()
    worker.answer = waiting = Deferred()
    worker.process.load(b"much")
    worker.exchange()
    for _ in range(10):
        worker.look(1)
    assert worker.heard == [b"much"]
    assert worker.signals == []
    waiting.callback(messages.encode(Done(1)))
    worker.exchange()
    worker.look(0.5)
    worker.exchange()
    assert worker.heard == [b"much", PING]


def test_last_words_are_taken_before_the_end_is_told() -> None:
    """The process has been reaped, and its last report is still on the way."""
    worker = ready()
    worker.link.send(messages.encode(Verdicts((Verdict("a", "h", 1, 0, ""),)))).addErrback(
        lambda _lost: None
    )
    worker.exit()
    assert worker.ends == []
    worker.exchange()
    worker.link.close()
    assert len(worker.took) == 1
    assert worker.ends == ["ended with exit code 0"]


def test_link_that_somebody_else_keeps_open_delays_nobody() -> None:
    """A process that the worker started may have inherited the link."""
    worker = ready()
    worker.exit(9)
    worker.clock.advance(0.5)
    assert worker.ends == ["ended by signal 9"]


def test_worker_that_closes_its_link_is_killed() -> None:
    """It could not get messages any more."""
    worker = ready()
    with logged():
        worker.link.close()
        worker.clock.advance(0.5)
    assert worker.signals == [signal.SIGKILL]
    worker.exit(9)
    assert worker.ends == ["ended by signal 9"]


def test_end_that_came_first_is_no_killing() -> None:
    """The link closes, and a moment later the process is reaped."""
    worker = ready()
    worker.link.close()
    worker.exit()
    with logged() as events:
        worker.clock.advance(1)
        worker.process.kill("too late")
    assert events == []
    assert worker.ends == ["ended with exit code 0"]


def test_output_is_logged_under_its_name() -> None:
    """Standard error has a higher level than standard output."""
    worker = ready()
    with logged() as events:
        worker.process.childDataReceived(1, b"hello\n")
        worker.process.childDataReceived(2, b"<3>broken\noops")
        worker.process.processEnded(Failure(ProcessDone(0)))
    lines = [(event["log_level"].name, event["worker"], event["line"]) for event in events]
    assert lines == [
        ("info", "worker-3", "hello"),
        ("error", "worker-3", "broken"),
        ("warn", "worker-3", "oops"),
    ]


def test_secrets_stay_with_the_director(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker's environment has what the worker needs, and not the store's token."""
    from slardar.workers.process import spawn

    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "secret")
    monkeypatch.setenv("LANG_OF_TEST", "x")
    calls: list[Any] = []

    class Reactor(Clock):
        def spawnProcess(self, process: Any, executable: str, args: Any, **keys: Any) -> None:
            calls.append(keys)

        def adoptStreamConnection(self, fd: int, family: int, factory: Any) -> None:
            os.fstat(fd)

    before = len(os.listdir("/proc/self/fd"))
    process = spawn(Reactor(), 0, [], lambda *_: None, lambda *_: None)
    # One descriptor stays: of the note which hook the worker is running.
    assert len(os.listdir("/proc/self/fd")) == before + 1
    assert process.mark is not None
    process.mark.close()
    assert len(os.listdir("/proc/self/fd")) == before
    (keys,) = calls
    assert keys["env"]["LANG_OF_TEST"] == "x"
    assert "CONSUL_HTTP_TOKEN" not in keys["env"]
    assert sorted(keys["childFDs"]) == [0, 1, 2, 3, 4, 5]
