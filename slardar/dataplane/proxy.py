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
from typing import Any

from twisted.internet import defer
from twisted.logger import Logger
from zope.interface import implementer

from slardar.config import Hooks, Settings
from slardar.dataplane.channel import Channel
from slardar.dataplane.descriptors import clients_at_most, descriptor_limit
from slardar.dataplane.entry import Entry
from slardar.dataplane.inherited import adopt_sockets
from slardar.dataplane.listener import Listener
from slardar.dataplane.poller import Poller
from slardar.dataplane.pool import Pool, is_literal
from slardar.dataplane.selection import Defaults, Selection
from slardar.dataplane.sockets import Opened, listening_place, open_sockets
from slardar.health import shared
from slardar.health.rules import is_available
from slardar.hooks.report import HookReport, HookTally, ShadowReport
from slardar.hooks.runner import Runner
from slardar.http1.conversation import Conversation
from slardar.http1.parser import Request
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
#: Seconds between two looks whether a draining plane is empty.
_DRAIN_LOOK = 0.05
#: Seconds that a draining plane leaves open connections without a request: what their
#: clients have just sent may still be on its way, and gets a reply.
_DRAIN_GRACE = 0.25

_log = Logger("slardar.dataplane")


@implementer(IPlane)
class DataPlane(Entry):
    """Serves requests in this process.

    ``make_balancer(mode)`` gives the factory of a balancer by its name (normally
    ``slardar.plugins.balancer_factory``).  ``on_health(upstream, peer)`` is called when
    requests have put a server out of service or brought it back; it must not block.
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
    ) -> None:
        self._reactor = reactor
        self._on_health = on_health
        self._hook_settings = settings.hooks
        self._make_runner = make_runner
        #: What runs hooks, once there have been any; ``hooks`` is it while there are some.
        self._runner: Runner | None = None
        self._began = reactor.seconds()
        self._live = live
        self._make_balancer = make_balancer
        self._poller = Poller(reactor)
        super().__init__(self._poller.clock)
        self._resolver = resolver or Resolver(reactor)
        self.max_reply_head = _MAX_REPLY_HEAD
        #: Clients that there are descriptors for; known when the plane starts.
        self._room = sys.maxsize
        #: When idle connections may be given up again, in monotonic seconds.
        self._next_room = 0.0
        self._set_limits(settings)
        self._snapshot = Snapshot.build(0, {}, (), None)
        #: Those that wait for the first lookup of a server's name.
        self._waiting: dict[str, Selection] = {}
        self._pools: dict[str, dict[tuple[str, int], Pool]] = {}
        self._listeners: list[Listener] = []
        #: What was opened here, or handed over.
        self.opened: list[Opened] = []
        #: While it is stopping: until when (the reactor's seconds) clients without a
        #: request stay, and until when the others do.
        self._grace_ends = self._drain_ends = 0.0
        self._conversations: set[Conversation] = set()
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
        # A unix socket's path goes first; then the sockets, at once behind the last
        # client that they had for us.
        opened, self.opened = self.opened, []
        for one in opened:
            one.close()
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.accept_all()
            listener.close()
        while self._conversations or self._tunnels or self.exchanges:
            now = self._reactor.seconds()
            if now >= self._grace_ends:
                self._dismiss_idle()
            if now >= self._drain_ends:
                break
            if self._conversations or self._tunnels or self.exchanges:
                await _later(self._reactor, _DRAIN_LOOK)
        for conversation in list(self._conversations):
            conversation.close()
        for tunnel in list(self._tunnels):
            tunnel.close()
        for name in list(self._pools):
            self._close_pools(name, ())
        # What is left has something to say still, and nobody who waits for it here.
        while len(self._poller) and self._reactor.seconds() < self._drain_ends:
            await _later(self._reactor, _DRAIN_LOOK)
        self._resolver.stop()
        self._poller.stop()

    def _dismiss_idle(self) -> None:
        """Let go of the clients that have nothing under way and nothing on its way."""
        for conversation in list(self._conversations):
            if conversation.is_idle and conversation.channel.is_quiet():
                conversation.ended(conversation.channel)

    # IPlane.

    def take_settings(self, settings: Settings) -> defer.Deferred[None]:
        """Use other ``timeouts`` and ``limits``; see :class:`slardar.interfaces.IPlane`.

        Clients that are connected keep what they are waiting for now, and get the new
        values with the next thing they do.  Beyond a lowered ``limits.connections``
        nobody is sent away, and nobody is accepted until enough have left.
        """
        self._set_limits(settings)
        for selections in (self.selections, self._waiting):
            for selection in selections.values():
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
        self._wanted_connections = limits.connections
        self._set_room()
        self.client_header_timeout = float(timeouts.client_header)
        self.client_body_timeout = float(timeouts.client_body)
        self.keepalive_timeout = float(timeouts.keepalive)
        self.send_timeout = float(timeouts.send)
        self._drain_timeout = float(timeouts.drain)
        self._defaults = Defaults(timeouts.connect, timeouts.send, timeouts.read)

    def apply(self, snapshot: Snapshot, changed: Collection[str]) -> defer.Deferred[Any]:
        """Serve ``snapshot`` from now on; see :class:`slardar.interfaces.IPlane`.

        Names of servers are looked up before it answers (at most for the resolver's
        timeout), so that the next request finds them.
        """
        return defer.ensureDeferred(self._apply(snapshot, changed))

    async def _apply(self, snapshot: Snapshot, changed: Collection[str]) -> dict[str, Any]:
        # All of it is made before any of it is used: a change that is refused (by its
        # balancer) leaves nothing behind.
        new, old = snapshot.upstreams, self._snapshot.upstreams
        made = []
        for name in changed:
            upstream = new.get(name)
            if upstream is not None and (name in self.selections or _has_names(upstream)):
                made.append(self._make(upstream))
        before, self._snapshot = self._snapshot, snapshot
        self.has_routes = bool(snapshot.routes)
        if snapshot.hooks is not before.hooks:
            self._take_hooks(snapshot.hooks)
        for name in changed:
            self._forget(name, old.get(name), new.get(name))
        await defer.gatherResults([self._install(selection) for selection in made])
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
            "connections": len(self._conversations) + len(self._tunnels),
            "active": self.exchanges,
            "tunnels": len(self._tunnels),
            "version": self._snapshot.version,
            "config_timer": {"worker-0": "alive"},
            "workers": {
                "worker-0": {
                    "pid": os.getpid(),
                    "version": self._snapshot.version,
                    "connections": len(self._conversations) + len(self._tunnels),
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
                known = server
            elif not others:
                others = is_available(live.server(upstream, server.host, server.port), server, now)
        if known is None:
            return
        about = live.server(upstream, host, port)
        if down_for > 0:
            changed = shared.note_out(about, known, now, down_for, others, message)
        else:
            changed = shared.note_back(about)
        if changed:
            for selections in (self.selections, self._waiting):
                if upstream in selections:
                    selections[upstream].refresh()

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
            upstream, self._live, make_balancer, self._defaults, self.clock, self._on_health
        )

    def _install(self, selection: Selection) -> defer.Deferred[None]:
        """Give the servers of a selection their pools, and use it.

        One that waits for names to be looked up leaves its predecessor in service as
        long, so that no request meets a server without an address.
        """
        name, upstream = selection.name, selection.upstream
        pools = self._pools.setdefault(name, {})
        lookups = []
        for peer in selection.peers:
            key = (peer.host, peer.port)
            pool = pools.get(key)
            if pool is None:
                pool = pools[key] = Pool(self._poller, peer.host, peer.port, upstream.keepalive)
                if not pool.addresses:
                    lookups.append(self._resolver.follow(peer.host, pool.set_addresses))
            peer.pool = pool
            # Draining: requests under way finish, no connection is kept.
            pool.set_limit(upstream.keepalive if peer.config.state == "up" else 0)
        lookups = [lookup for lookup in lookups if not lookup.called]
        if not lookups:
            self._use(selection)
            return defer.succeed(None)
        self._waiting[name] = selection

        def looked_up(_: Any) -> None:
            # Unless a later change has overtaken this one.
            if self._waiting.get(name) is selection:
                self._use(selection)

        return defer.gatherResults(lookups).addCallback(looked_up)

    def _use(self, selection: Selection) -> None:
        name = selection.name
        self._waiting.pop(name, None)
        self.selections[name] = selection
        self._close_pools(name, {(peer.host, peer.port) for peer in selection.peers})

    def first_use(self, name: str) -> Selection | None:
        """The selection of an upstream that was not asked for before."""
        upstream = self._snapshot.upstreams.get(name)
        if upstream is None:
            return None
        selection = self._waiting.get(name)
        if selection is None:
            try:
                selection = self._make(upstream)
            except Exception:
                _log.failure("upstream {name} cannot be served", name=name)
                return None
            self._install(selection)
        return selection

    def _forget(self, name: str, old: Upstream | None, new: Upstream | None) -> None:
        """Drop what is known of servers that an upstream no longer has."""
        if new is None:
            self.selections.pop(name, None)
            self._waiting.pop(name, None)
            self._close_pools(name, ())
            self._pools.pop(name, None)
        if old is not None:
            gone = {(server.host, server.port) for server in old.servers}
            if new is not None:
                gone -= {(server.host, server.port) for server in new.servers}
            self._live.forget(name, gone)

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
        return self._runner

    def _take_hooks(self, hooks: Mapping[HookKey, Hook]) -> None:
        """Run these from now on."""
        if self._runner is None and not hooks:
            return
        runner = self.runner()
        self.hooks = runner if runner.load(hooks) else None

    def check_hook(
        self, language: str, name: str, code: str, modules: Mapping[str, str] | None
    ) -> defer.Deferred[tuple[str, ...]]:
        """Whether code is fit to be a hook; see :class:`slardar.interfaces.IPlane`."""
        return defer.maybeDeferred(lambda: self.runner().check(language, name, code, modules))

    def suspend_hook(self, mark: int) -> None:
        """Do not run this version of a hook any more, nor load it if it is not yet."""
        self.runner().suspend(mark)

    def hook_reports(self) -> Iterator[HookReport | ShadowReport]:
        """The counters of every script there is."""
        return iter(()) if self._runner is None else self._runner.reports()

    def hook_tally(self) -> HookTally:
        """The counters of the hooks; see :class:`slardar.interfaces.IPlane`."""
        tally = HookTally()
        tally.take(0, self.hook_reports())
        return tally

    # For conversations and other downstreams.

    def route(self, request: Request) -> Selection | None:
        """The selection of a request that its Host alone does not tell."""
        name = self._snapshot.route(request.host, request.path)
        return None if name is None else self.selections.get(name) or self.first_use(name)

    def tunnel(self, tunnel: Tunnel) -> None:
        """A conversation became a tunnel."""
        self._tunnels.add(tunnel)

    def tunnel_closed(self, tunnel: Tunnel) -> None:
        """A tunnel is closed."""
        self._tunnels.discard(tunnel)
        if self._full:
            self._look_whether_full()

    def closed(self, conversation: Conversation) -> None:
        """A conversation has ended."""
        self._conversations.discard(conversation)
        if self._full:
            self._look_whether_full()

    # Clients.

    def _accepted(self, sock: socket.socket, address: bytes) -> None:
        conversation = Conversation(self, address)
        conversation.attach(Channel(self._poller, sock, conversation))
        self._conversations.add(conversation)
        self._accepts += 1
        if len(self._conversations) + len(self._tunnels) >= self._max_connections:
            self._look_whether_full()

    def _look_whether_full(self) -> None:
        """Accept nobody while ``limits.connections`` is reached."""
        self._full = len(self._conversations) + len(self._tunnels) >= self._max_connections
        for listener in self._listeners:
            if self._full:
                listener.pause()
            else:
                listener.resume()

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
