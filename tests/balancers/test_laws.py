"""Every balancer keeps the laws of ``slardar.testing.laws``, and one that breaks a law is found."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count, cycle
from pathlib import Path
from random import Random as Generator
from typing import Any
from zlib import crc32

import pytest

from slardar.balancers.base import Balancer
from slardar.balancers.ewma import Ewma
from slardar.balancers.hashing import Hash, HeaderHash, HostHash, IpHash, UrlHash
from slardar.balancers.least_conn import LeastConnections
from slardar.balancers.maglev import Maglev
from slardar.balancers.own import own_balancers
from slardar.balancers.p2c import TwoChoices
from slardar.balancers.random_choice import Random
from slardar.balancers.sticky import Sticky
from slardar.balancers.wrr import WeightedRoundRobin
from slardar.model.live import Peer
from slardar.testing.laws import check_balancer

CHECKOUT = Path(__file__).resolve().parent.parent.parent
Make = Callable[[Sequence[Peer], Mapping[str, Any]], Any]


def seeded(cls: Any, servers: Sequence[Peer], options: Mapping[str, Any]) -> Any:
    """A balancer whose random numbers, and clock, are the same each time."""
    chance = Generator(11).random
    if cls is Ewma:
        return Ewma(servers, options, chance, partial(next, count(0, 0.01)))
    return cls(servers, options, chance)


KEEPERS: list[tuple[type[Balancer], Make, dict[str, Any], bool]] = [
    *((cls, cls, {}, False) for cls in (WeightedRoundRobin, LeastConnections)),
    *((cls, partial(seeded, cls), {}, False) for cls in (Random, TwoChoices, Ewma)),
    *((cls, cls, {}, True) for cls in (Hash, UrlHash, IpHash, HeaderHash, HostHash)),
    (UrlHash, UrlHash, {"bound": 1.25}, True),
    (Maglev, Maglev, {"table": 5003}, True),
    (Maglev, Maglev, {"table": 5003, "bound": 1.25}, True),
    (Sticky, Sticky, {"secret": "0123456789abcdef"}, False),
]


@pytest.mark.real  # the same keys are asked of another process
@pytest.mark.parametrize(
    ("make", "options", "by_key"),
    [row[1:] for row in KEEPERS],
    ids=["-".join([row[0].__name__, *row[2]]) for row in KEEPERS],
)
def test_slardars_own(make: Make, options: dict[str, Any], by_key: bool) -> None:
    """Each of slardar's balancers keeps every law."""
    check_balancer(make, options, by_key=by_key)


def test_none_is_forgotten() -> None:
    """The list above has all balancers that users can name."""
    assert {row[0] for row in KEEPERS} == set(own_balancers().values())


def test_the_one_in_the_docs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The test in docs/balancers.md passes for the balancer of the examples, which keeps all laws
    but that of weights."""
    monkeypatch.syspath_prepend(str(CHECKOUT / "examples"))
    text = (CHECKOUT / "docs" / "balancers.md").read_text("utf-8")
    shown = re.search(r"```python\n(from least_requests import .*?)```", text, re.DOTALL)
    assert shown is not None
    names: dict[str, Any] = {}
    exec(shown[1], names)
    names["test_least_requests"]()
    with pytest.raises(AssertionError, match=r"^shares follow weights: "):
        check_balancer(names["LeastRequests"])


class Plain:
    """A balancer of a user's that derives from nothing, and writes ``pick`` only: by lot."""

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        self.servers = servers
        self.lot = Generator(3)

    def pick(self, servers: Any, request: Any) -> Any:
        return self.lot.choices(servers, [peer.weight for peer in servers])[0]


def test_a_plain_class() -> None:
    """A class that has nothing but ``pick`` can keep the laws."""
    check_balancer(Plain)


# Balancers that break a law.


class Stray(Plain):
    """Picks a server that is out of service."""

    def pick(self, servers: Any, request: Any) -> Any:
        return super().pick(self.servers if len(servers) > 1 else servers, request)


class Nothing(Plain):
    """Finds no server now and then."""

    def pick(self, servers: Any, request: Any) -> Any:
        return super().pick(servers, request) if len(servers) != 2 else None


class Two(Plain):
    """Does not expect a single server."""

    def pick(self, servers: Any, request: Any) -> Any:
        return super().pick(servers if len(servers) > 1 else self.servers[-2:], request)


class Again(Plain):
    """Retries on the same server."""

    def pick_without(self, servers: Any, left_out: Any, request: Any) -> Any:
        return self.pick(servers, request)


