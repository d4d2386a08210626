"""``least_conn``: the server with the fewest requests under way for its weight.

The server with the least ``active / weight`` wins, as in nginx.  ``active`` is the number of
requests that this process has under way on the server.  Servers with equal values take turns
as in ``wrr``.  (If there are few requests, most servers have none, so most picks are turns.)
The balancer suits requests that take very different times.

With few servers, a pick looks at each of them.  With many, the servers of equal load form a
group that has a turn of its own (:class:`_Loads`), and a pick costs ``O(log servers)``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import Any, ClassVar, Final

from mypy_extensions import mypyc_attr

from slardar.balancers.base import Outcome, rest
from slardar.balancers.turns import Turns
from slardar.balancers.wrr import FEW_OUT, MANY, WeightedRoundRobin
from slardar.interfaces import IRequest
from slardar.model.live import Peer, ServerLive, TurnKeeper

__all__ = ["LeastConnections"]

#: Servers whose load each pick checks, beside those whose load is known to have changed.
#: Requests that began before an edit of the upstream end without a call of this balancer.
_LOOKS: Final = 2


class _Loads(TurnKeeper):
    """Groups of servers by their load.  The number of a server is its index in ``servers``."""

    def __init__(self, servers: Sequence[Peer]) -> None:
        self._lives: list[ServerLive] = [peer.live for peer in servers]
        self._turns: list[ServerLive] = [peer.turn for peer in servers]
        self._weights: list[int] = [peer.weight for peer in servers]
        for turn in self._turns:
            if turn.keeper is not None:
                turn.keeper.settle()
        by_load: dict[float, list[int]] = {}
        #: The load of each server when it was last checked.
        self._loads: list[float] = []
        for number, turn in enumerate(self._turns):
            turn.keeper = self
            turn.number = number
            load = self._load(number)
            self._loads.append(load)
            by_load.setdefault(load, []).append(number)
        #: For each load, the turn of the servers that have it.
        self._buckets: dict[float, Turns] = {}
        for load, numbers in by_load.items():
            bucket = self._buckets[load] = Turns(self._turns, self._weights)
            bucket.fill(numbers)
        #: The loads as a heap and as a set; some of them may be no server's any more.
        self._order: list[float] = list(by_load)
        heapify(self._order)
        self._ordered: set[float] = set(self._order)
        #: The servers whose load may have changed since the last pick.
        self._changed: dict[int, None] = {}
        self._next_look = 0
        self.is_over = False

    def _load(self, number: int) -> float:
        # Division is exact to the last bit: equal fractions are equal floats, and different
        # fractions are different floats as long as active * weight is below 2**53.
        return self._lives[number].active / (self._weights[number] or 1e-9)

    def settle(self) -> None:
        """See :class:`TurnKeeper`."""
        self.is_over = True
        for bucket in self._buckets.values():
            bucket.settle()

    def lower(self, number: int) -> None:
        """See :class:`TurnKeeper`."""
        self._buckets[self._loads[number]].lower(number)

    def changed(self, number: int) -> None:
        """A request has begun or ended on the server."""
        self._changed[number] = None

    def pick(self) -> int:
        """The number of the server that is to get the next request."""
        self._look()
        return self._take()

    def _take(self) -> int:
        order = self._order
        bucket = self._buckets.get(order[0])
        while bucket is None:
            self._ordered.discard(heappop(order))
            bucket = self._buckets.get(order[0])
        # A single server takes no turn: its place and weight stay as they are.
        number = bucket.only() if len(bucket) == 1 else bucket.pick()
        self._changed[number] = None
        return number

    def pick_without(self, numbers: list[int]) -> int:
        """As :meth:`pick`, without some servers, which keep their places."""
        self._look()
        for number in numbers:
            self._remove(number)
        picked = self._take()
        for number in numbers:
            self._add(number)
        return picked

    def _look(self) -> None:
        """Check the load of the servers that may have changed, and of a few others."""
        if self._changed:
            for number in self._changed:
                self._update(number)
            self._changed.clear()
        number = self._next_look
        count = len(self._loads)
        for _ in range(_LOOKS):
            self._update(number)
            number += 1
            if number == count:
                number = 0
        self._next_look = number

    def _update(self, number: int) -> None:
        load = self._load(number)
        if load != self._loads[number]:
            self._remove(number)
            self._loads[number] = load
            self._add(number)

    def _remove(self, number: int) -> None:
        load = self._loads[number]
        bucket = self._buckets[load]
        bucket.remove(number)
        if not len(bucket):
            del self._buckets[load]

    def _add(self, number: int) -> None:
        load = self._loads[number]
        bucket = self._buckets.get(load)
        if bucket is None:
            bucket = self._buckets[load] = Turns(self._turns, self._weights)
            if load not in self._ordered:
                heappush(self._order, load)
                self._ordered.add(load)
        bucket.add(number)


@mypyc_attr(allow_interpreted_subclasses=True)
class LeastConnections(WeightedRoundRobin):
    """The least loaded server, round robin among equals; it takes no options."""

    modes: ClassVar[tuple[str, ...]] = ("least_conn",)

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        super().__init__(servers, options)
        #: The sequence last picked from, and its loads once the sequence came twice.
        self._asked: Sequence[Peer] | None = None
        self._loads: _Loads | None = None

    def pick(self, servers: Sequence[Peer], request: IRequest) -> Peer:
        if len(servers) < MANY:
            return self._least(servers)
        if servers is not self._asked:
            self._asked = servers
            self._loads = None
            return self._least(servers)
        loads = self._loads
        if loads is None or loads.is_over:
            loads = self._loads = _Loads(servers)
        return servers[loads.pick()]

    def pick_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer:
        loads = self._loads if servers is self._asked else None
        if loads is None or loads.is_over or len(servers) < FEW_OUT * (len(left_out) + 1):
            return self._least(rest(servers, left_out))
        return servers[loads.pick_without([peer.turn.number for peer in left_out])]

    def preview(self, servers: Sequence[Peer], request: IRequest) -> Peer | None:
        return self._next_in_turn(_least_loaded(servers))

    def _least(self, servers: Sequence[Peer]) -> Peer:
        least = self._pick_by_looking(_least_loaded(servers))
        _note_change(least)
        return least

    def finished(self, server: Peer, outcome: Outcome) -> None:
        """One request fewer is under way on ``server``."""
        _note_change(server)


def _note_change(peer: Peer) -> None:
    """A request begins or has ended on a server, whichever balancer picked the server."""
    keeper = peer.turn.keeper
    if isinstance(keeper, _Loads):
        keeper.changed(peer.turn.number)


def _least_loaded(servers: Sequence[Peer]) -> list[Peer]:
    """The servers with the fewest requests under way for their weight."""
    # Compiled code is quicker with a list.
    peers: list[Peer] = servers if isinstance(servers, list) else list(servers)
    least = peers[0]
    active, weight = least.live.active, least.weight
    equal = [least]
    for number in range(1, len(peers)):
        peer = peers[number]
        # Fractions are compared without a division: exact, also for a weight of 0.
        difference = peer.live.active * weight - active * peer.weight
        if difference < 0:
            active, weight = peer.live.active, peer.weight
            equal = [peer]
        elif not difference:
            equal.append(peer)
    return equal
