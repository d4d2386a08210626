"""A change that has been checked: what goes into the store, and what is served then."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from msgspec import Struct

from slardar.model.change import Kind
from slardar.model.snapshot import Snapshot

__all__ = ["Next", "Prepare", "Receipt"]


class Receipt(Struct, frozen=True):
    """What a change has come to."""

    #: The configuration's version that holds the change.
    version: int
    #: The version that each worker confirmed; empty if that was not waited for.
    workers: Mapping[str, int] = {}


class Next(Struct):
    """A change that has been checked, and the snapshot that it leads to."""

    kind: Kind
    name: str
    value: Any
    snapshot: Snapshot
    #: The names of the upstreams that differ.
    changed: list[str] = []

    @property
    def path(self) -> str:
        """What changes, as a key path."""
        return f"{self.kind}s.{self.name}" if self.name else self.kind


#: Checks a change against the configuration of now; nobody else changes it meanwhile.
Prepare = Callable[[], Next | Awaitable[Next]]
