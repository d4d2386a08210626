"""Reads plain objects (from JSON or YAML) into frozen structures, with every mistake.

msgspec stops at the first mistake; a person who wrote a file wants to see all mistakes at
once, each with the key's path.  So the functions here walk the fields of the structures,
and msgspec converts the leaves.
"""

from __future__ import annotations

import difflib
import json
import re
import types
import typing
from collections.abc import Container, Mapping
from functools import lru_cache
from typing import Annotated, Any, TypeVar

import msgspec

from slardar.errors import ConfigError

__all__ = [
    "ANY_KEY",
    "Problems",
    "UnknownKey",
    "is_note",
    "joined",
    "read",
    "read_partly",
    "read_right",
    "shown",
]

_Struct = TypeVar("_Struct", bound=msgspec.Struct)


#: A key without meaning: the structure in which it was found, and its name.
UnknownKey = tuple[str, str]


class _AnyKey:
    def __contains__(self, key: object) -> bool:
        return True


#: Lets every key pass: for data from stores, in which unknown keys are no mistake.
ANY_KEY: Container[UnknownKey] = _AnyKey()


def is_note(key: object) -> bool:
    """Whether a key is a note of its writer (``x_owner``), which is kept and means nothing."""
    return isinstance(key, str) and key.startswith("x_")


class Problems:
    """Collects one line for each mistake; ``raise_if_any`` ends the reading.

    Unknown keys are mistakes, except the keys in ``passes``.
    """

    def __init__(self, passes: Container[UnknownKey] = ()) -> None:
        self.lines: list[str] = []
        self.passes = passes
        #: The unknown keys in ``passes`` that were found, each with a line that names it.
        self.passed: list[tuple[UnknownKey, str]] = []

    def unknown(self, structure: str, key: object, path: str, message: str) -> None:
        """Note an unknown key of a structure; ``message`` says that it is unknown."""
        found = (structure, str(key))
        if found in self.passes:
            self.passed.append((found, f"{path}: {message}"))
        else:
            self.add(path, message)

    def add(self, path: str, message: str) -> None:
        """Add a mistake: ``message`` says what was expected at ``path``."""
        self.lines.append(f"{path}: {message}" if path else message)

    def add_first(self, path: str, message: str) -> None:
        """Add a mistake, unless ``path`` has one already."""
        if not any(line.startswith(f"{path}: ") for line in self.lines):
            self.add(path, message)

    def raise_if_any(self) -> None:
        """Raises :class:`ConfigError` with everything that was collected."""
        if self.lines:
            raise ConfigError(self.lines)


def shown(value: object) -> str:
    """A value for a message: as JSON, at most 60 characters."""
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError, RecursionError):
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."


