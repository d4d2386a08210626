"""Measures how much memory a proxy needs for idle clients, and for slow clients."""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from dataclasses import dataclass

from benchmarks.check import HOST, client_context
from benchmarks.processes import LOOPBACK
from benchmarks.procfs import resident
from benchmarks.proxies import Running

__all__ = ["MemoryUse", "download", "idle_clients"]

IDLE_CLIENTS = 1000
#: The number of clients that have a request under way at a time.
TOGETHER = 50
SLOW_CLIENTS = 50
BYTES_PER_SECOND = 1_000_000
DOWNLOAD_PATH = "/200m/download"
#: A client's socket buffer: small, so that the proxy soon has to wait for the client.
RECEIVE_BUFFER = 64 * 1024
TICK = 0.05
#: The least rate (MB/s a client): a proxy that delivers less needs less memory for the
#: wrong reason.
LEAST_RATE = 0.8
#: A proxy that grows beyond this is stopped, before it takes all memory.
CUT_AT_MIB = 1024.0


@dataclass(frozen=True)
class MemoryUse:
    """Resident MiB of one proxy: before the measurement, and the most during it."""

    kind: str
    proxy: str
    idle_mib: float
    peak_mib: float
    #: MB/s that each client got during it (0 for idle clients).
    client_rate: float = 0.0
    cut: bool = False

    @property
    def above_mb(self) -> float:
        """Growth in MB (10**6 bytes)."""
        return (self.peak_mib - self.idle_mib) * 1.048576


class _Client:
    """One connection that asks for a page and reads it at its own pace."""

    def __init__(
        self,
        port: int,
        path: str,
        buffer: int | None = None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        self.socket = socket.socket()
        if buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        self.socket.settimeout(10)
        self.socket.connect((LOOPBACK, port))
        if context is not None:
            self.socket = context.wrap_socket(self.socket, server_hostname=HOST)
        self.received = 0
        self._request = f"GET {path} HTTP/1.1\r\nHost: {HOST}\r\nUser-Agent: bench\r\n\r\n".encode()

    def ask(self) -> None:
        self.socket.sendall(self._request)

    def read_reply(self) -> None:
        """Read one whole reply of known length."""
        data = b""
        while b"\r\n\r\n" not in data:
            data += self._more()
        head, _, body = data.partition(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"a client got {head[:40]!r}")
        lengths = [
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ]
        while len(body) < lengths[0]:
            body += self._more()

    def _more(self) -> bytes:
        data = self.socket.recv(65536)
        if not data:
            raise RuntimeError("the proxy closed a connection it should keep")
        return data


def idle_clients(running: Running, tls: bool = False) -> MemoryUse:
    """Memory with 1,000 clients that have each had a reply and stay connected.

    ``tls``: they speak TLS.

    :raise RuntimeError: if a client gets no correct reply or loses its connection.
    :raise OSError: if a client cannot connect.
    """
    before = resident(running.program.pids())
    clients: list[_Client] = []
    port, context = running.port, None
    if tls:
        port, context = running.tls_port, client_context()
    try:
        for start in range(0, IDLE_CLIENTS, TOGETHER):
            path = f"/small/idle/{start}"
            group = [_Client(port, path, context=context) for _ in range(TOGETHER)]
            clients.extend(group)
            for client in group:
                client.ask()
            for client in group:
                client.read_reply()
        running.program.pause(0.5)
        after = resident(running.program.pids())
        # They must still be served: a proxy could save memory by closing connections.
        for client in clients[:: IDLE_CLIENTS // 10]:
            client.ask()
            client.read_reply()
    finally:
        for client in clients:
            client.socket.close()
    return MemoryUse("tls-memory" if tls else "memory", running.proxy.name, before, after)


def download(running: Running, seconds: float) -> MemoryUse:
    """The most memory while 50 slow clients download a large file, for ``seconds``.

    Then the downloads are cut off: bounded memory reaches its bound soon.

    :raise RuntimeError: if the proxy ends, or delivers much less than the clients can take.
    :raise OSError: if a client cannot connect.
    """
    before = peak = resident(running.program.pids())
    clients: list[_Client] = []
    cut = False
    began = time.monotonic()
    try:
        for _ in range(SLOW_CLIENTS):
            client = _Client(running.port, DOWNLOAD_PATH, RECEIVE_BUFFER)
            client.ask()
            client.socket.setblocking(False)
            clients.append(client)
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds and not cut:
            _read_allowance(clients, passed)
            peak = max(peak, resident(running.program.pids()))
            cut = peak - before > CUT_AT_MIB
            running.program.pause(TICK)
        passed = time.monotonic() - began
    finally:
        for client in clients:
            client.socket.close()
    rate = sum(client.received for client in clients) / passed / len(clients) / 1e6
    if not cut and rate < LEAST_RATE:
        raise RuntimeError(f"its clients got {rate:.2f} MB/s each where they would have taken 1")
    return MemoryUse("download", running.proxy.name, before, peak, rate, cut)


def _read_allowance(clients: list[_Client], passed: float) -> None:
    """Let each client read up to its rate times the time that has passed."""
    allowed = int(BYTES_PER_SECOND * passed)
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        for key, _events in selector.select(0):
            client = key.data
            while (room := allowed - client.received) > 0:
                try:
                    data = client.socket.recv(min(room, 65536))
                except BlockingIOError:
                    break
                if not data:
                    raise RuntimeError("the proxy closed a download before its end")
                client.received += len(data)
