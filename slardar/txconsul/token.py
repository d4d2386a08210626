"""A token in a file, which may be replaced while a program runs."""

from __future__ import annotations

from pathlib import Path

__all__ = ["read_token"]


def read_token(path: str) -> str:
    """The token in a small local file.

    Raises ValueError, and names the file, when it cannot be read.
    """
    try:
        return Path(path).read_text("ascii").strip()
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "expected a token in it"
        raise ValueError(f"{path}: {reason}") from None
