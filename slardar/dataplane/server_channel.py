"""A channel to a server that is spoken to over TLS.

The protocol is told ``connected`` when the handshake has succeeded: before that, nothing of a
request is sent.  ``shaking`` says that the server is reached and the handshake under way.
"""

from __future__ import annotations

import os
import socket
import ssl
from typing import Final, final

from slardar.dataplane.channel import READ_SIZE
from slardar.dataplane.pollable import EPOLLIN
from slardar.dataplane.poller import Poller
from slardar.dataplane.sealed_channel import OPEN, SHAKING, SealedChannel
from slardar.dataplane.server_terms import (
    ServerTerms,
    failure,
    is_about_certificate,
    is_about_name,
    is_record,
)
from slardar.dataplane.system import Socket
from slardar.http1.interfaces import NAMED, REFUSED, UNSAID, ChannelProtocol

__all__ = ["ServerChannel"]

#: Reads after which no ticket for a session is expected any more.
_TICKETS_WITHIN: Final = 3
#: Bytes that come without any data in them, at most: a server also sends tickets.
_MOST_IDLE: Final = 40960


@final
class ServerChannel(SealedChannel):
    """See the module."""

    __slots__ = ("_heard", "_is_about_name", "_is_tls", "_reads", "_terms", "_tickets")

    def __init__(
        self, poller: Poller, sock: Socket, protocol: ChannelProtocol, terms: ServerTerms
    ) -> None:
        super().__init__(poller, sock, protocol, True)
        self._most_idle = _MOST_IDLE
        self._terms = terms
        self.name = terms.name
        #: The server has sent something; its first bytes may be TLS.
        self._heard = False
        self._is_tls = True
        #: The handshake may have failed only because of the name that was asked for.
        self._is_about_name = True
        #: Reads since the end of the handshake.
        self._reads = 0
        #: A session may still come: so many more reads are looked at.
        self._tickets = _TICKETS_WITHIN

    # The handshake.

    def event(self, events: int) -> None:
        """See the base."""
        if not self.connecting:
            super().event(events)
            return
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            self._lose(os.strerror(error))
            return
        self.connecting = False
        self.shaking = True
        self._watch(EPOLLIN)
        if self.introduced:
            # Together with the hello.
            self._send(self.introduced, socket.MSG_MORE)
        self._await_turn()

    def _look(self) -> None:
        """See the base."""
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        try:
            self._ssl = self._terms.begin(self.name, self._incoming, self._outgoing)
        except (OSError, ValueError) as error:
            self._fail(f"it cannot begin for the name {self.name!r}: {error}")
            return
        self._state = SHAKING

    def _keep(self, data: bytes) -> None:
        """See the base."""
        if not self._heard:
            self._heard = True
            self._is_tls = is_record(data)
        super()._keep(data)

    def _shaken(self) -> None:
        """See the base."""
        terms = self._terms
        problem = terms.problem(self._ssl)
        if problem:
            self._is_about_name = False
            self._fail(problem)
            return
        self.shaking = False
        terms.worked()
        if terms.keep_session(self.name, self._ssl):
            # That of TLS 1.2.  In TLS 1.3 sessions come later.
            self._tickets = 0
        self.protocol.connected(self)

    def _ended_early(self) -> None:
        """See the base."""
        self._fail("the server closed the connection within the handshake")

    def _reason(self, error: Exception) -> str:
        """See the base."""
        if self.shaking:
            self._is_about_name = is_about_name(error)
        elif not self._reads and is_about_certificate(error):
            # The server has not come to the request.
            self.fault = REFUSED
        return failure(error, self._is_tls)

    def _lose(self, message: str) -> None:
        # There is nobody who could be told of our end.
        self._closing = True
        if self.shaking:
            if not message.startswith("TLS: "):
                message = f"TLS: {message} within the handshake"
            if self._is_about_name and not self._terms.name:
                self.fault = NAMED
            self._terms.failed(message)
        elif self.fault == REFUSED:
            self._terms.failed(message)
        super()._lose(message)

    def late(self) -> None:
        """See the base."""
        if self.shaking and not self.arriving:
            self._terms.failed("TLS: handshake timed out")
        super().late()

    # Reading.

    def _open(self) -> None:
        """See the base."""
        if self._incoming.pending:
            super()._open()
            self._reads += 1
            if self._tickets and not self.closed and self._state == OPEN:
                self._tickets -= 1
                if self._terms.keep_session(self.name, self._ssl):
                    self._tickets = 0

    def _ended_unsaid(self) -> None:
        """See the base.  Somebody between may have cut the connection: a reply that has no other
        end is not whole (RFC 9112 9.8)."""
        self.fault = UNSAID
        super()._ended_unsaid()

    def is_quiet(self) -> bool:
        """See the base.  What has come may be tickets for sessions only."""
        if self.arriving or self._peer_ended or self.closed:
            return False
        try:
            data = self.sock.recv(READ_SIZE)
        except BlockingIOError:
            return not self._incoming.pending
        except OSError:
            return False
        if not data:
            return False
        self._incoming.write(data)
        try:
            self._ssl.read(1)
        except ssl.SSLWantReadError:
            self._send_waiting()
            return not self._incoming.pending
        except OSError:
            pass
        return False

    # Ending.

    def close(self) -> None:
        """See the base.  The server is told, unless it has not taken what it was sent."""
        if not self.closed and self._out is None:
            self._say_end()
        super().close()

    def abort(self) -> None:
        """See the base."""
        self._closing = True
        super().abort()
