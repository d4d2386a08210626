"""Reads a script's text: the modules that it names, and where an error is."""

from __future__ import annotations

import re
from typing import Final

__all__ = ["find_modules", "located"]

#: Matches what may hide the word ``require`` (comments and texts), and the word itself with
#: the text that follows it.
_TOKEN: Final = re.compile(
    r"""--\[(?P<c>=*)\[.*?\](?P=c)\]
      |--[^\n]*
      |\[(?P<l>=*)\[.*?\](?P=l)\]
      |(?<![\w.:])require\s*\(?\s*(?P<q>["'])(?P<name>[^"'\\\n]{1,300})(?P=q)(?!\s*\.\.)
      |"(?:\\.|[^"\\\n])*"
      |'(?:\\.|[^'\\\n])*'
      |\w+
    """,
    re.DOTALL | re.VERBOSE,
)

#: LuaJIT shortens the name of a chunk to this many characters.
_SHOWN: Final = 59


def find_modules(code: str) -> dict[str, int]:
    """The modules that ``require("modules.x")`` names, in order, each with the line where it
    is named first."""
    lines: dict[str, int] = {}
    for found in _TOKEN.finditer(code):
        name = found["name"]
        if name and name.startswith("modules.") and name not in lines:
            lines[name] = code.count("\n", 0, found.start()) + 1
    return lines


def located(name: str, message: str, others: frozenset[str] | set[str] = frozenset()) -> str:
    """A message of Lua as ``NAME: line N: what``, one line of at most 1,000 characters.

    ``others`` are the modules that the message may come from instead.
    """
    text = message.encode("latin-1", "replace").decode("utf-8", "replace")
    text = "".join(one if one.isprintable() else " " for one in text[:1000])
    for known in (name, *others):
        shown = known[:_SHOWN]
        if text.startswith(shown + ":"):
            line, colon, what = text[len(shown) + 1 :].partition(":")
            if colon and line.isdigit():
                return f"{known}: line {line}: {what.strip()}"
    return f"{name}: {text.strip()}"
