"""Times and sizes as other proxies write them."""

from __future__ import annotations

import re

__all__ = ["parse_number", "parse_seconds", "parse_size"]

_SECONDS = {
    "us": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "w": 604800.0,
    "M": 2592000.0,
    "y": 31536000.0,
}
_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_PART = re.compile(r"([0-9]{1,12})(us|ms|[smhdwMy])?")


def parse_seconds(text: str, unit: str = "s") -> float | None:
    """Seconds of a time such as ``1m30s`` or ``500ms``; without a unit it is in ``unit``.

    ``None`` for what is no time.
    """
    seconds = 0.0
    place = 0
    for part in _PART.finditer(text):
        if part.start() != place:
            return None
        place = part.end()
        seconds += int(part[1]) * _SECONDS[part[2] or unit]
    if not place or place != len(text) or seconds > 1e9:
        return None
    return int(seconds) if seconds == int(seconds) else round(seconds, 6)


def parse_size(text: str) -> int | None:
    """Bytes of a size such as ``10m``, or ``None``."""
    found = re.fullmatch(r"([0-9]{1,12})([kmgKMG]?)", text)
    if found is None:
        return None
    size = int(found[1]) * _SIZES[found[2].lower()]
    return size if size <= 2**40 else None


def parse_number(text: str, least: int = 0, most: int = 10**9) -> int | None:
    """A whole number in these bounds, or ``None``."""
    if not re.fullmatch(r"[0-9]{1,10}", text) or not least <= int(text) <= most:
        return None
    return int(text)
