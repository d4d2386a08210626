"""The laws of balancers, as a test that you run on a balancer of your own::

    from slardar.testing.laws import check_balancer

    def test_my_balancer():
        check_balancer(MyBalancer)

A law that does not hold raises AssertionError, whose text begins with the law.  The
requests and servers of a run are made up, the same ones each time.  What is random in a
balancer should come from a generator with a fixed seed: ``make`` is any function that is
called as the class is, so it can pass one.

The laws of all balancers:

``one of those offered``
    The pick is one of the servers that were offered, whichever are out of service, however
    many requests are under way, and whatever has failed.
``none of those left out``
    A retry goes to none of the servers that the request has tried.
``a single server``
    Where one server is offered, it is picked.
``nothing else is changed``
    A balancer does not change the sequence that it gets, the configuration, or the counters
    and the health of servers.
``nobody starves``
    Every server gets requests, also after failures and with the smallest weight.
``shares follow weights``
    In the long run each server gets its weight's part of the requests, without load and with
    40 requests under way, and of other servers and weights after a change.
``the preview is the next pick``
    What ``preview`` says, ``pick`` does; a preview changes nothing.

``a bound request has its server``
    The server that ``bound_to`` names for a request is one of the balancer's, and is picked
    where it is offered; the question changes nothing.

The laws of balancers that go by a key (``by_key=True``):

``a key has one server``
    Requests with the same key go to the same server: again, in whatever order servers are
    listed, with an instance made anew, and in another process.
``few keys move``
    If a server goes out of service, its keys move, and at most a tenth as many others; when it
    is back, every key is where it was.
"""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from base64 import b64encode
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random as Generator
from typing import Any, Final

from zope.interface import implementer

from slardar.balancers.base import Balancer, Outcome, rest
from slardar.interfaces import IRequest
from slardar.model.live import Peer, ServerLive
from slardar.model.server import Server

__all__ = ["FakeRequest", "Traffic", "check_balancer", "make_peers", "same_everywhere"]

Make = Callable[[Sequence[Peer], Mapping[str, Any]], Any]

#: The sets of weights that laws are checked with.
_WEIGHTS: Final = ([1, 2, 3], [5, 1, 1, 1], [1 + number % 3 for number in range(30)])
#: Requests before a law about the long run is looked at: a balancer may learn, or prepare itself.
_SETTLE: Final = 100
_LONG_RUN: Final = 1000
#: What a balancer may not change in a server's ``live``: it belongs to others.
_OTHERS: Final = (
    "active",
    "requests",
    "failures",
    "status",
    "fails",
    "fail_num",
    "first_fail",
    "down_until",
    "checked",
    "weight",
)


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
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.method = "GET"
        self.host = host
        self.uri = uri
        self.path = uri.partition("?")[0]
        self.client = client
        self.hash_key = hash_key
        self._headers = {name.lower(): value for name, value in (headers or {}).items()}

    def get_header(self, name: str) -> str | None:
        """The value of a header."""
        return self._headers.get(name.lower())


def same_everywhere(key: str, cookies: str = "") -> FakeRequest:
    """A request in which everything that may be a balancer's key is ``key``."""
    headers = {"X-Hash-Key": key, **({"Cookie": cookies} if cookies else {})}
    return FakeRequest(key, host=key, client=key, hash_key=key, headers=headers)


def make_peers(weights: Iterable[int], **config: Any) -> list[Peer]:
    """A server for each weight: 10.0.0.1:80, 10.0.0.2:80, ..."""
    return [
        Peer(Server(f"10.0.{number >> 8}.{number & 255}", 80, weight, **config), ServerLive())
        for number, weight in enumerate(weights, 1)
    ]


