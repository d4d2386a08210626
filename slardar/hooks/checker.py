"""The process that looks at posted code, so that no process that serves requests has to.

Started by :mod:`slardar.hooks.checking` as ``python -m slardar.hooks.checker``.  It has
the engines imported, and makes a child of itself for each question: that one has limits
of its own for CPU time and memory, set in the kernel, and dies alone of what it is shown.

Messages are JSON behind their length in four bytes: questions come on descriptor 0,
answers leave on descriptor 1.  The process ends with descriptor 0.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import struct
import sys
import time
from collections import deque
from collections.abc import Iterator
from typing import Annotated, Any, Final

import msgspec
from msgspec import Meta, Struct

from slardar.config import Hooks

__all__ = ["CPU", "MEMORY", "Findings", "Item", "Question", "Result", "frame", "frames", "main"]

#: Seconds of CPU time for one piece of code, and of any time for it on a busy machine.
CPU: Final = 2
_PATIENCE: Final = 15.0
#: Bytes that looking at one piece of code may take.  The largest that is not refused
#: (256 KiB, 50,000 nodes) takes 60 MiB, and its body may make 32 MiB of large values.
MEMORY: Final = 128 << 20
#: Lua is given what its scripts may use beyond that, up to so many bytes.
_LUA: Final = 256 << 20
#: Questions that are answered at one time: one must not wait for another that takes its
#: two seconds.
_CHILDREN: Final = 2
_LENGTH: Final = struct.Struct("=I")


class Item(Struct, array_like=True, frozen=True):
    """One piece of code to look at."""

    language: str
    name: str
    code: str
    #: Load it, too, with these modules; ``None``: only read it.
    modules: dict[str, str] | None = None


class Question(Struct, array_like=True, frozen=True):
    """Say of each of these whether it is fit to be a hook."""

    number: int
    settings: Hooks
    items: tuple[Item, ...]


class Result(Struct, array_like=True, frozen=True):
    """What one piece of code has come to; bounded, for what looked at it may have been
    taken over by it."""

    #: The modules that it names.
    requires: Annotated[
        tuple[Annotated[str, Meta(max_length=255)], ...], Meta(max_length=1000)
    ] = ()
    #: Why it is not fit, in one line.
    error: Annotated[str, Meta(max_length=1000)] = ""
    #: It broke a limit, or its process: whoever loads it may do the same.
    is_dangerous: bool = False
    #: What is to be said of it, a line each.
    warnings: Annotated[tuple[Annotated[str, Meta(max_length=300)], ...], Meta(max_length=50)] = ()


class Findings(Struct, array_like=True, frozen=True):
    """The results, in the order of the items."""

    number: int
    results: tuple[Result, ...]


_questions: Final = msgspec.json.Decoder(Question)
_results: Final = msgspec.json.Decoder(Result)


def frame(message: Struct) -> bytes:
    """A message as it travels."""
    data = msgspec.json.encode(message)
    return _LENGTH.pack(len(data)) + data


def frames(buffer: bytearray) -> Iterator[bytes]:
    """Take the whole messages out of what has come so far."""
    while len(buffer) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(buffer)
        end = _LENGTH.size + length
        if len(buffer) < end:
            return
        data = bytes(buffer[_LENGTH.size : end])
        del buffer[:end]
        yield data


class _Child:
    """A question under way, and the process that looks at its items one by one."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.results: list[Result] = []
        self._buffer = bytearray()
        self.start()

    def start(self) -> None:
        """Look at the items that have no result yet."""
        self.fd, theirs = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            # Nothing of the parent may run on in here.
            try:
                os.close(self.fd)
                _look_at(self.question, len(self.results), theirs)
            finally:
                os._exit(0)
        os.close(theirs)
        self._wait_on()

    def _wait_on(self) -> None:
        self.late_at = time.monotonic() + _PATIENCE
        self.is_late = False

    @property
    def item(self) -> Item:
        """The one that it looks at."""
        return self.question.items[len(self.results)]

    @property
    def is_done(self) -> bool:
        """Every item has its result."""
        return len(self.results) == len(self.question.items)

    def read(self) -> bool:
        """Take results; False if there are no more to come from this process."""
        data = os.read(self.fd, 65536)
        if not data:
            return False
        self._buffer += data
        for one in frames(self._buffer):
            self.results.append(_results.decode(one))
            self._wait_on()
        return True

    def kill(self) -> None:
        """It has had its time."""
        self.is_late = True
        os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> None:
        """Its process has closed the pipe: if an item is left over, that one was the end
        of it."""
        os.close(self.fd)
        _, status = os.waitpid(self.pid, 0)
        self._buffer.clear()
        if self.is_done:
            return
        name = self.item.name
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        if self.is_late or number in (signal.SIGXCPU, signal.SIGKILL):
            error = f"{name}: expected code that is loaded within {CPU} s of CPU time"
        elif number:
            error = f"{name}: expected code that can be loaded; what tried ended by signal {number}"
        else:
            error = f"{name}: expected code that needs at most {MEMORY >> 20} MiB to be loaded"
        self.results.append(Result((), error, True))


