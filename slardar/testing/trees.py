"""A tree of keys in memory, and what every tree must do, as tests.

A tree's own test file says how to make one, and gets the tests of :class:`TreeContract`, as with
:class:`slardar.testing.stores.StoreContract`::

    class TestMyTree(TreeContract):
        def make_tree(self):
            return MyTree(self.url)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed

from slardar.errors import StoreError
from slardar.stores.tree import Content, Entry, LostRaceError, Tree, Write

__all__ = ["MemoryServer", "MemoryTree"]


class MemoryServer:
    """What trees in memory share: the server.

    It tells all watches of each write at once, unless ``tells`` is false: then when :meth:`tell`
    is called.
    """

    def __init__(
        self, max_value: int = 512 * 1024, max_writes: int = 64, max_bytes: int = 512 * 1024
    ) -> None:
        self.max_value = max_value
        self.max_writes = max_writes
        self.max_bytes = max_bytes
        self.entries: dict[str, Entry] = {}
        self.index = 0
        self.tells = True
        #: Why nobody can be answered, if that is so.
        self.away = ""
        #: The keys of all writes that trees have made.
        self.writes: list[list[str]] = []
        self.trees: list[MemoryTree] = []

    @property
    def content(self) -> Content:
        """All keys."""
        return Content(self.index, dict(self.entries))

    def put(self, key: str, value: bytes | str) -> None:
        """Write a key as somebody does who is no slardar."""
        self.index += 1
        text = value.encode() if isinstance(value, str) else value
        self.entries[key] = Entry(text, self.index)
        self._written()

    def remove(self, key: str) -> None:
        """Remove a key in the same way."""
        self.index += 1
        self.entries.pop(key, None)
        self._written()

    def restore(self, content: Content) -> None:
        """Go back to an earlier content, as an operator does with a snapshot."""
        self.index = content.index
        self.entries = dict(content.entries)
        self._written()

    def fail(self, reason: str) -> None:
        """Answer nobody any more, for this reason; an empty one ends it."""
        self.away = reason
        for tree in list(self.trees):
            tree.hear()

    def tell(self) -> None:
        """Tell all who watch."""
        for tree in list(self.trees):
            tree.hear()

    def write(self, writes: Sequence[Write]) -> int:
        """Write keys, all or none."""
        for one in writes:
            known = self.entries.get(one.key)
            index = 0 if known is None else known.index
            if one.expected is not None and one.expected != index:
                raise LostRaceError(f"{one.key}: somebody else wrote it")
        self.index += 1
        for one in writes:
            if one.value is None:
                self.entries.pop(one.key, None)
            else:
                self.entries[one.key] = Entry(one.value, self.index)
        self.writes.append([one.key for one in writes])
        self._written()
        return self.index

    def _written(self) -> None:
        if self.tells:
            self.tell()


class MemoryTree(Tree):
    """A way to a :class:`MemoryServer`.  Every Deferred has fired when it is returned, unless
    :attr:`held` is a list."""

    def __init__(self, server: MemoryServer) -> None:
        self.server = server
        self.max_value = server.max_value
        self.max_writes = server.max_writes
        self.max_bytes = server.max_bytes
        #: If a list: calls of read and write wait here until they are called.
        self.held: list[Callable[[], object]] | None = None
        #: Writes that are made and whose answers get lost, for the first number of them.
        self.lost_answers = 0
        #: Called before each write, with the writes.  It may raise.
        self.before_write: Callable[[Sequence[Write]], None] = lambda writes: None
        #: Writes and reads that still work; after them none does.
        self.life: int | None = None
        self._changed: Callable[[Content], None] | None = None
        self._failed: Callable[[str], None] | None = None
        self._seen = -1
        self._was_away = False

    def read(self) -> Deferred[Content]:
        """See :class:`Tree`."""
        return self._answer(lambda: self.server.content)

    def write(self, writes: Sequence[Write]) -> Deferred[int]:
        """See :class:`Tree`.  A write over a limit is an AssertionError."""
        assert 0 < len(writes) <= self.max_writes, f"{len(writes)} keys"
        sizes = [len(one.value or b"") for one in writes]
        assert max(sizes) <= self.max_value, f"a value of {max(sizes)} bytes"
        size = sum(sizes) + sum(len(one.key) for one in writes)
        assert size <= self.max_bytes, f"{size} bytes"
        assert len({one.key for one in writes}) == len(writes), "a key twice"

        def made() -> int:
            self.before_write(writes)
            index = self.server.write(writes)
            if self.lost_answers:
                self.lost_answers -= 1
                raise StoreError("memory: no answer")
            return index

        return self._answer(made)

    def _answer(self, call: Callable[[], Any]) -> Deferred[Any]:
        if self.held is None:
            return self._called(call)
        answer: Deferred[Any] = Deferred()
        self.held.append(lambda: self._called(call).chainDeferred(answer))
        return answer

    def _called(self, call: Callable[[], Any]) -> Deferred[Any]:
        if self.life is not None:
            self.life -= 1
            if self.life < 0:
                return fail(StoreError("memory: killed"))
        if self.server.away:
            return fail(StoreError(self.server.away))
        try:
            return succeed(call())
        except (StoreError, LostRaceError) as error:
            return fail(error)

    def watch(
        self, seen: Content, changed: Callable[[Content], None], failed: Callable[[str], None]
    ) -> None:
        """See :class:`Tree`."""
        self._changed, self._failed, self._seen = changed, failed, seen.index
        self.server.trees.append(self)
        self.hear()

    def hear(self) -> None:
        """Tell what is new."""
        if self._changed is None or self._failed is None:
            return
        if self.server.away:
            self._was_away = True
            self._failed(self.server.away)
        elif self._was_away or self.server.index != self._seen:
            self._was_away = False
            self._seen = self.server.index
            self._changed(self.server.content)

    def close(self) -> Deferred[Any]:
        """See :class:`Tree`."""
        self._changed = self._failed = None
        if self in self.server.trees:
            self.server.trees.remove(self)
        return succeed(None)
