"""Asks a separate process, which serves no requests, whether posted code is fit to be a hook."""

# The process classes of Twisted have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec
from twisted.internet import defer
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger

from slardar.config import Hooks
from slardar.errors import SlardarError
from slardar.hooks.checker import Findings, Item, Question, Result, frame, frames
from slardar.hooks.engine import ScriptError
from slardar.hooks.loaded import mark_of
from slardar.hooks.notices import Checked
from slardar.model.hook import Hook, HookKey

__all__ = ["Checker", "NoCheckError", "stored_items"]

#: Seconds without a question after which the process is ended, since it takes about 30 MB.
_IDLE: Final = 60.0
#: Bytes that the process may send before a message is whole: many items may each name a
#: thousand modules.
_MAX_ANSWER: Final = 64 << 20
#: Items in one question.
_ITEMS: Final = 100
#: The environment variables that the process gets: they say where Python and its libraries
#: are.
_VARIABLES: Final = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "TMPDIR")

_findings: Final = msgspec.json.Decoder(Findings)

_log = Logger("slardar.hooks")


class NoCheckError(SlardarError):
    """No process can check code now."""


class _Process(ProcessProtocol):
    """One process of :mod:`slardar.hooks.checker`, and the questions that it works on."""

    def __init__(self) -> None:
        self.questions: dict[int, defer.Deferred[tuple[Result, ...]]] = {}
        #: The process has answered once, so it can be started on this machine.
        self.has_answered = False
        self.is_gone = False
        self._buffer = bytearray()
        self._said = b""

    def ask(self, question: Question) -> defer.Deferred[tuple[Result, ...]]:
        """Send a question.

        The Deferred fires with a result for each item, or fails with NoCheckError.
        """
        data = frame(question)
        answer: defer.Deferred[tuple[Result, ...]] = defer.Deferred()
        self.questions[question.number] = answer
        assert self.transport is not None
        self.transport.writeToChild(0, data)
        return answer

    def end(self) -> None:
        """Kill the process; the questions that it has not answered fail."""
        if self.transport is not None:
            try:
                self.transport.signalProcess("KILL")
            except ProcessExitedAlready:
                pass
        self._lost()

    def _lost(self) -> None:
        self.is_gone = True
        questions, self.questions = self.questions, {}
        for question in questions.values():
            question.errback(NoCheckError("the process that looks at code has ended: ask again"))

    # Called by Twisted.

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803
        if childFD == 2:
            self._said = (self._said + data)[-2000:]
            return
        self._buffer += data
        if len(self._buffer) > _MAX_ANSWER:
            self.end()
        try:
            for one in frames(self._buffer):
                findings = _findings.decode(one)
                self.has_answered = True
                question = self.questions.pop(findings.number, None)
                if question is not None:
                    question.callback(findings.results)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            _log.error("the process that looks at code: {error!r}", error=error)
            self.end()

    def childConnectionLost(self, childFD: int) -> None:  # noqa: N803
        # Twisted calls this even if the reactor never hears of the end of the process.
        if childFD == 1 and not self.is_gone:
            text = self._said.decode("utf-8", "replace")
            _log.error("the process that looks at code has ended: {text}", text=text)
            self._lost()


class Checker:
    """Checks code in a process, which it starts for the first question and ends after a
    minute without questions.

    ``settings`` are the settings that the code will run with.
    """

    def __init__(self, reactor: Any, settings: Hooks) -> None:
        self._reactor = reactor
        self._settings = settings
        self._process: _Process | None = None
        self._number = 0
        self._idle: Any = None
        self._stopped = False
        #: A process has answered, so checking works on this machine.
        self.has_answered = False

    async def check(self, items: Sequence[Item]) -> list[Result]:
        """The result for each item.  Raises NoCheckError if no process can check code."""
        results: list[Result] = []
        for start in range(0, len(items), _ITEMS):
            results += await self._ask(tuple(items[start : start + _ITEMS]))
        return results

    async def _ask(self, items: tuple[Item, ...]) -> Sequence[Result]:
        # Ask a new process once more if the first one ends before it answers.
        for last in (False, True):
            process = self._running()
            self._number += 1
            try:
                results = await process.ask(Question(self._number, self._settings, items))
            except NoCheckError:
                if last or not process.has_answered or self._stopped:
                    raise
                continue
            if len(results) != len(items):
                process.end()
                raise NoCheckError("the process that looks at code gave no answer: ask again")
            self.has_answered = True
            self._rest(process)
            return results
        raise AssertionError

    async def check_one(self, item: Item) -> tuple[str, ...]:
        """The modules that the code names.  Raises ScriptError if the code is not fit."""
        try:
            (result,) = await self.check([item])
        except UnicodeEncodeError:
            raise ScriptError(f"{item.name}: expected text in UTF-8") from None
        if result.error:
            raise ScriptError(result.error)
        return Checked.of(result.requires, result.warnings)

    async def find_dangerous(self, hooks: Mapping[HookKey, Hook]) -> dict[int, str]:
        """The marks of the versions of ``hooks`` that break a limit even when they are only
        read, each with the reason.

        Code may reach a store without having been checked.
        """
        marks, items = stored_items(hooks)
        results = await self.check(items) if items else []
        return {
            mark: result.error
            for mark, result in zip(marks, results, strict=True)
            if result.is_dangerous
        }

    def stop(self) -> None:
        """End the process, and start no other."""
        self._stopped = True
        if self._idle is not None and self._idle.active():
            self._idle.cancel()
        if self._process is not None:
            self._process.end()

    def _running(self) -> _Process:
        process = self._process
        if process is not None and not process.is_gone:
            return process
        if self._stopped:
            raise NoCheckError("slardar is stopping")
        process = _Process()
        environment = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
        # The process finds modules where this one does: the working directory counts only if
        # it is on the path here.
        environment["PYTHONPATH"] = os.pathsep.join(entry or os.getcwd() for entry in sys.path)
        environment["PYTHONSAFEPATH"] = "1"
        try:
            self._reactor.spawnProcess(
                process,
                sys.executable,
                [sys.executable, "-m", "slardar.hooks.checker"],
                env=environment,
                childFDs={0: "w", 1: "r", 2: "r"},
            )
        except (AttributeError, NotImplementedError, OSError) as error:
            raise NoCheckError(f"no process can be started to look at code: {error}") from None
        self._process = process
        return process

    def _rest(self, process: _Process) -> None:
        """End the process later, unless another question comes before."""
        if self._idle is not None and self._idle.active():
            self._idle.reset(_IDLE)
        else:
            self._idle = self._reactor.callLater(_IDLE, self._tired)

    def _tired(self) -> None:
        process = self._process
        if process is not None and not process.questions:
            process.end()


def stored_items(hooks: Mapping[HookKey, Hook]) -> tuple[list[int], list[Item]]:
    """The versions of ``hooks`` that may be loaded: their marks, and an item for each."""
    marks: list[int] = []
    items: list[Item] = []
    for hook in hooks.values():
        for code in (hook.active, hook.previous, hook.staged):
            if code is not None:
                marks.append(mark_of(hook.path, code))
                items.append(Item(hook.language, hook.name, code.code))
    return marks, items
