"""What an ordinary installation brings: the plugin, the command, the data files.

The package is built from a copy of the checkout and installed with pip into an
environment of its own, which finds the dependencies in the one that runs the
tests.  Nothing is fetched.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

import slardar
from slardar.build import describe_build
from tests.integration.programs import FileServer, Program, Slardar

pytestmark = pytest.mark.real

CHECKOUT = Path(__file__).resolve().parent.parent
SOURCES = (
    "setup.py",
    "pyproject.toml",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
    "slardar",
    "twisted",
)
DEPENDENCIES = sysconfig.get_path("purelib")
PLUGIN = "twisted/plugins/slardar_plugin.py"
#: What Twisted's own script does, which is not installed again here.
TWISTD = "from twisted.scripts.twistd import run; run()"


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The output of a command; if the command fails, the test fails with the output."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=cwd,
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        env={**os.environ, "SLARDAR_COMPILE": "0", **environment},
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def copied(source: Path) -> Path:
    """The files of a clean checkout, in the folder ``source``."""
    source.mkdir(exist_ok=True)
    junk = shutil.ignore_patterns("__pycache__", "dropin.cache", "*.so")
    for name in SOURCES:
        if (CHECKOUT / name).is_dir():
            shutil.copytree(CHECKOUT / name, source / name, ignore=junk)
        else:
            shutil.copy(CHECKOUT / name, source / name)
    return source


def built_wheel(source: Path, built: Path, **environment: str) -> Path:
    """The wheel that pip makes from a checkout."""
    pip = (sys.executable, "-m", "pip", "--disable-pip-version-check")
    run(
        *pip, "wheel", "--no-build-isolation", "--no-deps", "--no-index", "-w", built, source,
        cwd=built, **environment,
    )  # fmt: skip
    (found,) = built.glob("txslardar-*.whl")
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package without compiled modules."""
    source = copied(tmp_path_factory.mktemp("source"))
    return built_wheel(source, tmp_path_factory.mktemp("built"))


class Environment:
    """A virtual environment with slardar installed."""

    def __init__(self, folder: Path, wheel: Path, *, own_twisted: bool) -> None:
        self.folder = folder
        run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
        (self.packages,) = (folder / "venv").glob("lib/python3*/site-packages")
        (self.packages / "dependencies.pth").write_text(DEPENDENCIES + "\n")
        if own_twisted:
            shutil.copytree(
                Path(DEPENDENCIES) / "twisted",
                self.packages / "twisted",
                ignore=shutil.ignore_patterns("test", "__pycache__", "dropin.cache"),
            )
        run(
            sys.executable, "-m", "pip", "--disable-pip-version-check",
            "--python", self.bin("python"), "install", "--no-deps", "--no-index", wheel,
            cwd=folder,
        )  # fmt: skip

    def bin(self, name: str) -> Path:
        """A program of the environment."""
        return self.folder / "venv" / "bin" / name

    def twistd(self, *arguments: str) -> str:
        """The output of twistd, which runs outside of any checkout."""
        return run(self.bin("python"), "-c", TWISTD, *arguments, cwd=self.folder)


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """Twisted is elsewhere on the path: slardar's folder holds the plugin alone."""
    return Environment(tmp_path_factory.mktemp("beside"), wheel, own_twisted=False)


