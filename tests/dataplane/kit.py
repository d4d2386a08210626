"""Shared by the data-plane tests: a reactor that the test turns, and recording protocols."""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from twisted.internet import task
from twisted.logger import globalLogPublisher

from slardar.dataplane.poller import Poller
from slardar.http1.interfaces import ChannelProtocol

__all__ = [
    "HandReactor",
    "Recorder",
    "drain",
    "is_silent",
    "logged",
    "pump",
    "reset",
    "step",
    "tcp_pair",
]

#: Seconds within which the kernel must have done what it was asked for.
PATIENCE = 10.0


class HandReactor(task.Clock):
    """A clock that also keeps readers; nothing happens unless the test says so."""

    def __init__(self) -> None:
        super().__init__()
        self.readers: list[Any] = []

    def addReader(self, reader: Any) -> None:
        self.readers.append(reader)

    def removeReader(self, reader: Any) -> None:
        self.readers.remove(reader)

    def turn(self) -> None:
        """Make the calls that are due; calls that they schedule wait for the next turn, as in
        a reactor."""
        for call in [call for call in self.calls if call.getTime() <= self.seconds()]:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


class Recorder(ChannelProtocol):
    """A channel's protocol that records its calls."""

    def __init__(self) -> None:
        self.events: list[Any] = []
        self.data = b""
        self.biggest = 0

    def connected(self, channel: Any) -> None:
        self.events.append("connected")

    def received(self, channel: Any, data: Any) -> None:
        self.data += bytes(data)
        self.biggest = max(self.biggest, len(data))

    def ended(self, channel: Any) -> None:
        self.events.append("ended")

    def lost(self, channel: Any, message: str) -> None:
        self.events.append(("lost", message))

    def drained(self, channel: Any) -> None:
        self.events.append("drained")

    def late(self, channel: Any) -> None:
        self.events.append("late")

    @property
    def was_lost(self) -> bool:
        """Whether ``lost`` was called."""
        return any(event[0] == "lost" for event in self.events if isinstance(event, tuple))


def step(poller: Poller) -> None:
    """Let the poller handle one batch; a turn of the reactor may handle many."""
    poller.begin_turn()
    poller.handle_batch()


def pump(poller: Poller, until: Callable[[], Any]) -> None:
    """Let the poller work until ``until()`` is true."""
    end = time.monotonic() + PATIENCE
    while not until():
        assert time.monotonic() < end, "it did not happen in time"
        select.select([poller.fileno()], [], [], 0.02)
        step(poller)


def is_silent(poller: Poller) -> bool:
    """Whether the kernel has no event for the poller, also after the poller's next look."""
    poller.doRead()
    poller.doRead()
    return not select.select([poller.fileno()], [], [], 0)[0]


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    """Two ends of a TCP connection over loopback, with small buffers."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        near = socket.socket()
        near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        near.connect(listener.getsockname())
        far, _ = listener.accept()
    far.settimeout(PATIENCE)
    return near, far


def reset(sock: socket.socket) -> None:
    """Close the socket so that the peer gets a reset."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
    sock.close()


def drain(sock: socket.socket, poller: Poller, size: int) -> bytes:
    """Read ``size`` bytes at the far end while the poller works."""
    sock.setblocking(False)
    got = bytearray()

    def read() -> bool:
        try:
            got.extend(sock.recv(65536))
        except BlockingIOError:
            pass
        return len(got) >= size

    pump(poller, read)
    return bytes(got)


@contextmanager
def logged() -> Iterator[list[dict[str, Any]]]:
    """Collects the events that are logged meanwhile."""
    events: list[dict[str, Any]] = []
    globalLogPublisher.addObserver(events.append)
    try:
        yield events
    finally:
        globalLogPublisher.removeObserver(events.append)
