"""Which server of an upstream gets a request: levels, health, limits, broken balancers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from random import Random
from sys import setprofile
from typing import Any

import pytest

from slardar.balancers.base import Balancer, Outcome, rest
from slardar.balancers.hashing import HostHash
from slardar.balancers.least_conn import LeastConnections
from slardar.balancers.wrr import WeightedRoundRobin
from slardar.dataplane.selection import Defaults, Selection
from slardar.health.checked import note_checked
from slardar.health.hints import note_hint
from slardar.health.outliers import note_ejected
from slardar.http1.interfaces import WaitingExchange
from slardar.http1.reply import Reply
from slardar.http1.request import Request, parse_request
from slardar.model.live import Live, Peer, ServerLive
from slardar.model.parse import parse_upstream
from slardar.plugins import balancer_factory
from slardar.testing.channels import FakeClock
from tests.dataplane.kit import logged

#: Every balancer of slardar's own, by one of its names.
MODES = ["wrr", "least_conn", "p2c", "random", "ewma", "hash", "url_hash", "ip_hash", "host_hash"]
MODES += ["header_hash"]
DEFAULTS = Defaults(connect=3.0, send=60.0, read=61.0)


class First(Balancer):
    """Always picks the first server offered, and records its calls."""

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        super().__init__(servers, options)
        self.told: list[Any] = []
        self.offered: Any = None

    def pick(self, servers: Sequence[Peer], request: Any) -> Peer:
        self.offered = servers
        return servers[0]

    def started(self, server: Peer) -> None:
        self.told.append(("started", server.port))

    def finished(self, server: Peer, outcome: Outcome) -> None:
        self.told.append(("finished", server.port, outcome))

    def failed(self, server: Peer) -> None:
        self.told.append(("failed", server.port))


Make = Callable[..., Selection]


@pytest.fixture
def clock() -> FakeClock:
    """A new clock."""
    return FakeClock()


@pytest.fixture
def live() -> Live:
    """A new registry of live states."""
    return Live()


@pytest.fixture
def make(clock: FakeClock, live: Live) -> Make:
    """Makes the selection of an upstream with these keys."""

    def build(balancer: Any = First, **body: Any) -> Selection:
        return Selection(parse_upstream("up", body, "up"), live, balancer, DEFAULTS, clock)

    return build


def server(port: int, **rest: Any) -> dict[str, Any]:
    """One server, known by its port."""
    return {"host": "127.0.0.1", "port": port, **rest}


def request(cluster_key: Any = None) -> Request:
    """A request, perhaps with the key that a hook gave."""
    made = parse_request(b"GET / HTTP/1.1\r\nHost: up\r\n\r\n")
    made.cluster_key = cluster_key
    return made


def ports(selection: Selection, key: Any = None) -> list[int]:
    """The servers that one request tries if every attempt fails."""
    tried: list[Peer] = []
    while (peer := selection.pick(request(key), tried)) is not None:
        assert peer not in tried, "tried servers are not picked again"
        peer.live.active -= 1
        tried.append(peer)
        assert len(tried) < 100
    return [peer.port for peer in tried]


@pytest.mark.parametrize("mode", [*MODES, "maglev", "sticky"])
def test_upstream_without_servers(clock: FakeClock, live: Live, mode: str) -> None:
    """A service may have none: a request is refused, whatever the upstream's keys are, and gets a
    server once there is one."""
    keys = {"mode": mode, "slow_start": 5, "panic": 0.5, "outlier": {}, "hints": True}
    keys |= {"queue": {"size": 5}, "mode_opts": {"secret": "s" * 32} if mode == "sticky" else {}}

    def build(*servers: Any) -> Selection:
        body = {"servers": list(servers), **keys}
        upstream = parse_upstream("up", body, "up", may_be_empty=True)
        return Selection(upstream, live, balancer_factory(mode), DEFAULTS, clock)

    for _ in range(2):
        empty = build()
        empty.serve()
        assert (ports(empty), empty.peers, empty.refusal(request(), False)[0]) == ([], [], 502)
        assert empty.preview(request()).server is None
        empty.look("127.0.0.1", 1)
        assert ports(build(server(1))) == [1]


def picked(selection: Selection, number: int = 0) -> int:
    """The port of the server for one of several requests, which is over at once."""
    path = f"/{number}".encode()
    asked = parse_request(b"GET " + path + b" HTTP/1.1\r\nHost: h%d\r\n\r\n" % number)
    asked.address = f"10.0.{number >> 8}.{number & 255}".encode()
    peer = selection.pick(asked, [])
    assert peer is not None
    selection.succeeded(peer, 0.1, 200)
    return peer.port


def pick(selection: Selection) -> int | None:
    """The port of the server for one request, which is over at once."""
    peer = selection.pick(request(), [])
    if peer is None:
        return None
    peer.live.active -= 1
    return peer.port


def peer_of(selection: Selection, port: int) -> Peer:
    """The server with this port."""
    return next(peer for peer in selection.peers if peer.port == port)


def fail(selection: Selection, port: int, times: int = 1) -> None:
    """So many requests fail on the server."""
    peer = peer_of(selection, port)
    for _ in range(times):
        peer.live.active += 1
        selection.failed(peer, "no reply")
        selection.finished(peer, True, 0.1, 0)


def succeed(selection: Selection, port: int) -> None:
    """A request succeeds on the server."""
    peer = peer_of(selection, port)
    peer.live.active += 1
    selection.succeeded(peer, 0.1, 200)


# Levels.


def test_every_server_is_tried_once(make: Make) -> None:
    """A request tries each server at most once, then there is none."""
    selection = make(servers=[server(port) for port in (1, 2, 3)])
    assert ports(selection) == [1, 2, 3]
    assert repr(selection) == "<Selection up>"


def test_backups_serve_when_all_others_are_out(make: Make, clock: FakeClock) -> None:
    """A backup gets no request while another server is available, also not as a second try."""
    selection = make(
        servers=[server(1, max_fails=1), server(2, max_fails=1), server(3, backup=True)]
    )
    assert ports(selection) == [1, 2, 3]
    assert pick(selection) == 1
    fail(selection, 1)
    assert pick(selection) == 2
    fail(selection, 2)
    assert pick(selection) == 3
    clock.now += 10.0
    assert pick(selection) == 1


def test_lower_level_waits(make: Make) -> None:
    """Levels are tried in order, each with as many attempts as its ``try``."""
    selection = make(
        cluster=[
            {"servers": [server(1), server(2), server(3)], "try": 2},
            {"servers": [server(4), server(5)], "try": 1},
            {"servers": [server(6)]},
        ]
    )
    assert ports(selection) == [1, 2, 4, 6]


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        (None, [1, 2, 3]),
        ("dc2", [2]),
        (["dc3", "dc1"], [3, 1]),
        (("dc2", "dc1"), [2, 1]),
        ({"backup": "dc1", "default": "dc3"}, [3, 1]),
        ("unknown", [1, 2, 3]),
        ({}, [1, 2, 3]),
        (["dc2", "unknown"], [2]),
        (7, [1, 2, 3]),
    ],
)
def test_named_clusters_follow_the_key(make: Make, key: Any, expected: list[int]) -> None:
    """A hook's cluster_key says which clusters serve and in what order; a key that names no
    cluster changes nothing."""
    selection = make(
        cluster={
            "dc1": {"servers": [server(1)]},
            "dc2": {"servers": [server(2)]},
            "dc3": {"servers": [server(3)]},
        }
    )
    assert ports(selection, key=key) == expected


def test_refusal_concerns_the_clusters_of_the_key(make: Make) -> None:
    """Servers of other clusters are nothing to wait for: 502 where all of its own are out, 503
    where they are full."""
    selection = make(
        cluster={
            "down": {"servers": [server(1, state="down")]},
            "full": {"servers": [server(2, max_conns=1)]},
        }
    )
    assert selection.pick(request("full"), []) is not None
    for key, status in (("down", 502), ("full", 503), (["down", "full"], 503)):
        assert selection.pick(request(key), []) is None
        assert selection.refusal(request(key), False)[0] == status
        assert selection.preview(request(key)).refusal == selection.refusal(request(key), False)


def test_key_means_nothing_to_unnamed_levels(make: Make) -> None:
    """A list of levels has its own order."""
    selection = make(cluster=[{"servers": [server(1)]}, {"servers": [server(2)]}])
    assert ports(selection, key="dc2") == [1, 2]


# In service, or not.


def test_servers_that_are_no_choice(make: Make) -> None:
    """Servers with weight 0, drain or down get no new request."""
    selection = make(
        servers=[server(1, weight=0), server(2, state="drain"), server(3, state="down"), server(4)]
    )
    assert ports(selection) == [4]


def test_nobody_in_service(make: Make) -> None:
    """The answer is 502 and names the upstream."""
    selection = make(servers=[server(1, state="down")])
    assert pick(selection) is None
    status, message = selection.refusal(request(), tried=False)
    assert status == 502
    assert "up" in message


def test_limit_of_connections(make: Make) -> None:
    """A server with max_conns requests under way gets no more; if all are full the answer is
    503, and after an attempt it is 502."""
    selection = make(servers=[server(1, max_conns=2), server(2, max_conns=1)])
    first, second = selection.peers
    first.live.active = 1
    assert ports(selection) == [1, 2]
    first.live.active = 2
    assert ports(selection) == [2]
    second.live.active = 1
    assert pick(selection) is None
    assert selection.refusal(request(), tried=False)[0] == 503
    assert selection.refusal(request(), tried=True)[0] == 502
    first.live.active = 1
    assert pick(selection) == 1


def test_limit_of_one_level_leads_to_the_next(make: Make) -> None:
    """Full servers are passed over, so the level below serves."""
    selection = make(servers=[server(1, max_conns=1), server(2, backup=True)])
    peer_of(selection, 1).live.active = 1
    assert pick(selection) == 2


def test_failures_put_a_server_out_for_a_time(make: Make, clock: FakeClock) -> None:
    """max_fails failures within fail_timeout put it out for fail_timeout; then it is tried
    again, and one failure puts it out at once."""
    selection = make(servers=[server(1, max_fails=2, fail_timeout=5), server(2)])
    fail(selection, 1)
    assert pick(selection) == 1
    fail(selection, 1)
    assert pick(selection) == 2
    assert peer_of(selection, 1).live.status == "err"
    clock.now += 4.9
    assert pick(selection) == 2
    clock.now += 0.2
    assert pick(selection) == 1
    fail(selection, 1)
    assert pick(selection) == 2
    clock.now += 5.1
    succeed(selection, 1)
    assert peer_of(selection, 1).live.status == "ok"
    fail(selection, 1)
    assert pick(selection) == 1


def test_each_server_comes_back_in_its_own_time(make: Make, clock: FakeClock) -> None:
    """The list of available servers is made anew when the first of them is due."""
    selection = make(
        servers=[
            server(1, max_fails=1, fail_timeout=3),
            server(2, max_fails=1, fail_timeout=6),
            server(3),
        ]
    )
    fail(selection, 1)
    fail(selection, 2)
    assert ports(selection) == [3]
    clock.now += 3.0
    assert ports(selection) == [1, 3]
    clock.now += 3.0
    assert ports(selection) == [1, 2, 3]


def test_times_of_several_reasons(make: Make, clock: FakeClock, live: Live) -> None:
    """A long time that was called off delays nothing, and each reason ends in its own time."""
    selection = make(servers=[server(1), server(2)])
    state = live.server("up", "127.0.0.1", 1)

    def keep_out(**until: float) -> None:
        for name, seconds in until.items():
            setattr(state, name, clock.now + seconds)
        selection.look("127.0.0.1", 1)

    assert pick(selection) == 1
    keep_out(down_until=300)
    assert pick(selection) == 2
    keep_out(down_until=0)
    assert pick(selection) == 1
    keep_out(full_until=1)
    assert pick(selection) == 2
    clock.advance(1)
    assert pick(selection) == 1
    keep_out(full_until=1, ejected_until=30, down_until=10)
    for seconds, port in ((1, 2), (9, 2), (19.9, 2), (0.1, 1)):
        clock.advance(seconds)
        assert pick(selection) == port
    clock.advance(1000)
    assert pick(selection) == 1


def test_last_good_server_stays(make: Make, clock: FakeClock) -> None:
    """One server stays in service, whatever fails, marked unstable; also across levels."""
    selection = make(
        servers=[
            server(1, max_fails=1),
            server(2, max_fails=1),
            server(3, max_fails=1, backup=True),
        ]
    )
    for port in (1, 2):
        fail(selection, port)
    fail(selection, 3, times=10)
    assert pick(selection) == 3
    assert [peer.live.status for peer in selection.peers] == ["err", "err", "unstable"]
    clock.now += 11.0
    succeed(selection, 3)
    assert peer_of(selection, 3).live.status == "ok"


def test_without_max_fails_nobody_goes(make: Make) -> None:
    """By default failures are counted and have no effect."""
    selection = make(servers=[server(1), server(2)])
    fail(selection, 1, times=50)
    assert pick(selection) == 1
    live = peer_of(selection, 1).live
    assert (live.failures, live.fail_num, live.active) == (50, 50, 0)


def test_same_list_while_nothing_changes(make: Make) -> None:
    """A balancer gets the same sequence object until health changes, so that it may keep
    results computed from it."""
    selection = make(servers=[server(1, max_fails=1), server(2)])
    balancer = selection._levels[0].balancer
    pick(selection)
    offered = balancer.offered
    pick(selection)
    assert balancer.offered is offered
    fail(selection, 1)
    pick(selection)
    assert balancer.offered is not offered
    assert [peer.port for peer in offered] == [1, 2], "never mutated"


def test_health_from_outside(make: Make) -> None:
    """Who changes a server's health by other means says so, of one server or of all."""
    selection = make(servers=[server(1), server(2), server(3)])
    assert pick(selection) == 1
    peer_of(selection, 1).live.checked = "err"
    assert pick(selection) == 1
    selection.look("127.0.0.1", 1)
    selection.look("127.0.0.1", 77)
    assert ports(selection) == [2, 3]
    peer_of(selection, 2).live.checked = "err"
    peer_of(selection, 1).live.checked = "ok"
    selection.refresh()
    assert ports(selection) == [1, 3]