@lru_cache(maxsize=64)
def _fields(cls: Any) -> dict[str, tuple[str, Any, bool]]:
    """``{key as written: (attribute, type, required)}`` of a structure."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {
        field.encode_name: (field.name, hints[field.name], field.required)
        for field in msgspec.structs.fields(cls)
    }


def read(cls: type[_Struct], raw: object, path: str, problems: Problems) -> _Struct | None:
    """``raw`` as a ``cls``; or ``None``, after adding every mistake to ``problems``."""
    try:
        # msgspec alone is some twenty times as fast, and most input has no mistake.
        return msgspec.convert(raw, cls)
    except (msgspec.ValidationError, RecursionError):
        pass
    before = len(problems.lines)
    values = _walk(cls, raw, path, problems)
    return cls(**values) if len(problems.lines) == before else None


def read_partly(cls: type[_Struct], raw: object, path: str, problems: Problems) -> _Struct:
    """``raw`` as a ``cls`` without its wrong keys; every key of ``cls`` needs a default."""
    return cls(**_walk(cls, raw, path, problems))


def read_right(cls: type[msgspec.Struct], raw: object) -> dict[str, Any]:
    """The attributes of ``cls`` that have no mistake in ``raw``."""
    return _walk(cls, raw, "", Problems())


def _walk(cls: Any, raw: object, path: str, problems: Problems) -> dict[str, Any]:
    """The attributes of ``cls`` that have no mistake in ``raw``; mistakes are added to
    ``problems``."""
    if not isinstance(raw, Mapping):
        problems.add(path, f"expected an object, got {shown(raw)}")
        return {}
    fields = _fields(cls)
    values: dict[str, Any] = {}
    for key, value in raw.items():
        known = fields.get(key) if isinstance(key, str) else None
        if known is None:
            if is_note(key):
                continue
            hint = "unknown key" + _hint(key, fields)
            if key in getattr(cls, "later", ()):
                hint = f"{key} is not available yet"
            elif key in getattr(cls, "elsewhere", ()):
                hint = cls.elsewhere[key]
            problems.unknown(cls.__name__, key, joined(path, key), hint)
            continue
        attribute, kind, _ = known
        before = len(problems.lines)
        read_value = _value(kind, value, joined(path, key), problems)
        if len(problems.lines) == before:
            values[attribute] = read_value
    for key, (_, _, required) in fields.items():
        if required and key not in raw:
            problems.add(joined(path, key), "is missing")
    return values


def joined(path: str, key: object) -> str:
    """The path of ``key`` in the object at ``path``, on one line for any key."""
    if isinstance(key, str) and _PLAIN_KEY.fullmatch(key):
        return f"{path}.{key}" if path else key
    return f"{path}[{shown(key)}]"


_PLAIN_KEY = re.compile(r"[-*.\w]{1,255}", re.ASCII)


def _value(kind: Any, value: object, path: str, problems: Problems) -> Any:
    """One value of a field: a structure, a list or an object of values, or a leaf."""
    if value is not None:
        kind = _struct_for(kind, value)
    if _is_struct(kind):
        return read(kind, value, path, problems)
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        before = len(problems.lines)
        found = _look_inside(kind, value, path, problems)
        if len(problems.lines) > before:
            return None
        if found is None:
            problems.add(path, f"expected {_expected(kind, str(error))}, got {shown(value)}")
        return found


def _look_inside(kind: Any, value: object, path: str, problems: Problems) -> Any:
    """Add the mistakes in the items of a list or object, if ``kind`` is one.

    Returns the value if its items have no mistake (structures with keys that pass, or an
    object without its notes); else ``None``.
    """
    plain = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    arguments = typing.get_args(plain)
    if typing.get_origin(plain) is tuple and isinstance(value, (list, tuple)):
        items = tuple(
            _value(arguments[0], item, f"{path}[{index}]", problems)
            for index, item in enumerate(value)
        )
        return items if _is_struct(arguments[0]) else None
    if typing.get_origin(plain) is dict and isinstance(value, Mapping):
        rest = {
            key: _value(arguments[1], item, joined(path, key), problems)
            for key, item in value.items()
            if not is_note(key)
        }
        return rest if len(rest) < len(value) else None
    return None


def _struct_for(kind: Any, value: object) -> Any:
    """The structure that ``kind`` is if it is not ``None``, or if ``value`` is an object; else
    ``kind`` itself."""
    plain = typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind
    if typing.get_origin(plain) not in (types.UnionType, typing.Union):
        return kind
    arguments = [one for one in typing.get_args(plain) if one is not type(None)]
    structs = [one for one in arguments if _is_struct(one)]
    if len(structs) == 1 and (len(arguments) == 1 or isinstance(value, Mapping)):
        return structs[0]
    return kind


def _is_struct(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, msgspec.Struct)


def _expected(kind: Any, message: str) -> str:
    """What a field expects: its own description, else msgspec's words."""
    for note in getattr(kind, "__metadata__", ()):
        if isinstance(note, msgspec.Meta) and note.description:
            return note.description
    for argument in typing.get_args(kind):
        for note in getattr(argument, "__metadata__", ()):
            if isinstance(note, msgspec.Meta) and note.description:
                return note.description
    if typing.get_origin(kind) is typing.Literal:
        return "one of " + ", ".join(str(choice) for choice in typing.get_args(kind))
    if typing.get_origin(kind) is tuple:
        return "a list"
    words = message.partition(" - at ")[0].partition(", got ")[0]
    words = words.replace("`", "").removeprefix("Expected ")
    return " or ".join(_PLAIN_WORDS.get(word, word) for word in words.split(" | "))


_PLAIN_WORDS = {
    "array": "a list",
    "bool": "true or false",
    "float": "a number",
    "int": "an integer",
    "object": "an object",
    "str": "a string",
}


def _hint(key: object, fields: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(str(key), list(fields), n=1)
    return f' (did you mean "{close[0]}"?)' if close else ""