@pytest.fixture(scope="module")
def within(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Environment:
    """Twisted is in the same site-packages, with its own plugins folder."""
    return Environment(tmp_path_factory.mktemp("within"), wheel, own_twisted=True)


class Installed(Slardar):
    """slardar of an environment, which knows nothing of the checkout."""

    def __init__(self, environment: Environment, folder: Path) -> None:
        command = [str(environment.bin("python")), "-c", TWISTD, "--nodaemon", "slardar"]
        command += ["--listen", "tcp:0:interface=127.0.0.1", "--workers", "0"]
        command += ["--control", "tcp:0:interface=127.0.0.1", "--store", "memory:"]
        Program.__init__(self, command, folder, PYTHONPATH="")


def test_installed_wheel_serves_a_request(beside: Environment, tmp_path: Path) -> None:
    """In a fresh environment it makes an upstream and uses it."""
    site = FileServer(tmp_path / "site", {"index.html": "found"})
    program = Installed(beside, tmp_path)
    try:
        running = program.ready()
        server = {"servers": [{"host": "127.0.0.1", "port": site.port}]}
        assert running.call("PUT", "/upstream/a", server)[0] == 200
        assert running.get("a") == (200, "found")
        assert program.stop() in (0, -signal.SIGTERM)
    finally:
        program.end()
        site.end()


def test_wheel_is_for_every_python(wheel: Path) -> None:
    """Without compiled modules it names no version and no machine."""
    assert wheel.name == f"txslardar-{slardar.__version__}-py3-none-any.whl"


def test_sources_can_be_built(tmp_path: Path) -> None:
    """The archive has what a build needs, and what the packages are made of."""
    run(CHECKOUT / "packaging" / "make_sdist", tmp_path, sys.executable, cwd=tmp_path)
    (archive,) = tmp_path.glob("txslardar-*.tar.gz")
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (source,) = (path for path in tmp_path.glob("txslardar-*") if path.is_dir())
    assert (source / "Dockerfile").is_file()
    assert os.access(source / "packaging" / "make_deb", os.X_OK)
    built = tmp_path / "built"
    built.mkdir()
    with zipfile.ZipFile(built_wheel(source, built)) as made:
        assert {PLUGIN, "slardar/service.py"} <= set(made.namelist())


def test_wheel_holds_what_is_needed_and_nothing_of_twisted(wheel: Path) -> None:
    """It has the plugin, the schema, the dashboard and the typing mark, and no ``__init__`` for
    twisted."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    stub = "slardar/hooks/python/hook.pyi"
    assert {PLUGIN, "slardar/py.typed", "slardar/service.py", stub} <= names
    in_checkout = {
        path.relative_to(CHECKOUT).as_posix()
        for pattern in ("slardar/stores/**/*.sql", "slardar/control/page/*.*")
        for path in CHECKOUT.glob(pattern)
    }
    assert len(in_checkout) > 10
    assert in_checkout <= names
    assert {name for name in names if name.startswith("twisted/")} == {PLUGIN}
    assert not [name for name in names if name.startswith("tests/")]


def test_every_python_file_is_packaged(wheel: Path) -> None:
    """No folder of the package is left out because it has no ``__init__``."""
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    sources = {path.relative_to(CHECKOUT).as_posix() for path in CHECKOUT.glob("slardar/**/*.py")}
    assert sources <= names


@pytest.mark.parametrize("where", ["beside", "within"])
def test_twistd_finds_the_plugin(where: str, request: pytest.FixtureRequest) -> None:
    """``twistd slardar`` exists after an ordinary installation, wherever Twisted is."""
    environment: Environment = request.getfixturevalue(where)
    text = environment.twistd("--help")
    assert "A programmable HTTP load balancer." in text
    # Twisted's own plugins must not be hidden.
    assert "A SOCKSv4 proxy service." in text
    assert environment.twistd("slardar", "--check").strip() == "ok"


def test_twistd_finds_the_plugin_where_no_cache_can_be_written(tmp_path: Path, wheel: Path) -> None:
    """Read-only site-packages cost a line in the log, not the plugin."""
    environment = Environment(tmp_path, wheel, own_twisted=False)
    # A folder in the cache's place makes writing fail, also for root.
    (environment.packages / "twisted" / "plugins" / "dropin.cache").mkdir()
    assert "A programmable HTTP load balancer." in environment.twistd("--help")
    assert environment.twistd("slardar", "--check").strip() == "ok"


def test_console_script_says_the_version(beside: Environment) -> None:
    """``slardar --version`` prints the version."""
    text = run(beside.bin("slardar"), "--version", cwd=beside.folder)
    assert (
        text == f"slardar {slardar.__version__} (not compiled: SLARDAR_COMPILE=0 asked for that)\n"
    )
    program = "from importlib.metadata import version; print(version('txslardar'))"
    text = run(beside.bin("python"), "-c", program, cwd=beside.folder)
    assert text.strip() == slardar.__version__


@pytest.mark.parametrize("file", ["*/__native*", "*/http1/native.c*"], ids=["mypyc", "cython"])
def test_build_that_falls_back_says_why(tmp_path: Path, file: str) -> None:
    """With a C compiler that fails on one module, the package is whole, holds nothing
    compiled, and its version has the reason, which pip does not show."""
    source = copied(tmp_path / "source")
    text = (source / "setup.py").read_text("utf-8")
    # Two modules instead of all: mypyc takes a second instead of ten.
    text = re.sub(
        r"REQUEST_PATH = \(.*?\n\)",
        'REQUEST_PATH = ("http1/retry", "http1/framing")',
        text,
        flags=re.DOTALL,
    )
    (source / "setup.py").write_text(text, "utf-8")
    built = tmp_path / "built"
    built.mkdir()
    # It fails on the code itself, and not on the modules that only load it.
    compiler = tmp_path / "compiler"
    compiler.write_text(f'#!/bin/sh\ncase "$*" in {file}) exit 1;; esac\nexec cc "$@"\n')
    compiler.chmod(0o755)
    made = built_wheel(source, built, SLARDAR_COMPILE="", CC=str(compiler))
    with zipfile.ZipFile(made) as archive:
        assert not [name for name in archive.namelist() if name.endswith(".so")]
        archive.extractall(built / "installed")
    said = describe_build(built / "installed" / "slardar")
    assert said.startswith(f"not compiled: the C compiler {compiler}: ")
    assert len(said) < 300


@pytest.mark.real(False)
def test_version_says_compiled(tmp_path: Path) -> None:
    """It says so if the request path is compiled, whatever other files are there."""
    (tmp_path / "http1").mkdir()
    assert describe_build(tmp_path).startswith("not compiled: ")
    (tmp_path / f"http1/exchange{EXTENSION_SUFFIXES[0]}").touch()
    assert describe_build(tmp_path) == "compiled"


@pytest.mark.real(False)
def test_no_page_tells_to_install_the_other_one() -> None:
    """On the index ``slardar`` is another project; every page says ``txslardar``."""
    named = re.compile(
        r"(?:pip|pipx|uv|uvx)\b[^\n]*?[\s'\"/]slardar(?=[\s'\"`\[=<>~!;]|$)", re.MULTILINE
    )
    assert named.search("$ pip install --upgrade slardar\n")
    assert named.search("pip install 'slardar[test]'")
    assert not named.search("pip install txslardar")
    pages = [
        path
        for pattern in ("*.md", "*.toml", "Makefile", "docs/**/*", "examples/**/*", "scripts/*",
                        ".ci/*", ".github/**/*", "benchmarks/**/*", "slardar/**/*.py")
        for path in CHECKOUT.glob(pattern)
        if path.is_file() and "__pycache__" not in path.parts
    ]  # fmt: skip
    assert len(pages) > 100
    found = [
        f"{path.relative_to(CHECKOUT)}: {match[0]}"
        for path in pages
        for match in named.finditer(path.read_text("utf-8", "replace"))
    ]
    assert found == []


def test_plugin_module_loads_nothing_of_slardar() -> None:
    """Every twistd looks for plugins, which must not import slardar."""
    program = (
        "import sys, runpy; runpy.run_path(sys.argv[1]); "
        "print([name for name in sys.modules if name.split('.')[0] == 'slardar'])"
    )
    text = run(sys.executable, "-c", program, CHECKOUT / PLUGIN, cwd=CHECKOUT.parent)
    assert text.strip() == "[]"


def test_start_loads_only_what_it_needs() -> None:
    """Clients of stores and catalogues, SQLite, and what workers need take memory.  A process that
    uses none of them is without them."""
    unwanted = ("treq", "consul", "requests", "kazoo", "sqlite3", "twisted.web.client")
    unwanted += ("slardar.workers.parent", "slardar.observers.exporter")
    program = (
        "import sys, slardar.service; print([name for name in sys.argv[1:] if name in sys.modules])"
    )
    text = run(sys.executable, "-c", program, *unwanted, cwd=CHECKOUT)
    assert text.strip() == "[]"
