"""An image service of five small services behind two slardars, while its instances come and go.

::

    python examples/microservices/run.py

Starts everything on free ports, makes a few requests, and then adds, drains and kills instances
while clients send requests.  It fails if one request fails.  Everything ends with it.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
HOST = "photos.example.com"
TOKEN = "Bearer let-me-in"
#: Seconds that something may take before the script gives up.
PATIENCE = 30.0
#: A picture of 64 x 48 points.
PICTURE = b"P6 64 48 255\n" + bytes(
    value for y in range(48) for x in range(64) for value in (4 * x, 5 * y, 128)
)


class Reply(NamedTuple):
    status: int
    body: bytes
    way: str
    request_id: str


def ask(port: int, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        way, request_id = (reply.headers.get(name, "") for name in ("X-Way", "X-Request-Id"))
        return Reply(reply.status, reply.read(), way, request_id)
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
        time.sleep(0.02)


def free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [sock.getsockname()[1] for sock in sockets]


class Balancer(NamedTuple):
    """A slardar: its port for requests, and its control channel."""

    port: int
    control: int

    def statuses(self, upstream: str) -> dict[str, str]:
        """What is known of each server: its status by its address."""
        levels = json.loads(ask(self.control, "GET", "/status").body)[f"cls:{upstream}"]
        found = {one["server"]: one["status"] for level in levels for one in level}
        return {name.removeprefix(f"{upstream}:"): status for name, status in found.items()}


class Site:
    """Everything that runs, and the folder that it writes to."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        ports = free_ports(4)
        self.outer, self.inner = Balancer(*ports[:2]), Balancer(*ports[2:])

    def _start(self, name: str, *command: str, **environment: str) -> None:
        with open(self.folder / f"{name}.out", "wb") as out:
            self.running[name] = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **environment},
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def start_balancer(self, name: str, made: Balancer) -> None:
        self._start(
            name,
            *TWISTD,
            "--nodaemon",
            "--pidfile=",
            "slardar",
            f"--config={HERE / name}.yaml",
            # One process for each is enough here.
            "--workers=0",
            "--store=memory:",
            f"--listen=tcp:{made.port}:interface=127.0.0.1",
            f"--control=tcp:{made.control}:interface=127.0.0.1",
            f"--amp=unix:{name}.sock:mode=600",
        )

    def start_instance(self, label: str) -> None:
        """``label`` is the name of the service and a number: ``thumbnail-1``."""
        name = label.partition("-")[0]
        registry = (self.outer if name == "photos" else self.inner).control
        self._start(
            label,
            sys.executable,
            str(HERE / "services.py"),
            name,
            label,
            INNER=f"127.0.0.1:{self.inner.port}",
            REGISTRY=f"http://127.0.0.1:{registry}",
            PHOTOS=str(self.folder),
        )

    def address(self, label: str) -> str:
        """The address of an instance, once it has registered itself."""
        out = self.folder / f"{label}.out"
        until(lambda: " serves: " in out.read_text(), label)
        return out.read_text().split(" serves: ")[1].split()[0]

    def start(self) -> None:
        self.start_balancer("outer", self.outer)
        self.start_balancer("inner", self.inner)
        for balancer in (self.outer, self.inner):
            until(
                lambda control=balancer.control: ask(control, "GET", "/").status == 200, "slardar"
            )
        labels = [
            f"{name}-{number}"
            for name in ("photos", "storage", "metadata", "thumbnail", "watermark")
            for number in (1, 2)
        ]
        for label in labels:
            self.start_instance(label)
        for label in labels:
            self.address(label)
        hook = (HERE / "upload_token.py").read_bytes()
        for method, body in (("POST", hook), ("PUT", None)):
            reply = ask(self.outer.control, method, f"/python/script.{HOST}", body)
            if reply.status != 200:
                raise SystemExit(f"the hook: {reply.body.decode()}")

    def drain(self, label: str) -> None:
        """The instance drains, and ends by itself."""
        self.running[label].terminate()
        if self.running.pop(label).wait(PATIENCE) != 0:
            raise SystemExit(f"{label}: {(self.folder / f'{label}.out').read_text()}")

    def kill(self, label: str) -> None:
        """The instance is gone at once, with the requests that it had."""
        program = self.running.pop(label)
        program.kill()
        program.wait()

    def stop(self) -> None:
        # The instances first: they leave their upstreams, and that takes them a second.
        for wanted in (False, True):
            ending = [
                program
                for name, program in self.running.items()
                if (name in ("outer", "inner")) is wanted
            ]
            for program in ending:
                program.terminate()
            for program in ending:
                try:
                    program.wait(PATIENCE)
                except subprocess.TimeoutExpired:
                    program.kill()
                    program.wait()


