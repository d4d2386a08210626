"""What the documentation shows is true: its commands are run, its files are read.

The commands in ``console`` blocks are run by a shell, those of a page in order, in one folder and
beside one slardar; what stands under a command is what it must print.  JSON may be broken into
lines there, ``...`` stands for anything, and times and fractions are examples.  A Python or YAML
block that begins with the name of a file, and JSON or hooks that ``GIVEN`` names, are in the
folder.  ``LEFT_OUT`` names each command that is not run here, and why; ``tests/test_book.py`` has
its own program's parser read it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

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
from tests.book import DOCS, PAGES, Command, blocks, commands
from tests.certificates import Authority
from tests.demo import Demo, agrees
from tests.fake_plugins import FakePlugins
from tests.integration.programs import CHECKOUT, Backends, Program, Slardar, free_port

#: Commands that are not run here: a page, how they begin, and why.
LEFT_OUT = (
    ("README.md", "make ", "they start and test everything"),
    ("console.md", "slardar completion", "it writes to folders of the machine"),
    ("migrating.md", "", "tests/test_migrating.py runs the page"),
    ("packages.md", "", "make test-deb and make test-image install the packages"),
    ("programming.md", "PYTHONPATH=", "examples/journal has tests of its own"),
    ("events.md", "curl", "the stream has no end: test_stream_is_as_shown"),
    ("running.md", "pip install", "it would replace the slardar that is tested"),
    ("running.md", "kill -USR2", "tests/integration/test_upgrade.py upgrades"),
    ("running.md", "old=", "tests/integration/test_page_programs.py runs the script"),
    ("running.md", "until ", "tests/integration/test_page_programs.py runs the script"),
    ("running.md", "systemctl", "tests/integration/test_systemd.py runs the unit"),
    ("running.md", "twistd slardar", "tests/integration/test_daemon.py takes a port twice"),
    ("starting.md", "make run", "test_demo_serves_its_calls_and_ends"),
    ("starting.md", "LISTEN=", "test_demo_serves_its_calls_and_ends"),
    ("starting.md", "python3 -m venv", "tests/test_package.py installs it"),
    ("starting.md", "/opt/slardar", "tests/test_package.py installs it"),
    ("starting.md", "twistd --nodaemon", "it takes the ports of the page"),
    ("stores.md", "twistd", "tests/test_migrating.py starts one with Consul"),
    ("stores.md", "curl", "Consul is away in tests/integration/test_store_away.py"),
    ("tracing.md", "pip install", "the tests install it with everything else"),
)


def is_left_out(page: Path, command: Command) -> bool:
    """Whether a command is not run here."""
    return any(page.name == name and command.text.startswith(begin) for name, begin, _ in LEFT_OUT)


def shown(page: Path) -> list[Command]:
    """The commands of a page that are run, in order."""
    found = [command for text in blocks(page, "console") for command in commands(text)]
    return [command for command in found if not is_left_out(page, command)]


RUNNABLE = [page for page in PAGES if shown(page)]
_SET = "slardar set www.example.com 127.0.0.1:8001"
_ASK = "curl -H 'Host: www.example.com' localhost:8080/"
#: What is done before the commands of a page, whose text says it in words.
BEFORE = {
    "balancers.md": (
        "curl -X PUT localhost:1995/upstream/www.example.com -d "
        """'{"mode": "least_requests.LeastRequests", "servers": """
        """[{"host": "127.0.0.1", "port": 8001}]}'""",
    ),
    "metrics.md": (_SET, _ASK),
    "troubleshooting.md": (
        "curl -X PUT localhost:1995/upstream/www.example.com "
        """-d '{"enable": false, "servers": [{"host": "127.0.0.1", "port": 8009}]}'""",
    ),
}
#: Files that are in the folder of a page: their names, and their text or the file of an example.
GIVEN = {
    "balancers.md": {"least_requests.py": CHECKOUT / "examples" / "least_requests.py"},
    "console.md": {
        "slardar.yaml": "upstreams: {www.example.com: {servers: "
        "[{host: 10.0.0.1, port: 80}, {host: 10.0.0.2, port: 80}]}}",
        "tenant.py": "def on_request(request):\n"
        "    if request.path == '/private':\n"
        "        return request.reject(403)\n"
        "    request.headers['X-Tenant'] = 'one'\n",
    },
    "hooks.md": {"tenant.py": CHECKOUT / "examples" / "hooks" / "tenant.py"},
    "programming.md": {"tenant.py": CHECKOUT / "examples" / "hooks" / "tenant.py"},
    "simulate.md": {
        "access.log": '192.0.2.7 - - [29/Nov/2026:00:32:24 +0000] "GET / HTTP/1.1" 200 4 "-" "a"\n',
        "mine.py": (CHECKOUT / "examples" / "least_requests.py")
        .read_text("utf-8")
        .replace("LeastRequests", "Cheapest"),
    },
}


