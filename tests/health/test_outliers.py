"""Ejection of servers that fail or are slow where their peers are not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.health.checked import shown
from slardar.health.outliers import (
    LONGEST,
    Outcomes,
    count_wanted,
    ejection_length,
    is_over,
    note_ejected,
    settle,
)
from slardar.model.live import ServerLive
from slardar.model.parse import parse_upstream
from tests.health.kit import MODES, Served, request, server, servers

steady: Any = settings(derandomize=True, deadline=None, database=None, max_examples=100)

#: Ten requests decide, and one of four servers may be ejected.
RULES = {"errors": 0.5, "min_requests": 10, "window": 10, "eject": 30, "max_share": 0.25}


def ejected(up: Served) -> set[int]:
    """The servers that are ejected now."""
    return {peer.port for peer in up.selection.peers if peer.live.ejected_until > up.clock.now}


def mixed(up: Served, port: int, count: int = 10, bad: int = 6) -> None:
    """Replies of a server, so many of them with 500, the last ones."""
    for number in range(count):
        up.reply(port, 200 if number < count - bad else 500)


# The window.


@steady
@given(
    st.floats(0.5, 60),
    st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.floats(0, 9)), max_size=60),
)
def test_window_counts_the_last_seconds(
    window: float, notes: list[tuple[float, bool, float]]
) -> None:
    """Everything that is newer than nine tenths of it counts, and nothing older than it."""
    outcomes = Outcomes(window)
    now = 1000.0
    seen: list[tuple[float, bool, float]] = []
    for pause, failed, seconds in notes:
        now += pause
        outcomes.note(now, failed, seconds)
        seen.append((now, failed, seconds))
        new = [one for one in seen if now - one[0] < 0.9 * window - 1e-6]
        known = [one for one in seen if now - one[0] <= window + 1e-6]
        assert len(new) <= outcomes.count <= len(known)
        assert sum(one[1] for one in new) <= outcomes.failed <= sum(one[1] for one in known)
        low = sum(one[2] for one in new if not one[1])
        high = sum(one[2] for one in known if not one[1])
        assert low - 1e-6 <= outcomes.seconds <= high + 1e-6
        assert outcomes.good == outcomes.count - outcomes.failed


# How long.


def test_length_doubles_and_is_forgotten() -> None:
    """Twice as long each time, up to a bound; one time less for each calm ``eject``."""
    live, now = ServerLive(), 1000.0
    lengths = []
    for _ in range(6):
        seconds, times = ejection_length(live, 30, now)
        assert note_ejected(live, now, seconds, times, "slow")
        lengths.append(seconds)
        now += seconds
    assert lengths == [30, 60, 120, 240, 300, 300]
    assert lengths[-1] == 30 * LONGEST
    assert ejection_length(live, 30, now + 29) == (300, 7)
    assert ejection_length(live, 30, now + 30) == (300, 6)
    assert ejection_length(live, 30, now + 90) == (240, 4)
    assert ejection_length(live, 30, now + 1e9) == (30, 1)


def test_ejection_ends() -> None:
    """By itself, or because another process says so: that time does not count."""
    live = ServerLive()
    assert not note_ejected(live, 5.0, 0, 0, "")
    assert note_ejected(live, 5.0, 10, 1, "slow")
    assert not note_ejected(live, 5.0, 9, 1, "shorter than known")
    assert shown(live)[0::2] == ("err", "slow")
    settle(live, 14.9)
    assert live.ejected_until
    settle(live, 15.0)
    assert (live.ejected_until, shown(live).status) == (0.0, "unchecked")
    assert note_ejected(live, 20.0, 20, 2, "again")
    assert note_ejected(live, 21.0, 0, 0, "")
    assert (live.ejected_until, live.ejections, live.ejected_msg) == (0.0, 1, "")


def test_cap() -> None:
    """It is a share of the servers that take requests by their configuration."""
    assert not is_over(3, 10, 0.3)
    assert is_over(4, 10, 0.3)
    assert is_over(1, 3, 0.3)
    assert not is_over(0, 0, 0)
    body = {"cluster": [{"servers": [server(1), server(2, weight=0)]}, {"servers": servers(2)}]}
    assert count_wanted(parse_upstream("up", body, "up")) == 2


# Errors.


@pytest.mark.parametrize("mode", MODES)
def test_server_that_fails_is_ejected(mode: str) -> None:
    """At the first failure that makes it too many, and comes back after its time."""
    up = Served(servers=servers(4), outlier=RULES, mode=mode)
    for port in (1, 2, 3, 4):
        up.reply(port)
    mixed(up, 1, 9, 5)
    assert up.picked() == {1, 2, 3, 4}, "half of them is not over half"
    up.reply(1, 500)
    assert up.picked() == {2, 3, 4}
    assert up.told == [1]
    up.clock.advance(29.9)
    assert up.picked() == {2, 3, 4}
    up.clock.advance(0.1)
    assert up.picked() == {1, 2, 3, 4}
    mixed(up, 1, 9, 9)
    assert up.picked() == {1, 2, 3, 4}, "what was before does not count"
    up.reply(1, 503)
    up.clock.advance(59.9)
    assert up.picked() == {2, 3, 4}, "the second time is longer"
    up.clock.advance(0.1)
    assert up.picked() == {1, 2, 3, 4}


def test_failures_of_all_kinds_count() -> None:
    """No reply at all, and the statuses that are failures by the upstream's word."""
    up = Served(servers=servers(4), outlier=RULES)
    for _ in range(4):
        up.reply(1)
    for _ in range(6):
        up.fail(1)
    assert ejected(up) == {1}
    assert up.peer(1).live.status == "ok", "passive health is another reason"


