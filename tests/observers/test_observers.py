"""Several observers are told as one."""

from __future__ import annotations

import pytest

from slardar.http1.interfaces import Clock, Observer
from slardar.http1.record import RequestRecord
from slardar.observers.observers import Observers
from tests.dataplane.kit import logged


class Notes(Observer):
    """Writes into a list that several of them share."""

    def __init__(self, name: str, said: list[tuple[str, RequestRecord]], fails: bool) -> None:
        self.name = name
        self.said = said
        self.fails = fails

    def request_ended(self, record: RequestRecord) -> None:
        self.said.append((self.name, record))
        if self.fails:
            raise RuntimeError("a bug of an observer's")

    def tunnel_began(self, record: RequestRecord) -> None:
        self.request_ended(record)


@pytest.mark.parametrize("told", ["request_ended", "tunnel_began"])
def test_every_observer_is_told_in_order(told: str) -> None:
    """One that raises keeps no other from its record, and the log says so once a minute."""
    clock = Clock(1000.0)
    observers = Observers(clock)
    said: list[tuple[str, RequestRecord]] = []
    for name, fails in (("one", False), ("two", True), ("three", False)):
        observers.add(Notes(name, said, fails))
    records = [RequestRecord(b"127.0.0.1", None, 1.0) for _ in range(3)]
    with logged() as events:
        for record, seconds in zip(records, (0.0, 59.0, 1.0), strict=True):
            clock.now += seconds
            getattr(observers, told)(record)
    assert said == [(name, record) for record in records for name in ("one", "two", "three")]
    assert [event["log_format"] for event in events] == ["an observer of requests failed"] * 2


def test_observer_can_be_left_out() -> None:
    """One that is told no more costs nothing; told again, it comes once, behind the others."""
    observers = Observers(Clock(1000.0))
    said: list[tuple[str, RequestRecord]] = []
    one, two = Notes("one", said, False), Notes("two", said, False)
    observers.add(one)
    record = RequestRecord(b"127.0.0.1", None, 1.0)

    def told() -> list[str]:
        said.clear()
        observers.request_ended(record)
        return [name for name, _ in said]

    observers.set_told(two, False)
    assert told() == ["one"]
    for _ in range(2):
        observers.set_told(two, True)
        assert told() == ["one", "two"]
    for _ in range(2):
        observers.set_told(one, False)
        assert told() == ["two"]
