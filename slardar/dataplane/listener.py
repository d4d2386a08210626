"""A listening socket on the poller."""

from __future__ import annotations

import errno
import socket
from collections.abc import Callable
from typing import Final

from mypy_extensions import mypyc_attr
from twisted.logger import Logger

from slardar.dataplane.pollable import EPOLLEXCLUSIVE, EPOLLIN, Pollable
from slardar.dataplane.poller import Poller
from slardar.dataplane.system import Socket, accept

__all__ = ["Listener"]

#: Connections accepted in one go: a storm of them must not hold up the requests
#: under way.
_BURST: Final = 64
#: Clients that may wait in the kernel's queue, and some that come meanwhile; without
#: an end a flood of them would keep a process from stopping.
_QUEUE: Final = 8192
#: Seconds that accepting rests when the process has no descriptor left.
_REST: Final = 0.5

#: The client has left again, or its network failed: accept(2) says to go on.
_GONE = (
    errno.ECONNABORTED,
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EINTR,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENONET,
    errno.ENOPROTOOPT,
    errno.EOPNOTSUPP,
    errno.EPERM,  # a firewall's rule
    errno.EPROTO,
)

_log = Logger("slardar.listener")


@mypyc_attr(allow_interpreted_subclasses=True)
class Listener(Pollable):
    """Accepts connections and hands them to ``accepted(socket, address)``.

    ``address`` is the client's, without port: ``127.0.0.1``, ``::1``, and ``unix:``
    where there is none.  While the listener is paused, the kernel's queue keeps the
    clients waiting.

    ``exclusive``: several processes listen on the socket, and only one or a few of them
    are to be woken for a client.  ``exhausted()`` is called, once for each rest, when the
    process has no descriptor left to accept with.
    """

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        accepted: Callable[[Socket, bytes], None],
        exclusive: bool = False,
        exhausted: Callable[[], None] | None = None,
    ) -> None:
        self._poller = poller
        self.sock = sock
        self.fd = sock.fileno()
        self.to_server = False
        #: Monotonic seconds at which a rest ends; 0 while there is none.
        self.deadline = 0.0
        self._accepted = accepted
        self._on_exhausted = exhausted
        self._paused = False
        self._events = self._wanted = EPOLLIN | EPOLLEXCLUSIVE if exclusive else EPOLLIN
        self._complained = 0.0
        sock.setblocking(False)
        if sock.family in (socket.AF_INET, socket.AF_INET6):
            # Accepted sockets inherit it on Linux: one call instead of one each.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        poller.add(self, self._events)

    def __repr__(self) -> str:
        return f"<Listener {self.sock!r}>"

    def readable(self) -> None:
        """Clients wait to be accepted."""
        self._poller.much = True
        for _ in range(_BURST):
            if self._events == 0 or not self._accept():
                return
        # That was much for one event.
        self._poller.end_turn()

    def accept_all(self) -> None:
        """Accept whoever the kernel has greeted, paused or not: before it is closed."""
        for _ in range(_QUEUE):
            if not self._accept():
                return

    def _accept(self) -> bool:
        """Accept one client; False if none can be accepted now."""
        try:
            client = accept(self.sock, self.fd)
        except OSError as error:
            if error.errno in _GONE:
                return True
            self._exhausted(error)
            return False
        if client is None:
            return False
        self._accepted(client[0], client[1])
        return True

    def event(self, events: int) -> None:
        """Something other than clients alone: accepting tells what it is."""
        self.readable()

    def pause(self) -> None:
        """Accept nobody until :meth:`resume`."""
        self._paused = True
        self._watch()

    def resume(self) -> None:
        """Accept again."""
        self._paused = False
        self._watch()

    def late(self) -> None:
        """The rest is over."""
        self.deadline = 0.0
        self._watch()

    @property
    def held(self) -> int:
        """See the base: a listener sends nothing."""
        return 0

    def failed(self) -> None:
        """A bug met while accepting one client must not end the listener, so it rests."""
        self.deadline = self._poller.clock.now + _REST
        self._watch()

    def close(self) -> None:
        """Stop listening."""
        if self._events:
            # Closing is not enough where another process has the socket too: the epoll
            # would go on to tell of its clients, under a number that may be another's.
            self._events = 0
            self._poller.unwatch(self)
        self._poller.remove(self)

    def gone(self) -> None:
        """See the base."""

    def _exhausted(self, error: OSError) -> None:
        now = self._poller.clock.now
        if now - self._complained >= 1.0:
            self._complained = now
            _log.error("cannot accept connections: {error}", error=error.strerror)
        self.deadline = now + _REST
        self._watch()
        if self._on_exhausted is not None:
            self._on_exhausted()

    def _watch(self) -> None:
        events = 0 if self._paused or self.deadline else self._wanted
        if events == self._events:
            return
        self._events = events
        # Not by changing it, which epoll refuses for one that is exclusive.
        if events:
            self._poller.watch(self, events)
        else:
            self._poller.unwatch(self)
