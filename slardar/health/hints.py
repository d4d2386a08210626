"""Hints: what a server says of itself in ``X-Slardar-Hint``, in replies and heartbeats.

- ``full``: it gets no new request for :data:`FULL` second.
- ``drain``: it gets no request until it says ``up``.
- ``weight=N``: it has this weight instead of the configured one.
- ``up``: the hints before hold no more.

Several hints are separated by commas, and hold in their order.  Other words mean nothing.
Hints are kept in the server's ``live``; the monotonic time is an argument.  Pure; no
function blocks.
"""

from __future__ import annotations

import re
from typing import Final

from slardar.model.live import ServerLive

__all__ = ["FULL", "HEADER", "forget_hints", "note_hint", "set_hints"]

HEADER: Final = "x-slardar-hint"
#: Seconds for which a server that is full gets no new request.
FULL: Final = 1.0

_WEIGHT: Final = re.compile(r"weight=([0-9]{1,9}(?:\.[0-9]{1,3})?)", re.ASCII)


def note_hint(live: ServerLive, value: str, now: float) -> bool:
    """A server sent this value of the header.

    Returns whether it says something new.  A server that was full and says so again is
    no news, though its time begins anew.
    """
    before = (live.full_until > now, live.drains, live.weight)
    for word in value.lower().split(","):
        word = word.strip()
        if word == "full":
            live.full_until = now + FULL
        elif word == "drain":
            live.drains = True
        elif word == "up":
            forget_hints(live)
        else:
            found = _WEIGHT.fullmatch(word)
            if found is not None:
                live.weight = float(found[1])
                live.has_hinted_weight = True
    return before != (live.full_until > now, live.drains, live.weight)


def set_hints(
    live: ServerLive, full_for: float, drains: bool, weight: float | None, now: float
) -> None:
    """Another process knows these hints of the server, and no others."""
    forget_hints(live)
    live.full_until = now + full_for if full_for > 0 else 0.0
    live.drains = drains
    if weight is not None:
        live.weight = weight
        live.has_hinted_weight = True


def forget_hints(live: ServerLive) -> None:
    """Treat the server as if it had said nothing."""
    live.full_until = 0.0
    live.drains = False
    if live.has_hinted_weight:
        live.has_hinted_weight = False
        live.weight = None
