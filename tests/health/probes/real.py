"""Heartbeats over real connections, and the real servers that they ask."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from pathlib import Path

from slardar.health.probes.base import Probe, Result
from tests.integration.programs import PATIENCE, Program, free_port

__all__ = ["MariaDb", "RedisServer", "beat", "connect"]


def connect(port: int, source: str = "127.0.0.1") -> socket.socket:
    """A connection to a local port, from an address of this machine."""
    return socket.create_connection(("127.0.0.1", port), PATIENCE, (source, 0))


def beat(probe: Probe, port: int, source: str = "127.0.0.1") -> Result:
    """The result of one heartbeat."""
    check = probe.begin()
    with connect(port, source) as sock:
        step: Result | bytes | None = check.connected()
        while not isinstance(step, Result):
            if step:
                sock.sendall(step)
            try:
                data = sock.recv(65536)
            except ConnectionError:
                data = b""
            step = check.received(data) if data else check.ended()
    return step


def found(*names: str) -> str:
    """The path of a program under one of its names."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    for name in names:
        program = shutil.which(name, path=path)
        if program is not None:
            return program
    raise AssertionError(f"{names[0]} is needed: make test installs it")


class Server(Program):
    """A program that is ended if it does not get ready."""

    def wait_until(self, line: str) -> None:
        """Wait for a line of the output."""
        try:
            self.wait_for(line)
        except AssertionError:
            self.end()
            raise


class RedisServer(Server):
    """Redis without a database on the disk; ``options`` are those of its command."""

    def __init__(self, folder: Path, *options: str) -> None:
        folder.mkdir()
        self.port = free_port()
        command = [found("redis-server"), "--port", str(self.port), "--bind", "127.0.0.1"]
        command += ["--save", "", "--dir", str(folder), *options]
        super().__init__(command, folder)
        self.wait_until("Ready to accept connections")


_SETTINGS = """\
[mysqld]
datadir={folder}/data
socket={folder}/socket
pid-file={folder}/pid
bind-address=127.0.0.1
port={port}
plugin-load-add=auth_ed25519
max_connect_errors=1
performance_schema=OFF
innodb_log_file_size=4M
innodb_buffer_pool_size=8M
innodb_fast_shutdown=2
debug-no-sync
"""


class MariaDb(Server):
    """MariaDB that blocks a host after one failed connection.

    It never blocks 127.0.0.1, and does not look up its name.  ``statements`` are run at the
    start.
    """

    def __init__(self, folder: Path, statements: str) -> None:
        folder.mkdir()
        self.port = free_port()
        settings = folder / "my.cnf"
        settings.write_text(_SETTINGS.format(folder=folder, port=self.port))
        first = folder / "first.sql"
        first.write_text(statements)
        # It refuses to run as root unless told so.
        user = ["--user=root"] if os.geteuid() == 0 else []
        install = [found("mariadb-install-db"), f"--defaults-file={settings}", *user]
        install += ["--auth-root-authentication-method=normal", "--skip-test-db"]
        done = subprocess.run(
            install, cwd=folder, capture_output=True, text=True, timeout=4 * PATIENCE, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        command = [found("mariadbd"), f"--defaults-file={settings}", *user]
        # Clients' names are looked up once, as briefly as can be.
        super().__init__(
            [*command, f"--init-file={first}"], folder, RES_OPTIONS="attempts:1 timeout:1"
        )
        self.wait_until("ready for connections")
