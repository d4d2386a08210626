"""Which key of a shared tree holds what: the keys of upyun/slardar, and slardar's own beside them.

=========================================  ======================================================
key                                        value
=========================================  ======================================================
``upstreams/NAME``, ``services/NAME``      JSON
``routes``                                 JSON
``certificates/NAME``                      JSON: ``{"cert": PEM, "key": PEM}``
``lua/NAME``, ``python/NAME``              the code of the hook that is in service, as it is
``lua/version``, ``python/version``        what operators call the code, as it is
any other key                              a setting: JSON, or a text
``.slardar/meta``                          the version, and the last commit: :class:`Meta`
``.slardar/hooks/lua/NAME``                all that is known of a hook
``.slardar/marks/upstreams/NAME``          ``"removed"`` or ``"file"``; so for services and routes
``.slardar/file/NAME``                     what the configuration file says of something
``.slardar/acme/NAME``                     what the client of a CA keeps, as JSON
``.slardar/history/VERSION``               what a commit has changed
``.slardar/large/ID/NUMBER``               a part of what a large commit has changed
``.slardar/large/ID/secret/NUMBER``        a part of its values with private keys, until they are
                                           written
=========================================  ======================================================

The keys without ``.slardar`` are for everybody to read and to write; what stands there counts.
Everything here is a function of keys and values: nothing knows a server.
"""

from __future__ import annotations

import re
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, NamedTuple
from urllib.parse import unquote

import msgspec
from msgspec import Struct, structs

from slardar.model.change import IN_FILE, TO_FILE, Value
from slardar.model.hook import COMMIT_VERSION, Code, Hook, Time
from slardar.stores.tree import Entry

__all__ = [
    "HISTORY",
    "LARGE",
    "MAX_UNPACKED",
    "MAX_VERSION",
    "META",
    "OWN",
    "Meta",
    "Place",
    "Room",
    "TooLarge",
    "Unreadable",
    "pack",
    "place_of",
    "targets",
    "unpack",
    "value_at",
]

#: Everything below is slardar's own.
OWN = ".slardar/"
META = f"{OWN}meta"
HISTORY = f"{OWN}history/"
LARGE = f"{OWN}large/"
_MARKS = f"{OWN}marks/"
_FILE = f"{OWN}file/"
_HOOKS = f"{OWN}hooks/"
_ACME = f"{OWN}acme/"
_CERTIFICATES = "certificates/"

_LANGUAGES = ("lua", "python")
#: The kinds of which there may be a mark, by the first part of their keys.
_DECIDED = {"upstreams": "upstream", "services": "service"}
_SECTIONS = {**_DECIDED, "certificates": "certificate"}
#: First parts of keys that are no settings.
_RESERVED = (*_SECTIONS, *_LANGUAGES, ".slardar")
_REMOVED = "removed"

#: Names that are keys as they are, dots alone aside.
_PLAIN = re.compile(r"[A-Za-z0-9_:*-][A-Za-z0-9._:*-]*")
#: What may be the name of a module in a hook's code.
_MODULE = re.compile(r"\bmodules\.[A-Za-z_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_-])?")
#: Values of slardar's own keys that are longer are compressed.
_MAX_PLAIN = 4096
#: Bytes that a compressed value may have, unpacked.  A longer value is never compressed.
MAX_UNPACKED = 16 * 1024 * 1024
_PACKED = b"z64:"
#: What a part of JSON (an item, a list, an object) weighs beside its text, in bytes.
_PART = 32
#: The last version: programs that read JSON's numbers as floats tell no larger ones apart.
MAX_VERSION = 2**53 - 1

_Version = Annotated[int, msgspec.Meta(ge=0, le=MAX_VERSION)]


class Unreadable(Exception):
    """Why the value of a key cannot be read, in one line."""


class TooLarge(Unreadable):
    """A compressed value has more bytes than there is room for."""


