"""What a commit has changed, as a shared tree keeps it: for the history, and for commits that are
too large for one write."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Raw, Struct

from slardar.errors import StoreError
from slardar.model.change import SECRET, Change, Recorded, StoredState, Value
from slardar.model.hook import Time
from slardar.stores.layout import (
    HISTORY,
    LARGE,
    Meta,
    Unreadable,
    pack,
    targets,
    unpack,
)
from slardar.stores.tree import Entry
from slardar.stores.written import (
    Row,
    kept_rows,
    kept_text,
    no_such_version,
    paged,
    place_in_file,
)

__all__ = [
    "HISTORY_BYTES",
    "Journal",
    "Known",
    "Record",
    "forgettable",
    "known_texts",
    "large_parts",
    "made_record",
    "pages",
    "read_record",
    "read_secrets",
    "record_key",
    "records",
    "secret_keys",
    "secret_parts",
    "state_before",
]

#: The values of things, by kind and name.
Known = dict[tuple[str, str], Any]

#: Bytes of all values of the history, at most: a commit more is kept until the next one.
HISTORY_BYTES = 1024 * 1024
#: Records that one commit forgets, at most.
_FORGOTTEN = 8
#: Keys that one commit removes because nobody needs them any more, at most.
_REMOVED = 40

_NULL = Raw(b"null")
#: Digits of the version in a record's key.
_DIGITS = 20


class Line(Struct, frozen=True, array_like=True):
    """One change."""

    kind: str
    name: str
    who: str
    time: Time
    place: str
    #: ``null`` if the thing was removed.
    value: Raw
    #: The value before, and whether there was one.
    old: Raw = _NULL
    was_set: bool = False

    @property
    def change(self) -> Change:
        """The change without its value."""
        return Change(self.kind, self.name, None, self.who, self.time, self.place)  # type: ignore[arg-type]


class Record(Struct, frozen=True, omit_defaults=True):
    """The changes of one commit."""

    version: int
    #: The random name of the commit.
    commit: str
    lines: tuple[Line, ...] = ()
    #: Of a commit that is too large for one write: the keys that it changes, each with the index
    #: that it had before, 0 for a new one.
    keys: tuple[tuple[str, int], ...] = ()


def _raw(text: str | None) -> Raw:
    return _NULL if text is None else Raw(text.encode())


def _text(raw: Raw) -> str | None:
    text = bytes(raw).decode()
    return None if text == "null" else text


def made_record(
    version: int, commit: str, rows: Sequence[tuple[Change, str | None]], known: Known
) -> Record:
    """The record of changes to a state with the values ``known``; ``rows`` have the JSON of the new
    values.  It has what a history keeps: no private key."""
    lines = []
    now: dict[tuple[str, str], str | None] = {}
    for one, text in kept_rows(rows):
        thing = (one.kind, one.name)
        was_set = thing in now or thing in known
        old = None
        if thing in now:
            old = now[thing]
        elif was_set and known[thing] is not None:
            old = kept_text(one.kind, msgspec.json.encode(known[thing]).decode())
        lines.append(
            Line(*thing, one.who, one.time, one.place, _raw(text), _raw(old), was_set),
        )
        now[thing] = text
    return Record(version, commit, tuple(lines))


# The keys of records.


def record_key(version: int, large: str = "") -> str:
    """The key of a commit's record; ``large`` is the commit's name if the record is in parts."""
    return f"{HISTORY}{version:0{_DIGITS}d}{'.' if large else ''}{large}"


def records(keys: Iterable[str], meta: Meta) -> list[tuple[int, str]]:
    """The versions that have a record, in order, each with its key."""
    found = []
    for key in keys:
        if key.startswith(HISTORY):
            number, _, _ = key[len(HISTORY) :].partition(".")
            if len(number) == _DIGITS and number.isdecimal() and number.isascii():
                version = int(number)
                if meta.oldest < version <= meta.version:
                    found.append((version, key))
    return sorted(found)


def large_name(key: str) -> str:
    """The name of the large commit that a record's key, or the key of a part, belongs to."""
    if key.startswith(LARGE):
        return key[len(LARGE) :].partition("/")[0]
    return key[len(HISTORY) :].partition(".")[2]


