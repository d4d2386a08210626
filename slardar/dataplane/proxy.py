"""The data plane: listeners, clients, selections and pools of one process.

It knows the snapshot it serves and nothing of where snapshots come from.  A
change of configuration swaps references: requests under way finish on the
selection they started with, and only the upstreams that changed are touched.

The selection of an upstream is made with its first request.  Measured with 10,000
upstreams of 10 servers: those that nobody asks for cost nothing, where selections
and pools for all of them took 91 MiB and 2.5 s at the start.  Upstreams with names
to look up are the exception: the names are followed from the beginning.
"""

from __future__ import annotations

import math
import os
import socket
import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from twisted.internet import defer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from slardar.config import Hooks, Settings
from slardar.dataplane.balancer_errors import BalancerErrors
from slardar.dataplane.descriptors import clients_at_most, descriptor_limit
from slardar.dataplane.failurelog import HealthLog, RefusalLog
from slardar.dataplane.inherited import adopt_sockets
from slardar.dataplane.listener import Listener
from slardar.dataplane.plain_channel import PlainChannel
from slardar.dataplane.poller import Poller
from slardar.dataplane.pool import Pool, is_literal
from slardar.dataplane.router import Router
from slardar.dataplane.selection import Defaults, Selection
from slardar.dataplane.sockets import Opened, listening_place, open_sockets
from slardar.errors import NotReadyError
from slardar.health import shared
from slardar.health.rules import is_available
from slardar.hooks.checker import Item
from slardar.hooks.checking import Checker, NoCheckError
from slardar.hooks.memory import LOOK, Limits, MemoryWatch, limits_of
from slardar.hooks.report import HookReport, HookTally, ShadowReport
from slardar.hooks.runner import Runner
from slardar.http1.client import ClientConnection
from slardar.http1.interfaces import ChannelBase, HookedRequest, Step
from slardar.http1.request import Request
from slardar.http1.tunnel import Tunnel
from slardar.interfaces import IPlane
from slardar.model.hook import Hook, HookKey
from slardar.model.live import Live, Peer, ServerLive
from slardar.model.server import Upstream
from slardar.model.snapshot import Snapshot
from slardar.resolve import Resolver

__all__ = ["DataPlane"]

#: Bytes of a server's reply head, at most.  HAProxy takes 16 KiB, nginx 4 or 8.
_MAX_REPLY_HEAD = 65536
#: Seconds between two times that idle connections are given up for want of descriptors.
_ROOM_PAUSE = 1.0
#: Seconds that a change waits for the first lookups of its servers' names: more than a
#: server of names in the same network takes, less than anybody notices.
_SOON = 0.15
#: Bytes of memory that a connection takes besides what waits in its buffers, that an
#: upstream takes, and that its selection and pools do: twice what was measured, with 10
#: servers each.  What these are is not counted as hooks'.
_CHANNEL = 8 << 10
_UPSTREAM = 8 << 10
_SELECTION = 16 << 10
#: Bytes of ``limits.retry_buffer`` that a request is likely to use, at most.
_MAX_REPLAY = 256 << 10
#: Seconds between two looks whether a draining plane is empty.
_DRAIN_LOOK = 0.05
#: Seconds that a draining plane leaves open connections without a request: what their
#: clients have just sent may still be on its way, and gets a reply.
_DRAIN_GRACE = 0.25

_log = Logger("slardar.dataplane")


class _Waiting:
    """A selection that waits for the first lookups of its servers' names."""

    def __init__(self, selection: Selection) -> None:
        self.selection = selection
        #: One known server is enough.
        self.is_due = False
        #: Fires when it is in use, or not wanted any more.
        self.over: defer.Deferred[None] = defer.Deferred()
        #: The requests that wait for it, with their channels.
        self.held: list[tuple[ChannelBase, Step]] = []


