"""Each operation on the running configuration, once, for every control channel.

A change is read and checked, committed to the store, put into the next snapshot and
given to the data plane, in that order; a failure on the way leaves everything before
it as it was.  Changes are made one at a time.  Every accepted change is a new version,
also one that sets what was already set: the caller's receipt then names a version of
its own, and who asked is on record.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec
from twisted.internet import defer
from twisted.logger import Logger

from slardar.config import Settings
from slardar.control.audit import describe_change
from slardar.control.changes import Next, NothingChanged, Prepare, Receipt
from slardar.control.conditions import Condition
from slardar.control.hooks import HookActions
from slardar.control.origins import edited, shadowed
from slardar.control.status import build_status, ignored_keys
from slardar.errors import ConfigError, ConflictError, NotFoundError, SlardarError, StoreError
from slardar.interfaces import IForgetfulStore, IPlane, IStore
from slardar.model.change import TO_FILE, Change, Revision, StoredState, Value
from slardar.model.hook import Hook, HookKey, parse_hook
from slardar.model.inert import inert_upstreams
from slardar.model.membership import ANYWHERE, Place, add_server, remove_server
from slardar.model.parse import (
    CheckMode,
    check_name,
    merge_upstream,
    parse_routes,
    parse_server_key,
    parse_upstream,
    patch_server,
)
from slardar.model.reader import ANY_KEY
from slardar.model.routes import odd_keys, written_routes
from slardar.model.server import Upstream
from slardar.model.shown import without_password
from slardar.model.snapshot import Route, Snapshot
from slardar.plugins import reload_balancer

__all__ = ["Actions", "ApplyError", "MovedError", "Receipt"]

_log = Logger("slardar.control")


class ApplyError(SlardarError):
    """A change is in the store, but a part of the data plane could not take it."""


class MovedError(SlardarError):
    """Another process takes the changes by now."""


class Actions:
    """The operations.  Nothing here blocks; changes and ``start`` return Deferreds.

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
        self._settings = settings
        self._store = store
        self._plane = plane
        self._check_mode = check_mode
        self._clock = clock
        self._start_time = clock()
        self._lock = defer.DeferredLock()
        self._has_moved = False
        #: What ``/status`` shows of the generations before this process; newest first.
        self.older_generations: Callable[[], list[dict[str, Any]]] = list
        self._snapshot = Snapshot.build(0, {}, (), settings.default_upstream)
        #: The store's own name for the state that it is in.
        self._revision: Revision = 0
        #: The upstreams that the store has a word on, those it says are gone included, and
        #: whether it has one on the routes: there the settings' word does not count.
        self._stored: set[str] = set()
        self._has_stored_routes = False
        #: The operations on hooks.
        self.hooks = HookActions(
            lambda: self._snapshot, self._change, plane, clock, settings.hooks.on_error
        )
        #: Why a part of the stored state is not in use, by its key path.
        self._failed = self.hooks.failed

    def start(self) -> defer.Deferred[None]:
        """Open the store and serve what it and the settings say.

        What the store says of a name wins over the settings.  A stored upstream that
        cannot be read any more (its balancer's class is gone, say) is logged and shown
        in the status, and stays in the store as it is; its name is not served, because
        nobody knows whether the settings' older one would be right.

        Fails with StoreError, or with what the plane raises.
        """
        return defer.ensureDeferred(self._start())

    async def _start(self) -> None:
        stored: StoredState = await self._store.open()
        self._revision = stored.revision
        upstreams = dict(self._settings.first_upstreams)
        self._stored = {name for name, value in stored.upstreams.items() if value != TO_FILE}
        self._has_stored_routes = stored.routes not in (None, TO_FILE)
        for name in self._stored:
            value = stored.upstreams[name]
            upstreams.pop(name, None)
            if value is not None:
                upstream = self._stored_upstream(name, value)
                if upstream is not None:
                    upstreams[name] = upstream
        routes = self._settings.first_routes
        if self._has_stored_routes:
            routes = self._stored_routes(stored.routes)
        hooks: dict[HookKey, Hook] = {}
        for path, value in stored.hooks.items():
            if self.hooks.committed(path, value):
                continue
            hook = self._stored_hook(path, value)
            if hook is not None:
                hooks[hook.key] = hook
        self._snapshot = Snapshot.build(
            stored.version, upstreams, routes, self._settings.default_upstream, hooks
        )
        ignored = ignored_keys(self._snapshot)
        if ignored:
            _log.warn(
                "stored and ignored: {line} ({count} such keys: see ignored in /status)",
                line=ignored[0],
                count=len(ignored),
            )
        self._tell_inert(
            (self._place(name), upstream.source) for name, upstream in upstreams.items()
        )
        if hooks:
            await self._plane.check_stored(hooks)
        await self._plane.apply(self._snapshot, list(upstreams))

    def _stored_upstream(self, name: str, value: object) -> Upstream | None:
        where = f"upstreams.{name}"
        try:
            # Whoever else writes there may know more keys than this version.
            return parse_upstream(name, value, where, self._check_mode, ANY_KEY)
        except Exception as error:  # what a store holds may be anything
            self._not_usable(where, error)
            return None

    def _stored_hook(self, path: str, value: object) -> Hook | None:
        try:
            return parse_hook(path, value)
        except Exception as error:
            self._not_usable(f"hooks.{path}", error)
            return None

    def _stored_routes(self, value: object) -> tuple[Route, ...]:
        try:
            return parse_routes(value, "routes", ANY_KEY)
        except Exception as error:
            self._not_usable("routes", error)
            return ()

    def _place(self, name: str) -> str:
        """An upstream's key path for the log, with the store where that has given it."""
        return f"{'store: ' if name in self._stored else ''}upstreams.{name}"

    def _tell_inert(self, sources: Iterable[tuple[str, Mapping[str, Any]]]) -> None:
        """Log which keys have no effect."""
        for line in inert_upstreams(sources):
            _log.warn("{line}", line=line)

    def _not_usable(self, where: str, error: Exception) -> None:
        reason = str(error) if isinstance(error, ConfigError) else f"{where}: {error!r}"
        reason = " ".join(reason.split())
        self._failed[where] = reason
        _log.error("stored and left out: {reason}", reason=reason)

    # Questions.

    @property
    def snapshot(self) -> Snapshot:
        """The configuration of now."""
        return self._snapshot

    def upstreams(self) -> dict[str, Any]:
        """Every upstream as it was written, by name; without passwords."""
        found = sorted(self._snapshot.upstreams.items())
        return {name: without_password(upstream) for name, upstream in found}

    def upstream(self, name: str) -> Mapping[str, Any]:
        """One upstream as it was written, without its password.  Raises NotFoundError."""
        return without_password(self._known(name))

    def origin(self, name: str) -> str:
        """Where the value of an upstream comes from: ``file`` (options included), or
        ``control`` for what was set through a control channel, which the store keeps."""
        return "control" if name in self._stored else "file"

    def origins(self) -> dict[str, Any]:
        """The same for all upstreams and the routes, as ``/status`` shows it; with the
        places where the file says something else than what is served."""
        return {
            "upstreams": {name: self.origin(name) for name in sorted(self._snapshot.upstreams)},
            "routes": "control" if self._has_stored_routes else "file",
            "shadowed": shadowed(
                self._settings, self._stored, self._has_stored_routes, self._snapshot
            ),
        }

    def routes(self) -> list[Any]:
        """The routes as they were written."""
        return written_routes(self._snapshot.routes)

    def status(self) -> dict[str, Any]:
        """The contract's status object."""
        return build_status(
            self._settings,
            self._snapshot,
            self._plane,
            self._start_time,
            self._failed,
            [self.generation(), *self.older_generations()],
            self.hooks.summary(),
            self.origins(),
        )

    def generation(self) -> dict[str, Any]:
        """This process, as ``generations`` of the status shows it."""
        return {
            "pid": os.getpid(),
            "age": round(self._clock() - self._start_time, 1),
            "connections": self._plane.statistics().get("connections", 0),
        }

    def _next(self, name: str, upstream: Upstream) -> Next:
        snapshot = self._snapshot.with_upstream(upstream)
        return Next([Value("upstream", name, upstream.source)], snapshot, [name])

    def _known(self, name: str) -> Upstream:
        found = self._snapshot.upstreams.get(name)
        if found is None:
            reason = self._failed.get(f"upstreams.{name}")
            raise NotFoundError(
                f"no upstream {name}"
                if reason is None
                else f"upstream {name} is stored but cannot be used: {reason}"
            )
        return found

    # What a change would come to; changes nothing.

    def check_upstream(self, name: str, body: object) -> Upstream:
        """The upstream that :meth:`set_upstream` would make.  Raises ConfigError."""
        check_name(name, "name")
        known = self._snapshot.upstreams.get(name)
        return merge_upstream(known, name, body, f"upstreams.{name}", self._check_mode)

    def check_server(self, name: str, server: str, body: object) -> Upstream:
        """The same for :meth:`patch_server`.  Raises ConfigError or NotFoundError."""
        host, port = parse_server_key(server, "server")
        where = f"upstreams.{name}.{server}"
        return patch_server(self._known(name), host, port, body, where, self._check_mode)

    def check_routes(self, body: object) -> tuple[Route, ...]:
        """The same for :meth:`set_routes`.  Raises ConfigError."""
        return parse_routes(body, "routes", odd_keys(self._snapshot.routes))

    # Changes.

    def set_upstream(
        self,
        name: str,
        body: object,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
        reload: bool = False,
    ) -> defer.Deferred[Receipt]:
        """Make or change an upstream, as ``slardar.model.parse.merge_upstream`` says.

        Fails, as every change does, with ConfigError for a wrong body (nothing is
        changed), StoreError or ConflictError if the store does not take it (nothing is
        changed either), and ApplyError if it is stored but not served.  Without
        ``wait`` it fires once the store holds the change.  A ``condition`` is looked at
        when it is this change's turn: PreconditionError if it does not hold then.  With
        ``reload`` the module of its balancer's class is loaded anew first.
        """

        def prepare() -> Next:
            if not reload:
                return self._next(name, self.check_upstream(name, body))
            check_name(name, "name")
            where = f"upstreams.{name}"
            # What else is wrong with it is found before anything is loaded.
            upstream = merge_upstream(self._snapshot.upstreams.get(name), name, body, where)
            when = reload_balancer(upstream.mode, upstream.mode_opts, where)
            return self._next(name, msgspec.structs.replace(upstream, loaded=when))

        return self._change(prepare, who, wait, condition)

    def patch_server(
        self,
        name: str,
        server: str,
        body: object,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> defer.Deferred[Receipt]:
        """Change some keys of one server, ``server`` being ``host:port``.

        Fails with NotFoundError if there is no such upstream or server.
        """

        def prepare() -> Next:
            return self._next(name, self.check_server(name, server, body))

        return self._change(prepare, who, wait, condition)

    def add_server(
        self,
        name: str,
        server: str,
        body: object,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
        place: Place = ANYWHERE,
    ) -> defer.Deferred[Receipt]:
        """Give an upstream one server more, ``server`` being ``host:port``; ``place`` says in
        which level or named cluster, if there are several.

        Fails with NotFoundError if there is no such upstream, with ConflictError if the
        server is there already.
        """

        def prepare() -> Next:
            host, port = parse_server_key(server, "server")
            where = f"upstreams.{name}.{server}"
            known = self._known(name)
            upstream = add_server(known, host, port, body, where, place, self._check_mode)
            return self._next(name, upstream)

        return self._change(prepare, who, wait, condition)

    def remove_server(
        self,
        name: str,
        server: str,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
        place: Place = ANYWHERE,
    ) -> defer.Deferred[Receipt]:
        """Take one server from an upstream, or from a level or named cluster only.

        Requests under way on it finish.  Fails with NotFoundError if there is no such
        upstream or server, with ConflictError for the last one of a list.
        """

        def prepare() -> Next:
            host, port = parse_server_key(server, "server")
            upstream = remove_server(self._known(name), host, port, place, self._check_mode)
            return self._next(name, upstream)

        return self._change(prepare, who, wait, condition)

    def remove_upstream(
        self, name: str, who: str, wait: bool = True, condition: Condition | None = None
    ) -> defer.Deferred[Receipt]:
        """Remove an upstream; it stays away after a restart, also if a file names it.

        Requests under way finish.  Fails with NotFoundError if there is none.
        """

        def prepare() -> Next:
            snapshot = self._snapshot
            if name in snapshot.upstreams:
                snapshot = snapshot.without_upstream(name)
            elif f"upstreams.{name}" not in self._failed:
                raise NotFoundError(f"no upstream {name}")
            return Next([Value("upstream", name, None)], snapshot, [name])

        return self._change(prepare, who, wait, condition)

    def return_upstream(
        self, name: str, who: str, wait: bool = True, condition: Condition | None = None
    ) -> defer.Deferred[Receipt]:
        """Serve an upstream as the file has it, or none if the file has none; edits of the
        file count again.  Fails with NotFoundError for a name that nobody has given."""

        def prepare() -> Next:
            snapshot = self._snapshot
            given = self._settings.first_upstreams.get(name)
            if given is not None:
                snapshot = snapshot.with_upstream(given)
            elif name in snapshot.upstreams:
                snapshot = snapshot.without_upstream(name)
            elif name not in self._stored:
                raise NotFoundError(f"no upstream {name}")
            return Next([Value("upstream", name, TO_FILE)], snapshot, [name])

        return self._change(prepare, who, wait, condition)

    def return_routes(
        self, who: str, wait: bool = True, condition: Condition | None = None
    ) -> defer.Deferred[Receipt]:
        """Serve the routes of the file again."""

        def prepare() -> Next:
            snapshot = self._snapshot.with_routes(self._settings.first_routes)
            return Next([Value("routes", "", TO_FILE)], snapshot)

        return self._change(prepare, who, wait, condition)

    def set_routes(
        self, body: object, who: str, wait: bool = True, condition: Condition | None = None
    ) -> defer.Deferred[Receipt]:
        """Replace all routes."""

        def prepare() -> Next:
            routes = self.check_routes(body)
            value = Value("routes", "", written_routes(routes))
            return Next([value], self._snapshot.with_routes(routes))

        return self._change(prepare, who, wait, condition)

    def take_settings(self, settings: Settings, who: str) -> defer.Deferred[Receipt | None]:
        """Serve the upstreams, routes and default of ``settings`` instead of those of the
        settings before, wherever the store has no word on them.

        One new version for all of it, or ``None`` if that changes nothing.  Fails as other
        changes do, and leaves everything as it was then.
        """
        return defer.ensureDeferred(self._take_settings(settings, who))

    async def _take_settings(self, settings: Settings, who: str) -> Receipt | None:
        def prepare() -> Next:
            snapshot = self._snapshot
            upstreams = dict(snapshot.upstreams)
            changed = []
            for name in self._settings.first_upstreams:
                if name not in settings.first_upstreams and name not in self._stored:
                    changed.append(name)
                    upstreams.pop(name, None)
            for name, upstream in settings.first_upstreams.items():
                known = upstreams.get(name)
                if name not in self._stored and (known is None or known.digest != upstream.digest):
                    changed.append(name)
                    upstreams[name] = upstream
            routes = snapshot.routes
            if not self._has_stored_routes and routes != settings.first_routes:
                routes = settings.first_routes
            default = settings.default_upstream
            if not changed and routes is snapshot.routes and default == snapshot.default_upstream:
                raise NothingChanged
            following = Snapshot.build(
                snapshot.version + 1, upstreams, routes, default, snapshot.hooks
            )
            return Next([Value("file", "", {"upstreams": changed})], following, changed)

        try:
            receipt = await self._make_change(prepare, who, True)
        except NothingChanged:
            receipt = None
        before, self._settings = self._settings, settings
        for place in edited(
            before, settings, self._stored, self._has_stored_routes, self._snapshot
        ):
            _log.warn(
                "{place}: the file's edit is not served, for a change through the control"
                " channel holds; DELETE /{path}?to=file returns to the file's",
                place=place,
                path=place.replace("upstreams.", "upstream/", 1),
            )
        return receipt

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
            store: Any = self._store
            state: StoredState = store.state
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
                self._revision = state.revision
        finally:
            self._lock.release()

    def moved(self) -> None:
        """Another process has the store for good: the changes that wait fail with
        MovedError, as do those to come."""
        self._has_moved = True
        self._lock.release()

    def _change(
        self, prepare: Prepare, who: str, wait: bool, condition: Condition | None
    ) -> defer.Deferred[Receipt]:
        return defer.ensureDeferred(self._make_change(prepare, who, wait, condition))

    async def _make_change(
        self, prepare: Prepare, who: str, wait: bool, condition: Condition | None = None
    ) -> Receipt:
        # The lock is held until the plane has been given the snapshot: it gets them in
        # order.  It may still be looking up names for one when the next one comes.
        await self._lock.acquire()
        try:
            if self._has_moved:
                raise MovedError("slardar was upgraded meanwhile: ask again")
            if condition is not None:
                condition.check(self._snapshot)
            following = prepare()
            version = await self._commit(following, who)
            applied = defer.maybeDeferred(self._plane.apply, self._snapshot, following.changed)
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
        what = describe_change(self._snapshot, following)
        before = self._snapshot
        now = self._clock()
        values = following.values
        changes = [Change(one.kind, one.name, one.value, who, now) for one in values]
        version = before.version + 1
        try:
            self._revision = await self._store.commit(self._revision, changes, version)
        except (StoreError, ConflictError) as error:
            _log.error("{path} is not changed: {error}", path=following.path, error=error)
            raise
        self._snapshot = following.snapshot.at_version(version)
        for one in values:
            is_given_back = one.value == TO_FILE
            if one.kind == "upstream":
                if is_given_back:
                    self._stored.discard(one.name)
                else:
                    self._stored.add(one.name)
            elif one.kind == "routes":
                self._has_stored_routes = not is_given_back
            elif one.kind == "hook":
                self.hooks.committed(one.name, one.value)
            self._failed.pop(one.path, None)
        _log.info(
            "version {version}: {path} {verb} by {who}{what}",
            version=version,
            path=following.path,
            verb=following.verb,
            who=who,
            what=f": {what}" if what else "",
        )
        # Those that were there before, with the same value, have been told.
        self._tell_inert(
            (f"upstreams.{name}", _new_keys(before.upstreams.get(name), upstream))
            for name in following.changed
            if (upstream := following.snapshot.upstreams.get(name)) is not None
        )
        return version

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


def _new_keys(before: Upstream | None, after: Upstream) -> Mapping[str, Any]:
    """What of an upstream as it was written is new."""
    known = {} if before is None else before.source
    return {key: value for key, value in after.source.items() if known.get(key) != value}
