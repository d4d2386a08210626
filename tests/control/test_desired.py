"""A whole state in the place of the one that is served."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from slardar.control.actions import Receipt
from slardar.control.desired import read_desired
from slardar.errors import ConfigError, StoreError
from slardar.model.change import TO_FILE, StoredState, differences
from slardar.model.hook import Code, Hook, written
from slardar.stores.memory import MemoryStore
from tests.control.fakes import (
    NOW,
    FakePlane,
    FakeStore,
    error_of,
    make_actions,
    result_of,
    upstream,
)

FILE = {"f": upstream(9), "g": upstream(8)}
SERVICES = {"s": {"dns_service": "_s._tcp.example"}}


def hook(name: str, code: str, **keys: Any) -> dict[str, Any]:
    """A hook in service, as a store holds it."""
    words = tuple(word for word in code.split() if word.startswith("modules."))
    return written(Hook("python", name, active=Code.of(code, NOW, words), **keys))


ROUTES = [{"path": "/x", "upstream": "f"}]
states = st.builds(
    StoredState,
    upstreams=st.dictionaries(
        st.sampled_from("abfgs"),
        st.sampled_from([None, TO_FILE, upstream(1), upstream(2), upstream(9)]),
    ),
    services=st.dictionaries(
        st.sampled_from("abfgs"),
        st.sampled_from([None, TO_FILE, SERVICES["s"], {"dns_service": "x", "mode": "hash"}]),
    ),
    routes=st.sampled_from([None, TO_FILE, [], ROUTES]),
    hooks=st.dictionaries(
        st.sampled_from(["python/script.a", "python/script.b"]), st.integers(0, 2)
    ).map(
        lambda found: {
            path: hook(path.partition("/")[2], f"code {number}") for path, number in found.items()
        }
    ),
)


def has_names_twice(state: StoredState) -> bool:
    """Whether a name is an upstream and a service, by the state and the file."""

    def is_there(name: str, values: Any, file: Any) -> bool:
        return values.get(name, TO_FILE) is not None and (
            values.get(name, TO_FILE) != TO_FILE or name in file
        )

    return any(
        is_there(name, state.upstreams, FILE) and is_there(name, state.services, SERVICES)
        for name in "abfgs"
    )


@given(states, states)
def test_state_is_served_as_a_start_would_serve_it(first: StoredState, then: StoredState) -> None:
    """From whatever to whatever: one version if anything differs, none if not; and the store
    holds what a restart makes the same of.  A state with a name that is two things is refused,
    unless it is so already."""
    assume(not has_names_twice(first))
    store = MemoryStore()
    store.take_over(first)
    plane = FakePlane()
    actions = make_actions(store, plane, upstreams=FILE, services=SERVICES)
    if has_names_twice(then):
        assert "left out" in error_of(actions.take_desired(then, "x"), ConfigError)
        assert differences(store.state, first) == []
        return
    before = actions.snapshot
    receipt = result_of(actions.take_desired(then, "x"))
    wanted = make_actions(FakeStore(then), FakePlane(), upstreams=FILE, services=SERVICES)
    snapshot = actions.snapshot
    assert snapshot.fingerprint == wanted.snapshot.fingerprint
    assert actions.origins() == wanted.origins()
    assert differences(store.state, then) == []
    if differences(first, then):
        assert receipt == Receipt(1, {"worker-0": 1})
        assert plane.applied[-1][0] is snapshot
        names = {*before.upstreams, *snapshot.upstreams}
        assert set(plane.applied[-1][1]) == {
            name for name in names if before.upstreams.get(name) is not snapshot.upstreams.get(name)
        }
        assert result_of(actions.take_desired(then, "x")) is None
    else:
        assert (receipt, snapshot, len(plane.applied)) == (None, before, 1)


def test_what_stays_is_the_same_object() -> None:
    """Workers are told of the rest only, and nothing of it is read again."""
    state = StoredState(
        5,
        {"a": upstream(1), "b": upstream(2)},
        ROUTES,
        {"python/script.a": hook("script.a", "x")},
        services={"c": SERVICES["s"]},
    )
    actions = make_actions(FakeStore(state), FakePlane(), upstreams=FILE, services=SERVICES)
    held, served = actions.held, actions.snapshot

    def refuse(*_: Any) -> None:
        raise AssertionError("it is read again")

    desired = read_desired(actions.settings, held, refuse, held, served)
    assert desired.is_served(served)
    other = held.after([], 6, "r")
    other = StoredState(
        6,
        {**other.upstreams, "a": upstream(1)},
        list(ROUTES),
        dict(other.hooks),
        services={"c": dict(SERVICES["s"])},
    )
    desired = read_desired(actions.settings, other, None, held, served)
    assert desired.is_served(served)
    for name, found in desired.upstreams.items():
        assert found is served.upstreams[name]


def test_number_in_the_place_of_false_is_a_difference() -> None:
    """Python takes them for the same, JSON does not."""
    one = StoredState(1, {"a": {**upstream(1), "public": False}})
    two = StoredState(1, {"a": {**upstream(1), "public": 0}})
    assert len(differences(one, two)) == 1
    actions = make_actions(FakeStore(one), FakePlane())
    assert "upstreams.a.public" in error_of(actions.take_desired(two, "x"), ConfigError)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (StoredState(1, {"a": upstream(2), "b": upstream(0)}), "upstreams.b.servers[0].port"),
        (StoredState(1, {"a": upstream(2)}, {"no": "list"}), "routes: expected a list"),
        (StoredState(1, {"a": upstream(2, mode="lost")}), "no balancer lost"),
        (
            StoredState(1, {"a": upstream(2)}, hooks={"python/script.a": {"language": "python"}}),
            "hooks.python/script.a",
        ),
        (
            StoredState(
                1, {"a": upstream(2)}, hooks={"python/script.a": hook("script.a", "it fails")}
            ),
            "script.a: line 1: it fails",
        ),
        (
            StoredState(
                1,
                hooks={
                    "python/script.a": hook("script.a", "use modules.gone"),
                    "python/script.b": hook("script.b", "it fails"),
                },
            ),
            "script.a: module modules.gone is not active; script.b: line 1: it fails",
        ),
    ],
)
def test_mistake_in_any_part_leaves_all_as_it_was(state: StoredState, message: str) -> None:
    """Neither store nor plane hears of the rest; every mistake is named."""
    store, plane = FakeStore(StoredState(7, {"a": upstream(1)})), FakePlane()
    actions = make_actions(store, plane)
    before = actions.snapshot
    assert message in error_of(actions.take_desired(state, "x"), ConfigError)
    store.error = StoreError("full")
    error_of(actions.take_desired(StoredState(1, {"a": upstream(2)}), "x"), StoreError)
    assert (store.changes, len(plane.applied)) == ([], 1)
    assert actions.snapshot is before
    assert actions.held.upstreams == {"a": upstream(1)}
    store.error = None
    assert result_of(actions.set_upstream("a", upstream(3), "x")).version == 8


def test_scripts_are_tried_with_the_modules_that_they_will_have() -> None:
    """Of what differs, and of whatever uses a module that differs or goes; of versions that
    no request gets only what is new is read."""
    module = {"python/modules.m": hook("modules.m", "em")}
    users = {
        "python/script.a": hook("script.a", "use modules.m"),
        "python/script.b": hook("script.b", "alone", previous=Code.of("old", NOW)),
    }
    plane = FakePlane()
    actions = make_actions(FakeStore(StoredState(1, hooks={**module, **users})), plane)
    assert plane.checked == []
    changed = {"python/modules.m": hook("modules.m", "new")}
    assert result_of(actions.take_desired(StoredState(hooks={**users, **changed}), "x"))
    modules = {"modules.m": "new"}
    assert plane.checked == [("modules.m", modules), ("script.a", modules)]
    error = error_of(actions.take_desired(StoredState(hooks=users), "x"), ConfigError)
    assert error == "script.a: module modules.m is not active"
    plane.checked.clear()
    staged = Code.of("next", NOW)
    more = {
        "python/script.b": hook("script.b", "alone", previous=Code.of("old", NOW), staged=staged)
    }
    assert result_of(actions.take_desired(StoredState(hooks={**users, **changed, **more}), "x"))
    assert plane.checked == [("script.b", None), ("script.b", modules)]


def test_module_that_was_loaded_again_stays_so() -> None:
    """Whoever missed the version with ``reload=1`` makes up for it with this one."""
    actions = make_actions(FakeStore(StoredState(1, {"a": upstream(1)})), FakePlane())
    known = actions.snapshot.upstreams["a"]
    from msgspec.structs import replace

    actions.snapshot = actions.snapshot.with_upstream(replace(known, loaded=5))
    result_of(actions.take_desired(StoredState(1, {"a": upstream(2)}), "x"))
    assert actions.snapshot.upstreams["a"].loaded == 5
