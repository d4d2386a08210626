"""Request bodies that are gathered before hooks see the request.

A hook sees a request once, so the bytes that it may read of the body must have arrived
by then.  ``hooks.body`` bounds each waiting body, and :data:`ROOM` bounds all waiting
bodies of a process.  When they exceed it, the bodies that have waited longest are given
up: a client that is slow on purpose loses its request, and a client that sends its body
at once does not.
"""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["CONTINUE", "ROOM", "BodyOwner", "BodyRoom", "SeenBody", "WaitingBody"]

#: Bytes that all waiting bodies of one process may hold: room for a thousand bodies of the
#: default size (64 KiB).  Without this bound ten thousand slow clients, the default of
#: ``limits.connections``, could hold 625 MiB.
ROOM: Final = 64 << 20
#: The interim reply to a client that waits before it sends its body (RFC 9110 10.1.1).
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class SeenBody:
    """The body of a request as hooks get it; ``data`` is ``None`` if the body is too large."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | None) -> None:
        self.data = data


class BodyOwner(Protocol):
    """The part of the proxy whose request waits for its body."""

    def give_up_body(self) -> None:
        """Called when the body has been dropped to make room."""


class BodyRoom:
    """Counts the bytes of all waiting bodies of a process: at most ``size`` together."""

    __slots__ = ("_size", "_waiting", "free")

    def __init__(self, size: int = ROOM) -> None:
        self._size = size
        self.free = size
        #: The bodies that hold bytes, in the order in which they began.
        self._waiting: dict[WaitingBody, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def held(self) -> int:
        """Bytes that the waiting bodies hold."""
        return self._size - self.free

    def take(self, body: WaitingBody, size: int) -> None:
        """Count ``size`` more bytes for ``body``; give up the oldest bodies if there is no room."""
        self._waiting.setdefault(body)
        self.free -= size
        while self.free < 0:
            # The oldest may be ``body`` itself.
            oldest = next(iter(self._waiting))
            owner = oldest.owner
            oldest.end()
            owner.give_up_body()

    def leave(self, body: WaitingBody, size: int) -> None:
        """Free the ``size`` bytes that were counted for ``body``."""
        if body in self._waiting:
            del self._waiting[body]
            self.free += size


class WaitingBody:
    """One body that is being gathered, of at most ``limit`` bytes.

    ``length`` is the length that the client announced, negative if it announced none.
    """

    __slots__ = ("_counted", "_data", "_limit", "_room", "is_large", "owner")

    def __init__(self, room: BodyRoom, owner: BodyOwner, limit: int, length: int) -> None:
        self._room = room
        self.owner = owner
        self._limit = limit
        # One object for the whole body: a list of small pieces could hold many times its bytes.
        self._data = bytearray()
        #: Bytes that the room has counted for this body.
        self._counted = 0
        #: Whether the body has, or will have, more bytes than ``limit``: do not wait for it.
        self.is_large = length > limit

    def add(self, data: bytes) -> None:
        """Add bytes that arrived; look at ``is_large`` afterwards.

        This may call the owner's ``give_up_body``.
        """
        self._data += data
        if len(self._data) > self._limit:
            self.is_large = True
        else:
            self._counted += len(data)
            self._room.take(self, len(data))

    def take(self) -> bytes:
        """The bytes that have arrived.  The room counts them until :meth:`end`."""
        data = bytes(self._data)
        self._data = bytearray()
        return data

    def end(self) -> None:
        """Drop the bytes and free their room."""
        self._data = bytearray()
        self._room.leave(self, self._counted)
        self._counted = 0
