"""Names and addresses as users write them: of upstreams, of servers' hosts."""

from __future__ import annotations

import ipaddress
import re

from slardar.errors import ConfigError
from slardar.model.reader import shown

__all__ = [
    "check_name",
    "host_port",
    "normal_host",
    "parse_server_key",
    "requested_host",
    "split_host_port",
    "usual_address",
    "usual_ipv6",
]

_NAME = re.compile(r"(?:\*\.)?[-_a-zA-Z0-9.]+")
#: Without leading zeros, so that each address has one spelling.
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!\Z)|\Z)){4}")
#: RFC 1035's lengths; the underscore is in use all over private DNS.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
#: A last label that getaddrinfo reads as an address in an old form (127.1, 0x7f000001).
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


def check_name(name: str, where: str = "upstreams") -> None:
    """Raises ConfigError for a name that no upstream can have.

    A name has letters, digits, ``-``, ``_`` and ``.``, with ``*.`` in front of a wildcard;
    at most 255 characters (RFC 1035, 2.3.4).
    """
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise ConfigError(
            f"{where}: expected a name of letters, digits, '-', '_' and '.', "
            f"or a wildcard such as *.example.com, got {shown(name)}"
        )


def usual_ipv6(text: str) -> str:
    """An IPv6 address in the form of RFC 5952.  Raises ValueError.

    An address that maps an IPv4 address shows it with dots, as Python does from 3.13 on.
    """
    address = ipaddress.IPv6Address(text)
    mapped = address.ipv4_mapped
    return str(address) if mapped is None else f"::ffff:{mapped}"


def usual_address(text: str) -> str:
    """An IPv4 or IPv6 address in its usual form; see :func:`usual_ipv6`.  Raises ValueError."""
    return usual_ipv6(text) if ":" in text else str(ipaddress.IPv4Address(text))


def requested_host(name: str) -> str:
    """The normal form of a Host, as requests have it.

    It is in lower case, without the dot at the end of an absolute name (RFC 1034, 3.1); an
    IPv6 address is in its usual form.  A text that no request can have as its Host, such
    as a host with a port, only becomes lower case.
    """
    text = name.lower()
    if ":" in text:
        try:
            return usual_ipv6(text)
        except ValueError:
            return text
    return text.removesuffix(".") or text


def normal_host(host: str) -> str | None:
    """An address in its usual form, a name in lower case, or ``None`` for other texts.

    The brackets of an IPv6 address are removed.
    """
    bracketed = host[:1] == "[" and host[-1:] == "]"
    text = host[1:-1] if bracketed else host
    if ":" in text:
        address, percent, zone = text.partition("%")
        if percent and not _ZONE.fullmatch(zone):
            return None
        try:
            return usual_ipv6(address) + percent + zone
        except ValueError:
            return None
    if bracketed:
        return None
    if _IPV4.fullmatch(text):
        return text
    labels = text.removesuffix(".").split(".")
    if len(text) > 253 or not all(map(_LABEL.fullmatch, labels)) or _NUMBER.fullmatch(labels[-1]):
        return None
    return text.lower()


def host_port(host: str, port: object) -> str:
    """``HOST:PORT``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def split_host_port(text: str, default: int | None = None) -> tuple[str, int] | None:
    """Host and port of ``host:port`` or ``[v6]:port``, or ``None``.  With a ``default``, the port
    may be missing."""
    found = _split_host_port(text)
    return _split_host_port(f"{text}:{default}") if found is None and default else found


def _split_host_port(text: str) -> tuple[str, int] | None:
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        return None
    normal = normal_host(host)
    if normal is None or (":" in normal and host[:1] != "["):
        return None
    return normal, int(port)


def parse_server_key(text: str, where: str) -> tuple[str, int]:
    """Host and port of ``host:port`` as a user writes it.  Raises ConfigError."""
    found = split_host_port(text)
    if found is None:
        raise ConfigError(f"{where}: expected HOST:PORT, got {shown(text)}")
    return found
