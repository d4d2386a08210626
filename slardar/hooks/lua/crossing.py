"""Wraps functions of Python so that Lua may call them.

Lua gets plain values only: texts of ISO-8859-1 (one character a byte), numbers, booleans
and ``None``.  No exception of Python may reach Lua.  lupa would carry the exception through
LuaJIT as an object, keep it, and raise it again in a later call of any script.  It also
damages the stack of Lua, so some exceptions crash the process.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

__all__ = ["bytes_of", "contained", "crossing", "said", "text_of"]

_F = TypeVar("_F", bound=Callable[..., Any])

#: The most characters of a message.
_MAX_MESSAGE = 500


def crossing(function: _F) -> _F:
    """Wrap a function so that it returns the message of an exception instead of raising it.

    For functions that return ``None`` if all is well.
    """

    @wraps(function)
    def safe(*arguments: Any) -> Any:
        try:
            return function(*arguments)
        except Exception as error:
            return said(error)

    return safe  # type: ignore[return-value]


def contained(function: _F, failed: Callable[[Exception], None]) -> _F:
    """Wrap a function so that it tells ``failed`` of an exception, and returns ``None``.

    For functions that return a value.  They should never raise, because Lua passes checked
    arguments only.
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
    """The message of an error in a form for Lua: one line of ASCII."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text.encode("ascii", "backslashreplace").decode("ascii")[:_MAX_MESSAGE]


def bytes_of(text: str) -> bytes:
    """The bytes of a text from Lua."""
    return text.encode("latin-1")


def text_of(data: bytes) -> str:
    """Bytes as a text for Lua."""
    return data.decode("latin-1")
