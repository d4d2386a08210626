"""nginx's regular expressions as those of routes.

nginx searches what a path means, in bytes; a route searches what clients write, where some
characters are always escaped and others may be.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable

__all__ = ["PLAIN", "expression", "spelled"]

#: Characters that clients have no reason to escape (RFC 3986, 2.3), and the slash.
PLAIN = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/")
#: The bytes that clients may write as escapes.
_OTHERS = [byte for byte in range(256) if chr(byte) not in PLAIN]
#: The parts of an expression.  What is none of them is not known.
_PART = re.compile(
    r"""(?P<set>\[\^?\]?(?:\\.|[^]\\[])*\]|\\[dDwWsS]|\.)"""
    r"""|\\(?P<quoted>[^A-Za-z0-9])|(?P<group>\((?:\?:|\?P?<[A-Za-z_]\w*>|(?!\?))|[)|^$])"""
    r"""|(?P<count>[*+?]|\{\d+(?:,\d*)?\})|(?P<plain>[^\\\[(])"""
)


def expression(text: str, folds: bool) -> tuple[str, bool]:
    """PCRE's text as Python's ``re`` reads it, and whether it is known how clients escape it.

    ``folds``: upper and lower case are the same.  What ``re`` cannot read is refused as a route.
    """
    found = ""
    place = 0
    while place < len(text):
        part = _PART.match(text, place)
        # nginx sees bytes, and a set of others is one of parts of characters.
        if part is None or not (part["set"] or "").isascii():
            found = re.sub(r"\(\?<(?=[A-Za-z_])", "(?P<", text)
            return (f"(?i:{found})" if folds else found), False
        place = part.end()
        if part["set"]:
            found += _set(part["set"], text[place : place + 1], folds)
        elif part["quoted"] or part["plain"]:
            one = part["quoted"] or part["plain"]
            found += part[0] if one in PLAIN else f"(?:{spelled(one)})"
        else:
            found += re.sub(r"\(\?<", "(?P<", part[0])
    return (f"(?i:{found})" if folds else found), True


def _set(text: str, following: str, folds: bool) -> str:
    """A set of characters, or of their escapes."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            flags = re.ASCII | re.DOTALL | (re.IGNORECASE if folds else 0)
            fits = re.compile(text, flags).fullmatch
    except (re.error, Warning):
        # It is refused as a route.
        return text
    found = [byte for byte in _OTHERS if fits(chr(byte))]
    is_all = all(fits(one) for one in "%0123456789abcdefABCDEF")
    if not found or (following in ("*", "+") and is_all):
        # No escape fits, or several characters of an escape fit as well.
        return text
    escapes = "[0-9A-Fa-f]{2}" if len(found) == len(_OTHERS) else f"(?i:{_digits(found)})"
    return f"(?:{'(?!%)' if fits('%') else ''}{text}|%{escapes})"


def _digits(found: Iterable[int]) -> str:
    by_first: dict[str, str] = {}
    for byte in found:
        text = f"{byte:02X}"
        by_first[text[0]] = by_first.get(text[0], "") + text[1]
    every = "0123456789ABCDEF"
    return "|".join(
        first + ("[0-9A-F]" if seconds == every else f"[{seconds}]")
        for first, seconds in by_first.items()
    )


def spelled(text: str) -> str:
    """A regular expression for what clients write who mean the path ``text``.

    They have to escape some characters, may escape others, and never escape the rest.
    """
    found = ""
    for byte in text.encode("utf-8", "surrogateescape"):
        one = chr(byte)
        if one in PLAIN:
            found += re.escape(one)
        elif "!" <= one <= "~" and one not in "%?#":
            found += f"(?:{re.escape(one)}|{_escaped(byte)})"
        else:
            found += _escaped(byte)
    return found


def _escaped(byte: int) -> str:
    """A regular expression for the escape of a byte, whose digits may be small or large."""
    digits = (f"[{one}{one.lower()}]" if one.isalpha() else one for one in f"{byte:02X}")
    return f"%{''.join(digits)}"
