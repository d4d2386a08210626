"""A diff that a person can read, of two JSON values: an upstream, routes, a hook.

One line for each difference: ``servers.127.0.0.1:8001.weight: 1 -> 5``, ``+ keepalive: 16``,
``- servers.127.0.0.1:8002: {...}``.  Servers are told apart by host and port, the items of other
lists by what they are.  Of a text with several lines, such as a hook's code, the lines that differ
are shown.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from difflib import SequenceMatcher
from itertools import islice
from typing import Any

import msgspec

from slardar.model.names import host_port
from slardar.model.shown import HIDDEN, hidden, secrets

__all__ = ["diff"]

#: Lines of a diff, and characters of a line, at most.
_MAX_LINES = 200
_MAX_LINE = 200
#: Bytes of JSON, of both values together, that are compared.  This many take some 20 ms.
_MAX_SIZE = 1024 * 1024
#: Lines of a text, or items of a list, of both sides, that are aligned with each other.  The time
#: for it may grow with the square of their number.
_MAX_ALIGNED = 400
_ABSENT: Any = object()


def diff(old: object, new: object) -> str:
    """The differences, a line each; empty if there are none.  ``None`` stands for no value.

    Of passwords and secrets it shows only that they differ.
    """
    size = len(msgspec.json.encode(old)) + len(msgspec.json.encode(new))
    if size > _MAX_SIZE:
        return "" if _is_same(old, new) else f"too large to be compared: {size} bytes"
    lines = list(islice(_whole(old, new), _MAX_LINES + 1))
    if len(lines) > _MAX_LINES:
        lines[_MAX_LINES:] = ["... and more"]
    return "\n".join(_cut(line) for line in lines)


def _whole(old: Any, new: Any) -> Iterator[str]:
    yield from _values((), *(_ABSENT if one is None else hidden(one) for one in (old, new)))
    after = secrets(new)
    for path, secret in secrets(old).items():
        # What the file says is on record without secrets.
        if secret != after.get(path, secret) and HIDDEN not in (secret, after[path]):
            yield f"{_shown(path)}: {HIDDEN} -> {HIDDEN}"


def _values(path: tuple[str, ...], old: Any, new: Any) -> Iterator[str]:
    """The lines for two values at a key path."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        yield from _objects(path, old, new)
    elif _is_same(old, new):
        return
    elif _is_nothing(new) and _is_shown_by_key(path, old):
        yield from _objects(path, old, {})
    elif _is_nothing(old) and _is_shown_by_key(path, new):
        yield from _objects(path, {}, new)
    elif _is_nothing(new) and (items := _long_list(old)):
        yield from _objects(path, items, {})
    elif _is_nothing(old) and (items := _long_list(new)):
        yield from _objects(path, {}, items)
    elif _is_text(old) or _is_text(new):
        texts = ["" if _is_nothing(one) else one for one in (old, new)]
        if all(isinstance(one, str) for one in texts) and texts[0] != texts[1]:
            yield f"{_shown(path)}:"
            yield from _sequences(*(text.splitlines() for text in texts))
        else:
            yield _changed(path, old, new)
    elif isinstance(old, list) and isinstance(new, list):
        yield from _lists(path, old, new)
    else:
        yield _changed(path, old, new)


def _objects(
    path: tuple[str, ...], old: Mapping[str, Any], new: Mapping[str, Any]
) -> Iterator[str]:
    for key in (*old, *(key for key in new if key not in old)):
        yield from _values((*path, str(key)), old.get(key, _ABSENT), new.get(key, _ABSENT))


def _lists(path: tuple[str, ...], old: list[Any], new: list[Any]) -> Iterator[str]:
    known, found = _by_name(old), _by_name(new)
    if known is not None and found is not None:
        yield from _objects(path, known, found)
        if [name for name in known if name in found] != [name for name in found if name in known]:
            yield f"{_shown(path)}: in another order"
    elif path and len(old) == len(new) and all(isinstance(one, Mapping) for one in (*old, *new)):
        # Levels of servers, say.
        for number, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _values((*path, str(number)), one, other)
    else:
        if path:
            yield f"{_shown(path)}:"
        yield from _sequences(*([_text(item) for item in items] for items in (old, new)))


def _by_name(items: Sequence[Any]) -> dict[str, Any] | None:
    """Servers by host and port; ``None`` for another list, or if one is there twice."""
    named = {}
    for item in items:
        if not isinstance(item, Mapping) or "host" not in item or "port" not in item:
            return None
        named[host_port(str(item["host"]), item["port"])] = item
    return named if len(named) == len(items) else None


def _sequences(old: Sequence[str], new: Sequence[str]) -> Iterator[str]:
    """The lines that are not on both sides."""
    first = 0
    while first < len(old) and first < len(new) and old[first] == new[first]:
        first += 1
    last = 0
    while last < min(len(old), len(new)) - first and old[-1 - last] == new[-1 - last]:
        last += 1
    old, new = old[first : len(old) - last], new[first : len(new) - last]
    if len(old) + len(new) > _MAX_ALIGNED:
        steps = [("replace", 0, len(old), 0, len(new))]
    else:
        steps = SequenceMatcher(None, old, new).get_opcodes()  # type: ignore[assignment]
    for what, old_start, old_end, new_start, new_end in steps:
        if what != "equal":
            yield from (f"- {line}" for line in old[old_start:old_end])
            yield from (f"+ {line}" for line in new[new_start:new_end])


def _changed(path: tuple[str, ...], old: Any, new: Any) -> str:
    name = f"{_shown(path)}: " if path else ""
    if old is _ABSENT:
        return f"+ {name}{_text(new)}"
    if new is _ABSENT:
        return f"- {name}{_text(old)}"
    texts = [_text(old), _text(new)]
    if len(texts[0]) + len(texts[1]) > _MAX_LINE:
        texts = [_cut(text, _MAX_LINE // 2) for text in texts]
    return f"{name}{texts[0]} -> {texts[1]}"


def _is_nothing(value: Any) -> bool:
    return value is _ABSENT or value is None


def _is_shown_by_key(path: tuple[str, ...], value: Any) -> bool:
    """Whether a value that is new or gone is shown in several lines: the whole, and code."""
    return isinstance(value, Mapping) and (
        bool(value) if not path else any(_is_text(one) for one in value.values())
    )


def _long_list(value: Any) -> dict[str, Any] | None:
    """The servers of a list that is new or gone, and does not fit on a line."""
    is_long = isinstance(value, list) and len(_text(value)) > _MAX_LINE
    return _by_name(value) if is_long else None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and "\n" in value


def _is_same(old: Any, new: Any) -> bool:
    if old is _ABSENT or new is _ABSENT:
        return old is new
    return msgspec.json.encode(old) == msgspec.json.encode(new)


def _text(value: Any) -> str:
    return msgspec.json.format(msgspec.json.encode(value), indent=0).decode()


def _shown(path: tuple[str, ...]) -> str:
    # A key may be any text.
    return ".".join(_cut(key if key.isprintable() else ascii(key)) for key in path)


def _cut(text: str, length: int = _MAX_LINE) -> str:
    return text if len(text) <= length else f"{text[:length]}..."
