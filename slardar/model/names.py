"""Names and addresses as users write them: of upstreams, of servers' hosts."""

from __future__ import annotations

import ipaddress
import re

from slardar.errors import ConfigError
from slardar.model.reader import shown

__all__ = [
    "check_name",
    "normal_host",
    "parse_server_key",
    "requested_host",
    "split_host_port",
    "usual_ipv6",
]

_NAME = re.compile(r"(?:\*\.)?[-_a-zA-Z0-9.]+")
#: Without leading zeros, so that there is one way to write it.
_IPV4 = re.compile(r"(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])(?:\.(?!\Z)|\Z)){4}")
#: RFC 1035's lengths; the underscore is in use all over private DNS.
_LABEL = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")
#: What getaddrinfo takes for an address in one of its old forms (127.1, 0x7f000001).
_NUMBER = re.compile(r"[0-9]+|0[xX][0-9a-fA-F]*")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}")


def check_name(name: str, where: str = "upstreams") -> None:
    """Refuse a name that is no upstream's: letters, digits, ``-``, ``_``, ``.``, and ``*.``
    in front of a wildcard; 255 characters at most (RFC 1035, 2.3.4)."""
    if not _NAME.fullmatch(name) or len(name) > 255:
        raise ConfigError(
            f"{where}: expected a name of letters, digits, '-', '_' and '.', "
            f"or a wildcard such as *.example.com, got {shown(name)}"
        )


def usual_ipv6(text: str) -> str:
    """An IPv6 address in the form of RFC 5952, with the dots of an IPv4 address mapped to
    one (which Python has from 3.13 on).  Raises ValueError."""
    address = ipaddress.IPv6Address(text)
    mapped = address.ipv4_mapped
    return str(address) if mapped is None else f"::ffff:{mapped}"


def requested_host(name: str) -> str:
    """A Host that somebody has written, as requests name it: in lower case, without the dot
    at the end of an absolute name (RFC 1034, 3.1), an IPv6 address in its usual form.

    What no request can name, such as a host with its port, is answered as it is.
    """
    text = name.lower()
    if ":" in text:
        try:
            return usual_ipv6(text)
        except ValueError:
            return text
    return text.removesuffix(".") or text


def normal_host(host: str) -> str | None:
    """An address in its usual form, a name in lower case, ``None`` for neither.

    An IPv6 address may have brackets around it, which are taken off.
    """
    bracketed = host[:1] == "[" and host[-1:] == "]"
    text = host[1:-1] if bracketed else host
    if ":" in text:
        address, percent, zone = text.partition("%")
        if percent and not _ZONE.fullmatch(zone):
            return None
        try:
            return str(ipaddress.IPv6Address(address)) + percent + zone
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


def split_host_port(text: str) -> tuple[str, int] | None:
    """``host:port`` or ``[v6]:port`` in its parts, or ``None``."""
    host, colon, port = text.rpartition(":")
    if not colon or not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        return None
    normal = normal_host(host)
    if normal is None or (":" in normal and host[:1] != "["):
        return None
    return normal, int(port)


def parse_server_key(text: str, where: str) -> tuple[str, int]:
    """``host:port`` as a user writes it."""
    found = split_host_port(text)
    if found is None:
        raise ConfigError(f"{where}: expected HOST:PORT, got {shown(text)}")
    return found
