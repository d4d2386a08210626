"""Events over HTTP, as server-sent events.

The format is https://html.spec.whatwg.org/multipage/server-sent-events.html.
A stream writes only while its client reads.  A client that does not read for some seconds, or that
the ring of events has overtaken, is dropped: it may come back and say where it was.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from slardar.events import Entry, EventsAsked, LostError

__all__ = ["EventStream"]

#: Seconds between two signs of life, with which both sides see that the other one is there.
HEARTBEAT = 15.0
#: Seconds within which a client has to read all that waits for it.
PATIENCE = 10.0
#: Milliseconds after which a client that has lost its stream comes back.
_RETRY = 1000


class EventStream:
    """Writes the events that were asked for to one client.

    ``write`` takes bytes; ``drop`` closes the connection at once.  It is a push producer for the
    connection, which says when the client reads.
    """

    def __init__(
        self,
        reactor: Any,
        asked: EventsAsked,
        write: Callable[[bytes], None],
        drop: Callable[[], None],
    ) -> None:
        self._reactor = reactor
        self._write = write
        self._drop = drop
        self._is_full = False
        self._is_closed = False
        self._subscription = asked.subscribe(self._go_on)
        self._timer = reactor.callLater(HEARTBEAT, self._beat)

    def start(self) -> None:
        """Greet the client, and send what it has missed."""
        # With the id, a client that loses its stream before the first event misses nothing.
        self._write(f"retry: {_RETRY}\n".encode() + self._sign())
        self._go_on()

    def _sign(self) -> bytes:
        """A comment, and the place in the ring: a client keeps it, and sees no event."""
        return f": slardar\nid: {self._subscription.id}\n\n".encode()

    def _go_on(self) -> None:
        while not self._is_full and not self._is_closed and self._subscription.is_behind:
            try:
                entries = self._subscription.take()
            except LostError:
                self._give_up()
                return
            if entries:
                self._write(b"".join(map(_block, entries)))

    def _beat(self) -> None:
        """Nothing was written for a while, or nothing is read."""
        if self._is_full:
            self._give_up()
            return
        self._timer = self._reactor.callLater(HEARTBEAT, self._beat)
        self._write(self._sign())

    def _give_up(self) -> None:
        """The client is too slow."""
        self.close()
        self._drop()

    def pauseProducing(self) -> None:
        """The client does not read as fast as it is written to."""
        self._is_full = True
        if not self._is_closed:
            self._timer.reset(PATIENCE)

    def resumeProducing(self) -> None:
        """The client has read everything."""
        self._is_full = False
        if not self._is_closed:
            self._timer.reset(HEARTBEAT)
            self._go_on()

    def stopProducing(self) -> None:
        """The connection is lost."""
        self.close()

    def close(self) -> None:
        """Send no more.  A second call does nothing."""
        if not self._is_closed:
            self._is_closed = True
            self._subscription.close()
            if self._timer.active():
                self._timer.cancel()


def _block(entry: Entry) -> bytes:
    place = f"id: {entry.id}\n" if entry.id else ""
    return b"%sdata: %s\n\n" % (place.encode(), entry.data)
