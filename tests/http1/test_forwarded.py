"""Whom a request comes from, and what its headers say of that."""

from __future__ import annotations

import re
import time

import pytest

from slardar.http1.forwarded import MAX_HOPS, came_from, read_hop
from slardar.http1.request import Request, parse_request
from slardar.model.networks import Networks
from slardar.testing.playbook import Playbook
from tests.book import DOCS, blocks

TRUSTED = Networks(["10.0.0.0/8", "fd00::/8"])
PEER = b"10.0.0.1"
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def request(*lines: bytes, peer: bytes = PEER, trusted: Networks = TRUSTED) -> Request:
    """A request from ``peer``."""
    made = parse_request(b"\r\n".join((b"GET / HTTP/1.1", b"Host: app", *lines, b"", b"")))
    came_from(made, peer, trusted)
    return made


def lines_of(head: bytes) -> list[bytes]:
    """The lines about the client in a head, in order."""
    names = (b"x-forwarded-", b"x-real", b"x_real", b"forwarded", b"x_forwarded")
    return [line for line in head.split(b"\r\n") if line.lower().startswith(names)]


HOPS = {
    b"1.2.3.4": b"1.2.3.4",
    b"1.2.3.4:567": b"1.2.3.4",
    b"1.2.3.4:_port": b"1.2.3.4",
    b"2001:db8::1": b"2001:db8::1",
    b"[2001:DB8::1]": b"2001:db8::1",
    b"[2001:db8::1]:65535": b"2001:db8::1",
    b"::ffff:1.2.3.4": b"1.2.3.4",
    b"[::ffff:1.2.3.4]:1": b"1.2.3.4",
    # No addresses.
    b"unknown": None,
    b"_hidden": None,
    b"1.2.3.4:65536": None,
    b"1.2.3.4:": None,
    b"1.2.3.4:x": None,
    b"1.2.3.256": None,
    b"[1.2.3.4]": None,
    b"[::1": None,
    b"::1]": None,
    b"[fe80::1%eth0]": None,
    b"fe80::1%1": None,
    b"a.test": None,
    b"1.2.3.4 5": None,
    b'"1.2.3.4"': None,
    b"\xff": None,
    b"1" * 2000: None,
    b"": None,
}


@pytest.mark.parametrize("text", HOPS)
def test_hops(text: bytes) -> None:
    """With and without a port, in brackets and without."""
    found = read_hop(text)
    assert (None if found is None else found.text) == HOPS[text]


@pytest.mark.parametrize(
    ("value", "client"),
    [
        # The first from the right that is not trusted; the leftmost is what an attacker writes.
        (b"1.1.1.1", b"1.1.1.1"),
        (b"6.6.6.6, 1.1.1.1", b"1.1.1.1"),
        (b"6.6.6.6, 1.1.1.1, 10.0.0.2, 10.0.0.3", b"1.1.1.1"),
        (b"10.0.0.9, 1.1.1.1,10.0.0.2", b"1.1.1.1"),
        (b"6.6.6.6, [2001:db8::1]:80 , fd00::1,10.0.0.3:8080", b"2001:db8::1"),
        (b"6.6.6.6, ::ffff:1.1.1.1, ::ffff:10.0.0.2", b"1.1.1.1"),
        # Where all are trusted, the one that was first.
        (b"10.0.0.7, 10.0.0.8", b"10.0.0.7"),
        # Garbage ends the walk: the last good one counts.
        (b"1.1.1.1, unknown", PEER),
        (b"1.1.1.1, unknown, 10.0.0.2", b"10.0.0.2"),
        (b"1.1.1.1, _x, 10.0.0.2", b"10.0.0.2"),
        (b"1.1.1.1, fe80::1%eth0, 10.0.0.2", b"10.0.0.2"),
        (b"1.1.1.1, unix:, 10.0.0.2", b"10.0.0.2"),
        (b'"1.1.1.1"', PEER),
        (b"x" * 8000, PEER),
        # Empty members are none (RFC 9110 5.6.1).
        (b"1.1.1.1, , 10.0.0.2,,", b"1.1.1.1"),
        (b",", PEER),
        # No more hops than anybody has.
        (b"1.1.1.1" + b", 10.0.0.2" * (MAX_HOPS - 1), b"1.1.1.1"),
        (b"1.1.1.1" + b", 10.0.0.2" * MAX_HOPS, b"10.0.0.2"),
    ],
)
def test_x_forwarded_for_of_a_trusted_peer(value: bytes, client: bytes) -> None:
    """The list is read from its end; nobody else is believed."""
    found = request(b"X-Forwarded-For: " + value)
    assert (found.address, found.peer, found.client) == (client, PEER, client.decode())
    assert request(b"X-Forwarded-For: " + value, peer=b"11.0.0.1").address == b"11.0.0.1"
    # Several lines are one list.
    split = [b"X-Forwarded-For: " + one for one in value.split(b",")]
    assert request(*split).address == client


