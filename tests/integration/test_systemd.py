"""slardar under systemd's protocols, with the real program: messages and sockets."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from configparser import RawConfigParser
from pathlib import Path

import pytest

from tests.integration.conftest import Start
from tests.integration.programs import CHECKOUT, PATIENCE, TWISTD, Nginx, Program, Slardar
from tests.integration.test_workers import is_running, until


class Told(Slardar):
    """slardar with a service manager."""

    def __init__(self, folder: Path, socket_name: str, *options: str) -> None:
        command = [*TWISTD, "--nodaemon", "slardar", "--config", "slardar.yaml"]
        command += ["--listen", "tcp:0:interface=127.0.0.1", "--store", "memory:"]
        command += ["--control", "tcp:0:interface=127.0.0.1", *options]
        Program.__init__(self, command, folder, NOTIFY_SOCKET=socket_name, WATCHDOG_USEC="400000")


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[socket.socket]:
    """The service manager's socket, at ``tmp_path/notify``."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(PATIENCE)
        yield manager


def hear(manager: socket.socket, wanted: Callable[[str], bool]) -> str:
    """The next message that is wanted."""
    while True:
        message = manager.recv(4096).decode()
        if wanted(message):
            return message


def beginning(words: str) -> Callable[[str], bool]:
    """A function that tells whether a message begins with these words."""
    return lambda message: message.startswith(words)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_manager_is_told(
    tmp_path: Path, start: Start, manager: socket.socket, nginx: Nginx, workers: str
) -> None:
    """It is told when requests are served, at a reload, good or bad, at a change, at the stop,
    and that the director lives.  Workers do not get its variables."""
    path = tmp_path / "slardar.yaml"
    path.write_text(f"upstreams: {{a: {{servers: [{{host: 127.0.0.1, port: {nginx.port}}}]}}}}")
    slardar = start(Told(tmp_path, str(tmp_path / "notify"), "--workers", workers))
    ready = hear(manager, lambda message: not message.startswith("WATCHDOG"))
    assert ready == f"READY=1\nMAINPID={slardar.pid}\nSTATUS=serving, 1 upstreams, version 0"
    slardar.ready()
    assert slardar.get("a", "/who") == (200, "nginx\n")
    for _ in range(3):
        hear(manager, "WATCHDOG=1".__eq__)

    for text in ("upstreams: {}", "upstreams: 5"):
        path.write_text(text)
        slardar.signal(signal.SIGHUP)
        assert "MONOTONIC_USEC=" in hear(manager, beginning("RELOADING=1\n"))
        again = hear(manager, lambda message: not message.startswith("WATCHDOG"))
        assert again == f"READY=1\nMAINPID={slardar.pid}\nSTATUS=serving, 0 upstreams, version 1"

    assert slardar.call("PUT", "/upstream/b", f"server 127.0.0.1:{nginx.port};")[0] == 200
    hear(manager, "STATUS=serving, 1 upstreams, version 2".__eq__)

    for entry in children(slardar.pid):
        assert not any(
            name.startswith((b"NOTIFY_SOCKET=", b"WATCHDOG_"))
            for name in Path(f"/proc/{entry}/environ").read_bytes().split(b"\0")
        )
    # The spare worker may be there already.
    assert int(workers) <= len(children(slardar.pid)) <= int(workers) + bool(int(workers))

    slardar.signal(signal.SIGTERM)
    hear(manager, beginning("STOPPING=1\n"))
    slardar.wait()


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    words = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(word) for word in words]


def test_watchdog_hears_nothing_of_a_director_that_hangs(
    tmp_path: Path, start: Start, manager: socket.socket
) -> None:
    """So the watchdog ends it."""
    (tmp_path / "slardar.yaml").write_text("{}")
    slardar = start(Told(tmp_path, str(tmp_path / "notify"), "--workers", "0"))
    hear(manager, "WATCHDOG=1".__eq__)
    slardar.signal(signal.SIGSTOP)
    manager.settimeout(1.0)
    # Earlier messages are read first.
    with pytest.raises(TimeoutError):
        hear(manager, lambda message: False)
    slardar.signal(signal.SIGCONT)
    manager.settimeout(PATIENCE)
    hear(manager, "WATCHDOG=1".__eq__)


#: Code that does what systemd does between fork and exec.
_PASS = """
import os, sys
fd = int(sys.argv[1])
os.dup2(fd, 3)
if fd == 3:
    os.set_inheritable(3, True)
os.environ["LISTEN_FDS"] = "1"
os.environ["LISTEN_FDNAMES"] = "slardar.socket"
os.environ["LISTEN_PID"] = str(os.getpid())
os.execv(sys.argv[2], sys.argv[2:])
"""


