"""Servers, requests and runs for the tests of balancers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from zope.interface import implementer

from slardar.balancers.ewma import Ewma
from slardar.balancers.hashing import Hash, HeaderHash, HostHash, IpHash, UrlHash
from slardar.balancers.least_conn import LeastConnections
from slardar.balancers.maglev import Maglev
from slardar.balancers.p2c import TwoChoices
from slardar.balancers.random_choice import Random
from slardar.balancers.wrr import WeightedRoundRobin
from slardar.interfaces import IRequest
from slardar.model.live import Peer, ServerLive
from slardar.model.server import Server

HASHES = [Hash, UrlHash, IpHash, HeaderHash, HostHash]
DRAWN = [Random, TwoChoices, Ewma]
ALL = [WeightedRoundRobin, LeastConnections, *DRAWN, *HASHES]


@implementer(IRequest)
class FakeRequest:
    """All attributes of a request that a balancer may read."""

    def __init__(
        self,
        uri: str = "/",
        *,
        host: str = "a.example",
        client: str = "192.0.2.1",
        hash_key: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        self.method = "GET"
        self.host = host
        self.uri = uri
        self.path = uri.partition("?")[0]
        self.client = client
        self.hash_key = hash_key
        self._headers = {name.lower(): value for name, value in (headers or {}).items()}

    def get_header(self, name: str) -> str | None:
        return self._headers.get(name.lower())


def same_everywhere(key: str) -> FakeRequest:
    """A request whose key is ``key`` for every hash balancer."""
    return FakeRequest(key, host=key, client=key, hash_key=key, headers={"X-Hash-Key": key})


ANY = FakeRequest()


def make_peers(weights: Iterable[int], **config: Any) -> list[Peer]:
    """A peer for each weight: 10.0.0.1:80, 10.0.0.2:80, ..."""
    return [
        Peer(Server(f"10.0.{number >> 8}.{number & 255}", 80, weight, **config), ServerLive())
        for number, weight in enumerate(weights, 1)
    ]


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
