"""A socket on the poller: its calls to its protocol, and that it loses no byte."""

from __future__ import annotations

import errno
import select
import socket
import threading
from fcntl import ioctl
from termios import TIOCOUTQ
from typing import Any

import pytest

from slardar.dataplane import system
from slardar.dataplane.channel import BULK_SIZE, HIGH_MARK, LOW_MARK, READ_SIZE, Channel
from slardar.dataplane.plain_channel import PlainChannel
from slardar.dataplane.poller import Poller
from tests.dataplane.conftest import Connect
from tests.dataplane.kit import Recorder, drain, is_silent, pump, reset, step

pytestmark = pytest.mark.real

BODY = bytes(range(256)) * 4096  # 1 MiB


class FakeSocket:
    """A socket whose sends are scripted; other calls go to a real one."""

    def __init__(self, sock: socket.socket, *results: int | OSError) -> None:
        self._sock = sock
        self._results = list(results)
        self.sent: list[bytes] = []

    def _take(self, data: bytes) -> int:
        result = self._results.pop(0) if self._results else len(data)
        if isinstance(result, OSError):
            raise result
        self.sent.append(data[:result])
        return min(result, len(data))

    def send(self, data: Any, flags: int = 0) -> int:
        return self._take(bytes(data))

    def sendmsg(self, parts: Any) -> int:
        return self._take(b"".join(bytes(part) for part in parts))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)

    @property
    def data(self) -> bytes:
        """Everything that was sent."""
        return b"".join(self.sent)


def scripted(channel: Channel, *results: int | OSError) -> FakeSocket:
    """Give a channel a socket whose sends take so many bytes, one result for each send."""
    fake = FakeSocket(channel.sock, *results)
    channel.sock = fake  # type: ignore[assignment]
    return fake


# Writing.


def test_bytes_go_out_at_once(connect: Connect) -> None:
    """What the kernel takes at once needs no poller."""
    channel, far, _ = connect()
    assert channel.write(b"hello")
    assert far.recv(10) == b"hello"
    channel.write_both(b"head", memoryview(b"body"))
    assert far.recv(10) == b"headbody"


@pytest.mark.parametrize("taken", [0, 1, 5, 9])
def test_rest_of_a_partial_send_follows(poller: Poller, connect: Connect, taken: int) -> None:
    """What a send did not take is held, and stays in order with what is written next."""
    channel, _, _ = connect()
    blocked = BlockingIOError(errno.EAGAIN, "full")
    fake = scripted(channel, taken or blocked)
    data = bytearray(b"0123456789")
    assert channel.write(data)
    # The caller may use its buffer again at once.
    data[:] = b"xxxxxxxxxx"
    assert channel.write(b"abc")
    assert len(fake.sent) == (1 if taken else 0)
    pump(poller, lambda: fake.data == b"0123456789abc")


@pytest.mark.parametrize("taken", [0, 1, 3, 4, 5, 7, 8])
def test_head_and_body_are_cut_anywhere(poller: Poller, connect: Connect, taken: int) -> None:
    """write_both loses nothing where a send ends within the head, behind it or in the body."""
    channel, _, _ = connect()
    fake = scripted(channel, taken or BlockingIOError(errno.EAGAIN, "full"))
    body = bytearray(b"body")
    channel.write_both(b"head", memoryview(body))
    body[:] = b"xxxx"
    channel.write(b"!")
    pump(poller, lambda: fake.data == b"headbody!")


def test_write_both_waits_its_turn(poller: Poller, connect: Connect) -> None:
    """Head and body wait behind bytes that wait already."""
    channel, _, _ = connect()
    fake = scripted(channel, 1)
    channel.write(b"ab")
    channel.write_both(b"head", b"body")
    assert fake.data == b"a"
    pump(poller, lambda: fake.data == b"abheadbody")


def test_much_goes_through_a_small_window(poller: Poller, connect: Connect) -> None:
    """1 MiB arrives whole and in order; above the high mark the channel is congested,
    and below the low mark it tells that it is not any more."""
    channel, far, protocol = connect()
    assert channel.write(b"x" * 10)
    assert not channel.congested
    channel.write(BODY)
    assert channel.congested
    assert protocol.events == []
    assert drain(far, poller, len(BODY) + 10) == b"x" * 10 + BODY
    assert not channel.congested
    assert protocol.events[0] == "drained"
    assert is_silent(poller)


