"""Workers' log lines: as a worker writes them, and as the director takes them over.

A worker writes its log to standard error.  Each line begins with ``<N>``, where N is
syslog's severity (systemd's convention).  The director logs the line at that level, with
the worker's name in front.  Lines without ``<N>``, which a user's code has printed, are
logged, too.

Behind ``<N>`` a worker writes a mark and the whole event in JSON (:mod:`slardar.json_log`),
so that the director can log its parts.  An event that is too long for that is written as
text.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable
from typing import Any

from twisted.logger import ILogObserver, LogEvent, Logger, LogLevel, formatEvent
from zope.interface import implementer

from slardar.json_log import PACKED, packed, unpacked

__all__ = ["MAX_LINE", "LineLog", "LineReader"]

#: Bytes of a line that are logged; the rest of the line is dropped.
MAX_LINE = 4000
#: Lines of a worker that are logged in a second: a worker that writes without end must
#: not fill the disk, nor the director's time.
MAX_RATE = 500
#: Bytes that a pipe takes as a whole or not at all, on Linux (PIPE_BUF).
_ATOMIC = 4096

_SEVERITY = {
    LogLevel.debug: b"<7>",
    LogLevel.info: b"<6>",
    LogLevel.warn: b"<4>",
    LogLevel.error: b"<3>",
    LogLevel.critical: b"<2>",
}
_LEVELS = {mark: level for level, mark in _SEVERITY.items()}
#: What the JSON of an event begins with: the separator of records (RFC 7464).
_JSON = b"\x1e"


@implementer(ILogObserver)
class LineLog:
    """A log observer that writes to a pipe, and never waits for the pipe's reader.

    A line that the pipe cannot take at once is lost: no request waits for a log.
    """

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._poll = select.poll()
        self._poll.register(fd, select.POLLOUT)

    def __call__(self, event: LogEvent) -> None:
        mark = _SEVERITY.get(event.get("log_level", LogLevel.info), b"<6>")
        data = mark + _JSON + packed(event)
        if len(data) <= MAX_LINE:
            self._write(data + b"\n")
            return
        text = formatEvent(event)
        failure = event.get("log_failure")
        if failure is not None:
            text += f"\n{failure.getTraceback()}"
        for line in text.splitlines():
            self._write(mark + line.encode("utf-8", "backslashreplace")[: _ATOMIC - 4] + b"\n")

    def _write(self, line: bytes) -> None:
        try:
            # A pipe is ready when it has room for a page: it takes a line as a whole then.
            if self._poll.poll(0):
                os.write(self._fd, line)
        except OSError:
            pass  # the director has ended, and this worker is about to end


class LineReader:
    """Logs the lines in a worker's output, behind the worker's ``name``.

    ``level`` is for lines that do not begin with ``<N>``; ``clock()`` is in seconds.

    The output is not trusted: length and number of the lines are limited, and characters
    that are not printable are escaped.
    """

    def __init__(
        self,
        name: str,
        level: Any,
        clock: Callable[[], float],
        log: Logger,
    ) -> None:
        self._name = name
        self._level = level
        self._clock = clock
        self._log = log
        self._rest = b""
        self._second = 0
        self._count = 0
        self._left_out = 0

    def data(self, data: bytes) -> None:
        """Bytes of the output came."""
        *lines, rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._line(line)
        # Of a line that is too long, only the beginning is kept until it ends.
        self._rest = rest[: MAX_LINE + 1]

    def ended(self) -> None:
        """The output has ended."""
        if self._rest:
            self._line(self._rest)
            self._rest = b""
        self._tell_left_out()

    def _line(self, line: bytes) -> None:
        level = _LEVELS.get(line[:3])
        if level is None:
            self._log_line(self._level, line)
            return
        line = line[3:]
        if line.startswith(_JSON):
            try:
                about = unpacked(line[1:])
            except ValueError:
                pass
            else:
                texts = [*about.message.splitlines(), *(about.traceback or "").splitlines()]
                for index, text in enumerate(texts):
                    # The first line has the event, and the others are parts of it.
                    more = {PACKED: None if index else about}
                    self._log_line(level, text.encode(), **more)
                return
        self._log_line(level, line)

    def _log_line(self, level: Any, line: bytes, **more: Any) -> None:
        second = int(self._clock())
        if second != self._second:
            self._tell_left_out()
            self._second, self._count = second, 0
        self._count += 1
        if self._count > MAX_RATE:
            self._left_out += 1
            return
        self._log.emit(level, "{worker}: {line}", worker=self._name, line=_shown(line), **more)

    def _tell_left_out(self) -> None:
        if self._left_out:
            count, self._left_out = self._left_out, 0
            self._log.warn(
                "{worker}: {count} more lines are left out", worker=self._name, count=count
            )


def _shown(line: bytes) -> str:
    text = line[:MAX_LINE].rstrip(b"\r").decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() or char == "\t" else char.encode("unicode_escape").decode()
        for char in text
    )
