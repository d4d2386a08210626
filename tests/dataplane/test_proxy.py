"""The data plane's bookkeeping: the effect of a change of configuration, and its cost."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
from twisted.internet import defer
from zope.interface.verify import verifyObject

from slardar.balancers.wrr import WeightedRoundRobin
from slardar.config import Settings
from slardar.dataplane.plain_channel import PlainChannel
from slardar.dataplane.proxy import DataPlane
from slardar.errors import ConfigError
from slardar.http1.interfaces import Downstream, HookedRequest
from slardar.http1.request import Request, parse_request
from slardar.interfaces import IPlane
from slardar.model.live import Live, Peer
from slardar.model.parse import parse_upstream
from slardar.model.server import Upstream
from slardar.model.snapshot import Snapshot
from slardar.model.tls import Challenges
from tests.dataplane.kit import HandReactor, Recorder, logged

Addresses = list[tuple[int, str]]


class Refused(Downstream):
    """Whoever a request came from; writes down how it was refused."""

    def __init__(self) -> None:
        super().__init__()
        self.refusals: list[tuple[int, str]] = []

    def refuse(self, status: int, message: str, hooked: HookedRequest | None = None) -> None:
        self.refusals.append((status, message))


class HandResolver:
    """A resolver that answers when the test says so."""

    def __init__(self) -> None:
        self.followers: dict[str, list[Callable[[Addresses], None]]] = {}
        self.waiting: dict[str, list[defer.Deferred[None]]] = {}
        self.stopped = False

    def follow(self, name: str, follower: Callable[[Addresses], None]) -> defer.Deferred[None]:
        self.followers.setdefault(name, []).append(follower)
        waiting: defer.Deferred[None] = defer.Deferred()
        self.waiting.setdefault(name, []).append(waiting)
        return waiting

    def unfollow(self, name: str, follower: Callable[[Addresses], None]) -> None:
        followers = self.followers.get(name, [])
        if follower in followers:
            followers.remove(follower)

    def answer(self, name: str, address: str) -> None:
        for follower in self.followers.get(name, []):
            follower([(socket.AF_INET, address)])
        for waiting in self.waiting.pop(name, []):
            waiting.callback(None)

    def shown(self) -> dict[str, Any]:
        return {}

    def stop(self) -> None:
        self.stopped = True


class Site:
    """A data plane that listens nowhere, and the snapshot that it serves."""

    def __init__(self, hand: HandReactor) -> None:
        self.live = Live()
        self.resolver = HandResolver()
        self.made: list[str] = []

        def make_balancer(mode: str) -> Callable[..., Any]:
            def make(servers: Sequence[Peer], options: Mapping[str, Any]) -> Any:
                self.made.append(servers[0].key if servers else "")
                return WeightedRoundRobin(servers, options)

            return make

        resolver: Any = self.resolver
        self.plane = DataPlane(hand, Settings(), self.live, make_balancer, resolver)
        self.snapshot = Snapshot.build(0, {}, (), None)
        self.fars: list[socket.socket] = []

    def connect(self) -> PlainChannel:
        """A client's channel."""
        near, far = socket.socketpair()
        self.fars.append(far)
        return PlainChannel(self.plane._poller, near, Recorder())

    def put(self, *upstreams: Upstream) -> defer.Deferred[Any]:
        """Serve these upstreams from now on, in one change."""
        for upstream in upstreams:
            self.snapshot = self.snapshot.with_upstream(upstream)
        return self.plane.apply(self.snapshot, [upstream.name for upstream in upstreams])

    def remove(self, name: str) -> defer.Deferred[Any]:
        self.snapshot = self.snapshot.without_upstream(name)
        return self.plane.apply(self.snapshot, [name])

    def ask(self, host: str) -> Any:
        """The exchange of a request for ``host``, or the status it is refused with."""
        downstream = Refused()
        exchange = self.plane.begin(downstream, request(host))
        return exchange if exchange is not None else downstream.refusals[0][0]

    def selection(self, host: str) -> Any:
        """The selection that a request for ``host`` gets."""
        return self.ask(host).selection


@pytest.fixture
def site(hand: HandReactor) -> Iterator[Site]:
    """A new site."""
    site = Site(hand)
    site.plane.start()
    yield site
    site.plane._poller.stop()
    for far in site.fars:
        far.close()


