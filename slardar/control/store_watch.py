"""What others write to the store: every state of theirs is a change, as far as it can be served.

A watched store tells of a new state at any time.  Only the newest one is kept, and it is taken when
its turn among the changes has come.  So changes that are made here and those of others never mix,
and are served in the order in which the store was in these states (:class:`IWatchedStore` says what
the store guarantees for this).
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from typing import Any, Protocol

from msgspec import structs

from slardar.config import Settings
from slardar.control.changes import Next, NothingChanged, Receipt
from slardar.control.checks import Checks, PrepareChecked
from slardar.control.desired import Desired
from slardar.control.others import loadable, values_at
from slardar.control.store_trouble import StoreTrouble
from slardar.control.taking import Taking
from slardar.errors import ConflictError
from slardar.interfaces import IKeptStore, IWatchedStore
from slardar.model.change import StoredState, Value, differences
from slardar.model.hook import OnError
from slardar.model.snapshot import Snapshot

__all__ = ["StoreWatch", "WatchingConfiguration"]

#: Who the log names for what others have written to the store.
_OTHERS = "store"


class WatchingConfiguration(Protocol):
    """What a store watch asks of the configuration."""

    on_error: OnError

    @property
    def settings(self) -> Settings:
        """The settings that hold."""

    @property
    def snapshot(self) -> Snapshot:
        """What is served."""

    @property
    def held(self) -> StoredState:
        """What the store holds, as far as it was taken."""

    @property
    def failed(self) -> Mapping[str, str]:
        """The parts of the held state that are not in use: why, by key path."""

    def change_checked(self, prepare: PrepareChecked, who: str, wait: bool) -> Awaitable[Receipt]:
        """Make a change.  ``prepare`` is called with the lock of changes held."""

    def read_state(self, settings: Settings, state: StoredState, held: StoredState) -> Desired:
        """What is to be served for a state, if ``held`` is what was read before."""

    def hold(self, state: StoredState, failed: Mapping[str, str] | None = None) -> None:
        """Note that the store holds this state, and that nothing else is to be served for it."""


class StoreWatch:
    """Takes what others write to ``store``, if it tells of that, and the state that it holds back.

    :meth:`committed` and :meth:`accepted` are called with the lock of changes held, all other
    methods with or without it.
    """

    def __init__(
        self, configuration: WatchingConfiguration, store: Any, trouble: StoreTrouble
    ) -> None:
        self._configuration = configuration
        self._store = store
        self._trouble = trouble
        #: The newest state that the store has reported, if it has not been looked at yet.
        self._reported: StoredState | None = None
        #: Hooks that others wrote and that could not be loaded may be good with a change made here.
        self._tries_hooks = False
        self._taking = Taking(
            lambda: self._reported is not None or self._tries_hooks,
            lambda: configuration.change_checked(self._next, _OTHERS, False),
            "a state of the store is not served",
        )

    def begin(self) -> None:
        """Watch the store; to be called once after each time it was opened."""
        if IWatchedStore.providedBy(self._store):
            self._store.watch(self.reported, self._trouble.away)

    def reported(self, state: StoredState) -> None:
        """Called by the store when it holds another state; see
        :class:`slardar.interfaces.IWatchedStore`."""
        self._reported = state
        self._taking.start()

    def committed(self) -> None:
        """A change made here is in the store: what was reported until now is the state that its
        commit made, or an older one."""
        self._reported = None

    def try_hooks(self) -> None:
        """Look again at the hooks that others wrote and that could not be loaded."""
        if any(where.startswith("hooks.") for where in self._configuration.failed):
            self._tries_hooks = True
            self._taking.start()

    def _next(self, checks: Checks) -> Next:
        """The change to the newest state that was reported."""
        configuration = self._configuration
        served, held = configuration.snapshot, configuration.held
        state = self._reported or held
        known = held
        if self._tries_hooks:
            known = structs.replace(held, hooks={})
        elif state.revision == held.revision:
            # The echo of a change made here.
            configuration.hold(state)
            self._reported = None
            raise NothingChanged
        desired = configuration.read_state(configuration.settings, state, known)
        desired = loadable(desired, served, configuration.on_error, checks)
        self._reported, self._tries_hooks = None, False
        if desired.is_served(served):
            configuration.hold(state, desired.failed)
            raise NothingChanged
        values = [one for one in differences(held, state) if one.path not in desired.failed]
        mended = configuration.failed.keys() - desired.failed.keys()
        return Next(
            values or list(values_at(mended, state)) or [Value("file", "", None)],
            desired.snapshot_after(served, served.version + 1),
            desired.changed(served),
            stored=state,
            failed=desired.failed,
        )

    def accepted(self, checks: Checks) -> Next:
        """The change to the state that the store holds back.

        Raises ConflictError if none is held back.
        """
        configuration = self._configuration
        state = self._store.waiting if IKeptStore.providedBy(self._store) else None
        if state is None:
            raise ConflictError("no state of the store is held back")
        served = configuration.snapshot
        desired = configuration.read_state(configuration.settings, state, configuration.held)
        desired = loadable(desired, served, configuration.on_error, checks)
        # The names are for the history: the store itself does not change.
        value = Value("file", "", {"upstreams": desired.changed(served)})
        return Next(
            [value],
            desired.snapshot(served.version + 1),
            desired.changed(served),
            onto=state,
            failed=desired.failed,
        )
