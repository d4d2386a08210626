"""One change of the configuration, and the state that changes add up to.

Stores keep both.  Values are plain JSON, as a user wrote them: a store needs not know
what they mean, and a newer version can read the values that an older one wrote.

A state has a revision and a version.  The *revision* is the store's own: with it the store
tells whether somebody else has written meanwhile.  The *version* is slardar's counter,
which users see in answers, in ``ETag`` and in ``/status``; a store only keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Literal

from msgspec import Struct, field

__all__ = ["TO_FILE", "Change", "Kind", "Revision", "StoredState", "Value"]

#: ``file``: the configuration file was read again and its content taken over.
Kind = Literal["upstream", "service", "routes", "file", "hook"]

#: A store's name for a state.  Revisions can only be compared for equality: one store may
#: use a counter that jumps, another a hash.
Revision = int | str

#: The value of an upstream, a service, or the routes, for which the configuration file counts
#: again.  (``None`` means that the upstream, the service or the routes are removed.)
TO_FILE: Final = "file"


class Value(Struct, frozen=True):
    """The whole new value of an upstream, a service, the routes, a hook, or the file."""

    kind: Kind
    #: The name of the upstream or the service, or the hook's language and name
    #: (``lua/script.example.com``); empty for ``routes`` and ``file``, of which there is one.
    name: str
    #: ``None`` removes the old value.  For a file it records only what changed: the file
    #: itself holds its content.
    value: Any

    @property
    def path(self) -> str:
        """The key path, such as ``upstreams.www.example.com``."""
        return f"{self.kind}s.{self.name}" if self.name else self.kind


class Change(Value, frozen=True):
    """One value that was set or removed, with its author and time."""

    #: Who asked: a token's name, or the channel it came through.
    who: str
    #: Epoch seconds.
    time: float


class StoredState(Struct, frozen=True):
    """The content of a store."""

    #: slardar's counter, from the last commit; 0 before the first.
    version: int = 0
    #: Upstreams as written, by name.  ``None`` stands for a removed upstream, so that the
    #: one of that name in the file does not come back with the next start;
    #: :data:`TO_FILE` stands for an upstream that was given back to the file.
    upstreams: Mapping[str, Any] = field(default_factory=dict)
    #: Routes as written; ``None`` if they were never set, or :data:`TO_FILE`.
    routes: Any = None
    #: Hooks as they were stored, by language and name, without the removed ones.
    hooks: Mapping[str, Any] = field(default_factory=dict)
    #: The store's own name for this state.
    revision: Revision = 0
    #: Services as written, by name, with the meaning that values of ``upstreams`` have.
    services: Mapping[str, Any] = field(default_factory=dict)

    def decides(self, name: str) -> bool:
        """Whether the store's value of this upstream counts, a removal included.

        If it does, the file's value does not count.
        """
        return bool(self.upstreams.get(name, TO_FILE) != TO_FILE)

    def decides_service(self, name: str) -> bool:
        """The same for the service of this name."""
        return bool(self.services.get(name, TO_FILE) != TO_FILE)

    @property
    def decides_routes(self) -> bool:
        """Whether the store's routes count, and the file's do not."""
        return self.routes is not None and self.routes != TO_FILE

    def after(self, values: Iterable[Value], version: int, revision: Revision) -> StoredState:
        """The state after these values, with a new version and revision."""
        upstreams, routes, hooks = self.upstreams, self.routes, self.hooks
        services = self.services
        for one in values:
            if one.kind == "upstream":
                upstreams = {**upstreams, one.name: one.value}
            elif one.kind == "service":
                services = {**services, one.name: one.value}
            elif one.kind == "routes":
                routes = one.value
            elif one.kind == "hook":
                hooks = {name: value for name, value in hooks.items() if name != one.name}
                if one.value is not None:
                    hooks[one.name] = one.value
        return StoredState(version, upstreams, routes, hooks, revision, services)
