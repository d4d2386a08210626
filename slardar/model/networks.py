"""Addresses and networks: how they are read, and which network an address is in.

An IPv4 address that is mapped into IPv6 (``::ffff:192.0.2.1``) is the IPv4 address.  An
address with a zone (``fe80::1%eth0``) is none: what it means depends on the machine.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

__all__ = ["UNIX", "Address", "Networks", "peer_address", "read_address"]

#: What stands for the address of a client on a unix socket, as in nginx.
UNIX: Final = b"unix:"
#: The longest text of an address without a zone is that of a mapped one.
_LONGEST: Final = 45


class Address:
    """One address; ``text`` is its usual form."""

    __slots__ = ("bits", "number", "text")

    def __init__(self, text: bytes, bits: int, number: int) -> None:
        self.text: Final = text
        #: 32, 128, or 0 for :data:`UNIX`.
        self.bits: Final = bits
        self.number: Final = number


@lru_cache(maxsize=4096)
def read_address(text: bytes) -> Address | None:
    """The address that ``text`` is, without a port; ``None`` if it is none.

    Results are cached: the same proxies are looked up for thousands of requests.
    """
    if text == UNIX:
        return Address(UNIX, 0, 0)
    if len(text) > _LONGEST or b"%" in text:
        return None
    try:
        found = ipaddress.ip_address(text.decode("ascii"))
    except ValueError:
        return None
    if isinstance(found, ipaddress.IPv6Address):
        mapped = found.ipv4_mapped
        if mapped is None:
            return Address(str(found).encode("ascii"), 128, int(found))
        found = mapped
    return Address(str(found).encode("ascii"), 32, int(found))


def peer_address(host: str) -> bytes:
    """The address of a connection's other end, as headers show it: an IPv4 client of an IPv6
    socket as IPv4."""
    if host[:7] == "::ffff:" and "." in host:
        host = host[7:]
    return host.encode("ascii")


class Networks:
    """Some networks.

    ``texts`` are networks such as ``10.0.0.0/8``, addresses, and ``unix:`` for all clients on
    unix sockets.  Raises ValueError for a text that is none of them, or that has bits beyond the
    length of its network.  A look-up takes one step for each length that there is.
    """

    __slots__ = ("_has_unix", "_prefixes")

    def __init__(self, texts: Iterable[str] = ()) -> None:
        found: dict[tuple[int, int], set[int]] = {}
        self._has_unix: bool = False
        for text in texts:
            if text == "unix:":
                self._has_unix = True
                continue
            bits, shift, prefix = _read_network(text)
            found.setdefault((bits, shift), set()).add(prefix)
        #: The first bits of the networks, by the bits of their addresses and the number of the
        #: bits that are left out.
        self._prefixes: list[tuple[int, int, frozenset[int]]] = [
            (bits, shift, frozenset(prefixes)) for (bits, shift), prefixes in found.items()
        ]

    @property
    def is_empty(self) -> bool:
        """Whether there are none."""
        return not (self._prefixes or self._has_unix)

    def have(self, address: Address | None) -> bool:
        """Whether one of them has ``address``; none has ``None``."""
        if address is None:
            return False
        if not address.bits:
            return self._has_unix
        for bits, shift, prefixes in self._prefixes:
            if bits == address.bits and address.number >> shift in prefixes:
                return True
        return False


def _read_network(text: str) -> tuple[int, int, int]:
    """Bits of an address, bits beyond the network's length, and the network's own bits."""
    length = text.partition("/")[2]
    if "%" in text or not (length.isascii() and (length.isdecimal() or "/" not in text)):
        raise ValueError(text)
    network = ipaddress.ip_network(text)
    bits, number = network.max_prefixlen, int(network.network_address)
    shift = bits - network.prefixlen
    if bits == 128 and shift <= 32 and number >> 32 == 0xFFFF:
        return 32, shift, (number & 0xFFFFFFFF) >> shift
    return bits, shift, number >> shift
