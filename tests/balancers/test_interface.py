"""Behaviour that all balancers share."""

from __future__ import annotations

import pytest
from zope.interface.verify import verifyClass, verifyObject

from slardar.balancers.base import Balancer, Outcome
from slardar.errors import ConfigError
from slardar.interfaces import IBalancer, IRequest
from tests.balancers.kit import ALL, ANY, make_peers


def test_fake_request() -> None:
    """The tests' requests provide IRequest."""
    assert verifyObject(IRequest, ANY)


@pytest.mark.parametrize("cls", ALL)
def test_honours_the_interface(cls: type[Balancer]) -> None:
    """Class and instance provide all of IBalancer."""
    assert verifyClass(IBalancer, cls)
    assert verifyObject(IBalancer, cls(make_peers([1, 2]), {}))


def test_modes() -> None:
    """Every balancer has its documented names, and no other balancer has them."""
    assert [cls.modes for cls in ALL] == [
        ("wrr", "rr"),
        ("least_conn",),
        ("random",),
        ("p2c",),
        ("ewma",),
        ("hash",),
        ("url_hash",),
        ("ip_hash",),
        ("header_hash",),
        ("host_hash",),
    ]


@pytest.mark.parametrize("cls", ALL)
def test_unknown_option(cls: type[Balancer]) -> None:
    """An unknown option is refused by name."""
    with pytest.raises(ConfigError, match=r"^speed: unknown option, "):
        cls(make_peers([1]), {"speed": 1})


@pytest.mark.parametrize("cls", ALL)
def test_one_server(cls: type[Balancer]) -> None:
    """A single server is picked, whatever its state."""
    (peer,) = servers = make_peers([3])
    peer.live.active = 1000
    balancer = cls(servers, {})
    assert [balancer.pick(servers, ANY) for _ in range(3)] == [peer] * 3


@pytest.mark.parametrize("cls", ALL)
@pytest.mark.parametrize("weights", [[0, 0, 0], [0, 5, 0]])
def test_weight_zero(cls: type[Balancer], weights: list[int]) -> None:
    """Selection never passes weight 0; if a caller does, one of the servers is picked."""
    servers = make_peers(weights)
    balancer = cls(servers, {})
    for _ in range(50):
        assert balancer.pick(servers, ANY) in servers


@pytest.mark.parametrize("cls", ALL)
def test_a_whole_attempt(cls: type[Balancer]) -> None:
    """A balancer takes whole attempts, good and failed, and goes on."""
    servers = make_peers([1, 2, 3])
    balancer = cls(servers, {})
    for failed in (False, True, False):
        peer = balancer.pick(servers, ANY)
        balancer.started(peer)
        if failed:
            balancer.failed(peer)
        balancer.finished(peer, Outcome(failed, 0.1, 0 if failed else 200))
    assert balancer.pick(servers, ANY) in servers


@pytest.mark.parametrize("cls", ALL)
def test_picks_from_what_is_passed(cls: type[Balancer]) -> None:
    """The list that is passed counts, and may change from one call to the next."""
    servers = make_peers([1, 2, 3, 4])
    balancer = cls(servers, {})
    lists = [servers[:2], servers[2:], [servers[3]], servers, servers[1:3]]
    for _ in range(20):
        for some in lists:
            assert balancer.pick(some, ANY) in some
