"""Addresses and networks."""

from __future__ import annotations

import re

import pytest

from slardar.model.networks import Networks, peer_address, read_address


@pytest.mark.parametrize(
    ("text", "usual"),
    [
        (b"192.0.2.1", b"192.0.2.1"),
        (b"2001:DB8:0::1", b"2001:db8::1"),
        (b"::ffff:192.0.2.1", b"192.0.2.1"),
        (b"::ffff:c000:201", b"192.0.2.1"),
        (b"unix:", b"unix:"),
    ],
)
def test_addresses(text: bytes, usual: bytes) -> None:
    """Each has one form, whatever its spelling."""
    found = read_address(text)
    assert found is not None
    assert found.text == usual


@pytest.mark.parametrize(
    "text",
    [b"", b"1.2.3", b"01.2.3.4", b"1.2.3.4:5", b"1.2.3.4/8", b"fe80::1%eth0", b"::ffff:1.2.3.4%1",
     b"a.test", b"[::1]", b"1" * 1000, b"\xff", b" 1.2.3.4", b"unix:/a"],
)  # fmt: skip
def test_what_is_no_address(text: bytes) -> None:
    """Zones are refused: they mean something on one machine only."""
    assert read_address(text) is None


@pytest.mark.parametrize(
    ("networks", "inside", "outside"),
    [
        (["10.0.0.0/8"], ["10.0.0.0", "10.255.255.255", "::ffff:10.1.2.3"], ["11.0.0.0"]),
        (["10.0.0.0/8"], [], ["::a00:1", "::10.0.0.1"]),
        (["192.0.2.7"], ["192.0.2.7", "::ffff:c000:207"], ["192.0.2.6", "192.0.2.8"]),
        (["fd00::/8"], ["fd00::1", "fdff:ffff::"], ["fe00::1", "253.0.0.1"]),
        (["2001:db8::1"], ["2001:db8:0:0::1"], ["2001:db8::2"]),
        (["::ffff:10.0.0.0/104"], ["10.1.2.3", "::ffff:10.9.9.9"], ["11.0.0.1"]),
        (["0.0.0.0/0"], ["1.2.3.4", "::ffff:1.2.3.4"], ["::1", "unix:"]),
        (["::/0"], ["::1", "2001:db8::1"], ["1.2.3.4", "::ffff:1.2.3.4", "unix:"]),
        (["unix:"], ["unix:"], ["127.0.0.1", "::1", "unix:/a"]),
        (["10.0.0.0/8", "10.0.0.0/24", "172.16.0.1", "unix:"],
         ["10.9.9.9", "172.16.0.1", "unix:"], ["172.16.0.2"]),
        ([], [], ["127.0.0.1", "::1", "unix:", ""]),
    ],
)  # fmt: skip
def test_networks(networks: list[str], inside: list[str], outside: list[str]) -> None:
    """An IPv4 address within IPv6 is the IPv4 address, in networks, too."""
    found = Networks(networks)
    assert [text for text in inside if not found.have(read_address(text.encode()))] == []
    assert [text for text in outside if found.have(read_address(text.encode()))] == []


@pytest.mark.parametrize(
    "text",
    ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/255.0.0.0", "10.0.0.0/", "10.0.0.0/+8", "10/8",
     "fe80::1%1", "fe80::%1/64", "a.test", "unix:/a", "*", "10.0.0.0/\u0668"],
)  # fmt: skip
def test_what_is_no_network(text: str) -> None:
    """Bits beyond the length are a mistake: which of the two was meant?"""
    with pytest.raises(ValueError, match=re.escape(text) or "does not"):
        Networks([text])


def test_peers() -> None:
    """An IPv4 client of an IPv6 socket is shown as IPv4."""
    assert peer_address("::ffff:192.0.2.1") == b"192.0.2.1"
    assert peer_address("::1") == b"::1"
