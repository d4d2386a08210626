"""What each balancer does, over weights and servers that Hypothesis makes up.

The laws of all balancers are in ``slardar.testing.laws``, and their tests in
``tests/balancers/test_laws.py``.

The runs are the same each time (``derandomize``); what is random in a balancer comes
from a generator with a fixed seed, so that a bound either holds or does not.

Which balancer is drawn by Hypothesis too: pytest-twisted 1.14 wraps a test of
Hypothesis anew for each of its parameters, and the second one fails.
"""

from __future__ import annotations

from collections import Counter
from functools import partial
from itertools import count
from math import gcd, sqrt
from random import Random as Generator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.balancers.base import Outcome
from slardar.balancers.ewma import Ewma
from slardar.balancers.hashing import UrlHash
from slardar.balancers.least_conn import LeastConnections
from slardar.balancers.p2c import TwoChoices
from slardar.balancers.wrr import WeightedRoundRobin
from slardar.health.rules import is_available, note_failure, note_success
from slardar.model.live import Peer, ServerLive
from slardar.model.server import Server
from slardar.testing.laws import Traffic
from tests.balancers.kit import (
    ALL,
    ANY,
    DRAWN,
    HASHES,
    FakeRequest,
    edited,
    make_peers,
    same_everywhere,
    shares,
)

few = settings(derandomize=True, deadline=None, database=None, max_examples=25)
many = settings(few, max_examples=60)
weights = st.lists(st.integers(1, 20), min_size=2, max_size=8)
KEYS = [f"/item/{number}" for number in range(400)]
server_weights = st.lists(st.integers(1, 10), min_size=2, max_size=30)


def make(cls: type[Any], servers: list[Peer]) -> Any:
    """A balancer whose random numbers are the same each time."""
    if cls is Ewma:
        return Ewma(servers, {}, Generator(11).random, partial(next, count(0, 0.01)))
    return cls(servers, {}, Generator(11).random) if cls in DRAWN else cls(servers, {})


# All of them.


@many
@given(cls=st.sampled_from(ALL), weights=weights)
def test_a_rebuild_changes_nothing_of_the_neighbours(cls: type[Any], weights: list[int]) -> None:
    """A balancer made anew with one more server keeps the state of the others."""
    servers = make_peers([*weights, 5])
    old, new = servers[:-1], servers
    traffic = Traffic(make(cls, old), 4)
    for number in range(30):
        traffic.request(old, same_everywhere(str(number)), failed=number % 7 == 0)
    before = [_known(peer.live) for peer in old]
    make(cls, new)
    assert before == [_known(peer.live) for peer in old]


def _known(live: ServerLive) -> dict[str, Any]:
    return {name: getattr(live, name) for name in dir(live) if name[0] != "_"}


@many
@given(cls=st.sampled_from(ALL), weights=weights, seed=st.integers(0, 1000))
def test_never_one_that_is_out(cls: type[Any], weights: list[int], seed: int) -> None:
    """With the health rules around it, no request goes to a server that is out, and there is
    always one that is available."""
    servers = [
        Peer(Server(f"10.0.0.{number}", 80, weight, max_fails=2, fail_timeout=5), ServerLive())
        for number, weight in enumerate(weights)
    ]
    balancer, chance = make(cls, servers), Generator(seed)
    now = 100.0
    for number in range(60):
        now += chance.random()
        present = [peer for peer in servers if is_available(peer.live, peer.config, now)]
        assert present
        peer = balancer.pick(present, same_everywhere(str(number)))
        assert peer.live.down_until <= now
        if chance.random() < 0.5:
            note_failure(peer.live, peer.config, now, len(present) > 1, "failed")
            balancer.failed(peer)
        else:
            note_success(peer.live, peer.config, now)


@few
@given(cls=st.sampled_from(DRAWN), weights=weights, data=st.data())
def test_those_left_share_by_weight(
    cls: type[Any], weights: list[int], data: st.DataObject
) -> None:
    """Drawn among the others, each has the share that it has without those left out."""
    servers = make_peers([*weights, 5])
    out = data.draw(st.lists(st.sampled_from(servers[1:]), min_size=1, unique=True))
    left = [peer for peer in servers if peer not in out]
    balancer = make(cls, servers)
    for peer in servers:
        balancer.finished(peer, Outcome(False, 0.05, 200))
    picks = 1500
    counted = Counter(balancer.pick_without(servers, out, ANY).key for _ in range(picks))
    for peer in left:
        share = peer.weight / sum(peer.weight for peer in left)
        assert abs(counted[peer.key] / picks - share) < share / 6 + 0.02


# Weights that change.


