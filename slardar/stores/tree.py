"""What a store needs of a server that many slardars share: a tree of keys with values.

Consul, etcd and ZooKeeper are such servers.  One subclass of :class:`Tree` speaks to one kind of
server; :class:`slardar.stores.shared.SharedStore` makes a store of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from twisted.internet.defer import Deferred

from slardar.errors import SlardarError, StoreError

__all__ = ["Content", "Entry", "LostRaceError", "NotWrittenError", "Tree", "Write"]


class LostRaceError(SlardarError):
    """Somebody else has written one of the keys meanwhile; nothing was written."""


class NotWrittenError(StoreError):
    """A write is not made, for certain: nothing was sent, or the server has refused it."""


class Entry(Struct, frozen=True):
    """One key's value."""

    value: bytes
    #: The server's number for the last write of this key, greater than 0: ``ModifyIndex`` in
    #: Consul, ``mod_revision`` in etcd, ``mzxid`` in ZooKeeper.
    index: int


class Content(Struct, frozen=True):
    """All keys of the tree at one moment."""

    #: The server's number for this state.  It only grows while the server keeps its state; a
    #: snapshot that is restored may take it back.
    index: int
    #: By key, relative to the tree's place, without a slash at the beginning.
    entries: Mapping[str, Entry]


class Write(Struct, frozen=True):
    """One key to be written or removed."""

    key: str
    #: ``None`` removes the key.
    value: bytes | None
    #: The key is written only if its index is this one; 0: only if there is no such key;
    #: ``None``: whatever it is.
    expected: int | None = None


class Tree:
    """The keys below one place of one server.  Nothing here blocks.

    A server that cannot be reached, does not answer in time, or refuses the token fails a call with
    :class:`slardar.errors.StoreError`, whose message names the server and the reason in one line,
    never a token or a password.
    """

    #: Bytes that a value may have, if its key is written alone.
    max_value: int
    #: Keys that one :meth:`write` may write, and bytes of all their keys and values.  A single key
    #: may have a value of :attr:`max_value` in any case.
    max_writes: int
    max_bytes: int

    def read(self) -> Deferred[Content]:
        """All keys, at least as new as each write that this object has made."""
        raise NotImplementedError

    def write(self, writes: Sequence[Write]) -> Deferred[int]:
        """Write some keys, all or none.  Fires with the index that each written key has now.

        Fails with :class:`LostRaceError` if a key is not as expected, with :class:`NotWrittenError`
        if the keys are not written for another reason, and with any other StoreError if nobody
        knows.  A write is never repeated here.
        """
        raise NotImplementedError

    def watch(
        self, seen: Content, changed: Callable[[Content], None], failed: Callable[[str], None]
    ) -> None:
        """Call ``changed`` with the whole content whenever there is another one than ``seen``.

        ``failed`` is called with the reason when the server cannot be asked, once or again and
        again.  After that ``changed`` is called as soon as it can be asked again, even if nothing
        is new.  The tree tries again by itself, with a growing delay and jitter.  Neither function
        raises.  Objects of entries that have not changed are those of ``seen``.
        """
        raise NotImplementedError

    def close(self) -> Deferred[Any]:
        """Stop the watch and let go of all connections.  It may be called at any time, and
        again.  A :meth:`read` after it begins anew."""
        raise NotImplementedError