def test_what_says_nothing() -> None:
    """A client that left, a tunnel, a 404; and too few requests."""
    up = Served(servers=servers(4), outlier=RULES)
    peer = up.peer(1)
    for _ in range(20):
        peer.live.active += 1
        up.selection.finished(peer, False, 100.0, 101)
        up.reply(2, 404)
    mixed(up, 3, 9, 9)
    assert ejected(up) == set()
    assert peer.live.outcomes is None


def test_old_failures_do_not_count() -> None:
    """Only those in the window."""
    up = Served(servers=servers(4), outlier=RULES)
    mixed(up, 1, 9, 9)
    up.clock.advance(10.1)
    mixed(up, 1, 9, 9)
    assert ejected(up) == set()


def test_without_the_key_nothing_is_counted() -> None:
    """No server is ejected, and nothing is kept."""
    up = Served(servers=servers(4))
    mixed(up, 1, 100, 100)
    assert up.picked() == {1, 2, 3, 4}
    assert up.peer(1).live.outcomes is None


def test_edit_keeps_ejections() -> None:
    """Unless it takes the key away, or the server."""
    up = Served(servers=servers(4), outlier=RULES)
    mixed(up, 1)
    up.edit(servers=servers(5), outlier=RULES, keepalive=5)
    assert up.picked() == {2, 3, 4, 5}
    mixed(up, 2)
    assert ejected(up) == {1}, "the cap knows of the one from before"
    up.edit(servers=servers(5))
    assert up.picked() == {1, 2, 3, 4, 5}
    up.edit(servers=servers(5), outlier=RULES)
    assert up.picked() == {1, 2, 3, 4, 5}


# Latency.


def replies(up: Served, times: dict[int, float], count: int = 20) -> None:
    """So many replies of each server, which take so long; then a second passes."""
    for _ in range(count):
        for port, seconds in times.items():
            up.reply(port, 200, seconds)
    up.clock.advance(1.1)
    up.reply(min(times), 200, times[min(times)])


def test_slow_server_is_ejected() -> None:
    """Over so many times the median of its peers; the reason has the times."""
    up = Served(servers=servers(4), outlier={**RULES, "latency": 3})
    replies(up, {1: 0.1, 2: 0.1, 3: 0.2, 4: 0.29})
    assert ejected(up) == set()
    replies(up, {1: 0.1, 2: 0.1, 3: 0.2, 4: 1.0})
    assert ejected(up) == {4}
    reason = up.reasons()["127.0.0.1:4"]
    assert reason.startswith("its replies took 6")
    assert reason.endswith(" ms, those of its peers 100 ms")


