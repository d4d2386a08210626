"""A channel of a client that speaks TLS.

Nothing is on the socket but TLS: bytes that come are given to OpenSSL in memory, and what it
makes of them is given to the protocol; what the protocol writes goes the other way.  There is
one call of the kernel for each read and each write, as without TLS.

A connection has these states::

    HELLO -> SHAKING -> OPEN        HELLO -> PLAIN: refused, in the clear

A handshake takes from a tenth of a millisecond to some milliseconds, so its steps wait for
turns (``Poller.turns``), which get a share of the time.
"""

from __future__ import annotations

import socket
import ssl
from select import EPOLLIN
from typing import Any, Final, final

from slardar.dataplane.channel import BULK_SIZE, BULK_VIEW, READ_SIZE, SMALL, Channel
from slardar.dataplane.client_hello import (
    INTERNAL_ERROR,
    NO_APPLICATION_PROTOCOL,
    UNRECOGNIZED_NAME,
    BadHello,
    HelloReader,
    alert,
    is_plain_http,
)
from slardar.dataplane.poller import Poller
from slardar.dataplane.steps import Arrival
from slardar.dataplane.tls_contexts import TlsContexts
from slardar.http1.client import ClientConnection
from slardar.http1.interfaces import Bytes, ChannelProtocol
from slardar.http1.tls import TlsFacts, subject_of
from slardar.model.listener import ListenerSpec
from slardar.model.tls import ALPN_HTTP

__all__ = ["TlsChannel"]

_HELLO: Final = 0
_SHAKING: Final = 1
_OPEN: Final = 2
_PLAIN: Final = 3

_HTTP: Final = ALPN_HTTP.encode("ascii")


