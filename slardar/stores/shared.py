"""A store on a server that many slardars share: Consul, etcd, ZooKeeper.

:class:`~slardar.stores.tree.Tree` speaks to the server, :mod:`slardar.stores.layout` says which key
holds what.  Everybody may write the keys that are not slardar's own at any time.  Slardars take
turns: each commit replaces :class:`~slardar.stores.layout.Meta` and fails if somebody else was
faster.

A commit that fits into one write is one.  Of a larger one the record of its changes is written
first, in parts that nobody looks at; then one write of ``Meta`` makes it valid; then the keys are
written, a number at a time.  Whoever reads meanwhile takes the values of the record for the keys
that are still to be written, so nobody sees half of it.  If the slardar ends in between, the next
one to commit writes the rest.  A key that somebody else has written meanwhile stays as it is.

Values with private keys are not in the record, which is kept.  A large commit writes them beside it
in parts of their own, which are removed when all keys are written.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import msgspec
from msgspec import structs
from twisted.internet import defer
from twisted.logger import Logger
from zope.interface import implementer

from slardar.errors import ConflictError, StoreError
from slardar.interfaces import IWatchedStore
from slardar.model.change import Change, Recorded, Revision, StoredState
from slardar.stores.layout import HISTORY, MAX_VERSION, META, OWN, Meta, pack, targets
from slardar.stores.record import (
    Journal,
    forgettable,
    large_parts,
    made_record,
    pages,
    record_key,
    records,
    secret_keys,
    secret_parts,
    state_before,
)
from slardar.stores.tree import Content, LostRaceError, NotWrittenError, Tree, Write
from slardar.stores.view import View, with_writes
from slardar.stores.written import conflict, encode

__all__ = ["SharedStore"]

T = TypeVar("T")
Rows = list[tuple[Change, str | None]]
Values = list[tuple[str, bytes | None]]

#: Names of commits that are kept, to tell after a lost answer whether a commit was made.
_COMMITS = 16
#: States that a caller may still have, and commit to.
_STATES = 16
#: Bytes of a write that are left for ``Meta`` and the like.
_ROOM = 4096
#: How often keys of a large commit are tried again while others write them.
_ATTEMPTS = 100
#: Seconds before a content that is older than the last one is taken for the truth.
_DOUBT = 1.0

_log = Logger("slardar.stores")


@implementer(IWatchedStore)
class SharedStore:
    """Keeps changes in ``tree``.

    ``prefix`` is what stands before a key in messages, ``config/slardar/`` say.  ``reactor`` is
    asked for time only.
    """

    def __init__(self, tree: Tree, reactor: Any, prefix: str = "") -> None:
        self._tree = tree
        self._reactor = reactor
        self._prefix = prefix
        self._kept = 1000
        self._is_open = False
        self._accepts = False
        #: Taken for each commit.
        self._lock = defer.DeferredLock()
        self._reset()

    def _reset(self) -> None:
        #: The newest content that is known, and what the last one meant that was looked at.
        self._newest = Content(0, {})
        self._view = View(self._prefix)
        #: The state to which a commit is made, and its content with that commit.
        self._base = self._view
        self._ours = self._newest
        #: The states that the caller may have, by revision.
        self._given: dict[Revision, View] = {}
        #: The revision of the last state that the caller was given.
        self._last: Revision = self._view.revision
        #: What was heard while a commit was under way.
        self._late: Content | None = None
        self._changed: Callable[[StoredState], None] | None = None
        self._failed: Callable[[str], None] | None = None
        self._was_away = False
        self._doubt: Any = None
        self._telling: Any = None

    # The life of a store.

    def open(self) -> defer.Deferred[StoredState]:
        """Read everything; see :class:`slardar.interfaces.IStore`."""
        if self._is_open:
            return defer.fail(StoreError(f"{self._prefix}: this store is open already"))
        self._is_open = self._accepts = True
        return defer.ensureDeferred(self._open())

    async def _open(self) -> StoredState:
        await self._lock.acquire()
        try:
            self._newest = await self._tree.read()
            return self._give(self._look()).state
        except BaseException:
            self._is_open = self._accepts = False
            await self._tree.close()
            raise
        finally:
            self._lock.release()

    def close(self) -> defer.Deferred[None]:
        """Finish the commits under way, and let go of the server."""
        self._accepts = False
        self._changed = self._failed = None
        return defer.ensureDeferred(self._close())

    async def _close(self) -> None:
        await self._lock.acquire()
        try:
            if self._is_open and not self._accepts:
                try:
                    await self._tree.close()
                finally:
                    # The caller may have lost patience.  The store can be opened again all the
                    # same.
                    for call in (self._doubt, self._telling):
                        if call is not None:
                            call.cancel()
                    self._reset()
                    self._is_open = False
        finally:
            self._lock.release()

    def keep_history(self, versions: int) -> None:
        """Keep so many versions; see :class:`slardar.interfaces.IStore`."""
        self._kept = versions

    # What others write.

    def watch(self, changed: Callable[[StoredState], None], failed: Callable[[str], None]) -> None:
        """See :class:`slardar.interfaces.IWatchedStore`."""
        self._changed, self._failed = changed, failed
        self._tree.watch(self._newest, self._heard, self._away)

    def _away(self, reason: str) -> None:
        """Called by the tree when it cannot ask the server."""
        self._was_away = True
        if self._failed is not None:
            self._failed(reason)

    def _heard(self, content: Content) -> None:
        """Called by the tree when the server has another content."""
        if self._lock.locked or self._telling is not None:
            self._late = content
        elif self._changed is not None:
            self._take(content)

    def _take(self, content: Content) -> None:
        """Take what was heard, unless it is older than what is known: such a content was on its
        way while a commit was made, or somebody has set the server back."""
        if content.index < self._newest.index:
            if self._doubt is None:
                self._doubt = self._reactor.callLater(_DOUBT, self._ask_again)
            return
        if self._doubt is not None:
            self._doubt.cancel()
            self._doubt = None
        self._newest = content
        self._tell()

    def _ask_again(self) -> None:
        self._doubt = None
        asked = defer.ensureDeferred(self._verify())
        asked.addErrback(
            lambda failure: _log.failure("a state of the store is not read", failure=failure)
        )

    async def _verify(self) -> None:
        await self._lock.acquire()
        try:
            if self._changed is not None:
                await self._refresh()
        except StoreError as error:
            self._away(str(error))
            if self._changed is not None and self._doubt is None:
                self._doubt = self._reactor.callLater(_DOUBT, self._ask_again)
        finally:
            self._release()

    async def _refresh(self) -> None:
        """Read everything again."""
        self._newest = await self._tree.read()

    def _release(self) -> None:
        """End a turn.  What was heard meanwhile is told after the answer, which the caller may
        still have to take."""
        self._lock.release()
        if self._telling is None and self._changed is not None:
            self._telling = self._reactor.callLater(0, self._tell_late)

    def _tell_late(self) -> None:
        self._telling = None
        if self._lock.locked or self._changed is None:
            return
        late, self._late = self._late, None
        if late is not None:
            self._take(late)
        self._tell()

    def _tell(self) -> None:
        """Tell of the newest state, unless the caller has it."""
        view = self._look()
        if self._changed is not None and (view.revision != self._last or self._was_away):
            self._was_away = False
            self._changed(self._give(view).state)

    def _look(self) -> View:
        self._view = self._view.moved(self._newest)
        return self._view

    def _give(self, view: View, revision: str = "") -> View:
        """Note that the caller has a state, by this revision."""
        self._last = revision or view.revision
        self._given.pop(self._last, None)
        self._given[self._last] = view
        while len(self._given) > _STATES:
            del self._given[next(iter(self._given))]
        return view

    # The past.

    def history(self, before: int | None, limit: int) -> defer.Deferred[list[Recorded]]:
        """Changes of the past, newest version first; see :class:`slardar.interfaces.IStore`.

        What others than slardars have written is not among them.
        """
        return self._when_open(self._pages, before, limit)

    def _pages(self, before: int | None, limit: int) -> list[Recorded]:
        view = self._look()
        entries = view.content.entries
        found = records(entries, view.meta)
        return pages(found, entries, view.state.file, before, limit, self._prefix)

    def state_at(self, version: int) -> defer.Deferred[StoredState]:
        """The state that ``version`` left; see :class:`slardar.interfaces.IStore`.

        What others than slardars have written since is in it, unless a slardar has changed it
        later.
        """
        return self._when_open(self._state_at, version)

    def _state_at(self, version: int) -> StoredState:
        view = self._look()
        entries = view.content.entries
        found = records(entries, view.meta)
        return state_before(
            view.state, view.known, found, entries, version, view.meta, self._prefix
        )

    def _when_open(self, ask: Callable[..., T], *arguments: Any) -> defer.Deferred[T]:
        if not self._accepts:
            return defer.fail(StoreError(f"{self._prefix}: this store is not open"))
        return defer.execute(ask, *arguments)

    # Commits.

    def commit(
        self, expected: Revision, changes: Sequence[Change], version: int
    ) -> defer.Deferred[Revision]:
        """Write changes, all or none; see :class:`slardar.interfaces.IStore`.

        What others have written to other keys since ``expected`` harms nothing.
        """
        try:
            if not self._accepts:
                raise StoreError(f"{self._prefix}: this store is not open")
            if version > MAX_VERSION:
                raise StoreError(
                    f"{self._prefix}{META}: expected a version up to {MAX_VERSION}, and the next"
                    " change would go beyond it"
                )
            rows = [(one, encode(one)) for one in changes]
            values: dict[str, bytes | None] = {}
            for one, text in rows:
                values.update(self._checked(one, text))
        except StoreError as error:
            return defer.fail(error)
        answer: defer.Deferred[Revision] = defer.Deferred()
        made = defer.ensureDeferred(self._commit(answer, expected, rows, values, version))

        def end(result: Any) -> None:
            if answer.called:
                # The caller has given up.  If the commit is made, it is news for the caller.
                self._last = ""
            else:
                answer.callback(result)
            self._release()

        made.addBoth(end)
        return answer

    def _checked(self, change: Change, text: str | None) -> Iterable[tuple[str, bytes | None]]:
        for key, value in targets(change, text):
            if value is not None and len(value) > self._tree.max_value:
                raise StoreError(
                    f"{change.path}: {self._prefix}{key} would have {len(value)} bytes, and the"
                    f" store takes {self._tree.max_value}"
                )
            yield key, value

    async def _commit(
        self,
        answer: defer.Deferred[Revision],
        expected: Revision,
        rows: Rows,
        values: dict[str, bytes | None],
        version: int,
    ) -> Revision:
        await self._lock.acquire()
        if answer.called:
            raise StoreError(f"{self._prefix}: nobody waits for this change any more")
        base = self._given.get(expected)
        if base is None:
            raise conflict(self._look().revision, expected)
        self._base, self._ours = base, base.content
        try:
            await self._finish(base.meta.commits)
            self._check_race(values)
            await self._write_changes(rows, values, version)
        except LostRaceError:
            # What is there now is told before the caller asks again.
            await self._refresh()
            raise ConflictError("somebody else wrote to the store meanwhile: ask again") from None
        view = self._base.moved(self._ours)
        revision = view.revision
        if any(path.startswith(OWN) for path in base.state.broken):
            # It may be mended by this commit, of which the caller knows nothing: it is told.
            revision += "-"
        self._give(view, revision)
        return revision

    def _check_race(self, values: Iterable[str]) -> None:
        """Raises LostRaceError if one of the keys, or ``Meta``, differs from the caller's state."""
        newest = self._look()
        # After a lost answer, the index that is known for Meta may be that of another's commit.
        if newest.meta.commits != self._base.meta.commits:
            raise LostRaceError(f"{self._prefix}{META}: somebody else has committed")
        for key in (META, *values):
            known = self._ours.entries.get(key)
            if newest.index(key) != (0 if known is None else known.index):
                raise LostRaceError(f"{self._prefix}{key}: somebody else wrote it")

    async def _write_changes(
        self, rows: Rows, values: dict[str, bytes | None], version: int
    ) -> None:
        view = self._view
        name = secrets.token_hex(8)
        record = made_record(version, name, rows, view.known)
        last = rows[-1][0]
        old = view.meta
        oldest = old.oldest
        if not old.commits and any(key.startswith(HISTORY) for key in view.content.entries):
            # Somebody has removed or damaged Meta: what the history's versions meant is lost.
            oldest = version - 1
        commits = (name, *old.commits)[:_COMMITS]
        meta = Meta(version, commits, oldest, "", 0, last.who, last.time)
        writes = [
            Write(key, value, view.index(key))
            for key, value in values.items()
            if value is not None or view.index(key)
        ]
        # What the client of a CA keeps is no part of the history.
        key = record_key(version) if record.lines else ""
        text = pack(msgspec.json.encode(record))
        small = [*writes, Write(key, text, view.index(key))] if key else writes
        count, size = len(small) + 1, _size(small) + _ROOM
        tree = self._tree
        is_small = len(text) <= tree.max_value
        if not (is_small and count <= tree.max_writes and size <= tree.max_bytes):
            keys = tuple((write.key, write.expected or 0) for write in writes)
            record = structs.replace(record, keys=keys)
            key = record_key(version, name)
            room = min(tree.max_value, tree.max_bytes - 2 * _ROOM)
            parts = list(large_parts(record, room))
            await self._write_parts([*parts, *secret_parts(name, rows, room)])
            small = [Write(key, str(len(parts)).encode(), 0)]
            meta = structs.replace(meta, pending=key[len(HISTORY) :])
        oldest, gone = forgettable(
            view.content.entries,
            structs.replace(old, oldest=oldest),
            key,
            _size(small),
            self._kept,
            tree.max_writes - 1 - len(small),
            tree.max_bytes - _ROOM - _size(small),
        )
        meta = structs.replace(meta, oldest=oldest)
        removed = [Write(one, None) for one in gone]
        await self._write_known([_meta_write(meta, view.index(META)), *small, *removed], name)
        if meta.pending:
            try:
                await self._finish(commits)
            except (StoreError, LostRaceError) as error:
                # The commit is made.  The next one writes what is left.
                _log.warn(
                    "keys of version {version} are not all written yet: {error}",
                    version=version,
                    error=error,
                )

    async def _write_parts(self, parts: list[tuple[str, bytes]]) -> None:
        """Write what nobody looks at yet."""
        batch: list[Write] = []
        for key, value in parts:
            write = Write(key, value, 0)
            if batch and not self._fits([*batch, write]):
                await self._write(batch)
                batch = []
            batch.append(write)
        await self._write(batch)

    def _fits(self, writes: Sequence[Write]) -> bool:
        """Whether these and ``Meta`` fit into one write."""
        room = self._tree.max_bytes - _ROOM
        return len(writes) < self._tree.max_writes and _size(writes) <= room

    async def _finish(self, commits: tuple[str, ...]) -> None:
        """Write the keys of a large commit that are still to be written.

        ``commits`` are :attr:`Meta.commits` of the state that the caller knows.  Others may write
        the same keys at the same time, and then make a commit of their own.  For their commit
        nothing is written here: each write replaces ``Meta``, and the ``Meta`` of a commit that
        the caller does not know would pass for the caller's own.

        Raises LostRaceError if others write the keys again and again.
        """
        for _ in range(_ATTEMPTS):
            view = self._look()
            meta, journal = view.meta, view.journal
            if meta.commits != commits:
                return
            try:
                while meta.pending:
                    done, batch = self._batch(journal, meta.done)
                    if batch and not self._fits(batch):
                        # The key is too large to be written with anything else.
                        await self._write(batch)
                        continue
                    is_done = journal is None or done == len(journal.keys)
                    left = secret_keys(meta.pending, self._newest.entries)
                    if is_done and left and not batch:
                        while left and self._fits([*batch, Write(left[0], None)]):
                            batch.append(Write(left.pop(0), None))
                    if is_done and not left:
                        meta = structs.replace(meta, done=0, pending="")
                    else:
                        meta = structs.replace(meta, done=done)
                    entry = self._newest.entries.get(META)
                    mine = _meta_write(meta, 0 if entry is None else entry.index)
                    await self._write([mine, *batch])
                return
            except LostRaceError:
                await self._refresh()
        raise LostRaceError("others write again and again what a large change writes")

    def _batch(self, journal: Journal | None, start: int) -> tuple[int, list[Write]]:
        """The next keys of a large commit that fit into one write with ``Meta``, or the next key,
        and the number of the key after them."""
        batch: list[Write] = []
        if journal is None:
            return 0, batch
        for number, key, index, value in journal.left(start, self._newest.entries):
            batch.append(Write(key, value, index))
            if len(batch) > 1 and not self._fits(batch):
                return number, batch[:-1]
        return len(journal.keys), batch

    async def _write_known(self, writes: list[Write], name: str) -> None:
        """Write the commit ``name``.  If the answer is lost, look whether it was made."""
        try:
            await self._write(writes)
        except NotWrittenError:
            raise
        except StoreError as error:
            try:
                await self._refresh()
            except StoreError:
                raise StoreError(f"{error}; it is not known whether the change is made") from None
            meta = self._look().meta
            if name not in meta.commits:
                raise
            # If others have committed after it, this is the index of their Meta.  _check_race finds
            # by the names of commits that the caller does not know theirs.
            index = self._newest.entries[META].index
            values = [(write.key, write.value) for write in writes]
            self._ours = with_writes(self._ours, values, index)

    async def _write(self, writes: list[Write]) -> None:
        """Write keys, and note what the tree holds then."""
        index = await self._tree.write(writes)
        values = [(write.key, write.value) for write in writes]
        self._newest = with_writes(self._newest, values, index)
        self._ours = with_writes(self._ours, values, index)


def _meta_write(meta: Meta, index: int) -> Write:
    return Write(META, msgspec.json.encode(meta), index)


def _size(writes: Iterable[Write]) -> int:
    return sum(len(one.key) + len(one.value or b"") for one in writes)
