"""The process that this one is to take over from, as this one sees it."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from typing import Any

from msgspec import structs
from twisted.internet import defer
from twisted.logger import Logger

from slardar.errors import ConfigError
from slardar.observers.counted import Counted
from slardar.upgrade import messages
from slardar.upgrade.successor import VARIABLE
from slardar.workers.commands import Link, OneLink

__all__ = ["Predecessor", "find_predecessor"]

#: Seconds in which the predecessor hears why this process cannot start.
_ANSWER = 2.0

_log = Logger("slardar.upgrade")


class Predecessor:
    """The old process, which has started this one."""

    def __init__(self, handed: messages.Handed) -> None:
        self.pid = handed.pid
        self._handed = handed
        self._taken: list[int] = []
        self._gave_up: Callable[[str], None] = lambda _reason: None
        self._has_given_up = False
        self._link = Link(self._received, self._lost)
        self._state: defer.Deferred[messages.State | None] = defer.Deferred()
        #: Fires when the predecessor has ended.
        self.gone: defer.Deferred[None] = defer.Deferred()
        #: See :meth:`failed`.
        self.told: defer.Deferred[None] = defer.Deferred()
        self._generations: tuple[messages.Generation, ...] = ()
        #: Is told what the predecessor counts while it drains.
        self.counted: Callable[[Counted], None] = lambda _counted: None
        self._is_waiting = False
        self._reactor: Any = None

    def connect(self, reactor: Any, gave_up: Callable[[str], None]) -> None:
        """Open the link to the predecessor.  To be called in the process that will serve.

        ``gave_up(reason)`` is called if the predecessor decides to go on serving.
        """
        self._reactor, self._gave_up = reactor, gave_up
        fd = self._handed.link
        os.set_blocking(fd, False)
        reactor.adoptStreamConnection(fd, socket.AF_UNIX, OneLink(self._link))
        os.close(fd)
        self._tell(messages.Hello(os.getpid()))

    def take(self, purpose: str, endpoint: str, listener: str = "") -> list[socket.socket]:
        """The sockets that were handed over for an endpoint; none if there are none left.

        ``purpose`` is ``listen`` or ``control``.  Where several listeners have the same
        endpoint, the sockets of the one whose id is ``listener`` are preferred.
        """
        handed = self._handed.sockets
        fitting = [
            index
            for index, entry in enumerate(handed)
            if index not in self._taken and (entry.purpose, entry.endpoint) == (purpose, endpoint)
        ]
        if not fitting:
            return []
        index = min(fitting, key=lambda index: handed[index].listener != listener)
        self._taken.append(index)
        return [socket.socket(fileno=fd) for fd in handed[index].descriptors]

    def close_rest(self) -> None:
        """Close the sockets that nobody has taken; the predecessor still has them."""
        for index, entry in enumerate(self._handed.sockets):
            if index not in self._taken:
                for fd in entry.descriptors:
                    os.close(fd)

    async def give_store(self) -> messages.State | None:
        """Ask for the store.  Returns what comes with it, or ``None`` if the predecessor has
        died, which has freed the store, too.

        Never returns if the predecessor gives up: ``gave_up`` is called instead.
        """
        if self._link.is_lost:
            return None
        self._is_waiting = True
        self._tell(messages.WantsStore())
        return await self._state

    async def take_over(self) -> None:
        """Tell the predecessor that this process serves.  Returns when the predecessor has
        begun to drain, or has died.

        Never returns if the predecessor has given up: ``gave_up`` is called instead.
        """
        serving = messages.encode(messages.Serving(tuple(self._taken)))
        try:
            answer = await self._link.send(serving)
        except Exception:  # any error means that the link is lost
            answer = b""
        if self._has_given_up or answer == messages.REFUSED:
            await defer.Deferred()

    def failed(self, reason: str) -> None:
        """Tell the predecessor that this process cannot start.

        ``told`` fires when the predecessor has answered or ended, or after
        :data:`_ANSWER` seconds.
        """
        if self._reactor is None or self._link.is_lost:
            self.told.callback(None)
            return
        late = self._reactor.callLater(_ANSWER, self.told.callback, None)

        def answered(_: Any) -> None:
            if late.active():
                late.cancel()
                self.told.callback(None)

        self._link.send(messages.encode(messages.Failed(reason))).addBoth(answered)

    def end(self, seconds: float) -> None:
        """Tell the predecessor and the processes before it to end within ``seconds``."""
        self._tell(messages.End(seconds))

    def generations(self) -> list[dict[str, Any]]:
        """The processes before this one, newest first, as status shows them."""
        return [structs.asdict(one) for one in self._generations]

    def _tell(self, message: Any) -> None:
        self._link.send(messages.encode(message)).addErrback(lambda _failure: None)

    def _received(self, data: bytes) -> bytes:
        message = messages.decode_from_predecessor(data)
        if isinstance(message, messages.State):
            if not self._state.called:
                self._state.callback(message)
        elif isinstance(message, messages.Generations):
            self._generations = message.generations
            if message.counted is not None:
                self.counted(message.counted)
        else:
            self._has_given_up = True
            self._gave_up(message.reason)
        return b""

    def stop_waiting(self) -> None:
        """Let ``gone`` fire now, whether the predecessor has ended or not."""
        if not self.gone.called:
            self.gone.callback(None)

    def _lost(self) -> None:
        self._generations = ()
        self.stop_waiting()
        if self._is_waiting and not self._state.called and not self._has_given_up:
            _log.warn(
                "the process to take over from (pid {pid}) has ended: starting alone", pid=self.pid
            )
            self._state.callback(None)


def find_predecessor() -> Predecessor | None:
    """The process that has started this one to take over; ``None`` if there is none.

    To be called once, early.  Standard error becomes the predecessor's, and the environment
    variable is removed, so that processes that are started here do not see it.  Raises
    ConfigError if the variable was not set by a predecessor.
    """
    text = os.environ.pop(VARIABLE, None)
    if text is None:
        return None
    try:
        handed = messages.decode_handed(text)
        descriptors = [fd for entry in handed.sockets for fd in entry.descriptors]
        for fd in (handed.link, *descriptors):
            os.set_inheritable(fd, False)
            with socket.socket(fileno=os.dup(fd)):
                pass
        sys.stderr.flush()
        os.dup2(handed.stderr, 2)
        os.close(handed.stderr)
    except (ValueError, OSError) as error:
        raise ConfigError(f"{VARIABLE}: set by an upgrade only ({error})") from None
    return Predecessor(handed)
