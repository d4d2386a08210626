"""Hooks that want too much of a machine, as an operator meets them: posted, stored, run."""

from __future__ import annotations

import http.client
import json
import os
import resource
import socket
import sqlite3
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.hooks.test_checking import SLOW
from tests.integration.conftest import Start
from tests.integration.programs import PATIENCE, Nginx, Slardar
from tests.integration.test_hostile_hooks import WHO, Probe
from tests.integration.test_workers import until

HOST = "burn.example.com"
GOOD = "def on_request(request):\n    request.reject(403)\n"


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx that answers yes."""
    server = Nginx(tmp_path_factory.mktemp("backend") / "nginx", 'location / { return 200 "yes"; }')
    yield server
    server.end()


@pytest.fixture
def run(start: Start, tmp_path: Path, backend: Nginx) -> Callable[..., Slardar]:
    """Starts slardar in front of the backend; the folder, and with it the store, stays."""

    def run(*options: str) -> Slardar:
        words = ["--upstream", f"{WHO}={backend.address}", "--amp", "unix:a.sock", *options]
        slardar: Slardar = start(Slardar(tmp_path / "slardar", *words))
        return slardar.ready()

    return run


def workers_of(slardar: Slardar) -> dict[str, Any]:
    """The workers in the status."""
    found: dict[str, Any] = slardar.call("GET", "/status")[1]["workers"]
    return found


def test_code_that_hangs_the_compiler_hurts_nobody(run: Callable[..., Slardar]) -> None:
    """The call gets 400 after two seconds.  Meanwhile requests are served, upstreams changed
    and other hooks posted; no process ends because of it."""
    slardar = run("--workers", "2", "--store", "memory:")
    pids = {name: about["pid"] for name, about in workers_of(slardar).items()}
    url = f"http://127.0.0.1:{slardar.control}/python/script.{HOST}"
    probe = Probe(slardar.port)
    try:
        slow = subprocess.Popen(
            ["curl", "-s", "-S", "--data-binary", "@-", url],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert slow.stdin is not None
        slow.stdin.write(SLOW)
        slow.stdin.close()
        changes = 0
        while slow.poll() is None:
            body = {"servers": [{"host": "127.0.0.1", "port": 1 + changes}]}
            assert slardar.call("PUT", "/upstream/other", body)[0] == 200
            assert slardar.call("POST", "/python/script.fine.example.com", GOOD)[0] == 200
            changes += 1
        assert slow.stdout is not None
        answer = json.loads(slow.stdout.read())
        slow.stdout.close()
    finally:
        probe.end()
    assert answer == {
        "status": 400,
        "msg": f"script.{HOST}: expected code that is loaded within 2 s of CPU time",
    }
    assert changes > 3
    assert probe.failures == []
    assert probe.worst < 1.0
    assert {name: about["pid"] for name, about in workers_of(slardar).items()} == pids
    assert slardar.call("GET", f"/python/script.{HOST}")[0] == 404


def test_stored_code_that_hangs_the_compiler_is_left_out(
    run: Callable[..., Slardar], tmp_path: Path
) -> None:
    """Nobody has checked an edit of the store; slardar starts, says so, and serves the rest."""
    store = tmp_path / "state.db"
    slardar = run("--workers", "0", "--store", f"sqlite:{store}")
    for name in (f"script.{HOST}", "script.fine.example.com"):
        assert slardar.call("POST", f"/python/{name}", GOOD) == (200, "ok")
        assert slardar.call("PUT", f"/python/{name}") == (200, "ok")
    slardar.stop()
    with sqlite3.connect(store) as database:
        row = ("hook", f"python/script.{HOST}")
        (text,) = database.execute("SELECT value FROM state WHERE kind=? AND name=?", row)
        value = json.loads(text[0])
        value["active"]["code"] = SLOW
        # The two tables must agree, as after a change.
        for table in ("state", "changes"):
            database.execute(
                f"UPDATE {table} SET value=? WHERE kind=? AND name=?", (json.dumps(value), *row)
            )
    database.close()
    slardar = run("--workers", "0", "--store", f"sqlite:{store}")
    assert slardar.get(WHO) == (200, "yes")
    assert slardar.get("fine.example.com")[0] == 403
    assert slardar.get(HOST)[0] == 500

    def shown() -> Any:
        return slardar.call("GET", f"/python/script.{HOST}")[1]

    until(lambda: shown()["state"] == "failed", "it is shown")
    assert "within 2 s of CPU time" in shown()["error"]
    assert all(about["restarts"] == 0 for about in workers_of(slardar).values())
    assert slardar.call("POST", f"/python/script.{HOST}", GOOD) == (200, "ok")
    assert slardar.call("PUT", f"/python/script.{HOST}") == (200, "ok")
    assert slardar.get(HOST)[0] == 403


# Memory.

#: The most MiB that all processes together may have beyond their idle memory.
TREE = 700


def tree(pid: int) -> list[int]:
    """A process and all its descendants.  Processes and threads may end meanwhile."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            for task in os.listdir(f"/proc/{one}/task"):
                with suppress(OSError):
                    text = Path(f"/proc/{one}/task/{task}/children").read_text()
                    found += map(int, text.split())
    return found


def shared_out(pid: int) -> int:
    """Bytes of memory of a process; each page is divided by the number of its users."""
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) << 10 for line in text.splitlines() if "Pss:" in line), 0)


