"""A listening socket on the poller."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from slardar.dataplane import listener, system
from slardar.dataplane.listener import Listener
from slardar.dataplane.poller import TICK, Poller
from slardar.dataplane.system import Socket
from tests.dataplane.kit import HandReactor, is_silent, logged, pump

pytestmark = pytest.mark.real


class FakeAccept:
    """Accepting that fails as scripted before it works."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *errors: int) -> None:
        self.errors = list(errors)
        self.calls = 0
        monkeypatch.setattr(listener, "accept", self.accept)

    def accept(self, sock: socket.socket, fd: int) -> tuple[Socket, bytes] | None:
        self.calls += 1
        if self.errors:
            raise OSError(self.errors.pop(0), "scripted")
        return system.accept(sock, fd)


class Door:
    """A listener, the clients that it accepted, and a way to connect."""

    def __init__(self, poller: Poller, sock: socket.socket, stack: ExitStack) -> None:
        self.address = sock.getsockname()
        self.family = sock.family
        self.guests: list[tuple[Socket, bytes]] = []
        self.shortages = 0
        self.listener = Listener(poller, sock, self.accepted, exhausted=self.exhausted)
        self._stack = stack

    def accepted(self, sock: Socket, address: bytes) -> None:
        self._stack.callback(sock.close)
        self.guests.append((sock, address))

    def exhausted(self) -> None:
        self.shortages += 1

    def knock(self, times: int = 1) -> list[socket.socket]:
        """Connect so many clients."""
        clients = []
        for _ in range(times):
            client = self._stack.enter_context(socket.socket(self.family))
            client.settimeout(10)
            client.connect(self.address)
            clients.append(client)
        return clients


Open = Callable[..., Door]


@pytest.fixture
def open_door(poller: Poller) -> Iterator[Open]:
    """Makes doors that are closed after the test."""
    with ExitStack() as stack:

        def make(sock: socket.socket | None = None) -> Door:
            return Door(poller, sock or socket.create_server(("127.0.0.1", 0), backlog=512), stack)

        yield make


def test_clients_are_handed_on(poller: Poller, open_door: Open) -> None:
    """Each accepted socket does not block, sends small writes at once, and has its client's
    address."""
    door = open_door()
    door.knock(3)
    pump(poller, lambda: len(door.guests) == 3)
    for sock, address in door.guests:
        assert address == b"127.0.0.1"
        assert not os.get_blocking(sock.fileno())
        assert not os.get_inheritable(sock.fileno())
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert "Listener" in repr(door.listener)


