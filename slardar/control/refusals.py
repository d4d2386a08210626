"""The audit lines of calls that were refused.  (Changes that were made are logged where they are
made.)

A caller can send refused calls as fast as the network allows, so the number of lines is bounded.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

__all__ = ["Refusals"]

#: Lines at once, and lines a second after these.
_BURST = 20.0
_RATE = 1.0
#: Characters of a path and of a reason.
_MAX_PATH = 200
_MAX_REASON = 500

_log = Logger("slardar.control")


class Refusals:
    """Logs refused calls, at most 20 at once and one a second after these; ``seconds`` gives the
    time.  The next line says how many were left out."""

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        self._left = _BURST
        self._since = seconds()
        self._unsaid = 0

    def note(self, status: int, reason: str, call: bytes, who: str, peer: str) -> None:
        """A call such as ``PUT /upstream/a`` was refused.

        ``who`` is the token's name, empty for a caller who was not admitted; ``peer`` is the
        caller's address.
        """
        now = self._seconds()
        self._left = min(_BURST, self._left + (now - self._since) * _RATE)
        self._since = now
        if self._left < 1:
            self._unsaid += 1
            return
        self._left -= 1
        unsaid, self._unsaid = self._unsaid, 0
        _log.warn(
            "refused with {status}: {call} by {who} from {peer}: {reason}{more}",
            status=status,
            call=_line(call.decode("latin-1"), _MAX_PATH),
            who=who or "nobody",
            peer=peer,
            reason=_line(reason, _MAX_REASON),
            more=f" (and {unsaid} refused calls before it)" if unsaid else "",
        )


def _line(text: str, length: int) -> str:
    """A text as a part of one line: control characters are escaped."""
    if not text.isprintable():
        text = ascii(text)[1:-1]
    return text if len(text) <= length else text[: length - 3] + "..."
