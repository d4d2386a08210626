"""What every tree and every store must do, with a real etcd."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred

from slardar.plugins import open_store
from slardar.stores.etcd import EtcdTree, tree_at
from slardar.testing.stores import WatchedStoreContract
from slardar.testing.trees import TreeContract
from tests.stores.etcd_server import Etcd, Proxy, reactor

pytestmark = pytest.mark.real

_paths = (f"contract/{n}" for n in count())


@pytest.fixture(scope="module")
def etcd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Etcd]:
    """An etcd that no test breaks."""
    server = Etcd(tmp_path_factory.mktemp("etcd")).ready()
    yield server
    server.end()


class TestEtcdTree(TreeContract):
    @pytest.fixture(autouse=True)
    def place(self, etcd: Etcd) -> Iterator[None]:
        """A new path, behind a proxy."""
        self.proxy = pytest_twisted.blockon(ensureDeferred(Proxy(etcd.port).listen()))
        self.url = f"http://127.0.0.1:{self.proxy.port}/{next(_paths)}"
        yield
        pytest_twisted.blockon(ensureDeferred(self.proxy.close()))

    def make_tree(self) -> EtcdTree:
        return tree_at(self.url, reactor)

    def cut(self) -> Deferred[Any]:
        """etcd's port is closed, and all connections with it."""
        return ensureDeferred(self.proxy.close())

    def heal(self) -> Deferred[Any]:
        """It is open again."""
        return ensureDeferred(self.proxy.listen())


class TestEtcdStore(WatchedStoreContract):
    @pytest.fixture(autouse=True)
    def place(self, etcd: Etcd) -> None:
        """A new path."""
        self.url = f"etcd:{etcd.url}/{next(_paths)}/"

    def make_store(self) -> Any:
        return open_store(self.url, reactor)
