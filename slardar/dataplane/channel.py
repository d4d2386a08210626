"""A connected socket on the poller, with what it could not send yet.

A channel tells its protocol what happens: ``received(channel, data)``, ``ended(channel)``
(the peer closed its side), ``lost(channel, message)``, ``drained(channel)``,
``late(channel)``, and ``connected(channel)`` if the channel had to be connected first.
After ``close`` it tells nothing more.

:class:`Channel` is the base of all kinds of channels.  Everything that is sent on one goes
through its ``write``.  The kind for connections whose bytes are sent as they are is
:class:`slardar.dataplane.plain_channel.PlainChannel`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import Final

from mypy_extensions import mypyc_attr

from slardar.dataplane.pollable import (
    EPOLLERR,
    EPOLLHUP,
    EPOLLIN,
    EPOLLONESHOT,
    EPOLLOUT,
    Batched,
)
from slardar.dataplane.poller import Poller
from slardar.dataplane.steps import Arrival
from slardar.dataplane.system import PEEK, Socket, end_side
from slardar.http1.interfaces import Bytes, ChannelBase, ChannelProtocol, Step
from slardar.http1.proxy_header import Ends

__all__ = ["Channel", "reset_when_closed"]

#: Looked up once: mypyc looks up names of modules that it does not compile at each use.
_end_side: Final = end_side

#: Bytes read at once.  A head and a small body fit many times over.
READ_SIZE: Final = 65536
#: Bytes read at once in the middle of a large body, into one buffer that all channels
#: share.  256 KiB was the cheapest of 64 KiB to 1 MiB (measured).
BULK_SIZE: Final = 262144
BULK: Final = bytearray(BULK_SIZE)
BULK_VIEW: Final = memoryview(BULK)

#: ``write_soon`` gathers up to so many bytes within a batch: more than a head, and few
#: enough that those of a whole batch stay in the processor's cache.
SMALL: Final = 8192
#: Bytes that a channel in ``bulk`` reads at once.  A small reply fits.  The body of a
#: larger one is moved after the heads of the batch have been handled.
FIRST_SIZE: Final = SMALL

#: With more bytes than the first waiting to be sent a channel is congested, until no
#: more than the second are left.
HIGH_MARK: Final = 65536
LOW_MARK: Final = 16384

#: The value of SO_LINGER with which closing a socket resets the connection.
_RESET: Final = struct.pack("ii", 1, 0)
_BROKEN: Final = EPOLLERR | EPOLLHUP


@mypyc_attr(allow_interpreted_subclasses=True)
class Channel(ChannelBase, Batched):
    """See the module.  No method blocks.  Only the poller calls methods that call the
    protocol."""

    __slots__ = (
        "_awaits_body",
        "_error",
        "_events",
        "_filled",
        "_finishing",
        "_gathered",
        "_leaving",
        "_out",
        "_poller",
        "came",
        "fd",
        "sock",
        "takes_spliced",
        "to_server",
    )

    def __init__(
        self,
        poller: Poller,
        sock: Socket,
        protocol: ChannelProtocol,
        connecting: bool = False,
    ) -> None:
        super().__init__(protocol, connecting)
        self._poller = poller
        self.sock = sock
        self.fd = sock.fileno()
        #: Those of clients are accepted, and connected from the beginning.
        self.to_server = connecting
        #: Whether bytes may be spliced to the socket, past ``write``.  A kind of channel
        #: that sends its bytes as they are says so itself.
        self.takes_spliced: bool = False
        #: What ``write_soon`` was given, to be sent at the end of this batch.
        self._gathered: bytes | None = None
        #: What the kernel did not take yet.  Not ``None`` once closed: sending looks here.
        self._out: bytearray | None = None
        #: What was read and not handled yet; see ``Batched``.
        self.came = b""
        #: Our side ends when everything is sent.
        self._finishing = False
        #: Then the channel closes, too, unless that would lose something.
        self._leaving = False
        #: Why a send failed.  The kernel tells it once; later reads find an end in order.
        self._error = ""
        #: In this batch a body may be moved here, which what was gathered goes out with.
        self._awaits_body = False
        #: The last read got as much as it asked for.
        self._filled = False
        self._events = EPOLLOUT if connecting else EPOLLIN
        poller.add(self, self._events)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "connecting" if self.connecting else "open"
        return f"<{type(self).__name__} {self.fd} {state} {self.protocol!r}>"

    def wait(self, seconds: float) -> None:
        """See the base."""
        self.deadline = self._poller.clock.now + seconds

    def both_ends(self) -> Ends:
        """See the base.  The kernel is asked once."""
        ends = self.ends
        if ends is None:
            ends = self.ends = ends_of(self.sock)
        return ends

    # Writing.

    @property
    def unsent(self) -> bool:
        """See the base."""
        return bool(self._out or self._gathered)

    @property
    def held(self) -> int:
        """See :class:`slardar.dataplane.pollable.Pollable`."""
        out, gathered = self._out, self._gathered
        size = 0 if out is None else len(out)
        return size if gathered is None else size + len(gathered)

    def write(self, data: Bytes) -> bool:
        """See the base."""
        if self._gathered is not None:
            self._flush()
        return self._send(data, 0)

    def _send(self, data: Bytes, flags: int) -> bool:
        if self._out is not None:
            self._hold(data)
            return not self.closed
        try:
            sent = self.sock.send(data, flags)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._send_failed(error)
            self._hold(data)
            return not self._error
        if sent < len(data):
            self._hold(memoryview(data)[sent:])
        return True

    def write_soon(self, data: bytes) -> None:
        """See the base."""
        if self._gathered is not None:
            data = self._gathered + data
            if len(data) <= SMALL:
                self._gathered = data
                return
            self._gathered = None
        elif self._poller.gathering and self._out is None:
            self._gathered = data
            self._poller.unsent.append(self)
            return
        self.write(data)

    def write_both(self, head: bytes, data: Bytes) -> None:
        """See the base."""
        self.write(head)
        self.write(data)

    def put_off(self, step: Step, key: str = "") -> bool:
        """See the base."""
        poller = self._poller
        if poller.gathering:
            poller.steps.append((self, step, key))
            return True
        return False

    def take_later(self, step: Step, key: str) -> None:
        """See the base."""
        self._poller.take_later(self, step, key)

    def flush(self) -> None:
        """Send what was gathered, unless it goes out with a body."""
        if self._gathered is not None and not self._awaits_body:
            self._flush()
            if self._leaving and self._out is None:
                self._poller.leaving.append(self)

    def leave(self) -> None:
        """End what was to end when everything is sent."""
        if self._out is None:
            self._end_in_order()
            if not self.closed:
                # The peer's time to end its side begins now.
                self.protocol.drained(self)

    def _flush(self) -> None:
        data = self._gathered
        if data is None:
            return
        self._gathered = None
        self.write(data)

    def _send_failed(self, error: OSError) -> None:
        """Remember why a send failed.  The bytes are held then, so that the poller calls,
        and the protocol is told.

        A kernel that is short of memory for a moment has broken nothing.
        """
        if error.errno not in (errno.ENOBUFS, errno.ENOMEM):
            self._error = error.strerror or "connection lost"

    def _hold(self, data: Bytes) -> None:
        if self.closed:
            return
        out = self._out
        if out is None:
            self._out = out = bytearray(data)
            self._watch(self._events | EPOLLOUT)
        else:
            out += data
        if len(out) > HIGH_MARK:
            self.congested = True

    # Taking bytes that another channel moves here.

    def await_body(self, awaits: bool) -> None:
        """Whether what is gathered waits for a body that may be moved here in this batch."""
        self._awaits_body = awaits

    def write_behind(self, data: memoryview) -> None:
        """Send much behind what was gathered."""
        self.write(data)

    def take_spliced(self, pipe: int, size: int) -> None:
        """Send ``size`` bytes out of the pipe with this descriptor, behind what was gathered.

        Called only where ``takes_spliced`` is true.
        """
        raise NotImplementedError

    def take_turn(self) -> None:
        """See the base.  Only kinds that put themselves on ``turns`` have such work."""
        raise NotImplementedError

    # Ending.

    def finish_writing(self) -> None:
        """See the base."""
        self._flush()
        self._finishing = True
        if self._out is None and not self.closed:
            self._shut_down()

    def close_when_flushed(self) -> None:
        """See the base.  What was gathered is sent at the end of the batch, as always."""
        if self.closed:
            return
        self._finishing = self._leaving = True
        if self._gathered is None and self._out is None and self._shut_down():
            self.close()

    def _end_in_order(self) -> None:
        """Everything is sent that was to be sent before our side ends."""
        if self._shut_down():
            self._lose("connection closed")

    def close(self) -> None:
        """Close now.  If something was not sent, the peer gets a reset: it must neither
        take what it has for the whole, nor wait for the rest."""
        if not self.closed:
            if self._out or self._gathered:
                reset_when_closed(self.sock)
            self._gathered = None
            self.closed = True
            self._out = bytearray()
            self._poller.remove(self)

    def abort(self) -> None:
        """See the base."""
        if not self.closed:
            reset_when_closed(self.sock)
            self.close()

    def _shut_down(self) -> bool:
        """End our side.  True if the channel is to close, and closing it now loses nothing
        of what was sent.

        The kernel resets a connection that is closed with bytes unread, or that gets some
        later.  The reset destroys what the peer's kernel has not acknowledged, and on some
        systems also what the peer's program has not read (RFC 9112 9.6).
        """
        if self._leaving and self.at_end:
            return True  # nothing more can come
        return _end_side(self.sock, self._leaving)

    # Reading.

    def pause(self) -> None:
        """See the base."""
        if self._events & EPOLLIN:
            self._watch(self._events & ~EPOLLIN)

    def resume(self) -> None:
        """See the base."""
        if not (self._events & EPOLLIN or self.at_end or self.connecting):
            self._watch((self._events | EPOLLIN) & ~EPOLLONESHOT)

    def is_quiet(self) -> bool:
        """See the base.  This asks the kernel."""
        if self.arriving:
            return False
        try:
            self.sock.recv(1, PEEK)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def probe(self, idle: int) -> None:
        """See the base.  The peer's kernel is asked; two questions without an answer end it."""
        try:
            sock = self.sock
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, idle)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, max(1, idle // 4))
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        except OSError:
            pass  # a unix socket has no probes and needs none

    def _watch(self, events: int) -> None:
        if events != self._events and not self.closed:
            self._events = events
            self._poller.change(self, events)

    # From the poller.

    def readable(self) -> None:
        """There are bytes, or the peer's end."""
        if self.arriving:
            # What was read before is handled first.
            return
        try:
            if self.eager:
                # On a line of its own: mypyc would evaluate a slice's end twice.
                size = self.sock.recv_into(BULK, BULK_SIZE)
                if size > SMALL:
                    # Handled at once: it is in the processor's cache now, and the buffer
                    # is the next channel's.
                    self._poller.much = True
                    self.protocol.received(self, BULK_VIEW[:size])
                    return
                data = bytes(BULK_VIEW[:size])
            elif self.bulk:
                data = self.sock.recv(FIRST_SIZE)
                self._filled = len(data) == FIRST_SIZE
            else:
                data = self.sock.recv(READ_SIZE)
                if len(data) > SMALL:
                    self._poller.much = True
                    self.protocol.received(self, data)
                    return
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or "connection lost")
            return
        self._hand_on(data)

    def _hand_on(self, data: bytes) -> None:
        """Let this be handled after everything of this batch is read; no bytes are the peer's
        end."""
        self.arriving = True
        if self.queue:
            self._poller.steps.append((self, Arrival(self, data), self.queue))
        else:
            self.came = data
            self._poller.arrived.append(self)

    def read_on(self) -> bytes:
        """See the base."""
        if self._filled:
            self._filled = False
            try:
                return self.sock.recv(BULK_SIZE)
            except BlockingIOError:
                pass
            except OSError as error:
                # The next read finds an end and tells this error instead.
                self._error = error.strerror or "connection lost"
        return b""

    def arrive(self, data: bytes) -> None:
        """Handle what was read; no bytes are the peer's end."""
        self.arriving = False
        self.came = b""
        if self.closed:
            return  # by what another channel did in this batch
        if data:
            self.protocol.received(self, data)
        elif self._error:
            self._lose(self._error)
        else:
            self.at_end = True
            self.protocol.ended(self)
            if not self.closed:
                self.pause()

    def event(self, events: int) -> None:
        """Something other than bytes alone."""
        if self.arriving:
            # epoll tells it again after what was read before is handled.
            return
        if events & _BROKEN and not self.connecting:
            self._broken()
            return
        if events & EPOLLOUT or self.connecting:
            self._writable()
            if self.closed:
                return
        if events & self._events & EPOLLIN:
            self.readable()

    def _broken(self) -> None:
        """The peer has reset the connection, or both sides have ended it.

        Nothing more can be sent.  What the peer sent before is read first: a server that
        refuses an upload replies, and resets the connection because of what it leaves
        unread.
        """
        if self._events & EPOLLIN:
            self.readable()
            return
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error or self.at_end or self._out is not None:
            self._lose(os.strerror(error) if error else self._error or "connection closed")
        else:
            # Both sides have ended in order, and bytes may be left to read.  epoll would
            # tell this again and again; EPOLLONESHOT silences it until resume().
            self._watch(EPOLLONESHOT)

    def _writable(self) -> None:
        if self.connecting:
            error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._lose(os.strerror(error))
                return
            self.connecting = False
            self._watch(EPOLLIN)
            self.protocol.connected(self)
            return
        out = self._out
        if out is None:
            return
        try:
            sent = self.sock.send(out)
        except BlockingIOError:
            return
        except OSError as error:
            self._lose(error.strerror or "connection lost")
            return
        del out[:sent]
        if out:
            self.wait(self.send_timeout)
        else:
            self._out = None
            self._watch(self._events & ~EPOLLOUT)
            if self._finishing:
                self._end_in_order()
                if self.closed:
                    return
        if not out or (self.congested and len(out) <= LOW_MARK):
            self.congested = False
            self.protocol.drained(self)

    def _lose(self, message: str) -> None:
        self.protocol.lost(self, message)
        self.close()

    def late(self) -> None:
        """The deadline has passed."""
        if self.arriving:
            # The peer was in time: what it has sent is still to be handled.
            return
        self.deadline = 0.0
        self.protocol.late(self)

    def failed(self) -> None:
        """A bug was met while an event was handled: the protocol cleans up."""
        self.protocol.lost(self, "internal error")
        self.close()

    def gone(self) -> None:
        """See the base.  A channel and its protocol refer to each other: they would be in memory
        until Python looks for garbage, with TLS 50 KiB of each connection."""
        self.protocol = NOBODY


class _Nobody(ChannelProtocol):
    """The protocol of channels that are closed: it is told nothing."""

    __slots__ = ()


NOBODY: Final[ChannelProtocol] = _Nobody()


def ends_of(sock: Socket) -> Ends:
    """The two ends of a connection, as the kernel knows them."""
    if sock.family == socket.AF_UNIX:
        return Ends()
    try:
        client, local = sock.getpeername(), sock.getsockname()
    except OSError:
        return Ends()  # the connection is broken
    return Ends(client[0], client[1], local[0], local[1])


def reset_when_closed(sock: Socket) -> None:
    """Let closing the socket reset its connection."""
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    except OSError:
        pass  # the connection is reset already
