"""The store that forgets."""

from __future__ import annotations

import pytest_twisted

from slardar.model.change import StoredState
from slardar.stores.memory import MemoryStore
from slardar.testing.stores import StoreContract, change_of


class TestMemoryStore(StoreContract):
    durable = False

    def make_store(self) -> MemoryStore:
        return MemoryStore()


@pytest_twisted.ensureDeferred
async def test_state_is_what_was_committed() -> None:
    """What it holds can be looked at, as open would give it, until it is closed."""
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
