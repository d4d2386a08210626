"""Writes what hooks log, within a limit, so that no hook can fill a disk."""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger, LogLevel

__all__ = ["HookLog"]

#: Lines a second that all hooks of a process may write together, and characters of a line.
_RATE = 100
_MAX_LINE = 1000
_LEVELS = {
    "debug": LogLevel.debug,
    "info": LogLevel.info,
    "warn": LogLevel.warn,
    "error": LogLevel.error,
}

_log = Logger("slardar.hooks")


class HookLog:
    """Writes lines; ``seconds()`` is a monotonic clock."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._second = -1
        self._written = 0
        self._dropped = 0

    def write(self, level: str, text: str) -> None:
        """Write one line.  Lines beyond the limit are counted and left out."""
        second = int(self._seconds())
        if second != self._second:
            if self._dropped:
                _log.warn("{count} lines of hooks were left out", count=self._dropped)
            self._second, self._written, self._dropped = second, 0, 0
        self._written += 1
        if self._written > _RATE:
            self._dropped += 1
            return
        # A line break of a hook must not begin another line of the log.
        line = "".join(letter if letter.isprintable() else " " for letter in text[:_MAX_LINE])
        _log.emit(_LEVELS.get(level, LogLevel.info), "{line}", line=line)
