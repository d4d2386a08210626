"""Which certificates there are for a name, in a table that changes with each of them."""

from __future__ import annotations

from collections.abc import Iterable

from slardar.model.tls import Pair

__all__ = ["NameTable", "best_of"]


class NameTable:
    """Pairs by the names that they are for.  A change costs what has changed, apart from one
    look at each pair."""

    __slots__ = ("_names", "_pairs")

    def __init__(self) -> None:
        #: By their ids, which tell them apart for as long as they are kept here.
        self._pairs: dict[int, Pair] = {}
        self._names: dict[str, tuple[Pair, ...]] = {}

    def take(self, pairs: Iterable[Pair]) -> None:
        """Have these pairs from now on, and no others."""
        pairs = tuple(pairs)
        before, after = self._pairs, dict(zip(map(id, pairs), pairs, strict=True))
        names = self._names
        for key in before.keys() - after.keys():
            gone = before[key]
            for name in gone.names:
                left = tuple(pair for pair in names[name] if pair is not gone)
                if left:
                    names[name] = left
                else:
                    del names[name]
        for key in after.keys() - before.keys():
            new = after[key]
            for name in new.names:
                names[name] = (*names.get(name, ()), new)
        self._pairs = after

    def __contains__(self, name: str) -> bool:
        return name in self._names

    def get(self, name: str) -> tuple[Pair, ...]:
        """All pairs for a name; none if there are none."""
        return self._names.get(name, ())


def best_of(pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """Of pairs for the same name, one for each kind of key: the one that expires last.

    The choice and its order are the same in each process, so that sessions resume in all.
    """
    if len(pairs) < 2:
        return pairs
    best: dict[str, Pair] = {}
    for pair in sorted(pairs, key=_rank):
        best[pair.kind] = pair
    return tuple(best[kind] for kind in sorted(best))


def _rank(pair: Pair) -> tuple[int, str, str]:
    return pair.expires, pair.source, pair.cert
