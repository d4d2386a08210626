"""One change of the configuration, and the state that changes add up to.

This is what stores keep.  Values are plain JSON, as a user wrote them: a store needs
no knowledge of what they mean, and a newer version can read what an older one wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from msgspec import Struct, field

__all__ = ["TO_FILE", "Change", "Kind", "StoredState"]

#: ``file``: the configuration file was read anew, and what it says was taken over.
Kind = Literal["upstream", "routes", "file", "hook"]


#: The value of an upstream, or of the routes, that the store has no word on any more: what
#: the file says counts again.  ``None`` would say that it is gone.
TO_FILE: Final = "file"


class Change(Struct, frozen=True):
    """One thing set or removed."""

    kind: Kind
    #: The upstream's name, or the hook's language and name (``lua/script.example.com``);
    #: empty for ``routes`` and ``file``, of which there is one.
    name: str
    #: The whole new value; ``None`` removes it.  Of a file only what changed is kept, for
    #: the record: its content is the file's.
    value: Any
    #: Who asked: a token's name, or the channel it came through.
    who: str
    #: Epoch seconds.
    time: float


class StoredState(Struct, frozen=True):
    """What a store holds."""

    #: Grows by one with each change; 0 before the first.
    version: int = 0
    #: Upstreams as written, by name; ``None`` for one that was removed, so that the
    #: same name in a file does not come back with the next start; :data:`TO_FILE` for one
    #: that was given back to the file.
    upstreams: Mapping[str, Any] = field(default_factory=dict)
    #: Routes as written; ``None`` if they were never set, or :data:`TO_FILE`.
    routes: Any = None
    #: Hooks as they were stored, by language and name; those that were removed are not
    #: among them.
    hooks: Mapping[str, Any] = field(default_factory=dict)
