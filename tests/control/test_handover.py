"""Changes while one process hands the store over to another."""

from __future__ import annotations

from typing import Any

import pytest
from twisted.internet import defer

from slardar.control.actions import MovedError
from slardar.errors import StoreError
from slardar.model.change import StoredState
from slardar.stores.memory import MemoryStore
from tests.control.fakes import (
    FakePlane,
    FakeStore,
    WebClient,
    error_of,
    make_actions,
    result_of,
    upstream,
)


class ClosedStore(FakeStore):
    """Records when it is opened and closed."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[str] = []

    def open(self) -> defer.Deferred[Any]:
        self.calls.append("open")
        return super().open()

    def close(self) -> defer.Deferred[None]:
        self.calls.append("close")
        return super().close()


def test_change_under_way_is_made_first() -> None:
    """Then the store is closed, and opened again if the other process does not take it."""
    store = ClosedStore()
    actions = make_actions(store, FakePlane())
    store.held = []
    first = actions.set_upstream("a", upstream(1), "x")
    given = actions.hand_over()
    second = actions.set_upstream("b", upstream(2), "x")
    assert store.calls == ["open"]
    store.held.pop()()
    assert result_of(first).version == 1
    assert result_of(given) is None
    assert store.calls == ["open", "close"]
    assert not second.called
    assert list(actions.upstreams()) == ["a"]
    store.held = None
    assert result_of(actions.take_back()) is None
    assert store.calls == ["open", "close", "open"]
    assert result_of(second).version == 2


def test_changes_that_waited_are_told_to_come_again() -> None:
    """They get this answer once another process has the store; reads are answered all the time."""
    actions = make_actions(ClosedStore(), FakePlane())
    result_of(actions.hand_over())
    client, asking = WebClient(actions), WebClient(actions)
    client.request("PUT", "/upstream/a", upstream(1))
    waiting = actions.set_routes([], "x")
    assert client.received() is None
    assert asking.call("GET", "/upstreams").json == {}
    actions.moved()
    reply = client.received()
    assert reply is not None
    assert (reply.status, reply.headers["Retry-After"]) == (503, "1")
    assert reply.json == {"status": 503, "msg": "slardar was upgraded meanwhile: ask again"}
    error_of(waiting, MovedError)
    error_of(actions.remove_upstream("a", "x"), MovedError)


def test_store_that_cannot_be_taken_back_takes_no_change() -> None:
    """Changes do not wait for ever then."""
    store = ClosedStore()
    actions = make_actions(store, FakePlane())
    result_of(actions.hand_over())
    waiting = actions.set_upstream("a", upstream(1), "x")
    store.error = StoreError("gone")
    error_of(actions.take_back(), StoreError)
    error_of(waiting, StoreError)


def test_store_that_forgets_is_carried_over() -> None:
    """Its version and its removals are, too; if the upgrade fails, the old process goes on
    with it."""
    one = make_actions(MemoryStore(), FakePlane(), upstreams={"gone": upstream(3)})
    result_of(one.set_upstream("a", upstream(1), "x"))
    result_of(one.remove_upstream("gone", "x"))
    result_of(one.set_routes([{"host": "h", "upstream": "a"}], "x"))
    state = result_of(one.hand_over())
    assert isinstance(state, StoredState)
    store = MemoryStore()
    store.take_over(state)
    other = make_actions(store, FakePlane(), upstreams={"gone": upstream(3)})
    assert other.status()["fingerprint"] == one.status()["fingerprint"]
    assert result_of(other.set_upstream("b", upstream(2), "x")).version == 4
    result_of(one.take_back())
    assert result_of(one.set_upstream("c", upstream(2), "x")).version == 4
    assert store.state.upstreams.keys() == {"a", "b", "gone"}


@pytest.mark.parametrize("state", [StoredState(), StoredState(5, {"a": None}, [])])
def test_state_is_taken_over_as_it_is(state: StoredState) -> None:
    """Routes that were never set differ from an empty list."""
    store = MemoryStore()
    store.take_over(state)
    assert result_of(store.open()) == state


def test_status_lists_the_generations() -> None:
    """The process that answers comes first, then those before it."""
    actions = make_actions(FakeStore(), FakePlane())
    older = {"pid": 1, "age": 5.0, "connections": 3}
    actions.older_generations = lambda: [older]
    first, second = actions.status()["generations"]
    assert set(first) == set(second)
    assert second == older
