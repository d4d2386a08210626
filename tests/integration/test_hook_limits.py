"""Hooks that want too much of a machine, as an operator meets them: posted, stored, run."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hooks.test_checking import HIDDEN
from tests.integration.conftest import Start
from tests.integration.programs import Nginx, Slardar
from tests.integration.test_hostile_hooks import WHO, Probe
from tests.integration.test_workers import until

HOST = "burn.example.com"
GOOD = "def on_request(request):\n    request.reject(403)\n"


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Nginx]:
    """nginx that says yes."""
    server = Nginx(tmp_path_factory.mktemp("backend") / "nginx", 'location / { return 200 "yes"; }')
    yield server
    server.end()


@pytest.fixture
def run(start: Start, tmp_path: Path, backend: Nginx) -> Callable[..., Slardar]:
    """Starts slardar in front of the backend; the folder, and so the store, stays."""

    def run(*options: str) -> Slardar:
        words = ["--upstream", f"{WHO}={backend.address}", "--amp", "unix:a.sock", *options]
        slardar: Slardar = start(Slardar(tmp_path / "slardar", *words))
        return slardar.ready()

    return run


def workers_of(slardar: Slardar) -> dict[str, Any]:
    """What is shown of the workers."""
    found: dict[str, Any] = slardar.call("GET", "/status")[1]["workers"]
    return found


def test_code_that_hangs_the_compiler_hurts_nobody(run: Callable[..., Slardar]) -> None:
    """400 after two seconds, in which requests are served, upstreams changed and other
    hooks posted; no process has ended for it."""
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
        slow.stdin.write(HIDDEN)
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
    """Whoever edited the store has asked nobody; slardar starts, says so, and serves the
    rest."""
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
        value["active"]["code"] = HIDDEN
        database.execute(
            "UPDATE state SET value=? WHERE kind=? AND name=?", (json.dumps(value), *row)
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
