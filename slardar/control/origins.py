"""Where the file and what was set through the control channel say different things."""

from __future__ import annotations

from slardar.config import Settings
from slardar.control.desired import read_desired
from slardar.model.change import StoredState
from slardar.model.snapshot import Snapshot

__all__ = ["edited", "shadowed", "shadowed_by"]


def shadowed(settings: Settings, state: StoredState, snapshot: Snapshot) -> list[str]:
    """Key paths of what the settings give and the store, which holds ``state``, overrides."""
    found = []
    for name in sorted(settings.first_upstreams):
        if state.decides(name):
            served = snapshot.upstreams.get(name)
            if served is None or served.digest != settings.first_upstreams[name].digest:
                found.append(f"upstreams.{name}")
    if state.decides_routes and settings.first_routes not in ((), snapshot.routes):
        found.append("routes")
    return found


def edited(before: Settings, after: Settings, state: StoredState, snapshot: Snapshot) -> list[str]:
    """Key paths of what an edit of the file has changed and the store overrides."""
    old, new = before.first_upstreams, after.first_upstreams
    found = []
    for name in sorted({*old, *new}):
        if state.decides(name):
            was, now, served = old.get(name), new.get(name), snapshot.upstreams.get(name)
            digest = now and now.digest
            if (was and was.digest) != digest != (served and served.digest):
                found.append(f"upstreams.{name}")
    if state.decides_routes and before.first_routes != after.first_routes != snapshot.routes:
        found.append("routes")
    return found


def shadowed_by(settings: Settings, state: StoredState) -> list[str]:
    """The same as :func:`shadowed`, for a store that is not in use by this process."""
    desired = read_desired(settings, state)
    return shadowed(settings, state, desired.snapshot(0))
