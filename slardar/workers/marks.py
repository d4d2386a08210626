"""Which hook a worker is running, told through memory that it shares with the director.

A worker that hangs in a hook cannot say so any more, and one that was killed never will.
So before each call of a hook it writes a number, and 0 after it; that costs some tens of
nanoseconds.
"""

from __future__ import annotations

import mmap
import os
import struct

__all__ = ["Mark", "make_mark", "open_mark"]

#: Bytes of the memory, of which four are used.
_SIZE = mmap.PAGESIZE


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
    """The worker's side: item 0 is the number.  Closes the descriptor."""
    try:
        return memoryview(mmap.mmap(descriptor, _SIZE)).cast("I")
    finally:
        os.close(descriptor)


class Mark:
    """The director's side."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self) -> int:
        """The number that was written last; 0 if no hook is running."""
        try:
            # Not mapped: a worker may have made the file shorter.
            data = os.pread(self._descriptor, 4, 0)
        except OSError:
            return 0
        return int(struct.unpack("=I", data)[0]) if len(data) == 4 else 0

    def close(self) -> None:
        """Let go of it."""
        os.close(self._descriptor)
