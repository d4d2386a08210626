"""twistd's pidfile while two generations live: moved aside for the successor, and back.

twistd refuses to start while its pidfile names a process that runs.  When it ends, it
removes the file that its option ``pidfile`` names.  So the file is renamed, and the option
is changed with it.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Any

__all__ = ["PidFile"]


class PidFile:
    """The pidfile of this process.  ``options`` are twistd's: their ``pidfile`` is an absolute
    path, or empty if there is no pidfile."""

    def __init__(self, options: MutableMapping[str, Any]) -> None:
        self._options = options
        self._path: str | None = None

    def move_aside(self) -> None:
        """Make room for the successor's pidfile: ``X.pid`` becomes ``X.pid.old``.

        Raises OSError if the file cannot be renamed; nothing has changed then.
        """
        path = self._options.get("pidfile")
        if not path or self._path is not None:
            return
        aside = f"{path}.old"
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            pass  # somebody has removed the file: nothing is in the successor's way
        self._path, self._options["pidfile"] = path, aside

    def put_back(self) -> None:
        """Restore the pidfile of this process, because the successor has ended.

        Raises OSError if the file can be neither renamed nor written.
        """
        path, self._path = self._path, None
        if path is None:
            return
        aside, self._options["pidfile"] = self._options["pidfile"], path
        try:
            os.rename(aside, path)
        except FileNotFoundError:
            with open(path, "w") as file:
                file.write(str(os.getpid()))

    def release(self) -> None:
        """Remove the file that was moved aside, because this process ends.

        By now it may be the file of a later generation, which has moved its own aside; that
        file stays.
        """
        if self._path is None:
            return
        aside, self._options["pidfile"] = self._options["pidfile"], ""
        self._path = None
        try:
            with open(aside) as file:
                if file.read().strip() == str(os.getpid()):
                    os.unlink(aside)
        except OSError:
            pass  # the file is gone, or this user may not remove it
