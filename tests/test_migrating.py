"""The walk-throughs of the page on migrating: each command prints what the page says."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import time
from base64 import b64decode, b64encode
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.book import DOCS, commands
from tests.consul_agent import ConsulAgent, consul_program
from tests.demo import agrees
from tests.integration.programs import CHECKOUT, PATIENCE, TWISTD, Backends, Slardar, curl

pytestmark = pytest.mark.real

PAGE = (DOCS / "migrating.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## From (\S+)$(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
SLARDAR = (sys.executable, "-c", "from slardar.cli import main; main()")


class Walk:
    """A folder, servers on ports of the kernel's choice in the place of those of the page, and the
    slardar that was started last."""

    def __init__(self, folder: Path, backends: list[int], consul: ConsulAgent | None) -> None:
        self.folder = folder
        self.consul = consul
        self.slardar: Slardar | None = None
        self._ports = dict(zip((8001, 8002, 8003), backends, strict=True))
        if consul is not None:
            self._ports[8500] = consul.port

    def local(self, text: str) -> str:
        """The text with the real ports."""
        ports = dict(self._ports)
        if self.slardar is not None:
            ports |= {8080: self.slardar.port, 1995: self.slardar.control}
        pattern = rf"(?<![\w.])({'|'.join(map(str, ports))})(?!\d)"
        return re.sub(pattern, lambda found: str(ports[int(found[1])]), text)

    def run(self, words: list[str], shown: str) -> str:
        """What a command prints; ``shown`` is what the page says."""
        program = words[0]
        if program == "cat":
            return self._file(self.folder / words[1], shown)
        words = [self.local(word) for word in words]
        if program == "curl":
            (url,) = [word for word in words if word.startswith("localhost:")]
            return curl(url, *(word for word in words[1:] if word != url))[1]
        if program == "twistd" and "--check" not in words:
            self.end()
            started = Slardar(self.folder, *words[words.index("slardar") + 1 :])
            self.slardar = started
            started.ready()
            return ""
        starts = {"slardar": SLARDAR, "twistd": TWISTD, "consul": (consul_program(),)}
        environment = {**os.environ, "PYTHONPATH": str(CHECKOUT)}
        if self.consul is not None:
            environment["CONSUL_HTTP_ADDR"] = self.consul.address
        done = subprocess.run(
            [*starts[program], *words[1:]],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    def _file(self, path: Path, shown: str) -> str:
        """The content of a file.  One that is not there is made as the page shows it."""
        if not path.exists():
            text = self.local(shown)
            if path.suffix == ".json":
                entries = json.loads(text)
                for entry in entries:
                    value = self.local(b64decode(entry["value"]).decode())
                    entry["value"] = b64encode(value.encode()).decode()
                path.write_text(json.dumps(entries))
                return text
            path.write_text(text)
        return path.read_text()

    def end(self) -> None:
        """End slardar."""
        if self.slardar is not None:
            self.slardar.end()
            self.slardar = None


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """Servers that say who they are."""
    program = Backends(tmp_path_factory.mktemp("servers"), 3)
    try:
        yield program.ports
    finally:
        program.end()


def test_sections_are_found() -> None:
    """Each has commands, with what they print."""
    assert list(SECTIONS) == ["upyun/slardar", "nginx", "HAProxy"]
    for name, text in SECTIONS.items():
        assert sum(1 for one in shown_commands(text) if one[1]) >= 5, name


def shown_commands(text: str) -> list[tuple[list[str], str]]:
    """The commands of a section, and what is shown under them."""
    found = re.findall(r"^```console\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [(list(one.words), one.answer) for block in found for one in commands(block)]


@pytest.mark.parametrize("name", list(SECTIONS))
def test_walk_through(
    name: str, tmp_path: Path, backends: list[int], request: pytest.FixtureRequest
) -> None:
    """Every command works, and prints what stands under it."""
    found = shown_commands(SECTIONS[name])
    wants_consul = any(words[0] == "consul" for words, _ in found)
    consul = request.getfixturevalue("consul") if wants_consul else None
    walk = Walk(tmp_path, backends, consul)
    try:
        for words, shown in found:
            expected = walk.local(shown)
            end = time.monotonic() + PATIENCE
            answer = walk.run(words, shown)
            # What is written to Consul is served a moment later.
            while not agrees(expected, answer) and words[0] == "curl" and time.monotonic() < end:
                time.sleep(0.02)  # noqa: TID251
                answer = walk.run(words, shown)
            assert agrees(expected, answer), f"{shlex.join(words)}\n{expected}\n{answer}"
    finally:
        walk.end()
