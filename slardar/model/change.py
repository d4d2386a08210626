"""One change of the configuration, and the state that changes add up to.

Stores keep both.  Values are plain JSON, as a user wrote them: a store needs not know
what they mean, and a newer version can read the values that an older one wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from msgspec import Struct, field

__all__ = ["TO_FILE", "Change", "Kind", "StoredState"]

#: ``file``: the configuration file was read again and its content taken over.
Kind = Literal["upstream", "routes", "file", "hook"]


#: The value of an upstream, or of the routes, for which the configuration file counts
#: again.  (``None`` means that the upstream or the routes are removed.)
TO_FILE: Final = "file"


class Change(Struct, frozen=True):
    """One upstream, hook, or the routes, set or removed; or the file read again."""

    kind: Kind
    #: The upstream's name, or the hook's language and name (``lua/script.example.com``);
    #: empty for ``routes`` and ``file``, of which there is one.
    name: str
    #: The whole new value; ``None`` removes the old one.  For a file it records only what
    #: changed: the file itself holds its content.
    value: Any
    #: Who asked: a token's name, or the channel it came through.
    who: str
    #: Epoch seconds.
    time: float


class StoredState(Struct, frozen=True):
    """The content of a store."""

    #: Grows by one with each change; 0 before the first change.
    version: int = 0
    #: Upstreams as written, by name.  ``None`` stands for a removed upstream, so that the
    #: one of that name in the file does not come back with the next start;
    #: :data:`TO_FILE` stands for an upstream that was given back to the file.
    upstreams: Mapping[str, Any] = field(default_factory=dict)
    #: Routes as written; ``None`` if they were never set, or :data:`TO_FILE`.
    routes: Any = None
    #: Hooks as they were stored, by language and name, without the removed ones.
    hooks: Mapping[str, Any] = field(default_factory=dict)
