"""The history of a store that has it in memory only."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping

from msgspec import structs

from slardar.model.change import SECRET, Change, Recorded, StoredState
from slardar.stores.written import (
    PRUNED_AT_ONCE,
    Row,
    forget,
    kept_rows,
    kept_text,
    no_such_version,
    paged,
    place_in_file,
    stored_state,
    wanted_oldest,
)

__all__ = ["History"]

Texts = dict[tuple[str, str], str | None]


class History:
    """The changes since a state.  ``texts`` is the JSON of each thing in it.

    It serves stores that forget, and stores whose service keeps no history.  Reading it takes a
    time that grows with the number of changes.
    """

    def __init__(
        self,
        version: int = 0,
        texts: Mapping[tuple[str, str], str | None] | None = None,
        keep: int = 1000,
    ) -> None:
        #: How many versions are kept.
        self.keep = keep
        self._oldest = version
        #: The versions since, in order.
        self._versions: deque[int] = deque()
        #: The texts as the oldest version left them.
        self._first: Texts = {
            (kind, name): kept_text(kind, text)
            for (kind, name), text in (texts or {}).items()
            if kind != "acme"
        }
        #: Each change since, without its value, and the value's text.
        self._rows: deque[tuple[int, Change, str | None]] = deque()

    def add(self, version: int, rows: Iterable[tuple[Change, str | None]]) -> None:
        """Note the changes that made ``version``, and forget some that are too old."""
        kept = kept_rows(rows)
        if not kept:
            return
        for change, text in kept:
            self._rows.append((version, structs.replace(change, value=None), text))
        self._versions.append(version)
        oldest = wanted_oldest(self._versions, self.keep)
        for _ in range(PRUNED_AT_ONCE):
            if oldest is None or self._rows[0][0] > oldest:
                break
            self._oldest, change, text = self._rows.popleft()
            self._first[change.kind, change.name] = text
        forget(self._versions, self._oldest)

    def page(self, before: int | None, limit: int) -> list[Recorded]:
        """See :meth:`slardar.interfaces.IStore.history`."""
        versions: list[list[Row]] = []
        texts = dict(self._first)
        for version, change, text in self._rows:
            if before is not None and version >= before:
                break
            key = (change.kind, change.name)
            if version != self._oldest:
                said = texts.get(("file", place_in_file(*key)))
                if not versions or versions[-1][0].version != version:
                    versions.append([])
                versions[-1].append(Row(version, change, text, texts.get(key), key in texts, said))
            texts[key] = text
        return paged(reversed(versions), limit)

    def state_at(self, version: int) -> StoredState:
        """See :meth:`slardar.interfaces.IStore.state_at`."""
        newest = self._versions[-1] if self._versions else self._oldest
        if not self._oldest <= version <= newest:
            raise no_such_version(version, self._oldest, newest)
        texts = dict(self._first)
        for made, change, text in self._rows:
            if made > version:
                break
            texts[change.kind, change.name] = text
        rows = ((kind, name, text) for (kind, name), text in texts.items() if kind not in SECRET)
        return stored_state(version, 0, rows)
