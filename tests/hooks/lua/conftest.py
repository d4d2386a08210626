"""One engine for many tests, since engines are made to be shared."""

from __future__ import annotations

from typing import Any

import pytest

from tests.hooks.lua.helpers import make_engine


@pytest.fixture(scope="module")
def engine() -> Any:
    """An engine with the default budget and memory."""
    return make_engine()
