"""What the contracts here have in common: tests that any runner can wait for."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from functools import wraps
from typing import Any, TypeVar

from twisted.internet.defer import Deferred

__all__ = ["Contract", "deferred"]

C = TypeVar("C", bound="Contract")


class Contract:
    """Tests of things that are closed after each test."""

    #: What a test has made.
    _made: list[Any]


def deferred(test: Callable[[C], Coroutine[Any, Any, None]]) -> Callable[[C], Deferred[None]]:
    """A test that returns a Deferred.  What it has made is closed after it."""

    async def run(self: C) -> None:
        self._made = []
        try:
            await test(self)
        finally:
            for one in self._made:
                await one.close()

    @wraps(test)
    def start(self: C) -> Deferred[None]:
        return Deferred.fromCoroutine(run(self))

    # With it pytest and mypy would see the coroutine function.
    del start.__wrapped__
    return start
