"""Fixtures of the data-plane tests."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from slardar.dataplane.channel import Channel
from slardar.dataplane.plain_channel import PlainChannel
from slardar.dataplane.poller import Poller
from slardar.dataplane.system import connected_socket
from tests.dataplane.kit import HandReactor, Recorder, tcp_pair

#: Makes a channel, the other end of its connection, and the channel's protocol.
Connect = Callable[..., tuple[Channel, socket.socket, Any]]


@pytest.fixture
def reactor() -> Any:
    """The real reactor."""
    from twisted.internet import reactor  # noqa: TID251

    return reactor


@pytest.fixture
def hand() -> HandReactor:
    """A reactor that the test turns."""
    return HandReactor()


@pytest.fixture
def poller(hand: HandReactor) -> Iterator[Poller]:
    """A started poller on ``hand``; its channels are closed after the test."""
    poller = Poller(hand)
    poller.start()
    yield poller
    poller.stop()


@pytest.fixture
def connect(poller: Poller) -> Iterator[Connect]:
    """Makes channels whose far ends are closed after the test; ``unix`` for a socket pair,
    ``to_server`` for one as the pools make them, which is connected at the poller's next turn."""
    fars = []

    def make(
        protocol: Any = None, unix: bool = False, to_server: bool = False
    ) -> tuple[Channel, socket.socket, Any]:
        near, far = socket.socketpair() if unix else tcp_pair()
        fars.append(far)
        near.setblocking(False)
        protocol = protocol or Recorder()
        channel = PlainChannel(poller, connected_socket(near), protocol, to_server)
        return channel, far, protocol

    yield make
    for far in fars:
        far.close()
