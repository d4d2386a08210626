"""One change of the configuration, and the state that changes add up to.

Stores keep both.  Values are plain JSON, as a user wrote them: a store needs not know
what they mean, and a newer version can read the values that an older one wrote.

A state has a revision and a version.  The *revision* is the store's own: with it the store
tells whether somebody else has written meanwhile.  The *version* is slardar's counter,
which users see in answers, in ``ETag`` and in ``/status``; a store only keeps it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct, field

__all__ = [
    "IN_FILE",
    "SECRET",
    "TO_FILE",
    "Author",
    "Change",
    "Kind",
    "Recorded",
    "Revision",
    "StoredState",
    "Value",
    "differences",
    "is_same",
]

#: ``file``: what the configuration file says, for the record.  ``rollback``: the changes beside
#: it lead back to an earlier version.  ``setting``: what hooks read as ``slardar.NAME`` and
#: ``settings["NAME"]``.  ``certificate``: an object with ``cert`` and ``key`` in PEM.  ``acme``:
#: what the client of a CA keeps, such as its account, as an object.
Kind = Literal[
    "upstream",
    "service",
    "routes",
    "file",
    "hook",
    "setting",
    "certificate",
    "acme",
    "rollback",
]

#: A store's name for a state.  Revisions can only be compared for equality: one store may
#: use a counter that jumps, another a hash.
Revision = int | str

#: The value of an upstream, a service, or the routes, for which the configuration file counts
#: again.  (``None`` means that the upstream, the service or the routes are removed.)
TO_FILE: Final = "file"

#: The kinds of the things that the configuration file may have, too.
IN_FILE: Final = ("upstream", "service", "routes")

#: The kinds whose values hold private keys.  A history keeps none of them, so a state of before has
#: none, and the way back to it leaves them alone.
SECRET: Final = ("certificate", "acme")


class Author(str):
    """The name of who asks for a change.  It also knows from where the call came."""

    #: The address of the peer, ``unix`` for a unix socket, empty if no call was made.
    place: str

    def __new__(cls, name: str, place: str = "") -> Author:
        """``name`` is a token's name, or the channel."""
        author = super().__new__(cls, name)
        author.place = place
        return author


class Value(Struct, frozen=True):
    """The whole new value of an upstream, a service, the routes, a hook, a setting, a certificate,
    or a part of the file."""

    kind: Kind
    #: The name of the upstream or the service, or the hook's language and name
    #: (``lua/script.example.com``), or that of another thing.  Empty for ``routes`` and
    #: ``rollback``, of which there is one.
    #: Of the file: ``upstreams.NAME``, ``services.NAME``, ``routes`` or ``default_upstream`` for
    #: what the file says of one of them, and empty for the names of the upstreams in service that
    #: an edit has changed.
    name: str
    #: ``None`` removes the old value.  What the file says is kept without passwords.  Of a
    #: ``rollback`` it is the version that the changes lead back to.
    value: Any

    @property
    def path(self) -> str:
        """The key path, such as ``upstreams.www.example.com``."""
        if self.kind == "file" or not self.name:
            return self.kind
        return f"{self.kind if self.kind == 'acme' else f'{self.kind}s'}.{self.name}"

    def __repr__(self) -> str:
        # A traceback or a failed assertion may show it.
        value = "(secret)" if self.kind in SECRET and self.value is not None else repr(self.value)
        return f"<{type(self).__name__} {self.path} = {value}>"


class Change(Value, frozen=True):
    """One value that was set or removed, with its author and time."""

    #: Who asked: a token's name, or the channel it came through.
    who: str
    #: Epoch seconds.
    time: float
    #: From where the call came: see :class:`Author`.
    place: str = ""


