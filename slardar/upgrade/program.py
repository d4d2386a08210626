"""How this process was started, so that it can be started once more."""

from __future__ import annotations

import os
import sys

from msgspec import Struct

__all__ = ["Program", "this_program"]

#: Variables with which systemd speaks to one process: the one that it passes sockets to, or
#: whose process id it watches.
_SYSTEMD = ("LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "WATCHDOG_PID")


class Program(Struct, frozen=True):
    """A command line, and the folder in which it was typed."""

    command: tuple[str, ...]
    folder: str

    def environment(self) -> dict[str, str]:
        """The environment to start it in: this process' own, without the variables that are
        for this process alone."""
        kept = {name: value for name, value in os.environ.items() if name not in _SYSTEMD}
        kept["PWD"] = self.folder
        return kept


def this_program() -> Program:
    """The program that runs here.

    To be called before twistd changes the folder (``--rundir``), because relative names on
    the command line are relative to the folder in which it was typed.  Raises OSError if
    this folder is gone.
    """
    return Program((sys.executable, *sys.orig_argv[1:]), _folder())


def _folder() -> str:
    """The current folder, by the name that the shell keeps in PWD.

    This name may be a link to the version in use.  After an update the same link leads to
    the next version.
    """
    folder, name = os.getcwd(), os.environ.get("PWD", "")
    try:
        if os.path.isabs(name) and os.path.samefile(name, folder):
            return name
    except OSError:
        pass
    return folder