@many
@given(cls=st.sampled_from(ALL), before=weights, seed=st.integers(0, 1000))
def test_a_changed_weight_holds_at_once(cls: type[Any], before: list[int], seed: int) -> None:
    """With the sequence that tells of it, a balancer picks as one does that has never known
    other weights: hashes key by key, the others by share."""
    servers = make_peers(before)
    balancer = make(cls, servers)
    for number in range(100):
        balancer.pick(servers, same_everywhere(str(number)))
    chance = Generator(seed)
    for _ in range(3):
        for peer in chance.sample(servers, chance.randint(1, len(servers))):
            peer.weight = chance.randint(1, 20)
        servers = list(servers)
        if cls in HASHES:
            fresh = cls(servers, {})
            for number in range(chance.randint(20, 100)):
                request = same_everywhere(str(number))
                assert balancer.pick(servers, request) is fresh.pick(servers, request)
                again = same_everywhere(f"another {number}")
                some = servers[:1]
                second = fresh.pick_without(servers, some, again)
                assert balancer.pick_without(servers, some, again) is second
    if cls in HASHES:
        return
    for peer in servers:
        balancer.finished(peer, Outcome(False, 0.05, 200))
    picks = 3000
    counted = shares(balancer, servers, picks)
    for peer in servers:
        share = peer.weight / sum(peer.weight for peer in servers)
        assert abs(counted[peer.key] / picks - share) < share / 6 + 0.02


@few
@given(weights=server_weights, data=st.data())
def test_hash_changed_weight_moves_few(weights: list[int], data: st.DataObject) -> None:
    """A weight that grows takes keys from the others, one that shrinks gives up its own, and
    no other key moves; weights as before, everything is as before."""
    servers = make_peers(weights)
    balancer = UrlHash(servers, {})
    one = data.draw(st.sampled_from(servers))
    old = one.weight
    before = [balancer.pick(servers, FakeRequest(key)) for key in KEYS]
    one.weight = data.draw(st.integers(1, 20))
    servers = list(servers)
    after = [balancer.pick(servers, FakeRequest(key)) for key in KEYS]
    for was, now in zip(before, after, strict=True):
        assert now is was or (now is one if one.weight > old else was is one)
    one.weight = old
    servers = list(servers)
    assert before == [balancer.pick(servers, FakeRequest(key)) for key in KEYS]


# Shares.


