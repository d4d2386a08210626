"""The upstreams of one data plane in service: their selections, pools, and servers' names.

The selection of an upstream is made with its first request.  Measured with 10,000
upstreams of 10 servers: an upstream that nobody asks for costs nothing, where selections
and pools for all of them took 91 MiB and 2.5 s at the start.  An upstream with names to
look up is the exception: its names are followed from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

from twisted.internet import defer
from twisted.logger import Logger

from slardar.config import Timeouts
from slardar.dataplane.balancer_errors import BalancerErrors
from slardar.dataplane.poller import Poller
from slardar.dataplane.pool import Pool, is_literal
from slardar.dataplane.router import Router
from slardar.dataplane.selection import Defaults, Selection
from slardar.dataplane.server_health import ServerHealth
from slardar.dataplane.server_terms import ServerContexts
from slardar.http1.interfaces import ChannelBase, Downstream, HookedRequest, SelectionBase, Step
from slardar.http1.request import Request
from slardar.model.live import Live, Peer
from slardar.model.server import Upstream, servers_gone
from slardar.resolve import Names

__all__ = ["Upstreams"]

#: Seconds between two times that idle connections are given up for want of descriptors.
_ROOM_PAUSE = 1.0
#: Seconds that a change waits for the first lookups of its servers' names: more than a
#: name server in the same network takes, less than anybody notices.
_SOON = 0.15

_log = Logger("slardar.dataplane")


class _Waiting:
    """A selection that waits for the first lookups of its servers' names."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        #: The change that made the selection has waited long enough: one known server
        #: will do.
        self.is_due = False
        #: Fires when the selection is in use, or is not wanted any more.
        self.over: defer.Deferred[None] = defer.Deferred()
        #: The requests that wait for the selection, each with its channel.
        self.held: list[tuple[ChannelBase, Step]] = []


class _Held(Step):
    """A request that has waited for its upstream begins."""

    def __init__(
        self,
        router: Router,
        upstream: str,
        downstream: Downstream,
        request: Request,
        channel: ChannelBase,
        hooked: HookedRequest | None,
    ) -> None:
        self._router = router
        self._upstream = upstream
        self._downstream = downstream
        self._request = request
        self._channel = channel
        self._hooked = hooked

    def look(self) -> None:
        """Nothing: hooks have seen the request."""

    def go_on(self) -> None:
        downstream, request = self._downstream, self._request
        if downstream.waits_for(request):
            exchange = self._router.begin_named(
                self._upstream, downstream, request, self._channel, self._hooked
            )
            if exchange is not None:
                downstream.begun(exchange)