def request(host: str) -> Request:
    """A request for ``host``."""
    return parse_request(b"GET / HTTP/1.1\r\nHost: %b\r\n\r\n" % host.encode())


def upstream(name: str, *hosts: str, port: int = 80, **rest: Any) -> Upstream:
    """An upstream with these servers."""
    servers = [{"host": host, "port": port} for host in hosts]
    return parse_upstream(name, {"servers": servers, **rest}, name)


def peers(selection: Any) -> list[str]:
    """The servers of a selection."""
    return [peer.key for peer in selection.peers]


def test_plane_is_a_plane(site: Site) -> None:
    """It is what the service and the control channel take for one."""
    verifyObject(IPlane, site.plane)
    assert site.plane.peers("unknown") == {}
    assert site.plane.statistics()["config_timer"] == {"worker-0": "alive"}


def test_sockets_are_owned_whatever_becomes_of_one(site: Site) -> None:
    """One that cannot listen is told of, and keeps none of the others from it."""

    class Opened:
        """Sockets that were handed over."""

        def __init__(self, error: OSError | None = None) -> None:
            self.error = error
            self.is_ours = False

        def own(self) -> None:
            if self.error is not None:
                raise self.error
            self.is_ours = True

    some: Any = [Opened(), Opened(OSError(98, "taken")), Opened()]
    site.plane.opened[:] = some
    with pytest.raises(OSError, match="taken"):
        site.plane.own()
    assert [one.is_ours for one in some] == [True, False, True]


def test_unknown_host_is_refused(site: Site) -> None:
    """The status is 502, and no request is counted as under way."""
    assert site.ask("nobody") == 502
    statistics = site.plane.statistics()
    assert (statistics["requests"], statistics["active"]) == (1, 0)


def test_upstream_costs_nothing_until_it_is_asked_for(site: Site) -> None:
    """It has no balancer, no pool and no live state; the first request makes them, the second
    uses them."""
    site.put(upstream("a", "10.0.0.1", "10.0.0.2"))
    assert site.made == []
    assert len(site.live) == 0
    first = site.selection("a")
    assert peers(first) == ["10.0.0.1:80", "10.0.0.2:80"]
    assert all(peer.pool is not None for peer in first.peers)
    assert site.selection("a") is first
    assert site.made == ["10.0.0.1:80"]


def test_upstream_by_name(site: Site) -> None:
    """Other downstreams name the upstream, whatever the request's Host; the first request
    makes it ready, too."""
    site.put(upstream("a", "10.0.0.1"))
    downstream = Refused()
    exchange = site.plane.begin_on("a", downstream, request("other"))
    assert exchange is not None
    assert peers(exchange.selection) == ["10.0.0.1:80"]
    assert site.plane.begin_on("b", downstream, request("a")) is None
    assert downstream.refusals == [(502, "no upstream 'b'")]
    assert site.plane.statistics()["active"] == 1


def test_peers_of_an_idle_upstream(site: Site) -> None:
    """Status knows every server, with or without requests, and later shows the same state."""
    site.put(upstream("a", "10.0.0.1"))
    (live,) = site.plane.peers("a").values()
    assert live.status == "unchecked"
    assert site.selection("a").peers[0].live is live
    assert list(site.plane.peers("a")) == ["10.0.0.1:80"]


def test_first_use_behind_a_balancer_that_fails(site: Site, monkeypatch: Any) -> None:
    """A user's balancer that cannot be made costs its upstream a 502 and a line of the log."""

    def broken(mode: str) -> Any:
        raise RuntimeError("a bug")

    site.put(upstream("a", "10.0.0.1"))
    monkeypatch.setattr(site.plane._upstreams, "_make_balancer", broken)
    with logged() as events:
        assert site.ask("a") == 502
    assert len(events) == 1


def test_edit_keeps_pools_and_state_of_the_neighbours(site: Site) -> None:
    """Only new servers get state, and only removed servers lose it."""
    site.put(upstream("a", "10.0.0.1", "10.0.0.2"))
    before = site.selection("a")
    kept, gone = before.peers
    site.put(upstream("a", "10.0.0.1", "10.0.0.3"))
    after = site.selection("a")
    assert after is not before
    assert after.peers[0].pool is kept.pool
    assert after.peers[0].live is kept.live
    assert gone.pool.closed
    assert len(site.live) == 2
    site.remove("a")
    assert kept.pool.closed
    assert len(site.live) == 0
    assert site.ask("a") == 502


