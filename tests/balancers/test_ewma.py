"""Peak EWMA: averages, costs and picks."""

from __future__ import annotations

from math import exp, inf, nan
from random import Random as Generator

import pytest

from slardar.balancers.base import Outcome
from slardar.balancers.ewma import Ewma
from slardar.errors import ConfigError
from slardar.model.live import Peer
from tests.balancers.kit import ANY, make_peers, scripted


class Clock:
    """Monotonic seconds that a test sets."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


def good(seconds: float) -> Outcome:
    return Outcome(False, seconds, 200)


def bad(seconds: float) -> Outcome:
    return Outcome(True, seconds, 0)


def average(peer: Peer) -> float:
    assert peer.live.ewma is not None
    return peer.live.ewma


def test_the_first_reply_is_the_average() -> None:
    """There is no earlier average to mix it with."""
    servers = make_peers([1, 1])
    Ewma(servers, {}, clock=Clock()).finished(servers[0], good(0.25))
    assert servers[0].live.ewma == 0.25
    assert servers[1].live.ewma is None


def test_a_peak_counts_at_once() -> None:
    """A slower reply is the new average."""
    servers = make_peers([1])
    balancer = Ewma(servers, {}, clock=Clock())
    balancer.finished(servers[0], good(0.1))
    balancer.finished(servers[0], good(0.7))
    assert servers[0].live.ewma == 0.7


def test_quicker_replies_draw_it_down_with_time() -> None:
    """The old average keeps the share exp(-elapsed / decay); with no time elapsed it keeps all."""
    clock = Clock()
    servers = make_peers([1])
    balancer = Ewma(servers, {"decay": 5}, clock=clock)
    balancer.finished(servers[0], good(1.0))
    balancer.finished(servers[0], good(0.2))
    assert servers[0].live.ewma == pytest.approx(1.0)
    clock.now += 5
    balancer.finished(servers[0], good(0.2))
    assert servers[0].live.ewma == pytest.approx(0.2 + 0.8 * exp(-1))


def test_the_quicker_of_two() -> None:
    """The server with the lower cost is picked, in whatever order the two were drawn."""
    servers = make_peers([1, 1, 1])
    balancer = Ewma(servers, {}, scripted(0.0, 0.0, 0.5, 0.0), Clock())
    for peer, seconds in zip(servers, (0.3, 0.2, 0.1), strict=True):
        balancer.finished(peer, good(seconds))
    assert [balancer.pick(servers, ANY) for _ in range(2)] == [servers[1]] * 2


def test_requests_under_way_cost() -> None:
    """average * (1 + active): a quick server with many requests can cost more than a slow one."""
    servers = make_peers([1, 1])
    balancer = Ewma(servers, {}, lambda: 0.0, Clock())
    balancer.finished(servers[0], good(0.1))
    balancer.finished(servers[1], good(0.25))
    servers[0].live.active = 1
    assert balancer.pick(servers, ANY) is servers[0]
    servers[0].live.active = 2
    assert balancer.pick(servers, ANY) is servers[1]


def test_requests_under_way_cost_less_on_a_heavy_one() -> None:
    """With weights 3 and 1 (mean 2), 3 requests on the first cost as much as 1 on the second."""
    servers = make_peers([3, 1])
    balancer = Ewma(servers, {}, lambda: 0.9, Clock())  # draws the light one first
    for peer in servers:
        balancer.finished(peer, good(0.1))
    servers[1].live.active = 1
    servers[0].live.active = 2
    assert balancer.pick(servers, ANY) is servers[0]
    servers[0].live.active = 4
    assert balancer.pick(servers, ANY) is servers[1]


@pytest.mark.parametrize("other", [0.1, 0.095, 0.105])
def test_equal_costs(other: float) -> None:
    """If two costs differ by less than a tenth, the server drawn first is picked."""
    servers = make_peers([1, 1])
    balancer = Ewma(servers, {}, scripted(0.0, 0.0, 0.5, 0.0), Clock())
    balancer.finished(servers[0], good(0.1))
    balancer.finished(servers[1], good(other))
    assert [balancer.pick(servers, ANY) for _ in range(2)] == servers


def test_a_new_server_is_tried_once() -> None:
    """Without a reply a server costs nothing, and with its first request under way it costs
    more than the slowest."""
    servers = make_peers([1, 1])
    balancer = Ewma(servers, {}, lambda: 0.0, Clock())
    balancer.finished(servers[0], good(0.001))
    assert balancer.pick(servers, ANY) is servers[1]
    servers[1].live.active = 1
    balancer.finished(servers[0], good(1000.0))
    servers[0].live.active = 1000
    assert balancer.pick(servers, ANY) is servers[0]


def test_new_servers_only() -> None:
    """Before any reply the server with fewer requests is picked."""
    servers = make_peers([1, 1])
    servers[0].live.active, servers[1].live.active = 2, 1
    assert Ewma(servers, {}, lambda: 0.0, Clock()).pick(servers, ANY) is servers[1]


def test_a_failure_doubles() -> None:
    """Quick failures raise a server's cost, up to 10 seconds."""
    servers = make_peers([1])
    balancer = Ewma(servers, {}, clock=Clock())
    balancer.finished(servers[0], good(0.1))
    balancer.finished(servers[0], bad(0.001))
    assert average(servers[0]) == pytest.approx(0.2)
    for _ in range(50):
        balancer.finished(servers[0], bad(0.001))
    assert average(servers[0]) == pytest.approx(10.0)
    balancer.finished(servers[0], bad(30.0))
    assert average(servers[0]) == pytest.approx(30.0)


