"""How long a node takes to start with many upstreams in its store."""

from __future__ import annotations

import http.client
import time
from pathlib import Path

from benchmarks.processes import LOOPBACK
from benchmarks.stores.consul import PREFIX, Consul
from benchmarks.stores.followers import Slardar

__all__ = ["fill", "start_seconds"]


def fill(consul: Consul, upstreams: int, port: int) -> str:
    """Write so many upstreams with two servers each.  Returns the name of the last one."""
    names = [f"site{number}.example.com" for number in range(upstreams)]
    servers = [{"host": LOOPBACK, "port": port}, {"host": "127.0.0.2", "port": port}]
    value: object = {"servers": servers, "enable": False}
    consul.fill({f"{PREFIX}upstreams/{name}": value for name in names})
    return names[-1]


def start_seconds(consul: Consul, folder: Path, name: str, status: int, workers: int) -> float:
    """Seconds from the start of the program until a request for ``name`` gets ``status``."""
    node = Slardar(consul, False)
    begun = time.monotonic()
    try:
        node.start(folder, 1, workers)
        while True:
            connection = http.client.HTTPConnection(LOOPBACK, node.ports[0], timeout=30)
            connection.request("GET", "/", headers={"Host": name})
            if connection.getresponse().status == status:
                return time.monotonic() - begun
            connection.close()
            if time.monotonic() - begun > 60:
                raise RuntimeError(f"{name} is not served within a minute")
            node.programs[0].pause(0.01)
    finally:
        node.stop()
