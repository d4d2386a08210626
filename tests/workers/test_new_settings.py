"""Timeouts and limits that change while workers serve: what director and worker do."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from slardar.config import Control, Hooks, Limits, Settings, Timeouts, Token
from slardar.workers.messages import Begin, Done, Drain, TakeSettings, lean_settings
from tests.dataplane.kit import logged
from tests.workers.kit import result_of, snapshot, upstream
from tests.workers.team import Team
from tests.workers.test_worker import Director

NEW = Settings(
    timeouts=Timeouts(read=6, drain=9),
    limits=Limits(url=13),
    hooks=Hooks(on_error="continue"),
    control=Control(tokens=(Token("ops", "0" * 64),)),
)


@pytest.fixture(autouse=True)
def log() -> Iterator[list[Any]]:
    """The events that were logged, deaths among them."""
    with logged() as events:
        yield events


@pytest.fixture
def director(_hidden_heap: None) -> Iterator[Director]:
    """A director with a worker that serves; nothing of it remains after the test."""
    found = Director()
    found.begin(snapshot(3, upstream("a", 1)))
    yield found
    found.plane.stop(0)
    for _ in range(50):
        found.reactor.advance(0.05)


def test_worker_takes_them(director: Director) -> None:
    """Upstreams in use get them, too; the worker confirms the version that it still serves."""
    found = director.selection("a")
    assert director.tell(TakeSettings(lean_settings(NEW))) == Done(3)
    assert director.plane.max_url == 13
    assert director.selection("a") is found
    assert found.read_timeout == 6


def test_worker_takes_none_before_it_has_begun() -> None:
    """It refuses them as it refuses any other message."""
    assert Director().tell(TakeSettings(lean_settings(NEW))) == Done(0, "expected begin first")


def test_all_workers_are_told_and_waited_for() -> None:
    """No worker gets secrets."""
    team = Team()
    team.start()
    team.processes[1].is_slow = True
    taken = team.workers.take_settings(NEW)
    assert not taken.called
    team.processes[1].go_on()
    assert result_of(taken) is None
    for process in team.processes:
        (message,) = process.of(TakeSettings)
        assert message.settings.timeouts == NEW.timeouts
        assert message.settings.limits == NEW.limits
        assert message.settings.control == Control()


def test_worker_that_is_still_starting_is_told_too() -> None:
    """It has begun with the former settings."""
    team = Team(1, lambda process: setattr(process, "is_slow", True))
    team.apply(snapshot(1))
    team.workers.start()
    taken = team.workers.take_settings(NEW)
    (process,) = team.processes
    assert [type(message) for message in process.told] == [Begin, TakeSettings]
    process.go_on()
    assert result_of(taken) is None


def test_replacement_begins_with_them() -> None:
    """It has the new timeouts and limits, and otherwise the settings of all others."""
    team = Team()
    first = team.start()
    result_of(team.workers.take_settings(NEW))
    first.die()
    team.clock.advance(0)
    (begin,) = team.processes[2].of(Begin)
    assert begin.settings.timeouts == NEW.timeouts
    assert begin.settings.limits == NEW.limits
    assert begin.settings.hooks == Settings().hooks


def test_worker_that_cannot_take_them_is_replaced() -> None:
    """The others do not wait for it, nor for one that dies meanwhile."""
    team = Team(3)
    first = team.start()
    first.answers.append(Done(1, "ValueError: no"))
    team.processes[1].is_slow = True
    taken = team.workers.take_settings(NEW)
    team.processes[1].die()
    assert result_of(taken) is None
    assert first.kills == ["it could not take the settings: ValueError: no"]
    assert team.processes[2].kills == []


def test_next_stop_uses_the_new_drain() -> None:
    """The workers get the new value."""
    team = Team()
    first = team.start()
    result_of(team.workers.take_settings(NEW))
    team.workers.stop()
    assert [message.seconds for message in first.of(Drain)] == [9]


def test_they_may_come_before_the_start() -> None:
    """No worker is told then, and all begin with them."""
    team = Team()
    assert result_of(team.workers.take_settings(NEW)) is None
    first = team.start()
    (begin,) = first.of(Begin)
    assert begin.settings.limits == NEW.limits
