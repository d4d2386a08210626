"""What slardar counts, as Prometheus and an operator see it."""

from __future__ import annotations

import gzip
import http.client
import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.conftest import Start
from tests.integration.programs import FileServer, Nginx, Program, Slardar, free_port
from tests.integration.test_workers import Team, until
from tests.integration.upgrades import Upgraded

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "monitoring"

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None, reason="prometheus is not here"
)


def fetch(server: Slardar, *encodings: str) -> tuple[http.client.HTTPResponse, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", server.control, timeout=20)
    try:
        connection.request("GET", "/metrics", headers={"Accept-Encoding": ", ".join(encodings)})
        response = connection.getresponse()
        return response, response.read()
    finally:
        connection.close()


def samples(server: Slardar) -> Samples:
    """All samples of a scrape, by their names and labels."""
    _, body = fetch(server)
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


def value(server: Slardar, name: str, /, **labels: str) -> float:
    """One sample; 0 if there is none."""
    return samples(server).get((f"slardar_{name}", tuple(sorted(labels.items()))), 0.0)


def eventually(server: Slardar, expected: float, name: str, /, **labels: str) -> None:
    """Wait until a sample has this value: workers tell once a second."""
    until(lambda: value(server, name, **labels) == expected, f"{name} is {expected}")


def upstream(*addresses: str) -> dict[str, Any]:
    servers = [
        {"host": host, "port": int(port)}
        for host, port in (address.split(":") for address in addresses)
    ]
    return {"enable": False, "servers": servers}


@pytest.fixture(scope="module", params=[0, 2])
def server(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Slardar]:
    """slardar in one process, and with two workers; the tests share it."""
    folder = tmp_path_factory.mktemp("slardar")
    count = request.param
    found: Slardar = Team(folder, count=count) if count else Slardar(folder)
    try:
        yield found.ready()
    finally:
        found.end()


@pytest.mark.real
def test_requests_are_counted(server: Slardar, nginx: Nginx) -> None:
    """Served, missing, failed and refused ones; a change of the upstream; and a call that wants
    gzip gets the same."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{silent.getsockname()[1]}"
        server.call("PUT", "/upstream/a", upstream(nginx.address, dead))
        before = value(server, "added_seconds_count")
        for _ in range(4):
            assert server.get("a", "/who")[0] == 200
        assert server.get("a", "/none")[0] == 404
        assert server.get("b", "/who")[0] == 502
    eventually(server, 4, "requests_total", upstream="a", code="200")
    eventually(server, 1, "requests_total", upstream="a", code="404")
    eventually(server, 1, "refused_total", reason="no_upstream")
    found = samples(server)

    def one(name: str, **labels: str) -> float:
        return found["slardar_" + name, tuple(sorted(labels.items()))]

    failures = one("server_failures_total", upstream="a", server=dead, kind="connect")
    assert failures >= 1
    assert one("server_requests_total", upstream="a", server=dead, code="0") == failures
    assert one("server_requests_total", upstream="a", server=nginx.address, code="200") == 4
    assert one("retries_total", upstream="a") == failures
    assert one("request_duration_seconds_count", upstream="a") == 5
    assert one("request_duration_seconds_bucket", upstream="a", le="10") == 5
    assert one("added_seconds_count") - before == 5
    assert one("bytes_received_total", upstream="a") > 5 * 40
    assert one("bytes_sent_total", upstream="a") > 5 * 40
    assert one("server_up", upstream="a", server=nginx.address) == 1
    assert one("server_active_requests", upstream="a", server=nginx.address) == 0
    assert one("workers", state="alive") == (2 if isinstance(server, Team) else 1)
    assert one("config_version") >= 1
    assert one("connections", listener="tcp:0:interface=127.0.0.1") == 0
    assert one("store_stale_seconds") == 0
    (fingerprint,) = [key for key in found if key[0] == "slardar_config_fingerprint_info"]
    assert fingerprint[1] == (("fingerprint", server.call("GET", "/status")[1]["fingerprint"]),)

    response, body = fetch(server, "br", "gzip")
    assert response.headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert response.headers["Content-Encoding"] == "gzip"
    response, plain = fetch(server, "gzip;q=0")
    assert "Content-Encoding" not in response.headers
    assert gzip.decompress(body).splitlines()[:8] == plain.splitlines()[:8]

    server.call("PUT", "/upstream/a", {**upstream(nginx.address), "cluster": None})
    server.call("DELETE", f"/upstream/a/{dead}")
    until(lambda: dead not in fetch(server)[1].decode(), "the removed server is gone")
    assert value(server, "requests_total", upstream="a", code="200") == 4


@pytest.mark.real
def test_what_is_under_way(server: Slardar) -> None:
    """Connections, requests and bytes of a download that has not ended."""
    listener = "tcp:0:interface=127.0.0.1"
    with socket.create_server(("127.0.0.1", 0)) as origin:
        address = f"127.0.0.1:{origin.getsockname()[1]}"
        server.call("PUT", "/upstream/d", upstream(address))
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: d\r\n\r\n")
            connection, _ = origin.accept()
            with connection:
                connection.recv(65536)
                eventually(server, 1, "connections", listener=listener)
                eventually(server, 1, "server_active_requests", upstream="d", server=address)
                head = b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n"
                connection.sendall(head + b"x" * 2_000_000)
                got = 0
                while got < 2_000_000:
                    got += len(client.recv(1 << 16))
                until(
                    lambda: value(server, "bytes_sent_total", upstream="d") >= 2_000_000,
                    "the bytes so far are counted",
                )
                assert value(server, "requests_total", upstream="d", code="200") == 0
                connection.sendall(b"x" * 1_000_000)
                while got < 3_000_000:
                    got += len(client.recv(1 << 16))
        eventually(server, 1, "requests_total", upstream="d", code="200")
        sent = value(server, "bytes_sent_total", upstream="d")
        assert 3_000_000 < sent < 3_001_000
        eventually(server, 0, "connections", listener=listener)


@pytest.mark.real
def test_hooks_and_health(server: Slardar, nginx: Nginx) -> None:
    """Calls of a hook by their outcome, and a server that heartbeats find dead."""
    before = value(server, "refused_total", reason="hook")
    server.call("PUT", "/upstream/h", upstream(nginx.address))
    code = "def on_request(request):\n    if request.path == '/bad':\n        raise ValueError\n"
    assert server.call("POST", "/python/script.h?activate=1", code)[0] == 200
    for path, status in (("/who", 200), ("/who", 200), ("/bad", 500)):
        assert server.get("h", path)[0] == status
    eventually(server, 2, "hook_calls_total", hook="python/script.h", outcome="ok")
    eventually(server, 1, "hook_calls_total", hook="python/script.h", outcome="error")
    assert value(server, "hook_seconds_total", hook="python/script.h") > 0
    assert value(server, "refused_total", reason="hook") == before + 1
    dead = f"127.0.0.1:{free_port()}"
    body = {**upstream(nginx.address, dead), "enable": True, "interval": 0.1}
    server.call("PUT", "/upstream/b", body)
    eventually(server, 0, "server_up", upstream="b", server=dead)
    assert value(server, "server_up", upstream="b", server=nginx.address) == 1


@pytest.mark.real
def test_worker_that_dies_takes_nothing_back(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """Neither does an upgrade, which also carries the counts that come after it."""
    server = start(Upgraded(tmp_path, count=1)).ready()
    server.call("PUT", "/upstream/a", upstream(nginx.address))
    for _ in range(10):
        server.get("a", "/who")
    eventually(server, 10, "requests_total", upstream="a", code="200")
    before = samples(server)
    for worker in server.status()["workers"].values():
        os.kill(worker["pid"], signal.SIGKILL)
    eventually(server, 1, "worker_restarts_total")
    eventually(server, 1, "workers", state="alive")
    assert value(server, "requests_total", upstream="a", code="200") == 10
    server.get("a", "/who")
    eventually(server, 11, "requests_total", upstream="a", code="200")

    with socket.create_server(("127.0.0.1", 0)) as origin:
        server.call("PUT", "/upstream/b", upstream(f"127.0.0.1:{origin.getsockname()[1]}"))
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            # A request that the old process ends after the new one has taken over.
            client.sendall(b"GET / HTTP/1.1\r\nHost: b\r\nConnection: close\r\n\r\n")
            connection, _ = origin.accept()
            with connection:
                connection.recv(65536)
                server.upgrade()
                found = samples(server)
                assert found["slardar_requests_total", (("code", "200"), ("upstream", "a"))] == 11
                server.get("a", "/who")
                eventually(server, 12, "requests_total", upstream="a", code="200")
                assert value(server, "requests_total", upstream="b", code="200") == 0
                connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                assert client.recv(100).startswith(b"HTTP/1.1 200")
    eventually(server, 1, "requests_total", upstream="b", code="200")
    assert value(server, "worker_restarts_total") == 1
    after = samples(server)
    counters = [key for key in before if key[0].endswith(("_total", "_count", "_sum", "_bucket"))]
    assert counters
    assert all(after[key] >= before[key] for key in counters)


class Prometheus(Program):
    """A real Prometheus that scrapes one slardar, with the example's configuration."""

    def __init__(self, folder: Path, server: Slardar) -> None:
        folder.mkdir()
        for file in ("prometheus.yml", "rules.yml"):
            text = (EXAMPLES / file).read_text()
            text = text.replace("localhost:1995", f"127.0.0.1:{server.control}")
            (folder / file).write_text(text.replace("interval: 15s", "interval: 1s"))
        self.port = free_port()
        super().__init__(
            [
                "prometheus",
                f"--config.file={folder / 'prometheus.yml'}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{self.port}",
            ],
            folder,
        )
        self.wait_for("Server is ready to receive web requests")

    def ask(self, path: str, **parameters: str) -> Any:
        """The data of an answer of its API."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        try:
            connection.request("GET", f"/api/v1/{path}?{urllib.parse.urlencode(parameters)}")
            answer = json.loads(connection.getresponse().read())
        finally:
            connection.close()
        assert answer["status"] == "success", answer
        return answer["data"]

    def results(self, query: str) -> list[float]:
        """The values of a query now."""
        return [float(one["value"][1]) for one in self.ask("query", query=query)["result"]]


@pytest.mark.real
@needs_prometheus
def test_prometheus_scrapes(tmp_path: Path, start: Start, files: FileServer) -> None:
    """With the example's configuration and rules; every query of the dashboard is one that it
    understands."""
    server = start(Slardar(tmp_path / "slardar")).ready()
    server.call("PUT", "/upstream/a", upstream(files.address))
    for _ in range(3):
        server.get("a", "/who")
    prometheus = start(Prometheus(tmp_path / "prometheus", server))
    until(
        lambda: prometheus.results('slardar_requests_total{upstream="a",code="200"}') == [3.0],
        "Prometheus has the sample",
    )
    (target,) = prometheus.ask("targets")["activeTargets"]
    assert (target["health"], target["lastError"]) == ("up", "")
    (group,) = prometheus.ask("rules")["groups"]
    assert len(group["rules"]) >= 5
    for query in queries():
        prometheus.ask("query", query=query)


def queries() -> Iterator[str]:
    """The queries of the dashboard, with its variables filled in."""
    dashboard = json.loads((EXAMPLES / "dashboard.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len(panels) >= 8
    for panel in panels:
        for target in panel["targets"]:
            query = (
                target["expr"]
                .replace("$__rate_interval", "1m")
                .replace("$upstream", ".*")
                .replace("$instance", ".*")
            )
            assert "$" not in query
            yield query


@pytest.mark.real
@needs_prometheus
def test_rules_do_what_they_say() -> None:
    """promtool takes the rules and runs their tests."""
    for words in (["check", "rules", "rules.yml"], ["test", "rules", "rules_test.yml"]):
        done = subprocess.run(
            ["promtool", *words],
            cwd=EXAMPLES,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "SUCCESS" in done.stdout
