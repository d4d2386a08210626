"""Measures what heartbeats to very many servers cost: the share of a core.

    python -m benchmarks.heartbeats

slardar sends heartbeats to 10,000 servers, each every 5 seconds: addresses of the loopback
network, behind which one program answers.  It gets no requests meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.processes import LOOPBACK, Cores, Program, free_port, raise_file_limit
from benchmarks.procfs import cpu_of
from benchmarks.proxies import PROXIES, ROOT, SUBJECT, Running, version_of

__all__ = ["Share", "hosts", "main"]

#: What a heartbeat of each kind asks.
KINDS: dict[str, dict[str, object]] = {
    "general": {"typ": "general"},
    "http": {
        "typ": "http",
        "http_opts": {"query": "GET /status HTTP/1.1\r\nHost: bench.example.com\r\n\r\n"},
    },
}
REPLY = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nok\n"
#: The share of a core that must not be exceeded.
TARGET = 0.20


@dataclass(frozen=True)
class Share:
    """The share of a core (0 to 1) in one run, and the heartbeats a second."""

    kind: str
    core: float
    per_second: float


def hosts(count: int) -> Iterator[str]:
    """So many different addresses of the loopback network."""
    for number in range(count):
        yield f"127.1.{number >> 8}.{number & 255}"


# The servers, as a program of their own.


async def _serve(port: int, counting: int) -> None:
    """Answer as every address of the loopback network; ``counting`` tells how often."""
    count = 0

    class Answering(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            nonlocal count
            count += 1
            self.transport = transport

        def data_received(self, data: bytes) -> None:
            assert isinstance(self.transport, asyncio.Transport)
            self.transport.write(REPLY)

    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(str(count).encode())
        writer.close()

    sock = socket.socket()
    # Nobody reaches it but this machine.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
    sock.bind(("0.0.0.0", port))
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Answering, sock=sock, backlog=4096)
    await asyncio.start_server(tell, LOOPBACK, counting)
    await server.serve_forever()


def _count(port: int) -> int:
    with socket.create_connection((LOOPBACK, port), 10) as connection:
        return int(connection.recv(64))


# The measurement.


@contextmanager
def _servers(folder: Path, cores: Cores) -> Iterator[tuple[int, int]]:
    """The servers' port, and that of their counter."""
    port, counting = free_port(), free_port()
    command = (sys.executable, "-m", "benchmarks.heartbeats", "--serve", f"{port},{counting}")
    program = Program("servers", command, cores.load, folder, {"PYTHONPATH": str(ROOT)})
    try:
        program.wait_for_port(counting)
        yield port, counting
    finally:
        program.stop()


def _measure(
    folder: Path, cores: Cores, kind: str, places: tuple[int, int], arguments: argparse.Namespace
) -> Share:
    port, counting = places
    servers = [{"host": host, "port": port} for host in hosts(arguments.servers)]
    upstream = {"servers": servers, "interval": arguments.interval, **KINDS[kind]}
    (folder / "slardar.yaml").write_text(json.dumps({"upstreams": {"bench.example.com": upstream}}))
    proxy = PROXIES[SUBJECT]
    words = list(proxy.command)
    # The file instead of the two servers.
    words[words.index("--upstream") :] = ["--config", "slardar.yaml"]
    running = Running.start(replace(proxy, command=tuple(words)), folder, cores.proxy, {})
    try:
        # Each server has had its first heartbeat, and the connections of the first are closed.
        running.program.pause(arguments.interval + 2.0)
        pids = running.program.pids()
        count, before, began = _count(counting), cpu_of(pids), time.monotonic()
        running.program.pause(arguments.seconds)
        used, wall = cpu_of(pids) - before, time.monotonic() - began
        return Share(kind, used.run / wall, (_count(counting) - count) / wall)
    finally:
        running.stop()


def _arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.heartbeats", description="Measure what heartbeats cost."
    )
    parser.add_argument("--servers", type=int, default=10_000, help="default 10000")
    parser.add_argument("--interval", type=float, default=5.0, help="seconds, default 5")
    parser.add_argument("--seconds", type=float, default=15.0, help="a run, default 15")
    parser.add_argument("--rounds", type=int, default=2, help="default 2")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    return parser


def main(words: Sequence[str] | None = None) -> int:
    """Run the command; 0 if every share was measured, 1 if not."""
    arguments = _arguments().parse_args(words)
    if arguments.serve:
        port, counting = map(int, arguments.serve.split(","))
        asyncio.run(_serve(port, counting))
        return 0
    signal.signal(signal.SIGTERM, lambda _signum, _frame: sys.exit(143))
    raise_file_limit()
    cores = Cores()
    os.sched_setaffinity(0, cores.load)
    wanted = arguments.servers / arguments.interval
    print(f"slardar {version_of(PROXIES[SUBJECT])}: {arguments.servers} servers, one process")
    with tempfile.TemporaryDirectory(prefix="slardar-heartbeats-") as name:
        try:
            with _servers(Path(name), cores) as places:
                for _ in range(arguments.rounds):
                    for kind in KINDS:
                        share = _measure(Path(name), cores, kind, places, arguments)
                        print(
                            f"{kind:8} {share.core:6.1%} of a core, "
                            f"{share.per_second:,.0f} of {wanted:,.0f} heartbeats a second; "
                            f"{'reached' if share.core <= TARGET else 'missed'}: "
                            f"at most {TARGET:.0%}",
                            flush=True,
                        )
        except (RuntimeError, OSError) as error:
            print(f"benchmarks.heartbeats: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
