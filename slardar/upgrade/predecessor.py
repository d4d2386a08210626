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
from slardar.upgrade import messages
from slardar.upgrade.successor import VARIABLE
from slardar.workers.commands import Link, OneLink

__all__ = ["Predecessor", "find_predecessor"]

#: Seconds in which the predecessor hears why this process cannot start.
_ANSWER = 2.0

_log = Logger("slardar.upgrade")


class Predecessor:
    """The old process.  ``gave_up(reason)`` is called if it goes on by itself."""

    def __init__(self, handed: messages.Handed) -> None:
        self.pid = handed.pid
        self._handed = handed
        self._taken: list[int] = []
        self._gave_up: Callable[[str], None] = lambda _reason: None
        self._has_given_up = False
        self._link = Link(self._received, self._lost)
        self._state: defer.Deferred[messages.State | None] = defer.Deferred()
        #: Fires when it has gone.
        self.gone: defer.Deferred[None] = defer.Deferred()
        #: See :meth:`failed`.
        self.told: defer.Deferred[None] = defer.Deferred()
        self._generations: tuple[messages.Generation, ...] = ()
        self._is_waiting = False
        self._reactor: Any = None

    def connect(self, reactor: Any, gave_up: Callable[[str], None]) -> None:
        """Speak to it from now on.  To be called in the process that will serve."""
        self._reactor, self._gave_up = reactor, gave_up
        fd = self._handed.link
        os.set_blocking(fd, False)
        reactor.adoptStreamConnection(fd, socket.AF_UNIX, OneLink(self._link))
        os.close(fd)
        self._tell(messages.Hello(os.getpid()))

    def take(self, purpose: str, endpoint: str, listener: str = "") -> list[socket.socket]:
        """The sockets that were handed over for an endpoint; none if there are none left.

        An endpoint may have been handed over several times, for one listener each: those of
        the listener whose id is ``listener`` come first then.
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
        """Let go of the sockets that nobody has taken; the predecessor has them still."""
        for index, entry in enumerate(self._handed.sockets):
            if index not in self._taken:
                for fd in entry.descriptors:
                    os.close(fd)

    async def give_store(self) -> messages.State | None:
        """Ask for the store; what comes with it, or ``None`` if the predecessor has died:
        the store is free then, too.

        If it gives up instead, this never returns: ``gave_up`` is called.
        """
        if self._link.is_lost:
            return None
        self._is_waiting = True
        self._tell(messages.WantsStore())
        return await self._state

    async def take_over(self) -> None:
        """Tell it that this process serves; returns when it has begun to drain, or has
        died.

        If it gives up instead, this never returns: ``gave_up`` is called.
        """
        serving = messages.encode(messages.Serving(tuple(self._taken)))
        try:
            answer = await self._link.send(serving)
        except Exception:  # whatever it is, the link is lost
            answer = b""
        if self._has_given_up or answer == messages.REFUSED:
            await defer.Deferred()

    def failed(self, reason: str) -> None:
        """Tell it that this process cannot start; ``told`` fires when it knows, has gone,
        or has not answered for a while."""
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
        """Tell it, and those before it, to drain no longer than ``seconds`` from now."""
        self._tell(messages.End(seconds))

    def generations(self) -> list[dict[str, Any]]:
        """Those before this process, newest first, as status shows them."""
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
        else:
            self._has_given_up = True
            self._gave_up(message.reason)
        return b""

    def stop_waiting(self) -> None:
        """Let ``gone`` fire now, whether it has gone or not."""
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
    """The process that started this one to take over, if one did.

    To be called once, early: from then on standard error is what it was there, and
    processes that are started here know nothing of it.  Raises ConfigError for a
    variable that nobody but a predecessor may set.
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
