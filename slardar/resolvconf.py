"""Reads the files in which a machine says how its names are looked up.

``/etc/resolv.conf`` names the name servers, see resolv.conf(5), and ``/etc/hosts`` has
addresses of names.  A file is read again when it has changed.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from slardar.model.names import usual_address

__all__ = [
    "HOSTS",
    "RESOLV_CONF",
    "Addresses",
    "ResolvConf",
    "WatchedFile",
    "address_of",
    "candidates",
    "parse_hosts",
    "parse_resolv_conf",
]

RESOLV_CONF = "/etc/resolv.conf"
HOSTS = "/etc/hosts"

#: Bytes that are read of a file: lists of blocked hosts have a few million.
_MAX_FILE = 16 << 20
#: glibc's limits on what a file may say.
_MAX_SERVERS = 3
_MAX_SEARCH = 32
_MAX_NDOTS = 15
_MAX_TIMEOUT = 30
_MAX_ATTEMPTS = 5

#: Addresses, each with its family (``socket.AF_INET`` or ``AF_INET6``).
Addresses = list[tuple[int, str]]
_T = TypeVar("_T")


@dataclass(frozen=True)
class ResolvConf:
    """What ``resolv.conf`` says; the defaults are for a file that says nothing."""

    #: The name servers, each with its port, in the order in which they are asked.
    servers: tuple[tuple[str, int], ...] = ()
    #: Domains that are tried behind a name.
    search: tuple[str, ...] = ()
    #: A name with fewer dots is tried with the ``search`` domains first.
    ndots: int = 1
    #: Seconds that a name server has for its answer.  glibc waits for 5 seconds; here
    #: requests may wait for the first answer.
    timeout: int = 2
    #: How often each name server is asked.
    attempts: int = 2


def parse_resolv_conf(text: str) -> ResolvConf:
    """What a file says.  Lines that cannot be understood are skipped, as glibc does."""
    servers: list[tuple[str, int]] = []
    search: tuple[str, ...] = ()
    numbers: dict[str, int] = {}
    for line in text.splitlines():
        words = line.split()
        if not words or words[0][0] in "#;":
            continue
        key, rest = words[0], words[1:]
        if key == "nameserver" and rest:
            server = _name_server(rest[0])
            if server is not None and server not in servers:
                servers.append(server)
        elif key in ("search", "domain"):
            some = rest if key == "search" else rest[:1]
            domains = (domain.strip(".").lower() for domain in some)
            search = tuple(domain for domain in domains if domain)[:_MAX_SEARCH]
        elif key == "options":
            for word in rest:
                option, _, value = word.partition(":")
                if value.isascii() and value.isdigit():
                    numbers[option] = int(value[:9])
    return ResolvConf(
        tuple(servers[:_MAX_SERVERS]),
        search,
        min(numbers.get("ndots", ResolvConf.ndots), _MAX_NDOTS),
        min(max(numbers.get("timeout", ResolvConf.timeout), 1), _MAX_TIMEOUT),
        min(max(numbers.get("attempts", ResolvConf.attempts), 1), _MAX_ATTEMPTS),
    )


def _name_server(text: str) -> tuple[str, int] | None:
    """Address and port of a name server; a port is written as in OpenBSD: ``[ADDRESS]:PORT``."""
    host, port = text, 53
    if text[:1] == "[":
        host, _, number = text[1:].partition("]:")
        if not (number.isascii() and number.isdigit()) or not 0 < int(number[:9]) < 65536:
            return None
        port = int(number)
    address = address_of(host)
    return None if address is None else (address[1], port)


def address_of(text: str) -> tuple[int, str] | None:
    """An address with its family, in its usual form, or ``None`` for other texts."""
    try:
        address = usual_address(text)
    except ValueError:
        return None
    return (socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def parse_hosts(text: str) -> dict[str, Addresses]:
    """The addresses of the names in a hosts file, by names in lower case."""
    names: dict[str, Addresses] = {}
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        address = address_of(words[0]) if words else None
        if address is not None:
            for name in words[1:]:
                addresses = names.setdefault(name.lower(), [])
                if address not in addresses:
                    addresses.append(address)
    return names


def candidates(name: str, conf: ResolvConf) -> list[str]:
    """The absolute names, without the dot at the end, that ``name`` may mean, in the order
    in which they are looked up."""
    if name.endswith("."):
        return [name[:-1]]
    found = [f"{name}.{domain}" for domain in conf.search]
    if name.count(".") >= conf.ndots:
        found.insert(0, name)
    else:
        found.append(name)
    return [candidate for candidate in found if len(candidate) <= 253]


class WatchedFile(Generic[_T]):
    """A file that is parsed again when it has changed.  A file that cannot be read counts as
    empty."""

    def __init__(self, path: str, parse: Callable[[str], _T]) -> None:
        self._path = path
        self._parse = parse
        self._stamp: tuple[int, ...] | None = ()
        self._value = parse("")
        #: How often the file has been read.
        self.readings = 0

    def read(self) -> _T:
        """What the file says now; one system call if it has not changed."""
        stamp = self._look()
        if stamp != self._stamp:
            self._stamp = stamp
            self.readings += 1
            self._value = self._parse(self._text())
        return self._value

    def _look(self) -> tuple[int, ...] | None:
        try:
            about = os.stat(self._path)
        except OSError:
            return None
        return (about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns)

    def _text(self) -> str:
        try:
            with open(self._path, encoding="utf-8", errors="replace") as file:
                return file.read(_MAX_FILE)
        except OSError:
            return ""
