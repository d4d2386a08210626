"""Which hook a worker is running, told through memory that it shares with the director.

A worker that hangs in a hook cannot say so any more, and one that was killed never will.
So before each call of a hook it counts the call and writes a number, and 0 after it; that
costs some tens of nanoseconds.  Its reactor counts here as well, ten times a second: as
long as that count grows, the worker makes turns, however late it answers.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

__all__ = ["BEATS", "CALLS", "LARGEST", "RUNNING", "Mark", "Noted", "make_mark", "open_mark"]

#: Bytes of the memory, of which twelve are used.
_SIZE = mmap.PAGESIZE
_NOTED = struct.Struct("=III")

#: The items: the hook that is running, calls of hooks, and turns of the reactor.
RUNNING, CALLS, BEATS = range(3)
#: The largest count; behind it comes 0.
LARGEST = 0xFFFFFFFF


class Noted(NamedTuple):
    """What a worker has noted."""

    #: The number of the hook that is running; 0 if none is.
    running: int = 0
    #: How many calls of hooks it has begun.
    calls: int = 0
    #: How often its reactor has come round.
    beats: int = 0


def make_mark() -> int:
    """The descriptor of a file in memory; raises OSError if there can be none."""
    descriptor = os.memfd_create("slardar-mark", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, _SIZE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_mark(descriptor: int) -> memoryview:
    """The worker's side: the items of :class:`Noted`.  Closes the descriptor."""
    try:
        return memoryview(mmap.mmap(descriptor, _SIZE)).cast("I")
    finally:
        os.close(descriptor)


class Mark:
    """The director's side."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> Noted:
        """What was written last; zeros if nothing was."""
        try:
            # Not mapped: a worker may have made the file shorter.
            data = os.pread(self._descriptor, _NOTED.size, 0)
        except OSError:
            return Noted()
        return Noted(*_NOTED.unpack(data)) if len(data) == _NOTED.size else Noted()

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)
