"""What may be wrong with a store."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

__all__ = ["Trouble"]


class Trouble(Struct, frozen=True):
    """What is wrong with a store."""

    #: ``stale``: the store is away.  ``held``: its state has lost what is served.  ``error``: it
    #: has not taken the last change.
    status: Literal["stale", "held", "error"]
    #: Since when, in epoch seconds.
    since: float
    reason: str
