"""The connections of heartbeats, on a poller of their own.

A heartbeat's answer may wait for some milliseconds, and a request may not.  So the answers of
very many servers are looked at together, every :data:`PAUSE` seconds, and each of them does
not wake the process.  (Measured with 2,000 heartbeats a second: to wake up for each costs as
much as all the rest.)  The first answer after a pause is looked at at once.
"""

from __future__ import annotations

import os
import select
import socket
import ssl
import time
from select import EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from typing import Any, Final, final

from mypy_extensions import mypyc_attr
from twisted.internet.interfaces import IReadDescriptor
from twisted.python.failure import Failure
from zope.interface import classImplements

from slardar.dataplane.channel import reset_when_closed
from slardar.dataplane.failurelog import BugLog
from slardar.dataplane.pool import begin_connect
from slardar.dataplane.sealed_channel import reason_of
from slardar.dataplane.server_terms import ServerTerms, failure, is_record
from slardar.dataplane.system import Socket
from slardar.http1.interfaces import Bytes, ChannelBase, ChannelProtocol

__all__ = ["ProbeChannel", "ProbePoller", "SealedProbeChannel"]

#: Seconds between two looks.
PAUSE: Final = 0.005
#: Seconds after which a look ends; the rest comes after the reactor's other work.
_TURN: Final = 0.005
#: Events between two looks at the clock: they mostly take a fifth of a millisecond together,
#: but a user's probe may take longer.
_FEW: Final = 8
#: Bytes read at once: no probe keeps more.
_READ_SIZE: Final = 16384

#: Everything is told once, when it becomes so.  So what is watched never has to be changed.
_EVENTS: Final = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET
_BROKEN: Final = EPOLLERR | EPOLLHUP
_ENDED: Final = EPOLLERR | EPOLLHUP | EPOLLRDHUP


@mypyc_attr(allow_interpreted_subclasses=True)
class ProbeChannel(ChannelBase):
    """A connection on which a probe asks.  It has no deadline."""

    __slots__ = ("_out", "_poller", "fd", "sock")

    def __init__(self, poller: ProbePoller, sock: Socket, protocol: ChannelProtocol) -> None:
        super().__init__(protocol, True)
        self._poller = poller
        self.sock = sock
        self.fd = sock.fileno()
        #: What the kernel did not take yet.
        self._out = b""
        poller.add(self)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "connecting" if self.connecting else "open"
        return f"<ProbeChannel {self.fd} {state}>"

    @property
    def unsent(self) -> bool:
        """See the base."""
        return bool(self._out)

    def write(self, data: Bytes) -> bool:
        """See the base."""
        if self.closed:
            return False
        if self._out:
            self._out += bytes(data)
            return True
        try:
            sent = self.sock.send(data)
        except BlockingIOError:
            sent = 0
        except OSError:
            # What the server has sent before is read first: a broken connection is told then.
            sent = 0
            self._poller.tell_again(self)
        if sent < len(data):
            self._out = bytes(data[sent:])
        return True

    def close(self) -> None:
        """See the base."""
        if not self.closed:
            self.closed = True
            if self._out:
                reset_when_closed(self.sock)
            self._poller.remove(self)

    # From the poller.

    def event(self, events: int) -> None:
        """Something has happened; ``events`` is epoll's mask."""
        if self.closed or self.at_end:
            return
        if self.connecting:
            if events & _BROKEN:
                error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                if error:
                    self._lose(os.strerror(error))
                    return
            self.connecting = False
            self._reached()
        elif self._out and not events & _BROKEN:
            self._send_on()
        if not self.closed and events & (EPOLLIN | _ENDED):
            self._read(events)

    def _send_on(self) -> None:
        try:
            sent = self.sock.send(self._out)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or "connection lost")
            return
        self._out = self._out[sent:]

    def _read(self, events: int) -> None:
        try:
            data = self.sock.recv(_READ_SIZE)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or "connection lost")
            return
        if not data:
            self._ended()
            return
        self._received(data)
        if not self.closed and (len(data) == _READ_SIZE or events & _ENDED):
            # More may be there, or the end behind the data, which was told already.
            self._poller.tell_again(self)

    def _lose(self, message: str) -> None:
        self.protocol.lost(self, message)
        self.close()

    # What happens on the connection.

    def _reached(self) -> None:
        """The connection is there."""
        self.protocol.connected(self)

    def _received(self, data: bytes) -> None:
        self.protocol.received(self, data)

    def _ended(self) -> None:
        self.at_end = True
        self.protocol.ended(self)


