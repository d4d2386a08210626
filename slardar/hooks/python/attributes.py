"""The attributes that a hook may read and set, in a table by the exact type of the value.

No rule such as "every name without an underscore" gives access.  A type that is not in the
table has no attributes, and a name that is not in the table does not exist.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from types import MethodType
from typing import Any, Final

from slardar.hooks.budget import charge
from slardar.hooks.headers import Headers
from slardar.hooks.objects import READABLE, WRITABLE, Query
from slardar.hooks.python.limits import (
    ATOMS,
    CONTAINERS,
    ITERABLE,
    KEPT,
    MAX_ITEMS,
    SHOWN,
    SMALL,
    bounded,
    check_key,
    check_size,
    name_of,
    text_of,
)
from slardar.hooks.python.methods import METHODS, TEXT_METHODS, of_long_text
from slardar.hooks.settings import SettingEntry

__all__ = ["GUARDS", "Namespace", "Settings", "register"]

#: The readable names of each type.  A name with a function becomes a method, which is the
#: function with the value as its first argument.  A name with None is the value's attribute.
_ATTRIBUTES: Final[dict[type, Mapping[str, Callable[..., Any] | None]]] = {
    **METHODS,
    **{kind: dict.fromkeys(names) for kind, names in READABLE.items()},
}
_NO_ATTRIBUTES: Final[Mapping[str, None]] = {}
_SUBSCRIPTED: Final[set[type]] = {str, bytes, list, tuple, dict, range, *READABLE}
#: The types of keys that may ask for an item of anything but a dict.
_KEYS: Final = frozenset((str, int, bool, slice))
_TAKES_ITEMS: Final[frozenset[type]] = frozenset((dict, list, Headers, Query))
ITERABLE.update((Headers, Query))
SHOWN.update(READABLE)


def register(
    kind: type,
    names: str,
    functions: Mapping[str, Callable[..., Any]] | None = None,
    *,
    items: bool = False,
    text: bool = False,
) -> None:
    """Let hooks read the attributes ``names`` of values of a type.

    ``functions`` replace methods that must not get just any argument; they take the value
    first.  With ``items`` hooks may take items of a value, with ``text`` they may make a text
    of it.
    """
    _ATTRIBUTES[kind] = {**dict.fromkeys(names.split()), **(functions or {})}
    if items:
        _SUBSCRIPTED.add(kind)
    if text:
        SHOWN.add(kind)


class Namespace:
    """Names that a hook may read but not set, such as ``loads`` of ``json``.

    ``other`` makes the value of a name that is not there.  Without ``other``, reading such a
    name raises AttributeError.
    """

    __slots__ = ("name", "names", "other")

    def __init__(
        self, name: str, names: Mapping[str, Any], other: Callable[[str], Any] | None = None
    ) -> None:
        self.name = name
        self.names = names
        self.other = other

    def __repr__(self) -> str:
        return f"<{self.name}>"


class Settings:
    """A part of the settings, which a hook reads by attribute or by item."""

    __slots__ = ("data", "name")

    def __init__(self, data: Mapping[str, Any], name: str = "settings") -> None:
        #: Values that no hook can change.
        self.data = data
        self.name = name

    @classmethod
    def whole(cls, settings: Mapping[str, SettingEntry]) -> Settings:
        """All settings, as they are when a hook reads them."""
        return cls(_Forms(settings))

    def value(self, key: Any, missing: type[Exception]) -> Any:
        """One setting.  Raises ``missing`` if there is no such setting."""
        if type(key) is not str or key not in self.data:
            raise missing(f"expected one of the settings, there is no {self.name}.{_cut(key)}")
        return self.data[key]

    def __iter__(self) -> Any:
        return iter([key for key in self.data if type(key) is str])

    def __len__(self) -> int:
        return len(self.data)

    def __contains__(self, key: object) -> bool:
        return type(key) is str and key in self.data

    def __repr__(self) -> str:
        return f"<{self.name}>"

    # Methods that a hook may call.

    def get(self, key: Any, default: Any = None) -> Any:
        """One setting, or ``default``."""
        return self.value(key, KeyError) if key in self else default

    def keys(self) -> list[str]:
        """The names of the settings."""
        return list(self)

    def values(self) -> list[Any]:
        """The values of the settings."""
        return [self.value(key, KeyError) for key in self]

    def items(self) -> list[tuple[str, Any]]:
        """The name and the value of each setting."""
        return [(key, self.value(key, KeyError)) for key in self]


class _Forms(Mapping[str, Any]):
    """The values of settings.  Each is made ready when it is first read."""

    def __init__(self, settings: Mapping[str, SettingEntry]) -> None:
        self._settings = settings

    def __getitem__(self, key: str) -> Any:
        entry = self._settings[key]
        if entry.form is None:
            entry.form = frozen(json.loads(entry.text), f"settings.{key}")
        return entry.form

    def __contains__(self, key: object) -> bool:
        return key in self._settings

    def __iter__(self) -> Iterator[str]:
        return iter(self._settings)

    def __len__(self) -> int:
        return len(self._settings)


def frozen(value: Any, name: str) -> Any:
    """A value from JSON in a form that a hook cannot change."""
    if type(value) is dict:
        return Settings({key: frozen(one, f"{name}.{key}") for key, one in value.items()}, name)
    if type(value) is list:
        return tuple(frozen(one, name) for one in value)
    return value


register(Settings, "get items keys values", items=True, text=True)
ITERABLE.add(Settings)
SHOWN.add(Namespace)


def _cut(value: Any) -> str:
    return ascii(value[:60])[1:-1] if type(value) is str else name_of(value)


def read(value: Any, name: str) -> Any:
    """``value.name``.  Raises AttributeError for a name that is not in the table."""
    kind = type(value)
    try:
        function = _ATTRIBUTES[kind][name]
    except KeyError:
        return _read_other(value, kind, name)
    return getattr(value, name) if function is None else MethodType(function, value)


def _read_other(value: Any, kind: type, name: str) -> Any:
    if kind in TEXT_METHODS and name in TEXT_METHODS[kind]:
        return getattr(value, name) if len(value) <= SMALL else of_long_text(value, name)
    if kind is Namespace:
        if name in value.names:
            return value.names[name]
        if value.other is not None:
            return value.other(name)
        raise AttributeError(f"{value.name} has no {name} in hooks")
    if kind is Settings:
        return value.value(name, AttributeError)
    if name == "args" and isinstance(value, Exception):
        # An error that Python raised may hold any object.
        return tuple(one if type(one) in ATOMS else text_of(one) for one in value.args[:100])
    if name in ("format", "format_map"):
        raise AttributeError(f"expected an f-string instead of .{name}")
    raise AttributeError(f"{name_of(value)} has no attribute {name} in hooks")


def write(value: Any, name: str) -> Any:
    """The object on which ``value.name = ...`` sets the attribute.  Raises AttributeError."""
    names = WRITABLE.get(type(value))
    if names is None or name not in names:
        raise AttributeError(f"the attribute {name} of {name_of(value)} cannot be set")
    return value


def read_item(value: Any, key: Any) -> Any:
    """``value[key]``."""
    kind = type(value)
    if kind is dict:
        return value[key if type(key) is str else check_key(key)]
    if kind is Settings:
        return value.value(key, KeyError)
    if kind not in _SUBSCRIPTED:
        raise TypeError(f"{name_of(value)} has no items in hooks")
    if type(key) not in _KEYS:
        # Hashing any other key may never end.
        raise TypeError(f"expected an integer, a name or a slice, got {name_of(key)}")
    made = value[key]
    if type(key) is slice and len(made) > SMALL and kind is not range:
        bounded(made)
    return made


def write_item(value: Any) -> Any:
    """The object on which ``value[key] = ...`` sets the item."""
    kind = type(value)
    if kind not in _TAKES_ITEMS:
        raise TypeError(f"the items of {name_of(value)} cannot be set")
    if kind is dict:
        if len(value) >= MAX_ITEMS:
            check_size(len(value) + 1)
        charge(KEPT)
    return value


def change_item(value: Any, key: Any, apply: Callable[[Any, Any], Any], other: Any) -> None:
    """``value[key] += other`` and the like; ``apply`` is the operator."""
    made = apply(read_item(value, key), other)
    write_item(value)[key] = made


def change(value: Any, name: str, apply: Callable[[Any, Any], Any], other: Any) -> None:
    """``value.name += other`` and the like; ``apply`` is the operator."""
    made = apply(read(value, name), other)
    setattr(write(value, name), name, made)


def check_iterator(items: list[Any]) -> Any:
    """A generator expression, whose items were all computed at once."""
    return iter(items)


#: The guards, by the names that the policy writes into the code.
GUARDS: Final[dict[str, Callable[..., Any]]] = {
    "_getattr_": read,
    "_write_": write,
    "_getitem_": read_item,
    "_writeitem_": write_item,
    "_changeitem_": change_item,
    "_change_": change,
    "_iter_": check_iterator,
}

assert CONTAINERS <= ITERABLE