class Meta(Struct, frozen=True, omit_defaults=True):
    """The state of the tree as slardars have left it.  Each commit writes it anew."""

    #: The version of the last commit.
    version: _Version = 0
    #: The random names of the last commits, the newest one first.
    commits: tuple[str, ...] = ()
    #: The oldest version whose state is known.
    oldest: _Version = 0
    #: The key of the last commit's record, below :data:`HISTORY`, if keys are still to be written.
    pending: str = ""
    #: How many of the record's keys are written.
    done: Annotated[int, msgspec.Meta(ge=0)] = 0
    #: Who made the last commit, and when (epoch seconds).
    who: str = ""
    time: Time = 0.0


class Place(NamedTuple):
    """What a key is about: a kind of things, or ``own``, and a name."""

    kind: str
    name: str
    #: The key, if slardar would write this name otherwise: nobody reads its value.
    misspelt: str = ""

    @property
    def path(self) -> str:
        """The key path, such as ``upstreams.www.example.com``."""
        if self.misspelt:
            return self.misspelt
        return Value(self.kind, self.name, None).path  # type: ignore[arg-type]


def quoted(name: str) -> str:
    """The part of a key that stands for a name.  Ordinary host names stay as they are.

    Otherwise a byte is ``%XX`` where a key cannot have the character or would have another meaning
    with it: control characters, ``%`` and ``/``.  Names of dots alone are quoted, too, and the
    empty name is ``%``.
    """
    if _PLAIN.fullmatch(name):
        return name
    if not name.strip("."):
        return "%2E" * len(name) or "%"
    return "".join(
        one
        if one.isprintable() and one not in "%/" and not "\ufff0" <= one <= "\uffff"
        else "".join(f"%{byte:02X}" for byte in one.encode())
        for one in name
    )


def _unquoted(part: str) -> str | None:
    """The name for a part of a key, ``None`` if slardar would write this name otherwise."""
    if _PLAIN.fullmatch(part):
        return part
    name = "" if part == "%" else unquote(part)
    return name if quoted(name) == part else None


def _setting_key(name: str) -> str:
    key = "/".join(map(quoted, name.split("/")))
    if name == "routes" or name.partition("/")[0] in _RESERVED:
        return f"%{ord(name[0]):02X}{key[1:]}"
    return key


def _setting_name(key: str) -> str | None:
    name = "/".join("" if part == "%" else unquote(part) for part in key.split("/"))
    return name if _setting_key(name) == key else None


def place_of(key: str) -> Place | None:
    """What a key is about; ``None`` if it is nobody's business: a folder, say."""
    head, slash, rest = key.partition("/")
    if not key or key.endswith("/"):
        return None
    if head == ".slardar":
        return _own_place(rest)
    if head in _RESERVED:
        if not slash:
            return None
        kind = _SECTIONS.get(head, "hook")
        before = f"{head}/" if kind == "hook" else ""
        name = _unquoted(rest)
        return Place(kind, before + rest, key) if name is None else Place(kind, before + name)
    if key == "routes":
        return Place("routes", "")
    name = _setting_name(key)
    return Place("setting", key, key) if name is None else Place("setting", name)


def _own_place(key: str) -> Place | None:
    head, _, rest = key.partition("/")
    if head in ("meta", "history", "large"):
        return Place("own", key)
    if head == "marks":
        section, _, rest = rest.partition("/")
        if section == "routes":
            return Place("routes", "")
        name = _unquoted(rest)
        if section in _DECIDED and name is not None:
            return Place(_DECIDED[section], name)
        return None
    name = _unquoted(rest)
    if head == "acme" and name:
        return Place("acme", name)
    if head == "file" and name:
        return Place("file", name)
    if head == "hooks":
        language, _, rest = rest.partition("/")
        name = _unquoted(rest)
        if name is not None:
            return Place("hook", name if language == "other" else f"{language}/{name}")
    return None


# Where a value is.