@pytest.mark.parametrize(
    ("value", "client"),
    [
        (b"for=1.1.1.1", b"1.1.1.1"),
        (b"For=1.1.1.1;proto=https; HOST=x ;by=10.0.0.1", b"1.1.1.1"),
        (b"proto=https;for=1.1.1.1:80;", b"1.1.1.1"),
        (b'for=6.6.6.6, for="1.1.1.1:80"', b"1.1.1.1"),
        (b'for=6.6.6.6,for="[2001:db8::1]:80", for="[fd00::1]"', b"2001:db8::1"),
        (b'for="\\1.1\\.1.1"', b"1.1.1.1"),
        (b"for=[2001:db8::1]", b"2001:db8::1"),
        (b"for=10.0.0.7, for=10.0.0.8", b"10.0.0.7"),
        (b"for=1.1.1.1, ,", b"1.1.1.1"),
        # A comma within quotes separates nothing, whatever the client has put there.
        (b'for=1.1.1.1;ext="a, for=6.6.6.6"', b"1.1.1.1"),
        (b'for=1.1.1.1;ext="a\\", for=6.6.6.6"', b"1.1.1.1"),
        (b'for=1.1.1.1;ext="a\\\\", for=10.0.0.2', b"1.1.1.1"),
        # Quotes of the client do not take in what proxies have added.
        (b'for=", for=1.1.1.1', b"1.1.1.1"),
        (b'for=6.6.6.6;x="\\, for=1.1.1.1, for=10.0.0.2', b"1.1.1.1"),
        # Garbage ends the walk.
        (b"for=1.1.1.1, for=unknown", PEER),
        (b"for=1.1.1.1, for=_hidden, for=10.0.0.2", b"10.0.0.2"),
        (b"for=1.1.1.1, proto=https, for=10.0.0.2", b"10.0.0.2"),
        (b"for=1.1.1.1;for=6.6.6.6, for=10.0.0.2", b"10.0.0.2"),
        (b"for=1.1.1.1 for=2.2.2.2, for=10.0.0.2", b"10.0.0.2"),
        (b'for=1.1.1.1, for="10.0.0.2', PEER),
        (b'for=1.1.1.1, for=10.0.0.2"', PEER),
        (b"1.1.1.1", PEER),
        (b"for=1.1.1.1;x=" + b"a" * 2000, PEER),
        (b"for=1.1.1.1" + b", for=10.0.0.2" * MAX_HOPS, b"10.0.0.2"),
    ],
)
def test_forwarded_of_a_trusted_peer(value: bytes, client: bytes) -> None:
    """As X-Forwarded-For, in the grammar of RFC 7239."""
    assert request(b"Forwarded: " + value).address == client
    assert request(b"Forwarded: " + value, peer=b"11.0.0.1").address == b"11.0.0.1"


def test_x_forwarded_for_wins() -> None:
    """Many proxies extend the first and pass a client's Forwarded unchanged."""
    both = (b"X-Forwarded-For: 1.1.1.1", b"Forwarded: for=6.6.6.6;proto=https;host=evil")
    found = request(*both)
    assert found.address == b"1.1.1.1"
    assert (found.forwarded_proto, found.forwarded_host) == (None, None)
    assert request(b"X-Forwarded-For: unknown", both[1]).address == PEER
    assert request(b"X-Forwarded-For:", both[1]).address == b"6.6.6.6"


