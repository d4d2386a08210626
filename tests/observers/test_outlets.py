"""The bounded buffer and the thread behind it, with a sink that does what a test wants."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from slardar.observers.outlets import Outlet
from slardar.observers.sinks import Sink


class FakeSink(Sink):
    """Keeps what is written; waits, fails or takes a part where it is told to."""

    most = 64

    def __init__(self) -> None:
        super().__init__()
        self.got = b""
        self.writes: list[bytes] = []
        self.done: list[str] = []
        #: Raised by the next writes, one each; what each takes else: bytes, of whole lines.
        self.errors: list[Exception] = []
        self.takes: int | None = None
        self.is_open = threading.Event()
        self.is_open.set()

    def write(self, data: bytes) -> int:
        assert self.is_open.wait(20)
        self.writes.append(data)
        if self.errors:
            raise self.errors.pop(0)
        end = len(data) if self.takes is None else data.rfind(b"\n", 0, self.takes) + 1
        self.got += data[:end]
        return end

    def reopen(self) -> None:
        self.done.append("reopened")

    def watch(self) -> None:
        self.done.append("watches")

    def close(self) -> None:
        self.done.append("closed")


class Under:
    """An outlet, its sink and what it has said."""

    def __init__(self) -> None:
        self.sink = FakeSink()
        self.said: list[str] = []
        self.over = threading.Event()
        self.outlet = Outlet("file:a.log", self.sink, self.said.append, most=1000, pause=0.001)
        self.outlet.start()

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for the thread."""
        waits = threading.Event()
        for _ in range(2000):
            if true():
                return
            waits.wait(0.005)
        raise AssertionError("it does not come true")

    def stop(self, within: float = 5.0) -> None:
        self.outlet.stop(within, self.over.set)
        assert self.over.wait(20)


@pytest.fixture
def under() -> Iterator[Under]:
    found = Under()
    yield found
    found.sink.is_open.set()
    if not found.over.is_set():
        found.stop(0.0)


LINES = [b"line %d\n" % number for number in range(10)]


def test_lines_come_in_order_many_at_once(under: Under) -> None:
    """A write takes as many whole lines as it may."""
    for line in LINES:
        under.outlet.put(line, 1)
    assert not under.sink.writes  # there are few, and nobody has asked for them
    under.outlet.hurry()
    under.until(lambda: under.sink.got == b"".join(LINES))
    assert [len(data) for data in under.sink.writes] == [63, 7]
    assert under.outlet.waiting == under.outlet.dropped == 0


def test_many_lines_are_written_at_once() -> None:
    """From some size on nobody needs to ask."""
    sink = FakeSink()
    over = threading.Event()
    outlet = Outlet("x", sink, print, most=1 << 20)
    outlet.start()
    line = b"x" * 999 + b"\n"
    for _ in range(300):
        outlet.put(line, 1)
    for _ in range(2000):
        if sink.got:
            break
        over.wait(0.005)
    assert sink.got
    outlet.stop(5, over.set)
    assert over.wait(20)
    assert sink.got == line * 300


def test_chunk_that_is_too_large_for_a_write_is_cut_between_lines(under: Under) -> None:
    """Even one line that is."""
    long = b"y" * 100 + b"\n"
    data = b"".join(LINES) + long + LINES[0]
    under.outlet.put(data, 12)
    under.outlet.hurry()
    under.until(lambda: under.sink.got == data)
    assert all(piece.endswith(b"\n") for piece in under.sink.writes)
    assert [len(piece) for piece in under.sink.writes] == [63, 7, 101, 7]


def test_part_that_was_not_taken_is_written_next(under: Under) -> None:
    """No line is lost, and none comes twice."""
    under.sink.takes = 20
    under.outlet.put(b"".join(LINES), 10)
    under.outlet.hurry()
    under.until(lambda: under.sink.got == b"".join(LINES))
    assert under.outlet.waiting == 0


