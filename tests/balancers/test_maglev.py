"""``maglev``: its table, and what moves when servers come and go."""

from __future__ import annotations

import gc
from collections import Counter

import pytest

from slardar.balancers import maglev
from slardar.balancers.maglev import Maglev
from slardar.balancers.maglev_table import Table
from slardar.balancers.rendezvous import seed_of
from slardar.errors import ConfigError
from slardar.model.live import Peer, ServerLive
from slardar.model.server import Server
from tests.balancers.kit import ANY, FakeRequest, make_peers, ready_maglev

REQUESTS = [FakeRequest(f"/item/{number}") for number in range(20000)]


def complete(names: list[str], weights: list[int], size: int = 251) -> list[int]:
    """A whole table."""
    table = Table(names, weights, size)
    while table.places is None:
        table.build()
    return list(table.places)


def naive(names: list[str], size: int) -> list[int]:
    """The table as the paper's pseudocode fills it, for equal weights."""
    orders = []
    for name in names:
        offset, skip = (seed_of(name) >> 32) % size, (seed_of(name) % 2**32) % (size - 1) + 1
        orders.append([(offset + step * skip) % size for step in range(size)])
    entry = [-1] * size
    number = 0
    while -1 in entry:
        place = next(place for place in orders[number] if entry[place] < 0)
        entry[place] = number
        number = (number + 1) % len(names)
    return entry


@pytest.mark.parametrize("count", [1, 2, 7, 100, 251, 300])
def test_table_is_the_papers(count: int) -> None:
    """With equal weights each place has the server that the paper's loop gives it, also if there
    are more servers than places."""
    names = [f"10.0.0.{number}:80" for number in range(count)]
    assert complete(names, [3] * count) == naive(names, 251)


@pytest.mark.parametrize("weights", [[1, 2, 3, 4], [1, 1, 1, 97], [5, 1000, 7, 300]])
def test_places_follow_weights(weights: list[int]) -> None:
    """The places of each server are its part of the weights, give or take one for each
    server."""
    counted = Counter(complete(["a:1", "b:1", "c:1", "d:1"], weights, 65537))
    for number, weight in enumerate(weights):
        assert abs(counted[number] - 65537 * weight / sum(weights)) <= 2


def test_a_hundred_servers_share_evenly() -> None:
    """The busiest of 100 equal servers has no more than 1.002 times the mean of the places."""
    servers = make_peers([1] * 100)
    counted = Counter(complete(sorted(peer.key for peer in servers), [1] * 100, 65537))
    assert max(counted.values()) <= 1.002 * 655.37


def test_out_of_service_moves_its_own_keys_only() -> None:
    """If a server is out of service, exactly its keys move, to many others, and they return."""
    servers = make_peers([1] * 10)
    balancer = ready_maglev(servers)
    before = [balancer.pick(servers, request) for request in REQUESTS]
    gone, left = servers[4], servers[:4] + servers[5:]
    after = [balancer.pick(left, request) for request in REQUESTS]
    heirs: Counter[str] = Counter()
    for was, now in zip(before, after, strict=True):
        if was is gone:
            heirs[now.key] += 1
        else:
            assert now is was
    assert len(heirs) == 9
    assert sum(heirs.values()) <= 1.1 / 10 * len(REQUESTS)
    assert max(heirs.values()) < 2 * sum(heirs.values()) / 9
    assert balancer._coming is None, "no table is built for it"
    assert before == [balancer.pick(servers, request) for request in REQUESTS]


def test_drained_moves_its_own_keys_only() -> None:
    """The state of a server makes no other table: an edit that drains it moves its keys only."""
    servers = make_peers([1] * 10)
    plain = ready_maglev(servers)
    before = [plain.pick(servers, request) for request in REQUESTS]
    drained = Peer(Server(servers[4].host, 80, 1, state="drain"), ServerLive())
    edited = [*servers[:4], drained, *servers[5:]]
    left = servers[:4] + servers[5:]
    balancer = ready_maglev(edited, left)
    for was, request in zip(before, REQUESTS, strict=True):
        assert balancer.pick(left, request) is was or was is servers[4]


@pytest.mark.parametrize(("count", "most"), [(10, 1.1), (100, 1.7)])
def test_removal_moves_few_others(count: int, most: float) -> None:
    """If one of 10 servers is removed by an edit, hardly more than its keys move; of 100, about
    half as many keys of others as its own."""
    servers = make_peers([1] * count)
    left = servers[:4] + servers[5:]
    before, after = ready_maglev(servers), ready_maglev(left)
    moved = sum(before.pick(servers, one) is not after.pick(left, one) for one in REQUESTS)
    assert moved <= most / count * len(REQUESTS)


