"""One simulation: the classes that serve, between requests and servers that are computed."""

from __future__ import annotations

import random as shared_random
from collections.abc import Iterable
from random import Random
from typing import Any

from slardar.config import Timeouts
from slardar.dataplane.selection import Defaults, Selection
from slardar.http1.exchange import Exchange
from slardar.http1.heads import BadMessage
from slardar.http1.interfaces import (
    Downstream,
    ExchangeBase,
    HookedRequest,
    PlaneBase,
    Reminder,
)
from slardar.http1.reply import Reply
from slardar.http1.request import Request, parse_request
from slardar.model.live import Live, Peer
from slardar.plugins import balancer_factory
from slardar.simulation.engine import Engine
from slardar.simulation.load import Arrival
from slardar.simulation.scenario import Change, Scenario
from slardar.simulation.servers import SimulatedPool, SimulatedServer

__all__ = ["Simulation", "simulate"]


class _Client(Downstream):
    """Waits for one reply."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._simulation = simulation
        self._began = simulation.engine.clock.now

    def start_reply(self, reply: Reply, data: bytes | memoryview, done: bool) -> None:
        """A server has replied; a simulated reply is complete at once."""
        self._simulation.replied(reply.status, self._began)

    def refuse(self, status: int, message: str, hooked: HookedRequest | None = None) -> None:
        """slardar replies, because no server did."""
        self._simulation.refused(status, message, self._began)

    def pause_body(self) -> None:
        """There is no body."""

    def resume_body(self) -> None:
        """There is no body."""


class Simulation(PlaneBase):
    """A data plane with one upstream, in virtual time; :meth:`run` it once."""

    def __init__(self, scenario: Scenario, seed: int = 0) -> None:
        self.engine = engine = Engine()
        super().__init__(engine.clock)
        self._scenario = scenario
        self.random = Random(seed)  # noqa: S311
        upstream, timeouts = scenario.upstream, Timeouts()
        self.live = Live()
        self._selection = Selection(
            upstream,
            self.live,
            balancer_factory(upstream.mode),
            Defaults(timeouts.connect, timeouts.send, timeouts.read),
            engine.clock,
            self._health_changed,
            self._balancer_failed,
            self._ejected,
        )
        self._servers: dict[str, SimulatedServer] = {}
        pools: dict[str, SimulatedPool] = {}
        for peer in self._selection.peers:
            key = peer.key
            if key not in pools:
                behaviour = scenario.behaviour(key)
                # Each server draws from numbers of its own, so that a change of the balancer
                # does not change what the servers do.
                own = Random(f"{seed} {key}")  # noqa: S311
                server = SimulatedServer(engine, behaviour, own, scenario.connect)
                self._servers[key] = server
                pools[key] = SimulatedPool(engine, server, upstream.keepalive)
            peer.pool = pools[key]
        #: What became of the requests.
        self.requests = 0
        self.statuses: dict[int, int] = {}
        self.reasons: dict[str, int] = {}
        self.seconds: list[float] = []
        #: When servers went out of service by their failures, and came back.
        self.health: list[dict[str, Any]] = []
        #: What the balancer has raised, and how often.
        self.balancer_errors: dict[str, int] = {}

    def run(self, arrivals: Iterable[Arrival]) -> dict[str, Any]:
        """Let the requests come and everything happen; answers the report."""
        # Balancers draw from the numbers that all share.
        shared_random.seed(self.random.random())
        for change in self._scenario.changes:
            self.engine.at(change.at, self._change, change)
        self._next_arrival(iter(arrivals))
        self.engine.run()
        return self._report()

    def _change(self, change: Change) -> None:
        self._servers[change.server].change(change)

    def _next_arrival(self, arrivals: Any) -> None:
        arrival = next(arrivals, None)
        if arrival is not None:
            self.engine.at(arrival.at, self._arrive, arrival, arrivals)

    def _arrive(self, arrival: Arrival, arrivals: Any) -> None:
        self._next_arrival(arrivals)
        self.requests += 1
        client = _Client(self)
        try:
            request = _request(arrival)
        except BadMessage as error:
            client.refuse(error.status, error.message)
            return
        exchange: ExchangeBase = Exchange(self, client, request, self._selection)
        exchange.start()

    # From the classes that serve.

    def replied(self, status: int, began: float) -> None:
        """A request has got a server's reply."""
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.seconds.append(self.clock.now - began)

    def refused(self, status: int, message: str = "", began: float | None = None) -> None:
        """A request has got no server's reply."""
        self.reasons[message] = self.reasons.get(message, 0) + 1
        self.replied(status, self.clock.now if began is None else began)

    def remind(self, reminder: Reminder, seconds: float) -> None:
        """See the base."""
        self.engine.after(seconds, reminder.due)

    def _health_changed(self, _upstream: str, peer: Peer) -> None:
        is_out = peer.live.down_until > self.clock.now
        self._note(peer, "out" if is_out else "in", peer.live.msg)

    def _ejected(self, _upstream: str, peer: Peer) -> None:
        self._note(peer, "ejected", peer.live.ejected_msg)

    def _note(self, peer: Peer, status: str, message: str) -> None:
        at = round(self.engine.elapsed, 3)
        self.health.append({"at": at, "server": peer.key, "status": status, "msg": message})

    def _balancer_failed(
        self, _upstream: str, _balancer: Any, method: str, error: BaseException
    ) -> None:
        text = f"{method}: {type(error).__name__}: {error}"
        self.balancer_errors[text] = self.balancer_errors.get(text, 0) + 1

    # The report.

    def _report(self) -> dict[str, Any]:
        peers = {peer.key: peer for peer in self._selection.peers}
        attempts = sum(peer.live.requests for peer in peers.values())
        weights = sum(peer.config.weight for peer in peers.values())
        servers = {}
        for key, peer in peers.items():
            live, server = peer.live, self._servers[key]
            servers[key] = {
                "requests": live.requests,
                "share": _ratio(live.requests, attempts),
                "failures": live.failures,
                "most_at_a_time": server.most,
                "waited": round(server.waited / max(1, live.requests), 6),
            }
        loads = [
            peer.live.requests * weights / (attempts * peer.config.weight)
            for peer in peers.values()
            if peer.config.weight and attempts
        ]
        hedged = self._selection.about.hedged
        failed = sum(count for status, count in self.statuses.items() if status >= 500)
        asked = self.requests - sum(
            count for status, count in self.statuses.items() if 400 <= status < 500
        )
        return {
            "mode": self._scenario.upstream.mode,
            "requests": self.requests,
            "failed": failed,
            "statuses": {str(status): count for status, count in sorted(self.statuses.items())},
            "reasons": self.reasons,
            "attempts": attempts,
            "retries": max(0, attempts - asked - hedged),
            "hedged": hedged,
            "max_over_mean": round(max(loads, default=0.0), 4),
            "seconds": _quantiles(self.seconds),
            "servers": servers,
            "health": self.health,
            "balancer_errors": self.balancer_errors,
        }


def simulate(scenario: Scenario, arrivals: Iterable[Arrival], seed: int = 0) -> dict[str, Any]:
    """The report of one simulation, ready for JSON.  The same arguments give the same report.

    Raises what the balancer raises when it is made.
    """
    return Simulation(scenario, seed).run(arrivals)


def _request(arrival: Arrival) -> Request:
    length = "Content-Length: 0\r\n" if arrival.method in ("POST", "PUT", "PATCH") else ""
    head = f"{arrival.method} {arrival.uri} HTTP/1.1\r\nHost: simulated\r\n{length}\r\n"
    request = parse_request(head.encode("utf-8", "replace"))
    request.address = arrival.client.encode("ascii", "replace")
    return request


def _ratio(part: float, whole: float) -> float:
    return round(part / whole, 4) if whole else 0.0


def _quantiles(values: list[float]) -> dict[str, float]:
    if not values:
        return {}
    ordered = sorted(values)
    last = len(ordered) - 1
    found = {f"p{share}": ordered[round(last * share / 100)] for share in (50, 90, 99)}
    found = {"mean": sum(ordered) / len(ordered), **found, "max": ordered[-1]}
    return {name: round(value, 6) for name, value in found.items()}
