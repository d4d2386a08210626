"""A user's own balancer as an operator meets it: found, edited, broken."""

from __future__ import annotations

import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import Slardar
from tests.integration.test_hooks import backend
from tests.integration.test_workers import until

__all__ = ["backend"]

HOST = "own.example"
FIRST = """
from slardar.balancers.base import Balancer

class Mine(Balancer):
    def __init__(self, servers, options):
        self.name = options.get("name", "x")

    def pick(self, servers, request):
        return servers[0]
"""
BROKEN = FIRST.replace("return servers[0]", "return servers[len(self.name) * 99]")


@pytest.mark.parametrize("workers", ["0", "2"])
def test_found_edited_and_broken(
    start: Start,
    tmp_path: Path,
    backend: Any,
    workers: str,
) -> None:
    """Director and workers find it in the rundir; an edited file is loaded with ``?reload=1``,
    and a wrong one is refused; failures are logged and shown."""
    rundir = tmp_path / "slardar"
    rundir.mkdir()
    own = rundir / "mine.py"
    own.write_text(FIRST)
    slardar = start(Slardar(rundir, "--store", "memory:", "--workers", workers)).ready()
    host, port = backend.address.split(":")
    upstream = {
        "mode": "mine.Mine",
        "mode_opts": {"name": "abc"},
        "servers": [{"host": host, "port": int(port)}],
    }
    path = f"/upstream/{HOST}"
    assert slardar.call("PUT", path, upstream) == (200, {"status": 200})
    assert slardar.get(HOST)[0] == 200
    assert "balancer_errors" not in slardar.call("GET", "/status")[1]
    # The file is not loaded before a call asks for it.
    own.write_text(BROKEN)
    assert slardar.call("PUT", path, upstream)[0] == 200
    assert slardar.get(HOST)[0] == 200
    assert "balancer_errors" not in slardar.call("GET", "/status")[1]
    assert slardar.call("PUT", f"{path}?reload=1", {}) == (200, {"status": 200})
    for _ in range(6):
        assert slardar.get(HOST)[0] == 200

    def shown() -> Any:
        found = slardar.call("GET", "/status")[1].get("balancer_errors", {}).get(HOST)
        return found if found and found["count"] == 6 else None

    until(lambda: shown() is not None, "all failures are in the status")
    about = shown()
    assert (about["class"], about["method"]) == ("mine.Mine", "pick")
    assert (about["file"], about["line"]) == (str(own), 9)
    assert about["error"] == "IndexError: list index out of range"
    line = f"upstream {HOST}: mine.Mine.pick failed at {own}:9: IndexError"
    said = len(re.findall(re.escape(line), slardar.output))
    # One line for each worker, replacements on a busy machine included; not one a request.
    assert 1 <= said < 6
    for wrong, says in (("def", "SyntaxError"), ("class Mine: pass", "no method pick")):
        own.write_text(wrong)
        status, answer = slardar.call("PUT", f"{path}?reload=1", upstream)
        assert (status, says in answer["msg"]) == (400, True), answer
    assert slardar.get(HOST)[0] == 200
    status, answer = slardar.call("PUT", f"{path}?reload=1", {"mode": "wrr", "mode_opts": {}})
    assert status == 400
    assert "expected a mode such as package.module.Class" in answer["msg"]
    own.write_text(FIRST)
    assert slardar.call("PUT", f"{path}?reload=1", {})[0] == 200
    assert slardar.get(HOST)[0] == 200
    assert "balancer_errors" not in slardar.call("GET", "/status")[1]


EXITS = "import sys\nsys.exit(0)\n"


def test_broken_file_costs_its_upstream_only(start: Start, tmp_path: Path, backend: Any) -> None:
    """A file that was reloaded and is broken by now keeps no worker from beginning; a module
    or a balancer that wants to end the process does not end it."""
    rundir = tmp_path / "slardar"
    rundir.mkdir()
    own = rundir / "mine.py"
    own.write_text(FIRST)
    slardar = start(Slardar(rundir, "--store", "memory:", "--workers", "1")).ready()
    host, port = backend.address.split(":")
    servers = [{"host": host, "port": int(port)}]
    assert slardar.call("PUT", "/upstream/other", {"servers": servers})[0] == 200
    mine = {"mode": "mine.Mine", "servers": servers}
    assert slardar.call("PUT", f"/upstream/{HOST}", mine)[0] == 200
    # The change imports the file, not the first request.
    own.write_text("def (")
    assert slardar.get(HOST)[0] == 200
    own.write_text(FIRST)
    assert slardar.call("PUT", f"/upstream/{HOST}?reload=1", {})[0] == 200
    own.write_text(EXITS)
    assert slardar.call("PUT", f"/upstream/{HOST}?reload=1", {})[0] == 400
    pid = slardar.call("GET", "/status")[1]["workers"]["worker-0"]["pid"]
    os.kill(pid, signal.SIGKILL)

    def replaced() -> bool:
        about = slardar.call("GET", "/status")[1]["workers"]["worker-0"]
        return about["pid"] not in (None, pid)

    until(replaced, "another worker serves")
    assert slardar.get("other")[0] == 200
    status, answer = slardar.get(HOST)
    assert status == 502
    assert "cannot be served" in answer
    routes = [{"host": "other", "path": "/images", "upstream": "images"}]
    assert slardar.call("PUT", "/routes", routes)[0] == 200
    assert "no upstream 'images'" in slardar.get("other", "/images")[1]