@pytest.fixture(scope="module")
def backends(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[int]]:
    """The ports of two servers that say who they are."""
    program = Backends(tmp_path_factory.mktemp("servers"), 2)
    try:
        yield program.ports
    finally:
        program.end()


def started(folder: Path, backends: list[int]) -> Iterator[Demo]:
    """The programs that the pages assume, on ports that the kernel chose."""
    slardar = Slardar(folder, "--store", "memory:")
    try:
        yield Demo(slardar.ready(), folder, backends)
    finally:
        slardar.end()


@pytest.fixture
def demo(tmp_path: Path, backends: list[int]) -> Iterator[Demo]:
    """A slardar that nobody has told anything yet."""
    yield from started(tmp_path, backends)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory, backends: list[int]) -> Iterator[Demo]:
    """A slardar for all pages that print nothing of what came before."""
    yield from started(tmp_path_factory.mktemp("shared"), backends)


#: Pages that print versions and counters, which begin with the page.
ALONE = {"console.md", "control.md", "explain.md", "history.md", "metrics.md", "starting.md"}


def test_calls_are_found() -> None:
    """The pages that consist of calls have some, with answers."""
    for name, least in (
        ("README.md", 2),
        ("starting.md", 11),
        ("control.md", 20),
        ("console.md", 6),
    ):
        (page,) = [page for page in RUNNABLE if page.name == name]
        assert sum(1 for command in shown(page) if command.answer) >= least


def test_comparison_can_fail() -> None:
    """Texts that differ in more than blanks do not agree."""
    assert agrees('{"a": ..., "b":\n 1}', '{"a": [2, 3], "b": 1}')
    assert not agrees('{"a": ..., "b": 1}', '{"a": [2, 3], "b": 2}')
    assert not agrees('{"a": 1}', '{"a": 1, "b": 2}')


def test_calls_show_their_answer() -> None:
    """A reader sees what comes, and a test compares it."""
    for page in RUNNABLE:
        for command in shown(page):
            assert command.answer or not command.text.startswith("curl"), command.text


def test_every_reason_is_needed() -> None:
    """Each entry of the table leaves something out, and the tests that it names are there."""
    for _, _, reason in LEFT_OUT:
        for file in re.findall(r"tests/\S+\.py", reason):
            assert (CHECKOUT / file).is_file(), reason
    for name, begin, _ in LEFT_OUT:
        (page,) = [page for page in PAGES if page.name == name]
        found = [command for text in blocks(page, "console") for command in commands(text)]
        assert any(command.text.startswith(begin) for command in found), (name, begin)


@pytest.mark.real
@pytest.mark.parametrize("page", RUNNABLE, ids=lambda page: page.name)
def test_commands_print_what_is_shown(page: Path, request: pytest.FixtureRequest) -> None:
    """Every command of the page is run, one after the other; without an output on the page it
    must work."""
    demo: Demo = request.getfixturevalue("demo" if page.name in ALONE else "shared")
    for kind in ("python", "yaml"):
        for text in blocks(page, kind):
            name = re.match(r"# (\w+\.(?:py|yaml))\n", text)
            if name:
                (demo.folder / name[1]).write_text(demo.localise(text))
    for file, given in GIVEN.get(page.name, {}).items():
        (demo.folder / file).write_text(given if isinstance(given, str) else given.read_text())
    if page.name == "tls.md":
        Authority(demo.folder).issue("a", ("a.example", "*.a.example"))
    for text in BEFORE.get(page.name, ()):
        assert demo.run(text)[0] < 400
    for command in shown(page):
        status, answer = demo.run(command.text)
        # Only a terminal is asked; tests/integration/test_console_commands.py has one.
        expected = re.sub(r"^.* \[y/N\]: y\n", "", command.answer, flags=re.MULTILINE)
        if expected:
            demo.note_ids(expected, answer)
            expected = demo.localise(expected)
            assert agrees(expected, answer), f"{command.text}\n{expected}\n{answer}"
        failed = re.search(r'\{"status": [45]\d\d, "msg"', expected) is not None
        assert (status >= 400) == failed, f"{command.text}: {answer}"
    if page.name not in ALONE:
        assert demo.run("curl -X POST localhost:1995/rollback/0")[0] == 200


