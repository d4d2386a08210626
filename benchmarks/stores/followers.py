"""Proxies that follow Consul: nodes of slardar, and Traefik."""

from __future__ import annotations

import json
import os
import sys
from abc import ABC, abstractmethod
from pathlib import Path

from benchmarks.processes import LOOPBACK, Program, find_program, free_port
from benchmarks.stores.consul import PREFIX, Consul

__all__ = ["HOST", "SERVICE", "Follower", "Slardar", "Traefik", "followers"]

#: The name under which requests come, and the service whose servers answer.
HOST = "www.example.com"
SERVICE = "web"
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")


class Follower(ABC):
    """One kind of proxy, with ``count`` nodes.

    ``from_catalogue``: the servers are those of a service; else what a key says.
    """

    title: str

    def __init__(self, consul: Consul, from_catalogue: bool) -> None:
        self.consul = consul
        self.from_catalogue = from_catalogue
        #: The ports for requests, one a node.
        self.ports: list[int] = []
        self.programs: list[Program] = []

    @abstractmethod
    def start(self, folder: Path, nodes: int) -> None:
        """Start the nodes, and wait until they listen."""

    @abstractmethod
    def set_server(self, port: int) -> None:
        """Write the key that makes this the only server."""

    def stop(self) -> None:
        for program in self.programs:
            program.stop()


class Slardar(Follower):
    title = "slardar"

    def start(self, folder: Path, nodes: int, workers: int = 1) -> None:
        settings: dict[str, object] = {"store": self.consul.store, "workers": workers}
        if self.from_catalogue:
            settings["services"] = {HOST: {"consul_service": SERVICE, "enable": False}}
        cores = frozenset(os.sched_getaffinity(0))
        for number in range(nodes):
            port, control = free_port(), free_port()
            place = folder / f"node{number}"
            place.mkdir(exist_ok=True)
            listen = {
                "listen": [f"tcp:{port}:interface={LOOPBACK}"],
                "control": {"http": f"tcp:{control}:interface={LOOPBACK}"},
            }
            config = place / "slardar.yml"
            config.write_text(json.dumps({**settings, **listen}))  # JSON is YAML
            command = [*TWISTD, "--nodaemon", "--pidfile=", "slardar", f"--config={config}"]
            self.programs.append(
                Program("slardar", command, cores, place, {"CONSUL_HTTP_ADDR": self.consul.url})
            )
            self.ports.append(port)
        for program, port in zip(self.programs, self.ports, strict=True):
            program.wait_for_port(port)

    def set_server(self, port: int) -> None:
        value = {"servers": [{"host": LOOPBACK, "port": port}], "enable": False}
        self.consul.put(f"{PREFIX}upstreams/{HOST}", value)


class Traefik(Follower):
    title = "Traefik"

    def start(self, folder: Path, nodes: int) -> None:
        cores = frozenset(os.sched_getaffinity(0))
        place = f"{LOOPBACK}:{self.consul.port}"
        if self.from_catalogue:
            providers: dict[str, object] = {
                "consulCatalog": {
                    "endpoint": {"address": place},
                    "watch": True,
                    # Consul is a service of its own catalogue.
                    "exposedByDefault": False,
                    "defaultRule": f"Host(`{HOST}`)",
                }
            }
        else:
            providers = {"consul": {"endpoints": [place], "rootKey": "traefik"}}
            self.consul.put("traefik/http/routers/all/rule", f"Host(`{HOST}`)")
            self.consul.put("traefik/http/routers/all/service", SERVICE)
        for number in range(nodes):
            port = free_port()
            path = folder / f"traefik{number}.yml"
            settings = {
                "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
                "log": {"level": "ERROR"},
                "entryPoints": {"web": {"address": f"{LOOPBACK}:{port}"}},
                "providers": {"providersThrottleDuration": "0s", **providers},
            }
            path.write_text(json.dumps(settings))
            program = find_program("traefik")
            if program is None:
                raise RuntimeError("Traefik is not installed")
            command = [program, f"--configFile={path}"]
            self.programs.append(Program(f"traefik{number}", command, cores, folder))
            self.ports.append(port)
        for started, port in zip(self.programs, self.ports, strict=True):
            started.wait_for_port(port)

    def set_server(self, port: int) -> None:
        key = f"traefik/http/services/{SERVICE}/loadBalancer/servers/0/url"
        self.consul.put(key, f"http://{LOOPBACK}:{port}")


def followers() -> list[type[Follower]]:
    """Those that this machine has."""
    return [Slardar, Traefik] if find_program("traefik") else [Slardar]
