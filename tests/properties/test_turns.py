"""The quick turn of many servers gives the order of the rule, pick by pick.

The rule itself is :class:`Rule`: nginx's loop over every server.  Worlds are made up by
Hypothesis: weights, failures, servers that go and come back, requests that have tried some,
edits and weights that change.  ``derandomize``: the same runs each time.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from random import Random as Generator
from sys import setprofile
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from slardar.balancers.base import Outcome
from slardar.balancers.least_conn import LeastConnections
from slardar.balancers.wrr import MANY, WeightedRoundRobin
from slardar.model.live import Peer, ServerLive
from slardar.model.server import Server
from tests.balancers.kit import ANY, edited, make_peers

many = settings(derandomize=True, deadline=None, database=None, max_examples=120)


class Rule:
    """Smooth weighted round robin as nginx writes it, with places and lowered weights of
    its own, by server."""

    def __init__(self) -> None:
        self.places: dict[str, int] = {}
        self.lowered: dict[str, int] = {}

    def begin(self, servers: Sequence[Peer]) -> None:
        """A balancer is made anew: no place is further away than the sum of weights."""
        total = sum(peer.weight for peer in servers)
        for peer in servers:
            self.places[peer.key] = max(-total, min(total, self.places.get(peer.key, 0)))

    def pick(self, servers: Sequence[Peer]) -> Peer:
        if len(servers) == 1:
            return servers[0]
        best, total = servers[0], 0
        for number, peer in enumerate(servers):
            weight, lowered = peer.weight, self.lowered.pop(peer.key, None)
            if lowered is not None and lowered < weight:
                self.lowered[peer.key] = lowered + 1 + (weight >> 16)
                weight = lowered
            total += weight
            self.places[peer.key] = self.places.get(peer.key, 0) + weight
            if not number or self.places[peer.key] > self.places[best.key]:
                best = peer
        self.places[best.key] -= total
        return best

    def failed(self, peer: Peer) -> None:
        weight = min(self.lowered.get(peer.key, peer.weight), peer.weight)
        self.lowered.pop(peer.key, None)
        if (weight + 1) // 2 < peer.weight:
            self.lowered[peer.key] = (weight + 1) // 2


class LeastRule(Rule):
    """The same among the least loaded."""

    def pick(self, servers: Sequence[Peer]) -> Peer:
        def load(peer: Peer) -> Fraction:
            return Fraction(peer.live.active, peer.weight)

        least = min(map(load, servers))
        return super().pick([peer for peer in servers if load(peer) == least])


class World:
    """A balancer and the rule, over the same servers."""

    def __init__(self, cls: type[Any], weights: list[int], seed: int) -> None:
        self.cls = cls
        self.all = make_peers(weights)
        self.chance = Generator(seed)
        self.rule: Rule = LeastRule() if cls is LeastConnections else Rule()
        self.balancers: list[Any] = []
        self.present = list(self.all)
        self.under_way: list[Peer] = []
        self.make()

    def make(self) -> None:
        """A new balancer; the former ones stay, for requests that they have under way."""
        self.balancers = [*self.balancers[-1:], self.cls(self.all, {})]
        self.rule.begin(self.all)

    def step(self) -> None:
        """Something happens, most often a request."""
        chance, what = self.chance, self.chance.random()
        if what < 0.03:
            # Servers go and come; what is passed is another list then.
            count = chance.randint(1, len(self.all))
            gone = chance.sample(self.all, count if chance.random() < 0.3 else 1)
            self.present = [peer for peer in self.all if peer not in gone] or list(self.all)
        elif what < 0.05:
            index = chance.randrange(len(self.all))
            self.all[index].weight = chance.randint(1, 12)
            self.present = list(self.present)
        elif what < 0.06:
            self.all = [edited(peer, peer.weight) for peer in self.all]
            self.present = [peer for peer in self.all if chance.random() < 0.9] or list(self.all)
            self.make()
        elif what < 0.16:
            peer = chance.choice(self.all)
            self.balancers[-1].failed(peer)
            self.rule.failed(peer)
        elif what < 0.17:
            # Somebody looks, which must change nothing.
            peer = chance.choice(self.all)
            assert peer.turn.current_weight == self.rule.places.get(peer.key, 0)
        else:
            self.request()

    def request(self) -> None:
        chance, balancer = self.chance, self.balancers[-1]
        tried: list[Peer] = []
        for _ in range(chance.choice([1, 1, 1, 1, 2, 4])):
            left = [peer for peer in self.present if peer not in tried]
            if not left:
                break
            if not tried:
                picked = balancer.pick(self.present, ANY)
            elif chance.random() < 0.2:
                picked = balancer.pick(left, ANY)
            else:
                picked = balancer.pick_without(self.present, tried, ANY)
            expected = self.rule.pick(left)
            assert picked is expected, (picked.key, expected.key)
            tried.append(picked)
            if self.cls is LeastConnections:
                self.began(picked)

    def began(self, peer: Peer) -> None:
        peer.live.active += 1
        self.under_way.append(peer)
        while len(self.under_way) > 3 * len(self.all) * self.chance.random():
            done = self.under_way.pop(self.chance.randrange(len(self.under_way)))
            done.live.active -= 1
            # The balancer that the request began with is told.
            peer = next((peer for peer in self.all if peer.live is done.live), done)
            self.balancers[0].finished(peer, Outcome(False, 0.01, 200))


@many
@given(
    weights=st.lists(st.integers(1, 9), min_size=2, max_size=3 * MANY),
    kinds=st.sampled_from([1, 3, 9]),
    cls=st.sampled_from([WeightedRoundRobin, LeastConnections]),
    seed=st.integers(0, 10000),
)
def test_the_order_is_that_of_the_rule(
    weights: list[int], kinds: int, cls: type[Any], seed: int
) -> None:
    """Whatever happens between the picks, with few servers and many, of one weight and of
    many weights."""
    # Hypothesis prefers short lists.
    weights = [1 + weight % kinds for weight in (weights * MANY)[: len(weights) + MANY]]
    world = World(cls, weights[:: 1 + seed % 3], seed)
    for _ in range(150):
        world.step()
    for peer in world.all:
        assert peer.turn.current_weight == world.rule.places.get(peer.key, 0)
        assert peer.turn.effective_weight == world.rule.lowered.get(peer.key)


@many
@given(seed=st.integers(0, 10000), large=st.sampled_from([10**9, 70000]))
def test_large_weights(seed: int, large: int) -> None:
    """The same with weights up to the largest, which a failure lowers by half of it."""
    chance = Generator(seed)
    world = World(
        WeightedRoundRobin, [chance.choice([large, 1, large // 3]) for _ in range(30)], seed
    )
    for _ in range(100):
        world.step()


def test_least_conn_learns_what_nobody_told() -> None:
    """Requests that end without a word (they began before an edit, in another balancer) are
    noticed within as many picks as there are servers."""
    servers = make_peers([1] * 40)
    for peer in servers:
        peer.live.active = 5
    balancer = LeastConnections(servers, {})
    for _ in range(5):
        balancer.pick(servers, ANY).live.active += 1
    servers[17].live.active = 0
    for _ in range(40):
        picked = balancer.pick(servers, ANY)
        if picked is servers[17]:
            break
        picked.live.active += 1
    else:
        raise AssertionError("never picked")


def test_a_pick_looks_at_few() -> None:
    """With thousands of servers a pick of ``wrr`` and ``least_conn``, also one without some,
    calls a bounded number of functions and compares a few heads, whatever their number."""

    def cost(cls: type[Any], count: int) -> int:
        live = [ServerLive() for _ in range(count)]
        servers = [Peer(Server(f"s{n}", 80, 1 + n % 3), state) for n, state in enumerate(live)]
        balancer = cls(servers, {})
        for _ in range(50):
            balancer.pick(servers, ANY)
        events = 0

        def note(frame: Any, event: str, argument: Any) -> None:
            nonlocal events
            events += 1

        setprofile(note)
        for _ in range(20):
            first = balancer.pick(servers, ANY)
            balancer.pick_without(servers, [first], ANY)
        setprofile(None)
        return events

    for cls in (WeightedRoundRobin, LeastConnections):
        assert cost(cls, 4000) < 3 * cost(cls, 100)
