"""Logs regular expressions that could not be used, without filling the log."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from slardar.hooks.engine import Log

__all__ = ["Complaints"]

#: Seconds in which one expression of one script is logged once.
_PAUSE: Final = 60.0
#: The number of expressions that are remembered.
_KEPT: Final = 256
#: The most lines in :data:`_PAUSE` seconds for all scripts together, since a script may make
#: its expressions from requests.
_MAX_LINES: Final = 20
#: The most characters of an expression that are shown.
_SHOWN: Final = 100


class Complaints:
    """Logs each complaint once in a while.  ``seconds()`` is a monotonic clock."""

    def __init__(self, seconds: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._told: OrderedDict[tuple[str, str], float] = OrderedDict()
        self._since = float("-inf")
        self._lines = 0

    def complain(self, script: str, pattern: str, message: str, log: Log) -> None:
        """Log the expression and what is wrong, unless it was logged a short while ago."""
        now = self._seconds()
        key = (script, pattern[:_SHOWN])
        if now - self._told.get(key, float("-inf")) < _PAUSE:
            return
        if now - self._since >= _PAUSE:
            self._since, self._lines = now, 0
        self._lines += 1
        if self._lines > _MAX_LINES:
            return
        self._told[key] = now
        self._told.move_to_end(key)
        if len(self._told) > _KEPT:
            self._told.popitem(last=False)
        text = pattern[:_SHOWN].encode("latin-1", "replace").decode("utf-8", "replace")
        shown = "".join(one if one.isprintable() else "?" for one in text)
        log("warn", f"{script}: {message}; nothing is matched by {shown}")
