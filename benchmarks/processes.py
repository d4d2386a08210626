"""Starts programs on chosen cores, waits until they listen, and ends them by id."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks.procfs import process_tree

__all__ = ["Cores", "Program", "find_program", "free_port", "pinned", "raise_file_limit"]

LOOPBACK = "127.0.0.1"


class Cores:
    """Which core the measured proxy has to itself, and which are for everything else.

    With a single core both are the same, and the report says so.
    """

    def __init__(self, available: Sequence[int] | None = None) -> None:
        cores = sorted(os.sched_getaffinity(0) if available is None else available)
        # The first core usually serves the interrupts; the proxy gets the last.
        self.proxy = cores[-1]
        self.load: frozenset[int] = frozenset(cores[:-1] or cores)


@contextlib.contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Whatever is started inside runs on ``cores`` only, its threads included."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def find_program(name: str) -> str | None:
    """A program beside this Python, else on the PATH (or in sbin), else None."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def free_port() -> int:
    """A TCP port of the loopback address that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def raise_file_limit() -> None:
    """Allow as many open files as the system lets us; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Program:
    """One started program and its children, in a process group of its own."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        cores: frozenset[int],
        folder: Path,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.name = name
        self.output = folder / f"{name}.output"
        with pinned(cores), self.output.open("wb") as output:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=folder,
                env={**os.environ, **(environment or {})},
                start_new_session=True,
            )
        self.pid = self._process.pid

    def pids(self) -> list[int]:
        """The processes to account for."""
        return process_tree(self.pid)

    def alive(self) -> bool:
        return self._process.poll() is None

    def pause(self, seconds: float) -> None:
        """Let the program run for a while.

        :raise RuntimeError: with the end of its output, if it ended by itself.
        """
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        tail = self.output.read_text(errors="replace").strip()[-2000:]
        raise RuntimeError(f"{self.name} ended with {self._process.returncode}: {tail}")

    def wait(self, seconds: float) -> None:
        """Wait for it to end by itself.

        :raise subprocess.TimeoutExpired: if it has not within ``seconds``.
        """
        self._process.wait(seconds)

    def kill(self) -> None:
        """Kill it, and not its children."""
        self._process.kill()
        self._process.wait()

    def wait_for_port(self, port: int, seconds: float = 20.0) -> None:
        """Return once something accepts connections on ``port``.

        :raise RuntimeError: if that takes longer than ``seconds`` or the program ends.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                socket.create_connection((LOOPBACK, port), 1).close()
            except OSError:
                self.pause(0.05)
            else:
                return
        raise RuntimeError(f"{self.name} did not listen on port {port} within {seconds:g} s")

    def freeze(self) -> None:
        """Let it do nothing until :meth:`thaw`."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.killpg(self.pid, signal.SIGCONT)

    def stop(self, signum: int = signal.SIGTERM, seconds: float = 3.0) -> None:
        """End it: politely at first, after ``seconds`` for certain."""
        if self.alive():
            self._process.send_signal(signum)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        # The group may outlive its leader, for example nginx's worker.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait(seconds)
