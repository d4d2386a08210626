"""A token in a file, which may be replaced while a program runs."""

from __future__ import annotations

from slardar.plain_files import read_regular

__all__ = ["read_token"]

#: Characters of a token's file.  A token of Consul has 36; one of an identity provider a few 1,000.
_MAX_TOKEN = 16384


def read_token(path: str) -> str:
    """The token in a small local file.

    Raises ValueError, and names the file, when it cannot be read.
    """
    try:
        text = read_regular(path, _MAX_TOKEN + 1)[0].decode("ascii")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "expected a token in it"
        raise ValueError(f"{path}: {reason}") from None
    if len(text) > _MAX_TOKEN:
        raise ValueError(f"{path}: expected a token in it")
    return text.strip()
