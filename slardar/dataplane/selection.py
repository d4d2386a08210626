"""One upstream of one snapshot, ready to serve: which server gets a request.

A selection joins what is configured (the upstream), what is live (counters and
health, which outlive it) and the balancer.  Which servers are in service changes
seldom, so that list is kept and made anew only when health says so or when the
time has come for a server to be tried again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from heapq import heappop, heappush
from itertools import compress
from typing import Any, Final

from twisted.logger import Logger

from slardar.balancers.base import Balancer, Outcome, rest
from slardar.dataplane.decision import Candidate, LevelDecision, Preview
from slardar.health import rules
from slardar.http1.interfaces import Clock, SelectionBase
from slardar.http1.request import Request
from slardar.model.live import Live, Peer, ServerLive
from slardar.model.server import Level, Upstream

__all__ = ["Defaults", "Selection"]

#: Weights that are no integers are given to balancers in tenths, all of the level.
_TENTHS: Final = 10

_log = Logger("slardar.selection")


class Defaults:
    """What an upstream leaves to the settings: timeouts in seconds."""

    __slots__ = ("connect", "read", "send")

    def __init__(self, connect: float, send: float, read: float) -> None:
        self.connect = connect
        self.send = send
        self.read = read


class _Level:
    """The servers of one level, its balancer, and which of them are in service.

    A server goes by its position in ``peers``.  What is known of its health is kept, and
    looked at again when somebody says so (:meth:`look`) or when its time is over.
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
        #: Balancers are given weights in this part of the configured ones.
        self.unit = unit
        #: The servers in service, for the balancer, and how many they are.  The list is
        #: never changed, but made anew.
        self.available: Sequence[Peer] = ()
        self.count = 0
        #: When :meth:`refresh` must be called before a pick, in monotonic seconds.
        self.recheck = 0.0
        #: Whether each server is in service (1) or not (0).
        self._is_in = bytearray(len(peers))
        #: Whether they were looked at at all, and whether ``available`` says it otherwise.
        self._is_known = False
        self._is_stale = True
        #: The times at which servers are to be looked at again, and the servers that have one.
        self._due: list[tuple[float, int]] = []
        self._is_due: set[int] = set()
        self.is_limited = any(peer.config.max_conns for peer in peers)
        #: Servers that had their limit of requests when they were last looked at.
        self.full: dict[Peer, None] = {}
        self.look_for_full()

    def is_in(self, peer: Peer) -> bool:
        """Whether the peer is one of the level's that are in service."""
        position = self.positions.get(peer.live)
        return position is not None and peer is self.peers[position] and self.has(position)

    def has(self, position: int) -> bool:
        """Whether the server at this position is in service."""
        return self._is_in[position] != 0

    def refresh(self, now: float) -> None:
        """Bring ``available`` up to date, and find out until when that holds."""
        self.update(now)
        if self._is_stale:
            self.available = list(compress(self.peers, self._is_in))
            self._is_stale = False
        self.recheck = self._due[0][0] if self._due else math.inf

    def update(self, now: float) -> None:
        """Look at those whose time is over, or at all of them if nothing is known."""
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
        """The balancer must be given another list."""
        self._is_stale = True
        self.recheck = 0.0

    def forget(self) -> None:
        """Nothing is known of health any more."""
        self._is_known = False
        self.recheck = 0.0

    def look_for_full(self) -> None:
        """Find out which servers have their limit of requests."""
        if self.is_limited:
            self.full = {peer: None for peer in self.peers if _is_full(peer)}

    def refine(self) -> None:
        """Give the balancer weights in tenths, so that a part of 1 can be less than 1."""
        if self.unit < _TENTHS:
            self.unit = _TENTHS
            for peer in self.peers:
                peer.weight = _in_units(peer, self.unit)
            self.changed()


