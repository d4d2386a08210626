"""Where twistd writes slardar's own log, as text or as JSON.

During an upgrade in place two processes write to one file.  twistd's own log file has a
place of its own in each process, so one process would write over the other's lines.
"""

from __future__ import annotations

import fcntl
import os
import signal
import sys
from collections.abc import MutableMapping
from typing import Any

from twisted.logger import ILogObserver, textFileLogObserver
from twisted.python.logfile import LogFile

from slardar.json_log import JsonLog

__all__ = ["AppendedFile", "json_observer", "text_observer", "use_format"]

#: twistd's options, for the observers.
_options: list[MutableMapping[str, Any]] = []


class AppendedFile(LogFile):
    """twistd's log file, but each line goes to the end of the file."""

    def _openFile(self) -> None:
        super()._openFile()  # type: ignore[no-untyped-call]
        descriptor = self._file.fileno()
        flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_APPEND)


def use_format(options: MutableMapping[str, Any], name: str) -> None:
    """Let twistd write its log as ``text`` or ``json``.

    ``options`` are twistd's, which has not begun to log.  Raises ValueError if twistd is to log
    in another way, and so cannot write JSON.
    """
    for other in ("logger", "syslog"):
        if options.get(other):
            if name == "json":
                raise ValueError(f"expected text with twistd's option --{other}")
            return
    observer = json_observer if name == "json" else text_observer
    # twistd takes a name, and makes the observer after it has read all options.
    options["logger"] = f"{__name__}.{observer.__name__}"
    _options.append(options)


def text_observer() -> ILogObserver:
    """The observer of twistd's log for the format ``text``: lines as twistd's own."""
    return textFileLogObserver(_open(_options[-1]))


def json_observer() -> ILogObserver:
    """The observer of twistd's log for the format ``json``."""
    return JsonLog(_open(_options[-1]))


def _open(options: MutableMapping[str, Any]) -> Any:
    """Where twistd would write its log.

    With an observer that is not its own, twistd neither opens the file nor moves it at
    USR1.
    """
    name = options.get("logfile")
    if name == "-" and not options.get("nodaemon"):
        raise SystemExit("Daemons cannot log to stdout, exiting!")
    if name == "-" or (options.get("nodaemon") and not name):
        return sys.stdout
    file = AppendedFile.fromFullPath(os.path.abspath(name or "twistd.log"))  # type: ignore[no-untyped-call]

    def rotate(*_: Any) -> None:
        from twisted.internet import reactor  # noqa: TID251 - as twistd does it

        reactor.callFromThread(file.rotate)  # type: ignore[attr-defined]

    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, rotate)
    return file
