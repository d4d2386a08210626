"""Which hook a worker is running, in memory that worker and director share.

A worker that hangs in a hook, or that was killed in one, cannot send a message about it.
So a worker notes each call of a hook in shared memory (:mod:`slardar.hooks.call_note`).  This
costs some tens of nanoseconds.  Ten times a second the worker's reactor counts in this
memory, too: while that count grows the worker is alive, however late it answers.
"""

from __future__ import annotations

import mmap
import os
import struct
from typing import NamedTuple

__all__ = ["BEATS", "LARGEST", "RUNNING", "Mark", "Noted", "make_mark", "open_mark"]

#: Bytes of the shared memory, of which sixteen are used.
_SIZE = mmap.PAGESIZE
_NOTED = struct.Struct("=QQ")

#: The items in the memory: the call of a hook that is running, and turns of the reactor.
RUNNING, BEATS = range(2)
#: The largest number of a hook and the largest count of turns; after it comes 0.
LARGEST = 0xFFFFFFFF


class Noted(NamedTuple):
    """What a worker has noted."""

    #: The number of the hook that is running; 0 if none is.
    running: int = 0
    #: The number of that call; 0 if none is.
    calls: int = 0
    #: How often its reactor has come round.
    beats: int = 0


def make_mark() -> int:
    """The descriptor of new shared memory.  Raises OSError if it cannot be made."""
    descriptor = os.memfd_create("slardar-mark", os.MFD_CLOEXEC)
    try:
        os.ftruncate(descriptor, _SIZE)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def open_mark(descriptor: int) -> memoryview:
    """The shared memory as the worker writes it: items of 64 bits.

    Closes the descriptor.
    """
    try:
        return memoryview(mmap.mmap(descriptor, _SIZE)).cast("Q")
    finally:
        os.close(descriptor)


class Mark:
    """The shared memory as the director reads it."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> Noted:
        """What the worker noted last; zeros if it has noted nothing."""
        try:
            # Read and not mapped: a worker may have cut the file, and a look at a page
            # that is gone would end the director.
            data = os.pread(self._descriptor, _NOTED.size, 0)
        except OSError:
            return Noted()
        if len(data) != _NOTED.size:
            return Noted()
        call, beats = _NOTED.unpack(data)
        return Noted(call & LARGEST, call >> 32, beats)

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)
