"""What is to be served, read from the settings and from a state of the store.

The start uses this, and so does every change to a whole state.  Upstreams, routes, hooks and
settings that stay the same remain the same objects: only what differs is parsed again, and workers
are told of nothing else.  For 10,000 upstreams, one of which differs, that takes 0.06 s, and a
tenth of it if the values of the others are the same objects as before.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

import msgspec
from msgspec import Struct, structs

from slardar.config import Settings
from slardar.errors import ConfigError
from slardar.model.acme import read_challenges
from slardar.model.change import TO_FILE, StoredState, Value, is_same
from slardar.model.hook import COMMIT_VERSION, Hook, HookKey, parse_hook, written
from slardar.model.parse import Plugins, parse_routes, parse_upstream
from slardar.model.reader import ANY_KEY
from slardar.model.routes import written_routes
from slardar.model.server import Upstream
from slardar.model.service import Service, parse_service
from slardar.model.setting import settings_in_use
from slardar.model.shown import HIDDEN, hidden, without_password
from slardar.model.snapshot import Route, Snapshot
from slardar.model.tls import Pair, written_pair

__all__ = [
    "Desired",
    "file_differences",
    "first_desired",
    "read_desired",
    "read_hook_settings",
    "same_or",
    "served_state",
    "what_file_says",
]

K = TypeVar("K")
T = TypeVar("T")

#: Upstreams of which each costs less than to make the whole anew.
_FEW = 5

#: The beginning of the key paths of certificates.
_CERTIFICATES = "certificates."

_NOTHING = Snapshot.build(0, {}, (), None)


class Desired(Struct, frozen=True):
    """What is to be served."""

    #: Those of the services, too.
    upstreams: Mapping[str, Upstream]
    services: Mapping[str, Service]
    routes: tuple[Route, ...]
    default_upstream: str | None
    hooks: Mapping[HookKey, Hook]
    #: As :attr:`Snapshot.settings` has them.
    settings: Mapping[str, str]
    #: It has the certificates of the store, and what CAs are answered.
    certified: Snapshot
    #: The parts of the state that cannot be read: why, in one line, by key path.
    failed: Mapping[str, str]

    def snapshot(self, version: int) -> Snapshot:
        """The configuration that serves all of this."""
        return Snapshot.build(
            version,
            self.upstreams,
            self.routes,
            self.default_upstream,
            self.hooks,
            self.services,
            self.settings,
        ).certified_as(self.certified)

    def snapshot_after(self, served: Snapshot, version: int) -> Snapshot:
        """The same, made from the present configuration if little differs, which is cheaper."""
        changed = self.changed(served)
        if len(changed) > _FEW or not self._is_like(served):
            return self.snapshot(version)
        snapshot = served.certified_as(self.certified)
        for name in changed:
            upstream = self.upstreams.get(name)
            if upstream is None:
                snapshot = snapshot.without_upstream(name)
            else:
                snapshot = snapshot.with_upstream(upstream)
        return snapshot.at_version(version)

    def with_upstreams(self, upstreams: Iterable[Upstream]) -> Desired:
        """The same with other upstreams of these names."""
        found = {upstream.name: upstream for upstream in upstreams}
        return structs.replace(self, upstreams={**self.upstreams, **found}) if found else self

    def changed(self, served: Snapshot) -> list[str]:
        """The names of the upstreams that differ from those served."""
        old, new = served.upstreams, self.upstreams
        return [
            *(name for name in old if name not in new),
            *(name for name, upstream in new.items() if old.get(name) is not upstream),
        ]

    def changed_hooks(self, served: Snapshot) -> dict[HookKey, Hook | None]:
        """The hooks that differ from those served; ``None`` for one that goes."""
        old, new = served.hooks, self.hooks
        changed: dict[HookKey, Hook | None] = {key: None for key in old if key not in new}
        changed.update((key, hook) for key, hook in new.items() if old.get(key) is not hook)
        return changed

    def is_served(self, served: Snapshot) -> bool:
        """Whether there is no difference at all."""
        return (
            self.certified.certificates is served.certificates
            and self.certified.challenges is served.challenges
            and self._is_like(served)
            and not self.changed(served)
        )

    def _is_like(self, served: Snapshot) -> bool:
        """Whether nothing differs but upstreams, certificates and what CAs are answered."""
        return (
            self.services is served.services
            and self.routes is served.routes
            and self.default_upstream == served.default_upstream
            and self.hooks is served.hooks
            and self.settings is served.settings
        )


def read_desired(
    settings: Settings,
    state: StoredState,
    plugins: Plugins | None = None,
    held: StoredState | None = None,
    served: Snapshot = _NOTHING,
    failed: Mapping[str, str] | None = None,
    followed: Callable[[Service], Upstream] = lambda service: service.upstream(()),
    again: bool = False,
) -> Desired:
    """What is to be served for ``settings`` and ``state``.  Never fails: of a part of the state
    that cannot be read, what is served stays, and ``failed`` of the result says why.

    What the state says of a name wins over the settings.  A stored upstream that cannot be
    read (its balancer's class is gone, say) and that is not served yet is left out, because nobody
    knows whether the settings' older one would be right.

    A name cannot be an upstream and a service.  If the state has one of them and the settings have
    the other, the state's counts; if the state has both, the upstream does.

    ``served`` is the present configuration, ``held`` the state that it was made from, and
    ``failed`` the parts of that state that could not be read.  ``followed`` makes the upstream of a
    service.  ``again``: upstreams and services that could not be read are read again, for there may
    be something else in files that they name.
    """
    reader = _StateReader(held or StoredState(), served, failed or {}, plugins, again)
    upstreams = {
        name: reader.kept_upstream(upstream)
        for name, upstream in settings.first_upstreams.items()
        if not state.decides(name)
    }
    for name in reader.broken_names("upstreams", state):
        known = reader.served_upstream(name)
        if known is not None:
            upstreams[name] = known
        else:
            upstreams.pop(name, None)
    upstreams.update(reader.read_upstreams(state))
    services = reader.read_services(settings, state)
    for name in [name for name in services if name in upstreams or _is_stored(state, name)]:
        if state.decides_service(name) and not _is_stored(state, name):
            del upstreams[name]
            reader.leave_out("upstreams", name, "a service")
        else:
            del services[name]
            reader.leave_out("services", name, "an upstream")
    for name, service in services.items():
        upstreams[name] = reader.kept_upstream(followed(service))
    routes = settings.first_routes
    if "routes" in state.broken:
        routes = served.routes
    elif state.decides_routes:
        routes = reader.read_routes(state.routes)
    if routes == served.routes:
        routes = served.routes
    hooks = reader.read_hooks(state)
    values = reader.read_settings(settings, state)
    certificates = reader.read_certificates(state)
    return Desired(
        upstreams,
        same_or(served.services, services),
        routes,
        settings.default_upstream,
        hooks,
        values,
        reader.certified(state, certificates),
        reader.failed,
    )


def first_desired(
    settings: Settings,
    state: StoredState,
    kept: StoredState | None,
    plugins: Plugins | None = None,
) -> Desired:
    """What is to be served at the start.

    ``kept`` is the state that was served last, if it is known.  Of a part that cannot be read, what
    was served of it then is served again.
    """
    desired = read_desired(settings, state, plugins)
    if kept is None or not desired.failed:
        return desired
    before = read_desired(settings, kept, plugins)
    served = before.snapshot(kept.version)
    return read_desired(settings, state, plugins, kept, served, before.failed)


def _is_stored(state: StoredState, name: str) -> bool:
    """Whether a state has an upstream of this name, even one that cannot be read."""
    return state.decides(name) and state.upstreams[name] is not None


def same_or(known: Mapping[K, T], found: Mapping[K, T]) -> Mapping[K, T]:
    """``known`` if both have the same objects, else ``found``."""
    has_same = len(found) == len(known) and all(
        known.get(key) is value for key, value in found.items()
    )
    return known if has_same else found


def _has_same(values: Mapping[str, Any], others: Mapping[str, Any]) -> bool:
    """Whether both have the same values."""
    return len(values) == len(others) and all(
        name in others and is_same(value, others[name]) for name, value in values.items()
    )


class _StateReader:
    """Reads the values of a state, and notes those that cannot be read."""

    def __init__(
        self,
        held: StoredState,
        served: Snapshot,
        known_failed: Mapping[str, str],
        plugins: Plugins | None,
        again: bool = False,
    ) -> None:
        self._again = again
        self._held = held
        self._served = served
        self._known_failed = known_failed
        self._plugins = plugins
        self.failed: dict[str, str] = {}

    def broken_names(self, section: str, state: StoredState) -> list[str]:
        """The names in a section whose values nobody can read.  Notes why."""
        self.failed.update(state.broken)
        start = f"{section}."
        return [path[len(start) :] for path in state.broken if path.startswith(start)]

    def served_upstream(self, name: str) -> Upstream | None:
        """The upstream of this name that is served, and is no service's."""
        return None if name in self._served.services else self._served.upstreams.get(name)

    def read_upstreams(self, state: StoredState) -> dict[str, Upstream]:
        """The upstreams of a state, without those that it leaves to the file."""
        found = {}
        held, served, services = self._held.upstreams, self._served.upstreams, self._served.services
        is_good = not any(where.startswith("upstreams.") for where in self._known_failed)
        for name, value in state.upstreams.items():
            if value is None or value == TO_FILE:
                continue
            upstream = None
            if is_good and value is held.get(name) and name not in services:
                # As nearly all are, and there may be very many.
                upstream = served.get(name)
            if upstream is None:
                upstream = self._read_upstream(name, value)
            if upstream is not None:
                found[name] = upstream
        return found

    def _read_upstream(self, name: str, value: object) -> Upstream | None:
        """The upstream for a value of the store.  If the value cannot be read, it is the one that
        is served, or ``None``."""
        where = f"upstreams.{name}"
        known = self.served_upstream(name)
        parse = partial(self._parse_upstream, name, where)
        held = self._held.upstreams.get(name)
        return self._read(where, value, held, known, parse, self._again)

    def _parse_upstream(self, name: str, where: str, value: object) -> Upstream:
        # Somebody else who writes to the store may know more keys than this version.
        return self.kept_upstream(parse_upstream(name, value, where, self._plugins, ANY_KEY))

    def kept_upstream(self, upstream: Upstream) -> Upstream:
        """The upstream that is served, if it is equal; else this one."""
        known = self._served.upstreams.get(upstream.name)
        if known is not None and known.same_as(upstream):
            return known
        return upstream.following(known)

    def read_routes(self, value: object) -> tuple[Route, ...]:
        """The routes for a value of the store; those served if the value cannot be read."""
        parse = partial(parse_routes, where="routes", passes=ANY_KEY)
        return self._read("routes", value, self._held.routes, self._served.routes, parse) or ()

    def read_hooks(self, state: StoredState) -> Mapping[HookKey, Hook]:
        """The hooks of a state.  If none differs, it is the mapping that is served."""
        hooks: dict[HookKey, Hook] = {}
        known = self._served.hooks
        for path in self.broken_names("hooks", state):
            language, _, name = path.partition("/")
            if (language, name) in known:
                hooks[language, name] = known[language, name]
        # A hook may have been refused for what is wrong with another one, or for a setting.
        is_new = not (
            _has_same(state.hooks, self._held.hooks)
            and _has_same(state.settings, self._held.settings)
        )
        for path, value in state.hooks.items():
            language, _, name = path.partition("/")
            if name == COMMIT_VERSION:
                continue
            served = known.get((language, name))
            held = self._held.hooks.get(path)
            parse = partial(parse_hook, path)
            hook = self._read(f"hooks.{path}", value, held, served, parse, is_new)
            if hook is not None:
                hooks[hook.key] = hook if served is None or served != hook else served
        return same_or(known, hooks)

    def read_settings(self, settings: Settings, state: StoredState) -> Mapping[str, str]:
        """The settings of hooks.  If none differs, it is the mapping that is served."""
        given = dict(settings.first_settings)
        for name in self.broken_names("settings", state):
            given.pop(name, None)
            if name in self._served.settings:
                given[name] = self._served.settings[name]
        found, failed = settings_in_use(
            given,
            state.settings,
            self._held.settings,
            self._served.settings,
            self._known_failed,
        )
        self.failed.update(failed)
        return found

    def read_services(self, settings: Settings, state: StoredState) -> dict[str, Service]:
        """The services of the settings and of a state."""
        services = {
            name: self._kept_service(service)
            for name, service in settings.first_services.items()
            if not state.decides_service(name)
        }
        for name in self.broken_names("services", state):
            services.pop(name, None)
            if name in self._served.services:
                services[name] = self._served.services[name]
        for name, value in state.services.items():
            if value is not None and state.decides_service(name):
                where = f"services.{name}"
                known = self._served.services.get(name)
                # One that is not served may only have been left out: it is read again.
                held = None if known is None else self._held.services.get(name)
                parse = partial(self._parse_service, name, where)
                service = self._read(where, value, held, known, parse, self._again)
                if service is not None:
                    services[name] = service
        return services

    def _parse_service(self, name: str, where: str, value: object) -> Service:
        return self._kept_service(parse_service(name, value, where, self._plugins, ANY_KEY))

    def _kept_service(self, service: Service) -> Service:
        """The service that is known, if it is equal; else this one."""
        known = self._served.services.get(service.name)
        return service if known is None or not known.same_as(service) else known

    def read_certificates(self, state: StoredState) -> Mapping[str, Pair]:
        """The certificates of a state.  If none differs, it is the mapping that is served."""
        known, held = self._served.certificates, self._held.certificates
        failed = {where for where in self._known_failed if where.startswith(_CERTIFICATES)}
        broken = self.broken_names("certificates", state)
        if state.certificates is held and not failed and not broken:
            return known
        found: dict[str, Pair] = {}
        for name in broken:
            if name in known:
                found[name] = known[name]
        for name, value in state.certificates.items():
            where = f"{_CERTIFICATES}{name}"
            pair: Pair | None = known.get(name)
            if pair is None or value is not held.get(name) or where in failed:
                # Imported here: a process without TLS does not pay for it.
                from slardar.control import stored_pairs

                parse = partial(stored_pairs.parse_pair, name, where=where)
                pair = self._read(where, value, held.get(name), pair, parse)
            if pair is not None:
                found[name] = pair
        return same_or(known, found)

    def certified(self, state: StoredState, certificates: Mapping[str, Pair]) -> Snapshot:
        """What is served, with these certificates and with what CAs are to be answered."""
        found = self._served
        if certificates is not found.certificates:
            found = found.with_certificates(certificates)
        challenges, failed = read_challenges(state.acme, found.challenges)
        self.failed.update((f"acme.{name}", f"acme.{name}: {why}") for name, why in failed.items())
        return found if challenges is found.challenges else found.with_challenges(challenges)

    def leave_out(self, section: str, name: str, other: str) -> None:
        """Note that a name cannot have its value in this section, for it is something else."""
        self.failed[f"{section}.{name}"] = (
            f"{section}.{name}: left out, for {name} is {other}, set through the control channel"
        )

    def _read(
        self,
        where: str,
        value: object,
        held: object,
        served: T | None,
        parse: Callable[[Any], T],
        again: bool = False,
    ) -> T | None:
        """The meaning of ``value``: ``served`` if the value is the one held, else what ``parse``
        makes of it.  ``served``, too, if it cannot be read.  ``again``: a value that failed before
        is tried again."""
        if is_same(value, held):
            if where not in self._known_failed:
                if served is not None:
                    return served
            elif not again:
                self.failed[where] = self._known_failed[where]
                return served
        try:
            return parse(value)
        except Exception as error:  # what a store holds may be anything
            reason = str(error) if isinstance(error, ConfigError) else f"{where}: {error!r}"
            self.failed[where] = " ".join(reason.split())
            return served


def read_hook_settings(
    settings: Settings,
    state: StoredState,
    held: StoredState,
    served: Snapshot,
    failed: Mapping[str, str],
) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """The settings of hooks, as :func:`read_desired` reads them, and why others are left out."""
    reader = _StateReader(held, served, failed, None)
    return reader.read_settings(settings, state), reader.failed


def served_state(state: StoredState, served: Snapshot, failed: Mapping[str, str]) -> StoredState:
    """``state`` with what is served in the place of the parts that ``failed`` names by key path:
    their last good values, or nothing."""
    values = []
    for where in failed:
        section, _, name = where.partition(".")
        if section == "upstreams":
            upstream = None if name in served.services else served.upstreams.get(name)
            values.append(Value("upstream", name, TO_FILE if upstream is None else upstream.source))
        elif section == "services":
            service = served.services.get(name)
            values.append(Value("service", name, TO_FILE if service is None else service.source))
        elif section == "routes":
            values.append(Value("routes", "", written_routes(served.routes)))
        elif section == "hooks":
            language, _, script = name.partition("/")
            hook = served.hooks.get((language, script))
            values.append(Value("hook", name, None if hook is None else written(hook)))
        elif section == "settings":
            text = served.settings.get(name)
            values.append(
                Value("setting", name, None if text is None else msgspec.json.decode(text))
            )
        elif section == "certificates":
            pair = served.certificates.get(name)
            values.append(Value("certificate", name, None if pair is None else written_pair(pair)))
    found = state.after(values, state.version, state.revision) if values else state
    return structs.replace(found, broken={}) if found.broken else found


def what_file_says(settings: Settings) -> dict[str, Any]:
    """The file's part of the configuration, without passwords and settings' values: the values
    that :attr:`StoredState.file` has."""
    said: dict[str, Any] = {
        f"upstreams.{name}": without_password(upstream)
        for name, upstream in settings.first_upstreams.items()
    }
    said.update(
        (f"services.{name}", hidden(service.source))
        for name, service in settings.first_services.items()
    )
    said.update((f"settings.{name}", HIDDEN) for name in settings.first_settings)
    if settings.first_routes:
        said["routes"] = written_routes(settings.first_routes)
    if settings.default_upstream is not None:
        said["default_upstream"] = settings.default_upstream
    return said


def file_differences(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Value]:
    """The values that lead from what a file said to what it says."""
    return [
        Value("file", name, after.get(name))
        for name in sorted({*before, *after})
        if not is_same(before.get(name), after.get(name))
    ]
