"""A browser that trusts a CA of the test, over https through slardar."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Error
from websockets.sync.server import ServerConnection, serve

from tests.browser import PATIENCE, Browser
from tests.certificates import Authority
from tests.integration.conftest import Start
from tests.integration.programs import Slardar

SIZE = 2_000_000
SCRIPTS = 12
PAGE = f"""\
<!doctype html><title>waiting</title>
<link rel="stylesheet" href="/style.css">
{"".join(f'<script src="/script{number}.js"></script>' for number in range(SCRIPTS))}
<script>
  const socket = new WebSocket("wss://" + location.host + "/socket");
  const heard = new Promise((resolve, reject) => {{
    socket.onopen = () => socket.send("x".repeat({SIZE}));
    socket.onmessage = (event) => resolve(event.data.length);
    socket.onclose = (event) => reject("the socket closed with " + event.code);
  }});
  const large = fetch("/large").then((reply) => reply.arrayBuffer());
  const put = fetch("/put", {{method: "PUT", body: new Uint8Array({SIZE})}});
  Promise.all([large, put.then((reply) => reply.text()), heard]).then(
    ([body, size, said]) => {{
      socket.onclose = null;
      socket.close();
      document.title = [window.loaded, body.byteLength, size, said].join(" ");
    }},
    (error) => {{ document.title = "failed: " + error; }});
</script>
"""


class Origin(ThreadingHTTPServer):
    """Serves the page, and keeps what it is told of clients."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Request)
        self.subjects: queue.Queue[str | None] = queue.Queue()


class _Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Origin

    def do_GET(self) -> None:
        if self.path == "/":
            self.server.subjects.put(self.headers["X-Client-Cert-Subject"])
            self._reply("text/html", PAGE.encode())
        elif self.path == "/large":
            self._reply("application/octet-stream", bytes(SIZE))
        elif self.path.endswith(".css"):
            self._reply("text/css", b"body { color: green }")
        elif self.path.endswith(".js"):
            self._reply("text/javascript", b"window.loaded = (window.loaded || 0) + 1;")
        else:
            self._reply("text/plain", b"")

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._reply("text/plain", b"%d" % len(body))

    def _reply(self, kind: str, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing: it would stand among the output of the tests."""


def _echo(connection: ServerConnection) -> None:
    for message in connection:
        connection.send(message)


@pytest.fixture
def origin() -> Iterator[Origin]:
    """The server of the page."""
    with Origin() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def echo_port() -> Iterator[int]:
    """A WebSocket server that sends every text back."""
    with serve(_echo, "127.0.0.1", 0, max_size=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.socket.getsockname()[1]
        server.shutdown()
        thread.join()


#: Starts slardar with these words of ``tls.client``.
Served = Callable[..., Slardar]


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs the certificates of a test."""
    return Authority(tmp_path)


@pytest.fixture
def served(
    tmp_path: Path, authority: Authority, start: Start, origin: Origin, echo_port: int
) -> Served:
    """slardar with a certificate for a.example, in front of the servers."""
    ports = {"a.example": origin.server_port, "echo": echo_port}
    cert, key = authority.issue("a", ("a.example",))
    settings: dict[str, Any] = {
        "listen": ["tls:0:interface=127.0.0.1"],
        "upstreams": {
            name: {"servers": [{"host": "127.0.0.1", "port": port}]} for name, port in ports.items()
        },
        "routes": [{"path": "/socket", "upstream": "echo"}],
        "health": {"enabled": False},
        "tls": {"certificates": [{"cert": str(cert), "key": str(key)}]},
    }

    def run(**client: str) -> Slardar:
        if client:
            settings["tls"]["client"] = client
        (tmp_path / "slardar.yaml").write_text(json.dumps(settings))
        options = ("--config", str(tmp_path / "slardar.yaml"), "--store", "memory:")
        tls = ("--listen", "tls:0:interface=127.0.0.1")
        slardar: Slardar = start(Slardar(tmp_path / "run", *options, *tls)).ready()
        slardar.port = int(slardar.wait_for(r"requests on tls 127\.0\.0\.1:(\d+)")[1])
        return slardar

    return run


def test_page_over_https(tmp_path: Path, authority: Authority, served: Served) -> None:
    """Chromium believes the certificate, gets a page with a dozen parts, uploads, downloads and
    talks over a WebSocket; it keeps connections, and speaks HTTP/1.1 over TLS 1.3."""
    slardar = served()
    with Browser(tmp_path, [authority.file]) as browser:
        page = browser.page()
        reply = page.goto(f"https://a.example:{slardar.port}/")
        assert reply is not None
        assert reply.status == 200
        details = reply.security_details()
        assert details is not None
        assert (details["protocol"], details["subjectName"]) == ("TLS 1.3", "a.example")
        page.wait_for_function("document.title !== 'waiting'")
        assert page.title() == f"{SCRIPTS} {SIZE} {SIZE} {SIZE}"
        entries = page.evaluate(
            "[...performance.getEntriesByType('navigation'),"
            " ...performance.getEntriesByType('resource')].map((one) => one.nextHopProtocol)"
        )
        assert len(entries) >= SCRIPTS + 4
        assert set(entries) == {"http/1.1"}
        assert browser.complaints == []
    # Chromium has six connections for a host, and one for the WebSocket; a session resumes.
    assert slardar.call("GET", "/status")[1]["statistics"]["accepted"] <= 8
    assert "TLS handshake with" not in slardar.output


def test_certificate_of_a_browser(
    tmp_path: Path, authority: Authority, served: Served, origin: Origin
) -> None:
    """Chromium shows its user's certificate, and the server learns whose it is; without one it
    tells its user so."""
    slardar = served(verify="require", ca=str(authority.file))
    url = f"https://a.example:{slardar.port}/"
    with Browser(tmp_path / "alice", [authority.file], authority.issue("alice", ("alice",))) as one:
        reply = one.page().goto(url)
        assert reply is not None
        assert reply.status == 200
    assert origin.subjects.get(timeout=PATIENCE) == "CN=alice"
    with Browser(tmp_path / "nobody", [authority.file]) as one:
        page = one.page()
        with pytest.raises(Error, match=r"net::ERR_"):
            page.goto(url)
    assert origin.subjects.empty()