@final
class SealedProbeChannel(ProbeChannel):
    """A connection on which a probe asks over TLS.  The probe is told that it is connected once
    the handshake has succeeded.  ``header`` is sent before the handshake."""

    __slots__ = ("_header", "_incoming", "_is_tls", "_outgoing", "_ssl", "_terms")

    def __init__(
        self,
        poller: ProbePoller,
        sock: Socket,
        protocol: ChannelProtocol,
        terms: ServerTerms,
        header: bytes,
    ) -> None:
        super().__init__(poller, sock, protocol)
        self._terms = terms
        self._header = header
        self._is_tls: bool | None = None
        self._incoming: Any = None
        self._outgoing: Any = None
        self._ssl: Any = None

    def write(self, data: Bytes) -> bool:
        """See the base."""
        try:
            self._ssl.write(data)
        except OSError:
            return False  # the next read tells it
        return super().write(self._outgoing.read())

    def _reached(self) -> None:
        """See the base."""
        self.shaking = True
        if self._header:
            super().write(self._header)
        terms = self._terms
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            self._ssl = terms.begin(terms.name, self._incoming, self._outgoing)
        except (OSError, ValueError) as error:
            self._lose(f"TLS: {error}")
            return
        self._shake()

    def _shake(self) -> None:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            self._send_waiting()
            return
        except OSError as error:
            self._send_waiting()
            self._lose(f"TLS: {failure(error, self._is_tls is not False)}")
            return
        problem = self._terms.problem(self._ssl)
        if problem:
            self._lose(f"TLS: {problem}")
            return
        self.shaking = False
        self._send_waiting()
        self.protocol.connected(self)
        if not self.closed:
            self._open()

    def _received(self, data: bytes) -> None:
        """See the base."""
        if self._is_tls is None:
            self._is_tls = is_record(data)
        self._incoming.write(data)
        if self.shaking:
            self._shake()
        else:
            self._open()

    def _open(self) -> None:
        """Tell what is in the records that are complete."""
        while not (self.closed or self.at_end):
            try:
                data: bytes = self._ssl.read(_READ_SIZE)
            except ssl.SSLWantReadError:
                break
            except ssl.SSLZeroReturnError:
                data = b""
            except OSError as error:
                self._lose(f"TLS: {reason_of(error)}")
                return
            if data:
                self.protocol.received(self, data)
            else:
                super()._ended()
        if not self.closed:
            self._send_waiting()

    def _ended(self) -> None:
        """See the base."""
        if self.shaking:
            self._lose("TLS: the server closed the connection within the handshake")
        else:
            super()._ended()

    def _send_waiting(self) -> None:
        if self._outgoing.pending:
            super().write(self._outgoing.read())

    def close(self) -> None:
        """See the base.  The server is told, where its handshake has succeeded."""
        if not (self.closed or self.shaking or self.connecting or self._ssl is None):
            self._terms.keep_session(self._terms.name, self._ssl)
            try:
                self._ssl.unwrap()
            except OSError:
                pass  # the server has not said so yet
            self._send_waiting()
            self._out = b""
        super().close()


