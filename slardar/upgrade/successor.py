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

#: The environment variable that tells a successor what it was handed.
VARIABLE = "SLARDAR_UPGRADE"

#: The successor's descriptors: of the link, of what becomes its standard error, and of the
#: first socket.
_LINK = 3
_STDERR = 4
_FIRST_SOCKET = 5
#: Bytes that are kept of what a successor prints before it can log: the last ones.
_MAX_SAID = 16384
#: Seconds after the end of the link within which the rest of its output arrives.
_LAST_BYTES = 1.0
#: Seconds that a successor that was given up has to end by itself.
_PATIENCE = 5.0

_log = Logger("slardar.upgrade")


class UpgradeError(SlardarError):
    """Why the successor could not take over."""


class Successor(ProcessProtocol):
    """The new process.  ``asked_to_end(seconds)`` is called when it sends
    :class:`slardar.upgrade.messages.End`."""

    def __init__(self, reactor: Any, asked_to_end: Callable[[float], None]) -> None:
        self._reactor = reactor
        self._asked_to_end = asked_to_end
        self.link = Link(self._received, self._link_lost)
        #: The process that serves or will serve; ``None`` before it has said so.  Where twistd
        #: makes a daemon of itself, this is not the process that was started.
        self.pid: int | None = None
        #: Fires when the successor has ended.
        self.gone: defer.Deferred[None] = defer.Deferred()
        #: The messages that have come, by their kinds.
        self._happened: dict[type, Any] = {}
        #: The kind of message that :meth:`wait` waits for.
        self._awaited: tuple[type, defer.Deferred[Any]] | None = None
        self._failure: UpgradeError | None = None
        #: What it has printed.
        self._said = b""
        #: How the process that was started has ended; ``None`` before.
        self._end: str | None = None
        self._lingers: Any = None

    # For the handover.

    async def wait(self, kind: type, within: float) -> Any:
        """The successor's message of this kind, which may have come already.

        Raises UpgradeError if the successor fails, or if no such message comes within
        ``within`` seconds.
        """
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

    def tell(self, message: Any) -> defer.Deferred[Any]:
        """Send a message; without effect if the successor has ended.  Fires when it was read,
        or never will be."""
        return self.link.send(messages.encode(message)).addErrback(lambda _failure: None)

    def fail(self, reason: str) -> None:
        """Let :meth:`wait` raise an UpgradeError with this reason, now or later."""
        if self._failure is None:
            self._failure = UpgradeError(reason)
            if self._awaited is not None:
                self._awaited[1].errback(self._failure)

    def give_up(self, reason: str) -> defer.Deferred[None]:
        """Tell the successor to end, and end it by force if it does not; fires when it has
        ended."""
        self.fail(reason)
        if not self.gone.called:
            self.tell(messages.GiveUp(reason))
            # Before its first message a successor has nothing to finish.
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

    # What the successor sends.

    def _received(self, data: bytes) -> bytes:
        try:
            message = messages.decode_from_successor(data)
        except ValueError as error:
            self.fail(f"it sent what is no message: {error}")
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
            # The process may be about to end, and to print why.
            self._lingers = self._reactor.callLater(_LAST_BYTES, self._has_gone)

    def _has_gone(self) -> None:
        if self._lingers is not None and self._lingers.active():
            self._lingers.cancel()
        if not self.gone.called:
            self.fail(self._last_words() or self._end or "it closed the link")
            self.gone.callback(None)

    def _last_words(self) -> str:
        """The lines of its output that say why it ended: slardar's own, or else the last."""
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

    ``asked_to_end`` is the successor's.  Raises OSError if the program cannot be started.
    """
    # Looked at here, because only the child would notice a folder that is gone.
    os.stat(program.folder)
    successor = Successor(reactor, asked_to_end)
    ours, theirs = socket.socketpair()
    try:
        ours.setblocking(False)
        # Its standard error leads here until it can log: until then it prints there what is
        # wrong with its configuration.
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
