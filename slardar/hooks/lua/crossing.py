"""How functions of Python are offered to Lua.

Lua gets plain values only: texts of ISO-8859-1 (one character a byte), numbers, booleans
and ``None``.  No exception may get there.  lupa carries one through LuaJIT as an object,
keeps it, raises it again from a later call of whatever script, and spoils the stack of Lua:
some of them crash the process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

__all__ = ["bytes_of", "contained", "crossing", "said", "text_of"]

_F = TypeVar("_F", bound=Callable[..., Any])

#: Characters of a message.
_MAX_MESSAGE = 500


def crossing(function: _F) -> _F:
    """A function that answers what is wrong with its arguments, and raises nothing.

    For those that answer ``None`` when all is well.
    """

    @wraps(function)
    def safe(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            return said(error)

    return safe  # type: ignore[return-value]


def contained(function: _F, failed: Callable[[Exception], None]) -> _F:
    """A function that answers ``None`` where it would raise; ``failed`` is told.

    For those that answer a value.  They are not meant to raise: what Lua passes is checked
    before.
    """

    @wraps(function)
    def safe(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            failed(error)
            return None

    return safe  # type: ignore[return-value]


def said(error: Exception) -> str:
    """An error's message as Lua may have it: one line, plain characters."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.encode("ascii", "backslashreplace").decode("ascii")[:_MAX_MESSAGE]


def bytes_of(text: str) -> bytes:
    """The bytes of a text from Lua."""
    return text.encode("latin-1")


def text_of(data: bytes) -> str:
    """Bytes as Lua gets them."""
    return data.decode("latin-1")
