"""A change that has been checked: what is stored, what is served after it, and how it ends."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from msgspec import Struct

from slardar.config import Settings
from slardar.errors import SlardarError
from slardar.events import Changed, Event, More
from slardar.model.change import IN_FILE, TO_FILE, Author, Change, StoredState, Value
from slardar.model.snapshot import Snapshot

__all__ = [
    "ApplyError",
    "MovedError",
    "Next",
    "NothingChanged",
    "Prepare",
    "Receipt",
    "or_none",
    "shortened",
]

#: Things of one sort that a line of the log names, at most.
_MAX_NAMED = 5
#: Things of which one change tells in events of their own, at most.
_MAX_EVENTS = 100


class ApplyError(SlardarError):
    """A change is in the store, but a part of the data plane could not take it."""


class MovedError(SlardarError):
    """Another process takes the changes now."""


class Receipt(Struct, frozen=True):
    """The answer to a change that was made."""

    #: The version of the configuration that the change has made.
    version: int
    #: The version that each worker confirmed.  Empty if nobody waited for the workers.
    workers: Mapping[str, int] = {}


class NothingChanged(Exception):
    """Raised by a ``Prepare`` if there is nothing to change."""


class Next(Struct):
    """A change that has been checked, and the snapshot that it leads to."""

    #: What is stored, in one commit.  Never empty.
    values: Sequence[Value]
    snapshot: Snapshot
    #: The names of the upstreams that differ.
    changed: Sequence[str] = ()
    #: The state of the store, if the store holds the change already, or is not to be told of it.
    stored: StoredState | None = None
    #: The state of the store that the change is made to, if it is not the one that is held.
    onto: StoredState | None = None
    #: The parts of the store's state that are not in use after the change: why, by key path.
    #: ``None``: those that were not in use before, without those that the change sets.
    failed: Mapping[str, str] | None = None
    #: The settings that hold after the change, if it brings other ones.
    settings: Settings | None = None

    @property
    def path(self) -> str:
        """The key paths of what changes: the first five, and how many more there are."""
        return shortened(dict.fromkeys(value.path for value in self.values))

    @property
    def verb(self) -> str:
        """What happens to these things, for the log."""
        if all(one.value == TO_FILE and one.kind in IN_FILE for one in self.values):
            return "returned to the file's"
        return "removed" if all(value.value is None for value in self.values) else "set"

    def changes(self, who: str, now: float) -> Iterator[Change]:
        """What the store keeps, as changes that ``who`` makes at ``now``, in epoch seconds."""
        name, place = str(who), who.place if isinstance(who, Author) else ""
        for one in self.values:
            yield Change(one.kind, one.name, one.value, name, now, place)

    def events(self, version: int, who: str) -> Iterator[Event]:
        """What is told of the change: an event for each upstream that is served otherwise, and for
        each other thing that was set."""
        things = dict.fromkeys(
            [
                *(("upstream", name) for name in self.changed),
                # What the client of a CA keeps is no configuration.
                *((one.kind, one.name) for one in self.values if one.kind != "acme"),
            ]
        )
        for kind, name in islice(things, _MAX_EVENTS):
            yield Changed(kind, name, version, str(who))
        if len(things) > _MAX_EVENTS:
            yield More(version, len(things) - _MAX_EVENTS)


def shortened(items: Iterable[str]) -> str:
    """The first five, and how many more there are."""
    named = list(items)
    text = ", ".join(named[:_MAX_NAMED])
    more = len(named) - _MAX_NAMED
    return f"{text} and {more} more" if more > 0 else text


async def or_none(change: Awaitable[Receipt]) -> Receipt | None:
    """The receipt of a change, or ``None`` if there was nothing to be changed."""
    try:
        return await change
    except NothingChanged:
        return None


#: Checks a change against the present configuration, which nobody else changes meanwhile.
Prepare = Callable[[], Next]