class Traffic:
    """Requests that come one after the other, each of which takes a while.

    ``length`` requests are under way at a time; the oldest ends when a new one comes.  The
    balancer is called as a data plane calls it.
    """

    def __init__(self, balancer: Any, length: int = 0) -> None:
        self.balancer = balancer
        self.length = length
        self._under_way: deque[Peer] = deque()

    def request(
        self,
        servers: Sequence[Peer],
        request: FakeRequest | None = None,
        failed: bool = False,
        left_out: Sequence[Peer] = (),
    ) -> Peer:
        """The server of one request."""
        balancer, request = self.balancer, request or FakeRequest()
        peer: Any
        if not left_out:
            peer = balancer.pick(servers, request)
        elif hasattr(balancer, "pick_without"):
            peer = balancer.pick_without(servers, left_out, request)
        else:
            peer = balancer.pick(rest(servers, left_out), request)
        if not isinstance(peer, Peer):
            raise AssertionError(f"one of those offered: expected a server, got {peer!r}")
        self._tell("started", peer)
        peer.live.active += 1
        self._under_way.append(peer)
        if failed:
            self._tell("failed", peer)
        while len(self._under_way) > self.length:
            done = self._under_way.popleft()
            done.live.active -= 1
            self._tell("finished", done, Outcome(failed and done is peer, 0.05, 200))
        return peer

    def _tell(self, method: str, *arguments: Any) -> None:
        call = getattr(self.balancer, method, None)
        if call is not None:
            call(*arguments)


def check_balancer(
    make: Make,
    options: Mapping[str, Any] | None = None,
    *,
    by_key: bool = False,
    tolerance: float | None = 1 / 6,
) -> None:
    """Raise AssertionError if a balancer breaks one of the laws of this module.

    ``make(servers, options)`` makes the balancer: a class, or a function.  ``options`` are the
    ``mode_opts``, default none.  ``by_key``: whether requests with the same key must have the
    same server; ``make`` must then be importable, as another process imports it.

    ``tolerance`` is the part of a server's share by which the share may be wrong, beside 2 % of all
    requests; default a sixth.  ``None``: shares need not follow weights, and servers may
    starve.
    """
    laws = _Laws(make, options or {})
    laws.a_single_server()
    if by_key:
        laws.another_process()
    for weights in _WEIGHTS:
        laws.one_of_those_offered(weights)
        laws.none_of_those_left_out(weights)
        laws.nothing_else_is_changed(weights)
        laws.the_preview_is_the_next_pick(weights)
        laws.a_bound_request_has_its_server(weights)
        if tolerance is not None:
            laws.nobody_starves(weights)
            laws.shares_follow_weights(weights, tolerance)
        if by_key:
            laws.a_key_has_one_server(weights)
            laws.few_keys_move(weights)


