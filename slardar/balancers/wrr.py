"""``wrr``, also ``rr``: smooth weighted round robin, as nginx and lua-resty-checkups do it.

Each pick adds to every server's place in the turn (``current_weight``) its weight,
takes the server with the highest place, the first of those that are equal, and lowers
that one's place by the sum of all weights.  Over any sum-of-weights picks each server
gets exactly its weight, spread evenly: A1 B4 C3 E6 gives ``EBCEBEACEBECBE``.

A failure halves the weight that a server takes part with (its effective weight, at
least 1); each pick that finds it lowered raises it by one, up to what is configured, and
by a 65,536th of that more.

Both numbers live in ``peer.turn``: an edit of one server resets nothing of the others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from mypy_extensions import mypyc_attr

from slardar.balancers.base import Balancer
from slardar.interfaces import IRequest
from slardar.model.live import Peer

__all__ = ["WeightedRoundRobin"]

#: Further from 0 than any place in the turn.
_FAR: Final = 1 << 60


@mypyc_attr(allow_interpreted_subclasses=True)
class WeightedRoundRobin(Balancer):
    """Smooth weighted round robin; it takes no options."""

    modes: ClassVar[tuple[str, ...]] = ("wrr", "rr")

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        super().__init__(servers, options)
        # A place in the turn is never further from 0 than the sum of weights.  After an
        # edit from weights of 1000 to weights of 1 it may be, and would keep its server
        # waiting for a thousand picks.
        total = sum(peer.weight for peer in servers)
        for peer in servers:
            turn = peer.turn
            turn.current_weight = max(-total, min(total, turn.current_weight))

    def pick(self, servers: Sequence[Peer], request: IRequest) -> Peer:
        best = servers[0]
        if len(servers) == 1:
            return best
        # No place is lower than this: see __init__.
        highest = -_FAR
        total = 0
        for peer in servers:
            turn = peer.turn
            weight = peer.weight
            lowered = turn.effective_weight
            if lowered is not None:
                # The configured weight may have been edited since the failure.
                if lowered < weight:
                    # A large one is back in no more picks than one of 65,535.
                    turn.effective_weight = lowered + 1 + (weight >> 16)
                    weight = lowered
                else:
                    turn.effective_weight = None
            total += weight
            turn.current_weight = place = turn.current_weight + weight
            if place > highest:
                highest = place
                best = peer
        best.turn.current_weight = highest - total
        return best

    def failed(self, server: Peer) -> None:
        """Halve the server's part in the turn."""
        lowered = server.turn.effective_weight
        weight = server.weight if lowered is None else min(lowered, server.weight)
        # Rounded up: lua-resty-checkups' rule, and nobody's part becomes nothing.
        half = (weight + 1) // 2
        server.turn.effective_weight = half if half < server.weight else None
