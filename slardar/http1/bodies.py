"""Bodies of requests that wait for hooks: a hook sees a request only once, so what it may
read of the body must be there by then.

Each waiting body is bounded by ``hooks.body``, and all of a process together by
:data:`ROOM`.  Where that is full, those that have waited longest are given up: a client
that is slow on purpose loses its request, and none that sends its body at once does.
"""

from __future__ import annotations

from typing import Final, Protocol

__all__ = ["CONTINUE", "ROOM", "BodyOwner", "BodyRoom", "SeenBody", "WaitingBody"]

#: Bytes of all bodies that wait in one process: a thousand of the default size, where ten
#: thousand slow clients (``limits.connections``) would else hold 640 MiB.
ROOM: Final = 64 << 20
#: What a client that waits before it sends its body is told (RFC 9110 10.1.1).
CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class SeenBody:
    """The body of a request as hooks get it; ``data`` is ``None`` if it is too large."""

    __slots__ = ("data",)

    def __init__(self, data: bytes | None) -> None:
        self.data = data


class BodyOwner(Protocol):
    """Whose request it is that waits for its body."""

    def give_up_body(self) -> None:
        """There is no room for the body any more; it has been dropped."""


class BodyRoom:
    """The room for all waiting bodies of a process, ``size`` bytes."""

    __slots__ = ("_size", "_waiting", "free")

    def __init__(self, size: int = ROOM) -> None:
        self._size = size
        self.free = size
        #: Those that hold something, in the order in which they began.
        self._waiting: dict[WaitingBody, None] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def held(self) -> int:
        """Bytes of the bodies that wait."""
        return self._size - self.free

    def take(self, body: WaitingBody, size: int) -> None:
        """So many more bytes are held for ``body``."""
        self._waiting.setdefault(body)
        self.free -= size
        while self.free < 0:
            # This may be the one that takes.
            oldest = next(iter(self._waiting))
            owner = oldest.owner
            oldest.end()
            owner.give_up_body()

    def leave(self, body: WaitingBody, size: int) -> None:
        """Nothing is held for ``body`` any more."""
        if body in self._waiting:
            del self._waiting[body]
            self.free += size


class WaitingBody:
    """A body that is being gathered: at most ``limit`` bytes, of which the client has
    announced ``length`` (negative where it has not said)."""

    __slots__ = ("_counted", "_data", "_limit", "_room", "is_large", "owner")

    def __init__(self, room: BodyRoom, owner: BodyOwner, limit: int, length: int) -> None:
        self._room = room
        self.owner = owner
        self._limit = limit
        # One object, however small the pieces are that it comes in.
        self._data = bytearray()
        #: Bytes that the room was asked for.
        self._counted = 0
        #: It has, or will have, more than that: there is nothing to wait for.
        self.is_large = length > limit

    def add(self, data: bytes) -> None:
        """Some of it came; look at ``is_large`` afterwards.  The owner may have been told
        to give the body up, too."""
        self._data += data
        if len(self._data) > self._limit:
            self.is_large = True
        else:
            self._counted += len(data)
            self._room.take(self, len(data))

    def take(self) -> bytes:
        """What has come.  It still takes its room, until :meth:`end`."""
        data = bytes(self._data)
        self._data = bytearray()
        return data

    def end(self) -> None:
        """Nothing is held for the owner any more."""
        self._data = bytearray()
        self._room.leave(self, self._counted)
        self._counted = 0
