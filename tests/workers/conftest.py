"""Fixtures of the workers' tests."""

from __future__ import annotations

import gc

import pytest


@pytest.fixture(autouse=True)
def _thawed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that begins freezes the heap of its process; here that would be all tests'."""
    monkeypatch.setattr(gc, "freeze", lambda: None)
