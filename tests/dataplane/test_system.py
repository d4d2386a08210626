"""Connected sockets and epoll: Python's, and where they were built, slardar's own.  Both do the
same."""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from select import EPOLLET, EPOLLIN, EPOLLOUT, EPOLLRDHUP
from typing import Any

import pytest

from slardar.dataplane.poller import BATCH
from slardar.dataplane.system import (
    Epoll,
    Socket,
    accept,
    connected_socket,
    end_side,
    take_events,
)
from tests.dataplane.kit import reset, tcp_pair
from tests.integration.sockets import wait_for

pytestmark = pytest.mark.real

#: More than a socket takes at once.
MUCH = bytes(range(256)) * 65536


def events_of(epoll: Any, watched: list[int | None], most: int) -> list[tuple[int | None, int]]:
    """What has happened, as pairs."""
    found, masks = take_events(epoll, watched, most)
    return list(zip(found, masks, strict=True))


@pytest.fixture
def ends() -> Iterator[tuple[Socket, socket.socket]]:
    """A socket as channels have it, and the other end of its connection."""
    near, far = tcp_pair()
    near.setblocking(False)
    sock = connected_socket(near)
    with closing(sock), far:
        yield sock, far


@pytest.mark.parametrize(
    "call",
    [
        lambda sock: sock.recv(1),
        lambda sock: sock.recv(65536),
        lambda sock: sock.recv(262144),
        lambda sock: sock.recv(1, socket.MSG_PEEK),
        lambda sock: sock.recv_into(bytearray(9)),
        lambda sock: sock.recv_into(bytearray(9), 9),
    ],
)
def test_nothing_to_read(
    ends: tuple[Socket, socket.socket], call: Callable[[Socket], object]
) -> None:
    """No call waits: BlockingIOError says that there is nothing."""
    with pytest.raises(BlockingIOError) as caught:
        call(ends[0])
    assert caught.value.errno == errno.EAGAIN


def test_reads(ends: tuple[Socket, socket.socket]) -> None:
    """As much as there is, at most so much as is asked for; no bytes are the end."""
    sock, far = ends
    far.sendall(b"abcdefgh")
    assert sock.recv(3, socket.MSG_PEEK) == b"abc"
    assert sock.recv(3) == b"abc"
    room = bytearray(b"......")
    assert sock.recv_into(room, 2) == 2
    assert room == b"de...."
    assert sock.recv_into(memoryview(room)[2:]) == 3
    assert room == b"defgh."
    far.shutdown(socket.SHUT_WR)
    wait_for(lambda: ready(sock), "the end")
    assert sock.recv(65536) == sock.recv(262144) == b""
    assert sock.recv_into(room) == 0


