"""Reads nginx's ``listen``."""

from __future__ import annotations

import re

from slardar.migration.listeners import Socket, tcp_socket

__all__ = ["socket_of"]

#: Parameters of ``listen`` that concern the socket alone.
_OWN = (
    *("bind", "reuseport", "deferred", "backlog", "rcvbuf", "sndbuf", "so_keepalive", "fastopen"),
    *("setfib", "accept_filter", "ipv6only", "multipath"),
)


def socket_of(args: list[str]) -> tuple[Socket | None, list[str], set[str]]:
    """The socket of a ``listen``, the parameters that nobody knows, and the others."""
    socket = _address(args[0])
    words = args[1:]
    known = {word for word in words if word in ("ssl", "proxy_protocol", "default_server")}
    if "default" in words:
        known.add("default_server")
    others = [
        word
        for word in words
        if word not in known and word != "default" and word.partition("=")[0] not in _OWN
    ]
    if socket is not None:
        socket.ssl = "ssl" in known
        socket.proxied = "proxy_protocol" in known
    return socket, others, known


def _address(text: str) -> Socket | None:
    if text.startswith("unix:"):
        return Socket("unix", text[5:], 0)
    found = re.fullmatch(r"(?:(\[[^\]]*\]|[^:\[\]]+):)?([0-9]{1,5})", text)
    return tcp_socket(found[1] or "", int(found[2])) if found else tcp_socket(text, 80)
