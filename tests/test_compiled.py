"""The request path compiled by mypyc: the same behaviour as its sources.

The package is built as an ordinary installation builds it, and the tests of what is
compiled run on it, in a copy of the checkout and in a process of their own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent
#: What touches the modules that are compiled, for two processes that take about as long; the
#: rest runs on top of these.
TESTS = (
    (
        "tests/hooks",
        # Lua's own, and not only what is between it and the request path.
        "--ignore=tests/hooks/lua/test_files.py",
        "--ignore=tests/hooks/lua/test_nginx.py",
        "--ignore=tests/hooks/lua/test_patterns.py",
        "tests/test_cookbook.py",
        "tests/test_web_hooks.py",
    ),
    (
        "tests/balancers",
        "tests/dataplane",
        "tests/http1",
        "tests/properties",
        "tests/test_web.py",
        "tests/integration/test_dataplane.py",
        "tests/integration/test_endings.py",
        "tests/integration/test_hostile_replies.py",
        "tests/integration/test_hostile_requests.py",
    ),
)


def run(*command: str | Path, cwd: Path, seconds: float) -> str:
    """The output of a command; if the command fails, the test fails with the output."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=seconds,
        env={**os.environ, "SLARDAR_COMPILE": "1", "SLARDAR_OPT_LEVEL": "0"},
    )
    assert done.returncode == 0, done.stdout[-20000:]
    return done.stdout


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the checkout in which the request path is compiled."""
    folder = tmp_path_factory.mktemp("compiled")
    copy = folder / "checkout"
    junk = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "site", "*.so")
    shutil.copytree(CHECKOUT, copy, ignore=junk)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(
        *pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", folder, copy,
        cwd=folder, seconds=400,
    )  # fmt: skip
    (wheel,) = folder.glob("txslardar-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                archive.extract(name, copy)
    return copy


def test_is_compiled(checkout: Path) -> None:
    """An installation imports the compiled modules."""
    shown = run(
        sys.executable,
        "-c",
        "import slardar.http1.exchange, slardar.dataplane.poller, slardar.balancers.wrr as w;"
        "print(slardar.http1.exchange.__file__, slardar.dataplane.poller.__file__, w.__file__)",
        cwd=checkout,
        seconds=60,
    )
    assert all(file.endswith(".so") for file in shown.split()), shown


def test_behaves_as_its_sources(checkout: Path) -> None:
    """All tests of the request path pass on it, also those with real sockets."""
    pytest_ = (sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider")
    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(run, *pytest_, *tests, cwd=checkout, seconds=400) for tests in TESTS]
    for one in runs:
        one.result()