def test_marks(connect: Connect, poller: Poller) -> None:
    """A channel is congested from above HIGH_MARK down to LOW_MARK; the end is told once."""
    channel, _, protocol = connect()
    again = BlockingIOError(errno.EAGAIN, "full")
    fake = scripted(channel, again, HIGH_MARK - LOW_MARK, 1, again, 1)
    channel.write(b"x" * HIGH_MARK)
    assert not channel.congested
    channel.write(b"x")
    assert channel.congested
    step(poller)
    assert channel.congested
    assert protocol.events == []
    step(poller)
    assert not channel.congested
    assert protocol.events == ["drained"]
    step(poller)
    step(poller)
    assert protocol.events == ["drained"]
    pump(poller, lambda: len(fake.data) == HIGH_MARK + 1)
    assert protocol.events == ["drained", "drained"]


def test_taking_some_gives_the_peer_more_time(poller: Poller, connect: Connect) -> None:
    """Each time that the peer takes some, it has send_timeout from then on."""
    channel, _, _ = connect()
    scripted(channel, 1, 1)
    channel.send_timeout = 7.0
    channel.write(b"abc")
    step(poller)
    assert channel.deadline == poller.clock.now + 7.0


def test_short_of_memory_loses_no_byte(poller: Poller, connect: Connect) -> None:
    """ENOBUFS breaks no connection: the bytes are sent again."""
    channel, _, protocol = connect()
    fake = scripted(channel, OSError(errno.ENOBUFS, "no buffer"))
    channel.write(b"abc")
    channel.write(b"def")
    pump(poller, lambda: fake.data == b"abcdef")
    assert not protocol.was_lost


@pytest.mark.parametrize("paused", [False, True])
@pytest.mark.parametrize("both", [False, True])
def test_broken_write_is_told(poller: Poller, connect: Connect, paused: bool, both: bool) -> None:
    """A write to a connection that the peer reset is followed by ``lost``, for a reading and
    for a paused channel."""
    channel, far, protocol = connect()
    if paused:
        channel.pause()
    reset(far)
    if both:
        channel.write_both(b"x" * 100, b"y" * 100)
    else:
        # The kernel may still take the first write, if the reset is on its way.
        assert not (channel.write(b"x") and channel.write(b"x"))
    pump(poller, lambda: channel.closed)
    assert protocol.was_lost
    assert len(protocol.events) == 1
    assert channel.write(b"x") is False


def test_write_after_our_own_end_is_told_as_lost(poller: Poller, connect: Connect) -> None:
    """Bytes that are written after finish_writing cannot be sent, and ``lost`` tells it."""
    channel, _, protocol = connect()
    channel.finish_writing()
    assert channel.write(b"x") is False
    pump(poller, lambda: channel.closed)
    assert protocol.was_lost


def test_write_after_close_goes_nowhere(poller: Poller, connect: Connect) -> None:
    """Not even within the batch, in which the socket itself is still open."""
    channel, far, _ = connect()

    class ClosesAndWrites(Recorder):
        def received(self, channel: Any, data: Any) -> None:
            channel.close()
            self.events.append(channel.write(b"ghost"))
            channel.write_both(b"gh", b"ost")
            channel.finish_writing()
            channel.close_when_flushed()
            channel.pause()
            channel.resume()

    channel.protocol = protocol = ClosesAndWrites()
    far.send(b"x")
    pump(poller, lambda: channel.closed)
    assert protocol.events == [False]
    assert far.recv(100) == b""


# Ends.


def test_finish_writing_ends_our_side_behind_the_last_byte(
    poller: Poller, connect: Connect
) -> None:
    """The peer reads everything and then the end; it may go on sending."""
    channel, far, protocol = connect()
    channel.write(BODY)
    channel.finish_writing()
    assert drain(far, poller, len(BODY)) == BODY
    far.settimeout(10)
    pump(poller, lambda: "drained" in protocol.events)
    assert far.recv(1) == b""
    far.send(b"still here")
    pump(poller, lambda: protocol.data == b"still here")
    far.close()
    pump(poller, lambda: "ended" in protocol.events)
    assert not protocol.was_lost


def test_finish_writing_with_nothing_to_send(connect: Connect) -> None:
    """The end goes out at once."""
    channel, far, _ = connect()
    channel.finish_writing()
    assert far.recv(1) == b""
    assert not channel.closed


def test_peer_that_ends_is_told_once(poller: Poller, connect: Connect) -> None:
    """``ended`` comes once, the channel stays open for writing, and it does not spin on an end
    that stays readable."""
    channel, far, protocol = connect()
    far.shutdown(socket.SHUT_WR)
    pump(poller, lambda: protocol.events)
    assert protocol.events == ["ended"]
    assert channel.at_end
    channel.resume()
    assert is_silent(poller)
    assert protocol.events == ["ended"]
    channel.write(b"reply")
    assert far.recv(10) == b"reply"


