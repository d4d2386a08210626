"""The queues of steps that turns left over."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.dataplane.poller import Poller
from slardar.dataplane.steps import Arrival, StepQueues
from slardar.http1.interfaces import Step
from tests.dataplane.conftest import Connect
from tests.dataplane.kit import HandReactor


class Named(Step):
    """A step that can be told from others."""

    def __init__(self, name: str, done: list[str] | None = None) -> None:
        self.name = name
        self.done = [] if done is None else done

    def look(self) -> None:
        self.done.append(f"{self.name} looks")

    def go_on(self) -> None:
        self.done.append(f"{self.name} goes on")


def test_queues_take_turns(connect: Connect) -> None:
    """A key with many steps does not keep another one waiting; the steps of a key stay in
    order, and a key that comes again waits behind the others."""
    channel, _, _ = connect(unix=True)
    queues = StepQueues()
    for key, name in (("a", "a1"), ("a", "a2"), ("a", "a3"), ("b", "b1"), ("c", "c1")):
        queues.put(channel, Named(name), key)

    def take() -> str:
        who, step = queues.take()
        assert who is channel
        assert isinstance(step, Named)
        return step.name

    assert [take() for _ in range(4)] == ["a1", "b1", "c1", "a2"]
    queues.put(channel, Named("b2"), "b")
    assert list(queues.keys) == ["a", "b"]
    assert [take() for _ in range(2)] == ["a3", "b2"]
    assert not queues.keys
    with pytest.raises(IndexError):
        queues.take()


def test_step_for_a_later_turn(poller: Poller, hand: HandReactor, connect: Connect) -> None:
    """Outside of a batch, too: the reactor calls, and both parts are done then."""
    channel, _, _ = connect(unix=True)
    done: list[str] = []
    channel.take_later(Named("one", done), "a")
    assert done == []
    hand.turn()
    assert done == ["one looks", "one goes on"]


def test_arrival_is_handled_once(connect: Connect) -> None:
    """In the first part; nothing is left for the second."""
    channel, _, protocol = connect(unix=True)
    channel.arriving = True
    arrival: Any = Arrival(channel, b"data")
    arrival.look()
    assert (protocol.data, channel.arriving) == (b"data", False)
    arrival.go_on()
    assert protocol.data == b"data"
