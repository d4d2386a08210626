"""The servers of services: what catalogues list becomes a change, of which the store is not told.

A catalogue lists other servers at any time.  The services are noted, and all that were noted until
the turn of the change has come are served by it as one new version.
"""

from __future__ import annotations

from collections.abc import Awaitable, Collection
from typing import Protocol

from slardar.catalogues.watch import ServiceWatch
from slardar.control.changes import Next, NothingChanged, Prepare, Receipt
from slardar.control.taking import Taking
from slardar.model.change import StoredState, Value
from slardar.model.server import Upstream
from slardar.model.service import Service, levels_of
from slardar.model.snapshot import Snapshot

__all__ = ["FollowedServices", "FollowingConfiguration"]

#: Who the log names for the servers that catalogues list.
_CATALOGUE = "the catalogue"


class FollowingConfiguration(Protocol):
    """What followed services ask of the configuration."""

    @property
    def snapshot(self) -> Snapshot:
        """What is served."""

    @property
    def held(self) -> StoredState:
        """What the store holds."""

    def change(self, prepare: Prepare, who: str) -> Awaitable[Receipt]:
        """Make a change.  ``prepare`` is called with the lock of changes held."""


class FollowedServices:
    """The services of one configuration, with the servers that ``watch`` knows of them."""

    def __init__(self, configuration: FollowingConfiguration, watch: ServiceWatch) -> None:
        self._configuration = configuration
        self._watch = watch
        #: The services whose servers may have changed, if they have not been looked at yet.
        self._moved: set[str] = set()
        self._taking = Taking(
            lambda: bool(self._moved),
            lambda: configuration.change(self._next, _CATALOGUE),
            "servers of services are not served",
        )
        watch.changed = self._changed

    def upstream(self, service: Service) -> Upstream:
        """The upstream of a service, with the servers that it has now; the object that is served,
        if it is the same."""
        known, levels = None, self._watch.levels(service)
        served = self._configuration.snapshot
        before = served.services.get(service.name)
        if before is not None:
            known = served.upstreams[service.name]
            if levels is None:
                levels = levels_of(known, before.each_server)
        upstream = service.upstream(levels or ())
        return upstream if known is None or not known.same_as(upstream) else known

    def _changed(self, names: Collection[str]) -> None:
        """Called when these services may have other servers."""
        self._moved.update(names)
        self._taking.start()

    def _next(self) -> Next:
        """The change to the servers that services have now."""
        names, self._moved = self._moved, set()
        served = snapshot = self._configuration.snapshot
        changed = []
        for name in sorted(names):
            service = served.services.get(name)
            if service is not None:
                upstream = self.upstream(service)
                if upstream is not served.upstreams[name]:
                    snapshot = snapshot.with_upstream(upstream)
                    changed.append(name)
        if not changed:
            raise NothingChanged
        values = [Value("service", name, served.services[name].source) for name in changed]
        return Next(values, snapshot, changed, stored=self._configuration.held)