@many
@given(weights=weights, turns=st.integers(1, 4))
def test_wrr_shares_are_exact(weights: list[int], turns: int) -> None:
    """In a whole turn each server gets exactly its weight; at any time before, it differs from
    its share by less than the number of servers."""
    servers = make_peers(weights)
    balancer = WeightedRoundRobin(servers, {})
    common = gcd(*weights)
    turn = sum(weights) // common
    counted: Counter[str] = Counter()
    for number in range(1, turn * turns + 1):
        counted[balancer.pick(servers, ANY).key] += 1
        for peer in servers:
            due = number * peer.weight / sum(weights)
            assert abs(counted[peer.key] - due) < len(servers)
    assert [counted[peer.key] for peer in servers] == [turns * w // common for w in weights]


@many
@given(weights=weights, data=st.data())
def test_wrr_goes_on_over_edits(weights: list[int], data: st.DataObject) -> None:
    """Balancers made anew at any time give the sequence that one alone gives."""
    alone = make_peers(weights)
    single = WeightedRoundRobin(alone, {})
    expected = [single.pick(alone, ANY).key for _ in range(40)]
    servers = make_peers(weights)
    balancer = WeightedRoundRobin(servers, {})
    cuts = data.draw(st.sets(st.integers(0, 39), max_size=5))
    picked = []
    for number in range(40):
        if number in cuts:
            servers = [edited(peer, peer.weight) for peer in servers]
            balancer = WeightedRoundRobin(servers, {})
        picked.append(balancer.pick(servers, ANY).key)
    assert picked == expected


@many
@given(before=weights, data=st.data())
def test_wrr_follows_new_weights(before: list[int], data: st.DataObject) -> None:
    """After any edit of weights and any failures before it, shares follow the new weights:
    over ten turns each server differs by a few requests at most."""
    servers = make_peers(before)
    balancer = WeightedRoundRobin(servers, {})
    for _ in range(data.draw(st.integers(0, 30))):
        peer = balancer.pick(servers, ANY)
        if data.draw(st.booleans()):
            balancer.failed(peer)
    after = data.draw(st.lists(st.integers(1, 20), min_size=len(before), max_size=len(before)))
    servers = [edited(peer, weight) for peer, weight in zip(servers, after, strict=True)]
    balancer = WeightedRoundRobin(servers, {})
    shares(balancer, servers, 40)  # weights that failures lowered recover
    assert all(peer.live.effective_weight is None for peer in servers)
    total = sum(after)
    counted = shares(balancer, servers, 10 * total)
    for peer in servers:
        assert abs(counted[peer.key] - 10 * peer.weight) <= len(servers) + 2


@many
@given(weights=weights, length=st.integers(1, 60))
def test_least_conn_is_balanced(weights: list[int], length: int) -> None:
    """It never gives a request to a server whose load is above another's."""
    servers = make_peers(weights)
    balancer = LeastConnections(servers, {})
    for _ in range(length):
        least = min(peer.live.active / peer.weight for peer in servers)
        peer = balancer.pick(servers, ANY)
        assert peer.live.active / peer.weight == least
        peer.live.active += 1


@few
@given(number=st.integers(2, 40), length=st.integers(50, 400))
def test_two_choices_keep_the_gap_small(number: int, length: int) -> None:
    """The most loaded server has little more than the mean (log log n); a purely random choice
    would leave it several above."""
    servers = make_peers([1] * number)
    balancer = TwoChoices(servers, {}, Generator(number).random)
    for _ in range(length):
        balancer.pick(servers, ANY).live.active += 1
    assert max(peer.live.active for peer in servers) <= length / number + 4


# Hashes.


def placed(servers: list[Peer], present: list[Peer], keys: list[str]) -> list[Peer]:
    """The server of each key."""
    balancer = UrlHash(servers, {})
    return [balancer.pick(present, FakeRequest(key)) for key in keys]


@few
@given(weights=server_weights)
def test_hash_shares(weights: list[int]) -> None:
    """Each share follows the weight, within five standard deviations of slots and keys."""
    servers = make_peers(weights)
    picks = 2500
    counted = Counter(
        peer.key for peer in placed(servers, servers, [f"/{n}" for n in range(picks)])
    )
    for peer in servers:
        share = peer.weight / sum(weights)
        deviation = sqrt(share * (1 - share) * (1 / picks + 1 / 65536))
        assert abs(counted[peer.key] / picks - share) < 5 * deviation


@few
@given(weights=server_weights, data=st.data())
def test_hash_leaving_moves_its_own_keys_only(weights: list[int], data: st.DataObject) -> None:
    """If one of n servers is out of service or removed, exactly its keys move, to the same
    second choices, about its share of all; and they return with it."""
    servers = make_peers(weights)
    gone = data.draw(st.sampled_from(servers))
    left = [peer for peer in servers if peer is not gone]
    before = placed(servers, servers, KEYS)
    out, removed = placed(servers, left, KEYS), placed(left, left, KEYS)
    assert out == removed
    for was, now in zip(before, out, strict=True):
        assert now in left if was is gone else now is was
    share = gone.weight / sum(weights)
    moved = sum(was is gone for was in before) / len(KEYS)
    assert moved < share + 5 * sqrt(share * (1 - share) / len(KEYS))
    balancer = UrlHash(servers, {})
    there_and_back = [
        [balancer.pick(some, FakeRequest(key)) for key in KEYS[:50]]
        for some in (servers, left, servers)
    ]
    assert there_and_back == [before[:50], out[:50], before[:50]]


@few
@given(weights=st.lists(st.integers(1, 10), min_size=3, max_size=20), data=st.data())
def test_hash_second_choice(weights: list[int], data: st.DataObject) -> None:
    """A key's second server stays the same while a third server leaves."""
    servers = make_peers(weights)
    for key in KEYS[:20]:
        (first,) = placed(servers, servers, [key])
        others = [peer for peer in servers if peer is not first]
        (second,) = placed(servers, others, [key])
        third = data.draw(st.sampled_from([peer for peer in others if peer is not second]))
        assert placed(servers, [p for p in others if p is not third], [key]) == [second]


@few
@given(weights=server_weights, data=st.data())
def test_hash_more_weight_only_gains(weights: list[int], data: st.DataObject) -> None:
    """When one server's weight grows, keys move to it and nowhere else."""
    servers = make_peers(weights)
    index = data.draw(st.integers(0, len(servers) - 1))
    heavier = list(servers)
    heavier[index] = edited(servers[index], weights[index] + data.draw(st.integers(1, 20)))
    before = [peer.key for peer in placed(servers, servers, KEYS)]
    after = [peer.key for peer in placed(heavier, heavier, KEYS)]
    assert all(now in (was, servers[index].key) for was, now in zip(before, after, strict=True))


@many
@given(
    cls=st.sampled_from(HASHES),
    # As a path, the key must not change.
    key=st.text(st.characters(exclude_characters="%?/"), min_size=1, max_size=30),
)
def test_hashes_agree(cls: type[Any], key: str) -> None:
    """All hash balancers send the same key to the same server, again and again."""
    servers = make_peers([1, 2, 3, 4])
    balancer = cls(servers, {})
    picked = {balancer.pick(servers, same_everywhere(key)) for _ in range(3)}
    assert picked == {UrlHash(servers, {}).pick(servers, FakeRequest(key))}
