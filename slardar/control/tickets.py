"""What keys of session tickets follow from: made, changed from time to time, handed on."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred

from slardar.model.tls import TicketKeys

__all__ = ["PERIOD", "TicketRotation"]

#: Seconds after which there are new keys, as in Caddy.  The former ones open tickets for as
#: long again, so a ticket is good for its whole life: OpenSSL gives tickets two hours.
PERIOD: Final = 12 * 3600.0
_SIZE: Final = 32


class TicketRotation:
    """Makes the bytes that all workers share, and new ones when it is time.

    ``take(keys)`` gives them to whoever serves; it never fails.
    """

    def __init__(self, reactor: Any, take: Callable[[TicketKeys], Deferred[None]]) -> None:
        self._reactor = reactor
        self._take = take
        self.keys = TicketKeys(os.urandom(_SIZE), os.urandom(_SIZE))
        self._made_at: float = reactor.seconds()
        self._call: Any = None

    @property
    def age(self) -> float:
        """Seconds since the newest keys were made."""
        age: float = self._reactor.seconds() - self._made_at
        return age

    def learn(self, keys: TicketKeys, age: float) -> None:
        """Go on with the keys of another process.  To be called before :meth:`start`."""
        self.keys = keys
        self._made_at = self._reactor.seconds() - age

    def start(self) -> Deferred[None]:
        """Give the keys, and change them from now on; fires when they are taken."""
        self._plan()
        return self._take(self.keys)

    def stop(self) -> None:
        """Change them no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _plan(self) -> None:
        self._call = self._reactor.callLater(max(0.0, PERIOD - self.age), self._rotate)

    def _rotate(self) -> None:
        self.keys = TicketKeys(os.urandom(_SIZE), self.keys.current)
        self._made_at = self._reactor.seconds()
        self._plan()
        self._take(self.keys)