def ready(sock: Socket) -> bool:
    """Whether there are bytes, or the peer's end."""
    try:
        sock.recv(1, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    return True


@pytest.mark.parametrize("size", [1, 8192, 65535, 65536, 65537, 262144])
def test_sizes(ends: tuple[Socket, socket.socket], size: int) -> None:
    """Reads of each size bring all bytes in order."""
    sock, far = ends
    wanted = MUCH[: 3 * size]
    far.setblocking(False)
    sent, got = 0, bytearray()
    while len(got) < len(wanted):
        if sent < len(wanted):
            try:
                sent += far.send(wanted[sent:])
            except BlockingIOError:
                pass
        try:
            data = sock.recv(size)
        except BlockingIOError:
            continue
        assert len(data) <= size
        got += data
    assert got == wanted


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_sends(ends: tuple[Socket, socket.socket], kind: Callable[[bytes], Any]) -> None:
    """Whatever has bytes is sent; the result says how many were taken."""
    sock, far = ends
    assert sock.send(kind(b"ab")) == 2
    assert sock.send(kind(b"cd"), socket.MSG_MORE) == 2
    assert sock.sendmsg((b"ef", kind(b"gh"))) == 4
    assert sock.sendmsg((kind(b""), kind(b"i"))) == 1
    far.settimeout(10)
    got = b""
    while len(got) < 9:
        got += far.recv(100)
    assert got == b"abcdefghi"


@pytest.mark.parametrize("both", [False, True])
def test_takes_what_there_is_room_for(ends: tuple[Socket, socket.socket], both: bool) -> None:
    """A part is taken, and then nothing."""
    sock, _ = ends
    taken = sock.sendmsg((MUCH, MUCH)) if both else sock.send(MUCH)
    assert 0 < taken < len(MUCH)
    fill(sock)
    with pytest.raises(BlockingIOError):
        sock.send(b"x")


def fill(sock: Socket) -> None:
    """Send until there is no room."""
    try:
        while True:
            assert sock.send(MUCH) > 0
    except BlockingIOError:
        pass


def test_broken_connection(ends: tuple[Socket, socket.socket]) -> None:
    """The error is the kernel's."""
    sock, far = ends
    reset(far)

    def is_reset() -> bool:
        try:
            sock.recv(1)
        except BlockingIOError:
            return False
        except OSError as error:
            return error.errno == errno.ECONNRESET
        raise AssertionError("an end in order")

    wait_for(is_reset, "the reset")
    for call in (lambda: sock.send(b"x"), lambda: sock.sendmsg((b"x", b"y"))):
        with pytest.raises(BrokenPipeError):
            call()


@pytest.mark.parametrize(
    "call",
    [
        lambda sock: sock.recv(-1),
        lambda sock: sock.recv_into(bytearray(3), 4),
        lambda sock: sock.recv_into(bytearray(3), -1),
    ],
)
def test_refused_sizes(
    ends: tuple[Socket, socket.socket], call: Callable[[Socket], object]
) -> None:
    """A size that is no size reads nothing."""
    sock, far = ends
    far.sendall(b"abc")
    with pytest.raises(ValueError, match="buffer"):
        call(sock)
    wait_for(lambda: ready(sock), "the bytes")
    assert sock.recv(9) == b"abc"


@pytest.mark.parametrize(
    "call", [lambda sock: sock.recv_into(b"abc"), lambda sock: sock.send("abc")]
)
def test_refused_buffers(ends: tuple[Socket, socket.socket], call: Callable[[Any], object]) -> None:
    """What cannot be written to, or has no bytes."""
    with pytest.raises((TypeError, BufferError)):
        call(ends[0])


def test_options(ends: tuple[Socket, socket.socket]) -> None:
    """Numbers and structures are set, numbers are told."""
    sock, far = ends
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
    for call in (
        lambda: sock.setsockopt(socket.SOL_SOCKET, 12345, 1),
        lambda: sock.setsockopt(socket.SOL_SOCKET, 12345, b"1234"),
        lambda: sock.getsockopt(socket.SOL_SOCKET, 12345),
    ):
        with pytest.raises(OSError, match=os.strerror(errno.ENOPROTOOPT)):
            call()
    far.settimeout(10)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
    sock.close()
    with pytest.raises(ConnectionResetError):
        far.recv(1)


def test_places(ends: tuple[Socket, socket.socket]) -> None:
    """Both ends and the family; asking does not close the socket."""
    sock, far = ends
    assert sock.getpeername() == far.getsockname()
    assert sock.getsockname() == far.getpeername()
    assert sock.family == socket.AF_INET
    assert sock.send(b"x") == 1


def test_closed() -> None:
    """Every call of a closed socket fails; to close it again does no harm, also where its number
    is another's by now."""
    near, far = tcp_pair()
    near.setblocking(False)
    sock = connected_socket(near)
    fd = sock.fileno()
    assert fd >= 0
    sock.close()
    assert sock.fileno() == -1
    far.settimeout(10)
    assert far.recv(1) == b""
    calls: list[Callable[[], object]] = [
        lambda: sock.recv(1),
        lambda: sock.recv_into(bytearray(1)),
        lambda: sock.send(b"x"),
        lambda: sock.sendmsg((b"x", b"y")),
        lambda: sock.shutdown(socket.SHUT_WR),
        lambda: sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR),
        lambda: sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
        sock.getpeername,
        sock.getsockname,
    ]
    os.dup2(far.fileno(), fd)
    try:
        for call in calls:
            with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
                call()
        sock.close()
        os.fstat(fd)
    finally:
        os.close(fd)
        far.close()


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_socket_that_nobody_has() -> None:
    """It is closed, as the number would be lost."""
    near, far = tcp_pair()
    sock: Socket | None = connected_socket(near)
    assert sock is not None
    sock = near = None  # type: ignore[assignment]
    far.settimeout(10)
    with far:
        assert far.recv(1) == b""


@pytest.mark.parametrize("unread", [False, True])
@pytest.mark.parametrize("unacknowledged", [False, True])
@pytest.mark.parametrize("leaves", [False, True])
def test_end_of_our_side(
    ends: tuple[Socket, socket.socket], leaves: bool, unacknowledged: bool, unread: bool
) -> None:
    """The peer gets the end in any case.  Only where it has acknowledged everything, and has sent
    nothing that is unread, may the socket be closed."""
    sock, far = ends
    if unread:
        far.sendall(b"more")
        wait_for(lambda: ready(sock), "the bytes")
    if unacknowledged:
        fill(sock)
    assert end_side(sock, leaves) is (leaves and not unacknowledged and not unread)
    far.settimeout(10)
    while far.recv(1 << 20):
        pass


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_end_of_our_side_where_the_peer_is_gone(
    ends: tuple[Socket, socket.socket], how: str
) -> None:
    """Nothing can be saved: the socket may be closed."""
    sock, far = ends
    if how == "reset":
        reset(far)
    else:
        far.close()
    sock_is_told = socket.socket(fileno=os.dup(sock.fileno()))
    with sock_is_told:
        sock_is_told.settimeout(10)
        try:
            assert sock_is_told.recv(1, socket.MSG_PEEK) == b""
        except ConnectionResetError:
            assert how == "reset"
    assert end_side(sock, True)