def test_edit_before_the_first_request(site: Site) -> None:
    """Live state that was made for the status alone is forgotten, too."""
    site.put(upstream("a", "10.0.0.1", "10.0.0.2"))
    site.plane.peers("a")
    assert len(site.live) == 2
    site.put(upstream("a", "10.0.0.1"))
    assert len(site.live) == 1
    site.remove("a")
    assert len(site.live) == 0


def test_drain_closes_idle_connections(site: Site) -> None:
    """The pool of a draining server keeps no connection; back in service it keeps them again."""
    site.put(upstream("a", "10.0.0.1", keepalive=7))
    pool = site.selection("a").peers[0].pool
    assert pool.limit == 7
    drained = {"servers": [{"host": "10.0.0.1", "port": 80, "state": "drain"}], "keepalive": 7}
    site.put(parse_upstream("a", drained, "a"))
    assert pool.limit == 0
    site.put(upstream("a", "10.0.0.1", keepalive=3))
    assert pool.limit == 3
    assert not pool.closed


def test_refused_change_changes_nothing(site: Site, monkeypatch: Any) -> None:
    """If one of two upstreams is refused, neither is changed, nor is the version."""
    site.put(upstream("a", "10.0.0.1"), upstream("b", "10.0.0.2"))
    a, b = site.selection("a"), site.selection("b")
    version = site.plane.statistics()["version"]
    failures: list[Any] = []
    refused = site.put(upstream("a", "10.0.0.9"), upstream("b", "10.0.0.9", mode_opts={"x": 1}))
    refused.addErrback(failures.append)
    assert failures[0].check(ConfigError)
    assert site.selection("a") is a
    assert site.selection("b") is b
    assert site.plane.statistics()["version"] == version
    assert not a.peers[0].pool.closed


# Names.


def test_change_waits_for_names(site: Site) -> None:
    """A change with a name to look up is answered when its address is known; until then the
    former servers serve, so that no request meets a server without an address."""
    site.put(upstream("a", "10.0.0.1"))
    before = site.selection("a")
    done = site.put(upstream("a", "web.example"))
    assert not done.called
    assert site.selection("a") is before
    assert not before.peers[0].pool.closed
    site.resolver.answer("web.example", "10.0.0.5")
    assert done.called
    after = site.selection("a")
    assert peers(after) == ["web.example:80"]
    assert after.peers[0].pool.addresses == [(socket.AF_INET, "10.0.0.5")]
    assert before.peers[0].pool.closed


def test_later_change_overtakes_one_that_waits(site: Site) -> None:
    """The lookups of the earlier change then come too late, and its names are no longer
    followed."""
    site.put(upstream("a", "10.0.0.1"))
    site.selection("a")
    first = site.put(upstream("a", "slow.example"))
    second = site.put(upstream("a", "10.0.0.2"))
    assert second.called
    assert peers(site.selection("a")) == ["10.0.0.2:80"]
    assert site.resolver.followers["slow.example"] == []
    site.resolver.answer("slow.example", "10.0.0.5")
    assert first.called
    assert peers(site.selection("a")) == ["10.0.0.2:80"]


def test_removal_overtakes_one_that_waits(site: Site) -> None:
    """An upstream that is removed while its names are looked up does not come back."""
    done = site.put(upstream("a", "slow.example"))
    site.remove("a")
    site.resolver.answer("slow.example", "10.0.0.5")
    assert done.called
    assert site.ask("a") == 502
    assert len(site.live) == 0


def test_new_upstream_with_names(site: Site) -> None:
    """Its names are looked up before the first request; a request that comes meanwhile gets
    the servers that are known."""
    done = site.put(upstream("a", "web.example", "10.0.0.1"))
    assert "web.example" in site.resolver.followers
    early = site.selection("a")
    site.resolver.answer("web.example", "10.0.0.5")
    assert done.called
    assert site.selection("a") is early


