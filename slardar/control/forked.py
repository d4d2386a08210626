"""Work on many things at once in processes that are forked for it, one on each core.

For the start of a process, which nobody else's work waits for: a program that runs threads must
not fork, for what another thread holds stays held in the child.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

__all__ = ["in_parts"]

#: Processes, at most: more hardly help.
_MOST = 4

_Thing = TypeVar("_Thing")
_Made = TypeVar("_Made")


def in_parts(
    things: Sequence[_Thing],
    work: Callable[[Sequence[_Thing]], list[_Made]],
    encode: Callable[[list[_Made]], bytes],
    decode: Callable[[bytes], list[_Made]],
    least: int,
) -> list[_Made]:
    """What ``work`` makes of ``things``, in order.

    Each process works on ``least`` things at least; with fewer, or in a program with threads,
    there is only this one.  A part whose process fails is done here, so an exception is that of
    ``work``.  Memory and open files of a child are copies: what ``work`` changes there is lost.
    """
    count = min(_MOST, len(os.sched_getaffinity(0)), len(things) // least)
    if count < 2 or threading.active_count() > 1:
        return work(things)
    bounds = [len(things) * place // count for place in range(count + 1)]
    parts = [things[begin:end] for begin, end in pairwise(bounds)]
    children = [_start(part, work, encode) for part in parts[1:]]
    try:
        made = work(parts[0])
    finally:
        answers = [_answer(pid, reader) for pid, reader in children]
    for part, data in zip(parts[1:], answers, strict=True):
        made += work(part) if data is None else decode(data)
    return made


def _start(
    part: Sequence[_Thing],
    work: Callable[[Sequence[_Thing]], list[_Made]],
    encode: Callable[[list[_Made]], bytes],
) -> tuple[int, int]:
    """A child that does a part: its process id, and the pipe from which its answer comes."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    # Whatever happens, the child must not go on with what its parent does.
    status = 1
    try:
        os.close(reader)
        with open(writer, "wb") as file:
            file.write(encode(work(part)))
        status = 0
    finally:
        os._exit(status)


def _answer(pid: int, reader: int) -> bytes | None:
    """What a child has answered, once it has ended; ``None`` if it has failed."""
    with open(reader, "rb") as file:
        data = file.read()
    _, status = os.waitpid(pid, 0)
    return None if status else data
