"""The bodies of control calls: JSON as strict as it can be, or dyups' text.

What ``json`` lets pass and later code may stumble over is refused here: a key given
twice, NaN and Infinity, numbers beyond 64 bits, half a surrogate pair, deep nesting.
"""

from __future__ import annotations

import json
import math
from typing import Any

from slardar.errors import ConfigError
from slardar.model.parse import parse_dyups
from slardar.model.reader import shown

__all__ = ["read_json", "read_text", "read_upstream"]

#: Levels of nesting; an upstream has five, and ``mode_opts`` may hold anything.
_MAX_DEPTH = 64

_WHERE = "body"


def read_upstream(data: bytes, content_type: str) -> Any:
    """The object that a body describes, in JSON or in dyups' text form.

    Raises ConfigError for what is neither.
    """
    if _is_json(data, content_type):
        return read_json(data)
    return parse_dyups(read_text(data), _WHERE)


def _is_json(data: bytes, content_type: str) -> bool:
    """``curl -d`` says that everything is a form, so the first byte decides."""
    kind = content_type.partition(";")[0].strip().lower()
    start = data.lstrip()[:1]
    return not start or start in b"{[" or kind == "application/json"


def read_json(data: bytes) -> Any:
    """The value of a JSON text.  Raises ConfigError, with line and column if it can."""
    text = read_text(data)
    if not text.strip():
        raise ConfigError(f"{_WHERE}: expected JSON, got nothing")
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{_WHERE}: line {error.lineno}, column {error.colno}: expected JSON: {error.msg}"
        ) from None
    except RecursionError:
        raise ConfigError(_TOO_DEEP) from None
    _check(value)
    return value


_TOO_DEEP = f"{_WHERE}: expected at most {_MAX_DEPTH} levels of nesting"


def read_text(data: bytes) -> str:
    """The text of a body.  Raises ConfigError for what is not UTF-8."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{_WHERE}: expected UTF-8 ({error.reason})") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise ConfigError(f"{_WHERE}: the key {shown(key)} is given twice")
            seen.add(key)
    return found


def _constant(text: str) -> Any:
    raise ConfigError(f"{_WHERE}: expected a number, got {text}")


def _float(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ConfigError(f"{_WHERE}: the number {shown(text)} is too large")
    return value


def _int(text: str) -> int:
    # The length first: Python refuses to read integers of thousands of digits.
    value = int(text) if len(text) <= 20 else 1 << 64
    if not -(1 << 63) <= value < 1 << 63:
        raise ConfigError(f"{_WHERE}: the number {shown(text)} is too large")
    return value


def _check(value: Any) -> None:
    """Refuse deep nesting and text that is not Unicode, without recursion."""
    level = [value]
    for _ in range(_MAX_DEPTH + 1):
        if not level:
            return
        below: list[Any] = []
        for item in level:
            if isinstance(item, str):
                _check_text(item)
            elif isinstance(item, dict):
                below += item.keys()
                below += item.values()
            elif isinstance(item, list):
                below += item
        level = below
    raise ConfigError(_TOO_DEEP)


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode("utf-8")
        except UnicodeEncodeError:
            raise ConfigError(f"{_WHERE}: {shown(text)} holds half a surrogate pair") from None
