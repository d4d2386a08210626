"""The operations on services: upstreams whose servers a catalogue lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet import defer

from slardar.control.changes import Next, Receipt
from slardar.control.conditions import Condition
from slardar.control.configuration import Configuration
from slardar.errors import ConflictError, NotFoundError
from slardar.model.change import TO_FILE, Value
from slardar.model.parse import check_name
from slardar.model.service import Service, merge_service
from slardar.model.shown import hidden

__all__ = ["ServiceActions"]


class ServiceActions:
    """The operations on the services of one configuration."""

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    # Questions.

    def all(self) -> dict[str, Any]:
        """Every service as it was written, by name; without passwords."""
        found = sorted(self._configuration.snapshot.services.items())
        return {name: hidden(service.source) for name, service in found}

    def one(self, name: str) -> Mapping[str, Any]:
        """One service as it was written, without its password.  Raises NotFoundError."""
        found = self._configuration.snapshot.services.get(name)
        if found is None:
            reason = self._configuration.failed.get(f"services.{name}")
            unused = "" if reason is None else f" in use: {reason}"
            raise NotFoundError(f"no service {name}{unused}")
        shown: Mapping[str, Any] = hidden(found.source)
        return shown

    def origins(self) -> dict[str, str]:
        """Where each service comes from: ``file``, or ``control`` for what was set through a
        control channel, which the store keeps."""
        configuration = self._configuration
        return {
            name: "control" if configuration.held.decides_service(name) else "file"
            for name in sorted(configuration.snapshot.services)
        }

    def check(self, name: str, body: object) -> Service:
        """The service that :meth:`set` would make.  Raises ConfigError, or ConflictError for the
        name of an upstream."""
        check_name(name, "name")
        configuration = self._configuration
        snapshot, known = configuration.snapshot, configuration.snapshot.services.get(name)
        is_upstream = name in snapshot.upstreams and known is None
        if is_upstream or f"upstreams.{name}" in configuration.failed:
            raise ConflictError(f"{name} is an upstream: DELETE /upstream/{name} first")
        return merge_service(known, name, body, f"services.{name}", configuration.plugins)

    # Changes.

    def set(
        self,
        name: str,
        body: object,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> defer.Deferred[Receipt]:
        """Make a service, or replace one.  With ``wait`` its catalogue is asked first, for at most
        :data:`slardar.resolve.FIRST` seconds; the change is made whatever it says.

        Fails with ConfigError for a wrong body, with ConflictError for the name of an upstream, and
        as :meth:`Configuration.change` says, which explains ``wait`` and ``condition`` too.
        """
        return defer.ensureDeferred(self._set(name, body, who, wait, condition))

    async def _set(
        self, name: str, body: object, who: str, wait: bool, condition: Condition | None
    ) -> Receipt:
        configuration = self._configuration
        service = self.check(name, body)
        release = configuration.service_watch.hold(service)
        try:
            if wait:
                await configuration.service_watch.first([service])

            def prepare() -> Next:
                service = self.check(name, body)
                upstream = configuration.followed(service)
                snapshot = configuration.snapshot.with_service(service, upstream)
                return Next([Value("service", name, service.source)], snapshot, [name])

            return await configuration.change(prepare, who, wait, condition)
        finally:
            release()

    def remove(
        self, name: str, who: str, wait: bool = True, condition: Condition | None = None
    ) -> defer.Deferred[Receipt]:
        """Remove a service with its upstream.  It stays away after a restart, even if the file
        names it.  Fails with NotFoundError if there is none."""

        def prepare() -> Next:
            self._require(name)
            return self._configuration.settled(Value("service", name, None))

        return self._configuration.change(prepare, who, wait, condition)

    def give_back(
        self, name: str, who: str, wait: bool = True, condition: Condition | None = None
    ) -> defer.Deferred[Receipt]:
        """Serve a service as the file has it, or none if the file has none.  Edits of the file
        count again.  Fails with NotFoundError if neither the file nor the store knows the name."""

        def prepare() -> Next:
            configuration = self._configuration
            given = configuration.settings.first_services
            if name not in given and not configuration.held.decides_service(name):
                raise NotFoundError(f"no service {name}")
            return configuration.settled(Value("service", name, TO_FILE))

        return self._configuration.change(prepare, who, wait, condition)

    def _require(self, name: str) -> None:
        known = self._configuration.snapshot.services
        if name not in known and f"services.{name}" not in self._configuration.failed:
            raise NotFoundError(f"no service {name}")

    # A name is an upstream or a service.

    def refuse(self, name: str) -> None:
        """Raises ConflictError if this is the name of a service: its upstream cannot be changed."""
        configuration = self._configuration
        service = configuration.snapshot.services.get(name)
        if service is None:
            known = configuration.snapshot.upstreams
            if f"services.{name}" not in configuration.failed or name in known:
                return
            where = "that cannot be used"
        else:
            where = f"whose servers come from {' '.join(service.origin)}"
        raise ConflictError(
            f"{name} is a service {where}: change it with PUT or DELETE /service/{name}"
        )

    def instead(self, value: Value) -> Next | None:
        """The change to this value of an upstream, if the file or the store has a service of its
        name, which may be in use afterwards; else ``None``."""
        configuration = self._configuration
        stored = configuration.held.services.get(value.name)
        is_known = value.name in configuration.settings.first_services
        if stored in (None, TO_FILE) and not is_known:
            return None
        return configuration.settled(value)
