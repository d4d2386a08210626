"""The pipe through which the kernel moves bodies from one socket to another."""

from __future__ import annotations

import fcntl
import os
from typing import Final

__all__ = ["Pipe"]

#: Bytes that the pipe should hold: the most that a user without privileges may ask for.
_SIZE: Final = 1 << 20


class Pipe:
    """A pipe for splice(2), which moves bytes to a pipe or from one.

    Channels of one poller share it, one after the other.  Whoever fills it empties it
    before it returns.
    """

    __slots__ = ("read_end", "works", "write_end")

    def __init__(self) -> None:
        #: Descriptors; -1 while the pipe is not open.
        self.read_end: int = -1
        self.write_end: int = -1
        #: Whether the kernel splices sockets.  Some sandboxes forbid it.
        self.works: bool = True

    def open(self) -> bool:
        """Open it, if it is not; False if the process has no descriptors left for it."""
        if self.write_end < 0:
            try:
                self.read_end, self.write_end = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            except OSError:
                return False
            try:
                fcntl.fcntl(self.write_end, fcntl.F_SETPIPE_SZ, _SIZE)
            except OSError:
                pass  # the user's pipes hold much already: this one holds less at once
        return True

    def close(self) -> None:
        """Close it, with what it may hold."""
        for end in (self.read_end, self.write_end):
            if end >= 0:
                os.close(end)
        self.read_end = self.write_end = -1
