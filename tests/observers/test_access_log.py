"""The access logs of one data plane: which requests have lines, when, and how many."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from typing import Any

import pytest
from twisted.internet.task import Clock as FakeReactor

from slardar.http1.interfaces import Clock
from slardar.http1.record import RequestRecord
from slardar.model.access_log import AccessLog
from slardar.observers import access_log
from slardar.observers.access_log import AccessLogs
from slardar.observers.sinks import Sink
from tests.observers.kit import record_of

LOG = AccessLog("file:a.log")


class Kept(Sink):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.got = b""
        self.reopened = 0
        self.closed = False
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self.error is not None:
            raise self.error
        self.got += data
        return len(data)

    def reopen(self) -> None:
        self.reopened += 1

    def close(self) -> None:
        self.closed = True


class Reactor(FakeReactor):
    """A clock whose calls from threads are made by :meth:`Plane.until`."""

    def __init__(self) -> None:
        super().__init__()
        self.from_threads: list[tuple[Any, ...]] = []

    def callFromThread(self, *call: Any) -> None:
        self.from_threads.append(call)


class Plane:
    """What is around access logs."""

    def __init__(self) -> None:
        self.reactor = Reactor()
        self.clock = Clock(monotonic())
        self.sinks: dict[str, Kept] = {}
        self.under_way: list[RequestRecord] = []
        self.logs = AccessLogs(
            self.reactor, self.clock, "worker-3", 1, lambda: self.under_way, self.make_sink
        )

    def make_sink(self, log: AccessLog, stdout: int) -> Sink:
        assert stdout == 1
        sink = self.sinks[log.to] = Kept()
        return sink

    def until(self, true: Callable[[], bool]) -> None:
        """Wait for the threads."""
        waits = threading.Event()
        for _ in range(2000):
            while self.reactor.from_threads:
                function, *arguments = self.reactor.from_threads.pop(0)
                function(*arguments)
            if true():
                return
            waits.wait(0.005)
        raise AssertionError("it does not come true")

    def stop(self) -> None:
        stopped: list[Any] = []
        self.logs.stop().addCallback(stopped.append)
        self.until(lambda: bool(stopped))

    def got(self, to: str = LOG.to) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.sinks[to].got.splitlines()]


@pytest.fixture
def plane() -> Iterator[Plane]:
    found = Plane()
    yield found
    found.stop()


def test_line_is_written_within_a_tenth_of_a_second(plane: Plane) -> None:
    """A worker that is killed loses no more than that."""
    plane.logs.take([LOG])
    plane.logs.request_ended(record_of())
    assert plane.sinks[LOG.to].got == b""
    plane.reactor.advance(0.1)
    plane.until(lambda: len(plane.got()) == 1)
    assert plane.got()[0]["worker"] == "worker-3"
    # There is nothing to do while no request comes: only a look for long ones.
    (call,) = plane.reactor.getDelayedCalls()
    assert call.getTime() == 15


def test_every_log_has_every_request(plane: Plane) -> None:
    """Each in its own format, in the order in which requests ended."""
    text = AccessLog("file:b.log", "{uri}")
    plane.logs.take([LOG, text])
    for number in range(100):
        plane.logs.request_ended(record_of(b"/%d" % number))
    plane.stop()
    uris = [f"/{number}" for number in range(100)]
    assert [line["uri"] for line in plane.got()] == uris
    assert plane.sinks[text.to].got.decode().splitlines() == uris


def test_requests_of_a_silent_upstream_have_no_line(plane: Plane) -> None:
    """Until that is changed back."""
    plane.logs.take([LOG])
    plane.logs.take_silent("quiet.test", True)
    for upstream in ("quiet.test", "a.test", ""):
        plane.logs.request_ended(record_of(upstream=upstream))
    plane.logs.tunnel_began(record_of(upstream="quiet.test"))
    plane.logs.take_silent("quiet.test", False)
    plane.logs.request_ended(record_of(upstream="quiet.test"))
    plane.stop()
    assert [line["upstream"] for line in plane.got()] == ["a.test", None, "quiet.test"]


def test_sample_is_drawn_by_lot(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 0 there is none, of 1 each, and else about the share."""
    monkeypatch.setattr(access_log, "random", random.Random(7).random)
    logs = {share: AccessLog(f"file:{share}", sample=share) for share in (0, 0.25, 1)}
    plane.logs.take(logs.values())
    for _ in range(1000):
        plane.logs.request_ended(record_of())
    plane.stop()
    counts = {share: len(plane.got(log.to)) for share, log in logs.items()}
    assert counts[0] == 0
    assert 200 < counts[0.25] < 300
    assert counts[1] == 1000


