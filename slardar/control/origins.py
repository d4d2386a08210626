"""Where the file and what was set through the control channel say different things."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from slardar.config import Settings
from slardar.control.desired import read_desired
from slardar.model.change import StoredState
from slardar.model.server import Upstream
from slardar.model.service import Service
from slardar.model.snapshot import Snapshot

__all__ = ["edited", "shadowed", "shadowed_by"]


def shadowed(settings: Settings, state: StoredState, snapshot: Snapshot) -> list[str]:
    """Key paths of what the settings give and the store, which holds ``state``, overrides."""
    found = []
    given: Mapping[str, Upstream | Service]
    served: Mapping[str, Upstream | Service]
    for section, given, served in (
        ("upstreams", settings.first_upstreams, snapshot.upstreams),
        ("services", settings.first_services, snapshot.services),
    ):
        for name in sorted(given):
            # A stored service takes the place of an upstream, too, and the other way round.
            is_decided = state.decides(name) or state.decides_service(name)
            if is_decided and _digest(served, name) != given[name].digest:
                found.append(f"{section}.{name}")
    for name, text in sorted(settings.first_settings.items()):
        if name in state.settings and snapshot.settings.get(name) != text:
            found.append(f"settings.{name}")
    if state.decides_routes and settings.first_routes not in ((), snapshot.routes):
        found.append("routes")
    return found


def edited(before: Settings, after: Settings, state: StoredState, snapshot: Snapshot) -> list[str]:
    """Key paths of what an edit of the file has changed and the store overrides."""
    found = [
        *_edited(
            "upstreams",
            (before.first_upstreams, after.first_upstreams, snapshot.upstreams),
            state.decides,
        ),
        *_edited(
            "services",
            (before.first_services, after.first_services, snapshot.services),
            state.decides_service,
        ),
    ]
    old, new = before.first_settings, after.first_settings
    for name in sorted({*old, *new}):
        if name in state.settings and old.get(name) != new.get(name) != snapshot.settings.get(name):
            found.append(f"settings.{name}")
    if state.decides_routes and before.first_routes != after.first_routes != snapshot.routes:
        found.append("routes")
    return found


def _edited(
    section: str,
    values: tuple[Mapping[str, Upstream | Service], ...],
    decides: Callable[[str], bool],
) -> Iterator[str]:
    """The key paths in one section, whose values are those of the file before and after the edit,
    and those served."""
    old, new, _ = values
    for name in sorted({*old, *new}):
        if decides(name):
            was, now, served = (_digest(some, name) for some in values)
            if was != now != served:
                yield f"{section}.{name}"


def _digest(values: Mapping[str, Upstream | Service], name: str) -> int | None:
    found = values.get(name)
    return None if found is None else found.digest


def shadowed_by(settings: Settings, state: StoredState) -> list[str]:
    """The same as :func:`shadowed`, for a store that is not in use by this process."""
    desired = read_desired(settings, state)
    return shadowed(settings, state, desired.snapshot(0))
