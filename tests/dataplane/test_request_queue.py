"""The queue of an upstream whose requests may be for different clusters."""

from __future__ import annotations

from typing import Any

import pytest

from slardar.dataplane.request_queue import RequestQueue
from slardar.dataplane.selection import Defaults, Selection
from slardar.http1.interfaces import SelectionBase, Step, WaitingExchange
from slardar.http1.request import parse_request
from slardar.model.live import Live, Peer
from slardar.model.parse import parse_upstream
from slardar.plugins import balancer_factory
from slardar.testing.channels import FakeClock


class Waiting(WaitingExchange):
    """A request for the clusters ``key``; :attr:`peer` is its server once it has begun."""

    def __init__(self, site: Site, key: Any) -> None:
        request = parse_request(b"GET / HTTP/1.1\r\nHost: up\r\n\r\n")
        request.cluster_key = key
        super().__init__(request, site.selection)
        self.peer: Peer | None = None
        self.site = site

    def begin_waiting(self, selection: SelectionBase) -> bool:
        self.site.looks += 1
        self.peer = selection.pick(self.request, [])
        if self.peer is not None:
            self.site.queue.leave(self)
        return self.peer is not None


class Site:
    """An upstream of two clusters, each with one server that takes one request."""

    def __init__(self) -> None:
        self.steps: list[Step] = []
        #: How often a request has looked for room.
        self.looks = 0
        clusters = {
            name: {"servers": [{"host": "127.0.0.1", "port": port, "max_conns": 1}]}
            for port, name in ((1, "a"), (2, "b"))
        }
        body = {"cluster": clusters, "queue": {"size": 1000}}
        upstream = parse_upstream("up", body, "up")
        make: Any = balancer_factory(upstream.mode)
        self.selection = Selection(
            upstream, Live(), make, Defaults(1, 1, 1), FakeClock(), soon=self.steps.append
        )
        self.selection.serve()
        found = self.selection.queue
        assert isinstance(found, RequestQueue)
        self.queue = found

    def wait(self, key: Any) -> Waiting:
        """A request that waits, once the queue has looked."""
        made = Waiting(self, key)
        assert self.queue.enter(made, 1000)
        self.queue.room()
        self.settle()
        return made

    def settle(self) -> None:
        while self.steps:
            self.steps.pop(0).go_on()

    def ends(self, request: Waiting) -> None:
        """A request that has begun gets its reply."""
        assert request.peer is not None
        self.selection.succeeded(request.peer, 0.1, 200)
        self.settle()


@pytest.mark.parametrize("key", ["a", ["a"], {"default": "a"}])
def test_full_cluster_keeps_only_its_own_requests(key: Any) -> None:
    """Requests for another cluster begin; those for any cluster, and those for the full one,
    in their order."""
    site = Site()
    first, second, third = site.wait(key), site.wait(key), site.wait("a")
    other, another, anywhere = site.wait("b"), site.wait("b"), site.wait(None)
    begun = [one.peer is not None for one in (first, second, third, other, another, anywhere)]
    assert begun == [True, False, False, True, False, False]
    site.ends(other)
    assert another.peer is not None
    assert anywhere.peer is None
    site.ends(first)
    assert second.peer is not None
    assert (third.peer, anywhere.peer) == (None, None)
    site.ends(second)
    assert third.peer is not None
    site.ends(third)
    assert anywhere.peer is not None
    assert site.queue.waiting == 0


def test_looks_for_room_are_few() -> None:
    """Where no hook chooses, the oldest alone looks; of many choices, some."""
    site = Site()
    for _ in range(2):
        assert site.wait(None).peer is not None
    for _ in range(50):
        site.wait(None)
    site.looks = 0
    site.queue.room()
    site.settle()
    assert site.looks == 1
    for number in range(100):
        site.wait([f"choice {number}", "a"])
    site.looks = 0
    site.queue.room()
    site.settle()
    assert 1 < site.looks <= 16
