"""The errors slardar raises on purpose, one class for each kind of mistake.

Every other exception that escapes is a bug.  A message is shown to people as it is, so it
is one line that names the place and says what was expected.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: The most mistakes that one message names; a large body may have any number.
_MAX_NAMED = 100

__all__ = [
    "ConfigError",
    "ConflictError",
    "DamagedError",
    "NotFoundError",
    "NotReadyError",
    "PartlyReadError",
    "SlardarError",
    "StoreError",
    "one_line",
    "printable",
]


def one_line(error: BaseException) -> str:
    """The class and the message of any exception, on one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())


def printable(text: str) -> str:
    """A text for a log or a terminal: what could move its cursor, or begin a line, is escaped.

    Names and keys in a store may have any character, whoever has written them.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


class SlardarError(Exception):
    """The base class; the message of every subclass may be shown to a user."""


class ConfigError(SlardarError):
    """A user's file, option or body of a call has mistakes.

    ``problems`` holds one line for each mistake, with the path of its key
    (``upstreams.api.servers[0].port: expected an integer from 1 to 65535,
    got "x"``).  No part of the input has been applied.
    """

    def __init__(self, problems: str | Sequence[str]) -> None:
        self.problems: tuple[str, ...] = (
            (problems,) if isinstance(problems, str) else tuple(problems)
        )
        named = list(self.problems[:_MAX_NAMED])
        if len(self.problems) > _MAX_NAMED:
            named.append(f"and {len(self.problems) - _MAX_NAMED} more")
        super().__init__("; ".join(named))


class PartlyReadError(ConfigError):
    """A text has mistakes, but could be read all the same.

    ``value`` is the text's content; it serves only to look for more mistakes.
    """

    def __init__(self, problems: str | Sequence[str], value: Any) -> None:
        super().__init__(problems)
        self.value = value


class NotFoundError(SlardarError):
    """The thing named in the call does not exist."""


class ConflictError(SlardarError):
    """The state changed between reading it and writing it; read again and retry."""


class StoreError(SlardarError):
    """The store could not be opened, read or written; nothing has been changed."""


class DamagedError(StoreError):
    """The file of a store is damaged."""


class NotReadyError(SlardarError):
    """slardar cannot do this at the moment; nothing has been changed."""
