"""The hash balancers: their keys, and the servers of the keys."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest

from slardar.balancers.hashing import Hash, HeaderHash, HostHash, IpHash, UrlHash
from slardar.balancers.rendezvous import ConsistentHash
from slardar.errors import ConfigError
from slardar.model.live import Peer, ServerLive
from slardar.model.server import Server
from tests.balancers.kit import ANY, FakeRequest, make_peers

CHECKOUT = Path(__file__).resolve().parent.parent.parent


def key(balancer: type[ConsistentHash], request: FakeRequest, **options: object) -> str:
    """The key that a balancer takes from a request."""
    return balancer(make_peers([1]), options).key(request)


def test_hash_key() -> None:
    """``hash`` takes a hook's key, or the path if there is none or it is empty."""
    assert key(Hash, FakeRequest("/a?b", hash_key="tenant")) == "tenant"
    assert key(Hash, FakeRequest("/a?b")) == "/a"
    assert key(Hash, FakeRequest("/a?b", hash_key="")) == "/a"


def test_url_hash_key() -> None:
    """``url_hash`` takes the path, and no hook's key."""
    assert key(UrlHash, FakeRequest("/a?b", hash_key="tenant")) == "/a"


#: nginx's ``$uri`` for each URI; nginx refuses the last three.
URIS = {
    "/": "/",
    "/a/b.c": "/a/b.c",
    "/a?b=/../c": "/a",
    "/%61%2Fb": "/a/b",
    "/a%3Fb?c": "/a?b",
    "/a%20b+c": "/a b+c",
    "/caf%C3%A9": "/caf\u00e9",
    "//a///b//": "/a/b/",
    "/a/./b/../c": "/a/c",
    "/a/..": "/",
    "/a/b/..": "/a/",
    "/a/.": "/a/",
    "/..a/.b": "/..a/.b",
    "/a%252Fb": "/a%2Fb",
    "/%2e%2e/a": "/a",
    "/%zz%": "/%zz%",
    "*": "*",
}


@pytest.mark.parametrize("balancer", [Hash, UrlHash, HeaderHash])
@pytest.mark.parametrize(("uri", "path"), URIS.items())
def test_path_is_decoded(balancer: type[ConsistentHash], uri: str, path: str) -> None:
    """All spellings of a path have one key and one server; with the option the query counts,
    too."""
    assert key(balancer, FakeRequest(uri)) == path
    mark, query = uri.partition("?")[1:]
    assert key(balancer, FakeRequest(uri), query=True) == path + mark + query
    assert key(balancer, FakeRequest(uri), query=False) == path


def test_path_of_any_bytes_is_a_key() -> None:
    """Paths that are not UTF-8 have different keys, and each picks a server."""
    balancer = UrlHash(make_peers([1] * 3), {})
    requests = [FakeRequest(f"/%{byte:02x}") for byte in range(256)]
    assert len({balancer.key(request) for request in requests}) == 255  # "//" and "/." are "/"
    assert {balancer.pick(balancer._all, request).host[-1] for request in requests} == {*"123"}


@pytest.mark.parametrize("balancer", [Hash, UrlHash, HeaderHash])
@pytest.mark.parametrize("value", [1, "true", None])
def test_query_is_true_or_false(balancer: type[ConsistentHash], value: object) -> None:
    """The option takes no other value, and ``ip_hash`` has no such option."""
    with pytest.raises(ConfigError, match=r"^query: expected true or false, got "):
        balancer(make_peers([1]), {"query": value})
    with pytest.raises(ConfigError, match=r"^query: unknown option"):
        IpHash(make_peers([1]), {"query": True})


def test_ip_hash_key() -> None:
    """``ip_hash`` takes the client's address."""
    assert key(IpHash, FakeRequest(client="2001:db8::7")) == "2001:db8::7"


def test_host_hash_key() -> None:
    """``host_hash`` takes the host."""
    assert key(HostHash, FakeRequest(host="b.example")) == "b.example"


def test_header_hash_key() -> None:
    """``header_hash`` takes X-Hash-Key or the header of the option, else the path."""
    request = FakeRequest("/a", headers={"X-Hash-Key": "one", "X-User": "two", "X-Empty": ""})
    assert key(HeaderHash, request) == "one"
    assert key(HeaderHash, request, header="x-user") == "two"
    assert key(HeaderHash, request, header="X-None") == "/a"
    assert key(HeaderHash, request, header="X-Empty") == "/a"


@pytest.mark.parametrize("value", ["", "X Key", "X-Key:", "Ké", 5, None, ["X-Key"]])
def test_header_hash_option(value: object) -> None:
    """The option must be a header's name."""
    with pytest.raises(ConfigError, match=r"^header: expected the name of a header, got "):
        HeaderHash(make_peers([1]), {"header": value})


