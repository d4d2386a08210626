"""The consistent hash behind the hash balancers: weighted rendezvous over slots.

A key falls into one of 65,536 slots.  In each slot every server has a score, and the
server with the highest score gets the keys of the slot::

    slot  = crc32(key) * golden ratio, 16 bits of it
    x     = mix(slot) xor seed, with seed = blake2b("host:port"), all of 30 bits
    u     = x * (x >> 11 | 1) mod 2**30 / 2**30
    score = ln(u) / weight

It follows (exactly, for each slot):

- The result is the same on every node, in every process and after every restart, in
  whatever order servers are listed: it depends on keys, ``host:port`` and weights only.
- A server that leaves gives up its own keys, and no other key moves.  A server that comes
  takes its part from all others.  A server whose weight grows only gains keys.
- The second choice of a key is always the same, and the key returns with its server.
- Shares follow weights.  The slots make the shares of n servers uneven by
  ``sqrt(n / 65536)`` (standard deviation): 1.2 % with 10 servers, 4 % with 100.  A ring
  with the usual 160 points a server has 8 % with any number of servers, and its weights
  are as coarse as its points.

Cost: the winner of a slot is computed when the slot is first asked for (2 us and 0.1 us
for each server, 0.3 us if weights differ).  It is kept in one byte (two from 256 servers
on), in rows of 256 slots.  So a pick takes about 1 us with any number of servers; an
upstream without requests takes no memory, and the busiest one 86 kB.  The winners among
the servers in service are kept in the same way, for keys whose own server is out of
service or was tried in vain.

After a change of weights, a slot is brought up to date when it is next asked for: its
winner is compared with the servers whose weight has grown, and computed anew only if the
weight of the winner has shrunk.
"""

from __future__ import annotations

from array import array
from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from math import log
from typing import Any, ClassVar, Final
from zlib import crc32

from mypy_extensions import mypyc_attr

from slardar.balancers.base import Balancer, Outcome, hears_more, refuse_unknown_options
from slardar.balancers.bound import Bound
from slardar.interfaces import IRequest
from slardar.model.live import Peer

__all__ = ["PROBES", "ConsistentHash", "next_hash", "seed_of"]

# 2**16 slots, in rows of 2**8.
_ROWS: Final = 256
_ROW: Final = 256
_MASK: Final = 2**64 - 1
_MASK_30: Final = 2**30 - 1
_TO_UNIT: Final = 2.0**-30
# Odd multipliers, which spread each bit of a factor over the high half of the product:
# Knuth's 2**64 over the golden ratio, and the two of MurmurHash3's fmix64.
_GOLDEN: Final = 0x9E3779B97F4A7C15
_MIX_1: Final = 0xFF51AFD7ED558CCD
_MIX_2: Final = 0xC4CEB9FE1A85EC53


#: Looked up once: mypyc looks up what it does not compile at each use.
_crc32: Final = crc32

#: Servers of a key that are asked for room before all servers are looked at one by one.  With
#: the bound 1.25, four servers of five are full at the most, so one key of a thousand comes
#: so far.
PROBES: Final = 32


