"""``wrr``, also ``rr``: smooth weighted round robin, as nginx and lua-resty-checkups do it.

Each server has a place in the turn, a number.  A pick adds to each place the weight of the
server, takes the server with the highest place (of equal places, the one listed first), and
lowers its place by the sum of all weights.  In as many picks as the sum of the weights,
each server gets exactly as many as its weight, spread evenly: A1 B4 C3 E6 gives
``EBCEBEACEBECBE``.

A failure halves the effective weight of a server, with which it takes part in picks, down
to 1.  Each pick raises a lowered effective weight by one and by a 65,536th of the weight,
up to the weight.

The place and the effective weight are in ``peer.turn``, so an edit of one server resets
nothing of the others.  With few servers, each pick looks at each of them; with many,
:mod:`slardar.balancers.turns` keeps their places and gives the same order.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

from mypy_extensions import mypyc_attr

from slardar.balancers.base import Balancer, rest
from slardar.balancers.turns import Turns
from slardar.interfaces import IRequest
from slardar.model.live import Peer

__all__ = ["FEW_OUT", "MANY", "WeightedRoundRobin"]

#: Further from 0 than any place in the turn.
_FAR: Final = 1 << 60
#: With this many servers or more it is cheaper not to look at each of them (measured).
MANY: Final = 24
#: Servers are left out of the kept turn only if there are this many times as many servers.
FEW_OUT: Final = 8


@mypyc_attr(allow_interpreted_subclasses=True)
class WeightedRoundRobin(Balancer):
    """Smooth weighted round robin; it takes no options."""

    modes: ClassVar[tuple[str, ...]] = ("wrr", "rr")

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        super().__init__(servers, options)
        #: The sequence last picked from, and its turn once the sequence came twice.
        self._servers: Sequence[Peer] | None = None
        self._turns: Turns | None = None
        # A place is never further from 0 than the sum of weights, except after an edit: with
        # weights of 1 in place of 1000, it would keep its server waiting for 1000 picks.
        total = sum(peer.weight for peer in servers)
        for peer in servers:
            turn = peer.turn
            turn.place = max(-total, min(total, turn.current_weight))

    def pick(self, servers: Sequence[Peer], request: IRequest) -> Peer:
        if len(servers) < MANY:
            return self._pick_by_looking(servers)
        if servers is not self._servers:
            # The sequence may never come again: retries may have sequences of their own.
            self._servers = servers
            self._turns = None
            return self._pick_by_looking(servers)
        turns = self._turns
        if turns is None or not len(turns):
            turns = self._take_turns(servers)
        return servers[turns.pick()]

    def pick_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer:
        turns = self._turns if servers is self._servers else None
        if turns is None or not len(turns) or len(servers) < FEW_OUT * (len(left_out) + 1):
            return self._pick_by_looking(rest(servers, left_out))
        # The servers that are left out keep their places.
        numbers = [peer.turn.number for peer in left_out]
        for number in numbers:
            turns.remove(number)
        picked = servers[turns.pick()]
        for number in numbers:
            turns.add(number)
        return picked

    def _pick_by_looking(self, servers: Sequence[Peer]) -> Peer:
        # Compiled code is quicker with a list.
        peers: list[Peer] = servers if isinstance(servers, list) else list(servers)
        best = peers[0]
        if len(peers) == 1:
            return best
        # No place is lower than this: see __init__.
        highest = -_FAR
        total = 0
        for peer in peers:
            turn = peer.turn
            if turn.keeper is not None:
                turn.keeper.settle()
            weight = peer.weight
            lowered = turn.effective_weight
            if lowered is not None:
                # The weight may have been changed since the failure.
                if lowered < weight:
                    # A large weight recovers in no more picks than one of 65,535.
                    turn.effective_weight = lowered + 1 + (weight >> 16)
                    weight = lowered
                else:
                    turn.effective_weight = None
            total += weight
            turn.place = place = turn.place + weight
            if place > highest:
                highest = place
                best = peer
        best.turn.place = highest - total
        return best

    def preview(self, servers: Sequence[Peer], request: IRequest) -> Peer | None:
        return self._next_in_turn(servers)

    def _next_in_turn(self, servers: Sequence[Peer]) -> Peer:
        """The server with the highest place after a pick's weights; nothing is written."""
        best, highest = servers[0], -_FAR
        for peer in servers:
            lowered = peer.turn.effective_weight
            weight = peer.weight if lowered is None else min(lowered, peer.weight)
            place = peer.turn.current_weight + weight
            if place > highest:
                best, highest = peer, place
        return best

    def _take_turns(self, servers: Sequence[Peer]) -> Turns:
        """Keep the turn of these servers from now on."""
        turns = [peer.turn for peer in servers]
        kept = Turns(turns, [peer.weight for peer in servers])
        for turn in turns:
            if turn.keeper is not None:
                turn.keeper.settle()
        for number, turn in enumerate(turns):
            turn.keeper = kept
            turn.number = number
        kept.fill(range(len(turns)))
        self._turns = kept
        return kept

    def failed(self, server: Peer) -> None:
        """Halve the effective weight of the server."""
        turn = server.turn
        lowered = turn.effective_weight
        weight = server.weight if lowered is None else min(lowered, server.weight)
        # Rounded up, as in lua-resty-checkups: never 0.
        half = (weight + 1) // 2
        turn.effective_weight = half if half < server.weight else None
        if turn.keeper is not None and turn.effective_weight is not None:
            turn.keeper.lower(turn.number)
