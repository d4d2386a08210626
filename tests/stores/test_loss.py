"""Which states have lost what is served."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.model.change import TO_FILE, StoredState
from slardar.stores.loss import is_restored, lost
from tests.control.fakes import upstream


def state_of(*names: str, version: int = 1, **more: Any) -> StoredState:
    return StoredState(version, {name: upstream(1) for name in names}, **more)


MANY = [f"u{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("before", "after", "is_lost"),
    [
        (state_of("a"), state_of(), True),
        (state_of(), state_of(), False),
        (state_of(), state_of("a"), False),
        # One thing in the place of another is no loss of everything.
        (state_of("a"), state_of("b"), False),
        (state_of("a", "b"), state_of("b"), False),
        # Made by a slardar.
        (state_of("a"), state_of(version=2), False),
        (state_of("a", version=2), state_of(version=1), True),
        # Ten things or more.
        (state_of(*MANY), state_of("u0"), False),
        (state_of(*MANY, "u10"), state_of("u0"), True),
        (state_of(*MANY), state_of("new"), True),
        (state_of(*MANY[:9]), state_of("new"), False),
        # Marks are nothing; everything else is something.
        (StoredState(1, {"a": None, "b": TO_FILE}, TO_FILE), state_of(), False),
        (state_of("a"), StoredState(1, {"a": None}), True),
        (StoredState(1, {}, [{"upstream": "a"}]), state_of(), True),
        (StoredState(1, hooks={"lua/script.a": 1}), state_of(), True),
        (StoredState(1, services={"a": {}}), state_of(), True),
        (StoredState(1, settings={"a": 1}), state_of(), True),
        (StoredState(1, certificates={"a": {}}), state_of(), True),
        (StoredState(1, acme={"a": {}}), state_of(), False),
        # What cannot be read is there.
        (state_of("a"), state_of(broken={"upstreams.a": "no JSON"}), False),
        (state_of("a"), state_of(broken={".slardar/meta": "no JSON"}), True),
    ],
)
def test_what_counts_as_lost(before: StoredState, after: StoredState, is_lost: bool) -> None:
    """Everything, or nearly everything of many things, unless a slardar has made the state."""
    assert bool(lost(before, after)) == is_lost


@pytest.mark.parametrize(
    ("before", "after", "is_back"),
    [
        (state_of("a"), state_of("a", "new"), True),
        (state_of("a", "b", "c"), state_of("a", "b"), False),
        (state_of(*MANY), state_of(*MANY[:9]), True),
        (state_of(*MANY), state_of(*MANY[:8]), False),
        (state_of("a"), state_of(broken={"upstreams.a": "no JSON"}), True),
    ],
)
def test_what_counts_as_restored(before: StoredState, after: StoredState, is_back: bool) -> None:
    """Nine in ten of the things, so all of a few."""
    assert is_restored(before, after) == is_back
