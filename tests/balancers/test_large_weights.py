"""Weights of up to 10**9: the same shares as with small weights, at the same cost."""

from __future__ import annotations

import time
from collections import Counter
from random import Random as Generator

import pytest

from slardar.balancers.wrr import WeightedRoundRobin
from tests.balancers.kit import ALL, ANY, DRAWN, make_peers, same_everywhere

LARGE = 10**9


@pytest.mark.parametrize("cls", ALL, ids=[cls.__name__ for cls in ALL])
def test_shares_follow_large_weights(cls: type) -> None:
    """3 to 1 is 3 to 1, and the time of a pick does not grow with the weight."""

    def picked(unit: int) -> tuple[Counter[str], float]:
        peers = make_peers([3 * unit, unit])
        balancer = cls(peers, {}, Generator(5).random) if cls in DRAWN else cls(peers, {})
        counts: Counter[str] = Counter()
        began = time.thread_time()
        for number in range(4000):
            peer = balancer.pick(peers, same_everywhere(str(number)))
            peer.live.active += 1
            counts[peer.key] += 1
        return counts, time.thread_time() - began

    small, quick = picked(1)
    large, taken = picked(LARGE // 3)
    for key, count in small.items():
        assert large[key] == pytest.approx(count, rel=0.02, abs=4)
    assert taken < 20 * quick + 0.05


def test_failure_of_a_large_weight_heals_in_as_many_picks_as_of_65535() -> None:
    """It does not take half a billion picks."""
    servers = make_peers([LARGE, LARGE])
    balancer = WeightedRoundRobin(servers, {})
    balancer.failed(servers[0])
    assert servers[0].turn.effective_weight == LARGE // 2
    picks = 0
    while servers[0].turn.effective_weight is not None:
        balancer.pick(servers, ANY)
        picks += 1
        assert picks <= 33_000
    assert picks > 30_000
    # Many large weights still add up.
    many = make_peers([LARGE] * 2000)
    busy = WeightedRoundRobin(many, {})
    assert [busy.pick(many, ANY) for _ in many] == many