class Activated(Slardar):
    """slardar on a socket that is passed to it."""

    def __init__(self, folder: Path, passed: socket.socket, workers: str) -> None:
        os.set_inheritable(passed.fileno(), True)
        command = [sys.executable, "-c", _PASS, str(passed.fileno()), *TWISTD, "--nodaemon"]
        command += ["slardar", "--listen", "systemd:domain=INET:index=0", "--workers", workers]
        command += ["--control", "tcp:0:interface=127.0.0.1", "--store", "memory:"]
        Program.__init__(self, command, folder, pass_fds=(passed.fileno(),))


@pytest.mark.parametrize("workers", ["0", "2"])
def test_socket_activation(tmp_path: Path, start: Start, nginx: Nginx, workers: str) -> None:
    """A client that connects before slardar runs is served, and the socket outlives slardar: a
    client that comes between two runs waits for the next one."""
    with socket.socket() as passed:
        passed.bind(("127.0.0.1", 0))
        passed.listen(64)
        with socket.create_connection(passed.getsockname(), timeout=PATIENCE) as early:
            early.sendall(b"GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            slardar = start(Activated(tmp_path, passed, workers)).ready()
            assert early.recv(100).startswith(b"HTTP/1.1 502 ")
        call = f"server 127.0.0.1:{nginx.port};"
        assert slardar.call("PUT", "/upstream/a", call)[0] == 200
        assert slardar.get("a", "/who") == (200, "nginx\n")
        slardar.stop()
        with socket.create_connection(passed.getsockname(), timeout=PATIENCE) as between:
            between.sendall(b"GET /who HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
            start(Activated(tmp_path, passed, workers)).ready()
            assert between.recv(100).startswith(b"HTTP/1.1 502 ")


class OfUnit(Slardar):
    """The command of the unit in ``examples``, on ports that the kernel chose."""

    def __init__(self, folder: Path, socket_name: str) -> None:
        unit = RawConfigParser(delimiters=("=",), comment_prefixes=("#",))
        unit.optionxform = str  # type: ignore[assignment,method-assign]
        unit.read_string((CHECKOUT / "examples" / "slardar.service").read_text())
        self.service = unit["Service"]
        program, *words = shlex.split(self.service["ExecStart"])
        assert program.endswith("/twistd")
        words = [word.replace("/etc/slardar", str(folder)) for word in words]
        seconds = int(self.service["WatchdogSec"])
        Program.__init__(
            self,
            [*TWISTD, *words],
            folder,
            NOTIFY_SOCKET=socket_name,
            WATCHDOG_USEC=str(seconds * 1_000_000),
        )

    def reload(self, main: int) -> None:
        """Do what ``systemctl reload`` does."""
        command = shlex.split(self.service["ExecReload"].replace("$MAINPID", str(main)))
        subprocess.run(command, check=True, timeout=PATIENCE)


def test_upgrade_of_the_unit(tmp_path: Path, start: Start, manager: socket.socket) -> None:
    """The new process announces itself as the main one when it serves; reload and stop of the
    unit then reach it, and the old one ends by itself."""

    def state(message: str) -> bool:
        return message.startswith(("READY", "RELOADING", "STOPPING"))

    config = tmp_path / "slardar.yaml"
    words = {
        "listen": ["tcp:0:interface=127.0.0.1"],
        "control": {"http": "tcp:0:interface=127.0.0.1"},
        "workers": 1,
    }
    config.write_text(json.dumps(words))
    slardar = start(OfUnit(tmp_path, str(tmp_path / "notify")))
    assert hear(manager, state).startswith(f"READY=1\nMAINPID={slardar.pid}\n")
    os.kill(slardar.pid, signal.SIGUSR2)
    ready = re.match(r"READY=1\nMAINPID=(\d+)\n", hear(manager, state))
    assert ready is not None
    main = int(ready[1])
    try:
        assert main != slardar.pid
        until(lambda: not is_running(slardar.pid), "the old one ends")
        config.write_text(json.dumps({**words, "conf_hash": "second"}))
        slardar.reload(main)
        assert hear(manager, state).startswith("RELOADING=1\n")
        assert hear(manager, state).startswith(f"READY=1\nMAINPID={main}\n")
        os.kill(main, signal.SIGTERM)
        assert hear(manager, state).startswith("STOPPING=1\n")
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(main, signal.SIGTERM)
        until(lambda: not is_running(main), "the new one ends")
    assert not list(tmp_path.glob("*.pid*"))
