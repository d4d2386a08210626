"""A body that goes from one socket to another without being looked at."""

from __future__ import annotations

import errno
import os
import select
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from slardar.dataplane.channel import BULK_SIZE, FIRST_SIZE, HIGH_MARK, Channel
from slardar.dataplane.plain_channel import SPLICE_FROM
from slardar.dataplane.poller import Poller
from slardar.testing.channels import FakeClock, RecordingChannel
from tests.dataplane.conftest import Connect
from tests.dataplane.kit import Recorder, drain, logged, pump, reset, tcp_pair

BODY = bytes(range(256)) * 4096  # 1 MiB


class Source(Recorder):
    """The protocol of the channel that bytes come from.  It does what an exchange does."""

    def __init__(self, to: Channel) -> None:
        super().__init__()
        self.to = to
        self.moved = 0

    def relayed(self, channel: Any, size: int) -> None:
        self.moved += size
        if self.to.congested:
            channel.pause()

    def goes_on(self, channel: Channel) -> None:
        """Read on when the other side takes bytes again."""
        self.to.protocol.drained = lambda _: channel.resume()  # type: ignore[method-assign]


def sending(far: socket.socket, data: bytes) -> threading.Thread:
    thread = threading.Thread(target=far.sendall, args=(data,))
    thread.start()
    return thread


@pytest.mark.real
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_bytes_go_straight(poller: Poller, connect: Connect, unix: bool) -> None:
    """All bytes arrive in order, and none is received."""
    source, far_source, _ = connect(unix=unix)
    sink, far_sink, _ = connect(unix=unix)
    protocol = source.protocol = Source(sink)
    protocol.goes_on(source)
    sink.write(b"head ")
    assert source.relay(sink, len(BODY))
    thread = sending(far_source, BODY)
    assert drain(far_sink, poller, 5 + len(BODY)) == b"head " + BODY
    thread.join()
    pump(poller, lambda: protocol.moved == len(BODY))
    assert protocol.data == b""


@pytest.mark.parametrize("size", [1000, SPLICE_FROM])
def test_what_comes_behind_is_noticed(poller: Poller, connect: Connect, size: int) -> None:
    """The size that is told is one byte too large.  That byte goes nowhere, and the protocol
    receives the rest."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink, _ = connect(unix=True)
    protocol = source.protocol = Source(sink)
    source.relay(sink, size)
    far_source.sendall(b"x" * size + b"behind")
    assert drain(far_sink, poller, size) == b"x" * size
    pump(poller, lambda: protocol.data)
    assert protocol.moved == size + 1
    assert protocol.data == b"ehind"
    with pytest.raises(BlockingIOError):
        far_sink.recv(1)
    if poller.pipe.read_end >= 0:
        with pytest.raises(BlockingIOError):
            os.read(poller.pipe.read_end, 1)


@pytest.mark.real
@pytest.mark.parametrize("size", [1000, SPLICE_FROM])
def test_body_behind_its_head_is_moved_in_the_same_batch(
    poller: Poller, connect: Connect, size: int
) -> None:
    """The head is handled first.  What was put off meanwhile for other channels is sent before
    the body is moved; what was put off for the body's channel goes out with the body."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink, _ = connect(unix=True)
    other, far_other, _ = connect(unix=True)
    first = b"h" * FIRST_SIZE

    class Head(Source):
        def received(self, channel: Any, data: Any) -> None:
            super().received(channel, data)
            sink.write_soon(b"head ")
            other.write_soon(b"other")
            assert channel.relay(sink, size)

        def relayed(self, channel: Any, size: int) -> None:
            super().relayed(channel, size)
            assert far_other.recv(10) == b"other"
            sink.write_soon(b" tail")

    protocol = source.protocol = Head(sink)
    source.bulk = True
    far_source.sendall(first + b"x" * size)
    assert select.select([source.sock], [], [], 10)[0]
    poller.doRead()
    assert (protocol.data, protocol.moved) == (first, size)
    assert far_sink.recv(size + 100) == b"head " + b"x" * size + b" tail"