def test_most_out_of_service() -> None:
    """Each key finds a server, even if few are left of many."""
    servers = make_peers([1] * 500)
    balancer = ready_maglev(servers)
    for left in (servers[7:8], servers[3:5], servers[::50]):
        picked = {balancer.pick(left, request) for request in REQUESTS[:500]}
        assert picked == set(left)


def test_parts_are_built_by_requests() -> None:
    """Each request builds a part, so none waits for the whole; a preview builds nothing, and
    foresees the next pick at any time."""
    servers = make_peers([1] * 3000)
    balancer = Maglev(servers, {})
    parts = 0
    for request in REQUESTS:
        foreseen = balancer.preview(servers, request)
        assert balancer.preview(servers, request) is foreseen
        assert balancer.pick(servers, request) is foreseen
        parts += 1
        if balancer._coming is None:
            break
    assert 20 < parts < 80
    assert balancer._places is not None


def test_new_weights_take_over_when_the_table_is_ready() -> None:
    """While the table of new weights is built, the former one serves; then shares follow the
    new weights.  Weights of the same proportions build nothing."""
    servers = make_peers([1, 1])
    balancer = ready_maglev(servers)
    before = [balancer.pick(servers, request) for request in REQUESTS[:200]]
    for peer in servers:
        peer.weight = 10
    servers = list(servers)
    balancer.pick(servers, ANY)
    assert balancer._coming is None
    servers[0].weight = 90
    servers = list(servers)
    requests = iter(zip(REQUESTS, before, strict=False))
    balancer.pick(servers, ANY)
    while balancer._coming is not None:
        request, was = next(requests)
        assert balancer.pick(servers, request) is was
    counted = Counter(balancer.pick(servers, request) for request in REQUESTS)
    assert abs(counted[servers[0]] / len(REQUESTS) - 0.9) < 0.01


def test_weight_zero_for_a_while() -> None:
    """A server whose weight is 0 for a while gets nothing, and its keys return."""
    servers = make_peers([1, 1, 1])
    balancer = ready_maglev(servers)
    before = [balancer.pick(servers, request) for request in REQUESTS[:500]]
    servers[1].weight = 0
    left = [servers[0], servers[2]]
    ready_maglev(servers, left, balancer)
    assert {balancer.pick(left, request) for request in REQUESTS[:500]} == set(left)
    servers[1].weight = 1
    servers = list(servers)
    ready_maglev(servers, servers, balancer)
    assert before == [balancer.pick(servers, request) for request in REQUESTS[:500]]


def test_table_outlives_an_edit() -> None:
    """An edit that leaves servers and weights as they are builds nothing; a table that nobody
    uses any more is dropped."""
    servers = make_peers([1, 2, 3])
    first = ready_maglev(servers)
    again = make_peers([2, 4, 6])
    second = Maglev(again[::-1], {})
    second.pick(again[::-1], ANY)
    assert second._table is first._table
    del first, second
    gc.collect()
    assert not any(
        key[1] == ("10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80") for key in maglev._tables
    )


@pytest.mark.parametrize("value", [0, 250, 65536, 5_000_012, 65537.0, True, "65537", None])
def test_table_is_a_prime(value: object) -> None:
    """A size that is no prime, or out of range, is refused."""
    with pytest.raises(ConfigError, match=r"^table: expected a prime from 251 to 5000011, "):
        Maglev(make_peers([1]), {"table": value})


def test_table_of_another_size() -> None:
    """The option sets the number of places."""
    servers = make_peers([1, 1])
    balancer = ready_maglev(servers, options={"table": 1009})
    assert balancer._places is not None
    assert len(balancer._places) == 1009
    assert {balancer.pick(servers, request) for request in REQUESTS[:100]} == set(servers)


def test_a_known_answer() -> None:
    """The server of a key never changes: nodes with different versions must agree."""
    equal, weighted = make_peers([1] * 5), make_peers([1, 4, 3, 6])
    picked = [
        "".join(balancer.pick(servers, FakeRequest(f"/{n}")).host[-1] for n in range(20))
        for servers in (equal, weighted)
        for balancer in [ready_maglev(servers)]
    ]
    assert picked == ["21111215414242324554", "21141244444242324424"]