@pytest.mark.real
def test_stream_is_as_shown(shared: Demo) -> None:
    """A change and a server that refuses are told as the page about events shows them."""
    (command,) = commands(blocks(DOCS / "events.md", "console")[0])

    def examples(text: str) -> list[str]:
        text = re.sub(r"(?m)^id: [0-9a-f]+-\d+$", "id: 0", text)
        return re.sub(r'"(version|time)":[\d.]+', r'"\1":0', text).splitlines()

    # The page's server has gone.
    expected = examples(shared.localise(command.answer.replace("8001", "8009")))
    assert len(expected) == 9
    words = [shared.localise(word) for word in command.words]
    reader = subprocess.Popen([*words, "--silent", "--max-time", "30"], stdout=subprocess.PIPE)
    with reader:
        assert reader.stdout is not None
        said = [reader.stdout.readline().decode() for _ in range(4)]
        shared.run(
            'curl -X PUT localhost:1995/upstream/www.example.com -d \'{"enable": false, '
            '"servers": [{"host": "127.0.0.1", "port": 8009, "max_fails": 1}, '
            '{"host": "127.0.0.1", "port": 8002}]}\''
        )
        shared.run(_ASK)
        said += [reader.stdout.readline().decode() for _ in range(5)]
        reader.terminate()
    assert examples("".join(said))[: len(expected)] == expected
    assert shared.run("curl -X POST localhost:1995/rollback/0")[0] == 200


@pytest.mark.real
def test_demo_serves_its_calls_and_ends(tmp_path: Path) -> None:
    """``make run`` says which calls to try; each of them works, and Ctrl-C ends all programs."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(CHECKOUT / "scripts" / "demo", tmp_path / "scripts")
    (tmp_path / "examples").symlink_to(CHECKOUT / "examples")
    (tmp_path / ".curlrc").write_text('silent\nshow-error\nfail\nnoproxy = "*"\n')
    ports = [free_port() for _ in range(4)]
    demo = Program(
        [str(tmp_path / "scripts" / "demo"), str(Path(sys.executable).parent)],
        tmp_path,
        LISTEN=f"tcp:{ports[0]}:interface=127.0.0.1",
        CONTROL=f"tcp:{ports[1]}:interface=127.0.0.1",
        BACKENDS=f"{ports[2]} {ports[3]}",
    )
    try:
        demo.wait_for("Ctrl-C ends slardar")
        calls = re.findall(r"^  (curl .*(?:\n      .*)?)$", demo.output, re.MULTILINE)
        assert len(calls) == 5
        for call in calls:
            subprocess.run(
                ["sh", "-c", call],
                env={**os.environ, "CURL_HOME": str(tmp_path)},
                check=True,
                capture_output=True,
                timeout=60,
            )
        demo.signal(signal.SIGINT)
        assert demo.wait() == 0
    finally:
        demo.end()
    for port in ports:
        socket.create_server(("127.0.0.1", port)).close()


@pytest.mark.real
def test_tour_is_the_one_of_the_readme(demo: Demo, tmp_path: Path) -> None:
    """The script makes the README's calls and gets its answers, as often as it is run."""
    (shown,) = [text for text in blocks(CHECKOUT / "README.md", "console") if "curl" in text]
    command = [
        str(CHECKOUT / "examples" / "tour.sh"),
        *(str(demo.ports[port]) for port in (8080, 1995, 8001, 8002)),
    ]
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
def test_commands_about_the_file(tmp_path: Path) -> None:
    """Those on the page about the store: one lists the last changes; the other makes a copy that
    only its owner can read, and with which slardar can start."""
    query, command = blocks(DOCS / "store.md", "sh")
    file = SqliteFile(str(tmp_path / "slardar.db"))
    file.open()
    change = change_of("a", {"mode": "rr"})
    file.commit(0, [(change, encode(change))], 1)
    found = subprocess.run(
        ["sh", "-c", query], cwd=tmp_path, check=True, capture_output=True, text=True, timeout=60
    )
    assert re.fullmatch(r"1\|\d{4}-\d\d-\d\d [\d:]{8}\|[^|]*\|upstream\|a\n", found.stdout)
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
    trees = blocks(DOCS / "index.md", "{toctree}")
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
