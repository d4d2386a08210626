"""``ewma``: the quicker of two, by what their last replies took.

Two servers are drawn by lot, weighted; the first one drawn gets the request, unless the
other promises to be done sooner by more than a tenth.  (Less is noise; so servers that
are equally quick share by their weights.)  What they promise is::

    cost = average * (1 + active / (weight / mean weight))

``average`` is a peak-sensitive moving average of reply times: a reply that took longer
sets it at once, a quicker one draws it down in proportion to the time since the last
(``exp(-elapsed / decay)``), and without any reply it sinks towards 0 at the same rate,
so a server that was slow once is asked again.  (Finagle's and Linkerd's "peak EWMA".)

- A server that has answered nothing yet costs 0 and is tried at once, but with one
  request only: while that one is under way it costs more than any other.
- A failure is never a quick reply: it at least doubles the average, up to 10 s (a
  longer failure counts for what it took).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import exp, isfinite
from random import random as default_random
from typing import Any

from slardar.balancers.base import Balancer, Outcome, bad_option, refuse_unknown_options
from slardar.balancers.draw import Lots
from slardar.interfaces import IRequest
from slardar.model.live import Peer

__all__ = ["Ewma"]

#: Seconds; the same as Finagle's default and ingress-nginx'.
_DECAY = 10.0
#: Seconds to which failures alone can raise an average.
_MOST = 10.0
#: How many times lower the second one's cost must be to be preferred.
_WORTH = 1.1
#: The cost of a server that owes its first reply: above what any reply can take.
_UNKNOWN = 1e12


class Ewma(Balancer):
    """Peak EWMA of reply times over two random choices.

    Option ``decay``: seconds in which an old reply's part sinks to 1/e; more than 0,
    default 10.  ``clock`` returns monotonic seconds.
    """

    modes = ("ewma",)

    def __init__(
        self,
        servers: Sequence[Peer],
        options: Mapping[str, Any],
        random: Callable[[], float] = default_random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        refuse_unknown_options(options, ("decay",))
        super().__init__(servers, {})
        decay = options.get("decay", _DECAY)
        if type(decay) not in (int, float) or not 0 < decay <= 1e9 or not isfinite(decay):
            raise bad_option("decay", "a number of seconds above 0", decay)
        self._decay = float(decay)
        self._lots = Lots(random)
        self._clock = clock

    def pick(self, servers: Sequence[Peer], request: IRequest) -> Peer:
        if len(servers) == 1:
            return servers[0]
        return self._quicker(*self._lots.two(servers))

    def pick_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer:
        return self._quicker(*self._lots.two_without(servers, left_out))

    def _quicker(self, first: Peer, second: Peer) -> Peer:
        now = self._clock()
        if self._cost(second, now) * _WORTH < self._cost(first, now):
            return second
        return first

    def _cost(self, peer: Peer, now: float) -> float:
        live = peer.live
        average, active = live.ewma, live.active
        if average is None:
            return active * _UNKNOWN
        sunk = average * exp((live.ewma_at - now) / self._decay)
        return sunk * (1.0 + active * self._lots.mean_weight / (peer.weight or 1))

    def finished(self, server: Peer, outcome: Outcome) -> None:
        """Take the reply's time into the average."""
        live, now = server.live, self._clock()
        seconds = outcome.seconds
        average = live.ewma
        if average is not None:
            kept = exp((live.ewma_at - now) / self._decay)
            if outcome.failed:
                seconds = max(seconds, min(_MOST, 2.0 * average * kept))
            elif seconds < average:
                seconds += (average - seconds) * kept
        live.ewma = seconds
        live.ewma_at = now