def test_scheme_and_host() -> None:
    """A trusted peer's are kept where they can be true; those of Forwarded are its client's."""

    def told(*lines: bytes, peer: bytes = PEER) -> tuple[bytes | None, bytes | None]:
        found = request(*lines, peer=peer)
        return found.forwarded_proto, found.forwarded_host

    good = (b"X-Forwarded-Proto: HTTPS", b"X-Forwarded-Host: www.a.test:8443")
    assert told(*good) == (b"https", b"www.a.test:8443")
    assert told(*good, peer=b"192.0.2.1") == (None, None)
    for proto in (b"ws", b"https, http", b"", b"https\xff"):
        assert told(b"X-Forwarded-Proto: " + proto) == (None, None)
    for host in (b"a b", b"a, b", b"", b"a/b", b"a..b", b"a@b", b"a:99999", b'"a"'):
        assert told(b"X-Forwarded-Host: " + host) == (None, None)
    forwarded = b'Forwarded: for=6.6.6.6;proto=http, for=1.1.1.1;proto=https;host="a.test:8443"'
    assert told(forwarded, b"Forwarded: for=10.0.0.2;proto=http;host=inner") == (
        b"https",
        b"a.test:8443",
    )
    assert told(forwarded, *good[1:]) == (b"https", b"www.a.test:8443")
    assert told(forwarded, peer=b"192.0.2.1") == (None, None)


def test_unix_sockets() -> None:
    """They are trusted under their own name, and are no client's address where they are not."""
    local = Networks(["unix:", "10.0.0.0/8"])
    line = b"X-Forwarded-For: 1.1.1.1"
    assert request(line, peer=b"unix:", trusted=local).address == b"1.1.1.1"
    assert request(line, peer=b"unix:").address == b"unix:"
    chain = b"X-Forwarded-For: 1.1.1.1, unix:"
    assert request(chain, trusted=local).address == b"1.1.1.1"
    assert request(chain).address == PEER


@pytest.mark.real
@pytest.mark.parametrize(
    "value",
    [
        b"Forwarded: " + b'"' * 30000,
        b"Forwarded: " + b'\\"' * 15000,
        b"Forwarded: " + b'for=1.1.1.1;a="' + b"\\" * 30000 + b'"',
        b"Forwarded: " + b'a="",' * 6000,
        b"Forwarded: " + b",a" * 15000,
        b"X-Forwarded-For: " + b"," * 30000,
        b"X-Forwarded-For: " + b"10.0.0.1," * 3000,
    ],
)
def test_no_header_takes_long(value: bytes) -> None:
    """Whatever a head holds; the time is that of the best of three."""

    def seconds() -> float:
        begin = time.process_time()
        request(value)
        return time.process_time() - begin

    assert min(seconds() for _ in range(3)) < 0.02


# On a connection.


def heads(play: Playbook, *lines: bytes) -> list[bytes]:
    """What the server gets about the client."""
    play.client_sends(b"\r\n".join((b"GET / HTTP/1.1", b"Host: app", *lines, b"", b"")))
    got = play.origin_gets()
    play.origin_sends(OK)
    assert play.client_gets().startswith(b"HTTP/1.1 200 ")
    return lines_of(got)


ALL = (
    b"X-Forwarded-For: 6.6.6.6, 1.1.1.1",
    b"X-Forwarded-Proto: https",
    b"X-Forwarded-Host: www",
    b"X-Real-IP: 1.1.1.1",
    b"Forwarded: for=6.6.6.6",
    b"X_Real_IP: 6.6.6.6",
    b"X_Forwarded_Proto: https",
)
#: What goes out for a client that is not trusted, at the playbook's address.
OWN = [
    b"X-Forwarded-For: 6.6.6.6, 1.1.1.1, 192.0.2.7",
    b"X-Forwarded-Proto: http",
    b"X-Forwarded-Host: app",
]


def test_what_goes_out_for_anybody() -> None:
    """slardar's own word, and nothing of the client's but the list that slardar extends."""
    play = Playbook()
    assert heads(play, *ALL) == OWN
    assert [record.client for record in play.records] == [b"192.0.2.7"]
    # Also where Connection names them.
    names = b"Connection: X-Forwarded-For, X-Forwarded-Proto, X-Real-IP, Forwarded"
    assert heads(play, names, *ALL) == OWN


def test_what_goes_out_for_a_trusted_peer() -> None:
    """Its word; the list is extended by its own address, not by the client's."""
    play = Playbook(trusted=Networks(["192.0.2.0/24"]))
    names = b"Connection: X-Forwarded-For, X-Forwarded-Proto, X-Real-IP, Forwarded"
    for lines in (ALL, (names, *ALL)):
        assert heads(play, *lines) == [
            b"Forwarded: for=6.6.6.6",
            b"X-Real-IP: 1.1.1.1",
            b"X-Forwarded-For: 6.6.6.6, 1.1.1.1, 192.0.2.7",
            b"X-Forwarded-Proto: https",
            b"X-Forwarded-Host: www",
        ]
    # Without a word of it, it is the client, and slardar's own word goes out.
    assert heads(play) == [b"X-Forwarded-For: 192.0.2.7", *OWN[1:]]
    assert heads(play, b"X-Forwarded-Proto: gopher", b"X-Forwarded-Host: a b")[1:] == OWN[1:]
    clients = [record.client for record in play.records]
    assert clients == [b"1.1.1.1", b"1.1.1.1", b"192.0.2.7", b"192.0.2.7"]
    assert [one.client for one in play.host.began] == [one.decode() for one in clients]


