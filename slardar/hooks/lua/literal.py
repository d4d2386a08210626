"""A value from JSON as source text of Lua: a function that makes a copy of it with each call.

Lua reads its own source text many times as fast as JSON, and copies a constant table at once.
"""

from __future__ import annotations

import re
from typing import Any

__all__ = ["source_of"]

_ODD = re.compile(rb"[^ !#-\[\]-~]")


def source_of(value: Any) -> str:
    """A chunk that takes what stands for null, and returns the function.

    The chunk reads no global name.  Each character of the text is a byte.
    """
    return f"local null = ... return function() return {_literal(value)} end"


def _literal(value: Any) -> str:
    if type(value) is str:
        return _quoted(value)
    if type(value) is dict:
        inside = [f"[{_quoted(key)}]={_literal(one)}" for key, one in value.items()]
        return "{" + ",".join(inside) + "}"
    if type(value) is list:
        return "{" + ",".join(map(_literal, value)) + "}"
    if value is None:
        return "null"
    if value is True or value is False:
        return "true" if value else "false"
    return repr(value)


def _quoted(text: str) -> str:
    data = _ODD.sub(lambda found: b"\\%03d" % ord(found[0]), text.encode("utf-8"))
    return f'"{data.decode("ascii")}"'
