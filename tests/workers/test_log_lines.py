"""Log lines on their way from a worker to the director's log."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import Logger, LogLevel, LogPublisher, formatEvent
from twisted.python.failure import Failure

from slardar.json_log import JsonLog
from slardar.workers.log_lines import MAX_LINE, MAX_RATE, LineLog, LineReader


class Log:
    """A reader, and the lines that it has logged: level and text."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []
        self.out = io.StringIO()
        self.json = JsonLog(self.out)
        self.clock = Clock()
        publisher = LogPublisher(self.observe)
        log = Logger("test", observer=publisher)
        self.reader = LineReader("worker-1", LogLevel.info, self.clock.seconds, log)

    def observe(self, event: Any) -> None:
        self.json(event)
        self.lines.append((event["log_level"].name, formatEvent(event)))


def test_lines_have_their_level_and_the_workers_name() -> None:
    """The pieces in which bytes arrive do not matter."""
    log = Log()
    for byte in b"<3>broken\n<4>odd\nprinted\n<6>all is well\n<9>unknown\n":
        log.reader.data(bytes([byte]))
    assert log.lines == [
        ("error", "worker-1: broken"),
        ("warn", "worker-1: odd"),
        ("info", "worker-1: printed"),
        ("info", "worker-1: all is well"),
        ("info", "worker-1: <9>unknown"),
    ]


def test_last_words_without_newline_are_taken() -> None:
    """A process may end in the middle of a line."""
    log = Log()
    log.reader.data(b"<3>dying")
    assert log.lines == []
    log.reader.ended()
    assert log.lines == [("error", "worker-1: dying")]


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        (b"\x1b[2Jgone", "\\x1b[2Jgone"),
        (b"two\rlines", "two\\rlines"),
        (b"\xff\xc3", "\\xff\\xc3"),
        ("täb\tand ß".encode(), "täb\tand ß"),
        ("\u202etrick".encode(), "\\u202etrick"),
        (b"{braces} {worker}", "{braces} {worker}"),
    ],
)
def test_nothing_reaches_the_terminal_as_it_is(line: bytes, shown: str) -> None:
    """Escapes, line ends and bytes that are not text are shown in a safe form."""
    log = Log()
    log.reader.data(line + b"\n")
    assert log.lines == [("info", f"worker-1: {shown}")]


def test_line_without_end_is_cut() -> None:
    """It takes no more memory than a long line, and the next one is whole."""
    log = Log()
    for _ in range(50):
        log.reader.data(b"x" * 10_000)
        assert len(log.reader._rest) <= MAX_LINE + 1
    log.reader.data(b"\nnext\n")
    assert [len(text) for _, text in log.lines] == [MAX_LINE + len("worker-1: "), 14]


def test_lines_without_end_are_left_out() -> None:
    """So many lines a second are logged, and a line with the number of the others."""
    log = Log()
    log.reader.data(b"again\n" * (MAX_RATE + 20))
    assert len(log.lines) == MAX_RATE
    log.clock.advance(1)
    log.reader.data(b"quiet\n")
    assert log.lines[MAX_RATE:] == [
        ("warn", "worker-1: 20 more lines are left out"),
        ("info", "worker-1: quiet"),
    ]


def test_what_a_worker_logs_comes_out_as_it_went_in() -> None:
    """Levels, tracebacks line by line, and text in any script stay."""
    reader, writer = os.pipe()
    try:
        source = Logger("slardar.test", observer=LogPublisher(LineLog(writer)))
        source.info("grün {n}", n=1)
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            source.failure("it failed", failure=Failure())
        log = Log()
        log.reader.data(os.read(reader, 65536))
    finally:
        os.close(reader)
        os.close(writer)
    assert log.lines[0] == ("info", "worker-1: grün 1")
    assert log.lines[1] == ("critical", "worker-1: it failed")
    assert ("critical", "worker-1: builtins.RuntimeError: broken") in log.lines
    assert {level for level, _ in log.lines[1:]} == {"critical"}


def through_a_pipe(log: Log, write: Callable[[Logger], None]) -> None:
    """What a worker writes to its log, read by the director."""
    reader, writer = os.pipe()
    try:
        write(Logger("slardar.test", observer=LogPublisher(LineLog(writer))))
        log.reader.data(os.read(reader, 65536))
    finally:
        os.close(reader)
        os.close(writer)


def test_event_of_a_worker_is_one_object_in_json() -> None:
    """With its own namespace and values, and the name of the worker."""

    def write(log: Logger) -> None:
        log.warn("upstream {upstream}\nis odd", upstream="a", count=3)
        try:
            raise RuntimeError("broken")
        except RuntimeError:
            log.failure("it failed")

    log = Log()
    through_a_pipe(log, write)
    first, second = map(json.loads, log.out.getvalue().splitlines())
    assert (first["level"], first["namespace"]) == ("warn", "slardar.test")
    assert first["message"] == "upstream a\nis odd"
    assert first["fields"] == {"worker": "worker-1", "upstream": "a", "count": 3}
    assert second["message"] == "it failed"
    assert "RuntimeError: broken" in second["traceback"]
    # As text it is what it was.
    assert log.lines[:2] == [("warn", "worker-1: upstream a"), ("warn", "worker-1: is odd")]


def test_event_that_is_too_long_comes_as_text() -> None:
    """A line each; the pipe takes no more at once."""
    log = Log()
    through_a_pipe(log, lambda source: source.info("x" * 3000 + "\n" + "y" * 3000))
    assert [text for _, text in log.lines] == ["worker-1: " + "x" * 3000, "worker-1: " + "y" * 3000]
    assert len(log.out.getvalue().splitlines()) == 2


@pytest.mark.parametrize("data", [b"{}", b"[1]", b'["a"'])
def test_worker_that_packs_nonsense_is_shown(data: bytes) -> None:
    """As a line of text, without what a terminal would act on."""
    log = Log()
    log.reader.data(b"<4>\x1e" + data + b"\n")
    assert log.lines == [("warn", "worker-1: \\x1e" + data.decode())]


def test_worker_does_not_wait_for_its_log() -> None:
    """A pipe that nobody reads, or that nobody holds, costs lines and no time."""
    reader, writer = os.pipe()
    log = Logger("slardar.test", observer=LogPublisher(LineLog(writer)))
    for _ in range(100):
        log.info("x" * 10_000)
    os.close(reader)
    log.info("nobody is there")
    os.close(writer)
