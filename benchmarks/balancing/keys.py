"""Where ten million keys go, and how many of them move when a server goes or comes.

The balancers' own classes say which server a key has.  A key counts only by the slot of the
hash or the place of maglev's table that it falls into; so each slot and each place is asked
once, with the number of its keys.  (A table of the keys themselves would tell no more, and the
answers are compared with ``pick`` for some keys.)
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from itertools import accumulate
from random import Random
from typing import Any, NamedTuple
from zlib import crc32

from benchmarks.balancing.modes import Mode, balancer, peers, request
from slardar.balancers.base import Outcome

__all__ = ["Bounded", "Keys", "Moves", "bounded", "moves", "owners", "spread"]

_GOLDEN = 0x9E3779B97F4A7C15
_MASK = 2**64 - 1
#: Keys whose server is asked for by ``pick``, too.
_SAMPLE = 2000
_OUTCOME = Outcome(False, 0.02, 200)
#: The bits of a hash that name its slot, and those that name its place.
_SLOT = 48
_PLACE = 32


def hashed(number: int) -> int:
    """The hash of the path with this number, as :mod:`slardar.balancers.rendezvous` has it."""
    return crc32(b"/%d" % number) * _GOLDEN & _MASK


class Keys:
    """The keys ``/0``, ``/1`` and so on, counted by where they fall."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._by_size: dict[int, Counter[int]] = {}

    def by_place(self, size: int) -> Counter[int]:
        """How many keys fall into each place of maglev's table of this size; 0: into each slot
        of the hash."""
        found = self._by_size.get(size)
        if found is None:
            numbers = range(self.count)
            if size:
                places = (((crc32(b"/%d" % n) * _GOLDEN & _MASK) >> _PLACE) % size for n in numbers)
            else:
                places = ((crc32(b"/%d" % n) * _GOLDEN & _MASK) >> _SLOT for n in numbers)
            found = self._by_size[size] = Counter(places)
        return found


def _size(mode: Mode) -> int:
    """The places of the mode's table; 0 for the hash, which has slots."""
    size: int = mode.options.get("table", 65_537) if mode.mode == "maglev" else 0
    return size


def owners(mode: Mode, made: Any, servers: Sequence[Any]) -> list[str]:
    """The server of each slot or place, by its name.

    :raise RuntimeError: if the balancer picks another one for a key of the sample.
    """
    size = _size(mode)
    if size:
        found = [made.first(place << _PLACE).key for place in range(size)]
    else:
        found = [made.first(slot << _SLOT).key for slot in range(2**16)]
    for number in range(_SAMPLE):
        value = hashed(number)
        place = (value >> _PLACE) % size if size else value >> _SLOT
        picked = made.pick(servers, request(number)).key
        if picked != found[place]:
            raise RuntimeError(f"{mode.title}: /{number} goes to {picked}, not to {found[place]}")
    return found


def spread(keys: Keys, mode: Mode, found: Sequence[str], count: int) -> float:
    """The keys of the server with the most over the mean of ``count`` servers."""
    by_server: Counter[str] = Counter()
    for place, number in keys.by_place(_size(mode)).items():
        by_server[found[place]] += number
    return max(by_server.values()) * count / keys.count


class Moves(NamedTuple):
    """Keys that move, as multiples of the share 1/n that one of n servers has on average.

    A server's own keys must move: with all servers in turn they are 1/n on average.  To this
    comes the mean of the others that moved.
    """

    #: It is out of service; it is removed by an edit; another one is added by an edit (of n+1).
    out: float
    removed: float
    added: float


def moves(keys: Keys, mode: Mode, count: int, samples: int) -> Moves:
    """What moves with ``count`` servers; ``samples`` of them go, one at a time."""
    by_place = keys.by_place(_size(mode))
    servers = peers(count)
    made = balancer(mode, servers)
    before = owners(mode, made, servers)
    share = keys.count / count
    out, removed = [], []
    for number in range(0, count, max(1, count // samples)):
        gone = servers[number].key
        left = [peer for peer in servers if peer.key != gone]
        made.pick(left, request(0))
        after = [made.first(_some(mode, place)).key for place in range(len(before))]
        out.append(_others(by_place, before, after, gone))
        fewer = peers(count, number)
        after = owners(mode, balancer(mode, fewer), fewer)
        removed.append(_others(by_place, before, after, gone))
    more = peers(count + 1)
    after = owners(mode, balancer(mode, more), more)
    came = more[-1].key
    added = sum(by_place[place] for place, key in enumerate(after) if key != before[place])
    own = sum(by_place[place] for place, key in enumerate(after) if key == came)
    return Moves(
        1 + sum(out) / len(out) / share,
        1 + sum(removed) / len(removed) / share,
        1 + (added - own) / (keys.count / (count + 1)),
    )


def _some(mode: Mode, place: int) -> int:
    """A hash that falls into the place."""
    return place << (_PLACE if _size(mode) else _SLOT)


def _others(by_place: Counter[int], before: Sequence[str], after: Sequence[str], gone: str) -> int:
    """How many keys moved that were not the gone server's."""
    return sum(
        by_place[place]
        for place, (one, other) in enumerate(zip(before, after, strict=True))
        if one not in (other, gone)
    )


class Bounded(NamedTuple):
    """A run with as many requests under way all the time."""

    #: The most that a server had under way at a time over the mean.
    most: float
    #: The share of requests that went to another server than the key's own.
    elsewhere: float


def bounded(mode: Mode, count: int, requests: int, under_way: int, skew: float) -> Bounded:
    """Give the balancer ``requests``, of which ``under_way`` are under way at any time: the
    oldest one ends when the next one begins.

    ``skew``: how much more popular some paths are than others (the exponent of Zipf's law;
    0: each request has a path of its own).
    """
    servers = peers(count)
    made = balancer(mode, servers)
    home = balancer(Mode("", mode.mode), servers)
    random = Random(7)
    if skew:
        ranks = range(1, 100_001)
        weights = list(accumulate(rank**-skew for rank in ranks))
        numbers: Sequence[int] = random.choices(ranks, cum_weights=weights, k=requests)
    else:
        numbers = range(requests)
    active: deque[Any] = deque()
    most = elsewhere = 0
    known: dict[int, Any] = {}
    for number in numbers:
        if len(active) >= under_way:
            ended = active.popleft()
            ended.live.active -= 1
            made.finished(ended, _OUTCOME)
        asked = known.get(number) or request(number)
        if skew and len(known) < 10_000:
            known[number] = asked
        peer = made.pick(servers, asked)
        elsewhere += peer is not home.pick(servers, asked)
        made.started(peer)
        peer.live.active += 1
        active.append(peer)
        if len(active) == under_way and peer.live.active > most:
            most = peer.live.active
    return Bounded(most * count / under_way, elsewhere / requests)
