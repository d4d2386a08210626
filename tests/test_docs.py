"""What the documentation shows is true: its calls are made, its files are read.

A command of a ``console`` block is run if it is a curl call of slardar's own ports; what
stands under it is what must come back.  JSON may be broken into lines there, and ``...``
stands for anything.  The calls of a page are made in order, on one slardar, in whose folder the
page's Python blocks are that begin with the name of a file.  On the pages that ``COMMANDS`` names,
commands of ``slardar`` are run with them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from slardar import plugins
from slardar.config import Settings, parse_settings
from slardar.model.parse import parse_upstream
from slardar.simulation.run import simulate
from slardar.simulation.scenario import read_scenario
from slardar.stores.sqlite_file import SqliteFile
from slardar.stores.written import encode
from slardar.testing.expectations import read_expectations
from slardar.testing.stores import change_of
from tests.fake_plugins import FakePlugins
from tests.integration.programs import CHECKOUT, Backends, Slardar, curl

DOCS = CHECKOUT / "docs"
PAGES = [CHECKOUT / "README.md", *sorted(DOCS.glob("*.md"))]


def blocks(page: Path, kind: str) -> list[str]:
    """The fenced blocks of one kind, in order."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", page.read_text("utf-8"), re.DOTALL | re.MULTILINE)


class Command(NamedTuple):
    """A command as it is printed, and the text under it."""

    words: list[str]
    answer: str


def commands(text: str) -> Iterator[Command]:
    """The commands of a console block; a command goes on until its quotes are closed."""
    for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
        lines = part.splitlines(keepends=True)
        for count in range(1, len(lines) + 1):
            try:
                words = shlex.split("".join(lines[:count]), comments=True)
            except ValueError:
                continue
            yield Command(words, "".join(lines[count:]).strip())
            break
        else:
            raise AssertionError(f"no end of quotes in {part!r}")


#: Pages whose commands of the console are run.
COMMANDS = ("starting.md",)


def calls(page: Path) -> list[Command]:
    """The curl calls of a page, and what else of it is run."""
    found = [command for text in blocks(page, "console") for command in commands(text)]
    run = ("curl", "slardar") if page.name in COMMANDS else ("curl",)
    return [command for command in found if command.words[0] in run]


#: ``tests/test_migrating.py`` runs this page, whose slardars have stores and files of their own.
RUNNABLE = [page for page in PAGES if calls(page) and page.name != "migrating.md"]


class Demo:
    """slardar and two backends; ``ports`` maps the ports on the pages to real ones."""

    def __init__(self, slardar: Slardar, folder: Path, backends: list[int]) -> None:
        self.folder = folder
        self.ports = {8080: slardar.port, 1995: slardar.control}
        self.ports |= dict(zip((8001, 8002), backends, strict=True))

    def localise(self, text: str) -> str:
        """The text with the real ports."""
        return re.sub(
            r"(?<![\d.])(8080|1995|8001|8002)(?!\d)",
            lambda match: str(self.ports[int(match[1])]),
            text,
        )

    def run(self, words: list[str]) -> tuple[int, str]:
        """Status and answer of a curl call; a command of the console has none, and must work."""
        program, *words = [self.localise(word) for word in words]
        if program == "slardar":
            done = subprocess.run(
                [sys.executable, "-c", "from slardar.cli import main; main()", *words],
                env={**os.environ, "SLARDAR_CONTROL": f"http://127.0.0.1:{self.ports[1995]}"},
                cwd=self.folder,
                capture_output=True,
                text=True,
                check=False,
                timeout=60,
            )
            assert done.returncode == 0, done.stderr
            return 0, done.stdout
        (url,) = [word for word in words if word.startswith("localhost:")]
        return curl(url, *(word for word in words if word != url))


@pytest.fixture
def demo(tmp_path: Path) -> Iterator[Demo]:
    """The programs that the pages assume, on ports that the kernel chose."""
    slardar = Slardar(tmp_path, "--store", "memory:")
    try:
        backends = Backends(tmp_path, 2)
        try:
            yield Demo(slardar.ready(), tmp_path, backends.ports)
        finally:
            backends.end()
    finally:
        slardar.end()


