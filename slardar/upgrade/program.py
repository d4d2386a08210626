"""How this process was started, so that it can be started once more."""

from __future__ import annotations

import os
import sys

from msgspec import Struct

__all__ = ["Program", "this_program"]

#: What systemd tells the one process that it passes sockets to or watches by its number.
_SYSTEMD = ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID")


class Program(Struct, frozen=True):
    """A command line, and the folder that it was given in."""

    command: tuple[str, ...]
    folder: str

    def environment(self) -> dict[str, str]:
        """The environment for it: that of this process now, less what was for it alone."""
        kept = {name: value for name, value in os.environ.items() if name not in _SYSTEMD}
        kept["PWD"] = self.folder
        return kept


def this_program() -> Program:
    """The program that runs here.

    To be called before twistd changes the folder (``--rundir``): relative names on the
    command line start from where it was given.  Raises OSError if that folder is gone.
    """
    return Program((sys.executable, *sys.orig_argv[1:]), _folder())


def _folder() -> str:
    """The current folder by the name that it was entered by, as a shell keeps it: where
    that is a link to the version in use, the next version is behind the same link."""
    folder, name = os.getcwd(), os.environ.get("PWD", "")
    try:
        if os.path.isabs(name) and os.path.samefile(name, folder):
            return name
    except OSError:
        pass
    return folder
