"""What tests of catalogues over real sockets have in common."""

from __future__ import annotations

from typing import Any

import pytest

from slardar import repeated


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask again soon after a failure."""
    monkeypatch.setattr(repeated, "AGAIN", 0.02)
    monkeypatch.setattr(repeated, "SHORTEST", 0.02)


@pytest.fixture
def reactor() -> Any:
    from twisted.internet import reactor  # noqa: TID251

    return reactor
