"""One client, one server or one hook takes all it can get: the others hardly wait."""

from __future__ import annotations

import http.client
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.programs import PATIENCE, Nginx, Slardar

pytestmark = pytest.mark.alone

#: The most seconds that a request for another host may wait.
WORST = 0.3
#: Seconds of the test: longer than a worker may give no sign of life.
LONG = 3.5
#: Clients of the hook, and the hook: 15 to 30 ms of CPU time.
CLIENTS = 24
HOOK = """
def on_request(request):
    n = 0
    for i in range(120_000):
        n = n + i
"""
TINY = b"1\r\nx\r\n" * 10_000


def delayed(pid: int | str) -> float:
    """Seconds for which a process was ready to run and had to wait for a processor."""
    try:
        return int(Path(f"/proc/{pid}/schedstat").read_text("ascii").split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


class Crowd:
    """Threads that do their work again and again, until the end."""

    def __init__(self) -> None:
        self.is_over = threading.Event()
        #: Texts of failures.
        self.failures: list[str] = []
        #: The amount of work done, by name.
        self.done: dict[str, int] = {}
        self._threads: list[threading.Thread] = []
        self._listeners: list[socket.socket] = []

    def add(self, name: str, work: Callable[[], Any]) -> None:
        """Run ``work()`` in a thread; it returns how much it has done."""
        self.done[name] = 0

        def run() -> None:
            try:
                while not self.is_over.is_set():
                    self.done[name] += work()
            except (OSError, http.client.HTTPException, AssertionError) as error:
                if not self.is_over.is_set():
                    self.failures.append(f"{name}: {error!r}")

        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def server(self, talk: Callable[[socket.socket], Any]) -> int:
        """The port of a server that runs ``talk`` on each connection."""
        listener = socket.create_server(("127.0.0.1", 0))
        self._listeners.append(listener)

        def serve(sock: socket.socket) -> None:
            try:
                with sock:
                    talk(sock)
            except OSError:
                pass

        def accept() -> None:
            while True:
                try:
                    sock, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(sock,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        return int(listener.getsockname()[1])

    def end(self) -> None:
        """Stop all threads."""
        self.is_over.set()
        for thread in self._threads:
            thread.join(PATIENCE)
        listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


@pytest.fixture
def crowd() -> Iterator[Crowd]:
    """A crowd that ends with the test."""
    found = Crowd()
    yield found
    found.end()


def pour(sock: socket.socket) -> None:
    """Reply with tiny chunks, without an end."""
    sock.recv(65536)
    sock.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    while True:
        sock.sendall(TINY)


def swallow(sock: socket.socket) -> None:
    """Read all bytes."""
    while sock.recv(65536):
        pass


def test_other_hosts_hardly_wait(tmp_path: Path, crowd: Crowd) -> None:
    """One client uploads chunks of a byte, one server replies with such chunks, and two dozen
    clients ask for a host with a slow hook, all in one worker: requests for another host
    wait at most 0.3 s, none is lost, the worker is not killed, and the hook is not
    suspended."""
    nginx = Nginx(tmp_path / "nginx", 'location / { return 200 "yes"; }')
    (tmp_path / "slardar.yaml").write_text("hooks: {budget: 0.2}\n")
    ports = {"up": crowd.server(swallow), "down": crowd.server(pour), "hook": nginx.port}
    slardar = Slardar(
        tmp_path / "slardar",
        *("--config", str(tmp_path / "slardar.yaml"), "--workers", "1", "--store", "memory:"),
        *("--upstream", f"other={nginx.address}", "--amp", "unix:a.sock"),
        *(f"--upstream={name}=127.0.0.1:{port}" for name, port in ports.items()),
    )
    try:
        slardar.ready()
        pid = slardar.call("GET", "/status")[1]["workers"]["worker-0"]["pid"]
        assert slardar.call("POST", "/python/script.hook", HOOK) == (200, "ok")
        assert slardar.call("PUT", "/python/script.hook") == (200, "ok")

        def connect() -> socket.socket:
            return socket.create_connection(("127.0.0.1", slardar.port), PATIENCE)

        def asks(host: str) -> Callable[[], int]:
            client = http.client.HTTPConnection("127.0.0.1", slardar.port, timeout=PATIENCE)
            clients.append(client)

            def ask() -> int:
                client.request("GET", "/", headers={"Host": host})
                reply = client.getresponse()
                assert (reply.status, reply.read()) == (200, b"yes")
                return 1

            return ask

        clients: list[http.client.HTTPConnection] = []
        uploads, downloads = connect(), connect()
        with uploads, downloads:
            uploads.sendall(b"POST / HTTP/1.1\r\nHost: up\r\nTransfer-Encoding: chunked\r\n\r\n")
            downloads.sendall(b"GET / HTTP/1.1\r\nHost: down\r\n\r\n")
            crowd.add("uploaded", lambda: uploads.sendall(TINY) or len(TINY))
            crowd.add("downloaded", lambda: len(downloads.recv(65536)) or 1 // 0)
            for number in range(CLIENTS):
                crowd.add(f"hook {number}", asks("hook"))
            ask = asks("other")
            waits, end = [], time.monotonic() + LONG
            while time.monotonic() < end:
                # Time that they waited for a processor does not count against the worker.
                before = sum(map(delayed, (pid, nginx.pid, "thread-self")))
                began = time.monotonic()
                ask()
                took = time.monotonic() - began
                waits.append(took - sum(map(delayed, (pid, nginx.pid, "thread-self"))) + before)
            crowd.is_over.set()
            workers = slardar.call("GET", "/status")[1]["workers"]
            hook = slardar.call("GET", "/python/script.hook")[1]
    finally:
        crowd.end()
        slardar.end()
        nginx.end()
    for client in clients:
        client.close()
    assert crowd.failures == []
    assert max(waits) <= WORST, sorted(waits)[-5:]
    assert workers["worker-0"]["pid"] == pid
    assert (hook["state"], hook["errors"]) == ("active", 0)
    # All made progress, also each client of the hook.
    assert min(crowd.done.values()) > 0, crowd.done
    assert "killed" not in slardar.output