def test_unix_client_has_no_address(
    poller: Poller, open_door: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is shown as ``unix:``, as in nginx."""
    monkeypatch.chdir(tmp_path)
    sock = socket.socket(socket.AF_UNIX)
    sock.bind("door.sock")
    sock.listen(8)
    door = open_door(sock)
    door.knock()
    pump(poller, lambda: door.guests)
    assert door.guests[0][1] == b"unix:"


def test_ipv6_clients(poller: Poller, open_door: Open) -> None:
    """An IPv6 address is shown as it is, an IPv4 one on the same socket as IPv4."""
    try:
        sock = socket.create_server(
            ("::", 0), family=socket.AF_INET6, dualstack_ipv6=True, backlog=8
        )
    except OSError:
        pytest.skip("no IPv6 here")
    door = open_door(sock)
    port = sock.getsockname()[1]
    for host in ("::1", "127.0.0.1"):
        with socket.create_connection((host, port), 10):
            pump(poller, lambda: door.guests)
        assert door.guests.pop()[1] == host.encode()


def test_burst_is_bounded(poller: Poller, open_door: Open) -> None:
    """Many clients are accepted in several turns, so that other channels get their turns."""
    door = open_door()
    door.knock(100)
    poller.doRead()
    assert 0 < len(door.guests) <= 64
    pump(poller, lambda: len(door.guests) == 100)


def test_pause_leaves_clients_in_the_queue(poller: Poller, open_door: Open) -> None:
    """No client is accepted and nothing spins; after resume all are accepted."""
    door = open_door()
    door.listener.pause()
    clients = door.knock(3)
    assert is_silent(poller)
    assert not door.guests
    door.listener.resume()
    pump(poller, lambda: len(door.guests) == 3)
    assert len(clients) == 3


def test_pause_holds_within_a_burst(poller: Poller, open_door: Open) -> None:
    """A callback that pauses gets no further client."""
    door = open_door()
    accepted = door.listener._accepted

    def one_only(sock: Socket, address: bytes) -> None:
        accepted(sock, address)
        door.listener.pause()

    door.listener._accepted = one_only  # type: ignore[method-assign]
    door.knock(3)
    poller.doRead()
    poller.doRead()
    assert len(door.guests) == 1


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_no_descriptor_left(
    poller: Poller,
    hand: HandReactor,
    open_door: Open,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
) -> None:
    """Accepting pauses for half a second without spinning, logs the reason at most once a
    second, tells the plane each time, and then goes on."""
    door = open_door()
    fake = FakeAccept(monkeypatch, *[number] * 4)
    door.knock()
    with logged() as events:
        for rest in range(1, 5):
            pump(poller, lambda: door.listener.deadline)
            assert 0.4 < door.listener.deadline - poller.clock.now <= 0.5
            assert is_silent(poller)
            assert fake.calls == door.shortages == rest
            if rest == 3:
                # Pretend that the first complaint is more than a second old.
                door.listener._complained -= 1.0
            door.listener.deadline = time.monotonic() - 0.001
            hand.advance(TICK)
            assert door.listener.deadline == 0.0
        pump(poller, lambda: door.guests)
    assert [event["error"] for event in events] == ["scripted"] * 2


def test_rest_outlasts_a_resume(
    poller: Poller, open_door: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that ends resumes a paused listener but does not end its rest; the end of
    the rest does not resume a paused listener."""
    door = open_door()
    FakeAccept(monkeypatch, errno.EMFILE)
    door.knock()
    pump(poller, lambda: door.listener.deadline)
    door.listener.pause()
    door.listener.resume()
    assert is_silent(poller)
    door.listener.pause()
    door.listener.late()
    assert is_silent(poller)
    assert not door.guests
    door.listener.resume()
    pump(poller, lambda: door.guests)


def test_client_that_has_left_again(
    poller: Poller, open_door: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error of one client's connection is ignored."""
    door = open_door()
    FakeAccept(monkeypatch, errno.ECONNABORTED, errno.EPROTO, errno.EHOSTUNREACH)
    door.knock()
    with logged() as events:
        pump(poller, lambda: door.guests)
    assert not events
    assert door.listener.deadline == 0.0


def test_broken_listener_does_not_spin(poller: Poller, open_door: Open) -> None:
    """A socket that somebody has shut down is tried again only after each rest."""
    door = open_door()
    door.listener.sock.shutdown(socket.SHUT_RDWR)
    with logged() as events:
        pump(poller, lambda: door.listener.deadline)
        poller.doRead()
    assert len(events) == 1
    assert not door.guests


def test_bug_with_one_client_does_not_end_the_listener(
    poller: Poller, hand: HandReactor, open_door: Open
) -> None:
    """The bug is logged, accepting rests, and the next client is served."""
    door = open_door()
    accepted = door.listener._accepted

    def broken(sock: socket.socket, address: bytes) -> None:
        sock.close()
        raise ValueError("a bug")

    door.listener._accepted = broken  # type: ignore[method-assign]
    door.knock()
    with logged() as events:
        pump(poller, lambda: door.listener.deadline)
    assert [event["log_failure"].type for event in events] == [ValueError]
    door.listener._accepted = accepted  # type: ignore[method-assign]
    door.knock()
    door.listener.deadline = time.monotonic() - 0.001
    hand.advance(TICK)
    pump(poller, lambda: door.guests)


def test_accept_all_takes_even_while_paused(poller: Poller, open_door: Open) -> None:
    """Before it closes, a listener accepts every client that the kernel has greeted."""
    door = open_door()
    door.listener.pause()
    door.knock(100)
    door.listener.accept_all()
    assert len(door.guests) == 100
    door.listener.close()
    assert len(poller) == 0
    with pytest.raises(ConnectionRefusedError):
        door.knock()


def test_closed_within_its_own_burst(poller: Poller, open_door: Open) -> None:
    """A callback that closes the listener is not called again."""
    door = open_door()
    accepted = door.listener._accepted

    def last(sock: socket.socket, address: bytes) -> None:
        accepted(sock, address)
        door.listener.close()

    door.listener._accepted = last  # type: ignore[method-assign]
    door.knock(3)
    with logged() as events:
        poller.doRead()
    assert len(door.guests) == 1
    assert not events