class Selection(SelectionBase):
    """See the module.  Everything here is called on the request path."""

    __slots__ = (
        "_clock",
        "_levels",
        "_on_error",
        "_on_health",
        "_places",
        "_wants_failed",
        "_wants_finished",
        "_wants_started",
        "upstream",
    )

    def __init__(
        self,
        upstream: Upstream,
        live: Live,
        make_balancer: Callable[[Sequence[Peer], Any], Any],
        defaults: Defaults,
        clock: Clock,
        on_health: Callable[[str, Peer], None] | None = None,
        on_error: Callable[[str, Any, str, BaseException], None] | None = None,
    ) -> None:
        super().__init__(upstream.name)
        self._on_error = on_error
        self.upstream = upstream
        self._clock = clock
        self._on_health = on_health
        self._levels: list[_Level] = []
        #: Where each server is, by host and port: a level, and its position in the level.
        self._places: dict[tuple[str, int], list[tuple[_Level, int]]] = {}
        seen: set[ServerLive] = set()
        for index, level in enumerate(upstream.levels):
            peers = []
            for server in level.servers:
                known = live.server(upstream.name, server.host, server.port)
                turn = known
                if known in seen:
                    label = level.name or str(index)
                    turn = live.turn(upstream.name, server.host, server.port, label)
                seen.add(known)
                peers.append(Peer(server, known, turn))
            unit = 1 if all(_is_whole(peer.live.weight) for peer in peers) else _TENTHS
            for peer in peers:
                peer.weight = _in_units(peer, unit)
            balancer = make_balancer(peers, upstream.mode_opts)
            made = _Level(level, peers, balancer, unit)
            self._levels.append(made)
            for position, peer in enumerate(peers):
                self._places.setdefault((peer.host, peer.port), []).append((made, position))
        # A server that several levels have is asked once.
        self.tries = upstream.tries or max(1, len(seen))
        self.try_timeout = upstream.try_timeout
        self.connect_timeout = _either(upstream.connect_timeout, defaults.connect)
        self.send_timeout = _either(upstream.send_timeout, defaults.send)
        self.read_timeout = _either(upstream.read_timeout, defaults.read)
        self.retry_on = frozenset(upstream.retry_on)
        self.failed_statuses = upstream.failed_statuses | {
            int(name[5:]) for name in self.retry_on if name.startswith("http_")
        }
        # A method that a balancer did not write is a call that need not be made.
        balancers = [type(level.balancer) for level in self._levels]
        self._wants_started = _overridden(balancers, "started")
        self._wants_finished = _overridden(balancers, "finished")
        self._wants_failed = _overridden(balancers, "failed")

    def __repr__(self) -> str:
        return f"<Selection {self.name}>"

    @property
    def peers(self) -> list[Peer]:
        """Every server, level by level."""
        return [peer for level in self._levels for peer in level.peers]

    def refresh(self) -> None:
        """Look at the health of every server again."""
        for level in self._levels:
            level.forget()

    def look(self, host: str, port: int) -> None:
        """Something outside has changed the health of a server: look at this one again.

        Without effect for a server that the upstream does not have.
        """
        now = self._clock.now
        for level, position in self._places.get((host, port), ()):
            level.look(position, now)

    def set_weight(self, host: str, port: int, weight: float | None) -> None:
        """Give a server another weight than the configured one, in the same unit; to a tenth.

        ``None`` gives it the configured one, 0 no request at all.  It holds from the next
        pick on, outlives changes of the upstream, and is without effect for a server that
        the upstream does not have.
        """
        for level, position in self._places.get((host, port), ()):
            peer = level.peers[position]
            peer.live.weight = weight
            if not _is_whole(weight):
                level.refine()
            before, peer.weight = peer.weight, _in_units(peer, level.unit)
            if peer.weight != before:
                level.changed()
            level.look(position, self._clock.now)

    def pick(self, request: Request, tried: list[Peer]) -> Peer | None:
        """See :meth:`SelectionBase.pick`.

        A lower level serves only if no server of those above is available; a
        server that this request has tried is not picked again.
        """
        now = self._clock.now
        for level in self._levels if request.cluster_key is None else self._order(request):
            if now >= level.recheck:
                level.refresh(now)
            peers = level.available
            if tried or level.is_limited:
                peer = self._choose_left(level, peers, request, tried)
                if peer is not None:
                    return self._begin(level, peer)
            elif peers:
                return self._begin(level, self._choose(level, peers, (), request, False))
        if not tried and self.upstream.protected:
            return self._last_resort(request)
        return None

    def _choose_left(
        self, level: _Level, peers: Sequence[Peer], request: Request, tried: list[Peer]
    ) -> Peer | None:
        """One of those that the request has not tried and that have room for it."""
        # Not the peers: another level may have the same server.
        seen = {peer.live for peer in tried}
        asked = [level.positions[live] for live in seen if live in level.positions]
        if tried and len(asked) >= level.tries:
            return None
        left_out = [level.peers[position] for position in asked if level.has(position)]
        while True:
            for peer in list(level.full):
                if not _is_full(peer):
                    del level.full[peer]
                elif peer.live not in seen and level.is_in(peer):
                    seen.add(peer.live)
                    left_out.append(peer)
            if len(left_out) >= len(peers):
                return None
            chosen = self._choose(level, peers, left_out, request, True)
            if not level.is_limited or not _is_full(chosen):
                return chosen
            # Requests that began before an edit of the upstream fill it, perhaps others too.
            level.look_for_full()

    def _choose(
        self,
        level: _Level,
        peers: Sequence[Peer],
        left_out: Sequence[Peer],
        request: Request,
        is_checked: bool,
    ) -> Peer:
        """The balancer's choice among ``peers``, some of which are left out.

        ``is_checked``: whether it is made sure that the choice is one of them.  The first
        attempt of a request is not worth the search.
        """
        # A balancer that is broken costs its balance, not the request.
        try:
            if not left_out:
                peer: Any = level.balancer.pick(peers, request)
            elif level.picks_without:
                peer = level.balancer.pick_without(peers, left_out, request)
            else:
                peer = level.balancer.pick(rest(peers, left_out), request)
            if type(peer) is not Peer or (
                is_checked and (peer in left_out or not level.is_in(peer))
            ):
                raise ValueError(f"picked {peer!r}, which is none of the servers offered")
            return peer
        except BaseException as error:  # SystemExit, CancelledError
            self._broken(level.balancer, "pick", error)
            return rest(peers, left_out)[0]

    def _begin(self, level: _Level, peer: Peer) -> Peer:
        """Count an attempt in."""
        if self._wants_started:
            self._tell(peer, "started", peer)
        live = peer.live
        live.active += 1
        live.requests += 1
        if level.is_limited and _is_full(peer):
            level.full[peer] = None
        return peer

    def _last_resort(self, request: Request) -> Peer | None:
        """A server that only its failures keep out of service, where no other is left.

        The rules never put the last one out; but it may be drained or removed while the
        others are out.  Asking one of those is better than refusing for sure.
        """
        for level in self._levels if request.cluster_key is None else self._order(request):
            peers = _last_ones(level)
            if peers:
                return self._begin(level, self._choose(level, peers, (), request, False))
        return None

    def preview(self, request: Request) -> Preview:
        """What :meth:`pick` would do for the first attempt of ``request`` now.

        Nothing is changed by it: no counter, no server's turn.
        """
        now = self._clock.now
        levels = self._levels if request.cluster_key is None else self._order(request)
        serving: _Level | None = None
        offered: Sequence[Peer] = ()
        for level in levels:
            level.refresh(now)
            if serving is None:
                full = any(_is_full(peer) for peer in level.available)
                left = [peer for peer in level.available if not _is_full(peer)]
                offered = left if full else level.available
                serving = level if offered else None
        is_last_resort = serving is None and self.upstream.protected
        if is_last_resort:
            for level in levels:
                offered = _last_ones(level)
                if offered:
                    serving = level
                    break
        peer = None if serving is None else self._foresee(serving, offered, request)
        may_get = set(offered)
        return Preview(
            tuple(_seen(level, level is serving, may_get, now) for level in levels),
            None if peer is None else peer.key,
            is_last_resort and serving is not None,
            None if serving is not None else self.refusal(False),
        )

    def _foresee(self, level: _Level, peers: Sequence[Peer], request: Request) -> Peer | None:
        """The balancer's choice, if it can tell."""
        if len(peers) == 1:
            return peers[0]
        foresee = getattr(level.balancer, "preview", None)
        try:
            peer = None if foresee is None else foresee(peers, request)
        except BaseException as error:  # as in _choose
            self._broken(level.balancer, "preview", error)
            return None
        return peer if type(peer) is Peer and peer in peers else None

    def _order(self, request: Request) -> list[_Level]:
        key = request.cluster_key
        if not self.upstream.named:
            return self._levels
        if isinstance(key, dict):
            # checkups' {default, backup}: a table of Lua has no order of its own.
            names = [key[name] for name in sorted(key, key=lambda name: name != "default")]
        else:
            names = list(key) if isinstance(key, (list, tuple)) else [key]
        chosen = [level for name in names for level in self._levels if level.name == name]
        return chosen or self._levels

    def refusal(self, tried: bool) -> tuple[int, str]:
        """Status and reason where :meth:`pick` found nothing."""
        if not tried and any(level.available for level in self._levels):
            return 503, f"every server of upstream {self.name} has its limit of connections"
        return 502, f"no server of upstream {self.name} is available"

    # What became of an attempt.

    def failed(self, peer: Peer, message: str) -> None:
        """An attempt on ``peer`` failed: count it, and put the server out of service
        if its rules say so."""
        live, now = peer.live, self._clock.now
        live.failures += 1
        # A server that is not protected may be put out even if it is the last one.
        others = not self.upstream.protected or self._has_others(live, now)
        if rules.note_failure(live, peer.config, now, others, message):
            self._health_changed(peer)
        if self._wants_failed:
            self._tell(peer, "failed", peer)

    def succeeded(self, peer: Peer, seconds: float, status: int) -> None:
        """``peer`` gave a reply that is no failure; the attempt is over."""
        live = peer.live
        live.active -= 1
        if (live.fails or live.status != "ok") and rules.note_success(
            live, peer.config, self._clock.now
        ):
            self._health_changed(peer)
        if self._wants_finished:
            self._tell(peer, "finished", peer, Outcome(False, seconds, status))

    def finished(self, peer: Peer, failed: bool, seconds: float, status: int) -> None:
        """The attempt is over, without a good reply."""
        peer.live.active -= 1
        if self._wants_finished:
            self._tell(peer, "finished", peer, Outcome(failed, seconds, status))

    def _has_others(self, live: ServerLive, now: float) -> bool:
        """Whether another server than this one is in service, in any level."""
        for level in self._levels:
            level.update(now)
            position = level.positions.get(live)
            if level.count > (position is not None and level.has(position)):
                return True
        return False

    def _health_changed(self, peer: Peer) -> None:
        """Requests put a server out of service, or brought it back."""
        self.look(peer.host, peer.port)
        if self._on_health is not None:
            self._on_health(self.name, peer)

    def _tell(self, peer: Peer, event: str, *arguments: Any) -> None:
        """Tell the balancer of the peer's level; most upstreams have one level only."""
        last = self._levels[-1]
        for level in self._levels:
            if level is last or peer in level.members:
                try:
                    getattr(level.balancer, event)(*arguments)
                except BaseException as error:
                    self._broken(level.balancer, event, error)
                return

    def _broken(self, balancer: Any, method: str, error: BaseException) -> None:
        if self._on_error is None:
            _log.failure("the balancer of upstream {name} failed", name=self.name)
        else:
            self._on_error(self.name, balancer, method, error)


