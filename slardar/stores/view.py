"""What a tree of keys means, read again only where it has changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Any

import msgspec

from slardar.errors import StoreError
from slardar.model.change import StoredState
from slardar.stores.layout import (
    HISTORY,
    META,
    Meta,
    Place,
    Room,
    TooLarge,
    Unreadable,
    place_of,
    value_at,
)
from slardar.stores.record import Journal, Known, read_record, read_secrets
from slardar.stores.tree import Content, Entry

__all__ = ["EMPTY", "View", "read_meta", "with_writes"]

EMPTY = Content(0, {})
_SIZE = 2**128
#: What all values of a tree may weigh together: a byte of text one, and a part of JSON 32, for it
#: takes some hundred bytes of memory and a microsecond, if it is read for no use.  200,000 servers
#: weigh 32 MiB.  The history has no part in it: one record is read at a time.
MAX_WEIGHT = 64 * 1024 * 1024


class View:
    """What a content of the tree means.  It does not change.

    ``prefix`` is what stands before a key where people read of it.
    """

    content: Content
    state: StoredState

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.content = EMPTY
        self.meta = Meta()
        #: What is left of a large commit to be written; ``None`` if it cannot be read, either.
        self.journal: Journal | None = None
        #: The values of all things.
        self.known: Known = {}
        self.state = StoredState(revision=f"{0:032x}")
        self._sum = 0
        self._entries: Mapping[str, Entry] = {}
        #: What values weigh, by place; and for which there was no room.
        self._weights: Mapping[Place, int] = {}
        self._refused: frozenset[Place] = frozenset()

    def moved(self, content: Content) -> View:
        """The view of another content.  It costs little if little has changed."""
        if content is self.content:
            return self
        view = View(self.prefix)
        view.content = content
        changed = _changed(self.content.entries, content.entries)
        view._sum = self._sum
        for key in changed:
            view._sum -= _hash(key, self.content.entries.get(key))
            view._sum += _hash(key, content.entries.get(key))
        view._sum %= _SIZE
        broken = dict(self.state.broken)
        view.meta = self.meta
        if META in changed:
            broken.pop(META, None)
            try:
                view.meta = read_meta(content.entries, self.prefix)
            except Unreadable as error:
                view.meta = Meta()
                broken[META] = f"{META}: {error}"
        view._read_journal(self, broken)
        view._entries = content.entries
        if self.journal is not None or view.journal is not None:
            if view.journal is not None:
                view._entries = view.journal.overlaid(view.meta.done, content.entries)
            changed = _changed(self._entries, view._entries)
        view._read(self, changed, broken)
        return view

    def _read_journal(self, before: View, broken: dict[str, str]) -> None:
        pending = self.meta.pending
        if before.meta.pending:
            broken.pop(HISTORY + before.meta.pending, None)
        if not pending:
            return
        if pending == before.meta.pending and before.journal is not None:
            self.journal = before.journal
            return
        key = HISTORY + pending
        try:
            entries = self.content.entries
            self.journal = Journal(
                read_record(key, entries, self.prefix), read_secrets(pending, entries)
            )
        except StoreError as error:
            broken[key] = f"{key}: {error}"

    def _read(self, before: View, changed: Iterable[str], broken: dict[str, str]) -> None:
        places = dict.fromkeys(
            place for key in changed if (place := place_of(key)) and place.kind != "own"
        )
        state = before.state
        known = dict(before.known) if places else before.known
        maps: dict[str, Any] = {
            "upstream": state.upstreams,
            "service": state.services,
            "hook": state.hooks,
            "file": state.file,
            "setting": state.settings,
            "certificate": state.certificates,
            "acme": state.acme,
            "routes": {"": state.routes},
        }
        weights = dict(before._weights)
        freed = [weights.pop(place) for place in places if place in weights]
        refused = set(before._refused.difference(places))
        if freed and refused:
            # There may be room for them now.
            places.update(dict.fromkeys(sorted(refused)))
            refused.clear()
        left = MAX_WEIGHT - sum(weights.values())
        for kind in {place.kind for place in places}:
            maps[kind] = dict(maps[kind])
        for place in places:
            path = place.path if place.kind != "file" else f"file.{place.name}"
            broken.pop(path, None)
            value, is_set = None, False
            room = Room(left)
            try:
                value, is_set = value_at(place, self._entries, self.prefix, room)
            except Unreadable as error:
                broken[path] = f"{path}: {error}"
                if isinstance(error, TooLarge):
                    refused.add(place)
            if place.misspelt:
                continue
            if is_set:
                weights[place] = room.taken
                left = room.left
                known[place.kind, place.name] = maps[place.kind][place.name] = value
            else:
                known.pop((place.kind, place.name), None)
                maps[place.kind].pop(place.name, None)
        self.known = known
        self._weights, self._refused = weights, frozenset(refused)
        self.state = StoredState(
            self.meta.version,
            maps["upstream"],
            maps["routes"].get(""),
            maps["hook"],
            f"{self._sum:032x}",
            maps["file"],
            maps["service"],
            maps["setting"],
            broken if broken != state.broken else state.broken,
            maps["certificate"],
            maps["acme"],
        )

    @property
    def revision(self) -> str:
        """A word for this content, which no other content has."""
        return str(self.state.revision)

    def index(self, key: str) -> int:
        """The index of a key, 0 if it is not there."""
        entry = self.content.entries.get(key)
        return 0 if entry is None else entry.index


def read_meta(entries: Mapping[str, Entry], prefix: str) -> Meta:
    """The state of the tree.  Raises :class:`Unreadable`."""
    if META not in entries:
        return Meta()
    try:
        return msgspec.json.decode(entries[META].value, type=Meta)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise Unreadable(f"{prefix}{META}: expected JSON: {reason}") from None


def with_writes(
    content: Content, writes: Iterable[tuple[str, bytes | None]], index: int
) -> Content:
    """The content after keys were written."""
    entries = dict(content.entries)
    for key, value in writes:
        if value is None:
            entries.pop(key, None)
        else:
            entries[key] = Entry(value, index)
    return Content(max(content.index, index), entries)


def _changed(old: Mapping[str, Entry], new: Mapping[str, Entry]) -> list[str]:
    """The keys that differ, in their order."""
    if old is new:
        return []
    found = []
    get = old.get
    for key, entry in new.items():
        known = get(key)
        if known is not entry and known != entry:
            found.append(key)
    if len(new) != len(old) or found:
        found += [key for key in old if key not in new]
    return found


def _hash(key: str, entry: Entry | None) -> int:
    if entry is None:
        return 0
    name = f"{key}\0{entry.index}\0".encode()
    return int.from_bytes(blake2b(name + entry.value, digest_size=16).digest(), "big")
