"""Slow start: the weight of a new or recovered server climbs."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.health.slow_start import FIRST, share_after, step_of
from slardar.model.live import ServerLive
from tests.health.kit import MODES, Served, request, server, servers

steady: Any = settings(derandomize=True, deadline=None, database=None, max_examples=100)


def weights(up: Served) -> dict[int, float]:
    """The weight of each server in the balancer, relative to that of the server 1."""
    up.pick()
    whole = up.peer(1).weight
    return {peer.port: peer.weight / whole for peer in up.selection.peers}


def test_straight_line() -> None:
    """From a tenth to the whole, and never more."""
    assert share_after(0, 10) == share_after(-1, 10) == FIRST
    assert share_after(5, 10) == pytest.approx(0.55)
    assert share_after(10, 10) == share_after(99, 10) == 1.0
    assert share_after(0, 0) == 1.0
    assert (step_of(0.5), step_of(1), step_of(100)) == (0.1, 0.1, 5.0)


def test_nobody_climbs_at_the_start() -> None:
    """Without a server that could take the requests, it would be without sense."""
    up = Served(servers=servers(3), slow_start=10)
    assert weights(up) == {1: 1, 2: 1, 3: 1}
    up.edit(servers=[server(4), server(5)], slow_start=10)
    up.pick()
    assert {peer.weight for peer in up.selection.peers} == {1}


@pytest.mark.parametrize("mode", MODES)
def test_new_server_climbs(mode: str) -> None:
    """It is added while the upstream serves; another edit does not begin the climb anew."""
    up = Served(servers=servers(2), slow_start=10, mode=mode)
    up.pick()
    up.edit(servers=servers(3), slow_start=10, mode=mode)
    assert weights(up) == {1: 1, 2: 1, 3: 0.1}
    up.clock.advance(5)
    assert weights(up)[3] == pytest.approx(0.55, abs=0.06)
    up.edit(servers=servers(3), slow_start=10, mode=mode, keepalive=5)
    assert weights(up)[3] == pytest.approx(0.55, abs=0.06)
    up.clock.advance(6)
    up.pick()
    assert weights(up) == {1: 1, 2: 1, 3: 1}
    up.clock.advance(100)
    assert weights(up) == {1: 1, 2: 1, 3: 1}


def test_without_the_key_nobody_climbs() -> None:
    """Also one that climbs has its whole weight once the key is gone."""
    up = Served(servers=servers(1), slow_start=10)
    up.edit(servers=servers(2), slow_start=10)
    assert weights(up) == {1: 1, 2: 0.1}
    up.edit(servers=servers(2))
    assert weights(up) == {1: 1, 2: 1}
    up.edit(servers=servers(3))
    assert weights(up) == {1: 1, 2: 1, 3: 1}
    up.edit(servers=servers(3), slow_start=10)
    assert weights(up) == {1: 1, 2: 1, 3: 1}


def passive(up: Served) -> None:
    """Requests put the server 2 out, and its time is over."""
    up.fail(2)
    assert up.picked() == {1}
    up.clock.advance(10)


def heartbeats(up: Served) -> None:
    """Heartbeats keep the server 2 out for some time."""
    up.check(2, "err")
    assert up.picked() == {1}
    up.clock.advance(10)
    up.check(2, "ok")


def drained(up: Served) -> None:
    """The server 2 is drained for some time."""
    up.edit(servers=[server(1), server(2, state="drain")], slow_start=20)
    assert up.picked() == {1}
    up.edit(servers=servers(2), slow_start=20)


@pytest.mark.parametrize("absence", [passive, heartbeats, drained])
def test_recovered_server_climbs(absence: Any) -> None:
    """From its first request on, whatever kept it out."""
    up = Served(servers=servers(2, max_fails=1, fail_timeout=10), slow_start=20)
    assert weights(up) == {1: 1, 2: 1}
    absence(up)
    assert weights(up) == {1: 1, 2: 0.1}
    assert up.shares(110) == {1: 100, 2: 10}
    up.reply(2)
    up.clock.advance(10)
    assert weights(up)[2] == pytest.approx(0.55, abs=0.06)
    up.clock.advance(10)
    assert weights(up) == {1: 1, 2: 1}


def test_absence_during_the_climb() -> None:
    """It begins anew."""
    up = Served(servers=servers(2), slow_start=10)
    for _ in range(2):
        up.check(2, "err")
        up.pick()
        up.check(2, "ok")
        assert weights(up) == {1: 1, 2: 0.1}
        up.clock.advance(5)
        assert weights(up)[2] > 0.4


def test_lookup_of_a_name_is_no_absence() -> None:
    """A server whose name is looked up for the first time has not been out of service."""

    class Pool:
        pending = True

    up = Served(servers=servers(2), slow_start=10)
    up.peer(2).pool = pool = Pool()
    assert up.picked() == {1}
    pool.pending = False
    up.selection.look("127.0.0.1", 2)
    assert weights(up) == {1: 1, 2: 1}


def test_weight_set_meanwhile_climbs_too() -> None:
    """The climb is a part of whatever weight the server has."""
    up = Served(servers=servers(1, weight=10), slow_start=10)
    up.edit(servers=servers(2, weight=10), slow_start=10)
    assert weights(up) == {1: 1, 2: 0.1}
    up.selection.set_weight("127.0.0.1", 2, 5)
    assert weights(up) == {1: 1, 2: 0.05}
    up.clock.advance(10)
    assert weights(up) == {1: 1, 2: 0.5}


def test_level_by_level() -> None:
    """A server that is drained in one level only climbs there only."""
    two = {"servers": [server(2)]}
    first = {"servers": [server(1), server(2, state="drain")]}
    up = Served(cluster=[first, two], slow_start=10)
    up.selection.preview(request())
    up.edit(cluster=[{"servers": servers(2)}, two], slow_start=10)
    up.selection.preview(request())
    assert [peer.weight for peer in up.selection.peers] == [10, 1, 1]


def test_steps_are_few() -> None:
    """However many requests and climbing servers there are, the balancer gets few lists."""
    up = Served(servers=servers(1), slow_start=10)
    up.pick()
    up.edit(servers=servers(50), slow_start=10)
    lists = set()
    kept = []
    for _ in range(2000):
        up.clock.advance(0.01)
        up.pick()
        offered = up.selection._levels[0].available
        if id(offered) not in lists:
            lists.add(id(offered))
            kept.append(offered)
    assert 10 <= len(kept) <= 22


def test_it_is_shown() -> None:
    """In the preview and for the status, while it climbs."""
    up = Served(servers=servers(1), slow_start=10)
    up.edit(servers=servers(2), slow_start=10)
    (level,) = up.selection.preview(request()).levels
    assert [one.note for one in level.candidates] == [
        "",
        "slow_start: it has 0.10 of its weight, and climbs",
    ]
    up.check(2, "err")
    assert up.note(2) == ""
    up.check(2, "ok")
    up.clock.advance(11)
    up.pick()
    up.clock.advance(11)
    (level,) = up.selection.preview(request()).levels
    assert [one.note for one in level.candidates] == ["", ""]
    assert ServerLive().notes == {}


@steady
@given(
    st.sampled_from(["wrr", "hash"]),
    st.integers(1, 30),
    st.floats(0.5, 100),
    st.lists(st.floats(0, 10), min_size=1, max_size=30),
)
def test_share_never_falls(mode: str, weight: int, seconds: float, pauses: list[float]) -> None:
    """Whatever its weight is and whenever requests come: more and more of them go to it."""
    up = Served(servers=servers(3, weight=10), slow_start=seconds, mode=mode)
    up.pick()
    up.edit(
        servers=[*servers(3, weight=10), server(4, weight=weight)], slow_start=seconds, mode=mode
    )
    before, got = 0, 0
    for pause in pauses:
        up.pick()
        assert up.peer(4).weight >= before
        before = up.peer(4).weight
        if mode == "hash":
            # The turn of a round robin goes on from one step to the next.
            count = up.shares(100)[4]
            assert count >= got
            got = count
        up.clock.advance(pause)
    up.clock.advance(seconds)
    up.pick()
    assert up.peer(4).weight == weight * up.selection._levels[0].unit
