"""The ring of events and its readers."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock

from slardar.events import (
    KINDS,
    AcmeState,
    CertificateExpiry,
    Changed,
    Event,
    EventLog,
    Gap,
    Health,
    HookState,
    LostError,
    More,
    Store,
    Subscription,
    Worker,
    ignore,
    kind_of,
)
from slardar.model.change import Kind
from tests.properties.test_model import FIXED


class Reader:
    """Takes everything as soon as it is woken, as long as it reads."""

    def __init__(self, log: EventLog, after: str = "", **words: Any) -> None:
        self.names: list[str] = []
        self.reads = True
        self.wakes = 0
        self.last = ""
        self.subscription: Subscription = log.subscribe(self.wake, after=after, **words)

    def wake(self) -> None:
        self.wakes += 1
        while self.reads and self.subscription.is_behind:
            for entry in self.subscription.take():
                self.names.append(name_of(entry.event))
                self.last = entry.id or self.last


def name_of(event: Event) -> str:
    return event.name if isinstance(event, Changed) else kind_of(event)


def change(number: int) -> Changed:
    return Changed("upstream", f"u{number}", number, "ops")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def log(clock: Clock) -> EventLog:
    return EventLog(clock, lambda: 1700000000.25, size=8)


@pytest.mark.parametrize(
    ("event", "data"),
    [
        (change(1), {"kind": "upstream", "name": "u1", "version": 1, "who": "ops"}),
        (More(3, 9), {"kind": "more", "version": 3, "count": 9}),
        (
            Health("a", "10.0.0.1:80", "err", "no route"),
            {
                "kind": "health",
                "upstream": "a",
                "server": "10.0.0.1:80",
                "status": "err",
                "reason": "no route",
                "seconds": None,
            },
        ),
        (
            HookState("lua/script.a", "failed"),
            {"kind": "hook_state", "name": "lua/script.a", "state": "failed", "reason": ""},
        ),
        (
            Worker("worker-0", "ended", 7, "killed"),
            {"kind": "worker", "name": "worker-0", "state": "ended", "pid": 7, "reason": "killed"},
        ),
        (
            Store("error", "full \udcff" + "x" * 500),
            {"kind": "store", "status": "error", "reason": "full ?" + "x" * 294},
        ),
        (Gap(), {"kind": "gap"}),
    ],
)
def test_event_is_one_object(log: EventLog, event: Event, data: dict[str, Any]) -> None:
    """With its kind first, and its time; a reason is bounded, and text."""
    reader = log.subscribe(lambda: None)
    log.publish(event)
    (entry,) = reader.take()
    found = json.loads(entry.data)
    assert next(iter(found)) == "kind"
    assert found == {**data, "time": 1700000000.25}
    assert found["kind"] == kind_of(event)
    assert found["kind"] in KINDS or isinstance(event, (More, Gap))


def test_kinds_are_complete() -> None:
    """Every kind of change, and every other event that tells of something."""
    others = (
        Health("", "", "ok"),
        HookState("", "failed"),
        Store("back"),
        Worker("", "ended", 1),
        AcmeState("", "got"),
        CertificateExpiry("", "expired", 0),
    )
    # What the client of a CA keeps is no configuration.
    assert {*get_args(Kind), *map(kind_of, others)} - {"acme"} == KINDS
    ignore(Gap())


def test_readers_are_woken_later_and_together(log: EventLog, clock: Clock) -> None:
    """Nobody who publishes waits for a reader; events that come together are one waking."""
    first, second = Reader(log), Reader(log)
    for number in range(3):
        log.publish(change(number))
    assert (first.names, second.names) == ([], [])
    clock.advance(0.05)
    assert first.names == second.names == ["u0", "u1", "u2"]
    assert first.wakes == 1
    assert clock.getDelayedCalls() == []
    log.publish(change(3))
    second.subscription.close()
    second.subscription.close()
    clock.advance(0.05)
    assert (first.names[3:], second.names[3:], log.readers) == (["u3"], [], 1)
    first.subscription.close()
    log.publish(change(4))
    assert clock.getDelayedCalls() == [], "nobody reads"


def test_reader_chooses(log: EventLog, clock: Clock) -> None:
    """What it does not accept costs it nothing but the question."""
    reader = Reader(log, accepts=lambda event: isinstance(event, Health))
    log.publish(change(1))
    log.publish(Health("a", "b:1", "ok"))
    clock.advance(0.05)
    assert reader.names == ["health"]


def test_reader_goes_on_where_it_was(log: EventLog, clock: Clock) -> None:
    """With the id of any event, or with its own place."""
    reader = Reader(log)
    start = reader.subscription.id
    for number in range(4):
        log.publish(change(number))
    clock.advance(0.05)
    assert reader.last == reader.subscription.id
    assert Reader(log, reader.last).subscription.take() == []
    log.publish(change(4))
    for after, wanted in ((reader.last, ["u4"]), (start, [f"u{n}" for n in range(5)])):
        again = Reader(log, after)
        again.wake()
        assert again.names == wanted


@pytest.mark.parametrize("after", ["x", "-", "x-1", "INSTANCE-9999999", "INSTANCE--1", "é-1"])
def test_reader_is_told_of_a_gap(log: EventLog, after: str) -> None:
    """If its place is not there any more, or that of another process: then comes all that is
    kept."""
    instance = Reader(log).subscription.id.rpartition("-")[0]
    old = Reader(log)
    for number in range(20):
        log.publish(change(number))
    for place in (after.replace("INSTANCE", instance), old.subscription.id):
        reader = Reader(log, place)
        reader.wake()
        assert reader.names == ["gap", *(f"u{number}" for number in range(12, 20))]
        assert Reader(log, reader.last).subscription.take() == []


def test_slow_reader_is_lost(log: EventLog, clock: Clock) -> None:
    """The ring overtakes it; the others get everything."""
    slow, quick = Reader(log), Reader(log)
    slow.reads = False
    for number in range(9):
        log.publish(change(number))
        clock.advance(0.05)
    assert len(quick.names) == 9
    with pytest.raises(LostError):
        slow.subscription.take()


def test_much_is_taken_in_pieces() -> None:
    """A piece has some 64 KiB."""
    log = EventLog(Clock())
    reader = log.subscribe(lambda: None)
    for number in range(5000):
        log.publish(change(number))
    sizes = []
    while reader.is_behind:
        sizes.append(sum(len(entry.data) for entry in reader.take()))
    assert sum(sizes) > 5 * 65536
    assert max(sizes) < 65536 + 300


class Turns:
    """A reactor whose calls a test makes by hand."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, Callable[[], None]]] = []

    def callLater(self, delay: float, call: Callable[[], None]) -> Callable[[], None]:
        self.calls.append((delay, call))
        return call


