"""How functions of Python are offered to Lua.

Lua gets plain values only: texts of ISO-8859-1 (one character a byte), numbers, booleans
and ``None``.  An exception must not get there, since it would arrive as an object: what is
wrong is answered as a text.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, TypeVar

__all__ = ["bytes_of", "crossing", "said", "text_of"]

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
        except (ValueError, TypeError, OverflowError, LookupError) as error:
            return said(error)

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