def test_without_logs_nothing_is_kept(plane: Plane) -> None:
    """Nor planned."""
    plane.logs.request_ended(record_of())
    plane.logs.tunnel_began(record_of())
    assert plane.reactor.getDelayedCalls() == []


def test_settings_that_stay_keep_their_log(plane: Plane) -> None:
    """Another one ends, and nothing of it is lost."""
    other, third = AccessLog("file:b.log"), AccessLog("file:c.log", "combined")
    plane.logs.take([LOG, other])
    kept = plane.sinks[LOG.to]
    plane.logs.request_ended(record_of(b"/one"))
    plane.logs.take([LOG, third])
    plane.logs.request_ended(record_of(b"/two"))
    plane.until(lambda: plane.sinks[other.to].closed)
    assert [line["uri"] for line in plane.got(other.to)] == ["/one"]
    plane.stop()
    assert plane.sinks[LOG.to] is kept
    assert [line["uri"] for line in plane.got()] == ["/one", "/two"]
    assert b"/two" in plane.sinks[third.to].got


def test_reopening_reaches_every_log(plane: Plane) -> None:
    """What came before goes to the file of before, or to the new one: it is not lost."""
    other = AccessLog("file:b.log")
    plane.logs.take([LOG, other])
    plane.logs.request_ended(record_of())
    plane.logs.reopen()
    plane.until(lambda: all(sink.reopened == 1 for sink in plane.sinks.values()))
    plane.until(lambda: len(plane.got()) == len(plane.got(other.to)) == 1)


