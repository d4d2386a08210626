"""A change that has been checked: what goes into the store, and what is served then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

from slardar.model.change import Kind
from slardar.model.snapshot import Snapshot

__all__ = ["Next", "NothingChanged", "Prepare", "Receipt", "Value"]


class Receipt(Struct, frozen=True):
    """What a change has come to."""

    #: The configuration's version that holds the change.
    version: int
    #: The version that each worker confirmed; empty if that was not waited for.
    workers: Mapping[str, int] = {}


class NothingChanged(Exception):
    """There is nothing to be done; raised by a Prepare."""


class Value(Struct, frozen=True):
    """The new value of one thing, ``None`` if it goes."""

    kind: Kind
    name: str
    value: Any

    @property
    def path(self) -> str:
        """What changes, as a key path."""
        return f"{self.kind}s.{self.name}" if self.name else self.kind


class Next(Struct):
    """A change that has been checked, and the snapshot that it leads to."""

    kind: Kind
    name: str
    value: Any
    snapshot: Snapshot
    #: The names of the upstreams that differ.
    changed: list[str] = []
    #: What changes with it.
    more: list[Value] = []

    @property
    def values(self) -> list[Value]:
        """Everything that changes."""
        return [Value(self.kind, self.name, self.value), *self.more]

    @property
    def path(self) -> str:
        """What changes, as key paths."""
        return ", ".join(value.path for value in self.values)


#: Checks a change against the configuration of now; nobody else changes it meanwhile.
Prepare = Callable[[], Next | Awaitable[Next]]
