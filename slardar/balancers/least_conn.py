"""``least_conn``: the server with the fewest requests under way for its weight.

The least ``active / weight`` wins, as in nginx.  Several that have the same (on a quiet
machine that is all of them, with none) take turns as in ``wrr``.  It suits requests of
very different length.  What it counts is what this process sent.
"""

from __future__ import annotations

from collections.abc import Sequence

from slardar.balancers.wrr import WeightedRoundRobin
from slardar.interfaces import IRequest
from slardar.model.live import Peer

__all__ = ["LeastConnections"]


class LeastConnections(WeightedRoundRobin):
    """The least loaded server, round robin among equals; it takes no options."""

    modes = ("least_conn",)

    def pick(self, servers: Sequence[Peer], request: IRequest) -> Peer:
        least = servers[0]
        active, weight = least.live.active, least.weight
        equal = [least]
        for peer in servers[1:]:
            # Fractions compared without dividing: exact, and no weight divides by 0.
            difference = peer.live.active * weight - active * peer.weight
            if difference < 0:
                active, weight = peer.live.active, peer.weight
                equal = [peer]
            elif not difference:
                equal.append(peer)
        return super().pick(equal, request)
