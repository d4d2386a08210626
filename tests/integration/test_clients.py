"""Usual clients, through slardar: requests, WebSockets, a browser, wrk."""

from __future__ import annotations

import queue
import re
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests
from websockets.sync.client import connect
from websockets.sync.server import ServerConnection, serve

from tests.browser import PATIENCE, Browser
from tests.integration.conftest import Start
from tests.integration.programs import Nginx, Slardar

#: A page that fetches, talks over a WebSocket, and posts the result.
PAGE = """\
<!doctype html><title>slardar</title>
<script>
  const fetched = fetch("/who").then((reply) => reply.text());
  const heard = new Promise((resolve, reject) => {
    const socket = new WebSocket("ws://" + location.host + "/socket");
    socket.onopen = () => socket.send("hello");
    socket.onmessage = (event) => resolve(event.data);
    socket.onclose = (event) => reject("the socket closed with " + event.code);
  });
  Promise.all([fetched, heard])
    .then(([who, said]) => "fetched " + who + " and heard " + said, (error) => "failed: " + error)
    .then((result) => fetch("/result", {method: "POST", body: result}));
</script>
"""


class PageServer(ThreadingHTTPServer):
    """Serves the page and its name, and keeps the result that the page posts."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _PageRequest)
        self.results: queue.Queue[str] = queue.Queue()


class _PageRequest(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: PageServer

    def do_GET(self) -> None:
        texts = {"/": PAGE, "/who": "pages"}
        self._reply(200 if self.path in texts else 404, texts.get(self.path, ""))

    def do_POST(self) -> None:
        self.server.results.put(self.rfile.read(int(self.headers["Content-Length"])).decode())
        self._reply(200, "")

    def _reply(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/html; charset=utf-8")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *_: object) -> None:
        """Log nothing: it would stand among the output of the tests."""


def _echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A WebSocket server that sends every text back."""
    with serve(_echo, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def pages() -> Iterator[PageServer]:
    """The server of the page, in a thread."""
    with PageServer() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_requests_session_keeps_its_connection(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """Replies, errors and uploads work over one kept connection."""
    slardar = start(Slardar(tmp_path, "--upstream", f"a={nginx.address}")).ready()
    with requests.Session() as session:
        session.trust_env = False
        session.headers["Host"] = "a"
        for _ in range(5):
            reply = session.get(slardar.url("/who"), timeout=20)
            assert (reply.status_code, reply.text) == (200, "nginx\n")
        assert session.head(slardar.url("/who"), timeout=20).headers["Content-Length"] == "6"
        assert session.get(slardar.url("/slow"), timeout=20).content == b"x" * 200_000
        # A body in chunks that nginx does not want: its 405 arrives.
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


def test_browser_shows_a_page_and_talks(
    tmp_path: Path, start: Start, echo_port: int, pages: PageServer, browser: Browser
) -> None:
    """Chromium loads a page, which fetches, holds a WebSocket and posts the result; a route
    sends paths of one host to two upstreams."""
    slardar = start(Slardar(tmp_path)).ready()
    for name, port in (("echo", echo_port), ("pages", pages.server_port)):
        servers = [{"host": "127.0.0.1", "port": port}]
        assert slardar.call("PUT", f"/upstream/{name}", {"servers": servers})[0] == 200
    routes = [{"path": "/socket", "upstream": "echo"}, {"host": "127.0.0.1", "upstream": "pages"}]
    assert slardar.call("PUT", "/routes", routes)[0] == 200
    browser.page().goto(slardar.url())
    result = pages.results.get(timeout=PATIENCE)
    assert browser.complaints == []
    assert result == "fetched pages and heard hello"


def test_changes_under_load_fail_no_request(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """While wrk runs, servers are added, weighted, drained and removed, and other upstreams
    come and go: no request fails."""
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
