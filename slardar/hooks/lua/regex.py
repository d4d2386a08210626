"""ngx.re on RE2: the syntax of PCRE, without the parts that need backtracking.

The time of RE2 is linear in the subject, but the factor is the size of the compiled
expression, and a call of RE2 cannot be interrupted.  So the product of both is limited.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

import re2  # type: ignore[import-untyped]

from slardar.hooks.expressions import MAX_COMPILING, compiling_cost, matching_cost
from slardar.hooks.lua.crossing import bytes_of

__all__ = ["find_match", "group_names", "why_unusable"]

#: The most characters of an expression.
_MAX_PATTERN: Final = 4096
#: The most bytes that RE2 may use for one compiled expression and its cache for matching.
_MEMORY: Final = 256 * 1024
#: The most steps of :func:`slardar.hooks.expressions.matching_cost` for a match: 20 ms.
_COST: Final = 4_000_000
#: The number of compiled expressions that are kept for all scripts together.
_KEPT: Final = 128

#: The options that are accepted.  d, j, o and U change in nginx how a match is found, and not
#: the result.
_OPTIONS: Final = frozenset("adDijmosuUx")

#: One piece of an expression: an escape, a class, a comment, or the beginning of a group.
_PIECE: Final = re.compile(
    r"\\.|\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]|\(\?#[^)]*\)|\(\?<(?=[A-Za-z_])|\(\?(?:[=!>|&R0-9+-]"
    r"|<[=!]|P[=>])|\s+|#[^\n]*|.",
    re.DOTALL,
)
_FLAGS: Final = re.compile(r"\(\?-?[imsU]")


class _Unusable(ValueError):
    """The expression cannot be used; the message says why."""


def _translate(pattern: str, extended: bool) -> str:
    """Turn PCRE's syntax into RE2's.  Raises _Unusable for what RE2 cannot do."""
    pieces: list[str] = []
    for found in _PIECE.finditer(pattern):
        piece = found.group()
        if piece.startswith("(?#"):
            continue
        if extended and (piece.isspace() or piece[0] == "#"):
            continue
        if piece == "(?<":
            piece = "(?P<"
        elif piece == "[":
            # The class has no end, so RE2 would refuse the expression.  Going on would search
            # for the end of every further class in vain.
            raise _Unusable(f"missing ]: {pattern[found.start() : found.start() + 60]}")
        elif piece.startswith("(?"):
            if _FLAGS.match(pattern, found.start()) is None:
                raise _Unusable(f"{piece}...) needs backtracking, which is not available")
        elif piece[0] == "\\" and (
            (piece[1:].isdigit() and piece != "\\0") or piece in ("\\g", "\\k")
        ):
            raise _Unusable(f"the backreference {piece} is not available")
        elif piece == "\\Z":
            piece = "\\z"
        elif piece == "\\h":
            piece = "[ \\t]"
        pieces.append(piece)
    return "".join(pieces)


@lru_cache(maxsize=_KEPT)
def _compiled(pattern: str, options: str) -> Any:
    """The compiled expression, or a text that says why it cannot be used."""
    if len(pattern) > _MAX_PATTERN:
        return f"expected a regular expression of at most {_MAX_PATTERN} bytes"
    unknown = set(options) - _OPTIONS
    if unknown:
        return f'unknown flag "{ascii(min(unknown))[1:-1]}"'
    made = re2.Options()
    made.encoding = re2.Options.Encoding.UTF8 if "u" in options else re2.Options.Encoding.LATIN1
    made.log_errors = False
    made.max_mem = _MEMORY
    made.case_sensitive = "i" not in options
    made.dot_nl = "s" in options
    try:
        text = _translate(pattern, "x" in options)
        if compiling_cost(text, "i" in options, "u" not in options) > MAX_COMPILING:
            raise _Unusable("pattern too large")
        # An anchored expression matches only at the place where the search begins.
        prefix = ("(?m)" if "m" in options else "") + ("\\A" if "a" in options else "")
        return re2.compile(bytes_of(f"{prefix}(?:{text})" if prefix else text), made)
    except _Unusable as error:
        return str(error)
    except re2.error as error:
        what = error.args[0] if error.args else "?"
        said = what.decode("latin-1") if isinstance(what, bytes) else str(what)
        return ascii(said)[1:-1][:200]


def why_unusable(pattern: str, options: str) -> str | None:
    """Why an expression cannot be used; ``None`` if it can be used."""
    expression = _compiled(pattern, options)
    return expression if isinstance(expression, str) else None


def find_match(subject: str, pattern: str, options: str, start: float) -> Any:
    """Find the first match from ``start`` on; places count from 1.

    Returns two places for the match and for each group, one pair after the other: where it
    begins, and the place behind it.  ``None`` if there is no match; ``None`` and a message if
    the expression cannot be used.
    """
    expression = _compiled(pattern, options)
    if isinstance(expression, str):
        return None, f"regular expression: {expression}"
    if start > len(subject) + 1:
        return None
    first = int(start) - 1
    if matching_cost(expression.programsize, expression.groups, len(subject) - first) > _COST:
        return None, "regular expression: too large for a subject of this size"
    try:
        match = expression.search(bytes_of(subject), first)
    except re2.error:
        return None, "regular expression: cannot be matched"
    if match is None:
        return None
    places: list[int] = []
    for group in range(expression.groups + 1):
        begin, end = match.span(group)
        places += (begin + 1, end + 1)
    return tuple(places)


def group_names(pattern: str, options: str) -> str:
    """A line ``NUMBER NAME`` for each named group."""
    expression = _compiled(pattern, options)
    if isinstance(expression, str):
        return ""
    return "".join(
        f"{number} {name.decode('latin-1') if isinstance(name, bytes) else name}\n"
        for name, number in expression.groupindex.items()
    )
