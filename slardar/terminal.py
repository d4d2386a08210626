"""Tells the terminal, and by its exit code a script, whether ``twistd slardar`` has started.

twistd's parent process waits for its daemon until the services have been *told* to start,
and then exits with 0.  slardar opens the store, the control channel and workers after
that, in the background.  The parent must wait for these too, as nginx's and HAProxy's
parents do; otherwise a script takes a failed start for a good one.

twistd's own pipe between the two processes is not enough.  The parent keeps its writing
end open, so it would wait for ever for a daemon that was killed, and it prints a message
as a bytes literal, cut at 100 bytes.  So there is a second pipe, made before the fork.
The parent reads it right after the fork; if the daemon ends before slardar starts, the
parent goes on as twistd's parent does.

The daemon has no terminal any more, so it writes reasons to a copy of standard error.
"""

from __future__ import annotations

import os
import sys
from collections.abc import MutableMapping
from typing import Any

__all__ = ["Terminal"]

#: twistd's name for the writing end of its pipe, among its options.
_PIPE = "statusPipe"
#: The function of twistd that forks.
_FORKS = "daemonize"

#: The daemon's messages on the second pipe, a byte each.
_HOLDS, _SERVES, _FAILED = b"h", b"0", b"f"


class Terminal:
    """The way from the daemon to the terminal from which twistd was started.

    ``options`` are twistd's.  Make one object, before twistd becomes a daemon.  With
    ``--nodaemon`` no process waits and the log is on the terminal, so no method has an
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
            pass  # standard error is closed: nobody reads
        self._read, self._write = os.pipe()
        os.register_at_fork(after_in_parent=self._forked)

    # In the parent.

    def _forked(self) -> None:
        """Wait for the daemon; exit with 0 if it serves, with 1 if it does not."""
        # twistd forks twice; the first of the three processes waits.
        if os.getpid() != self._parent or sys._getframe(1).f_code.co_name != _FORKS:
            return
        assert self._read is not None
        assert self._write is not None
        os.close(self._write)
        try:
            self._wait(self._read)
        except KeyboardInterrupt:
            os._exit(130)  # a shell's code for SIGINT; the daemon goes on

    def _wait(self, read: int) -> None:
        if os.read(read, 1) != _HOLDS:
            return  # twistd says why
        answer = os.read(read, 1)
        if answer == _SERVES:
            os._exit(0)
        if answer != _FAILED:
            self.say("it has ended before it served; its log may say why")
        os._exit(1)

    # In the daemon.

    def hold(self) -> None:
        """Make the parent wait for :meth:`serving`, :meth:`failed` or the end."""
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
        """The start has failed: the parent exits with 1.

        Call this at the very end, when :meth:`say` has told the reason.
        """
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
