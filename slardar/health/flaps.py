"""Flap damping: a server that goes out of service again and again is brought back later.

A server that comes back, fails, and comes back costs requests each time.  Each time that it
goes out of service, having been in it, adds 1 to its penalty, and the penalty halves every
:data:`HALF_LIFE` seconds: the rule of route flap damping in BGP (RFC 2439).  Up to a penalty of
2, nothing is changed, so the first and the second time are as without damping.  Above it,
the server is out for at least ``fail_timeout`` seconds, doubled for each 1 above 2, and not
more than :data:`LONGEST`.

Passive health and heartbeats go by this rule alike, each with its own penalty.  The failures of
a server that has not come back in between add nothing.  Pure; no function blocks.
"""

from __future__ import annotations

from typing import Final

__all__ = ["HALF_LIFE", "LONGEST", "held_for", "longest_hold", "penalty_after", "penalty_at"]

#: Seconds in which a penalty halves.  BGP's is 15 minutes, for routes; servers are restarted
#: more often.
HALF_LIFE: Final = 300.0
#: Seconds for which a server is held back, at most.
LONGEST: Final = 300.0
#: Penalties up to this one change nothing.
_FREE: Final = 2.0


def penalty_at(penalty: float, since: float, now: float) -> float:
    """What is left at ``now`` of a penalty that was computed at ``since``."""
    return float(penalty * 0.5 ** (max(0.0, now - since) / HALF_LIFE))


def penalty_after(penalty: float, since: float, now: float) -> float:
    """The penalty of a server that goes out of service at ``now``."""
    return penalty_at(penalty, since, now) + 1.0


def held_for(penalty: float, fail_timeout: float) -> float:
    """Seconds for which a server with this penalty is out of service, at least; 0 if the
    penalty changes nothing."""
    if penalty <= _FREE:
        return 0.0
    return float(min(fail_timeout * 2.0 ** min(penalty - _FREE, 32.0), LONGEST))


def longest_hold(fail_timeout: float) -> float:
    """The most seconds for which passive health puts a server out at a time."""
    return max(fail_timeout, LONGEST)
