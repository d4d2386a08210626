"""Slow start: the weight of a new or recovered server climbs from a tenth to the whole.

A server that has just begun has cold caches and no connections; with its whole share of the
requests at once it would be slow or fail.  The weight climbs in a straight line, in steps.
Pure; no function blocks.
"""

from __future__ import annotations

from typing import Final

__all__ = ["FIRST", "share_after", "step_of"]

#: The part of its weight with which a server begins.
FIRST: Final = 0.1
#: Steps of a climb, at most.  With each one the balancer gets another list of servers.
_STEPS: Final = 20
#: Seconds between two steps, at least.
_SHORTEST: Final = 0.1


def share_after(elapsed: float, seconds: float) -> float:
    """The part of its weight, up to 1, that a server has ``elapsed`` seconds after it began.

    ``seconds`` is the upstream's ``slow_start``.
    """
    if elapsed >= seconds:
        return 1.0
    return FIRST + (1.0 - FIRST) * max(0.0, elapsed) / seconds


def step_of(seconds: float) -> float:
    """Seconds between two steps of a climb that takes ``seconds``."""
    return max(seconds / _STEPS, _SHORTEST)
