"""The same requests to a running slardar and to the simulator."""

from __future__ import annotations

import http.client
import json
import sys
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple

import yaml

import slardar
from benchmarks.processes import LOOPBACK, Program, free_port
from slardar.simulation.load import Arrival
from slardar.simulation.run import simulate
from slardar.simulation.scenario import read_scenario

__all__ = ["LIVE", "Compared", "compare", "deviation"]

#: The balancers whose choices do not depend on chance: others could not be compared request
#: by request.
LIVE: dict[str, dict[str, Any]] = {
    "wrr": {"mode": "wrr"},
    "hash": {"mode": "url_hash"},
    "maglev": {"mode": "maglev"},
    "sticky": {"mode": "sticky", "mode_opts": {"secret": "only for a benchmark"}},
}
_CLIENTS = 97
_TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")


class Compared(NamedTuple):
    """The largest deviation of the simulator from the running slardar, as a share of what the
    running one has: of the requests of any server, and of the retries."""

    requests: float
    retries: float
    #: The retries of the running one.
    found: int


class _Origin(BaseHTTPRequestHandler):
    """Replies with the status of its server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.send_response(self.server.status)  # type: ignore[attr-defined]
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


def _origin(status: int) -> ThreadingHTTPServer:
    server = ThreadingHTTPServer((LOOPBACK, 0), _Origin)
    server.status = status  # type: ignore[attr-defined]
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def compare(keys: Mapping[str, Any], count: int, folder: Path) -> Compared:
    """Send ``count`` requests through a slardar whose servers have weights 1 and 2, reply 500
    to everything, and do not listen; and simulate them.

    :raise RuntimeError: if slardar does not start.
    """
    origins = [_origin(status) for status in (200, 200, 500)]
    try:
        ports = [*(origin.server_address[1] for origin in origins), free_port()]
        upstream = {
            **keys,
            "enable": False,
            "http_opts": {"statuses": {"500": False}},
            "retry_on": ["connect", "error", "timeout", "status"],
            "retry_budget": None,
            "servers": [
                {"host": LOOPBACK, "port": port, "weight": weight}
                for port, weight in zip(ports, (1, 2, 1, 1), strict=True)
            ],
        }
        real = _live(upstream, count, folder)
    finally:
        for origin in origins:
            origin.shutdown()
            origin.server_close()
    names = [f"{LOOPBACK}:{port}" for port in ports]
    scenario = {
        "upstream": upstream,
        "servers": {"*": {"time": 0.001}, names[2]: {"time": 0.001, "errors": 1.0}},
        "failures": [{"at": 0, "server": names[3], "state": "dead"}],
    }
    path = folder / "scenario.yaml"
    path.write_text(yaml.safe_dump(scenario))
    arrivals = [
        Arrival(1 + number / 100, "GET", f"/{number}", f"10.0.0.{number % _CLIENTS}")
        for number in range(count)
    ]
    report = simulate(read_scenario(str(path)), arrivals)
    foretold = [report["servers"][name]["requests"] for name in names]
    return deviation(real, foretold, report["retries"], count)


def deviation(real: list[int], foretold: list[int], retries: int, count: int) -> Compared:
    """How far the simulator is off: the attempts of each server, and the retries."""
    found = sum(real) - count
    return Compared(
        max(abs(one - other) / max(1, one) for one, other in zip(real, foretold, strict=True)),
        abs(found - retries) / max(1, found),
        found,
    )


def _live(upstream: Mapping[str, Any], count: int, folder: Path) -> list[int]:
    """The attempts on each server, with the requests sent through a running slardar."""
    port, control = free_port(), free_port()
    config = folder / "slardar.yaml"
    config.write_text(json.dumps({"workers": 0, "upstreams": {"web": upstream}}))
    command = [*_TWISTD, "--nodaemon", "slardar", "--config", str(config), "--store", "memory:"]
    for option, number in (("--listen", port), ("--control", control)):
        command += [option, f"tcp:{number}:interface={LOOPBACK}"]
    root = str(Path(slardar.__file__).parent.parent)
    cores = frozenset(range(1024))
    program = Program("slardar", command, cores, folder, {"PYTHONPATH": root})
    try:
        program.wait_for_port(port)
        program.wait_for_port(control)
        _send(port, count)
        connection = http.client.HTTPConnection(LOOPBACK, control, timeout=20)
        connection.request("GET", "/status")
        (servers,) = json.loads(connection.getresponse().read())["cls:web"]
        connection.close()
        return [server["requests"] for server in servers]
    finally:
        program.stop()


def _send(port: int, count: int) -> None:
    """One request after the other, of clients that keep their cookies."""
    cookies: dict[int, str] = {}
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=20)
    for number in range(count):
        headers = {"Host": "web", "Cookie": cookies.get(number % _CLIENTS, "none=0")}
        connection.request("GET", f"/{number}", headers=headers)
        reply = connection.getresponse()
        reply.read()
        given = reply.headers.get("Set-Cookie")
        if given:
            cookies[number % _CLIENTS] = given.partition(";")[0]
    connection.close()
