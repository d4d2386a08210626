"""The balancers that look at requests under way: ``least_conn`` and ``p2c``."""

from __future__ import annotations

from random import Random as Generator

from slardar.balancers.least_conn import LeastConnections
from slardar.balancers.p2c import TwoChoices
from slardar.model.live import Peer
from tests.balancers.kit import ANY, make_peers, scripted, shares


def busy(weights: list[int], actives: list[int]) -> list[Peer]:
    """Servers with so many requests under way."""
    servers = make_peers(weights)
    for peer, active in zip(servers, actives, strict=True):
        peer.live.active = active
    return servers


def test_least_conn_takes_the_least() -> None:
    """The server with the fewest requests wins, wherever it stands in the list."""
    for actives in ([1, 3, 2], [3, 1, 2], [3, 2, 1]):
        servers = busy([1, 1, 1], actives)
        balancer = LeastConnections(servers, {})
        assert {balancer.pick(servers, ANY).live.active for _ in range(5)} == {1}


def test_least_conn_by_weight() -> None:
    """Load is requests divided by weight: 5 on weight 10 are less than 1 on weight 1."""
    servers = busy([1, 10, 4], [1, 5, 3])
    assert LeastConnections(servers, {}).pick(servers, ANY) is servers[1]


def test_least_conn_equals_take_turns() -> None:
    """Servers with equal load take turns as in wrr."""
    servers = busy([1, 4, 3, 6], [0, 0, 0, 0])
    balancer = LeastConnections(servers, {})
    counted = shares(balancer, servers, 140)
    assert [counted[peer.key] for peer in servers] == [10, 40, 30, 60]
    servers = busy([1, 1, 2, 1], [1, 1, 2, 9])
    counted = shares(LeastConnections(servers, {}), servers, 40)
    assert [counted[peer.key] for peer in servers] == [10, 10, 20, 0]


def test_least_conn_lets_a_failing_one_wait() -> None:
    """Among equals, a server that failed has a smaller share of the turn, as in wrr: three
    failures leave 1 of 8, and the third pick finds it at 3."""
    servers = busy([8, 8], [0, 0])
    balancer = LeastConnections(servers, {})
    for _ in range(3):
        balancer.failed(servers[0])
    picked = [balancer.pick(servers, ANY) for _ in range(3)]
    assert picked == [servers[1], servers[1], servers[0]]


def test_least_conn_under_load() -> None:
    """Requests that pile up do so in proportion to the weights."""
    servers = make_peers([1, 2, 3])
    balancer = LeastConnections(servers, {})
    for _ in range(60):
        balancer.pick(servers, ANY).live.active += 1
    assert [peer.live.active for peer in servers] == [10, 20, 30]


def test_p2c_takes_the_less_loaded_of_two() -> None:
    """The less loaded of the two drawn servers is picked, in either order; a third server does
    not matter."""
    servers = busy([1, 1, 1], [0, 5, 4])
    assert TwoChoices(servers, {}, scripted(0.4, 0.9)).pick(servers, ANY) is servers[2]
    assert TwoChoices(servers, {}, scripted(0.9, 0.9)).pick(servers, ANY) is servers[2]


def test_p2c_by_weight() -> None:
    """Load is requests divided by weight."""
    servers = busy([1, 10], [1, 5])
    assert TwoChoices(servers, {}, scripted(0.0, 0.0)).pick(servers, ANY) is servers[1]


def test_p2c_equals() -> None:
    """If two are equally loaded, the one drawn first is picked."""
    servers = busy([1, 1], [3, 3])
    for number, peer in ((0.0, servers[0]), (0.9, servers[1])):
        assert TwoChoices(servers, {}, scripted(number, 0.0)).pick(servers, ANY) is peer


def test_p2c_avoids_the_slow_one() -> None:
    """A server that does not finish gets a small share: here one of three keeps each request
    for ever, the others finish theirs at once."""
    servers = make_peers([1, 1, 1])
    balancer = TwoChoices(servers, {}, Generator(3).random)
    for _ in range(3000):
        peer = balancer.pick(servers, ANY)
        if peer is servers[0]:
            peer.live.active += 1
    assert servers[0].live.active == 1


def test_p2c_under_load() -> None:
    """Requests that pile up do so in proportion to the weights, within 10 %."""
    servers = make_peers([1, 2, 3])
    balancer = TwoChoices(servers, {}, Generator(4).random)
    for _ in range(600):
        balancer.pick(servers, ANY).live.active += 1
    for peer, expected in zip(servers, [100, 200, 300], strict=True):
        assert abs(peer.live.active - expected) <= expected / 10
