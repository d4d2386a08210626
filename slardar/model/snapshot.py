"""The whole configuration of one moment: immutable, versioned, quick to change.

A change makes a new snapshot that shares everything that stayed the same.  Copying
the table of 10,000 upstreams costs about a tenth of a millisecond; nothing else
depends on how many there are.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import msgspec

from slardar.model.hook import Hook, HookKey
from slardar.model.names import requested_host
from slardar.model.routes import Route
from slardar.model.server import Upstream

__all__ = ["Route", "Snapshot"]


_MODULUS = 1 << 256

_Matcher = tuple[Callable[[str, str], bool], Route]


class Snapshot:
    """Upstreams, routes, the default upstream and hooks, as of ``version``."""

    __slots__ = (
        "_folded",
        "_hidden",
        "_matchers",
        "_sum",
        "_upstreams",
        "_wildcards",
        "default_upstream",
        "hooks",
        "routes",
        "version",
    )

    def __init__(
        self,
        version: int,
        upstreams: dict[str, Upstream],
        routes: tuple[Route, ...],
        default_upstream: str | None,
        folded: dict[str, str],
        wildcards: dict[str, str],
        digest_sum: int,
        hooks: Mapping[HookKey, Hook],
        matchers: tuple[_Matcher, ...] | None = None,
        hidden: frozenset[str] = frozenset(),
    ) -> None:
        self.version = version
        self._upstreams = upstreams
        self.routes = routes
        self.default_upstream = default_upstream
        #: Names with capitals or a dot at their end by what requests name; wildcards by
        #: their suffix.
        self._folded = folded
        self._wildcards = wildcards
        #: Names that are no Hosts: upstreams that are not public.
        self._hidden = hidden
        self._sum = digest_sum
        #: By language and name; the same object as long as none has changed.
        self.hooks = hooks
        self._matchers = (
            tuple((route.matcher(), route) for route in routes) if matchers is None else matchers
        )

    @classmethod
    def build(
        cls,
        version: int,
        upstreams: Mapping[str, Upstream],
        routes: tuple[Route, ...],
        default_upstream: str | None,
        hooks: Mapping[HookKey, Hook] | None = None,
    ) -> Snapshot:
        """A snapshot made from nothing.

        ``hooks`` are kept as they are, so that those of another snapshot stay the same
        object; nobody may change them.
        """
        hidden = frozenset(name for name, one in upstreams.items() if not one.public)
        folded, wildcards = _indexes(upstreams, hidden)
        total = sum(upstream.digest for upstream in upstreams.values()) % _MODULUS
        return cls(
            version,
            dict(upstreams),
            routes,
            default_upstream,
            folded,
            wildcards,
            total,
            {} if hooks is None else hooks,
            hidden=hidden,
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

        Equal for equal configurations, whatever order they were reached in: the sums
        of the upstreams' and of the hooks' hashes, hashed with routes and default.
        """
        rest: list[Any] = [msgspec.to_builtins(self.routes), self.default_upstream]
        if self.hooks:
            total = sum(hook.digest for hook in self.hooks.values()) % _MODULUS
            rest.append(f"{total:064x}")
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
        total = (self._sum - (known.digest if known else 0) + upstream.digest) % _MODULUS
        return Snapshot(
            self.version + 1,
            upstreams,
            self.routes,
            self.default_upstream,
            folded,
            wildcards,
            total,
            self.hooks,
            self._matchers,
            hidden,
        )

    def without_upstream(self, name: str) -> Snapshot:
        """The next version, without the upstream ``name`` (KeyError if there is none)."""
        upstreams = self._upstreams.copy()
        gone = upstreams.pop(name)
        folded, wildcards = self._folded, self._wildcards
        hidden = self._hidden - {name} if name in self._hidden else self._hidden
        if _is_indexed(name):
            folded, wildcards = _indexes(upstreams, hidden)
        return Snapshot(
            self.version + 1,
            upstreams,
            self.routes,
            self.default_upstream,
            folded,
            wildcards,
            (self._sum - gone.digest) % _MODULUS,
            self.hooks,
            self._matchers,
            hidden,
        )

    def with_routes(self, routes: tuple[Route, ...]) -> Snapshot:
        """The next version, with other routes."""
        return Snapshot(
            self.version + 1,
            self._upstreams,
            routes,
            self.default_upstream,
            self._folded,
            self._wildcards,
            self._sum,
            self.hooks,
            hidden=self._hidden,
        )

    def with_hooks(self, changed: Mapping[HookKey, Hook | None]) -> Snapshot:
        """The next version, with these hooks new or changed, or gone (``None``)."""
        hooks = dict(self.hooks)
        for key, hook in changed.items():
            if hook is None:
                hooks.pop(key, None)
            else:
                hooks[key] = hook
        return Snapshot(
            self.version + 1,
            self._upstreams,
            self.routes,
            self.default_upstream,
            self._folded,
            self._wildcards,
            self._sum,
            hooks,
            self._matchers,
            self._hidden,
        )

    def at_version(self, version: int) -> Snapshot:
        """The same configuration as this version."""
        return Snapshot(
            version,
            self._upstreams,
            self.routes,
            self.default_upstream,
            self._folded,
            self._wildcards,
            self._sum,
            self.hooks,
            self._matchers,
            self._hidden,
        )

    def route(self, host: str, path: str) -> str | None:
        """The name of the upstream for a request, or ``None``.

        ``host`` is as :func:`slardar.model.names.requested_host` says.  Routes come first,
        then the exact name, then the longest wildcard, then the default; of these only
        public ones.
        """
        for matches, route in self._matchers:
            if matches(host, path):
                return route.upstream
        hidden = self._hidden
        if host in self._upstreams and host[:2] != "*." and host not in hidden:
            return host
        if self._folded and host in self._folded:
            return self._folded[host]
        wildcards = self._wildcards
        if wildcards:
            dot = host.find(".", 1)  # the wildcard stands for at least one character
            while dot >= 0:
                name = wildcards.get(host[dot:])
                if name is not None:
                    return name
                dot = host.find(".", dot + 1)
        return None if self.default_upstream in hidden else self.default_upstream

    def find_route(self, host: str, path: str) -> Route | None:
        """The route that a request takes, if any."""
        return next((route for matches, route in self._matchers if matches(host, path)), None)

    def __repr__(self) -> str:
        return f"<Snapshot {self.version} of {len(self._upstreams)} upstreams>"


def _indexes(
    upstreams: Mapping[str, Upstream], hidden: frozenset[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """What :func:`_index` notes of all of them that are public."""
    folded: dict[str, str] = {}
    wildcards: dict[str, str] = {}
    for name in upstreams:
        if name not in hidden:
            _index(name, folded, wildcards)
    return folded, wildcards


def _is_indexed(name: str) -> bool:
    return name[:2] == "*." or name != requested_host(name)


def _index(name: str, folded: dict[str, str], wildcards: dict[str, str]) -> None:
    """Note a wildcard, or a name that is not written as requests name it.

    Of two that mean the same only the one written so serves, else the first in the
    alphabet: which came first must not matter.
    """
    meant = requested_host(name)
    if meant[:2] == "*.":
        known = wildcards.setdefault(meant[1:], name)
        wildcards[meant[1:]] = min(known, name, key=lambda text: (text != meant, text))
    elif meant != name:
        folded[meant] = min(folded.get(meant, name), name)
