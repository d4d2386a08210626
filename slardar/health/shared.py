"""What one worker has seen of a server's health, as another one takes it.

Each worker counts failures on its own (:mod:`slardar.health.rules`).  When that puts a
server out of service, or brings it back, the others are told, so that they need not
lose requests of their own to find out.  Pure, as the rules are; nothing here blocks.
"""

from __future__ import annotations

from slardar.health.rules import set_status
from slardar.model.live import ServerLive
from slardar.model.server import Server

__all__ = ["note_back", "note_out", "stricter"]


def stricter(one: Server, other: Server) -> Server:
    """Of one server in two levels, the one whose settings put it out of service for longer:
    its health is the same in both."""
    return max(one, other, key=lambda server: (server.max_fails > 0, server.fail_timeout))


def note_out(
    live: ServerLive,
    config: Server,
    now: float,
    seconds: float,
    others_available: bool,
    message: str,
) -> bool:
    """Another worker takes the server for out of service, for ``seconds`` more.

    It is then on probation here as there.  Without ``others_available`` it stays in
    service as ``unstable``: what one worker saw must not leave another with no server.
    Returns whether this changed which servers are in service.
    """
    until = now + seconds
    if until <= live.down_until:
        return False
    live.fails = max(live.fails, config.max_fails)
    live.first_fail = now
    live.fail_num = max(live.fail_num, live.fails)
    was_out = live.down_until > now
    if not others_available and not was_out:
        set_status(live, "unstable", message)
        return False
    live.down_until = until
    set_status(live, "err", message)
    # One that was out is looked at when its time is over; that has moved.
    return True


def note_back(live: ServerLive) -> bool:
    """Another worker got a good reply from a server that had been out of service.

    Returns whether this changed which servers are in service.
    """
    was_out = live.down_until > 0
    live.fails = live.fail_num = 0
    live.down_until = 0.0
    set_status(live, "ok", "")
    return was_out