def test_a_first_failure() -> None:
    """A failure before any reply counts with its own time."""
    servers = make_peers([1])
    Ewma(servers, {}, clock=Clock()).finished(servers[0], bad(3.0))
    assert servers[0].live.ewma == 3.0


def test_a_slow_one_is_asked_again() -> None:
    """An average without replies falls, so a server that was slow once comes back: 1 s falls
    below 1 ms in 10 * ln(1000) = 69 seconds."""
    clock = Clock()
    servers = make_peers([1, 1])
    balancer = Ewma(servers, {}, Generator(5).random, clock)
    balancer.finished(servers[0], good(1.0))
    asked_after = None
    while asked_after is None:
        clock.now += 1
        balancer.finished(servers[1], good(0.001))
        if balancer.pick(servers, ANY) is servers[0]:
            asked_after = clock.now - Clock.now
        assert clock.now - Clock.now < 100
    assert 65 < asked_after < 75


def test_averages_survive_a_rebuild() -> None:
    """A new balancer over the same servers has the old one's averages and their times."""
    clock = Clock()
    servers = make_peers([1, 1])
    Ewma(servers, {}, clock=clock).finished(servers[0], good(1.0))
    clock.now += 10
    Ewma(servers, {}, clock=clock).finished(servers[0], good(0.0))
    assert average(servers[0]) == pytest.approx(exp(-1))


def test_long_silence() -> None:
    """Years without a reply are no error."""
    clock = Clock()
    servers = make_peers([1, 1])
    balancer = Ewma(servers, {}, Generator(6).random, clock)
    for peer in servers:
        balancer.finished(peer, good(1.0))
    clock.now += 1e9
    assert balancer.pick(servers, ANY) in servers
    balancer.finished(servers[0], bad(0.5))
    assert servers[0].live.ewma == 0.5


@pytest.mark.parametrize("value", [0, -1, inf, nan, True, "10", None, 2e9])
def test_decay_option(value: object) -> None:
    """The option is a number of seconds above 0."""
    with pytest.raises(ConfigError, match=r"^decay: expected a number of seconds above 0, got "):
        Ewma(make_peers([1]), {"decay": value})
