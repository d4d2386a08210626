"""The servers of one level of an upstream, and which of them are in service.

Which servers are in service changes seldom.  So it is kept for each server, and the list
for the balancer is made anew only after a change.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import compress
from types import MethodDescriptorType
from typing import Any, Final

from slardar.balancers.base import Balancer, Outcome
from slardar.dataplane.decision import Candidate, LevelDecision
from slardar.health import rules
from slardar.health.checked import shown
from slardar.health.notes import notes_of
from slardar.health.outliers import settle
from slardar.health.panic import panics
from slardar.health.slow_start import FIRST, share_after, step_of
from slardar.model.live import Peer, ServerLive
from slardar.model.server import Level

__all__ = ["TENTHS", "Panic", "ServingLevel", "in_units", "is_full", "is_whole"]

#: If a weight is no integer, all weights of its level are given to the balancer in tenths.
TENTHS: Final = 10

#: Looked up once: mypyc looks up what it does not compile at each use.
_new: Final = tuple.__new__
_outcome: Final = Outcome


class ServingLevel:
    """The servers of one level, its balancer, and which of them are in service.

    A server goes by its position in ``peers``.  Whether it is in service is found out again
    when somebody calls :meth:`look`, and when the time for which it is out is over.
    """

    __slots__ = (
        "_climbing",
        "_due",
        "_due_at",
        "_is_in",
        "_is_known",
        "_is_stale",
        "_is_wanted",
        "_next_step",
        "available",
        "balancer",
        "binds",
        "compiled",
        "count",
        "full",
        "ignores_health",
        "is_limited",
        "label",
        "members",
        "name",
        "on_climb",
        "panic",
        "peers",
        "picks_without",
        "positions",
        "recheck",
        "slow_start",
        "tries",
        "unit",
        "wanted",
    )

    def __init__(
        self,
        level: Level,
        peers: list[Peer],
        balancer: Any,
        unit: int,
        slow_start: float = 0.0,
        label: str = "",
        on_climb: Callable[[Peer, str], None] | None = None,
    ) -> None:
        self.name = level.name
        #: What tells the level from the others of its upstream; and what is called with a server
        #: that begins to climb, and with this label unless this is the first level that has
        #: the server.
        self.label = label
        self.on_climb = on_climb
        self.peers = peers
        self.members = frozenset(peers)
        self.positions: dict[ServerLive, int] = {peer.live: n for n, peer in enumerate(peers)}
        self.balancer = balancer
        #: The balancer, if it may be called by its class.
        self.compiled: Balancer | None = balancer if _is_compiled(balancer) else None
        self.picks_without = _picks_without(type(balancer))
        #: Servers that drain get requests that the balancer has bound to them.
        self.binds = _binds(type(balancer)) and any(peer.config.state == "drain" for peer in peers)
        self.tries = level.tries or len(peers)
        #: What weights are multiplied with for the balancer: 1 or :data:`TENTHS`.
        self.unit = unit
        #: Seconds for which the weight of a server climbs; 0: it does not.
        self.slow_start = slow_start
        #: The positions of servers that climb, and when they take the next step.
        self._climbing: set[int] = set()
        self._next_step = math.inf
        #: The servers offered to the balancer, which are those in service, as a rule: a list
        #: that is never changed, only replaced.  ``count`` is how many are in service, also
        #: while the list is out of date.
        self.available: list[Peer] = []
        self.count = 0
        #: How many servers take requests, apart from their health.
        self.wanted = 0
        #: Decides for all levels of the upstream; ``None`` if health is never ignored.
        self.panic: Panic | None = None
        #: Servers are offered whatever their health is.
        self.ignores_health = False
        #: When :meth:`refresh` must be called before a pick, in monotonic seconds.
        self.recheck = 0.0
        #: Whether each server is in service (1) or not (0).
        self._is_in = bytearray(len(peers))
        #: Whether each server takes requests, apart from its health.
        self._is_wanted = bytearray(len(peers))
        #: Whether any server was looked at, and whether ``available`` is out of date.
        self._is_known = False
        self._is_stale = True
        #: The times at which servers are to be looked at again, with their positions; and
        #: by position the one that counts: others of the same server are out of date.
        self._due: list[tuple[float, int]] = []
        self._due_at: dict[int, float] = {}
        self.is_limited = any(peer.config.max_conns for peer in peers)
        #: The servers that had their limit of requests when they were last looked at.
        self.full: dict[Peer, None] = {}
        self.look_for_full()

    def started(self, peer: Peer) -> None:
        """Tell the balancer that a request is on its way.  Raises what the balancer raises."""
        if self.compiled is not None:
            self.compiled.started(peer)
        else:
            self.balancer.started(peer)

    def finished(self, peer: Peer, failed: bool, seconds: float, status: int) -> None:
        """Tell the balancer that an attempt is over.  Raises what the balancer raises."""
        # Without the function in Python that makes a tuple with names.
        outcome: Outcome = _new(_outcome, (failed, seconds, status))
        if self.compiled is not None:
            self.compiled.finished(peer, outcome)
        else:
            self.balancer.finished(peer, outcome)

    def failed(self, peer: Peer) -> None:
        """Tell the balancer that an attempt failed.  Raises what the balancer raises."""
        if self.compiled is not None:
            self.compiled.failed(peer)
        else:
            self.balancer.failed(peer)

    def is_in(self, peer: Peer) -> bool:
        """Whether the peer is a server of this level, and offered."""
        position = self.positions.get(peer.live)
        return position is not None and peer is self.peers[position] and self.has(position)

    def has(self, position: int) -> bool:
        """Whether the server at this position is offered to the balancer."""
        return (self._is_wanted if self.ignores_health else self._is_in)[position] != 0

    def is_healthy(self, position: int) -> bool:
        """Whether the server at this position is in service."""
        return self._is_in[position] != 0

    def refresh(self, now: float) -> None:
        """Bring ``available`` up to date, and find out until when it holds."""
        self.update(now)
        if self.panic is not None:
            self.panic.update(now)
        if self._is_stale:
            offered = self._is_wanted if self.ignores_health else self._is_in
            self.available = list(compress(self.peers, offered))
            self._is_stale = False
        self.recheck = self.next_look() if self.panic is None else self.panic.next_look()

    def next_look(self) -> float:
        """When the time of a server is over, or climbing ones take a step, in monotonic
        seconds."""
        return min(self._due[0][0], self._next_step) if self._due else self._next_step

    def update(self, now: float) -> None:
        """Look at the servers whose time is over, or at all servers if none was looked at."""
        if not self._is_known:
            self._is_known = True
            self._due.clear()
            self._due_at.clear()
            for position in range(len(self.peers)):
                self.look(position, now)
        due = self._due
        while due and due[0][0] <= now:
            time, position = heappop(due)
            if self._due_at.get(position) == time:
                del self._due_at[position]
                self.look(position, now)
        if now >= self._next_step:
            self._climb(now)

    def look(self, position: int, now: float) -> None:
        """Find out whether a server is in service."""
        peer = self.peers[position]
        is_wanted = int(_is_wanted(peer, now))
        is_in = is_wanted and int(rules.is_available(peer.live, peer.config, now))
        if is_wanted != self._is_wanted[position]:
            self._is_wanted[position] = is_wanted
            self.wanted += 1 if is_wanted else -1
            self.changed()
        if is_in != self._is_in[position]:
            self._is_in[position] = is_in
            self.count += 1 if is_in else -1
            self.changed()
        if self.slow_start:
            self._look_for_climb(position, peer, is_in != 0, now)
        settle(peer.live, now)
        live = peer.live
        until = _next_end(live, now)
        known = self._due_at.get(position)
        if until > now and (known is None or until < known):
            self._due_at[position] = until
            heappush(self._due, (until, position))
            self.recheck = min(self.recheck, until)

    def _look_for_climb(self, position: int, peer: Peer, is_in: bool, now: float) -> None:
        """Let a server climb that has come into service, and others not any more."""
        turn = peer.turn
        if not is_in:
            # Until its name is known, nobody can say that a server was out of service; and
            # one that is full is not cold.
            if not (peer.pool and peer.pool.pending) and peer.live.full_until <= now:
                turn.is_cold = True
                turn.climbs_from = 0.0
                self._climbing.discard(position)
            return
        if turn.is_cold:
            turn.is_cold = False
            turn.climbs_from = now
            turn.share = FIRST
            self.weigh(peer)
            if self.on_climb is not None:
                self.on_climb(peer, "" if turn is peer.live else self.label)
        if turn.climbs_from and position not in self._climbing:
            self._climbing.add(position)
            # Those that climb take their steps together: each step costs a new list.
            self._next_step = min(self._next_step, now + step_of(self.slow_start))
            self.recheck = min(self.recheck, self._next_step)

    def _climb(self, now: float) -> None:
        """The servers that climb take a step."""
        for position in list(self._climbing):
            peer = self.peers[position]
            turn = peer.turn
            turn.share = share_after(now - turn.climbs_from, self.slow_start)
            if turn.share >= 1.0:
                turn.climbs_from = 0.0
                self._climbing.remove(position)
            self.weigh(peer)
        self._next_step = now + step_of(self.slow_start) if self._climbing else math.inf

    def weigh(self, peer: Peer) -> None:
        """Compute the weight of a server again."""
        if not is_whole(peer.live.weight) or peer.turn.share != 1.0:
            self.refine()
        before, peer.weight = peer.weight, in_units(peer, self.unit)
        if peer.weight != before:
            self.changed()

    def changed(self) -> None:
        """The balancer is to get another list."""
        self._is_stale = True
        self.recheck = 0.0
        if self.panic is not None:
            self.panic.changed()

    def ignore_health(self, ignores: bool) -> None:
        """Offer servers whatever their health is, or not any more."""
        if ignores is not self.ignores_health:
            self.ignores_health = ignores
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

    def keeps(self, peer: Peer, now: float) -> bool:
        """Whether a server that drains takes a request that is bound to it."""
        live = peer.live
        return (
            peer in self.members
            and peer.config.state == "drain"
            and live.down_until <= now
            and rules.is_fit_otherwise(live, now)
            and _is_open(peer, now)
            and not is_full(peer)
        )

    def with_room(self) -> list[Peer]:
        """The servers that may get a request now; of those that are offered, the ones with
        room."""
        if not self.is_limited:
            return self.available
        left = [peer for peer in self.available if not is_full(peer)]
        return left if len(left) < len(self.available) else self.available

    def last_ones(self, now: float) -> list[Peer]:
        """If no server is in service, the servers that only failed requests keep out."""
        if self.available:
            return []
        return [
            peer
            for peer in self.peers
            if _is_wanted(peer, now) and peer.live.checked != "err" and not is_full(peer)
        ]

    def held(self, now: float) -> list[Peer]:
        """The servers that would be in service if nobody was held back for going out too
        often."""
        return [
            peer
            for peer in self.peers
            if rules.is_held(peer.live, now)
            and rules.is_fit_otherwise(peer.live, now)
            and _is_wanted(peer, now)
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
                    "; ".join(f"{key}: {note}" for key, note in _notes(peer, now).items()),
                )
                for peer in self.peers
            ),
            self.label,
        )


class Panic:
    """Whether the levels of one upstream ignore health (:mod:`slardar.health.panic`).

    ``share`` is the upstream's ``panic``.
    """

    __slots__ = ("is_on", "levels", "share")

    def __init__(self, levels: list[ServingLevel], share: float) -> None:
        self.levels = levels
        self.share = share
        #: Health is ignored, as of the last look.
        self.is_on = False
        for level in levels:
            level.panic = self

    def changed(self) -> None:
        """Servers of one level have changed: each level must ask again."""
        for level in self.levels:
            level.recheck = 0.0

    def update(self, now: float) -> None:
        """Count the servers of all levels, and tell each level what follows."""
        available = wanted = 0
        for level in self.levels:
            level.update(now)
            available += level.count
            wanted += level.wanted
        self.is_on = panics(available, wanted, self.share)
        for level in self.levels:
            level.ignore_health(self.is_on and (level.count > 0 or not available))

    def next_look(self) -> float:
        """When the time of a server in any level is over, in monotonic seconds."""
        return min([level.next_look() for level in self.levels])


def is_full(peer: Peer) -> bool:
    """Whether the server has as many requests under way as it may have."""
    limit = peer.config.max_conns
    return limit > 0 and peer.live.active >= limit


def is_whole(weight: float | None) -> bool:
    return weight is None or weight == int(weight)


def in_units(peer: Peer, unit: int) -> int:
    """The weight of a peer, multiplied with ``unit``; at least 1 unless the weight is 0."""
    weight, share = peer.live.weight, peer.turn.share
    if share == 1.0 and (weight is None or not peer.config.weight):
        return peer.config.weight * unit
    if weight is None or not peer.config.weight:
        weight = peer.config.weight
    return max(1, round(weight * share * unit)) if weight > 0 else 0


def _notes(peer: Peer, now: float) -> dict[str, str]:
    """What the server gets in this level beyond its health, and why."""
    notes = notes_of(peer.live, now)
    if peer.turn is not peer.live:
        notes.pop("slow_start", None)
        notes.update(notes_of(peer.turn, now))
    return notes


def _is_wanted(peer: Peer, now: float) -> bool:
    """Whether the server takes requests apart from its health, and has been looked up."""
    return peer.weight > 0 and rules.is_wanted(peer.config) and _is_open(peer, now)


def _is_open(peer: Peer, now: float) -> bool:
    """Whether the server has been looked up, and has not said that it wants no requests."""
    live, pool = peer.live, peer.pool
    return not (pool and pool.pending) and not live.drains and live.full_until <= now


def _next_end(live: ServerLive, now: float) -> float:
    """When the next of the reasons ends that keep a server out for a time; 0 if none does."""
    found = 0.0
    if live.down_until > now:
        found = live.down_until
    if now < live.ejected_until and (not found or live.ejected_until < found):
        found = live.ejected_until
    if now < live.full_until and (not found or live.full_until < found):
        found = live.full_until
    return found


def _why_not(peer: Peer, now: float) -> str:
    """Why a server gets no request; the conditions are those of :func:`_is_wanted` and
    :func:`slardar.health.rules.is_available`."""
    config, live = peer.config, peer.live
    if config.state != "up":
        return f"its state is {config.state}"
    if not config.weight:
        return "its weight is 0"
    if peer.pool and peer.pool.pending:
        return "its name is being looked up"
    if live.drains:
        return "it has said that it wants no requests"
    if live.full_until > now:
        return "it has said that it is full"
    if live.checked == "err":
        return f"its heartbeats fail: {live.checked_msg}"
    if live.down_until > now:
        return f"requests failed: {live.msg}"
    if live.ejected_until > now:
        return live.ejected_msg
    if not peer.weight:
        return "it has no part in the turn at the moment"
    if is_full(peer):
        return f"it has its limit of {config.max_conns} requests"
    return "another level serves"


def _is_compiled(balancer: object) -> bool:
    """Whether the methods of a balancer are compiled, so that they return what they should.

    Those of a class in plain Python may return anything, and are called by name.
    """
    return isinstance(balancer, Balancer) and all(
        isinstance(getattr(type(balancer), name), MethodDescriptorType)
        for name in ("pick", "started", "finished", "failed")
    )


def _binds(balancer: type) -> bool:
    """Whether a balancer may bind requests to servers."""
    return getattr(balancer, "bound_to", Balancer.bound_to) is not Balancer.bound_to


def _picks_without(balancer: type) -> bool:
    """Whether the class that has a balancer's ``pick`` has ``pick_without`` too.

    If a subclass overrides ``pick`` only, its ``pick`` must get every request.
    """
    for cls in balancer.__mro__:
        if "pick" in cls.__dict__:
            return cls is not Balancer and "pick_without" in cls.__dict__
    return False