def large_parts(record: Record, size: int) -> Iterator[tuple[str, bytes]]:
    """The parts of a large record, with at most ``size`` bytes each."""
    whole = pack(msgspec.json.encode(record))
    for number, start in enumerate(range(0, len(whole), size)):
        yield f"{LARGE}{record.commit}/{number:06d}", whole[start : start + size]


def _secret_place(commit: str) -> str:
    return f"{LARGE}{commit}/secret/"


def secret_parts(
    commit: str, rows: Sequence[tuple[Change, str | None]], size: int
) -> Iterator[tuple[str, bytes]]:
    """What a large commit writes and its record does not tell: the values with private keys, in
    parts with at most ``size`` bytes each.  They go when the commit is finished."""
    values: dict[str, str | None] = {}
    for one, text in rows:
        if one.kind in SECRET:
            written = targets(one, text)
            values.update(
                (key, None if value is None else value.decode()) for key, value in written
            )
    if values:
        whole = pack(msgspec.json.encode(values))
        for number, start in enumerate(range(0, len(whole), size)):
            yield f"{_secret_place(commit)}{number:06d}", whole[start : start + size]


def secret_keys(pending: str, keys: Iterable[str]) -> list[str]:
    """The keys of these parts, for the large commit whose record is at ``pending`` below
    :data:`HISTORY`."""
    place = _secret_place(large_name(HISTORY + pending))
    return sorted(key for key in keys if key.startswith(place))


def read_secrets(pending: str, entries: Mapping[str, Entry]) -> dict[str, bytes | None]:
    """The values in these parts by key; none if parts are gone: the commit is finished then."""
    whole = b"".join(entries[key].value for key in secret_keys(pending, entries))
    try:
        values = msgspec.json.decode(unpack(whole), type=dict[str, str | None])
    except (ValueError, TypeError, RecursionError, Unreadable):
        return {}
    return {key: None if text is None else text.encode() for key, text in values.items()}


def read_record(key: str, entries: Mapping[str, Entry], prefix: str) -> Record:
    """The record under a key.  Raises StoreError if it is not there, or cannot be read."""
    try:
        value = entries[key].value
        name = large_name(key)
        if name:
            count = msgspec.json.decode(value, type=int)
            parts = [entries[f"{LARGE}{name}/{number:06d}"].value for number in range(count)]
            value = b"".join(parts)
        return msgspec.json.decode(unpack(value), type=Record)
    except KeyError as error:
        raise StoreError(f"{prefix}{error.args[0]}: a part of the history is gone") from None
    except (ValueError, TypeError, RecursionError, Unreadable) as error:
        reason = " ".join(str(error).split())
        raise StoreError(f"{prefix}{key}: expected a record of changes: {reason}") from None


def forgettable(
    entries: Mapping[str, Entry],
    meta: Meta,
    new: str,
    size: int,
    kept: int,
    room: int,
    space: int,
) -> tuple[int, list[str]]:
    """What a commit removes: old records if there are more than ``kept``, or if they are too large,
    records that mean nothing, and parts of records that are gone.

    ``new`` is the key of the commit's own record, empty if it has none; ``size`` is that of its
    writes.  There is ``room`` for so many removals, whose keys have ``space`` bytes.  Returns the
    oldest version whose state is known then, and the keys.
    """
    own = {key: len(one.value) for key, one in entries.items() if key.startswith((HISTORY, LARGE))}
    found = records(own, meta)
    oldest, count, total = meta.oldest, len(found) + bool(new), sum(own.values()) + size
    used = {new, *(key for _, key in found)}
    used.update([large_name(key) for key in used])
    removed: dict[str, None] = {}
    room = min(room, _REMOVED)

    def remove(key: str) -> bool:
        nonlocal space
        if len(removed) >= room or space < len(key):
            return False
        space -= len(key)
        removed[key] = None
        return True

    for version, key in found[:_FORGOTTEN]:
        if (count <= kept and total <= HISTORY_BYTES) or not remove(key):
            break
        name = large_name(key)
        parts = [one for one in own if name and one.startswith(f"{LARGE}{name}/")]
        used -= {name, key}
        oldest, count = version, count - 1
        total -= own[key] + sum(own[one] for one in parts)
    for key in own:
        user = key if key.startswith(HISTORY) else large_name(key)
        if user not in used and key not in removed:
            # A key that is too long for the room left must not keep the others.
            remove(key)
    return oldest, list(removed)


