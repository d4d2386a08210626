"""Where the file and what was set through the control channel say different things."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from slardar.config import Settings
from slardar.model.change import TO_FILE, StoredState
from slardar.model.parse import parse_routes, parse_upstream
from slardar.model.snapshot import Snapshot

__all__ = ["edited", "shadowed", "shadowed_by"]


def shadowed(
    settings: Settings, stored: Collection[str], has_stored_routes: bool, snapshot: Snapshot
) -> list[str]:
    """Key paths of what the settings give and what is not served, for something else is.

    ``stored`` names the upstreams that the store has a word on.
    """
    found = []
    for name in sorted(settings.first_upstreams):
        if name in stored:
            served = snapshot.upstreams.get(name)
            if served is None or served.digest != settings.first_upstreams[name].digest:
                found.append(f"upstreams.{name}")
    if has_stored_routes and settings.first_routes not in ((), snapshot.routes):
        found.append("routes")
    return found


def edited(
    before: Settings,
    after: Settings,
    stored: Collection[str],
    has_stored_routes: bool,
    snapshot: Snapshot,
) -> list[str]:
    """Key paths of what has changed between two readings of the file and is not served."""
    old, new = before.first_upstreams, after.first_upstreams
    found = []
    for name in sorted({*old, *new}):
        if name in stored:
            was, now, served = old.get(name), new.get(name), snapshot.upstreams.get(name)
            digest = now and now.digest
            if (was and was.digest) != digest != (served and served.digest):
                found.append(f"upstreams.{name}")
    if has_stored_routes and before.first_routes != after.first_routes != snapshot.routes:
        found.append("routes")
    return found


def shadowed_by(settings: Settings, state: StoredState) -> list[str]:
    """The same as :func:`shadowed`, for a store that is not in use by this process."""
    stored = {name for name, value in state.upstreams.items() if value != TO_FILE}
    upstreams = {}
    for name in stored.intersection(settings.first_upstreams):
        value = _parsed(name, state.upstreams[name])
        if value is not None:
            upstreams[name] = value
    has_routes = state.routes not in (None, TO_FILE)
    routes = settings.first_routes
    if has_routes:
        try:
            routes = parse_routes(state.routes, "routes")
        except Exception:  # what a store holds may be anything
            routes = ()
    snapshot = Snapshot.build(0, upstreams, routes, None)
    return shadowed(settings, stored, has_routes, snapshot)


def _parsed(name: str, value: object) -> Any:
    try:
        return parse_upstream(name, value, name)
    except Exception:  # the start will tell more
        return None
