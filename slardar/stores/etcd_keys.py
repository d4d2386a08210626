"""The keys below one prefix of etcd: which they are, and how all of them are read."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from typing import Any, Final

from slardar.errors import StoreError
from slardar.stores.etcd_client import Gateway
from slardar.stores.etcd_messages import RangeAnswer, RefusedError, TooLargeError
from slardar.stores.tree import Content, Entry

__all__ = ["COMPACTED", "Keys", "base64"]

#: Keys in an answer; a quarter of them if they are too large, and so on.
PAGE: Final = 500
#: Bytes of all keys and values.
MAX_TREE: Final = 512 << 20
#: Times that a read begins again because what it reads was compacted meanwhile.
_TRIES: Final = 3

#: etcd's words for a revision that it has forgotten.
COMPACTED: Final = "required revision has been compacted"


def base64(text: bytes) -> str:
    """Bytes in the gateway's JSON."""
    return b64encode(text).decode()


class Keys:
    """The keys that begin with ``prefix``, such as ``b"/slardar/"``, asked for through a gateway.

    The key that is the prefix itself is none of them.
    """

    def __init__(self, gateway: Gateway, prefix: bytes) -> None:
        self.gateway = gateway
        self._prefix = prefix
        self._end = base64(_end_of(prefix))

    def range(self, after: bytes = b"") -> dict[str, Any]:
        """The keys, or those after one of them, as a range in etcd's JSON."""
        first = base64((after or self._prefix) + b"\0")
        return {"key": first, "range_end": self._end}

    def key(self, name: str) -> bytes:
        """The whole key of a relative one.  Raises StoreError if there is no such key."""
        try:
            return self._prefix + name.encode()
        except UnicodeEncodeError:
            raise StoreError(f"{self.gateway.name}: a key that is no Unicode") from None

    def name(self, key: bytes) -> str:
        """The relative key of a whole one.  Raises StoreError if it is not one of these keys."""
        if not key.startswith(self._prefix):
            raise StoreError(f"{self.gateway.name}: it tells of a key that nobody has asked for")
        return key[len(self._prefix) :].decode(errors="backslashreplace")

    def newest(self) -> dict[str, Any]:
        """The question for the last written key and the number of keys.

        Both together tell whether anything was written or removed after a revision: what is
        written is newer than all that was there, and what is only removed makes it fewer.
        """
        order = {"sort_order": "DESCEND", "sort_target": "MOD"}
        return {**self.range(), **order, "keys_only": True, "limit": 1}

    async def read(self, known: Mapping[str, Entry]) -> Content:
        """All keys at the newest revision.  Entries that are in ``known`` are the objects there.

        :raise StoreError: if they cannot be read.
        """
        for left in reversed(range(_TRIES)):
            try:
                return await self._read(known)
            except RefusedError as error:
                if COMPACTED not in error.text or not left:
                    raise
        raise AssertionError("the last try returns or raises")

    async def _read(self, known: Mapping[str, Entry]) -> Content:
        entries: dict[str, Entry] = {}
        limit = PAGE
        revision = size = 0
        last = b""
        while True:
            # All pages are of the first one's revision.
            pinned = {"revision": revision} if revision else {}
            question = {**self.range(last), **pinned, "limit": limit}
            try:
                page = await self.gateway.ask("kv/range", question, RangeAnswer)
            except TooLargeError:
                if limit == 1:
                    raise
                limit = max(1, limit // 4)
                continue
            revision = revision or page.header.revision
            for one in page.kvs:
                if one.key <= last or not 0 < one.mod_revision <= revision:
                    raise StoreError(f"{self.gateway.name}: its keys are in disorder")
                last = one.key
                name = self.name(last)
                size += len(last) + len(one.value)
                old = known.get(name)
                same = old and old.index == one.mod_revision and old.value == one.value
                entries[name] = old if old and same else Entry(one.value, one.mod_revision)
            if size > MAX_TREE:
                raise StoreError(f"{self.gateway.name}: more than {MAX_TREE} bytes of keys")
            if not page.more or not page.kvs:
                return Content(revision, entries)


def _end_of(prefix: bytes) -> bytes:
    """The first key after all that begin with ``prefix``, which ends with a slash."""
    return prefix[:-1] + bytes((prefix[-1] + 1,))