class Clients:
    """Uploads and small pictures, one after the other, from three clients at a time."""

    def __init__(self, port: int) -> None:
        self.port = port
        #: How many replies each instance had part in.
        self.served: Counter[str] = Counter()
        self.replies = 0
        self.failed: list[str] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(n,)) for n in range(3)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join()

    def _run(self, number: int) -> None:
        for turn in itertools.count():
            if self._ended.is_set():
                return
            path = f"/photos/{number}of{turn % 10}"
            self._send("PUT", path, PICTURE, Host=HOST, Authorization=TOKEN)
            self._send("GET", f"{path}?width=16", None, Host=HOST)

    def _send(self, method: str, path: str, body: bytes | None, **headers: str) -> None:
        try:
            reply = ask(self.port, method, path, body, **headers)
        except (OSError, http.client.HTTPException) as error:
            self.failed.append(f"{method}: {error!r}")
            return
        if reply.status != 200:
            self.failed.append(f"{method}: {reply.status} {reply.body!r}")
            return
        self.replies += 1
        self.served.update(reply.way.split())

    def wait_for(self, count: int, label: str = "") -> None:
        """Until so many more replies have come, of all instances or of one."""

        def seen() -> int:
            return self.served[label] if label else self.replies

        wanted = seen() + count
        until(lambda: seen() >= wanted or bool(self.failed), f"{count} replies {label}")


def show_requests(site: Site) -> None:
    """What clients see."""

    def show(method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        reply = ask(site.outer.port, method, path, body, Host=HOST, **headers)
        said = reply.body if not reply.body.startswith(b"P6") else reply.body.split(b"\n")[0]
        print(f"{method} {path}: {reply.status} {said.decode().strip()}")
        return reply

    show("PUT", "/photos/cat", PICTURE)
    show("PUT", "/photos/cat", bytes(100_000), Authorization=TOKEN)
    show("PUT", "/photos/cat", b"no picture", Authorization=TOKEN)
    show("PUT", "/photos/cat", PICTURE, Authorization=TOKEN)
    show("GET", "/photos/cat/about")
    show("GET", "/photos/cat?width=wide")
    reply = show("GET", "/photos/cat?width=16", **{"X-Request-Id": "the-cat"})
    print(f"  by {reply.way}")
    print("its lines in the access logs:")
    for name in ("outer", "inner"):
        log = site.folder / f"{name}.log"
        wanted = 1 if name == "outer" else 3

        def lines(log: Path = log) -> list[str]:
            return re.findall(r"^the-cat .*$", log.read_text(), re.MULTILINE)

        until(lambda lines=lines, wanted=wanted: len(lines()) == wanted, f"{name}.log")
        for line in lines():
            print(f"  {name}: {line}")


def show_changes(site: Site, clients: Clients) -> None:
    """What happens while clients send requests."""
    clients.wait_for(20)
    site.start_instance("thumbnail-3")
    clients.wait_for(5, "thumbnail-3")
    print("thumbnail-3 was added, and serves", flush=True)

    site.drain("watermark-1")
    print("watermark-1 has drained, and has left", flush=True)

    killed = {label: site.address(label) for label in ("photos-1", "storage-1", "thumbnail-1")}
    for label, address in killed.items():
        site.kill(label)
        clients.wait_for(20)
        name = label.partition("-")[0]
        balancer = site.outer if name == "photos" else site.inner
        until(lambda b=balancer, n=name, a=address: b.statuses(n)[a] == "err", f"{label}: err")
        print(f"{label} was killed, and its status is err", flush=True)
    clients.wait_for(20)


def main() -> int:
    with tempfile.TemporaryDirectory(prefix="slardar-microservices-") as folder:
        site = Site(Path(folder))
        try:
            site.start()
            print(f"outer slardar on port {site.outer.port}, inner on port {site.inner.port}")
            show_requests(site)
            with Clients(site.outer.port) as clients:
                show_changes(site, clients)
        except BaseException:
            for out in sorted(Path(folder).glob("*.out")):
                print(f"{out.name}:\n{out.read_text()[-2000:]}", file=sys.stderr)
            raise
        finally:
            site.stop()
        logs = ((site.folder / f"{name}.log").read_text() for name in ("outer", "inner"))
        outer, inner = (len(re.findall(r"attempts=[2-9]", log)) for log in logs)
    print("replies that each instance had part in:")
    for label, count in sorted(clients.served.items()):
        print(f"  {label}: {count}")
    print(f"sent again: {outer} by the outer slardar, {inner} by the inner one")
    print(f"{clients.replies} requests, {len(clients.failed)} failed")
    for failure in clients.failed[:10]:
        print(failure, file=sys.stderr)
    return 1 if clients.failed else 0


if __name__ == "__main__":
    sys.exit(main())
