"""The marker ``real`` tells the truth: ``--real=no`` fails a test that is real without it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import CHECKOUT

pytestmark = pytest.mark.real

HEAD = """
import os, socket, subprocess, sys, threading
import pytest
from twisted.internet import protocol, reactor

GONE = "/nowhere/at/all"

def connect():
    with socket.socket(socket.AF_UNIX) as it:
        it.connect_ex(GONE)

@pytest.fixture
def before():
    connect()

@pytest.fixture
def after():
    yield
    connect()

@pytest.fixture(scope="module")
def shared():
    connect()

def test_begins():
    pass
"""

#: Names of tests, their arguments, and what they do.
REAL = (
    ("bind", "", "socket.socket().bind(('127.0.0.1', 0))"),
    ("connect", "", "connect()"),
    ("datagram", "tmp_path", """
        there, here = (socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) for _ in "ab")
        with there, here, pytest.raises(OSError):
            here.sendto(b"", GONE)"""),
    ("name", "", "socket.getaddrinfo('127.0.0.1', 80)"),
    ("program", "", "subprocess.run([sys.executable, '--version'])"),
    ("fork", "", "os.waitpid(os.fork() or os._exit(0), 0)"),
    ("twisted", "", """
        program = reactor.spawnProcess(protocol.ProcessProtocol(), "/bin/true", ["true"])
        program.loseConnection()"""),
    ("swallowed", "", """
        try:
            connect()
        except BaseException:
            pass"""),
    ("thread", "", """
        thread = threading.Thread(target=connect)
        thread.start()
        thread.join()"""),
    ("before", "before", "pass"),
    ("shared", "shared", "pass"),
    ("after", "after", "pass"),
)  # fmt: skip
OTHERS = (
    ("pair", "", """
        one, other = socket.socketpair()
        with one, other:
            one.sendmsg([b"x"])
            assert other.recv(1) == b"x" """),
    ("pipe", "", "[os.close(end) for end in os.pipe()]"),
    ("socket", "", "socket.socket().close()"),
    ("nothing", "", "pass"),
)  # fmt: skip


def write(folder: Path) -> None:
    """A module of tests that are real without a marker, of marked ones, and of others."""
    text = [HEAD]
    for name, arguments, body in (*REAL, *OTHERS):
        text.append(f"def test_{name}({arguments}):\n        {body.strip()}\n")
    text.append("@pytest.mark.real\ndef test_marked():\n    connect()\n")
    text.append("class TestMarked:\n    pytestmark = pytest.mark.real\n")
    text.append("    def test_third(self):\n        connect()\n")
    text.append("    @pytest.mark.alone\n    def test_timed(self):\n        connect()\n")
    text.append("    @pytest.mark.real(False)\n    def test_excepted(self):\n        pass\n")
    (folder / "test_it.py").write_text("\n".join(text), encoding="utf-8")
    (folder / "pytest.ini").write_text("[pytest]\nmarkers = real\n  alone\n", encoding="utf-8")


def run(folder: Path, *arguments: str) -> str:
    """What pytest says of it."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rA", "-p", "tests.conftest", *arguments, folder],
        cwd=folder,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        env={"PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    return done.stdout


def outcomes(said: str, word: str) -> set[str]:
    """The tests that the summary names after a word."""
    return set(re.findall(rf"^{word} test_it\.py::(?:TestMarked::)?test_(\w+)", said, re.MULTILINE))


def test_real_without_a_marker_is_an_error(tmp_path: Path) -> None:
    """Whichever way, and wherever in the test's life; others pass, and marked ones do not run."""
    write(tmp_path)
    said = run(tmp_path, "--real=no", "-W", "ignore")
    assert outcomes(said, "ERROR") == {name for name, *_ in REAL}, said
    passed = {"begins", "excepted", *(name for name, *_ in (*REAL, *OTHERS))}
    assert outcomes(said, "PASSED") == passed, said
    assert outcomes(said, "FAILED") == set()
    assert " deselected" in said
    assert "not marked real, but it was: subprocess.Popen" in said


@pytest.mark.parametrize(
    ("wanted", "kept"),
    [
        ("only", {"marked", "third", "timed"}),
        ("beside", {"marked", "third"}),
        ("alone", {"timed"}),
        ("yes", {"marked", "excepted", "bind", "timed"}),
    ],
)
def test_choice(tmp_path: Path, wanted: str, kept: set[str]) -> None:
    """The real ones, those of them that run beside each other or alone, or all; nothing is an error
    then."""
    write(tmp_path)
    names = " or ".join(("test_marked", "test_third", "test_excepted", "test_bind", "test_timed"))
    if wanted == "yes":
        names = " or ".join(f"test_{name}" for name in kept)
    said = run(tmp_path, f"--real={wanted}", "-W", "ignore", "-k", names)
    assert outcomes(said, "PASSED") == kept, said
    assert outcomes(said, "ERROR") == set()


def test_error_names_the_line(tmp_path: Path) -> None:
    """The nearest one of the checkout, on the way into Python's own libraries."""
    (tmp_path / "test_it.py").write_text(
        "from tests.dataplane.kit import tcp_pair\n"
        "def test_pair():\n    for one in tcp_pair():\n        one.close()\n",
        encoding="utf-8",
    )
    said = run(tmp_path, "--real=no")
    assert re.search(r"socket\.bind in tests/dataplane/kit\.py:\d+, socket\.connect in", said), said
