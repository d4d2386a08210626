"""The running configuration: what is served, and the one way in which that changes.

A change is read and checked, committed to the store, put into the next snapshot and
given to the data plane, in that order; a failure on the way leaves everything before
it as it was.  Changes are made one at a time.  Every accepted change is a new version,
also one that sets what was already set: the caller's receipt then names a version of
its own, and who asked is on record.

What differs is taken in the same way where the whole of what is wanted is known: the file
that was read again, a state of the store that somebody else has made, or one of before.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any

from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from slardar.config import Settings
from slardar.control.audit import describe_change
from slardar.control.changes import Next, NothingChanged, Prepare, Receipt
from slardar.control.checks import Checks, NotCheckedError, PrepareChecked, Question, Usage
from slardar.control.conditions import Condition
from slardar.control.desired import Desired, differences, read_desired
from slardar.control.origins import edited
from slardar.control.status import ignored_keys
from slardar.errors import ConfigError, ConflictError, SlardarError, StoreError
from slardar.interfaces import IForgetfulStore, IPlane, IStore, IWatchedStore
from slardar.model.change import Change, StoredState, Value
from slardar.model.inert import inert_upstreams
from slardar.model.parse import CheckMode
from slardar.model.server import Upstream
from slardar.model.snapshot import Snapshot

__all__ = ["ApplyError", "Configuration", "MovedError"]

#: Times that what a change needs checked may be another thing by the time that it is.
_ATTEMPTS = 1000
#: Who is on record for what others have written to the store.
_OTHERS = "store"
#: Where the status says why a state of the store is not served.
_STORE = "store"

_log = Logger("slardar.control")


class ApplyError(SlardarError):
    """A change is in the store, but a part of the data plane could not take it."""


class MovedError(SlardarError):
    """Another process takes the changes by now."""


class Configuration:
    """What is served.  Nothing here blocks; changes and ``start`` return Deferreds.

    ``check_mode`` refuses balancers that do not exist (``slardar.plugins``); ``clock``
    gives epoch seconds.  Who opens the store through ``start`` closes it.
    """

    def __init__(
        self,
        settings: Settings,
        store: IStore,
        plane: IPlane,
        check_mode: CheckMode | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        #: What the failure of a hook does that does not say so itself.  Hooks run with the
        #: settings of the start.
        self.on_error = settings.hooks.on_error
        self.clock = clock
        self.check_mode = check_mode
        # An IPlane; its methods answer more than zope's declarations can say.
        self.plane: Any = plane
        self._store: Any = store
        self._lock = defer.DeferredLock()
        self._has_moved = False
        #: The configuration of now.
        self.snapshot = Snapshot.build(0, {}, (), settings.default_upstream)
        #: What the store holds.
        self.held = StoredState()
        #: Why a part of what it holds is not in use, by its key path.
        self.failed: dict[str, str] = {}
        #: The newest state that others have made of the store and that has not been taken.
        self._reported: StoredState | None = None
        self._is_taking = False

    @property
    def usage(self) -> Usage:
        """How the hooks of now use each other."""
        return self.usage_in(self.snapshot)

    def usage_in(self, snapshot: Snapshot) -> Usage:
        """How the hooks of a snapshot use each other."""
        return Usage(snapshot, self.on_error)

    # The start.

    def start(self) -> defer.Deferred[None]:
        """Open the store and serve what it and the settings say.

        What the store says of a name wins over the settings.  What of it cannot be read any
        more is logged and shown in the status, and stays in the store as it is.

        Fails with StoreError, or with what the plane raises.
        """
        return defer.ensureDeferred(self._start())

    async def _start(self) -> None:
        state: StoredState = await self._store.open()
        desired = read_desired(self.settings, state, self.check_mode)
        for reason in desired.failed.values():
            _log.error("stored and left out: {reason}", reason=reason)
        self.failed = dict(desired.failed)
        self.held = state
        self.snapshot = desired.snapshot(state.version)
        ignored = ignored_keys(self.snapshot)
        if ignored:
            _log.warn(
                "stored and ignored: {line} ({count} such keys: see ignored in /status)",
                line=ignored[0],
                count=len(ignored),
            )
        _tell_inert(
            (f"{'store: ' if state.decides(name) else ''}upstreams.{name}", upstream.source)
            for name, upstream in desired.upstreams.items()
        )
        if desired.hooks:
            await self.plane.check_stored(desired.hooks)
        await self.plane.apply(self.snapshot, list(desired.upstreams))
        self._watch()

    # A change of something.

    def change(
        self,
        prepare: Prepare,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> defer.Deferred[Receipt]:
        """Make the change that ``prepare`` gives when it is its turn.

        Fails with what that raises (nothing is changed then), StoreError or ConflictError if
        the store does not take it (nothing is changed either), and ApplyError if it is stored
        but not served.  Without ``wait`` it fires once the store holds the change.  A
        ``condition`` is looked at when it is this change's turn: PreconditionError if it does
        not hold then.
        """
        return defer.ensureDeferred(self._change(prepare, who, wait, condition))

    async def change_checked(
        self,
        prepare: PrepareChecked,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> Receipt:
        """The same for a change that needs code to be checked: not while others wait."""
        checks = Checks()
        for _ in range(_ATTEMPTS):
            try:
                return await self._change(lambda: prepare(checks), who, wait, condition)
            except NotCheckedError as error:
                questions = error.questions
            asked = [defer.ensureDeferred(self._ask(question)) for question in questions]
            answers = await defer.DeferredList(asked, consumeErrors=True)
            for question, (_, answer) in zip(questions, answers, strict=True):
                if isinstance(answer, Failure):
                    answer.raiseException()
                checks.note(question, answer)
        raise ConflictError("what the hook uses was changed again and again meanwhile: ask again")

    async def _ask(self, question: Question) -> Any:
        """Have code looked at; that it is refused is an answer, too."""
        try:
            return await self.plane.check_hook(*question)
        except ConfigError as error:
            return error

    async def _change(
        self, prepare: Prepare, who: str, wait: bool, condition: Condition | None
    ) -> Receipt:
        # The lock is held until the plane has been given the snapshot: it gets them in
        # order.  It may still be looking up names for one when the next one comes.
        await self._lock.acquire()
        try:
            if self._has_moved:
                raise MovedError("slardar was upgraded meanwhile: ask again")
            if condition is not None:
                condition.check(self.snapshot)
            following = prepare()
            version = await self._commit(following, who)
            applied = defer.maybeDeferred(self.plane.apply, self.snapshot, following.changed)
        finally:
            self._lock.release()
        applied.addErrback(self._not_applied, following, version)
        if not wait:
            applied.addErrback(lambda _failure: None)  # it has been logged
            return Receipt(version)
        answer = await applied
        return Receipt(version, answer.get("workers", {}) if answer else {})

    async def _commit(self, following: Next, who: str) -> int:
        """Store a change and make it the configuration of now; answers the version."""
        before = self.snapshot
        what = describe_change(before, following)
        if following.stored is None:
            held = await self._store_values(following, who)
            # Whatever was reported until now is what this has been made to, or older.
            self._reported = None
            version = held.version
        else:
            held = following.stored
            version = max(before.version + 1, held.version)
        self.snapshot = following.snapshot.at_version(version)
        self.settings = following.settings or self.settings
        self._hold(held)
        if following.failed is None:
            for one in following.values:
                self.failed.pop(one.path, None)
        else:
            self.failed = dict(following.failed)
        _log.info(
            "version {version}: {path} {verb} by {who}{what}",
            version=version,
            path=following.path,
            verb=following.verb,
            who=who,
            what=f": {what}" if what else "",
        )
        # Those that were there before, with the same value, have been told.
        _tell_inert(
            (f"upstreams.{name}", _new_keys(before.upstreams.get(name), upstream))
            for name in following.changed
            if (upstream := following.snapshot.upstreams.get(name)) is not None
        )
        return version

    async def _store_values(self, following: Next, who: str) -> StoredState:
        """Commit a change; answers what the store holds then."""
        if _STORE in self.failed:
            raise ConflictError(
                "somebody else has written to the store what cannot be served: set it right"
                f" there: {self.failed[_STORE]}"
            )
        now = self.clock()
        changes = [Change(one.kind, one.name, one.value, who, now) for one in following.values]
        # Others who write to the store count, too.
        version = max(self.snapshot.version, self.held.version) + 1
        try:
            revision = await self._store.commit(self.held.revision, changes, version)
        except (StoreError, ConflictError) as error:
            _log.error("{path} is not changed: {error}", path=following.path, error=error)
            raise
        return self.held.after(following.values, version, revision)

    def _hold(self, state: StoredState) -> None:
        """Take note that the store holds this, and that all of it is in use."""
        self.held = state
        self.failed.pop(_STORE, None)

    def _not_applied(self, failure: Any, following: Next, version: int) -> None:
        _log.failure(
            "version {version} of {path} is stored but not served everywhere",
            failure=failure,
            version=version,
            path=following.path,
        )
        raise ApplyError(
            f"{following.path} is stored as version {version}, but is not served everywhere: "
            + " ".join(str(failure.value).split())
        )

    # A change to a whole state.

    def take_desired(self, state: StoredState, who: str) -> defer.Deferred[Receipt | None]:
        """Store and serve ``state`` in the place of what the store holds, whatever differs:
        one new version for all of it, or ``None`` if nothing does.

        The version and the revision in ``state`` do not count.  Fails as other changes do,
        with ConfigError if any part that differs cannot be served: all is as it was then.
        """

        def prepare(checks: Checks) -> Next:
            values = differences(self.held, state)
            if not values:
                raise NothingChanged
            return self._change_to(self._desired(self.settings, state), values, checks)

        return _or_none(self.change_checked(prepare, who))

    def take_settings(self, settings: Settings, who: str) -> defer.Deferred[Receipt | None]:
        """Serve the upstreams, routes and default of ``settings`` instead of those of the
        settings before, wherever the store has no word on them.

        One new version for all of it, or ``None`` if that changes nothing.  Fails as other
        changes do, and leaves everything as it was then.
        """
        return defer.ensureDeferred(self._take_settings(settings, who))

    async def _take_settings(self, settings: Settings, who: str) -> Receipt | None:
        def prepare(checks: Checks) -> Next:
            desired = self._desired(settings, self.held)
            if desired.is_served(self.snapshot):
                self.settings = settings
                raise NothingChanged
            value = Value("file", "", {"upstreams": desired.changed(self.snapshot)})
            following = self._change_to(desired, [value], checks)
            following.settings = settings
            return following

        before = self.settings
        receipt = await _or_none(self.change_checked(prepare, who))
        for place in edited(before, settings, self.held, self.snapshot):
            _log.warn(
                "{place}: the file's edit is not served, for a change through the control"
                " channel holds; DELETE /{path}?to=file returns to the file's",
                place=place,
                path=place.replace("upstreams.", "upstream/", 1),
            )
        return receipt

    def _desired(self, settings: Settings, state: StoredState) -> Desired:
        """What these come to.  Raises ConfigError with what of the state cannot be read,
        unless it has been left out before."""
        desired = read_desired(
            settings, state, self.check_mode, self.held, self.snapshot, self.failed
        )
        problems = [reason for where, reason in desired.failed.items() if where not in self.failed]
        if problems:
            raise ConfigError(problems)
        return desired

    def _change_to(
        self,
        desired: Desired,
        values: list[Value],
        checks: Checks,
    ) -> Next:
        """The change to what is desired.  Raises ConfigError if a hook of it is not fit."""
        snapshot = desired.snapshot(self.snapshot.version + 1)
        changed = desired.changed_hooks(self.snapshot)
        if changed:
            usage = self.usage_in(snapshot)
            checks.require_all(usage.questions_about(changed, self.snapshot))
        names = desired.changed(self.snapshot)
        return Next(values, snapshot, names, failed=desired.failed)

    # What others write to the store.

    def _watch(self) -> None:
        if IWatchedStore.providedBy(self._store):
            self._store.watch(self._others_wrote)

    def _others_wrote(self, state: StoredState) -> None:
        """The store holds another state; see :class:`slardar.interfaces.IWatchedStore`."""
        self._reported = state
        if not self._is_taking:
            self._is_taking = True
            taken = defer.ensureDeferred(self._take_reported())
            taken.addErrback(
                lambda failure: _log.failure("a state of the store is not served", failure=failure)
            )

    async def _take_reported(self) -> None:
        """Serve the newest state of the store, until there is no newer one."""
        try:
            while self._reported is not None:
                await _or_none(self.change_checked(self._next_reported, _OTHERS, False))
        except MovedError:
            pass
        finally:
            self._is_taking = False

    def _next_reported(self, checks: Checks) -> Next:
        """The change to the newest state of the store, where it differs."""
        state = self._reported
        if state is None:
            raise NothingChanged
        if state.revision == self.held.revision:
            # What came of a change of ours.
            self._hold(state)
            self._reported = None
            raise NothingChanged
        try:
            desired = self._desired(self.settings, state)
            values = differences(self.held, state)
            following = self._change_to(desired, values, checks)
        except ConfigError as error:
            self._refuse(error)
            raise NothingChanged from None
        self._reported = None
        if desired.is_served(self.snapshot):
            self._hold(state)
            self.failed = dict(desired.failed)
            raise NothingChanged
        following.stored = state
        return following

    def _refuse(self, error: ConfigError) -> None:
        """Go on with what is served; changes are refused until the store is set right."""
        self._reported = None
        reason = " ".join(str(error).split())
        self.failed[_STORE] = reason
        _log.error("the store's new state is not served: {reason}", reason=reason)

    # The upgrade in place.

    def hand_over(self) -> defer.Deferred[StoredState | None]:
        """Let go of the store once the change under way is made; changes wait from then
        on, until :meth:`take_back` or :meth:`moved`.

        Fires with what the store held if that ends with it.
        """
        return defer.ensureDeferred(self._hand_over())

    async def _hand_over(self) -> StoredState | None:
        await self._lock.acquire()
        if IForgetfulStore.providedBy(self._store):
            state: StoredState = self._store.state
            return state
        try:
            await self._store.close()
        except BaseException:
            self._lock.release()
            raise
        return None

    def take_back(self) -> defer.Deferred[None]:
        """Open the store again and make the changes that wait.

        Fails with StoreError if it cannot be opened; changes fail then, too.
        """
        return defer.ensureDeferred(self._take_back())

    async def _take_back(self) -> None:
        try:
            if not IForgetfulStore.providedBy(self._store):
                state: StoredState = await self._store.open()
                if state.revision != self.held.revision:
                    self._others_wrote(state)
                self._watch()
        finally:
            self._lock.release()

    def moved(self) -> None:
        """Another process has the store for good: the changes that wait fail with
        MovedError, as do those to come."""
        self._has_moved = True
        self._lock.release()


def _or_none(change: Awaitable[Receipt]) -> defer.Deferred[Receipt | None]:
    """The receipt of a change, or ``None`` if there was nothing to be changed."""

    async def receipt() -> Receipt | None:
        try:
            return await change
        except NothingChanged:
            return None

    return defer.ensureDeferred(receipt())


def _tell_inert(sources: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Log which keys have no effect."""
    for line in inert_upstreams(sources):
        _log.warn("{line}", line=line)


def _new_keys(before: Upstream | None, after: Upstream) -> Mapping[str, Any]:
    """What of an upstream as it was written is new."""
    known = {} if before is None else before.source
    return {key: value for key, value in after.source.items() if known.get(key) != value}