def squeezed(text: str) -> str:
    """The text without blanks: the line breaks of JSON do not matter."""
    return re.sub(r"\s+", "", text)


def agrees(expected: str, answer: str) -> bool:
    """Whether ``answer`` is the one on the page."""
    parts = [re.escape(part) for part in squeezed(expected).split("...")]
    return re.fullmatch(".*".join(parts), squeezed(answer)) is not None


def test_calls_are_found() -> None:
    """The pages that consist of calls have some, with answers."""
    for name, least in (("README.md", 2), ("starting.md", 11), ("control.md", 20)):
        (page,) = [page for page in RUNNABLE if page.name == name]
        assert sum(1 for call in calls(page) if call.answer) >= least


def test_comparison_can_fail() -> None:
    """Texts that differ in more than blanks do not agree."""
    assert agrees('{"a": ..., "b":\n 1}', '{"a": [2, 3], "b": 1}')
    assert not agrees('{"a": ..., "b": 1}', '{"a": [2, 3], "b": 2}')
    assert not agrees('{"a": 1}', '{"a": 1, "b": 2}')


@pytest.mark.real
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_calls_answer_as_shown(page: Path, demo: Demo) -> None:
    """Every call of the page is made, one after the other; without an answer on the page it
    must succeed."""
    for text in blocks(page, "python"):
        name = re.match(r"# (\w+\.py)\n", text)
        if name:
            (demo.folder / name[1]).write_text(text)
    for words, expected in calls(page):
        status, answer = demo.run(words)
        if expected:
            expected = demo.localise(expected)
            assert agrees(expected, answer), f"{shlex.join(words)}\n{expected}\n{answer}"
        failed = re.search(r'\{"status": [45]', expected) is not None
        assert (status >= 400) == failed, f"{shlex.join(words)}: {answer}"


@pytest.mark.real
def test_tour_is_the_one_of_the_readme(demo: Demo, tmp_path: Path) -> None:
    """The script makes the README's calls and gets its answers, as often as it is run."""
    (shown,) = [text for text in blocks(CHECKOUT / "README.md", "console") if "curl" in text]
    command = [str(CHECKOUT / "examples" / "tour.sh"), *map(str, demo.ports.values())]
    for _ in range(2):
        ran = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
        )
        assert (ran.returncode, ran.stderr) == (0, "")
        assert ran.stdout == demo.localise(shown)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_are_read(page: Path, tmp_path: Path) -> None:
    """Every YAML block is a configuration, a scenario that can be simulated, or what is expected
    of a configuration; every JSON
    block is an upstream, and every Python block compiles."""
    for text in blocks(page, "yaml"):
        if text.startswith("# scenario.yaml"):
            (tmp_path / "scenario.yaml").write_text(text)
            assert simulate(read_scenario(str(tmp_path / "scenario.yaml")), [])["requests"] == 0
            continue
        if text.startswith("# expected.yaml"):
            assert read_expectations(yaml.safe_load(text)["expect"], page.name)
            continue
        parse_settings(yaml.safe_load(text), page.name, plugins)
    for text in blocks(page, "json"):
        # The files that it names are somebody else's.
        checks = FakePlugins(plugins.check_mode, plugins.check_probe)
        parse_upstream("shown", json.loads(text), page.name, checks)
    for text in blocks(page, "python"):
        compile(text, str(page), "exec")


def test_defaults_are_the_defaults() -> None:
    """The defaults on the page are the real ones, and none is missing."""
    (text,) = blocks(DOCS / "running.md", "yaml")
    shown: dict[str, Any] = yaml.safe_load(text)
    assert parse_settings(shown) == Settings()
    defaults = Settings()
    assert list(shown) == list(Settings.__struct_fields__)
    for key in ("control", "timeouts", "limits", "health", "hooks", "history", "metrics"):
        assert list(shown[key]) == list(getattr(defaults, key).__struct_fields__)


