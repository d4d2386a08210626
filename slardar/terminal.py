"""What whoever typed ``twistd slardar`` is told while slardar makes a daemon of itself.

twistd's parent waits for its daemon until the services have been *told* to start, and then
exits with 0.  slardar opens the store, the control channel and workers after that, in the
background.  The parent must wait for these too, as nginx's and HAProxy's does, or a script
takes a failed start for a good one.

twistd's own pipe between the two cannot do it alone: its parent keeps the writing end open,
so it would wait for ever for a daemon that was killed, and what it prints is cut at 100
bytes and written as a bytes literal.  So there is a second pipe, made before the fork.  The
parent reads it right behind the fork; if the daemon never came as far as slardar's start,
the parent goes on as twistd's.

The daemon has no terminal any more, so reasons are written to a copy of standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from typing import Any

__all__ = ["Terminal"]

#: twistd's name for the writing end of its pipe, among its options.
_PIPE = "statusPipe"
#: The function of twistd's that forks.
_FORKS = "daemonize"

#: What the daemon says on the second pipe, a byte each.
_HOLDS, _SERVES, _FAILED = b"h", b"0", b"f"


class Terminal:
    """``options`` are twistd's.  To be made before it becomes a daemon, once.

    With ``--nodaemon`` nobody waits, the log is on the terminal, and nothing here has an
    effect.  No method raises.
    """

    def __init__(self, options: MutableMapping[str, Any]) -> None:
        self._options = options
        self._parent = os.getpid()
        #: The writing end of twistd's pipe.
        self._twistds: int | None = None
        self._read: int | None = None
        self._write: int | None = None
        self._error: int | None = None
        if options.get("nodaemon"):
            return
        try:
            self._error = os.dup(2)
        except OSError:
            pass  # it was closed: nobody reads
        self._read, self._write = os.pipe()
        os.register_at_fork(after_in_parent=self._forked)

    # In the parent.

    def _forked(self) -> None:
        """Wait for the daemon, and exit as it has fared."""
        # twistd forks twice; it is the first of the three processes that waits.
        if os.getpid() != self._parent or sys._getframe(1).f_code.co_name != _FORKS:
            return
        assert self._read is not None
        assert self._write is not None
        os.close(self._write)
        try:
            self._wait(self._read)
        except KeyboardInterrupt:
            os._exit(130)  # as a shell says it of SIGINT; the daemon goes on

    def _wait(self, read: int) -> None:
        if os.read(read, 1) != _HOLDS:
            return  # twistd knows why
        answer = os.read(read, 1)
        if answer == _SERVES:
            os._exit(0)
        if answer != _FAILED:
            self.say("it has ended before it served; its log may say why")
        os._exit(1)

    # In the daemon.

    def hold(self) -> None:
        """From now on the parent waits for :meth:`serving`, :meth:`failed` or the end."""
        self._twistds = self._options.pop(_PIPE, None)
        if self._read is not None:
            os.close(self._read)
            self._read = None
        self._tell(self._write, _HOLDS)

    def say(self, line: str) -> None:
        """Write a line to the terminal, if there is one."""
        self._tell(self._error, f"slardar: {line}\n".encode("utf-8", "replace"))

    def serving(self) -> None:
        """Requests are served: the parent exits with 0."""
        self._answer(_SERVES, b"0")

    def failed(self) -> None:
        """This process ends and has let go of all it had, and the reason was said: the
        parent exits with 1."""
        self._answer(_FAILED, b"1 see above")

    def _answer(self, ours: bytes, twistds: bytes) -> None:
        self._tell(self._write, ours)
        self._tell(self._twistds, twistds)
        for descriptor in (self._write, self._twistds, self._error):
            if descriptor is not None:
                os.close(descriptor)
        self._write = self._twistds = self._error = None

    @staticmethod
    def _tell(descriptor: int | None, data: bytes) -> None:
        if descriptor is not None:
            try:
                os.write(descriptor, data)
            except OSError:
                pass  # nobody reads any more
