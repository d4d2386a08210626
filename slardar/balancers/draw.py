"""Drawing servers by lot, each with the chance that its weight gives it.

Shared by the balancers that choose at random.  What follows from the weights is kept
as long as the same sequence of servers is passed, which is what selection does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

from slardar.balancers.base import rest
from slardar.model.live import Peer

__all__ = ["Lots"]


#: Draws after which it is quicker to look who is left.
_DRAWS = 8


class Lots:
    """A lottery among servers.

    ``random`` returns a float from 0 up to and without 1; tests pass their own.
    """

    __slots__ = ("_ends", "_random", "_servers", "mean_weight")

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._servers: Sequence[Peer] | None = None
        #: Where each server's stretch of the sum of weights ends; ``None`` if all
        #: weights are equal.
        self._ends: list[float] | None = None
        #: The mean weight of the servers last drawn from.
        self.mean_weight = 1.0

    def one(self, servers: Sequence[Peer]) -> Peer:
        """A server; its chance is its share of the sum of weights."""
        if servers is not self._servers:
            self._learn(servers)
        ends = self._ends
        if ends is None:
            return servers[int(self._random() * len(servers))]
        return servers[bisect_right(ends, self._random() * ends[-1])]

    def two(self, servers: Sequence[Peer]) -> tuple[Peer, Peer]:
        """Two different servers of at least two: one as in :meth:`one`, and another
        one drawn likewise from the rest."""
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
        # As if the first one's stretch were cut out.
        place = self._random() * (total - weight)
        if place >= start:
            place += weight
        return servers[first], servers[bisect_right(ends, place)]

    def one_without(self, servers: Sequence[Peer], left_out: Sequence[Peer]) -> Peer:
        """As :meth:`one`, of those that are none of ``left_out``; not all of them are."""
        for _ in range(_DRAWS):
            # Drawn until it fits: exactly by lot among the others.
            peer = self.one(servers)
            if peer not in left_out:
                return peer
        # Those that are left out have most of the weight.
        left = rest(servers, left_out)
        ends = list(accumulate(float(peer.weight or 1) for peer in left))
        return left[bisect_right(ends, self._random() * ends[-1])]

    def two_without(self, servers: Sequence[Peer], left_out: Sequence[Peer]) -> tuple[Peer, Peer]:
        """As :meth:`two`, of those that are none of ``left_out``; twice the same one if
        there is only one."""
        first = self.one_without(servers, left_out)
        if len(servers) == len(left_out) + 1:
            return first, first
        return first, self.one_without(servers, [*left_out, first])

    def _learn(self, servers: Sequence[Peer]) -> None:
        # Weight 0 is never in service; if it were passed it must still be a server.
        weights = [peer.weight or 1 for peer in servers]
        ends = [float(end) for end in accumulate(weights)]
        self._ends = None if len(set(weights)) == 1 else ends
        self.mean_weight = ends[-1] / len(servers)
        self._servers = servers
