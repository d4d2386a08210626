"""How a change is written down and read back: the same JSON in every store."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from typing import Any, get_args

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from slardar.errors import ConflictError, DamagedError, NotFoundError, StoreError
from slardar.model.certificate import kept_of
from slardar.model.change import (
    IN_FILE,
    SECRET,
    TO_FILE,
    Change,
    Kind,
    Recorded,
    Revision,
    StoredState,
    Value,
)

__all__ = [
    "MAX_PAGE",
    "MAX_ROWS",
    "PRUNED_AT_ONCE",
    "Row",
    "conflict",
    "encode",
    "forget",
    "kept_rows",
    "kept_text",
    "no_such_version",
    "paged",
    "place_in_file",
    "stored_state",
    "wanted_oldest",
]

#: Bytes of JSON in a page of the history, at most; the first change of a page may be larger.
MAX_PAGE = 1024 * 1024
#: Changes of one version in a page of the history, at most.
MAX_ROWS = 100
#: Old changes that a commit looks at, at most, to forget them.
PRUNED_AT_ONCE = 500

_KINDS: tuple[str, ...] = get_args(Kind)
#: The kinds of which there are many things, each with a name.
_NAMED = ("upstream", "service", "hook", "setting", "certificate", "acme", "file")


def encode(change: Change) -> str | None:
    """The JSON text of the change's value, ``None`` for a removal.

    The text is made at once, so that the caller may alter the value afterwards.  Raises StoreError
    for a change that could not be read back.
    """
    if change.kind not in _KINDS:
        raise StoreError(f"{change.kind}: expected a change of kind {' or '.join(_KINDS)}")
    if change.kind not in _NAMED and change.name:
        raise StoreError(f"{change.kind}: expected no name, got {change.name!r}")
    try:
        # A lone surrogate cannot be UTF-8, and would fail later in another thread.
        f"{change.name}{change.who}".encode()
        return None if change.value is None else msgspec.json.encode(change.value).decode()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        raise StoreError(f"{change.path}: cannot be JSON: {error}") from None


def stored_state(
    version: int, revision: Revision, rows: Iterable[tuple[str, str, str | None]]
) -> StoredState:
    """The state that ``(kind, name, JSON text)`` rows make up; each thing has one row.

    Raises StoreError for a kind that this version of slardar does not know, because it would be
    wrong to serve only the rest, and DamagedError for text that is not JSON.
    """
    upstreams: dict[str, Any] = {}
    services: dict[str, Any] = {}
    hooks: dict[str, Any] = {}
    file: dict[str, Any] = {}
    settings: dict[str, Any] = {}
    certificates: dict[str, Any] = {}
    acme: dict[str, Any] = {}
    routes: Any = None
    for kind, name, text in rows:
        if kind not in _KINDS or not isinstance(name, str):
            raise StoreError(f"holds {kind} {name!r}, which this version cannot serve")
        try:
            value = None if text is None else msgspec.json.decode(text)
        except (TypeError, ValueError, RecursionError) as error:
            path = Value(kind, name, None).path  # type: ignore[arg-type]
            raise DamagedError(f"{path}: expected JSON: {error}") from None
        if kind == "routes":
            routes = value
        elif kind == "upstream":
            upstreams[name] = value
        elif kind == "service":
            services[name] = value
        elif kind == "hook" and value is not None:
            hooks[name] = value
        elif kind == "file" and name and value is not None:
            file[name] = value
        elif kind == "setting" and value is not None:
            settings[name] = value
        elif kind == "certificate" and value is not None:
            certificates[name] = value
        elif kind == "acme" and value is not None:
            acme[name] = value
    return StoredState(
        version,
        upstreams,
        routes,
        hooks,
        revision,
        file,
        services,
        settings,
        certificates=certificates,
        acme=acme,
    )


def kept_text(kind: str, text: str | None) -> str | None:
    """What a history keeps of a value's JSON: all of it, unless the value has a private key."""
    if text is None or kind not in SECRET:
        return text
    kept = kept_of(kind, msgspec.json.decode(text))
    return None if kept is None else msgspec.json.encode(kept).decode()


def kept_rows(rows: Iterable[tuple[Change, str | None]]) -> list[tuple[Change, str | None]]:
    """What a history keeps of changes, each with its value's JSON.  It keeps nothing of what the
    client of a CA does."""
    return [(one, kept_text(one.kind, text)) for one, text in rows if one.kind != "acme"]


class Row(Struct, frozen=True):
    """A change of the history as a store has it, its values as JSON texts."""

    version: int
    #: The change without its value.
    change: Change
    text: str | None
    #: The value before; and whether there was a change of the thing before.
    old: str | None
    was_set: bool
    #: What the file said of the thing.
    in_file: str | None

    @property
    def size(self) -> int:
        """The characters of its values."""
        return sum(len(one) for one in (self.text, self.old, self.in_file) if one is not None)

    def read(self) -> Recorded:
        """The change with its values.  Raises StoreError for a text that is not JSON."""
        text, old, said = (self._value(one) for one in (self.text, self.old, self.in_file))
        if not self.was_set and self.change.kind in IN_FILE:
            old = TO_FILE
        return Recorded(self.version, replace(self.change, value=text), old, said)

    def _value(self, text: str | None) -> Any:
        try:
            return None if text is None else msgspec.json.decode(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise StoreError(f"{self.change.path}: expected JSON: {error}") from None


def paged(versions: Iterable[Sequence[Row]], limit: int) -> list[Recorded]:
    """A page of the history: see :meth:`slardar.interfaces.IStore.history`.  ``versions`` are the
    rows of each version, the newest first."""
    found: list[Recorded] = []
    size = 0
    for rows in versions:
        if len(found) >= limit:
            break
        for number, row in enumerate(rows):
            size += row.size
            if number and (number == MAX_ROWS or size > MAX_PAGE):
                found[-1] = replace(found[-1], more=len(rows) - number)
                break
            if found and size > MAX_PAGE:
                return found
            found.append(row.read())
    return found


def place_in_file(kind: str, name: str) -> str:
    """The name under which the file's value of a thing is on record; empty if the file has no
    such things."""
    if kind not in IN_FILE:
        return ""
    return f"{kind}s.{name}" if name else kind


def wanted_oldest(versions: Sequence[int], keep: int) -> int | None:
    """The version whose state should be the oldest that is known, if the changes of the newest
    ``keep`` of ``versions`` are kept; ``None`` if there are no more."""
    return versions[len(versions) - keep - 1] if len(versions) > keep else None


def forget(versions: deque[int], oldest: int) -> None:
    """Take those away that are not told of any more."""
    while versions and versions[0] <= oldest:
        versions.popleft()


def no_such_version(version: int, oldest: int, newest: int) -> NotFoundError:
    """The error for a version that is not in the history."""
    return NotFoundError(f"no version {version} in the history, which has {oldest} to {newest}")


def conflict(found: Revision, expected: Revision) -> ConflictError:
    """The error for a commit whose expected revision is not the store's."""
    return ConflictError(
        f"the store is at revision {found}, not {expected}: somebody else wrote to it"
    )