class Sorting(Plain):
    """Changes the sequence that it gets."""

    def pick(self, servers: Any, request: Any) -> Any:
        servers.sort(key=lambda peer: -peer.port - peer.weight)
        return super().pick(servers, request)


class Counting(Plain):
    """Counts the requests under way itself."""

    def started(self, server: Peer) -> None:
        server.live.active += 1

    def finished(self, server: Peer, outcome: Any) -> None:
        server.live.requests += 1
        server.live.active -= 1


class Heaviest(Plain):
    """Always takes the heaviest server."""

    def pick(self, servers: Any, request: Any) -> Any:
        return max(servers, key=lambda peer: peer.weight)


class Unweighted(Plain):
    """Does not look at weights."""

    def pick(self, servers: Any, request: Any) -> Any:
        return self.lot.choice(servers)


class OldWeights(Plain):
    """Keeps the weights that it was made with."""

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        super().__init__(servers, options)
        self.weights = {peer: peer.weight for peer in servers}

    def pick(self, servers: Any, request: Any) -> Any:
        return self.lot.choices(servers, [self.weights[peer] for peer in servers])[0]


class Guessing(Plain):
    """Foresees what it does not do."""

    def preview(self, servers: Any, request: Any) -> Any:
        return servers[0]


class Turning(Plain):
    """Takes a turn with each preview."""

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        super().__init__(servers, options)
        self.turn = cycle([peer for peer in servers for _ in range(peer.weight)])

    def preview(self, servers: Any, request: Any) -> Any:
        return next(self.turn)

    def pick(self, servers: Any, request: Any) -> Any:
        return next(peer for peer in self.turn if peer in servers)


class Unbound(Plain):
    """Says that a request is bound, and sends it elsewhere."""

    def bound_to(self, request: Any) -> Any:
        return self.servers[len(request.path) % len(self.servers)]


class Elsewhere(Plain):
    """Binds requests to a server that it does not have."""

    def bound_to(self, request: Any) -> Any:
        return request.host


class ByOrder(Plain):
    """By a key, and by the order of the servers."""

    def pick(self, servers: Any, request: Any) -> Any:
        by_weight = [peer for peer in servers for _ in range(peer.weight)]
        return by_weight[crc32(request.path.encode()) % len(by_weight)]


class BySeed(Plain):
    """By a key, with the hash that is another in each process."""

    def pick(self, servers: Any, request: Any) -> Any:
        return max(servers, key=lambda peer: hash((request.path, peer.key)))


class Modulo(ByOrder):
    """By a key, and by the number of servers: nearly all keys move when one leaves."""

    def pick(self, servers: Any, request: Any) -> Any:
        return super().pick(sorted(servers, key=lambda peer: peer.key), request)


class ByLot(Plain):
    """By no key at all."""


@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (Stray, "one of those offered"),
        (Nothing, "one of those offered"),
        (Two, "a single server"),
        (Again, "none of those left out"),
        (Sorting, "nothing else is changed"),
        (Counting, "nothing else is changed"),
        (Heaviest, "nobody starves"),
        (Unweighted, "shares follow weights"),
        (OldWeights, "shares follow weights"),
        (Guessing, "the preview is the next pick"),
        (Turning, "the preview is the next pick"),
        (Unbound, "a bound request has its server"),
        (Elsewhere, "a bound request has its server"),
    ],
)
def test_who_breaks_a_law_is_found(cls: type[Plain], law: str) -> None:
    """The error names the law."""
    with pytest.raises(AssertionError, match=f"^{law}: expected .*, got "):
        check_balancer(cls)


@pytest.mark.real  # the same keys are asked of another process
@pytest.mark.parametrize(
    ("cls", "law"),
    [
        (ByOrder, "a key has one server: expected .* other order"),
        (ByLot, "a key has one server: "),
        (BySeed, "a key has one server: .* in another process"),
        (Modulo, "few keys move: "),
    ],
)
def test_who_breaks_a_law_of_keys_is_found(cls: type[Plain], law: str) -> None:
    """The error names the law."""
    with pytest.raises(AssertionError, match=f"^{law}"):
        check_balancer(cls, by_key=True, tolerance=None)


def test_class_that_no_other_process_finds() -> None:
    """The error says why the law could not be checked."""

    class Local(UrlHash):
        pass

    with pytest.raises(AssertionError, match=r"^a key has one server: another process can"):
        check_balancer(Local, by_key=True)
