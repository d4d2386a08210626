"""A channel whose bytes are sent and received as they are.

So the kernel may move large bodies from one such channel to another without slardar looking
at them.  The other end of a move may be a channel of another kind: it gets the bytes through
``write``.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable
from typing import Final, final

from slardar.dataplane.channel import BULK, BULK_SIZE, BULK_VIEW, Channel
from slardar.dataplane.pollable import EPOLLIN
from slardar.dataplane.poller import Poller
from slardar.dataplane.system import Socket
from slardar.http1.interfaces import Bytes, ChannelBase, ChannelProtocol

__all__ = ["ChannelFactory", "PlainChannel"]

#: Makes a channel on a poller for a socket and a protocol; the last argument says whether
#: the socket is still being connected.
ChannelFactory = Callable[[Poller, Socket, ChannelProtocol, bool], ChannelBase]

#: Bytes of a body that must be left for splice(2).  Its three calls instead of a read and a
#: write cost as much as copying 16 to 32 KiB twice.
SPLICE_FROM: Final = 32768
#: SPLICE_F_MOVE | SPLICE_F_NONBLOCK.
_NO_WAIT: Final = 3


@final
class PlainChannel(Channel):
    """See the module.  Final, so that no channel of another kind is spliced to by accident:
    other kinds derive from :class:`Channel`."""

    __slots__ = ("_moving", "_relaying", "_sink")

    def __init__(
        self,
        poller: Poller,
        sock: Socket,
        protocol: ChannelProtocol,
        connecting: bool = False,
    ) -> None:
        super().__init__(poller, sock, protocol, connecting)
        self.takes_spliced = True
        #: Bytes that are still to be moved to another channel, and that channel.
        self._relaying = 0
        self._sink: Channel | None = None
        #: The poller will call ``move`` in this batch.
        self._moving = False

    # Writing.

    def write_both(self, head: bytes, data: Bytes) -> None:
        """See the base."""
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

    def write_behind(self, data: memoryview) -> None:
        """See the base."""
        head = self._gathered
        if head is None:
            self.write(data)
        else:
            self._gathered = None
            self.write_both(head, data)

    def take_spliced(self, pipe: int, size: int) -> None:
        """See the base.  What the kernel does not take is held."""
        head = self._gathered
        if head is not None:
            self._gathered = None
            # Together with the body, and not in a packet of its own.
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

    # Moving what comes to another channel.

    def relay(self, to: ChannelBase, size: int) -> bool:
        """See the base.  False for a channel that is on no poller."""
        if not isinstance(to, Channel):
            return False
        self._sink = to
        self._relaying = size
        if self._filled and self._poller.gathering:
            # Most likely, some of the body is there already.
            to.await_body(True)
            self._move_soon()
        return True

    def readable(self) -> None:
        """There are bytes, or the peer's end."""
        if self._relaying:
            self._move_soon()
        else:
            super().readable()

    def _move_soon(self) -> None:
        if not self._moving:
            self._moving = True
            self._poller.moving.append(self)

    def move(self) -> None:
        """Move what there is to the other channel.

        With splice(2) the body stays in the kernel and out of the processor's caches.
        Measured: a reply of 64 KiB costs a twentieth less, one of 1 MiB a quarter.
        """
        self._moving = False
        sink, wanted = self._sink, self._relaying
        if sink is None:
            return
        sink.await_body(False)
        if self.closed or not self._events & EPOLLIN:
            return
        poller = self._poller
        pipe = poller.pipe
        splices = (
            wanted >= SPLICE_FROM
            and pipe.works
            and sink.takes_spliced
            and sink._out is None
            and pipe.open()
        )
        # One byte more shows whether anything came behind the body.
        limit = min(wanted + 1, BULK_SIZE)
        try:
            if splices:
                size = os.splice(self.fd, pipe.write_end, limit, None, None, _NO_WAIT)
            else:
                size = self.sock.recv_into(BULK, limit)
        except BlockingIOError:
            return
        except OSError as error:
            if splices and error.errno in (errno.EINVAL, errno.ENOSYS, errno.EPERM):
                pipe.works = False
            else:
                self._lose(error.strerror or "connection lost")
            return
        if not size:
            self.arrive(b"")
            return
        passing = min(size, wanted)
        if splices:
            try:
                sink.take_spliced(pipe.read_end, passing)
                if size > passing:
                    os.read(pipe.read_end, size - passing)
            except BaseException:
                # What is left in the pipe must not become the beginning of another body.
                pipe.close()
                raise
        else:
            sink.write_behind(BULK_VIEW[:passing])
        self._relaying = wanted - passing
        if not self._relaying:
            self._sink = None
        poller.moved.append((self, size))

    def tell_moved(self, size: int) -> None:
        """Tell the protocol how many bytes were moved in this batch."""
        if not self.closed:
            self.protocol.relayed(self, size)
