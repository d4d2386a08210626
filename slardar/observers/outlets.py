"""The way out of the process for lines: a bounded buffer, and a thread that writes.

A file on a full or slow disk blocks whoever writes to it, and so does a collector that does
not read.  Here this is a thread that does nothing else.  What finds no room in the buffer
is dropped and counted.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from threading import Event, Semaphore, Thread, stack_size

from slardar.observers.sinks import Sink

__all__ = ["Outlet"]

#: Bytes of lines that wait at most: a second of a busy worker.
MOST = 8 << 20
#: Bytes with which the thread is woken at once; fewer wait for :meth:`Outlet.hurry`.
_FULL = 262144
#: Seconds before lines that could not be written are tried again: the first time, and at
#: most.
_PAUSE = 0.1
_LONGEST_PAUSE = 5.0
#: Seconds between two complaints.
_COMPLAINTS = 60.0
#: Bytes of the thread's stack: the kernel counts all of them as memory of a worker with
#: hooks.
_STACK = 524288


class Outlet:
    """Hands lines to ``sink``, in their order.

    ``name`` is for the log.  ``tell(text)`` is called in the thread, and must hand the text
    to the log; ``most`` is in bytes.
    """

    def __init__(
        self,
        name: str,
        sink: Sink,
        tell: Callable[[str], None],
        most: int = MOST,
        pause: float = _PAUSE,
    ) -> None:
        self._name = name
        self._sink = sink
        self._tell = tell
        self._most = most
        self._first_pause = pause
        #: Whole lines.  One side appends, and the thread takes: both are atomic.
        self._chunks: deque[bytes] = deque()
        #: Bytes that ever came, and that were ever done with.  Each is written by one side.
        self._came = 0
        self._done = 0
        #: Lines that found no room, and lines that the thread gave up.
        self._refused = 0
        self._lost = 0
        #: Wakes the thread; ``_woken`` until it has seen that.
        self._signal = Semaphore(0)
        self._woken = False
        #: Ends a pause of the thread.
        self._interrupt = Event()
        self._wants_reopen = False
        self._wants_watch = False
        #: When the thread must have ended, in monotonic seconds; ``None``: it goes on.
        self._ends: float | None = None
        self._ended: Callable[[], None] | None = None
        #: Of the thread: what is being written, since when nothing can be, when the log may
        #: be told again, and of how many lines it knows that they are lost.
        self._data = b""
        self._fails = False
        self._next_complaint = 0.0
        self._told_lost = 0
        self._thread = Thread(target=self._run, name=f"log {name}", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        before = stack_size(_STACK)
        try:
            self._thread.start()
        finally:
            stack_size(before)

    @property
    def max_line(self) -> int:
        """Bytes of a line at most, with its end."""
        return self._sink.max_line

    @property
    def dropped(self) -> int:
        """How many lines were ever dropped."""
        return self._refused + self._lost + self._sink.lost

    @property
    def waiting(self) -> int:
        """Bytes that are not written yet."""
        return self._came - self._done

    # From the request path: nothing here blocks.

    def put(self, data: bytes, count: int) -> None:
        """Write ``count`` whole lines as soon as there are many, or after :meth:`hurry`."""
        size = len(data)
        waiting = self._came - self._done + size
        if waiting > self._most:
            self._refused += count
            return
        self._came += size
        self._chunks.append(data)
        if waiting >= _FULL:
            self.hurry()

    def hurry(self) -> None:
        """Write what there is."""
        if not self._woken:
            self._woken = True
            self._signal.release()

    def reopen(self) -> None:
        """Open the file anew: what came before may go to the old one."""
        self._wants_reopen = True
        self._interrupt.set()
        self.hurry()

    def watch(self) -> None:
        """Nobody will call :meth:`reopen` any more."""
        self._wants_watch = True

    def stop(self, within: float, ended: Callable[[], None]) -> None:
        """Write what there is within so many seconds, and end.

        ``ended()`` is called in the thread then; never if a system call hangs.
        """
        self._ended = ended
        self._ends = time.monotonic() + within
        self._interrupt.set()
        self._woken = True
        self._signal.release()

    # The thread.

    def _run(self) -> None:
        while self._ends is None:
            self._signal.acquire()
            self._woken = False
            self._write_all()
        # What came after the last look.
        self._write_all()
        self._sink.close()
        if self._ended is not None:
            self._ended()

    def _write_all(self) -> None:
        """Write until nothing is left, or until there is no time left."""
        pause = self._first_pause
        while True:
            if self._wants_watch:
                self._sink.watch()
            if self._wants_reopen:
                self._wants_reopen = False
                self._reopen()
            data = self._data or self._gather()
            if not data:
                return
            done = 0
            try:
                done = self._sink.write(data if len(data) <= self._sink.most else self._cut(data))
            except TimeoutError as error:
                self._note_blocked(error)
            except Exception as error:
                # A bug must not end the thread, and with it the log.
                self._complain(error)
                is_early = self._wait(pause)
                pause = self._first_pause if is_early else min(2 * pause, _LONGEST_PAUSE)
            self._data = data[done:]
            self._done += done
            if done:
                pause = self._first_pause
                self._look_whether_well()
            if self._ends is not None and time.monotonic() >= self._ends:
                self._give_up()
                return

    def _gather(self) -> bytes:
        """The next lines, as many as one write takes; at least one chunk."""
        some: list[bytes] = []
        size = 0
        chunks = self._chunks
        while chunks:
            size += len(chunks[0])
            if some and size > self._sink.most:
                break
            some.append(chunks.popleft())
        return some[0] if len(some) == 1 else b"".join(some)

    def _cut(self, data: bytes) -> bytes:
        """The lines of ``data`` that one write takes; at least one."""
        end = data.rfind(b"\n", 0, self._sink.most) + 1
        return data[: end or data.find(b"\n") + 1]

    def _reopen(self) -> None:
        try:
            self._sink.reopen()
        except Exception as error:
            self._complain(error)

    def _wait(self, seconds: float) -> bool:
        """Wait; True if something came between."""
        if self._ends is not None:
            seconds = min(seconds, max(0.0, self._ends - time.monotonic()))
        is_early = self._interrupt.wait(seconds)
        self._interrupt.clear()
        return is_early

    def _give_up(self) -> None:
        left = self._data + b"".join(self._chunks)
        self._chunks.clear()
        self._data = b""
        self._lost += left.count(b"\n")
        self._done = self._came
        self._say_lost()

    def _complain(self, error: Exception) -> None:
        """Tell once that lines cannot be written, and at most once a minute if that comes and
        goes."""
        if not self._fails:
            self._fails = True
            reason = getattr(error, "strerror", None) or " ".join(str(error).split())
            self._say(f"cannot be written: {reason}; lines wait for it")

    def _note_blocked(self, error: TimeoutError) -> None:
        if self.dropped > self._told_lost:
            self._complain(error)

    def _look_whether_well(self) -> None:
        if self._fails:
            self._fails = False
        self._say_lost()

    def _say_lost(self) -> None:
        dropped = self.dropped
        if dropped > self._told_lost and self._say(
            f"{dropped - self._told_lost} lines were dropped, for they could not be written in time"
        ):
            self._told_lost = dropped

    def _say(self, text: str) -> bool:
        now = time.monotonic()
        if now < self._next_complaint and self._ends is None:
            return False
        self._next_complaint = now + _COMPLAINTS
        self._tell(f"access log {self._name}: {text}")
        return True
