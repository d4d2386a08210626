"""Real programs for tests: started on ports of the kernel's choice, ended by id."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = [
    "CHECKOUT",
    "TWISTD",
    "Backends",
    "FileServer",
    "HAProxy",
    "Nginx",
    "Program",
    "Slardar",
    "curl",
]

CHECKOUT = Path(__file__).resolve().parent.parent.parent
#: twistd without its script, so that a test needs no script on the PATH.
TWISTD = (sys.executable, "-c", "from twisted.scripts.twistd import run; run()")
#: Seconds within which a program on a busy machine must be ready.
PATIENCE = 30.0


class Program:
    """A program whose output is collected line by line while it runs."""

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        pass_fds: Sequence[int] = (),
        **environment: str,
    ) -> None:
        self._changed = threading.Condition()
        self._lines: list[str] = []
        self._ended = False
        self._process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONUNBUFFERED": "1", **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            pass_fds=pass_fds,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with self._changed:
                self._lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    @property
    def pid(self) -> int:
        """The id of the process."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether the program has ended."""
        return self._process.poll() is not None

    @property
    def output(self) -> str:
        """All output so far."""
        with self._changed:
            return "".join(self._lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """The first match of ``pattern`` in a line of the output, past or future."""
        expression = re.compile(pattern)

        def found() -> re.Match[str] | None:
            return next(filter(None, map(expression.search, self._lines)), None)

        with self._changed:
            self._changed.wait_for(lambda: found() or self._ended, PATIENCE)
            match = found()
        assert match is not None, (
            f"no {pattern!r} in what {self._process.args} said:\n{self.output}"
        )
        return match

    def signal(self, number: int) -> None:
        """Send a signal to the program."""
        self._process.send_signal(number)

    def wait(self, timeout: float = PATIENCE) -> int:
        """The exit code, once the program has ended by itself."""
        code = self._process.wait(timeout)
        self._reader.join(timeout)
        return code

    def end(self) -> None:
        """End the program if it still runs, by force if need be."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._reader.join(PATIENCE)
        assert self._process.stdout is not None
        self._process.stdout.close()


class FileServer(Program):
    """``python -m http.server`` on a folder of files, given as ``{name: text}``."""

    def __init__(self, folder: Path, files: Mapping[str, str]) -> None:
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"]
        super().__init__(command, folder)
        self.port = int(self.wait_for(r"port (\d+)")[1])

    @property
    def address(self) -> str:
        """Its address, as ``HOST:PORT``."""
        return f"127.0.0.1:{self.port}"


class Backends(Program):
    """Servers that answer with their address, the path and the Host (examples/backends.py)."""

    def __init__(self, folder: Path, number: int) -> None:
        command = [sys.executable, str(CHECKOUT / "examples" / "backends.py"), *["0"] * number]
        super().__init__(command, folder)
        self.ports: list[int] = []
        while len(self.ports) < number:
            known = "|".join(map(str, self.ports)) or "0"
            found = self.wait_for(rf"http://127\.0\.0\.1:(?!(?:{known})/)(\d+)/")
            self.ports.append(int(found[1]))


_NGINX = """\
daemon off; master_process off; pid nginx.pid; error_log stderr notice;
events {{ }}
http {{
    access_log off; client_body_temp_path body; proxy_temp_path proxy;
    fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;
    server {{ listen 127.0.0.1:{port}; {server} }}
}}
"""


class Nginx(Program):
    """nginx with one server; ``server`` is the text within its braces."""

    def __init__(self, folder: Path, server: str) -> None:
        path = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        assert path is not None, "nginx is needed: make test installs it"
        folder.mkdir()
        self.port = free_port()
        (folder / "nginx.conf").write_text(_NGINX.format(port=self.port, server=server))
        command = [path, "-p", str(folder), "-e", "stderr", "-c", str(folder / "nginx.conf")]
        super().__init__(command, folder)
        # The line comes after the sockets are open.
        self.wait_for(r"using the .* event method")

    @property
    def address(self) -> str:
        """Its address, as ``HOST:PORT``."""
        return f"127.0.0.1:{self.port}"


_HAPROXY = """\
global
    stats socket {folder}/stats level admin
    log stdout format raw local0
defaults
    mode tcp
    timeout connect 5s
    timeout client 30s
    timeout server 30s
    timeout check 5s
"""


class HAProxy(Program):
    """HAProxy with this text behind its defaults.

    For each frontend the text has ``bind fd@{number}``; ``ports`` are where they listen, by
    these numbers.
    """

    def __init__(self, folder: Path, text: str, frontends: int = 1) -> None:
        path = shutil.which("haproxy", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        assert path is not None, "haproxy is needed: make test installs it"
        folder.mkdir()
        self.folder = folder
        sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(frontends)]
        self.ports = [int(sock.getsockname()[1]) for sock in sockets]
        text = re.sub(r"fd@(\d+)", lambda found: f"fd@{sockets[int(found[1])].fileno()}", text)
        (folder / "haproxy.cfg").write_text(_HAPROXY.format(folder=folder) + text)
        command = [path, "-db", "-f", str(folder / "haproxy.cfg")]
        super().__init__(command, folder, pass_fds=[sock.fileno() for sock in sockets])
        for sock in sockets:
            sock.close()

    def addresses(self) -> list[str]:
        """Where its frontends listen, as ``HOST:PORT``."""
        return [f"127.0.0.1:{port}" for port in self.ports]


class Slardar(Program):
    """``twistd -n slardar`` in its own folder, on ports that the kernel chose."""

    def __init__(self, folder: Path, *options: str, **environment: str) -> None:
        folder.mkdir(exist_ok=True)
        command = [*TWISTD, "--nodaemon", "slardar", "--workers", "0"]
        command += ["--listen", "tcp:0:interface=127.0.0.1"]
        command += ["--control", "tcp:0:interface=127.0.0.1", *options]
        super().__init__(command, folder, **environment)

    def ready(self) -> Slardar:
        """Itself, once it takes requests and calls."""
        self.port = int(self.wait_for(r"requests on tcp 127\.0\.0\.1:(\d+)$")[1])
        self.control = int(self.wait_for(r"control on tcp 127\.0\.0\.1:(\d+)")[1])
        return self

    def url(self, path: str = "/") -> str:
        """The URL of something that it serves."""
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, host: str, path: str = "/") -> tuple[int, str]:
        """Status and body of a request for ``host``."""
        return curl(self.url(path), "-H", f"Host: {host}")

    def call(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        """Status and answer of a call of the control channel."""
        words = ["-X", method]
        if body is not None:
            words += ["--data-binary", body if isinstance(body, str) else json.dumps(body)]
        status, text = curl(f"http://127.0.0.1:{self.control}{path}", *words)
        return status, json.loads(text)

    def stop(self) -> int:
        """Ask it to stop; returns its exit code. twistd ends by the signal that it got."""
        self.signal(signal.SIGTERM)
        return self.wait()


def curl(url: str, *words: str) -> tuple[int, str]:
    """The status and body that curl gets."""
    command = ["curl", "--silent", "--show-error", "--max-time", "20", "--noproxy", "*"]
    done = subprocess.run(
        [*command, "--write-out", "\n%{http_code}", *words, url],
        check=True,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    body, _, status = done.stdout.rpartition("\n")
    return int(status), body


def free_port() -> int:
    """A port of the loopback address on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