def test_close_when_flushed_sends_all_first(poller: Poller, connect: Connect) -> None:
    """Our side ends behind the last byte, and ``lost`` tells when the channel has closed."""
    channel, far, protocol = connect(Leaving())
    channel.write(BODY)
    channel.close_when_flushed()
    assert not channel.closed
    assert drain(far, poller, len(BODY)) == BODY
    far.settimeout(10)
    pump(poller, lambda: "drained" in protocol.events or channel.closed)
    assert far.recv(1) == b""
    far.close()
    pump(poller, lambda: channel.closed)


def test_close_when_flushed_with_nothing_to_send(connect: Connect) -> None:
    """The channel closes at once."""
    channel, far, _ = connect()
    channel.close_when_flushed()
    assert channel.closed
    assert far.recv(1) == b""


class Leaving(Recorder):
    """Leaves its channel as every protocol does; ``other`` gets a reply when this one hears
    something."""

    def __init__(self, other: Channel | None = None, reply: bytes = b"") -> None:
        super().__init__()
        self.other = other
        self.reply = reply

    def received(self, channel: Any, data: Any) -> None:
        super().received(channel, data)
        if self.other is not None:
            self.other.write_soon(self.reply)
            self.other.close_when_flushed()

    def ended(self, channel: Any) -> None:
        super().ended(channel)
        channel.close_when_flushed()


@pytest.mark.parametrize("last", ["nothing", "stray", "end", "stray and end"])
@pytest.mark.parametrize("size", [20, 8000, 2_000_000])
def test_what_the_peer_says_in_the_same_batch_loses_nothing(
    poller: Poller, connect: Connect, last: str, size: int
) -> None:
    """A reply is put off, and its channel is to close when flushed.  Then bytes or the end of
    that channel's peer are handled.  The peer gets the whole reply and an end in order."""
    leaving = Leaving()
    client, far_client, _ = connect(leaving)
    server, far_server, _ = connect(Leaving(client, b"x" * size))
    far_server.send(b"reply")
    if "stray" in last:
        far_client.send(b"\r\n")
    if "end" in last:
        far_client.shutdown(socket.SHUT_WR)
    assert drain(far_client, poller, size) == b"x" * size
    if "end" not in last:
        far_client.send(b"\r\n")
    pump(poller, lambda: select.select([far_client], [], [], 0)[0])
    assert far_client.recv(1) == b""
    far_client.close()
    pump(poller, lambda: client.closed)
    server.close()


def test_close_when_flushed_while_the_peer_is_speaking(connect: Connect) -> None:
    """What comes between the last look and the close resets the connection.  By then the peer
    has got everything that was sent, and our end."""
    channel, far, _ = connect()

    if system.end_side is not system._end_side:
        pytest.skip("the form in C asks the kernel, with nobody between")
    looks = []

    class Sneaking(FakeSocket):
        def recv(self, size: int, flags: int) -> bytes:
            looks.append(size)
            try:
                return self._sock.recv(size, flags)
            finally:
                # At the first look our side has not ended.
                if len(looks) == 2:
                    far.send(b"\r\n")

    channel.write(b"reply")
    channel.sock = Sneaking(channel.sock)  # type: ignore[assignment]
    channel.close_when_flushed()
    assert len(looks) == 2
    assert channel.closed
    assert far.recv(10) == b"reply"
    assert far.recv(10) == b""


@pytest.mark.parametrize("unread", [True, False])
def test_close_when_flushed_with_something_on_its_way(
    poller: Poller, connect: Connect, unread: bool
) -> None:
    """Bytes that are unread, or that the peer's kernel has not acknowledged, keep the channel
    open: our side ends, and the channel reads on."""
    channel, far, protocol = connect(Leaving())
    if unread:
        far.send(b"more")
    else:
        # A little more than the peer's kernel takes.
        written = 0
        while ioctl(channel.fd, TIOCOUTQ, bytes(4)) == bytes(4):
            channel.write(b"x" * 4096)
            written += 4096
        assert not channel.unsent
    channel.close_when_flushed()
    assert not channel.closed
    if unread:
        pump(poller, lambda: protocol.data == b"more")
    else:
        assert drain(far, poller, written) == b"x" * written
    far.settimeout(10)
    assert far.recv(1) == b""
    far.send(b"and more")
    pump(poller, lambda: protocol.data.endswith(b"and more"))
    far.close()
    pump(poller, lambda: channel.closed)


