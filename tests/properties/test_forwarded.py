"""Whatever a client writes of itself: who is believed, and what goes out."""

from __future__ import annotations

import ipaddress
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from slardar.http1.forwarded import came_from, extend_forwarded
from slardar.http1.request import Request, parse_request
from slardar.http1.writer import RequestIds, request_head
from slardar.model.networks import Networks, read_address

steady = settings(derandomize=True, deadline=None, max_examples=150, database=None)

#: Nobody else is trusted.
TRUSTED = Networks(["10.0.0.0/8", "fd00::/16"])
PEER = b"10.0.0.1"

#: What resembles a list of hops, so that it is read far into.
_pieces = st.sampled_from(
    [b",", b", ", b'"', b"\\", b";", b"=", b"for=", b"proto=https", b"host=evil", b"[", b"]", b":",
     b"%eth0", b"unknown", b"_x", b"unix:", b"10.0.0.2", b"6.6.6.6", b"fd00::1", b"::ffff:10.0.0.3",
     b"::1", b":80", b" ", b"\t", b"\xff", b"/8"]
)  # fmt: skip
_written = st.lists(_pieces, max_size=12).map(b"".join)
_untrusted: Any = st.ip_addresses().filter(
    lambda one: not TRUSTED.have(read_address(str(one).encode())) and "%" not in str(one)
)
_trusted = st.one_of(st.ip_addresses(network="10.0.0.0/8"), st.ip_addresses(network="fd00::/16"))
_ports = st.sampled_from([b"", b":80"])


def request(peer: bytes, *lines: bytes) -> Request:
    """A request from ``peer``."""
    made = parse_request(b"\r\n".join((b"GET / HTTP/1.1", b"Host: app", *lines, b"", b"")))
    came_from(made, peer, TRUSTED)
    return made


def hop(address: Any, port: bytes) -> bytes:
    """A hop as proxies write it."""
    text = str(address).encode()
    return b"[" + text + b"]" + port if address.version == 6 and port else text + port


def element(address: Any, port: bytes) -> bytes:
    """The same in Forwarded."""
    text = str(address).encode()
    return b'for="%b"' % ((b"[" + text + b"]" if address.version == 6 else text) + port)


def usual(address: Any) -> bytes:
    """The address as slardar shows it."""
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address).encode()


@steady
@given(_untrusted, st.lists(st.tuples(st.integers(0, 6), _written), max_size=6))
def test_nobody_else_is_believed(peer: Any, told: list[tuple[int, bytes]]) -> None:
    """From an untrusted peer the address is the peer's, and its own word does not go out."""
    names = (b"X-Forwarded-For", b"X-Forwarded-Proto", b"X-Forwarded-Host", b"X-Real-IP",
             b"Forwarded", b"X_Real_IP", b"x_forwarded_host")  # fmt: skip
    text = usual(peer)
    found = request(text, *(names[at] + b": " + value for at, value in told))
    assert found.address == found.peer == text
    got = request_head(found, RequestIds(b"x"), "x").split(b"\r\n")
    assert got[:2] == [b"GET / HTTP/1.1", b"Host: app"]
    assert got[2].startswith(b"X-Forwarded-For: ")
    assert got[2].endswith(text)
    assert got[3:5] == [b"X-Forwarded-Proto: http", b"X-Forwarded-Host: app"]
    assert len(got) == 8


@steady
@given(
    _written,
    st.tuples(_untrusted, _ports),
    st.lists(st.tuples(_trusted, _ports), max_size=5),
    st.booleans(),
)
@example(b'"', (ipaddress.ip_address("192.0.2.1"), b""), [], True)
@example(b"for=6.6.6.6;x=\\", (ipaddress.ip_address("::ffff:1.2.3.4"), b""), [], True)
def test_first_untrusted_from_the_right(
    written: bytes, client: tuple[Any, bytes], hops: list[tuple[Any, bytes]], by_rfc: bool
) -> None:
    """With any number of trusted hops, whatever the client has written before."""
    write = element if by_rfc else hop
    value = b", ".join((written, write(*client), *(write(*one) for one in hops)))
    name = b"Forwarded: " if by_rfc else b"X-Forwarded-For: "
    assert request(PEER, name + value).address == usual(client[0])


@steady
@given(_written, st.sampled_from([PEER, b"192.0.2.1", b"2001:db8::1"]))
def test_forwarded_that_goes_out_ends_with_the_peer(written: bytes, peer: bytes) -> None:
    """A server that reads it from either end finds slardar's element whole."""
    found = request(peer, b"Forwarded: " + written)
    extend_forwarded(found)
    (line,) = [line for line in found.lines if line[:10] == b"Forwarded:"]
    node = b'"[' + peer + b']"' if b":" in peer else peer
    assert line.endswith(b"for=" + node + b";proto=http;host=app")
    if peer != PEER:
        assert line.count(b"for=") == 1
    # Read from the left, quotes are in pairs, so that none is open where it begins.
    before = line[: line.rindex(b"for=" + node)]
    plain = before.replace(b"\\\\", b"").replace(b'\\"', b"")
    assert plain.count(b'"') % 2 == 0
