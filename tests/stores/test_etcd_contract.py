"""What every tree and every store must do, with a real etcd."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, ensureDeferred

from slardar.errors import StoreError
from slardar.plugins import open_store
from slardar.stores.etcd import EtcdTree, tree_at
from slardar.testing.stores import WatchedStoreContract, change_of
from slardar.testing.trees import TreeContract
from tests.stores.etcd_server import Etcd, HttpProxy, reactor

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
        self.proxy = HttpProxy(etcd.port)
        pytest_twisted.blockon(self.heal())
        self.url = f"http://127.0.0.1:{self.proxy.port}/{next(_paths)}"
        yield
        pytest_twisted.blockon(self.cut())

    def make_tree(self) -> EtcdTree:
        return tree_at(self.url, reactor)

    def cut(self) -> Deferred[Any]:
        """etcd's port is closed, and all connections with it."""
        return ensureDeferred(self.proxy.cut())

    def heal(self) -> Deferred[Any]:
        """It is open again."""
        return ensureDeferred(self.proxy.heal())


class TestEtcdStore(WatchedStoreContract):
    @pytest.fixture(autouse=True)
    def place(self, etcd: Etcd) -> None:
        """A new path."""
        self.url = f"etcd:{etcd.url}/{next(_paths)}/"

    def make_store(self) -> Any:
        return open_store(self.url, reactor)

    @pytest_twisted.ensureDeferred
    async def test_value_that_is_too_large_is_refused(self) -> None:
        """In one line that names the key; what is as large as etcd takes it is kept."""
        store = self.make_store()
        try:
            revision = (await store.open()).revision
            await store.commit(revision, [change_of("a", {"text": "x" * 1_390_000})], 1)
            late = [change_of("a", {"text": "x" * 1_500_000})]
            with pytest.raises(
                StoreError, match=r"^upstreams\.a: \S+ would have 1500\d+ bytes, and"
            ):
                await store.commit(revision, late, 2)
        finally:
            await store.close()