class _Laws:
    """Each method checks one law with one set of servers."""

    def __init__(self, make: Make, options: Mapping[str, Any]) -> None:
        self.make = make
        self.options = options

    def one_of_those_offered(self, weights: Sequence[int]) -> None:
        servers, chance = make_peers(weights), _chance(1)
        traffic = Traffic(self.make(servers, self.options), 5)
        for number in range(300):
            offered = servers
            if number % 3 == 0:
                offered = _some(chance, servers)
            picked = traffic.request(offered, _keyed(chance), chance.random() < 0.2)
            _law(picked in offered, "one of those offered", picked, offered)

    def none_of_those_left_out(self, weights: Sequence[int]) -> None:
        servers, chance = make_peers(weights), _chance(2)
        traffic = Traffic(self.make(servers, self.options), 5)
        for _ in range(200):
            request = _keyed(chance)
            tried = [traffic.request(servers, request, True)]
            while len(tried) < min(len(servers), 5):
                picked = traffic.request(servers, request, True, tried)
                is_left = picked in servers and picked not in tried
                _law(is_left, "none of those left out", picked, rest(servers, tried))
                tried.append(picked)

    def a_single_server(self) -> None:
        (server,) = make_peers([1])
        everyone = [server, *make_peers([1, 1, 1])[1:]]
        for servers in ([server], everyone):
            traffic = Traffic(self.make(servers, self.options), 3)
            for number in range(20):
                picked = traffic.request([server], same_everywhere(f"key {number}"))
                _law(picked is server, "a single server", picked, [server])

    def nothing_else_is_changed(self, weights: Sequence[int]) -> None:
        servers, chance = make_peers(weights), _chance(3)
        offered, options = list(servers), dict(self.options)
        balancer = self.make(servers, options)
        before = [_state(peer) for peer in servers]
        for _ in range(50):
            picked = balancer.pick(offered, _keyed(chance))
            for method in ("started", "failed"):
                if hasattr(balancer, method):
                    getattr(balancer, method)(picked)
            if hasattr(balancer, "finished"):
                balancer.finished(picked, Outcome(True, 0.1, 500))
        law = "nothing else is changed"
        _law(offered == servers, law, "the sequence offered", "as it was")
        _law(options == self.options, law, "the options", "as they were")
        after = [_state(peer) for peer in servers]
        _law(before == after, law, after, before)

    def nobody_starves(self, weights: Sequence[int]) -> None:
        servers, chance = make_peers(weights), _chance(4)
        balancer = self.make(servers, self.options)
        for peer in servers:
            for _ in range(10 if hasattr(balancer, "failed") else 0):
                balancer.failed(peer)
        traffic = Traffic(balancer, 3)
        waiting = set(servers)
        for _ in range(_LONG_RUN):
            waiting.discard(traffic.request(servers, _keyed(chance)))
        _law(not waiting, "nobody starves", f"nothing for {waiting}", "something for each")

    def shares_follow_weights(self, weights: Sequence[int], tolerance: float) -> None:
        servers, chance = make_peers(weights), _chance(5)
        traffic = Traffic(self.make(servers, self.options))
        self._shares(traffic, servers, chance, tolerance)
        # One is out of service.
        self._shares(traffic, servers[1:], chance, tolerance)
        traffic.length = 40
        self._shares(traffic, servers, chance, tolerance)
        # Other weights, which another sequence tells of.
        for peer, weight in zip(servers, reversed(weights), strict=True):
            peer.weight = weight * 10
        self._shares(traffic, list(servers), chance, tolerance)

    def _shares(
        self, traffic: Traffic, servers: Sequence[Peer], chance: Generator, tolerance: float
    ) -> None:
        for _ in range(_SETTLE):
            traffic.request(servers, _keyed(chance))
        counted = Counter(traffic.request(servers, _keyed(chance)) for _ in range(_LONG_RUN))
        total = sum(peer.weight for peer in servers)
        for peer in servers:
            share, is_share = peer.weight / total, counted[peer] / _LONG_RUN
            is_near = abs(is_share - share) <= tolerance * share + 0.02
            _law(is_near, "shares follow weights", f"{is_share:.3f} for {peer}", f"{share:.3f}")

    def the_preview_is_the_next_pick(self, weights: Sequence[int]) -> None:
        servers, chance = make_peers(weights), _chance(6)
        balancer = self.make(servers, self.options)
        traffic = Traffic(balancer, 5)
        foresee = getattr(balancer, "preview", None)
        if foresee is None or getattr(type(balancer), "preview", None) is Balancer.preview:
            return
        law = "the preview is the next pick"
        for _ in range(200):
            request = _keyed(chance)
            foreseen = foresee(servers, request)
            again = foresee(servers, request)
            _law(again is foreseen, law, again, f"{foreseen} again")
            picked = traffic.request(servers, request, chance.random() < 0.2)
            _law(foreseen is None or picked is foreseen, law, picked, foreseen)

    def a_bound_request_has_its_server(self, weights: Sequence[int]) -> None:
        servers, chance = make_peers(weights), _chance(7)
        balancer = self.make(servers, self.options)
        if getattr(type(balancer), "bound_to", Balancer.bound_to) is Balancer.bound_to:
            return
        traffic, law = Traffic(balancer, 5), "a bound request has its server"
        for _ in range(100):
            key = f"/{chance.getrandbits(40)}"
            for offered in (servers, _some(chance, servers)):
                request = same_everywhere(key)
                first = traffic.request(offered, request)
                # A client that keeps its cookies, for balancers that bind by these.
                request = same_everywhere(key, _cookies(balancer, first, request))
                bound = balancer.bound_to(request)
                _law(bound is None or bound in servers, law, bound, "one of its servers")
                again = balancer.bound_to(request)
                _law(again is bound, law, again, f"{bound} again")
                picked = traffic.request(offered, request)
                _law(bound not in offered or picked is bound, law, picked, bound)

    def a_key_has_one_server(self, weights: Sequence[int]) -> None:
        servers = make_peers(weights)
        known = self._placed(servers, servers)
        law = "a key has one server"
        for what, listed in (
            ("an instance made anew", servers),
            ("other order of the servers", servers[::-1]),
        ):
            for key, peer in self._placed(listed, listed).items():
                _law(peer is known[key], law, f"{peer} for {key!r} with {what}", known[key])

    def few_keys_move(self, weights: Sequence[int]) -> None:
        servers = make_peers(weights)
        balancer = self.make(servers, self.options)
        self._settle(balancer, servers)
        before = _places(balancer, servers)
        for gone in servers[:3]:
            left = [peer for peer in servers if peer is not gone]
            after = _places(balancer, left)
            own = sum(peer is gone for peer in before.values())
            moved = sum(after[key] is not peer for key, peer in before.items())
            is_few = moved <= 1.1 * own + 1
            _law(is_few, "few keys move", f"{moved} keys moved", f"{own}, those of {gone}")
            back = _places(balancer, servers)
            _law(back == before, "few keys move", "keys stay away", "each is back")

    def another_process(self) -> None:
        servers = make_peers([1, 2, 3])
        here = [peer.key for peer in self._placed(servers, servers).values()]
        try:
            packed = pickle.dumps((self.make, dict(self.options)))
        except Exception as error:
            raise AssertionError(
                f"a key has one server: another process cannot import {self.make!r}"
            ) from error
        program = (
            "import sys, base64, pickle\n"
            f"sys.path[:] = {sys.path!r}\n"
            "from slardar.testing import laws\n"
            "laws._answer(base64.b64decode(sys.argv[1]))\n"
        )
        done = subprocess.run(  # noqa: S603 - this very program
            [sys.executable, "-c", program, b64encode(packed).decode()],
            env={**os.environ, "PYTHONHASHSEED": "7"},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
            timeout=60,
        )
        there = done.stdout.split()
        _law(there == here, "a key has one server", "another one in another process", "the same")

    def _settle(self, balancer: Any, servers: Sequence[Peer]) -> None:
        for number in range(_SETTLE):
            balancer.pick(servers, same_everywhere(f"settle {number}"))

    def _placed(self, listed: Sequence[Peer], offered: Sequence[Peer]) -> dict[str, Peer]:
        """The server of each key, by a new instance."""
        balancer = self.make(listed, self.options)
        self._settle(balancer, offered)
        return _places(balancer, offered)


