"""What it costs RE2 to compile a regular expression, and to match one.

RE2's time is linear in the subject, but the factor is the expression's, and no call into
it can be interrupted.  So both languages of hooks ask here first.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_COMPILING", "compiling_cost", "matching_cost"]

#: Microseconds that compiling may take, as :func:`compiling_cost` reckons them.
MAX_COMPILING: Final = 25_000

#: A class of Unicode's, such as \\pL, in microseconds: RE2 goes through a long table.
_UNICODE: Final = 100
#: What it takes besides, once, where bytes are matched without regard to case (measured).
_FOLDED: Final = 9000
#: Bytes for which memory is made ready before the first one is read.
_START: Final = 64

_PIECE: Final = re.compile(
    r"(?P<unicode>\\[pP])|\\.|(?P<set>\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\])"
    r"|(?P<open>\()|(?P<close>\))|\{(?P<least>\d{1,4})(?P<most>,\d{0,4})?\}|.",
    re.DOTALL,
)
_IN_SET: Final = re.compile(r"\\[pP]")
#: (?i) and its kin.
_FOLDS: Final = re.compile(r"\(\?[a-hj-zA-Z]*i")


def compiling_cost(pattern: str, is_folded: bool, is_bytes: bool) -> int:
    """Microseconds, at most, that RE2 takes to compile an expression.

    What is repeated so many times counts so often, as RE2 writes it out.
    """
    folded = is_bytes and (is_folded or _FOLDS.search(pattern) is not None)
    once = _FOLDED * len(_IN_SET.findall(pattern)) if folded else 0
    # What was there before each group that is open; and in the last one, before its last
    # piece, and that piece.
    groups: list[int] = []
    cost = last = 0
    for found in _PIECE.finditer(pattern):
        kind = found.lastgroup
        if kind in ("least", "most"):
            most = found["most"]
            times = int((most and most[1:]) or found["least"])
            last *= max(times, 1)
            if cost + last > MAX_COMPILING:
                break
            continue
        cost += last
        if kind == "open":
            groups.append(cost)
            cost = last = 0
        elif kind == "close" and groups:
            # The group as a whole may be repeated.
            last = cost + 1
            cost = groups.pop()
        elif kind == "unicode":
            last = _UNICODE
        elif kind == "set":
            text = found[0]
            last = 1 + len(text) // 8 + _UNICODE * len(_IN_SET.findall(text))
        elif found[0] == "[":
            # It has no end, so it is refused; each further one would be looked for up to there.
            break
        else:
            last = 1
    return once + cost + last + sum(groups)


def matching_cost(size: int, groups: int, length: int) -> int:
    """Steps of 5 ns (measured), at most, of a compiled expression of so many instructions
    and groups: each instruction may copy the places of all groups for each byte."""
    return size * (length + _START) * (8 + groups) // 8
