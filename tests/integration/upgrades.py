"""slardar through upgrades in place, and clients that count failures meanwhile."""

from __future__ import annotations

import http.client
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tests.integration.programs import PATIENCE, TWISTD, Program
from tests.integration.test_workers import Team, is_running, until

__all__ = ["Clients", "Upgraded"]


class Upgraded(Team):
    """slardar, whichever of its generations serves.

    With ``count`` None, or ``listen`` false, its file decides.  ``before`` starts it.
    """

    def __init__(
        self,
        folder: Path,
        *options: str,
        count: int | None = 2,
        listen: bool = True,
        before: Sequence[str] = (),
        **environment: str,
    ) -> None:
        command = [*before, *TWISTD[1 if before else 0 :], "--nodaemon", "slardar", *options]
        command += ["--control", "tcp:0:interface=127.0.0.1"]
        if listen:
            command += ["--listen", "tcp:0:interface=127.0.0.1"]
        if count is not None:
            command += ["--workers", str(count)]
        Program.__init__(self, command, folder, **environment)
        self.folder = folder
        self.current = self.pid
        self._generations = [self.current]

    def pid_in_file(self) -> int | None:
        """The process id in the pidfile."""
        try:
            return int((self.folder / "twistd.pid").read_text() or 0)
        except FileNotFoundError:
            return None

    def usr2(self) -> None:
        """Ask for an upgrade."""
        os.kill(self.current, signal.SIGUSR2)

    def upgrade(self) -> int:
        """Upgrade it; returns the process id of the new generation, which serves."""
        old = self.current
        self.usr2()
        until(lambda: self._newest() not in (None, old), "the new generation serves", 2 * PATIENCE)
        self.current = self._newest() or 0
        return self.current

    def note(self) -> None:
        """Remember the process in the pidfile, so that it is ended with the others."""
        pid = self.pid_in_file()
        if pid and pid not in self._generations:
            self._generations.append(pid)

    def _newest(self) -> int | None:
        self.note()
        try:
            generations = self.status()["generations"]
        except subprocess.CalledProcessError:
            # The one before closes its control channel, and had not read the call.
            return None
        pid: int = generations[0]["pid"]
        assert pid in (self.current, self.pid_in_file())
        return pid

    def end(self) -> None:
        """End all generations, the newest first."""
        self.note()
        for pid in reversed(self._generations[1:]):
            if is_running(pid):
                os.kill(pid, signal.SIGTERM)
                try:
                    until(lambda pid=pid: not is_running(pid), "it ends")  # type: ignore[misc]
                except AssertionError:
                    os.kill(pid, signal.SIGKILL)
        super().end()


class Clients:
    """Clients in threads of their own; some keep their connections, some never do.

    ``failures`` has the failures; ``count`` is the number of good requests.
    """

    def __init__(self, team: Team, keeping: int = 4, fresh: int = 2, path: str = "/who") -> None:
        self._team = team
        self._path = path
        self._stopped = threading.Event()
        self.failures: list[str] = []
        self.count = 0
        self._threads = [
            threading.Thread(target=self._ask, args=(number < keeping,), daemon=True)
            for number in range(keeping + fresh)
        ]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._stopped.set()
        for thread in self._threads:
            thread.join(PATIENCE)

    def _ask(self, keeps: bool) -> None:
        client = http.client.HTTPConnection("127.0.0.1", self._team.port, timeout=20)
        # The clients must not use all of the machine's time.
        while not self._stopped.wait(0.005):
            try:
                client.request("GET", self._path, headers={"Host": "a"})
                reply = client.getresponse()
                body = reply.read()
                if reply.status != 200:
                    self.failures.append(f"{reply.status} {body!r}")
                self.count += 1
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))
                client.close()
            if not keeps:
                client.close()
        client.close()

    def more(self, number: int) -> None:
        """Wait until so many more requests are answered."""
        goal = self.count + number
        until(lambda: self.count >= goal, "requests are answered")
