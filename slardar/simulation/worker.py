"""A simulated worker: the data plane of one upstream, and what it knows of the servers' health."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from slardar.config import Timeouts
from slardar.dataplane.selection import Defaults, Selection
from slardar.dataplane.server_health import ServerHealth
from slardar.health.shared import Place
from slardar.health.verdicts import Ejection, Extra, Heartbeat, Hint, Verdict
from slardar.http1.interfaces import PlaneBase, Reminder, Step
from slardar.model.live import Live, Peer
from slardar.model.server import Upstream
from slardar.plugins import balancer_factory
from slardar.simulation.engine import Engine
from slardar.simulation.servers import SimulatedPool, SimulatedServer
from slardar.workers.messages import Verdicts
from slardar.workers.news import HealthNews

__all__ = ["Note", "Worker"]

#: Writes down what has changed for a server: its key, the change, and why.
Note = Callable[[str, str, str], None]


class Worker(PlaneBase):
    """One of ``count`` workers.

    ``tell(worker, news)`` is called with what the worker has learnt.
    ``balancer_failed(description)`` is called when the balancer has raised an exception.
    """

    def __init__(
        self,
        engine: Engine,
        upstream: Upstream,
        count: int,
        servers: Mapping[str, SimulatedServer],
        note: Note,
        balancer_failed: Callable[[str], None],
        tell: Callable[[Worker, Verdicts], None],
    ) -> None:
        super().__init__(engine.clock)
        self._engine = engine
        self._upstream = upstream
        self._note = note
        self._count_error = balancer_failed
        self._news = HealthNews(engine, partial(tell, self))
        self._news.start(engine.clock)
        live = Live()
        live.processes = count
        self._health = ServerHealth(
            live, engine.clock, engine.seconds, self._health_changed, self._extra_changed
        )
        timeouts = Timeouts()
        self.selection = Selection(
            upstream,
            live,
            balancer_factory(upstream.mode),
            Defaults(timeouts.connect, timeouts.send, timeouts.read),
            engine.clock,
            self._health.changed,
            self._balancer_failed,
            self._health.ejected,
            self._health.hinted,
            soon=self._take_soon,
        )
        pools = {
            key: SimulatedPool(engine, server, upstream.keepalive)
            for key, server in servers.items()
        }
        for peer in self.selection.peers:
            peer.pool = pools[peer.key]
        self.selection.serve()

    # From the director.

    def learn(self, verdicts: Iterable[Verdict]) -> None:
        """Take what requests have shown other workers."""
        self._look(self._health.learn(self._upstream, verdicts))

    def check(self, verdicts: Iterable[Heartbeat]) -> None:
        """Take what heartbeats say."""
        self._look(self._health.check(self._upstream, verdicts))

    def learn_extras(self, extras: Iterable[Extra]) -> None:
        """Take the ejections and hints that other workers know."""
        self._look(self._health.learn_extras(self._upstream, extras))

    def _look(self, places: Iterable[Place]) -> None:
        for host, port in places:
            self.selection.look(host, port)

    # From the classes that serve.

    def remind(self, reminder: Reminder, seconds: float) -> None:
        """See the base."""
        self._engine.after(seconds, reminder.due)

    def _take_soon(self, step: Step) -> None:
        self._engine.after(0.0, step.go_on)

    def _health_changed(self, upstream: str, peer: Peer) -> None:
        is_out = peer.live.down_until > self.clock.now
        self._note(peer.key, "out" if is_out else "in", peer.live.msg)
        self._news.health_changed(upstream, peer)

    def _extra_changed(self, extra: Extra) -> None:
        key = next(
            peer.key
            for peer in self.selection.peers
            if (peer.host, peer.port) == (extra.host, extra.port)
        )
        if isinstance(extra, Ejection):
            self._note(key, "ejected", extra.message)
        elif isinstance(extra, Hint):
            said = ["full"] if extra.full_for else []
            said += ["drain"] if extra.drains else []
            said += [] if extra.weight is None else [f"weight={extra.weight:g}"]
            self._note(key, "hint", ", ".join(said) or "up")
        self._news.extra_changed(extra)

    def _balancer_failed(
        self, _upstream: str, _balancer: Any, method: str, error: BaseException
    ) -> None:
        self._count_error(f"{method}: {type(error).__name__}: {error}")
