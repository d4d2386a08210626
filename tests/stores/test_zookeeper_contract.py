"""ZooKeeper passes the contracts of trees and of stores, with a real server."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count

import pytest
from twisted.internet import reactor  # noqa: TID251
from twisted.internet.defer import Deferred, succeed

from slardar.stores.shared import SharedStore
from slardar.stores.zookeeper import from_place
from slardar.stores.zookeeper_tree import ZooKeeperTree
from slardar.testing.stores import WatchedStoreContract
from slardar.testing.trees import TreeContract
from tests.stores.zookeeper_server import ZooKeeper

pytestmark = pytest.mark.real

ROOTS = count(1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZooKeeper]:
    started = ZooKeeper(tmp_path_factory.mktemp("zookeeper"))
    yield started
    started.end()


class TestZooKeeperTree(TreeContract):
    @pytest.fixture(autouse=True)
    def place(self, server: ZooKeeper) -> None:
        self.server = server
        self.hosts = f"127.0.0.1:{server.port}"
        self.root = f"/tree/{next(ROOTS)}"

    def make_tree(self) -> ZooKeeperTree:
        return ZooKeeperTree(self.hosts, self.root, reactor)

    def cut(self) -> Deferred[None]:
        self.server.kill()
        return succeed(None)

    def heal(self) -> Deferred[None]:
        self.server.begin_again()
        return succeed(None)


class TestZooKeeperStore(WatchedStoreContract):
    largest = ZooKeeperTree.max_value

    @pytest.fixture(autouse=True)
    def place(self, server: ZooKeeper) -> None:
        self.place = f"127.0.0.1:{server.port}/store/{next(ROOTS)}"

    def make_store(self) -> SharedStore:
        return from_place(self.place, reactor)
