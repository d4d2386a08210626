"""``twistd slardar`` without ``--nodaemon``: exit code and terminal say whether it serves."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from slardar.stores.sqlite_file import SqliteFile
from slardar.stores.written import encode
from slardar.testing.stores import change_of, hook_of
from tests.integration.programs import CHECKOUT, TWISTD, curl
from tests.integration.test_workers import is_running, until


def twistd(folder: Path, *options: str, workers: int = 0) -> subprocess.CompletedProcess[str]:
    """Start slardar as a daemon in a folder; returns when the command has ended."""
    command = [*TWISTD, "slardar", "--workers", str(workers), *options]
    return subprocess.run(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


ENDPOINTS = ("--listen", "unix:requests.sock", "--control", "unix:control.sock")


def call(folder: Path, path: str) -> Any:
    """The answer to one GET of the control channel."""
    place = ("--unix-socket", str(folder / "control.sock"))
    status, text = curl(f"http://a{path}", *place)
    assert status == 200
    return json.loads(text)


@contextmanager
def ended(folder: Path) -> Iterator[None]:
    """A folder; every daemon that was started there ends after the test."""
    try:
        yield
    finally:
        file = folder / "twistd.pid"
        if file.exists():
            pid = int(file.read_text())
            os.kill(pid, signal.SIGTERM)
            until(lambda: not is_running(pid), "it ends")


@contextmanager
def taken_port(folder: Path) -> Iterator[list[str]]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield ["--listen", f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"]


@contextmanager
def taken_control(folder: Path) -> Iterator[list[str]]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield ["--control", f"tcp:{taken.getsockname()[1]}:interface=127.0.0.1"]


@contextmanager
def bad_file(folder: Path) -> Iterator[list[str]]:
    (folder / "slardar.yaml").write_text("workers: -1\n")
    yield ["--config", "slardar.yaml"]


@contextmanager
def missing_folder(folder: Path) -> Iterator[list[str]]:
    yield ["--store", "sqlite:missing/slardar.db"]


@contextmanager
def store_in_use(folder: Path) -> Iterator[list[str]]:
    file = SqliteFile(str(folder / "slardar.db"))
    file.open()
    yield []
    file.close()


@contextmanager
def damaged_store(folder: Path) -> Iterator[list[str]]:
    file = SqliteFile(str(folder / "slardar.db"))
    file.open()
    change = change_of("a", {"text": "x" * 9000})
    file.commit(0, [(change, encode(change))], 1)
    file.close()
    data = bytearray((folder / "slardar.db").read_bytes())
    data[-4096:] = b"\xa5" * 4096
    (folder / "slardar.db").write_bytes(data)
    yield []


@contextmanager
def living_pid(folder: Path) -> Iterator[list[str]]:
    (folder / "twistd.pid").write_text(str(os.getpid()))
    yield []
    (folder / "twistd.pid").unlink()


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (taken_port, "slardar: cannot start: Couldn't listen on 127.0.0.1:"),
        (taken_control, "slardar: cannot start: Couldn't listen on 127.0.0.1:"),
        (bad_file, "slardar: slardar.yaml: workers: expected"),
        (missing_folder, "slardar: cannot start: missing/slardar.db: the folder "),
        (store_in_use, "slardar: cannot start: slardar.db: in use by another slardar"),
        (damaged_store, "restore it from a backup"),
        (living_pid, "Another twistd server is running"),
    ],
)
def test_start_that_fails_exits_with_1_and_says_why(
    tmp_path: Path, make: Callable[[Path], Any], says: str
) -> None:
    """The reason is on the terminal, and not only in the log; after the exit nothing is left."""
    with ended(tmp_path):
        with make(tmp_path) as options:
            done = twistd(tmp_path, *ENDPOINTS, *options)
            assert done.returncode == 1, done.stderr
            # A relative file is named with its folder.
            assert says in done.stderr.replace(f"{tmp_path}/", "")
            assert "Traceback" not in done.stderr
            if make is not living_pid:
                assert not (tmp_path / "twistd.pid").exists()
        # Without the obstacle the same start works.
        if make in (taken_port, taken_control, store_in_use):
            again = twistd(tmp_path, *ENDPOINTS, *options)
            assert (again.returncode, again.stderr) == (0, "")


@pytest.mark.parametrize("workers", [0, 2])
def test_success_is_told_once_it_serves(tmp_path: Path, workers: int) -> None:
    """The first call after the exit is answered, by a slardar with all its workers."""
    with ended(tmp_path):
        done = twistd(tmp_path, *ENDPOINTS, workers=workers)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        alive = call(tmp_path, "/status")["config_timer"]
        assert set(alive.values()) == {"alive"}
        assert len(alive) == max(workers, 1)


def test_stored_hook_that_cannot_run_stops_no_start(tmp_path: Path) -> None:
    """It is shown as failed, and requests for other hosts are served."""
    file = SqliteFile(str(tmp_path / "slardar.db"))
    file.open()
    code = {"version": "0" * 32, "time": 1.0, "code": "import os"}
    value = {"language": "python", "name": "script.a", "active": code}
    change = hook_of("python/script.a", value)
    file.commit(0, [(change, encode(change))], 1)
    file.close()
    with ended(tmp_path):
        assert twistd(tmp_path, *ENDPOINTS, workers=1).returncode == 0
        until(lambda: call(tmp_path, "/python/script.a")["state"] == "failed", "it is told")


@pytest.mark.parametrize(
    ("action", "wanted"),
    [
        ("os.kill(os.getpid(), 9)", "it has ended before it served; its log may say why"),
        ("1 / 0", "cannot start: a bug, of which the log says more: ZeroDivisionError: division"),
    ],
)
def test_end_before_it_serves_is_a_failure(tmp_path: Path, action: str, wanted: str) -> None:
    """However it ends, the parent does not wait for ever, and does not report success."""
    program = (
        "import os, slardar.service as service\n"
        f"async def start(self): {action}\n"
        "service.SlardarService._start = start\n"
        "from twisted.scripts.twistd import run; run()"
    )
    done = subprocess.run(
        [TWISTD[0], "-c", program, "slardar", *ENDPOINTS],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"slardar: {wanted}")
    assert len(done.stderr.splitlines()) == 1


def test_folder_to_run_in_that_is_not_there(tmp_path: Path) -> None:
    """twistd changes to it only after closing the terminal, so it is checked before."""
    command = [*TWISTD, "--rundir", "missing", "slardar", *ENDPOINTS]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == f"slardar: --rundir: expected a folder, got {tmp_path / 'missing'}\n"


PID, LOG = "--pidfile: cannot write HERE", "--logfile: cannot write HERE"


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        ((), (f"{PID}/twistd.pid", f"{LOG}/twistd.log")),
        (("--nodaemon",), (f"{PID}/twistd.pid",)),
        (("--pidfile=", "--logfile", "a.log"), (f"{LOG}/a.log",)),
        (("--pidfile=", "--logfile=no/a.log"), (f"{LOG}/no/a.log",)),
    ],
)
def test_folder_that_cannot_be_written(words: tuple[str, ...], lines: tuple[str, ...]) -> None:
    """twistd's own files are looked at before it begins, for it would end with a traceback."""
    # Root may write everywhere.
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    user = nobody if os.geteuid() == 0 else ()
    look = [*user, sys.executable, "-c", "import slardar.options"]
    if subprocess.run(look, cwd=CHECKOUT, capture_output=True, check=False).returncode:
        pytest.skip("nobody cannot read the checkout")
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o555)
        done = subprocess.run(
            [*user, *TWISTD, *words, "slardar", *ENDPOINTS],
            cwd=name,
            env={**os.environ, "PYTHONPATH": str(CHECKOUT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert os.listdir(name) == []
    assert done.returncode == 1
    said = done.stderr.replace(os.path.realpath(name), "HERE").splitlines()
    assert len(said) == len(lines), done.stderr
    for line, expected in zip(said, lines, strict=True):
        assert line.startswith(f"slardar: {expected}: ")
