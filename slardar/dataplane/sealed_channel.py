"""The base of channels that speak TLS, on either side of it.

Nothing is on the socket but TLS: bytes that come are given to OpenSSL in memory, and what it
makes of them is given to the protocol; what the protocol writes goes the other way.  There is
one call of the kernel for each read and each write, as without TLS.

A connection has these states::

    BEFORE -> SHAKING -> OPEN -> BROKEN      BEFORE -> CLEAR: no TLS after all

A handshake takes from a tenth of a millisecond to some milliseconds, so its steps wait for
turns (``Poller.turns``), which get a share of the time.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any, Final

from mypy_extensions import mypyc_attr

from slardar.dataplane.channel import BULK_SIZE, BULK_VIEW, READ_SIZE, SMALL, Channel
from slardar.dataplane.poller import Poller
from slardar.dataplane.system import Socket
from slardar.http1.interfaces import Bytes, ChannelProtocol

__all__ = [
    "BEFORE",
    "BROKEN",
    "CLEAR",
    "OPEN",
    "SHAKING",
    "SealedChannel",
    "engine_of",
    "reason_of",
]

#: Bytes that come without any data in them, at most, before a peer is told to go: more than the
#: longest record in pieces.  A KeyUpdate has 27 bytes and takes 30 µs (measured), and OpenSSL goes
#: through all that it is given before it answers.
_IDLE: Final = 17408
#: Bytes of data in a record, at most (RFC 8446 5.1).
_RECORD: Final = 16384
#: What OpenSSL answers by itself to a peer that reads nothing, at most.
_UNREAD: Final = 16384

BEFORE: Final = 0
SHAKING: Final = 1
OPEN: Final = 2
CLEAR: Final = 3
BROKEN: Final = 4


@mypyc_attr(allow_interpreted_subclasses=True)
class SealedChannel(Channel):
    """See the module."""

    __slots__ = (
        "_closing",
        "_engine",
        "_idle",
        "_incoming",
        "_most_idle",
        "_outgoing",
        "_peer_ended",
        "_room",
        "_ssl",
        "_state",
        "_tame",
        "_unread",
        "_waits",
    )

    def __init__(
        self,
        poller: Poller,
        sock: Socket,
        protocol: ChannelProtocol,
        connecting: bool = False,
    ) -> None:
        super().__init__(poller, sock, protocol, connecting)
        self._state = BEFORE
        #: The channel waits for its turn.
        self._waits = False
        self._ssl: Any = None
        #: What ``_ssl`` passes its calls to; known from the first step of the handshake on.
        self._engine: Any = None
        self._incoming: Any = None
        self._outgoing: Any = None
        #: Bytes read at once: few, until many have brought data.
        self._room = SMALL
        #: The peer has sent much with little data in it, so the room stays small.
        self._tame = False
        #: Bytes that came since there were data in them, and how many there may be.
        self._idle = 0
        self._most_idle = _IDLE
        #: Bytes that OpenSSL has answered since the peer has read everything.
        self._unread = 0
        #: The peer has said that it will send no more, behind what is to be handled first.
        self._peer_ended = False
        #: We have said so.
        self._closing = False

    # For subclasses.

    def _look(self) -> None:
        """Begin the handshake if it can begin by now: make ``_ssl``, and be SHAKING."""
        raise NotImplementedError

    def _keep(self, data: bytes) -> None:
        """Keep what has come of the handshake until the channel's turn."""
        self._incoming.write(data)

    def _step(self) -> bool:
        """Take a step of the handshake; False if it waits for more.  Raises what OpenSSL
        raises."""
        try:
            self._engine.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True

    def _shaken(self) -> None:
        """The handshake has succeeded."""
        raise NotImplementedError

    def _ended_early(self) -> None:
        """The connection has ended before the end of the handshake."""
        self.arrive(b"")

    def _ended_unsaid(self) -> None:
        """The connection has ended, and TLS did not say so before."""
        self._hand_on(b"")

    def _reason(self, error: Exception) -> str:
        """The reason of one of OpenSSL's errors, for people."""
        return reason_of(error)

    # The handshake.

    def _fetch(self) -> bytes | None:
        """What has come on the socket; no bytes are its end.  ``None`` if nothing has come, or if
        the connection is lost."""
        try:
            return self.sock.recv(self._room)
        except BlockingIOError:
            return None
        except OSError as error:
            self._lose(error.strerror or "connection lost")
            return None

    def _greet(self) -> None:
        """Read what there is of the handshake, and wait for a turn."""
        if self._waits:
            # More came than a handshake needs: let the kernel keep it.
            self.pause()
            return
        data = self._fetch()
        if data is None:
            return
        if not data:
            self._ended_early()
            return
        self._keep(data)
        self._await_turn()

    def _await_turn(self) -> None:
        self._waits = True
        self._poller.turns.append(self)

    def take_turn(self) -> None:
        """Go on with the handshake, with what has come."""
        self._waits = False
        if self.closed:
            return
        # Now, because the protocol may pause it for a reason of its own.
        self.resume()
        if self._state == BEFORE:
            self._look()
        if self._state == SHAKING:
            self._shake()

    def _shake(self) -> None:
        if self._engine is None:
            self._engine = engine_of(self._ssl)
        try:
            done = self._step()
        except OSError as error:
            self._fail(self._reason(error))
            return
        if not done:
            self._send_waiting()
            return
        self._state = OPEN
        self._shaken()
        if self.closed:
            return
        if self._gathered is None:
            # Else it goes out with what was gathered.
            self._send_waiting()
        # Often something has come together with the end of the handshake.
        self._open()

    def _fail(self, reason: str) -> None:
        """TLS has failed.  OpenSSL may have left an alert to be sent."""
        self._send_waiting()
        self._state = BROKEN
        self._lose(f"TLS: {reason}")

    def _send_waiting(self) -> None:
        """Send what OpenSSL has to say itself."""
        outgoing = self._outgoing
        if outgoing is not None and outgoing.pending:
            self._send(outgoing.read(), 0)

    # Reading.

    def readable(self) -> None:
        """There are bytes, or the peer's end."""
        if self._state == OPEN:
            if self.arriving:
                # What was read before is handled first.
                return
            data = self._fetch()
            if data is None:
                return
            if data:
                self._incoming.write(data)
                self._open()
            else:
                self._ended_unsaid()
        elif self._state == CLEAR:
            super().readable()
        else:
            self._greet()

    def _open(self) -> None:
        """Open the records that are complete, and hand on what was in them."""
        incoming, engine = self._incoming, self._engine
        came: int = incoming.pending
        size = 0
        #: Everything, if one record had all of it; else it is in the shared buffer.
        data = b""
        try:
            more = came > 0 or engine.pending() > 0
            if more and not self.eager:
                data = engine.read(_RECORD)
                size = len(data)
                more = incoming.pending > 0 or engine.pending() > 0
                if not size:
                    self._peer_ended = True
                elif more:
                    BULK_VIEW[:size] = data
                    data = b""
            while more and size < BULK_SIZE and not self._peer_ended:
                got: int = engine.read(BULK_SIZE - size, BULK_VIEW[size:])
                if not got:
                    self._peer_ended = True
                size += got
                more = incoming.pending > 0 or engine.pending() > 0
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._peer_ended = True
        except OSError as error:
            self._fail(self._reason(error))
            return
        if size:
            self._idle = 0
        else:
            self._idle += came
            if self._idle > self._most_idle:
                self._fail("too much without data")
                return
        if self._outgoing.pending and not self._answer():
            return
        if came - size > 4096:
            # The time went into the messages of TLS, or a long record is there in part.
            self._poller.much = True
            if came - size > 2 * _IDLE:
                self._tame = True
                self._room = SMALL
        elif 2 * size > SMALL and not self._tame:
            self._room = READ_SIZE
        if not size:
            if self._peer_ended and not self.at_end:
                self._hand_on(b"")
            return
        if size > SMALL and (self.eager or not self.bulk):
            # Handled at once, as the base does.
            self._poller.much = True
            view = BULK_VIEW[:size]
            self.protocol.received(self, view if self.eager else data or bytes(view))
            self._tell_end()
            return
        if not data:
            data = bytes(BULK_VIEW[:size])
        self._hand_on(data)

    def _answer(self) -> bool:
        """Send what OpenSSL answers by itself; False if the peer reads none of it."""
        if self._out is None:
            self._unread = 0
        self._unread += self._outgoing.pending
        self._send_waiting()
        if self._unread > _UNREAD and self._out is not None:
            self._fail("the peer does not read what it asks for")
            return False
        return True

    def arrive(self, data: bytes) -> None:
        """Handle what was read; no bytes are the peer's end."""
        super().arrive(data)
        self._tell_end()

    def _tell_end(self) -> None:
        if self._peer_ended and not (self.closed or self.at_end):
            super().arrive(b"")

    # Writing.

    def write(self, data: Bytes) -> bool:
        """See the base."""
        if self._gathered is not None:
            self._flush()
        if self._state == CLEAR:
            return self._send(data, 0)
        return self._seal(data) and self._send(self._outgoing.read(), 0)

    def write_both(self, head: bytes, data: Bytes) -> None:
        """See the base."""
        if self._state == CLEAR:
            super().write_both(head, data)
            return
        if self._gathered is not None:
            self._flush()
        if self._seal(head) and self._seal(data):
            self._send(self._outgoing.read(), 0)

    def write_behind(self, data: memoryview) -> None:
        """See the base."""
        head = self._gathered
        if head is None:
            self.write(data)
        else:
            self._gathered = None
            self.write_both(head, data)

    def _seal(self, data: Bytes) -> bool:
        """Put bytes into records; False if the connection is broken."""
        if self._state != OPEN or self.closed:
            return False
        try:
            sent: int = self._engine.write(data)
            while sent < len(data):
                sent += self._engine.write(memoryview(data)[sent:])
        except OSError as error:
            # The next read finds an end, and tells this error.
            self._error = f"TLS: {self._reason(error)}"
            self._break()
            return False
        return True

    def _break(self) -> None:
        try:
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it is broken already

    # Ending.

    def _shut_down(self) -> bool:
        """See the base.  TLS says first that our side ends (RFC 8446 6.1)."""
        self._say_end()
        if self._out is not None:
            return False
        return super()._shut_down()

    def _say_end(self) -> None:
        if self._state == OPEN and not self._closing:
            self._closing = True
            try:
                self._ssl.unwrap()
            except OSError:
                pass  # the peer has not said so yet
            self._send_waiting()


def engine_of(tls: Any) -> Any:
    """What an ``SSLObject`` passes most of its calls to; the object itself where that is not
    to be had.

    The object's own methods are Python, of which a request would take four calls.
    """
    return getattr(tls, "_sslobj", None) or tls


def reason_of(error: Exception) -> str:
    """The reason of one of OpenSSL's errors, for people."""
    # Some of OpenSSL's errors have no reason, which ssl's types do not say: compiled code would
    # raise TypeError.
    told: Any = error
    if isinstance(error, ssl.SSLCertVerificationError):
        text = str(told.verify_message).rstrip(".")
        # "Hostname mismatch", and all others in lower case.
        return text[:1].lower() + text[1:] if text[1:2].islower() else text
    if isinstance(error, ssl.SSLError) and told.reason:
        return str(told.reason).lower().replace("_", " ")
    if isinstance(error, OSError) and error.errno and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
