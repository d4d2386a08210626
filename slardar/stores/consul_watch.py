"""Follows the keys below one place of Consul, by the rules of its documentation.

One blocking query asks for all keys: Consul answers when there is something newer than an index, or
when ``wait`` is over.  An answer may be the old one.  An index that goes backwards, as after a
snapshot was restored, means that the query starts anew.
"""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import msgspec
from msgspec import Struct
from twisted.internet import defer, task
from twisted.logger import Logger

from slardar.catalogues.pace import Pace
from slardar.errors import StoreError, one_line
from slardar.stores.tree import Content, Entry

__all__ = ["Page", "Watch", "contents"]

#: Seconds after a first failure before Consul is asked again, and at most; between, they double.
_FIRST_DELAY, _LONGEST_DELAY = 0.25, 10.0
#: Seconds between queries in a storm of changes, at first and at most, and how many may come at
#: once before.
_PAUSE, _LONGEST, _BURST = 0.05, 0.2, 20
#: Milliseconds for which a server may have heard nothing of the leader before another is asked.
_MAX_LAG = 5000

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
            index = int(headers["X-Consul-Index"])
            lags = (
                headers.get("X-Consul-KnownLeader", "true") != "true"
                or int(headers.get("X-Consul-LastContact", "0")) > _MAX_LAG
            )
            rows = _read_rows(body) if body else []
        except (LookupError, ValueError):
            raise StoreError(f"Consul at {names}: the answer cannot be read") from None
        # An index of 0 would make each query answer at once.
        return cls(max(index, 1), rows, skipped, lags)


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
        self._ask = ask
        self._reactor = reactor
        self._mode = "stale" if is_stale else ""
        self._chance = chance
        #: The highest index that was written here: a content that is older is not told.
        self.written = 0
        self._is_stopped = False
        self._waiting: defer.Deferred[Any] | None = None
        #: What the next query waits for something newer than; 0: it does not wait.
        self._index = 0
        #: Whether only the leader is asked next.
        self._doubts = False
        #: Whether nothing can have happened unseen since the last answer.
        self._trusts = False
        self._was_away = False
        self._failures = 0
        self._pace = Pace(_PAUSE, _LONGEST, _BURST)

    def start(
        self, seen: Content, changed: Callable[[Content], None], failed: Callable[[str], None]
    ) -> None:
        """Begin."""
        self._told = seen
        self._changed = changed
        self._failed = failed
        defer.Deferred.fromCoroutine(self._run()).addErrback(
            lambda failure: _log.failure("Consul is followed no more", failure=failure)
        )

    def stop(self) -> None:
        """Tell nothing any more, and ask nobody."""
        self._is_stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def _run(self) -> None:
        while not self._is_stopped:
            await self._turn()

    async def _turn(self) -> None:
        """Ask once, and tell what is new."""
        await self._sleep(self._pace.delay(self._reactor.seconds()))
        if self._is_stopped:
            return
        mode = "" if self._doubts else self._mode
        try:
            page = await self._wait(defer.Deferred.fromCoroutine(self._ask_for(mode)))
            content = contents(page, self._told, self._trusts and page.index >= self._index)
        except StoreError as error:
            await self._fail(str(error))
        except Exception as error:
            if self._is_stopped:
                return
            _log.failure("a question to Consul has failed in an unexpected way")
            await self._fail(one_line(error))
        else:
            self._take(page, content, mode)

    async def _ask_for(self, mode: str) -> Page:
        return await self._ask(self._index, mode)

    def _take(self, page: Page, content: Content, mode: str) -> None:
        """Take an answer by Consul's rules, and tell of what is new in it."""
        self._failures = 0
        went_back = page.index < self._index
        if mode and (went_back or page.lags or page.index < self.written):
            # A server that is behind, or a state that was restored: the leader knows.
            self._index = 0
            self._doubts = True
            return
        self._doubts = False
        if went_back:
            # The same indexes may come again, with other values.
            self._index = 0
            self._trusts = False
        else:
            self._index = page.index
            self._trusts = True
        if content is not self._told or self._was_away:
            self._was_away = False
            self._told = content
            self._changed(content)

    async def _fail(self, reason: str) -> None:
        self._index = 0
        self._trusts = False
        self._was_away = True
        if self._is_stopped:
            return
        self._failed(reason)
        delay = min(_FIRST_DELAY * 2.0 ** min(self._failures, 16), _LONGEST_DELAY)
        self._failures += 1
        # Many slardars lose one Consul at the same moment.
        await self._sleep(delay * (0.5 + 0.5 * self._chance()))

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0 and not self._is_stopped:
            with contextlib.suppress(defer.CancelledError):
                await self._wait(task.deferLater(self._reactor, seconds))

    async def _wait(self, deferred: defer.Deferred[Any]) -> Any:
        """Wait for something that :meth:`stop` cancels."""
        self._waiting = deferred
        try:
            return await deferred
        finally:
            self._waiting = None