# A commit that is too large for one write.


class Journal:
    """The keys of a large commit, which are written one after the other.

    ``values`` are those that the record does not tell, by key.
    """

    def __init__(self, record: Record, values: Mapping[str, bytes | None]) -> None:
        values = dict(values)
        for line in record.lines:
            if line.kind in SECRET:
                continue
            text = _text(line.value)
            values.update(targets(Value(line.kind, line.name, None), text))  # type: ignore[arg-type]
        #: Key, the index before, and the value.
        # A key that none of the changes sets is not slardar's: it is left alone.
        self.keys = [(key, index, values[key]) for key, index in record.keys if key in values]
        self._entries = {
            key: None if value is None else Entry(value, 0) for key, _, value in self.keys
        }

    def left(
        self, start: int, entries: Mapping[str, Entry]
    ) -> Iterator[tuple[int, str, int, bytes | None]]:
        """The keys from number ``start`` on that nobody has written meanwhile: number, key, index
        and value."""
        for number in range(start, len(self.keys)):
            key, index, value = self.keys[number]
            entry = entries.get(key)
            if index == (0 if entry is None else entry.index):
                yield number, key, index, value

    def overlaid(self, start: int, entries: Mapping[str, Entry]) -> dict[str, Entry]:
        """The entries as they are once the keys from number ``start`` on are written."""
        found = dict(entries)
        for _, key, _, _ in self.left(start, entries):
            entry = self._entries[key]
            if entry is None:
                found.pop(key, None)
            else:
                found[key] = entry
        return found


# The past.


def known_texts(known: Known) -> dict[tuple[str, str], str | None]:
    """The values of things as JSON."""
    return {
        thing: None if value is None else msgspec.json.encode(value).decode()
        for thing, value in known.items()
    }


def _undo(line: Line, things: dict[tuple[str, str], Any], old: Any) -> None:
    """Take back one change."""
    if line.was_set:
        things[line.kind, line.name] = old
    else:
        things.pop((line.kind, line.name), None)


def pages(
    found: Sequence[tuple[int, str]],
    entries: Mapping[str, Entry],
    files: Mapping[str, Any],
    before: int | None,
    limit: int,
    prefix: str,
) -> list[Recorded]:
    """See :meth:`slardar.interfaces.IStore.history`.  ``found`` are the records, ``files`` what the
    file says now.  Raises StoreError."""
    texts: dict[tuple[str, str], Any] = known_texts(
        {("file", name): value for name, value in files.items()}
    )

    def versions() -> Iterator[list[Row]]:
        for version, key in reversed(found):
            rows = []
            for line in reversed(read_record(key, entries, prefix).lines):
                old = _text(line.old)
                if line.kind == "file":
                    _undo(line, texts, old)
                said = texts.get(("file", place_in_file(line.kind, line.name)))
                rows.append(Row(version, line.change, _text(line.value), old, line.was_set, said))
            if before is None or version < before:
                yield rows[::-1]

    return paged(versions(), limit)


def state_before(
    state: StoredState,
    known: Known,
    found: Sequence[tuple[int, str]],
    entries: Mapping[str, Entry],
    version: int,
    meta: Meta,
    prefix: str,
) -> StoredState:
    """The state that ``version`` left: the present one, with its values ``known``, without the
    changes that are recorded since.  Raises NotFoundError or StoreError."""
    if not meta.oldest <= version <= meta.version:
        raise no_such_version(version, meta.oldest, meta.version)
    things = dict(known)
    broken = dict(state.broken)
    for made, key in reversed(found):
        if made <= version:
            break
        for line in reversed(read_record(key, entries, prefix).lines):
            _undo(line, things, msgspec.json.decode(line.old))
            broken.pop(line.change.path, None)
    named: dict[str, dict[str, Any]] = {}
    for (kind, name), value in things.items():
        named.setdefault(kind, {})[name] = value
    return StoredState(
        version,
        named.get("upstream", {}),
        named.get("routes", {}).get(""),
        named.get("hook", {}),
        0,
        named.get("file", {}),
        named.get("service", {}),
        named.get("setting", {}),
        broken,
    )