class Recorded(Struct, frozen=True):
    """A change that a store has kept, with what was before it."""

    #: The version that the change has made, perhaps with others.
    version: int
    change: Change
    #: The value before: ``None`` if there was none.  Of an upstream, a service or the routes
    #: :data:`TO_FILE` if the file's counted.  Of a certificate this value and that of ``change``
    #: are what a history keeps: see :func:`slardar.model.certificate.kept_of`.
    old: Any
    #: What the file said of this upstream or service, or of the routes, when the change was made;
    #: ``None`` if that is nothing, or not on record.
    in_file: Any = None
    #: How many more changes of this version were left out, because they are too many.
    more: int = 0


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
    #: What the file said when the last change was made, without passwords: a value for
    #: ``upstreams.NAME``, ``services.NAME``, ``routes`` and ``default_upstream``, without those
    #: that it did not have.
    file: Mapping[str, Any] = field(default_factory=dict)
    #: Services as written, by name, with the meaning that values of ``upstreams`` have.
    services: Mapping[str, Any] = field(default_factory=dict)
    #: What hooks read as settings, by name, without the removed ones: JSON, or the text where a
    #: value in a store is no JSON.  A slash in a name leads into a setting.
    settings: Mapping[str, Any] = field(default_factory=dict)
    #: What the store holds and nobody can read (no JSON, say): the reason in one line, by key path,
    #: such as ``upstreams.www.example.com``.  Whatever is served under this path stays.
    broken: Mapping[str, str] = field(default_factory=dict)
    #: Certificates with their keys as written, by name, without the removed ones.
    certificates: Mapping[str, Any] = field(default_factory=dict)
    #: What the client of a CA keeps, by name, without what was removed.
    acme: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        # A traceback or a failed assertion may show it.
        shown = []
        for name in self.__struct_fields__:
            value = getattr(self, name)
            if name in ("certificates", "acme"):
                value = list(value)
            shown.append(f"{name}={value!r}")
        return f"StoredState({', '.join(shown)})"

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
        routes, broken = self.routes, self.broken
        # Copied once, however many values there are.
        named: dict[str, dict[str, Any]] = {}
        of_kind = {
            "upstream": self.upstreams,
            "service": self.services,
            "hook": self.hooks,
            "file": self.file,
            "setting": self.settings,
            "certificate": self.certificates,
            "acme": self.acme,
        }
        for one in values:
            if broken and one.path in broken:
                broken = {path: why for path, why in broken.items() if path != one.path}
            if one.kind == "routes":
                routes = one.value
            elif one.kind in of_kind and one.name:
                if one.kind not in named:
                    named[one.kind] = dict(of_kind[one.kind])
                things = named[one.kind]
                if one.value is None and one.kind not in IN_FILE:
                    things.pop(one.name, None)
                else:
                    things[one.name] = one.value
        return StoredState(
            version,
            named.get("upstream", self.upstreams),
            routes,
            named.get("hook", self.hooks),
            revision,
            named.get("file", self.file),
            named.get("service", self.services),
            named.get("setting", self.settings),
            broken,
            named.get("certificate", self.certificates),
            named.get("acme", self.acme),
        )


def differences(held: StoredState, state: StoredState) -> list[Value]:
    """The values that lead from the state that a store holds to another state."""
    values = [
        *(Value("upstream", *one) for one in _new(held.upstreams, state.upstreams, TO_FILE)),
        *(Value("service", *one) for one in _new(held.services, state.services, TO_FILE)),
    ]
    # Routes that were never set and routes that were given back to the file mean the same.
    before, after = (TO_FILE if one.routes is None else one.routes for one in (held, state))
    if not is_same(after, before):
        values.append(Value("routes", "", after))
    values += (Value("hook", *one) for one in _new(held.hooks, state.hooks, None))
    values += (Value("setting", *one) for one in _new(held.settings, state.settings, None))
    certificates = _new(held.certificates, state.certificates, None)
    values += (Value("certificate", *one) for one in certificates)
    values += (Value("acme", *one) for one in _new(held.acme, state.acme, None))
    return values


def _new(
    held: Mapping[str, Any], wanted: Mapping[str, Any], absent: object
) -> Iterator[tuple[str, Any]]:
    """The names whose values differ, in order, each with its new value; ``absent`` if it goes."""
    # Nearly all of very many values may be the same objects.
    names = [name for name, value in wanted.items() if held.get(name, absent) is not value]
    names += [name for name in held if name not in wanted]
    for name in sorted(names):
        value = wanted.get(name, absent)
        if not is_same(value, held.get(name, absent)):
            yield name, value


def is_same(value: object, other: object) -> bool:
    """Whether both are the same JSON.  Python's ``==`` would take False for 0, and a tuple for
    no list."""
    if value is other or value is None or other is None:
        return value is other
    return msgspec.json.encode(value) == msgspec.json.encode(other)