@mypyc_attr(allow_interpreted_subclasses=True)
class ConsistentHash(Balancer):
    """Sends the same key to the same server; a subclass says what the key is.

    Option ``bound``: a server with more than so many times its share of the requests under
    way is passed over (see :mod:`slardar.balancers.bound`); default: none is.
    """

    #: The options that the class takes.
    takes: ClassVar[tuple[str, ...]] = ("bound",)

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        refuse_unknown_options(options, self.takes)
        super().__init__(servers, {})
        self._all = servers
        self._bound: Bound | None = Bound(options["bound"]) if "bound" in options else None
        self.is_told = self._bound is not None or hears_more(self, ConsistentHash)
        # Made on the first request: the servers that can be in service at all, and which of
        # them wins a slot.
        self._possible: Sequence[Peer] = ()
        self._winners: _Winners | None = None
        # The sequence last picked from, and which of it wins a slot (made when needed).
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
        hashed = self._hashed(request)
        peer = self.first(hashed)
        bound = self._bound
        if bound is None or bound.has_room(peer):
            return peer
        return self._with_room(bound, hashed, ())

    def pick_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer:
        if servers is not self._servers:
            self._learn(servers)
        hashed = self._hashed(request)
        peer = self.first_without(hashed, left_out)
        bound = self._bound
        if bound is None or bound.has_room(peer):
            return peer
        return self._with_room(bound, hashed, left_out)

    def preview(self, servers: Sequence[Peer], request: IRequest) -> Peer | None:
        # What is remembered of slots and of loads is no state: a pick would work out the same.
        return self.pick(servers, request)

    def preview_without(
        self, servers: Sequence[Peer], left_out: Sequence[Peer], request: IRequest
    ) -> Peer | None:
        return self.pick_without(servers, left_out, request)

    def started(self, server: Peer) -> None:
        """One more request is under way on ``server``."""
        if self._bound is not None:
            self._bound.started(server)

    def finished(self, server: Peer, outcome: Outcome) -> None:
        """One request fewer is under way on ``server``."""
        if self._bound is not None:
            self._bound.finished(server)

    def first(self, hashed: int) -> Peer:
        """The server of a key among those in service; ``hashed`` is a number of 64 bits."""
        winners = self._winners
        assert winners is not None
        slot = hashed >> 48
        row = winners.rows[slot >> 8]
        number = row[slot & 255] if row is not None else 0
        if not number or winners.known_at is not None:
            number = winners.first(slot) + 1
        peer = self._possible[number - 1]
        if peer in self._present:
            return peer
        # The winner of all servers is out of service: take the best that is in service.
        return self._servers[self._among_present().first(slot)]

    def first_without(self, hashed: int, left_out: Sequence[Peer]) -> Peer:
        """The server of a key among those in service that are not ``left_out``."""
        slot = hashed >> 48
        servers = self._servers
        winners = self._among_present()
        peer = servers[winners.first(slot)]
        if peer in left_out:
            peer = servers[winners.second(slot)]
        if peer in left_out:
            gone = set(left_out)
            out = {number for number, peer in enumerate(servers) if peer in gone}
            peer = servers[winners.compute(slot, out)]
        return peer

    def _with_room(self, bound: Bound, hashed: int, left_out: Sequence[Peer]) -> Peer:
        """The next server of a key that has room.

        The next ones are the servers of other hashes, which follow from the key's: so they
        are always the same, and a busy server's keys do not all go to one other server.
        """
        for _ in range(PROBES):
            hashed = next_hash(hashed)
            peer = self.first(hashed)
            if bound.has_room(peer) and peer not in left_out:
                return peer
        return bound.first_with_room(hashed >> 33, left_out)

    def _hashed(self, request: IRequest) -> int:
        # The key of a hook may be any string; half a surrogate pair must not raise.
        return _crc32(self.key(request).encode("utf-8", "surrogatepass")) * _GOLDEN & _MASK

    def _learn(self, servers: Sequence[Peer]) -> None:
        """Take a new sequence: other servers are in service, or they have other weights."""
        self._servers = servers
        self._present = frozenset(servers)
        self.learn(servers)
        if self._bound is not None:
            self._bound.learn(servers, self._present)

    def learn(self, servers: Sequence[Peer]) -> None:
        """Get ready for :meth:`first` among these servers."""
        if self._winners is None:
            self._possible = [
                peer for peer in self._all if peer.config.weight and peer.config.state == "up"
            ] or servers
            self._winners = _Winners(self._possible)
        else:
            self._winners.take_weights([peer.weight for peer in self._possible])
        self._winners_present = None

    def _among_present(self) -> _Winners:
        if self._winners_present is None:
            all_are_here = list(self._servers) == list(self._possible)
            self._winners_present = self._winners if all_are_here else _Winners(self._servers)
        assert self._winners_present is not None
        return self._winners_present


def next_hash(hashed: int) -> int:
    """The hash with which a key looks for its next server."""
    return (hashed * _MIX_1 + _GOLDEN) & _MASK


