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
    """The core that the measured proxy has for itself, and the cores for everything else.

    With a single core they are the same, and the report says so.
    """

    def __init__(self, available: Sequence[int] | None = None) -> None:
        cores = sorted(os.sched_getaffinity(0) if available is None else available)
        # The first core usually serves the interrupts, so the proxy gets the last one.
        self.proxy = cores[-1]
        self.load: frozenset[int] = frozenset(cores[:-1] or cores)


@contextlib.contextmanager
def pinned(cores: frozenset[int]) -> Iterator[None]:
    """Programs started inside run on ``cores`` only, with all their threads."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def find_program(name: str) -> str | None:
    """The path of a program: beside this Python, else on the PATH or in sbin, else None."""
    beside = Path(sys.executable).parent / name
    if beside.exists():
        return str(beside)
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


def free_port() -> int:
    """A TCP port of the loopback address on which nothing listens now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def raise_file_limit() -> None:
    """Raise the limit of open files to the system's maximum; children inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


class Program:
    """One started program and its children, in their own process group."""

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
        """The processes to measure: the program and its descendants."""
        return process_tree(self.pid)

    def alive(self) -> bool:
        return self._process.poll() is None

    def pause(self, seconds: float) -> None:
        """Let the program run for ``seconds``.

        :raise RuntimeError: with the end of its output, if it ends by itself.
        """
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return
        tail = self.output.read_text(errors="replace").strip()[-2000:]
        raise RuntimeError(f"{self.name} ended with {self._process.returncode}: {tail}")

    def wait(self, seconds: float) -> None:
        """Wait until it ends by itself.

        :raise subprocess.TimeoutExpired: if it does not end within ``seconds``.
        """
        self._process.wait(seconds)

    def kill(self) -> None:
        """Kill the program, but not its children."""
        self._process.kill()
        self._process.wait()

    def wait_for_port(self, port: int, seconds: float = 20.0, host: str = LOOPBACK) -> None:
        """Wait until somebody accepts connections on ``port``.

        :raise RuntimeError: if it takes longer than ``seconds``, or the program ends.
        """
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                socket.create_connection((host, port), 1).close()
            except OSError:
                self.pause(0.05)
            else:
                return
        raise RuntimeError(f"{self.name} did not listen on port {port} within {seconds:g} s")

    def freeze(self) -> None:
        """Stop the program until :meth:`thaw`."""
        os.killpg(self.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let the program go on after :meth:`freeze`."""
        os.killpg(self.pid, signal.SIGCONT)

    def stop(self, signum: int = signal.SIGTERM, seconds: float = 3.0) -> None:
        """End the program with ``signum``, and after ``seconds`` with SIGKILL."""
        if self.alive():
            self._process.send_signal(signum)
            try:
                self._process.wait(seconds)
            except subprocess.TimeoutExpired:
                pass
        # Processes of the group may outlive its leader, as nginx's worker does.
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self._process.wait(seconds)
