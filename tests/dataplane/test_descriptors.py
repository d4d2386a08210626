"""How a data plane respects the limit of open files."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from typing import Any

import pytest

from slardar.balancers.wrr import WeightedRoundRobin
from slardar.config import Limits, Settings
from slardar.dataplane import descriptors
from slardar.dataplane.descriptors import clients_at_most, raise_descriptor_limit
from slardar.dataplane.heartbeats import connections_at_most
from slardar.dataplane.proxy import DataPlane
from slardar.model.live import Live
from tests.dataplane.kit import HandReactor, logged


class FakePool:
    """A pool with an idle connection."""

    def __init__(self, shortage: str = "") -> None:
        self.shortage = shortage
        self.drops = 0

    def drop_idle(self) -> None:
        self.drops += 1


class Limit:
    """A limit of open files; the test process keeps its own."""

    def __init__(self) -> None:
        self.soft, self.hard = 1024, 4096
        self.refuses = False

    def get(self, which: int) -> tuple[int, int]:
        assert which == resource.RLIMIT_NOFILE
        return self.soft, self.hard

    def set(self, which: int, limits: tuple[int, int]) -> None:
        assert which == resource.RLIMIT_NOFILE
        if self.refuses:
            raise ValueError("not allowed to raise maximum limit")
        self.soft, self.hard = limits


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """A limit that a test may set."""
    found = Limit()
    monkeypatch.setattr(resource, "getrlimit", found.get)
    monkeypatch.setattr(resource, "setrlimit", found.set)
    monkeypatch.setattr(descriptors.os, "listdir", lambda path: ["0"] * 20)
    return found


@pytest.fixture
def plane(hand: HandReactor, limit: Limit) -> Iterator[DataPlane]:
    """A data plane that has not started."""
    found = DataPlane(hand, Settings(), Live(), lambda mode: WeightedRoundRobin)
    yield found
    found._upstreams.pools.clear()
    found._poller.stop()


def test_soft_limit_is_raised_to_the_hard_one(limit: Limit) -> None:
    """It is raised as far as is useful and allowed."""
    assert raise_descriptor_limit() == 4096 == limit.soft
    limit.hard = resource.RLIM_INFINITY
    assert raise_descriptor_limit() == 1 << 20
    limit.soft, limit.hard, limit.refuses = 100, 200, True
    assert raise_descriptor_limit() == 100


def test_two_descriptors_for_each_client(limit: Limit) -> None:
    """Of the free descriptors, less a few for other uses."""
    assert clients_at_most() == (1024 - 20 - 16) // 2
    limit.soft = resource.RLIM_INFINITY
    assert clients_at_most() > 500_000


def test_there_is_room_for_one_client_always(limit: Limit) -> None:
    """This holds for any limit."""
    limit.soft = 30
    assert clients_at_most() == 1


def test_room_is_known_without_proc(limit: Limit, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container may have no /proc."""

    def missing(path: str) -> list[str]:
        raise FileNotFoundError(path)

    monkeypatch.setattr(os, "listdir", missing)
    assert clients_at_most() == (1024 - 16 - 16) // 2


def test_heartbeats_have_an_eighth(limit: Limit) -> None:
    """In a process that serves clients too, the clients get none of these."""
    assert connections_at_most() == 128
    assert clients_at_most(connections_at_most()) == (1024 - 20 - 16 - 128) // 2
    limit.soft = 30
    assert connections_at_most() == 16
    limit.soft = 1 << 20
    assert connections_at_most() == 4096


def test_room_limits_the_clients(plane: DataPlane, limit: Limit) -> None:
    """The log says so, also for a limit that comes with new settings."""
    with logged() as events:
        plane.start()
    (event,) = events
    assert (event["room"], event["wanted"], event["limit"]) == (494, 10000, 1024)
    assert plane._clients.at_most == 494
    with logged() as events:
        plane.take_settings(Settings(limits=Limits(connections=100)))
    assert events == []
    assert plane._clients.at_most == 100
    with logged() as events:
        plane.take_settings(Settings(limits=Limits(connections=5000)))
    assert [event["room"] for event in events] == [494]
    assert plane._clients.at_most == 494


def test_limit_that_is_high_enough_is_no_matter(plane: DataPlane, limit: Limit) -> None:
    """The log does not mention it."""
    limit.soft = 1 << 16
    with logged() as events:
        plane.start()
    assert events == []
    assert plane._clients.at_most == 10000


def give_pools(plane: DataPlane, *pools: FakePool) -> None:
    """Let the plane have these pools."""
    given: Any = {("127.0.0.1", port): pool for port, pool in enumerate(pools)}
    plane._upstreams.pools["up"] = given


def test_refusal_for_want_of_a_descriptor_gives_up_idle_connections(
    plane: DataPlane, hand: HandReactor
) -> None:
    """All are given up, once, and not while channels handle events."""
    plane.start()
    pools = [FakePool(), FakePool("Too many open files")]
    give_pools(plane, *pools)
    plane.clock.now = 100.0
    plane.refused(503)
    assert [pool.drops for pool in pools] == [0, 0]
    hand.advance(0)
    assert [(pool.drops, pool.shortage) for pool in pools] == [(1, ""), (1, "")]
    # A refusal much later is another shortage.
    plane.clock.now = 200.0
    plane.refused(503)
    hand.advance(0)
    assert [pool.drops for pool in pools] == [1, 1]
    assert plane.statistics()["refused"] == 2


def test_other_refusals_give_up_nothing(plane: DataPlane, hand: HandReactor) -> None:
    """This holds for another status and for a 503 with another reason."""
    plane.start()
    short, enough = FakePool("Too many open files"), FakePool()
    give_pools(plane, short)
    plane.clock.now = 100.0
    plane.refused(502)
    give_pools(plane, enough)
    plane.refused(503)
    hand.advance(0)
    assert (short.drops, enough.drops) == (0, 0)


def test_idle_connections_are_given_up_once_a_second(plane: DataPlane, hand: HandReactor) -> None:
    """A listener without descriptors gives them up, too; many refusals cost no more than one."""
    plane.start()
    pool = FakePool()
    give_pools(plane, pool)
    plane.clock.now = 100.0
    for _ in range(3):
        plane._upstreams.make_room()
        hand.advance(0)
        pool.shortage = "Too many open files"
        plane.refused(503)
        hand.advance(0)
    assert pool.drops == 1
    plane.clock.now = 101.0
    plane._upstreams.make_room()
    hand.advance(0)
    assert pool.drops == 2
