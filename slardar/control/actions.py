"""Each operation on the running configuration, once, for every control channel.

An operation says what is to change; :mod:`slardar.control.configuration` makes the change.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgspec
from twisted.internet import defer

from slardar import __version__
from slardar.catalogues.watch import ServiceWatch
from slardar.config import Settings
from slardar.control.certificate_calls import CertificateActions
from slardar.control.changes import ApplyError, MovedError, Next, Receipt
from slardar.control.conditions import Condition
from slardar.control.configuration import Configuration
from slardar.control.declared import DeclaredActions
from slardar.control.history import HistoryActions
from slardar.control.hook_settings import HookSettingActions
from slardar.control.hooks import HookActions
from slardar.control.origins import shadowed
from slardar.control.services import ServiceActions
from slardar.control.status import build_status, shown_store
from slardar.errors import NotFoundError
from slardar.events import EventLog
from slardar.interfaces import IPlane, IStore
from slardar.model.acme import HostState
from slardar.model.change import TO_FILE, Value
from slardar.model.membership import ANYWHERE, Place, add_server, remove_server
from slardar.model.parse import (
    Plugins,
    check_name,
    merge_upstream,
    parse_routes,
    parse_server_key,
    patch_server,
)
from slardar.model.routes import odd_keys, written_routes
from slardar.model.server import Upstream
from slardar.model.shown import without_password
from slardar.model.snapshot import Route
from slardar.observers.exposition import scrape
from slardar.plugins import reload_balancer
from slardar.tls_files import with_files

__all__ = ["Actions", "ApplyError", "MovedError", "Receipt"]


class Actions(Configuration):
    """The operations on a configuration."""

    def __init__(
        self,
        settings: Settings,
        store: IStore,
        plane: IPlane,
        plugins: Plugins | None = None,
        clock: Callable[[], float] = time.time,
        service_watch: ServiceWatch | None = None,
    ) -> None:
        super().__init__(settings, store, plane, plugins, clock, service_watch)
        #: When this process began to serve, in epoch seconds.
        self.start_time = clock()
        #: What ``/status`` shows of the generations before this process; newest first.
        self.older_generations: Callable[[], list[dict[str, Any]]] = list
        #: How it is with the certificates that are got by ACME, by host.
        self.acme: Callable[[], Mapping[str, HostState]] = dict
        #: The operations on hooks.
        self.hooks = HookActions(self)
        #: What ``/status`` shows of TLS to clients; ``None`` without it.
        self.tls: Mapping[str, Any] | None = None
        #: What has happened, for those who ask; ``None`` if nobody can.
        self.events: EventLog | None = None
        #: The operations on services.
        self.services = ServiceActions(self)
        #: The operations on settings of hooks.
        self.hook_settings = HookSettingActions(self)
        #: The operations on certificates.
        self.certificates = CertificateActions(self)
        self.declared = DeclaredActions(self)
        #: The operations on the history.
        self.history = HistoryActions(self)

    # Questions.

    def upstreams(self) -> dict[str, Any]:
        """Every upstream as it was written, by name; without passwords."""
        found = sorted(self.snapshot.upstreams.items())
        return {name: without_password(upstream) for name, upstream in found}

    def upstream(self, name: str) -> Mapping[str, Any]:
        """One upstream as it was written, without its password.  Raises NotFoundError."""
        return without_password(self._known(name))

    def origin(self, name: str) -> str:
        """Where the value of an upstream comes from: ``file`` (options included), ``control`` for
        what was set through a control channel, which the store keeps, or ``service``."""
        if name in self.snapshot.services:
            return "service"
        return "control" if self.held.decides(name) else "file"

    def origins(self) -> dict[str, Any]:
        """The origin of every upstream, service and setting of hooks and of the routes, as
        ``/status`` shows it, and the key paths for which the file says something else than what is
        served."""
        return {
            "upstreams": {name: self.origin(name) for name in sorted(self.snapshot.upstreams)},
            "services": self.services.origins(),
            "routes": "control" if self.held.decides_routes else "file",
            "settings": self.hook_settings.origins(),
            "shadowed": shadowed(self.settings, self.held, self.snapshot),
        }

    def routes(self) -> list[Any]:
        """The routes as they were written."""
        return written_routes(self.snapshot.routes)

    def status(self) -> dict[str, Any]:
        """The contract's status object."""
        return build_status(
            self.settings,
            self.snapshot,
            self.plane,
            self.start_time,
            self.failed,
            [self.generation(), *self.older_generations()],
            self.hooks.summary(),
            self.origins(),
            self.service_watch.shown(),
            shown_store(self.store, self.store_url, self.store_trouble, self.clock()),
            self.certificates.summary(self.clock()),
            self.tls,
            self.acme(),
        )

    def metrics(self) -> Iterator[str]:
        """Prometheus' text, in pieces (:func:`slardar.observers.exposition.scrape`)."""
        trouble = self.store_trouble
        stale = 0.0
        if trouble is not None and trouble.status != "error":
            stale = max(0.0, self.clock() - trouble.since)
        expiries = self.certificates.expiries()
        return scrape(self.plane, self.snapshot, __version__, stale, expiries)

    def generation(self) -> dict[str, Any]:
        """What the status says of this process under ``generations``."""
        return {
            "pid": os.getpid(),
            "age": round(self.clock() - self.start_time, 1),
            "connections": self.plane.statistics().get("connections", 0),
        }

    def _next(self, name: str, upstream: Upstream) -> Next:
        snapshot = self.snapshot.with_upstream(upstream)
        return Next([Value("upstream", name, upstream.source)], snapshot, [name])

    def _known(self, name: str) -> Upstream:
        found = self.snapshot.upstreams.get(name)
        if found is None:
            reason = self.failed.get(f"upstreams.{name}")
            raise NotFoundError(
                f"no upstream {name}"
                if reason is None
                else f"upstream {name} is stored but cannot be used: {reason}"
            )
        return found

    # What a change would lead to.  Nothing is changed.

    def check_upstream(self, name: str, body: object) -> Upstream:
        """The upstream that :meth:`set_upstream` would make.  Raises ConfigError, or ConflictError
        for the name of a service."""
        check_name(name, "name")
        self.services.refuse(name)
        known = self.snapshot.upstreams.get(name)
        return merge_upstream(known, name, body, f"upstreams.{name}", self.plugins)

    def check_server(self, name: str, server: str, body: object) -> Upstream:
        """The upstream that :meth:`patch_server` would make.  Raises ConfigError, NotFoundError,
        or ConflictError for the name of a service."""
        self.services.refuse(name)
        host, port = parse_server_key(server, "server")
        where = f"upstreams.{name}.{server}"
        return patch_server(self._known(name), host, port, body, where, self.plugins)

    def check_routes(self, body: object) -> tuple[Route, ...]:
        """The routes that :meth:`set_routes` would make.  Raises ConfigError."""
        return parse_routes(body, "routes", odd_keys(self.snapshot.routes))

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

        Fails with ConfigError for a wrong body, and as :meth:`change` says, which explains ``wait``
        and ``condition`` too.  With ``reload`` the module of the balancer's class is loaded anew
        first.
        """

        def prepare() -> Next:
            if not reload:
                return self._next(name, self.check_upstream(name, body))
            check_name(name, "name")
            self.services.refuse(name)
            where = f"upstreams.{name}"
            # All other mistakes are found before anything is loaded.
            upstream = merge_upstream(self.snapshot.upstreams.get(name), name, body, where)
            upstream = with_files(upstream)
            when = reload_balancer(upstream.mode, upstream.mode_opts, where)
            return self._next(name, msgspec.structs.replace(upstream, loaded=when))

        return self.change(prepare, who, wait, condition)

    def patch_server(
        self,
        name: str,
        server: str,
        body: object,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> defer.Deferred[Receipt]:
        """Change some keys of one server.  ``server`` is ``host:port``.

        Fails with NotFoundError if there is no such upstream or server.
        """

        def prepare() -> Next:
            return self._next(name, self.check_server(name, server, body))

        return self.change(prepare, who, wait, condition)

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
        """Add a server to an upstream.  ``server`` is ``host:port``; ``place`` names the level or
        the cluster, if there are several.

        Fails with NotFoundError if there is no such upstream, with ConflictError if the
        server is there already.
        """

        def prepare() -> Next:
            self.services.refuse(name)
            host, port = parse_server_key(server, "server")
            where = f"upstreams.{name}.{server}"
            known = self._known(name)
            upstream = add_server(known, host, port, body, where, place, self.plugins)
            return self._next(name, upstream)

        return self.change(prepare, who, wait, condition)

    def remove_server(
        self,
        name: str,
        server: str,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
        place: Place = ANYWHERE,
    ) -> defer.Deferred[Receipt]:
        """Remove a server from an upstream, or only from the level or the cluster that ``place``
        names.

        Requests under way on the server finish.  Fails with NotFoundError if there is no such
        upstream or server, with ConflictError for the last server of a list.
        """

        def prepare() -> Next:
            self.services.refuse(name)
            host, port = parse_server_key(server, "server")
            upstream = remove_server(self._known(name), host, port, place, self.plugins)
            return self._next(name, upstream)

        return self.change(prepare, who, wait, condition)

    def remove_upstream(
        self, name: str, who: str, wait: bool = True, condition: Condition | None = None
    ) -> defer.Deferred[Receipt]:
        """Remove an upstream.  It stays away after a restart, even if the file names it.

        Requests under way finish.  Fails with NotFoundError if there is none.
        """

        def prepare() -> Next:
            self.services.refuse(name)
            snapshot = self.snapshot
            if name in snapshot.upstreams:
                snapshot = snapshot.without_upstream(name)
            elif f"upstreams.{name}" not in self.failed:
                raise NotFoundError(f"no upstream {name}")
            value = Value("upstream", name, None)
            return self.services.instead(value) or Next([value], snapshot, [name])

        return self.change(prepare, who, wait, condition)

    def return_upstream(
        self, name: str, who: str, wait: bool = True, condition: Condition | None = None
    ) -> defer.Deferred[Receipt]:
        """Serve an upstream as the file has it, or none if the file has none.  Edits of the file
        count again.  Fails with NotFoundError if neither the file nor the store knows the name."""

        def prepare() -> Next:
            self.services.refuse(name)
            snapshot = self.snapshot
            given = self.settings.first_upstreams.get(name)
            if given is not None:
                snapshot = snapshot.with_upstream(given)
            elif name in snapshot.upstreams:
                snapshot = snapshot.without_upstream(name)
            elif not self.held.decides(name):
                raise NotFoundError(f"no upstream {name}")
            value = Value("upstream", name, TO_FILE)
            return self.services.instead(value) or Next([value], snapshot, [name])

        return self.change(prepare, who, wait, condition)

    def return_routes(
        self, who: str, wait: bool = True, condition: Condition | None = None
    ) -> defer.Deferred[Receipt]:
        """Serve the routes of the file again."""

        def prepare() -> Next:
            snapshot = self.snapshot.with_routes(self.settings.first_routes)
            return Next([Value("routes", "", TO_FILE)], snapshot)

        return self.change(prepare, who, wait, condition)

    def set_routes(
        self, body: object, who: str, wait: bool = True, condition: Condition | None = None
    ) -> defer.Deferred[Receipt]:
        """Replace all routes."""

        def prepare() -> Next:
            routes = self.check_routes(body)
            value = Value("routes", "", written_routes(routes))
            return Next([value], self.snapshot.with_routes(routes))

        return self.change(prepare, who, wait, condition)