def test_a_known_answer() -> None:
    """The server of a key never changes: nodes with different versions must agree, and an
    upgrade must not move keys."""
    equal, weighted = make_peers([1] * 5), make_peers([1, 4, 3, 6])
    picked = [
        [balancer.pick(servers, FakeRequest(f"/{n}")).host[-1] for n in range(20)]
        for servers in (equal, weighted)
        for balancer in [UrlHash(servers, {})]
    ]
    assert "".join(picked[0]) == "14514152432544411533"
    assert "".join(picked[1]) == "24344144442444411343"


@pytest.mark.parametrize(
    "keys",
    [
        [f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}" for n in range(20000)],
        [f"/item/{n}" for n in range(20000)],
        [f"/{'x' * 60}/{n:08x}.html?page=1" for n in range(20000)],
        [chr(0x4E00 + n) for n in range(20000)],
    ],
    ids=["addresses", "numbers", "long", "chinese"],
)
def test_keys_that_are_alike(keys: list[str]) -> None:
    """Keys that differ little are spread like any others: each share is within 12 % of the
    weight's (five standard deviations of slots and keys together)."""
    servers = make_peers([1, 2, 3, 4])
    balancer = UrlHash(servers, {})
    counted = dict.fromkeys(servers, 0)
    for text in keys:
        counted[balancer.pick(servers, FakeRequest(text))] += 1
    for peer, count in counted.items():
        assert abs(count / 20000 - peer.weight / 10) < 0.12 * peer.weight / 10


def test_a_hundred_servers_share_evenly() -> None:
    """Each of 100 equal servers has a hundredth, give or take 28 % (five standard deviations
    of slots and of this few keys), and the mean deviation is as the module says.  With a
    million keys the most loaded server has 1.10 times the mean."""
    servers = make_peers([1] * 100)
    balancer = UrlHash(servers, {})
    counted = dict.fromkeys(servers, 0)
    for number in range(60000):
        counted[balancer.pick(servers, FakeRequest(f"/{number}"))] += 1
    deviations = [count / 600 - 1 for count in counted.values()]
    assert max(map(abs, deviations)) < 0.28
    assert (sum(d * d for d in deviations) / 100) ** 0.5 < 0.07


def test_a_key_with_half_a_surrogate() -> None:
    """A hook may give any string as a key."""
    servers = make_peers([1, 1])
    assert Hash(servers, {}).pick(servers, FakeRequest(hash_key="\ud800")) in servers


def test_many_servers() -> None:
    """More servers than one byte, or two, can number are distinguished."""
    for count in (300, 70000):
        live = ServerLive()
        servers = [Peer(Server(f"s{number}", 80), live) for number in range(count)]
        balancer = UrlHash(servers, {})
        for path in [f"/{number}" for number in range(30 if count < 1000 else 3)]:
            first, again = (balancer.pick(servers, FakeRequest(path)) for _ in range(2))
            assert first is again
            assert balancer.pick([servers[0], first], FakeRequest(path)) is first


def test_lists_that_change() -> None:
    """Results computed for one list of servers are not used for another."""
    servers = make_peers([1, 2, 3, 4, 5])
    balancer = UrlHash(servers, {})
    lists = [servers[:2], servers[2:4], servers[1:], servers, servers[:3]]
    for number in range(40):
        request = FakeRequest(f"/{number}")
        for some in lists:
            assert balancer.pick(some, request) is UrlHash(some, {}).pick(some, request)


def test_no_key() -> None:
    """A subclass must define the key."""
    servers = make_peers([1, 1])
    with pytest.raises(NotImplementedError):
        ConsistentHash(servers, {}).pick(servers, ANY)


def test_servers_it_was_not_made_with() -> None:
    """A list of servers that are not the level's is served from its own servers."""
    strangers = make_peers([1] * 6)[3:]
    balancer = UrlHash(make_peers([1] * 3), {})
    assert {balancer.pick(strangers, FakeRequest(f"/{n}")) for n in range(50)} == set(strangers)


def test_drained_servers_take_no_slots() -> None:
    """A server that is out of service by configuration leaves no gap: keys go where they go
    without it."""
    servers = make_peers([1] * 4)
    out = Peer(Server("10.0.0.9", 80, state="drain"), ServerLive())
    off = Peer(Server("10.0.0.8", 80, weight=0), ServerLive())
    with_them, without = UrlHash([out, *servers, off], {}), UrlHash(servers, {})
    for number in range(200):
        request = FakeRequest(f"/{number}")
        assert with_them.pick(servers, request) is without.pick(servers, request)


def test_memory() -> None:
    """Ten servers cost nothing before the first request, little for a few keys, and never more
    than 88 kB."""
    servers = make_peers([1] * 10)
    requests = [FakeRequest(f"/{number}") for number in range(40000)]
    UrlHash(servers, {}).pick(servers, ANY)  # make the objects that are made once
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        balancers = [UrlHash(servers, {}) for _ in range(100)]
        made = tracemalloc.get_traced_memory()[0]
        for balancer in balancers:
            balancer.pick(servers, ANY)
        first = tracemalloc.get_traced_memory()[0]
        for request in requests:
            balancers[0].pick(servers, request)
        full = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert (made - before) / 100 < 1000
    assert (first - made) / 100 < 5000
    assert full - first < 88000