def test_readers_are_woken_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everybody else has a turn in between; what comes meanwhile is told to all."""
    seconds = [0.0]
    woken = [0]
    monkeypatch.setattr("slardar.events.time.monotonic", lambda: seconds[0])
    reactor = Turns()
    log = EventLog(reactor, lambda: 1.0)

    class Busy(Reader):
        def wake(self) -> None:
            super().wake()
            woken[0] += 1
            seconds[0] += 0.004

    readers = [Busy(log) for _ in range(5)]
    log.publish(change(0))
    slices = []
    while reactor.calls:
        ((delay, call),) = reactor.calls
        reactor.calls.clear()
        before = woken[0]
        call()
        slices.append((delay, woken[0] - before))
        if len(slices) == 1:
            log.publish(change(1))
    assert slices == [(0.02, 2), (0, 2), (0, 1), (0.02, 2), (0, 2), (0, 1)]
    assert [reader.names for reader in readers] == [["u0", "u1"]] * 5


@FIXED
@given(st.integers(0, 10**6))
def test_nobody_misses_anything_unnoticed(seed: int) -> None:
    """Whatever comes in which order: a reader that comes and goes gets every event in its order,
    or is told of a gap."""
    dice = random.Random(seed)
    clock = Clock()
    log = EventLog(clock, lambda: 1.0, size=8)
    reader = Reader(log)
    number, after = 0, reader.subscription.id
    for _ in range(60):
        step = dice.random()
        if step < 0.5:
            log.publish(change(number))
            number += 1
        elif step < 0.7:
            clock.advance(dice.choice([0.0, 0.01, 0.05]))
        elif step < 0.8:
            reader.reads = not reader.reads
        else:
            after = reader.last or after
            reader.subscription.close()
            names, reader = reader.names, Reader(log, after)
            reader.names = names
            reader.wake()
        try:
            reader.wake()
        except LostError:
            reader.subscription.close()
            names, reader = reader.names, Reader(log, reader.last or after)
            reader.names = names
    told = reader.names
    expected = 0
    for name in told:
        if name == "gap":
            expected = -1
            continue
        found = int(name[1:])
        assert expected in (-1, found)
        expected = found + 1
