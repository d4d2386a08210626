"""How long a client waits before it tries again what has failed."""

from __future__ import annotations

import random
from collections.abc import Callable

__all__ = ["backoff"]


def backoff(
    first: float, longest: float, failures: int, draw: Callable[[], float] = random.random
) -> float:
    """Seconds until the next try, after so many failures in a row before the last one.

    The pause is ``first`` seconds, and twice as long after each failure, up to ``longest``.  Up to
    half of it is taken away by lot, so that many clients that have lost the same server do not come
    back together.  ``draw()`` is a number from 0 to 1.
    """
    # A float has no power of 2 beyond the 1023rd.
    return min(first * 2.0 ** min(failures, 100), longest) * (0.5 + 0.5 * draw())
