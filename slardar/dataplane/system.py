"""What the data plane asks of the system: connected sockets, and epoll.

Where the extension :mod:`slardar.dataplane.native_system` was built, both are its own: they own a
descriptor, and their methods are the system's calls.  Without it they are Python's.  Both have the
same methods, which never block.
"""

from __future__ import annotations

import select
import socket
import struct
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

from slardar.model.networks import UNIX, peer_address

if TYPE_CHECKING:
    from slardar.dataplane.native_system import NativeSocket

__all__ = ["PEEK", "Epoll", "Socket", "accept", "connected_socket", "end_side", "take_events"]

#: What a channel sends and receives with.
Socket: TypeAlias = "socket.socket | NativeSocket"

#: TIOCOUTQ's answer where the peer has acknowledged everything.
_ACKNOWLEDGED: Final = struct.pack("i", 0)
#: Look at what can be read, and leave it there.  A number: a member of an enumeration takes 3 µs
#: to make, at each end of a connection.
PEEK: Final = int(socket.MSG_PEEK | socket.MSG_DONTWAIT)
#: What a socket is, as numbers for the same reason.
_OF_SOCKETS: Final[Any] = socket.SocketType
_FAMILY: Final = _OF_SOCKETS.family.__get__
_KIND: Final = _OF_SOCKETS.type.__get__
_PROTO: Final = _OF_SOCKETS.proto.__get__


def _accept(listening: Socket, fd: int) -> tuple[Socket, bytes] | None:
    """Accept a client: its socket, which does not block, and its address without port;
    ``unix:`` where there is none.

    ``fd`` is the descriptor of ``listening``.  ``None`` if no client waits.  Raises OSError.
    """
    taking: Any = listening
    try:
        # ``listening.accept()`` is this call, and a look at members of enumerations.
        taken, address = taking._accept()
    except BlockingIOError:
        return None
    sock = socket.socket(_FAMILY(listening), _KIND(listening), _PROTO(listening), taken)
    sock.setblocking(False)
    return sock, peer_address(address[0]) if isinstance(address, tuple) else UNIX


def _connected_socket(sock: socket.socket) -> Socket:
    """The socket for a channel in place of ``sock``, which does not block and is not used any
    more."""
    return sock


def _end_side(sock: Socket, leaves: bool) -> bool:
    """End our side of the connection.

    True if ``leaves``, and the socket can be closed now without a loss of what was sent: the
    peer has ended its side, or has acknowledged all that was sent to it, and no bytes of the peer's
    are unread.  In the first case it is the close that ends our side: the kernel still sends what
    the peer has not acknowledged.
    """
    if leaves and _is_at_end(sock):
        return True
    try:
        settled = leaves and ioctl(sock.fileno(), TIOCOUTQ, _ACKNOWLEDGED) == _ACKNOWLEDGED
    except OSError:
        settled = False
    # Before the look for bytes: a peer that sends some after the look knows of our end.
    try:
        sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the peer has ended or reset the connection, which an event will tell
    if not settled:
        return False
    try:
        return not sock.recv(1, PEEK)
    except OSError:
        return True  # nothing is there, or the connection is broken: nothing can be saved


def _is_at_end(sock: Socket) -> bool:
    """Whether the peer has ended its side, or the connection, and nothing is left to read."""
    try:
        return not sock.recv(1, PEEK)
    except BlockingIOError:
        return False
    except OSError:
        return True


_Watched = TypeVar("_Watched")


def _take_events(
    epoll: select.epoll, watched: list[_Watched | None], most: int
) -> tuple[list[_Watched | None], list[int]]:
    """What has happened: ``most`` events at most, and none if there are none now.

    Of each it tells what stands in ``watched`` at the place of its descriptor's number, or
    ``None`` if there is no such place; and, in a list of their own, epoll's mask.
    """
    told = epoll.poll(0, most)
    found = [watched[fd] if fd < len(watched) else None for fd, _ in told]
    return found, [events for _, events in told]


#: ``select.epoll``, or what does the same; only :func:`take_events` asks it for events.
Epoll = select.epoll
take_events = _take_events
accept = _accept
connected_socket = _connected_socket
end_side = _end_side

if not TYPE_CHECKING:
    try:
        from slardar.dataplane.native_system import (
            Epoll,
            accept,
            connected_socket,
            end_side,
            take_events,
        )
    except ImportError:
        pass
