"""Five small services that make one image service.  A process is one instance of one of them.

::

    INNER=127.0.0.1:8081 REGISTRY=http://127.0.0.1:1996 python services.py thumbnail thumbnail-1

``INNER`` is the slardar through which services call each other: the Host is the name of the
service, and no service knows an address of another.  ``REGISTRY`` is the control channel of the
slardar whose upstream gets this instance as a server.  ``SIGTERM`` drains the instance, and then
ends it.

Pictures are PPM files (``P6``), because Python needs no library for them.
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

INNER = os.environ.get("INNER", "127.0.0.1:8081")
REGISTRY = os.environ.get("REGISTRY", "http://127.0.0.1:1996")
#: Instances of ``storage`` share this folder.
FOLDER = Path(os.environ.get("PHOTOS", "."))


class Failed(Exception):
    """The reply is no 200; ``status`` is what the client gets."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Call(NamedTuple):
    """A request, as a service sees it."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes
    #: Goes along with every call, so that the logs of both slardars have the same id.
    request_id: str
    #: The instances that had part in the reply.
    way: list[str]


def ask(call: Call, service: str, method: str, path: str = "/", body: bytes = b"") -> bytes:
    """What another service answers.  slardar finds it by its name, and tries again if need be."""
    connection = http.client.HTTPConnection(INNER, timeout=15)
    try:
        headers = {"Host": service, "X-Request-Id": call.request_id}
        connection.request(method, path, body, headers)
        reply = connection.getresponse()
        content = reply.read()
    finally:
        connection.close()
    if reply.status != 200:
        raise Failed(reply.status, f"{service}: {content.decode('latin-1').strip()}")
    call.way.append(reply.headers["X-Way"])
    return content


class Picture(NamedTuple):
    width: int
    height: int
    pixels: bytes

    @classmethod
    def read(cls, data: bytes) -> Picture:
        try:
            kind, width, height, depth, pixels = data.split(maxsplit=4)
            picture = cls(int(width), int(height), pixels)
        except ValueError:
            raise Failed(400, "this is no picture") from None
        if (kind, depth) != (b"P6", b"255") or len(pixels) != 3 * picture.width * picture.height:
            raise Failed(400, "this is no picture")
        return picture

    def written(self) -> bytes:
        return b"P6 %d %d 255\n" % (self.width, self.height) + self.pixels

    def pixel(self, x: int, y: int) -> bytes:
        place = 3 * (y * self.width + x)
        return self.pixels[place : place + 3]


# The services.


def photos(call: Call) -> bytes:
    """What clients see: takes pictures, and gives small ones with a mark."""
    name, _, part = call.path.removeprefix("/photos/").partition("/")
    if not name.isalnum() or part not in ("", "about"):
        raise Failed(404, "there is nothing here")
    if call.method == "PUT":
        about = ask(call, "metadata", "POST", body=call.body)
        ask(call, "storage", "PUT", f"/{name}", call.body)
        return about
    data = ask(call, "storage", "GET", f"/{name}")
    if part == "about":
        return ask(call, "metadata", "POST", body=data)
    small = ask(call, "thumbnail", "POST", f"/?width={call.query.get('width', '32')}", data)
    return ask(call, "watermark", "POST", body=small)


def storage(call: Call) -> bytes:
    """Keeps pictures in files."""
    file = FOLDER / f"{call.path.strip('/')}.ppm"
    if call.method == "PUT":
        # A request may come twice: each writes a file of its own, and both leave the same.
        part = file.with_suffix(f".{os.getpid()}-{threading.get_ident()}")
        part.write_bytes(call.body)
        part.rename(file)
        return b""
    try:
        return file.read_bytes()
    except FileNotFoundError:
        raise Failed(404, "there is no such picture") from None


def metadata(call: Call) -> bytes:
    """Says what a picture is."""
    picture = Picture.read(call.body)
    about = {"width": picture.width, "height": picture.height, "bytes": len(call.body)}
    return json.dumps(about).encode() + b"\n"


def thumbnail(call: Call) -> bytes:
    """Makes a picture smaller."""
    picture = Picture.read(call.body)
    if not call.query["width"].isdecimal():
        raise Failed(400, "the width is no number")
    width = max(1, min(int(call.query["width"]), picture.width))
    height = max(1, picture.height * width // picture.width)
    pixels = (
        picture.pixel(x * picture.width // width, y * picture.height // height)
        for y in range(height)
        for x in range(width)
    )
    return Picture(width, height, b"".join(pixels)).written()


def watermark(call: Call) -> bytes:
    """Draws a white line through a picture."""
    picture = Picture.read(call.body)
    pixels = bytearray(picture.pixels)
    for y in range(picture.height):
        place = 3 * (y * picture.width + y * picture.width // picture.height)
        pixels[place : place + 3] = b"\xff\xff\xff"
    return picture._replace(pixels=bytes(pixels)).written()


SERVICES: dict[str, Callable[[Call], bytes]] = {
    made.__name__: made for made in (photos, storage, metadata, thumbnail, watermark)
}


# An instance.


class Handler(BaseHTTPRequestHandler):
    """Gives a request to the service."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    #: The reply goes out in one piece.
    wbufsize = -1
    server: Instance

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        query = {key: values[-1] for key, values in parse_qs(url.query).items()}
        request_id = self.headers.get("X-Request-Id", "")
        call = Call(self.command, url.path, query, body, request_id, [self.server.label])
        try:
            status, content = 200, self.server.service(call)
        except Failed as failed:
            status, content = failed.status, f"{failed}\n".encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.send_header("X-Way", " ".join(call.way))
        self.end_headers()
        self.wfile.write(content)

    do_PUT = do_POST = do_GET  # noqa: N815 - the library's names

    def log_message(self, *arguments: object) -> None:
        """Say nothing: slardar's access log has it."""


class Instance(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, name: str, label: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.name, self.label = name, label
        self.service = SERVICES[name]
        self.address = f"127.0.0.1:{self.server_address[1]}"

    def register(self) -> None:
        """Become a server of the upstream."""
        self._call("POST", {"max_fails": 1})

    def drain(self) -> None:
        """Take no new request, finish those under way, and leave the upstream."""
        self._call("PATCH", {"state": "drain"})
        self._report("drains")
        while True:
            # slardar's counters are up to a second old.
            time.sleep(1)
            if not self._under_way():
                break
        self._call("DELETE")
        self._report("has left")

    def _under_way(self) -> int:
        """The requests to this instance that slardar waits for."""
        with urllib.request.urlopen(f"{REGISTRY}/status", timeout=10) as reply:
            levels = json.load(reply)[f"cls:{self.name}"]
        wanted = f"{self.name}:{self.address}"
        return sum(one["active"] for level in levels for one in level if one["server"] == wanted)

    def _call(self, method: str, body: object = None) -> None:
        data = None if body is None else json.dumps(body).encode()
        url = f"{REGISTRY}/upstream/{self.name}/{self.address}"
        with urllib.request.urlopen(urllib.request.Request(url, data, method=method), timeout=10):
            pass

    def _report(self, what: str) -> None:
        print(f"{self.label} {what}: {self.address}", flush=True)

    def run(self) -> None:
        """Serve until ``SIGTERM``."""
        ended = threading.Event()
        signal.signal(signal.SIGTERM, lambda *_: ended.set())
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self.register()
        self._report("serves")
        ended.wait()
        self.drain()


if __name__ == "__main__":
    Instance(*sys.argv[1:]).run()