def _hook_keys(name: str) -> tuple[str, str]:
    """The key of a hook's code, empty if it can have none, and the key of all that is known."""
    language, _, rest = name.partition("/")
    if language in _LANGUAGES and rest:
        key = f"{language}/{quoted(rest)}"
        return key, _HOOKS + key
    return "", f"{_HOOKS}other/{quoted(name)}"


def _decided_keys(kind: str, name: str) -> tuple[str, str]:
    """The key of an upstream, a service or the routes, and of the mark that stands for it."""
    key = f"{kind}s/{quoted(name)}" if kind != "routes" else kind
    return key, _MARKS + key


def targets(change: Value, text: str | None) -> Iterator[tuple[str, bytes | None]]:
    """The keys that a change sets, each with its value, or ``None`` if it goes.  ``text`` is the
    JSON of the change's value."""
    kind, name = change.kind, change.name
    value = None if text is None else text.encode()
    if kind in IN_FILE:
        key, mark = _decided_keys(kind, name)
        meant = None if text is None else msgspec.json.decode(text)
        if meant is not None and meant != TO_FILE:
            yield key, value
            yield mark, None
        else:
            yield key, None
            # Routes that are removed and routes that were never set are the same.
            gone = None if kind == "routes" else f'"{_REMOVED}"'.encode()
            yield mark, f'"{TO_FILE}"'.encode() if meant == TO_FILE else gone
    elif kind == "hook":
        key, record = _hook_keys(name)
        meant = None if text is None else msgspec.json.decode(text)
        code = _code_in(name, meant)
        if key:
            yield key, None if code is None else code.encode()
        is_all = _is_version(name) and code is not None
        yield record, None if is_all or value is None else pack(value)
    elif kind == "setting" and name:
        yield _setting_key(name), value
    elif kind == "certificate" and name:
        yield _CERTIFICATES + quoted(name), value
    elif kind == "acme" and name:
        yield _ACME + quoted(name), None if value is None else pack(value)
    elif kind == "file" and name:
        yield _FILE + quoted(name), None if value is None else pack(value)


def _is_version(name: str) -> bool:
    return name.partition("/")[2] == COMMIT_VERSION


def _code_in(name: str, value: object) -> str | None:
    """The code in a hook's value that stands in the key of everybody."""
    if _is_version(name):
        return value if isinstance(value, str) else None
    active = value.get("active") if isinstance(value, dict) else None
    code = active.get("code") if isinstance(active, dict) else None
    return code if isinstance(code, str) else None


class Room:
    """How much of a tree may be read yet, in bytes of weight."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.taken = 0

    def take(self, value: bytes, is_json: bool = True) -> None:
        """Note that a value is read.  Raises :class:`TooLarge` if there is no room."""
        weight = len(value)
        if is_json:
            weight += _PART * sum(map(value.count, (b",", b"[", b"{")))
        if weight > self.left:
            raise TooLarge("no room for it: all keys together have too many bytes and items")
        self.left -= weight
        self.taken += weight


def value_at(
    place: Place, entries: Mapping[str, Entry], prefix: str, room: Room
) -> tuple[Any, bool]:
    """The value of a thing, and whether there is one: a removed upstream has the value ``None``.

    ``prefix`` is what stands before a key in the reason.  Raises :class:`Unreadable`, and
    :class:`TooLarge` if there is no room.
    """
    kind, name, misspelt = place
    if misspelt:
        if misspelt not in entries:
            return None, False
        raise Unreadable(
            f"{prefix}{misspelt}: expected a name here, with %XX for bytes that a name in a key"
            " cannot have"
        )
    if kind in IN_FILE:
        key, mark = _decided_keys(kind, name)
        if key in entries:
            return _json(key, entries[key].value, prefix, room), True
        if mark in entries:
            removed = _json(mark, entries[mark].value, prefix, room) != TO_FILE
            return (None if removed else TO_FILE), True
        return None, False
    if kind == "hook":
        value = _hook_at(name, entries, prefix, room)
    elif kind == "setting":
        value = _setting_at(_setting_key(name), entries, prefix, room)
    elif kind == "certificate":
        key = _CERTIFICATES + quoted(name)
        value = None if key not in entries else _json(key, entries[key].value, prefix, room)
    else:
        folder = _ACME if kind == "acme" else _FILE
        value = _own_json(folder + quoted(name), entries, prefix, room)
    return value, value is not None


def _own_json(key: str, entries: Mapping[str, Entry], prefix: str, room: Room) -> Any:
    """The JSON in a key of slardar's own, ``None`` if it is not there."""
    if key not in entries:
        return None
    try:
        text = unpack(entries[key].value, min(room.left, MAX_UNPACKED))
    except TooLarge as error:
        raise TooLarge(f"{prefix}{key}: {error}") from None
    return _json(key, text, prefix, room)


