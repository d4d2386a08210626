"""Drawing servers by lot, each with the chance that its weight gives it.

The balancers that choose at random share it.  The sums of the weights are kept for as
long as the same sequence object of servers is passed.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import Final

from slardar.balancers.base import rest
from slardar.model.live import Peer

__all__ = ["Lots"]

#: Draws after which it is quicker to make a list of the servers that are left.
_DRAWS: Final = 8


class Lots:
    """A lottery among servers.

    ``random`` returns a float from 0 up to but not including 1; tests pass their own.
    """

    __slots__ = ("_ends", "_random", "_servers", "mean_weight")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._servers: Sequence[Peer] | None = None
        #: The sum of the weights up to and with each server; ``None`` if all weights are
        #: equal.
        self._ends: list[float] | None = None
        #: The mean weight of the servers last drawn from.
        self.mean_weight = 1.0

    def one(self, servers: Sequence[Peer]) -> Peer:
        """One server; the chance of each is its share of the sum of weights."""
        if servers is not self._servers:
            self._learn(servers)
        ends = self._ends
        if ends is None:
            return servers[int(self._random() * len(servers))]
        return servers[bisect_right(ends, self._random() * ends[-1])]

    def two(self, servers: Sequence[Peer]) -> tuple[Peer, Peer]:
        """Two different servers: one as in :meth:`one`, and a second one drawn in the same
        way from the others.  There must be two servers at least."""
        if servers is not self._servers:
            self._learn(servers)
        ends = self._ends
        if ends is None:
            count = len(servers)
            first = int(self._random() * count)
            second = int(self._random() * (count - 1))
            return servers[first], servers[second + (second >= first)]
        total = ends[-1]
        first = bisect_right(ends, self._random() * total)
        start = ends[first - 1] if first else 0.0
        weight = ends[first] - start
        # Draw as if the part of the first server were cut out of the sum.
        place = self._random() * (total - weight)
        if place >= start:
            place += weight
        return servers[first], servers[bisect_right(ends, place)]

    def one_without(self, servers: Sequence[Peer], left_out: Sequence[Peer]) -> Peer:
        """As :meth:`one`, among the servers that are not in ``left_out``; there must be one."""
        for _ in range(_DRAWS):
            # To draw until the server fits is the same as to draw among the others.
            peer = self.one(servers)
            if peer not in left_out:
                return peer
        # The servers that are left out have most of the weight.
        left = rest(servers, left_out)
        ends = list(accumulate(float(peer.weight or 1) for peer in left))
        return left[bisect_right(ends, self._random() * ends[-1])]

    def two_without(self, servers: Sequence[Peer], left_out: Sequence[Peer]) -> tuple[Peer, Peer]:
        """As :meth:`two`, among the servers that are not in ``left_out``; twice the same
        server if there is only one."""
        first = self.one_without(servers, left_out)
        if len(servers) == len(left_out) + 1:
            return first, first
        return first, self.one_without(servers, [*left_out, first])

    def _learn(self, servers: Sequence[Peer]) -> None:
        # A server of weight 0 is never in service.  If one were passed, it must not break this.
        weights = [peer.weight or 1 for peer in servers]
        ends = [float(end) for end in accumulate(weights)]
        self._ends = None if len(set(weights)) == 1 else ends
        self.mean_weight = ends[-1] / len(servers)
        self._servers = servers
