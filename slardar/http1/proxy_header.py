"""PROXY protocol headers, versions 1 and 2: read and written, without a socket.

A proxy sends such a header as the first bytes of a connection.  It tells whose connection the
proxy passes on: the address and port of the client, and those that the client has connected
to.  The format is HAProxy's ``doc/proxy-protocol.txt``::

    PROXY TCP4 192.0.2.7 198.51.100.1 56324 443 CR LF                          version 1
    signature (12 bytes), version and command, family, length, addresses, TLVs  version 2

Nothing here blocks.
"""

from __future__ import annotations

import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from slardar.model.names import usual_address

__all__ = ["LOCAL", "MAX_HEADER", "BadHeader", "Ends", "HeaderReader", "header_of"]

#: The most bytes of a header, with all its TLVs.  HAProxy takes 16 KiB at most (its buffer),
#: nginx 4 KiB, and AWS and Google send some hundred.
MAX_HEADER: Final = 4096
#: The longest line of version 1, with its CR LF.
_MAX_LINE: Final = 107
_NAME: Final = b"PROXY "
_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
#: Of version 2: the bytes before the addresses, and how the rest of them is laid out.
_FIXED: Final = 16
_AFTER_SIGNATURE: Final = struct.Struct("!BBH")

# The commands, with the version.
_LOCAL: Final = 0x20
_PROXY: Final = 0x21
# The families with their transports that have another meaning than "unknown", and the bytes
# of each family's addresses.
_TCP4: Final = 0x11
_TCP6: Final = 0x21
_SIZES: Final = (0, 12, 36, 216)
_CRC32C: Final = 3

#: What is sent at the beginning of a connection that is no client's, such as a heartbeat's, by
#: version; of version 0 nothing.
LOCAL: Final = (b"", b"PROXY UNKNOWN\r\n", _SIGNATURE + b"\x20\x00\x00\x00")


class BadHeader(Exception):
    """The bytes are no PROXY protocol header.  The text says why, and repeats none of them."""


class Ends:
    """The two ends of a client's connection: addresses as texts, empty for a unix socket, and
    ports."""

    __slots__ = ("client", "client_port", "local", "local_port")

    def __init__(
        self, client: str = "", client_port: int = 0, local: str = "", local_port: int = 0
    ) -> None:
        self.client: str = client
        self.client_port: int = client_port
        #: Where the client has connected to.
        self.local: str = local
        self.local_port: int = local_port

    def __repr__(self) -> str:
        return f"<Ends {self.client} {self.client_port} {self.local} {self.local_port}>"


# Reading.


class HeaderReader:
    """Reads one header, in whatever pieces it comes.

    Once ``is_complete``, ``ends`` has what the header tells; ``None`` where that is no address
    of a client: then the addresses of the connection itself hold.  That is so for LOCAL (the
    proxy's own connection, such as a heartbeat) and UNKNOWN.  It is so for unix sockets and
    datagrams, too, as in HAProxy and nginx.
    """

    __slots__ = ("_held", "ends", "is_complete")

    def __init__(self) -> None:
        self._held = bytearray()
        self.ends: Ends | None = None
        self.is_complete: bool = False

    @property
    def size(self) -> int:
        """How many bytes of the header have come."""
        return len(self._held)

    def feed(self, data: bytes) -> int:
        """Read the next bytes; answers how many of them belong to the header.

        Those behind it are the client's own.  Raises BadHeader as soon as it is clear that
        this is no header; the reader is of no use then.
        """
        held = self._held
        before = len(held)
        held += data
        if held.startswith(_NAME):
            size = self._line_end()
        elif held.startswith(_SIGNATURE):
            size = self._binary_end()
        elif _NAME.startswith(held) or _SIGNATURE.startswith(held):
            size = 0
        else:
            raise BadHeader("the connection does not begin with a PROXY protocol header")
        if not size:
            return len(data)
        del held[size:]
        self.ends = _read_binary(bytes(held)) if held[0] == _SIGNATURE[0] else _read_line(held)
        self.is_complete = True
        return size - before

    def _line_end(self) -> int:
        """How long the line of version 1 is; 0 while its end has not come."""
        end = self._held.find(b"\n", 0, _MAX_LINE) + 1
        if not end and len(self._held) >= _MAX_LINE:
            raise BadHeader("the line of the PROXY protocol header is too long")
        return end

    def _binary_end(self) -> int:
        """How long the header of version 2 is; 0 while its end has not come."""
        held = self._held
        if len(held) < _FIXED:
            return 0
        command, family, length = _AFTER_SIGNATURE.unpack_from(held, len(_SIGNATURE))
        if command not in (_LOCAL, _PROXY):
            raise BadHeader("the PROXY protocol header has an unknown version or command")
        # LOCAL: whatever else there is has no meaning.
        if command == _PROXY and (family >> 4 > 3 or family & 15 > 2):
            raise BadHeader("the PROXY protocol header has an unknown family or transport")
        size = _FIXED + int(length)
        if size > MAX_HEADER:
            raise BadHeader("the PROXY protocol header is too large")
        return size if len(held) >= size else 0


