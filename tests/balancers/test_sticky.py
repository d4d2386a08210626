"""``sticky``: the cookie names the server."""

from __future__ import annotations

import re
from typing import Any

import pytest

from slardar.balancers.base import Outcome
from slardar.balancers.sticky import Sticky
from slardar.errors import ConfigError
from slardar.model.live import Peer
from tests.balancers.kit import ANY, FakeRequest, make_peers

SECRET = "0123456789abcdef"


def make(servers: list[Peer], **options: Any) -> Sticky:
    """A balancer with a secret."""
    return Sticky(servers, {"secret": SECRET, **options})


def set_cookie(balancer: Sticky, server: Peer, request: FakeRequest = ANY) -> str:
    """The Set-Cookie of a reply; empty if it has none."""
    lines = balancer.reply_headers(server, request)
    assert [name for name, _ in lines] in ([], [b"Set-Cookie"])
    return lines[0][1].decode() if lines else ""


def cookie(balancer: Sticky, server: Peer) -> str:
    """The cookie of a server, as a client sends it."""
    return set_cookie(balancer, server).partition(";")[0]


def with_cookie(header: str) -> FakeRequest:
    """A request with this header Cookie."""
    return FakeRequest(headers={"Cookie": header})


def test_client_stays_on_its_server() -> None:
    """With its cookie, a client's requests all go to one server; without, they take turns."""
    servers = make_peers([1, 1, 1])
    balancer = make(servers)
    assert [balancer.pick(servers, ANY) for _ in range(3)] == servers
    for peer in servers:
        request = with_cookie(cookie(balancer, peer))
        assert {balancer.pick(servers, request) for _ in range(5)} == {peer}
        assert balancer.preview(servers, request) is peer
        assert set_cookie(balancer, peer, request) == "", "it has the cookie already"


def test_good_after_a_restart_and_on_other_nodes() -> None:
    """The cookie depends on the secret, the cookie's name and the server's address only."""
    servers = make_peers([1, 2, 3])
    known = cookie(make(servers), servers[1])
    assert known == "slardar=UuUj3maACsWwHA-12NcUGlcFbf1AQroz"
    other = make_peers([5, 1, 1, 1])
    assert make(other[::-1], fallback="random").pick(other, with_cookie(known)) is other[1]


def test_falls_over_and_comes_with_a_new_cookie() -> None:
    """If its server is out of service, or was tried in vain, a client goes elsewhere and gets
    the cookie of that server."""
    servers = make_peers([1, 1, 1])
    balancer = make(servers)
    request = with_cookie(cookie(balancer, servers[1]))
    now = balancer.pick([servers[0], servers[2]], request)
    assert now is not servers[1]
    assert set_cookie(balancer, now, request).startswith(cookie(balancer, now))
    assert balancer.pick(servers, request) is servers[1]
    again = balancer.pick_without(servers, [servers[1]], request)
    assert again is not servers[1]
    assert balancer.pick_without(servers, [servers[0]], request) is servers[1]


def test_forged_and_strange_cookies_are_ignored() -> None:
    """A value that was changed, or signed for another secret or cookie, names no server."""
    servers = make_peers([1, 1, 1])
    balancer = make(servers)
    good = cookie(balancer, servers[2])
    strange = [
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        good[:20] + "x" * 20,
        good[:20],
        good + "A",
        "slardar=",
        "slardar",
        "slardar=10.0.0.3:80",
        "slardar=\udce9\u20ac",
        "x" + good,
        good.replace("slardar", "SLARDAR"),
        cookie(make(servers, secret="another secret!!"), servers[2]),
        "slardar=" + cookie(make(servers, cookie="other"), servers[2]).partition("=")[2],
        cookie(make(make_peers([1] * 9)), make_peers([1] * 9)[8]),
    ]
    for header in strange:
        request = with_cookie(header)
        assert balancer._server_of(request) is None, header
        assert [balancer.pick(servers, request) for _ in range(3)] == servers
        assert set_cookie(balancer, servers[2], request).startswith(good)


