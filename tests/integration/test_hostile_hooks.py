"""Hooks that burn CPU and memory, in a real worker: other hosts hardly notice."""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.hooks.lua import hostile as lua
from tests.hooks.python import hostile as python
from tests.hooks.python.test_hostile import source
from tests.integration.programs import PATIENCE, Nginx, Slardar

pytestmark = pytest.mark.alone

#: The most seconds for which a hook may hold up requests for other hosts.
WORST = 2.0
#: The most bytes by which a worker may grow over all of them; beyond, it would be replaced.
GROWTH = 256 << 20
WHO = "www.example.com"


class Burn(NamedTuple):
    """One hook that wants too much."""

    language: str
    code: str


#: One in three of the hostile hooks; the engines' tests run each of them alone.
BURNS = [
    *(Burn("python", source(one)) for one in python.BURNS[::3]),
    *(Burn("lua", one.code) for one in (*lua.BURNS, *lua.EATERS)[::3]),
]


class Probe:
    """Asks for a harmless host again and again; knows the longest wait."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.answered = 0
        self.failures: list[str] = []
        self.worst = 0.0
        self._thread.start()

    def _run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=PATIENCE)
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                connection.request("GET", "/", headers={"Host": WHO})
                reply = connection.getresponse()
                reply.read()
                if reply.status != 200:
                    self.failures.append(str(reply.status))
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                connection.close()
            self.worst = max(self.worst, time.monotonic() - began)
            self.answered += 1
        connection.close()

    def end(self) -> None:
        """Stop asking."""
        self._stop.set()
        self._thread.join(PATIENCE)


@pytest.fixture
def backend(tmp_path: Path) -> Iterator[Nginx]:
    """nginx that answers yes."""
    server = Nginx(tmp_path / "nginx", 'location / { return 200 "yes"; }')
    yield server
    server.end()


def resident(pid: int) -> int:
    """The bytes of memory that a process has in use."""
    pages = int(Path(f"/proc/{pid}/statm").read_text("ascii").split()[1])
    return pages * 4096


def test_other_hosts_go_on(tmp_path: Path, backend: Nginx) -> None:
    """Hooks use up CPU and memory one after the other in one worker, while a client asks for
    another host: none of its requests fails or waits long, and the worker lives and does
    not grow much."""
    slardar = Slardar(
        tmp_path / "slardar",
        *("--upstream", f"{WHO}={backend.address}", "--amp", "unix:a.sock"),
        *("--workers", "1", "--store", "memory:"),
    )
    try:
        slardar.ready()
        pid = slardar.call("GET", "/status")[1]["workers"]["worker-0"]["pid"]
        probe = Probe(slardar.port)
        statuses: dict[int, int] = {}
        before = 0
        try:
            for number, burn in enumerate(BURNS):
                host = f"host{number}.example.com"
                name = f"/{burn.language}/script.{host}"
                for method, body in (("POST", burn.code), ("PUT", None)):
                    status, answer = slardar.call(method, name, body)
                    assert status in (200, 400), (burn, answer)
                    if status == 400:
                        break
                if status == 200:
                    reply, _ = slardar.get(host)
                    statuses[reply] = statuses.get(reply, 0) + 1
                    assert slardar.call("DELETE", name)[0] == 200
                if number == 5:
                    # By now the engines and their libraries are loaded.
                    before = resident(pid)
        finally:
            probe.end()
        after = resident(pid)
        workers = slardar.call("GET", "/status")[1]["workers"]
    finally:
        slardar.end()
    assert workers["worker-0"]["pid"] == pid
    assert probe.failures == []
    assert probe.answered > 100
    assert probe.worst < WORST
    assert after - before < GROWTH
    # Most hooks failed, with a 500; the others ended in time.
    assert statuses[500] > len(BURNS) // 2, statuses