class Scales:
    """Measures the memory of all processes again and again."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self.idle = self.now()
        self.most = 0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def now(self) -> int:
        """The memory now, in MiB."""
        return sum(map(shared_out, tree(self._pid))) >> 20

    def _run(self) -> None:
        while not self._stop.wait(0.02):
            self.most = max(self.most, self.now())

    def end(self) -> int:
        """The most growth since the beginning."""
        self._stop.set()
        self._thread.join(PATIENCE)
        return self.most - self.idle


class Upload:
    """A client that sends a byte now and then, which keeps its worker alive."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE)
        self._socket.sendall(
            b"POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 8\r\n\r\nx" % WHO.encode()
        )

    def finish(self) -> bytes:
        """The status line of the reply."""
        self._socket.sendall(b"1234567")
        reply = self._socket.recv(65536)
        self._socket.close()
        return reply.partition(b"\r\n")[0]


#: The code of hoarders, which runs within their budgets for each request.
HOARDS = {
    "large texts in a list": (
        "KEPT = []\ndef on_request(r):\n    for _ in range(8):\n"
        "        KEPT.append('x' * 1000000)\n    r.reject(403)\n"
    ),
    # Each call takes little time, because a turn of the loop has many of them.
    "small things": (
        "KEPT = []\ndef on_request(r):\n"
        "    KEPT.append([str(i) for i in range(1000, 9000)])\n    r.reject(403)\n"
    ),
    "what refers to itself": (
        "def on_request(r):\n    a = []\n    a.append(a)\n    a.append('x' * 1000000)\n"
        "    KEPT.append(a)\n    r.reject(403)\nKEPT = []\n"
    ),
}


def test_hoarders(run: Callable[..., Slardar]) -> None:
    """Each is suspended by name in all workers, and its memory is freed; all processes
    together stay within their limit, other hosts lose no request, and uploads under way
    succeed."""
    slardar = run("--workers", "2", "--store", "memory:")
    uploads = [Upload(slardar.port) for _ in range(4)]
    innocent = "N = []\ndef on_request(r):\n    N.append(1)\n    r.headers['X-Seen'] = 'x'\n"
    assert slardar.call("POST", f"/python/script.{WHO}", innocent) == (200, "ok")
    assert slardar.call("PUT", f"/python/script.{WHO}") == (200, "ok")
    scales, probe = Scales(slardar.pid), Probe(slardar.port)
    try:
        for number, code in enumerate(HOARDS.values()):
            host = f"hoard{number}.example.com"
            assert slardar.call("POST", f"/python/script.{host}", code) == (200, "ok")
            assert slardar.call("PUT", f"/python/script.{host}") == (200, "ok")
            hoard(slardar, host)
            about = slardar.call("GET", f"/python/script.{host}")[1]
            assert about["state"] == "suspended", host
            assert "MiB of memory" in about["error"], about
    finally:
        probe.end()
        most = scales.end()
    assert [one.finish() for one in uploads] == [b"HTTP/1.1 200 OK"] * 4
    assert probe.failures == []
    assert most < TREE
    assert slardar.call("GET", f"/python/script.{WHO}")[1]["state"] == "active"
    shown = slardar.call("GET", "/status")[1]["hooks"]
    assert [one["name"] for one in shown if "error" in one] == [
        f"script.hoard{number}.example.com" for number in range(len(HOARDS))
    ]


def hoard(slardar: Slardar, host: str) -> None:
    """Send requests to a host from several clients until no hook answers any more."""
    done = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", slardar.port, timeout=PATIENCE)
        for _ in range(3000):
            connection.request("GET", "/", headers={"Host": host})
            reply = connection.getresponse()
            reply.read()
            if reply.status == 500 or done.is_set():
                break
        done.set()
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    def suspended() -> bool:
        found: bool = slardar.call("GET", f"/python/script.{host}")[1]["state"] == "suspended"
        return found

    until(suspended, f"{host} is suspended", 3)


def test_hoarder_in_the_only_process(run: Callable[..., Slardar]) -> None:
    """No process can be ended there: the hook is suspended, and its memory is freed."""
    slardar = run("--workers", "0", "--store", "memory:")
    code = HOARDS["large texts in a list"]
    assert slardar.call("POST", f"/python/script.{HOST}", code) == (200, "ok")
    assert slardar.call("PUT", f"/python/script.{HOST}") == (200, "ok")
    scales = Scales(slardar.pid)
    hoard(slardar, HOST)
    about = slardar.call("GET", f"/python/script.{HOST}")[1]
    assert "MiB of memory" in about["error"]
    until(lambda: scales.now() - scales.idle < 64, "it was let go", 3)
    assert scales.end() < 400
    assert slardar.get(WHO) == (200, "yes")


def test_worker_without_memory_serves_on(run: Callable[..., Slardar]) -> None:
    """Only clients without room are lost; with room, the same process serves."""
    slardar = run("--workers", "1", "--store", "memory:")
    assert slardar.get(WHO) == (200, "yes")
    pid = workers_of(slardar)["worker-0"]["pid"]
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[5])
    resource.prlimit(pid, resource.RLIMIT_DATA, (pages * resource.getpagesize(), -1))
    clients = []
    for _ in range(300):
        client = socket.create_connection(("127.0.0.1", slardar.port), PATIENCE)
        client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 20000)
        clients.append(client)
    slardar.wait_for("MemoryError")
    resource.prlimit(pid, resource.RLIMIT_DATA, (-1, -1))
    for client in clients:
        client.close()
    assert [slardar.get(WHO) for _ in range(3)] == [(200, "yes")] * 3
    assert workers_of(slardar)["worker-0"]["pid"] == pid
