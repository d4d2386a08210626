"""Servers, requests and runs for the tests of balancers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from slardar.balancers.ewma import Ewma
from slardar.balancers.hashing import Hash, HeaderHash, HostHash, IpHash, UrlHash
from slardar.balancers.least_conn import LeastConnections
from slardar.balancers.maglev import Maglev
from slardar.balancers.p2c import TwoChoices
from slardar.balancers.random_choice import Random
from slardar.balancers.wrr import WeightedRoundRobin
from slardar.model.live import Peer
from slardar.model.server import Server
from slardar.testing.laws import FakeRequest, make_peers, same_everywhere

__all__ = [
    "ALL",
    "ANY",
    "DRAWN",
    "HASHES",
    "FakeRequest",
    "edited",
    "make_peers",
    "ready_maglev",
    "same_everywhere",
    "scripted",
    "shares",
]

HASHES = [Hash, UrlHash, IpHash, HeaderHash, HostHash]
DRAWN = [Random, TwoChoices, Ewma]
ALL = [WeightedRoundRobin, LeastConnections, *DRAWN, *HASHES]


ANY = FakeRequest()


def edited(peer: Peer, weight: int) -> Peer:
    """The peer of the same server in the next snapshot, with another weight."""
    return Peer(Server(peer.host, peer.port, weight), peer.live)


def shares(balancer: Any, servers: Sequence[Peer], picks: int) -> Counter[str]:
    """How often each server is picked, one request after the other."""
    return Counter(balancer.pick(servers, ANY).key for _ in range(picks))


def ready_maglev(
    servers: Sequence[Peer],
    offered: Sequence[Peer] | None = None,
    balancer: Maglev | None = None,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> Maglev:
    """A ``maglev`` of ``servers`` whose table is complete, by picks among those ``offered``."""
    balancer = balancer or Maglev(servers, options)
    for _ in range(1000):
        balancer.pick(offered or servers, ANY)
        if balancer._coming is None:
            break
    return balancer


def scripted(*numbers: float) -> Callable[[], float]:
    """A source of random numbers that gives exactly ``numbers``."""
    return iter(numbers).__next__