def _read_line(line: bytes | bytearray) -> Ends | None:
    """What a whole line of version 1 tells."""
    if not line.endswith(b"\r\n"):
        raise _malformed()
    words = line[:-2].decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return None
    if len(words) != 6:
        raise _malformed()
    _, family, client, local, client_port, local_port = words
    kind: type[IPv4Address] | type[IPv6Address]
    if family == "TCP4":
        kind = IPv4Address
    elif family == "TCP6":
        kind = IPv6Address
    else:
        raise _malformed()
    if "%" in client or "%" in local:
        raise _malformed()
    try:
        return _ends(kind(client), _port(client_port), kind(local), _port(local_port))
    except ValueError:
        raise _malformed() from None


def _malformed() -> BadHeader:
    return BadHeader("the line of the PROXY protocol header is malformed")


def _port(text: str) -> int:
    port = int(text)
    if str(port) != text or not 0 <= port <= 65535:
        raise ValueError(text)
    return port


def _read_binary(header: bytes) -> Ends | None:
    """What a whole header of version 2 tells."""
    command, family, length = _AFTER_SIGNATURE.unpack_from(header, len(_SIGNATURE))
    if command == _LOCAL or not family >> 4:
        return None
    size = _SIZES[family >> 4]
    if length < size:
        raise BadHeader("the PROXY protocol header is too short for its addresses")
    _check_tlvs(header, _FIXED + size)
    if family == _TCP4:
        kind: type[IPv4Address] | type[IPv6Address] = IPv4Address
        width = 4
    elif family == _TCP6:
        kind, width = IPv6Address, 16
    else:
        return None
    middle, end = _FIXED + width, _FIXED + 2 * width
    client_port, local_port = struct.unpack_from("!HH", header, end)
    client, local = kind(header[_FIXED:middle]), kind(header[middle:end])
    return _ends(client, client_port, local, local_port)


def _ends(
    client: IPv4Address | IPv6Address,
    client_port: int,
    local: IPv4Address | IPv6Address,
    local_port: int,
) -> Ends:
    return Ends(str(_unmapped(client)), client_port, str(_unmapped(local)), local_port)


def _check_tlvs(header: bytes, start: int) -> None:
    """Check that the TLVs fill the rest of the header, and their checksum if there is one."""
    is_checked = False
    while start < len(header):
        if start + 3 > len(header):
            raise BadHeader("the PROXY protocol header ends within a TLV")
        kind, length = struct.unpack_from("!BH", header, start)
        start += 3
        if start + length > len(header):
            raise BadHeader("the PROXY protocol header ends within a TLV")
        if kind == _CRC32C:
            if is_checked or length != 4:
                raise BadHeader("the PROXY protocol header has a malformed checksum")
            is_checked = True
            told = int.from_bytes(header[start : start + 4], "big")
            # The checksum counts as zeros in its own sum.
            if told != _crc32c(header[:start] + bytes(4) + header[start + 4 :]):
                raise BadHeader("the PROXY protocol header has a wrong checksum")
        start += length


def _crc32c_table() -> tuple[int, ...]:
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
        table.append(value)
    return tuple(table)


_TABLE: Final = _crc32c_table()


def _crc32c(data: bytes) -> int:
    """The CRC-32C of RFC 4960, appendix B."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _TABLE[(value ^ byte) & 255]
    return value ^ 0xFFFFFFFF


# Writing.


def header_of(version: int, ends: Ends, address: bytes) -> bytes:
    """The header for a request of the client ``address`` that came over a connection with
    these ends.

    ``address`` is not the one of ``ends`` where another proxy has told it in
    ``X-Forwarded-For``: its port is not known then, and 0 is written.  The header says
    "unknown" for a client that has no IP address.
    """
    return _written(version, address, ends.client, ends.client_port, ends.local, ends.local_port)


# A connection that is kept alive needs its header again for each of its requests.
@lru_cache(maxsize=1024)
def _written(
    version: int, address: bytes, client: str, client_port: int, local: str, local_port: int
) -> bytes:
    source = _ip(address.decode("latin-1"))
    if source is None:
        return LOCAL[1] if version == 1 else _SIGNATURE + b"\x21\x00\x00\x00"
    port = client_port if source == _ip(client) else 0
    target = _ip(local)
    if target is None:
        target, local_port = type(source)(0), 0
    if source.version != target.version:
        source, target = _mapped(source), _mapped(target)
    if version == 1:
        return b"PROXY TCP%d %b %b %d %d\r\n" % (
            source.version,
            usual_address(str(source)).encode("ascii"),
            usual_address(str(target)).encode("ascii"),
            port,
            local_port,
        )
    family = _TCP4 if source.version == 4 else _TCP6
    addresses = source.packed + target.packed + struct.pack("!HH", port, local_port)
    return _SIGNATURE + _AFTER_SIGNATURE.pack(_PROXY, family, len(addresses)) + addresses


def _ip(text: str) -> IPv4Address | IPv6Address | None:
    """The address that a text is; ``None`` if it is none."""
    try:
        # Without the scope of a link-local one.
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return _unmapped(address)


def _unmapped(address: IPv4Address | IPv6Address) -> IPv4Address | IPv6Address:
    """The address of an IPv4 client on an IPv6 socket as IPv4, as listeners show it."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def _mapped(address: IPv4Address | IPv6Address) -> IPv6Address:
    if isinstance(address, IPv6Address):
        return address
    return IPv6Address(b"\0" * 10 + b"\xff\xff" + address.packed)
