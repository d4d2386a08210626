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
takes nothing, and the busiest one 22 kB.  Winners among the servers in service are
remembered too, for the keys whose own server is not in service or was tried in vain.

When a weight changes, what is remembered of a slot is compared with the servers whose
weight has grown since, when the slot is next asked for; it is worked out anew only if its
winner's weight has shrunk.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
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
        # Made on the first request: the servers that can be in service at all, and who of
        # them wins a slot.
        self._possible: Sequence[Peer] = ()
        self._winners: _Winners | None = None
        # The sequence last picked from, and who of it wins a slot, made when that is asked.
        self._servers: Sequence[Peer] = ()
        self._present: frozenset[Peer] = frozenset()
        self._winners_present: _Winners | None = None

    def key(self, request: IRequest) -> str:
        """What is hashed."""
        raise NotImplementedError

    def pick(self, servers: Sequence[Peer], request: IRequest) -> Peer:
        if len(servers) == 1:
            return servers[0]
        if servers is not self._servers:
            self._learn(servers)
        slot = self._slot(request)
        assert self._winners is not None
        peer = self._possible[self._winners.first(slot)]
        if peer in self._present:
            return peer
        # The winner among all is away; the best of those that are here is the next.
        return servers[self._among_present().first(slot)]

    def pick_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer:
        if servers is not self._servers:
            self._learn(servers)
        slot = self._slot(request)
        winners = self._among_present()
        peer = servers[winners.first(slot)]
        if peer in left_out:
            peer = servers[winners.second(slot)]
        if peer in left_out:
            gone = set(left_out)
            out = {number for number, peer in enumerate(servers) if peer in gone}
            peer = servers[winners.work_out(slot, out)]
        return peer

    def preview(self, servers: Sequence[Peer], request: IRequest) -> Peer | None:
        # What is remembered of slots is no state: a pick would work out the same.
        return self.pick(servers, request)

    def _slot(self, request: IRequest) -> int:
        # A hook's key may be any string: half a surrogate pair must not raise.
        crc = crc32(self.key(request).encode("utf-8", "surrogatepass"))
        return (crc * _GOLDEN & _MASK) >> 50

    def _learn(self, servers: Sequence[Peer]) -> None:
        """Another sequence of servers is in service than before, or with other weights."""
        if self._winners is None:
            self._possible = [
                peer for peer in self._all if peer.config.weight and peer.config.state == "up"
            ] or servers
            self._winners = _Winners(self._possible)
        else:
            self._winners.take_weights([peer.weight for peer in self._possible])
        self._servers = servers
        self._present = frozenset(servers)
        self._winners_present = None

    def _among_present(self) -> _Winners:
        if self._winners_present is None:
            all_are_here = list(self._servers) == list(self._possible)
            self._winners_present = self._winners if all_are_here else _Winners(self._servers)
        assert self._winners_present is not None
        return self._winners_present


