"""A data plane that gets new timeouts and limits while it serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.defer import Deferred

from slardar.balancers.wrr import WeightedRoundRobin
from slardar.config import Limits, Settings, Timeouts
from slardar.dataplane.listener import Listener
from slardar.dataplane.proxy import DataPlane
from slardar.http1.interfaces import Connection, Downstream
from slardar.http1.request import parse_request
from slardar.model.live import Live
from slardar.model.parse import parse_upstream
from slardar.model.snapshot import Snapshot
from tests.dataplane.kit import HandReactor

NEW = Settings(
    timeouts=Timeouts(
        client_header=1, client_body=2, keepalive=3, connect=4, send=5, read=6, drain=7
    ),
    limits=Limits(head=11, headers=12, url=13, body=14, connections=15, retry_buffer=16),
)


class Resolver:
    """Leaves every name without an address."""

    def follow(self, name: str, follower: Callable[..., None]) -> Any:
        return Deferred()

    def unfollow(self, name: str, follower: Callable[..., None]) -> None:
        """There is nothing to end."""

    def stop(self) -> None:
        """There is nothing to stop."""


class FakeListener(Listener):
    """Records whether it accepts."""

    def __init__(self) -> None:
        # It has no socket.
        self.accepts = True

    def pause(self) -> None:
        self.accepts = False

    def resume(self) -> None:
        self.accepts = True


@pytest.fixture
def plane(hand: HandReactor) -> Iterator[DataPlane]:
    """A data plane with the default settings that serves."""
    resolver: Any = Resolver()
    found = DataPlane(hand, Settings(), Live(), lambda mode: WeightedRoundRobin, resolver)
    found.start()
    yield found
    found._poller.stop()


def serve(plane: DataPlane, host: str = "127.0.0.1", **keys: Any) -> None:
    """Serve one upstream named ``up``."""
    body = {"servers": [{"host": host, "port": 1}], **keys}
    snapshot = Snapshot.build(1, {"up": parse_upstream("up", body, "up")}, (), None)
    plane.apply(snapshot, ["up"])


def selection(plane: DataPlane) -> Any:
    """What a request for ``up`` is served by."""
    exchange = plane.begin(Downstream(), parse_request(b"GET / HTTP/1.1\r\nHost: up\r\n\r\n"))
    assert exchange is not None
    return exchange.selection


def timeouts(found: Any) -> tuple[float, float, float]:
    """The timeouts of a selection."""
    return found.connect_timeout, found.send_timeout, found.read_timeout


def test_numbers_of_the_request_path_are_the_new_ones(plane: DataPlane) -> None:
    """Each number is the one that a plane started with these settings has."""
    assert plane.take_settings(NEW).called
    assert (plane.max_head, plane.max_headers, plane.max_url) == (11, 12, 13)
    assert (plane.max_body, plane.retry_buffer) == (14, 16)
    assert (plane.client_header_timeout, plane.client_body_timeout) == (1.0, 2.0)
    assert (plane.keepalive_timeout, plane.send_timeout) == (3.0, 5.0)


def test_upstream_in_use_gets_the_new_defaults(plane: DataPlane) -> None:
    """Its balancer is not made anew, and goes on."""
    serve(plane)
    found = selection(plane)
    assert timeouts(found) == (3, 60, 60)
    plane.take_settings(NEW)
    assert selection(plane) is found
    assert timeouts(found) == (4, 5, 6)


def test_upstream_with_its_own_timeouts_keeps_them(plane: DataPlane) -> None:
    """Settings count only if the upstream has no own value."""
    serve(plane, timeout=31, send_timeout=32, read_timeout=33)
    found = selection(plane)
    plane.take_settings(NEW)
    assert timeouts(found) == (31, 32, 33)


def test_upstream_that_is_asked_for_later_gets_the_new_defaults(plane: DataPlane) -> None:
    """The new values are the defaults from now on."""
    serve(plane, read_timeout=33)
    plane.take_settings(NEW)
    assert timeouts(selection(plane)) == (4, 5, 33)


def test_upstream_whose_names_are_looked_up_gets_the_new_defaults(plane: DataPlane) -> None:
    """It waits in another place, and gets them there."""
    serve(plane, host="not.known.yet")
    plane.take_settings(NEW)
    assert timeouts(selection(plane)) == (4, 5, 6)


def test_limit_of_connections_holds_at_once(plane: DataPlane) -> None:
    """With a lower limit no client is accepted until enough have left; with a higher limit
    clients are accepted at once."""
    listener = FakeListener()
    plane._clients.listeners.append(listener)
    clients: list[Any] = [Connection("a"), Connection("b"), Connection("c")]
    plane._clients.connected.update(clients)
    plane.take_settings(Settings(limits=Limits(connections=2)))
    assert not listener.accepts
    plane.closed(clients[0])
    assert not listener.accepts
    plane.closed(clients[1])
    assert listener.accepts
    plane.take_settings(Settings(limits=Limits(connections=1)))
    assert not listener.accepts
    plane.take_settings(Settings(limits=Limits(connections=2)))
    assert listener.accepts
    plane._clients.connected.clear()
    plane._clients.listeners.clear()
