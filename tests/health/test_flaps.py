"""Flap damping: a server that goes out of service again and again is brought back later."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.health.flaps import HALF_LIFE, LONGEST, held_for, penalty_after, penalty_at
from slardar.health.heartbeats import Beats
from slardar.health.probes.base import OK, failed
from slardar.health.rules import note_failure, note_success
from slardar.health.shared import note_back, note_out
from slardar.model.live import ServerLive
from slardar.model.parse import parse_upstream
from slardar.model.server import Server
from tests.health.kit import Served, server, servers

steady: Any = settings(derandomize=True, deadline=None, database=None, max_examples=100)

SERVER = Server("10.0.0.1", 80, max_fails=1, fail_timeout=10)


def test_penalty_halves() -> None:
    """It grows by 1 each time, and is half of it after each half-life."""
    assert penalty_after(0.0, 0.0, 1000.0) == 1.0
    assert penalty_after(3.0, 1000.0, 1000.0) == 4.0
    assert penalty_at(4.0, 1000.0, 1000.0 + 2 * HALF_LIFE) == 1.0
    assert penalty_at(4.0, 1000.0, 900.0) == 4.0


@pytest.mark.parametrize(
    ("penalty", "seconds"),
    [(0, 0), (2, 0), (3, 20), (4, 40), (6, 160), (7, LONGEST), (1e9, LONGEST)],
)
def test_hold_doubles_up_to_a_bound(penalty: float, seconds: float) -> None:
    """Up to 2 there is none."""
    assert held_for(penalty, 10.0) == seconds


def outages(count: int, pause: float = 1.0) -> list[float]:
    """The lengths of the outages of a server that fails ``pause`` seconds after each return."""
    live, now, found = ServerLive(), 1000.0, []
    for _ in range(count):
        assert note_failure(live, SERVER, now, True, "refused")
        found.append(live.down_until - now)
        now = live.down_until
        assert note_success(live, SERVER, now)
        now += pause
    return found


def test_first_and_second_time_are_nginx() -> None:
    """The following ones are longer and longer."""
    found = outages(5)
    assert found[:2] == [10, 10]
    assert found[1] < found[2] < found[3] < found[4] <= LONGEST


def test_rare_failures_are_never_damped() -> None:
    """One in each half-life leaves the penalty below 2."""
    assert outages(50, HALF_LIFE) == [10] * 50


def test_dead_server_is_not_damped() -> None:
    """It fails each probation, without having been back: that is nginx's rule."""
    live, now = ServerLive(), 1000.0
    for _ in range(20):
        note_failure(live, SERVER, now, True, "refused")
        assert live.down_until - now == 10
        now = live.down_until


@steady
@given(st.lists(st.floats(0, 1000), min_size=3, max_size=30))
def test_bounds(pauses: list[float]) -> None:
    """No outage is shorter than ``fail_timeout``, none is longer than the bound, and the
    first two are never longer."""
    live, now = ServerLive(), 1000.0
    for number, pause in enumerate(pauses):
        note_failure(live, SERVER, now, True, "refused")
        length = live.down_until - now
        assert 10 - 1e-9 <= length <= (LONGEST if number > 1 else 10 + 1e-9)
        now = live.down_until
        note_success(live, SERVER, now)
        now += pause


def test_other_workers_count_too() -> None:
    """A verdict is an outage like one of their own."""
    live, now = ServerLive(), 1000.0
    for _ in range(2):
        note_out(live, SERVER, now, 10, True, "refused")
        note_out(live, SERVER, now + 1, 10, True, "the same outage")
        note_back(live)
        now += 20
    note_failure(live, SERVER, now, True, "refused")
    assert live.down_until - now > 15


def flap(up: Served, port: int, times: int) -> None:
    """The server goes out and comes back so many times, and is out then."""
    for number in range(times):
        if number:
            up.clock.now = up.peer(port).live.down_until
            up.reply(port)
        up.fail(port)


@pytest.mark.parametrize("protected", [True, False])
def test_held_server_is_used_if_no_other_is_left(protected: bool) -> None:
    """Its probation begins as if it were not held back, and not before."""
    up = Served(servers=servers(2, max_fails=1), protected=protected)
    flap(up, 1, 5)
    up.clock.advance(5)
    up.check(2, "err")
    if not protected:
        assert up.pick() is None, "ten seconds are not over"
    up.check(2, "ok")
    assert up.picked() == {2}
    up.clock.advance(6)
    assert up.picked() == {2}
    up.check(2, "err")
    assert up.picked() == {1}
    assert up.peer(1).live.down_until <= up.clock.now


def test_failure_of_the_last_server_releases() -> None:
    """Where the protection keeps a failing one in service, too."""
    up = Served(servers=servers(2, max_fails=1))
    flap(up, 1, 5)
    up.clock.advance(11)
    assert up.picked() == {2}
    up.fail(2)
    assert up.picked() == {1, 2}


def test_it_is_shown() -> None:
    """In the notes, with how long."""
    up = Served(servers=servers(2, max_fails=1))
    flap(up, 1, 1)
    assert "held back" not in up.note(1)
    flap(up, 1, 6)
    assert up.note(1).startswith("max_fails: held back for ")
    assert up.reasons()["127.0.0.1:1"] == "requests failed: no reply"


class Hearts:
    """The heartbeats of an upstream with these ports."""

    def __init__(self, *ports: int, **keys: Any) -> None:
        body = {"servers": [server(port) for port in ports], **keys}
        self.beats = Beats(parse_upstream("up", body, "up"), 1000.0)
        self.now = 1000.0

    def beat(self, port: int, is_good: bool, seconds: float = 1.0) -> dict[int, str]:
        """One heartbeat, a second later.  Returns the statuses that it changed."""
        self.now += seconds
        result = OK if is_good else failed("refused")
        changed = self.beats.note(("127.0.0.1", port), result, self.now)
        return {one.port: one.status for one in changed}

    def status(self, port: int) -> str:
        """The status of one server."""
        return self.beats.servers["127.0.0.1", port].status


def test_heartbeats_hold_back_too() -> None:
    """From the third time on; then good results bring it back only after its time."""
    hearts = Hearts(1, 2)
    hearts.beat(2, True)
    for _ in range(2):
        assert hearts.beat(1, False) == {1: "err"}
        assert hearts.beat(1, True) == {1: "ok"}
    hearts.beat(1, False)
    assert hearts.beat(1, True) == {1: "err"}
    beat = hearts.beats.servers["127.0.0.1", 1]
    assert beat.message == "it fails again and again: held back, though it answers now"
    assert hearts.beat(1, True, 15) == {}
    assert hearts.beat(1, True, 4) == {1: "ok"}
    assert beat.message == ""


@pytest.mark.parametrize("protected", [True, False])
def test_heartbeats_hold_nobody_back_who_is_needed(protected: bool) -> None:
    """It comes back when the last other one fails, or with its next good result after."""
    hearts = Hearts(1, 2, protected=protected)
    for _ in range(2):
        hearts.beat(1, False)
        hearts.beat(1, True)
    hearts.beat(1, False)
    hearts.beat(1, True)
    assert hearts.status(1) == "err"
    assert hearts.beat(2, False) == {1: "ok", 2: "err"}
    hearts.beat(1, False)
    assert hearts.beat(1, True)[1] == "ok"
