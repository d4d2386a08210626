"""Slows down who guesses tokens: after some wrong tokens an address has to wait.

Whoever may call from an address with such a guesser waits, too.  Otherwise the guesser would still
learn which token is right.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["MAX_WRONG", "WAIT", "Guesses"]

#: After so many wrong tokens within :data:`WAIT` seconds, an address has to wait for as many
#: seconds.
MAX_WRONG = 10
WAIT = 60.0
#: Addresses that are remembered.  For a new one, the address is forgotten whose last wrong token is
#: the oldest.
_MAX_ADDRESSES = 10_000


class Guesses:
    """Counts wrong tokens by address; ``seconds`` gives the time.  Nothing here blocks.

    An IPv6 address counts as its network of 64 bits: one machine has all addresses of it.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        self._seconds = seconds
        #: By address, how many there were, and when the first of them was.
        self._wrong: OrderedDict[str, tuple[int, float]] = OrderedDict()

    def wait(self, address: str) -> float:
        """Seconds for which this address has to wait; 0 if it may call."""
        count, since = self._wrong.get(_network(address), (0, 0.0))
        return max(0.0, since + WAIT - self._seconds()) if count >= MAX_WRONG else 0.0

    def note(self, address: str) -> None:
        """A wrong token came from this address."""
        key, now = _network(address), self._seconds()
        count, since = self._wrong.pop(key, (0, now))
        if now >= since + WAIT:
            count, since = 0, now
        count += 1
        # The wait begins with the last of them.
        self._wrong[key] = count, now if count == MAX_WRONG else since
        if len(self._wrong) > _MAX_ADDRESSES:
            self._wrong.popitem(last=False)


def _network(address: str) -> str:
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(found, ipaddress.IPv4Address):
        return str(found)
    if found.ipv4_mapped is not None:
        return str(found.ipv4_mapped)
    return str(ipaddress.IPv6Network((int(found) >> 64 << 64, 64)))
