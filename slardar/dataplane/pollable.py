"""What a poller watches, and what it calls.

Both classes are traits (mypyc's word for an interface): a channel already derives from
``ChannelBase``, which HTTP's logic knows and which has nothing of the poller's.  Measured,
compiled: a call through a trait takes 1 ns more than through a class, and 11 ns less than by
name; reading an attribute 1 ns more and 30 ns less.

Compiled traits cannot be the only base of a class that is not compiled: such a class derives
from :class:`slardar.dataplane.channel.Channel` or :class:`slardar.dataplane.listener.Listener`.
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import mypyc_attr, trait

from slardar.dataplane.system import Socket

__all__ = [
    "EPOLLERR",
    "EPOLLEXCLUSIVE",
    "EPOLLHUP",
    "EPOLLIN",
    "EPOLLONESHOT",
    "EPOLLOUT",
    "Batched",
    "Pollable",
]

# epoll's masks, as Linux has them.  mypyc puts these numbers in place; those of the module
# ``select`` it looks up at each use.
EPOLLIN: Final = 0x1
EPOLLOUT: Final = 0x4
EPOLLERR: Final = 0x8
EPOLLHUP: Final = 0x10
EPOLLEXCLUSIVE: Final = 1 << 28
EPOLLONESHOT: Final = 1 << 30


@mypyc_attr(allow_interpreted_subclasses=True)
@trait
class Pollable:
    """A socket on a poller.  None of its methods may block."""

    __slots__ = ()

    sock: Socket
    #: The socket's descriptor, which stays known after the socket is closed.
    fd: int
    #: It is a connection to a server.
    to_server: bool
    #: When ``late`` is called: monotonic seconds, 0 for never.
    deadline: float

    def readable(self) -> None:
        """The socket can be read from, and nothing else happened to it."""
        raise NotImplementedError

    def event(self, events: int) -> None:
        """Anything else happened; ``events`` is epoll's mask."""
        raise NotImplementedError

    def late(self) -> None:
        """The deadline has passed."""
        raise NotImplementedError

    def failed(self) -> None:
        """One of the other methods has raised an exception, which is logged already."""
        raise NotImplementedError

    def close(self) -> None:
        """Leave the poller and close the socket."""
        raise NotImplementedError

    def gone(self) -> None:
        """The poller has closed the socket, and calls no other method any more."""
        raise NotImplementedError

    @property
    def held(self) -> int:
        """Bytes in memory that wait to be sent."""
        raise NotImplementedError


@mypyc_attr(allow_interpreted_subclasses=True)
@trait
class Batched(Pollable):
    """A pollable that leaves parts of its work to later parts of a batch of events.

    It puts itself on the poller's lists for that, see :class:`slardar.dataplane.poller.Poller`.
    """

    __slots__ = ()

    closed: bool
    #: What it has read, while it is on ``arrived``.
    came: bytes

    def arrive(self, data: bytes) -> None:
        """Handle what it has read, its ``came``; it is on ``arrived``, and reads nothing before."""
        raise NotImplementedError

    def flush(self) -> None:
        """Send what it has put off; it is on ``unsent``.  A second call does no harm."""
        raise NotImplementedError

    def leave(self) -> None:
        """End its connection, of which everything is sent; it is on ``leaving``."""
        raise NotImplementedError

    def move(self) -> None:
        """Move bytes to another pollable; it is on ``moving``."""
        raise NotImplementedError

    def tell_moved(self, size: int) -> None:
        """Tell whom it concerns of the bytes that it has moved; it is on ``moved``."""
        raise NotImplementedError

    def take_turn(self) -> None:
        """Do a piece of work that may take milliseconds; it is on ``turns``."""
        raise NotImplementedError
