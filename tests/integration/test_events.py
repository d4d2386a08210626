"""The events of a running slardar, with and without workers."""

from __future__ import annotations

import http.client
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import FileServer, Slardar, free_port
from tests.integration.upgrades import Upgraded

HOOK = "def on_request(request):\n    request.headers['X-A'] = str(1 // len(request.method[9:]))\n"


class Stream:
    """A client of ``GET /events``."""

    def __init__(self, slardar: Slardar, query: str = "", after: str = "") -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", slardar.control, timeout=30)
        self.connection.request("GET", f"/events{query}", headers={"Last-Event-ID": after})
        self.reply = self.connection.getresponse()
        assert (self.reply.status, self.reply.headers["Content-Type"]) == (200, "text/event-stream")
        self.last = after

    def __enter__(self) -> Stream:
        return self

    def __exit__(self, *_: object) -> None:
        self.reply.close()
        self.connection.close()

    def next(self) -> dict[str, Any]:
        """The next event."""
        while True:
            line = self.reply.readline().decode().rstrip("\n")
            assert line or not self.reply.isclosed(), "the stream has ended"
            if line.startswith("id: "):
                self.last = line[4:]
            elif line.startswith("data: "):
                found: dict[str, Any] = json.loads(line[6:])
                return found

    def until(self, is_it: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
        """The events up to one."""
        found = [self.next()]
        while not is_it(found[-1]):
            found.append(self.next())
        return found

    def rest(self) -> bytes:
        """All that comes until the end."""
        return self.reply.read()


@pytest.mark.parametrize("workers", [0, 2])
def test_what_happens_is_told(
    tmp_path: Path, start: Start, files: FileServer, workers: int
) -> None:
    """A change, a server that is gone, a hook that fails, a worker that is killed; a client that
    comes back misses nothing, and one that comes back to another process is told so."""
    (tmp_path / "c.yaml").write_text('{"health": {"interval": 0.2}}')
    words = ("--workers", str(workers), "--store", "memory:", "--config", "c.yaml")
    slardar = start(Slardar(tmp_path, *words)).ready()
    with Stream(slardar) as stream:
        dead = free_port()
        servers = [{"host": "127.0.0.1", "port": port} for port in (files.port, dead)]
        body = {"servers": servers, "typ": "general", "sensibility": 1}
        assert slardar.call("PUT", "/upstream/www", body)[0] == 200
        found = stream.until(lambda one: one["kind"] == "health" and one["status"] == "err")
        assert (found[0]["kind"], found[0]["name"], found[0]["version"]) == ("upstream", "www", 1)
        assert (found[-1]["upstream"], found[-1]["server"]) == ("www", f"127.0.0.1:{dead}")
        assert slardar.call("POST", "/python/script.www?activate=1", HOOK)[0] == 200
        for _ in range(6):
            slardar.get("www", "/who")
        found = stream.until(lambda one: one.get("state") == "suspended")
        states = [(one["name"], one["state"]) for one in found if one["kind"] == "hook_state"]
        assert states == [
            *[("python/script.www", "failed")] * 5,
            ("python/script.www", "suspended"),
        ]
        if workers:
            workers_now = slardar.call("GET", "/status")[1]["workers"]
            os.kill(workers_now["worker-1"]["pid"], signal.SIGKILL)
            found = stream.until(lambda one: one.get("state") == "started")
            lives = [(one["name"], one["state"]) for one in found if one["kind"] == "worker"]
            assert lives == [("worker-1", "ended"), ("worker-1", "started")]
        # Another one comes back to where this one was.
        place = stream.last
        assert slardar.call("PUT", "/routes", [])[0] == 200
        assert stream.until(lambda one: one["kind"] == "routes")
        with Stream(slardar, "?kind=routes", place) as again:
            assert again.next()["version"] == 3
            slardar.signal(signal.SIGTERM)
            assert again.rest() == b"\n", "the end of the last event, and of the stream"
    if workers:
        return
    slardar.wait()
    slardar = start(Slardar(tmp_path, *words)).ready()
    with Stream(slardar, "?kind=routes", stream.last) as back:
        assert back.next()["kind"] == "gap"


def test_stream_ends_with_an_upgrade(tmp_path: Path, start: Start) -> None:
    """Whole, so that the client comes back at once: to the new process, which has other events."""
    site = start(Upgraded(tmp_path, "--store", "memory:", count=0)).ready()
    with Stream(site) as stream:
        assert site.call("PUT", "/routes", [])[0] == 200
        place = stream.next() and stream.last
        site.upgrade()
        assert stream.rest() == b"\n"
    with Stream(site, after=place) as back:
        assert back.next()["kind"] == "gap"
        assert site.call("PUT", "/routes", [])[0] == 200
        assert back.next()["version"] == 2
