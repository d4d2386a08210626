"""A change that has been checked: what goes into the store, and what is served then."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from msgspec import Struct

from slardar.config import Settings
from slardar.model.change import TO_FILE, StoredState, Value
from slardar.model.snapshot import Snapshot

__all__ = ["Next", "NothingChanged", "Prepare", "Receipt", "shortened"]

#: Things that a line names of each sort.
_MAX_NAMED = 5


class Receipt(Struct, frozen=True):
    """What a change has come to."""

    #: The configuration's version that holds the change.
    version: int
    #: The version that each worker confirmed; empty if that was not waited for.
    workers: Mapping[str, int] = {}


class NothingChanged(Exception):
    """There is nothing to be done; raised by a Prepare."""


class Next(Struct):
    """A change that has been checked, and the snapshot that it leads to."""

    #: What is stored, as one: one thing at least.
    values: Sequence[Value]
    snapshot: Snapshot
    #: The names of the upstreams that differ.
    changed: Sequence[str] = ()
    #: The state of the store, if it holds all of it already.
    stored: StoredState | None = None
    #: What of the store's state is left out then, and why, by its key path; ``None``: what
    #: was left out before, but for what is set now.
    failed: Mapping[str, str] | None = None
    #: The settings that hold then, if others do.
    settings: Settings | None = None

    @property
    def path(self) -> str:
        """What changes, as key paths: the first few of them."""
        return shortened(value.path for value in self.values)

    @property
    def verb(self) -> str:
        """What becomes of it, for a line of the log."""
        if all(value.value == TO_FILE for value in self.values):
            return "returned to the file's"
        return "removed" if all(value.value is None for value in self.values) else "set"


def shortened(items: Iterable[str]) -> str:
    """The first five, and how many more there are."""
    named = list(items)
    text = ", ".join(named[:_MAX_NAMED])
    more = len(named) - _MAX_NAMED
    return f"{text} and {more} more" if more > 0 else text


#: Checks a change against the configuration of now; nobody else changes it meanwhile.
Prepare = Callable[[], Next]
