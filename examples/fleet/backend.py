"""A web server that registers itself in Consul, as one of several of a service.

::

    python backend.py http://127.0.0.1:8500 web v1

It listens on a port that the system chooses.  ``SIGTERM`` takes it out: it leaves Consul first, and
goes on serving whatever still comes for ``LINGER`` seconds.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

#: Seconds from leaving Consul to the end: more than slardar takes to hear of it, and more than a
#: request takes.
LINGER = 1.0


class Page(BaseHTTPRequestHandler):
    """Answers with the version."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = f"{self.server.version}\n".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - the library's name

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    version = ""


def call_consul(agent: str, path: str, body: object = None) -> None:
    """A call of Consul's agent; raises if the agent does not accept it."""
    data = b"" if body is None else json.dumps(body).encode()
    token = os.environ.get("CONSUL_HTTP_TOKEN")
    headers = {"X-Consul-Token": token} if token else {}
    request = urllib.request.Request(f"{agent}/v1/agent/{path}", data, headers, method="PUT")
    with urllib.request.urlopen(request, timeout=10):
        pass


def main(agent: str, service: str, version: str) -> None:
    server = Server(("127.0.0.1", 0), Page)
    server.version = version
    host, port = server.server_address[:2]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    ended = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: ended.set())
    name = f"{service}-{port}"
    # It serves already, so it is passing from the beginning.
    check = {"TCP": f"{host}:{port}", "Interval": "2s", "Status": "passing"}
    call_consul(
        agent,
        "service/register",
        {
            "ID": name,
            "Name": service,
            "Tags": [version],
            "Address": host,
            "Port": port,
            "Check": check,
        },
    )
    print(f"{version} serves on {host}:{port}", flush=True)
    ended.wait()
    call_consul(agent, f"service/deregister/{name}")
    threading.Event().wait(LINGER)
    server.shutdown()


if __name__ == "__main__":
    main(*sys.argv[1:])
