"""The programs on the pages about embedding, AMP and upgrades run, and do what the pages say."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.book import DOCS, blocks, commands
from tests.integration.conftest import Start
from tests.integration.programs import Backends, Program, Slardar, curl, free_port
from tests.integration.test_normal import pattern
from tests.integration.test_workers import until
from tests.integration.upgrades import Upgraded

pytestmark = pytest.mark.real

SITE, PLANE, SERVICE = blocks(DOCS / "embedding.md", "python")
#: What the page leaves to the reader, around the block about a plane and the one about a service.
AROUND_PLANE = """
from twisted.internet import reactor
from slardar.model.snapshot import Snapshot
{block}
servers = [{{"host": "127.0.0.1", "port": 8001}}]
serve(Snapshot.build(1, {{}}, (), None), "www.example.com", {{"servers": servers}})
reactor.run()
"""
AROUND_SERVICE = """
from twisted.application.service import MultiService
from twisted.internet import reactor
application = MultiService()
{block}
application.privilegedStartService()
application.startService()
reactor.run()
"""


@pytest.fixture
def run(tmp_path: Path, start: Start) -> Callable[[str, dict[int, int]], Program]:
    """Starts a program with ports in the place of those of the page."""

    def begin(text: str, ports: dict[int, int]) -> Program:
        pattern = rf"(?<!\d)({'|'.join(map(str, ports))})(?!\d)"
        text = re.sub(pattern, lambda found: str(ports[int(found[1])]), text)
        program: Program = start(Program([sys.executable, "-c", text], tmp_path))
        return program

    return begin


def test_embedded_parts_serve(
    run: Callable[[str, dict[int, int]], Program], start: Start, tmp_path: Path
) -> None:
    """A resource of a site, a plane with a listener, and the whole service."""
    backend = start(Backends(tmp_path, 1)).ports[0]
    # The control channel of the service has its default port, which may be somebody's here.
    service = SERVICE.replace(
        '"workers": 0', '"workers": 0, "control": {"http": "tcp:0:interface=127.0.0.1"}'
    )
    assert service != SERVICE
    texts = (
        SITE,
        AROUND_PLANE.format(block=PLANE),
        AROUND_SERVICE.format(block=service),
    )
    ports = [free_port() for _ in texts]
    programs = [
        run(text, {8080: port, 8001: backend}) for text, port in zip(texts, ports, strict=True)
    ]

    def answer(number: int, path: str) -> str:
        found: list[str] = []

        def is_there() -> bool:
            assert not programs[number].has_ended, programs[number].output
            try:
                url = f"http://127.0.0.1:{ports[number]}{path}"
                found.append(curl(url, "-H", "Host: www.example.com")[1])
            except subprocess.CalledProcessError:
                return False
            return True

        until(is_there, "it listens")
        return found[-1]

    served = f"127.0.0.1:{backend} serves GET"
    assert answer(0, "/api/users?x").startswith(f"{served} /users?x for ")
    assert answer(1, "/a") == f"{served} /a for www.example.com\n"
    programs[2].wait_for("requests are served")
    assert "no upstream for host" in answer(2, "/")


def test_amp_client_works(
    run: Callable[[str, dict[int, int]], Program], start: Start, tmp_path: Path
) -> None:
    """The client changes an upstream and one of its servers."""
    slardar = start(Slardar(tmp_path, "--store", "memory:")).ready()
    slardar.wait_for("amp on unix slardar.sock")
    (block,) = blocks(DOCS / "amp.md", "python")
    react = "from twisted.internet import defer, task\n"
    react += "task.react(lambda reactor: defer.ensureDeferred(main(reactor)))\n"
    client = run(f"{block}\n{react}", {8080: 8080})
    assert client.wait() == 0, client.output
    assert "10.0.0.1" in client.output
    (server,) = slardar.call("GET", "/upstream/www.example.com")[1]["servers"]
    assert server["state"] == "drain", json.dumps(server)


def test_upgrades_go_as_shown(start: Start, tmp_path: Path) -> None:
    """A wrong file ends an upgrade with the line on the page about running; the script there ends
    when the new process serves."""
    file = tmp_path / "slardar.yaml"
    file.write_text("workers: 1\n")
    site = start(Upgraded(tmp_path, "--config", "slardar.yaml", count=None)).ready()
    (line,) = [text for text in blocks(DOCS / "running.md", "text") if "not upgraded" in text]
    file.write_text("workers: -1\n")
    site.usr2()
    site.wait_for(f"{pattern(line)}$")

    file.write_text("workers: 1\n")
    (text,) = [text for text in blocks(DOCS / "running.md", "console") if "until curl" in text]
    script = "".join(command.text for command in commands(text))
    assert "127.0.0.1:1995" in script
    ran = subprocess.run(
        ["sh", "-c", script.replace(":1995", f":{site.control}")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    new = site.status()["generations"][0]
    assert site.current != new["pid"] == site.pid_in_file()
    (shown,) = [text for text in blocks(DOCS / "running.md", "text") if '"age"' in text]
    assert [list(json.loads(one)) for one in shown.splitlines()] == [list(new)] * 2
