"""Listening sockets that other processes share; two pollers stand for two processes."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import pytest

from slardar.dataplane.listener import Listener
from slardar.dataplane.poller import Poller
from tests.dataplane.kit import HandReactor, pump

pytestmark = pytest.mark.real


class Process:
    """A poller and a listener, as a worker has them."""

    def __init__(self, sock: socket.socket, exclusive: bool) -> None:
        self.poller = Poller(HandReactor())
        self.poller.start()
        self.guests: list[socket.socket] = []
        self.listener = Listener(self.poller, sock.dup(), self.accepted, exclusive)

    def accepted(self, sock: socket.socket, address: bytes) -> None:
        self.guests.append(sock)

    def is_woken(self) -> bool:
        """Whether its epoll has an event."""
        self.poller.begin_turn()
        found, _ = self.poller._look()
        return bool(found)

    def close(self) -> None:
        self.poller.stop()
        for guest in self.guests:
            guest.close()


@pytest.fixture(params=[False, True], ids=["plain", "exclusive"])
def processes(request: Any) -> Iterator[tuple[socket.socket, Process, Process]]:
    """The socket, which stays open here as in a director, and two pollers that accept on it."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        one, other = Process(sock, request.param), Process(sock, request.param)
        yield sock, one, other
        one.close()
        other.close()


def knock(sock: socket.socket) -> socket.socket:
    """A client."""
    return socket.create_connection(sock.getsockname(), timeout=10)


def test_closed_listener_hears_nothing_more(
    processes: tuple[socket.socket, Process, Process],
) -> None:
    """A client for the others does not wake a poller that has closed its listener: the socket
    lives on in another process, and would wake the epoll for ever."""
    sock, one, other = processes
    one.listener.close()
    with knock(sock):
        pump(other.poller, lambda: other.guests)
        assert not one.is_woken()
    with knock(sock):
        assert not one.is_woken()
        assert other.is_woken()


def test_paused_listener_leaves_clients_to_others(
    processes: tuple[socket.socket, Process, Process],
) -> None:
    """It takes clients again when it is resumed; closing a paused listener is no error."""
    sock, one, other = processes
    one.listener.pause()
    with knock(sock):
        pump(other.poller, lambda: other.guests)
    one.listener.resume()
    other.listener.pause()
    with knock(sock):
        pump(one.poller, lambda: one.guests)
        assert not other.is_woken()
    other.listener.close()


def test_rest_of_an_exclusive_listener_ends(
    processes: tuple[socket.socket, Process, Process],
) -> None:
    """After a bug in accepting, the listener is watched again."""
    sock, one, other = processes
    other.listener.close()
    one.listener.failed()
    with knock(sock):
        assert not one.is_woken()
        one.listener.late()
        pump(one.poller, lambda: one.guests)
