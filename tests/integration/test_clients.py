"""Clients that people use, through slardar: requests, WebSockets, a browser, wrk."""

from __future__ import annotations

import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.integration.conftest import Start
from tests.integration.programs import FileServer, Nginx, Slardar

PAGE = """\
<!doctype html><title>waiting</title>
<script>
  const parts = [];
  function done(part) {
    parts.push(part);
    if (parts.length === 2) document.title = parts.sort().join(" and ");
  }
  fetch("/who").then((reply) => reply.text()).then((text) => done("fetched " + text.trim()));
  const socket = new WebSocket("ws://" + location.host + "/socket");
  socket.onopen = () => socket.send("hello");
  socket.onmessage = (event) => done("heard " + event.data);
</script>
"""


def _echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A WebSocket server that says everything again."""
    with serve(_echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


def test_requests_session_keeps_its_connection(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """Replies, errors and uploads come as they should over one kept connection."""
    slardar = start(Slardar(tmp_path, "--upstream", f"a={nginx.address}")).ready()
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Host"] = "a"
        for _ in range(5):
            reply = session.get(slardar.url("/who"), timeout=20)
            assert (reply.status_code, reply.text) == (200, "nginx\n")
        assert session.head(slardar.url("/who"), timeout=20).headers["Content-Length"] == "6"
        assert session.get(slardar.url("/slow"), timeout=20).content == b"x" * 200_000
        # A body in chunks, of which nginx wants nothing: its 405 gets through.
        chunks = (b"x" * 1000 for _ in range(100))
        assert session.put(slardar.url("/slow"), data=chunks, timeout=20).status_code == 405
        unknown = session.get(slardar.url("/who"), headers={"Host": "b"}, timeout=20)
        assert unknown.status_code == 502
        assert unknown.json()["status"] == 502
    _, status = slardar.call("GET", "/status")
    assert status["statistics"]["accepted"] <= 3


def test_websocket_lives_through_changes(tmp_path: Path, start: Start, echo_port: int) -> None:
    """Messages of any size go both ways, also after its upstream was changed and removed."""
    slardar = start(Slardar(tmp_path, "--upstream", f"127.0.0.1=127.0.0.1:{echo_port}")).ready()
    url = f"ws://127.0.0.1:{slardar.port}/socket"
    with connect(url, proxy=None, max_size=None) as socket:
        for message in ("hello", "x" * 1_000_000, b"\0\1\2" * 100_000):
            socket.send(message)
            assert socket.recv(timeout=20) == message
        server = {"host": "127.0.0.1", "port": echo_port, "state": "drain"}
        assert slardar.call("PUT", "/upstream/127.0.0.1", {"servers": [server]})[0] == 200
        socket.send("draining")
        assert socket.recv(timeout=20) == "draining"
        assert slardar.call("DELETE", "/upstream/127.0.0.1")[0] == 200
        socket.send("removed")
        assert socket.recv(timeout=20) == "removed"


def test_browser_shows_a_page_and_talks(tmp_path: Path, start: Start, echo_port: int) -> None:
    """Chromium loads a page, fetches, and holds a WebSocket: paths of one host go to
    two upstreams by a route."""
    files = start(FileServer(tmp_path / "www", {"index.html": PAGE, "who": "http.server\n"}))
    slardar = start(Slardar(tmp_path)).ready()
    slardar.call("PUT", "/upstream/echo", {"servers": [{"host": "127.0.0.1", "port": echo_port}]})
    slardar.call("PUT", "/upstream/pages", {"servers": [{"host": "127.0.0.1", "port": files.port}]})
    routes = [{"path": "/socket", "upstream": "echo"}, {"host": "127.0.0.1", "upstream": "pages"}]
    assert slardar.call("PUT", "/routes", routes)[0] == 200
    command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]
    command += ["--no-first-run", "--disable-background-networking", "--disable-component-update"]
    command += ["--disable-sync", "--no-proxy-server", f"--user-data-dir={tmp_path / 'profile'}"]
    command += ["--virtual-time-budget=10000", "--dump-dom", slardar.url()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    title = re.search("<title>(.*)</title>", done.stdout)
    assert title is not None, done.stdout + done.stderr
    assert title[1] == "fetched http.server and heard hello"


def test_changes_under_load_fail_no_request(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """While wrk runs, servers are added, weighted, drained and removed, and other
    upstreams come and go: not one request fails."""
    other = start(Nginx(tmp_path / "other", 'location = /who { return 200 "other\\n"; }'))
    slardar = start(Slardar(tmp_path, "--upstream", f"a={nginx.address}")).ready()
    load = subprocess.Popen(
        ["wrk", "-t1", "-c32", "-d4s", "-H", "Host: a", slardar.url("/who")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    two = [{"host": "127.0.0.1", "port": server.port} for server in (nginx, other)]
    changes = 0
    while load.poll() is None:
        for method, path, body in (
            ("PUT", "/upstream/a", {"servers": two}),
            ("PATCH", f"/upstream/a/{other.address}", {"weight": 5}),
            ("PUT", "/upstream/b", {"servers": two}),
            ("PATCH", f"/upstream/a/{nginx.address}", {"state": "drain"}),
            ("PUT", "/routes", [{"host": "c", "upstream": "b"}]),
            ("PATCH", f"/upstream/a/{nginx.address}", {"state": "up"}),
            ("DELETE", "/upstream/b", None),
            ("PUT", "/upstream/a", {"servers": two[:1]}),
        ):
            assert slardar.call(method, path, body)[0] == 200
            changes += 1
    assert load.stdout is not None
    report = load.stdout.read()
    load.stdout.close()
    assert changes >= 16
    assert "Socket errors" not in report, report
    assert "Non-2xx" not in report, report
    served = re.search(r"(\d+) requests in", report)
    assert served is not None, report
    assert int(served[1]) > 1000
