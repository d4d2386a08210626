"""``re`` for hooks, on RE2, whose time is linear in the text for every pattern.

Python's own ``re`` takes exponential time for some patterns, within one call that nothing can
stop.  RE2 has no look-around and no back references, and its ``\\d``, ``\\w`` and ``\\s``
match ASCII only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

import re2  # type: ignore[import-untyped]

from slardar.hooks.budget import charge
from slardar.hooks.expressions import MAX_COMPILING, compiling_cost, matching_cost
from slardar.hooks.python.attributes import register
from slardar.hooks.python.limits import ITERABLE, MAX_ITEMS, MAX_TEXT, bounded, name_of

__all__ = ["RE"]

#: The most characters of a pattern, and of a text to search.
MAX_PATTERN: Final = 1000
MAX_SUBJECT: Final = 1 << 16
#: The most steps of :func:`slardar.hooks.expressions.matching_cost` for a match: 5 ms.
_MAX_WORK: Final = 1 << 20
#: The most bytes that RE2 may use for one pattern, and the number of patterns that are kept.
_MAX_MEMORY: Final = 1 << 18
_KEPT: Final = 128

_FLAGS: Final[dict[int, str]] = {2: "i", 8: "m", 16: "s"}


class PatternError(Exception):
    """RE2 does not accept the pattern."""


@lru_cache(_KEPT)
def _compiled(pattern: str | bytes, flags: int) -> Any:
    options = re2.Options()
    options.max_mem = _MAX_MEMORY
    options.log_errors = False
    prefix = "".join(letter for flag, letter in _FLAGS.items() if flags & flag)
    before = f"(?{prefix})" if prefix else ""
    shown = pattern if isinstance(pattern, str) else pattern.decode("latin-1")
    if compiling_cost(shown, bool(flags & 2), isinstance(pattern, bytes)) > MAX_COMPILING:
        raise PatternError("expected a pattern of RE2's: pattern too large")
    whole = before + pattern if isinstance(pattern, str) else before.encode() + pattern
    if isinstance(pattern, bytes):
        options.encoding = re2.Options.Encoding.LATIN1
    try:
        # re2.compile would keep the pattern in its cache, which hooks must not fill.
        return re2._Regexp(whole, options)
    except re2.error as error:
        text = error.args[0] if error.args else ""
        text = text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text)
        raise PatternError(f"expected a pattern of RE2's: {text}") from None


class Pattern:
    """A compiled pattern."""

    __slots__ = ("_regexp", "_size", "flags", "pattern")

    def __init__(self, pattern: str | bytes, flags: int = 0) -> None:
        if type(pattern) not in (str, bytes) or len(pattern) > MAX_PATTERN:
            raise ValueError(
                f"expected a pattern of at most {MAX_PATTERN} characters, got {name_of(pattern)}"
            )
        if type(flags) is not int or flags & ~26:
            raise ValueError("expected no flags other than re.I, re.M and re.S")
        self.pattern = pattern
        self.flags = flags
        self._regexp = _compiled(pattern, flags)
        self._size = self._regexp.programsize

    def __repr__(self) -> str:
        return f"<pattern {self.pattern!r}>"

    def _text(self, text: Any) -> Any:
        if type(text) is not type(self.pattern):
            raise TypeError(f"expected {type(self.pattern).__name__}, got {name_of(text)}")
        if len(text) > MAX_SUBJECT:
            raise ValueError(f"expected a text of at most {MAX_SUBJECT} characters to search")
        if matching_cost(self._size, self._regexp.groups, len(text)) > _MAX_WORK:
            raise ValueError("expected a shorter text, or a simpler pattern")
        return text

    def match(self, text: Any) -> Any:
        """A match at the beginning, or None."""
        return self._regexp.match(self._text(text))

    def fullmatch(self, text: Any) -> Any:
        """A match of the whole text, or None."""
        return self._regexp.fullmatch(self._text(text))

    def search(self, text: Any) -> Any:
        """The first match anywhere, or None."""
        return self._regexp.search(self._text(text))

    def _each(self, text: Any, limit: int = 0) -> list[Any]:
        found = []
        for one in self._regexp.finditer(self._text(text)):
            found.append(one)
            charge(300)
            if len(found) == limit:
                break
        return found

    def finditer(self, text: Any) -> Iterator[Any]:
        """An iterator of every match."""
        return iter(self._each(text))

    def findall(self, text: Any) -> list[Any]:
        """The text of every match, or the texts of its groups if the pattern has groups."""
        groups = self._regexp.groups
        empty = text[:0] if type(text) in (str, bytes) else ""
        found: list[Any] = []
        for one in self._each(text):
            if not groups:
                found.append(one.group())
            elif groups == 1:
                found.append(one.groups(empty)[0])
            else:
                found.append(one.groups(empty))
        return found

    def split(self, text: Any, maxsplit: int = 0) -> list[Any]:
        """The texts between the matches, and the groups of each match."""
        pieces: list[Any] = []
        end = 0
        for one in self._each(text, _count(maxsplit)):
            pieces.append(text[end : one.start()])
            pieces.extend(one.groups())
            end = one.end()
        pieces.append(text[end:])
        return pieces

    def subn(self, repl: Any, text: Any, count: int = 0) -> tuple[Any, int]:
        """The text with each match replaced, and the number of matches."""
        pieces: list[Any] = []
        end = size = 0
        found = self._each(text, _count(count))
        parts = None
        kind = type(self.pattern)
        if type(repl) is kind:
            parts = _template(repl, self._regexp)
        for one in found:
            pieces.append(text[end : one.start()])
            end = one.end()
            if parts is None:
                new = repl(one)
            else:
                new = repl[:0].join(
                    [(one.group(part) or repl[:0]) if type(part) is int else part
                     for part in parts]
                )  # fmt: skip
            if type(new) is not kind:
                raise TypeError(f"expected {kind.__name__} to put in, got {name_of(new)}")
            size += len(new)
            if size > MAX_TEXT:
                raise ValueError(f"expected a text of at most {MAX_TEXT} characters")
            pieces.append(new)
        pieces.append(text[end:])
        return bounded(text[:0].join(pieces)), len(found)

    def sub(self, repl: Any, text: Any, count: int = 0) -> Any:
        """The text with each match replaced, by a text or by what a function returns for it."""
        return self.subn(repl, text, count)[0]


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_ITEMS:
        raise ValueError("expected how many, 0 for all")
    return value


_REFERENCE: Final = re2.compile(r"\\(?:([0-9]{1,2})|g<(\w{1,60})>|(.))", None)


def _template(text: Any, regexp: Any) -> list[Any]:
    r"""Parse ``\1``, ``\g<1>``, ``\g<name>`` and ``\\`` into texts and numbers of groups."""
    parts: list[Any] = []
    shown = text if isinstance(text, str) else text.decode("latin-1")
    if "\\" not in shown:
        return [text]
    if len(shown) > MAX_PATTERN:
        raise ValueError(f"expected at most {MAX_PATTERN} characters where \\ is used")
    end = 0
    for one in _REFERENCE.finditer(shown):
        parts.append(shown[end : one.start()])
        end = one.end()
        number, name, other = one.groups()
        if other is not None:
            known = {"\\": "\\", "n": "\n", "t": "\t", "r": "\r"}
            if other not in known:
                raise PatternError(f"expected \\1, \\g<name> or \\\\, got \\{other}")
            parts.append(known[other])
            continue
        number = number or (name if name.isdecimal() else regexp.groupindex.get(name))
        if number is None or int(number) > regexp.groups:
            raise PatternError(f"there is no group {one[0]}")
        parts.append(int(number))
    parts.append(shown[end:])
    if isinstance(text, bytes):
        return [one if type(one) is int else one.encode("latin-1") for one in parts]
    return parts


def _compile(pattern: Any, flags: int = 0) -> Pattern:
    return pattern if type(pattern) is Pattern else Pattern(pattern, flags)


def _function(name: str) -> Any:
    """``re.NAME(pattern, text, flags)``."""

    def call(pattern: Any, text: Any, flags: int = 0) -> Any:
        return getattr(_compile(pattern, flags), name)(text)

    return call


def _split(pattern: Any, text: Any, maxsplit: int = 0, flags: int = 0) -> list[Any]:
    return _compile(pattern, flags).split(text, maxsplit)


def _sub(pattern: Any, repl: Any, text: Any, count: int = 0, flags: int = 0) -> Any:
    return _compile(pattern, flags).sub(repl, text, count)


def _subn(pattern: Any, repl: Any, text: Any, count: int = 0, flags: int = 0) -> Any:
    return _compile(pattern, flags).subn(repl, text, count)


def _escape(text: Any) -> Any:
    if type(text) not in (str, bytes) or len(text) > MAX_SUBJECT:
        raise ValueError(f"expected a text of at most {MAX_SUBJECT} characters")
    return re2.escape(text)


register(Pattern, "findall finditer flags fullmatch match pattern search split sub subn", text=True)


def _of_group(name: str) -> Callable[..., Any]:
    """A method of a match that takes the numbers or names of groups."""

    def call(match: Any, *groups: Any) -> Any:
        if len(groups) > 100:
            raise ValueError("expected at most 100 groups")
        for one in groups:
            if type(one) not in (int, str):
                raise TypeError(f"expected the number of a group, or its name, got {name_of(one)}")
        return getattr(match, name)(*groups)

    return call


register(
    type(re2.compile("").match("")),
    "endpos groupdict groups lastgroup lastindex pos string",
    {name: _of_group(name) for name in ("end", "group", "span", "start")},
    items=True,
)
ITERABLE.add(type(re2.compile("").finditer("")))

#: The names of ``re``.
RE: Final[dict[str, Any]] = {
    "DOTALL": 16,
    "I": 2,
    "IGNORECASE": 2,
    "M": 8,
    "MULTILINE": 8,
    "S": 16,
    "compile": _compile,
    "error": PatternError,
    "escape": _escape,
    **{name: _function(name) for name in ("findall", "finditer", "fullmatch", "match", "search")},
    "split": _split,
    "sub": _sub,
    "subn": _subn,
}
