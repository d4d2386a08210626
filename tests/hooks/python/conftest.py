"""Fixtures of the tests of Python hooks."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hooks.python.loading import Hooks


@pytest.fixture
def hooks() -> Iterator[Hooks]:
    """An engine with the usual budget."""
    made = Hooks()
    yield made
    made.close()
