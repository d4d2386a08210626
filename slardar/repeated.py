"""Looks names up again and again: one lookup of a name at a time, and when the next one is.

What is looked up does not matter here: addresses of servers (:mod:`slardar.resolve`), or the
servers of a service.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet import defer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

__all__ = ["AGAIN", "AGAIN_MOST", "FILES", "LONGEST", "SHORTEST", "Lookups", "Schedule"]

#: Seconds between two lookups of a name, whatever a name server says: one that says 0 is
#: not asked all the time, and a server that has moved is found within a minute.
SHORTEST = 1.0
LONGEST = 60.0
#: Seconds until a lookup that has failed is made again: this, then twice as long each time.
AGAIN = 1.0
AGAIN_MOST = 10.0
#: Seconds between two looks at the files of this machine.
FILES = 5.0

T = TypeVar("T")

_log = Logger("slardar.resolve")


class Schedule:
    """When a name is looked up again, and since when its lookups have found nothing."""

    __slots__ = ("_pause", "failed_at", "reason")

    def __init__(self) -> None:
        #: Since when lookups find nothing (epoch seconds; 0: the last one has found something),
        #: and why.
        self.failed_at = 0.0
        self.reason = ""
        #: Seconds until the next lookup, if one more finds nothing.
        self._pause = AGAIN

    def good(self, ttl: float, drawn: float) -> float:
        """A lookup has found what may be used for ``ttl`` seconds.  Returns the seconds until
        the next one.

        It is somewhat earlier, as ``drawn``, a number from 0 to 1, says: names that were found
        together are not always looked up together.
        """
        self.failed_at, self.reason, self._pause = 0.0, "", AGAIN
        return max(min(ttl, LONGEST) * (1.0 - 0.1 * drawn), SHORTEST)

    def bad(self, reason: str) -> float:
        """A lookup has found nothing.  Returns the seconds until the next one."""
        self.failed_at = self.failed_at or time.time()
        self.reason = reason
        delay, self._pause = self._pause, min(2 * self._pause, AGAIN_MOST)
        return max(delay, SHORTEST)


class _Turn(Generic[T]):
    """A name that is looked up: the lookup under way, and the call that will begin the next
    one."""

    __slots__ = ("lookup", "next")

    def __init__(self) -> None:
        self.lookup: defer.Deferred[T] | None = None
        self.next: Any = None


class Lookups(Generic[T]):
    """Looks names up until they are ended.

    ``look_up(name)`` makes one lookup.  ``take(name, found)`` gets what it has found, and
    returns the seconds until the next one.  ``lost(reason)`` makes what was found of a lookup
    that was given up or has raised.  All names are looked up at once when ``has_changed()``
    says that answers may be others now.
    """

    def __init__(
        self,
        reactor: Any,
        look_up: Callable[[str], defer.Deferred[T]],
        take: Callable[[str, T], float],
        lost: Callable[[str], T],
        has_changed: Callable[[], bool],
    ) -> None:
        self._reactor = reactor
        self._look_up = look_up
        self._take = take
        self._lost = lost
        self._has_changed = has_changed
        self._turns: dict[str, _Turn[T]] = {}
        self._files = LoopingCall(self._look_at_files)
        self._files.clock = reactor

    def begin(self, name: str) -> None:
        """Look a name up now, unless a lookup of it is under way, and again and again."""
        if not self._files.running:
            self._files.start(FILES)
        turn = self._turns.setdefault(name, _Turn())
        if turn.lookup is None:
            self._ask(name, turn)

    def end(self, name: str) -> None:
        """Look a name up no more."""
        turn = self._turns.pop(name, None)
        if turn is not None:
            _end(turn)
        if not self._turns and self._files.running:
            self._files.stop()

    def stop(self) -> None:
        """Look nothing up any more."""
        for name in list(self._turns):
            self.end(name)

    def _look_at_files(self) -> None:
        if self._has_changed():
            for name, turn in list(self._turns.items()):
                # A lookup under way may have asked a name server that is no longer meant.
                _end(turn)
                if self._turns.get(name) is turn:
                    self._ask(name, turn)

    def _ask(self, name: str, turn: _Turn[T]) -> None:
        if turn.next is not None and turn.next.active():
            turn.next.cancel()
        try:
            lookup = self._look_up(name)
        except Exception:
            lookup = defer.fail()
        turn.lookup = lookup
        lookup.addErrback(self._failed, name)
        lookup.addCallback(self._looked_up, name, turn, lookup)

    def _failed(self, failure: Any, name: str) -> T:
        """What was found of a lookup that was given up; any other failure is a bug."""
        if failure.check(defer.CancelledError):
            # Of two names that ask the same question, one may be ended with the other.
            return self._lost("the lookup was given up")
        # The other names must be looked up all the same.
        _log.failure("looking up server name {name} failed", failure=failure, name=name)
        return self._lost(f"{failure.type.__name__}: {failure.value}")

    def _looked_up(self, found: T, name: str, turn: _Turn[T], lookup: defer.Deferred[T]) -> None:
        # Else it was ended here, and perhaps nobody follows the name any more.
        if turn.lookup is not lookup:
            return
        turn.lookup = None
        delay = self._take(name, found)
        # Whoever took it may have ended the name, or begun it anew.
        if self._turns.get(name) is turn and turn.lookup is None:
            turn.next = self._reactor.callLater(delay, self._ask, name, turn)


def _end(turn: _Turn[Any]) -> None:
    lookup, turn.lookup = turn.lookup, None
    if lookup is not None:
        lookup.cancel()
    if turn.next is not None and turn.next.active():
        turn.next.cancel()
