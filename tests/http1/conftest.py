"""Fixtures of the HTTP tests: plays that are checked when their test is over."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from slardar.testing.playbook import Playbook


@pytest.fixture
def new_play() -> Iterator[Callable[..., Playbook]]:
    """Makes playbooks; afterwards each is finished, and no counter and no channel may be left."""
    plays: list[Playbook] = []

    def make(servers: int = 1, **settings: Any) -> Playbook:
        plays.append(Playbook(servers, **settings))
        return plays[-1]

    yield make
    for play in plays:
        play.finish()


@pytest.fixture
def play(new_play: Callable[..., Playbook]) -> Playbook:
    """A playbook of one client and one server."""
    return new_play()
