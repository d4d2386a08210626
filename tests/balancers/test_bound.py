"""Bounded load: no server has more than so many times its share of the requests under way."""

from __future__ import annotations

from math import ceil
from random import Random as Generator
from typing import Any

import pytest

from slardar.balancers.base import Outcome
from slardar.balancers.hashing import Hash, HostHash, UrlHash
from slardar.balancers.sticky import Sticky
from slardar.errors import ConfigError
from slardar.model.live import Peer
from tests.balancers.kit import HASHES, FakeRequest, make_peers, same_everywhere

DONE = Outcome(False, 0.01, 200)


def begin(balancer: Any, peer: Peer) -> None:
    """What a selection does when an attempt begins."""
    balancer.started(peer)
    peer.live.active += 1


def end(balancer: Any, peer: Peer) -> None:
    """What a selection does when an attempt ends."""
    peer.live.active -= 1
    balancer.finished(peer, DONE)


def limit(factor: float, peer: Peer, servers: list[Peer]) -> int:
    """The most requests that a server may have, by the definition."""
    total = sum(peer.live.active for peer in servers)
    return ceil(factor * total * peer.weight / sum(peer.weight for peer in servers) - 1e-9)


@pytest.mark.parametrize("balancer", HASHES)
@pytest.mark.parametrize("factor", [1.01, 1.25, 2])
def test_nobody_gets_more_than_the_bound(balancer: type[Any], factor: float) -> None:
    """However few keys there are, a server that gets a request has at most ``bound`` times its
    share of the requests under way, by weight, rounded up; servers that leave and return
    included."""
    everyone = make_peers([1, 1, 2, 3, 5, 1, 1, 4])
    bounded = balancer(everyone, {"bound": factor})
    chance = Generator(5)
    servers, under_way = everyone, []
    for number in range(3000):
        if number % 300 == 0:
            servers = chance.sample(everyone, chance.randint(2, 8))
        peer = bounded.pick(servers, same_everywhere(f"key {chance.randint(0, 2)}"))
        begin(bounded, peer)
        under_way.append(peer)
        assert peer.live.active <= limit(factor, peer, servers)
        while len(under_way) > 200 or chance.random() < 0.3:
            end(bounded, under_way.pop(chance.randrange(len(under_way))))
            if not under_way:
                break


def test_ten_thousand_requests_of_one_key() -> None:
    """A single key fills all servers to the bound: most of the load over the mean is 1.25."""
    servers = make_peers([1] * 100)
    bounded = UrlHash(servers, {"bound": 1.25})
    for _ in range(10000):
        begin(bounded, bounded.pick(servers, FakeRequest("/one")))
    assert max(peer.live.active for peer in servers) == 125


@pytest.mark.parametrize("balancer", HASHES)
def test_without_load_it_is_the_unbounded(balancer: type[Any]) -> None:
    """While no server is over its share, each key has the server that it has without a bound,
    and the next one for a retry."""
    servers = make_peers([1, 2, 3, 4])
    bounded, plain = balancer(servers, {"bound": 1.25}), balancer(servers, {})
    for number in range(200):
        request = same_everywhere(f"key {number}")
        first = plain.pick(servers, request)
        assert bounded.pick(servers, request) is first
        second = plain.pick_without(servers, [first], request)
        assert bounded.pick_without(servers, [first], request) is second


def test_next_server_of_a_key_is_always_the_same() -> None:
    """A key whose server is full goes to one other server, and comes back when there is room."""
    servers = make_peers([1] * 10)
    balancer = UrlHash(servers, {"bound": 1.5})
    for number in range(50):
        request = FakeRequest(f"/{number}")
        first = balancer.pick(servers, request)
        first.live.active = 5
        others = {balancer.pick(servers, request) for _ in range(20)}
        assert len(others) == 1
        assert first not in others
        first.live.active = 0
        assert balancer.pick(servers, request) is first


def test_keys_of_a_full_server_are_spread() -> None:
    """The keys of one full server do not all go to one other server."""
    servers = make_peers([1] * 10)
    plain, balancer = UrlHash(servers, {}), UrlHash(servers, {"bound": 1.5})
    full = servers[3]
    full.live.active = 5
    requests = [FakeRequest(f"/{number}") for number in range(1000)]
    moved = [request for request in requests if plain.pick(servers, request) is full]
    assert len({balancer.pick(servers, request) for request in moved}) > 5
    for request in requests:
        if request not in moved:
            assert balancer.pick(servers, request) is plain.pick(servers, request)


def test_retries_keep_the_bound() -> None:
    """A retry goes to a server that was not tried and has room, if there is one; else to the
    least loaded of those that were not tried."""
    servers = make_peers([1] * 4)
    balancer = UrlHash(servers, {"bound": 1.25})
    request = FakeRequest("/a")
    first = balancer.pick(servers, request)
    second = balancer.pick_without(servers, [first], request)
    second.live.active = 3
    third = balancer.pick_without(servers, [first], request)
    assert third not in (first, second)
    for peer in servers:
        peer.live.active = 0 if peer is first else 7 if peer is third else 9
    assert balancer.pick_without(servers, [first], request) is third


def test_requests_of_which_it_is_not_told() -> None:
    """Requests that began before an edit of the upstream, and end after it, are counted: the
    bound holds again after as many requests as there are servers."""
    servers = make_peers([1] * 5)
    for peer in servers:
        peer.live.active = 1000
    balancer = UrlHash(servers, {"bound": 1.25})
    balancer.pick(servers, FakeRequest("/a"))
    for peer in servers:
        peer.live.active = 0
    for _ in range(6):
        peer = balancer.pick(servers, FakeRequest("/a"))
        begin(balancer, peer)
        end(balancer, peer)
    for _ in range(20):
        peer = balancer.pick(servers, FakeRequest("/a"))
        begin(balancer, peer)
        assert peer.live.active <= limit(1.25, peer, servers)


@pytest.mark.parametrize("value", [1, 1.0, 0, -2, 1001, True, "1.25", None, float("nan")])
def test_option(value: object) -> None:
    """The option must be a number above 1."""
    with pytest.raises(ConfigError, match=r"^bound: expected a number above 1, 1000 at most, got"):
        Hash(make_peers([1]), {"bound": value})


def test_calls_only_if_needed() -> None:
    """Without a bound the selection need not tell of requests."""
    servers = make_peers([1, 1])
    assert not HostHash(servers, {}).is_told
    assert HostHash(servers, {"bound": 2}).is_told


@pytest.mark.parametrize("method", ["started", "finished", "failed"])
@pytest.mark.parametrize(
    ("base", "options"),
    [(HostHash, {}), (Sticky, {"secret": "0123456789abcdef", "fallback": "hash"})],
)
def test_subclass_hears_of_requests(base: type[Any], options: dict[str, Any], method: str) -> None:
    """A user's subclass that overrides a method gets its calls, with any options."""
    servers = make_peers([1, 1])
    assert not base(servers, options).is_told
    assert type("Mine", (base,), {method: print})(servers, options).is_told
