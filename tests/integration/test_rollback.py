"""Rollbacks of a running slardar, with workers and an SQLite file."""

from __future__ import annotations

import http.client
import signal
import threading
from pathlib import Path
from typing import Any

from tests.integration.conftest import Start
from tests.integration.programs import FileServer, Nginx, Slardar


class Reader(threading.Thread):
    """Asks for one page again and again on a kept connection, and keeps the wrong answers."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self.ends = threading.Event()
        self.wrong: list[Any] = []
        self.seen: dict[bytes, int] = {}

    def run(self) -> None:
        """Until it is told to end, or an answer is wrong."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        try:
            while not self.ends.is_set() and not self.wrong:
                connection.request("GET", "/who", headers={"Host": "www"})
                reply = connection.getresponse()
                body = reply.read()
                self.seen[body] = self.seen.get(body, 0) + 1
                if reply.status != 200 or body not in (b"nginx\n", b"http.server\n"):
                    self.wrong.append((reply.status, body))
        except Exception as error:
            self.wrong.append(error)
        finally:
            connection.close()


def upstream(address: str) -> dict[str, Any]:
    host, _, port = address.partition(":")
    return {"servers": [{"host": host, "port": int(port)}], "enable": False}


def test_rollback_under_load_loses_no_request(
    tmp_path: Path, start: Start, files: FileServer, nginx: Nginx
) -> None:
    """Rollbacks between two servers, with an upstream beside them that comes and goes; the
    first request after each already meets the version of then, in every worker.  The history is
    there after a restart."""
    words = ("--workers", "2", "--store", "sqlite:slardar.db")
    slardar = start(Slardar(tmp_path, *words)).ready()
    assert slardar.call("PUT", "/upstream/www", upstream(files.address))[0] == 200
    assert slardar.call("PUT", "/upstream/other", upstream(files.address))[0] == 200
    assert slardar.call("PUT", "/upstream/www", upstream(nginx.address))[0] == 200
    assert slardar.call("DELETE", "/upstream/other")[0] == 200
    readers = [Reader(slardar.port) for _ in range(4)]
    for reader in readers:
        reader.start()
    control = http.client.HTTPConnection("127.0.0.1", slardar.control, timeout=20)
    try:
        for number in range(14):
            version, who = ((2, "http.server\n"), (4, "nginx\n"))[number % 2]
            control.request("POST", f"/rollback/{version}")
            reply = control.getresponse()
            assert (reply.status, reply.read()) == (
                200,
                b'{"status": 200, "version": %d}\n' % (5 + number),
            )
            for _ in range(2 if number < 4 else 0):
                assert slardar.get("www", "/who") == (200, who)
    finally:
        control.close()
        for reader in readers:
            reader.ends.set()
        for reader in readers:
            reader.join(20)
    assert [reader.wrong for reader in readers] == [[], [], [], []]
    seen = {body for reader in readers for body in reader.seen}
    assert seen == {b"nginx\n", b"http.server\n"}
    assert slardar.call("GET", "/status")[1]["statistics"]["refused"] == 0
    assert slardar.stop() in (0, -signal.SIGTERM)
    slardar = start(Slardar(tmp_path, *words)).ready()
    told = slardar.call("GET", "/history?limit=3")[1]
    assert [(one["version"], one["kind"]) for one in told] == [
        (18, "rollback"),
        (18, "upstream"),
        (18, "upstream"),
    ]
    assert slardar.call("POST", "/rollback/2") == (200, {"status": 200, "version": 19})
    assert slardar.get("www", "/who") == (200, "http.server\n")
