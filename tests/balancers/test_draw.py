"""Drawing by lot, and the balancer ``random``, which only draws."""

from __future__ import annotations

from collections import Counter
from random import Random as Generator

import pytest

from slardar.balancers.draw import Lots
from slardar.balancers.random_choice import Random
from tests.balancers.kit import ANY, make_peers, scripted

JUST_BELOW_1 = 1 - 2**-53


@pytest.mark.parametrize(
    ("weights", "number", "expected"),
    [
        ([1, 1, 1, 1], 0.0, 0),
        ([1, 1, 1, 1], 0.2499, 0),
        ([1, 1, 1, 1], 0.25, 1),
        ([1, 1, 1, 1], JUST_BELOW_1, 3),
        ([1, 2, 5], 0.0, 0),
        ([1, 2, 5], 0.1249, 0),
        ([1, 2, 5], 0.125, 1),
        ([1, 2, 5], 0.375, 2),
        ([1, 2, 5], JUST_BELOW_1, 2),
        ([65535, 65534], JUST_BELOW_1, 1),
    ],
)
def test_one(weights: list[int], number: float, expected: int) -> None:
    """A random number falls into the range of one server, which is as long as its weight."""
    servers = make_peers(weights)
    assert Lots(scripted(number)).one(servers) is servers[expected]
    assert Random(servers, {}, scripted(number)).pick(servers, ANY) is servers[expected]


@pytest.mark.parametrize(
    ("weights", "numbers", "expected"),
    [
        ([1, 1, 1], (0.0, 0.0), (0, 1)),
        ([1, 1, 1], (0.5, 0.0), (1, 0)),
        ([1, 1, 1], (0.5, 0.5), (1, 2)),
        ([1, 1, 1], (JUST_BELOW_1, JUST_BELOW_1), (2, 1)),
        ([1, 2, 5], (0.0, 0.0), (0, 1)),
        ([1, 2, 5], (0.2, 0.0), (1, 0)),
        ([1, 2, 5], (0.2, 0.17), (1, 2)),
        ([1, 2, 5], (0.9, 0.0), (2, 0)),
        ([1, 2, 5], (0.9, JUST_BELOW_1), (2, 1)),
    ],
)
def test_two(weights: list[int], numbers: tuple[float, float], expected: tuple[int, int]) -> None:
    """The second server is drawn as if the first were not there."""
    servers = make_peers(weights)
    first, second = Lots(scripted(*numbers)).two(servers)
    assert (servers.index(first), servers.index(second)) == expected


@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [1, 2, 3, 4], [65535, 1, 1], [7] * 20])
def test_two_are_different(weights: list[int]) -> None:
    """A server is never drawn twice, and the first draw's shares follow the weights (within
    0.025: more than five standard deviations of 10,000 draws)."""
    servers = make_peers(weights)
    lots = Lots(Generator(1).random)
    firsts: Counter[str] = Counter()
    for _ in range(10000):
        first, second = lots.two(servers)
        assert first is not second
        firsts[first.key] += 1
    for peer in servers:
        assert abs(firsts[peer.key] / 10000 - peer.weight / sum(weights)) < 0.025


def test_another_list() -> None:
    """Results computed for one list are not used for the next."""
    lots = Lots(Generator(2).random)
    light, heavy = make_peers([1, 1, 1]), make_peers([1, 98, 1])
    assert Counter(lots.one(light).key for _ in range(900))[light[1].key] < 400
    assert Counter(lots.one(heavy).key for _ in range(900))[heavy[1].key] > 800
    assert lots.mean_weight == pytest.approx(100 / 3)
