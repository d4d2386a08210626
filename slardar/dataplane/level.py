"""The servers of one level of an upstream, and which of them are in service.

Which servers are in service changes seldom.  So it is kept for each server, and the list
for the balancer is made anew only after a change.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from heapq import heappop, heappush
from itertools import compress
from typing import Any, Final

from slardar.balancers.base import Balancer
from slardar.dataplane.decision import Candidate, LevelDecision
from slardar.health import rules
from slardar.health.checked import shown
from slardar.model.live import Peer, ServerLive
from slardar.model.server import Level

__all__ = ["TENTHS", "ServingLevel", "in_units", "is_full", "is_whole"]

#: If a weight is no integer, all weights of its level are given to the balancer in tenths.
TENTHS: Final = 10


class ServingLevel:
    """The servers of one level, its balancer, and which of them are in service.

    A server goes by its position in ``peers``.  Whether it is in service is found out again
    when somebody calls :meth:`look`, and when the time for which it is out is over.
    """

    __slots__ = (
        "_due",
        "_is_due",
        "_is_in",
        "_is_known",
        "_is_stale",
        "available",
        "balancer",
        "count",
        "full",
        "is_limited",
        "members",
        "name",
        "peers",
        "picks_without",
        "positions",
        "recheck",
        "tries",
        "unit",
    )

    def __init__(self, level: Level, peers: list[Peer], balancer: Any, unit: int) -> None:
        self.name = level.name
        self.peers = peers
        self.members = frozenset(peers)
        self.positions: dict[ServerLive, int] = {peer.live: n for n, peer in enumerate(peers)}
        self.balancer = balancer
        self.picks_without = _picks_without(type(balancer))
        self.tries = level.tries or len(peers)
        #: What weights are multiplied with for the balancer: 1 or :data:`TENTHS`.
        self.unit = unit
        #: The servers in service, for the balancer: a list that is never changed, only
        #: replaced.  ``count`` is how many there are, also while the list is out of date.
        self.available: Sequence[Peer] = ()
        self.count = 0
        #: When :meth:`refresh` must be called before a pick, in monotonic seconds.
        self.recheck = 0.0
        #: Whether each server is in service (1) or not (0).
        self._is_in = bytearray(len(peers))
        #: Whether any server was looked at, and whether ``available`` is out of date.
        self._is_known = False
        self._is_stale = True
        #: The times at which servers are to be looked at again, with their positions; and
        #: the positions that have a time.
        self._due: list[tuple[float, int]] = []
        self._is_due: set[int] = set()
        self.is_limited = any(peer.config.max_conns for peer in peers)
        #: The servers that had their limit of requests when they were last looked at.
        self.full: dict[Peer, None] = {}
        self.look_for_full()

    def is_in(self, peer: Peer) -> bool:
        """Whether the peer is a server of this level, and in service."""
        position = self.positions.get(peer.live)
        return position is not None and peer is self.peers[position] and self.has(position)

    def has(self, position: int) -> bool:
        """Whether the server at this position is in service."""
        return self._is_in[position] != 0

    def refresh(self, now: float) -> None:
        """Bring ``available`` up to date, and find out until when it holds."""
        self.update(now)
        if self._is_stale:
            self.available = list(compress(self.peers, self._is_in))
            self._is_stale = False
        self.recheck = self._due[0][0] if self._due else math.inf

    def update(self, now: float) -> None:
        """Look at the servers whose time is over, or at all servers if none was looked at."""
        if not self._is_known:
            self._is_known = True
            self._due.clear()
            self._is_due.clear()
            for position in range(len(self.peers)):
                self.look(position, now)
        due = self._due
        while due and due[0][0] <= now:
            position = heappop(due)[1]
            self._is_due.discard(position)
            self.look(position, now)

    def look(self, position: int, now: float) -> None:
        """Find out whether a server is in service."""
        peer = self.peers[position]
        is_in = int(_is_available(peer, now))
        if is_in != self._is_in[position]:
            self._is_in[position] = is_in
            self.count += 1 if is_in else -1
            self.changed()
        until = peer.live.down_until
        if until > now and position not in self._is_due:
            self._is_due.add(position)
            heappush(self._due, (until, position))
            self.recheck = min(self.recheck, until)

    def changed(self) -> None:
        """The balancer is to get another list."""
        self._is_stale = True
        self.recheck = 0.0

    def forget(self) -> None:
        """Look at all servers again, the next time."""
        self._is_known = False
        self.recheck = 0.0

    def look_for_full(self) -> None:
        """Find out which servers have their limit of requests."""
        if self.is_limited:
            self.full = {peer: None for peer in self.peers if is_full(peer)}

    def refine(self) -> None:
        """Give the balancer all weights in tenths, so that a weight can be below 1."""
        if self.unit < TENTHS:
            self.unit = TENTHS
            for peer in self.peers:
                peer.weight = in_units(peer, self.unit)
            self.changed()

    def last_ones(self) -> list[Peer]:
        """If no server is in service, the servers that only failures keep out."""
        if self.available:
            return []
        return [
            peer
            for peer in self.peers
            if rules.is_wanted(peer.config)
            and peer.weight
            and not (peer.pool and peer.pool.pending)
            and not is_full(peer)
        ]

    def described(self, serves: bool, may_get: set[Peer], now: float) -> LevelDecision:
        """The level with its servers, each with why it gets no request."""
        return LevelDecision(
            self.name or "",
            serves,
            tuple(
                Candidate(
                    peer.key,
                    shown(peer.live).status,
                    peer.config.weight,
                    peer.live.active,
                    "" if serves and peer in may_get else _why_not(peer, now),
                )
                for peer in self.peers
            ),
        )


def is_full(peer: Peer) -> bool:
    """Whether the server has as many requests under way as it may have."""
    limit = peer.config.max_conns
    return limit > 0 and peer.live.active >= limit


def is_whole(weight: float | None) -> bool:
    return weight is None or weight == int(weight)


def in_units(peer: Peer, unit: int) -> int:
    """The weight of a peer, multiplied with ``unit``; at least 1 unless the weight is 0."""
    weight = peer.live.weight
    if weight is None or not peer.config.weight:
        return peer.config.weight * unit
    return max(1, round(weight * unit)) if weight > 0 else 0


def _is_available(peer: Peer, now: float) -> bool:
    """Whether the server may be given a request, and has been looked up."""
    pool = peer.pool
    return (
        peer.weight > 0
        and rules.is_available(peer.live, peer.config, now)
        and not (pool and pool.pending)
    )


def _why_not(peer: Peer, now: float) -> str:
    """Why a server gets no request; the conditions are those of :func:`_is_available`."""
    config, live = peer.config, peer.live
    if config.state != "up":
        return f"its state is {config.state}"
    if not config.weight:
        return "its weight is 0"
    if peer.pool and peer.pool.pending:
        return "its name is being looked up"
    if live.checked == "err":
        return "its heartbeats fail"
    if live.down_until > now:
        return f"requests failed: {live.msg}"
    if not peer.weight:
        return "it has no part in the turn at the moment"
    if is_full(peer):
        return f"it has its limit of {config.max_conns} requests"
    return "another level serves"


def _picks_without(balancer: type) -> bool:
    """Whether the class that has a balancer's ``pick`` has ``pick_without`` too.

    If a subclass overrides ``pick`` only, its ``pick`` must get every request.
    """
    for cls in balancer.__mro__:
        if "pick" in cls.__dict__:
            return cls is not Balancer and "pick_without" in cls.__dict__
    return False
