"""Follows the keys below one place of Consul with one blocking query for all of them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from twisted.logger import Logger

from slardar.catalogues.pace import Pace
from slardar.errors import StoreError, one_line
from slardar.stores.tree import Content, Entry
from slardar.txconsul.blocking import Blocking, read_index

__all__ = ["Page", "Watch", "contents"]

#: Seconds between queries in a storm of changes, at first and at most, and how many may come at
#: once before.
_PAUSE, _LONGEST, _BURST = 0.05, 0.2, 20

_log = Logger("slardar.stores")


class _Row(Struct):
    """A key as Consul tells it; the value is left in base64 until somebody needs it."""

    Key: str
    ModifyIndex: int
    Value: msgspec.Raw


_read_rows = msgspec.json.Decoder(list[_Row]).decode
_read_value = msgspec.json.Decoder(bytes | None).decode


class Page(Struct):
    """One answer to the question for all keys."""

    #: Consul's index of the keys, at least 1.
    index: int
    rows: list[_Row]
    #: Characters of a key before its place in the tree.
    skipped: int
    #: Whether the server that answered may be behind the others.
    lags: bool

    @classmethod
    def read(cls, body: bytes, headers: Mapping[str, str], skipped: int, names: str) -> Page:
        """Raises StoreError if it is no answer of Consul's."""
        try:
            index, lags = read_index(headers)
            rows = _read_rows(body) if body else []
        except (LookupError, ValueError):
            raise StoreError(f"Consul at {names}: the answer cannot be read") from None
        return cls(index, rows, skipped, lags)


def contents(page: Page, known: Content, trusts: bool) -> Content:
    """The content that an answer shows; ``known`` itself if nothing differs but the index.

    Entries that have not changed are those of ``known``.  ``trusts`` says that an entry with the
    same index has the same value; otherwise the values are compared.
    """
    entries: dict[str, Entry] = {}
    get = known.entries.get
    kept = 0
    try:
        for row in page.rows:
            key = row.Key[page.skipped :]
            if not key and page.skipped:
                continue  # the place itself, as a browser makes it
            entry = get(key)
            if entry is None or entry.index != row.ModifyIndex:
                entry = Entry(_value(row), row.ModifyIndex)
            elif trusts or entry.value == (value := _value(row)):
                kept += 1
            else:
                entry = Entry(value, row.ModifyIndex)
            entries[key] = entry
    except ValueError:
        raise StoreError("Consul: a value cannot be read") from None
    if kept == len(entries) == len(known.entries):
        return known
    return Content(page.index, entries)


def _value(row: _Row) -> bytes:
    return _read_value(row.Value) or b""


class Watch:
    """Tells of each new content, and of failures; see :meth:`slardar.stores.tree.Tree.watch`.

    ``ask`` is :meth:`ConsulTree._page`.
    """

    def __init__(
        self,
        ask: Callable[[int, str], Awaitable[Page]],
        reactor: Any,
        is_stale: bool,
        chance: Callable[[], float],
    ) -> None:
        self._blocking: Blocking[Page] = Blocking(
            reactor,
            lambda index, is_stale: ask(index, "stale" if is_stale else ""),
            may_be_stale=is_stale,
            pace=Pace(_PAUSE, _LONGEST, _BURST).delay,
            chance=chance,
        )
        self._was_away = False

    def wrote(self, index: int) -> None:
        """The highest index that was written here: a content that is older is not told."""
        self._blocking.least = index

    def start(
        self, seen: Content, changed: Callable[[Content], None], failed: Callable[[str], None]
    ) -> None:
        """Begin."""
        self._told = seen
        self._changed = changed
        self._failed = failed
        self._blocking.start(self._take, self._fail)

    def stop(self) -> None:
        """Tell nothing any more, and ask nobody."""
        self._blocking.stop()

    def _take(self, page: Page, trusts: bool) -> None:
        content = contents(page, self._told, trusts)
        if content is not self._told or self._was_away:
            self._was_away = False
            self._told = content
            self._changed(content)

    def _fail(self, error: Exception) -> None:
        self._was_away = True
        if isinstance(error, StoreError):
            self._failed(str(error))
        else:
            _log.failure("a question to Consul has failed in an unexpected way")
            self._failed(one_line(error))