class Client(Refused):
    """One whose request may wait, and gets its exchange then."""

    def __init__(self, site: Site, host: str = "a") -> None:
        super().__init__()
        self.request = request(host)
        self.channel = site.connect()
        self.is_there = True
        self.exchange: Any = site.plane.begin(self, self.request, self.channel)

    def waits_for(self, request: Request) -> bool:
        return self.is_there and self.exchange is None

    def begun(self, exchange: Any) -> None:
        self.exchange = exchange

    def server(self) -> str:
        """The server that the request would get."""
        peer = self.exchange.selection.pick(self.request, [])
        return "none" if peer is None else peer.key


def test_name_that_is_not_found_delays_nobody(hand: HandReactor, site: Site) -> None:
    """The change is answered, the former servers are out of service, and requests wait for the
    name, which is found in the end."""
    site.put(upstream("a", "10.0.0.1"))
    site.selection("a")
    done = site.put(upstream("a", "slow.example"))
    assert Client(site).server() == "10.0.0.1:80"
    hand.advance(0.149)
    assert not done.called
    hand.advance(0.001)
    assert done.called
    stays, leaves, other = Client(site), Client(site), Client(site, "b")
    leaves.is_there = False
    assert (stays.exchange, stays.refusals) == (None, [])
    assert other.refusals[0][0] == 502
    site.resolver.answer("slow.example", "10.0.0.5")
    hand.advance(0)
    assert stays.server() == "slow.example:80"
    assert (leaves.exchange, leaves.refusals) == (None, [])
    assert Client(site).server() == "slow.example:80"
    assert site.plane.exchanges == 4
    assert site.plane.requests == 6


def test_servers_that_are_known_serve(hand: HandReactor, site: Site) -> None:
    """A server whose name is being looked up gets no request and no failure."""
    done = site.put(upstream("a", "10.0.0.1", "slow.example", "web.example"))
    early = Client(site)
    site.resolver.answer("web.example", "10.0.0.3")
    assert early.exchange is None
    hand.advance(0.15)
    assert done.called
    hand.advance(0)
    selection = early.exchange.selection

    def asked() -> set[str]:
        return {Client(site).server() for _ in range(12)}

    assert asked() == {"10.0.0.1:80", "web.example:80"}
    site.resolver.answer("slow.example", "10.0.0.2")
    assert asked() == {"10.0.0.1:80", "web.example:80", "slow.example:80"}
    assert site.selection("a") is selection
    assert [peer.live.failures for peer in selection.peers] == [0, 0, 0]


def test_last_server_is_not_put_out_for_one_that_is_not_known(
    hand: HandReactor, site: Site
) -> None:
    """A server without an address could not take its requests."""
    server = {"port": 80, "max_fails": 1}
    hosts = [{"host": "10.0.0.1", **server}, {"host": "slow.example", **server}]
    site.put(parse_upstream("a", {"servers": hosts}, "a"))
    hand.advance(0.15)
    selection = site.selection("a")
    selection.failed(selection.peers[0], "broken")
    assert Client(site).server() == "10.0.0.1:80"


def test_name_that_is_never_found(hand: HandReactor, site: Site) -> None:
    """Requests wait as long as the resolver does, and then get a 502."""
    site.put(upstream("a", "slow.example"))
    waits = Client(site)
    hand.advance(0.15)
    assert waits.exchange is None
    for lookup in site.resolver.waiting.pop("slow.example"):
        lookup.callback(None)
    hand.advance(0)
    assert waits.server() == "slow.example:80"
    assert not waits.exchange.selection.peers[0].pool.addresses


