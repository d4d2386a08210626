"""The process that is to take over, as the one that started it sees it."""

# Twisted's processes have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import defer
from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.logger import Logger

from slardar.dataplane.sockets import Opened
from slardar.errors import SlardarError
from slardar.upgrade import messages
from slardar.upgrade.program import Program
from slardar.workers.commands import Link, OneLink

__all__ = ["VARIABLE", "Successor", "UpgradeError", "start_successor"]

#: The variable that tells a successor what it was handed.
VARIABLE = "SLARDAR_UPGRADE"

#: Its descriptors: the link, the standard error to be, the first of the sockets.
_LINK = 3
_STDERR = 4
_FIRST_SOCKET = 5
#: Bytes of what it says before it can log that are kept.
_MAX_SAID = 16384
#: Seconds after the end of the link within which the rest of what it said has come.
_LAST_BYTES = 1.0
#: Seconds that one that was given up has to end by itself.
_PATIENCE = 5.0

_log = Logger("slardar.upgrade")


class UpgradeError(SlardarError):
    """The successor could not take over, and why."""


class Successor(ProcessProtocol):
    """The new process.  ``asked_to_end(seconds)`` is called when it says so."""

    def __init__(self, reactor: Any, asked_to_end: Callable[[float], None]) -> None:
        self._reactor = reactor
        self._asked_to_end = asked_to_end
        self.link = Link(self._received, self._link_lost)
        #: The process that serves or will; not the one that was started, where twistd
        #: makes a daemon of itself.
        self.pid: int | None = None
        #: Fires when it has gone.
        self.gone: defer.Deferred[None] = defer.Deferred()
        self._happened: dict[type, Any] = {}
        self._awaited: tuple[type, defer.Deferred[Any]] | None = None
        self._failure: UpgradeError | None = None
        self._said = b""
        #: How the process that was started has ended.
        self._end: str | None = None
        self._lingers: Any = None

    # For the handover.

    async def wait(self, kind: type, within: float) -> Any:
        """Its message of this kind, past or to come.  Raises UpgradeError if it fails, or
        says nothing like that in ``within`` seconds."""
        if self._failure is not None:
            raise self._failure
        if kind in self._happened:
            return self._happened[kind]
        awaited: defer.Deferred[Any] = defer.Deferred()
        self._awaited = (kind, awaited)
        late = self._reactor.callLater(
            within, self.fail, f"it has not come so far within {within:g} s"
        )
        try:
            return await awaited
        finally:
            self._awaited = None
            if late.active():
                late.cancel()

    def tell(self, message: Any) -> None:
        """Send it a message; without effect if it has gone."""
        self.link.send(messages.encode(message)).addErrback(lambda _failure: None)

    def fail(self, reason: str) -> None:
        """Whoever waits for it, or will, gets this as an UpgradeError."""
        if self._failure is None:
            self._failure = UpgradeError(reason)
            if self._awaited is not None:
                self._awaited[1].errback(self._failure)

    def give_up(self, reason: str) -> defer.Deferred[None]:
        """Make it end, by force if it does not; fires when it has gone."""
        self.fail(reason)
        if not self.gone.called:
            self.tell(messages.GiveUp(reason))
            # One that has not said that it is there has nothing to bring to an end.
            patience = 0 if self.pid is None else _PATIENCE
            late = self._reactor.callLater(patience, self._kill)
            self.gone.addCallback(lambda _: late.cancel() if late.active() else None)
        return self.gone

    def _kill(self) -> None:
        try:
            if self.transport is not None:
                self.transport.signalProcess(signal.SIGKILL)
        except ProcessExitedAlready:
            pass
        if self.pid is not None and not self.link.is_lost:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except OSError:
                pass

    # What it says.

    def _received(self, data: bytes) -> bytes:
        try:
            message = messages.decode_from_successor(data)
        except ValueError as error:
            self.fail(f"it sent a message that is none: {error}")
            return b""
        if isinstance(message, messages.Hello):
            self.pid = message.pid
        elif isinstance(message, messages.Failed):
            self.fail(message.reason)
        elif isinstance(message, messages.End):
            self._asked_to_end(message.seconds)
        elif self._failure is None:
            self._happened[type(message)] = message
            if self._awaited is not None and self._awaited[0] is type(message):
                self._awaited[1].callback(message)
        if self._failure is not None and isinstance(message, messages.Serving):
            return messages.REFUSED
        return b""

    def _link_lost(self) -> None:
        if self._end is not None:
            self._has_gone()
        else:
            # It may be about to end, and to say why.
            self._lingers = self._reactor.callLater(_LAST_BYTES, self._has_gone)

    def _has_gone(self) -> None:
        if self._lingers is not None and self._lingers.active():
            self._lingers.cancel()
        if not self.gone.called:
            self.fail(self._last_words() or self._end or "it closed the link")
            self.gone.callback(None)

    def _last_words(self) -> str:
        """Of what it said, the line or the lines that matter."""
        lines = [line.strip() for line in self._said.decode("utf-8", "replace").splitlines()]
        lines = [line for line in lines if line]
        own = [line for line in lines if line.startswith("slardar: ")]
        text = "; ".join(line.removeprefix("slardar: ") for line in own) or "".join(lines[-1:])
        return "".join(char if char.isprintable() else "?" for char in text)[:2000]

    # Twisted's.

    def childDataReceived(self, childFD: int, data: bytes) -> None:  # noqa: N803
        self._said = (self._said + data)[-_MAX_SAID:]

    def processEnded(self, reason: Any) -> None:
        status = reason.value
        if status.signal is not None:
            self._end = f"it ended by signal {status.signal}"
        else:
            self._end = f"it ended with exit code {status.exitCode}"
        if self.link.is_lost:
            self._has_gone()


def start_successor(
    reactor: Any,
    program: Program,
    opened: Sequence[tuple[str, Opened]],
    asked_to_end: Callable[[float], None],
) -> Successor:
    """Start the program again, and hand it these sockets, each with its purpose.

    Raises OSError if it cannot be started.
    """
    # A folder that is gone would be noticed in the child only.
    os.stat(program.folder)
    successor = Successor(reactor, asked_to_end)
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        # Its standard error is ours until it can log: only there it says what is wrong
        # with its configuration.
        descriptors: dict[int, Any] = {0: 0, 1: 1, 2: "r", _LINK: theirs.fileno(), _STDERR: 2}
        handed = []
        following = _FIRST_SOCKET
        for purpose, one in opened:
            numbers = tuple(range(following, following + len(one.sockets)))
            following += len(numbers)
            descriptors.update(
                (number, sock.fileno()) for number, sock in zip(numbers, one.sockets, strict=True)
            )
            name = "" if one.listener is None else one.listener.id
            handed.append(messages.HandedSockets(purpose, one.endpoint, numbers, name))
        told = messages.Handed(os.getpid(), _LINK, _STDERR, tuple(handed))
        reactor.spawnProcess(
            successor,
            program.command[0],
            program.command,
            env={**program.environment(), VARIABLE: messages.encode(told).decode()},
            path=program.folder,
            childFDs=descriptors,
        )
        reactor.adoptStreamConnection(ours.fileno(), socket.AF_UNIX, OneLink(successor.link))
    finally:
        ours.close()
        theirs.close()
    return successor
