"""The store that forgets."""

from __future__ import annotations

from typing import Any

import pytest_twisted
from msgspec.structs import replace

from slardar.model.change import StoredState
from slardar.stores.memory import MemoryStore
from slardar.testing.stores import (
    StoreContract,
    acme_of,
    certificate_of,
    change_of,
    hook_of,
)


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
    await store.commit(0, [change_of("a", value)], 1)
    value["servers"].clear()
    await store.commit(1, [change_of("b", None)], 2)
    await store.commit(2, [change_of("", [{"path": "/"}])], 3)
    upstreams = {"a": {"servers": [{"host": "a"}]}, "b": None}
    assert store.state == StoredState(3, upstreams, [{"path": "/"}], revision=3)
    await store.close()
    assert store.state == StoredState()


@pytest_twisted.ensureDeferred
async def test_hooks_are_taken_over() -> None:
    """They come with the rest of another process's store, and can be changed from there."""
    store = MemoryStore()
    await store.open()
    await store.commit(0, [hook_of("lua/script.a", {"active": "x"})], 1)
    await store.commit(1, [hook_of("lua/modules.b", {"active": "y"})], 2)
    last = [certificate_of("c", {"key": "x"}), acme_of("account", {"n": 1})]
    await store.commit(2, [hook_of("lua/modules.b", None), *last], 3)
    state = store.state
    hooks = {"lua/script.a": {"active": "x"}}
    kept: dict[str, Any] = {"certificates": {"c": {"key": "x"}}, "acme": {"account": {"n": 1}}}
    assert state == StoredState(3, {}, None, hooks, 3, **kept)
    heir = MemoryStore()
    heir.take_over(state)
    found = await heir.open()
    assert found == replace(state, revision=found.revision)
    revision = await heir.commit(found.revision, [hook_of("lua/script.a", None)], 4)
    assert heir.state == StoredState(4, revision=revision, **kept)
    assert store.state == state
