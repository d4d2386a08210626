"""The history: what was changed, what was served then, and the way back.

The store keeps the changes.  Here they become what people read.  That takes time when there is much
to show, so it is done in pieces: the reactor has its turn in between.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

from msgspec import Struct

from slardar.control.changes import Receipt
from slardar.control.conditions import Condition
from slardar.control.configuration import Configuration
from slardar.control.desired import what_file_says
from slardar.control.diff import diff
from slardar.control.hooks import local_time
from slardar.control.pieces import Turn, in_pieces
from slardar.model.change import IN_FILE, TO_FILE, Recorded, StoredState, Value
from slardar.model.shown import HIDDEN, hidden

__all__ = ["HistoryActions", "RolledBack"]

#: Key paths that the answer to a rollback names, at most.
_MAX_NAMED = 100

T = TypeVar("T")
U = TypeVar("U")


class RolledBack(Struct, frozen=True):
    """The answer to a rollback."""

    receipt: Receipt
    #: Key paths of what the file said then and says otherwise now: that is not taken back.
    file: list[str]


class HistoryActions:
    """The operations on the history of a configuration.

    ``turn`` gives a Deferred that fires in a later turn of the reactor.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration
        self.turn: Turn = None

    # Questions.

    async def page(self, before: int | None, limit: int) -> list[dict[str, Any]]:
        """The changes of the versions below ``before``, newest first; about ``limit`` of them.

        Raises StoreError.
        """
        records: list[Recorded] = await self._configuration.store.history(before, limit)
        return await self._each(records, _shown)

    async def version(self, version: int) -> dict[str, Any]:
        """The whole configuration as it was when ``version`` was made, and its changes.

        Raises NotFoundError if it is not known any more, or StoreError.
        """
        store = self._configuration.store
        state: StoredState = await store.state_at(self._committed(version))
        records = await store.history(version + 1, 1)
        changes = [one for one in records if one.version == version]
        upstreams = _things(state, "upstreams", state.upstreams, state.decides)
        services = _things(state, "services", state.services, state.decides_service)
        settings = _things(state, "settings", state.settings, state.settings.__contains__)
        shown = await self._each((*upstreams.values(), *services.values()), hidden)
        return {
            "version": version,
            "changes": await self._each(changes, _shown),
            "upstreams": dict(zip(upstreams, shown, strict=False)),
            "services": dict(zip(services, shown[len(upstreams) :], strict=True)),
            "routes": state.routes if state.decides_routes else state.file.get("routes", []),
            "default_upstream": state.file.get("default_upstream"),
            "hooks": state.hooks,
            # A value may be a secret.
            "settings": dict.fromkeys(settings, HIDDEN),
            "origins": {
                "upstreams": _origins(upstreams, state.decides),
                "services": _origins(services, state.decides_service),
                "routes": "control" if state.decides_routes else "file",
                "settings": _origins(settings, state.settings.__contains__),
            },
        }

    async def _each(self, items: Iterable[T], show: Callable[[T], U]) -> list[U]:
        """What ``show`` makes of each item, in pieces."""
        return await in_pieces(map(show, items), self.turn)

    def _committed(self, version: int) -> int:
        """The version by which the store knows this one: the newest ones may be of catalogues
        only, and the store holds nothing new since."""
        configuration = self._configuration
        if configuration.held.version < version <= configuration.snapshot.version:
            return configuration.held.version
        return version

    # The way back.

    async def roll_back(
        self,
        version: int,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> RolledBack:
        """Make a new version of what was set through control channels at ``version``.

        What the file says is not part of this, so the file's present values count for all that was
        not set then.  Certificates stay as they are now: one that has expired since or was revoked
        must not come back.  Raises NotFoundError if the version is not known any more, ConfigError
        if a part of it cannot be served any more, and what other changes raise: nothing has changed
        then.
        """
        configuration = self._configuration
        state: StoredState = await configuration.store.state_at(self._committed(version))
        reason = Value("rollback", "", version)
        receipt = await configuration.take_desired(state, who, wait, condition, reason)
        assert receipt is not None  # the reason alone is a change
        return RolledBack(receipt, self._of_file(state))

    def _of_file(self, state: StoredState) -> list[str]:
        """What the file said at the time of ``state``, and says otherwise now."""
        then, now = state.file, what_file_says(self._configuration.settings)
        if not then:
            return []  # nothing was on record yet
        found = []
        for place in sorted({*then, *now}):
            kind, _, name = place.partition(".")
            is_set = (
                (kind == "upstreams" and state.decides(name))
                or (kind == "services" and state.decides_service(name))
                or (kind == "routes" and state.decides_routes)
            )
            if not is_set and then.get(place) != now.get(place):
                found.append(place)
        return found[:_MAX_NAMED]


def _things(
    state: StoredState, section: str, stored: Mapping[str, Any], decides: Callable[[str], bool]
) -> Mapping[str, Any]:
    """The upstreams or the services of a state and of the file then, by name."""
    found = {}
    for place, value in state.file.items():
        kind, _, name = place.partition(".")
        if kind == section and not decides(name):
            found[name] = value
    for name, value in stored.items():
        if value is not None and decides(name):
            found[name] = value
    return dict(sorted(found.items()))


def _origins(names: Iterable[str], decides: Callable[[str], bool]) -> dict[str, str]:
    return {name: "control" if decides(name) else "file" for name in names}


def _certificate(kept: Any) -> Any:
    """What the store's history has kept of a certificate."""
    if not isinstance(kept, Mapping) or "expires" not in kept:
        return kept
    return {**kept, "expires": local_time(kept["expires"])}


def _shown(record: Recorded) -> dict[str, Any]:
    """A change as an answer shows it."""
    change = record.change
    old, new = record.old, change.value
    if change.kind in IN_FILE:
        old, new = (record.in_file if one == TO_FILE else one for one in (old, new))
    if change.kind == "rollback":
        old, text = None, f"back to version {new}"
    elif change.kind == "file" and not change.name:
        names = new.get("upstreams", ()) if isinstance(new, Mapping) else ()
        text = "\n".join(f"in service: {name}" for name in names[:_MAX_NAMED])
        old = None
    elif change.kind == "hook":
        # The version before is the one that an earlier change has put into service.
        text = diff(
            *({**one, "previous": None} if isinstance(one, Mapping) else one for one in (old, new))
        )
    elif change.kind == "setting":
        # A value may be a secret.
        text = "set" if old is None else "removed" if new is None else "changed"
        old, new = (None if one is None else HIDDEN for one in (old, new))
    elif change.kind == "certificate":
        old, new = _certificate(old), _certificate(new)
        text = diff(old, new) or "renewed or repaired"
    else:
        text = diff(old, new)
    if change.value == TO_FILE and change.kind in IN_FILE:
        text = "\n".join(["returned to the file's", *([text] if text else [])])
    shown: dict[str, Any] = {
        "version": record.version,
        "time": local_time(change.time),
        "who": change.who,
        "from": change.place or None,
        "kind": change.kind,
        "name": change.name,
        "diff": text,
        "old": hidden(old),
        "new": hidden(new),
    }
    if record.more:
        shown["more"] = record.more
    return shown
