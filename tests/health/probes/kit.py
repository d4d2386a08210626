"""Heartbeats without a network: a server's bytes are given to a check, in pieces."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from slardar.health.probes.base import Check, Result

__all__ = ["KEPT", "Talk", "kept", "talk"]

#: The most bytes that a check may keep.
KEPT = 17 * 1024


class Talk(NamedTuple):
    """What came of one heartbeat."""

    result: Result
    #: All that the check sent.
    sent: bytes


def talk(check: Check, pieces: Iterable[bytes] = ()) -> Talk:
    """Let the server send ``pieces`` and close its side.

    The server sends without waiting for what it is asked, as hostile servers may.
    """
    step: Result | bytes | None = check.connected()
    sent = b""
    for piece in pieces:
        if isinstance(step, Result):
            break
        if piece:
            sent += step or b""
            step = check.received(piece)
            assert kept(check) <= KEPT
    if isinstance(step, Result):
        return Talk(step, sent)
    return Talk(check.ended(), sent + (step or b""))


def kept(check: Check) -> int:
    """How many bytes a check keeps in its own attributes."""
    # A compiled class has no __slots__.
    values = [getattr(check, name) for name in dir(check) if not name.startswith("__")]
    known = [value for value in values if isinstance(value, bytes)]
    about = [value for value in values if isinstance(value, dict)]
    return sum(map(len, known)) + sum(len(str(value)) for value in about)
