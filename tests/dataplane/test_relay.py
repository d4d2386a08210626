"""A body that goes from one socket to another without being read."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from slardar.dataplane import channel as module
from slardar.dataplane.channel import HIGH_MARK, RELAY_FROM, Channel
from slardar.dataplane.poller import Poller
from tests.dataplane.conftest import Connect
from tests.dataplane.kit import Recorder, drain, pump, reset

BODY = bytes(range(256)) * 4096  # 1 MiB


class Source(Recorder):
    """The protocol of the channel that bytes come from; it does what an exchange does."""

    def __init__(self, to: Channel) -> None:
        super().__init__()
        self.to = to
        self.moved = 0

    def relayed(self, channel: Any, size: int) -> None:
        self.moved += size
        if self.to.congested:
            channel.pause()

    def received(self, channel: Any, data: Any) -> None:
        super().received(channel, data)
        self.to.write(data)
        if self.to.congested:
            channel.pause()

    def goes_on(self, channel: Channel) -> None:
        """The other side takes bytes again: read on."""
        self.to.protocol.drained = lambda _: channel.resume()  # type: ignore[method-assign]


@pytest.fixture(autouse=True)
def splice() -> Iterator[None]:
    """Whatever a test finds out about splicing holds for that test."""
    yield
    module._splice.works = True


def sending(far: socket.socket, data: bytes) -> threading.Thread:
    thread = threading.Thread(target=far.sendall, args=(data,))
    thread.start()
    return thread


@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_bytes_go_straight(poller: Poller, connect: Connect, unix: bool) -> None:
    """All of them arrive in order; what is behind them is received as ever."""
    source, far_source, _ = connect(unix=unix)
    sink, far_sink, _ = connect(unix=unix)
    protocol = source.protocol = Source(sink)
    protocol.goes_on(source)
    sink.write(b"head ")
    assert source.relay(sink, len(BODY))
    thread = sending(far_source, BODY + b" behind")
    assert drain(far_sink, poller, 5 + len(BODY) + 7) == b"head " + BODY + b" behind"
    thread.join()
    # What a slow reader left no room for was read and written instead.
    assert protocol.moved + len(protocol.data) == len(BODY) + 7
    assert protocol.moved > 0
    assert protocol.data.endswith(b" behind")


def test_little_is_not_worth_it(connect: Connect) -> None:
    """A short rest is read and written in fewer calls."""
    source, _, _ = connect()
    sink, _, _ = connect()
    assert not source.relay(sink, RELAY_FROM - 1)
    assert source.relay(sink, RELAY_FROM)


def test_slow_reader_is_waited_for(poller: Poller, connect: Connect) -> None:
    """Nobody reads: what left the source and cannot be sent is held, once, and the source
    is told to pause."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink, _ = connect()
    protocol = source.protocol = Source(sink)
    source.relay(sink, len(BODY))
    thread = sending(far_source, BODY)
    pump(poller, lambda: sink.congested)
    assert HIGH_MARK < len(sink._out or b"") <= 2 * module.BULK_SIZE
    protocol.goes_on(source)
    assert drain(far_sink, poller, len(BODY)) == BODY
    thread.join()


def test_gathered_bytes_go_first(poller: Poller, connect: Connect) -> None:
    """What was to be sent at the end of a batch stands before what is relayed in it."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink, _ = connect(unix=True)
    protocol = source.protocol = Source(sink)
    protocol.goes_on(source)
    source.relay(sink, len(BODY))
    thread = sending(far_source, BODY)
    assert select.select([source.sock], [], [], 10)[0]
    poller.gathering = True
    sink.write_soon(b"first ")
    source.readable()
    poller.gathering = False
    assert protocol.moved
    assert drain(far_sink, poller, 6 + len(BODY)) == b"first " + BODY
    thread.join()


def test_end_in_the_middle(poller: Poller, connect: Connect) -> None:
    """The peer ends too early: that is told, after all that came."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink, _ = connect(unix=True)
    protocol = source.protocol = Source(sink)
    source.relay(sink, len(BODY))
    far_source.sendall(b"x" * 1000)
    far_source.close()
    pump(poller, lambda: protocol.events)
    assert protocol.events == ["ended"]
    assert protocol.moved == 1000
    assert drain(far_sink, poller, 1000) == b"x" * 1000


def test_reset_in_the_middle(poller: Poller, connect: Connect) -> None:
    """A source that breaks is lost."""
    source, far_source, _ = connect()
    sink, _, _ = connect()
    protocol = source.protocol = Source(sink)
    source.relay(sink, len(BODY))
    far_source.sendall(b"x" * 1000)
    pump(poller, lambda: protocol.moved == 1000)
    reset(far_source)
    pump(poller, lambda: protocol.was_lost)


def test_sink_that_breaks(poller: Poller, connect: Connect) -> None:
    """It is lost; the pipe is empty for the next one."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink, heard = connect()
    source.protocol = Source(sink)
    source.relay(sink, len(BODY))
    far_source.sendall(b"x" * 50_000)
    reset(far_sink)
    pump(poller, lambda: heard.was_lost)
    with pytest.raises(BlockingIOError):
        os.read(poller.pipe_out, 1)
    source.close()

    source, far_source, _ = connect(unix=True)
    sink, far_sink, _ = connect(unix=True)
    protocol = source.protocol = Source(sink)
    protocol.goes_on(source)
    source.relay(sink, len(BODY))
    thread = sending(far_source, BODY)
    assert drain(far_sink, poller, len(BODY)) == BODY
    thread.join()


@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.EPERM])
def test_kernel_that_does_not_splice(
    poller: Poller, connect: Connect, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The bytes are read and written, and it is not tried again."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink, _ = connect(unix=True)
    protocol = source.protocol = Source(sink)
    protocol.goes_on(source)
    assert source.relay(sink, len(BODY))

    def refuse(*_: Any, **__: Any) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "splice", refuse)
    thread = sending(far_source, BODY)
    assert drain(far_sink, poller, len(BODY)) == BODY
    thread.join()
    assert (protocol.moved, len(protocol.data)) == (0, len(BODY))
    assert not source.relay(sink, len(BODY))


def test_without_descriptors_for_a_pipe(
    poller: Poller, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are read and written until there are some."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink, _ = connect(unix=True)
    protocol = source.protocol = Source(sink)
    protocol.goes_on(source)
    source.relay(sink, len(BODY))

    def exhausted(_: int) -> tuple[int, int]:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "pipe2", exhausted)
    thread = sending(far_source, BODY)
    assert drain(far_sink, poller, len(BODY)) == BODY
    thread.join()
    assert protocol.moved == 0
    assert poller.pipe_in == -1
