"""One upstream of one snapshot, ready to serve: which server gets a request.

A selection joins what is configured (the upstream), what is live (counters and health,
which outlive it) and the balancers, one for each level (:mod:`slardar.dataplane.level`).

(Longer than 500 lines: it is the one face that exchanges see of health, balancers, hints
and outliers, whose rules are files of their own.)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger

from slardar.balancers.base import Balancer, rest
from slardar.dataplane.decision import Preview
from slardar.dataplane.level import TENTHS, Panic, ServingLevel, in_units, is_full, is_whole
from slardar.dataplane.request_queue import RequestQueue
from slardar.health import rules
from slardar.health.hints import HEADER, forget_hints, note_hint
from slardar.health.outliers import Outliers, count_wanted, ejection_length, note_ejected
from slardar.http1.interfaces import Clock, SelectionBase, Step
from slardar.http1.reply import Reply
from slardar.http1.request import Request
from slardar.model.live import Live, Peer, ServerLive
from slardar.model.server import Upstream

__all__ = ["Defaults", "Selection"]

_log = Logger("slardar.selection")

#: Seconds between two looks for servers that are held back.
_RELEASE = 1.0


class Defaults:
    """What an upstream leaves to the settings: timeouts in seconds."""

    __slots__ = ("connect", "read", "send")

    def __init__(self, connect: float, send: float, read: float) -> None:
        self.connect = connect
        self.send = send
        self.read = read


class Selection(SelectionBase):
    """See the module.  All of it is called on the request path."""

    __slots__ = (
        "_clock",
        "_is_limited",
        "_least",
        "_levels",
        "_next_release",
        "_on_climb",
        "_on_ejected",
        "_on_error",
        "_on_health",
        "_on_hint",
        "_outliers",
        "_panic",
        "_places",
        "_share",
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
        on_ejected: Callable[[str, Peer], None] | None = None,
        on_hint: Callable[[str, Peer], None] | None = None,
        soon: Callable[[Step], None] | None = None,
        on_climb: Callable[[str, Peer, str], None] | None = None,
    ) -> None:
        super().__init__(upstream.name)
        self._on_climb = on_climb
        self._on_hint = on_hint
        self._on_ejected = on_ejected
        self._on_error = on_error
        self.upstream = upstream
        self._clock = clock
        self._on_health = on_health
        self._levels: list[ServingLevel] = []
        #: When servers that are held back may be looked for again.
        self._next_release = 0.0
        #: By host and port, the levels that have the server, and its position in each.
        self._places: dict[tuple[str, int], list[tuple[ServingLevel, int]]] = {}
        new = _new_servers(upstream, live) if upstream.slow_start else ()
        seen: set[ServerLive] = set()
        for label, level in zip(upstream.labels, upstream.levels, strict=True):
            peers = []
            for server in level.servers:
                known = live.server(upstream.name, server.host, server.port)
                turn = known
                if known in seen:
                    turn = live.turn(upstream.name, server.host, server.port, label)
                seen.add(known)
                if new and (server.host, server.port) in new:
                    turn.is_cold = True
                if upstream.outlier is None and known.ejected_until:
                    note_ejected(known, clock.now, 0, 0, "")
                if not upstream.slow_start and turn.share < 1:
                    turn.share = 1.0
                    turn.climbs_from = 0.0
                if not upstream.hints:
                    forget_hints(known)
                peers.append(Peer(server, known, turn))
            are_whole = all(is_whole(peer.live.weight) and peer.turn.share == 1 for peer in peers)
            unit = 1 if are_whole else TENTHS
            for peer in peers:
                peer.weight = in_units(peer, unit)
            balancer = make_balancer(peers, upstream.mode_opts)
            made = ServingLevel(
                level, peers, balancer, unit, upstream.slow_start, label, self._climbs
            )
            self._levels.append(made)
            for position, peer in enumerate(peers):
                self._places.setdefault((peer.host, peer.port), []).append((made, position))
        self._panic = Panic(self._levels, upstream.panic) if upstream.panic else None
        self._outliers: Outliers | None = None
        if upstream.outlier is not None:
            peers_of = [level.peers for level in self._levels]
            self._outliers = Outliers(upstream.outlier, peers_of, count_wanted(upstream), clock.now)
        # A server that several levels have is asked once.
        self.tries = upstream.tries or max(1, len(seen))
        self.try_timeout = upstream.try_timeout
        self.believes_hints = upstream.hints
        self.decides = upstream.decisions
        self.deadline = float(upstream.deadline)
        self.connect_timeout = _either(upstream.connect_timeout, defaults.connect)
        self.send_timeout = _either(upstream.send_timeout, defaults.send)
        self.read_timeout = _either(upstream.read_timeout, defaults.read)
        self.retry_on = frozenset(upstream.retry_on)
        self.hedge_after = 0.0 if upstream.hedge is None else float(upstream.hedge.after)
        self.about = live.upstream(upstream.name)
        self.budget = self.about.budget
        self.queue_size = upstream.queue.size
        self.queue_timeout = float(upstream.queue.timeout)
        if self.queue_size and soon is not None:
            found = self.about.queue
            self.queue = found if isinstance(found, RequestQueue) else RequestQueue(soon)
            self.about.queue = self.queue
        limit = upstream.retry_budget
        self._is_limited = limit is not None
        self._share = 0.0 if limit is None else float(limit.share)
        self._least = 0.0 if limit is None else limit.min / live.processes
        self.failed_statuses = upstream.failed_statuses | {
            int(name[5:]) for name in self.retry_on if name.startswith("http_")
        }
        self.adds_headers = _overridden(
            [type(level.balancer) for level in self._levels], "reply_headers"
        )
        # A method that a balancer did not write is a call that need not be made.
        balancers = [
            type(level.balancer)
            for level in self._levels
            if getattr(level.balancer, "is_told", True)
        ]
        self._wants_started = _overridden(balancers, "started")
        self._wants_finished = _overridden(balancers, "finished")
        self._wants_failed = _overridden(balancers, "failed")

    def __repr__(self) -> str:
        return f"<Selection {self.name}>"

    @property
    def peers(self) -> list[Peer]:
        """Every server, level by level."""
        return [peer for level in self._levels for peer in level.peers]

    def serve(self) -> None:
        """It is in service from now on: requests that wait on its predecessor wait on it."""
        queue = self.about.queue
        if isinstance(queue, RequestQueue):
            queue.serve(self)

    def refresh(self) -> None:
        """Look at the health of every server again."""
        for level in self._levels:
            level.forget()

    def look(self, host: str, port: int) -> None:
        """Look at the health and weight of one server again, which something outside has
        changed.

        Without effect if the upstream does not have the server.
        """
        now = self._clock.now
        places = self._places.get((host, port), ())
        for level, position in places:
            level.weigh(level.peers[position])
            level.look(position, now)
        if self._outliers is not None and places:
            level, position = places[0]
            self._outliers.look(level.peers[position].live, now)
        if self.about.queue is not None:
            self.about.queue.room()

    def set_weight(self, host: str, port: int, weight: float | None) -> None:
        """Use another weight than the configured one for a server.

        It has the unit of the configured weight, and is rounded to a tenth.  With ``None``
        the configured weight is used again; with 0 the server gets no request.  The weight
        holds from the next pick on, and outlives changes of the upstream.  Without effect
        if the upstream does not have the server.
        """
        for level, position in self._places.get((host, port), ()):
            live = level.peers[position].live
            live.weight = weight
            # What the server itself has said holds no more.
            live.has_hinted_weight = False
        self.look(host, port)

    def pick(self, request: Request, tried: list[Peer]) -> Peer | None:
        """See :meth:`SelectionBase.pick`.

        A lower level serves only if no server of those above is available; a
        server that this request has tried is not picked again.
        """
        now = self._clock.now
        for level in self._levels if request.cluster_key is None else self._order(request):
            if now >= level.recheck:
                level.refresh(now)
            if level.binds:
                bound = self._bound(level, request, tried, now)
                if bound is not None:
                    return self._begin(level, bound)
            peers = level.available
            if tried or level.is_limited:
                peer = self._choose_left(level, peers, request, tried)
                if peer is not None:
                    return self._begin(level, peer)
            elif peers:
                return self._begin(level, self._choose(level, peers, request))
        if tried:
            return None
        if self._release_held(now):
            return self.pick(request, tried)
        return self._last_resort(request) if self.upstream.protected else None

    def _bound(
        self, level: ServingLevel, request: Request, tried: Sequence[Peer], now: float
    ) -> Peer | None:
        """The server that drains and to which the balancer has bound the request, if it may
        get the request."""
        try:
            peer: Any = level.balancer.bound_to(request)
            if peer is None:
                return None
            if type(peer) is not Peer or peer not in level.members:
                raise ValueError(f"bound to {peer!r}, which is none of the servers")
        except BaseException as error:  # as in _choose
            self._broken(level.balancer, "bound_to", error)
            return None
        if not level.keeps(peer, now) or any(one.live is peer.live for one in tried):
            return None
        bound: Peer = peer
        return bound

    def _choose_left(
        self, level: ServingLevel, peers: list[Peer], request: Request, tried: list[Peer]
    ) -> Peer | None:
        """A server that the request has not tried and that has room for it, if there is one."""
        # Not the peers, since another level may have the same server.
        seen = {peer.live for peer in tried}
        asked = [level.positions[live] for live in seen if live in level.positions]
        if tried and len(asked) >= level.tries:
            return None
        left_out = [level.peers[position] for position in asked if level.has(position)]
        while True:
            for peer in list(level.full):
                if not is_full(peer):
                    del level.full[peer]
                elif peer.live not in seen and level.is_in(peer):
                    seen.add(peer.live)
                    left_out.append(peer)
            if len(left_out) >= len(peers):
                return None
            chosen = self._choose_without(level, peers, left_out, request)
            if not level.is_limited or not is_full(chosen):
                return chosen
            # Requests that began before an edit of the upstream fill it, and perhaps others.
            level.look_for_full()

    def _choose(self, level: ServingLevel, peers: list[Peer], request: Any) -> Peer:
        """The balancer's choice among ``peers``.

        Nobody makes sure that it is one of them, to save time.
        """
        # If the balancer fails, only the balance is lost, not the request.
        try:
            compiled = level.compiled
            if compiled is not None:
                return compiled.pick(peers, request)
            peer: Any = level.balancer.pick(peers, request)
            if type(peer) is not Peer:
                raise _not_offered(peer)
            return peer
        except BaseException as error:  # SystemExit, CancelledError
            self._broken(level.balancer, "pick", error)
            return peers[0]

    def _choose_without(
        self, level: ServingLevel, peers: list[Peer], left_out: list[Peer], request: Request
    ) -> Peer:
        """The balancer's choice among ``peers``, some of which are left out."""
        try:
            if not left_out:
                peer: Any = self._choose(level, peers, request)
            elif level.picks_without:
                peer = level.balancer.pick_without(peers, left_out, request)
            else:
                peer = level.balancer.pick(rest(peers, left_out), request)
            if type(peer) is not Peer or peer in left_out or not level.is_in(peer):
                raise _not_offered(peer)
            return peer
        except BaseException as error:  # as in _choose
            self._broken(level.balancer, "pick", error)
            return rest(peers, left_out)[0]

    def _begin(self, level: ServingLevel, peer: Peer) -> Peer:
        """Count an attempt in."""
        if self._wants_started:
            try:
                level.started(peer)
            except BaseException as error:  # as in _choose
                self._broken(level.balancer, "started", error)
        live = peer.live
        live.active += 1
        live.requests += 1
        if level.is_limited and is_full(peer):
            level.full[peer] = None
        return peer

    def _last_resort(self, request: Request) -> Peer | None:
        """A server that only its failures keep out of service, where no other is left.

        The rules never put the last one out; but it may be drained or removed while the
        others are out.  Asking one of those is better than refusing for sure.
        """
        now = self._clock.now
        for level in self._levels if request.cluster_key is None else self._order(request):
            peers = level.last_ones(now)
            if peers:
                return self._begin(level, self._choose(level, peers, request))
        return None

    def preview(self, request: Request) -> Preview:
        """What :meth:`pick` would do for the first attempt of ``request`` now.

        Nothing is changed by it: no counter, no server's turn.
        """
        now = self._clock.now
        levels = self._levels if request.cluster_key is None else self._order(request)
        for level in levels:
            level.refresh(now)
            level.look_for_full()
        bound: Peer | None = None
        left_out: Sequence[Peer] = ()
        serving: ServingLevel | None = None
        offered: Sequence[Peer] = ()
        for level in levels:
            bound = self._bound(level, request, (), now) if level.binds else None
            offered = level.with_room()
            if bound is not None or offered:
                serving = level
                break
        if serving is not None and len(offered) < len(serving.available):
            left_out = rest(serving.available, offered)
        if serving is None and now >= self._next_release:
            serving, offered = _first_of([(level, level.held(now)) for level in levels])
        is_last_resort = serving is None and self.upstream.protected
        if is_last_resort:
            serving, offered = _first_of([(level, level.last_ones(now)) for level in levels])
        may_get = set(offered)
        if bound is not None:
            may_get.add(bound)
        peer = bound
        if peer is None and serving is not None:
            peer = self._foresee(serving, offered, left_out, request)
        return Preview(
            tuple(level.described(level is serving, may_get, now) for level in levels),
            None if peer is None else peer.key,
            is_last_resort and serving is not None,
            None if serving is not None else self._foreseen_refusal(request),
            self._panic is not None and self._panic.is_on,
        )

    def _foreseen_refusal(self, request: Request) -> tuple[int, str]:
        status, reason = self.refusal(request, False)
        if status == 503 and self.queue is not None and self.queue.waiting < self.queue_size:
            reason += f", so the request waits up to {self.queue_timeout:g} seconds for one"
        return status, reason

    def _foresee(
        self,
        level: ServingLevel,
        peers: Sequence[Peer],
        left_out: Sequence[Peer],
        request: Request,
    ) -> Peer | None:
        """The balancer's choice among ``peers``, if it can tell: those that are offered without
        the ones ``left_out``."""
        if len(peers) == 1:
            return peers[0]
        balancer = level.balancer
        try:
            if not hasattr(balancer, "preview"):
                peer = None
            elif left_out and level.picks_without and hasattr(balancer, "preview_without"):
                peer = balancer.preview_without(level.available, left_out, request)
            else:
                peer = balancer.preview(peers, request)
        except BaseException as error:  # as in _choose
            self._broken(level.balancer, "preview", error)
            return None
        return peer if type(peer) is Peer and peer in peers else None

    def _order(self, request: Request) -> list[ServingLevel]:
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

    def refusal(self, request: Request, tried: bool) -> tuple[int, str]:
        """Status and reason where :meth:`pick` found nothing for ``request``."""
        now = self._clock.now
        levels = self._levels if request.cluster_key is None else self._order(request)
        peers = [peer for level in levels for peer in level.peers]
        if not tried and any(peer.live.full_until > now for peer in peers):
            return 503, f"the servers of upstream {self.name} say that they are full"
        if not tried and any(level.available for level in levels):
            return 503, f"every server of upstream {self.name} has its limit of connections"
        return 502, f"no servers available in upstream {self.name}"

    def affords_retry(self) -> bool:
        """See :meth:`SelectionBase.affords_retry`."""
        return not self._is_limited or self.budget.allows(self._clock.now, self._share, self._least)

    def hinted(self, peer: Peer, reply: Reply) -> None:
        """See :meth:`SelectionBase.hinted`."""
        value = reply.get_header(HEADER)
        if value is None:
            return
        lines = reply.head_lines()
        start = HEADER.encode() + b":"
        reply.replace_head_lines([line for line in lines if line[: len(start)].lower() != start])
        if note_hint(peer.live, value, self._clock.now):
            self.look(peer.host, peer.port)
            if self._on_hint is not None:
                self._on_hint(self.name, peer)

    def add_headers(self, peer: Peer, request: Request, reply: Reply) -> None:
        """See :meth:`SelectionBase.add_headers`."""
        for level in self._levels:
            if peer in level.members and hasattr(level.balancer, "reply_headers"):
                try:
                    lines = [
                        _header_line(name, value)
                        for name, value in level.balancer.reply_headers(peer, request)
                    ]
                except BaseException as error:  # as in _choose
                    self._broken(level.balancer, "reply_headers", error)
                else:
                    reply.add_header_lines(lines)
                return

    # What became of an attempt.

    def failed(self, peer: Peer, message: str) -> None:
        """An attempt on ``peer`` failed: count it, and put the server out of service
        if its rules say so."""
        live, now = peer.live, self._clock.now
        live.failures += 1
        has_others = self._has_others(live, now)
        # A server that is not protected may be put out even if it is the last one.
        others = has_others or not self.upstream.protected
        if rules.note_failure(live, peer.config, now, others, message):
            self._health_changed(peer)
        if not has_others:
            self._release_held(now)
        if self._wants_failed:
            level = self._level_of(peer)
            try:
                level.failed(peer)
            except BaseException as error:  # as in _choose
                self._broken(level.balancer, "failed", error)

    def succeeded(self, peer: Peer, seconds: float, status: int) -> None:
        """``peer`` gave a reply that is no failure; the attempt is over."""
        live = peer.live
        live.active -= 1
        if (live.fails or live.status != "ok") and rules.note_success(
            live, peer.config, self._clock.now
        ):
            self._health_changed(peer)
        if self._outliers is not None:
            self._note_outcome(self._outliers, peer, status >= 500, seconds)
        if self._wants_finished:
            self._tell_outcome(peer, False, seconds, status)
        if self.about.queue is not None:
            self.about.queue.room()

    def finished(self, peer: Peer, failed: bool, seconds: float, status: int) -> None:
        """The attempt is over, without a good reply."""
        peer.live.active -= 1
        if failed and self._outliers is not None:
            self._note_outcome(self._outliers, peer, True, seconds)
        if self._wants_finished:
            self._tell_outcome(peer, failed, seconds, status)
        if self.about.queue is not None:
            self.about.queue.room()

    def _note_outcome(self, outliers: Outliers, peer: Peer, failed: bool, seconds: float) -> None:
        """Count an attempt, and eject servers that are outliers by now."""
        now = self._clock.now
        if outliers.note(peer.live, now, failed, seconds) and outliers.may_eject(now):
            self._eject(outliers, peer, outliers.errors(peer.live))
        if outliers.is_due(now):
            for slow, message in outliers.slow(now):
                if outliers.may_eject(now):
                    self._eject(outliers, slow, message)

    def _eject(self, outliers: Outliers, peer: Peer, message: str) -> None:
        """Eject a server, if another one is in service."""
        live, now = peer.live, self._clock.now
        if self._has_others(live, now):
            seconds, times = ejection_length(live, outliers.settings.eject, now)
            note_ejected(live, now, seconds, times, message)
            self.look(peer.host, peer.port)
            if self._on_ejected is not None:
                self._on_ejected(self.name, peer)

    def _has_others(self, live: ServerLive, now: float) -> bool:
        """Whether another server than this one is in service, in any level."""
        for level in self._levels:
            level.update(now)
            position = level.positions.get(live)
            if level.count > (position is not None and level.is_healthy(position)):
                return True
        return False

    def _release_held(self, now: float) -> bool:
        """No server is in service, or none but one that fails: use those that are only held
        back because they went out too often.  Returns whether there are any."""
        if now < self._next_release:
            return False
        # Not for each request: there may be thousands of servers.
        self._next_release = now + _RELEASE
        found = False
        for peer in self.peers:
            if rules.release(peer.live, now):
                found = True
                self.look(peer.host, peer.port)
        return found

    def _climbs(self, peer: Peer, label: str) -> None:
        """A server begins to climb in a level."""
        if self._on_climb is not None:
            self._on_climb(self.name, peer, label)

    def _health_changed(self, peer: Peer) -> None:
        """Requests put a server out of service, or brought it back."""
        self.look(peer.host, peer.port)
        if self._on_health is not None:
            self._on_health(self.name, peer)

    def _tell_outcome(self, peer: Peer, failed: bool, seconds: float, status: int) -> None:
        """Tell the balancer that an attempt is over."""
        level = self._level_of(peer)
        try:
            level.finished(peer, failed, seconds, status)
        except BaseException as error:  # as in _choose
            self._broken(level.balancer, "finished", error)

    def _level_of(self, peer: Peer) -> ServingLevel:
        """The level that has the peer; most upstreams have one level only."""
        last = self._levels[-1]
        for level in self._levels:
            if level is last or peer in level.members:
                return level
        return last

    def _broken(self, balancer: Any, method: str, error: BaseException) -> None:
        if self._on_error is None:
            _log.failure("the balancer of upstream {name} failed", name=self.name)
        else:
            self._on_error(self.name, balancer, method, error)