class _Winners:
    """The servers with the highest scores in each slot, by number: their index in ``peers``."""

    __slots__ = (
        "_epoch",
        "_grown",
        "_inverse_weights",
        "_second_rows",
        "_seeds",
        "_shrunk",
        "_typecode",
        "_weights",
        "known_at",
        "rows",
    )

    def __init__(self, peers: Sequence[Peer]) -> None:
        self._seeds = [seed_of(peer.key) >> 34 for peer in peers]
        count = len(peers)
        self._typecode = "B" if count < 2**8 else "H" if count < 2**16 else "L"
        #: The number of the first and of the second by row and slot, plus 1 (0: not known).
        self.rows: list[array[int] | None] = [None] * _ROWS
        self._second_rows: list[array[int] | None] | None = None
        #: How often weights have changed; the change up to which the winner of each slot is
        #: right (``None``: there was no change); and by server, the last change at which its
        #: weight grew or shrank.
        self._epoch = 0
        self.known_at: array[int] | None = None
        self._grown: dict[int, int] = {}
        self._shrunk: dict[int, int] = {}
        self._set_weights([peer.weight for peer in peers])

    def _set_weights(self, weights: list[int]) -> None:
        self._weights = weights
        self._inverse_weights: list[float] | None = None
        # With equal weights the order of the scores is that of their u.
        if len(set(weights)) > 1:
            # A server of weight 0 is never in service; it would lose every slot to the others.
            self._inverse_weights = [1.0 / (weight or 1e-9) for weight in weights]

    def take_weights(self, weights: list[int]) -> None:
        """Use these weights from now on."""
        before = self._weights
        if weights == before:
            return
        self._set_weights(weights)
        self._second_rows = None
        self._epoch += 1
        if self.known_at is None:
            self.known_at = array("I", [0]) * (_ROWS * _ROW)
        for number, (old, new) in enumerate(zip(before, weights, strict=True)):
            if new > old:
                self._grown[number] = self._epoch
            elif new < old:
                self._shrunk[number] = self._epoch

    def first(self, slot: int) -> int:
        """The server that wins the slot."""
        row = self.rows[slot >> 8]
        number = row[slot & 255] if row is not None else 0
        if number and (self.known_at is None or self.known_at[slot] == self._epoch):
            return number - 1
        if row is None:
            row = self.rows[slot >> 8] = array(self._typecode, [0]) * _ROW
        winner = self._again(slot, number - 1) if number else self.compute(slot, ())
        row[slot & 255] = winner + 1
        if self.known_at is not None:
            self.known_at[slot] = self._epoch
        return winner

    def _again(self, slot: int, winner: int) -> int:
        """The server that wins a slot that ``winner`` won before weights changed."""
        assert self.known_at is not None
        known_at = self.known_at[slot]
        if self._shrunk.get(winner, 0) > known_at:
            return self.compute(slot, ())
        rivals = [number for number, epoch in self._grown.items() if epoch > known_at]
        if not rivals:
            return winner
        rivals.append(winner)
        return self._best(slot, sorted(set(rivals)))

    def second(self, slot: int) -> int:
        """The server that wins the slot without the first."""
        if self._second_rows is None:
            self._second_rows = [None] * _ROWS
        row = self._second_rows[slot >> 8]
        if row is None:
            row = self._second_rows[slot >> 8] = array(self._typecode, [0]) * _ROW
        number = row[slot & 255]
        if not number:
            number = row[slot & 255] = self.compute(slot, (self.first(slot),)) + 1
        return number - 1

    def compute(self, slot: int, without: Collection[int]) -> int:
        """The server that wins the slot without some of the servers; computed anew."""
        if not without:
            return self._best(slot, None)
        return self._best(slot, [n for n in range(len(self._seeds)) if n not in without])

    def _best(self, slot: int, numbers: list[int] | None) -> int:
        """The server with the highest score among ``numbers`` (``None``: among all); of
        equal scores, the one listed first."""
        mixed = (slot + 1) * _GOLDEN & _MASK
        mixed = (mixed ^ mixed >> 33) * _MIX_1 & _MASK
        mixed = (mixed ^ mixed >> 33) * _MIX_2 & _MASK
        own = (mixed ^ mixed >> 33) & _MASK_30
        seeds, inverse_weights = self._seeds, self._inverse_weights
        if numbers is not None:
            seeds = [seeds[number] for number in numbers]
            if inverse_weights is not None:
                inverse_weights = [inverse_weights[number] for number in numbers]
        # 30 bits make numbers for which Python and a processor are quick.
        drawn = [(own ^ seed) * ((own ^ seed) >> 11 | 1) & _MASK_30 for seed in seeds]
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
def seed_of(key: str) -> int:
    """64 bits for a server.

    It is cached, since each change of an upstream makes its balancer anew, perhaps with
    thousands of servers.
    """
    return int.from_bytes(blake2b(key.encode(), digest_size=8).digest(), "big")
