"""Maglev's table: which server has which place.

(Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
section 3.4.)  Each server has all places in an order of its own, which follows from its
``host:port``.  The servers take turns, each as often as its weight says.  In its turn a
server takes the first place of its order that is free.

So the table is the same wherever it is built.  The places of two servers of equal weight
differ by one at the most.

A table of 65,537 places takes about 800,000 steps, with any number of servers.  This is too
long for one request, so :meth:`Table.build` does a part of the work with each call.
"""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from heapq import heapify, heapreplace
from typing import Final

from slardar.balancers.rendezvous import seed_of

__all__ = ["Table"]

#: The steps of one part, and the servers whose orders are prepared in one part.
_STEPS: Final = 20_000
_SERVERS: Final = 1_000


class Table:
    """The table of some servers; a server goes by its index in ``names``.

    ``names`` are the servers as ``host:port``, sorted.  ``weights`` are above 0.  ``size`` is
    the number of places, a prime.
    """

    def __init__(self, names: Sequence[str], weights: Sequence[int], size: int) -> None:
        self.size: int = size
        #: The server of each place; ``None`` until the table is complete.
        self.places: array[int] | None = None
        self._names = names
        #: By server: the next place in its order, and the way from there to the one after.
        self._next: list[int] = []
        self._skips: list[int] = []
        #: The servers of the places so far (-1: none), how many are free, and whose turn it is.
        self._filled: list[int] = []
        self._free: int = size
        self._turn: int = 0
        #: With unequal weights, when each server's turn is next: the k-th at (k + 1/2) / weight.
        self._weights: Sequence[int] = weights
        self._is_equal: bool = len(set(weights)) < 2
        self._turns: list[int] = []
        self._times: list[tuple[float, int]] = []

    def build(self) -> None:
        """Do a part of the work, if there is any left."""
        if self.places is not None:
            return
        done = len(self._skips)
        if done < len(self._names):
            self._prepare(self._names[done : done + _SERVERS])
            return
        if not self._filled:
            self._filled = [-1] * self.size
            if not self._is_equal:
                heapify(self._times)
                self._turn = self._times[0][1]
        if self._fill():
            self.places = array("H" if len(self._names) < 2**16 else "L", self._filled)
            self._filled = []

    def _prepare(self, names: Sequence[str]) -> None:
        """Work out the orders of some servers."""
        size = self.size
        for name in names:
            seed = seed_of(name)
            self._next.append((seed >> 32) % size)
            number = len(self._skips)
            self._skips.append((seed & 0xFFFFFFFF) % (size - 1) + 1)
            if not self._is_equal:
                self._turns.append(0)
                self._times.append((0.5 / self._weights[number], number))

    def _fill(self) -> bool:
        """Give some places to servers; whether all are given now."""
        size = self.size
        filled = self._filled
        number = self._turn
        place = self._next[number]
        skip = self._skips[number]
        for _ in range(_STEPS):
            is_free = filled[place] < 0
            if is_free:
                filled[place] = number
                self._free -= 1
                if not self._free:
                    return True
            place += skip
            if place >= size:
                place -= size
            if is_free:
                self._next[number] = place
                number = self._after(number)
                place = self._next[number]
                skip = self._skips[number]
        self._turn = number
        self._next[number] = place
        return False

    def _after(self, number: int) -> int:
        """The server whose turn comes after this one's."""
        times = self._times
        if self._is_equal:
            number += 1
            return number if number < len(self._skips) else 0
        turns = self._turns[number] + 1
        self._turns[number] = turns
        heapreplace(times, ((turns + 0.5) / self._weights[number], number))
        return times[0][1]