class _Winners:
    """Some servers, and who of them has the highest scores in a slot, by number."""

    __slots__ = (
        "_epoch",
        "_grown",
        "_inverse_weights",
        "_known_at",
        "_rows",
        "_second_rows",
        "_seeds",
        "_shrunk",
        "_typecode",
        "_weights",
    )

    def __init__(self, peers: Sequence[Peer]) -> None:
        self._seeds = [_seed(peer.key) for peer in peers]
        count = len(peers)
        self._typecode = "B" if count < 2**8 else "H" if count < 2**16 else "L"
        #: The first and the second by row and slot, plus 1 (0: not yet worked out).
        self._rows: list[array[int] | None] = [None] * _ROWS
        self._second_rows: list[array[int] | None] | None = None
        #: How often weights have changed; for each slot, as of which change its winner is
        #: known, if there was one; and which servers' weights grew and shrank last when.
        self._epoch = 0
        self._known_at: array[int] | None = None
        self._grown: dict[int, int] = {}
        self._shrunk: dict[int, int] = {}
        self._set_weights([peer.weight for peer in peers])

    def _set_weights(self, weights: list[int]) -> None:
        self._weights = weights
        self._inverse_weights: list[float] | None = None
        # With equal weights the order of the scores is that of their u.
        if len(set(weights)) > 1:
            # Weight 0 is never in service; among others it would lose every slot.
            self._inverse_weights = [1.0 / (weight or 1e-9) for weight in weights]

    def take_weights(self, weights: list[int]) -> None:
        """The servers have these weights from now on."""
        before = self._weights
        if weights == before:
            return
        self._set_weights(weights)
        self._second_rows = None
        self._epoch += 1
        if self._known_at is None:
            self._known_at = array("I", [0]) * (_ROWS * _ROW)
        for number, (old, new) in enumerate(zip(before, weights, strict=True)):
            if new > old:
                self._grown[number] = self._epoch
            elif new < old:
                self._shrunk[number] = self._epoch

    def first(self, slot: int) -> int:
        """Who takes the slot."""
        row = self._rows[slot >> 8]
        number = row[slot & 255] if row is not None else 0
        if number and (self._known_at is None or self._known_at[slot] == self._epoch):
            return number - 1
        if row is None:
            row = self._rows[slot >> 8] = array(self._typecode, [0]) * _ROW
        winner = self._again(slot, number - 1) if number else self.work_out(slot, ())
        row[slot & 255] = winner + 1
        if self._known_at is not None:
            self._known_at[slot] = self._epoch
        return winner

    def _again(self, slot: int, winner: int) -> int:
        """Who takes a slot that ``winner`` took before weights changed."""
        assert self._known_at is not None
        known_at = self._known_at[slot]
        if self._shrunk.get(winner, 0) > known_at:
            return self.work_out(slot, ())
        rivals = [number for number, epoch in self._grown.items() if epoch > known_at]
        if not rivals:
            return winner
        rivals.append(winner)
        return self._best(slot, sorted(set(rivals)))

    def second(self, slot: int) -> int:
        """Who takes the slot if the first does not."""
        if self._second_rows is None:
            self._second_rows = [None] * _ROWS
        row = self._second_rows[slot >> 8]
        if row is None:
            row = self._second_rows[slot >> 8] = array(self._typecode, [0]) * _ROW
        number = row[slot & 255]
        if not number:
            number = row[slot & 255] = self.work_out(slot, (self.first(slot),)) + 1
        return number - 1

    def work_out(self, slot: int, without: Collection[int]) -> int:
        """Who takes the slot without some of the servers."""
        if not without:
            return self._best(slot, None)
        return self._best(slot, [n for n in range(len(self._seeds)) if n not in without])

    def _best(self, slot: int, numbers: list[int] | None) -> int:
        """The one with the highest score, the first one of those that are equal;
        ``None``: of all."""
        mixed = (slot + 1) * _GOLDEN & _MASK
        mixed = (mixed ^ mixed >> 33) * _MIX_1 & _MASK
        mixed = (mixed ^ mixed >> 33) * _MIX_2 & _MASK
        mixed ^= mixed >> 33
        seeds, inverse_weights = self._seeds, self._inverse_weights
        if numbers is not None:
            seeds = [seeds[number] for number in numbers]
            if inverse_weights is not None:
                inverse_weights = [inverse_weights[number] for number in numbers]
        drawn = [mixed * seed & _MASK for seed in seeds]
        if inverse_weights is None:
            best = drawn.index(max(drawn))
        else:
            scores = [
                log((number | 1) * _TO_UNIT) * inverse
                for number, inverse in zip(drawn, inverse_weights, strict=True)
            ]
            best = scores.index(max(scores))
        return best if numbers is None else numbers[best]


@lru_cache(maxsize=2**16)
def _seed(key: str) -> int:
    """A server's number: odd, so that multiplying by it loses nothing.  Kept, for a change
    of the configuration makes the balancer of thousands of servers anew."""
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big") | 1
