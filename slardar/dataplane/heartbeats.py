"""Sends heartbeats to servers, and tells what they say of them.

Each server has its own place in the interval, by a hash of its name: so heartbeats do not
come in bursts, nor all processes' heartbeats at the same time, and a restart changes
nothing.  A server whose answer is slow delays no other: each heartbeat is a connection of
its own (:mod:`slardar.dataplane.probe_channel`).

What results mean is decided in :mod:`slardar.health.heartbeats`.
"""

from __future__ import annotations

import re
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Any

from msgspec import structs
from twisted.logger import Logger
from twisted.python.failure import Failure

from slardar.config import Health
from slardar.dataplane.contact import Connect, HeartbeatOwner, HeartbeatRun, Shortage
from slardar.dataplane.descriptors import descriptor_limit
from slardar.dataplane.pool import literal_address
from slardar.dataplane.probe_channel import ProbePoller
from slardar.dataplane.server_terms import ServerContexts, ServerTerms
from slardar.errors import one_line
from slardar.health.heartbeats import Beats, places_to_check
from slardar.health.probes.base import Probe, Result, failed
from slardar.health.shared import Place
from slardar.health.verdicts import Heartbeat, by_upstream
from slardar.http1.interfaces import ChannelBase
from slardar.http1.proxy_header import LOCAL
from slardar.model.names import normal_host
from slardar.model.server import ProbeOptions, Upstream
from slardar.model.tls import ServerTls

__all__ = ["Heartbeats", "ProbeFinder", "connections_at_most"]

#: Finds what makes the probe of a ``typ``: ``slardar.plugins.find_probe``.
ProbeFinder = Callable[[str], Callable[[ProbeOptions], Probe]]
#: The addresses of a name, each with its family; none: there is none; ``None``: it is still
#: being looked up.
FindAddresses = Callable[[str], Sequence[tuple[int, str]] | None]

#: So many new servers are checked at once.  If there are more, each waits for its place in
#: the interval.
_AT_ONCE = 64
#: Seconds between two turns in which heartbeats begin.
_PAUSE = 0.01
#: Seconds for which a turn begins heartbeats.
_TURN = 0.005
#: Heartbeats begun between two looks at the clock: they take about half a millisecond.
_FEW = 8
#: Seconds until a server is looked at again whose name is still being looked up, or for
#: which there was no descriptor.
_AGAIN = 0.25
#: Connections at the same time, at most: 2,000 servers a second with two seconds each.
_MOST = 4096
#: So many are allowed in any case.
_FEWEST = 16

#: The host in a request's header, without port.
_HOST = re.compile(rb"\r\nhost:[ \t]*([-._0-9a-z]+)", re.IGNORECASE)

_log = Logger("slardar.heartbeats")


