"""The rotation of keys for tickets, in virtual time."""

from __future__ import annotations

from itertools import pairwise

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from slardar.control.tickets import PERIOD, TicketRotation
from slardar.model.tls import TicketKeys


def rotation(clock: Clock) -> tuple[TicketRotation, list[TicketKeys]]:
    """One, and the keys that it has given."""
    given: list[TicketKeys] = []

    def take(keys: TicketKeys) -> Deferred[None]:
        given.append(keys)
        return succeed(None)

    return TicketRotation(clock, take), given


def test_new_keys_come_every_twelve_hours() -> None:
    """The ones before open tickets for as long again, which is longer than a ticket lives."""
    clock = Clock()
    made, given = rotation(clock)
    made.start()
    for _ in range(3):
        clock.advance(PERIOD - 1)
        clock.advance(1)
    assert len(given) == 4
    for before, after in pairwise(given):
        assert after.former == before.current
    every = {key for keys in given for key in (keys.current, keys.former)}
    assert len(every) == 5
    assert {len(key) for key in every} == {32}
    made.stop()
    assert not clock.getDelayedCalls()


def test_successor_goes_on_with_the_keys() -> None:
    """And changes them when they are old enough, no matter in which process they became old."""
    clock = Clock()
    old, _ = rotation(clock)
    old.start()
    clock.advance(PERIOD - 100)
    new, given = rotation(clock)
    new.learn(old.keys, old.age)
    new.start()
    assert given == [old.keys]
    clock.advance(99)
    assert len(given) == 1
    clock.advance(1)
    assert given[1].former == given[0].current
    late, given = rotation(clock)
    late.learn(new.keys, 2 * PERIOD)
    late.start()
    clock.advance(0)
    assert len(given) == 2


def test_keys_are_not_shown() -> None:
    """In no log."""
    made, _ = rotation(Clock())
    assert repr(made.keys) == "<TicketKeys>"
