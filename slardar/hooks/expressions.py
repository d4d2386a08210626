"""Estimates what it costs RE2 to compile a regular expression, and to match it.

The time of RE2 is linear in the subject, but the factor depends on the expression, and a
call of RE2 cannot be interrupted.  So the engines of both languages ask here before they
call it.
"""

from __future__ import annotations

import re
from typing import Final

__all__ = ["MAX_COMPILING", "compiling_cost", "matching_cost"]

#: Microseconds that compiling may take, as :func:`compiling_cost` estimates them.
MAX_COMPILING: Final = 25_000

#: Microseconds for a class of Unicode characters, such as \\pL: RE2 walks a long table.
_UNICODE: Final = 100
#: Further microseconds for such a class if bytes are matched without regard to case
#: (measured).  A repetition does not take them again.
_FOLDED: Final = 9000
#: RE2 prepares memory for this many bytes before it reads the first one.
_START: Final = 64

_PIECE: Final = re.compile(
    r"(?P<unicode>\\[pP])|\\.|(?P<set>\[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\])"
    r"|(?P<open>\()|(?P<close>\))|\{(?P<least>\d{1,4})(?P<most>,\d{0,4})?\}|.",
    re.DOTALL,
)
_IN_SET: Final = re.compile(r"\\[pP]")
#: Groups of flags that switch ``i`` on, such as (?i).
_FOLDS: Final = re.compile(r"\(\?[a-hj-zA-Z]*i")


def compiling_cost(pattern: str, is_folded: bool, is_bytes: bool) -> int:
    """An upper bound of the microseconds that RE2 takes to compile an expression.

    A piece that is repeated n times counts n times, since RE2 writes out each repetition.
    """
    folded = is_bytes and (is_folded or _FOLDS.search(pattern) is not None)
    once = _FOLDED * len(_IN_SET.findall(pattern)) if folded else 0
    # ``groups``: for each open group, the cost of what stands before it.  ``cost``: what the
    # innermost group costs without its last piece.  ``last``: what its last piece costs.
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
            # The group is one piece now, which may be repeated.
            last = cost + 1
            cost = groups.pop()
        elif kind == "unicode":
            last = _UNICODE
        elif kind == "set":
            text = found[0]
            last = 1 + len(text) // 8 + _UNICODE * len(_IN_SET.findall(text))
        elif found[0] == "[":
            # The set has no end, so RE2 refuses the expression.  Going on would search for
            # the end of every further set in vain.
            break
        else:
            last = 1
    return once + cost + last + sum(groups)


def matching_cost(size: int, groups: int, length: int) -> int:
    """An upper bound of the steps that a match takes; a step is 5 ns (measured).

    ``size`` is the number of instructions of the compiled expression, ``groups`` of its
    groups, ``length`` of the subject's bytes.  For each byte, each instruction may copy the
    places of all groups.
    """
    return size * (length + _START) * (8 + groups) // 8
