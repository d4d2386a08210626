"""What is known of a server while it runs, apart from how it is configured.

The configuration is immutable, and a change replaces it as a whole.  A change must not
reset counters, health, or a server's place in the turn.  So they are kept here, keyed by
``(upstream, host, port)``, and outlive every snapshot that names the server.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any

from mypy_extensions import mypyc_attr

from slardar.model.budget import RetryBudget
from slardar.model.server import Server

__all__ = ["Live", "Peer", "ServerLive", "TurnKeeper", "UpstreamLive", "Waiters"]


class TurnKeeper:
    """Keeps the places in the turn of some servers, so that a pick need not write to each of
    them."""

    def settle(self) -> None:
        """Write the places to ``ServerLive.place``, and keep them no more."""
        raise NotImplementedError

    def lower(self, number: int) -> None:
        """The effective weight of the server with this ``ServerLive.number`` has been
        lowered."""
        raise NotImplementedError


class ServerLive:
    """The mutable state of one server of one upstream in this process.

    Owner: the registry :class:`Live`.  Writers: the upstream's selection counts ``active``,
    ``requests`` and ``failures``, and keeps ``weight`` and the fields of the slow start.
    The rules of ``slardar.health``
    write the health fields, those of requests and those of heartbeats apart.  The
    upstream's balancer writes ``place``, ``keeper``, ``number``, ``effective_weight``,
    ``ewma`` and ``ewma_at``.
    """

    __slots__ = (
        "about",
        "active",
        "calm_from",
        "checked",
        "checked_at",
        "checked_fails",
        "checked_msg",
        "climbs_from",
        "down_until",
        "drains",
        "effective_weight",
        "ejected_at",
        "ejected_msg",
        "ejected_until",
        "ejections",
        "ewma",
        "ewma_at",
        "fail_num",
        "fails",
        "failures",
        "first_fail",
        "flapped_at",
        "full_until",
        "has_hinted_weight",
        "held_from",
        "history",
        "is_cold",
        "keeper",
        "last_modified",
        "msg",
        "notes",
        "number",
        "outcomes",
        "penalty",
        "place",
        "requests",
        "share",
        "status",
        "weight",
    )

    def __init__(self) -> None:
        #: Requests under way on this server.
        self.active = 0
        #: Requests sent to it so far, and how many of them failed.
        self.requests = 0
        self.failures = 0
        #: Smooth weighted round robin: the place in the turn, which is out of date while
        #: there is a ``keeper`` (which knows the server by ``number``); and the weight
        #: that failures have lowered (``None``: they have not).
        self.place: int = 0
        self.keeper: TurnKeeper | None = None
        self.number: int = 0
        self.effective_weight: int | None = None
        #: A weight to be used instead of the configured one, in the same unit (``None``: use
        #: the configured one).
        self.weight: float | None = None
        #: Slow start, apart for each level: the part of its weight that the server has; when
        #: it began to climb (monotonic seconds, 0: it does not); and whether it is to climb
        #: when it gets requests, because it is out of service or new.
        self.share = 1.0
        self.climbs_from = 0.0
        self.is_cold = False
        #: Moving average of the reply time in seconds (``None``: no reply yet).
        self.ewma: float | None = None
        #: When the average was last updated, in monotonic seconds.
        self.ewma_at = 0.0
        #: Passive health: the failures since ``first_fail`` (monotonic seconds), and the
        #: monotonic time until which the server gets no request (0: it gets requests).
        self.fails = 0
        self.first_fail = 0.0
        self.down_until = 0.0
        #: The penalty for going out of service again and again, as it was when the server did
        #: so last, at ``flapped_at`` (monotonic seconds; :mod:`slardar.health.flaps`).
        self.penalty = 0.0
        self.flapped_at = 0.0
        #: From when on only this penalty keeps the server out, in monotonic seconds.
        self.held_from = 0.0
        #: What requests last said: ``unchecked``, ``ok``, ``err`` or ``unstable``, since
        #: when (epoch seconds), and why; and the failures in a row.
        self.status = "unchecked"
        self.fail_num = 0
        self.last_modified = time.time()
        self.msg = ""
        #: What heartbeats last said, since when and why, in the same words; it holds until
        #: they say something else.  Their failures in a row, and what the server has told
        #: them of itself.
        self.checked = "unchecked"
        self.checked_at = self.last_modified
        self.checked_msg = ""
        self.checked_fails = 0
        self.about: Mapping[str, str | int] = {}
        #: What heartbeats remember beside that (:class:`slardar.health.verdicts.History`);
        #: ``None`` before they have said anything.
        self.history: Any = None
        #: Ejection as an outlier: the monotonic time until which the server gets no request
        #: (0: it is not ejected), since when (epoch seconds), and why; how often, without the
        #: times that are forgotten; and when it was back, in monotonic seconds.
        self.ejected_until = 0.0
        self.ejected_at = 0.0
        self.ejected_msg = ""
        self.ejections = 0
        self.calm_from = 0.0
        #: What became of its last attempts (:class:`slardar.health.outliers.Outcomes`);
        #: ``None`` if nobody counts them.
        self.outcomes: Any = None
        #: Hints of the server itself (:mod:`slardar.health.hints`): the monotonic time until
        #: which it is full, whether it wants no requests, and whether ``weight`` is its.
        self.full_until = 0.0
        self.drains = False
        self.has_hinted_weight = False
        #: For the status, filled in when it is asked for: what the server gets beyond its
        #: health, and why (:mod:`slardar.health.notes`).
        self.notes: dict[str, str] = {}

    @property
    def current_weight(self) -> int:
        """The place in the turn, brought up to date."""
        if self.keeper is not None:
            self.keeper.settle()
        return self.place

    def __repr__(self) -> str:
        return f"<ServerLive {self.status} active={self.active} fails={self.fails}>"


class Peer:
    """One server as a balancer sees it: its configuration and its live state.

    A peer belongs to one upstream of one snapshot; its ``live`` is shared with the peers
    of the same server in other snapshots.  Only the selection changes a peer, and only its
    ``weight``; it then gives the balancer another sequence of peers.
    """

    __slots__ = ("config", "host", "key", "live", "pool", "port", "turn", "weight")

    def __init__(self, config: Server, live: ServerLive, turn: ServerLive | None = None) -> None:
        self.config = config
        self.host = config.host
        self.port = config.port
        #: The weight that balancers go by.
        self.weight: int = config.weight
        #: ``host:port``, stable across processes and restarts: what hashes use.
        self.key = config.key
        self.live = live
        #: Has its place in the turn, its ``effective_weight`` and its slow start, which are
        #: apart for each level that has the server; in the first of these levels it is ``live``.
        self.turn = live if turn is None else turn
        #: The data plane's connections to this server; not for balancers.
        self.pool: Any = None

    def __repr__(self) -> str:
        return f"<Peer {self.key} weight={self.weight} {self.live!r}>"


@mypyc_attr(allow_interpreted_subclasses=True)
class Waiters:
    """Requests of one upstream that wait until one of its servers has room."""

    __slots__ = ("waiting",)

    def __init__(self) -> None:
        #: How many there are.
        self.waiting: int = 0

    def room(self) -> None:
        """A server may have room."""
        raise NotImplementedError


class UpstreamLive:
    """The mutable state of one upstream in this process.

    Owner: the registry :class:`Live`.  Writers: the selections and the exchanges of the
    upstream.
    """

    __slots__ = ("budget", "hedged", "queue", "queue_refused", "queued")

    def __init__(self) -> None:
        self.budget = RetryBudget()
        #: Requests that were sent to a second server while the first one had not replied.
        self.hedged = 0
        #: Where requests wait for room; ``None`` if they never had to.
        self.queue: Waiters | None = None
        #: Requests that have waited, and those that waited too long or found the queue full.
        self.queued = 0
        self.queue_refused = 0

    def is_counted(self) -> bool:
        """Whether any of its counters is not 0."""
        budget = self.budget
        return budget.retries + budget.exhausted + self.hedged + self.queued > 0

    def counts(self) -> dict[str, int]:
        """What ``/status`` shows of it, but for zeros."""
        budget = self.budget
        counts = {
            "retries": budget.retries,
            "retry_budget_exhausted": budget.exhausted,
            "hedged": self.hedged,
            "waiting": 0 if self.queue is None else self.queue.waiting,
            "queued": self.queued,
            "queue_refused": self.queue_refused,
        }
        return {name: count for name, count in counts.items() if count}


class Live:
    """The registry of :class:`ServerLive`, keyed by upstream and server, and of
    :class:`UpstreamLive`, by upstream."""

    def __init__(self) -> None:
        #: In how many processes the upstreams are served: what is limited for all of them
        #: together is limited to this part in each.
        self.processes = 1
        self._upstreams: dict[str, UpstreamLive] = {}
        self._servers: dict[tuple[str, str, int], ServerLive] = {}
        #: The turns of a server in further levels than the first that has it, by level.
        self._turns: dict[tuple[str, str, int], dict[str, ServerLive]] = {}

    def upstream(self, name: str) -> UpstreamLive:
        """The state of one upstream, made when it is first asked for."""
        found = self._upstreams.get(name)
        if found is None:
            found = self._upstreams[name] = UpstreamLive()
        return found

    @property
    def upstreams(self) -> Mapping[str, UpstreamLive]:
        """The state of all upstreams that were asked for, by name; read-only."""
        return MappingProxyType(self._upstreams)

    def forget_upstream(self, name: str) -> None:
        """Drop the state of an upstream that is gone."""
        self._upstreams.pop(name, None)

    def server(self, upstream: str, host: str, port: int) -> ServerLive:
        """The state of one server, made when it is first asked for."""
        key = (upstream, host, port)
        found = self._servers.get(key)
        if found is None:
            found = self._servers[key] = ServerLive()
        return found

    def turn(self, upstream: str, host: str, port: int, level: str) -> ServerLive:
        """The turn of a server in one more level, made when it is first asked for."""
        turns = self._turns.setdefault((upstream, host, port), {})
        found = turns.get(level)
        if found is None:
            found = turns[level] = ServerLive()
        return found

    def borrowed(self, upstream: str, servers: Iterable[tuple[str, int]]) -> Live:
        """Another registry with what is known here of one upstream and these servers of it.

        Whoever uses it adds nothing to this one.
        """
        other = Live()
        other.processes = self.processes
        if upstream in self._upstreams:
            other._upstreams[upstream] = self._upstreams[upstream]
        for host, port in servers:
            key = (upstream, host, port)
            if key in self._servers:
                other._servers[key] = self._servers[key]
            if key in self._turns:
                other._turns[key] = self._turns[key].copy()
        return other

    @property
    def turns(self) -> Mapping[tuple[str, str, int], Mapping[str, ServerLive]]:
        """The turns of servers in further levels than the first that has them, by upstream, host
        and port, then by level; read-only."""
        return MappingProxyType(self._turns)

    @property
    def servers(self) -> Mapping[tuple[str, str, int], ServerLive]:
        """The state of all servers, by upstream, host and port; read-only."""
        return MappingProxyType(self._servers)

    def forget(self, upstream: str, servers: Iterable[tuple[str, int]]) -> None:
        """Drop the state of servers that the upstream no longer has.

        Requests still under way keep their own reference and finish on it.
        """
        for host, port in servers:
            self._servers.pop((upstream, host, port), None)
            self._turns.pop((upstream, host, port), None)

    def __len__(self) -> int:
        return len(self._servers)