@pytest.mark.parametrize("after", [0, 0.15, 1])
def test_who_waits_for_what_was_overtaken(hand: HandReactor, site: Site, after: float) -> None:
    """A waiting request gets the newer upstream instead, at once or when it is known; or it
    gets a 502 if the upstream was removed."""
    first = site.put(upstream("a", "slow.example"))
    waits = Client(site)
    hand.advance(after)
    site.put(upstream("a", "other.example"))
    assert first.called
    hand.advance(0)
    assert waits.exchange is None
    site.resolver.answer("other.example", "10.0.0.7")
    hand.advance(0)
    assert waits.server() == "other.example:80"
    for change, status in (
        (lambda: site.put(upstream("b", "10.0.0.8")), 0),
        (lambda: site.remove("b"), 502),
    ):
        if "b" in site.snapshot.upstreams:
            site.remove("b")
        site.put(upstream("b", "slow.example"))
        waits = Client(site, "b")
        hand.advance(after)
        assert waits.exchange is None
        change()
        hand.advance(0)
        if status:
            assert [status for status, _ in waits.refusals] == [status]
        else:
            assert waits.server() == "10.0.0.8:80"
    hand.advance(1)
    assert not site.plane.has_waiting
    site.resolver.answer("slow.example", "10.0.0.5")
    assert site.ask("b") == 502


def test_names_of_a_removed_server_are_followed_no_more(site: Site) -> None:
    """Names of a removed upstream are not either; a name that stays is not looked up again."""
    site.put(upstream("a", "one.example", "two.example"))
    site.resolver.answer("one.example", "10.0.0.1")
    site.resolver.answer("two.example", "10.0.0.2")
    done = site.put(upstream("a", "one.example"))
    assert done.called, "nothing new to look up"
    assert len(site.resolver.followers["one.example"]) == 1
    assert site.resolver.followers["two.example"] == []
    site.remove("a")
    assert site.resolver.followers["one.example"] == []


# Cost.


def test_change_costs_in_proportion(site: Site) -> None:
    """With 10,000 upstreams a change of one touches only this one, and takes less than 5 ms
    (about 0.2 measured)."""
    body = upstream("sample", *(f"10.0.0.{last}" for last in range(1, 11)))
    names = [f"u{number}" for number in range(10_000)]
    upstreams = {name: _renamed(body, name) for name in names}
    site.snapshot = Snapshot.build(1, upstreams, (), None)
    site.plane.apply(site.snapshot, names)
    # All these upstreams are in use.
    for name in names[:500]:
        site.plane.first_use(name)
    made = len(site.made)
    taken = []
    for turn in range(20):
        changed = _renamed(body, "u77", keepalive=turn)
        began = time.perf_counter()
        done = site.put(changed)
        taken.append(time.perf_counter() - began)
        assert done.called
    assert len(site.made) - made == 20
    assert sorted(taken)[len(taken) // 2] < 0.005


def _renamed(upstream: Upstream, name: str, **changes: Any) -> Upstream:
    """``upstream`` under another name, without the cost of reading it again."""
    import msgspec

    return msgspec.structs.replace(upstream, name=name, **changes)


# The end.


@pytest.mark.parametrize("starts", [True, False])
def test_stop_of_an_idle_plane_is_immediate(hand: HandReactor, starts: bool) -> None:
    """With nobody connected there is nothing to wait for, even if the plane was never
    started."""
    site = Site(hand)
    if starts:
        site.plane.start()
    site.put(upstream("a", "10.0.0.1"))
    pool = site.selection("a").peers[0].pool
    site.plane.exchanges = 0
    stopped = site.plane.stop()
    assert stopped.called
    assert pool.closed
    assert site.resolver.stopped
    assert hand.readers == []


def test_stop_waits_for_exchanges(hand: HandReactor) -> None:
    """Requests of other downstreams count, too, and the drain timeout ends the wait."""
    site = Site(hand)
    site.plane.start()
    site.plane.exchanges = 1
    stopped = site.plane.stop()
    hand.pump([0.1] * 10)
    assert not stopped.called
    site.plane.exchanges = 0
    hand.pump([0.1])
    assert stopped.called

    site = Site(hand)
    site.plane.start()
    site.plane.exchanges = 1
    stopped = site.plane.stop()
    hand.pump([0.1] * 290)
    assert not stopped.called
    hand.pump([0.1] * 15)
    assert stopped.called


def test_plane_answers_the_challenges_of_its_snapshot(site: Site) -> None:
    """Without any, it does not even look for them."""
    served = site.snapshot.with_challenges(Challenges({"token": "token.thumb"}))
    assert site.plane.challenges is None
    site.plane.apply(served, [])
    assert site.plane.challenges == {b"/.well-known/acme-challenge/token": b"token.thumb"}
    site.plane.apply(served.with_challenges(Challenges()), [])
    assert site.plane.challenges is None