@final
class TlsChannel(Channel):
    """See the module.  ``contexts`` are the certificates in service."""

    __slots__ = (
        "_closing",
        "_contexts",
        "_fresh",
        "_incoming",
        "_listener",
        "_name",
        "_outgoing",
        "_peer_ended",
        "_policy",
        "_reader",
        "_ssl",
        "_state",
        "_waits",
    )

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        protocol: ChannelProtocol,
        contexts: TlsContexts,
        listener: ListenerSpec,
    ) -> None:
        super().__init__(poller, sock, protocol)
        self._contexts = contexts
        self._listener = listener
        self._state = _HELLO
        self._reader: HelloReader | None = HelloReader()
        #: What came of the hello and was not looked at.
        self._fresh = b""
        #: The channel waits for its turn.
        self._waits = False
        self._name = ""
        self._policy: object = None
        self._ssl: Any = None
        self._incoming: Any = None
        self._outgoing: Any = None
        #: The client has said that it will send no more, behind what is to be handled first.
        self._peer_ended = False
        #: We have said so.
        self._closing = False

    def _fetch(self) -> bytes | None:
        """What has come on the socket; no bytes are its end.  ``None`` if nothing has come, or if
        the connection is lost."""
        try:
            return self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return None
        except OSError as error:
            self._lose(error.strerror or "connection lost")
            return None

    # The handshake.

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
            self.arrive(b"")
            return
        if self._state == _HELLO:
            self._fresh = data
        else:
            self._incoming.write(data)
        self._waits = True
        self._poller.turns.append(self)

    def take_turn(self) -> None:
        """Go on with the handshake, with what has come."""
        self._waits = False
        if self.closed:
            return
        if self._state == _HELLO:
            self._look()
        if self._state == _SHAKING:
            self._shake()
        if not (self.closed or self._events & EPOLLIN or self.at_end):
            self.resume()

    def _look(self) -> None:
        """Look at what has come of the hello."""
        reader = self._reader
        assert reader is not None
        fresh, self._fresh = self._fresh, b""
        if not reader.raw and is_plain_http(fresh):
            self._refuse_plain()
            return
        try:
            hello = reader.feed(fresh)
        except BadHello as problem:
            self._refuse(problem.description, problem.message)
            return
        if hello is None:
            return
        self._reader = None
        self._name = hello.name
        if hello.protocols and _HTTP not in hello.protocols:
            self._refuse(NO_APPLICATION_PROTOCOL, "the client speaks no HTTP/1.1")
            return
        try:
            served = self._contexts.find(hello.name, self._listener)
        except (OSError, ValueError) as error:
            self._refuse(INTERNAL_ERROR, f"the certificate cannot be used: {_reason(error)}")
            return
        if served is None:
            about = f"no certificate is for {hello.name!r}" if hello.name else "it names no server"
            self._refuse(UNRECOGNIZED_NAME, about)
            return
        self._policy = served.policy
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._ssl = served.context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._incoming.write(reader.raw)
        self._state = _SHAKING

    def _shake(self) -> None:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._send_waiting()
            return
        except OSError as error:
            self._fail(_reason(error))
            return
        try:
            subject = subject_of(self._ssl.getpeercert() or {})
        except ValueError:
            # A CA has signed names that are no text.
            self._fail("the client's certificate cannot be read")
            return
        self._state = _OPEN
        self.tls = TlsFacts(self._ssl.version(), self._name, subject, self._policy, self._ssl)
        self._send_waiting()
        # Often the first request has come together with the end of the handshake.
        self._open()

    def _refuse(self, description: int, reason: str) -> None:
        """Refuse a hello with an alert."""
        self._state = _PLAIN
        self._send(alert(description), 0)
        self._fail(reason)

    def _refuse_plain(self) -> None:
        """The client speaks HTTP without TLS: it gets a reply that it understands."""
        self._state = _PLAIN
        protocol = self.protocol
        if isinstance(protocol, ClientConnection):
            protocol.refuse_plain()
        else:
            self._lose("the client speaks no TLS")

    def _fail(self, reason: str) -> None:
        """TLS has failed.  OpenSSL may have left an alert to be sent."""
        shaken = self._state == _OPEN
        self._send_waiting()
        self._state = _PLAIN
        if not shaken:
            protocol = self.protocol
            client = protocol.peer if isinstance(protocol, ClientConnection) else b""
            self._contexts.failed(self._listener.id, client.decode("ascii"), reason)
        self._lose(f"TLS: {reason}")

    def _send_waiting(self) -> None:
        """Send what OpenSSL has to say itself."""
        outgoing = self._outgoing
        if outgoing is not None and outgoing.pending:
            self._send(outgoing.read(), 0)

    # Reading.

    def readable(self) -> None:
        """There are bytes, or the peer's end."""
        if self._state == _OPEN:
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
                # The end without a word.  HTTP knows by itself what is not whole.
                self.arriving = True
                self._poller.arrived.append((self, b""))
        elif self._state == _PLAIN:
            super().readable()
        else:
            self._greet()

    def _open(self) -> None:
        """Open the records that are complete, and hand on what was in them."""
        incoming, opened = self._incoming, self._ssl
        size = 0
        try:
            while size < BULK_SIZE and (incoming.pending or opened.pending()):
                got: int = opened.read(BULK_SIZE - size, BULK_VIEW[size:])
                if not got:
                    self._peer_ended = True
                    break
                size += got
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._peer_ended = True
        except OSError as error:
            self._fail(_reason(error))
            return
        if self._outgoing.pending:
            self._send_waiting()
        if not size:
            if self._peer_ended and not self.at_end:
                self.arriving = True
                self._poller.arrived.append((self, b""))
            return
        if size > SMALL and (self.eager or not self.bulk):
            # Handled at once, as the base does.
            self._poller.much = True
            view = BULK_VIEW[:size]
            self.protocol.received(self, view if self.eager else bytes(view))
            self._tell_end()
            return
        data = bytes(BULK_VIEW[:size])
        self.arriving = True
        if self.queue:
            self._poller.steps.append((self, Arrival(self, data), self.queue))
        else:
            self._poller.arrived.append((self, data))

    def arrive(self, data: bytes) -> None:
        """Handle what was read; no bytes are the peer's end."""
        super().arrive(data)
        self._tell_end()

    def _tell_end(self) -> None:
        if self._peer_ended and not (self.closed or self.at_end):
            super().arrive(b"")

    def is_quiet(self) -> bool:
        """See the base.  A client in the middle of a handshake is about to ask something."""
        return self._state != _SHAKING and not self._waits and super().is_quiet()

    # Writing.

    def write(self, data: Bytes) -> bool:
        """See the base."""
        if self._gathered is not None:
            self._flush()
        if self._state == _PLAIN:
            return self._send(data, 0)
        return self._seal(data) and self._send(self._outgoing.read(), 0)

    def write_both(self, head: bytes, data: Bytes) -> None:
        """See the base."""
        if self._state == _PLAIN:
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
        if self._state != _OPEN or self.closed:
            return False
        try:
            sent: int = self._ssl.write(data)
            while sent < len(data):
                sent += self._ssl.write(memoryview(data)[sent:])
        except OSError as error:
            # The next read finds an end, and tells this error.
            self._error = f"TLS: {_reason(error)}"
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
        if self._state == _OPEN and not self._closing:
            self._closing = True
            try:
                self._ssl.unwrap()
            except OSError:
                pass  # the client has not said so yet
            self._send_waiting()
        if self._out is not None:
            return False
        return super()._shut_down()


def _reason(error: Exception) -> str:
    """The reason of OpenSSL's errors, for people."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the client's certificate: {error.verify_message}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return error.reason.lower().replace("_", " ")
    if isinstance(error, OSError) and error.errno and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