@pytest.mark.parametrize(
    ("family", "place", "address"),
    [
        (socket.AF_INET, ("127.0.0.1", 0), b"127.0.0.1"),
        (socket.AF_INET, ("127.200.30.4", 0), b"127.200.30.4"),
        (socket.AF_INET, ("127.255.255.250", 0), b"127.255.255.250"),
        (socket.AF_INET6, ("::1", 0), b"::1"),
        (socket.AF_UNIX, "door", b"unix:"),
    ],
)
def test_accepts(
    family: int, place: Any, address: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One client after the other, with its address; then nobody."""
    monkeypatch.chdir(tmp_path)
    with socket.socket(family) as door, socket.socket(family) as client:
        try:
            door.bind(place)
        except OSError:
            pytest.skip("no IPv6 here")
        door.listen(8)
        door.setblocking(False)
        assert accept(door, door.fileno()) is None
        if family != socket.AF_UNIX:
            client.bind(place)
        client.connect(door.getsockname())
        accepted = accept(door, door.fileno())
        assert accepted is not None
        assert accept(door, door.fileno()) is None
        sock, found = accepted
        with closing(sock):
            assert found == address
            assert not os.get_blocking(sock.fileno())
            assert not os.get_inheritable(sock.fileno())
            assert sock.family == family
            client.sendall(b"x")
            wait_for(lambda: ready(sock), "the byte")
            assert sock.recv(9) == b"x"


def test_accept_tells_errors() -> None:
    """All but that nobody waits."""
    with socket.socket() as sock, pytest.raises(OSError, match=os.strerror(errno.EINVAL)):
        accept(sock, sock.fileno())
    with pytest.raises(OSError, match=os.strerror(errno.EBADF)):
        accept(sock, sock.fileno())


def test_epoll(ends: tuple[Socket, socket.socket]) -> None:
    """It tells what is so now, at most so much as is asked for, until nothing more is watched;
    each event with what stands at its descriptor's place."""
    sock, far = ends
    fd, other = sock.fileno(), far.fileno()
    epoll = Epoll()
    watched: list[int | None] = list(range(max(fd, other) + 1))
    with closing(epoll):
        assert epoll.fileno() >= 0
        assert not os.get_inheritable(epoll.fileno())
        assert events_of(epoll, watched, 9) == []
        epoll.register(fd, EPOLLIN)
        assert events_of(epoll, watched, 9) == []
        epoll.modify(fd, EPOLLIN | EPOLLOUT)
        assert events_of(epoll, watched, 9) == [(fd, EPOLLOUT)]
        epoll.register(other, EPOLLOUT)
        assert sorted(events_of(epoll, watched, 9)) == sorted([(fd, EPOLLOUT), (other, EPOLLOUT)])
        assert len(events_of(epoll, watched, 1)) == 1
        far.sendall(b"x")
        wait_for(lambda: (fd, EPOLLIN | EPOLLOUT) in events_of(epoll, watched, 9), "the byte")
        epoll.unregister(fd)
        assert events_of(epoll, watched, 9) == [(other, EPOLLOUT)]
        far.close()
        assert events_of(epoll, watched, 9) == []
        epoll.register(fd, EPOLLIN | EPOLLRDHUP | EPOLLET)
        assert events_of(epoll, watched, 9) == [(fd, EPOLLIN | EPOLLRDHUP)]
        assert events_of(epoll, watched, 9) == []
        epoll.modify(fd, EPOLLIN | EPOLLRDHUP)
        assert events_of(epoll, watched[:fd], 9) == [(None, EPOLLIN | EPOLLRDHUP)]
        watched[fd] = 4711
        assert events_of(epoll, watched, 9) == [(4711, EPOLLIN | EPOLLRDHUP)]


def test_epoll_tells_errors(ends: tuple[Socket, socket.socket]) -> None:
    """They are the kernel's, and a closed epoll says that it is closed."""
    fd = ends[0].fileno()
    epoll = Epoll()
    epoll.register(fd, EPOLLIN)
    with pytest.raises(FileExistsError):
        epoll.register(fd, EPOLLIN)
    epoll.unregister(fd)
    with pytest.raises(FileNotFoundError):
        epoll.modify(fd, EPOLLIN)
    with pytest.raises(FileNotFoundError):
        epoll.unregister(fd)
    assert not epoll.closed
    epoll.close()
    epoll.close()
    assert epoll.closed
    with pytest.raises(ValueError, match="closed"):
        epoll.fileno()


def test_many_events() -> None:
    """As many as a batch has are told in one go, and in turn where there are more."""
    with ExitStack() as stack:
        epoll = stack.enter_context(closing(Epoll()))
        for _ in range(BATCH):
            for sock in socket.socketpair():
                stack.enter_context(sock)
                epoll.register(sock.fileno(), EPOLLOUT)
        watched: list[int | None] = list(range(1 << 10))
        first, second = (events_of(epoll, watched, BATCH) for _ in range(2))
        assert len(first) == len(second) == BATCH
        assert len({fd for fd, _ in first + second}) == 2 * BATCH
