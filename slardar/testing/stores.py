"""What every store must do, as tests that any store can be put through.

A store's own test file says how to make one, and gets the tests of this class::

    class TestMyStore(StoreContract):
        @pytest.fixture(autouse=True)
        def place(self, tmp_path):
            self.path = tmp_path / "mine.db"

        def make_store(self):
            return MyStore(self.path)

Each test returns a Deferred, so they run under pytest-twisted and, with
``twisted.trial.unittest.TestCase`` as a second base class, under trial.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from functools import wraps
from typing import Any, TypeVar

from msgspec.json import encode
from twisted.internet.defer import Deferred, gatherResults
from zope.interface.verify import verifyObject

from slardar.errors import ConflictError, StoreError
from slardar.interfaces import IStore
from slardar.model.change import Change, StoredState

__all__ = ["StoreContract", "change_of", "hook_of"]

S = TypeVar("S", bound="StoreContract")


def change_of(name: str, value: object, who: str = "test") -> Change:
    """A change of the upstream ``name``, or of the routes if that is empty."""
    return Change("upstream" if name else "routes", name, value, who, 1700000000.25)


def hook_of(name: str, value: object) -> Change:
    """A change of the hook ``name``: language and name with a slash between."""
    return Change("hook", name, value, "test", 1700000000.25)


def _deferred(test: Callable[[S], Coroutine[Any, Any, None]]) -> Callable[[S], Deferred[None]]:
    """A test that any runner knows how to wait for; its stores are closed after it."""

    async def run(self: S) -> None:
        self._made = []
        try:
            await test(self)
        finally:
            for store in self._made:
                await store.close()

    @wraps(test)
    def start(self: S) -> Deferred[None]:
        return Deferred.fromCoroutine(run(self))

    # pytest and mypy would look through to the coroutine function.
    del start.__wrapped__
    return start


class StoreContract:
    """Tests of an :class:`slardar.interfaces.IStore`."""

    #: Whether a store opened later at the same place finds what was committed.
    durable = True

    _made: list[Any]

    def make_store(self) -> Any:
        """A store that is not open yet.

        Within one test every call gives another store for the same place, and for
        each test that place is a new, empty one.
        """
        raise NotImplementedError

    @_deferred
    async def test_store_provides_the_interface(self) -> None:
        """Every method is there, with the arguments that callers give."""
        verifyObject(IStore, self._make())

    @_deferred
    async def test_new_store_is_empty(self) -> None:
        """Version 0, no upstreams, and routes that were never set."""
        _expect(await self._make().open(), StoredState(0, {}, None))

    @_deferred
    async def test_each_commit_is_one_version(self) -> None:
        """A commit to the current version answers with the next, whatever it changes."""
        store = await self._opened()
        _expect(await store.commit(0, change_of("a", {"servers": []})), 1)
        _expect(await store.commit(1, change_of("a", {"servers": []})), 2)
        _expect(await store.commit(2, change_of("", [])), 3)
        _expect(await store.commit(3, change_of("a", None)), 4)

    @_deferred
    async def test_commit_to_another_version_changes_nothing(self) -> None:
        """An older or newer version is a conflict; the right one then still works."""
        store = await self._opened()
        await store.commit(0, change_of("a", 1))
        for wrong in (0, 2, -1, 2**40):
            await _fails(ConflictError, store.commit(wrong, change_of("a", "lost")))
        _expect(await store.commit(1, change_of("b", 2)), 2)
        await self._holds(store, StoredState(2, {"a": 1, "b": 2}, None))

    @_deferred
    async def test_one_of_two_rivals_wins(self) -> None:
        """Of several commits to one version under way together, the first is made."""
        store = await self._opened()
        first = store.commit(0, change_of("a", "first"))
        rivals = [store.commit(0, change_of("a", number)) for number in range(3)]
        _expect(await first, 1)
        for rival in rivals:
            await _fails(ConflictError, rival)
        await self._holds(store, StoredState(1, {"a": "first"}, None))

    @_deferred
    async def test_queued_commits_keep_their_order(self) -> None:
        """Commits that do not wait for each other are made in the order of the calls."""
        store = await self._opened()
        queued = [store.commit(n, change_of(f"u{n % 7}", n)) for n in range(50)]
        _expect(await gatherResults(queued), list(range(1, 51)))
        last = {f"u{n % 7}": n for n in range(50)}
        await self._holds(store, StoredState(50, last, None))

    @_deferred
    async def test_close_finishes_what_is_queued(self) -> None:
        """By the time close fires, every commit called before it has been answered."""
        store = await self._opened()
        answers: list[int] = []
        for n in range(10):
            store.commit(n, change_of("a", n)).addCallback(answers.append)
        await store.close()
        _expect(answers, list(range(1, 11)))
        await self._holds(store, StoredState(10, {"a": 9}, None))

    @_deferred
    async def test_values_come_back_as_they_were(self) -> None:
        """Any JSON value, whatever its types, characters and size."""
        store = await self._opened()
        values: Mapping[str, Any] = {
            "plain": {"servers": [{"host": "127.0.0.1", "port": 80, "weight": 0.5}]},
            "empty": {},
            "false": False,
            "zero": 0,
            "text": "",
            "null inside": {"default": None, "list": [None]},
            "characters": {"é": "Ω \U0001f600 \x00 \" ' \\ \n"},
            "numbers": [2**63 - 1, -(2**63), 1e-300, 0.1],
            "deep": {"a": [[[[{"b": [{}]}]]]]},
            "long": "x" * (1 << 20),
            "*.wildcard.example": {"cluster": {"dc1": {"servers": []}}},
        }
        for version, (name, value) in enumerate(values.items()):
            await store.commit(version, change_of(name, value))
        await self._holds(store, StoredState(len(values), values, None))

    @_deferred
    async def test_value_is_taken_at_the_call(self) -> None:
        """What the caller does to the value afterwards is not stored."""
        store = await self._opened()
        value = {"servers": ["first"]}
        answer = store.commit(0, change_of("a", value))
        value["servers"].append("late")
        await answer
        await self._holds(store, StoredState(1, {"a": {"servers": ["first"]}}, None))

    @_deferred
    async def test_removed_upstream_stays_known(self) -> None:
        """It is kept as None, also if it was never there, until it is set again."""
        store = await self._opened()
        await store.commit(0, change_of("a", {"mode": "rr"}))
        await store.commit(1, change_of("a", None))
        await store.commit(2, change_of("from a file", None))
        store = await self._holds(store, StoredState(3, {"a": None, "from a file": None}, None))
        if self.durable:
            await store.commit(3, change_of("a", {"mode": "hash"}))
            state = StoredState(4, {"a": {"mode": "hash"}, "from a file": None}, None)
            await self._holds(store, state)

    @_deferred
    async def test_routes_are_apart_from_upstreams(self) -> None:
        """They are set, replaced as a whole and removed without touching an upstream."""
        store = await self._opened()
        routes = [{"host": "a.example", "path": "/", "upstream": "routes"}]
        await store.commit(0, change_of("routes", {"servers": []}))
        await store.commit(1, change_of("", routes))
        upstreams: Mapping[str, Any] = {"routes": {"servers": []}}
        store = await self._holds(store, StoredState(2, upstreams, routes))
        if self.durable:
            await store.commit(2, change_of("", []))
            store = await self._holds(store, StoredState(3, upstreams, []))
            await store.commit(3, change_of("", None))
            await self._holds(store, StoredState(4, upstreams, None))

    @_deferred
    async def test_hooks_are_apart_from_upstreams(self) -> None:
        """They are set, replaced and removed by language and name; of one that was removed
        nothing is left, since no file could bring it back."""
        store = await self._opened()
        name = "lua/script.*"
        hook = {"active": {"code": "x = 'é\\n'" * 10_000, "time": 1.5}, "staged": None}
        await store.commit(0, change_of(name, {"servers": []}))
        await store.commit(1, hook_of(name, {"active": None}))
        await store.commit(2, hook_of(name, hook))
        await store.commit(3, hook_of("python/script.*", hook))
        await store.commit(4, hook_of("python/modules.gone", hook))
        await store.commit(5, hook_of("python/modules.gone", None))
        upstreams: Mapping[str, Any] = {name: {"servers": []}}
        hooks: Mapping[str, Any] = {name: hook, "python/script.*": hook}
        store = await self._holds(store, StoredState(6, upstreams, None, hooks))
        if self.durable:
            await store.commit(6, change_of(name, None))
            await store.commit(7, hook_of("python/script.*", None))
            await store.commit(8, hook_of("python/modules.gone", 1))
            hooks = {name: hook, "python/modules.gone": 1}
            await self._holds(store, StoredState(9, {name: None}, None, hooks))

    @_deferred
    async def test_several_changes_are_one_version(self) -> None:
        """All of them or none: one that cannot be stored leaves the others out."""
        store = await self._opened()
        await store.commit(0, change_of("a", 1))
        changes = [change_of("a", 2), hook_of("lua/script.a", {"x": 1}), change_of("", [])]
        _expect(await store.commit(1, *changes), 2)
        await _fails(ConflictError, store.commit(1, change_of("a", 3), change_of("b", 3)))
        await _fails(StoreError, store.commit(2, change_of("a", 4), change_of("b", object())))
        _expect(await store.commit(2, change_of("c", 5), change_of("c", 6)), 3)
        state = StoredState(3, {"a": 2, "c": 6}, [], {"lua/script.a": {"x": 1}})
        await self._holds(store, state)

    @_deferred
    async def test_value_that_is_no_json_is_refused(self) -> None:
        """It is a StoreError, nothing is written, and the next commit works."""
        store = await self._opened()
        for value in (object(), {1j: 1}, "\ud800", [{"a": {"b": object()}}]):
            await _fails(StoreError, store.commit(0, change_of("a", value)))
        await _fails(StoreError, store.commit(0, change_of("\ud800", {})))
        await _fails(StoreError, store.commit(0, change_of("a", {}, who="\ud800")))
        _expect(await store.commit(0, change_of("b", {})), 1)
        await self._holds(store, StoredState(1, {"b": {}}, None))

    @_deferred
    async def test_unknown_kind_is_refused(self) -> None:
        """What could not be given back by open is not taken by commit."""
        store = await self._opened()
        unknown: Any = "no such kind"
        await _fails(StoreError, store.commit(0, Change(unknown, "a", {}, "test", 0.0)))
        await _fails(StoreError, store.commit(0, Change("routes", "a", [], "test", 0.0)))
        await self._holds(store, StoredState(0, {}, None))

    @_deferred
    async def test_closed_store_takes_no_commits(self) -> None:
        """A commit before open, after close, or while closing is a StoreError."""
        store = self._make()
        await _fails(StoreError, store.commit(0, change_of("a", {})))
        await store.open()
        closing = store.close()
        late = store.commit(0, change_of("a", {}))
        await closing
        await _fails(StoreError, late)
        await _fails(StoreError, store.commit(0, change_of("a", {})))

    @_deferred
    async def test_store_is_opened_once(self) -> None:
        """Opening what is open is a StoreError, and does not disturb it."""
        store = await self._opened()
        await _fails(StoreError, store.open())
        _expect(await store.commit(0, change_of("a", {})), 1)

    @_deferred
    async def test_close_may_be_called_at_any_time(self) -> None:
        """Before open, twice, and twice without waiting: it always fires with None."""
        store = self._make()
        _expect(await store.close(), None)
        await store.open()
        _expect(await gatherResults([store.close(), store.close()]), [None, None])
        _expect(await store.close(), None)

    @_deferred
    async def test_closed_store_can_be_opened_again(self) -> None:
        """The same object: with what it held, or empty if it forgets."""
        store = await self._opened()
        await store.commit(0, change_of("a", {"mode": "rr"}))
        await store.close()
        found = StoredState(1, {"a": {"mode": "rr"}}, None) if self.durable else StoredState()
        _expect(await store.open(), found)
        _expect(await store.commit(found.version, change_of("a", None)), found.version + 1)

    def _make(self) -> Any:
        store = self.make_store()
        self._made.append(store)
        return store

    async def _opened(self) -> Any:
        store = self._make()
        _expect(await store.open(), StoredState(0, {}, None))
        return store

    async def _holds(self, store: Any, state: StoredState) -> Any:
        """Close the store and open another at its place, which is given back."""
        await store.close()
        again = self._make()
        _expect(await again.open(), state if self.durable else StoredState(0, {}, None))
        return again


def _expect(found: object, wanted: object) -> None:
    """What ``assert`` would do, but under every test runner and ``python -O``."""
    # Python's == takes False for 0; their JSON differs.
    if found != wanted or encode(found, order="sorted") != encode(wanted, order="sorted"):
        raise AssertionError(f"expected {_short(wanted)}, got {_short(found)}")


async def _fails(error: type[Exception], answer: Deferred[Any]) -> None:
    try:
        result = await answer
    except error as raised:
        if not str(raised) or "\n" in str(raised):
            raise AssertionError(f"expected one line of message, got {raised!s}") from None
        return
    raise AssertionError(f"expected {error.__name__}, got {_short(result)}")


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 1000 else f"{text[:1000]}..."
