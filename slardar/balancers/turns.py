"""The turn of smooth weighted round robin among many servers, without looking at all of them.

The rule is that of :mod:`slardar.balancers.wrr`: with each pick, the place of every server
grows by its weight; the server with the highest place is picked, and its place falls by the
sum of the weights.  The places of servers of one weight grow alike, so their order changes
only when one of them is picked.  These servers stand in one heap, ordered by the place
without the growth, and a pick compares the heads of the heaps.  It costs
``O(weights + log servers)``, where ``weights`` is the number of different weights.  The
picks are exactly those of the rule.

A server whose weight a failure has lowered stands outside the heaps until its weight has
recovered.  Each pick looks at each of these servers.
"""

from __future__ import annotations

from collections.abc import Iterable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Final

from slardar.model.live import ServerLive, TurnKeeper

__all__ = ["Turns"]

#: An entry of a heap has a place and the number of a server in one integer,
#: ``-place << 20 | number``: the smallest entry is picked.  So a turn has 2**20 servers
#: at most.
_BITS: Final = 20
_NUMBER: Final = (1 << _BITS) - 1
#: Further from 0 than any place in the turn.
_FAR: Final = 1 << 60
#: A heap is cleaned when it has this many entries more than twice those that hold.
_WASTE: Final = 64


class _Group:
    """The servers of one weight: how many they are, and their heap."""

    def __init__(self, weight: int) -> None:
        self.weight = weight
        self.count = 0
        self.heap: list[int] = []


class Turns(TurnKeeper):
    """The places of some servers, its members.

    The number of a server is its index in ``turns`` and ``weights``.  ``turns`` has the
    lowered weights, and gets the places of servers that are members no more.  There are no
    members until :meth:`fill` or :meth:`add` is called.
    """

    def __init__(self, turns: list[ServerLive], weights: list[int]) -> None:
        self._turns = turns
        self._weights = weights
        self._groups: dict[int, _Group] = {}
        #: The entry of each member that stands in a heap.  Another entry of the same member
        #: in the heap is out of date.
        self._entries: dict[int, int] = {}
        #: The members outside the heaps, whose places are in ``turns``.
        self._lowered: dict[int, None] = {}
        #: The sum of the weights of the members in heaps.
        self._total = 0
        self._picks = 0

    def __len__(self) -> int:
        return len(self._entries) + len(self._lowered)

    def fill(self, numbers: Iterable[int]) -> None:
        """Add many members at once, which is quicker than one by one."""
        for number in numbers:
            turn = self._turns[number]
            if turn.effective_weight is not None:
                self._lowered[number] = None
                continue
            group = self._group(self._weights[number])
            group.count += 1
            self._total += group.weight
            entry = (group.weight * self._picks - turn.place) << _BITS | number
            self._entries[number] = entry
            group.heap.append(entry)
        for group in self._groups.values():
            heapify(group.heap)

    def add(self, number: int) -> None:
        """Make a server a member, at its place in ``turns``."""
        turn = self._turns[number]
        if turn.effective_weight is not None:
            self._lowered[number] = None
            return
        group = self._group(self._weights[number])
        group.count += 1
        self._total += group.weight
        entry = (group.weight * self._picks - turn.place) << _BITS | number
        self._entries[number] = entry
        heap = group.heap
        heappush(heap, entry)
        if len(heap) > 2 * group.count + _WASTE:
            self._tidy(group)

    def remove(self, number: int) -> None:
        """A server is a member no more; its place is written into ``turns``."""
        if number in self._lowered:
            del self._lowered[number]
            return
        entry = self._entries.pop(number)
        group = self._groups[self._weights[number]]
        self._turns[number].place = group.weight * self._picks - (entry >> _BITS)
        self._total -= group.weight
        group.count -= 1
        if not group.count:
            del self._groups[group.weight]

    def lower(self, number: int) -> None:
        """The effective weight of a member has been lowered, in ``turns``."""
        if number in self._entries:
            self.remove(number)
            self._lowered[number] = None

    def settle(self) -> None:
        """Write all places into ``turns``; then there are no members any more."""
        picks = self._picks
        for number, entry in self._entries.items():
            turn = self._turns[number]
            turn.place = self._weights[number] * picks - (entry >> _BITS)
            turn.keeper = None
        for number in self._lowered:
            self._turns[number].keeper = None
        self._groups = {}
        self._entries = {}
        self._lowered = {}
        self._total = 0

    def only(self) -> int:
        """The number of the only member."""
        for number in self._lowered or self._entries:
            return number
        raise IndexError("no member")

    def pick(self) -> int:
        """The number of the member whose turn it is; there must be a member."""
        self._picks = picks = self._picks + 1
        entries = self._entries
        best = -1
        highest = -_FAR
        chosen: _Group | None = None
        for group in self._groups.values():
            heap = group.heap
            entry = heap[0]
            number = entry & _NUMBER
            while entries.get(number) != entry:
                heappop(heap)
                entry = heap[0]
                number = entry & _NUMBER
            place = group.weight * picks - (entry >> _BITS)
            if place > highest or (place == highest and number < best):
                highest = place
                best = number
                chosen = group
        if self._lowered:
            return self._pick_lowered(best, highest, chosen)
        if chosen is not None:
            self._fall(chosen, best, highest - self._total)
        return best

    def _pick_lowered(self, best: int, highest: int, chosen: _Group | None) -> int:
        """The second half of a pick, if some weights are lowered."""
        total = self._total
        recovered = []
        for number in self._lowered:
            turn = self._turns[number]
            weight = self._weights[number]
            lowered = turn.effective_weight
            if lowered is not None and lowered < weight:
                turn.effective_weight = lowered + 1 + (weight >> 16)
                weight = lowered
            else:
                turn.effective_weight = None
                recovered.append(number)
            total += weight
            turn.place = place = turn.place + weight
            if place > highest or (place == highest and number < best):
                highest = place
                best = number
                chosen = None
        if chosen is None:
            self._turns[best].place = highest - total
        else:
            self._fall(chosen, best, highest - total)
        for number in recovered:
            del self._lowered[number]
            self.add(number)
        return best

    def _fall(self, group: _Group, number: int, place: int) -> None:
        """The head of a group has been picked, and has this place now."""
        entry = (group.weight * self._picks - place) << _BITS | number
        self._entries[number] = entry
        heapreplace(group.heap, entry)

    def _group(self, weight: int) -> _Group:
        group = self._groups.get(weight)
        if group is None:
            group = self._groups[weight] = _Group(weight)
        return group

    def _tidy(self, group: _Group) -> None:
        """Drop the entries of a heap that are out of date."""
        entries = self._entries
        group.heap = [e for e in set(group.heap) if entries.get(e & _NUMBER) == e]
        heapify(group.heap)
