"""The running configuration: what is served, and the one way in which it changes.

A change is checked, committed to the store, put into the next snapshot and given to the data plane,
in this order.  If a step fails, the steps after it are not taken.  Changes are made one at a time.
Every accepted change is a new version, even one that sets what was set already.  So every receipt
names a version of its own, and it is on record who asked.

A whole desired state is served in the same way, as one change: the file that was read again, or an
earlier state.  So is what others have written to the store (:mod:`slardar.control.store_watch`),
and what catalogues list for services (:mod:`slardar.control.followed`).  During an upgrade changes
wait (:mod:`slardar.control.handover`).

The lock of changes keeps the order.  Each change holds it from its ``prepare`` until the plane has
been given the snapshot.  Only who holds the lock writes to ``snapshot``, ``held``, ``failed`` and
``settings``, so a ``prepare`` may read them and nothing changes before its commit.  It is not held
while code is checked, nor until the workers have confirmed.

The file is long, because the steps of a change are read as one text.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from msgspec import structs
from twisted.internet import defer
from twisted.logger import Logger
from twisted.python.failure import Failure

from slardar.catalogues.watch import ServiceWatch
from slardar.config import Settings
from slardar.control.audit import describe_change
from slardar.control.changes import (
    ApplyError,
    Next,
    NothingChanged,
    Prepare,
    Receipt,
    or_none,
)
from slardar.control.checks import Checks, NotCheckedError, PrepareChecked, Question, Usage
from slardar.control.conditions import Condition
from slardar.control.desired import (
    Desired,
    file_differences,
    first_desired,
    read_desired,
    served_state,
    what_file_says,
)
from slardar.control.followed import FollowedServices
from slardar.control.handover import HandOver
from slardar.control.origins import edited
from slardar.control.status import ignored_keys
from slardar.control.store_trouble import StoreTrouble
from slardar.control.store_watch import StoreWatch
from slardar.errors import ConfigError, ConflictError, StoreError, printable
from slardar.events import Publish, ignore
from slardar.interfaces import IKeptStore, IPlane, IStore
from slardar.model.change import Change, StoredState, Value, differences
from slardar.model.inert import inert_upstreams
from slardar.model.parse import Plugins
from slardar.model.server import Upstream
from slardar.model.service import Service
from slardar.model.setting import is_of_settings
from slardar.model.snapshot import Snapshot
from slardar.stores.trouble import Trouble
from slardar.stores.urls import hidden_url
from slardar.tls_files import warn_unverified

__all__ = ["Configuration"]

#: How often a change may be prepared again because other changes came while code was checked.
_ATTEMPTS = 1000
#: Parts of a state that are left out which the log names at once, and characters of a reason there:
#: whoever writes to the store may write many, with long names.
_MAX_LEFT_OUT = 20
_MAX_REASON = 1000
#: Who has changed what the file says, in the history.
_FILE = "file"

_log = Logger("slardar.control")


class Configuration:
    """The configuration and its store.  Nothing here blocks; changes and ``start`` return
    Deferreds.

    ``plugins`` refuses balancers that do not exist (``slardar.plugins``); ``clock``
    gives epoch seconds.  Who opens the store through ``start`` closes it.  ``service_watch``
    follows the services; who makes it stops it.
    """

    def __init__(
        self,
        settings: Settings,
        store: IStore,
        plane: IPlane,
        plugins: Plugins | None = None,
        clock: Callable[[], float] = time.time,
        service_watch: ServiceWatch | None = None,
    ) -> None:
        self.settings = settings
        #: ``on_error`` of hooks that do not set it.  Hooks run with the settings of the start.
        self.on_error = settings.hooks.on_error
        self.clock = clock
        self.plugins = plugins
        self.plane = plane
        self.store: Any = store
        #: The URL of the store, as it may be shown.
        self.store_url: str = hidden_url(settings.store)
        if IKeptStore.providedBy(self.store):
            self.store_url = self.store.url
        self._lock = defer.DeferredLock()
        #: The configuration that is served.
        self.snapshot = Snapshot.build(0, {}, (), settings.default_upstream)
        #: What the store holds.
        self.held = StoredState()
        #: The parts of the held state that are not in use: why, by key path.
        self.failed: dict[str, str] = {}
        self.service_watch = service_watch or ServiceWatch(None, {})
        self._followed = FollowedServices(self, self.service_watch)
        #: The version from which to count on, if it is ahead of the store's.
        self.least_version = 0
        #: The settings that the store has on record, and when the present ones came.
        self._on_record: Settings | None = None
        self._read_at = clock()
        #: Tells of changes, and of the store.
        self.publish: Publish = ignore
        self._trouble = StoreTrouble(self.store, clock, lambda event: self.publish(event))
        self._others = StoreWatch(self, self.store, self._trouble)
        self._handover = HandOver(self._lock, self.store, self._reopened)

    @property
    def usage(self) -> Usage:
        """How the hooks that are served use each other."""
        return self.usage_in(self.snapshot)

    def usage_in(self, snapshot: Snapshot) -> Usage:
        """How the hooks of a snapshot use each other."""
        return Usage(snapshot, self.on_error)

    # The start.

    def start(self) -> defer.Deferred[None]:
        """Open the store and serve what it and the settings say.

        What the store says of a name wins over the settings.  A part of the store that cannot be
        read any more is logged and shown in the status, and stays in the store.

        Fails with StoreError, or with what the plane raises.
        """
        return defer.ensureDeferred(self._start())

    async def _start(self) -> None:
        # A catalogue may list servers meanwhile.
        await self._lock.acquire()
        try:
            await self._serve_state()
        finally:
            self._lock.release()

    async def _serve_state(self) -> None:
        self.store.keep_history(self.settings.history.versions)
        state: StoredState = await self.store.open()
        kept = self.store.kept if IKeptStore.providedBy(self.store) else None
        desired = first_desired(self.settings, state, kept, self.plugins)
        self._leave_out(desired.failed)
        self.held = state
        await self.service_watch.begin(desired.services)
        desired = desired.with_upstreams(map(self.followed, desired.services.values()))
        self.snapshot = desired.snapshot(max(state.version, self.least_version))
        ignored = ignored_keys(self.snapshot)
        if ignored:
            _log.warn(
                "stored and ignored: {line} ({count} such keys: see ignored in /status)",
                line=printable(ignored[0]),
                count=len(ignored),
            )
        _tell_inert(
            (f"{'store: ' if state.decides(name) else ''}upstreams.{name}", upstream.source)
            for name, upstream in desired.upstreams.items()
        )
        warn_unverified(desired.upstreams.values(), {})
        if desired.hooks:
            await self.plane.check_stored(desired.hooks)
        await self.plane.apply(self.snapshot, list(desired.upstreams))
        self._keep()
        self._others.begin()

    def _keep(self) -> None:
        """Tell the store what is served, for the time when it is away."""
        if IKeptStore.providedBy(self.store):
            self.store.keep(served_state(self.held, self.snapshot, self.failed))

    # A change of something.

    def change(
        self,
        prepare: Prepare,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> defer.Deferred[Receipt]:
        """Make a change.  ``prepare`` is called when it is the turn of this change.

        Fires when every worker serves the change; without ``wait``, as soon as the store holds it.
        Fails with what ``prepare`` raises, with PreconditionError if the ``condition`` does not
        hold, with StoreError or ConflictError if the store does not take the change: nothing has
        changed then.  Fails with ApplyError if the change is stored but not served.
        """
        return defer.ensureDeferred(self._change(prepare, who, wait, condition))

    def keep_values(
        self, prepare: Callable[[StoredState], Sequence[Value]], who: str
    ) -> defer.Deferred[None]:
        """Store values of kind ``acme``, of which nothing is served and no version is made.

        ``prepare`` gets what the store holds, and returns the values; nothing is stored if there
        are none.  Fails as :meth:`change` does, and then nothing is stored: with ConflictError if
        another node has written one of the values meanwhile.
        """
        return defer.ensureDeferred(self._keep_values(prepare, who))

    async def _keep_values(
        self, prepare: Callable[[StoredState], Sequence[Value]], who: str
    ) -> None:
        await self._lock.acquire()
        try:
            self._handover.check()
            held, now = self.held, self.clock()
            changes = [Change(one.kind, one.name, one.value, who, now) for one in prepare(held)]
            if not changes:
                return
            try:
                revision = await self.store.commit(held.revision, changes, held.version)
            except StoreError as error:
                self._trouble.refused(str(error))
                raise
            self._others.committed()
            self.held = held.after(changes, held.version, revision)
            self._trouble.over()
            self._keep()
        finally:
            self._lock.release()

    async def change_checked(
        self,
        prepare: PrepareChecked,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> Receipt:
        """The same for a change that needs code to be checked.  Other changes do not wait for the
        check."""
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
        """Ask about code.  A refusal is an answer, too."""
        try:
            return await self.plane.check_hook(*question)
        except ConfigError as error:
            return error

    async def _change(
        self, prepare: Prepare, who: str, wait: bool, condition: Condition | None
    ) -> Receipt:
        # The lock is held until the plane has the snapshot, so that snapshots reach it in order.
        # The plane may still look up names for one when the next one comes.
        await self._lock.acquire()
        try:
            self._handover.check()
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
        """Store a change and make it the configuration.  Returns the version."""
        before, before_held = self.snapshot, self.held
        what = describe_change(before, following)
        if following.stored is None:
            held = await self._store_values(following, who)
            self._others.committed()
            version = held.version
        else:
            held = following.stored
            version = max(before.version + 1, held.version)
        self.snapshot = following.snapshot.at_version(version)
        self.settings = following.settings or self.settings
        if held is not self.held:
            self.held = held
            self._trouble.over()
        self.service_watch.follow(self.snapshot.services)
        if following.failed is None:
            for one in following.values:
                self.failed.pop(one.path, None)
        else:
            self._leave_out(following.failed)
        if held is not before_held:
            self._keep()
        _log.info(
            "version {version}: {path} {verb} by {who}{what}",
            version=version,
            path=following.path,
            verb=following.verb,
            who=who,
            what=f": {what}" if what else "",
        )
        for event in following.events(version, who):
            self.publish(event)
        if following.stored is None and (
            any(one.kind == "hook" for one in following.values)
            or self.snapshot.settings is not before.settings
        ):
            self._others.try_hooks()
        # Keys that were there before, with the same value, have been logged already.
        _tell_inert(
            (f"upstreams.{name}", _new_keys(before.upstreams.get(name), upstream))
            for name in following.changed
            if (upstream := following.snapshot.upstreams.get(name)) is not None
        )
        found = following.snapshot.upstreams
        changed = [found[name] for name in following.changed if name in found]
        warn_unverified(changed, before.upstreams)
        return version

    async def _store_values(self, following: Next, who: str) -> StoredState:
        """Commit a change.  Returns what the store holds after it."""
        settings = following.settings or self.settings
        held = following.onto or self.held
        said = self._not_on_record(settings, held)
        changes = [
            *(Change(one.kind, one.name, one.value, _FILE, self._read_at) for one in said),
            *following.changes(who, self.clock()),
        ]
        # Other slardars may have written to the store, and counted.
        version = max(self.snapshot.version, held.version) + 1
        try:
            revision = await self.store.commit(held.revision, changes, version)
        except (StoreError, ConflictError) as error:
            _log.error("{path} is not changed: {error}", path=following.path, error=error)
            if isinstance(error, StoreError):
                self._trouble.refused(str(error))
            raise
        if revision != held.revision:
            # Else the store is away, and has taken nothing.
            self._on_record = settings
        return held.after(changes, version, revision)

    def _not_on_record(self, settings: Settings, held: StoredState) -> list[Value]:
        """What the file says and the store does not have on record: with the changes to come, one
        can tell what was served at any version."""
        if settings is self._on_record and held is self.held:
            return []
        return file_differences(held.file, what_file_says(settings))

    def _leave_out(self, failed: Mapping[str, str]) -> None:
        """Note the parts of the held state that are not in use, and log those that are new."""
        new = [reason for where, reason in failed.items() if self.failed.get(where) != reason]
        for reason in new[:_MAX_LEFT_OUT]:
            _log.error("stored and left out: {reason}", reason=printable(reason[:_MAX_REASON]))
        if len(new) > _MAX_LEFT_OUT:
            _log.error(
                "stored and left out: {count} more: see failed in /status",
                count=len(new) - _MAX_LEFT_OUT,
            )
        self.failed = dict(failed)

    def hold(self, state: StoredState, failed: Mapping[str, str] | None = None) -> None:
        """Note that the store holds this state, and that it is the one served.

        ``failed`` are its parts that are not in use; ``None``: they are the ones of before.  Called
        with the lock held.
        """
        self.held = state
        self._trouble.over()
        if failed is not None:
            self._leave_out(failed)
        self._keep()

    @property
    def store_trouble(self) -> Trouble | None:
        """What is wrong with the store; ``None`` if nothing is known to be."""
        return self._trouble.shown

    def followed(self, service: Service) -> Upstream:
        """The upstream of a service, with the servers that it has now."""
        return self._followed.upstream(service)

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

    def take_desired(
        self,
        state: StoredState,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
        reason: Value | None = None,
    ) -> defer.Deferred[Receipt | None]:
        """Store and serve ``state`` in the place of the state that the store holds.  All
        differences are one new version; fires with ``None`` if there are none.

        The version and the revision of ``state`` do not matter, nor what it has of the file, nor
        what holds private keys: certificates stay as they are.
        ``reason`` is stored with the differences, and then there is a new version even without any.
        Fails as other changes do.  If any part that differs cannot be served, it fails with
        ConfigError and nothing has changed.
        """

        def prepare(checks: Checks) -> Next:
            held = self.held
            wanted = structs.replace(state, certificates=held.certificates, acme=held.acme)
            values = differences(held, wanted)
            if reason is not None:
                values.insert(0, reason)
            if not values:
                raise NothingChanged
            return self._change_to(self._desired(self.settings, wanted), values, checks)

        made = self.change_checked(prepare, who, wait, condition)
        return defer.ensureDeferred(or_none(made))

    def take_values(
        self,
        wanted: Callable[[], list[Value]],
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> defer.Deferred[Receipt | None]:
        """Store and serve some values.  All are one new version; fires with ``None`` if there are
        none.

        ``wanted`` gives them when it is the turn of this change, perhaps again and again.  Fails
        with what it raises, and as :meth:`take_desired` does.
        """

        def prepare(checks: Checks) -> Next:
            values = wanted()
            if not values:
                raise NothingChanged
            state = self.held.after(values, self.held.version, self.held.revision)
            return self._change_to(self._desired(self.settings, state), values, checks)

        made = self.change_checked(prepare, who, wait, condition)
        return defer.ensureDeferred(or_none(made))

    def take_settings(self, settings: Settings, who: str) -> defer.Deferred[Receipt | None]:
        """Use other settings: serve their upstreams, routes and default upstream wherever the store
        does not say something else.

        All differences are one new version; fires with ``None`` if there are none.  Fails as other
        changes do; nothing has changed then.
        """
        return defer.ensureDeferred(self._take_settings(settings, who))

    async def _take_settings(self, settings: Settings, who: str) -> Receipt | None:
        def prepare(checks: Checks) -> Next:
            # A file that an upstream of the store names may be there by now.
            desired = self._desired(settings, self.held, again=True)
            self._read_at = self.clock()
            if desired.is_served(self.snapshot):
                self.settings = settings
                self._leave_out(desired.failed)
                raise NothingChanged
            value = Value("file", "", {"upstreams": desired.changed(self.snapshot)})
            following = self._change_to(desired, [value], checks)
            following.settings = settings
            return following

        before = self.settings
        receipt = await or_none(self.change_checked(prepare, who))
        self.store.keep_history(settings.history.versions)
        for place in edited(before, settings, self.held, self.snapshot):
            _log.warn(
                "{place}: the file's edit is not served, for a change through the control"
                " channel holds; DELETE /{path} returns to the file's",
                place=place,
                path=place.replace("s.", "/", 1) + ("" if is_of_settings(place) else "?to=file"),
            )
        return receipt

    def take_files(
        self, upstreams: Mapping[str, Upstream], who: str
    ) -> defer.Deferred[Receipt | None]:
        """Serve these upstreams, which differ from those that are served in what is in the files
        of their ``tls``.  One that was changed otherwise meanwhile stays as it is.

        They are one new version, of which the store is not told; fires with ``None`` if there are
        none.  Fails with ApplyError.
        """

        def prepare() -> Next:
            snapshot = self.snapshot
            changed = []
            for name, upstream in upstreams.items():
                known, service = snapshot.upstreams.get(name), snapshot.services.get(name)
                if known is None or known.digest != upstream.digest or known.same_as(upstream):
                    continue
                changed.append(name)
                if service is None:
                    snapshot = snapshot.with_upstream(upstream)
                else:
                    service = structs.replace(service, tls=upstream.tls)
                    snapshot = snapshot.with_service(service, upstream)
            if not changed:
                raise NothingChanged
            value = Value("file", "", {"upstreams": changed})
            return Next([value], snapshot, changed, stored=self.held)

        return defer.ensureDeferred(or_none(self.change(prepare, who)))

    def _desired(self, settings: Settings, state: StoredState, again: bool = False) -> Desired:
        """What is to be served for these.  Raises ConfigError if a part of the state cannot be
        read, unless that part is left out already, or is a setting of hooks.  ``again``: parts that
        are left out are read again."""
        desired = self.read_state(settings, state, again=again)
        problems = [
            reason
            for where, reason in desired.failed.items()
            if where not in self.failed and not is_of_settings(where)
        ]
        if problems:
            raise ConfigError(problems)
        return desired

    def read_state(
        self,
        settings: Settings,
        state: StoredState,
        held: StoredState | None = None,
        again: bool = False,
    ) -> Desired:
        """What is to be served for these.  Of a part that cannot be read, what is served stays."""
        return read_desired(
            settings,
            state,
            self.plugins,
            held or self.held,
            self.snapshot,
            self.failed,
            self.followed,
            again,
        )

    def settled(self, *values: Value) -> Next:
        """The change to these values, with whatever is in use after it, as after a start: a name
        that an upstream has left may be that of a service."""
        state = self.held.after(values, self.held.version, self.held.revision)
        desired = self._desired(self.settings, state)
        snapshot = desired.snapshot(self.snapshot.version + 1)
        return Next(values, snapshot, desired.changed(self.snapshot), failed=desired.failed)

    def _change_to(
        self,
        desired: Desired,
        values: list[Value],
        checks: Checks,
    ) -> Next:
        """The change that leads to ``desired``.  Raises ConfigError if a hook cannot be loaded."""
        snapshot = desired.snapshot(self.snapshot.version + 1)
        changed = desired.changed_hooks(self.snapshot)
        if changed:
            usage = self.usage_in(snapshot)
            checks.require_all(usage.questions_about(changed, self.snapshot))
        names = desired.changed(self.snapshot)
        return Next(values, snapshot, names, failed=desired.failed)

    def accept(
        self, who: str, wait: bool = True, condition: Condition | None = None
    ) -> defer.Deferred[Receipt]:
        """Serve the state that the store holds back, because it has lost what is served.  All nodes
        follow.

        Fails as other changes do; with ConflictError if no state is held back.
        """
        accepted = self.change_checked(self._others.accepted, who, wait, condition)
        return defer.ensureDeferred(accepted)

    # The upgrade in place.

    def hand_over(self) -> defer.Deferred[StoredState | None]:
        """Let go of the store after the change under way.  From then on changes wait until
        :meth:`take_back` or :meth:`moved` is called.

        Fires with the state of a store that forgets, so that another process can take it over; with
        ``None`` for other stores.
        """
        return self._handover.hand_over()

    def take_back(self) -> defer.Deferred[None]:
        """Open the store again, and go on with the changes that wait.

        Fails with StoreError if it cannot be opened; changes fail then, too.
        """
        return self._handover.take_back()

    def _reopened(self, state: StoredState) -> None:
        # While the store is away, the state is the one that is served.
        if state.revision != self.held.revision and self._trouble.of_store is None:
            self._others.reported(state)
        self._others.begin()

    def moved(self) -> None:
        """Another process has the store for good.  The changes that wait fail with MovedError, and
        so do all that come later."""
        self.service_watch.stop()
        self._handover.moved()


def _tell_inert(sources: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
    """Log which keys have no effect."""
    for line in inert_upstreams(sources):
        _log.warn("{line}", line=line)


def _new_keys(before: Upstream | None, after: Upstream) -> Mapping[str, Any]:
    """The keys of an upstream, as it was written, that are new or have another value."""
    known = {} if before is None else before.source
    return {key: value for key, value in after.source.items() if known.get(key) != value}