def test_head_alone_is_sent_at_once(poller: Poller, connect: Connect) -> None:
    """If the body has not come with its head, the head does not wait for it."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink, _ = connect(unix=True)

    class Head(Source):
        def received(self, channel: Any, data: Any) -> None:
            sink.write_soon(b"head ")
            assert channel.relay(sink, 1000)

    source.protocol = Head(sink)
    source.bulk = True
    # Less than the first read asks for, and exactly as much.
    for size in (100, FIRST_SIZE):
        far_source.sendall(b"h" * size)
        assert select.select([source.sock], [], [], 10)[0]
        poller.doRead()
        assert far_sink.recv(100) == b"head "
        far_source.sendall(b"x" * 1000)
        assert drain(far_sink, poller, 1000) == b"x" * 1000


def test_order_is_kept_where_the_sink_is_written_to(poller: Poller, connect: Connect) -> None:
    """A head that waits for its body is sent when more is written to the channel, or its end."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink, _ = connect(unix=True)

    class Head(Source):
        def received(self, channel: Any, data: Any) -> None:
            sink.write_soon(b"head ")
            assert channel.relay(sink, 1000)
            sink.write(b"more ")
            sink.finish_writing()
            channel.close()

    source.protocol = Head(sink)
    source.bulk = True
    far_source.sendall(b"h" * FIRST_SIZE + b"x" * 1000)
    assert select.select([source.sock], [], [], 10)[0]
    poller.doRead()
    assert far_sink.recv(100) == b"head more "
    assert far_sink.recv(100) == b""


def test_read_on_finds_the_rest(poller: Poller, connect: Connect) -> None:
    """If the first read got all it asked for, read_on reads once more; else it does not."""
    found: list[bytes] = []
    source, far_source, _ = connect(unix=True)
    source.bulk = True

    class Head(Recorder):
        def received(self, channel: Any, data: Any) -> None:
            found.append(data)
            found.append(channel.read_on())
            found.append(channel.read_on())

    source.protocol = Head()
    for sent in (b"x" * FIRST_SIZE + b"rest", b"x" * FIRST_SIZE, b"y"):
        far_source.sendall(sent)
        assert select.select([source.sock], [], [], 10)[0]
        poller.doRead()
        assert found == [sent[:FIRST_SIZE], sent[FIRST_SIZE:], b""]
        found.clear()


