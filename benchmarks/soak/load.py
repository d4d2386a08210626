"""Runs wrk while a row of the soak does its work."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

from benchmarks.load import MARK, SCRIPT
from benchmarks.processes import LOOPBACK, find_program

__all__ = ["Wrk"]

#: The most seconds that wrk runs.  It is stopped earlier, unless the soak itself is killed.
LONGEST = 600


#: The most interrupts that wrk gets, and seconds for it to end after each.
_INTERRUPTS = 6
_PATIENCE = 10.0


class Wrk:
    """A running wrk.

    :raise RuntimeError: if wrk is not installed.
    """

    def __init__(self, port: int, connections: int, path: str = "/small") -> None:
        program = find_program("wrk")
        if program is None:
            raise RuntimeError("wrk is not installed")
        command = [program, "-t1", f"-c{connections}", f"-d{LONGEST}s", "--timeout", "10s"]
        command += ["--latency", "-s", str(SCRIPT), f"http://{LOOPBACK}:{port}", "--", path]
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.requests = 0
        self.per_second = 0.0
        self.p99_ms = 0.0
        #: Counts by kind: connect, read, write, status, timeout.
        self.errors: Mapping[str, int] = {}

    def __enter__(self) -> Wrk:
        return self

    def __exit__(self, *_: Any) -> None:
        self.stop()

    @property
    def failed(self) -> int:
        """Requests that failed, and connections that could not be made."""
        return sum(self.errors.values())

    def _interrupted(self) -> str:
        """Interrupt wrk, and return its output.

        On busy cores wrk may miss an early interrupt.
        """
        for _ in range(_INTERRUPTS):
            if self._process.poll() is None:
                self._process.send_signal(signal.SIGINT)
            try:
                return self._process.communicate(timeout=_PATIENCE)[0]
            except subprocess.TimeoutExpired:
                continue
        self._process.kill()
        self._process.communicate()
        raise RuntimeError("wrk did not end")

    def stop(self) -> Wrk:
        """Stop wrk, and read its counts.

        :raise RuntimeError: if it ended by itself or printed no counts.
        """
        if self._process.stdout is None or self._process.stdout.closed:
            return self
        # An interrupt stops wrk, which then cuts its connections and prints its report.
        output = self._interrupted()
        for line in output.splitlines():
            if line.startswith(MARK):
                found = json.loads(line[len(MARK) :])
                self.requests = found["requests"]
                self.per_second = found["requests"] / found["seconds"]
                self.p99_ms = found["p99_ms"]
                self.errors = found["errors"]
                return self
        raise RuntimeError(f"wrk gave no result: {output.strip()[-500:]}")

    def said(self) -> list[str]:
        """What failed, for the report."""
        return [f"wrk: {count} {kind} errors" for kind, count in self.errors.items() if count]
