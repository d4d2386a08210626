"""Asks a process that serves nobody whether posted code is fit to be a hook."""

# Twisted's processes have no types.
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

#: Seconds without a question after which the process is ended: it takes about 30 MB.
_IDLE: Final = 60.0
#: Bytes of one answer, at most: a thousand names of modules for each of many items.
_MAX_ANSWER: Final = 64 << 20
#: Pieces of code in one question.
_ITEMS: Final = 100
#: What the process gets of the environment: where Python and its libraries are.
_VARIABLES: Final = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "TMPDIR")

_findings: Final = msgspec.json.Decoder(Findings)

_log = Logger("slardar.hooks")


class NoCheckError(SlardarError):
    """There is no process that could look at code."""


class _Process(ProcessProtocol):
    """One process of :mod:`slardar.hooks.checker`, and the questions it has."""

    def __init__(self) -> None:
        self.questions: dict[int, defer.Deferred[tuple[Result, ...]]] = {}
        #: It has answered, so it can be started at all.
        self.has_answered = False
        self.is_gone = False
        self._buffer = bytearray()
        self._said = b""

    def ask(self, question: Question) -> defer.Deferred[tuple[Result, ...]]:
        """Fires with a result for each item; fails with NoCheckError."""
        data = frame(question)
        answer: defer.Deferred[tuple[Result, ...]] = defer.Deferred()
        self.questions[question.number] = answer
        assert self.transport is not None
        self.transport.writeToChild(0, data)
        return answer

    def end(self) -> None:
        """Let it go; what it has not answered fails."""
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

    # Twisted's.

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
        # Told whether or not the reactor hears of the process's end.
        if childFD == 1 and not self.is_gone:
            text = self._said.decode("utf-8", "replace")
            _log.error("the process that looks at code has ended: {text}", text=text)
            self._lost()


class Checker:
    """The process is started with the first question, and ended when there were none for
    a minute.

    ``settings`` are those that the code will run with.
    """

    def __init__(self, reactor: Any, settings: Hooks) -> None:
        self._reactor = reactor
        self._settings = settings
        self._process: _Process | None = None
        self._number = 0
        self._idle: Any = None
        self._stopped = False
        #: There has been a process that could look.
        self.has_answered = False

    async def check(self, items: Sequence[Item]) -> list[Result]:
        """What each of these is worth.  Raises NoCheckError if nobody can look."""
        results: list[Result] = []
        for start in range(0, len(items), _ITEMS):
            results += await self._ask(tuple(items[start : start + _ITEMS]))
        return results

    async def _ask(self, items: tuple[Item, ...]) -> Sequence[Result]:
        # Once more for one that has just ended, by whatever.
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
        """The modules that code names.  Raises ScriptError if it is not fit."""
        try:
            (result,) = await self.check([item])
        except UnicodeEncodeError:
            raise ScriptError(f"{item.name}: expected text in UTF-8") from None
        if result.error:
            raise ScriptError(result.error)
        return Checked.of(result.requires, result.warnings)

    async def find_dangerous(self, hooks: Mapping[HookKey, Hook]) -> dict[int, str]:
        """Of the versions that are going to be loaded, those that break a limit when they
        are only read: their marks, and why.

        Whoever writes to a store need not have asked anybody.
        """
        marks, items = stored_items(hooks)
        results = await self.check(items) if items else []
        return {
            mark: result.error
            for mark, result in zip(marks, results, strict=True)
            if result.is_dangerous
        }

    def stop(self) -> None:
        """End the process."""
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
        # Not what lies in the working directory, unless that is on the path here.
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
        """End the process after a while in which it had nothing to do."""
        if self._idle is not None and self._idle.active():
            self._idle.reset(_IDLE)
        else:
            self._idle = self._reactor.callLater(_IDLE, self._tired)

    def _tired(self) -> None:
        process = self._process
        if process is not None and not process.questions:
            process.end()


def stored_items(hooks: Mapping[HookKey, Hook]) -> tuple[list[int], list[Item]]:
    """The versions of these that may be loaded: their marks, and what to ask of them."""
    marks: list[int] = []
    items: list[Item] = []
    for hook in hooks.values():
        for code in (hook.active, hook.previous, hook.staged):
            if code is not None:
                marks.append(mark_of(hook.path, code))
                items.append(Item(hook.language, hook.name, code.code))
    return marks, items
