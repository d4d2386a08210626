"""The limits on all callers of the control channel together, and who has to go at a limit.

Connections, bodies and unread replies are limited over all connections together.  At a limit a new
caller is not turned away in favour of one who does nothing: the connection with the lowest
:class:`Standing` goes, and of several the one that has had it for longest.
"""

from __future__ import annotations

import enum
from typing import Protocol

__all__ = [
    "MAX_BODIES",
    "MAX_CONNECTIONS",
    "MAX_REPLIES",
    "MAX_STREAMS",
    "Guest",
    "Room",
    "Standing",
]

#: Connections at one time.
MAX_CONNECTIONS = 256
#: Streams of events at one time: the other half of the connections is for calls.
MAX_STREAMS = 128
#: Bytes of bodies at one time, those of calls under way included: eight of the longest.
MAX_BODIES = 32 * 1024 * 1024
#: Bytes of replies that their callers have not read yet.  A reply alone may be longer.
MAX_REPLIES = 64 * 1024 * 1024


class Standing(enum.IntEnum):
    """What a connection is doing.  The lower, the sooner it has to go."""

    #: No caller has been admitted yet, or the connection is about to be closed.
    STRANGER = 0
    #: Between two calls.
    IDLE = 1
    #: Events are sent as they come; the caller can come back and miss none.
    STREAMING = 2
    #: The body of a call is coming in.
    SENDING = 3
    #: The reply waits for the caller to read it.
    READING = 4
    #: A call is under way: such a connection never has to go.
    BUSY = 5


class Guest(Protocol):
    """What the room needs to know of a connection."""

    #: Its standing, and since when it has had it (the reactor's seconds).
    standing: Standing
    since: float

    def give_way(self) -> None:
        """Close at once: somebody else needs the place."""

    def give_up_body(self) -> None:
        """Refuse the body that is coming in, and drop the part that has come."""

    def finish(self) -> None:
        """Close when the call under way is answered, now if there is none."""


class Room:
    """Counts connections and bytes of one control channel.  Nothing here blocks."""

    def __init__(self) -> None:
        self._guests: set[Guest] = set()
        #: Bytes of each connection's body, and of its unread reply.
        self._bodies: dict[Guest, int] = {}
        self._replies: dict[Guest, int] = {}
        self._body_bytes = 0
        self._reply_bytes = 0

    @property
    def guests(self) -> frozenset[Guest]:
        """The connections that are open."""
        return frozenset(self._guests)

    @property
    def has_streams_left(self) -> bool:
        """Whether there is a place for one more stream of events."""
        return sum(one.standing is Standing.STREAMING for one in self._guests) < MAX_STREAMS

    def make_room(self) -> bool:
        """Whether there is a place for one more connection.  Another one may be closed for it."""
        if len(self._guests) < MAX_CONNECTIONS:
            return True
        least = min(self._guests, key=lambda guest: (guest.standing, guest.since))
        if least.standing is Standing.BUSY:
            return False
        self.leave(least)
        least.give_way()
        return True

    def enter(self, guest: Guest) -> None:
        """A connection is open."""
        self._guests.add(guest)

    def leave(self, guest: Guest) -> None:
        """A connection is closed, or as good as closed."""
        self._guests.discard(guest)
        self.reply_read(guest)

    def hold_body(self, guest: Guest, length: int) -> None:
        """``length`` more bytes of a body have come.

        At the limit the body that has been coming for longest is refused; it may be that of
        ``guest``.
        """
        self._bodies[guest] = self._bodies.get(guest, 0) + length
        self._body_bytes += length
        while self._body_bytes > MAX_BODIES:
            sending = [one for one in self._bodies if one.standing is Standing.SENDING]
            oldest = min(sending, key=lambda one: one.since, default=guest)
            self.release_body(oldest)
            oldest.give_up_body()

    def release_body(self, guest: Guest) -> None:
        """Nobody needs the body of a connection any more."""
        self._body_bytes -= self._bodies.pop(guest, 0)

    def hold_reply(self, guest: Guest, length: int) -> None:
        """A reply of ``length`` bytes waits for its caller to read it."""
        self.reply_read(guest)
        self._replies[guest] = length
        self._reply_bytes += length
        while self._reply_bytes > MAX_REPLIES and len(self._replies) > 1:
            oldest = next(iter(self._replies))
            self.leave(oldest)
            oldest.give_way()

    def reply_read(self, guest: Guest) -> None:
        """The reply has been read, or nobody will read it."""
        self._reply_bytes -= self._replies.pop(guest, 0)