def connections_at_most() -> int:
    """How many connections heartbeats have at the same time, at most: an eighth of the
    descriptors of the process, by the limit that holds now."""
    return max(_FEWEST, min(_MOST, descriptor_limit() // 8))


class _Watch(HeartbeatOwner):
    """One server of one upstream that gets heartbeats."""

    __slots__ = ("group", "literal", "part", "place", "run", "terms", "ticket")

    def __init__(self, group: _Group, place: Place) -> None:
        self.group = group
        self.place = place
        #: Its one address, if the host is one.
        self.literal = literal_address(place[0])
        #: Its place in the interval, from 0 to 1.
        name = f"{group.name} {place[0]} {place[1]}".encode()
        self.part = int.from_bytes(blake2b(name, digest_size=8).digest(), "big") / 2.0**64
        #: How a connection begins TLS; ``None``: it does not.
        self.terms: ServerTerms | None = None
        #: The heartbeat under way.
        self.run: HeartbeatRun | None = None
        #: Which of its entries in the plan is valid.
        self.ticket = 0

    def has(self, run: HeartbeatRun) -> bool:
        """Whether this is the heartbeat under way.  Asked anew where it may have ended: a
        compiled caller believes that its own attribute is still what it was."""
        return self.run is run

    def ended(self, run: HeartbeatRun, result: Result) -> None:
        """See the base."""
        self.group.heartbeats.run_ended(self, run, result)

    def broken(self, error: BaseException) -> Result:
        """See the base."""
        return self.group.broken(error)


class _Group:
    """An upstream whose servers get heartbeats."""

    __slots__ = (
        "beats",
        "header",
        "heartbeats",
        "interval",
        "is_logged",
        "name",
        "options",
        "probe",
        "watches",
    )

    def __init__(self, heartbeats: Heartbeats, upstream: Upstream, beats: Beats) -> None:
        self.heartbeats = heartbeats
        self.name = upstream.name
        self.beats = beats
        self.interval = 0.0
        self.options: ProbeOptions | None = None
        #: The PROXY protocol header at the beginning of a connection; empty for none.
        self.header: bytes = b""
        #: A :class:`slardar.health.probes.base.Probe`, or a user's object with its methods.
        self.probe: Any = None
        self.watches: dict[Place, _Watch] = {}
        #: The log has said that this probe raises exceptions.
        self.is_logged = False

    def broken(self, error: BaseException) -> Result:
        """The result of a heartbeat whose probe has raised ``error``, SystemExit included."""
        if not self.is_logged:
            self.is_logged = True
            failure = Failure(error)  # type: ignore[no-untyped-call]
            _log.failure("the probe of upstream {name} failed", failure, name=self.name)
        return failed(f"the probe failed: {one_line(error)}")


class Heartbeats:
    """The heartbeats of one process, which has one of these at most.

    ``addresses(name)`` gives the addresses of a server's name.  ``tell(verdicts)`` is called
    with :class:`slardar.health.verdicts.Heartbeat` objects when there is something new of
    servers; those of one turn come together.  ``connect`` makes connections, and
    ``connect_sealed`` those over TLS, on a poller of its own by default.  ``wall`` gives epoch
    seconds.  ``hint(upstream, host, port, value)`` is called with what a server has said in
    ``X-Slardar-Hint``.  ``contexts`` are for TLS.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Health,
        find_probe: ProbeFinder,
        addresses: FindAddresses,
        tell: Callable[[list[Heartbeat]], None],
        connect: Connect | None = None,
        wall: Callable[[], float] = time.time,
        hint: Callable[[str, str, int, str], None] | None = None,
        contexts: ServerContexts | None = None,
        connect_sealed: Callable[..., ChannelBase] | None = None,
    ) -> None:
        self._reactor = reactor
        self._contexts = contexts or ServerContexts(reactor)
        self._hint = hint
        self._settings = settings
        self._find_probe = find_probe
        self._addresses = addresses
        self._tell = tell
        self._poller = ProbePoller(reactor)
        self._connect: Connect = connect or self._poller.connect
        self._connect_sealed = connect_sealed or self._poller.connect_sealed
        self._wall = wall
        self._upstreams: Mapping[str, Upstream] = {}
        self._groups: dict[str, _Group] = {}
        #: When something is to be done for a server, with the ticket: a heartbeat begins, or
        #: has had its time.
        self._plan: list[tuple[float, int, _Watch]] = []
        self._tickets = 0
        #: The call for the first entry of the plan, and when it comes.
        self._call: Any = None
        #: No turn begins before this time.
        self._not_before = 0.0
        #: Connections now and at most, and the servers that wait for one.
        self._open = 0
        self._most = _FEWEST
        self._queue: deque[tuple[int, _Watch]] = deque()
        #: The servers of which there is something new, and the call that will tell it.
        self._new: dict[tuple[str, Place], None] = {}
        self._telling: Any = None
        self._runs = False
        #: When the last heartbeat has ended, in epoch seconds (``None``: none has).
        self.last_check: float | None = None

    @property
    def is_alive(self) -> bool:
        """Whether heartbeats are sent, if there are servers to send them to."""
        return self._runs and self._settings.enabled

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return self._open

    # Life.

    def start(self, known: Iterable[Heartbeat] = ()) -> None:
        """Send heartbeats from now on.

        ``known`` is what another process knew before.  What it says of servers that get no
        heartbeats here is told to be void.
        """
        self._runs = True
        self._most = connections_at_most()
        seen: set[tuple[str, Place]] = set()
        for name, verdicts in by_upstream(known).items():
            group = self._groups.get(name)
            for verdict in verdicts:
                place = (verdict.host, verdict.port)
                seen.add((name, place))
                if group is None or place not in group.watches:
                    self._note_new(name, place)
                else:
                    group.beats.know(verdict)
            if group is not None:
                for beat in group.beats.settle(self._wall()):
                    self._note_new(name, (beat.host, beat.port))
        new = []
        for group in self._groups.values():
            for watch in group.watches.values():
                if (group.name, watch.place) in seen:
                    self._put(watch, self._next_due(watch))
                else:
                    new.append(watch)
        self._begin_new(new)
        self._tell_new()

    def stop(self) -> None:
        """Send no more heartbeats, and tell nothing more."""
        self._runs = False
        for group in self._groups.values():
            for watch in group.watches.values():
                self._forget(watch)
        self._groups = {}
        self._plan.clear()
        self._queue.clear()
        for call in (self._call, self._telling):
            if call is not None:
                call.cancel()
        self._call = self._telling = None
        self._poller.stop()

    # Changes.

    def apply(self, upstreams: Mapping[str, Upstream], changed: Collection[str]) -> None:
        """Check the servers of ``upstreams``, of which the ``changed`` ones differ from before.

        A server that stays keeps its status, its counts and its place in the interval.
        """
        self._upstreams = upstreams
        new: list[_Watch] = []
        for name in changed:
            new += self._take(name, upstreams.get(name))
        if self._runs:
            self._begin_new(new)
            # At once, so that no request meets the change without the server that it
            # protects.
            self._tell_new()

    def take_settings(self, settings: Health) -> None:
        """Use other settings from now on."""
        if settings != self._settings:
            self._settings = settings
            self.apply(self._upstreams, list(self._upstreams))

    def _take(self, name: str, upstream: Upstream | None) -> list[_Watch]:
        """Follow one change of an upstream; returns the servers that are new."""
        places: Mapping[Place, bool] = {}
        # Compiled code would refuse a user's probe that is no Probe.
        probe: Any = None
        find: Any = self._find_probe
        if upstream is not None and self._settings.enabled:
            places = places_to_check(upstream)
        if places and upstream is not None:
            try:
                probe = find(upstream.probe.typ)(upstream.probe)
            except BaseException:  # SystemExit, CancelledError
                # It could be made when the configuration was checked.
                _log.failure("upstream {name} gets no heartbeats", name=name)
                places = {}
        configured: set[Place] = set()
        if upstream is not None:
            configured = {(server.host, server.port) for server in upstream.servers}
        group = self._groups.get(name)
        if group is not None:
            for place in [place for place in group.watches if place not in places]:
                self._forget(group.watches.pop(place))
                if place in configured:
                    self._note_new(name, place)
                else:
                    self._new.pop((name, place), None)
        if upstream is None or not places:
            self._groups.pop(name, None)
            return []
        now = self._wall()
        if group is None:
            group = self._groups[name] = _Group(self, upstream, Beats(upstream, now))
        else:
            for beat in group.beats.take(upstream, now):
                self._note_new(name, (beat.host, beat.port))
        interval = upstream.interval or self._settings.interval
        header = LOCAL[upstream.proxy_protocol]
        other_probe = upstream.probe != group.options or header != group.header
        other_interval = interval != group.interval
        group.probe, group.options, group.interval = probe, upstream.probe, interval
        group.header = header
        group.is_logged = False
        secured = self._secured(upstream)
        new: list[_Watch] = []
        for place in places:
            watch = group.watches.get(place)
            if watch is None:
                watch = group.watches[place] = _Watch(group, place)
                self._set_tls(watch, secured.get(place))
                new.append(watch)
            elif self._set_tls(watch, secured.get(place)) or other_probe:
                # What the former probe finds out counts no more.
                self._forget(watch)
                new.append(watch)
            elif other_interval and watch.run is None and self._runs:
                self._put(watch, self._next_due(watch))
        return new

    def _secured(self, upstream: Upstream) -> dict[Place, tuple[ServerTls, bool]]:
        """How servers that are spoken to over TLS are, and whether the names in their
        certificates are verified: a heartbeat has no Host that would be the name."""
        if upstream.tls is None and not upstream.server_tls:
            return {}
        name = _own_name(upstream)
        found: dict[Place, tuple[ServerTls, bool]] = {}
        for server in upstream.servers:
            tls = upstream.tls_of(server)
            if tls is not None:
                if not tls.server_name:
                    tls = structs.replace(tls, server_name=name)
                checks_name = tls.server_name != ""
                self._contexts.prepare([tls], checks_name)
                found[server.host, server.port] = (tls, checks_name)
        return found

    def _set_tls(self, watch: _Watch, secured: tuple[ServerTls, bool] | None) -> bool:
        """Connections of ``watch`` begin like this; True if they began otherwise before."""
        terms = watch.terms
        if secured is None:
            watch.terms = None
            return terms is not None
        tls, checks_name = secured
        if terms is not None and terms.tls == tls:
            return False
        watch.terms = ServerTerms(self._contexts, tls, *watch.place, checks_name)
        return True

    def _forget(self, watch: _Watch) -> None:
        """No heartbeat under way or planned counts any more."""
        watch.ticket = 0
        run, watch.run = watch.run, None
        if run is not None:
            self._open -= run.size
            run.close()
            self._begin_waiting()

    # The plan.

    def _next_due(self, watch: _Watch) -> float:
        """When the next heartbeat of a server is due, in the reactor's seconds."""
        interval = watch.group.interval
        now = self._reactor.seconds()
        due = (now // interval + watch.part) * interval
        # Not the same one again, should rounding have made it late by nothing.
        return float(due if due > now + interval * 1e-6 else due + interval)

    def _begin_new(self, new: Sequence[_Watch]) -> None:
        now = self._reactor.seconds()
        for watch in new:
            self._put(watch, now if len(new) <= _AT_ONCE else self._next_due(watch))

    def _put(self, watch: _Watch, when: float) -> None:
        """Plan the next step of a server."""
        self._tickets += 1
        watch.ticket = self._tickets
        heappush(self._plan, (when, self._tickets, watch))
        if self._plan[0][1] == self._tickets:
            self._plan_turn()

    def _plan_turn(self) -> None:
        """Have a turn when the first entry of the plan is due."""
        if not self._plan or not self._runs:
            return
        when = max(self._plan[0][0], self._not_before)
        if self._call is not None:
            if self._call.getTime() <= when:
                return
            self._call.cancel()
        self._call = self._reactor.callLater(max(0.0, when - self._reactor.seconds()), self._turn)

    def _turn(self) -> None:
        """Do what is due, for as long as a turn may take."""
        self._call = None
        now = self._reactor.seconds()
        ends = now + _TURN
        # For calls that are planned meanwhile, too.
        self._not_before = now + _PAUSE
        plan, few = self._plan, _FEW
        try:
            while plan and plan[0][0] <= now:
                _, ticket, watch = heappop(plan)
                if ticket != watch.ticket:
                    continue
                if watch.run is not None:
                    watch.run.give_up(self._settings.timeout)
                elif self._open < self._most:
                    self._begin(watch)
                else:
                    self._queue.append((ticket, watch))
                few -= 1
                if not few:
                    few = _FEW
                    if self._reactor.seconds() >= ends:
                        break
        finally:
            # A bug that is met with one server must not end the heartbeats of all.
            self._not_before = self._reactor.seconds() + _PAUSE
            self._plan_turn()

    def _begin(self, watch: _Watch) -> None:
        group = watch.group
        addresses: Sequence[tuple[int, str]] | None = watch.literal
        if not addresses:
            addresses = self._addresses(watch.place[0])
            if addresses is None:
                self._put(watch, self._reactor.seconds() + _AGAIN)
                return
            if not addresses:
                self._ended(watch, failed("its name has no address"))
                return
        connect, header, terms = self._connect, group.header, watch.terms
        if terms is not None:
            if not terms.is_ready:
                self._put(watch, self._reactor.seconds() + _AGAIN)
                return
            # The header comes before TLS.
            connect, header = partial(self._connect_sealed, terms, header), b""
        run = watch.run = HeartbeatRun(watch, header)
        try:
            run.begin(connect, group.probe, addresses, watch.place[1])
        except Shortage:
            # It says nothing of the server.
            watch.run = None
            self._put(watch, self._reactor.seconds() + _AGAIN)
            return
        except BaseException as error:  # SystemExit, CancelledError
            watch.run = None
            self._ended(watch, group.broken(error))
            return
        if watch.has(run):
            self._open += run.size
            self._put(watch, self._reactor.seconds() + self._settings.timeout)

    def run_ended(self, watch: _Watch, run: HeartbeatRun, result: Result) -> None:
        """The heartbeat of a server has ended."""
        if watch.has(run):
            watch.run = None
            self._open -= run.size
            self._ended(watch, result)

    def _ended(self, watch: _Watch, result: Result) -> None:
        """A heartbeat has a result."""
        group = watch.group
        now = self.last_check = self._wall()
        self._put(watch, self._next_due(watch))
        if result.hint and self._hint is not None:
            self._hint(group.name, *watch.place, result.hint)
        for beat in group.beats.note(watch.place, result, now):
            self._note_new(group.name, (beat.host, beat.port))
        self._begin_waiting()

    def _begin_waiting(self) -> None:
        """A connection has ended: a server that waits for one gets it in the next turn."""
        while self._queue:
            ticket, waiting = self._queue.popleft()
            if ticket == waiting.ticket:
                self._put(waiting, 0.0)
                return

    # Telling.

    def _note_new(self, upstream: str, place: Place) -> None:
        self._new[upstream, place] = None
        if self._telling is None and self._runs:
            self._telling = self._reactor.callLater(0, self._tell_new)

    def _tell_new(self) -> None:
        if self._telling is not None and self._telling.active():
            self._telling.cancel()
        self._telling = None
        new, self._new = self._new, {}
        verdicts = []
        for name, place in new:
            group = self._groups.get(name)
            beat = None if group is None else group.beats.servers.get(place)
            if beat is None:
                # It gets no heartbeats any more.
                verdicts.append(Heartbeat(name, *place, "unchecked", self._wall(), ""))
            else:
                verdicts.append(beat.verdict(name))
        if verdicts:
            self._tell(verdicts)


def _own_name(upstream: Upstream) -> str:
    """The name that most requests to an upstream have as their Host: that of ``http_opts.query``,
    else the upstream's own, if a Host leads to it by this name; else empty."""
    query = upstream.probe.http_query
    if query is not None:
        found = _HOST.search(query)
        if found is not None:
            return found[1].decode("latin-1").lower()
    if not upstream.public or upstream.name.startswith("*."):
        return ""
    return normal_host(upstream.name) or ""
