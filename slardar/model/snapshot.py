"""The whole configuration of one moment: immutable, versioned, quick to change.

A change makes a new snapshot that shares everything that stayed the same.  A change of an
upstream copies the table of upstreams, which takes about 0.1 ms for 10,000 of them.
Only a wildcard, or a name with capitals, that leaves the index makes it anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec.structs import replace

from slardar.model.hook import Hook, HookKey
from slardar.model.names import requested_host
from slardar.model.routes import Route
from slardar.model.server import Upstream
from slardar.model.service import Service
from slardar.model.tls import Challenges, Pair

__all__ = ["Choice", "Route", "Snapshot"]


_MODULUS = 1 << 256

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")

_Matcher = tuple[Callable[[str, str], bool], "Choice"]


class Choice(NamedTuple):
    """Where the host and the path of a request lead."""

    #: The upstream's name; ``None`` if they lead nowhere.
    upstream: str | None
    #: The reason: ``route``, ``host`` (the upstream's exact name), ``wildcard``, ``default``
    #: (the default upstream), ``hook`` (a hook has chosen it), ``resource`` (a mounted
    #: resource names it), or empty.
    by: str = ""
    route: Route | None = None


_NOWHERE: Final = Choice(None)
_NO_CHALLENGES: Final = Challenges()


class Snapshot(msgspec.Struct, frozen=True, eq=False):
    """Upstreams, services, routes, the default upstream, hooks, settings and the store's
    certificates, as of ``version``.

    :meth:`build` makes one, or a method of another snapshot; no attribute can be assigned.
    """

    version: int
    routes: tuple[Route, ...]
    default_upstream: str | None
    #: By language and name, read-only; the same object as long as no hook has changed.
    hooks: Mapping[HookKey, Hook]
    #: The services by name, read-only; the same object as long as none has changed.  The upstream
    #: of each is one of ``upstreams``.  Workers need no services, and have none.
    services: Mapping[str, Service]
    #: What hooks read as settings, as JSON texts by name (:mod:`slardar.model.setting`), read-only;
    #: the same object as long as none has changed.
    settings: Mapping[str, str]
    #: The certificates of the store, by the names that operators give them, read-only; the same
    #: object as long as none has changed.  Those of files are in the plane's keyring.
    certificates: Mapping[str, Pair]
    #: What CAs are answered at present.
    challenges: Challenges
    _upstreams: dict[str, Upstream]
    #: The sums of the upstreams' and of the certificates' digests, for :attr:`fingerprint`.
    _sum: int
    _certificates_sum: int
    #: For each route the function that tells whether a host and path match, and its choice.
    _matchers: tuple[_Matcher, ...]
    #: Names that are not in the form of :func:`requested_host`, by that form.
    _folded: dict[str, str]
    #: Wildcards by their suffix.
    _wildcards: dict[str, str]
    #: Names of upstreams that are not public: no Host leads to them.
    _hidden: frozenset[str]

    @classmethod
    def build(
        cls,
        version: int,
        upstreams: Mapping[str, Upstream],
        routes: tuple[Route, ...],
        default_upstream: str | None,
        hooks: Mapping[HookKey, Hook] | None = None,
        services: Mapping[str, Service] | None = None,
        settings: Mapping[str, str] | None = None,
        certificates: Mapping[str, Pair] | None = None,
        challenges: Challenges = _NO_CHALLENGES,
    ) -> Snapshot:
        """A snapshot made without an older one.

        The ``hooks``, ``services``, ``settings`` and ``certificates`` of another snapshot are not
        copied, so both share one object.  The upstream of each service must be one of
        ``upstreams``.
        """
        hidden = frozenset(name for name, one in upstreams.items() if not one.public)
        folded, wildcards = _indexes(upstreams, hidden)
        return cls(
            version,
            routes,
            default_upstream,
            _read_only({} if hooks is None else hooks),
            _read_only({} if services is None else services),
            _read_only({} if settings is None else settings),
            _read_only({} if certificates is None else certificates),
            challenges,
            dict(upstreams),
            sum(upstream.digest for upstream in upstreams.values()) % _MODULUS,
            _total(certificates or {}),
            _matchers(routes),
            folded,
            wildcards,
            hidden,
        )

    @property
    def host_is_name(self) -> bool:
        """Whether a Host that is the name of an upstream always leads there."""
        return not self.routes and not self._hidden

    @property
    def upstreams(self) -> Mapping[str, Upstream]:
        """Every upstream by its name, read-only."""
        return MappingProxyType(self._upstreams)

    @property
    def fingerprint(self) -> str:
        """A hash of the whole configuration: 64 hexadecimal digits.

        Equal configurations have equal fingerprints, whatever the order of the changes
        before: it hashes the sums of the upstreams', the hooks', the services'
        and the certificates' hashes, with the settings, the routes and the default upstream.  No
        private key is part of it.
        """
        rest: list[Any] = [msgspec.to_builtins(self.routes), self.default_upstream]
        if self.hooks:
            total = sum(hook.digest for hook in self.hooks.values()) % _MODULUS
            rest.append(f"{total:064x}")
        if self.services:
            total = sum(service.digest for service in self.services.values()) % _MODULUS
            rest.append({"services": f"{total:064x}"})
        if self.settings:
            rest.append({"settings": dict(self.settings)})
        if self.certificates:
            rest.append({"certificates": f"{self._certificates_sum:064x}"})
        data = self._sum.to_bytes(32, "big") + json.dumps(rest, sort_keys=True).encode()
        return hashlib.sha256(data).hexdigest()

    def with_upstream(self, upstream: Upstream) -> Snapshot:
        """The next version, in which ``upstream`` is new or changed."""
        name = upstream.name
        upstreams = self._upstreams.copy()
        known = upstreams.get(name)
        upstream = upstreams[name] = upstream.following(known)
        folded, wildcards, hidden = self._folded, self._wildcards, self._hidden
        was_public = known is not None and known.public
        if upstream.public:
            hidden = hidden - {name} if name in hidden else hidden
            if not was_public and _is_indexed(name):
                folded, wildcards = folded.copy(), wildcards.copy()
                _index(name, folded, wildcards)
        else:
            hidden = hidden | {name}
            if was_public and _is_indexed(name):
                folded, wildcards = _indexes(upstreams, hidden)
        return replace(
            self,
            version=self.version + 1,
            _upstreams=upstreams,
            _sum=(self._sum - (known.digest if known else 0) + upstream.digest) % _MODULUS,
            _folded=folded,
            _wildcards=wildcards,
            _hidden=hidden,
        )

    def without_upstream(self, name: str) -> Snapshot:
        """The next version, without the upstream ``name`` (KeyError if there is none)."""
        upstreams = self._upstreams.copy()
        gone = upstreams.pop(name)
        folded, wildcards = self._folded, self._wildcards
        hidden = self._hidden - {name} if name in self._hidden else self._hidden
        if _is_indexed(name):
            folded, wildcards = _indexes(upstreams, hidden)
        return replace(
            self,
            version=self.version + 1,
            _upstreams=upstreams,
            _sum=(self._sum - gone.digest) % _MODULUS,
            _folded=folded,
            _wildcards=wildcards,
            _hidden=hidden,
        )

    def with_service(self, service: Service, upstream: Upstream) -> Snapshot:
        """The next version, in which ``service``, with its ``upstream``, is new or changed."""
        services = {**self.services, service.name: service}
        return replace(self.with_upstream(upstream), services=_read_only(services))

    def without_service(self, name: str) -> Snapshot:
        """The next version, without the service ``name`` and its upstream (KeyError if there is
        none)."""
        services = dict(self.services)
        del services[name]
        return replace(self.without_upstream(name), services=_read_only(services))

    def with_routes(self, routes: tuple[Route, ...]) -> Snapshot:
        """The next version, with other routes."""
        return replace(self, version=self.version + 1, routes=routes, _matchers=_matchers(routes))

    def with_default(self, upstream: str | None) -> Snapshot:
        """The next version, with another default upstream."""
        return replace(self, version=self.version + 1, default_upstream=upstream)

    def with_hooks(self, changed: Mapping[HookKey, Hook | None]) -> Snapshot:
        """The next version, with these hooks new or changed, or removed (``None``)."""
        hooks = dict(self.hooks)
        for key, hook in changed.items():
            if hook is None:
                hooks.pop(key, None)
            else:
                hooks[key] = hook
        return replace(self, version=self.version + 1, hooks=_read_only(hooks))

    def with_settings(self, settings: Mapping[str, str]) -> Snapshot:
        """The next version, with these settings instead of those before."""
        return replace(self, version=self.version + 1, settings=_read_only(settings))

    def with_certificates(self, certificates: Mapping[str, Pair]) -> Snapshot:
        """The next version, with these certificates of the store instead of those before."""
        known = self.certificates
        total = self._certificates_sum
        for name, pair in certificates.items():
            old = known.get(name)
            if old is not pair:
                total += _digest(name, pair) - (0 if old is None else _digest(name, old))
        total -= _total({one: pair for one, pair in known.items() if one not in certificates})
        return replace(
            self,
            version=self.version + 1,
            certificates=_read_only(certificates),
            _certificates_sum=total % _MODULUS,
        )

    def with_certificate(self, name: str, pair: Pair | None) -> Snapshot:
        """The next version, with this certificate of the store; ``None``: without it.  For 10,000
        of them it takes 0.1 ms."""
        certificates = dict(self.certificates)
        old = certificates.pop(name, None)
        total = self._certificates_sum - (0 if old is None else _digest(name, old))
        if pair is not None:
            certificates[name] = pair
            total += _digest(name, pair)
        return replace(
            self,
            version=self.version + 1,
            certificates=_read_only(certificates),
            _certificates_sum=total % _MODULUS,
        )

    def certified_as(self, other: Snapshot) -> Snapshot:
        """This configuration with the certificates of another one, and its answers to CAs."""
        return replace(
            self,
            certificates=other.certificates,
            challenges=other.challenges,
            _certificates_sum=other._certificates_sum,
        )

    def with_challenges(self, challenges: Challenges) -> Snapshot:
        """The next version, in which CAs are answered this."""
        return replace(self, version=self.version + 1, challenges=challenges)

    def at_version(self, version: int) -> Snapshot:
        """This configuration with another version."""
        return replace(self, version=version)

    def route(self, host: str, path: str) -> str | None:
        """The name of the upstream for a request, or ``None``; see :meth:`choose`."""
        return self.choose(host, path).upstream

    def choose(self, host: str, path: str) -> Choice:
        """The upstream for a request, and what leads to it.

        ``host`` is in the form of :func:`slardar.model.names.requested_host`.  Routes come
        first, then the exact name, then the longest wildcard, then the default upstream.
        Only routes lead to upstreams that are not public.
        """
        for matches, choice in self._matchers:
            if matches(host, path):
                return choice
        hidden = self._hidden
        if host in self._upstreams and host[:2] != "*." and host not in hidden:
            return Choice(host, "host")
        if self._folded and host in self._folded:
            return Choice(self._folded[host], "host")
        wildcards = self._wildcards
        if wildcards:
            dot = host.find(".", 1)  # the wildcard stands for at least one character
            while dot >= 0:
                name = wildcards.get(host[dot:])
                if name is not None:
                    return Choice(name, "wildcard")
                dot = host.find(".", dot + 1)
        if self.default_upstream is None or self.default_upstream in hidden:
            return _NOWHERE
        return Choice(self.default_upstream, "default")

    def __repr__(self) -> str:
        return f"<Snapshot {self.version} of {len(self._upstreams)} upstreams>"


def _read_only(table: Mapping[_Key, _Value]) -> Mapping[_Key, _Value]:
    """``table``, which cannot be written to, copied unless it comes from another snapshot."""
    return table if isinstance(table, MappingProxyType) else MappingProxyType(dict(table))


def _digest(name: str, pair: Pair) -> int:
    """A hash of a certificate under its name, as a number.  Its key belongs to it, so that a hash
    of the certificate is enough."""
    return int.from_bytes(hashlib.sha256(f"{name}\0{pair.cert}".encode()).digest(), "big")


def _total(certificates: Mapping[str, Pair]) -> int:
    return sum(_digest(name, pair) for name, pair in certificates.items()) % _MODULUS


def _matchers(routes: tuple[Route, ...]) -> tuple[_Matcher, ...]:
    return tuple((route.matcher(), Choice(route.upstream, "route", route)) for route in routes)


def _indexes(
    upstreams: Mapping[str, Upstream], hidden: frozenset[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The entries that :func:`_index` makes for all public upstreams."""
    folded: dict[str, str] = {}
    wildcards: dict[str, str] = {}
    for name in upstreams:
        if name not in hidden:
            _index(name, folded, wildcards)
    return folded, wildcards


def _is_indexed(name: str) -> bool:
    return name[:2] == "*." or name != requested_host(name)


def _index(name: str, folded: dict[str, str], wildcards: dict[str, str]) -> None:
    """Add a wildcard, or a name that is not in the form of :func:`requested_host`.

    Of two names with the same form, the name that is written in that form serves, else the
    first in the alphabet: the order in which they came must not matter.
    """
    meant = requested_host(name)
    if meant[:2] == "*.":
        known = wildcards.setdefault(meant[1:], name)
        wildcards[meant[1:]] = min(known, name, key=lambda text: (text != meant, text))
    elif meant != name:
        folded[meant] = min(folded.get(meant, name), name)
