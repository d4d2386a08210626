"""Settings as the hooks of one process read them.

A change of settings takes the place of the values here, and hooks stay as they are loaded.  A value
is read from its text when the first hook asks for it, so that a change costs the process next to
nothing, and each call of a hook finds the value ready.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["HookSettings", "SettingEntry"]


class SettingEntry:
    """One setting, with those whose names lead into it.  Nobody may change its value."""

    __slots__ = ("_text", "form", "parts")

    def __init__(self, parts: Mapping[str, str]) -> None:
        #: JSON texts by the rest of their names behind the slash; empty for the setting itself.
        self.parts = parts
        self._text: str | None = None
        #: Its value in the form that Python hooks read, once it was asked for; ``None`` before.
        self.form: Any = None

    @property
    def text(self) -> str:
        """Its value as JSON, in ASCII."""
        if self._text is None:
            parts = self.parts
            is_alone = len(parts) == 1 and "" in parts
            self._text = parts[""] if is_alone else json.dumps(_merged(parts))
        return self._text


def _merged(parts: Mapping[str, str]) -> Any:
    """The value that texts make up together.  A name comes before those that lead into it."""
    whole: dict[str, Any] = {}
    for rest in sorted(parts, key=lambda rest: rest.split("/")):
        found = json.loads(parts[rest])
        if not rest:
            whole = found
            continue
        place = whole
        *path, last = rest.split("/")
        for key in path:
            inner = place.get(key)
            if not isinstance(inner, dict):
                inner = place[key] = {}
            place = inner
        place[last] = found
    return whole


class HookSettings(Mapping[str, SettingEntry]):
    """The settings by the first parts of their names; :meth:`take` replaces them."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._entries: dict[str, SettingEntry] = {}
        self.take(settings or {})

    def take(self, settings: Mapping[str, str]) -> None:
        """Let hooks read these from now on: JSON texts by name, as snapshots have them."""
        grouped: dict[str, dict[str, str]] = {}
        for name, text in settings.items():
            first, _, rest = name.partition("/")
            grouped.setdefault(first, {})[rest] = text
        before = self._entries
        entries = {}
        for first, parts in grouped.items():
            known = before.get(first)
            is_known = known is not None and known.parts == parts
            entries[first] = known if known is not None and is_known else SettingEntry(parts)
        self._entries = entries

    def __getitem__(self, name: str) -> SettingEntry:
        return self._entries[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)