def test_among_several_cookies() -> None:
    """The first good value counts, wherever it stands."""
    servers = make_peers([1, 1, 1])
    balancer = make(servers)
    first, second = (cookie(balancer, peer) for peer in servers[1:])
    header = f"a=b;slardar=forged; c={first[8:]};  {second} ; {first}; slardar"
    assert balancer.pick(servers, with_cookie(header)) is servers[2]


def test_does_not_tell_the_address() -> None:
    """The value has no part of the address, and those of two servers have nothing in common."""
    one, two = make_peers([1, 1])
    values = [cookie(make([one, two]), peer)[8:] for peer in (one, two)]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}", value) for value in values)
    assert values[0][:6] != values[1][:6]


def test_attributes() -> None:
    """The options set the cookie's attributes."""
    servers = make_peers([1])

    def attributes(**options: Any) -> str:
        return set_cookie(make(servers, **options), servers[0]).partition(";")[2]

    assert attributes() == " Path=/; HttpOnly; SameSite=Lax"
    everything = {"secure": True, "http_only": False, "same_site": "None", "max_age": 60}
    assert attributes(**everything) == " Path=/; Max-Age=60; Secure; SameSite=None"
    assert attributes(same_site="Strict") == " Path=/; HttpOnly; SameSite=Strict"
    assert set_cookie(make(servers, cookie="__Host-s", secure=True), servers[0])[:9] == "__Host-s="


@pytest.mark.parametrize(
    "mode", ["wrr", "least_conn", "p2c", "ewma", "random", "ip_hash", "maglev"]
)
def test_fallback(mode: str) -> None:
    """Any of slardar's balancers picks the first time, and hears of its requests."""
    servers = make_peers([1, 1, 1])
    balancer = make(servers, fallback=mode)
    for number in range(20):
        request = FakeRequest(client=f"10.0.0.{number}")
        peer = balancer.pick(servers, request)
        assert peer in servers
        assert balancer.pick_without(servers, [peer], request) is not peer
        balancer.started(peer)
        balancer.failed(peer)
        balancer.finished(peer, Outcome(True, 0.1, 0))
    if mode == "ewma":
        assert any(peer.live.ewma is not None for peer in servers)
    assert balancer.is_told == (mode not in ("ip_hash", "maglev"))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"secret": None}, "secret: expected a string of at least 16 characters, the same on ev"),
        ({"secret": "short"}, "secret: expected a string of at least 16 characters, the same on"),
        ({"secret": 12345678901234567}, "secret: expected a string of at least 16 characters"),
        ({"secret": "\ud800" * 16}, "secret: expected a string of whole characters"),
        ({"cookie": "a b"}, "cookie: expected the name of a cookie, got"),
        ({"cookie": 5}, "cookie: expected the name of a cookie, got"),
        ({"cookie": "__Host-a"}, "secure: expected true, as the cookie's name is __Host-a"),
        ({"secure": 1}, "secure: expected true or false, got"),
        ({"http_only": "no"}, "http_only: expected true or false, got"),
        ({"same_site": "lax"}, "same_site: expected Lax, Strict or None, got"),
        ({"same_site": []}, "same_site: expected Lax, Strict or None, got"),
        ({"same_site": "None"}, 'secure: expected true, as same_site is "None"'),
        ({"max_age": 0}, "max_age: expected a number of seconds from 1 to 34560000, got"),
        ({"max_age": 1.5}, "max_age: expected a number of seconds from 1 to 34560000, got"),
        ({"max_age": True}, "max_age: expected a number of seconds from 1 to 34560000, got"),
        ({"fallback": "sticky"}, "fallback: expected one of ewma, hash, "),
        ({"fallback": []}, "fallback: expected one of ewma, hash, "),
        ({"path": "/"}, "path: unknown option, expected cookie, fallback, "),
    ],
)
def test_wrong_options(options: dict[str, Any], line: str) -> None:
    """Each is refused with a line that says what was expected."""
    with pytest.raises(ConfigError) as caught:
        make(make_peers([1]), **options)
    assert caught.value.problems[0].startswith(line)
    assert "short" not in caught.value.problems[0]


def test_secret_must_be_given() -> None:
    """A secret that slardar made up would not survive a restart."""
    with pytest.raises(ConfigError, match=r"^secret: expected a string of at least 16"):
        Sticky(make_peers([1]), {})
