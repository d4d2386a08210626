"""Settings that hooks read, as ``slardar.NAME`` in Lua and ``settings["NAME"]`` in Python.

A setting is any JSON value.  A slash in its name leads into a setting: ``limits/burst`` is the key
``burst`` of the setting ``limits``.  What such a name sets wins over what the value of ``limits``
has there.

A value may be a secret, so no message here shows one.
"""

from __future__ import annotations

import json
from collections.abc import Container, Mapping
from typing import Any, Final

from slardar.errors import ConfigError
from slardar.model.reader import shown

__all__ = [
    "MAX_SETTING",
    "MAX_SETTINGS",
    "MAX_TOTAL",
    "check_setting_name",
    "is_of_settings",
    "parse_setting",
    "settings_in_use",
]

#: Bytes of one value as JSON, with all that names lead into it; and of the values of all settings.
#: A hook that reads a setting pays for it with its CPU time, and every worker has all of them in
#: memory.
MAX_SETTING: Final = 64 << 10
MAX_TOTAL: Final = 1 << 20
#: Settings.
MAX_SETTINGS: Final = 1000
#: Levels of lists and objects in a value, parts of a name, and characters of a name.
_MAX_DEPTH: Final = 32
_MAX_PARTS: Final = 16
_MAX_NAME: Final = 255
#: Characters of a key path in a message; those of names that a setting can have are shorter.
_MAX_WHERE: Final = 300
#: Integers have at most 64 bits.
_MIN_INTEGER: Final = -(1 << 63)
_MAX_INTEGER: Final = (1 << 64) - 1

#: What ``slardar`` in Lua has already.
_OF_LUA: Final = frozenset(("exit", "set_cluster_key", "set_hash_key", "set_upstream"))
#: Where stores that are trees of keys keep other things.
_OF_STORES: Final = frozenset(
    ("certificates", "lua", "python", "routes", "services", "streams", "upstreams")
)


def check_setting_name(name: str, where: str) -> None:
    """Raises ConfigError if no setting can have this name."""
    parts = name.split("/")
    problem = ""
    if not all(parts) or not name.isprintable() or len(name) > _MAX_NAME:
        problem = (
            f"expected a name of at most {_MAX_NAME} printable characters, with something between"
            " slashes"
        )
    elif len(parts) > _MAX_PARTS:
        problem = f"expected a name of at most {_MAX_PARTS} parts"
    elif parts[0] in _OF_LUA:
        problem = f"slardar.{parts[0]} is a function of Lua hooks: expected another name"
    elif parts[0] in _OF_STORES:
        problem = f"stores keep other things under {parts[0]}: expected another name"
    if problem:
        raise ConfigError(f"{where}: {problem}")


def parse_setting(name: str, value: object, where: str) -> str:
    """The JSON text of a setting, in ASCII, the same for equal values.

    Raises ConfigError for a name that no setting can have, and for a value that is no JSON, or
    exceeds a limit.
    """
    check_setting_name(name, where)
    if value is None:
        raise ConfigError(f"{where}: expected a value, got null")
    problem = _Walk().problem(value, 0)
    text = ""
    if not problem:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"))
        if len(text) > MAX_SETTING:
            problem = _TOO_LARGE
    if problem:
        raise ConfigError(f"{where}: {problem}")
    return text


_TOO_LARGE: Final = f"expected at most {MAX_SETTING} bytes of JSON"


