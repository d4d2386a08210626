"""Whom a request comes from: what its headers say of that, and whether it is believed.

Whoever is connected (the *peer*) may be a proxy that tells for whom it asks: in
``X-Forwarded-For``, ``-Proto``, ``-Host``, ``X-Real-IP``, or ``Forwarded`` (RFC 7239).
Anybody can write these headers, so they are believed only from a peer in one of the trusted
networks.  Each proxy adds the address of its own peer at the end of the list.  So the list is
read from its end: the client is the first one that is not trusted itself.  What stands before
that one is what the client wrote.

``X-Forwarded-For`` wins over ``Forwarded``: many proxies extend the first header and pass a
client's second one unchanged.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from slardar.http1.heads import BadMessage
from slardar.http1.request import Request, normal_host
from slardar.model.networks import UNIX, Address, Networks, read_address

__all__ = ["came_from", "extend_forwarded", "read_hop", "settle"]

#: Hops that are looked at, at most; what is before them counts as garbage.
MAX_HOPS: Final = 64
#: Bytes of one hop, and of one element of ``Forwarded``, at most.
_MAX_HOP: Final = 64
_MAX_ELEMENT: Final = 1024

_PORT: Final = rb"(?::([0-9]{1,5}|_[A-Za-z0-9._-]+))?"
_WITH_PORT: Final = re.compile(rb"(?:([0-9.]+)|\[([0-9A-Fa-f:.]+)\])" + _PORT)
# A pair of Forwarded and what separates it from the next one (RFC 7239 4).  Addresses are
# often sent without the quotes that ":" and "[" need, and pairs with blanks around ";".
_PAIR: Final = re.compile(
    rb"[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)="
    rb"(?:([!#$%&'*+.^_`|~0-9A-Za-z:\[\]-]+)|\"((?:[^\"\\]|\\.)*)\"))?[ \t]*(;|\Z)"
)
_ESCAPED: Final = re.compile(rb"\\(.)")
_TOKEN: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


@lru_cache(maxsize=4096)
def read_hop(text: bytes) -> Address | None:
    """The address of one hop: an address with or without a port, IPv6 in brackets or without.

    ``None`` for everything else, also for ``unknown`` and for the ``_names`` of RFC 7239 6.
    """
    if len(text) > _MAX_HOP:
        return None
    found = _WITH_PORT.fullmatch(text)
    if found is None:
        return read_address(text)
    v4, v6, port = found.groups()
    if port is not None and port[0] != 95 and int(port) > 65535:  # "_"
        return None
    address = read_address(v6 if v4 is None else v4)
    # "[1.2.3.4]" is no address.
    return None if address is None or (v6 is not None and b":" not in v6) else address


def came_from(request: Request, peer: bytes, trusted: Networks) -> None:
    """Note that ``request`` has come from the address ``peer``, and settle whom it is for."""
    request.peer = request.address = peer
    if request.told is not None:
        settle(request, trusted if trusted.have(read_address(peer)) else None)


def settle(request: Request, trusted: Networks | None) -> None:
    """Keep what ``request`` tells of its client as far as it is believed, and forget the rest.

    ``trusted`` are the networks that are believed, ``None`` if the peer is in none of them.
    """
    told = request.told
    if told is None:
        return
    told.trusted = trusted
    forwarded, real_ip = told.forwarded, told.real_ip
    told.forwarded = told.real_ip = None
    if trusted is None:
        request.forwarded_proto = request.forwarded_host = None
        return
    proto, host = request.forwarded_proto, request.forwarded_host
    address = b""
    if request.forwarded_for is not None:
        address = _first_untrusted(request.forwarded_for, trusted)
    elif forwarded is not None:
        address, its_proto, its_host = _first_untrusted_element(forwarded, trusted)
        proto, host = proto or its_proto, host or its_host
    if address:
        request.address = address
    request.forwarded_proto = _scheme(proto)
    request.forwarded_host = _host(host)
    if forwarded is not None:
        request.add_header_lines([b"Forwarded: " + forwarded])
    if real_ip is not None:
        request.add_header_lines([b"X-Real-IP: " + real_ip])


def _first_untrusted(value: bytes, trusted: Networks) -> bytes:
    """The client's address in ``X-Forwarded-For``; empty if there is no good one."""
    found = b""
    end = len(value)
    for _ in range(MAX_HOPS):
        start = value.rfind(b",", 0, end) + 1
        text = value[start:end].strip(b" \t")
        if text:
            hop = read_hop(text)
            is_trusted = trusted.have(hop)
            if hop is None or (hop.text == UNIX and not is_trusted):
                break
            found = hop.text
            if not is_trusted:
                break
        if not start:
            break
        end = start - 1
    return found