def test_sink_that_hangs_drops_lines_and_counts_them(under: Under) -> None:
    """Whoever puts a line never waits."""
    under.sink.is_open.clear()
    for _ in range(200):
        under.outlet.put(LINES[0] * 2, 2)
        under.outlet.hurry()
    assert under.outlet.waiting <= 1000
    dropped = under.outlet.dropped
    assert dropped == 400 - 2 * (1000 // 14)
    under.sink.is_open.set()
    under.until(lambda: under.outlet.waiting == 0)
    under.outlet.put(LINES[1], 1)
    under.outlet.hurry()
    under.until(lambda: under.sink.got.endswith(LINES[1]))
    assert under.sink.got.count(b"\n") + dropped == 401
    (said,) = under.said
    assert said.startswith(f"access log file:a.log: {dropped} lines were dropped")


def test_lines_wait_for_a_sink_that_fails(under: Under) -> None:
    """The log says so once, and when it works again all lines are there."""
    under.sink.errors = [OSError(28, "No space left on device") for _ in range(5)]
    for line in LINES:
        under.outlet.put(line, 1)
    under.outlet.hurry()
    under.until(lambda: under.sink.got == b"".join(LINES))
    assert under.said == [
        "access log file:a.log: cannot be written: No space left on device; lines wait for it"
    ]
    assert under.outlet.dropped == 0


def test_failure_that_comes_and_goes_is_told_once_a_minute(under: Under) -> None:
    """However often that is."""
    for _ in range(5):
        under.sink.errors = [OSError(5, "Input/output error")]
        under.outlet.put(LINES[0], 1)
        under.outlet.hurry()
        under.until(lambda: under.outlet.waiting == 0)
    assert len(under.said) == 1


def test_bug_does_not_end_the_log(under: Under) -> None:
    """It is told like a failure, and the lines are tried again."""
    under.sink.errors = [ValueError("a\nbug")]
    under.outlet.put(LINES[0], 1)
    under.outlet.hurry()
    under.until(lambda: under.sink.got == LINES[0])
    assert under.said == ["access log file:a.log: cannot be written: a bug; lines wait for it"]


def test_time_out_is_no_failure(under: Under) -> None:
    """The other side takes nothing for the moment: nothing was dropped yet."""
    under.sink.errors = [TimeoutError("timed out")] * 3
    under.outlet.put(LINES[0], 1)
    under.outlet.hurry()
    under.until(lambda: under.sink.got == LINES[0])
    assert under.said == []


def test_reopening_ends_a_pause(under: Under) -> None:
    """What came before is written, too."""
    under.outlet._first_pause = 1000.0
    under.sink.errors = [OSError(13, "Permission denied")]
    under.outlet.put(LINES[0], 1)
    under.outlet.hurry()
    under.until(lambda: bool(under.said))
    under.outlet.reopen()
    under.until(lambda: under.sink.got == LINES[0])
    assert under.sink.done == ["reopened"]


def test_reopening_needs_no_line(under: Under) -> None:
    """An empty file appears at once."""
    under.outlet.reopen()
    under.until(lambda: under.sink.done == ["reopened"])


def test_stop_writes_what_is_left(under: Under) -> None:
    """Also what nobody has asked for."""
    under.outlet.put(b"".join(LINES), 10)
    under.stop()
    assert under.sink.got == b"".join(LINES)
    assert under.sink.done == ["closed"]
    assert under.outlet.dropped == 0


def test_stop_gives_up_what_cannot_be_written_in_time(under: Under) -> None:
    """It is counted, and the log says so."""
    under.sink.errors = [OSError(111, "Connection refused") for _ in range(10000)]
    for line in LINES:
        under.outlet.put(line, 1)
    under.stop(0.05)
    assert under.outlet.dropped == 10
    assert under.outlet.waiting == 0
    assert under.said[-1] == (
        "access log file:a.log: 10 lines were dropped, for they could not be written in time"
    )


def test_watching_is_handed_on(under: Under) -> None:
    """With the next line."""
    under.outlet.watch()
    under.outlet.put(LINES[0], 1)
    under.outlet.hurry()
    under.until(lambda: under.sink.got == LINES[0])
    assert under.sink.done[0] == "watches"
