"""A connected socket on the poller, with what it could not send yet.

A channel's protocol is told what happens: ``received(channel, data)``,
``ended(channel)`` (the peer closed its side), ``lost(channel, message)``,
``drained(channel)``, ``late(channel)``, and ``connected(channel)`` if the channel
had to be connected first.  After ``close`` nothing more is told.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from fcntl import ioctl
from select import EPOLLERR, EPOLLHUP, EPOLLIN, EPOLLONESHOT, EPOLLOUT
from termios import TIOCOUTQ
from typing import Any, Final

from slardar.dataplane.poller import Poller
from slardar.http1.interfaces import ChannelBase, ChannelProtocol, Step

__all__ = ["Channel"]

#: Bytes read at once.  A head and a small body fit many times over.
READ_SIZE: Final = 65536
#: Bytes read at once from a channel in the middle of a large body, into one buffer
#: that all channels share: 256 KiB was the cheapest of 64 KiB to 1 MiB measured.
BULK_SIZE: Final = 262144
#: Bytes that must be left of a body to leave it in the kernel: three calls instead of a
#: read and a write cost as much as copying 16 to 32 KiB, twice.
SPLICE_FROM: Final = 32768
_BULK: Final = bytearray(BULK_SIZE)
_BULK_VIEW: Final = memoryview(_BULK)

#: Up to so many bytes are put off within a batch (see the poller): a page of headers,
#: and few enough that a batch of them stays in the cache.
SMALL: Final = 8192
#: Bytes read at first where the head of a reply is waited for: the whole of a small reply.
#: The body of a larger one is moved when the batch's heads have been handled.
FIRST_SIZE: Final = SMALL

#: Bytes waiting to be sent past which the other side is told to pause, and down to
#: which they must fall before it goes on.
HIGH_MARK: Final = 65536
LOW_MARK: Final = 16384

_RESET: Final = struct.pack("ii", 1, 0)
#: How many bytes a peer has yet to acknowledge, as the kernel says it: none.
_NONE: Final = struct.pack("i", 0)
#: SPLICE_F_MOVE | SPLICE_F_NONBLOCK.
_NO_WAIT: Final = 3
_BROKEN: Final = EPOLLERR | EPOLLHUP


class Channel(ChannelBase):
    """See the module.  None of its methods blocks, and none calls the protocol
    back, except those that the poller calls."""

    __slots__ = (
        "_error",
        "_events",
        "_fed",
        "_filled",
        "_finishing",
        "_gathered",
        "_leaving",
        "_moving",
        "_out",
        "_poller",
        "_relaying",
        "_sink",
        "fd",
        "sock",
    )

    def __init__(
        self,
        poller: Poller,
        sock: socket.socket,
        protocol: ChannelProtocol,
        connecting: bool = False,
    ) -> None:
        super().__init__(protocol, connecting)
        self._poller = poller
        self.sock = sock
        self.fd = sock.fileno()
        #: What is to be sent at the end of this batch.
        self._gathered: bytes | None = None
        #: What waits to be sent; not ``None`` once closed, so that ``write`` looks.
        self._out: bytearray | None = None
        #: Our side ends when everything is sent.
        self._finishing = False
        #: So does the connection, if nothing is lost by it.
        self._leaving = False
        #: What broke a send.  The kernel tells it once, and whoever reads then meets
        #: what looks like an end in order.
        self._error = ""
        #: Bytes that still go straight to another channel, and to which.
        self._relaying = 0
        self._sink: Channel | None = None
        #: Whether they will be moved in this batch.
        self._moving = False
        #: They are moved to this channel: what was put off goes with the first of them.
        self._fed = False
        #: The last read got as much as it asked for.
        self._filled = False
        self._events = EPOLLOUT if connecting else EPOLLIN
        poller.add(self, self._events)

    def __repr__(self) -> str:
        state = "closed" if self.closed else "connecting" if self.connecting else "open"
        return f"<Channel {self.fd} {state} {self.protocol!r}>"

    # Writing.

    @property
    def unsent(self) -> bool:
        """Whether bytes still wait for the kernel to take them."""
        return bool(self._out or self._gathered)

    @property
    def held(self) -> int:
        """How many bytes wait here, for the kernel to take them."""
        out, gathered = self._out, self._gathered
        size = 0 if out is None else len(out)
        return size if gathered is None else size + len(gathered)

    def write(self, data: Any) -> bool:
        """Send bytes, now as far as the kernel takes them; keeps no reference to them.

        False if the connection is broken (``lost`` follows) or closed: nothing of
        them went out.
        """
        if self._gathered is not None:
            self._flush()
        return self._send(data, 0)

    def _send(self, data: Any, flags: int) -> bool:
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
        """Send a few bytes by the end of the batch under way, else at once.

        What breaks the connection is told by ``lost`` alone.
        """
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

    def put_off(self, step: Step, key: str = "") -> bool:
        poller = self._poller
        if poller.gathering:
            poller.steps.append((self, step, key))
            return True
        return False

    def flush(self) -> None:
        """Send what was put off, unless a body will be moved behind it first."""
        if self._gathered is not None and not self._fed:
            self._flush()
            if self._leaving and self._out is None:
                self._end_in_order()
                if not self.closed:
                    # It has time from now on to end its side.
                    self.protocol.drained(self)

    def _flush(self) -> None:
        data = self._gathered
        if data is None:
            return
        self._gathered = None
        self.write(data)

    def write_both(self, head: bytes, data: Any) -> None:
        """Send a head and much body behind it, without copying them together."""
        if self._gathered is not None:
            self._flush()
        if self._out is not None:
            self._hold(head)
            self._hold(data)
            return
        try:
            sent = self.sock.sendmsg((head, data))
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._send_failed(error)
            sent = 0
        if sent < len(head):
            self._hold(head[sent:])
            self._hold(data)
        elif sent < len(head) + len(data):
            self._hold(memoryview(data)[sent - len(head) :])

    def _send_failed(self, error: OSError) -> None:
        """Remember the error; the bytes are held, so that the poller comes to tell it.

        A kernel that is short of memory for a moment has broken nothing.
        """
        if error.errno not in (errno.ENOBUFS, errno.ENOMEM):
            self._error = error.strerror or "connection lost"

    def _hold(self, data: Any) -> None:
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

    def finish_writing(self) -> None:
        """Close our side once everything is sent; go on reading."""
        self._flush()
        self._finishing = True
        if self._out is None and not self.closed:
            self._shut_down()

    def close_when_flushed(self) -> None:
        """See the base.  What was put off is sent at the end of the batch, as ever."""
        if self.closed:
            return
        self._finishing = self._leaving = True
        if self._gathered is None and self._out is None and self._shut_down():
            self.close()

    def _end_in_order(self) -> None:
        """All is sent behind which our side was to end."""
        if self._shut_down():
            self._lose("connection closed")

    def close(self) -> None:
        """Close now.  What was not sent is lost: the peer gets a reset then, so that it
        neither takes the rest for all, nor waits for it behind a full buffer."""
        if not self.closed:
            if self._out or self._gathered:
                self._set_reset()
            self._gathered = None
            self.closed = True
            self._out = bytearray()
            self._poller.remove(self)

    def abort(self) -> None:
        """Close with a reset, so that the peer cannot take this for an end."""
        if not self.closed:
            self._set_reset()
            self.close()

    def _set_reset(self) -> None:
        try:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        except OSError:
            pass  # it is reset already

    def _shut_down(self) -> bool:
        """End our side.  True if the channel is being left, and closing it now loses
        nothing of what was sent.

        To close with bytes unread, or to get some afterwards, makes the kernel reset the
        connection.  The reset destroys what the peer's kernel has not acknowledged, and on
        some systems also what the peer's program has not read (RFC 9112 9.6).
        """
        if self._leaving and self.at_end:
            return True  # nothing can come any more
        settled = self._leaving and ioctl(self.fd, TIOCOUTQ, _NONE) == _NONE
        # Before the look: what comes behind the look meets a peer that knows of our end.
        try:
            self.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the peer was faster; its reset or end is told as an event
        if not settled:
            return False
        try:
            return not self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return True  # it is broken, and nothing can be done for it

    # Reading.

    def pause(self) -> None:
        """Read no more until :meth:`resume`; the kernel makes the peer wait."""
        if self._events & EPOLLIN:
            self._watch(self._events & ~EPOLLIN)

    def resume(self) -> None:
        """Read again; without effect once the peer has closed its side."""
        if not (self._events & EPOLLIN or self.at_end or self.connecting):
            self._watch((self._events | EPOLLIN) & ~EPOLLONESHOT)

    def is_quiet(self) -> bool:
        """Whether an idle connection is still open with nothing to read (asks the kernel)."""
        if self.arriving:
            return False
        try:
            self.sock.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False

    def probe(self, idle: int) -> None:
        """Ask the peer's kernel, after ``idle`` quiet seconds, whether it still knows
        this connection; a peer that is gone becomes ``lost`` after two more."""
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
        if self._relaying:
            self._move_soon()
            return
        if self.arriving:
            # What was read before is handled first.
            return
        try:
            if self.eager:
                # On a line of its own: mypyc would evaluate a slice's end twice.
                size = self.sock.recv_into(_BULK, BULK_SIZE)
                if size > SMALL:
                    # Much is handled while it is in the cache; and the shared buffer is
                    # the next one's.
                    self._poller.much = True
                    self.protocol.received(self, _BULK_VIEW[:size])
                    return
                data = bytes(_BULK_VIEW[:size])
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
        self.arriving = True
        if self.queue:
            self._poller.steps.append((self, _Arrival(self, data), self.queue))
        else:
            self._poller.arrived.append((self, data))

    def read_on(self) -> bytes:
        """See the base."""
        if self._filled:
            self._filled = False
            try:
                return self.sock.recv(BULK_SIZE)
            except BlockingIOError:
                pass
            except OSError as error:
                # Told as the end is, by the next look.
                self._error = error.strerror or "connection lost"
        return b""

    # Relaying.

    def relay(self, to: ChannelBase, size: int) -> bool:
        """See the base."""
        if not isinstance(to, Channel):
            return False
        self._sink = to
        self._relaying = size
        if self._filled and self._poller.gathering:
            # More of it is there, most likely.
            to._fed = True
            self._move_soon()
        return True

    def _move_soon(self) -> None:
        if not self._moving:
            self._moving = True
            self._poller.moving.append(self)

    def move(self) -> None:
        """Bring what there is to the channel that it is relayed to.

        With splice(2) much stays in the kernel, and out of the caches.  Measured: a reply
        of 64 KiB costs a twentieth less, one of 1 MiB a quarter.
        """
        self._moving = False
        sink, wanted = self._sink, self._relaying
        if sink is None:
            return
        sink._fed = False
        if self.closed or not self._events & EPOLLIN:
            return
        poller = self._poller
        splices = (
            wanted >= SPLICE_FROM and _splice.works and sink._out is None and poller.make_pipe()
        )
        # One more byte shows whether anything came behind the body.
        limit = min(wanted + 1, BULK_SIZE)
        try:
            if splices:
                size = os.splice(self.fd, poller.pipe_in, limit, None, None, _NO_WAIT)
            else:
                size = self.sock.recv_into(_BULK, limit)
        except BlockingIOError:
            return
        except OSError as error:
            if splices and error.errno in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
                _splice.works = False
            else:
                self._lose(error.strerror or "connection lost")
            return
        if not size:
            self.arrive(b"")
            return
        passing = min(size, wanted)
        if splices:
            try:
                sink._take_from(poller.pipe_out, passing)
                if size > passing:
                    os.read(poller.pipe_out, size - passing)
            except BaseException:
                # What is left in it must not become the beginning of another's body.
                poller.drop_pipe()
                raise
        else:
            sink._write_behind(_BULK_VIEW[:passing])
        self._relaying = wanted - passing
        if not self._relaying:
            self._sink = None
        poller.moved.append((self, size))

    def tell_moved(self, size: int) -> None:
        """So much was moved in this batch."""
        if not self.closed:
            self.protocol.relayed(self, size)

    def _write_behind(self, data: memoryview) -> None:
        """Send much behind what was put off."""
        head = self._gathered
        if head is None:
            self.write(data)
        else:
            self._gathered = None
            self.write_both(head, data)

    def _take_from(self, pipe: int, size: int) -> None:
        """Send so many bytes out of the pipe, behind what was put off; hold what the
        kernel does not take."""
        head = self._gathered
        if head is not None:
            self._gathered = None
            # Together with the body, and not a packet of its own.
            self._send(head, socket.MSG_MORE)
        if self._out is None:
            try:
                while size:
                    sent = os.splice(pipe, self.fd, size, None, None, _NO_WAIT)
                    size -= sent
                    if not sent:
                        break
            except BlockingIOError:
                pass
            except OSError as error:
                self._send_failed(error)
        while size:
            data = os.read(pipe, size)
            size -= len(data)
            self._hold(data)

    def arrive(self, data: bytes) -> None:
        """What was read is handled; nothing is the peer's end."""
        self.arriving = False
        if self.closed:
            return  # by another channel's business in the same batch
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
            # It is told again when what was read before is handled.
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
        """The peer reset the connection, or both sides have ended it.

        Nothing more can be sent.  What the peer said before is read first: a server
        that refuses an upload replies, and resets what it does not read.
        """
        if self._events & EPOLLIN:
            self.readable()
            return
        error = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error or self.at_end or self._out is not None:
            self._lose(os.strerror(error) if error else self._error or "connection closed")
        else:
            # Both sides have ended in order, and bytes may be left to read.  epoll
            # would tell so without end; one shot silences it until resume().
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
            self.deadline = self._poller.clock.now + self.send_timeout
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
            # Not for the peer: what it sent in time is still to be handled.
            return
        self.deadline = 0.0
        self.protocol.late(self)

    def failed(self) -> None:
        """A bug was met while handling an event: let the protocol clean up."""
        self.protocol.lost(self, "internal error")
        self.close()


class _Arrival(Step):
    """What was read is handled, which may take long."""

    __slots__ = ("_channel", "_data")

    def __init__(self, channel: Channel, data: bytes) -> None:
        self._channel = channel
        self._data = data

    def look(self) -> None:
        self._channel.arrive(self._data)

    def go_on(self) -> None:
        """Nothing follows."""


class _Splice:
    """Whether this kernel splices sockets; some sandboxes do not."""

    def __init__(self) -> None:
        self.works = True


_splice: Final = _Splice()
