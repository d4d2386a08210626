"""A Consul server for the measurements, and plain calls of its API."""

from __future__ import annotations

import base64
import http.client
import json
import os
import time
from pathlib import Path
from typing import Any

from benchmarks.processes import LOOPBACK, Program, find_program, free_port

__all__ = ["PREFIX", "Consul", "NoConsulError", "program_of"]

#: Where slardar's keys are.
PREFIX = "config/slardar/"
#: Where ``make test`` and ``make bench-stores`` unpack Consul.
_UNPACKED = Path(".venv/consul/usr/bin/consul")
#: Keys of one transaction, at most.
_AT_ONCE = 64


class NoConsulError(RuntimeError):
    """This machine has no Consul."""


def program_of() -> str:
    """The path of Consul's program.

    :raise NoConsulError: where there is none.
    """
    program = os.environ.get("CONSUL") or find_program("consul")
    if program is None and _UNPACKED.exists():
        program = str(_UNPACKED.resolve())
    if program is None:
        raise NoConsulError("Consul is not installed (scripts/fetch_consul)")
    return program


class Consul:
    """One server with a data folder of its own.

    :raise NoConsulError: where its program is not there.
    """

    def __init__(self, folder: Path) -> None:
        program = program_of()
        self.port = free_port()
        ports = {name: free_port() for name in ("server", "serf_lan", "serf_wan")}
        settings = {
            "server": True,
            "bootstrap_expect": 1,
            "bind_addr": LOOPBACK,
            "client_addr": LOOPBACK,
            "data_dir": str(folder / "consul-data"),
            "ports": {**ports, "http": self.port, "dns": -1, "grpc": -1},
        }
        path = folder / "consul.json"
        path.write_text(json.dumps(settings))
        command = [program, "agent", "-config-file", str(path)]
        self.program = Program("consul", command, frozenset(os.sched_getaffinity(0)), folder)
        self._connection: http.client.HTTPConnection | None = None
        end = time.monotonic() + 30
        while True:
            try:
                if self.call("GET", "/v1/status/leader"):
                    return
            except (OSError, http.client.HTTPException):
                self._connection = None
            if time.monotonic() > end:
                raise RuntimeError(f"Consul has no leader: {self.program.output.read_text()}")
            self.program.pause(0.1)

    @property
    def url(self) -> str:
        return f"http://{LOOPBACK}:{self.port}"

    @property
    def store(self) -> str:
        """slardar's ``store``."""
        return f"consul:{self.url}/{PREFIX}"

    def call(self, method: str, path: str, body: bytes | str | None = None) -> Any:
        """The JSON of an answer.

        :raise RuntimeError: for a status that is not 200.
        """
        if self._connection is None:
            self._connection = http.client.HTTPConnection(LOOPBACK, self.port, timeout=30)
        self._connection.request(method, path, body)
        reply = self._connection.getresponse()
        said = reply.read()
        if reply.status != 200:
            raise RuntimeError(f"Consul: {method} {path}: {reply.status} {said!r}")
        return json.loads(said) if said else None

    def put(self, key: str, value: object) -> None:
        """Write a key, as JSON unless it is a text."""
        text = value if isinstance(value, str) else json.dumps(value)
        if self.call("PUT", f"/v1/kv/{key}", text) is not True:
            raise RuntimeError(f"Consul has not written {key}")

    def fill(self, values: dict[str, object]) -> None:
        """Write many keys."""
        names = list(values)
        for at in range(0, len(names), _AT_ONCE):
            writes = [
                {
                    "KV": {
                        "Verb": "set",
                        "Key": name,
                        "Value": base64.b64encode(json.dumps(values[name]).encode()).decode(),
                    }
                }
                for name in names[at : at + _AT_ONCE]
            ]
            self.call("PUT", "/v1/txn", json.dumps(writes))

    def register(self, service: str, port: int) -> None:
        """A server of a service, by its port.  It passes its check from the beginning."""
        check = {"TCP": f"{LOOPBACK}:{port}", "Interval": "5s", "Status": "passing"}
        body = {
            "ID": f"{service}-{port}",
            "Name": service,
            "Address": LOOPBACK,
            "Port": port,
            "Check": check,
            # What Traefik follows only services with; others read no tags.
            "Tags": ["traefik.enable=true"],
        }
        self.call("PUT", "/v1/agent/service/register", json.dumps(body))

    def deregister(self, service: str, port: int) -> None:
        self.call("PUT", f"/v1/agent/service/deregister/{service}-{port}")

    def stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self.program.stop()