class _Walk:
    """Looks at each part of a value, of which there may be as many as bytes in its text."""

    def __init__(self) -> None:
        self._left = MAX_SETTING

    def problem(self, value: object, depth: int) -> str:
        """What is wrong with a part; empty if nothing is."""
        self._left -= 1
        if self._left < 0:
            return _TOO_LARGE
        kind = type(value)
        if value is None or kind is bool:
            return ""
        if kind is str:
            return self._of_text(value)  # type: ignore[arg-type]
        if kind is int:
            fits = _MIN_INTEGER <= value <= _MAX_INTEGER  # type: ignore[operator]
            return "" if fits else "expected integers of at most 64 bits"
        if kind is float:
            # Neither NaN nor infinite.
            return "" if value - value == 0 else "expected numbers that are finite"  # type: ignore[operator]
        if kind not in (dict, list):
            return f"expected JSON, got {kind.__name__}"
        if depth >= _MAX_DEPTH:
            return f"expected at most {_MAX_DEPTH} levels of lists and objects"
        if kind is list:
            return self._first((item, depth) for item in value)  # type: ignore[attr-defined]
        return self._of_object(value, depth)  # type: ignore[arg-type]

    def _of_object(self, value: Mapping[Any, object], depth: int) -> str:
        for key in value:
            if type(key) is not str:
                return "expected keys that are texts; put them in quotes"
            problem = self._of_text(key)
            if problem:
                return problem
        return self._first((item, depth) for item in value.values())

    def _first(self, items: Any) -> str:
        for item, depth in items:
            problem = self.problem(item, depth + 1)
            if problem:
                return problem
        return ""

    def _of_text(self, text: str) -> str:
        self._left -= len(text)
        if self._left < 0:
            return _TOO_LARGE
        try:
            text.encode()
        except UnicodeEncodeError:
            return "expected text in UTF-8"
        return ""


def settings_in_use(
    given: Mapping[str, str],
    stored: Mapping[str, object],
    held: Mapping[str, object],
    served: Mapping[str, str],
    known_failed: Container[str] = (),
) -> tuple[Mapping[str, str], dict[str, str]]:
    """The settings that hooks read, as JSON texts by name; and why others are left out, in one
    line, by key path.

    ``given`` are those of the file, as :func:`parse_setting` made them; ``stored`` those of a
    store, which win.  ``served`` are the present ones, made from the settings ``held`` of the
    store, of which ``known_failed`` could not be used.  A value that cannot be used leaves the one
    in use; if nothing has changed, the mapping that is served comes back.
    """
    failed: dict[str, str] = {}
    texts = dict(given)
    for name, value in stored.items():
        # A name that ends so is a folder of Consul's.
        if value is None or name.endswith("/"):
            continue
        known = served.get(name)
        where = _cut(f"settings.{name}")
        if known is not None and value is held.get(name) and where not in known_failed:
            texts[name] = known
            continue
        try:
            texts[name] = parse_setting(name, value, where)
        except ConfigError as error:
            failed[where] = " ".join(str(error).split())
            if known is not None:
                texts[name] = known
    found: dict[str, str] = {}
    total, left_out = 0, []
    sizes: dict[str, int] = {}
    # A name comes before those that lead into it.
    for name in sorted(texts, key=lambda name: name.split("/")):
        parts = name.split("/")
        above = ("/".join(parts[:count]) for count in range(1, len(parts)))
        above_it = next((one for one in above if found.get(one, "{")[0] != "{"), None)
        text = texts[name]
        size = sizes.get(parts[0], 0) + len(text)
        if len(parts) > 1:
            # Each part becomes a key, with quotes and braces.
            size += len(json.dumps(name)) + 8 * len(parts)
        if above_it is not None:
            failed[f"settings.{name}"] = (
                f"settings.{name}: left out, for settings.{above_it} is no object"
            )
        elif size > MAX_SETTING:
            failed[f"settings.{name}"] = (
                f"settings.{name}: left out, for with it settings.{parts[0]} has more than"
                f" {MAX_SETTING} bytes of JSON"
            )
        elif len(found) >= MAX_SETTINGS or total + len(text) > MAX_TOTAL:
            left_out.append(name)
        else:
            found[name] = text
            sizes[parts[0]] = size
            total += len(text)
    if left_out:
        failed["settings"] = (
            f"settings: expected at most {MAX_SETTINGS} of them, with {MAX_TOTAL} bytes of JSON;"
            f" left out: {shown(left_out[0])}"
            + (f" and {len(left_out) - 1} more" if len(left_out) > 1 else "")
        )
    return (served if found == served else found), failed


def is_of_settings(where: str) -> bool:
    """Whether a key path is that of a setting, or of all of them."""
    return where == "settings" or where.startswith("settings.")


def _cut(text: str) -> str:
    return text if len(text) <= _MAX_WHERE else f"{text[:_MAX_WHERE]}..."
