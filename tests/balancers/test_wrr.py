"""Smooth weighted round robin."""

from __future__ import annotations

from itertools import islice

from slardar.balancers.wrr import WeightedRoundRobin
from slardar.model.live import Peer
from tests.balancers.kit import ANY, edited, make_peers, shares


def run(balancer: WeightedRoundRobin, servers: list[Peer], names: str, picks: int) -> str:
    """The next picks, each server as its letter."""
    letters = dict(zip((peer.key for peer in servers), names, strict=True))
    return "".join(letters[balancer.pick(servers, ANY).key] for _ in range(picks))


def test_the_sequence_of_nginx() -> None:
    """A1 B4 C3 E6 gives nginx's sequence, again and again."""
    servers = make_peers([1, 4, 3, 6])
    balancer = WeightedRoundRobin(servers, {})
    assert run(balancer, servers, "ABCE", 42) == "EBCEBEACEBECBE" * 3


def test_equal_weights_in_order() -> None:
    """Equal servers take turns in the configured order, whatever the weight."""
    for weight in (1, 7):
        servers = make_peers([weight] * 3)
        balancer = WeightedRoundRobin(servers, {})
        assert run(balancer, servers, "ABC", 9) == "ABCABCABC"


def test_the_turn_survives_a_rebuild() -> None:
    """A new balancer over the same servers goes on where the old one was."""
    servers = make_peers([1, 4, 3, 6])
    sequence = ""
    for _ in range(7):
        sequence += run(WeightedRoundRobin(servers, {}), servers, "ABCE", 4)
    assert sequence == "EBCEBEACEBECBE" * 2


def test_adding_a_server_resets_nothing() -> None:
    """A new server does not change the state of the others."""
    servers = make_peers([1, 4, 3, 6])
    balancer = WeightedRoundRobin(servers, {})
    run(balancer, servers, "ABCE", 5)
    balancer.failed(servers[3])
    before = [(peer.live.current_weight, peer.live.effective_weight) for peer in servers]
    WeightedRoundRobin([*servers, make_peers([1] * 5)[4]], {})
    assert [(p.live.current_weight, p.live.effective_weight) for p in servers] == before


def test_a_failure_halves_and_picks_heal() -> None:
    """The effective weight halves with each failure, rounded up, and grows by one with each
    pick up to the configured weight."""
    servers = make_peers([8, 8])
    balancer = WeightedRoundRobin(servers, {})
    live = servers[0].live
    seen = []
    for _ in range(4):
        balancer.failed(servers[0])
        seen.append(live.effective_weight)
    assert seen == [4, 2, 1, 1]
    climb = []
    for _ in range(8):
        balancer.pick(servers, ANY)
        climb.append(live.effective_weight)
    assert climb == [2, 3, 4, 5, 6, 7, 8, None]
    assert servers[1].live.effective_weight is None


def test_a_failing_server_gets_less() -> None:
    """A server that fails all its requests gets fewer of them than its weight says."""
    servers = make_peers([10, 10])
    balancer = WeightedRoundRobin(servers, {})
    picks = 0
    for _ in range(400):
        peer = balancer.pick(servers, ANY)
        if peer is servers[0]:
            picks += 1
            balancer.failed(peer)
    assert 40 < picks < 160


def test_weight_one_cannot_be_lowered() -> None:
    """Half of 1 is 1: no server's share becomes nothing."""
    servers = make_peers([1, 1])
    balancer = WeightedRoundRobin(servers, {})
    balancer.failed(servers[0])
    assert servers[0].live.effective_weight is None
    assert set(shares(balancer, servers, 10).values()) == {5}


def test_a_raised_weight_is_followed() -> None:
    """Without failures the effective weight is always the configured one."""
    servers = make_peers([1, 1])
    shares(WeightedRoundRobin(servers, {}), servers, 3)
    servers = [edited(servers[0], 3), servers[1]]
    counted = shares(WeightedRoundRobin(servers, {}), servers, 400)
    assert abs(counted[servers[0].key] - 300) <= 2


def test_a_lowered_weight_clamps() -> None:
    """An effective weight above the new configured weight is forgotten at the next pick, and a
    failure before that halves the new weight."""
    servers = make_peers([100, 1])
    WeightedRoundRobin(servers, {}).failed(servers[0])
    assert servers[0].live.effective_weight == 50
    lowered = [edited(servers[0], 4), servers[1]]
    balancer = WeightedRoundRobin(lowered, {})
    balancer.pick(lowered, ANY)
    assert servers[0].live.effective_weight is None
    servers[0].live.effective_weight = 50
    balancer.failed(lowered[0])
    assert servers[0].live.effective_weight == 2


def test_lowered_weights_keep_nobody_waiting() -> None:
    """After an edit of weights from 1000 to 1, the server whose turn was just over does not
    wait as long as with the old weights."""
    servers = make_peers([1000, 1000])
    WeightedRoundRobin(servers, {}).pick(servers, ANY)
    assert servers[0].live.current_weight == -1000
    lowered = [edited(peer, 1) for peer in servers]
    balancer = WeightedRoundRobin(lowered, {})
    picks = (balancer.pick(lowered, ANY) for _ in iter(int, 1))
    assert lowered[0] in list(islice(picks, 4))


def test_a_server_away_and_back() -> None:
    """While a server is out the others share by weight; when it is back, all do."""
    servers = make_peers([2, 1, 1])
    balancer = WeightedRoundRobin(servers, {})
    run(balancer, servers, "ABC", 3)
    left = servers[1:]
    assert all(49 <= count <= 51 for count in shares(balancer, left, 100).values())
    counted = shares(balancer, servers, 400)
    for peer in servers:
        assert abs(counted[peer.key] - 100 * peer.weight) <= 4
