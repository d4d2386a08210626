"""Listening sockets that another process opened: taken over without a moment in which
nobody listens.

A socket of a group (SO_REUSEPORT) that is closed resets the connections that wait in
it, so every one that was handed over is used, whatever the number of listeners is.
"""

# Twisted's endpoints and lock files have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from twisted.internet.endpoints import serverFromString
from twisted.internet.protocol import Factory
from twisted.python.lockfile import FilesystemLock

from slardar.dataplane.sockets import (
    BACKLOG,
    EndpointNote,
    Opened,
    bound,
    clean_unix,
    open_sockets,
)
from slardar.model.listener import ListenerSpec

__all__ = ["Inherited", "adopt_sockets", "open_listener"]


class Inherited(Opened):
    """The sockets that were handed over for an endpoint, and those added to them."""

    def __init__(self, sockets: list[socket.socket], endpoint: str) -> None:
        super().__init__(sockets, _nothing, endpoint)
        self.is_elsewhere = True
        #: Those that are bound and do not listen yet: a connection that came to one of
        #: them would be lost with it if the process that handed over had to go on.
        self.added: list[socket.socket] = []

    def own(self) -> None:
        """They are this process's alone from now on: listen on those that were added,
        and remove at the end what is left behind.

        Raises OSError if one of them cannot listen; the others do then.
        """
        self.is_elsewhere = False
        added, self.added = self.added, []
        path, has_lock = _unix_path(self.endpoint)
        if path is not None and os.path.exists(path):
            lock = FilesystemLock(f"{path}.lock") if has_lock else None
            if lock is not None:
                _relock(lock.name)
            self._clean = clean_unix(path, lock)
        failure = None
        for sock in added:
            try:
                sock.listen(BACKLOG)
            except OSError as error:
                failure = error
        if failure is not None:
            raise failure


def adopt_sockets(endpoint: str, sockets: Sequence[socket.socket], count: int) -> Inherited:
    """What was handed over for an endpoint string: at least one socket, all listening.

    For more than one listener (``count``), TCP sockets with SO_REUSEPORT are brought to
    that number, if this user may; those that are added listen with
    :meth:`Inherited.own`.
    """
    adopted = list(sockets)
    for sock in adopted:
        sock.setblocking(False)
    opened = Inherited(adopted, endpoint)
    first = adopted[0]
    is_tcp = first.family in (socket.AF_INET, socket.AF_INET6)
    if is_tcp and first.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT):
        try:
            while len(adopted) < count:
                sock = bound(first.family, first.getsockname(), shared=True)
                adopted.append(sock)
                opened.added.append(sock)
        except OSError:
            pass  # they were opened by root, say; the listeners share what there is
    return opened


def open_listener(
    listener: ListenerSpec, sockets: Sequence[socket.socket], count: int = 1
) -> Opened:
    """The sockets of a listener: those that were handed over for it, else new ones.

    ``count`` is how many accept on it.  Raises as :func:`slardar.dataplane.sockets.open_sockets`.
    """
    if sockets:
        opened: Opened = adopt_sockets(listener.endpoint, sockets, count)
    else:
        opened = open_sockets(listener.endpoint, count)
    opened.listener = listener
    if listener.tls:
        opened.place = "tls" + opened.place.removeprefix("tcp")
    return opened


def _unix_path(endpoint: str) -> tuple[str | None, bool]:
    """The file of a unix socket, and whether Twisted's lock is to stand beside it."""
    if not endpoint.startswith("unix:"):
        return None, False
    looker = EndpointNote()
    serverFromString(looker, endpoint).listen(Factory())
    if looker.path is None or looker.path.startswith("\0"):
        return None, False
    return looker.path, looker.has_lock


def _relock(name: str) -> None:
    """Put our number into Twisted's lock, a link that names the process that holds it."""
    new = f"{name}.{os.getpid()}"
    try:
        os.symlink(str(os.getpid()), new)
        os.replace(new, name)
    except OSError:
        pass  # a lock that names a dead process is taken by the next start


def _nothing() -> None:
    """Nothing to remove yet."""
