"""How keys are written to ZooKeeper: the operations of one transaction.

A node without data is a folder, and no key: ZooKeeper needs a node for each part of a path.  So an
empty value cannot be a node without data: a value that has nothing but zero bytes is written with
one more of them, and read without it.

ZooKeeper compares a node's ``version`` in a transaction, which begins at 0 again when a node is
removed and made anew, where ``mzxid``, the index of an entry, goes on.  So the nodes are looked at
first, and the transaction also tells whether a node was made in the same folder since: it makes a
sequential node there, and removes it by the name that it has if none was.  (The number in the name
of a sequential node counts the nodes that were ever made in its folder.)
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kazoo.protocol.serialization import (  # type: ignore[import-untyped]
    Create,
    Delete,
    SetData,
)

from slardar.stores.tree import LostRaceError, Write

__all__ = ["GUARD", "above", "data_of", "plan", "value_of"]

#: How the name begins of a node that is made and removed in one transaction.
GUARD = ".slardar-guard-"


def plan(wanted: Mapping[str, Write], seen: Mapping[str, Any], acl: Any) -> list[Any]:
    """The operations of the transaction that makes the writes ``wanted``, by path.

    ``seen`` has the stat of each node at and above them, ``None`` where there is no node.  ``acl``
    is for new nodes.  Raises LostRaceError if a key is not as expected.
    """
    guarded: dict[str, None] = {}
    changes: list[Any] = []
    removals: list[Any] = []
    made: set[str] = set()
    folders = {
        folder for path, one in wanted.items() if one.value is not None for folder in above(path)
    }
    # A folder comes before what is in it.
    for path, one in sorted(wanted.items()):
        stat = seen[path]
        is_key = stat is not None and stat.dataLength > 0
        if one.expected is not None and one.expected != (stat.mzxid if is_key else 0):
            raise LostRaceError(f"{one.key}: somebody else has written it meanwhile")
        version = -1
        if one.expected is not None and stat is not None:
            version = stat.version
            guarded[path.rpartition("/")[0]] = None
        if one.value is None:
            if is_key and (stat.numChildren or path in folders):
                changes.append(SetData(path, b"", version))
            elif is_key:
                removals.append(Delete(path, version))
        elif stat is not None:
            changes.append(SetData(path, data_of(one.value), version))
        else:
            for folder in above(path):
                if seen[folder] is None and folder not in made:
                    made.add(folder)
                    changes.append(Create(folder, b"", acl, 0))
            made.add(path)
            changes.append(Create(path, data_of(one.value), acl, 0))
    if not changes and not removals:
        return []
    if changes and not any(isinstance(one, SetData) for one in changes):
        # Only this operation's answer has the number of the transaction.
        last = changes.pop()
        changes += [Create(last.path, b"", acl, 0), SetData(last.path, last.data, 0)]
    guards: list[Any] = []
    for folder in guarded:
        stat = seen[folder]
        # ``cversion`` counts the nodes made and the nodes removed.
        number = (stat.cversion + stat.numChildren) // 2
        sequential = 2
        guards.append(Create(f"{folder}/{GUARD}", b"", acl, sequential))
        guards.append(Delete(f"{folder}/{GUARD}{number:010d}", -1))
    return guards + changes + removals


def above(path: str) -> list[str]:
    """The folders of a node, from the outermost."""
    parts = path.split("/")
    return ["/".join(parts[:end]) for end in range(2, len(parts))]


def data_of(value: bytes) -> bytes:
    """How a value is written."""
    return value if value.strip(b"\0") else value + b"\0"


def value_of(data: bytes) -> bytes:
    """The value of a node with data."""
    return data if data.strip(b"\0") else data[:-1]
