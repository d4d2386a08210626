"""What heartbeats say of a server, beside what requests say; and both together.

Heartbeats and requests write different fields of a server's ``live``.  A server is in
service if neither of them keeps it out (:func:`slardar.health.rules.is_available`).  The
result of heartbeats holds until the next one.  Pure, as the rules are; no function blocks.
"""

from __future__ import annotations

from typing import NamedTuple

from slardar.health.verdicts import Heartbeat
from slardar.model.live import ServerLive

__all__ = ["Shown", "note_checked", "shown", "take_verdict"]

#: If requests and heartbeats do not agree, the worse status is shown.
_WORST = ("unchecked", "ok", "unstable", "err")


class Shown(NamedTuple):
    """The health of a server, for a person."""

    #: ``unchecked``, ``ok``, ``err`` or ``unstable``.
    status: str
    #: Since when, in epoch seconds.
    since: float
    message: str
    #: Failures in a row.
    fail_num: int


def take_verdict(live: ServerLive, verdict: Heartbeat) -> bool:
    """Heartbeats say this of the server; see :func:`note_checked`."""
    live.checked_fails = verdict.fail_num
    live.about = verdict.about
    live.history = verdict.history
    return note_checked(live, verdict.status, verdict.since, verdict.message)


def note_checked(live: ServerLive, status: str, since: float, message: str) -> bool:
    """Heartbeats say this of the server; ``since`` is in epoch seconds.

    With ``err`` the server gets no requests.  ``unstable`` is for a server that fails and
    stays in service, such as the last one of a protected upstream.  Returns whether this
    put the server out of service, or may have brought it back.
    """
    changed = (status == "err") is not (live.checked == "err")
    live.checked = status
    live.checked_at = since
    live.checked_msg = message
    return changed


def shown(live: ServerLive) -> Shown:
    """The worse of what requests and heartbeats say; of the same status, that with more
    failures.  An ejected server fails."""
    if live.ejected_until:
        return Shown("err", live.ejected_at, live.ejected_msg, live.fail_num)
    checked = (_WORST.index(live.checked), live.checked_fails)
    if checked > (_WORST.index(live.status), live.fail_num):
        return Shown(live.checked, live.checked_at, live.checked_msg, live.checked_fails)
    return Shown(live.status, live.last_modified, live.msg, live.fail_num)