def _json(key: str, value: bytes, prefix: str, room: Room) -> Any:
    try:
        room.take(value)
        return msgspec.json.decode(value)
    except TooLarge as error:
        raise TooLarge(f"{prefix}{key}: {error}") from None
    except (ValueError, TypeError, RecursionError, MemoryError) as error:
        reason = "got nothing" if not value else " ".join(str(error).split())
        raise Unreadable(f"{prefix}{key}: expected JSON: {reason}") from None


def _text(key: str, value: bytes, prefix: str, room: Room) -> str:
    try:
        room.take(value, is_json=False)
        return value.decode()
    except TooLarge as error:
        raise TooLarge(f"{prefix}{key}: {error}") from None
    except UnicodeDecodeError as error:
        raise Unreadable(f"{prefix}{key}: expected UTF-8: {error}") from None


def _setting_at(key: str, entries: Mapping[str, Entry], prefix: str, room: Room) -> Any:
    if key not in entries:
        return None
    value = entries[key].value
    try:
        return _json(key, value, prefix, room)
    except TooLarge:
        raise
    except Unreadable:
        return _text(key, value, prefix, room)


def _hook_at(name: str, entries: Mapping[str, Entry], prefix: str, room: Room) -> Any:
    """A hook as slardar has written it, with the code that stands in the key of everybody."""
    key, record = _hook_keys(name)
    known = _own_json(record, entries, prefix, room)
    if key not in entries:
        # If slardar wrote some there, somebody has removed it, and so the hook.
        return None if key and _code_in(name, known) is not None else known
    code = _text(key, entries[key].value, prefix, room)
    if _is_version(name):
        return code.rstrip("\r\n")
    if _code_in(name, known) == code:
        return known
    # Somebody has written the code by hand.  When, nobody knows.
    language, _, rest = name.partition("/")
    try:
        hook = msgspec.convert(known, Hook)
    except msgspec.ValidationError:
        hook = Hook(language, rest)  # type: ignore[arg-type]
    previous = hook.active or hook.previous
    requires = tuple(sorted(set(_MODULE.findall(code))))
    hook = structs.replace(hook, active=Code.of(code, 0.0, requires), previous=previous)
    return msgspec.json.decode(msgspec.json.encode(hook))


# Values of slardar's own keys.


def pack(value: bytes) -> bytes:
    """A value in a form that is shorter, and text."""
    if not _MAX_PLAIN < len(value) <= MAX_UNPACKED:
        return value
    return _PACKED + b64encode(zlib.compress(value, 4))


def unpack(value: bytes, limit: int = MAX_UNPACKED) -> bytes:
    """What was packed.  Anything else comes back as it is.

    Raises :class:`TooLarge` beyond ``limit`` bytes, without making more of them: a thousandth of
    the bytes may be enough to write them.
    """
    if not value.startswith(_PACKED):
        return value
    try:
        reader = zlib.decompressobj()
        text = reader.decompress(b64decode(value[len(_PACKED) :]), limit + 1)
    except (ValueError, zlib.error):
        return value
    if len(text) > limit:
        raise TooLarge(f"expected at most {limit} bytes, unpacked")
    return text if reader.eof else value