class _Held(Step):
    """A request that has waited for its upstream begins."""

    def __init__(
        self,
        plane: Router,
        upstream: str,
        downstream: Any,
        request: Request,
        channel: ChannelBase,
        hooked: HookedRequest | None,
    ) -> None:
        self._plane = plane
        self._upstream = upstream
        self._downstream = downstream
        self._request = request
        self._channel = channel
        self._hooked = hooked

    def look(self) -> None:
        """Hooks have seen it."""

    def go_on(self) -> None:
        downstream, request = self._downstream, self._request
        if downstream.waits_for(request):
            exchange = self._plane.begin_named(
                self._upstream, downstream, request, self._channel, self._hooked
            )
            if exchange is not None:
                downstream.begun(exchange)


class HookMemory(NamedTuple):
    """How much the hooks of a worker may hold, who is told, and whether the kernel is to
    see to it (see :class:`slardar.hooks.memory.MemoryWatch`)."""

    limits: Limits
    suspended: Callable[[int, str], None]
    grown: Callable[[], None]
    has_wall: bool = False


@implementer(IPlane)
class DataPlane(Router):
    """Serves requests in this process.

    ``make_balancer(mode)`` gives the factory of a balancer by its name (normally
    ``slardar.plugins.balancer_factory``).  ``on_health(upstream, peer)`` is called when
    requests have put a server out of service or brought it back; it must not block.
    ``hook_memory`` is for a worker.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings,
        live: Live,
        make_balancer: Callable[[str], Callable[..., Any]],
        resolver: Resolver | None = None,
        on_health: Callable[[str, Peer], None] | None = None,
        make_runner: Callable[[Hooks], Runner] | None = None,
        hook_memory: HookMemory | None = None,
    ) -> None:
        self._reactor = reactor
        self._refusals = RefusalLog(reactor.callLater)
        #: Where nobody else is told of servers' health, this process says it.
        self._health_log = HealthLog(reactor.seconds) if on_health is None else None
        self._on_health = self._log_health if on_health is None else on_health
        self._hook_settings = settings.hooks
        self._make_runner = make_runner
        #: What runs hooks, once there have been any; ``hooks`` is it while there are some.
        self._runner: Runner | None = None
        #: Looks at code; ``None`` where hooks run in engines of somebody's own.
        self._checker = Checker(reactor, settings.hooks) if make_runner is None else None
        self._hook_memory = hook_memory
        #: What hooks hold, once there have been any.
        self._memory: MemoryWatch | None = None
        self._memory_looks = LoopingCall(self._look_at_memory)
        self._memory_looks.clock = reactor
        #: Bytes in the buffers of connections, at the last look; and the most that the
        #: engines of hooks have had within limits of their own.
        self._buffered = self._engines_held = 0
        self._began = reactor.seconds()
        self._live = live
        self._make_balancer = make_balancer
        self._poller = Poller(reactor)
        super().__init__(self._poller.clock)
        self._resolver = resolver or Resolver(reactor)
        self.max_reply_head = _MAX_REPLY_HEAD
        self.hook_body = settings.hooks.body
        #: Clients that there are descriptors for; known when the plane starts.
        self._room = sys.maxsize
        #: When idle connections may be given up again, in monotonic seconds.
        self._next_room = 0.0
        self._set_limits(settings)
        self._snapshot = Snapshot.build(0, {}, (), None)
        #: Those that wait for the first lookup of a server's name.
        self._waiting: dict[str, _Waiting] = {}
        self._pools: dict[str, dict[tuple[str, int], Pool]] = {}
        self.balancer_errors = BalancerErrors(reactor.seconds)
        #: Upstreams whose balancers cannot be made here, which the log says once.
        self._unservable: set[str] = set()
        self._listeners: list[Listener] = []
        #: What was opened here, or handed over.
        self.opened: list[Opened] = []
        #: While it is stopping: until when (the reactor's seconds) clients without a
        #: request stay, and until when the others do.
        self._grace_ends = self._drain_ends = 0.0
        self._clients: set[ClientConnection] = set()
        self._tunnels: set[Tunnel] = set()
        self._full = False
        self._accepts = 0

    # Life.

    def start(self) -> None:
        """Join the reactor."""
        self._room = clients_at_most()
        self._set_room()
        self._poller.start()

    def listen(self, endpoint: str, sockets: Sequence[socket.socket] = ()) -> defer.Deferred[str]:
        """Listen on a Twisted server endpoint string; answers where, for a person.

        ``sockets`` are those that another process has handed over for it, if any.  Fails
        with ConfigError for what is no such endpoint, and with the endpoint's own errors
        (``CannotListenError``) if it is taken.
        """
        return defer.maybeDeferred(self._listen, endpoint, sockets)

    def _listen(self, endpoint: str, sockets: Sequence[socket.socket]) -> str:
        opened = adopt_sockets(endpoint, sockets, 1) if sockets else open_sockets(endpoint)
        self.opened.append(opened)
        for sock in opened.sockets:
            self.serve(sock.dup())
        return opened.place

    def own(self) -> None:
        """Whoever handed sockets over uses them no more."""
        for opened in self.opened:
            opened.own()

    def serve(self, sock: socket.socket, exclusive: bool = False) -> str:
        """Accept clients on a socket that listens; answers where, for a person.

        The socket is the plane's from now on.  ``exclusive``: other processes accept
        on it too.
        """
        self._listeners.append(
            Listener(self._poller, sock, self._accepted, exclusive, self._exhausted)
        )
        return listening_place(sock)

    def stop(
        self, within: float | None = None, grace: float = _DRAIN_GRACE
    ) -> defer.Deferred[None]:
        """Take no new connections, finish what is under way, close the rest.

        Waits for requests and tunnels, at most ``within`` seconds (``None``:
        ``timeouts.drain``).  Clients without a request stay for ``grace`` seconds: one
        that they send until then gets its reply, and they are sent away with it.
        """
        within = self._drain_timeout if within is None else within
        now = self._reactor.seconds()
        self._grace_ends, self._drain_ends = now + min(grace, within), now + within
        return defer.ensureDeferred(self._stop())

    def hurry(self, within: float) -> None:
        """While it is stopping: take no more than ``within`` seconds from now."""
        ends = self._reactor.seconds() + within
        self._drain_ends = min(self._drain_ends, ends)
        self._grace_ends = min(self._grace_ends, ends, ends - within + _DRAIN_GRACE)

    async def _stop(self) -> None:
        self.draining = True
        if self._checker is not None:
            self._checker.stop()
        # A unix socket's path goes first; then the sockets, at once behind the last
        # client that they had for us.
        opened, self.opened = self.opened, []
        for one in opened:
            one.close()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.accept_all()
            listener.close()
        while self._clients or self._tunnels or self.exchanges:
            now = self._reactor.seconds()
            if now >= self._grace_ends:
                self._dismiss_idle()
            if now >= self._drain_ends:
                break
            if self._clients or self._tunnels or self.exchanges:
                await _later(self._reactor, _DRAIN_LOOK)
        for connection in list(self._clients):
            connection.close()
        for tunnel in list(self._tunnels):
            tunnel.close()
        for name in list(self._pools):
            self._close_pools(name, ())
        # What is left has something to say still, and nobody who waits for it here.
        while len(self._poller) and self._reactor.seconds() < self._drain_ends:
            await _later(self._reactor, _DRAIN_LOOK)
        self._resolver.stop()
        self._poller.stop()
        self._refusals.flush()
        if self._memory_looks.running:
            self._memory_looks.stop()

    def _dismiss_idle(self) -> None:
        """Let go of the clients that have nothing under way and nothing on its way."""
        for connection in list(self._clients):
            if connection.is_idle and connection.channel.is_quiet():
                connection.ended(connection.channel)

    # IPlane.

    def take_settings(self, settings: Settings) -> defer.Deferred[None]:
        """Use other ``timeouts`` and ``limits``; see :class:`slardar.interfaces.IPlane`.

        Clients that are connected keep what they are waiting for now, and get the new
        values with the next thing they do.  Beyond a lowered ``limits.connections``
        nobody is sent away, and nobody is accepted until enough have left.
        """
        self._set_limits(settings)
        for selection in (*self.selections.values(), *self._waiting_selections()):
            _set_timeouts(selection, self._defaults)
        self._look_whether_full()
        return defer.succeed(None)

    def _set_limits(self, settings: Settings) -> None:
        """The settings as numbers that the request path reads with one look."""
        limits, timeouts = settings.limits, settings.timeouts
        self.max_head = limits.head
        self.max_url = limits.url
        self.max_headers = limits.headers
        self.max_body = limits.body or sys.maxsize
        self.retry_buffer = limits.retry_buffer
        self.max_linger = limits.linger
        self._wanted_connections = limits.connections
        self._set_room()
        self.client_header_timeout = float(timeouts.client_header)
        self.client_body_timeout = float(timeouts.client_body)
        self.keepalive_timeout = float(timeouts.keepalive)
        self.send_timeout = float(timeouts.send)
        self.linger_timeout = float(timeouts.linger)
        self._drain_timeout = float(timeouts.drain)
        self._defaults = Defaults(timeouts.connect, timeouts.send, timeouts.read)

    def apply(self, snapshot: Snapshot, changed: Collection[str]) -> defer.Deferred[Any]:
        """Serve ``snapshot`` from now on; see :class:`slardar.interfaces.IPlane`.

        Names of servers are looked up before it answers, at most for :data:`_SOON`, so
        that the next request finds them.  What takes longer goes on behind: the servers
        that are known serve, and where none is known requests wait for the first one, at
        most for the resolver's timeout.
        """
        return defer.ensureDeferred(self._apply(snapshot, changed))

    async def _apply(self, snapshot: Snapshot, changed: Collection[str]) -> dict[str, Any]:
        # All of it is made before any of it is used: a change that is refused (by its
        # balancer) leaves nothing behind.
        new, old = snapshot.upstreams, self._snapshot.upstreams
        made = []
        for name in changed:
            upstream = new.get(name)
            if upstream is not None and (
                name in self.selections or name in self._waiting or _has_names(upstream)
            ):
                made.append(self._make(upstream))
        before, self._snapshot = self._snapshot, snapshot
        self.balancer_errors.forget(changed)
        self._unservable.difference_update(changed)
        self.has_routes = not snapshot.host_is_name
        if snapshot.hooks is not before.hooks:
            self._take_hooks(snapshot.hooks)
        for name in changed:
            self._forget(name, old.get(name), new.get(name))
        waiting = [self._install(selection) for selection in made]
        await self._wait_for_names([one for one in waiting if one is not None])
        return {"workers": {"worker-0": snapshot.version}}

    def peers(self, upstream: str) -> Mapping[str, ServerLive]:
        """``{"host:port": ServerLive}`` of one upstream."""
        found = self._snapshot.upstreams.get(upstream)
        if found is None:
            return {}
        live = self._live
        return {
            server.key: live.server(upstream, server.host, server.port) for server in found.servers
        }

    def statistics(self) -> Mapping[str, Any]:
        """Counters of this process, for status."""
        return {
            "accepted": self._accepts,
            "requests": self.requests,
            "refused": self.refusals,
            "connections": len(self._clients) + len(self._tunnels),
            "active": self.exchanges,
            "tunnels": len(self._tunnels),
            "version": self._snapshot.version,
            "balancer_errors": {
                name: about.shown() for name, about in self.balancer_errors.last.items()
            },
            "config_timer": {"worker-0": "alive"},
            "workers": {
                "worker-0": {
                    "pid": os.getpid(),
                    "version": self._snapshot.version,
                    "connections": len(self._clients) + len(self._tunnels),
                    "requests": self.requests,
                    "age": round(self._reactor.seconds() - self._began, 1),
                    "restarts": 0,
                }
            },
        }

    def set_health(
        self, upstream: str, host: str, port: int, down_for: float, message: str
    ) -> None:
        """What another process has learnt of a server from its requests: it is out of
        service for ``down_for`` more seconds, or back in service (0).

        Without effect for a server that is not known (any more).
        """
        found = self._snapshot.upstreams.get(upstream)
        if found is None:
            return
        live, now = self._live, self.clock.now
        others, known = False, None
        for server in found.servers:
            if (server.host, server.port) == (host, port):
                known = server if known is None else shared.stricter(known, server)
            elif not others:
                others = is_available(live.server(upstream, server.host, server.port), server, now)
        if known is None:
            return
        about = live.server(upstream, host, port)
        if down_for > 0:
            changed = shared.note_out(about, known, now, down_for, others, message)
            if self._health_log is not None:
                self._health_log.know(upstream, host, port)
        else:
            changed = shared.note_back(about)
        if changed:
            for selection in (self.selections.get(upstream), *self._waiting_selections(upstream)):
                if selection is not None:
                    selection.refresh()

    def known_health(self) -> Iterator[tuple[str, str, int, float, str]]:
        """The servers that requests have put out of service: the upstream's name, host
        and port, for how many more seconds, and why; as :meth:`set_health` takes it."""
        now = self.clock.now
        for (upstream, host, port), live in self._live.servers.items():
            if now < live.down_until < math.inf:
                yield upstream, host, port, live.down_until - now, live.msg

    def _make(self, upstream: Upstream) -> Selection:
        """The selection of one upstream, not in use yet; may raise ConfigError."""
        make_balancer = self._make_balancer(upstream.mode)
        return Selection(
            upstream,
            self._live,
            make_balancer,
            self._defaults,
            self.clock,
            self._on_health,
            self.balancer_errors.note,
        )

    def _install(self, selection: Selection) -> _Waiting | None:
        """Give the servers of a selection their pools, and use it.

        One that waits for names to be looked up, which is answered, leaves its
        predecessor in service as long, and at most until :meth:`_wait_for_names` is over.
        """
        name, upstream = selection.name, selection.upstream
        pools = self._pools.setdefault(name, {})
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
                    lookup.addCallback(self._looked_up, name, pool)
            peer.pool = pool
            # Draining: requests under way finish, no connection is kept.
            pool.set_limit(upstream.keepalive if key in up else 0)
        if not any(peer.pool.pending for peer in selection.peers):
            self._use(selection)
            return None
        before = self._waiting.get(name)
        waiting = self._waiting[name] = _Waiting(selection)
        self.has_waiting = True
        if before is not None:
            # Overtaken: who waited for it waits for this one.
            waiting.held = before.held
            before.over.callback(None)
        return waiting

    def _looked_up(self, _: Any, name: str, pool: Pool) -> None:
        """The first lookup of a server's name has ended, or was given up."""
        pool.pending = False
        waiting, selection = self._waiting.get(name), self.selections.get(name)
        if waiting is not None:
            self._use_if_known(waiting)
        elif selection is not None:
            selection.refresh()

    def _use_if_known(self, waiting: _Waiting) -> None:
        """Use a selection whose names are looked up; once a change has waited for them as
        long as it does, one known server is enough."""
        pools = [peer.pool for peer in waiting.selection.peers]
        are_known = not any(pool.pending for pool in pools)
        if are_known or (waiting.is_due and any(pool.addresses for pool in pools)):
            self._use(waiting.selection)

    async def _wait_for_names(self, some: list[_Waiting]) -> None:
        """Wait until these are in use, for a moment at most; what is not by then is used
        as soon as one of its servers is known."""
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
                self.selections.pop(name, None)

    def _waiting_selections(self, name: str = "") -> list[Selection]:
        """Those that wait, or the one of this upstream if it does."""
        some = self._waiting.values() if not name else [self._waiting.get(name)]
        return [waiting.selection for waiting in some if waiting is not None]

    def _no_longer_waiting(self, name: str) -> None:
        """An upstream is in use, or gone: so who waits for it waits no more."""
        waiting = self._waiting.pop(name, None)
        self.has_waiting = bool(self._waiting)
        if waiting is not None:
            for channel, step in waiting.held:
                channel.take_later(step, name)
            waiting.over.callback(None)

    def hold(
        self,
        selection: Selection,
        downstream: Any,
        request: Request,
        channel: ChannelBase | None,
        hooked: HookedRequest | None,
    ) -> bool:
        """See :meth:`slardar.dataplane.router.Router.hold`."""
        waiting = self._waiting.get(selection.name)
        if channel is None or waiting is None or waiting.selection is not selection:
            return False
        step = _Held(self, selection.name, downstream, request, channel, hooked)
        waiting.held.append((channel, step))
        return True

    def _use(self, selection: Selection) -> None:
        name = selection.name
        self.selections[name] = selection
        self._no_longer_waiting(name)
        self._close_pools(name, {(peer.host, peer.port) for peer in selection.peers})

    def first_use(self, name: str) -> Selection | None:
        """The selection of an upstream that was not asked for before."""
        upstream = self._snapshot.upstreams.get(name)
        if upstream is None:
            return None
        waiting = self._waiting.get(name)
        if waiting is not None:
            return waiting.selection
        try:
            selection = self._make(upstream)
        except BaseException:
            # Whatever a balancer of a user's raises; said once, and not for each request.
            if name not in self._unservable:
                self._unservable.add(name)
                _log.failure("upstream {name} cannot be served", name=name)
            return None
        waiting = self._install(selection)
        if waiting is not None:
            self._is_due(waiting)
        return selection

    def _forget(self, name: str, old: Upstream | None, new: Upstream | None) -> None:
        """Drop what is known of servers that an upstream no longer has."""
        if new is None:
            self.selections.pop(name, None)
            self._no_longer_waiting(name)
            self._close_pools(name, ())
            self._pools.pop(name, None)
        if old is not None:
            gone = {(server.host, server.port) for server in old.servers}
            if new is not None:
                gone -= {(server.host, server.port) for server in new.servers}
            self._live.forget(name, gone)
            if self._health_log is not None:
                self._health_log.forget(name, gone)

    def _close_pools(self, name: str, kept: Collection[tuple[str, int]]) -> None:
        pools = self._pools.get(name, {})
        for key in [key for key in pools if key not in kept]:
            pool = pools.pop(key)
            self._resolver.unfollow(key[0], pool.set_addresses)
            pool.close()

    # Hooks.

    def runner(self) -> Runner:
        """What runs hooks, made when it is first needed.  Raises ConfigError if this
        process cannot run any."""
        if self._runner is None:
            if self._make_runner is not None:
                self._runner = self._make_runner(self._hook_settings)
            else:
                self._runner = Runner(self._hook_settings, self._reactor.seconds)
            self._runner.route = self._route_name
        return self._runner

    def _route_name(self, host: str, path: str) -> str | None:
        """The name of the upstream that routes and Host lead to."""
        return self._snapshot.route(host, path)

    def _take_hooks(self, hooks: Mapping[HookKey, Hook]) -> None:
        """Run these from now on."""
        if self._runner is None and not hooks:
            return
        runner = self.runner()
        if self._memory is None:
            try:
                self._watch_memory(runner)
            except OSError as error:
                _log.warn("what hooks hold is not limited: {error}", error=error)
        self.hooks = runner if runner.load(hooks) else None

    def _watch_memory(self, runner: Runner) -> None:
        """What the process has now is no hook's; from now on it is looked at."""
        known = self._hook_memory
        self._sum_buffers()
        if known is None:
            # Somebody else's process, or one that cannot be done without.
            memory = MemoryWatch(limits_of(1), self._expected_memory, runner.suspend)
        else:
            memory = MemoryWatch(
                known.limits,
                self._expected_memory,
                runner.suspend,
                known.suspended,
                known.grown,
                known.has_wall,
            )
        self._memory = memory
        runner.watch(memory)
        self._poller.out_of_memory = memory.ran_out
        self._memory_looks.start(LOOK)

    def _look_at_memory(self) -> None:
        assert self._memory is not None
        try:
            self._sum_buffers()
            self._memory.look()
        except MemoryError:
            self._memory.ran_out()

    def _sum_buffers(self) -> None:
        held = self._poller.buffered()
        for connection in self._clients:
            held += connection.held
        self._buffered = held

    def _expected_memory(self) -> int:
        """Bytes that connections, requests and the configuration account for, and those
        that Lua has a limit of its own for."""
        if self._runner is not None:
            # What an engine lets go, it keeps for the next script.
            self._engines_held = max(self._engines_held, self._runner.held)
        return (
            self._engines_held
            + self._buffered
            + len(self._poller) * _CHANNEL
            + self.exchanges * min(self.retry_buffer, _MAX_REPLAY)
            + self.bodies.held
            + len(self._snapshot.upstreams) * _UPSTREAM
            + len(self.selections) * _SELECTION
        )

    def check_hook(
        self, language: str, name: str, code: str, modules: Mapping[str, str] | None
    ) -> defer.Deferred[tuple[str, ...]]:
        """Whether code is fit to be a hook; see :class:`slardar.interfaces.IPlane`."""
        if self._checker is None:
            return defer.maybeDeferred(self._check_here, language, name, code, modules)
        known = None if modules is None else dict(modules)
        return defer.ensureDeferred(self._check_hook(Item(language, name, code, known)))

    async def _check_hook(self, item: Item) -> tuple[str, ...]:
        assert self._checker is not None
        # What runs no hooks here would not run this one.
        self.runner().engine(item.language)
        try:
            return await self._checker.check_one(item)
        except NoCheckError as error:
            if self.draining or self._checker.has_answered:
                raise NotReadyError(str(error)) from None
            # No process can be started here: the way it is done in a program that has
            # no other.
            _log.warn("code is looked at by the process that serves: {error}", error=error)
        return self._check_here(item.language, item.name, item.code, item.modules)

    def _check_here(
        self, language: str, name: str, code: str, modules: Mapping[str, str] | None
    ) -> tuple[str, ...]:
        return self.runner().check(language, name, code, modules)

    def check_stored(self, hooks: Mapping[HookKey, Hook]) -> defer.Deferred[None]:
        """Leave out those that cannot be loaded; see :class:`slardar.interfaces.IPlane`."""
        return defer.ensureDeferred(self._check_stored(hooks))

    async def _check_stored(self, hooks: Mapping[HookKey, Hook]) -> None:
        if self._checker is None:
            return
        try:
            self.refuse_hooks(await self._checker.find_dangerous(hooks))
        except NoCheckError as error:
            _log.warn("the hooks of the store are loaded unseen: {error}", error=error)

    def suspend_hook(self, mark: int, reason: str = "") -> None:
        """Do not run this version of a hook any more, nor load it if it is not yet."""
        self.runner().suspend(mark, reason)
        if reason and self._memory is not None:
            self._memory.collect()

    def refuse_hooks(self, reasons: Mapping[int, str]) -> None:
        """Do not load the versions that have these marks, for these reasons."""
        if reasons:
            self.runner().refuse(reasons)

    def hook_reports(self) -> Iterator[HookReport | ShadowReport]:
        """The counters of every script there is."""
        return iter(()) if self._runner is None else self._runner.reports()

    def hook_tally(self) -> HookTally:
        """The counters of the hooks; see :class:`slardar.interfaces.IPlane`."""
        tally = HookTally()
        tally.take(0, self.hook_reports())
        return tally

    # For clients and other downstreams.

    def route(self, request: Request) -> Selection | None:
        """The selection of a request that its Host alone does not tell."""
        name = self._snapshot.route(request.host, request.path)
        return None if name is None else self.selections.get(name) or self.first_use(name)

    def missing(self, request: Request) -> str:
        """See :meth:`slardar.dataplane.router.Router.missing`."""
        name = self._snapshot.route(request.host, request.path)
        if name is None:
            return super().missing(request)
        if name in self._snapshot.upstreams:
            return f"upstream {name!r} cannot be served: the log says why"
        return f"no upstream {name!r}, to which a route or default_upstream leads"

    def tunnel(self, tunnel: Tunnel) -> None:
        """A connection became a tunnel."""
        self._tunnels.add(tunnel)

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        """A tunnel is closed."""
        self._tunnels.discard(tunnel)
        if self._full:
            self._look_whether_full()

    def closed(self, connection: ClientConnection) -> None:
        """A connection has ended."""
        self._clients.discard(connection)
        if self._full:
            self._look_whether_full()

    # Clients.

    def _accepted(self, sock: socket.socket, address: bytes) -> None:
        connection = ClientConnection(self, address)
        connection.attach(PlainChannel(self._poller, sock, connection))
        self._clients.add(connection)
        self._accepts += 1
        if len(self._clients) + len(self._tunnels) >= self._max_connections:
            self._look_whether_full()

    def _look_whether_full(self) -> None:
        """Accept nobody while ``limits.connections`` is reached."""
        self._full = len(self._clients) + len(self._tunnels) >= self._max_connections
        for listener in self._listeners:
            if self._full:
                listener.pause()
            else:
                listener.resume()

    # Failures.

    def note_refusal(self, status: int, reason: str, upstream: str, server: str) -> None:
        """A request got 502, 503 or 504."""
        self._refusals.note(status, reason, upstream, server)

    def _log_health(self, upstream: str, peer: Peer) -> None:
        """Requests put a server out of service, or brought it back."""
        if self._health_log is not None:
            down_for = max(0.0, peer.live.down_until - self.clock.now)
            self._health_log.took(upstream, peer.host, peer.port, down_for, peer.live.msg)

    # Descriptors.

    def _set_room(self) -> None:
        """Accept as many clients as the settings allow, and as can be served."""
        self._max_connections = min(self._wanted_connections, self._room)
        if self._room < self._wanted_connections:
            _log.warn(
                "limits.connections: {room} clients at most instead of {wanted}, "
                "for {limit} files may be open",
                room=self._room,
                wanted=self._wanted_connections,
                limit=descriptor_limit(),
            )

    def refused(self, status: int) -> None:
        """A request was answered by us; it may be for want of a descriptor."""
        super().refused(status)
        if status == 503 and self.clock.now >= self._next_room:
            # Looked for once a second, for there may be many pools and many refusals.
            self._next_room = self.clock.now + _ROOM_PAUSE
            if any(pool.shortage for pools in self._pools.values() for pool in pools.values()):
                self._reactor.callLater(0, self._drop_idle)
                self._poller.end_turn()

    def _exhausted(self) -> None:
        """No client can be accepted for want of a descriptor."""
        if self.clock.now >= self._next_room:
            self._next_room = self.clock.now + _ROOM_PAUSE
            self._reactor.callLater(0, self._drop_idle)
            self._poller.end_turn()

    def _drop_idle(self) -> None:
        """Close the connections to servers that nobody uses: they are worth less than
        those that cannot be made.  Not to be called while channels are told of events."""
        for pools in self._pools.values():
            for pool in pools.values():
                pool.drop_idle()
                pool.shortage = ""


def _set_timeouts(selection: Selection, defaults: Defaults) -> None:
    """Give a selection in use other defaults; what its upstream says itself stays.

    It is not made anew, for its balancers would begin from the beginning.
    """
    upstream = selection.upstream
    if upstream.connect_timeout is None:
        selection.connect_timeout = defaults.connect
    if upstream.send_timeout is None:
        selection.send_timeout = defaults.send
    if upstream.read_timeout is None:
        selection.read_timeout = defaults.read


def _has_names(upstream: Upstream) -> bool:
    """Whether any server of it has a name to be looked up."""
    return not all(is_literal(server.host) for level in upstream.levels for server in level.servers)


def _later(reactor: Any, seconds: float) -> defer.Deferred[None]:
    waiting: defer.Deferred[None] = defer.Deferred()
    reactor.callLater(seconds, waiting.callback, None)
    return waiting
