"""One upstream of one snapshot, ready to serve: which server gets a request.

A selection joins what is configured (the upstream), what is live (counters and
health, which outlive it) and the balancer.  Which servers are in service changes
seldom, so that list is kept and made anew only when health says so or when the
time has come for a server to be tried again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger

from slardar.balancers.base import Balancer, Outcome
from slardar.health import rules
from slardar.http1.interfaces import Clock, SelectionBase
from slardar.http1.request import Request
from slardar.model.live import Live, Peer, ServerLive
from slardar.model.server import Level, Upstream

__all__ = ["Defaults", "Selection"]

_log = Logger("slardar.selection")


class Defaults:
    """What an upstream leaves to the settings: timeouts in seconds."""

    __slots__ = ("connect", "read", "send")

    def __init__(self, connect: float, send: float, read: float) -> None:
        self.connect = connect
        self.send = send
        self.read = read


class _Level:
    """The servers of one level, its balancer, and which are in service."""

    __slots__ = (
        "available",
        "balancer",
        "limited",
        "lives",
        "members",
        "name",
        "peers",
        "recheck",
        "tries",
    )

    def __init__(self, level: Level, peers: list[Peer], balancer: Any) -> None:
        self.name = level.name
        self.peers = peers
        self.members = frozenset(peers)
        self.lives = frozenset([peer.live for peer in peers])
        self.balancer = balancer
        self.tries = level.tries or len(peers)
        self.available: Sequence[Peer] = ()
        #: When ``available`` must be made anew, in monotonic seconds.
        self.recheck = 0.0
        self.limited = any(peer.config.max_conns for peer in peers)

    def refresh(self, now: float) -> None:
        """Find out anew which servers are in service, and until when that holds."""
        recheck = math.inf
        available = []
        for peer in self.peers:
            if _is_available(peer, now):
                available.append(peer)
            elif peer.live.down_until > now:
                recheck = min(recheck, peer.live.down_until)
        self.available = available
        self.recheck = recheck


class Selection(SelectionBase):
    """See the module.  Everything here is called on the request path."""

    __slots__ = (
        "_clock",
        "_levels",
        "_on_error",
        "_on_health",
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
            balancer = make_balancer(peers, upstream.mode_opts)
            self._levels.append(_Level(level, peers, balancer))
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
        """Something outside changed the health of a server."""
        for level in self._levels:
            level.recheck = 0.0

    def pick(self, request: Request, tried: list[Peer]) -> Peer | None:
        """The server for ``request``, or ``None`` if none is left.

        A lower level serves only if no server of those above is available; a
        server that this request has tried is not picked again.
        """
        now = self._clock.now
        for level in self._levels if request.cluster_key is None else self._order(request):
            if now >= level.recheck:
                level.refresh(now)
            peers = level.available
            if tried or level.limited:
                peers = self._left(level, peers, tried)
            if peers:
                return self._pick_from(level, peers, request, tried)
        if not tried and self.upstream.protected:
            return self._last_resort(request)
        return None

    def _pick_from(
        self, level: _Level, peers: Sequence[Peer], request: Request, tried: list[Peer]
    ) -> Peer:
        # A balancer that is broken costs its balance, not the request.
        try:
            peer = level.balancer.pick(peers, request)
            # Only a second attempt is worth the search for the peer.
            if type(peer) is not Peer or (tried and peer not in peers):
                raise ValueError(f"picked {peer!r}, which is none of the servers offered")
        except BaseException as error:  # SystemExit, CancelledError
            self._broken(level.balancer, "pick", error)
            peer = peers[0]
        if self._wants_started:
            self._tell(peer, "started", peer)
        live = peer.live
        live.active += 1
        live.requests += 1
        return peer

    def _last_resort(self, request: Request) -> Peer | None:
        """A server that only its failures keep out of service, where no other is left.

        The rules never put the last one out; but it may be drained or removed while the
        others are out.  Asking one of those is better than refusing for sure.
        """
        for level in self._levels if request.cluster_key is None else self._order(request):
            peers = [
                peer
                for peer in level.peers
                if peer.live.down_until < math.inf
                and not (peer.pool and peer.pool.pending)
                and rules.is_available(peer.live, peer.config, peer.live.down_until)
                and not (peer.config.max_conns and peer.live.active >= peer.config.max_conns)
            ]
            if peers and not level.available:
                return self._pick_from(level, peers, request, [])
        return None

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

    def _left(self, level: _Level, peers: Sequence[Peer], tried: list[Peer]) -> Sequence[Peer]:
        # Not the peers: another level may have the same server.
        seen = {peer.live for peer in tried}
        if tried and len(seen & level.lives) >= level.tries:
            return ()
        return [
            peer
            for peer in peers
            if peer.live not in seen
            and not (peer.config.max_conns and peer.live.active >= peer.config.max_conns)
        ]

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
        others = not self.upstream.protected or any(
            _is_available(other, now)
            for level in self._levels
            for other in level.peers
            if other.live is not live
        )
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

    def _health_changed(self, peer: Peer) -> None:
        """Requests put a server out of service, or brought it back."""
        self.refresh()
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
    return rules.is_available(peer.live, peer.config, now) and not (pool and pool.pending)


def _either(value: float | None, default: float) -> float:
    return default if value is None else value


def _overridden(classes: list[type], method: str) -> bool:
    base = getattr(Balancer, method)
    return any(getattr(cls, method, base) is not base for cls in classes)
