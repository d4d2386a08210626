"""Reads the bodies of control calls: strict JSON, or dyups' text.

What ``json`` lets pass and later code may stumble over is refused here: a key given
twice, NaN and Infinity, numbers beyond 64 bits, half a surrogate pair, deep nesting.
Reading goes on after such a mistake, so that a caller hears of all mistakes at once.
"""

from __future__ import annotations

import codecs
import json
import math
from typing import Any

from slardar.errors import ConfigError, PartlyReadError
from slardar.model.parse import parse_dyups
from slardar.model.reader import shown

__all__ = ["read_json", "read_text", "read_upstream"]

#: Levels of nesting; an upstream has five, and ``mode_opts`` may hold anything.
_MAX_DEPTH = 64

#: Mistakes that are noted, at most.  A body of 4 MiB may have a million.
_MAX_NOTED = 1000
#: What takes the place of a wrong number while the rest of the body is checked.
_ANY_NUMBER = 1

_WHERE = "body"


def read_upstream(data: bytes, content_type: str) -> Any:
    """The object that a body describes, in JSON or in dyups' text form.

    Raises ConfigError for a body that is neither.
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
    """The value of a JSON text.

    Raises ConfigError for a text that is not JSON, with line and column where they are known.
    Raises PartlyReadError with every mistake for JSON that is refused.
    """
    text = read_text(data)
    if not text.strip():
        raise ConfigError(f"{_WHERE}: expected JSON, got nothing")
    reader = _Reader()
    try:
        value = json.loads(
            text,
            object_pairs_hook=reader.read_object,
            parse_constant=reader.read_constant,
            parse_float=reader.read_float,
            parse_int=reader.read_int,
        )
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{_WHERE}: line {error.lineno}, column {error.colno}: expected JSON: {error.msg}"
        ) from None
    except RecursionError:
        raise ConfigError(_TOO_DEEP) from None
    reader.check(value)
    if reader.problems:
        raise PartlyReadError([f"{_WHERE}: {line}" for line in reader.problems], value)
    return value


_TOO_DEEP = f"{_WHERE}: expected at most {_MAX_DEPTH} levels of nesting"


def read_text(data: bytes) -> str:
    """The text of a body.  Raises ConfigError if it is not UTF-8 or begins with a byte order
    mark."""
    if data.startswith(codecs.BOM_UTF8):
        # RFC 8259, 8.1: a byte order mark must not be sent.  Some editors save one.
        raise ConfigError(f"{_WHERE}: expected text without a byte order mark (BOM) in front")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{_WHERE}: expected UTF-8 ({error.reason})") from None


class _Reader:
    """The functions that ``json`` calls for its values.  They note wrong values and go on."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def _note(self, line: str) -> None:
        if len(self.problems) < _MAX_NOTED:
            self.problems.append(line)

    def read_object(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        """An object.  Of a key that is given twice the first value counts."""
        found = dict(pairs)
        if len(found) < len(pairs):
            found = {}
            for key, value in pairs:
                if key in found:
                    self._note(f"the key {shown(key)} is given twice")
                found.setdefault(key, value)
        return found

    def read_constant(self, text: str) -> Any:
        """NaN or an infinity: neither is JSON."""
        self._note(f"expected a number, got {text}")
        return _ANY_NUMBER

    def read_float(self, text: str) -> float:
        """A number with a fraction or an exponent."""
        value = float(text)
        if not math.isfinite(value):
            self._note(f"the number {shown(text)} is too large")
            return _ANY_NUMBER
        return value

    def read_int(self, text: str) -> int:
        """An integer."""
        # The length is checked first: Python refuses to read integers of thousands of digits.
        value = int(text) if len(text) <= 20 else 1 << 64
        if not -(1 << 63) <= value < 1 << 63:
            self._note(f"the number {shown(text)} is too large")
            return _ANY_NUMBER
        return value

    def check(self, value: Any) -> None:
        """Note every text that is not Unicode.  Raises ConfigError for deep nesting.  Works without
        recursion."""
        level = [value]
        for _ in range(_MAX_DEPTH + 1):
            if not level:
                return
            below: list[Any] = []
            for item in level:
                if isinstance(item, str):
                    self._check_text(item)
                elif isinstance(item, dict):
                    below += item.keys()
                    below += item.values()
                elif isinstance(item, list):
                    below += item
            level = below
        raise ConfigError(_TOO_DEEP)

    def _check_text(self, text: str) -> None:
        if not text.isascii():
            try:
                text.encode("utf-8")
            except UnicodeEncodeError:
                self._note(f"{shown(text)} holds half a surrogate pair")
