"""A fleet on one machine: Consul, two slardar nodes, and six servers that register themselves.

::

    python examples/fleet/fleet.py              # roll once through all six, under load
    python examples/fleet/fleet.py --rolls 10

A rolling deploy puts each server in the place of an older one: the new one starts and registers
itself, and the old one leaves Consul and ends.  Meanwhile clients send requests to both nodes.  The
script fails if one request fails.  It needs Consul's program: on the ``PATH``, or named by
``CONSUL``.  Everything ends with the script.
"""

from __future__ import annotations

import argparse
import contextlib
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

HERE = Path(__file__).parent
NAME = "www.example.com"
SERVERS = 6
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
#: Seconds that something may take before the script gives up.
PATIENCE = 30.0


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def ask(port: int, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request(method, path, headers=headers)
        reply = connection.getresponse()
        return reply.status, reply.read()
    finally:
        connection.close()


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait until something is so.  A program that does not answer yet is no failure."""
    end = time.monotonic() + PATIENCE
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if condition():
                return
        if time.monotonic() > end:
            raise SystemExit(f"{what}: not within {PATIENCE:g} s")
        threading.Event().wait(0.02)


class Fleet:
    """The programs, and the folder that they write to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: list[subprocess.Popen[str]] = []
        self.agent = ""
        #: The ports for requests, one a node.
        self.nodes: list[int] = []
        self.servers: list[subprocess.Popen[str]] = []

    def start(self, name: str, *command: str, **environment: str) -> subprocess.Popen[str]:
        """Start a program, whose words go to a file."""
        (self.folder / name).mkdir(exist_ok=True)
        with open(self.folder / f"{name}.log", "a") as log:
            program = subprocess.Popen(
                command,
                cwd=self.folder / name,
                env={**os.environ, **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
            )
        self.running.append(program)
        return program

    def start_consul(self, program: str) -> None:
        ports = {name: free_port() for name in ("http", "server", "serf_lan", "serf_wan")}
        off = dict.fromkeys(("dns", "grpc"), -1)
        settings = {
            "server": True,
            "bootstrap_expect": 1,
            "bind_addr": "127.0.0.1",
            "client_addr": "127.0.0.1",
            "data_dir": str(self.folder / "consul-data"),
            "ports": {**ports, **off},
        }
        (self.folder / "consul.json").write_text(json.dumps(settings))
        self.start("consul", program, "agent", "-config-file", str(self.folder / "consul.json"))
        self.agent = f"http://127.0.0.1:{ports['http']}"
        until(lambda: ask(ports["http"], "/v1/status/leader")[1] not in (b"", b'""'), "Consul")

    def start_node(self, number: int) -> None:
        port, control = free_port(), free_port()
        self.start(
            f"node{number}",
            *TWISTD,
            "--nodaemon",
            "--pidfile=",
            "slardar",
            f"--config={HERE / 'slardar.yml'}",
            f"--listen=tcp:{port}:interface=127.0.0.1",
            f"--control=tcp:{control}:interface=127.0.0.1",
            f"--store=consul:{self.agent}/config/slardar/",
            CONSUL_HTTP_ADDR=self.agent,
        )
        self.nodes.append(port)
        print(f"node {number}: requests on port {port}, control on port {control}")

    def start_server(self, version: str) -> subprocess.Popen[str]:
        """A server that has registered itself."""
        log = self.folder / "servers.log"
        before = log.read_text().count(" serves on ") if log.exists() else 0
        words = (str(HERE / "backend.py"), self.agent, "web", version)
        server = self.start("servers", sys.executable, *words)
        until(lambda: log.read_text().count(" serves on ") > before, "a server")
        return server

    def serves(self, version: str) -> bool:
        """Whether every node sends requests to servers of this version."""
        found = (ask(port, "/", Host=NAME) for port in self.nodes)
        return all(reply == (200, f"{version}\n".encode()) for reply in found)

    def roll(self, version: str) -> None:
        """Put new servers in the places of all old ones, one after the other."""
        for place, old in enumerate(self.servers):
            self.servers[place] = self.start_server(version)
            old.send_signal(signal.SIGTERM)
            if old.wait(PATIENCE) != 0:
                raise SystemExit(f"a server ended with {old.returncode}: see {self.folder}")
            self.running.remove(old)
        until(lambda: self.serves(version), version)

    def stop(self) -> None:
        """End every program that was started."""
        for program in reversed(self.running):
            program.terminate()
        for program in self.running:
            try:
                program.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                program.kill()
                program.wait()


class Clients:
    """Requests to all nodes in turn, a GET and a POST, until the end."""

    def __init__(self, nodes: list[int]) -> None:
        self.nodes = nodes
        self.answers: Counter[str] = Counter()
        self.failed: list[str] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(4)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        connections = [
            http.client.HTTPConnection("127.0.0.1", port, timeout=30) for port in self.nodes
        ]
        while not self._ended.is_set():
            for connection in connections:
                for method, body in (("GET", None), ("POST", b"x" * 100)):
                    self._send(connection, method, body)
        for connection in connections:
            connection.close()

    def _send(
        self, connection: http.client.HTTPConnection, method: str, body: bytes | None
    ) -> None:
        try:
            connection.request(method, "/", body, {"Host": NAME})
            reply = connection.getresponse()
            said = reply.read().decode()
            if reply.status == 200:
                self.answers[said.strip()] += 1
            else:
                self.failed.append(f"{method}: {reply.status} {said}")
        except (OSError, http.client.HTTPException) as error:
            self.failed.append(f"{method}: {error!r}")
            connection.close()


@contextlib.contextmanager
def fleet(consul: str) -> Iterator[Fleet]:
    """A fleet that serves."""
    with tempfile.TemporaryDirectory(prefix="slardar-fleet-") as folder:
        made = Fleet(Path(folder))
        try:
            made.start_consul(consul)
            for number in (1, 2):
                made.start_node(number)
            made.servers = [made.start_server("v0") for _ in range(SERVERS)]
            until(lambda: made.serves("v0"), "two nodes that serve")
            yield made
        except BaseException:
            for log in sorted(Path(folder).glob("node*.log")):
                print(f"{log.name}:\n{log.read_text()[-4000:]}", file=sys.stderr)
            raise
        finally:
            made.stop()


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--rolls", type=int, default=1, help="rolling deploys (1)")
    words = parser.parse_args()
    consul = os.environ.get("CONSUL") or shutil.which("consul")
    if consul is None:
        print("Consul's program is not on the PATH; name it with CONSUL", file=sys.stderr)
        return 2
    with fleet(consul) as made, Clients(made.nodes) as clients:
        for number in range(1, words.rolls + 1):
            made.roll(f"v{number}")
            print(f"v{number} is in the place of v{number - 1} on {SERVERS} servers", flush=True)
    for failure in clients.failed[:10]:
        print(failure, file=sys.stderr)
    served = ", ".join(f"{count} by {name}" for name, count in sorted(clients.answers.items()))
    print(f"requests: {served}; {len(clients.failed)} failed")
    return 1 if clients.failed else 0


if __name__ == "__main__":
    sys.exit(main())