@pytest.mark.real
@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="sqlite3 is not here")
def test_backup_is_private(tmp_path: Path) -> None:
    """The command on the page about the store makes a copy that only its owner can read, and
    with which slardar can start."""
    (command,) = [text for text in blocks(DOCS / "store.md", "sh") if ".backup" in text]
    file = SqliteFile(str(tmp_path / "slardar.db"))
    file.open()
    change = change_of("a", {"mode": "rr"})
    file.commit(0, [(change, encode(change))], 1)
    subprocess.run(["sh", "-c", f"umask 022; {command}"], cwd=tmp_path, check=True, timeout=60)
    file.close()
    copy = tmp_path / "backup.db"
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    restored = SqliteFile(str(copy))
    assert restored.open().upstreams == {"a": {"mode": "rr"}}
    restored.close()


def test_figures_are_those_of_the_measurements() -> None:
    """Whatever the page on tuning says that something costs stands where it says."""
    text = (DOCS / "tuning.md").read_text("utf-8")
    rows = re.findall(r"^\| .* \| (.*) \| `((?:benchmarks|docs)/\w+\.md)` \|$", text, re.MULTILINE)
    assert len(rows) >= 12
    for cost, file in rows:
        measured = (CHECKOUT / file).read_text("utf-8")
        for figure in re.findall(r"\d[\d.]*", cost):
            assert re.search(rf"(?<![\d.]){re.escape(figure)}(?![\d.]*\d)", measured), (cost, file)


def test_ratios_are_those_of_the_measurements() -> None:
    """The table of the page that says why it is fast is the one of the results."""
    text = (DOCS / "why-fast.md").read_text("utf-8")
    results = (CHECKOUT / "benchmarks" / "RESULTS.md").read_text("utf-8")
    heads = ("Small replies, 64", "64 KiB", "1 MiB", "Small replies, a connection")
    proxies = (
        *(r"\*\*slardar\*\*", "slardar, not compiled", "HAProxy", "Envoy"),
        "ReverseProxyResource",
    )
    rows = re.findall(r"^\| [\w ]+ \| (\d.*) \|$", text, re.MULTILINE)
    assert len(rows) == len(heads)
    for row, head in zip(rows, heads, strict=True):
        part = results.partition(f"\n### {head}")[2].partition("\n### ")[0]
        found = [re.search(rf"^\| {name} \| ([\d.]+)", part, re.MULTILINE) for name in proxies]
        assert row.split(" | ") == [match[1] for match in found if match]


@pytest.mark.real
def test_tests_of_the_page_on_programming_pass(tmp_path: Path) -> None:
    """They are run as a reader runs them, beside the examples that they test."""
    files = {}
    for text in blocks(DOCS / "programming.md", "python"):
        name = re.match(r"# (test_\w+\.py)\n", text)
        if name:
            files[name[1]] = text
    assert sorted(files) == ["test_journal.py", "test_smtp_probe.py", "test_tenant.py"]
    for file, text in files.items():
        (tmp_path / file).write_text(text)
    examples = CHECKOUT / "examples"
    shutil.copy(examples / "hooks" / "tenant.py", tmp_path)
    path = ":".join(map(str, (examples, examples / "journal", CHECKOUT)))
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", ".", *files],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout
    assert int(re.findall(r"(\d+) passed", ran.stdout)[0]) >= 30


def test_index_has_every_page_once() -> None:
    """Also those that Sphinx would only miss when it builds the pages."""
    trees = blocks(DOCS / "index.md", r"\{toctree\}")
    named = [line for tree in trees for line in re.findall(r"^[a-z-]+$", tree, re.MULTILINE)]
    assert sorted(named) == sorted(page.stem for page in DOCS.glob("*.md") if page.stem != "index")
    assert all(":caption: " in tree for tree in trees)


def test_links_lead_somewhere() -> None:
    """Linked files exist, and so do linked sections."""
    for page in PAGES:
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
            if "://" in target:
                continue
            name, _, section = target.partition("#")
            found = page.parent / name if name else page
            assert found.exists(), f"{page.name}: {target}"
            if section:
                titles = re.findall(r"^#+ (.+)$", found.read_text("utf-8"), re.MULTILINE)
                anchors = [
                    re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles
                ]
                assert section in anchors, f"{page.name}: {target}"