def _answer(packed: bytes) -> None:
    """Write the servers of some keys, for :meth:`_Laws.another_process`."""
    make, options = pickle.loads(packed)  # noqa: S301 - it comes from the parent
    servers = make_peers([1, 2, 3])
    placed = _Laws(make, options)._placed(servers, servers)
    sys.stdout.write(" ".join(peer.key for peer in placed.values()))


def _places(balancer: Any, servers: Sequence[Peer]) -> dict[str, Peer]:
    """The server of each of 300 keys."""
    return {
        key: balancer.pick(servers, same_everywhere(key))
        for key in [f"/key/{number}" for number in range(300)]
    }


def _chance(seed: int) -> Generator:
    """Random numbers that are the same each time."""
    return Generator(seed)  # noqa: S311 - nothing is secret here


def _keyed(chance: Generator) -> FakeRequest:
    """A request with any key."""
    return same_everywhere(f"/{chance.getrandbits(40)}")


def _cookies(balancer: Any, server: Peer, request: FakeRequest) -> str:
    """What a client sends back after a reply of ``server``."""
    given = getattr(balancer, "reply_headers", lambda _server, _request: ())(server, request)
    return "; ".join(
        value.decode("latin-1").partition(";")[0]
        for name, value in given
        if name.lower() == b"set-cookie"
    )


def _some(chance: Generator, servers: Sequence[Peer]) -> list[Peer]:
    """Some of the servers, in order; at least one."""
    kept = set(chance.sample(range(len(servers)), chance.randint(1, len(servers))))
    return [peer for number, peer in enumerate(servers) if number in kept]


def _state(peer: Peer) -> dict[str, Any]:
    """What a balancer must leave as it is."""
    state: dict[str, Any] = {name: getattr(peer.live, name) for name in _OTHERS}
    state.update(config=peer.config, host=peer.host, port=peer.port, key=peer.key)
    state.update(used_weight=peer.weight)
    return state


def _law(holds: bool, law: str, got: object, expected: object) -> None:
    if not holds:
        raise AssertionError(f"{law}: expected {expected}, got {got}")
