"""The simulated director: it sends heartbeats, and tells each worker what others have learnt."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping

from slardar.config import Health
from slardar.dataplane.heartbeats import Heartbeats
from slardar.health.probes.base import Probe
from slardar.health.probes.general import General
from slardar.health.probes.http import Http
from slardar.health.shared import Place
from slardar.health.verdicts import Heartbeat
from slardar.http1.interfaces import ChannelBase, ChannelProtocol
from slardar.model.server import ProbeOptions, Upstream
from slardar.simulation.engine import Engine
from slardar.simulation.servers import SimulatedChannel, SimulatedServer
from slardar.simulation.worker import Note, Worker
from slardar.workers.extras import Extras
from slardar.workers.messages import Verdicts

__all__ = ["Director"]


class Director:
    """The director of some workers, for one upstream, whose servers are found by ``servers``.

    Messages take no time, but a worker gathers its news as in a running slardar.
    """

    def __init__(
        self,
        engine: Engine,
        upstream: Upstream,
        health: Health,
        servers: Mapping[Place, SimulatedServer],
        note: Note,
    ) -> None:
        self.workers: list[Worker] = []
        self._engine = engine
        self._upstream = upstream
        self._servers = servers
        self._keys = {(peer.host, peer.port): peer.key for peer in upstream.servers}
        self._note = note
        self._extras = Extras()
        #: What heartbeats have last said of each server.
        self._checked: dict[Place, str] = {}
        self._heartbeats = Heartbeats(
            engine,
            health,
            _probe,
            lambda name: [(socket.AF_INET, name)],
            self._take_checked,
            self._connect,
            engine.seconds,
            self._take_hint,
        )

    def start(self) -> None:
        """Send heartbeats from now on."""
        self._heartbeats.apply({self._upstream.name: self._upstream}, [self._upstream.name])
        self._heartbeats.start()

    # Heartbeats.

    def _connect(
        self, _family: int, address: str, port: int, protocol: ChannelProtocol
    ) -> ChannelBase:
        server = self._servers[address, port]
        server.heartbeats += 1
        return SimulatedChannel(self._engine, protocol, server)

    def _take_checked(self, verdicts: list[Heartbeat]) -> None:
        for verdict in verdicts:
            place = (verdict.host, verdict.port)
            before = self._checked.get(place, "ok")
            if verdict.status != before:
                self._note(self._keys[place], verdict.status, verdict.message)
            self._checked[place] = verdict.status
        for worker in self.workers:
            worker.check(verdicts)

    def _take_hint(self, _upstream: str, host: str, port: int, value: str) -> None:
        place = (host, port)
        hint = self._extras.hint(self._upstream, place, value, self._engine.clock.now)
        if hint is not None:
            self._note(self._keys[place], "hint", value)
            for worker in self.workers:
                worker.learn_extras([hint])

    # What workers have learnt.

    def take_news(self, worker: Worker, news: Verdicts) -> None:
        """Take a worker's news, and tell the others."""
        now = self._engine.clock.now
        others = [other for other in self.workers if other is not worker]
        taken, refused = self._extras.take(self._upstream, news.extras, now)
        for other in others:
            other.learn(news.requests)
            other.learn_extras(taken)
        worker.learn_extras(refused)


def _probe(typ: str) -> Callable[[ProbeOptions], Probe]:
    """A simulated server speaks HTTP only; of other protocols only the connection is made."""
    return Http if typ == "http" else General
