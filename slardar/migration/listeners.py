"""Addresses that another proxy listens on, as endpoints of slardar."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable

from slardar.migration.statement import Statement
from slardar.model.names import usual_address

__all__ = ["Socket", "endpoints", "tcp_socket"]


class Socket:
    """An address that several servers may listen on."""

    def __init__(self, family: str, host: str, port: int) -> None:
        #: ``tcp``, ``tcp6`` or ``unix``.
        self.family = family
        #: Empty for all addresses of the family; the path of a unix socket.
        self.host = host
        self.port = port
        self.ssl = False
        #: The ``verify`` and ``ca`` of the endpoint, for certificates of clients.
        self.client: dict[str, str] = {}
        self.proxied = False
        self.servers: list[Statement] = []
        self.default: Statement | None = None

    @property
    def key(self) -> tuple[str, str, int]:
        """The same for all ``listen`` of this address."""
        return self.family, self.host, self.port

    @property
    def reach(self) -> int:
        """How far away its clients may be: on this machine, in a private network, anywhere."""
        if self.family == "unix":
            return 0
        if not self.host:
            return 2
        address = ipaddress.ip_address(self.host)
        # An address of IPv4 may be written as one of IPv6.
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_unspecified:
            return 2
        return 0 if address.is_loopback else 1 if address.is_private else 2

    @property
    def listen(self) -> str:
        """The address as people write it."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.host}" if self.family == "unix" else f"{host or '*'}:{self.port}"

    @property
    def endpoint(self) -> str:
        """The endpoint string of slardar."""
        kind = self.family.replace("tcp", "tls") if self.ssl else self.family
        host = self.host.replace(":", "\\:")
        if self.family == "unix":
            text = f"{kind}:{host}"
        else:
            text = f"{kind}:{self.port}" + (f":interface={host}" if host else "")
        for key, value in self.client.items():
            text += f":{key}={value.replace(chr(92), chr(92) * 2).replace(':', chr(92) + ':')}"
        return f"haproxy:{text}" if self.proxied else text


def tcp_socket(host: str, port: int) -> Socket | None:
    """The socket for an address, which may be in brackets, empty or ``*``; ``None`` for a name."""
    text = host[1:-1] if host[:1] == "[" else host
    if text in ("", "*", "0.0.0.0"):  # noqa: S104
        return Socket("tcp", "", port) if 0 < port < 65536 else None
    if text == "localhost":
        text = "127.0.0.1"
    try:
        address = usual_address(text)
    except ValueError:
        return None
    if not 0 < port < 65536:
        return None
    if ":" not in address:
        return Socket("tcp", address, port)
    return Socket("tcp6", "" if address == "::" else address, port)


def endpoints(sockets: Iterable[Socket]) -> list[str]:
    """The endpoint strings for some sockets.

    A socket for all addresses of IPv6 serves those of IPv4, too, and one for all addresses serves
    each of them: such a port is opened once.
    """
    sockets = list(sockets)
    every = {one.port: one for one in sockets if not one.host and one.family == "tcp"}
    every |= {one.port: one for one in sockets if not one.host and one.family == "tcp6"}
    found = []
    for one in sockets:
        # nginx knows the listeners of a port apart; slardar has one for all of its addresses.
        first = one if one.family == "unix" else every.get(one.port, one)
        if first.endpoint not in found:
            found.append(first.endpoint)
    return found