def test_dropped_lines_are_counted_over_the_end_of_a_log(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number never goes back."""
    monkeypatch.setattr(access_log, "_LAST", 0.01)
    plane.logs.take([LOG])
    plane.sinks[LOG.to].error = OSError(28, "No space left on device")
    for _ in range(5):
        plane.logs.request_ended(record_of())
    assert plane.logs.dropped == 0
    plane.logs.take([])
    plane.until(lambda: plane.logs.dropped == 5)


def test_log_that_hangs_does_not_hold_up_the_stop(plane: Plane) -> None:
    """A system call that never comes back is left alone."""
    plane.logs.take([LOG])
    hangs = threading.Event()

    def write(data: bytes) -> int:
        hangs.wait(20)
        return len(data)

    plane.sinks[LOG.to].write = write  # type: ignore[method-assign]
    plane.logs.request_ended(record_of())
    stopped: list[Any] = []
    plane.logs.stop().addCallback(stopped.append)
    plane.reactor.advance(2.4)
    assert not stopped
    plane.reactor.advance(0.2)
    assert stopped
    hangs.set()


def under_way(plane: Plane, **about: Any) -> RequestRecord:
    """A request that has just begun."""
    record = record_of(**about)
    record.started, record.ended = monotonic(), 0.0
    plane.under_way.append(record)
    return record


def passes(plane: Plane, monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    """Time passes, in looks."""
    began = plane.clock.now
    while plane.clock.now - began < seconds:
        plane.clock.now += 5.0
        now = plane.clock.now
        monkeypatch.setattr(access_log, "monotonic", lambda now=now: now)
        plane.reactor.advance(5.0)


def ends(plane: Plane, record: RequestRecord) -> None:
    plane.under_way.remove(record)
    record.ended = plane.clock.now
    plane.logs.request_ended(record)


def test_tunnel_is_told_when_it_begins_and_ends(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And at an interval, with what has gone through it so far."""
    plane.logs.take([LOG])
    record = under_way(plane, target=b"/chat")
    plane.logs.tunnel_began(record)
    record.bytes_out = 1000
    passes(plane, monkeypatch, 150)
    record.bytes_out = 2000
    ends(plane, record)
    plane.logs.request_ended(record_of(b"/other"))
    plane.stop()
    told = [(line["uri"], line.get("event"), line["bytes_out"]) for line in plane.got()]
    assert told == [
        ("/chat", "begin", 300),
        ("/chat", "progress", 1000),
        ("/chat", "progress", 1000),
        ("/chat", "end", 2000),
        ("/other", None, 300),
    ]
    seconds = [line["seconds"] for line in plane.got()]
    assert seconds[0] < 1
    assert 59.9 <= seconds[1] <= 75
    assert 59.9 <= seconds[2] - seconds[1] <= 75
    assert seconds[3] > 149


def test_long_request_is_told_from_its_first_interval_on(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A short one has the line that every request has."""
    plane.logs.take([LOG])
    long, short = under_way(plane, target=b"/long"), under_way(plane, target=b"/short")
    passes(plane, monkeypatch, 30)
    ends(plane, short)
    passes(plane, monkeypatch, 120)
    ends(plane, long)
    plane.stop()
    told = [(line["uri"], line.get("event")) for line in plane.got()]
    assert told == [
        ("/short", None),
        ("/long", "begin"),
        ("/long", "progress"),
        ("/long", "end"),
    ]


def test_upstream_that_is_left_out_while_a_request_takes_long(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record may be that of another request later, which is told as any other."""
    plane.logs.take([LOG])
    record = under_way(plane, target=b"/long")
    passes(plane, monkeypatch, 80)
    plane.logs.take_silent("a.test", True)
    ends(plane, record)
    plane.logs.take_silent("a.test", False)
    plane.logs.request_ended(record)
    plane.stop()
    assert [line.get("event") for line in plane.got()] == ["begin", None]


@pytest.mark.parametrize(
    "log", [AccessLog("file:b", "combined"), AccessLog("file:b", "{uri}", interval=1),
            AccessLog("file:b", interval=0)]
)  # fmt: skip
def test_log_without_events_has_one_line_for_each_request(
    plane: Plane, monkeypatch: pytest.MonkeyPatch, log: AccessLog
) -> None:
    """The format cannot say what a line is about, or nobody wants to know."""
    plane.logs.take([log])
    record = under_way(plane)
    plane.logs.tunnel_began(record)
    passes(plane, monkeypatch, 200)
    ends(plane, record)
    plane.stop()
    assert plane.sinks[log.to].got.count(b"\n") == 1
    assert b"event" not in plane.sinks[log.to].got


def test_lots_are_drawn_once_for_a_tunnel(plane: Plane, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has all of its lines or none."""
    monkeypatch.setattr(access_log, "random", random.Random(7).random)
    plane.logs.take([AccessLog(LOG.to, sample=0.5, interval=30)])
    records = [under_way(plane, target=b"/%d" % number) for number in range(40)]
    for record in records:
        plane.logs.tunnel_began(record)
    passes(plane, monkeypatch, 40)
    for record in records:
        ends(plane, record)
    plane.stop()
    events: dict[str, list[str]] = {}
    for line in plane.got():
        events.setdefault(line["uri"], []).append(line["event"])
    assert 10 < len(events) < 30
    assert set(map(tuple, events.values())) == {("begin", "progress", "end")}


def test_many_requests_under_way_are_looked_at_in_turns(
    plane: Plane, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Requests are served between two of them, and those that have ended are left out."""
    plane.logs.take([AccessLog(LOG.to, interval=60)])
    record = record_of()
    record.ended = 0.0
    plane.under_way = [record_of() for _ in range(2500)] + [record]
    plane.clock.now += 61
    now = plane.clock.now
    monkeypatch.setattr(access_log, "monotonic", lambda: now)
    turns: list[float] = []
    call_later = plane.reactor.callLater

    def note(seconds: float, *call: Any) -> Any:
        turns.append(seconds)
        return call_later(seconds, *call)

    monkeypatch.setattr(plane.reactor, "callLater", note)
    plane.reactor.advance(15)
    # Two further turns, the line that waits for others, and the next look.
    assert turns == [0, 0, 0.1, 15]
    plane.stop()
    assert [line["event"] for line in plane.got()] == ["begin"]


def test_record_may_be_used_for_another_request_at_once(plane: Plane) -> None:
    """The line waits for others, and says what the record said."""
    plane.logs.take([LOG])
    record, other = record_of(b"/one"), record_of(b"/two")
    plane.logs.request_ended(record)
    spares: list[RequestRecord] = []
    record.spare(spares)
    assert spares == [record]
    record.begin(b"192.0.2.9", other.request, 0.0, "")
    plane.stop()
    assert [(line["uri"], line["client"]) for line in plane.got()] == [("/one", "192.0.2.7")]
