"""A store of your own: a journal, in which each commit is a line of JSON.

Run it from a checkout::

    PYTHONPATH=examples/journal twistd --nodaemon slardar --store journal:changes.jsonl

The folders ``slardar`` and ``stores`` around this file have no ``__init__.py``, so that Python
finds it beside slardar's own stores.
"""

from __future__ import annotations

import os

import msgspec
from twisted.internet import defer, threads
from zope.interface import implementer

from slardar.errors import ConfigError, StoreError
from slardar.interfaces import IStore
from slardar.model.change import Change
from slardar.stores.memory import MemoryStore
from slardar.stores.written import conflict, encode


def _private(path, flags):
    """Opens a file that only its owner may read: hooks and keys are in it."""
    return os.open(path, flags, 0o600)


@implementer(IStore)
class Journal:
    """Keeps every commit in a file, and the state in memory."""

    def __init__(self, path):
        self._path = path
        self._memory = MemoryStore()
        self._revision = None
        self._file = None
        # One commit at a time: what is in the file must be in the memory's order.
        self._lock = defer.DeferredLock()
        # Of calls under way.
        self._answers = set()

    async def _open(self):
        self._revision = (await self._memory.open()).revision
        try:
            self._file = open(self._path, "a+b", opener=_private)  # noqa: SIM115 until close
            self._file.seek(0)
            for line in self._file:
                if not line.endswith(b"\n"):
                    # slardar ended while it was written: nobody was told that it is kept.
                    self._file.truncate(self._file.tell() - len(line))
                    break
                version, changes = msgspec.json.decode(line, type=tuple[int, list[Change]])
                self._revision = await self._memory.commit(self._revision, changes, version)
        except (OSError, msgspec.DecodeError) as error:
            raise StoreError(f"{self._path}: {error}") from error
        return self._memory.state

    async def _commit(self, expected, changes, version):
        for change in changes:
            encode(change)  # refuses what could not be read back
        if self._file is None:
            raise StoreError(f"{self._path}: this store is not open")
        line = msgspec.json.encode((version, changes)) + b"\n"
        # A disk may be slow, so a thread waits for it.
        await threads.deferToThread(self._write, expected, line)
        self._revision = await self._memory.commit(expected, changes, version)
        return self._revision

    def _write(self, expected, line):
        if expected != self._revision:
            raise conflict(self._revision, expected)
        end = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(line)
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            self._file.truncate(end)
            raise StoreError(f"{self._path}: {error}") from error

    def _in_turn(self, call, *arguments):
        answer = self._lock.run(lambda: defer.ensureDeferred(call(*arguments)))
        self._answers.add(answer)
        return answer.addBoth(self._answered, answer)

    def _answered(self, result, answer):
        self._answers.discard(answer)
        return result

    def open(self):
        return self._in_turn(self._open)

    def commit(self, expected, changes, version):
        return self._in_turn(self._commit, expected, changes, version)

    def keep_history(self, versions):
        self._memory.keep_history(versions)

    def history(self, before, limit):
        return self._memory.history(before, limit)

    def state_at(self, version):
        return self._memory.state_at(version)

    async def _close(self):
        await defer.DeferredList(self._answers)
        if self._file is not None:
            self._file.close()
            self._file = None
        await self._memory.close()

    def close(self):
        return defer.ensureDeferred(self._close())


def from_place(place, reactor):
    if not place:
        raise ConfigError("expected the name of a file after journal:")
    return Journal(place)
