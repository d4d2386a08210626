"""The system's resolver (getaddrinfo), asked in threads of its own.

A call of it cannot be stopped, and takes minutes where the name servers of the machine are
away.  The reactor's threads are no place for that: other work would wait for them, and a
reactor that ends waits for everything that was handed to them.
"""

from __future__ import annotations

import socket
import threading
from functools import partial
from typing import Any, Final

from twisted.internet import defer

from slardar.resolvconf import Addresses

__all__ = ["MOST", "SystemResolver"]

#: Calls at a time; the reactor has as many threads for everything.
MOST: Final = 10


class SystemResolver:
    """Asks the system's resolver for names, :data:`MOST` at a time; the others wait.

    ``reactor`` has ``callFromThread``.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._running = 0
        #: The names that wait for a thread, in order.
        self._waiting: dict[defer.Deferred[Addresses], str] = {}

    def ask(self, name: str) -> defer.Deferred[Addresses]:
        """The addresses of a name; none if it has none.

        It may be cancelled.  A call that has begun goes on then, and nobody gets its result.
        """
        asked: defer.Deferred[Addresses] = defer.Deferred(self._cancelled)
        self._waiting[asked] = name
        self._begin()
        return asked

    def _cancelled(self, asked: defer.Deferred[Addresses]) -> None:
        self._waiting.pop(asked, None)

    def _begin(self) -> None:
        while self._waiting and self._running < MOST:
            asked = next(iter(self._waiting))
            name = self._waiting.pop(asked)
            # The end of the process does not wait for a daemon.
            thread = threading.Thread(target=self._call, args=(asked, name), daemon=True)
            try:
                thread.start()
            except RuntimeError:
                # The machine has no thread left; the name is asked for again later.
                asked.callback([])
            else:
                self._running += 1

    def _call(self, asked: defer.Deferred[Addresses], name: str) -> None:
        """Ask for one name, in a thread."""
        addresses: Addresses = []
        try:
            for family, _, _, _, place in socket.getaddrinfo(name, 0, 0, socket.SOCK_STREAM):
                if family in (socket.AF_INET, socket.AF_INET6):
                    addresses.append((family, str(place[0])))
        except (OSError, UnicodeError):
            # There is no such name, or it is none at all.
            pass
        try:
            self._reactor.callFromThread(partial(self._ended, asked, addresses))
        except OSError:
            # The reactor has ended meanwhile: nobody wants to know.
            pass

    def _ended(self, asked: defer.Deferred[Addresses], addresses: Addresses) -> None:
        self._running -= 1
        if not asked.called:
            asked.callback(addresses)
        self._begin()
