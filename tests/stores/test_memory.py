"""The store that forgets."""

from __future__ import annotations

import pytest_twisted

from slardar.model.change import StoredState
from slardar.stores.memory import MemoryStore
from slardar.testing.stores import StoreContract, change_of, hook_of


class TestMemoryStore(StoreContract):
    durable = False

    def make_store(self) -> MemoryStore:
        return MemoryStore()


@pytest_twisted.ensureDeferred
async def test_state_is_what_was_committed() -> None:
    """``state`` is what open would return, until the store is closed."""
    store = MemoryStore()
    await store.open()
    value = {"servers": [{"host": "a"}]}
    await store.commit(0, change_of("a", value))
    value["servers"].clear()
    await store.commit(1, change_of("b", None))
    await store.commit(2, change_of("", [{"path": "/"}]))
    upstreams = {"a": {"servers": [{"host": "a"}]}, "b": None}
    assert store.state == StoredState(3, upstreams, [{"path": "/"}])
    await store.close()
    assert store.state == StoredState()


@pytest_twisted.ensureDeferred
async def test_hooks_are_taken_over() -> None:
    """They come with the rest of another process's store, and can be changed from there."""
    store = MemoryStore()
    await store.open()
    await store.commit(0, hook_of("lua/script.a", {"active": "x"}))
    await store.commit(1, hook_of("lua/modules.b", {"active": "y"}))
    await store.commit(2, hook_of("lua/modules.b", None))
    state = store.state
    assert state == StoredState(3, {}, None, {"lua/script.a": {"active": "x"}})
    heir = MemoryStore()
    heir.take_over(state)
    assert await heir.open() == state
    assert await heir.commit(3, hook_of("lua/script.a", None)) == 4
    assert heir.state == StoredState(4)
    assert store.state == state