def _look_at(question: Question, first: int, fd: int) -> None:
    """In the child: write the result of each item, from the one with this number on."""
    for number in (signal.SIGXCPU, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    items = question.items[first:]
    loader = _loader(question.settings)
    for item in items:
        _limit(MEMORY + (min(question.settings.lua_memory, _LUA) if item.language == "lua" else 0))
        data = frame(_result(loader, item))
        while data:
            data = data[os.write(fd, data) :]


def _limit(memory: int) -> None:
    """Limit what the next item may use beyond what was used up to now."""
    times = os.times()
    # Whole seconds are what the kernel counts; the next but one is at least CPU away.
    seconds = int(times.user + times.system) + CPU + (1 if times.user + times.system > 0.1 else 0)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, resource.RLIM_INFINITY))
    with open("/proc/self/statm", "rb") as file:
        pages = int(file.read().split()[5])
    limit = pages * resource.getpagesize() + memory
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))


def _loader(settings: Hooks) -> Any:
    from slardar.hooks.engines import make_engine
    from slardar.hooks.loading import Loader
    from slardar.hooks.suspensions import Suspensions

    return Loader(settings, Suspensions(), [0], make_engine, lambda level, text: None)


def _result(loader: Any, item: Item) -> Result:
    try:
        found = loader.check(item.language, item.name, item.code, item.modules)
        return Result(tuple(found), warnings=found.warnings)
    except MemoryError:
        error = f"{item.name}: expected code that needs at most {MEMORY >> 20} MiB to be loaded"
        return Result((), error, True)
    except Exception as error:
        return Result((), " ".join(str(error).split())[:1000] or type(error).__name__)


class _Checker:
    """Answers the questions on one descriptor on another."""

    def __init__(self, questions: int, answers: int) -> None:
        self._questions = questions
        self._answers = answers
        self._buffer = bytearray()
        self._waiting: deque[Question] = deque()
        self._children: dict[int, _Child] = {}
        self._poll = select.poll()
        self._poll.register(questions, select.POLLIN)

    def run(self) -> None:
        """Go on until there are no more questions to come."""
        try:
            while self._turn():
                pass
        finally:
            for child in self._children.values():
                child.kill()

    def _turn(self) -> bool:
        late_at = min((child.late_at for child in self._children.values()), default=None)
        wait = None if late_at is None else max(0.0, late_at - time.monotonic()) * 1000 + 1
        for fd, _ in self._poll.poll(wait):
            if fd != self._questions:
                self._heard(self._children[fd])
                continue
            data = os.read(fd, 1 << 20)
            if not data:
                return False
            self._buffer += data
            self._waiting.extend(map(_questions.decode, frames(self._buffer)))
        for child in self._children.values():
            if not child.is_late and time.monotonic() >= child.late_at:
                child.kill()
        while self._waiting and len(self._children) < _CHILDREN:
            self._watch(_Child(self._waiting.popleft()))
        return True

    def _watch(self, child: _Child) -> None:
        self._children[child.fd] = child
        self._poll.register(child.fd, select.POLLIN)

    def _heard(self, child: _Child) -> None:
        if child.read():
            return
        self._poll.unregister(child.fd)
        del self._children[child.fd]
        child.ended()
        if not child.is_done:
            child.start()
            self._watch(child)
            return
        data = frame(Findings(child.question.number, tuple(child.results)))
        while data:
            data = data[os.write(self._answers, data) :]


def main() -> None:
    """Answer until descriptor 0 is closed."""
    # These go to the whole group; the end of this process is the other side's to decide.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    # Imported once for all children.
    loader = _loader(Hooks())
    for language in ("lua", "python"):
        loader.engine(language)
    try:
        _Checker(0, 1).run()
    except BrokenPipeError:
        sys.exit(0)


if __name__ == "__main__":
    main()
