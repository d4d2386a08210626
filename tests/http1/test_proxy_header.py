"""PROXY protocol headers: read in pieces, and written; ``proxy-protocol`` knows what they mean."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from socket import SocketKind
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from proxyprotocol import ProxyProtocolIncompleteError
from proxyprotocol.result import ProxyResult, ProxyResultIPv4, ProxyResultIPv6, ProxyResultLocal
from proxyprotocol.tlv import ProxyProtocolTLV
from proxyprotocol.v1 import ProxyProtocolV1
from proxyprotocol.v2 import ProxyProtocolV2

from slardar.http1.proxy_header import (
    LOCAL,
    MAX_HEADER,
    BadHeader,
    Ends,
    HeaderReader,
    header_of,
)
from slardar.testing.playbook import Playbook

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
V4 = IPv4Address("192.0.2.7").packed + IPv4Address("198.51.100.1").packed + b"\x12\x34\x01\xbb"
V6 = IPv6Address("2001:db8::7").packed + IPv6Address("2001:db8::1").packed + b"\x12\x34\x01\xbb"
UNIX = b"/client".ljust(108, b"\0") + b"/server".ljust(108, b"\0")
FOUR = ("192.0.2.7", 0x1234, "198.51.100.1", 443)
SIX = ("2001:db8::7", 0x1234, "2001:db8::1", 443)
REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"

Told = tuple[str, int, str, int]

steady = settings(derandomize=True, deadline=None, database=None)


def v2(command: int, family: int, rest: bytes, length: int | None = None) -> bytes:
    """A header of version 2, which may tell another length than it has."""
    told = len(rest) if length is None else length
    return SIGNATURE + struct.pack("!BBH", command, family, told) + rest


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def told(reader: HeaderReader) -> Told | None:
    ends = reader.ends
    return None if ends is None else (ends.client, ends.client_port, ends.local, ends.local_port)


def read(*pieces: bytes) -> tuple[HeaderReader, bytes]:
    """A reader that was given these pieces, and what it has left of them."""
    reader, left = HeaderReader(), b""
    for piece in pieces:
        left += piece if reader.is_complete else piece[reader.feed(piece) :]
    return reader, left


#: What the oracle has written, with a checksum and another TLV.
CHECKED: bytes = ProxyProtocolV2().pack(
    ProxyResultIPv4(
        (IPv4Address("192.0.2.7"), 0x1234),
        (IPv4Address("198.51.100.1"), 443),
        protocol=SocketKind.SOCK_STREAM,
        tlv=ProxyProtocolTLV(init={0xEA: b"\x01vpce-1"}),
    )
)

GOOD: dict[str, tuple[bytes, Told | None]] = {
    "v1, IPv4": (b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n", FOUR),
    "v1, IPv6": (b"PROXY TCP6 2001:db8::7 2001:DB8:0::1 4660 443\r\n", SIX),
    "v1, the longest": (
        b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n",
        None,
    ),
    "v1, IPv4 as IPv6": (
        b"PROXY TCP6 ::ffff:192.0.2.7 ::ffff:198.51.100.1 4660 443\r\n",
        FOUR,
    ),
    "v1, ports at the ends": (
        b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
        ("0.0.0.0", 0, "255.255.255.255", 65535),
    ),
    "v1, unknown": (b"PROXY UNKNOWN\r\n", None),
    "v1, unknown with more": (b"PROXY UNKNOWN ::1 x 1\r\n", None),
    "v2, IPv4": (v2(0x21, 0x11, V4), FOUR),
    "v2, IPv6": (v2(0x21, 0x21, V6), SIX),
    "v2, IPv4 as IPv6": (
        v2(0x21, 0x21, b"\0" * 10 + b"\xff\xff" + V4[:4] + b"\0" * 10 + b"\xff\xff" + V4[4:]),
        FOUR,
    ),
    "v2, unix": (v2(0x21, 0x31, UNIX), None),
    "v2, unknown": (v2(0x21, 0x00, b""), None),
    "v2, unknown with more": (v2(0x21, 0x00, b"\xff" * 9), None),
    "v2, datagrams": (v2(0x21, 0x12, V4), None),
    "v2, local": (v2(0x20, 0x00, b""), None),
    "v2, local with addresses": (v2(0x20, 0x11, V4), None),
    "v2, local of no family": (v2(0x20, 0xFF, b"\xff" * 300), None),
    "v2, TLVs": (v2(0x21, 0x11, V4 + tlv(4, b"\0" * 40) + tlv(0x20, b"") + tlv(1, b"h2")), FOUR),
    "v2, TLVs behind unix": (v2(0x21, 0x31, UNIX + tlv(2, b"a.test")), None),
    "v2, the largest": (
        v2(0x21, 0x11, V4 + tlv(4, b"\0" * (MAX_HEADER - 16 - 12 - 3))),
        FOUR,
    ),
    "v2, a checksum": (CHECKED, FOUR),
}  # fmt: skip

BAD: dict[str, bytes] = {
    "a request": REQUEST,
    "a request that begins like one": b"PROPFIND / HTTP/1.1\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01",
    "blank lines": b"\r\n\r\nGET / HTTP/1.1\r\n\r\n",
    "small letters": b"proxy TCP4 192.0.2.7 198.51.100.1 1 2\r\n",
    "v1, no CR": b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2\n",
    "v1, too long": b"PROXY UNKNOWN " + b"f" * 92 + b"\r\n",
    "v1, endless": b"PROXY UNKNOWN " + b"f" * 200,
    "v1, empty": b"PROXY \r\n",
    "v1, another family": b"PROXY UDP4 192.0.2.7 198.51.100.1 1 2\r\n",
    "v1, another unknown": b"PROXY UNKNOWNS\r\n",
    "v1, the other family's addresses": b"PROXY TCP6 192.0.2.7 198.51.100.1 1 2\r\n",
    "v1, IPv6 for IPv4": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "v1, a leading zero": b"PROXY TCP4 192.0.2.07 198.51.100.1 1 2\r\n",
    "v1, a port with a zero": b"PROXY TCP4 192.0.2.7 198.51.100.1 01 2\r\n",
    "v1, a port with a sign": b"PROXY TCP4 192.0.2.7 198.51.100.1 +1 2\r\n",
    "v1, a port too large": b"PROXY TCP4 192.0.2.7 198.51.100.1 1 65536\r\n",
    "v1, no port": b"PROXY TCP4 192.0.2.7 198.51.100.1 1\r\n",
    "v1, one word more": b"PROXY TCP4 192.0.2.7 198.51.100.1 1 2 3\r\n",
    "v1, two spaces": b"PROXY TCP4  192.0.2.7 198.51.100.1 1 2\r\n",
    "v1, a scope": b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    "v1, no ASCII": "PROXY TCP4 192.0.2.7 198.51.100.1 \u00b2 2\r\n".encode("latin-1"),
    "v2, version 1": v2(0x11, 0x11, V4),
    "v2, another command": v2(0x22, 0x11, V4),
    "v2, another family": v2(0x21, 0x41, V4),
    "v2, another transport": v2(0x21, 0x13, V4),
    "v2, no room for IPv4": v2(0x21, 0x11, V4[:-1]),
    "v2, no room for IPv6": v2(0x21, 0x21, V6[:-1]),
    "v2, no room for unix": v2(0x21, 0x31, UNIX[:-1]),
    "v2, too large": v2(0x21, 0x11, b"", MAX_HEADER - 15),
    "v2, half a TLV": v2(0x21, 0x11, V4 + b"\x04\x00"),
    "v2, a TLV beyond the end": v2(0x21, 0x11, V4 + b"\x04\x00\x02x"),
    "v2, a wrong checksum": v2(0x21, 0x11, V4 + tlv(3, b"\0\0\0\1")),
    "v2, a short checksum": v2(0x21, 0x11, V4 + tlv(3, b"\0\0\0")),
    "v2, two checksums": CHECKED[:14] + struct.pack("!H", len(CHECKED) - 16 + 7) + CHECKED[16:]
    + tlv(3, b"\0\0\0\0"),
}  # fmt: skip


def test_checksum_of_the_oracle_is_there() -> None:
    """Or its test would check nothing; any other byte makes it wrong."""
    assert b"\x03\x00\x04" in CHECKED
    for place in (16, len(CHECKED) - 1):
        wrong = bytearray(CHECKED)
        wrong[place] ^= 1
        with pytest.raises(BadHeader):
            read(bytes(wrong))


@pytest.mark.parametrize("name", GOOD)
def test_header_is_read_wherever_it_is_cut(name: str) -> None:
    """What follows is not touched, in the same piece or in another one."""
    header, wanted = GOOD[name]
    some = [*range(min(len(header), 300)), len(header)]
    for cut in some:
        data = header + REQUEST
        reader, left = read(data[:cut], data[cut:])
        assert (told(reader), left) == (wanted, REQUEST)
    reader, left = read(*(bytes([byte]) for byte in header))
    assert reader.is_complete
    assert (told(reader), left) == (wanted, b"")


@pytest.mark.parametrize("name", GOOD)
def test_header_is_not_complete_before_its_last_byte(name: str) -> None:
    """All bytes that have come so far belong to it."""
    header, _ = GOOD[name]
    reader = HeaderReader()
    assert reader.feed(header[:-1]) == len(header) - 1 == reader.size
    assert not reader.is_complete
    assert reader.feed(header[-1:] + REQUEST) == 1
    assert reader.is_complete


@pytest.mark.parametrize("name", BAD)
def test_what_is_no_header_is_refused_wherever_it_is_cut(name: str) -> None:
    """With a reason that repeats nothing of it."""
    data = BAD[name]
    for pieces in (
        *([data[:cut], data[cut:]] for cut in range(min(len(data), 130))),
        [bytes([byte]) for byte in data],
    ):
        with pytest.raises(BadHeader) as caught:
            read(*pieces)
        assert str(caught.value).isascii()
        assert "PROXY protocol" in str(caught.value)


@pytest.mark.parametrize("data", [b"G", b"PRO" + b"P", b"\r\n\r\n\r", SIGNATURE + b"\x13\x11\0\0"])
def test_what_cannot_become_a_header_is_refused_at_once(data: bytes) -> None:
    """Nothing is waited for."""
    with pytest.raises(BadHeader):
        read(data)


def meaning(result: ProxyResult) -> Told | None:
    """What the oracle has read; IPv4 as IPv6 is IPv4."""
    if not isinstance(result, (ProxyResultIPv4, ProxyResultIPv6)) or (
        result.protocol is not None and result.protocol.name != "SOCK_STREAM"
    ):
        return None
    found: list[Any] = []
    for address, port in (result.source, result.dest):
        mapped = getattr(address, "ipv4_mapped", None)
        found += [str(mapped or address), port]
    return (found[0], found[1], found[2], found[3])


def oracle(header: bytes) -> Told | None:
    """What ``proxy-protocol`` reads."""
    parser: Any = ProxyProtocolV1() if header.startswith(b"PROXY") else ProxyProtocolV2()
    return meaning(parser.unpack(header))


@pytest.mark.parametrize("name", [name for name in GOOD if name != "v2, unix"])
def test_header_means_what_the_oracle_reads(name: str) -> None:
    """Both versions, with and without TLVs."""
    header, wanted = GOOD[name]
    if name == "v2, local of no family":
        # The oracle reads TLVs there.
        return
    assert oracle(header) == wanted


addresses = st.ip_addresses()
ports = st.integers(0, 65535)
versions = st.sampled_from((1, 2))


@steady
@given(st.tuples(addresses, ports, addresses, ports), versions, st.data())
def test_written_header_is_read_again(
    ends: tuple[Any, int, Any, int], version: int, data: st.DataObject
) -> None:
    """By slardar, in two pieces, and by the oracle; whatever families the ends have."""
    client, client_port, local, local_port = ends
    written = header_of(
        version, Ends(str(client), client_port, str(local), local_port), str(client).encode()
    )
    cut = data.draw(st.integers(0, len(written)))
    reader, left = read(written[:cut], written[cut:] + REQUEST)
    wanted = tuple(str(getattr(end, "ipv4_mapped", None) or end) for end in (client, local))
    assert told(reader) == (wanted[0], client_port, wanted[1], local_port)
    assert left == REQUEST
    assert oracle(written) == told(reader)


@steady
@given(
    st.one_of(
        st.binary(max_size=300),
        st.binary(max_size=300).map(SIGNATURE.__add__),
        st.binary(max_size=60).map(lambda rest: v2(0x21, 0x11, rest)),
        st.text("0123456789. :TCP46\r\n", max_size=60).map(lambda text: f"PROXY {text}".encode()),
    ),
    st.lists(st.integers(0, 300)),
)
def test_any_bytes_are_a_header_a_beginning_or_refused(data: bytes, cuts: list[int]) -> None:
    """The same wherever they are cut."""

    def outcome(*pieces: bytes) -> Any:
        try:
            reader, left = read(*pieces)
        except BadHeader:
            return "refused"
        return (told(reader), left, reader.is_complete)

    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    pieces = [data[start:end] for start, end in pairwise(places)]
    whole = outcome(data)
    assert outcome(*pieces) == whole
    if whole != "refused" and whole[2]:
        header = data[: len(data) - len(whole[1])]
        if header[12:13] != b"\x20":
            try:
                assert oracle(header) == whole[0]
            except ProxyProtocolIncompleteError:
                pytest.fail("the oracle wants more")


def test_checksum_is_that_of_the_oracle() -> None:
    """For headers of several sizes."""
    for size in (0, 1, 7, 200):
        plain = ProxyProtocolV2().unpack(v2(0x21, 0x21, V6 + tlv(4, bytes(range(size)))))
        reader, _ = read(ProxyProtocolV2().pack(plain))
        assert told(reader) == SIX


# What is written.


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        (1, b"PROXY TCP4 192.0.2.7 198.51.100.1 4660 443\r\n"),
        (2, v2(0x21, 0x11, V4)),
    ],
)
def test_header_has_both_ends(version: int, wanted: bytes) -> None:
    """As they are."""
    assert header_of(version, Ends(*FOUR), b"192.0.2.7") == wanted


@pytest.mark.parametrize(
    ("ends", "address", "wanted"),
    [
        # The address comes from another proxy's header, which tells no port.
        (Ends(*FOUR), b"203.0.113.9", b"TCP4 203.0.113.9 198.51.100.1 0 443"),
        (Ends(*FOUR), b"2001:db8::7", b"TCP6 2001:db8::7 ::ffff:198.51.100.1 0 443"),
        # A socket of IPv6 has a client of IPv4.
        (
            Ends("::ffff:192.0.2.7", 1, "::ffff:198.51.100.1", 2),
            b"192.0.2.7",
            b"TCP4 192.0.2.7 198.51.100.1 1 2",
        ),
        (Ends("fe80::1%eth0", 1, "fe80::2%eth0", 2), b"fe80::1%eth0", b"TCP6 fe80::1 fe80::2 1 2"),
        # Where the client has connected to is not known.
        (Ends(), b"192.0.2.7", b"TCP4 192.0.2.7 0.0.0.0 0 0"),
        (Ends(), b"2001:db8::7", b"TCP6 2001:db8::7 :: 0 0"),
        (Ends(), b"unix:", b"UNKNOWN"),
        (Ends(*FOUR), b"_hidden", b"UNKNOWN"),
    ],
)
def test_address_counts_before_the_ends(ends: Ends, address: bytes, wanted: bytes) -> None:
    """It is the client's, whoever has told it; the same in both versions."""
    assert header_of(1, ends, address) == b"PROXY " + wanted + b"\r\n"
    assert oracle(header_of(2, ends, address)) == oracle(header_of(1, ends, address))


@pytest.mark.parametrize("version", [1, 2])
def test_own_connections_tell_no_client(version: int) -> None:
    """Of version 2 the header says LOCAL, which version 1 does not know."""
    reader, left = read(LOCAL[version] + b"x")
    assert (told(reader), left) == (None, b"x")
    assert isinstance(ProxyProtocolV2().unpack(LOCAL[2]), ProxyResultLocal)
    assert LOCAL[0] == b""


def test_server_is_told_the_client_of_its_request(play: Playbook) -> None:
    """With the ends of the client's connection, as far as they are known."""
    play.client_sends(REQUEST)
    attempt = play.origins[0].protocol
    address = play.connection.peer
    assert attempt.proxy_header(1) == header_of(1, Ends(), address)
    play.client.ends = Ends(address.decode(), 4660, "198.51.100.1", 443)
    assert attempt.proxy_header(2) == header_of(2, play.client.ends, address)
    assert b" 4660 443\r\n" in attempt.proxy_header(1)
    play.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