def test_broken_pipe_is_not_used_again(
    poller: Poller, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes that an error left in the pipe get into no other body."""
    source, far_source, _ = connect(unix=True)
    sink, _, _ = connect(unix=True)
    protocol = source.protocol = Source(sink)
    source.relay(sink, SPLICE_FROM)
    far_source.sendall(b"x" * SPLICE_FROM)

    real = os.splice

    def half(*arguments: Any) -> int:
        if arguments[1] == sink.fd:
            raise MemoryError
        return real(*arguments)

    monkeypatch.setattr(os, "splice", half)
    with logged() as events:
        pump(poller, lambda: source.closed)
    assert [event["log_failure"].type for event in events] == [MemoryError]
    assert protocol.was_lost
    assert poller.pipe.write_end == poller.pipe.read_end == -1


@pytest.mark.real
def test_slow_reader_is_waited_for(poller: Poller, connect: Connect) -> None:
    """What left the source and cannot be sent is held, and the source is told to pause."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink, _ = connect()
    protocol = source.protocol = Source(sink)
    source.relay(sink, len(BODY))
    thread = sending(far_source, BODY)
    pump(poller, lambda: sink.congested)
    assert HIGH_MARK < len(sink._out or b"") <= 2 * BULK_SIZE
    protocol.goes_on(source)
    assert drain(far_sink, poller, len(BODY)) == BODY
    thread.join()


def test_gathered_bytes_go_first(poller: Poller, connect: Connect) -> None:
    """What write_soon was given is sent before what is relayed in the same batch."""
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
    source.move()
    poller.gathering = False
    assert drain(far_sink, poller, 6 + len(BODY)) == b"first " + BODY
    thread.join()


def test_end_in_the_middle(poller: Poller, connect: Connect) -> None:
    """If the peer ends too early, ``ended`` tells it after everything that came was moved."""
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


@pytest.mark.real
def test_reset_in_the_middle(poller: Poller, connect: Connect) -> None:
    """``lost`` tells that the source broke."""
    source, far_source, _ = connect()
    sink, _, _ = connect()
    protocol = source.protocol = Source(sink)
    source.relay(sink, len(BODY))
    far_source.sendall(b"x" * 1000)
    pump(poller, lambda: protocol.moved == 1000)
    reset(far_source)
    pump(poller, lambda: protocol.was_lost)


@pytest.mark.real
def test_sink_that_breaks(
    poller: Poller, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """``lost`` tells it, and the pipe is empty for the next body."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink, heard = connect()
    source.protocol = Source(sink)
    source.relay(sink, len(BODY))
    far_source.sendall(b"x" * 50_000)
    real = os.splice

    def splice(*arguments: Any) -> int:
        moved = real(*arguments)
        reset(far_sink)
        monkeypatch.undo()
        return moved

    # Between the splice into the pipe and the splice out of it.
    monkeypatch.setattr(os, "splice", splice)
    pump(poller, lambda: heard.was_lost)
    with pytest.raises(BlockingIOError):
        os.read(poller.pipe.read_end, 1)
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
    """The bytes are read and written, and splice is not tried again."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink, _ = connect(unix=True)
    protocol = source.protocol = Source(sink)
    protocol.goes_on(source)
    assert source.relay(sink, len(BODY))

    tried: list[Any] = []

    def refuse(*arguments: Any) -> int:
        tried.append(arguments)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "splice", refuse)
    thread = sending(far_source, BODY)
    assert drain(far_sink, poller, len(BODY)) == BODY
    thread.join()
    pump(poller, lambda: protocol.moved == len(BODY))
    assert len(tried) == 1


def test_without_descriptors_for_a_pipe(
    poller: Poller, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bytes are read and written instead."""
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
    pump(poller, lambda: protocol.moved == len(BODY))
    assert poller.pipe.write_end == -1


class Changing(Channel):
    """A kind of channel whose bytes are sent in another form, as TLS sends them.  It knows
    nothing of splicing."""

    FORM = bytes(byte ^ 0x55 for byte in range(256))

    def write(self, data: Any) -> bool:
        return super().write(bytes(data).translate(self.FORM))


@pytest.fixture
def changing(poller: Poller) -> Iterator[tuple[Changing, socket.socket]]:
    """Such a channel, and the other end of its connection."""
    near, far = tcp_pair()
    near.setblocking(False)
    yield Changing(poller, near, Recorder()), far
    far.close()


@pytest.mark.real
@pytest.mark.parametrize("size", [1000, len(BODY)])
def test_other_kind_gets_what_is_moved_through_write(
    poller: Poller, connect: Connect, changing: tuple[Changing, socket.socket], size: int
) -> None:
    """A kind that does not say that bytes may be spliced to it gets none past its write,
    no matter how large the body or how slow the peer."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink = changing
    protocol = source.protocol = Source(sink)
    protocol.goes_on(source)
    assert source.relay(sink, size)
    thread = sending(far_source, BODY[:size])
    assert drain(far_sink, poller, size).translate(Changing.FORM) == BODY[:size]
    thread.join()
    pump(poller, lambda: protocol.moved == size)
    assert poller.pipe.write_end == -1


@pytest.mark.real
def test_other_kind_gets_a_head_and_its_body_through_write(
    poller: Poller, connect: Connect, changing: tuple[Changing, socket.socket]
) -> None:
    """All arrives in order: a head that was gathered, the body that was moved behind it, and
    what write_both was given."""
    source, far_source, _ = connect(unix=True)
    sink, far_sink = changing

    class Head(Source):
        def received(self, channel: Any, data: Any) -> None:
            super().received(channel, data)
            sink.write_soon(b"head ")
            assert channel.relay(sink, 1000)

        def relayed(self, channel: Any, size: int) -> None:
            sink.write_both(b" tail", b" end")

    source.protocol = Head(sink)
    source.bulk = True
    far_source.sendall(b"h" * FIRST_SIZE + b"x" * 1000)
    assert select.select([source.sock], [], [], 10)[0]
    poller.doRead()
    expected = b"head " + b"x" * 1000 + b" tail end"
    assert drain(far_sink, poller, len(expected)).translate(Changing.FORM) == expected


@pytest.mark.real
def test_other_kind_moves_nothing_itself(
    connect: Connect, changing: tuple[Changing, socket.socket]
) -> None:
    """Its protocol gets what comes, because that is not what the peer meant yet."""
    sink, _, _ = connect()
    assert not changing[0].relay(sink, 1000)


def test_kind_that_says_so_is_spliced_to(poller: Poller, connect: Connect) -> None:
    """A kind that sets takes_spliced gets the pipe, and takes what is in it."""

    class Saying(Channel):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments)
            self.takes_spliced = True

        def take_spliced(self, pipe: int, size: int) -> None:
            taken.append(os.read(pipe, size))

    taken: list[bytes] = []
    near, far = socket.socketpair()
    source, far_source, _ = connect(unix=True)
    sink = Saying(poller, near, Recorder())
    protocol = source.protocol = Source(sink)
    assert source.relay(sink, SPLICE_FROM)
    far_source.sendall(BODY[:SPLICE_FROM])
    pump(poller, lambda: protocol.moved == SPLICE_FROM)
    assert b"".join(taken) == BODY[:SPLICE_FROM]
    far.close()


@pytest.mark.real
def test_channel_that_is_on_no_poller_is_refused(connect: Connect) -> None:
    """The source's protocol gets the bytes then."""
    source, _, _ = connect()
    assert not source.relay(RecordingChannel(FakeClock()), 1000)
