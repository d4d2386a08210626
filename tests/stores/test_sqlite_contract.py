"""The contract of stores, kept by the SQLite file."""

from __future__ import annotations

from pathlib import Path

import pytest

from slardar.stores.sqlite import SqliteStore
from slardar.testing.stores import StoreContract


class TestSqliteStore(StoreContract):
    @pytest.fixture(autouse=True)
    def _place(self, tmp_path: Path) -> None:
        self.path = tmp_path / "slardar.db"

    def make_store(self) -> SqliteStore:
        from twisted.internet import reactor  # noqa: TID251

        return SqliteStore(self.path, reactor)