def _is_available(peer: Peer, now: float) -> bool:
    """Whether the server may be given a request, and has been looked up."""
    pool = peer.pool
    return (
        peer.weight > 0
        and rules.is_available(peer.live, peer.config, now)
        and not (pool and pool.pending)
    )


def _last_ones(level: _Level) -> list[Peer]:
    """The servers of a level without one in service that only their failures keep out."""
    if level.available:
        return []
    return [
        peer
        for peer in level.peers
        if rules.is_wanted(peer.config)
        and peer.weight
        and not (peer.pool and peer.pool.pending)
        and not _is_full(peer)
    ]


def _seen(level: _Level, serves: bool, may_get: set[Peer], now: float) -> LevelDecision:
    """A level with its servers, each with why it gets no request."""
    return LevelDecision(
        level.name or "",
        serves,
        tuple(
            Candidate(
                peer.key,
                peer.live.status,
                peer.config.weight,
                peer.live.active,
                "" if serves and peer in may_get else _why_not(peer, now),
            )
            for peer in level.peers
        ),
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
    if _is_full(peer):
        return f"it has its limit of {config.max_conns} requests"
    return "another level serves"


def _is_full(peer: Peer) -> bool:
    """Whether the server has as many requests under way as it may have."""
    limit = peer.config.max_conns
    return limit > 0 and peer.live.active >= limit


def _is_whole(weight: float | None) -> bool:
    return weight is None or weight == int(weight)


def _in_units(peer: Peer, unit: int) -> int:
    """The weight that a peer has now, in tenths or as it is."""
    weight = peer.live.weight
    if weight is None or not peer.config.weight:
        return peer.config.weight * unit
    return max(1, round(weight * unit)) if weight > 0 else 0


def _either(value: float | None, default: float) -> float:
    return default if value is None else value


def _picks_without(balancer: type) -> bool:
    """Whether ``pick_without`` belongs to the ``pick`` that a balancer has: a subclass that
    writes another ``pick`` means it for every request."""
    for cls in balancer.__mro__:
        if "pick" in cls.__dict__:
            return cls is not Balancer and "pick_without" in cls.__dict__
    return False


def _overridden(classes: list[type], method: str) -> bool:
    base = getattr(Balancer, method)
    return any(getattr(cls, method, base) is not base for cls in classes)
