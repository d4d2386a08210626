"""wrk beside whatever a row does, until the row has done it."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Mapping
from typing import Any

from benchmarks.load import MARK, SCRIPT
from benchmarks.processes import LOOPBACK, find_program

__all__ = ["Wrk"]

#: It is told to stop before; this bounds it should the soak itself be killed.
LONGEST = 600


#: Interrupts that wrk gets, and seconds that it has to end after each.
_INTERRUPTS = 6
_PATIENCE = 10.0


class Wrk:
    """wrk under way.

    :raise RuntimeError: if it is not installed.
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
        #: By kind: connect, read, write, status, timeout.
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
        """All that it says.  On busy cores it may miss an interrupt that comes early."""
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
        """Stop it, and read what it counted.

        :raise RuntimeError: if it ended by itself or says nothing.
        """
        if self._process.stdout is None or self._process.stdout.closed:
            return self
        # It stops at an interrupt and still reports; its connections are cut, as always.
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