def test_failures_leave_one_that_heartbeats_count_on(make: Make) -> None:
    """One that heartbeats keep out is no other server to fall back to."""
    selection = make(servers=[server(1, max_fails=1), server(2, max_fails=1)])
    note_checked(peer_of(selection, 2).live, "err", 1.0, "no answer")
    selection.look("127.0.0.1", 2)
    fail(selection, 1)
    assert ports(selection) == [1]
    assert peer_of(selection, 1).live.status == "unstable"


def test_last_resort_leaves_out_those_that_heartbeats_keep_out(make: Make) -> None:
    """Heartbeats ask again and again, so they know; requests know only what was."""
    servers = [server(1, max_fails=1), server(2, max_fails=1), server(3)]
    selection = make(servers=servers)
    for port in (1, 2):
        selection.failed(peer_of(selection, port), "refused")
    note_checked(peer_of(selection, 1).live, "err", 1.0, "no answer")
    note_checked(peer_of(selection, 3).live, "err", 1.0, "no answer")
    selection.refresh()
    assert {pick(selection) for _ in range(9)} == {2}
    note_checked(peer_of(selection, 2).live, "err", 1.0, "no answer")
    assert pick(selection) is None
    assert selection.refusal(request(), False) == (502, "no servers available in upstream up")


def test_health_is_looked_at_server_by_server() -> None:
    """Of thousands of servers that fail one after the other, each costs the same, and so
    does one that comes back: nothing is done for all of them at each failure."""

    def cost(count: int) -> int:
        body = {"servers": [server(n, max_fails=1) for n in range(1, count + 1)]}
        upstream = parse_upstream("up", body, "up")
        selection = Selection(upstream, Live(), First, DEFAULTS, FakeClock())
        peers = selection.peers
        pick(selection)
        calls = 0

        def note(frame: Any, event: str, argument: Any) -> None:
            nonlocal calls
            calls += 1

        setprofile(note)
        for peer in peers[: count // 2]:
            selection.failed(peer, "refused")
        setprofile(None)
        pick(selection)
        assert selection._levels[0].count == count - count // 2
        return calls

    assert cost(2000) < 15 * cost(200)


# Weights that change.


@pytest.mark.parametrize("mode", MODES)
def test_changed_weight_holds_at_once(make: Make, live: Live, mode: str) -> None:
    """Every balancer gives by the new weight from the next pick on; hashes move to the
    server what it gains and nothing else; the configured weight stays what it is."""
    selection = make(balancer_factory(mode), servers=[server(1), server(2), server(3)], mode=mode)
    before = [picked(selection, number) for number in range(600)]
    selection.set_weight("127.0.0.1", 2, 8)
    after = [picked(selection, number) for number in range(600)]
    assert abs(after.count(2) / 600 - 0.8) < 0.1
    if "hash" in mode:
        assert all(now in (was, 2) for was, now in zip(before, after, strict=True))
    assert peer_of(selection, 2).config.weight == 1
    edited = make(balancer_factory(mode), servers=[server(2), server(1), server(3)], mode=mode)
    assert peer_of(edited, 2).weight == 8
    selection.set_weight("127.0.0.1", 2, None)
    counted = [picked(selection, number) for number in range(600)]
    assert abs(counted.count(2) / 600 - 1 / 3) < 0.1


def test_weight_of_a_tenth(make: Make) -> None:
    """A server of weight 1 can have less: all weights of its level are given in tenths
    then, also after an edit of the upstream, until there are whole ones only."""
    servers = [server(1), server(2, weight=2)]
    selection = make(WeightedRoundRobin, servers=servers)
    selection.set_weight("127.0.0.1", 1, 0.1)
    assert [peer.weight for peer in selection.peers] == [1, 20]
    assert [picked(selection) for _ in range(21)].count(1) == 1
    selection.set_weight("127.0.0.1", 1, 0.04)
    assert peer_of(selection, 1).weight == 1
    selection.set_weight("127.0.0.1", 1, 1)
    assert [peer.weight for peer in selection.peers] == [10, 20]
    assert [peer.weight for peer in make(WeightedRoundRobin, servers=servers).peers] == [1, 2]
    selection.set_weight("127.0.0.1", 1, 0.5)
    assert [peer.weight for peer in make(WeightedRoundRobin, servers=servers).peers] == [5, 20]


def test_weight_of_nothing(make: Make) -> None:
    """0 takes no request, in either unit, and no weight brings back a server that is
    configured with 0; a server that is not known has none."""
    selection = make(servers=[server(1), server(2), server(3, weight=0)])
    assert pick(selection) == 1
    selection.set_weight("127.0.0.1", 1, 0)
    assert ports(selection) == [2]
    selection.set_weight("127.0.0.1", 1, 0.3)
    assert ports(selection) == [1, 2]
    selection.set_weight("127.0.0.1", 1, 0)
    selection.set_weight("127.0.0.1", 3, 5)
    selection.set_weight("127.0.0.1", 4, 5)
    assert ports(selection) == [2]


def test_changed_weight_is_another_list(make: Make) -> None:
    """So that a balancer that keeps what follows from weights learns of it; the same
    weight again is none."""
    selection = make(servers=[server(1), server(2)])
    balancer = selection._levels[0].balancer
    offered = []
    for weight in (None, 1, 3, 3, 0.5, None):
        selection.set_weight("127.0.0.1", 1, weight)
        pick(selection)
        offered.append(balancer.offered)
    changes = [new is not old for old, new in pairwise(offered)]
    assert changes == [False, True, False, True, True]


# An edit.


def test_state_survives_an_edit(make: Make, live: Live) -> None:
    """The selection of the edited upstream goes on with the former one's counters, places in
    the turn, and servers out of service."""
    body = [server(1, max_fails=1, weight=5), server(2), server(3)]
    before = make(WeightedRoundRobin, servers=body)
    assert [pick(before) for _ in range(3)] == [1, 1, 2]
    fail(before, 1)
    succeed(before, 2)
    lives = [peer.live for peer in before.peers]
    after = make(WeightedRoundRobin, servers=[*body, server(4)])
    assert [peer.live for peer in after.peers][:3] == lives
    assert peer_of(after, 1).live.status == "err"
    assert {pick(after) for _ in range(9)} == {2, 3, 4}
    assert peer_of(after, 1).live.failures == 1
    assert len(live) == 4


def test_request_of_the_former_selection_finishes(make: Make) -> None:
    """A request that began before an edit lowers the counters that it raised."""
    before = make(servers=[server(1, max_conns=1)])
    peer = before.pick(request(), [])
    assert peer is not None
    assert (peer.live.active, peer.live.requests) == (1, 1)
    after = make(servers=[server(1, max_conns=1), server(2)])
    assert pick(after) == 2
    before.succeeded(peer, 0.1, 200)
    assert pick(after) == 1


# Requests that have tried some.


class Without(First):
    """Says which way it was asked."""

    def pick(self, servers: Sequence[Peer], request: Any) -> Peer:
        self.told.append([peer.port for peer in servers])
        return servers[0]

    def pick_without(self, servers: Sequence[Peer], left_out: Sequence[Peer], request: Any) -> Peer:
        self.told.append(([p.port for p in servers], [p.port for p in left_out]))
        return rest(servers, left_out)[0]


class WithoutKnowing(Without):
    """Writes another ``pick``, so its predecessor's ``pick_without`` is not its own."""

    def pick(self, servers: Sequence[Peer], request: Any) -> Peer:
        return super().pick(servers[::-1], request)


@pytest.mark.parametrize(
    ("balancer", "told"),
    [
        (Without, [[1, 2, 3], ([1, 2, 3], [1]), ([1, 2, 3], [1, 2])]),
        (WithoutKnowing, [[3, 2, 1], [2, 1], [1]]),
    ],
)
def test_further_attempts(make: Make, balancer: Any, told: list[Any]) -> None:
    """A balancer that can is told whom to leave out of the list that it knows."""
    selection = make(balancer, servers=[server(1), server(2), server(3)])
    ports(selection)
    asked = [one for one in selection._levels[0].balancer.told if one[0] != "started"]
    assert [sorted_out(one) for one in asked] == [sorted_out(one) for one in told]


def sorted_out(told: Any) -> Any:
    """In which order servers are left out means nothing."""
    return (told[0], sorted(told[1])) if isinstance(told, tuple) else told


@pytest.mark.parametrize("mode", MODES)
def test_every_balancer_honours_limits(make: Make, mode: str) -> None:
    """Nobody gets more than max_conns, in whatever order requests come and go, and each
    server is asked up to its limit."""
    limits = {1: 1, 2: 5, 3: 2}
    selection = make(
        balancer_factory(mode),
        servers=[server(port, max_conns=limit) for port, limit in limits.items()],
        mode=mode,
    )
    chance = Random(5)
    under_way: list[Peer] = []
    refusals = 0
    for number in range(300):
        asked = request()
        asked.address = str(number).encode()
        if chance.random() < 0.6:
            peer = selection.pick(asked, [])
            if peer is None:
                refusals += 1
                assert len(under_way) == 8
                assert selection.refusal(request(), False)[0] == 503
            else:
                under_way.append(peer)
        elif under_way:
            selection.succeeded(under_way.pop(chance.randrange(len(under_way))), 0.1, 200)
        assert all(peer.live.active <= limits[peer.port] for peer in selection.peers)
    assert refusals


# Broken balancers.


class Raises(First):
    """Cannot pick."""

    def pick(self, servers: Sequence[Peer], request: Any) -> Peer:
        raise RuntimeError("a bug")


class Garbage(First):
    """Picks an object that is no server."""

    def pick(self, servers: Sequence[Peer], request: Any) -> Any:
        return "127.0.0.1:80"


class Stubborn(First):
    """Picks the same server, offered or not."""

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        super().__init__(servers, options)
        self.favourite = servers[0]

    def pick(self, servers: Sequence[Peer], request: Any) -> Peer:
        return self.favourite


class Deaf(First):
    """Raises in every call."""

    def started(self, server: Peer) -> None:
        raise RuntimeError("a bug")

    finished = failed = started  # type: ignore[assignment]


@pytest.mark.parametrize("balancer", [Raises, Garbage, Stubborn])
def test_broken_balancer_costs_no_request(make: Make, balancer: Any) -> None:
    """The error is logged, and the request goes to the first server left."""
    selection = make(balancer, servers=[server(1), server(2), server(3)])
    with logged() as events:
        assert ports(selection) == [1, 2, 3]
    assert events
    assert all(event["log_format"].startswith("the balancer of upstream") for event in events)


class Foreign:
    """A balancer that derives from nothing."""

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        self.servers = servers

    def pick(self, servers: Sequence[Peer], request: Any) -> Any:
        return servers[-1]


class Last(WeightedRoundRobin):
    """Overrides a balancer of slardar's own."""

    def pick(self, servers: Sequence[Peer], request: Any) -> Any:
        return servers[-1]


class Chosen(WeightedRoundRobin):
    """Has something of its own, and the choice of a balancer of slardar's own."""

    comes_from = "a user"


@pytest.mark.parametrize(
    ("balancer", "picked"),
    [
        (WeightedRoundRobin, [1, 2, 1, 2]),
        (Chosen, [1, 2, 1, 2]),
        (First, [1, 1, 1, 1]),
        (Last, [2, 2, 2, 2]),
        (Foreign, [2, 2, 2, 2]),
    ],
)
def test_every_kind_of_class_picks(make: Make, balancer: Any, picked: list[int]) -> None:
    """It makes no difference what a balancer derives from, and whether that is compiled."""
    selection = make(balancer, servers=[server(1), server(2)])
    assert [pick(selection) for _ in range(4)] == picked
    assert sorted(ports(selection)) == [1, 2]


@pytest.mark.parametrize("base", [First, Last, Foreign])
@pytest.mark.parametrize("limit", [0, 9])
def test_no_server_is_told_alike(clock: FakeClock, live: Live, base: Any, limit: int) -> None:
    """What a balancer picks instead of a server is told in one way, whatever its base is."""
    made = type("Wrong", (base,), {"pick": lambda self, servers, request: "a text"})
    body = {"servers": [server(1, max_conns=limit), server(2)]}
    errors: list[tuple[Any, ...]] = []

    def note(*error: Any) -> None:
        errors.append(error)

    upstream = parse_upstream("up", body, "up")
    selection = Selection(upstream, live, made, DEFAULTS, clock, None, note)
    assert pick(selection) == 1
    ((name, balancer, method, error),) = errors
    assert (name, type(balancer), method) == ("up", made, "pick")
    assert repr(error) == ("ValueError(\"picked 'a text', which is none of the servers offered\")")


def test_deaf_balancer_costs_no_request(make: Make) -> None:
    """A balancer that raises when it is told of a request misses only this call."""
    selection = make(Deaf, servers=[server(1), server(2)])
    with logged() as events:
        assert pick(selection) == 1
        fail(selection, 1)
        succeed(selection, 1)
    assert len(events) == 4
    assert peer_of(selection, 1).live.active == 0


# The calls that a balancer gets.


def test_balancer_hears_of_its_own_servers(make: Make) -> None:
    """Start, failure and end of an attempt go to the balancer of the server's level."""
    selection = make(cluster=[{"servers": [server(1)]}, {"servers": [server(2)]}])
    upper, lower = (level.balancer for level in selection._levels)
    assert ports(selection) == [1, 2]
    fail(selection, 1)
    succeed(selection, 2)
    assert upper.told == [
        ("started", 1),
        ("failed", 1),
        ("finished", 1, Outcome(True, 0.1, 0)),
    ]
    assert lower.told == [("started", 2), ("finished", 2, Outcome(False, 0.1, 200))]


class Talking(LeastConnections):
    """Answers where nothing is asked."""

    def __init__(self, servers: Sequence[Peer], options: Mapping[str, Any]) -> None:
        super().__init__(servers, options)
        self.outcomes: list[Any] = []

    def finished(self, server: Peer, outcome: Outcome) -> Any:
        self.outcomes.append(outcome)
        return "a text"


def test_answers_to_what_is_told_are_ignored(make: Make) -> None:
    """A method that a user has added to a balancer of slardar's own may return anything."""
    selection = make(Talking, servers=[server(1), server(2)])
    with logged() as events:
        assert pick(selection) == 1
        succeed(selection, 1)
    assert not events
    (outcome,) = selection._levels[0].balancer.outcomes
    assert type(outcome) is Outcome
    assert (outcome.failed, outcome.seconds, outcome.status) == (False, 0.1, 200)


def test_silent_balancer_is_not_called(make: Make) -> None:
    """A method that a balancer does not define is not called, and costs nothing."""

    class Quiet(Balancer):
        def pick(self, servers: Sequence[Peer], request: Any) -> Peer:
            return servers[0]

    selection = make(Quiet, servers=[server(1)])
    wants = (selection._wants_started, selection._wants_finished, selection._wants_failed)
    assert wants == (False, False, False)
    pick(selection)
    fail(selection, 1)
    succeed(selection, 1)
    selection = make(First, servers=[server(1)])
    assert selection._wants_started


def test_hash_is_told_of_requests_for_a_bound_only(make: Make) -> None:
    """Without ``bound`` a hash needs no call; with it, the requests under way hold the bound."""
    servers = [server(port) for port in (1, 2, 3, 4)]
    assert not make(HostHash, servers=servers)._wants_started
    selection = make(HostHash, servers=servers, mode_opts={"bound": 1.5})
    picked = [selection.pick(request(), []) for _ in range(8)]
    assert max(Counter(picked).values()) == 3
    for peer in picked:
        assert peer is not None
        selection.succeeded(peer, 0.1, 200)
    assert selection.pick(request(), []) is picked[0]


def test_headers_of_a_balancer(make: Make) -> None:
    """The balancer of the server's level adds lines to the reply; one that fails, or whose line
    would be more than one, adds none, and the reply stays good."""

    class Adding(First):
        def reply_headers(self, server: Peer, request: Any) -> Any:
            return [(b"X-Port", b"%d" % server.port), *more[server.port]]

    more: Any = {1: [], 2: [(b"X-More", b"yes")], 3: [(b"X", b"a\r\nY: b")], 4: 5}
    levels = [{"servers": [server(1), server(2)]}, {"servers": [server(3), server(4)]}]
    selection = make(Adding, cluster=levels)
    assert selection.adds_headers
    added = []
    for port in (1, 2, 3, 4):
        reply = Reply(200, [b"HTTP/1.1 200 OK"])
        selection.add_headers(peer_of(selection, port), request(), reply)
        added.append(reply.lines[1:])
    assert added == [[b"X-Port: 1"], [b"X-Port: 2", b"X-More: yes"], [], []]
    assert not make(First, servers=[server(1)]).adds_headers


# Settings.


def test_timeouts_and_tries(make: Make) -> None:
    """Missing values come from the settings; ``try`` comes from the number of servers."""

    def timeouts(of: Selection) -> tuple[float, float, float]:
        return of.connect_timeout, of.send_timeout, of.read_timeout

    selection = make(servers=[server(1), server(2)])
    assert timeouts(selection) == (3, 60, 61)
    assert selection.tries == 2
    given = {"timeout": 0.5, "send_timeout": 4, "read_timeout": 7, "try": 9}
    selection = make(servers=[server(1)], **given)
    assert timeouts(selection) == (0.5, 4, 7)
    assert selection.tries == 9


def test_statuses_that_are_failures(make: Make) -> None:
    """They are those of http_opts.statuses, and those that retry_on names."""
    selection = make(
        servers=[server(1)],
        http_opts={"statuses": {"502": False, "200": True}},
        retry_on=["connect", "http_429"],
    )
    assert selection.failed_statuses == {502, 429}


def test_unprotected_last_server_goes_too(make: Make) -> None:
    """With ``protected`` false no server is kept in service because it is the last."""
    selection = make(servers=[server(1, max_fails=1)], protected=False)
    fail(selection, 1)
    assert ports(selection) == []
    assert selection.refusal(request(), False)[0] == 502


def test_failed_server_is_better_than_none(make: Make, live: Live) -> None:
    """When the last server is drained, servers that are out for their failures get requests."""
    servers = [server(1, max_fails=1), server(2, max_fails=1)]
    selection = make(servers=servers)
    fail(selection, 1)
    assert ports(selection) == [2]
    servers[1]["state"] = "drain"
    edited = make(servers=servers)
    assert pick(edited) == 1


def test_thousands_of_failing_servers_are_tried_in_reasonable_time(make: Make) -> None:
    """All attempts together cost in proportion to the servers, not to their square."""
    selection = make(balancer=WeightedRoundRobin, servers=[server(n) for n in range(1, 3001)])
    tried: list[Peer] = []
    asked = request()
    for _ in range(300):
        peer = selection.pick(asked, tried)
        assert peer is not None
        selection.failed(peer, "refused")
        tried.append(peer)
    assert len(set(tried)) == 300


# A server in several levels.


def test_shared_server_has_one_state_and_is_asked_once(make: Make) -> None:
    """Counters and health belong to host and port; a request tries the server once, and the
    server is no second server beside itself."""
    a, b = server(1, max_fails=1, fail_timeout=10), server(2, max_fails=1, fail_timeout=10)
    selection = make(cluster=[{"servers": [a]}, {"servers": [a, b]}])
    assert ports(selection) == [1, 2]
    assert selection.tries == 2
    first, second, _ = selection.peers
    assert first.live is second.live
    fail(selection, 1)
    assert pick(selection) == 2
    # It stays in service as the last one, though it has another peer.
    c = server(3, max_fails=1, fail_timeout=10)
    alone = make(cluster={"x": {"servers": [c]}, "y": {"servers": [c]}})
    for _ in range(3):
        fail(alone, 3)
    assert pick(alone) == 3
    assert alone.peers[0].live.status == "unstable"


def test_try_of_a_level_counts_servers(make: Make) -> None:
    """This holds for whichever level's peer was tried."""
    a, b, c = server(1), server(2), server(3)
    selection = make(cluster=[{"servers": [a]}, {"servers": [a, b, c], "try": 2}])
    assert ports(selection) == [1, 2]


def test_shared_server_takes_its_turn_in_each_level(make: Make) -> None:
    """The requests of one level do not change the turn of the other."""
    a, b, c = server(1, weight=2), server(2), server(3)
    selection = make(
        WeightedRoundRobin,
        cluster={"x": {"servers": [a, b]}, "y": {"servers": [a, c]}},
    )
    met: dict[str, list[int]] = {"x": [], "y": []}
    for key in "xxyxyyyxyxxy" * 3:
        peer = selection.pick(request(key), [])
        assert peer is not None
        met[key].append(peer.port)
    assert met["x"] == [1, 2, 1] * 6
    assert met["y"] == [1, 3, 1] * 6


class Bound(First):
    """Binds requests to the server whose port is their ``X-Port``, also to one that it has not."""

    def __init__(self, servers: Any, options: Any) -> None:
        super().__init__(servers, options)
        self.servers = {str(peer.port): peer for peer in servers}

    def bound_to(self, request: Any) -> Any:
        wanted = request.get_header("X-Port")
        if wanted == "broken":
            raise SystemExit
        return self.servers.get(wanted, wanted)


def bound(port: object) -> Request:
    """A request that is bound to a server."""
    return parse_request(b"GET / HTTP/1.1\r\nHost: up\r\nX-Port: %b\r\n\r\n" % str(port).encode())


def test_bound_request_goes_to_a_server_that_drains(make: Make) -> None:
    """No other request does, and the retry goes elsewhere; a server that is up gets only what
    the balancer picks for it."""
    servers = [server(1), server(2, state="drain"), server(3), server(4, backup=True)]
    selection = make(Bound, servers=servers)
    peer = selection.pick(bound(2), [])
    assert peer is not None
    assert (peer.port, peer.live.active, peer.live.requests) == (2, 1, 1)
    again = selection.pick(bound(2), [peer])
    assert again is not None
    assert again.port == 1
    for other in (1, 3, 4, "nobody", "broken", ""):
        found = selection.pick(bound(other), [])
        assert found is not None
        assert found.port == 1
    assert ports(selection) == [1, 3, 4]


STATES: list[tuple[str, Callable[[ServerLive, FakeClock], Any], dict[str, Any], bool]] = [
    ("healthy", lambda live, clock: None, {}, True),
    ("weight 0", lambda live, clock: None, {"weight": 0}, True),
    ("heartbeats fail", lambda live, clock: note_checked(live, "err", 1.0, ""), {}, False),
    ("unstable", lambda live, clock: note_checked(live, "unstable", 1.0, ""), {}, True),
    ("out", lambda live, clock: setattr(live, "down_until", clock.now + 1), {}, False),
    ("probation", lambda live, clock: setattr(live, "down_until", clock.now), {}, True),
    ("ejected", lambda live, clock: note_ejected(live, clock.now, 9, 1, ""), {}, False),
    ("says drain", lambda live, clock: note_hint(live, "drain", clock.now), {}, False),
    ("says full", lambda live, clock: note_hint(live, "full", clock.now), {}, False),
    ("has its limit", lambda live, clock: setattr(live, "active", 1), {"max_conns": 1}, False),
    ("has room", lambda live, clock: None, {"max_conns": 1}, True),
    ("down", lambda live, clock: None, {"state": "down"}, False),
]


@pytest.mark.parametrize(
    ("change", "keys", "keeps"), [row[1:] for row in STATES], ids=[row[0] for row in STATES]
)
def test_which_servers_keep_what_is_bound_to_them(
    make: Make, clock: FakeClock, change: Any, keys: dict[str, Any], keeps: bool
) -> None:
    """Those that are healthy and have room, as far as they have not said that they want none; the
    preview knows it."""
    clock.now = 100.0
    keys = {"state": "drain", **keys}
    selection = make(Bound, servers=[server(1), server(2, **keys), server(3, state="drain")])
    change(peer_of(selection, 2).live, clock)
    selection.refresh()
    preview = selection.preview(bound(2))
    peer = selection.pick(bound(2), [])
    assert peer is not None
    assert peer.port == (2 if keeps else 1)
    (level,) = preview.levels
    assert (level.candidates[1].reason == "") is keeps
    if keeps:
        assert preview.server == peer.key


def test_bound_requests_are_served_when_all_servers_drain(make: Make) -> None:
    """Others get the next level, or a refusal."""
    servers = [server(1, state="drain"), server(2, state="drain")]
    selection = make(Bound, servers=servers)
    peer = selection.pick(bound(2), [])
    assert peer is not None
    assert peer.port == 2
    assert selection.preview(bound(2)).server == peer.key
    assert selection.pick(bound(9), []) is None
    assert selection.preview(bound(9)).refusal is not None
    backed = make(Bound, servers=[*servers, server(3, backup=True)])
    assert [getattr(backed.pick(bound(port), []), "port", None) for port in (1, 9)] == [1, 3]


def test_balancer_is_not_asked_while_no_server_drains(make: Make) -> None:
    """Then it makes no difference."""
    asked: list[Any] = []

    class Asked(Bound):
        def bound_to(self, request: Any) -> Any:
            asked.append(request)

    for state in ("up", "down", "drain"):
        assert asked == []
        selection = make(Asked, servers=[server(1), server(2, state=state)])
        assert selection.pick(bound(2), []) is selection.peers[0]
    assert len(asked) == 1


def test_drained_in_one_level_serves_in_the_other(make: Make) -> None:
    """Each level has its own state."""
    selection = make(
        cluster={
            "x": {"servers": [server(1, state="drain"), server(2)]},
            "y": {"servers": [server(1)]},
        }
    )
    assert ports(selection, "x") == [2]
    assert ports(selection, "y") == [1]


def test_turn_outlives_an_edit_and_goes_with_the_server(make: Make, live: Live) -> None:
    """This holds for the second level's turn as for the first one's."""
    body = {"x": {"servers": [server(1)]}, "y": {"servers": [server(1), server(2)]}}
    one, two = make(cluster=body), make(cluster=body)
    assert one.peers[1].turn is two.peers[1].turn is not two.peers[1].live
    live.forget("up", [("127.0.0.1", 1)])
    assert make(cluster=body).peers[1].turn is not one.peers[1].turn


# The retry budget and the queue.


def test_retry_budget_outlives_an_edit(make: Make, live: Live, clock: FakeClock) -> None:
    """It holds for all processes together; ``null`` is no limit, and fills nothing."""
    live.processes = 5
    servers = [server(1)]
    selection = make(servers=servers)

    def retries(selection: Selection) -> int:
        made = 0
        while made < 50 and selection.affords_retry():
            selection.budget.spend()
            made += 1
        return made

    assert retries(selection) == 2
    assert retries(make(servers=[*servers, server(2)])) == 0
    assert retries(make(servers=servers, retry_budget=None)) == 50
    assert retries(make(servers=servers, retry_budget={"min": 20})) == 0
    clock.advance(1.0)
    assert retries(make(servers=servers, retry_budget={"min": 20})) == 4
    assert live.upstream("up").counts() == {"retries": 56, "retry_budget_exhausted": 4}
    live.forget_upstream("up")
    assert live.upstreams == {}


def test_whatever_makes_room_is_told_to_those_who_wait(live: Live, clock: FakeClock) -> None:
    """The end of a request on any selection of the upstream, health, weights, and an edit."""
    steps: list[Any] = []

    def build(**body: Any) -> Selection:
        upstream = parse_upstream("up", {"servers": [server(1, max_conns=1)], **body}, "up")
        return Selection(upstream, live, First, DEFAULTS, clock, soon=steps.append)

    def is_told() -> bool:
        told = bool(steps)
        while steps:
            steps.pop().go_on()
        return told

    class Waiting(WaitingExchange):
        """Notes the selections that it was offered."""

        def __init__(self, selection: Selection) -> None:
            super().__init__(request(), selection)
            self.offers: list[Any] = []

        def begin_waiting(self, selection: Any) -> bool:
            self.offers.append(selection)
            return False

    before = build()
    selection = build(queue={"size": 1})
    selection.serve()
    assert selection.queue is not None
    assert before.queue is None
    full = build(queue={"size": 1, "timeout": 0.5})
    peer = full.pick(request(), [])
    assert peer is not None
    foreseen = full.preview(request()).refusal
    assert foreseen is not None
    assert foreseen[1].endswith("so the request waits up to 0.5 seconds for one")
    full.finished(peer, False, 0.1, 0)
    exchange = Waiting(selection)
    assert selection.queue.enter(exchange, 1)
    assert not selection.queue.enter(Waiting(selection), 1)
    for _ in range(2):
        peer = before.pick(request(), [])
        assert peer is not None
        assert before.pick(request(), []) is None
        before.succeeded(peer, 0.1, 200)
        assert is_told()
        before.pick(request(), [])
        before.finished(peer, False, 0.1, 0)
        assert is_told()
    selection.look("127.0.0.1", 1)
    assert is_told()
    selection.set_weight("127.0.0.1", 1, 2)
    assert is_told()
    assert {*exchange.offers} == {selection}
    after = build()
    assert not is_told()
    after.serve()
    assert is_told()
    assert exchange.offers[-1] is after
    selection.queue.leave(exchange)
    selection.queue.leave(exchange)
    selection.look("127.0.0.1", 1)
    assert not is_told()
