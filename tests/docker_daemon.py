"""A real Docker for tests: a daemon of its own, with nothing outside of the test's folder.

Its containers are programs of this machine in the network of the host, so no image is fetched and
no network is made.  It needs root.
"""

from __future__ import annotations

import http.client
import io
import json
import os
import shutil
import socket
import sys
import tarfile
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from tests.integration.programs import Program

__all__ = ["DockerDaemon", "docker_program"]

#: What a container has of this machine.
_FOLDERS = ("/bin", "/lib", "/lib64", "/usr", sys.base_prefix)
#: Answers every request with its first argument, on the port that the second one says.
_SERVER = """
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answer(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(sys.argv[1].encode())

HTTPServer(("127.0.0.1", int(sys.argv[2])), Answer).serve_forever()
"""


def docker_program() -> str:
    """The path of Docker's daemon; a test that asks is skipped where it cannot run."""
    path = shutil.which("dockerd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip("dockerd is missing: make test installs Debian's docker.io")
    if os.geteuid() != 0:
        pytest.skip("dockerd needs root")
    return path


class DockerDaemon(Program):
    """Docker on a UNIX socket.  A test is skipped where the machine does not let it run."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        # Short: the path of a UNIX socket has at most 107 bytes.
        self.socket = f"{folder}/s"
        super().__init__(
            [
                # What it mounts is gone with it.
                *("unshare", "--mount", docker_program()),
                *("--host", f"unix://{self.socket}", "--pidfile", f"{folder}/pid", "--group", "0"),
                *("--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"),
                *("--storage-driver", "vfs", "--bridge", "none", "--iptables=false"),
                *("--ip6tables=false", "--ip-forward=false", "--ip-masq=false"),
                *("--containerd-namespace", f"slardar-{os.getpid()}"),
                *("--containerd-plugins-namespace", f"slardar-plugins-{os.getpid()}"),
            ],
            folder,
        )
        try:
            self.wait_for("API listen on")
            self._import()
            self.run("trial", "true").remove()
        except AssertionError as error:
            self.end()
            pytest.skip(f"this machine runs no containers: {str(error).splitlines()[-1]}")

    def call(self, method: str, path: str, body: Any = None, **query: str) -> Any:
        """One call of Docker's API, which must be good."""
        connection = http.client.HTTPConnection("docker", timeout=30)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(30)
        connection.sock.connect(self.socket)
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        connection.request(method, f"{path}?{urlencode(query)}", data, headers)
        reply = connection.getresponse()
        text = reply.read()
        connection.close()
        assert reply.status < 300, f"{method} {path}: {reply.status} {text!r}"
        try:
            return json.loads(text)
        except ValueError:
            return text

    def _import(self) -> None:
        """Make the image ``empty``."""
        text = io.BytesIO()
        with tarfile.open(fileobj=text, mode="w") as archive:
            folder = tarfile.TarInfo("tmp")
            folder.type, folder.mode = tarfile.DIRTYPE, 0o777
            archive.addfile(folder)
        self.call("POST", "/images/create", text.getvalue(), fromSrc="-", repo="empty")

    def run(self, name: str, *command: str, **keys: Any) -> Container:
        """Run a container with a program of this machine; ``keys`` are those of Docker's API."""
        folders = sorted({folder for folder in _FOLDERS if Path(folder).exists()})
        binds = [f"{folder}:{folder}:ro" for folder in folders]
        made = {
            "Image": "empty",
            "Cmd": list(command),
            "HostConfig": {"NetworkMode": "host", "Binds": binds},
            **keys,
        }
        found = self.call("POST", "/containers/create", made, name=name)
        container = Container(self, found["Id"])
        container.do("start")
        return container

    def serve(self, name: str, port: int, upstream: str, **keys: Any) -> Container:
        """Run a container that answers with its name."""
        labels = {"slardar.upstream": upstream, "slardar.port": str(port)}
        program = os.path.realpath(sys.executable)
        return self.run(name, program, "-c", _SERVER, name, str(port), Labels=labels, **keys)


class Container:
    """A container of a :class:`DockerDaemon`."""

    def __init__(self, daemon: DockerDaemon, key: str) -> None:
        self._daemon = daemon
        self._key = key

    def do(self, what: str) -> None:
        """``start``, ``pause``, ``unpause`` and so on."""
        self._daemon.call("POST", f"/containers/{self._key}/{what}")

    def execute(self, *command: str) -> None:
        """Run a program in it."""
        made = self._daemon.call("POST", f"/containers/{self._key}/exec", {"Cmd": command})
        self._daemon.call("POST", f"/exec/{made['Id']}/start", {"Detach": True})

    def remove(self) -> None:
        """End it at once."""
        self._daemon.call("DELETE", f"/containers/{self._key}", force="true")
