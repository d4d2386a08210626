"""The store that many slardars share passes the contract of stores, over a tree in memory."""

from __future__ import annotations

import pytest
from twisted.internet import reactor  # noqa: TID251

from slardar.stores.shared import SharedStore
from slardar.testing.stores import WatchedStoreContract
from slardar.testing.trees import MemoryServer, MemoryTree


class TestSharedStore(WatchedStoreContract):
    @pytest.fixture(autouse=True)
    def server(self) -> None:
        self.server = MemoryServer(2**21, 64, 2**22)

    def make_store(self) -> SharedStore:
        return SharedStore(MemoryTree(self.server), reactor)


class TestSharedStoreWithinLimits(TestSharedStore):
    """With few keys and bytes a write, nearly every commit is a large one."""

    @pytest.fixture(autouse=True)
    def server(self) -> None:
        self.server = MemoryServer(2**21, 4, 2**21 + 8192)


class TestSharedStoreWithSmallWrites(TestSharedStore):
    """A large value leaves no room for another key beside it."""

    @pytest.fixture(autouse=True)
    def server(self) -> None:
        self.server = MemoryServer(2**21, 64, 2**18)
