"""``ewma``: the quicker of two, by what their last replies took.

Two servers are drawn by lot, by weight.  The first one drawn gets the request, unless the
cost of the second is lower by more than a tenth.  (A smaller difference is noise; so
servers that are equally quick share by their weights.)  The cost is::

    cost = average * (1 + active / (weight / mean weight))

``average`` is a moving average of reply times that is sensitive to peaks.  A slower reply
sets it at once.  A quicker reply lowers it by the factor ``exp(-elapsed / decay)``,
``elapsed`` being the time since the last reply.  Without any reply it sinks towards 0 at
the same rate, so a server that was slow once is asked again.  (Finagle and Linkerd call
this "peak EWMA".)

- A server without any reply yet costs 0, so it gets a request at once; but only one.
  While this request is under way, the server costs more than any other.
- A failure never counts as a quick reply: it at least doubles the average, up to 10 s.
  A failure that took longer than 10 s counts with the time that it took.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import exp, isfinite
from random import random as default_random
from typing import Any, ClassVar, Final

from mypy_extensions import mypyc_attr

from slardar.balancers.base import Balancer, Outcome, bad_option, refuse_unknown_options
from slardar.balancers.draw import Lots
from slardar.interfaces import IRequest
from slardar.model.live import Peer

__all__ = ["Ewma"]

#: Seconds; the default of Finagle and of ingress-nginx.
_DECAY: Final = 10.0
#: Seconds to which failures alone can raise an average.
_MOST: Final = 10.0
#: The cost of the first server must be this many times the cost of the second, for the
#: second to be picked.
_WORTH: Final = 1.1
#: The cost of a server that owes its first reply: more than any reply can cost.
_UNKNOWN: Final = 1e12


@mypyc_attr(allow_interpreted_subclasses=True)
class Ewma(Balancer):
    """Peak EWMA of reply times over two random choices.

    Option ``decay``: the seconds in which the part of an old reply sinks to 1/e; more
    than 0, default 10.  ``clock`` returns monotonic seconds.
    """

    modes: ClassVar[tuple[str, ...]] = ("ewma",)

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
        first, second = self._lots.two(servers)
        return self._quicker(first, second)

    def pick_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer:
        first, second = self._lots.two_without(servers, left_out)
        return self._quicker(first, second)

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
        """Add the time that the attempt took to the average."""
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
