"""Names of servers whose lookup takes long or fails: twistd and real sockets."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import CHECKOUT, Nginx, Slardar

#: Seconds within which a change is answered for any name; the data plane waits for a lookup
#: for at most 0.15 s.
AT_ONCE = 1.0
#: Code that Python runs first: slow names, and one that is found.
NAMES = """
import os, socket, time

real = socket.getaddrinfo

def look_up(host, *arguments, **options):
    if host.endswith(".example"):
        with open("lookups", "a") as file:
            file.write(f"{os.getpid()} {host}\\n")
    if host == "hangs.example":
        time.sleep(2)
        raise socket.gaierror(socket.EAI_AGAIN, "no answer")
    if host == "slow.example":
        time.sleep(0.7)
    if host.endswith(".example"):
        host = "127.0.0.1"
    return real(host, *arguments, **options)

socket.getaddrinfo = look_up
"""


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx that answers yes."""
    server = Nginx(tmp_path_factory.mktemp("n") / "nginx", 'location / { return 200 "yes"; }')
    yield server
    server.end()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_names_delay_no_change(tmp_path: Path, start: Start, backend: Nginx, workers: str) -> None:
    """A change with a name that hangs is answered at once, and the known servers serve; a name
    that is found at once serves the next request, and a slow name the requests that wait
    for it."""
    (tmp_path / "sitecustomize.py").write_text(NAMES)
    path = f"{tmp_path}:{CHECKOUT}"
    words = ("--workers", workers, "--store", "memory:", "--amp", "unix:a.sock")
    slardar: Slardar = start(Slardar(tmp_path / "slardar", *words, PYTHONPATH=path)).ready()

    def put(name: str, *hosts: str) -> float:
        servers = [{"host": host, "port": backend.port} for host in hosts]
        began = time.monotonic()
        assert slardar.call("PUT", f"/upstream/{name}", {"servers": servers})[0] == 200
        return time.monotonic() - began

    # The usual time of a call, on this machine and now.
    usual = max(put("known", "127.0.0.1") for _ in range(3))
    assert put("quick", "quick.example") < AT_ONCE + usual
    assert slardar.get("quick") == (200, "yes")
    assert put("mixed", "hangs.example", "127.0.0.1") < AT_ONCE + usual
    for _ in range(6):
        assert slardar.get("mixed") == (200, "yes")
    # The server got no request, so it has not failed.
    (servers,) = slardar.call("GET", "/status")[1]["cls:mixed"]
    assert [server["fail_num"] for server in servers] == [0, 0]
    assert put("slow", "slow.example") < AT_ONCE + usual
    replies: list[tuple[int, str]] = []
    threads = [
        threading.Thread(target=lambda: replies.append(slardar.get("slow"))) for _ in range(5)
    ]
    for thread in threads:
        thread.start()
    # Other upstreams do not wait meanwhile.
    assert slardar.get("known") == (200, "yes")
    for thread in threads:
        thread.join()
    assert replies == [(200, "yes")] * 5
    assert put("gone", "hangs.example") < AT_ONCE + usual
    assert slardar.get("gone")[0] == 502
    # One process asks, whoever serves.
    lookups = (tmp_path / "slardar" / "lookups").read_text().split("\n")[:-1]
    assert {line.split()[0] for line in lookups} == {str(slardar.pid)}
