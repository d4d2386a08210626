"""What heartbeats say of a server, beside what requests say; and both together.

Heartbeats and requests are two witnesses.  Each writes its own fields of the server's
``live``; a server is in service while neither keeps it out
(:func:`slardar.health.rules.is_available`).  A verdict of heartbeats has no end: it holds
until the next one.  Pure, as the rules are; nothing here blocks.
"""

from __future__ import annotations

from typing import NamedTuple

from slardar.model.live import ServerLive

__all__ = ["Shown", "note_checked", "shown"]

#: What is shown of two witnesses that do not agree: the worst, since each has its reason.
_WORST = ("unchecked", "ok", "unstable", "err")


class Shown(NamedTuple):
    """What is known of a server, for a person."""

    #: ``unchecked``, ``ok``, ``err`` or ``unstable``.
    status: str
    #: Since when, in epoch seconds.
    since: float
    message: str


def note_checked(live: ServerLive, status: str, since: float, message: str) -> bool:
    """Heartbeats say this of the server; ``since`` is in epoch seconds.

    With ``err`` the server gets no requests.  ``unstable`` is for one that fails and stays
    in service, as the last one of a protected upstream.  Returns whether the server went
    out of service by this or may be back.
    """
    changed = (status == "err") is not (live.checked == "err")
    live.checked = status
    live.checked_at = since
    live.checked_msg = message
    return changed


def shown(live: ServerLive) -> Shown:
    """What requests and heartbeats say together: the worse of the two."""
    if _WORST.index(live.checked) > _WORST.index(live.status):
        return Shown(live.checked, live.checked_at, live.checked_msg)
    return Shown(live.status, live.last_modified, live.msg)
