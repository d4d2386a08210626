"""``maglev``: as ``hash``, with a table in which all servers have equally many places.

The key is that of ``hash``: what a hook set as ``hash_key``, else the path.  It falls into
one of 65,537 places (option ``table``), and each place belongs to a server
(:mod:`slardar.balancers.maglev_table`).

- Shares are nearly exact: a server's places are its part of the weights, give or take one.
- The table is made of all servers that have a weight, in service or not.  A server that goes
  out of service moves its own keys only; they go to the servers of other places, which
  follow from the key.  So a change of health costs nothing.
- A server that is added or removed, or gets another weight, makes another table.  Beside the
  keys that must move, a few others do.

The first requests of a balancer build its table, each a part of it.  Until it is ready, the
table from before a change of weights serves; without one, a key's server is its hash modulo
the number of servers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import gcd
from typing import Any, ClassVar, Final
from weakref import WeakValueDictionary

from mypy_extensions import mypyc_attr

from slardar.balancers.base import bad_option, rest
from slardar.balancers.hashing import Hash
from slardar.balancers.maglev_table import Table
from slardar.balancers.rendezvous import PROBES, next_hash
from slardar.interfaces import IRequest
from slardar.model.live import Peer

__all__ = ["Maglev"]

#: Places of a table, the paper's smaller size; and the limits of the option, Envoy's largest.
_PLACES: Final = 65_537
_FEWEST: Final = 251
_MOST: Final = 5_000_011


@mypyc_attr(allow_interpreted_subclasses=True)
class Maglev(Hash):
    """By the key that a hook set, else by the path.

    Option ``table``: the number of places, a prime from 251 to 5,000,011; default 65,537.  A
    hundred times the number of servers makes shares even.
    """

    modes: ClassVar[tuple[str, ...]] = ("maglev",)
    takes: ClassVar[tuple[str, ...]] = ("bound", "query", "table")

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        super().__init__(servers, options)
        size = options.get("table", _PLACES)
        if not _is_size(size):
            raise bad_option(
                "table", f"a prime from {_FEWEST} to {_MOST}, for example {_PLACES}", size
            )
        self._size: int = size
        self._weights: list[int] = []
        # The table that serves, its places once it is complete, and its servers by number.
        self._table: _Shared | None = None
        self._places: Sequence[int] | None = None
        self._listed: Sequence[Peer] = ()
        # The table that is being built, if any, and its servers.
        self._coming: _Shared | None = None
        self._coming_listed: Sequence[Peer] = ()

    def pick(self, servers: Sequence[Peer], request: IRequest) -> Peer:
        peer = super().pick(servers, request)
        if self._coming is not None:
            self._coming.table.build()
            self._take_over()
        return peer

    def preview(self, servers: Sequence[Peer], request: IRequest) -> Peer | None:
        return super().pick(servers, request)

    def learn(self, servers: Sequence[Peer]) -> None:
        """See :meth:`ConsistentHash.learn`."""
        weights = [peer.weight for peer in self._all]
        if weights == self._weights:
            return
        self._weights = weights
        # A server of weight 0 is never in service.
        self._coming_listed = sorted(
            (peer for peer in self._all if peer.weight), key=lambda peer: peer.key
        )
        self._coming = _shared(self._coming_listed, self._size) if self._coming_listed else None
        self._take_over()

    def _take_over(self) -> None:
        """Use the table that was being built, if it is complete."""
        coming = self._coming
        if coming is None or coming.table.places is None:
            return
        self._table, self._places = coming, coming.table.places
        self._listed = self._coming_listed
        self._coming, self._coming_listed = None, ()

    def first(self, hashed: int) -> Peer:
        places = self._places
        if places is not None:
            # As a rule.
            peer = self._listed[places[(hashed >> 32) % self._size]]
            if peer in self._present:
                return peer
        return self.first_without(hashed, ())

    def first_without(self, hashed: int, left_out: Sequence[Peer]) -> Peer:
        places = self._places
        if places is not None:
            listed, size, present = self._listed, self._size, self._present
            for _ in range(PROBES):
                peer = listed[places[(hashed >> 32) % size]]
                if peer in present and peer not in left_out:
                    return peer
                hashed = next_hash(hashed)
        # What is left is what a caller could have offered in the first place.
        left = rest(self._servers, left_out) if left_out else self._servers
        return left[(hashed >> 32) % len(left)]


@mypyc_attr(native_class=False)  # there are weak references to it
class _Shared:
    """A table that several balancers use: those of an upstream before and after an edit."""

    def __init__(self, table: Table) -> None:
        self.table = table


_tables: WeakValueDictionary[Any, _Shared] = WeakValueDictionary()


def _shared(listed: Sequence[Peer], size: int) -> _Shared:
    """The table of these servers, which is built only once."""
    names = tuple(peer.key for peer in listed)
    # 10 and 20 make the table that 1 and 2 make.
    unit = gcd(*(peer.weight for peer in listed)) or 1
    weights = tuple(peer.weight // unit for peer in listed)
    table = _tables.get((size, names, weights))
    if table is None:
        table = _tables[size, names, weights] = _Shared(Table(names, weights, size))
    return table


def _is_size(value: Any) -> bool:
    if type(value) is not int or not _FEWEST <= value <= _MOST:
        return False
    return all(value % divisor for divisor in range(2, int(value**0.5) + 1))
