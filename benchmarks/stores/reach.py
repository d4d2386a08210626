"""How long it takes from a change in Consul until every node serves it."""

from __future__ import annotations

import http.client
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.processes import LOOPBACK, Program
from benchmarks.stores.consul import Consul
from benchmarks.stores.followers import HOST, SERVICE, Follower

__all__ = ["Servers", "until_all_serve", "write_to_request"]

#: Seconds after which a change counts as lost.
PATIENCE = 30.0
#: Seconds between two changes, so that each is one of its own.
PAUSE = 0.25


class Servers:
    """Two small servers, which say on which port they are."""

    def __init__(self, folder: Path) -> None:
        backends = Path(__file__).resolve().parents[2] / "examples" / "backends.py"
        cores = frozenset(os.sched_getaffinity(0))
        command = [sys.executable, "-u", str(backends), "0", "0"]
        self.program = Program("backends", command, cores, folder)
        said = ""
        while said.count("\n") < 2:
            self.program.pause(0.05)
            said = self.program.output.read_text()
        self.ports = [int(line.rstrip("/").rpartition(":")[2]) for line in said.split("\n")[:2]]

    def stop(self) -> None:
        self.program.stop()


def until_all_serve(nodes: Sequence[int], wanted: int, since: float) -> float:
    """Seconds from ``since`` until each node has sent a request to the server on this port.

    :raise RuntimeError: if this takes too long.
    """
    text = f"{LOOPBACK}:{wanted} ".encode()
    waiting = [http.client.HTTPConnection(LOOPBACK, port, timeout=10) for port in nodes]
    while waiting:
        for connection in list(waiting):
            connection.request("GET", "/", headers={"Host": HOST})
            if connection.getresponse().read().startswith(text):
                waiting.remove(connection)
                connection.close()
        if time.monotonic() - since > PATIENCE:
            raise RuntimeError(f"a change was not served within {PATIENCE:g} s")
    return time.monotonic() - since


def write_to_request(follower: Follower, servers: Servers, changes: int) -> list[float]:
    """Seconds of each of so many changes, from before the write until the last of the nodes has
    sent a request to the new server.

    A key names one server, and the other one after the change.  A service gets the other one as a
    second server; the first one leaves afterwards, which is not measured.
    """
    consul, ports = follower.consul, servers.ports
    times = []
    _set(follower, consul, ports[0])
    until_all_serve(follower.ports, ports[0], time.monotonic())
    for number in range(changes):
        new, old = ports[(number + 1) % 2], ports[number % 2]
        servers.program.pause(PAUSE)
        begun = time.monotonic()
        _set(follower, consul, new)
        times.append(until_all_serve(follower.ports, new, begun))
        if follower.from_catalogue:
            servers.program.pause(PAUSE)
            consul.deregister(SERVICE, old)
            _until_gone(follower.ports, old)
    if follower.from_catalogue:
        consul.deregister(SERVICE, ports[changes % 2])
    return times


def _set(follower: Follower, consul: Consul, port: int) -> None:
    if follower.from_catalogue:
        consul.register(SERVICE, port)
    else:
        follower.set_server(port)


def _until_gone(nodes: Sequence[int], port: int) -> None:
    """Wait until ten requests in a row to each node have gone to another server."""
    text = f"{LOOPBACK}:{port} ".encode()
    end = time.monotonic() + PATIENCE
    for node in nodes:
        connection = http.client.HTTPConnection(LOOPBACK, node, timeout=10)
        others = 0
        while others < 10:
            connection.request("GET", "/", headers={"Host": HOST})
            others = 0 if connection.getresponse().read().startswith(text) else others + 1
            if time.monotonic() > end:
                raise RuntimeError("a server that has left is still used")
        connection.close()
