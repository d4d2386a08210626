"""Holds WebSockets open through changes and an upgrade."""

from __future__ import annotations

import socket
import time

from benchmarks.processes import LOOPBACK
from benchmarks.soak.clients import TIMEOUT
from benchmarks.soak.origins import Echo, frame
from benchmarks.soak.row import Row, Scale, number
from benchmarks.soak.site import Ground, Site, server, upstream

__all__ = ["tunnels"]

HOST = "sockets.example.com"
KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
MASK = b"\x01\x7f\x80\xfe"
#: ``timeouts.drain``: seconds that the old generation waits for the WebSockets.
DRAIN = 300.0


class WebSocket:
    """A WebSocket that is held open.

    :raise OSError: (or RuntimeError) if it cannot be opened.
    """

    def __init__(self, port: int, name: int) -> None:
        self.name = name
        self._sock = socket.create_connection((LOOPBACK, port), TIMEOUT)
        self._turn = 0
        lines = [f"GET /{name} HTTP/1.1", f"Host: {HOST}", "Connection: Upgrade"]
        lines += ["Upgrade: websocket", f"Sec-WebSocket-Key: {KEY}", "Sec-WebSocket-Version: 13"]
        self._sock.sendall("\r\n".join(lines).encode() + b"\r\n\r\n")
        head = b""
        while b"\r\n\r\n" not in head:
            more = self._sock.recv(4096)
            if not more:
                raise RuntimeError(f"WebSocket {name} was not opened: {head[:80]!r}")
            head += more
        if not head.startswith(b"HTTP/1.1 101") or ACCEPT not in head:
            raise RuntimeError(f"WebSocket {name} was not opened: {head[:200]!r}")

    def say(self) -> None:
        """Send the next text."""
        self._turn += 1
        self._sock.sendall(frame(self._text, MASK))

    def hear(self) -> None:
        """Read the text that was sent last.

        :raise RuntimeError: if another text comes, or none.
        """
        wanted, got = frame(self._text), b""
        while len(got) < len(wanted):
            more = self._sock.recv(4096)
            if not more:
                raise RuntimeError(f"closed after {got!r}")
            got += more
        if got != wanted:
            raise RuntimeError(f"said {self._text!r}, heard {got!r}")

    @property
    def _text(self) -> bytes:
        return f"socket {self.name} text {self._turn}".encode()

    def close(self) -> None:
        self._sock.close()


def _broken(sockets: list[WebSocket]) -> dict[int, str]:
    """The sockets that do not get their text back, by number, with the reason."""
    broken: dict[int, str] = {}
    for step in (WebSocket.say, WebSocket.hear):
        for one in sockets:
            if one.name not in broken:
                try:
                    step(one)
                except (OSError, RuntimeError) as error:
                    broken[one.name] = repr(error)
    return broken


def tunnels(ground: Ground, scale: Scale) -> list[Row]:
    """WebSockets that close, or fall silent, through changes and an upgrade."""
    row = Row(
        f"WebSockets closed among {number(scale.tunnels)} held through "
        f"{scale.tunnel_changes} changes and one USR2",
        "0",
    )
    with (
        Echo() as echo,
        Site(ground, "tunnels", {HOST: upstream(echo.port)}, timeouts={"drain": DRAIN}) as site,
    ):
        sockets: list[WebSocket] = []
        try:
            for name in range(scale.tunnels):
                sockets.append(WebSocket(site.port, name))
            broken = _broken(sockets)
            _change(site, echo.port, ground.backends.ports[0], scale.tunnel_changes // 2)
            old = site.director
            site.usr2()
            broken.update(_broken([one for one in sockets if one.name not in broken]))
            _change(site, echo.port, ground.backends.ports[0], scale.tunnel_changes // 2)
            # Longer than the old generation keeps idle connections.
            begin = time.monotonic()
            while time.monotonic() - begin < scale.tunnel_seconds:
                broken.update(_broken([one for one in sockets if one.name not in broken]))
            broken.update(_broken([one for one in sockets if one.name not in broken]))
            about = [one for one in site.status()["generations"] if one["pid"] == old]
            row.notes.append(
                f"the old generation (pid {old}) still has "
                f"{about[0]['connections'] if about else 'no'} connections at the end, and the "
                f"server has seen {echo.ended} end"
            )
            row.measured = str(len(broken))
            row.met = not broken and echo.ended == 0
            row.notes += [f"WebSocket {name}: {why}" for name, why in list(broken.items())[:10]]
        finally:
            for one in sockets:
                one.close()
    return [row]


def _change(site: Site, echo: int, other: int, count: int) -> None:
    """Change the upstream of the WebSockets and others: add a second server, change weights,
    remove the server that the WebSockets use."""
    for turn in range(count):
        bodies = (
            (HOST, {"servers": [server(echo, weight=1 + turn % 9), server(other)]}),
            ("other", upstream(other, 9 + turn % 9)),
            (HOST, upstream(other)),
            (HOST, upstream(echo)),
        )
        site.put(*bodies[turn % 4])
