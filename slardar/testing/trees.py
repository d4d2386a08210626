"""A tree of keys in memory, and what every tree must do, as tests.

A tree's own test file says how to make one, and gets the tests of :class:`TreeContract`, as with
:class:`slardar.testing.stores.StoreContract`::

    class TestMyTree(TreeContract):
        def make_tree(self):
            return MyTree(self.url)

The tree in memory is beside the contract, a little over 500 lines together, for it shows what the
contract means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, fail, succeed

from slardar.errors import StoreError
from slardar.stores.tree import Content, Entry, LostRaceError, Tree, Write
from slardar.testing.contracts import Contract, deferred

__all__ = ["MemoryServer", "MemoryTree", "TreeContract"]

#: Seconds that a watch may take to tell something.
_PATIENCE = 20.0


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
        """All keys.  Entries that have not changed are the same objects."""
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
        assert size <= self.max_bytes or len(writes) == 1, f"{size} bytes"
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

    def tell(self, content: Content) -> None:
        """Tell a content that was on its way for a while."""
        if self._changed is not None:
            self._changed(content)

    def close(self) -> Deferred[Any]:
        """See :class:`Tree`."""
        self._changed = self._failed = None
        if self in self.server.trees:
            self.server.trees.remove(self)
        return succeed(None)


class _Watch:
    """What a tree's watch has told."""

    def __init__(self, tree: Tree, seen: Content) -> None:
        self.told: list[Content] = []
        self.reasons: list[str] = []
        self._waiting: list[tuple[Callable[[], bool], Deferred[None]]] = []
        tree.watch(seen, self._changed, self._failed)

    def _changed(self, content: Content) -> None:
        self.told.append(content)
        self._look()

    def _failed(self, reason: str) -> None:
        self.reasons.append(reason)
        self._look()

    def _look(self) -> None:
        for one in list(self._waiting):
            if one[0]():
                self._waiting.remove(one)
                one[1].callback(None)

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait until something holds.  It is looked at whenever the watch has told something."""
        from twisted.internet import reactor  # noqa: TID251

        if not holds():
            waiting: Deferred[None] = Deferred()
            self._waiting.append((holds, waiting))
            await waiting.addTimeout(_PATIENCE, reactor)

    async def holds(self, **wanted: bytes) -> Content:
        """Wait for a content with just these values."""
        await self.until(lambda: bool(self.told) and _values(self.told[-1]) == wanted)
        return self.told[-1]


class TreeContract(Contract):
    """Tests of a :class:`slardar.stores.tree.Tree`."""

    def make_tree(self) -> Tree:
        """A tree that has not been used yet.

        Within one test every call gives another one for the same place.  For each test the place
        is a new and empty one.
        """
        raise NotImplementedError

    #: What makes the server unreachable, and what brings it back.  Without them it is not tested
    #: what a tree does meanwhile.
    cut: Callable[[], Any] | None = None
    heal: Callable[[], Any] | None = None

    def _make(self) -> Tree:
        tree = self.make_tree()
        self._made.append(tree)
        return tree

    @deferred
    async def test_new_place_is_empty(self) -> None:
        """There is nothing in it, and reading makes nothing."""
        for _ in range(2):
            _expect(_values(await self._make().read()), {})

    @deferred
    async def test_values_come_back_as_they_were(self) -> None:
        """Any bytes, also none, under any key that a name may have, one below another, too."""
        values = {
            "a": b"plain",
            "a/b": b"below a key with a value",
            "a/b/c/d": b"deep",
            "empty": b"",
            "bytes": bytes(range(256)),
            "upstreams/*.example.com": b"{}",
            "lua/script.[::1]": b"return",
            "a b": b"space",
            "%2F": b"quoted",
            "q?x=1&y=2#z+~;": b"what URLs have a meaning for",
            "\u00e9\u4e2d": b"letters",
            ".slardar/meta": b"1",
        }
        tree = self._make()
        for key, value in values.items():
            await tree.write([Write(key, value)])
        for one in (tree, self._make()):
            _expect(_values(await one.read()), values)

    @deferred
    async def test_index_is_that_of_the_last_write(self) -> None:
        """All keys of a write have the one that the write answers; it grows; the others keep
        theirs."""
        tree = self._make()
        first = await tree.write([Write("a", b"1"), Write("b", b"1")])
        second = await tree.write([Write("a", b"1")])
        if not 0 < first < second:
            raise AssertionError(f"expected indexes that grow, got {first} and {second}")
        content = await self._make().read()
        _expect({key: one.index for key, one in content.entries.items()}, {"a": second, "b": first})
        if content.index < second:
            raise AssertionError(f"expected at least {second}, got {content.index}")

    @deferred
    async def test_key_is_written_only_as_expected(self) -> None:
        """With its index, 0 for a new key, or whatever it is."""
        tree = self._make()
        first = await tree.write([Write("a", b"1", 0)])
        await self._loses(tree, Write("a", b"lost", 0))
        second = await tree.write([Write("a", b"2", first)])
        await self._loses(tree, Write("a", b"lost", first))
        await self._loses(tree, Write("a", None, first))
        await self._loses(tree, Write("none", b"lost", second))
        await self._loses(tree, Write("none", None, second))
        await tree.write([Write("a", b"3")])
        await self._loses(tree, Write("a", None, second))
        _expect(_values(await tree.read()), {"a": b"3"})

    @deferred
    async def test_keys_are_written_together_or_not_at_all(self) -> None:
        """One that is not as expected keeps the others from being written, removed or made."""
        tree = self._make()
        index = await tree.write([Write("a", b"1"), Write("b", b"1"), Write("c/d", b"1")])
        await tree.write([Write("b", b"2")])
        writes = [
            Write("a", b"lost", index),
            Write("new", b"lost", 0),
            Write("c/d", None, index),
            Write("b", b"lost", index),
        ]
        for order in (writes, writes[::-1]):
            await self._loses(tree, *order)
        _expect(_values(await tree.read()), {"a": b"1", "b": b"2", "c/d": b"1"})
        index = await tree.write([Write("a", None, index), Write("new", b"1", 0), Write("b", b"3")])
        _expect(_values(await tree.read()), {"new": b"1", "b": b"3", "c/d": b"1"})

    @deferred
    async def test_removed_key_is_gone(self) -> None:
        """With its own index, or whatever it is; keys below it stay, and it can be made again."""
        tree = self._make()
        index = await tree.write([Write(key, b"1", 0) for key in ("a", "a/b", "c")])
        await tree.write([Write("a", None, index), Write("c", None)])
        _expect(_values(await tree.read()), {"a/b": b"1"})
        await tree.write([Write("a/b", None)])
        _expect(_values(await tree.read()), {})
        later = await tree.write([Write("a", b"2", 0)])
        if later <= index:
            raise AssertionError(f"expected more than {index}, got {later}")

    @deferred
    async def test_one_of_several_rivals_wins(self) -> None:
        """Of writes that expect the same, one is made, and the others know that they are not."""
        trees = [self._make() for _ in range(5)]
        index = await trees[0].write([Write("a", b"0", 0)])
        rivals = [
            tree.write([Write("a", b"%d" % number, index), Write(f"b{number}", b"", 0)])
            for number, tree in enumerate(trees)
        ]
        answers: Any = await DeferredList(rivals, consumeErrors=True)
        (winner,) = [number for number, (made, _) in enumerate(answers) if made]
        for made, answer in answers:
            if not made:
                answer.trap(LostRaceError)
        wanted = {"a": b"%d" % winner, f"b{winner}": b""}
        _expect(_values(await self._make().read()), wanted)

    @deferred
    async def test_write_may_be_as_large_as_is_said(self) -> None:
        """In keys, in a value, and in bytes."""
        tree = self._make()
        number = min(tree.max_writes, 5000)
        await tree.write([Write(f"key{n}", b"1", 0) for n in range(number)])
        index = await tree.write([Write("large", b"w" * tree.max_value, 0)])
        index = await tree.write([Write("large", b"x" * tree.max_value, index)])
        size = min(tree.max_value, tree.max_bytes // 2 - 10)
        await tree.write([Write(key, b"y" * size) for key in ("one", "two")])
        content = await tree.read()
        _expect(len(content.entries), number + 3)
        _expect(content.entries["large"], Entry(b"x" * tree.max_value, index))
        _expect(content.entries["two"].value, b"y" * size)

    @deferred
    async def test_thousands_of_keys_are_read_at_once(self) -> None:
        """5,000 of them, with values as an upstream has them."""
        tree = self._make()
        value = b"x" * 200
        wanted = {f"upstreams/www{number}.example.com": value for number in range(5000)}
        keys = list(wanted)
        step = min(tree.max_writes, tree.max_bytes // 300)
        for start in range(0, len(keys), step):
            await tree.write([Write(key, value, 0) for key in keys[start : start + step]])
        _expect(_values(await self._make().read()), wanted)

    @deferred
    async def test_watch_tells_what_others_write(self) -> None:
        """The whole content, whatever was written, made or removed, by whomever; entries that have
        not changed are the same objects."""
        tree, other = self._make(), self._make()
        await other.write([Write("same", b"1"), Write("b", b"1")])
        seen = await tree.read()
        watch = _Watch(tree, seen)
        await other.write([Write("b", b"2"), Write("c/d", b"1")])
        await watch.holds(**{"same": b"1", "b": b"2", "c/d": b"1"})
        await other.write([Write("c/d", None)])
        content = await watch.holds(same=b"1", b=b"2")
        if content.entries["same"] is not seen.entries["same"]:
            raise AssertionError("expected the same object for an entry that has not changed")
        await other.write([Write("b", None)])
        await other.write([Write("same", None)])
        await watch.holds()

    @deferred
    async def test_watch_tells_what_was_written_before_it(self) -> None:
        """Since what was seen, in an empty place, too."""
        tree, other = self._make(), self._make()
        seen = await tree.read()
        await other.write([Write("a", b"1")])
        watch = _Watch(tree, seen)
        await watch.holds(a=b"1")

    @deferred
    async def test_watch_tells_in_order(self) -> None:
        """Many writes one after the other may be told together, but never backwards, and the last
        state is told."""
        tree, other = self._make(), self._make()
        watch = _Watch(tree, await tree.read())
        for number in range(50):
            await (tree, other)[number % 2].write([Write("a", b"%d" % number)])
        await watch.holds(a=b"49")
        numbers = [int(one.entries["a"].value) for one in watch.told if "a" in one.entries]
        _expect(numbers, sorted(numbers))
        indexes = [one.index for one in watch.told]
        _expect(indexes, sorted(indexes))

    @deferred
    async def test_closed_tree_tells_nothing_and_can_be_used_again(self) -> None:
        """It may be closed at any time, and again."""
        tree, other = self._make(), self._make()
        await tree.close()
        watch = _Watch(tree, await tree.read())
        await tree.close()
        await tree.close()
        count = len(watch.told)
        again = _Watch(other, await other.read())
        await other.write([Write("a", b"1")])
        await again.holds(a=b"1")
        _expect((len(watch.told), watch.reasons), (count, []))
        watch = _Watch(tree, await tree.read())
        await other.write([Write("a", b"2")])
        await watch.holds(a=b"2")

    @deferred
    async def test_server_that_is_away_fails_all_calls_until_it_is_back(self) -> None:
        """With the reason in one line; the watch goes on by itself, and tells even if nothing is
        new."""
        if self.cut is None or self.heal is None:
            return
        tree = self._make()
        await tree.write([Write("a", b"1")])
        watch = _Watch(tree, await tree.read())
        await self.cut()
        for call in (tree.read, lambda: tree.write([Write("a", b"lost")])):
            await _fails(StoreError, call())
        await watch.until(lambda: bool(watch.reasons))
        if not watch.reasons[0] or "\n" in watch.reasons[0]:
            raise AssertionError(f"expected one line, got {watch.reasons[0]!r}")
        watch.told.clear()
        await self.heal()
        await watch.holds(a=b"1")
        await tree.write([Write("a", b"2")])
        await watch.holds(a=b"2")

    async def _loses(self, tree: Tree, *writes: Write) -> None:
        await _fails(LostRaceError, tree.write(writes))


def _values(content: Content) -> dict[str, bytes]:
    return {key: entry.value for key, entry in content.entries.items()}


async def _fails(error: type[Exception], answer: Deferred[Any]) -> None:
    try:
        result = await answer
    except error as raised:
        if not str(raised) or "\n" in str(raised):
            raise AssertionError(f"expected one line of message, got {raised!s}") from None
        return
    raise AssertionError(f"expected {error.__name__}, got {result!r:.1000}")


def _expect(found: object, wanted: object) -> None:
    """What ``assert`` would do, but under every test runner and ``python -O``."""
    if found != wanted:
        raise AssertionError(f"expected {wanted!r:.1000}, got {found!r:.1000}")
