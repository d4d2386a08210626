"""One simulation: the classes that serve, between clients and servers that are computed."""

from __future__ import annotations

import random as shared_random
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any
from zlib import crc32

from slardar.http1.reply import Reply
from slardar.model.live import Peer
from slardar.simulation.clients import Cookies, Sender, Visit
from slardar.simulation.director import Director
from slardar.simulation.engine import Engine
from slardar.simulation.load import Arrival
from slardar.simulation.scenario import Change, Scenario
from slardar.simulation.servers import SimulatedServer
from slardar.simulation.worker import Worker

__all__ = ["Simulation", "simulate"]


class Simulation(Sender):
    """One upstream in virtual time; :meth:`run` it once."""

    def __init__(self, scenario: Scenario, seed: int = 0) -> None:
        self.engine = engine = Engine()
        self._scenario = scenario
        self._random = Random(seed)  # noqa: S311
        upstream = scenario.upstream
        self._servers: dict[str, SimulatedServer] = {}
        for server in upstream.servers:
            if server.key not in self._servers:
                # Each server draws from numbers of its own, so that a change of the balancer
                # does not change what the servers do.
                own = Random(f"{seed} {server.key}")  # noqa: S311
                self._servers[server.key] = SimulatedServer(
                    engine, scenario.behaviour(server.key), own, scenario.connect
                )
        places = {(one.host, one.port): self._servers[one.key] for one in upstream.servers}
        self._director = Director(engine, upstream, scenario.health, places, self._note)
        self._workers = self._director.workers
        for _ in range(scenario.workers):
            self._workers.append(
                Worker(
                    engine,
                    upstream,
                    scenario.workers,
                    self._servers,
                    self._note,
                    self._count_balancer_error,
                    self._director.take_news,
                )
            )
        self._has_cookies = any(worker.selection.adds_headers for worker in self._workers)
        self._cookies = Cookies()
        #: The server that each client was sent to the last time, and how often it was another
        #: one than before.
        self._last_servers: dict[str, str] = {}
        self._moves = 0
        #: Whether all requests have come, and the changes that are still to be made.
        self._all_came = False
        self._changes_left = len(scenario.changes)
        #: What became of the requests.
        self.requests = 0
        self.statuses: dict[int, int] = {}
        self.reasons: dict[str, int] = {}
        self.seconds: list[float] = []
        #: When what is known of servers' health has changed.
        self.health: list[dict[str, Any]] = []
        #: What the balancer has raised, and how often.
        self.balancer_errors: dict[str, int] = {}

    def run(self, arrivals: Iterable[Arrival]) -> dict[str, Any]:
        """Let the requests come and everything happen; answers the report.

        It is over when every request has its reply, and every change was made.
        """
        # Balancers draw from the numbers that all share.
        shared_random.seed(self._random.random())
        for change in self._scenario.changes:
            self.engine.at(change.at, self._change, change)
        self._director.start()
        self._next_arrival(iter(arrivals))
        self.engine.run()
        return self._report()

    def _change(self, change: Change) -> None:
        self._servers[change.server].change(change)
        self._changes_left -= 1
        self._look_whether_over()

    def _next_arrival(self, arrivals: Iterator[Arrival]) -> None:
        arrival = next(arrivals, None)
        if arrival is not None:
            self.engine.at(arrival.at, self._arrive, arrival, arrivals)
        else:
            self._all_came = True
            self._look_whether_over()

    def _look_whether_over(self) -> None:
        if self._all_came and not self._changes_left and len(self.seconds) == self.requests:
            self.engine.stop()

    def _arrive(self, arrival: Arrival, arrivals: Iterator[Arrival]) -> None:
        self.requests += 1
        # As if each client kept one connection, which one of the workers has accepted.
        number = crc32(arrival.client.encode("utf-8", "replace")) % len(self._workers)
        worker = self._workers[number]
        now = self.engine.clock.now
        cookies = self._cookies.header(arrival.client, now) if self._has_cookies else ""
        visit = Visit(self, arrival, self._scenario.load.body, now)
        visit.begin(worker, worker.selection, cookies)
        self._next_arrival(arrivals)

    # From the clients.

    def replied(self, visit: Visit, reply: Reply) -> None:
        """See the base."""
        client = visit.arrival.client
        if self._has_cookies:
            self._cookies.take(client, reply, self.engine.clock.now)
        server = visit.server
        if self._last_servers.setdefault(client, server) != server:
            self._last_servers[client] = server
            self._moves += 1
        self._ended(visit, reply.status)

    def refused(self, visit: Visit, status: int, message: str) -> None:
        """See the base."""
        self.reasons[message] = self.reasons.get(message, 0) + 1
        self._ended(visit, status)

    def _ended(self, visit: Visit, status: int) -> None:
        self.statuses[status] = self.statuses.get(status, 0) + 1
        self.seconds.append(self.engine.clock.now - visit.began)
        self._look_whether_over()

    # From workers and director.

    def _note(self, key: str, status: str, message: str) -> None:
        at = round(self.engine.elapsed, 3)
        self.health.append({"at": at, "server": key, "status": status, "msg": message})

    def _count_balancer_error(self, text: str) -> None:
        self.balancer_errors[text] = self.balancer_errors.get(text, 0) + 1

    # The report.

    @property
    def attempts(self) -> int:
        """The requests that were sent to servers so far, retries among them."""
        return sum(_sum(self._peers(), key, "requests") for key in self._servers)

    def _peers(self) -> list[dict[str, Peer]]:
        """The servers by their names, as each worker sees them."""
        return [{peer.key: peer for peer in worker.selection.peers} for worker in self._workers]

    def _report(self) -> dict[str, Any]:
        workers = [{peer.key: peer for peer in worker.selection.peers} for worker in self._workers]
        requests = {key: _sum(workers, key, "requests") for key in self._servers}
        attempts = self.attempts
        weights = {key: peer.config.weight for key, peer in workers[0].items()}
        all_weights = sum(weights.values())
        servers = {}
        for key, server in self._servers.items():
            servers[key] = {
                "requests": requests[key],
                "share": _ratio(requests[key], attempts),
                "failures": _sum(workers, key, "failures"),
                "heartbeats": server.heartbeats,
                "most_at_a_time": server.most,
                "waited": round(server.waited / max(1, server.taken), 6),
            }
        loads = [
            requests[key] * all_weights / (attempts * weight)
            for key, weight in weights.items()
            if weight and attempts
        ]
        hedged = sum(worker.selection.about.hedged for worker in self._workers)
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
            "queued": sum(worker.selection.about.queued for worker in self._workers),
            "clients_moved": self._moves,
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


def _sum(workers: Iterable[dict[str, Peer]], key: str, counter: str) -> int:
    return sum(getattr(peers[key].live, counter) for peers in workers)


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
