"""twistd's pidfile while two generations live: aside for the successor's, and back.

twistd refuses to start while its pidfile names a process that runs, and at its end it
removes whatever file its option ``pidfile`` names.  So the file is renamed, and the
option with it.
"""

from __future__ import annotations

import os
from collections.abc import MutableMapping
from typing import Any

__all__ = ["PidFile"]


class PidFile:
    """``options`` are twistd's; its ``pidfile`` is an absolute path, empty for none."""

    def __init__(self, options: MutableMapping[str, Any]) -> None:
        self._options = options
        self._path: str | None = None

    def move_aside(self) -> None:
        """Make way for the successor's: ``X.pid`` becomes ``X.pid.old``.

        Raises OSError if it cannot be renamed; nothing has changed then.
        """
        path = self._options.get("pidfile")
        if not path or self._path is not None:
            return
        aside = f"{path}.old"
        try:
            os.rename(path, aside)
        except FileNotFoundError:
            pass  # somebody has removed it: there is nothing in the way
        self._path, self._options["pidfile"] = path, aside

    def put_back(self) -> None:
        """The successor has gone: the file is this process's again, whatever it left.

        Raises OSError if it can be neither renamed nor written.
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
        """This process ends with its file aside: remove it, unless it is by now that of
        a later generation that was moved aside too."""
        if self._path is None:
            return
        aside, self._options["pidfile"] = self._options["pidfile"], ""
        self._path = None
        try:
            with open(aside) as file:
                if file.read().strip() == str(os.getpid()):
                    os.unlink(aside)
        except OSError:
            pass  # it is gone, or not ours to remove
