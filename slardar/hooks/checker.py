"""The process that checks posted code, so that no process that serves requests has to.

:mod:`slardar.hooks.checking` starts it as ``python -m slardar.hooks.checker``.  The
process imports the engines once and forks a child for each question.  The kernel limits
the CPU time and the memory of the child, so bad code ends the child and nothing else.

A message is its length in four bytes, then JSON.  Questions come on descriptor 0, findings
leave on descriptor 1.  The process ends when descriptor 0 is closed.
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

#: Seconds of CPU time for one item, and seconds by the clock, for a busy machine.
CPU: Final = 2
_PATIENCE: Final = 15.0
#: Bytes of memory for one item.  The largest code that is not refused (256 KiB, 50,000
#: nodes) takes 60 MiB, and its body may make 32 MiB of large values.
MEMORY: Final = 128 << 20
#: Lua gets ``hooks.lua_memory`` bytes in addition, but no more than this.
_LUA: Final = 256 << 20
#: Questions that are answered at the same time, so that a quick one does not wait for one
#: that takes its two seconds.
_CHILDREN: Final = 2
_LENGTH: Final = struct.Struct("=I")


class Item(Struct, array_like=True, frozen=True):
    """One piece of code to check."""

    language: str
    name: str
    code: str
    #: The modules to load the code with; ``None``: the code is only read.
    modules: dict[str, str] | None = None
    #: The settings that it may read while it is loaded, as JSON texts by name.
    settings: dict[str, str] = {}


class Question(Struct, array_like=True, frozen=True):
    """Asks of each item whether it is fit to be a hook."""

    number: int
    settings: Hooks
    items: tuple[Item, ...]


class Result(Struct, array_like=True, frozen=True):
    """What was found out about one item.

    The fields are bounded, because code may have taken over the child that looked at it.
    """

    #: The modules that the code names.
    requires: Annotated[
        tuple[Annotated[str, Meta(max_length=255)], ...], Meta(max_length=1000)
    ] = ()
    #: Why the code is not fit to be a hook, in one line; empty if it is fit.
    error: Annotated[str, Meta(max_length=1000)] = ""
    #: The code broke a limit, or ended its process: loading it elsewhere may do that again.
    is_dangerous: bool = False
    #: Warnings about the code, a line each.
    warnings: Annotated[tuple[Annotated[str, Meta(max_length=300)], ...], Meta(max_length=50)] = ()


class Findings(Struct, array_like=True, frozen=True):
    """The results of one question, in the order of its items."""

    number: int
    results: tuple[Result, ...]


_questions: Final = msgspec.json.Decoder(Question)
_results: Final = msgspec.json.Decoder(Result)


def frame(message: Struct) -> bytes:
    """A message as it is written to a descriptor."""
    data = msgspec.json.encode(message)
    return _LENGTH.pack(len(data)) + data


def frames(buffer: bytearray) -> Iterator[bytes]:
    """Take each whole message out of ``buffer``, and leave the rest."""
    while len(buffer) >= _LENGTH.size:
        (length,) = _LENGTH.unpack_from(buffer)
        end = _LENGTH.size + length
        if len(buffer) < end:
            return
        data = bytes(buffer[_LENGTH.size : end])
        del buffer[:end]
        yield data


class _Child:
    """A question under way, and the child that checks its items one by one."""

    def __init__(self, question: Question) -> None:
        self.question = question
        self.results: list[Result] = []
        self._buffer = bytearray()
        self.start()

    def start(self) -> None:
        """Fork a child that checks the items that have no result yet."""
        self.fd, theirs = os.pipe()
        self.pid = os.fork()
        if not self.pid:
            # The child must not return into the parent's code.
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
        """The item that the child checks now."""
        return self.question.items[len(self.results)]

    @property
    def is_done(self) -> bool:
        """Whether every item has its result."""
        return len(self.results) == len(self.question.items)

    def read(self) -> bool:
        """Take results from the child; False if it will send no more."""
        data = os.read(self.fd, 65536)
        if not data:
            return False
        self._buffer += data
        for one in frames(self._buffer):
            self.results.append(_results.decode(one))
            self._wait_on()
        return True

    def kill(self) -> None:
        """End the child, because its time is used up."""
        self.is_late = True
        os.kill(self.pid, signal.SIGKILL)

    def ended(self) -> None:
        """The child has closed the pipe.

        If an item has no result, the first one without ended the child.
        """
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
    """In the child: write the result of each item from index ``first`` on."""
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
    """Limit what the next item may use in addition to what the child has used so far."""
    times = os.times()
    # The kernel takes whole seconds.  The time used is rounded down, so one more is added.
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

    return Loader(settings, Suspensions(), None, make_engine, lambda level, text: None)


def _result(loader: Any, item: Item) -> Result:
    try:
        loader.take_settings(item.settings)
        found = loader.check(item.language, item.name, item.code, item.modules)
        return Result(tuple(found), warnings=found.warnings)
    except MemoryError:
        error = f"{item.name}: expected code that needs at most {MEMORY >> 20} MiB to be loaded"
        return Result((), error, True)
    except Exception as error:
        return Result((), " ".join(str(error).split())[:1000] or type(error).__name__)


class _Checker:
    """Reads questions from one descriptor and writes findings to another."""

    def __init__(self, questions: int, answers: int) -> None:
        self._questions = questions
        self._answers = answers
        self._buffer = bytearray()
        self._waiting: deque[Question] = deque()
        self._children: dict[int, _Child] = {}
        self._poll = select.poll()
        self._poll.register(questions, select.POLLIN)

    def run(self) -> None:
        """Answer questions until the descriptor of questions is closed."""
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
    """Answer questions until descriptor 0 is closed."""
    # A terminal sends these signals to the whole process group.  When this process ends is
    # for the side that asks to decide.
    for number in (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    # Import the engines once, for all children.
    loader = _loader(Hooks())
    for language in ("lua", "python"):
        loader.engine(language)
    try:
        _Checker(0, 1).run()
    except BrokenPipeError:
        sys.exit(0)


if __name__ == "__main__":
    main()
