"""Reminders: when they are called, and in which order."""

from __future__ import annotations

from twisted.internet.task import Clock as Reactor

from slardar.dataplane.reminders import Reminders
from slardar.http1.interfaces import Clock, Reminder
from tests.dataplane.kit import logged


class Note(Reminder):
    """Notes when it was called."""

    def __init__(self, play: Play, name: str, again: float = 0.0, fails: bool = False) -> None:
        self.play, self.name, self.again, self.fails = play, name, again, fails

    def due(self) -> None:
        self.play.called.append((self.name, round(self.play.clock.now, 3)))
        if self.again:
            self.play.reminders.put(self, self.again)
        if self.fails:
            raise ValueError(self.name)


class Play:
    """Reminders without real time; looking at the time takes ``cost`` seconds."""

    def __init__(self, cost: float = 0.0) -> None:
        self.reactor, self.clock, self.cost = Reactor(), Clock(100.0), cost
        self.reactor.advance(100.0)
        self.called: list[tuple[str, float]] = []
        self.reminders = Reminders(self.reactor, self.clock, self.seconds)

    def seconds(self) -> float:
        self.reactor.rightNow += self.cost
        return self.reactor.seconds()


def test_earliest_first() -> None:
    """Also if it was put last; those of one time in the order in which they were put."""
    play = Play()
    for name, seconds in (("a", 0.3), ("b", 0.1), ("c", 0.3), ("d", 0.0)):
        play.reminders.put(Note(play, name), seconds)
    play.reactor.pump([0.005, 0.096, 0.1, 0.1])
    assert [name for name, _ in play.called] == ["d", "b", "a", "c"]
    assert [when for _, when in play.called] == [100.005, 100.101, 100.301, 100.301]
    assert len(play.reminders) == 0
    assert play.reactor.getDelayedCalls() == []


def test_one_call_serves_many() -> None:
    """The reactor has one delayed call, however many reminders there are."""
    play = Play()
    for number in range(1000):
        play.reminders.put(Note(play, str(number)), 0.05 + number / 1e6)
        assert len(play.reactor.getDelayedCalls()) == 1
    play.reactor.advance(0.06)
    assert len(play.called) == 1000


def test_reminder_may_be_put_again_from_within() -> None:
    """It comes at its time."""
    play = Play()
    play.reminders.put(Note(play, "a", again=0.05), 0.05)
    play.reactor.pump([0.05] * 3)
    assert [when for _, when in play.called] == [100.05, 100.1, 100.15]


def test_look_ends_after_a_while() -> None:
    """The reactor does other work before the rest."""
    play = Play(cost=0.004)
    for name in "abcdef":
        play.reminders.put(Note(play, name), 0.0)
    play.reactor.advance(0.02)
    assert 0 < len(play.called) < 6
    play.reactor.pump([0.01] * 10)
    assert [name for name, _ in play.called] == list("abcdef")


def test_one_that_fails_harms_no_other() -> None:
    """The log has it."""
    play = Play()
    play.reminders.put(Note(play, "a", fails=True), 0.05)
    play.reminders.put(Note(play, "b"), 0.05)
    with logged() as events:
        play.reactor.advance(0.05)
    assert [name for name, _ in play.called] == ["a", "b"]
    assert len(events) == 1


def test_nothing_comes_after_the_end() -> None:
    """No delayed call is left behind."""
    play = Play()
    play.reminders.put(Note(play, "a"), 0.05)
    play.reminders.stop()
    assert play.reactor.getDelayedCalls() == []
    play.reminders.stop()
