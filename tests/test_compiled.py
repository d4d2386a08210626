"""The request path compiled by mypyc: the same behaviour as its sources.

The package is built as an ordinary installation builds it, and the tests of what is
compiled run on it, in a copy of the checkout and in processes of their own.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

pytestmark = pytest.mark.real

CHECKOUT = Path(__file__).resolve().parent.parent
#: What touches the modules that are compiled: each is one run of pytest, with these
#: arguments more.  Two run at a time, so those that take longest come first.
TARGETS: dict[str, tuple[str, ...]] = {
    # Lua's own tests are left out: they touch nothing that is compiled.
    "tests/hooks/lua": (
        "--ignore=tests/hooks/lua/test_files.py",
        "--ignore=tests/hooks/lua/test_nginx.py",
        "--ignore=tests/hooks/lua/test_patterns.py",
        "--ignore=tests/hooks/lua/test_worst.py",
    ),
    "tests/hooks/python": (),
    "tests/hooks": ("--ignore=tests/hooks/lua", "--ignore=tests/hooks/python"),
    "tests/properties": (),
    "tests/integration/test_endings.py": (),
    # TLS on one side alone runs interpreted.
    "tests/integration/test_dataplane.py": ("-k", "not plain-tls and not tls-plain"),
    "tests/integration/test_hostile_requests.py": (),
    "tests/integration/test_hostile_replies.py": (),
    "tests/integration/test_hostile_tls.py": (),
    "tests/dataplane": (),
    "tests/http1": (),
    "tests/balancers": (),
    "tests/health": (),
    "tests/observers": (),
    "tests/test_web.py": (),
    "tests/test_web_hooks.py": (),
    "tests/test_cookbook.py": (),
}

Done = subprocess.CompletedProcess[str]


def run(*command: str | Path, cwd: Path) -> Done:
    """A command's end, and what it printed."""
    return subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=400,
        env={**os.environ, "SLARDAR_COMPILE": "1", "SLARDAR_OPT_LEVEL": "0"},
    )


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> tuple[Done, Path]:
    """How the build ended, and the folder that it left a wheel in."""
    folder = tmp_path_factory.mktemp("compiled")
    copy = folder / "checkout"
    junk = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "site", "*.so")
    shutil.copytree(CHECKOUT, copy, ignore=junk)
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check", "wheel")
    options = ("--no-build-isolation", "--no-deps", "--no-index")
    return run(*pip, *options, "-w", folder, copy, cwd=folder), folder


@pytest.fixture(scope="module")
def checkout(build: tuple[Done, Path]) -> Path:
    """A copy of the checkout in which the request path is compiled."""
    done, folder = build
    if done.returncode != 0:
        pytest.fail("there is nothing to test: see test_builds", pytrace=False)
    (wheel,) = folder.glob("txslardar-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for name in archive.namelist():
            if name.endswith(".so"):
                archive.extract(name, folder / "checkout")
    return folder / "checkout"


@pytest.fixture(scope="module")
def runs(checkout: Path, request: pytest.FixtureRequest) -> Iterator[dict[str, Future[Done]]]:
    """The runs of those targets that were asked for; all have begun or are waiting to."""
    command = (sys.executable, "-m", "pytest", "-q", "-rfE", "-p", "no:cacheprovider")
    pool = ThreadPoolExecutor(2)
    found = {}
    for item in request.session.items:
        if isinstance(item, pytest.Function) and item.function is test_behaves_as_its_sources:
            target = item.callspec.params["target"]
            found[target] = pool.submit(run, *command, target, *TARGETS[target], cwd=checkout)
    yield found
    pool.shutdown(cancel_futures=True)


def test_builds(build: tuple[Done, Path]) -> None:
    """mypyc and the C compiler take all of the request path."""
    done, _ = build
    if done.returncode != 0:
        pytest.fail(done.stdout[-20000:], pytrace=False)


def test_wheel_is_for_this_python(checkout: Path) -> None:
    """Another version, or another kind of machine, must not take it."""
    (wheel,) = checkout.parent.glob("txslardar-*.whl")
    tag = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    assert f"-{tag}-{tag}-linux_" in wheel.name


def test_is_compiled(checkout: Path) -> None:
    """An installation imports the compiled modules."""
    done = run(
        sys.executable,
        "-c",
        "import slardar.http1.exchange, slardar.dataplane.poller, slardar.balancers.wrr as w;"
        "from slardar.http1 import native, scan; assert scan.scan_reply is native.scan_reply;"
        "from slardar.observers.lines import NativeJsonLines, lines_for;"
        "assert type(lines_for('json', 'w', 999)) is NativeJsonLines;"
        "print(slardar.http1.exchange.__file__, slardar.dataplane.poller.__file__, w.__file__,"
        " native.__file__)",
        cwd=checkout,
    )
    assert done.returncode == 0, done.stdout
    assert all(file.endswith(".so") for file in done.stdout.split()), done.stdout


@pytest.mark.parametrize("target", TARGETS)
def test_behaves_as_its_sources(runs: dict[str, Future[Done]], target: str) -> None:
    """All tests of the request path pass on it, also those with real sockets."""
    done = runs[target].result()
    if done.returncode != 0:
        broken = re.findall(r"^(?:FAILED|ERROR) (\S+)", done.stdout, re.MULTILINE)
        pytest.fail(
            f"compiled: {', '.join(broken) or f'pytest exits with {done.returncode}'}\n"
            + done.stdout[-20000:],
            pytrace=False,
        )
