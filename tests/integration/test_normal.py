"""The page about what is normal shows what slardar says."""

from __future__ import annotations

import os
import re
import signal
import sys
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import CHECKOUT, Program, curl
from tests.integration.test_workers import until
from tests.integration.upgrades import Upgraded

pytestmark = pytest.mark.real

PAGE = (CHECKOUT / "docs" / "normal.md").read_text("utf-8")


def shown(heading: str) -> str:
    """The text in the blocks below a heading of the page."""
    part = PAGE.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return "".join(re.findall(r"^```text\n(.*?)^```$", part, re.DOTALL | re.MULTILINE))


def pattern(text: str) -> str:
    """What a text on the page stands for: numbers are examples, ``...`` is anything."""
    numbers = re.sub(r"\d+", "0", text.strip())
    return re.escape(numbers).replace(r"\.\.\.", ".*").replace("0", r"\d+")


def check(heading: str, said: str) -> None:
    """Every line under the heading is in what was said."""
    lines = shown(heading).splitlines()
    assert lines
    for line in lines:
        assert re.search(f"(?m)^{pattern(line)}$", said), f"{line}\n{said}"


def test_pattern_can_fail() -> None:
    """Other words do not agree."""
    assert re.fullmatch(pattern("worker-0 (pid 1) serves ..."), "worker-3 (pid 4711) serves all")
    assert not re.fullmatch(pattern("worker-0 (pid 1) serves"), "worker-0 (pid 1) ended")


def test_page_shows_what_is_said(start: Start, tmp_path: Path) -> None:
    """A life in the order of the page: start, change, requests, a worker's end, HUP, upgrade and
    stop."""
    backends = [sys.executable, str(CHECKOUT / "examples" / "backends.py"), "0"]
    backend = start(Program(backends, tmp_path))
    port = int(backend.wait_for(r"serving on http://127\.0\.0\.1:(\d+)/")[1])
    site = start(Upgraded(tmp_path)).ready()
    site.wait_for("amp on unix")
    check("The log at the start", site.output)

    body = {"servers": [{"host": "127.0.0.1", "port": port}]}
    assert site.call("PUT", "/upstream/www.example.com", body)[0] == 200
    for _ in range(4):
        assert site.get("www.example.com")[0] == 200

    def is_told() -> bool:
        status = site.status()
        beaten = status["cls:www.example.com"][0][0]["status"] == "ok"
        # A worker's version is unknown until its first report.
        told = all(about["version"] for about in status["workers"].values())
        return beaten and told and status["statistics"]["requests"] == 4

    until(is_told, "all workers have reported, also of the requests, and a heartbeat has come")
    found = curl(f"http://127.0.0.1:{site.control}/status")[1]
    wanted, said = (
        re.sub('"fingerprint":"[^"]*"', "", re.sub(r"\s+", "", text))
        for text in (shown("Status"), found)
    )
    assert re.fullmatch(pattern(wanted), said), found
    assert not {"failed", "balancer_errors"} & set(site.status())
    check("Metrics", curl(f"http://127.0.0.1:{site.control}/metrics")[1])

    site.signal(signal.SIGHUP)
    site.wait_for("read again")
    check("A change, and a request", site.output)

    os.kill(site.pids()["worker-0"], signal.SIGKILL)
    site.wait_for("ended by signal 9")
    until(
        lambda: len(re.findall(r"worker-0 \(pid \d+\) serves", site.output)) == 2,
        "another worker serves",
    )
    check("A worker that ends", site.output)

    before = len(site.output)
    new = site.upgrade()
    until(lambda: "Server Shut Down." in site.output[before:], "the old process has ended")
    check("An upgrade", site.output[before:])
    before = len(site.output)
    os.kill(new, signal.SIGTERM)
    until(lambda: "Server Shut Down." in site.output[before:], "the new process has ended")
    check("A stop", site.output[before:])