@final
class ProbePoller:
    """Carries events to the channels of the heartbeats of one process."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        #: There is none before the first connection.
        self._epoll: Any = None
        self._channels: dict[int, ProbeChannel] = {}
        #: The call for the next look; without one, the reactor tells that there is something.
        self._call: Any = None
        self._bugs = BugLog(time.monotonic)

    def connect(
        self, family: int, address: str, port: int, protocol: ChannelProtocol
    ) -> ChannelBase:
        """A channel that is being connected.  Raises OSError if that has failed already."""
        return ProbeChannel(self, begin_connect(family, address, port), protocol)

    def connect_sealed(
        self,
        terms: ServerTerms,
        header: bytes,
        family: int,
        address: str,
        port: int,
        protocol: ChannelProtocol,
    ) -> ChannelBase:
        """The same with TLS, and ``header`` before it."""
        sock = begin_connect(family, address, port)
        return SealedProbeChannel(self, sock, protocol, terms, header)

    def stop(self) -> None:
        """Close all channels, and leave the reactor."""
        for channel in list(self._channels.values()):
            channel.close()
        if self._epoll is None:
            return
        if self._call is None:
            self._reactor.removeReader(self)
        else:
            self._call.cancel()
            self._call = None
        self._epoll.close()
        self._epoll = None

    # For channels.

    def add(self, channel: ProbeChannel) -> None:
        """Tell the channel of its events."""
        if self._epoll is None:
            self._epoll = select.epoll()
            self._reactor.addReader(self)
        self._channels[channel.fd] = channel
        self._epoll.register(channel.fd, _EVENTS)

    def remove(self, channel: ProbeChannel) -> None:
        """Forget the channel and close its socket, which leaves the epoll with that."""
        del self._channels[channel.fd]
        channel.sock.close()

    def tell_again(self, channel: ProbeChannel) -> None:
        """Tell the channel of all that is so now, though it was told before."""
        self._epoll.modify(channel.fd, _EVENTS)

    # For the reactor.

    def fileno(self) -> int:
        """See :class:`twisted.internet.interfaces.IReadDescriptor`."""
        return -1 if self._epoll is None else int(self._epoll.fileno())

    def logPrefix(self) -> str:
        """See :class:`twisted.internet.interfaces.IReadDescriptor`."""
        return "heartbeats"

    def connectionLost(self, reason: Failure) -> None:
        """The reactor ends: nothing is left to do, because :meth:`stop` was called before."""

    def doRead(self) -> None:
        """There is something after a time in which there was nothing."""
        self._reactor.removeReader(self)
        self._look()

    def _look(self) -> None:
        """Tell channels of their events, and plan the next look."""
        self._call = None
        ends = time.monotonic() + _TURN
        told = 0
        count = _FEW
        while count == _FEW and self._epoll is not None:
            count = self._tell_some()
            told += count
            if time.monotonic() >= ends:
                break
        if self._epoll is None:
            return
        if told:
            self._call = self._reactor.callLater(0.0 if count == _FEW else PAUSE, self._look)
        else:
            self._reactor.addReader(self)

    def _tell_some(self) -> int:
        """Tell channels of a few events; answers of how many."""
        events: list[tuple[int, int]] = self._epoll.poll(0, _FEW)
        # All are found first: one of them may close another one, whose number may then
        # belong to a new one.
        found = [(self._channels.get(fd), event) for fd, event in events]
        for channel, event in found:
            if channel is not None:
                try:
                    channel.event(event)
                except BaseException:
                    self._failed(channel)
        return len(events)

    def _failed(self, channel: ProbeChannel) -> None:
        """Log a bug that was met on one channel.  It concerns no other channel."""
        self._bugs.note("error on {channel!r}", channel=channel)
        try:
            if not channel.closed:
                channel.protocol.lost(channel, "internal error")
        except BaseException:
            self._bugs.note("error while closing {channel!r}", channel=channel)
        channel.close()


# Not as a decorator: mypyc compiles no class that has one.
classImplements(ProbePoller, IReadDescriptor)