def _first_untrusted_element(
    value: bytes, trusted: Networks
) -> tuple[bytes, bytes | None, bytes | None]:
    """The client's address in ``Forwarded``, with the scheme and the host of its request."""
    address = b""
    proto: bytes | None = None
    host: bytes | None = None
    end = len(value)
    for _ in range(MAX_HOPS):
        start = _element_start(value, end)
        element = None if start < 0 else _read_element(value, start, end)
        if element is None:
            break
        if element:
            hop = read_hop(element.get(b"for", b""))
            is_trusted = trusted.have(hop)
            if hop is None or (hop.text == UNIX and not is_trusted):
                break
            address, proto, host = hop.text, element.get(b"proto"), element.get(b"host")
            if not is_trusted:
                break
        if not start:
            break
        end = start - 1
    return address, proto, host


def _element_start(value: bytes, end: int) -> int:
    """Where the element of ``Forwarded`` that ends at ``end`` begins; -1 if that cannot be told.

    From the right, as what stands on the left may be anything: a client that sends one quote
    must not take what the proxies add into its own quoted text.
    """
    first = max(0, end - _MAX_ELEMENT)
    at = end
    while True:
        comma = value.rfind(b",", first, at)
        quote = value.rfind(b'"', first, at)
        if quote <= comma:
            return comma + 1 if comma >= 0 or not first else -1
        # A quote within a quoted text has an odd number of backslashes before it.
        while True:
            quote = value.rfind(b'"', first, quote)
            if quote < 0:
                return -1
            slashes = quote
            while slashes > first and value[slashes - 1] == 92:
                slashes -= 1
            if not (quote - slashes) & 1:
                break
        at = quote


def _read_element(value: bytes, start: int, end: int) -> dict[bytes, bytes] | None:
    """The pairs of one element, by their names in lower case; ``None`` if it is malformed."""
    pairs: dict[bytes, bytes] = {}
    while True:
        found = _PAIR.match(value, start, end)
        if found is None:
            return None
        name, plain, quoted, more = found.groups()
        if name is not None:
            name = name.lower()
            if name in pairs:
                return None
            pairs[name] = _ESCAPED.sub(rb"\1", quoted) if plain is None else plain
        if not more:
            return pairs
        start = found.end()


def _scheme(value: bytes | None) -> bytes | None:
    if value is not None:
        value = value.lower()
        if value == b"http" or value == b"https":
            return value
    return None


def _host(value: bytes | None) -> bytes | None:
    if value is not None:
        try:
            normal_host(value)
        except BadMessage:
            return None
    return value


def extend_forwarded(request: Request) -> None:
    """Let the server of ``request`` get ``Forwarded``, with slardar's peer at its end.

    Call it once for a request, after every hook.  A malformed element of an earlier proxy, and
    what is before it, goes: some servers would take slardar's element for a part of it.
    """
    lines = request.lines
    known = b""
    for line in lines:
        if line[:10].lower() == b"forwarded:":
            value = line[10:].strip(b" \t")
            known = known + b", " + value if known and value else known or value
    if known:
        lines[:] = [line for line in lines if line[:10].lower() != b"forwarded:"]
        known = _good_end(known)
    told = request.told
    host = request.authority if told is None or told.authority is None else told.authority
    element = b"for=" + _node(request.peer) + b";proto=" + request.scheme
    if host:
        element += b";host=" + (host if _TOKEN.fullmatch(host) else b'"' + host + b'"')
    lines.append(b"Forwarded: " + (known + b", " + element if known else element))


def _good_end(value: bytes) -> bytes:
    """The last elements of ``value``, as far as they are well formed."""
    good = end = len(value)
    for _ in range(MAX_HOPS):
        start = _element_start(value, end)
        if start < 0 or _read_element(value, start, end) is None:
            break
        good = start
        if not start:
            break
        end = start - 1
    return value[good:].strip(b" \t,")


def _node(address: bytes) -> bytes:
    """An address as ``for=`` has it (RFC 7239 6)."""
    if b":" not in address:
        return address or b"unknown"
    return b"unknown" if address == UNIX else b'"[' + address + b']"'
