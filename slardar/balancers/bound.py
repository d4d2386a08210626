"""Bounded load: a server that has far more requests under way than its share gets no more.

The share of a server is its weight's part of all requests under way, the new one included.
A server has room while it has fewer requests than ``bound`` times its share, rounded up.
So some server always has room, and none has more than ``ceil(bound * mean)``.  (Mirrokni,
Thorup and Zadimoghaddam, "Consistent Hashing with Bounded Loads", 2018.)

The sum of the requests under way is kept from call to call.  It is counted anew after as
many requests as there are servers, since requests may begin and end without a call: those that
began before an edit of the upstream, and those of another level that has the same server.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from mypy_extensions import mypyc_attr

from slardar.balancers.base import bad_option
from slardar.model.live import Peer

__all__ = ["Bound"]

#: Above this a bound has no effect on anything.
_MOST = 1000.0


@mypyc_attr(allow_interpreted_subclasses=True)
class Bound:
    """The limit of each server of one level.

    ``factor`` is the option ``bound``: a number above 1, 1,000 at most.  Raises ConfigError
    for another value.
    """

    def __init__(self, factor: Any) -> None:
        if type(factor) not in (int, float) or not 1 < factor <= _MOST:
            raise bad_option("bound", "a number above 1, 1000 at most", factor)
        self._factor = float(factor)
        self._servers: Sequence[Peer] = ()
        self._present: frozenset[Peer] = frozenset()
        #: ``bound`` over the sum of the weights.
        self._by_weight = 0.0
        #: Requests under way on the servers, and how many may begin until they are counted anew.
        self._total = 0
        self._starts_left = 0

    def learn(self, servers: Sequence[Peer], present: frozenset[Peer]) -> None:
        """Take a new sequence of servers, or the same servers with new weights."""
        self._servers = servers
        self._present = present
        # A little less, so that no rounding makes a limit of 101 out of exactly 100.
        factor = self._factor * (1 - 1e-12)
        self._by_weight = factor / (sum([peer.weight for peer in servers]) or 1)
        self._count()

    def _count(self) -> None:
        self._total = sum([peer.live.active for peer in self._servers])
        self._starts_left = len(self._servers)

    def has_room(self, peer: Peer) -> bool:
        """Whether the server may get the next request."""
        # Without rounding up: a whole number is below a fraction if it is below the next
        # whole number.
        return peer.live.active < self._by_weight * (self._total + 1) * peer.weight

    def first_with_room(self, start: int, left_out: Collection[Peer]) -> Peer:
        """The first server with room, from a place in the list on.

        If none of the servers that are not ``left_out`` has room, the least loaded of them.
        """
        servers = self._servers
        count = len(servers)
        share = self._by_weight * (self._total + 1)
        least: Peer | None = None
        least_load = 0.0
        for number in range(start, start + count):
            peer = servers[number % count]
            if peer in left_out:
                continue
            if peer.live.active < share * peer.weight:
                return peer
            load = peer.live.active / (peer.weight or 1e-9)
            if least is None or load < least_load:
                least, least_load = peer, load
        assert least is not None
        return least

    def started(self, peer: Peer) -> None:
        """A request begins on the server."""
        self._starts_left -= 1
        if self._starts_left < 0:
            self._count()
        if peer in self._present:
            self._total += 1

    def finished(self, peer: Peer) -> None:
        """A request on the server has ended."""
        if peer in self._present:
            self._total -= 1
