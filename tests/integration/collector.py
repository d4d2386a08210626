"""A collector of spans for tests: takes OTLP over HTTP and reads it with OpenTelemetry's own
messages."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

__all__ = ["Collector", "attributes_of"]


def attributes_of(found: Any) -> dict[str, Any]:
    """The attributes of a span or a resource."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in found.attributes}


class Collector:
    """Answers posts on a port of its own, in threads."""

    def __init__(self, port: int = 0) -> None:
        #: Every post: its path, its headers and its message.
        self.posts: list[tuple[str, Any, Any]] = []
        #: What the next posts are answered with: a status and headers; then 200.
        self.answers: list[tuple[int, dict[str, str]]] = []
        #: Posts wait for it.
        self.goes_on = threading.Event()
        self.goes_on.set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                message = ExportTraceServiceRequest.FromString(gzip.decompress(body))
                collector.posts.append((self.path, self.headers, message))
                status, headers = collector.answers.pop(0) if collector.answers else (200, {})
                collector.goes_on.wait(60)
                answer = ExportTraceServiceResponse().SerializeToString()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: Any) -> None:
                pass

            def setup(self) -> None:
                super().setup()
                collector._connections.append(self.connection)

        self._connections: list[socket.socket] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self.port = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,))
        self._thread.start()

    def spans(self) -> list[Any]:
        """All spans that were taken or refused, in their order."""
        return list(self._spans())

    def _spans(self) -> Iterator[Any]:
        for _, _, message in list(self.posts):
            for resource in message.resource_spans:
                for scope in resource.scope_spans:
                    yield from scope.spans

    def end(self) -> None:
        """Take no more posts, and close every connection."""
        self.goes_on.set()
        self._server.shutdown()
        self._server.server_close()
        for connection in self._connections:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it is closed already
        self._thread.join()
