"""What a container of the image does: run as root in the image's files.

The configuration of the image is in ``/given/config.json``.  The program runs as a container's
does: as process 1 of a namespace, with the image's user, folder and environment, and without
capabilities.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

PATIENCE = 60.0
#: Set when a request under way has reached the server, and when it may be answered.
ARRIVED = threading.Event()
GO_ON = threading.Event()


class Answer(BaseHTTPRequestHandler):
    """A server behind slardar, which answers ``/slow`` late."""

    def do_GET(self) -> None:
        """Answer anything."""
        if self.path == "/slow":
            ARRIVED.set()
            GO_ON.wait(PATIENCE)
        self.send_response(200)
        self.send_header("Content-Length", "3")
        self.end_headers()
        self.wfile.write(b"it\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Container:
    """The image's program."""

    def __init__(self, config: dict[str, Any]) -> None:
        self._user, self._group = config["User"].split(":")
        self._config = config
        self._environment = dict(line.split("=", 1) for line in config["Env"])
        own = ("unshare", "--pid", "--fork", "--mount-proc")
        self._process = subprocess.Popen(
            [*own, *self._as_user(config["Entrypoint"] + config["Cmd"])],
            cwd=config["WorkingDir"],
            env=self._environment,
        )

    def _as_user(self, command: list[str]) -> list[str]:
        user = ("--reuid", self._user, "--regid", self._group, "--clear-groups")
        return ["setpriv", *user, "--no-new-privs", "--bounding-set=-all", *command]

    def execute(self, *command: str) -> subprocess.CompletedProcess[str]:
        """What ``docker exec`` does."""
        return subprocess.run(
            self._as_user(list(command)),
            cwd=self._config["WorkingDir"],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE,
        )

    def is_healthy(self) -> bool:
        """What the health check says."""
        kind, *command = self._config["Healthcheck"]["Test"]
        assert kind == "CMD"
        return self.execute(*command).returncode == 0

    def main(self) -> int:
        """Process 1 of the container, as this namespace numbers it."""
        children = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return int(children.read_text().split()[0])

    def stop(self) -> None:
        """What ``docker stop`` does first."""
        os.kill(self.main(), signal.Signals[self._config["StopSignal"]])

    def wait(self) -> int:
        """How it has ended."""
        return self._process.wait(PATIENCE)


def ask(path: str) -> tuple[int, bytes]:
    """One request."""
    client = http.client.HTTPConnection("127.0.0.1", 8080, timeout=PATIENCE)
    client.request("GET", path, headers={"Host": "www.example.com"})
    reply = client.getresponse()
    return reply.status, reply.read()


def takes_connections() -> bool:
    """Whether a client may come.  One that the closing port has in its queue is reset."""
    try:
        socket.create_connection(("127.0.0.1", 8080), PATIENCE).close()
    except ConnectionError:
        return False
    return True


def main() -> None:
    """Start, be healthy, serve, drain."""
    config = json.loads(Path("/given/config.json").read_text())
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    container = Container(config)
    end = time.monotonic() + PATIENCE
    first = container.is_healthy()
    while not container.is_healthy():
        assert time.monotonic() < end, "it is not healthy"
    print("healthy" if not first else "healthy at once", flush=True)
    status = Path(f"/proc/{container.main()}/status").read_text()
    assert f"Uid:\t{config['User'].split(':')[0]}\t" in status
    assert "CapEff:\t0000000000000000" in status
    assert "NSpid:" in status
    assert status.split("NSpid:")[1].splitlines()[0].split()[-1] == "1"

    address = f"127.0.0.1:{server.server_port}"
    made = container.execute("slardar", "set", "www.example.com", address)
    assert made.returncode == 0, made.stdout
    assert ask("/") == (200, b"it\n")
    assert os.stat("/var/lib/slardar/slardar.db").st_uid == int(config["User"].split(":")[0])
    print("serves", flush=True)

    answers: list[tuple[int, bytes]] = []
    slow = threading.Thread(target=lambda: answers.append(ask("/slow")))
    slow.start()
    assert ARRIVED.wait(PATIENCE)
    container.stop()
    while takes_connections():
        assert time.monotonic() < end + PATIENCE, "it does not stop"
    GO_ON.set()
    slow.join()
    assert answers == [(200, b"it\n")]
    print(f"drained, and ended with {container.wait()}", flush=True)


if __name__ == "__main__":
    main()
