"""slardar as the soak runs it: twistd, its generations and its workers, by process id."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.backends import Backends
from benchmarks.processes import LOOPBACK, Program, free_port
from benchmarks.soak.clients import SMALL, nap, until

__all__ = ["Ground", "Site", "is_running", "server", "upstream"]

ROOT = Path(__file__).resolve().parent.parent.parent
#: twistd with this Python and the slardar of this checkout.
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
#: Seconds for steps that take long on a busy machine.
PATIENCE = 60.0


@dataclass
class Ground:
    """Shared by the rows: a folder, the backends of the load, and a way to print lines."""

    folder: Path
    backends: Backends
    say: Callable[[str], None]
    cores: frozenset[int]

    def room(self, name: str) -> Path:
        """A folder for one row."""
        path = self.folder / name
        path.mkdir()
        return path

    def loaded(self) -> dict[str, Any]:
        """The upstream under load."""
        return upstream(*self.backends.ports)


def server(port: int, **keys: Any) -> dict[str, Any]:
    """A server on a local port."""
    return {"host": LOOPBACK, "port": port, **keys}


def upstream(*ports: int, **keys: Any) -> dict[str, Any]:
    """An upstream of servers on local ports."""
    return {"servers": [server(port) for port in ports], **keys}


def is_running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Site:
    """A running slardar with its own configuration file; knows its newest generation."""

    def __init__(
        self,
        ground: Ground,
        name: str,
        upstreams: Mapping[str, Any] | None = None,
        workers: int = 2,
        **settings: Any,
    ) -> None:
        self.folder = ground.room(name)
        self._cores = ground.cores
        self._settings = {"workers": workers, **settings}
        self.upstreams: dict[str, Any] = {SMALL.host: ground.loaded(), **(upstreams or {})}
        self._ground = ground
        self.port, self.control = free_port(), free_port()
        self._programs: list[Program] = []
        self.write()
        self.start()

    def __enter__(self) -> Site:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    def loaded(self, turn: int) -> dict[str, Any]:
        """The upstream under load, with other weights each turn."""
        found = self._ground.loaded()
        found["servers"][0]["weight"] = 1 + turn % 3
        return found

    def write(self) -> None:
        """Write the configuration file."""
        text = json.dumps({**self._settings, "upstreams": self.upstreams})
        (self.folder / "slardar.yaml").write_text(text)

    def start(self) -> None:
        """Start slardar, and wait until every worker serves.

        :raise RuntimeError: with its output, if a worker does not serve.
        """
        listen = [f"tcp:{port}:interface={LOOPBACK}" for port in (self.port, self.control)]
        command = [*TWISTD, "--nodaemon", "slardar", "--config", "slardar.yaml"]
        command += ["--listen", listen[0], "--control", listen[1]]
        environment = {"PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        name = f"slardar-{len(self._programs)}"
        program = Program(name, command, self._cores, self.folder, environment)
        self._programs.append(program)
        self.director = program.pid
        try:
            program.wait_for_port(self.control, PATIENCE)
            program.wait_for_port(self.port, PATIENCE)
            until(self.is_whole, "every worker serves", PATIENCE)
        except BaseException:
            self.stop()
            raise

    @property
    def output(self) -> str:
        """All output of slardar."""
        return "".join(program.output.read_text(errors="replace") for program in self._programs)

    def stop(self) -> None:
        """End the newest generation with SIGTERM, then kill the processes that are left.

        Every generation and worker is in the process group of the first generation.
        """
        if is_running(self.director) and self.director != self._programs[-1].pid:
            os.kill(self.director, signal.SIGTERM)
            end = time.monotonic() + 5
            while is_running(self.director) and time.monotonic() < end:
                nap(0.02)
        for program in self._programs:
            program.stop()

    def kill(self) -> None:
        """Kill the director of the last start, and wait for its end, but not its workers'."""
        self._programs[-1].kill()

    def call(self, method: str, path: str, body: object = None) -> Any:
        """The answer to a call of the control channel.

        :raise RuntimeError: if the call is refused.
        """
        connection = http.client.HTTPConnection(LOOPBACK, self.control, timeout=PATIENCE)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            reply = connection.getresponse()
            text = reply.read()
        except (OSError, http.client.HTTPException) as error:
            raise RuntimeError(f"{method} {path}: {error!r}") from error
        finally:
            connection.close()
        if reply.status != 200:
            raise RuntimeError(f"{method} {path}: {reply.status} {text[:200]!r}")
        return json.loads(text)

    def put(self, name: str, body: Mapping[str, Any]) -> float:
        """Change an upstream; returns the seconds that the call took."""
        begin = time.perf_counter()
        self.call("PUT", f"/upstream/{name}", body)
        return time.perf_counter() - begin

    def status(self) -> dict[str, Any]:
        """The answer to ``GET /status``."""
        found: dict[str, Any] = self.call("GET", "/status")
        return found

    def version(self) -> int:
        """The configuration's version."""
        found: int = self.status()["shd_config_version"]
        return found

    def is_whole(self) -> bool:
        """Whether every worker serves."""
        return set(self.status()["config_timer"].values()) == {"alive"}

    def workers(self) -> dict[str, int]:
        """The process ids of the workers."""
        return {name: about["pid"] for name, about in self.status()["workers"].items()}

    def pids(self) -> dict[str, int]:
        """The process ids of the director and the workers."""
        return {"director": self.director, **self.workers()}

    def hup(self) -> None:
        """Make slardar read the file again, which must have changed; wait for the workers.

        A signal has no answer, and ``/status`` shows the new version before the workers have
        it.  So this waits until the workers report the new version.

        :raise RuntimeError: if no new version is served.
        """
        before = self.version()
        os.kill(self.director, signal.SIGHUP)
        until(lambda: self._served() > before, "the file is read again", PATIENCE)

    def _served(self) -> int:
        """The version that every worker serves, by the workers' last reports."""
        workers = self.status()["workers"].values()
        return min(worker["version"] or 0 for worker in workers)

    def usr2(self) -> None:
        """Upgrade slardar with USR2.

        :raise RuntimeError: if no new generation serves within a minute.
        """
        old = self.director
        os.kill(old, signal.SIGUSR2)
        until(lambda: self._newest() != old, "a new generation serves", PATIENCE)
        self.director = self._newest()

    def _newest(self) -> int:
        pid: int = self.status()["generations"][0]["pid"]
        return pid