def test_slowest_goes_first() -> None:
    """Where the cap has room for one only."""
    up = Served(servers=servers(7), outlier={**RULES, "latency": 3})
    replies(up, {1: 0.1, 2: 0.1, 3: 0.1, 4: 0.1, 5: 0.5, 6: 9.0, 7: 0.5})
    assert ejected(up) == {6}


def test_latency_may_be_ignored() -> None:
    """With 0, and while peers have too few replies to compare with."""
    up = Served(servers=servers(4), outlier={**RULES, "latency": 0})
    replies(up, {1: 0.1, 2: 0.1, 3: 0.1, 4: 10.0})
    assert ejected(up) == set()
    up = Served(servers=servers(4), outlier={**RULES, "latency": 3})
    replies(up, {4: 10.0})
    assert ejected(up) == set()


def test_levels_are_not_compared() -> None:
    """Those of a lower level may be far away."""
    cluster = [{"servers": servers(2)}, {"servers": [server(11), server(12)]}]
    up = Served(cluster=cluster, outlier={**RULES, "latency": 3})
    replies(up, {1: 0.1, 2: 0.1, 11: 5.0, 12: 5.0})
    assert ejected(up) == set()


# The cap.


def test_last_in_service_is_not_ejected() -> None:
    """Whatever the cap says: nobody could take its requests."""
    up = Served(servers=servers(2), outlier={**RULES, "max_share": 1})
    up.check(2, "err")
    mixed(up, 1, 50, 50)
    assert ejected(up) == set()
    up.check(2, "ok")
    up.reply(1, 500)
    assert ejected(up) == {1}


def test_next_one_is_ejected_when_there_is_room() -> None:
    """It was over the cap before."""
    up = Served(servers=servers(4), outlier=RULES)
    mixed(up, 1)
    mixed(up, 2, 10, 10)
    assert ejected(up) == {1}
    up.clock.advance(25)
    mixed(up, 2, 10, 10)
    up.clock.advance(5)
    up.reply(2, 500)
    assert ejected(up) == {2}


@steady
@given(
    st.integers(1, 12),
    st.floats(0, 1),
    st.lists(
        st.tuples(st.integers(1, 12), st.sampled_from(["bad", "slow", "told"]), st.floats(0, 20)),
        max_size=40,
    ),
)
def test_never_more_than_the_share(
    count: int, max_share: float, events: list[tuple[int, str, float]]
) -> None:
    """Whatever servers do; and ejections of other processes, which the cap allowed, count."""
    rules = {**RULES, "min_requests": 2, "latency": 2, "max_share": max_share}
    up = Served(servers=servers(count), outlier=rules)
    for port, event, pause in events:
        if port > count:
            continue
        if event == "bad":
            mixed(up, port, 3, 3)
        elif event == "slow":
            replies(up, {other: 9.0 if other == port else 0.1 for other in range(1, count + 1)}, 2)
        elif not is_over(len(ejected(up) | {port}), count, max_share):
            note_ejected(up.peer(port).live, up.clock.now, 30, 1, "told")
            up.selection.look("127.0.0.1", port)
        assert len(ejected(up)) <= count * max_share + 1e-9
        assert up.pick() is not None
        up.clock.advance(pause)


# What is shown.


def test_it_is_shown() -> None:
    """As an error with its reason, in the preview and in the notes."""
    up = Served(servers=servers(4), outlier=RULES)
    mixed(up, 1)
    assert up.reasons() == {
        "127.0.0.1:1": "6 of 10 requests failed in 10 s",
        **{f"127.0.0.1:{port}": "" for port in (2, 3, 4)},
    }
    (level,) = up.selection.preview(request()).levels
    first = level.candidates[0]
    assert (first.status, first.note) == (
        "err",
        "outlier: ejected for 30 s more: 6 of 10 requests failed in 10 s",
    )
    up.clock.advance(30)
    (level,) = up.selection.preview(request()).levels
    assert (level.candidates[0].status, level.candidates[0].note) == ("ok", "")
