"""A simulation beside the same requests on a running slardar."""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
import yaml

from slardar.simulation.load import read_log
from slardar.simulation.run import simulate
from slardar.simulation.scenario import read_scenario
from tests.integration.conftest import Start
from tests.integration.programs import Nginx, Slardar, free_port
from tests.integration.test_workers import until

#: Requests of the trace, and the clients who send them in turn.
COUNT = 400
CLIENTS = 21


@pytest.mark.parametrize(
    "keys",
    [
        {"mode": "wrr", "enable": False},
        {"mode": "url_hash", "enable": False},
        {"mode": "sticky", "mode_opts": {"secret": "0123456789abcdef"}, "enable": False},
        {"mode": "wrr", "interval": 1},
    ],
    ids=["wrr", "url_hash", "sticky", "heartbeats"],
)
def test_simulation_foretells(tmp_path: Path, start: Start, keys: dict[str, Any]) -> None:
    """Requests and failures of each server are the real ones within 5 %, with one that is
    dead from the beginning; no request fails.  Clients keep their cookies."""
    ports = [start(Nginx(tmp_path / f"n{n}", "location / { return 200; }")).port for n in (1, 2)]
    servers: list[dict[str, Any]] = [
        {"host": "127.0.0.1", "port": port, "max_fails": 2, "fail_timeout": 300, "weight": weight}
        for port, weight in zip([*ports, free_port()], (1, 2, 1), strict=True)
    ]
    upstream = {**keys, "servers": servers}

    slardar = start(Slardar(tmp_path / "slardar", "--store", "memory:")).ready()
    assert slardar.call("PUT", "/upstream/web", upstream)[0] == 200
    if "enable" not in keys:
        until(
            lambda: slardar.call("GET", "/status")[1]["cls:web"][0][2]["status"] == "err",
            "the dead server is known",
        )
    cookies: dict[int, str] = {}
    connection = http.client.HTTPConnection("127.0.0.1", slardar.port, timeout=20)
    for number in range(COUNT):
        headers = {"Host": "web", "Cookie": cookies.get(number % CLIENTS, "none=0")}
        connection.request("GET", f"/{number}", headers=headers)
        reply = connection.getresponse()
        given = reply.headers.get("Set-Cookie", "").partition(";")[0]
        if given:
            cookies[number % CLIENTS] = given
        reply.read()
        assert reply.status == 200
    connection.close()
    (shown,) = slardar.call("GET", "/status")[1]["cls:web"]
    real = [(server["requests"], server["failures"]) for server in shown]

    dead = f"127.0.0.1:{servers[2]['port']}"
    scenario = {"upstream": upstream, "failures": [{"at": 0, "server": dead, "state": "dead"}]}
    path = tmp_path / "scenario.yaml"
    path.write_text(yaml.safe_dump(scenario))
    log = [
        json.dumps(
            {
                "method": "GET",
                "client": f"10.0.0.{n % CLIENTS}",
                "uri": f"/{n}",
                "time": f"2026-01-01T00:{n // 60:02}:{n % 60:02}.5Z",
            }
        )
        for n in range(COUNT)
    ]
    # A request each hundredth of a second, about as they came, behind the first heartbeats.
    arrivals = [one._replace(at=1 + one.at / 100) for one in read_log(log, Random(0))]
    report = simulate(read_scenario(str(path)), arrivals)
    simulated = [(server["requests"], server["failures"]) for server in report["servers"].values()]
    assert report["failed"] == 0
    assert report["retries"] == pytest.approx(sum(failures for _, failures in real), rel=0.05)
    for found, expected in zip(simulated, real, strict=True):
        assert found == pytest.approx(expected, rel=0.05)
