"""The note which hook a worker is running: one process writes it, another reads it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from slardar.hooks.call_note import MOST_CALLS, CallNote
from slardar.workers.marks import BEATS, LARGEST, Mark, Noted, make_mark, open_mark


def test_what_was_written_last_is_read() -> None:
    """It is zero before the first write, and may be the largest mark."""
    descriptor = make_mark()
    mark = Mark(os.dup(descriptor))
    assert mark.read() == Noted() == (0, 0, 0)
    items = open_mark(descriptor)
    note = CallNote(items)
    for calls, value in ((1, 1), (2, LARGEST), (MOST_CALLS, 77), (0, 78)):
        note.calls = calls - 1
        note.begin(value)
        items[BEATS] = value // 2
        assert mark.read() == Noted(running=value, calls=calls, beats=value // 2)
        note.end()
        assert mark.read() == Noted(beats=value // 2)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)
    mark.close()
    # The worker's side works without the director's.
    items[0] = 5


@pytest.mark.real
def test_it_is_read_after_the_worker_has_ended() -> None:
    """This holds for any end; only processes that ask for it inherit the descriptor."""
    descriptor = make_mark()
    assert not os.get_inheritable(descriptor)
    mark = Mark(os.dup(descriptor))
    program = (
        "import os, sys; from slardar.workers.marks import open_mark;"
        "open_mark(int(sys.argv[1]))[0] = 4711; os.abort()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, str(descriptor)], pass_fds=[descriptor], check=False
    )
    assert done.returncode < 0
    assert mark.read().running == 4711
    os.close(descriptor)
    mark.close()


def test_file_that_a_worker_made_shorter_reads_as_nothing() -> None:
    """If the file were mapped, a signal would end the director."""
    descriptor = make_mark()
    mark = Mark(os.dup(descriptor))
    os.pwrite(descriptor, b"\xff" * 16, 0)
    assert mark.read() == (LARGEST, LARGEST, (1 << 64) - 1)
    for size in (15, 8, 0):
        os.ftruncate(descriptor, size)
        assert mark.read() == Noted()
    os.close(descriptor)
    mark.close()
    assert mark.read() == Noted()


def test_no_descriptor_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    """The file cannot be made long enough."""

    def refused(*_: object) -> None:
        raise OSError(28, "No space left on device")

    before = len(os.listdir("/proc/self/fd"))
    monkeypatch.setattr(os, "ftruncate", refused)
    with pytest.raises(OSError, match="No space"):
        make_mark()
    assert len(os.listdir("/proc/self/fd")) == before