def test_other_networks_hold_from_the_next_request_on() -> None:
    """On a connection that is there, both ways."""
    play = Playbook()
    trusted = Networks(["192.0.2.7"])
    assert heads(play, *ALL) == OWN
    for networks in (trusted, Networks(), trusted):
        play.host.trusted = networks
        is_trusted = networks is trusted
        assert (heads(play, *ALL) != OWN) == is_trusted
        assert play.records[-1].client == (b"1.1.1.1" if is_trusted else b"192.0.2.7")


@pytest.mark.parametrize(
    ("peer", "node"),
    [
        (b"192.0.2.7", b"192.0.2.7"),
        (b"2001:db8::1", b'"[2001:db8::1]"'),
        (b"unix:", b"unknown"),
    ],
)
def test_forwarded_is_sent(peer: bytes, node: bytes) -> None:
    """IPv6 is quoted and in brackets; a unix socket has no address."""
    play = Playbook(sends_forwarded=True)
    play.connection.peer = peer
    assert heads(play)[0] == b"Forwarded: for=" + node + b";proto=http;host=app"
    assert heads(play, b"Forwarded: for=6.6.6.6")[0].count(b"for=") == 1


def test_forwarded_is_extended() -> None:
    """For a trusted peer; what would swallow slardar's element is left out."""
    play = Playbook(sends_forwarded=True, trusted=Networks(["192.0.2.7"]))
    own = b"for=192.0.2.7;proto=http;host=app"
    sent = b"X-Forwarded-Host: www"
    assert heads(play, b"Forwarded: for=1.1.1.1;proto=https", sent, b"forwarded:  for=2.2.2.2 ")[
        0
    ] == (b"Forwarded: for=1.1.1.1;proto=https, for=2.2.2.2, " + own)
    assert heads(play, b'Forwarded: for=", for=2.2.2.2')[0] == b"Forwarded: for=2.2.2.2, " + own
    assert heads(play, b'Forwarded: for=2.2.2.2, "')[0] == b"Forwarded: " + own
    assert heads(play, b"Forwarded:")[0] == b"Forwarded: " + own


def test_forwarded_has_hosts_in_quotes() -> None:
    """A port or an IPv6 address needs them; without a Host there is none."""
    play = Playbook(sends_forwarded=True)
    for host, written in (
        (b"app:8080", b';host="app:8080"'),
        (b"[::1]", b';host="[::1]"'),
        (b"App", b";host=App"),
    ):
        play.client_sends(b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
        assert lines_of(play.origin_gets())[0] == b"Forwarded: for=192.0.2.7;proto=http" + written
        play.origin_sends(OK)
    play.client_sends(b"GET / HTTP/1.0\r\n\r\n")
    assert lines_of(play.origin_gets())[0] == b"Forwarded: for=192.0.2.7;proto=http"


def test_headers_are_as_the_page_shows() -> None:
    """Whom the list on the page about HTTP names, and what slardar adds to ``Forwarded``."""
    texts = "".join(blocks(DOCS / "http.md", "text"))
    listed, peer = re.findall(r"^(X-Forwarded-For: .*?) +from (\S+)$", texts, re.MULTILINE)[0]
    (marks,) = re.findall(r"^ +\^ the client.*$", texts, re.MULTILINE)
    assert (
        request(listed.encode(), peer=peer.encode()).client
        == listed[marks.index("^") :].split(",")[0]
    )
    (shown,) = re.findall(r"^Forwarded: .*$", texts, re.MULTILINE)
    play = Playbook(sends_forwarded=True, trusted=TRUSTED)
    play.connection.peer = b"fd00::1"
    play.client_sends(
        b"GET / HTTP/1.1\r\nHost: www.example.com:8080\r\n"
        b"Forwarded: for=203.0.113.9;proto=https\r\n\r\n"
    )
    assert shown.encode() in lines_of(play.origin_gets())
