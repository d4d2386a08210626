"""The one consistent hash behind every hash balancer: weighted rendezvous over slots.

A key falls into one of 16,384 slots; in each slot every server has a score, and the
highest one takes it::

    slot  = crc32(key) * golden ratio, 14 bits of it
    u     = (mix(slot) * seed) mod 2**64 / 2**64, with seed = blake2b("host:port")
    score = ln(u) / weight

It follows that (each of them exactly, slot by slot):

- it is the same on every node, in every process and after every restart, in whatever
  order servers are listed: nothing but keys, ``host:port`` and weights goes in;
- a server that leaves gives up its own keys and no others move, one that comes takes
  its part from all others, one whose weight grows only gains;
- a key's second choice is always the same, and the key returns with its server;
- shares follow weights.  Slots make those of n servers uneven by ``sqrt(n / 16384)``
  (standard deviation): 2.5 % with 10 servers, 8 % with 100.  A ring with the usual
  160 points a server has 8 % with any number, and weights only by the point.

Cost: the winner of a slot is worked out when the slot is first asked for (2 us and
0.1 us a server, 0.3 if weights differ) and remembered, one byte a slot, 256 at a time.
So a pick takes about 1 us with any number of servers, an upstream that got no request
takes nothing, and the busiest one 22 kB.  Keys whose winner is out of service are
worked out each time, which is rare as often as it is dear.
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping, Sequence
from hashlib import blake2b
from math import log
from typing import Any
from zlib import crc32

from slardar.balancers.base import Balancer
from slardar.interfaces import IRequest
from slardar.model.live import Peer

__all__ = ["ConsistentHash"]

# 2**14 slots, in rows of 2**8.
_ROWS = 64
_ROW = 256
_MASK = 2**64 - 1
_TO_UNIT = 2.0**-64
# Odd multipliers whose product spreads each bit of a factor over the high half:
# Knuth's 2**64 over the golden ratio, and the two of MurmurHash3's fmix64.
_GOLDEN = 0x9E3779B97F4A7C15
_MIX_1 = 0xFF51AFD7ED558CCD
_MIX_2 = 0xC4CEB9FE1A85EC53


class ConsistentHash(Balancer):
    """Sends the same key to the same server; a subclass says what the key is."""

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        super().__init__(servers, options)
        self._all = servers
        # Made on the first request: the servers that can be in service at all, their
        # contest, and its winners by row and slot, plus 1 (0: not yet asked for).
        self._possible: Sequence[Peer] = ()
        self._contest: _Contest | None = None
        self._rows: list[array[int] | None] = []
        self._typecode = "B"
        # The sequence last picked from.
        self._servers: Sequence[Peer] = ()
        self._present: frozenset[Peer] = frozenset()
        self._contest_present: _Contest | None = None

    def key(self, request: IRequest) -> str:
        """What is hashed."""
        raise NotImplementedError

    def pick(self, servers: Sequence[Peer], request: IRequest) -> Peer:
        if len(servers) == 1:
            return servers[0]
        if servers is not self._servers:
            self._learn(servers)
        # A hook's key may be any string: half a surrogate pair must not raise.
        crc = crc32(self.key(request).encode("utf-8", "surrogatepass"))
        slot = (crc * _GOLDEN & _MASK) >> 50
        row = self._rows[slot >> 8]
        number = row[slot & 255] if row is not None else 0
        peer = self._possible[number - 1] if number else self._ask(slot)
        if peer in self._present:
            return peer
        # The winner among all is away; the best of those that are here is the next.
        if self._contest_present is None:
            self._contest_present = _Contest(servers)
        return servers[self._contest_present.winner(slot)]

    def _learn(self, servers: Sequence[Peer]) -> None:
        """Another sequence of servers is in service than before."""
        if self._contest is None:
            self._possible = [
                peer for peer in self._all if peer.weight and peer.config.state == "up"
            ] or servers
            self._contest = _Contest(self._possible)
            count = len(self._possible)
            self._typecode = "B" if count < 2**8 else "H" if count < 2**16 else "L"
            self._rows = [None] * _ROWS
        self._servers = servers
        self._present = frozenset(servers)
        self._contest_present = None

    def _ask(self, slot: int) -> Peer:
        """The winner of a slot among all; remembers it."""
        contest = self._contest
        assert contest is not None
        row = self._rows[slot >> 8]
        if row is None:
            row = self._rows[slot >> 8] = array(self._typecode, [0]) * _ROW
        winner = contest.winner(slot)
        row[slot & 255] = winner + 1
        return self._possible[winner]


class _Contest:
    """Some servers, and who of them has the highest score in a slot."""

    __slots__ = ("_inverse_weights", "_seeds")

    def __init__(self, peers: Sequence[Peer]) -> None:
        self._seeds = [_seed(peer.key) for peer in peers]
        self._inverse_weights: list[float] | None = None
        # With equal weights the order of the scores is that of their u.
        if len({peer.weight for peer in peers}) > 1:
            # Weight 0 is never in service; among others it would lose every slot.
            self._inverse_weights = [1.0 / (peer.weight or 1e-9) for peer in peers]

    def winner(self, slot: int) -> int:
        """The index of the server that takes the slot."""
        mixed = (slot + 1) * _GOLDEN & _MASK
        mixed = (mixed ^ mixed >> 33) * _MIX_1 & _MASK
        mixed = (mixed ^ mixed >> 33) * _MIX_2 & _MASK
        mixed ^= mixed >> 33
        numbers = [mixed * seed & _MASK for seed in self._seeds]
        if self._inverse_weights is None:
            return numbers.index(max(numbers))
        scores = [
            log((number | 1) * _TO_UNIT) * inverse
            for number, inverse in zip(numbers, self._inverse_weights, strict=True)
        ]
        return scores.index(max(scores))


def _seed(key: str) -> int:
    """A server's number: odd, so that multiplying by it loses nothing."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") | 1
