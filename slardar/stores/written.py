"""How a change is written down and read back: the same JSON in every store."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, get_args

import msgspec

from slardar.errors import ConflictError, StoreError
from slardar.model.change import Change, Kind, Revision, StoredState, Value

__all__ = ["conflict", "encode", "stored_state"]

_KINDS: tuple[str, ...] = get_args(Kind)
#: The kinds of which there are many things, each with a name.
_NAMED = ("upstream", "service", "hook")


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
    wrong to serve only the rest, and for text that is not JSON.
    """
    upstreams: dict[str, Any] = {}
    services: dict[str, Any] = {}
    hooks: dict[str, Any] = {}
    routes: Any = None
    for kind, name, text in rows:
        if kind not in _KINDS or not isinstance(name, str):
            raise StoreError(f"holds {kind} {name!r}, which this version cannot serve")
        try:
            value = None if text is None else msgspec.json.decode(text)
        except (TypeError, ValueError, RecursionError) as error:
            path = Value(kind, name, None).path  # type: ignore[arg-type]
            raise StoreError(f"{path}: expected JSON: {error}") from None
        if kind == "routes":
            routes = value
        elif kind == "upstream":
            upstreams[name] = value
        elif kind == "service":
            services[name] = value
        elif kind == "hook" and value is not None:
            hooks[name] = value
    return StoredState(version, upstreams, routes, hooks, revision, services)


def conflict(found: Revision, expected: Revision) -> ConflictError:
    """The error for a commit whose expected revision is not the store's."""
    return ConflictError(
        f"the store is at revision {found}, not {expected}: somebody else wrote to it"
    )
