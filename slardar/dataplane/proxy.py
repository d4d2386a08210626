"""The data plane of one process, put together: what a change, a stop, a question comes to.

It knows the snapshot it serves, and nothing of where snapshots come from.  Its parts each
keep one thing: :mod:`~slardar.dataplane.upstreams` selections and connections to servers,
:mod:`~slardar.dataplane.clients` listeners and connections of clients,
:mod:`~slardar.dataplane.plane_hooks` hooks, :mod:`~slardar.dataplane.server_health` what
is known of servers.  A change of configuration swaps references: requests under way
finish on the selection they started with, and only the upstreams that changed are touched.

(Longer than 500 lines: most of it is the face that ``IPlane`` demands, a few lines each.)
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mypy_extensions import mypyc_attr
from twisted.internet import defer
from zope.interface import classImplements

from slardar import __version__
from slardar.config import Hooks, Settings
from slardar.dataplane.clients import DRAIN_GRACE, Clients
from slardar.dataplane.decision import Decision
from slardar.dataplane.decisions import Decisions
from slardar.dataplane.explanation import DecisionTold, Explanation, explanation_of
from slardar.dataplane.failurelog import RefusalLog
from slardar.dataplane.heartbeats import Heartbeats, ProbeFinder, connections_at_most
from slardar.dataplane.listener_kinds import LISTENER_KINDS, ListenerKind, with_tls
from slardar.dataplane.plane_hooks import HookMemory, PlaneHooks
from slardar.dataplane.poller import Poller
from slardar.dataplane.reminders import Reminders
from slardar.dataplane.router import Router
from slardar.dataplane.selection import Selection
from slardar.dataplane.server_health import ServerHealth
from slardar.dataplane.server_terms import ServerContexts
from slardar.dataplane.sockets import Opened
from slardar.dataplane.tls_contexts import TlsContexts
from slardar.dataplane.upstreams import Upstreams
from slardar.errors import ConfigError
from slardar.events import Publish, ignore
from slardar.health.verdicts import Ejection, Extra, Heartbeat, Verdict, by_upstream
from slardar.hooks.report import HookReport, HookTally, ShadowReport
from slardar.hooks.runner import Runner
from slardar.http1.forwarded import came_from
from slardar.http1.heads import BadMessage
from slardar.http1.https import hsts_line, https_url
from slardar.http1.interfaces import (
    ChannelBase,
    Connection,
    Downstream,
    HookedRequest,
    Reminder,
    SelectionBase,
    TunnelBase,
    request_ended,
)
from slardar.http1.own_replies import NO_REPLY
from slardar.http1.record import BY_SLARDAR, RequestRecord
from slardar.http1.request import Request, parse_request
from slardar.http1.tls import TlsFacts
from slardar.interfaces import IPlane
from slardar.model.hook import Hook, HookKey
from slardar.model.listener import ListenerSpec, spec_of
from slardar.model.live import Live, Peer, ServerLive
from slardar.model.networks import Networks, peer_address
from slardar.model.server import server_key
from slardar.model.snapshot import Choice, Snapshot
from slardar.model.tls import CHALLENGE_PATH, Challenges, Keyring, TicketKeys
from slardar.observers.counted import Counted, counted_in
from slardar.observers.exposition import Facts, scrape
from slardar.observers.plane_observers import PlaneObservers
from slardar.observers.span_batches import SpanTarget
from slardar.observers.totals import Totals
from slardar.resolve import Names, Resolver

__all__ = ["DataPlane"]

#: Bytes of a server's reply head, at most.  HAProxy takes 16 KiB, nginx 4 or 8.
_MAX_REPLY_HEAD = 65536
#: Bytes of memory that a connection takes besides what waits in its buffers, that an
#: upstream takes, and that its selection and pools take: twice what was measured, with 10
#: servers each.  They are not counted as memory of hooks.
_CHANNEL = 8 << 10
_UPSTREAM = 8 << 10
_SELECTION = 16 << 10
#: Bytes of memory for a byte of JSON of settings that hooks read: twice as many as lists of empty
#: lists take, with which there are most.
_SETTING = 64
#: Servers whose counts are added up in one go: about a millisecond.
_COUNTED = 500
#: Bytes of ``limits.retry_buffer`` that a request is likely to use, at most.
_MAX_REPLAY = 256 << 10


@mypyc_attr(allow_interpreted_subclasses=True)
class DataPlane(Router):
    """Serves requests in this process.

    ``make_balancer(mode)`` gives the factory of a balancer by its name (normally
    ``slardar.plugins.balancer_factory``).  ``on_health(upstream, peer)`` is called when
    requests have put a server out of service or brought it back; it must not block.
    Without it the log says so.  ``on_extra(extra)`` is called with what other processes are
    to know of servers beside that.  ``make_runner`` and ``hook_memory`` are for a worker.
    ``kinds`` are the kinds of listeners, by their protocols.  With ``find_probe``
    (``slardar.plugins.find_probe``) the plane sends heartbeats, as ``settings.health`` says;
    without it another process does, or none.  ``worker`` is the name of this process in
    access logs, and ``stdout`` the descriptor for one that goes to standard output.
    ``spans`` takes the spans of sampled requests; without it they are exported from here.
    ``publish`` is told what changes in the health of servers and hooks; in a worker the
    director tells it.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        live: Live,
        make_balancer: Callable[[str], Callable[..., Any]],
        resolver: Names | None = None,
        on_health: Callable[[str, Peer], None] | None = None,
        make_runner: Callable[[Hooks], Runner] | None = None,
        hook_memory: HookMemory | None = None,
        kinds: Mapping[str, ListenerKind] = LISTENER_KINDS,
        on_extra: Callable[[Extra], None] | None = None,
        find_probe: ProbeFinder | None = None,
        worker: str = "worker-0",
        stdout: int = 1,
        publish: Publish = ignore,
        spans: SpanTarget | None = None,
    ) -> None:
        self._reactor = reactor
        self._live = live
        self._began = reactor.seconds()
        self._poller = poller = Poller(reactor)
        super().__init__(poller.clock)
        self._reminders = Reminders(reactor, poller.clock)
        self._snapshot = Snapshot.build(0, {}, (), None)
        self._refusals = RefusalLog(reactor.callLater)
        self._resolver: Names = resolver or Resolver(reactor)
        metrics = settings.metrics
        #: What was counted, as far as no director keeps it.
        self.totals = Totals(metrics.buckets, metrics.added_buckets)
        self._health = ServerHealth(
            live, poller.clock, reactor.seconds, on_health, on_extra or self._note_extra, publish
        )
        contexts = ServerContexts(reactor)
        self._upstreams = Upstreams(
            reactor,
            self,
            poller,
            live,
            make_balancer,
            self._resolver,
            self._health,
            settings.timeouts,
            contexts,
        )
        self.balancer_errors = self._upstreams.balancer_errors
        self._tls = TlsContexts()
        self._clients = Clients(
            reactor,
            self,
            poller,
            with_tls(kinds, self._tls),
            settings.limits.connections,
            self._upstreams.make_room,
        )
        self._heartbeats: Heartbeats | None = None
        if find_probe is not None:
            self._heartbeats = Heartbeats(
                reactor,
                settings.health,
                find_probe,
                self._resolver.addresses,
                self.set_checked,
                hint=self.hint,
                contexts=contexts,
            )
        self._is_started = False
        self._plane_hooks = PlaneHooks(
            reactor,
            poller,
            settings.hooks,
            self._route_name,
            self._buffered,
            self._expected_memory,
            make_runner,
            hook_memory,
            publish,
        )
        #: Requests within ``slardar.web``, for each resource.
        self.web_requests: list[Collection[Downstream]] = []
        self.observers = PlaneObservers(
            reactor, poller.clock, settings, worker, stdout, self._under_way, spans
        )
        self.observer = self.observers.observer
        self._worker = worker
        self._decisions = Decisions(
            poller.clock,
            settings.control.tokens,
            worker,
            self._plane_hooks,
            self.choose,
            lambda: self._snapshot.version,
            self._under_way,
        )
        self.tracer = self.observers.tracer
        self.max_reply_head = _MAX_REPLY_HEAD
        self.hook_body = settings.hooks.body
        self._take_numbers(settings)

    # Life.

    def start(self) -> defer.Deferred[None]:
        """Join the reactor: clients are accepted from its next turn on."""
        self._clients.count_descriptors(0 if self._heartbeats is None else connections_at_most())
        self._poller.start()
        self._is_started = True
        if self._heartbeats is not None:
            self._heartbeats.start(self.known_checked())
        return defer.succeed(None)

    @property
    def opened(self) -> list[Opened]:
        """The sockets that listen; see :class:`slardar.interfaces.IPlane`."""
        return self._clients.opened

    def listen(
        self, listener: ListenerSpec | str, sockets: Sequence[socket.socket] = ()
    ) -> defer.Deferred[str]:
        """Accept clients as ``listener`` says; answers where, for a person.

        A string is a Twisted server endpoint string, as those of ``listen`` in the settings.
        ``sockets`` are those that another process has handed over for it, if any.  Fails
        with ConfigError if there is no such endpoint or protocol, and with the endpoint's
        own errors (``CannotListenError``) if it is taken.
        """
        spec = spec_of(listener) if isinstance(listener, str) else listener
        return defer.maybeDeferred(self._clients.listen, spec, sockets)

    def own(self) -> None:
        """Sockets are ours alone from now on; see :class:`slardar.interfaces.IPlane`."""
        self._clients.own()

    def serve(self, sock: socket.socket, listener: ListenerSpec, exclusive: bool = False) -> None:
        """Accept clients on a socket of ``listener``.

        The socket listens, and is the plane's from now on.  ``exclusive``: other
        processes accept on it too.
        """
        self._clients.serve(sock, listener, exclusive)

    def stop(self, within: float | None = None, grace: float | None = None) -> defer.Deferred[None]:
        """Take no new clients, finish what is under way, close the rest; see
        :class:`slardar.interfaces.IPlane`."""
        self._clients.begin_drain(
            self._drain_timeout if within is None else within,
            DRAIN_GRACE if grace is None else grace,
        )
        return defer.ensureDeferred(self._stop())

    def hurry(self, within: float) -> None:
        """While the plane is stopping: take no more than ``within`` seconds from now."""
        self._clients.hurry(within)

    async def _stop(self) -> None:
        self.draining = True
        self.observers.drain()
        if self._heartbeats is not None:
            self._heartbeats.stop()
        self._plane_hooks.stop_checking()
        self._clients.stop_accepting()
        await self._clients.drain()
        self._upstreams.close()
        await self._clients.flush()
        self._resolver.stop()
        self._reminders.stop()
        self._poller.stop()
        self._refusals.flush()
        self._plane_hooks.stop()
        await self.observers.stop()

    # The configuration.

    def take_settings(self, settings: Settings) -> defer.Deferred[None]:
        """Use other settings of these, as :class:`slardar.interfaces.IPlane` describes it.

        Clients that are connected keep what they are waiting for now, and get the new
        values with the next thing they do.  Beyond a lowered ``limits.connections``
        nobody is sent away, and nobody is accepted until enough have left.
        """
        self._take_numbers(settings)
        self._upstreams.take_timeouts(settings.timeouts)
        self.observers.take_settings(settings)
        if self._heartbeats is not None:
            self._heartbeats.take_settings(settings.health)
        self._clients.allow(settings.limits.connections)
        return defer.succeed(None)

    def take_keyring(self, keyring: Keyring) -> defer.Deferred[None]:
        """Use these certificates; see :class:`slardar.interfaces.IPlane`."""
        self._tls.take(keyring)
        return defer.succeed(None)

    def take_tickets(self, keys: TicketKeys | None) -> defer.Deferred[None]:
        """Share sessions with these keys; see :class:`slardar.interfaces.IPlane`."""
        self._tls.take_tickets(keys)
        return defer.succeed(None)

    def is_misdirected(self, tls: TlsFacts, host: str, listener: ListenerSpec) -> bool:
        """See :meth:`slardar.http1.interfaces.PlaneBase.is_misdirected`."""
        return self._tls.policy(host, listener) != tls.policy

    def has_certificate(self, host: str) -> bool:
        """See :meth:`slardar.http1.interfaces.PlaneBase.has_certificate`."""
        return self._tls.has(host)

    def is_for_tls(self, host: str) -> bool:
        """See :meth:`slardar.http1.interfaces.PlaneBase.is_for_tls`."""
        return self._tls.has(host) or self._tls.asks(host)

    def https_place(self, request: Request, came_to: int) -> bytes:
        """See :meth:`slardar.http1.interfaces.PlaneBase.https_place`."""
        return https_url(request, came_to, self._clients.tls_ports, self._https_port)

    def _take_numbers(self, settings: Settings) -> None:
        """Keep the settings as numbers that the request path reads with one look."""
        limits, timeouts, tls = settings.limits, settings.timeouts, settings.tls
        self.redirects = tls.redirects
        self._https_port = tls.https_port
        hsts = tls.hsts
        self.hsts = b""
        if hsts is not None:
            self.hsts = hsts_line(hsts.max_age, hsts.subdomains, hsts.preload)
        self.trusted = Networks(settings.trusted)
        self.sends_forwarded = settings.forwarded
        self.max_head = limits.head
        self.max_url = limits.url
        self.max_headers = limits.headers
        self.max_body = limits.body or sys.maxsize
        self.retry_buffer = limits.retry_buffer
        self.max_linger = limits.linger
        self.client_header_timeout = float(timeouts.client_header)
        self.client_body_timeout = float(timeouts.client_body)
        self.keepalive_timeout = float(timeouts.keepalive)
        self.send_timeout = float(timeouts.send)
        self.linger_timeout = float(timeouts.linger)
        self._drain_timeout = float(timeouts.drain)

    def apply(
        self, snapshot: Snapshot, changed: Collection[str]
    ) -> defer.Deferred[dict[str, dict[str, int]]]:
        """Serve ``snapshot`` from now on; see :class:`slardar.interfaces.IPlane`.

        Names of servers are looked up first, so that the next request finds them, but the
        change does not wait long for them.  Then servers whose names are known serve; if
        none is known, requests wait for the first one, at most for the resolver's timeout.
        """
        return defer.ensureDeferred(self._apply(snapshot, changed))

    async def _apply(
        self, snapshot: Snapshot, changed: Collection[str]
    ) -> dict[str, dict[str, int]]:
        # All of it is made before any of it is used: a change that a balancer refuses
        # leaves nothing behind.
        upstreams = snapshot.upstreams
        made = self._upstreams.make(upstreams, changed)
        before, self._snapshot = self._snapshot, snapshot
        self.totals.changed(changed, snapshot)
        self.has_routes = not snapshot.host_is_name
        if snapshot.settings is not before.settings:
            # Before the hooks: one may ask for a setting while it is loaded.
            self._plane_hooks.take_settings(snapshot.settings, before.hooks)
        if snapshot.hooks is not before.hooks:
            self.hooks = self._plane_hooks.take(snapshot.hooks)
        if snapshot.certificates is not before.certificates:
            self._tls.take_stored(snapshot.certificates)
        if snapshot.challenges is not before.challenges:
            self._take_challenges(snapshot.challenges)
        if self._heartbeats is not None and not self.draining:
            self._heartbeats.apply(upstreams, changed)
        self.observers.apply(upstreams, changed)
        await self._upstreams.use(upstreams, changed, made)
        return {"workers": {"worker-0": snapshot.version}}

    def _take_challenges(self, challenges: Challenges) -> None:
        """Answer CAs this from now on."""
        answers = {
            CHALLENGE_PATH + token.encode("ascii"): text.encode("ascii")
            for token, text in challenges.http.items()
        }
        # ``None`` costs other requests least.
        self.challenges = answers or None
        self._tls.take_challenges(challenges.tls)

    # Questions.

    def peers(self, upstream: str) -> Mapping[str, ServerLive]:
        """``{"host:port": ServerLive}`` of one upstream, for status."""
        found = self._snapshot.upstreams.get(upstream)
        return {} if found is None else self._health.peers(found)

    def counts(self, upstream: str) -> Mapping[str, int]:
        """The counters of one upstream that are not 0, for status."""
        found = self._live.upstreams.get(upstream)
        return {} if found is None else found.counts()

    def statistics(self) -> Mapping[str, Any]:
        """Counters of this process, for status."""
        connections = len(self._clients)
        heartbeats = self._heartbeats
        return {
            "checkup_timer_alive": heartbeats is not None and heartbeats.is_alive,
            "last_check": None if heartbeats is None else heartbeats.last_check,
            "accepted": self._clients.accepts,
            "requests": self.requests,
            "refused": self.refusals,
            "connections": connections,
            "active": self.exchanges,
            "tunnels": len(self._clients.tunnels),
            "version": self._snapshot.version,
            "balancer_errors": {
                name: about.shown() for name, about in self.balancer_errors.last.items()
            },
            "names": self._resolver.shown(),
            "panic": self._health.panics(self._snapshot.upstreams.values()),
            **self.observers.statistics(),
            "config_timer": {"worker-0": "alive"},
            "workers": {
                "worker-0": {
                    "pid": os.getpid(),
                    "version": self._snapshot.version,
                    "connections": connections,
                    "requests": self.requests,
                    "age": round(self._reactor.seconds() - self._began, 1),
                    "restarts": 0,
                }
            },
        }

    # Metrics.

    def collect(self) -> Iterator[None]:
        """Bring ``totals`` up to date; see :class:`slardar.interfaces.IPlane`."""
        for counted in counted_in(self.observers.counting, _COUNTED):
            self.take_counted(counted)
            yield

    def take_counted(self, counted: Counted) -> None:
        """Add what was counted; see :class:`slardar.interfaces.IPlane`."""
        self.totals.take(counted, self._snapshot)

    def present(self) -> tuple[dict[str, int], dict[str, int]]:
        """How many connections there are by listener, tunnels included, and tunnels by
        upstream.  Counts the bytes so far of what is under way for long."""
        found, tunnels = self.observers.counting.look(
            self._clients.connected, self._clients.tunnels
        )
        return {**dict.fromkeys(self._clients.listener_ids, 0), **found}, tunnels

    def facts(self) -> Facts:
        """What the metrics show of the present; see :class:`slardar.interfaces.IPlane`."""
        dropped = self.observers.statistics()["access_log_dropped"]
        return Facts(*self.present(), {"alive": 1}, 0, dropped, self._health.present)

    def time_servers(self, seconds: float) -> None:
        """Time each server's replies; see :class:`slardar.interfaces.IPlane`."""
        self.observers.counting.timed_until = self.clock.now + seconds

    def metrics(self) -> Iterator[str]:
        """What this process alone has counted (:func:`slardar.observers.exposition.scrape`)."""
        return scrape(self, self._snapshot, __version__)

    def _note_extra(self, extra: Extra) -> None:
        """There is no director that would count ejections."""
        if isinstance(extra, Ejection) and extra.seconds > 0:
            self.totals.ejected(extra.upstream, server_key(extra.host, extra.port))

    # Health.

    def set_health(self, verdicts: Iterable[Verdict]) -> None:
        """Take another process's verdicts; see :class:`slardar.interfaces.IPlane`."""
        for name, some in by_upstream(verdicts).items():
            upstream = self._snapshot.upstreams.get(name)
            if upstream is not None:
                self._upstreams.look(name, self._health.learn(upstream, some))

    def known_health(self) -> Iterator[Verdict]:
        """The servers out of service; see :class:`slardar.interfaces.IPlane`."""
        return self._health.known()

    def set_checked(self, verdicts: Iterable[Heartbeat]) -> None:
        """Take what heartbeats say; see :class:`slardar.interfaces.IPlane`."""
        for name, some in by_upstream(verdicts).items():
            upstream = self._snapshot.upstreams.get(name)
            if upstream is not None:
                changed = self._health.check(upstream, some, not self._is_started)
                self._upstreams.look(name, changed)

    def known_checked(self) -> Iterator[Heartbeat]:
        """What heartbeats have said; see :class:`slardar.interfaces.IPlane`."""
        return self._health.known_checked()

    def set_extras(self, extras: Iterable[Extra]) -> None:
        """Take what keeps servers from requests beside their health; see
        :class:`slardar.interfaces.IPlane`."""
        for name, some in by_upstream(extras).items():
            upstream = self._snapshot.upstreams.get(name)
            if upstream is not None:
                self._upstreams.look(name, self._health.learn_extras(upstream, some))

    def hint(self, upstream: str, host: str, port: int, value: str) -> None:
        """A heartbeat brought a hint; see :class:`slardar.interfaces.IPlane`."""
        found = self._snapshot.upstreams.get(upstream)
        if found is not None and self._health.hint(found, (host, port), value):
            self._upstreams.look(upstream, [(host, port)])

    def known_extras(self) -> Iterator[Extra]:
        """What keeps servers from requests beside their health; see
        :class:`slardar.interfaces.IPlane`."""
        return self._health.known_extras(self._snapshot.upstreams)

    # Hooks.

    def check_hook(
        self,
        language: str,
        name: str,
        code: str,
        modules: Mapping[str, str] | None,
        settings: Mapping[str, str] | None = None,
    ) -> defer.Deferred[tuple[str, ...]]:
        """Whether code is fit to be a hook; see :class:`slardar.interfaces.IPlane`."""
        return self._plane_hooks.check(language, name, code, modules, settings or {})

    def check_stored(self, hooks: Mapping[HookKey, Hook]) -> defer.Deferred[None]:
        """Leave out those that cannot be loaded; see :class:`slardar.interfaces.IPlane`."""
        return defer.ensureDeferred(self._plane_hooks.check_stored(hooks))

    def suspend_hook(self, mark: int, reason: str = "") -> None:
        """Do not run this version of a hook any more, nor load it if it is not yet."""
        self._plane_hooks.suspend(mark, reason)

    def refuse_hooks(self, reasons: Mapping[int, str]) -> None:
        """Do not load the versions that have these marks, for these reasons."""
        self._plane_hooks.refuse(reasons)

    def hook_reports(self) -> Iterator[HookReport | ShadowReport]:
        """The counters of every script there is."""
        return self._plane_hooks.reports()

    def hook_tally(self) -> HookTally:
        """The counters of the hooks; see :class:`slardar.interfaces.IPlane`."""
        tally = HookTally()
        tally.take(0, self.hook_reports())
        return tally

    def _buffered(self) -> int:
        """Bytes in the buffers of connections."""
        return self._poller.buffered() + self._clients.held

    def _expected_memory(self) -> int:
        """Bytes that connections, without their buffers, requests and the configuration
        account for."""
        return (
            len(self._poller) * _CHANNEL
            + self.exchanges * min(self.retry_buffer, _MAX_REPLAY)
            + self.bodies.held
            + len(self._snapshot.upstreams) * _UPSTREAM
            + len(self.selections) * _SELECTION
            + sum(map(len, self._snapshot.settings.values())) * _SETTING
        )

    # Observers.

    def reopen_logs(self) -> None:
        """Open the files of access logs anew; see :class:`slardar.interfaces.IPlane`."""
        self.observers.reopen()

    def _under_way(self) -> Iterator[RequestRecord]:
        """The records of the requests under way."""
        yield from self._clients.records()
        for requests in self.web_requests:
            for one in requests:
                if one.record is not None:
                    yield one.record

    # Decisions.

    def explain(self, head: bytes, client: str) -> defer.Deferred[Explanation]:
        """Where a request would go now, and why; see :class:`slardar.interfaces.IPlane`."""
        return defer.maybeDeferred(self._explain, head, client)

    def _explain(self, head: bytes, client: str) -> Explanation:
        # The plane's clock stands still between its own batches.
        self.clock.now = time.monotonic()
        try:
            request = parse_request(head, self.max_headers, self.max_url)
            before = parse_request(head, self.max_headers, self.max_url)
        except BadMessage as error:
            raise ConfigError(error.message) from None
        for one in (request, before):
            came_from(one, peer_address(client), self.trusted)
        rehearsal = self._plane_hooks.rehearsal(self._snapshot.hooks, request)
        hooked = None if rehearsal is None else rehearsal.run()
        answer = None if hooked is None else hooked.answer
        if answer is not None:
            decision = Decision(Choice(None), "", None, "")
        else:
            decision = self.decide(request, None if hooked is None else hooked.upstream, "hook")
        effects = () if rehearsal is None else rehearsal.effects
        version = self._snapshot.version
        return explanation_of(decision, request, effects, answer, version, self._worker, before)

    def decision(self, decision_id: str) -> defer.Deferred[DecisionTold | None]:
        """What was decided for a request; see :class:`slardar.interfaces.IPlane`."""
        self.clock.now = time.monotonic()
        return defer.succeed(self._decisions.find(decision_id))

    def ask_decision(self, record: RequestRecord, token: bytes) -> None:
        """See :meth:`slardar.http1.interfaces.PlaneBase.ask_decision`."""
        self._decisions.ask(record, token)

    def note_decision(
        self, record: RequestRecord, request: Request, selection: SelectionBase
    ) -> None:
        """See :meth:`slardar.http1.interfaces.PlaneBase.note_decision`."""
        if isinstance(selection, Selection):
            self._decisions.note(record, request, selection)

    def keep_decision(self, record: RequestRecord) -> None:
        """See :meth:`slardar.http1.interfaces.PlaneBase.keep_decision`."""
        self._decisions.keep(record)

    # For the router.

    def _route_name(self, host: str, path: str) -> str | None:
        """The name of the upstream that routes and Host lead to."""
        return self._snapshot.route(host, path)

    def choose(self, request: Request) -> Choice:
        """See :meth:`slardar.dataplane.router.Router.choose`."""
        return self._snapshot.choose(request.host, request.path)

    def missing(self, request: Request, choice: Choice) -> str:
        """See :meth:`slardar.dataplane.router.Router.missing`."""
        name = choice.upstream
        if name is None:
            return super().missing(request, choice)
        if name in self._snapshot.upstreams:
            return f"upstream {name!r} cannot be served: the log says why"
        if choice.by in ("resource", "hook"):
            return f"no upstream {name!r}"
        return f"no upstream {name!r}, to which a route or default_upstream leads"

    def decide(
        self, request: Request, upstream: str | None = None, by: str = "resource"
    ) -> Decision:
        """Where ``request`` would go now if no hook saw it, and why; changes nothing.

        ``upstream`` is the one that a mounted resource names, or that a hook has chosen, if any,
        and ``by`` says which of the two.  Does not block, and takes time in proportion to the
        servers of the upstream.
        """
        choice = self.choose(request) if upstream is None else Choice(upstream, by)
        name = choice.upstream
        selection = None if name is None else self._upstreams.peek(name)
        if selection is None or name is None:
            return Decision(choice, "", None, self.missing(request, choice))
        mode, waits = selection.upstream.mode, self._upstreams.waits(name)
        return Decision(choice, mode, selection.preview(request), "", waits)

    def first_use(self, name: str) -> Selection | None:
        """See :meth:`slardar.dataplane.router.Router.first_use`."""
        return self._upstreams.first_use(name)

    def hold(
        self,
        selection: SelectionBase,
        downstream: Downstream,
        request: Request,
        channel: ChannelBase | None,
        hooked: HookedRequest | None,
    ) -> bool:
        """See :meth:`slardar.dataplane.router.Router.hold`."""
        return self._upstreams.hold(selection, downstream, request, channel, hooked)

    def remind(self, reminder: Reminder, seconds: float) -> None:
        """See :meth:`slardar.http1.interfaces.PlaneBase.remind`."""
        self._reminders.put(reminder, seconds)

    def refused(self, status: int) -> None:
        """A request was answered by slardar itself, perhaps for want of a descriptor."""
        super().refused(status)
        if status == 503:
            self._upstreams.make_room(if_short=True)

    def note_refusal(self, status: int, reason: str, upstream: str, server: str) -> None:
        """A request got 502, 503 or 504."""
        self._refusals.note(status, reason, upstream, server)

    # For connections of clients.

    def tunnel(self, tunnel: TunnelBase) -> None:
        """A connection became a tunnel."""
        self._clients.add_tunnel(tunnel)
        if tunnel.record is not None and self.observer is not None:
            self.observer.tunnel_began(tunnel.record)

    def tunnel_closed(self, tunnel: TunnelBase) -> None:
        """A tunnel is closed."""
        self._clients.tunnel_closed(tunnel)

    def turned_away(self, client: bytes, listener: ListenerSpec, reason: str) -> None:
        """A connection got no reply; see the base."""
        self.refused(NO_REPLY)
        self._refusals.note_closed(listener.id, reason, client.decode("latin-1"))
        if self.observer is not None:
            record = RequestRecord(client, None, self.clock.now, listener.id)
            record.status, record.answered_by, record.error = NO_REPLY, BY_SLARDAR, reason
            request_ended(self, record)

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""
        self._clients.closed(connection)


# Not as a decorator: mypyc compiles no class that has one.
classImplements(DataPlane, IPlane)
