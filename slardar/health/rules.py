"""Passive health: what the outcome of requests says about a server.

The rules are those of nginx (``max_fails``, ``fail_timeout``), with the protection of the
last good server of lua-resty-checkups.  They are pure: the monotonic time is an argument,
and their state is in the server's ``live``.

- A server is **available** while its state is ``up``, its weight is not 0,
  ``down_until <= now``, heartbeats do not say ``err`` (:mod:`slardar.health.checked`), and it
  is not ejected (:mod:`slardar.health.outliers`).
- **Counting.**  ``fails`` counts failures since ``first_fail``.  While
  ``fails < max_fails``, a failure more than ``fail_timeout`` seconds after ``first_fail``
  begins a new count, and a success after this time clears the count.  A success within
  this time does not change the count.
- **Out.**  When ``fails >= max_fails > 0``, the server is out until ``down_until``, which is
  ``now + fail_timeout``, and its status is ``err``.  If no other server is available, it
  stays in service, with status ``unstable``.
- **Probation.**  From ``down_until`` on, the server gets requests again, but ``fails`` stays.
  The next failure puts it out at once, for another ``fail_timeout``.  The next success
  clears the count, and the status is ``ok``.  An ``unstable`` server is treated alike.
- **Flapping.**  A server that goes out again and again, and comes back in between, is out for
  longer than ``fail_timeout`` from the third time on (:mod:`slardar.health.flaps`), or until no
  other server is in service.
- A request that ends while its server is out was sent before.  Its failure prolongs the
  time, as in nginx; its success changes nothing.

With ``max_fails`` 0 a server is never put out.  ``fail_num`` shows the failures in a row of
every server.  Heartbeats have fields of their own, which nothing here changes.

No function here blocks; the request path may call all of them.
"""

from __future__ import annotations

import time

from slardar.health.flaps import held_for, penalty_after, penalty_at
from slardar.model.live import ServerLive
from slardar.model.server import Server

__all__ = [
    "is_available",
    "is_fit_otherwise",
    "is_held",
    "is_wanted",
    "note_failure",
    "note_flap",
    "note_success",
    "release",
    "set_status",
]


def is_available(live: ServerLive, config: Server, now: float) -> bool:
    """Whether the server may be given a request at ``now`` (monotonic seconds)."""
    return live.down_until <= now and is_fit_otherwise(live, now) and is_wanted(config)


def is_fit_otherwise(live: ServerLive, now: float) -> bool:
    """Whether nothing but failed requests keeps the server out of service."""
    return live.checked != "err" and live.ejected_until <= now


def is_wanted(config: Server) -> bool:
    """Whether the server is configured to take requests at all."""
    return config.state == "up" and config.weight > 0


def note_failure(
    live: ServerLive, config: Server, now: float, others_available: bool, message: str
) -> bool:
    """A request failed on the server; ``message`` says how, for a person.

    ``others_available``: whether another server could take its requests; without one,
    the server is not put out.  Returns whether this put the server out of service.
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
    note_flap(live, now)
    live.held_from = now + config.fail_timeout
    live.down_until = max(live.down_until, now + _out_for(live, config.fail_timeout, now))
    set_status(live, "err", message)
    return not was_out


def note_flap(live: ServerLive, now: float) -> None:
    """The server goes out of service, unless it has not been back since the last time."""
    if not live.down_until:
        live.penalty = penalty_after(live.penalty, live.flapped_at, now)
        live.flapped_at = now


def is_held(live: ServerLive, now: float) -> bool:
    """Whether only its penalty keeps the server out, as far as requests go."""
    return 0 < live.held_from <= now < live.down_until


def release(live: ServerLive, now: float) -> bool:
    """Put a server on probation that only its penalty keeps out: no other one is in service.

    Returns whether it was one.
    """
    if not is_held(live, now):
        return False
    live.down_until = now
    return True


def _out_for(live: ServerLive, fail_timeout: float, now: float) -> float:
    """For how many seconds a failure puts the server out."""
    if not live.penalty:
        return fail_timeout
    penalty = penalty_at(live.penalty, live.flapped_at, now)
    return max(fail_timeout, held_for(penalty, fail_timeout))


def note_success(live: ServerLive, config: Server, now: float) -> bool:
    """The server gave a good reply.

    The call changes nothing, and may be left out, if ``fails`` is 0 and the status is
    ``ok``.  Returns whether this ended the server's probation.
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
