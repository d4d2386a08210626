"""The tree in memory passes the contract of trees."""

from __future__ import annotations

import pytest
from twisted.internet.defer import Deferred, succeed

from slardar.testing.trees import MemoryServer, MemoryTree, TreeContract


class TestMemoryTree(TreeContract):
    @pytest.fixture(autouse=True)
    def server(self) -> None:
        self.server = MemoryServer()

    def make_tree(self) -> MemoryTree:
        return MemoryTree(self.server)

    def cut(self) -> Deferred[None]:
        self.server.fail("memory: away")
        return succeed(None)

    def heal(self) -> Deferred[None]:
        self.server.fail("")
        return succeed(None)
