"""Passive health: what the outcome of requests says about a server.

The rules are nginx's (``max_fails``, ``fail_timeout``), with lua-resty-checkups'
protection of the last good server.  They are pure: the monotonic time is an argument,
and all they know is in the server's ``live``.

- A server is **available** while its state is ``up``, its weight is not 0,
  ``down_until <= now``, and heartbeats do not say ``err`` (:mod:`slardar.health.checked`).
- **Counting.**  ``fails`` counts failures since ``first_fail``.  While
  ``fails < max_fails``, what happens more than ``fail_timeout`` seconds after
  ``first_fail`` begins a new count; a success within that time leaves the count.
- **Out.**  When ``fails >= max_fails > 0``, ``down_until = now + fail_timeout`` and the
  status is ``err``.  If no other server is available it stays in service instead,
  with status ``unstable``.
- **Probation.**  From ``down_until`` on the server takes requests again, but ``fails``
  stays: the next failure puts it out at once for another ``fail_timeout``, the next
  success clears the count and the status is ``ok``.  So it is for an ``unstable`` one.
- What ends while a server is out was sent before: a failure prolongs the time, as in
  nginx; a success proves nothing and is passed over.

With ``max_fails`` 0 a server is never put out; its failures in a row are shown in
``fail_num``, as everyone's are.  What heartbeats say is kept apart; nothing here changes it.

Nothing here blocks; all of it may be called on the request path.
"""

from __future__ import annotations

import time

from slardar.model.live import ServerLive
from slardar.model.server import Server

__all__ = ["is_available", "is_wanted", "note_failure", "note_success", "set_status"]


def is_available(live: ServerLive, config: Server, now: float) -> bool:
    """Whether the server may be given a request at ``now`` (monotonic seconds)."""
    return live.down_until <= now and live.checked != "err" and is_wanted(config)


def is_wanted(config: Server) -> bool:
    """Whether the server is configured to take requests at all."""
    return config.state == "up" and config.weight > 0


def note_failure(
    live: ServerLive, config: Server, now: float, others_available: bool, message: str
) -> bool:
    """A request failed on the server; ``message`` says how, for a person.

    ``others_available``: whether any other server could take its requests; without
    one it is not put out.  Returns whether the server went out of service by this.
    """
    limit = config.max_fails
    if live.fails < limit and now - live.first_fail > config.fail_timeout:
        live.fails = 0
    if not live.fails:
        live.first_fail = now
    live.fails += 1
    live.fail_num += 1
    if not limit or live.fails < limit:
        set_status(live, live.status, message)
        return False
    was_out = live.down_until > now
    if not others_available:
        set_status(live, "err" if was_out else "unstable", message)
        return False
    live.down_until = max(live.down_until, now + config.fail_timeout)
    set_status(live, "err", message)
    return not was_out


def note_success(live: ServerLive, config: Server, now: float) -> bool:
    """The server gave a good reply.

    It need not be told of if ``fails`` is 0 and the status ``ok``: it would change
    nothing.  Returns whether this ended the server's probation.
    """
    if live.down_until > now:
        return False
    came_back = live.down_until > 0
    live.fail_num = 0
    live.down_until = 0.0
    if came_back or live.fails >= config.max_fails or now - live.first_fail > config.fail_timeout:
        live.fails = 0
    set_status(live, "ok", "")
    return came_back


def set_status(live: ServerLive, status: str, message: str) -> None:
    """Say what requests have shown of the server: ``unchecked``, ``ok``, ``err`` or ``unstable``,
    and why; ``last_modified`` tells since when."""
    if live.status != status or live.msg != message:
        live.status = status
        live.msg = message
        live.last_modified = time.time()
