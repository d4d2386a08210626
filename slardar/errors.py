"""The errors slardar raises on purpose, one class a kind of caller's mistake.

Everything else that escapes is a bug.  Each message is one line that names the
place and what was expected, because it is shown to a person as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

#: Mistakes that one message names, of which a large body may have any number.
_MAX_NAMED = 100

__all__ = [
    "ConfigError",
    "ConflictError",
    "NotFoundError",
    "NotReadyError",
    "PartlyReadError",
    "SlardarError",
    "StoreError",
]


class SlardarError(Exception):
    """The base of them all; the message is fit to be shown to a user."""


class ConfigError(SlardarError):
    """Something a user wrote is wrong: a file, an option, the body of a call.

    ``problems`` holds one line for each mistake found, each naming the key's
    path (``upstreams.api.servers[0].port: expected an integer from 1 to 65535,
    got "x"``).  Nothing of the input has been applied when this is raised.
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
    """A text has mistakes, but what it describes can be told all the same.

    ``value`` is that: to look for the mistakes in it too, and for nothing else.
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


class NotReadyError(SlardarError):
    """What is needed for it is not there at the moment; nothing has been changed."""