def _new_servers(upstream: Upstream, live: Live) -> set[tuple[str, int]]:
    """Host and port of the servers that the upstream has not had before.

    None if it has had none of its servers: none of them could take what new ones should
    not get yet.
    """
    places = {(server.host, server.port) for server in upstream.servers}
    known = live.servers
    new = {place for place in places if (upstream.name, *place) not in known}
    return new if len(new) < len(places) else set()


def _first_of(
    found: list[tuple[ServingLevel, Sequence[Peer]]],
) -> tuple[ServingLevel | None, Sequence[Peer]]:
    """The first level for which servers were found, and these servers."""
    for level, peers in found:
        if peers:
            return level, peers
    return None, ()


def _not_offered(picked: object) -> ValueError:
    """The error for the choice of a balancer that is none of the servers, ready to be raised."""
    return ValueError(f"picked {picked!r}, which is none of the servers offered")


def _either(value: float | None, default: float) -> float:
    return default if value is None else value


def _header_line(name: bytes, value: bytes) -> bytes:
    line = b"%b: %b" % (name, value)
    if b"\r" in line or b"\n" in line or b"\0" in line:
        raise ValueError(f"{line!r} is no header line")
    return line


def _overridden(classes: list[type], method: str) -> bool:
    base = getattr(Balancer, method)
    return any(getattr(cls, method, base) is not base for cls in classes)