@pytest.mark.parametrize("way", ["reset", "close"])
def test_peer_that_leaves_while_we_flush(poller: Poller, connect: Connect, way: str) -> None:
    """Nobody can take the rest, so the channel closes."""
    channel, far, protocol = connect()
    channel.write(BODY)
    channel.close_when_flushed()
    if way == "reset":
        reset(far)
    else:
        far.close()
    pump(poller, lambda: channel.closed)
    assert protocol.was_lost


def test_close_with_bytes_unsent_is_a_reset(connect: Connect) -> None:
    """The peer cannot take what it got for the whole."""
    channel, far, _ = connect()
    channel.write(BODY)
    channel.close()
    with pytest.raises(ConnectionResetError):
        list(iter(lambda: far.recv(65536), b""))


def test_abort_is_a_reset(connect: Connect) -> None:
    """The peer cannot take an aborted connection for one that has ended in order."""
    channel, far, _ = connect()
    channel.abort()
    channel.abort()
    with pytest.raises(ConnectionResetError):
        far.recv(1)


@pytest.mark.parametrize("unix", [False, True])
def test_close_is_final(connect: Connect, poller: Poller, unix: bool) -> None:
    """After close the protocol is told nothing, whatever the peer does."""
    channel, far, protocol = connect(unix=unix)
    channel.close()
    channel.close()
    assert channel.sock.fileno() == -1
    assert far.recv(1) == b""
    poller.doRead()
    assert protocol.events == []
    assert "closed" in repr(channel)


# Reading.


@pytest.mark.real(False)
def test_bytes_are_told(poller: Poller, connect: Connect) -> None:
    """The protocol receives what the peer sends, in pieces of READ_SIZE at most."""
    channel, far, protocol = connect(unix=True)
    sender = threading.Thread(target=far.sendall, args=(BODY,))
    sender.start()
    pump(poller, lambda: len(protocol.data) == len(BODY))
    sender.join()
    assert protocol.data == BODY
    assert protocol.biggest <= READ_SIZE
    assert "open" in repr(channel)


def test_eager_reads_are_views_of_one_buffer(poller: Poller, connect: Connect) -> None:
    """An eager channel's protocol gets a view that is valid during the call only.  Two
    channels that the views are written to keep their own bytes."""
    one, one_far, _ = connect(unix=True)
    two, two_far, _ = connect(unix=True)
    out_one, far_out_one, _ = connect()
    out_two, far_out_two, _ = connect()

    class Forward(Recorder):
        def __init__(self, to: Channel) -> None:
            super().__init__()
            self.to = to
            self.kinds: set[type] = set()

        def received(self, channel: Any, data: Any) -> None:
            self.kinds.add(type(data))
            self.biggest = max(self.biggest, len(data))
            self.to.write(data)
            self.data += b"."
            if self.to.congested:
                channel.pause()

    one.protocol, two.protocol = Forward(out_one), Forward(out_two)
    one.eager = two.eager = True
    first, second = b"1" * 300_000, b"2" * 300_000
    threads = [
        threading.Thread(target=one_far.sendall, args=(first,)),
        threading.Thread(target=two_far.sendall, args=(second,)),
    ]
    for thread in threads:
        thread.start()
    # No far side reads yet: both channels hold much, which came through the same buffer.
    pump(poller, lambda: out_one.congested and out_two.congested)
    one.resume()
    two.resume()

    for sender in (one, two):
        sender.protocol.to.protocol.drained = lambda channel, sender=sender: sender.resume()
    assert drain(far_out_one, poller, 300_000) == first
    assert drain(far_out_two, poller, 300_000) == second
    for thread in threads:
        thread.join()
    assert one.protocol.kinds == {memoryview}
    assert READ_SIZE < max(one.protocol.biggest, two.protocol.biggest) <= BULK_SIZE


def test_paused_channel_reads_nothing(poller: Poller, connect: Connect) -> None:
    """Until resume nothing is read, and the poller does not spin."""
    channel, far, protocol = connect()
    channel.pause()
    far.send(b"wait")
    assert is_silent(poller)
    assert protocol.data == b""
    channel.resume()
    pump(poller, lambda: protocol.data == b"wait")


def test_peer_that_resets_is_told(poller: Poller, connect: Connect) -> None:
    """``lost`` tells of a reset in the system's words."""
    channel, far, protocol = connect()
    reset(far)
    pump(poller, lambda: protocol.events)
    assert protocol.events == [("lost", "Connection reset by peer")]
    assert channel.closed


def test_peer_that_resets_while_we_are_paused(poller: Poller, connect: Connect) -> None:
    """epoll tells a reset again and again, whatever it was asked for: the channel is lost at
    once, and the poller does not spin."""
    channel, far, protocol = connect()
    channel.pause()
    reset(far)
    pump(poller, lambda: channel.closed)
    assert protocol.was_lost
    assert is_silent(poller)


