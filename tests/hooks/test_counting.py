"""Counters, failures and log lines of hooks, each within its limits."""

from __future__ import annotations

import pytest

from slardar.hooks.failures import FAILURES, WINDOW, FailureWindow
from slardar.hooks.logs import HookLog
from slardar.hooks.stats import CallStats, bucket_of
from tests.dataplane.kit import logged


@pytest.mark.parametrize("bits", range(1, 64))
def test_bucket_is_a_quarter_of_a_doubling(bits: int) -> None:
    """Two times of one bucket differ by at most 25 %, and the number of a bucket is small."""
    low, high = 1 << (bits - 1), (1 << bits) - 1
    assert bucket_of(low) <= bucket_of(high) <= 259
    assert bucket_of(low) > bucket_of(low - 1)
    stats = CallStats()
    stats.took(low)
    assert low <= stats.p99_us * 1000 + 50 <= max(low * 1.26, 4) + 100


def test_mean_and_p99() -> None:
    """One slow call of a hundred does not change the p99, and two do."""
    stats = CallStats()
    assert (stats.mean_us, stats.p99_us) == (0.0, 0.0)
    for _ in range(99):
        stats.took(1000)
    stats.took(1_000_000)
    assert stats.mean_us == 11.0
    assert 1.0 <= stats.p99_us <= 1.25
    stats.took(1_000_000)
    assert stats.p99_us >= 1000
    one = CallStats()
    one.took(5000)
    assert 5.0 <= one.p99_us <= 6.25


def test_one_call_in_eight_is_timed() -> None:
    """After a thousand calls, one call in eight is timed, and each is counted."""
    stats = CallStats()
    timed = 0
    for _ in range(9000):
        if stats.times_next:
            stats.took(2000)
            timed += 1
        else:
            stats.ended()
    assert (stats.calls, timed) == (9000, 2000)
    assert stats.mean_us == 2.0
    assert 2.0 <= stats.p99_us <= 2.5


def test_counters_add_up() -> None:
    """Counters of another process are added, in either form."""
    stats, other = CallStats(), CallStats()
    other.took(1000)
    other.errors += 1
    for buckets in (other.buckets, tuple(other.buckets.items())):
        stats.add(other.calls, other.errors, other.nanoseconds, buckets)
    assert (stats.calls, stats.errors, stats.nanoseconds) == (2, 2, 2000)
    assert stats.buckets == {bucket_of(1000): 2}


def test_time_that_did_not_pass() -> None:
    """The clock may stand still during a call."""
    stats = CallStats()
    stats.took(0)
    assert (stats.calls, stats.mean_us, stats.p99_us) == (1, 0.0, 0.0)


def test_window() -> None:
    """The fifth failure within a minute is one too many, and so is each later one."""
    window = FailureWindow()
    assert [window.note("a", 10.0 + n) for n in range(FAILURES + 1)] == [False] * 4 + [True] * 2
    assert not window.note("b", 20.0)
    assert not window.note("a", 20.0 + WINDOW)


def test_window_slides() -> None:
    """Any five failures within a minute count, whenever the first failure was."""
    window = FailureWindow()
    times = [0.0, 50.0, 55.0, 58.0, 61.0]
    assert [window.note("a", time) for time in times] == [False] * 5
    assert window.note("a", 50.0 + WINDOW)


def test_window_forgets() -> None:
    """After an activation the count begins anew, and a version that is gone takes no memory."""
    window = FailureWindow()
    for key in ("a", "b"):
        for n in range(4):
            window.note(key, float(n))
    window.forget("a")
    window.forget("never")
    assert not window.note("a", 5.0)
    window.keep({"b"})
    assert window.note("b", 5.0)
    assert not any(window.note("a", 6.0 + n) for n in range(4))


class Seconds:
    """A clock that the test moves."""

    def __init__(self) -> None:
        self.now = 100.5

    def __call__(self) -> float:
        return self.now


def test_line_is_one_line() -> None:
    """A text is one line of limited length, whatever it has; an unknown level becomes info."""
    log = HookLog(Seconds())
    with logged() as events:
        log.write("error", "a\nb\r\x1b[31m\0\u2028\ud800 é")
        log.write("debug", "x" * 5000)
        log.write("loud", "{braces} are text")
    assert events[0]["line"] == "a b  [31m    é"
    assert len(events[1]["line"]) == 1000
    assert [event["log_level"].name for event in events] == ["error", "debug", "info"]
    assert events[2]["line"] == "{braces} are text"
    assert all(event["log_namespace"] == "slardar.hooks" for event in events)


def test_lines_of_a_second_are_bounded() -> None:
    """In the next second a line says how many were left out."""
    seconds = Seconds()
    log = HookLog(seconds)
    with logged() as events:
        for number in range(250):
            log.write("info", str(number))
        assert len(events) == 100
        seconds.now += 1
        log.write("info", "next")
        log.write("info", "last")
    assert [event.get("line", event.get("count")) for event in events[100:]] == [
        150,
        "next",
        "last",
    ]
