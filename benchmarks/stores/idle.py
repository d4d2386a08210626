"""What a node asks of Consul while nothing changes, and what CPU time it takes."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from pathlib import Path

from benchmarks.processes import LOOPBACK
from benchmarks.procfs import cpu_of
from benchmarks.stores.consul import Consul
from benchmarks.stores.followers import Slardar

__all__ = ["CountingProxy", "Idle", "alone", "idle"]

#: Seconds before the measurement, in which the node starts and all its watches begin.
_SETTLE = 5.0


class CountingProxy:
    """Passes connections on to Consul, and counts the requests in them.

    A request is counted by its first line, so that requests of one connection count.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self.requests = 0
        self._lock = threading.Lock()
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port: int = self._listener.getsockname()[1]
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection((LOOPBACK, self._to))
                self._open += [client, server]
                for source, target, counts in ((client, server, True), (server, client, False)):
                    threading.Thread(
                        target=self._pass, args=(source, target, counts), daemon=True
                    ).start()

    def _pass(self, source: socket.socket, target: socket.socket, counts: bool) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if counts:
                    with self._lock:
                        self.requests += data.count(b" HTTP/1.1\r\n")
                target.sendall(data)
        for one in (source, target):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        for one in (self._listener, *self._open):
            one.close()


class Idle:
    """What was found: requests a minute, and the share of a core."""

    def __init__(self, requests: float, core: float) -> None:
        self.requests = requests
        self.core = core


def idle(consul: Consul, folder: Path, seconds: float, from_catalogue: bool) -> Idle:
    """One idle node: a watch of its keys, and with ``from_catalogue`` one of a service, too."""
    proxy = CountingProxy(consul.port)
    behind = _Behind(consul, proxy.port)
    node = Slardar(behind, from_catalogue)  # type: ignore[arg-type]
    try:
        node.start(folder, 1)
        program = node.programs[0]
        program.pause(_SETTLE)
        pids = program.pids()
        before, begun, cpu = proxy.requests, time.monotonic(), cpu_of(pids)
        program.pause(seconds)
        passed = time.monotonic() - begun
        used = (cpu_of(pids) - cpu).run / passed
        return Idle((proxy.requests - before) * 60 / passed, used)
    finally:
        node.stop()
        proxy.stop()


def alone(folder: Path, seconds: float) -> float:
    """The share of a core of an idle node that asks nobody."""
    node = Slardar(_Nobody(), False)  # type: ignore[arg-type]
    try:
        node.start(folder, 1)
        program = node.programs[0]
        program.pause(_SETTLE)
        pids = program.pids()
        begun, cpu = time.monotonic(), cpu_of(pids)
        program.pause(seconds)
        return (cpu_of(pids) - cpu).run / (time.monotonic() - begun)
    finally:
        node.stop()


class _Nobody:
    """No Consul."""

    url = ""
    store = "memory:"


class _Behind:
    """The same Consul, at another port."""

    def __init__(self, consul: Consul, port: int) -> None:
        self.port = port
        self.url = f"http://{LOOPBACK}:{port}"
        self.store = consul.store.replace(consul.url, self.url)
        self.put = consul.put