class Upstreams:
    """Keeps ``selections`` and ``has_waiting`` of ``router`` in step with the upstreams
    that are configured.

    ``make_balancer(mode)`` gives the factory of a balancer by its name.  ``timeouts``
    are what upstreams leave to the settings.  ``contexts`` are for TLS to servers.
    """

    def __init__(
        self,
        reactor: Any,
        router: Router,
        poller: Poller,
        live: Live,
        make_balancer: Callable[[str], Callable[..., Any]],
        resolver: Names,
        health: ServerHealth,
        timeouts: Timeouts,
        contexts: ServerContexts,
    ) -> None:
        self._contexts = contexts
        self._reactor = reactor
        self._router = router
        self._poller = poller
        self._live = live
        self._make_balancer = make_balancer
        self._resolver = resolver
        self._health = health
        self._defaults = _defaults(timeouts)
        #: The upstreams in service, by name.
        self._known: Mapping[str, Upstream] = {}
        #: The router's dictionary: the selections that were asked for, by upstream.
        self._selections = router.selections
        #: The selections that wait for the first lookup of a server's name, by upstream.
        self._waiting: dict[str, _Waiting] = {}
        #: The connections to servers: by upstream, then by host and port.
        self.pools: dict[str, dict[tuple[str, int], Pool]] = {}
        #: What balancers have raised.
        self.balancer_errors = BalancerErrors(reactor.seconds)
        #: Upstreams whose balancers cannot be made here; the log says so once.
        self._unservable: set[str] = set()
        #: When idle connections may be given up again, in monotonic seconds.
        self._next_room = 0.0

    def take_timeouts(self, timeouts: Timeouts) -> None:
        """Use other timeouts where an upstream sets none itself.

        Selections in use are not made anew, since their balancers would start over.
        """
        self._defaults = defaults = _defaults(timeouts)
        for selection in (
            *self._selections.values(),
            *(waiting.selection for waiting in self._waiting.values()),
        ):
            upstream = selection.upstream
            if upstream.connect_timeout is None:
                selection.connect_timeout = defaults.connect
            if upstream.send_timeout is None:
                selection.send_timeout = defaults.send
            if upstream.read_timeout is None:
                selection.read_timeout = defaults.read

    # Changes.

    def make(self, upstreams: Mapping[str, Upstream], changed: Collection[str]) -> list[Selection]:
        """The new selections that a change needs at once; nothing is in use yet.

        Raises what balancers raise, ConfigError as a rule.
        """
        made = []
        for name in changed:
            upstream = upstreams.get(name)
            if upstream is not None and (
                name in self._selections or name in self._waiting or _has_names(upstream)
            ):
                made.append(self._make(upstream))
        return made

    async def use(
        self, upstreams: Mapping[str, Upstream], changed: Collection[str], made: list[Selection]
    ) -> None:
        """Serve ``upstreams`` from now on; ``made`` is what :meth:`make` made for them.

        Waits for the first lookups of names, at most for :data:`_SOON`.  Then a selection
        of which no server is known yet is used as soon as one is.
        """
        before, self._known = self._known, upstreams
        for name in changed:
            upstream = upstreams.get(name)
            if upstream is not None and (upstream.tls is not None or upstream.server_tls):
                self._contexts.prepare(upstream.all_tls)
        self.balancer_errors.forget(changed)
        self._unservable.difference_update(changed)
        for name in changed:
            self._forget(name, before.get(name), upstreams.get(name))
        waiting = [self._install(selection) for selection in made]
        await self._wait_for_names([one for one in waiting if one is not None])
        # No request is to wait for them.
        await self._contexts.loaded()

    def first_use(self, name: str) -> Selection | None:
        """The selection of an upstream that was not asked for before; ``None`` if there is
        no such upstream, or none that can be served."""
        upstream = self._known.get(name)
        if upstream is None:
            return None
        waiting = self._waiting.get(name)
        if waiting is not None:
            return waiting.selection
        try:
            selection = self._make(upstream)
        except BaseException:
            # Whatever a user's balancer raises; logged once, and not for each request.
            if name not in self._unservable:
                self._unservable.add(name)
                _log.failure("upstream {name} cannot be served", name=name)
            return None
        waiting = self._install(selection)
        if waiting is not None:
            self._is_due(waiting)
        return selection

    def peek(self, name: str) -> Selection | None:
        """The selection that would serve an upstream, without putting one to use.

        ``None`` if there is no such upstream, or none that can be served.
        """
        upstream = self._known.get(name)
        if upstream is None:
            return None
        found = self._selections.get(name)
        if found is not None:
            return found
        waiting = self._waiting.get(name)
        if waiting is not None:
            return waiting.selection
        servers = [(server.host, server.port) for server in upstream.servers]
        try:
            return Selection(
                upstream,
                self._live.borrowed(name, servers),
                self._make_balancer(upstream.mode),
                self._defaults,
                self._router.clock,
                on_error=_ignore,
            )
        except BaseException:  # as in first_use, which logs it
            return None

    def waits(self, name: str) -> bool:
        """Whether the requests to an upstream wait until one of its servers is looked up."""
        return name in self._waiting and name not in self._selections

    def look(self, name: str, servers: Iterable[tuple[str, int]]) -> None:
        """The health of servers of this upstream, by host and port, has changed from
        outside."""
        selection, waiting = self._selections.get(name), self._waiting.get(name)
        for host, port in servers:
            if selection is not None:
                selection.look(host, port)
            if waiting is not None:
                waiting.selection.look(host, port)

    def _health_changed(self, name: str, peer: Peer) -> None:
        """Requests have changed the health of a server: perhaps requests of a selection
        that is not in use any more."""
        self.look(name, [(peer.host, peer.port)])
        self._health.changed(name, peer)

    def _ejected(self, name: str, peer: Peer) -> None:
        """A server was ejected, perhaps by a selection that is not in use any more."""
        self.look(name, [(peer.host, peer.port)])
        self._health.ejected(name, peer)

    def _hinted(self, name: str, peer: Peer) -> None:
        """A server has said something of itself, perhaps to a selection that is not in use
        any more."""
        self.look(name, [(peer.host, peer.port)])
        self._health.hinted(name, peer)

    def close(self) -> None:
        """Close every connection to a server."""
        for name in list(self.pools):
            self._close_pools(name, ())

    def _make(self, upstream: Upstream) -> Selection:
        """The selection of one upstream, not in use yet; raises what its balancer raises."""
        make_balancer = self._make_balancer(upstream.mode)
        return Selection(
            upstream,
            self._live,
            make_balancer,
            self._defaults,
            self._router.clock,
            self._health_changed,
            self.balancer_errors.note,
            self._ejected,
            self._hinted,
            self._poller.take_soon,
            self._health.climbs,
        )

    def _install(self, selection: Selection) -> _Waiting | None:
        """Give the servers of a selection their pools, and use it.

        If names must be looked up first, the selection waits, and that is the answer.  Its
        predecessor serves meanwhile, at most until :meth:`_wait_for_names` is over.
        """
        name, upstream = selection.name, selection.upstream
        pools = self.pools.setdefault(name, {})
        # Several levels may have the same server, and not drain it in all of them.
        up = {(peer.host, peer.port) for peer in selection.peers if peer.config.state == "up"}
        for peer in selection.peers:
            key = (peer.host, peer.port)
            pool = pools.get(key)
            if pool is None:
                pool = pools[key] = Pool(self._poller, peer.host, peer.port, upstream.keepalive)
                if not pool.addresses:
                    lookup = self._resolver.follow(peer.host, pool.set_addresses)
                    pool.pending = not lookup.called
                    lookup.addCallback(self._looked_up, name, key, pool)
            peer.pool = pool
            pool.set_proxy_protocol(upstream.proxy_protocol)
            pool.set_tls(upstream.tls_of(peer.config), self._contexts)
            # Draining: requests under way finish, no connection is kept.
            pool.set_limit(upstream.keepalive if key in up else 0)
        if not any(peer.pool.pending for peer in selection.peers):
            self._use(selection)
            return None
        before = self._waiting.get(name)
        waiting = self._waiting[name] = _Waiting(selection)
        self._router.has_waiting = True
        if before is not None:
            # A later change came first: what waited for the former selection waits for
            # this one.
            waiting.held = before.held
            before.over.callback(None)
        return waiting

    def _use(self, selection: Selection) -> None:
        name = selection.name
        self._selections[name] = selection
        selection.serve()
        self._no_longer_waiting(name)
        self._close_pools(name, {(peer.host, peer.port) for peer in selection.peers})

    def _forget(self, name: str, old: Upstream | None, new: Upstream | None) -> None:
        """Drop what is known of servers that an upstream no longer has."""
        if new is None:
            self._selections.pop(name, None)
            self._no_longer_waiting(name)
            self._close_pools(name, ())
            self.pools.pop(name, None)
            self._live.forget_upstream(name)
        self._health.forget(name, servers_gone(old, new))

    def _close_pools(self, name: str, kept: Collection[tuple[str, int]]) -> None:
        pools = self.pools.get(name, {})
        for key in [key for key in pools if key not in kept]:
            pool = pools.pop(key)
            self._resolver.unfollow(key[0], pool.set_addresses)
            pool.close()

    # Names.

    def hold(
        self,
        selection: SelectionBase,
        downstream: Downstream,
        request: Request,
        channel: ChannelBase | None,
        hooked: HookedRequest | None,
    ) -> bool:
        """See :meth:`slardar.dataplane.router.Router.hold`."""
        waiting = self._waiting.get(selection.name)
        if channel is None or waiting is None or waiting.selection is not selection:
            return False
        step = _Held(self._router, selection.name, downstream, request, channel, hooked)
        waiting.held.append((channel, step))
        return True

    def _looked_up(self, _: Any, name: str, server: tuple[str, int], pool: Pool) -> None:
        """The first lookup of a server's name has ended, or was given up."""
        pool.pending = False
        self.look(name, [server])
        waiting = self._waiting.get(name)
        if waiting is not None:
            self._use_if_known(waiting)

    def _use_if_known(self, waiting: _Waiting) -> None:
        """Use a selection if all its names have been looked up, or if it is due and one
        server is known."""
        pools = [peer.pool for peer in waiting.selection.peers]
        are_known = not any(pool.pending for pool in pools)
        if are_known or (waiting.is_due and any(pool.addresses for pool in pools)):
            self._use(waiting.selection)

    async def _wait_for_names(self, some: list[_Waiting]) -> None:
        """Wait until these selections are in use, at most for :data:`_SOON`; the others are
        due then."""
        if some:
            ready: defer.Deferred[None] = defer.Deferred()

            def look(_: Any = None) -> None:
                if not ready.called and all(one.over.called for one in some):
                    ready.callback(None)

            def too_late() -> None:
                for one in some:
                    self._is_due(one)
                if not ready.called:
                    ready.callback(None)

            timer = self._reactor.callLater(_SOON, too_late)
            for one in some:
                one.over.addCallback(look)
            await ready
            if timer.active():
                timer.cancel()

    def _is_due(self, waiting: _Waiting) -> None:
        waiting.is_due = True
        name = waiting.selection.name
        if self._waiting.get(name) is waiting:
            self._use_if_known(waiting)
            if not waiting.over.called:
                # The change is in service all the same: the former servers are not.
                self._selections.pop(name, None)

    def _no_longer_waiting(self, name: str) -> None:
        """An upstream is in use, or gone: requests that wait for it go on."""
        waiting = self._waiting.pop(name, None)
        self._router.has_waiting = bool(self._waiting)
        if waiting is not None:
            for channel, step in waiting.held:
                channel.take_later(step, name)
            waiting.over.callback(None)

    # Descriptors.

    def make_room(self, if_short: bool = False) -> None:
        """A descriptor was missing: give up idle connections, at most once a second.

        With ``if_short`` only if a server could not be connected to for want of one.
        """
        now = self._router.clock.now
        if now < self._next_room:
            return
        # Also if nothing is short: there may be many pools, and many calls.
        self._next_room = now + _ROOM_PAUSE
        if not if_short or any(
            pool.shortage for pools in self.pools.values() for pool in pools.values()
        ):
            # Not at once: channels may be in the middle of being told of events.
            self._reactor.callLater(0, self._drop_idle)
            self._poller.end_turn()

    def _drop_idle(self) -> None:
        """Close the connections to servers that nobody uses: a connection that cannot be
        made is worth more."""
        for pools in self.pools.values():
            for pool in pools.values():
                pool.drop_idle()
                pool.shortage = ""


def _ignore(*_: Any) -> None:
    """What a balancer raises where nothing is served is nobody's error."""


def _defaults(timeouts: Timeouts) -> Defaults:
    return Defaults(timeouts.connect, timeouts.send, timeouts.read)


def _has_names(upstream: Upstream) -> bool:
    """Whether any of its servers has a name to be looked up."""
    return not all(is_literal(server.host) for level in upstream.levels for server in level.servers)