def test_peer_that_ends_while_we_are_paused(poller: Poller, connect: Connect) -> None:
    """Its last bytes and its end wait until the channel reads again; the poller does not
    spin."""
    channel, far, protocol = connect()
    channel.pause()
    far.send(b"last words")
    far.close()
    assert is_silent(poller)
    assert protocol.events == []
    channel.resume()
    pump(poller, lambda: protocol.events)
    assert protocol.data == b"last words"
    assert protocol.events == ["ended"]


@pytest.mark.parametrize("unix", [False, True])
def test_both_have_ended_while_we_are_paused(poller: Poller, connect: Connect, unix: bool) -> None:
    """epoll tells a hang-up without being asked.  What the peer sent before it is not lost: the
    hang-up is silenced until the channel reads again."""
    channel, far, protocol = connect(unix=unix)
    channel.finish_writing()
    channel.pause()
    far.send(b"last words")
    far.close()
    pump(poller, lambda: is_silent(poller))
    assert protocol.events == []
    assert not channel.closed
    channel.resume()
    pump(poller, lambda: protocol.events)
    assert protocol.data == b"last words"
    assert protocol.events == ["ended"]


def test_reply_before_a_reset_is_read(poller: Poller, connect: Connect) -> None:
    """A server that refuses an upload replies, and resets the connection because of what it
    leaves unread.  The reply is received even while much of the upload waits to be sent."""
    channel, far, protocol = connect()
    channel.write(BODY)
    assert channel.congested
    far.sendall(b"HTTP/1.1 413 Too Large\r\n\r\n")
    far.close()  # a reset, since bytes are unread
    pump(poller, lambda: channel.closed)
    assert protocol.data == b"HTTP/1.1 413 Too Large\r\n\r\n"
    assert protocol.was_lost


def test_is_quiet(connect: Connect) -> None:
    """A quiet channel is open and has nothing to read: no bytes, no end and no reset."""
    channel, far, _ = connect()
    assert channel.is_quiet()
    far.send(b"x")
    assert not channel.is_quiet()
    channel.sock.recv(1)
    assert channel.is_quiet()
    far.shutdown(socket.SHUT_WR)
    assert not channel.is_quiet()
    other, far, _ = connect()
    reset(far)
    assert not other.is_quiet()


def test_probe_asks_the_kernel(connect: Connect) -> None:
    """TCP keep-alive is switched on with these times; a unix socket has none."""
    channel, _, _ = connect()
    channel.probe(idle=60)
    sock = channel.sock
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 60
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) == 15
    other, _, _ = connect(unix=True)
    other.probe(idle=60)
    assert not other.closed


# Connecting.


def connecting(poller: Poller, address: tuple[str, int]) -> tuple[Channel, Recorder]:
    """A channel that connects to ``address``."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    assert sock.connect_ex(address) == errno.EINPROGRESS
    protocol = Recorder()
    return PlainChannel(poller, sock, protocol, connecting=True), protocol


def test_connection_is_told(poller: Poller) -> None:
    """``connected`` comes once, and then the channel reads."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        channel, protocol = connecting(poller, server.getsockname())
        assert "connecting" in repr(channel)
        # Nothing to pause or to resume: it is not connected.
        channel.pause()
        channel.resume()
        pump(poller, lambda: protocol.events)
        assert protocol.events == ["connected"]
        assert not channel.connecting
        far, _ = server.accept()
        far.send(b"hello")
        pump(poller, lambda: protocol.data == b"hello")
        far.close()
    assert protocol.events == ["connected"]


def test_refused_connection_is_lost(poller: Poller) -> None:
    """``lost`` tells why the connection failed, and not what a later read found."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    channel, protocol = connecting(poller, address)
    pump(poller, lambda: channel.closed)
    assert protocol.events == [("lost", "Connection refused")]


def test_late_clears_the_deadline(connect: Connect) -> None:
    """A protocol that is told ``late`` and sets no new deadline is not told again."""
    channel, _, protocol = connect()
    channel.deadline = 1.0
    channel.late()
    assert protocol.events == ["late"]
    assert channel.deadline == 0.0


def test_wait_sets_the_deadline(poller: Poller, connect: Connect) -> None:
    """It passes so many seconds after the time of the batch."""
    channel, _, _ = connect()
    poller.clock.now = 1000.0
    channel.wait(2.5)
    assert channel.deadline == 1002.5


@pytest.mark.real(False)
def test_channel_needs_no_dict() -> None:
    """There may be ten thousand channels, so they have slots."""
    assert "__dict__" not in dir(PlainChannel)
