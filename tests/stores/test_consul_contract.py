"""The store and the tree in Consul pass the contracts, with a real Consul."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import reactor  # noqa: TID251
from twisted.internet.defer import Deferred

from slardar.stores.consul import from_place, read_place
from slardar.stores.consul_tree import ConsulTree
from slardar.testing.stores import WatchedStoreContract
from slardar.testing.trees import TreeContract
from tests.consul_agent import ConsulAgent
from tests.stores.proxy import Proxy

pytestmark = pytest.mark.real

_numbers = itertools.count()


@pytest_twisted.async_yield_fixture
async def proxy(consul: ConsulAgent) -> AsyncIterator[Proxy]:
    """A way to Consul that can be cut."""
    made = Proxy(consul.port)
    await made.heal()
    yield made
    await made.cut()


class TestConsulTree(TreeContract):
    @pytest.fixture(autouse=True)
    def place(self, proxy: Proxy) -> None:
        self.url = f"http://127.0.0.1:{proxy.port}/t{next(_numbers)}/"
        self._proxy = proxy

    def cut(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._proxy.cut())

    def heal(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self._proxy.heal())

    def make_tree(self) -> ConsulTree:
        return ConsulTree(read_place(self.url, ""), reactor)


class TestConsulTreeOfAnyServer(TestConsulTree):
    """The watch believes any server."""

    # It reads from the leader, too, and takes long.
    test_thousands_of_keys_are_read_at_once = None  # type: ignore[assignment]

    def make_tree(self) -> ConsulTree:
        return ConsulTree(read_place(f"{self.url}?stale=1&wait=1s", ""), reactor)


class TestConsulStore(WatchedStoreContract):
    """Its place has a folder above it."""

    largest = ConsulTree.max_value

    @pytest.fixture(autouse=True)
    def place(self, consul: ConsulAgent) -> None:
        self.url = f"http://{consul.address}/config/s{next(_numbers)}"

    def make_store(self) -> Any:
        return from_place(self.url, reactor)
