"""The operations on what an operator declares: upstreams, services and routes of one text, as one
change."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import Struct
from twisted.internet import defer

from slardar.control.changes import Receipt
from slardar.control.conditions import Condition
from slardar.control.configuration import Configuration
from slardar.control.diff import diff
from slardar.errors import ConfigError
from slardar.model.change import Value
from slardar.model.parse import known_odd, parse_routes, parse_upstream
from slardar.model.reader import joined, shown
from slardar.model.routes import odd_keys, written_routes
from slardar.model.service import merge_service
from slardar.model.shown import unshown

__all__ = ["Declared", "DeclaredActions", "Difference"]

#: The sections that a declaration may have, and the kinds of their values.
_SECTIONS: Final = {"upstreams": "upstream", "services": "service", "routes": "routes"}


class Difference(Struct, frozen=True):
    """One thing that is not served as it is declared."""

    kind: str
    #: Empty for the routes.
    name: str
    #: ``added``, ``removed`` or ``changed``.
    change: str
    #: For a person, without secrets (:mod:`slardar.control.diff`).
    diff: str


class Declared(Struct, frozen=True):
    """What came of a declaration."""

    differences: list[Difference]
    #: ``None`` if there was nothing to be changed.
    receipt: Receipt | None


class DeclaredActions:
    """The operations on declarations, for one configuration.

    A declaration is an object with some of ``upstreams``, ``services`` and ``routes``, as the
    configuration file has them.  Each value is whole: a key that is left out has its default.
    What a declaration does not name stays; with ``prune``, upstreams and services are removed
    that the sections of the declaration do not name.
    """

    def __init__(self, configuration: Configuration) -> None:
        self._configuration = configuration

    def differences(self, body: object, prune: bool) -> list[Difference]:
        """What :meth:`apply` would change.  Raises ConfigError with every mistake."""
        return [difference for _, difference in self._found(body, prune)]

    def apply(
        self,
        body: object,
        prune: bool,
        who: str,
        wait: bool = True,
        condition: Condition | None = None,
    ) -> defer.Deferred[Declared]:
        """Serve what is declared.  All differences are one new version; without any, nothing is
        changed.

        Fails with ConfigError for a wrong body, and as :meth:`Configuration.change` says, which
        explains ``wait`` and ``condition`` too.
        """
        return defer.ensureDeferred(self._apply(body, prune, who, wait, condition))

    async def _apply(
        self, body: object, prune: bool, who: str, wait: bool, condition: Condition | None
    ) -> Declared:
        told: list[Difference] = []

        def values() -> list[Value]:
            found = list(self._found(body, prune))
            told[:] = [difference for _, difference in found]
            return [value for value, _ in found]

        receipt = await self._configuration.take_values(values, who, wait, condition)
        return Declared(told, receipt)

    def _found(self, body: object, prune: bool) -> Iterator[tuple[Value, Difference]]:
        """The values that are not served as they are declared.  Those that go come first: a name
        cannot be an upstream and a service."""
        if not isinstance(body, Mapping):
            raise ConfigError(f"expected an object with {_listed()}, got {shown(body)}")
        unknown = [key for key in body if key not in _SECTIONS]
        if unknown:
            raise ConfigError(f"{shown(unknown[0])}: unknown key; expected some of {_listed()}")
        problems: list[str] = []
        gone: list[tuple[Value, Difference]] = []
        new: list[tuple[Value, Difference]] = []
        for section, find in (("upstreams", self._upstream), ("services", self._service)):
            if section not in body:
                continue
            kind, served = _SECTIONS[section], self._served(section)
            declared = body[section]
            if declared is None:
                declared = {}
            if not isinstance(declared, Mapping):
                problems.append(f"{section}: expected an object of {section} by name")
                continue
            for name, value in declared.items():
                try:
                    source = find(str(name), value, joined(section, str(name)))
                except ConfigError as error:
                    problems += error.problems
                    continue
                if source is not None:
                    new.append(_changed(kind, str(name), served.get(str(name)), source))
            if prune:
                names = {str(name) for name in declared}
                for name in served:
                    if name not in names:
                        gone.append(_changed(kind, name, served[name], None))
        gone += self._moved(body, gone)
        problems += _named_twice(body)
        if "routes" in body:
            try:
                new += self._routes([] if body["routes"] is None else body["routes"])
            except ConfigError as error:
                problems += error.problems
        if problems:
            raise ConfigError(problems)
        yield from gone
        yield from new

    def _served(self, section: str) -> Mapping[str, Any]:
        """The upstreams or the services that are served, as they were written."""
        snapshot = self._configuration.snapshot
        if section == "services":
            return {name: one.source for name, one in sorted(snapshot.services.items())}
        return {
            name: one.source
            for name, one in sorted(snapshot.upstreams.items())
            if name not in snapshot.services
        }

    def _upstream(self, name: str, value: object, where: str) -> Any:
        """What is to be stored; ``None`` if it is served already."""
        configuration = self._configuration
        snapshot = configuration.snapshot
        served = None if name in snapshot.services else snapshot.upstreams.get(name)
        if isinstance(value, Mapping):
            # It may be an answer, with servers in two places and without passwords.
            value = unshown(served, value, where)
        upstream = parse_upstream(name, value, where, configuration.plugins, known_odd(served))
        return None if served is not None and served.digest == upstream.digest else upstream.source

    def _service(self, name: str, value: object, where: str) -> Any:
        configuration = self._configuration
        served = configuration.snapshot.services.get(name)
        service = merge_service(served, name, value, where, configuration.plugins)
        return None if served is not None and served.digest == service.digest else service.source

    def _moved(
        self, body: Mapping[str, Any], gone: list[tuple[Value, Difference]]
    ) -> Iterator[tuple[Value, Difference]]:
        """What has to go because its name becomes the other one of upstream and service."""
        known = {(value.kind, value.name) for value, _ in gone}
        for section, other in (("upstreams", "services"), ("services", "upstreams")):
            declared = body.get(other)
            if not isinstance(declared, Mapping):
                continue
            for name, source in self._served(section).items():
                if name in declared and (_SECTIONS[section], name) not in known:
                    yield _changed(_SECTIONS[section], name, source, None)

    def _routes(self, value: object) -> Iterator[tuple[Value, Difference]]:
        served = self._configuration.snapshot.routes
        routes = parse_routes(value, "routes", odd_keys(served))
        if routes != served:
            yield _changed("routes", "", written_routes(served), written_routes(routes))


def _changed(kind: str, name: str, old: Any, new: Any) -> tuple[Value, Difference]:
    change = "added" if old is None else "removed" if new is None else "changed"
    return Value(kind, name, new), Difference(kind, name, change, diff(old, new))  # type: ignore[arg-type]


def _named_twice(body: Mapping[str, Any]) -> Iterator[str]:
    upstreams, services = body.get("upstreams"), body.get("services")
    if isinstance(upstreams, Mapping) and isinstance(services, Mapping):
        for name in services:
            if name in upstreams:
                here, there = joined("services", str(name)), joined("upstreams", str(name))
                yield f"{here}: expected another name, for {there} has it, too"


def _listed() -> str:
    return ", ".join(_SECTIONS)
