"""Where a control channel listens: opened, or taken over, and handed over."""

# Twisted's ports have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet import defer
from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.internet.task import deferLater
from twisted.internet.unix import Port as UNIXPort

from slardar.dataplane.inherited import adopt_sockets
from slardar.dataplane.sockets import EndpointNote, Opened, open_sockets
from slardar.errors import ConfigError

__all__ = ["ControlPort"]


class ControlPort:
    """The listening socket of a control channel, and Twisted's port on it.

    ``purpose`` names the socket when it is handed over; ``key`` is the endpoint's place in the
    settings, such as ``control.http``; ``site`` makes the connections.  Over TCP, ``tls`` makes of
    ``site`` the factory of connections with TLS.
    """

    def __init__(
        self,
        reactor: Any,
        purpose: str,
        key: str,
        endpoint: str,
        site: Any,
        tls: Callable[[Any], Any] | None = None,
    ) -> None:
        self._tls = tls
        self._reactor = reactor
        self.purpose = purpose
        self.endpoint = endpoint
        self._key = key
        self._site = site
        self._port: Any = None
        #: The socket; ``None`` before it is open.
        self.opened: Opened | None = None

    @property
    def place(self) -> str:
        """Where it listens, for a person."""
        return "" if self.opened is None else self.opened.place

    def take(self, sockets: Sequence[socket.socket]) -> None:
        """Use the socket that another process has handed over, if there is one."""
        if sockets:
            self.opened = adopt_sockets(self.endpoint, sockets, 1)

    def open(self) -> None:
        """Listen, if there is no socket yet.  No connection is accepted before :meth:`start`.

        May block, and raises the errors of :func:`slardar.dataplane.sockets.open_sockets`.
        """
        if self.opened is None:
            try:
                self.opened = open_sockets(self.endpoint)
            except ConfigError as error:
                lines = [f"{self._key}:{line.removeprefix('listen:')}" for line in error.problems]
                raise ConfigError(lines) from None

    def start(self) -> None:
        """Take calls from now on."""
        assert self.opened is not None
        sock = self.opened.sockets[0]
        site = self._site
        if self._tls is not None and sock.family != socket.AF_UNIX:
            site = self._tls(site)
        self._port = _adopted(self._reactor, self.endpoint, sock, site)

    def own(self) -> None:
        """The process that handed the socket over does not use it any more."""
        if self.opened is not None:
            self.opened.own()

    def pause(self) -> None:
        """Take no new connections until :meth:`resume`: they wait, for this process or
        for the one that takes over."""
        if self._port is not None:
            self._port.stopReading()

    def resume(self) -> None:
        """Take new connections again."""
        if self._port is not None:
            self._port.startReading()

    async def stop(self) -> None:
        """Take no more calls; those under way are answered."""
        port, self._port = self._port, None
        if port is not None:
            if self.opened is not None and self.opened.is_elsewhere:
                # Twisted would remove the file of a unix socket.
                port.stopReading()
                self._site.stopFactory()
            else:
                await defer.maybeDeferred(port.stopListening)
            # What was written last goes out: streams of events have just ended.
            await deferLater(self._reactor, 0)
        if self.opened is not None:
            self.opened.close()


def _adopted(reactor: Any, endpoint: str, sock: socket.socket, site: Any) -> Any:
    """Twisted's port on a socket that listens.

    The file of a unix socket has the mode that ``endpoint`` says, else the mode that it had:
    Twisted's adoptStreamPort would let every user of the machine write to it.
    """
    if sock.family != socket.AF_UNIX:
        return reactor.adoptStreamPort(sock.fileno(), sock.family, site)
    port = UNIXPort._fromListeningDescriptor(reactor, sock.fileno(), site)
    name = sock.getsockname()
    if endpoint.startswith("unix:"):
        note = EndpointNote()
        serverFromString(note, endpoint).listen(Factory())
        port.mode = note.mode
    elif isinstance(name, str):  # an abstract name is bytes, and has no file
        port.mode = stat.S_IMODE(os.stat(name).st_mode)
    port.startListening()
    return port
