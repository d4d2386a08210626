"""Follows the keys below one prefix of etcd, whatever happens to the connection or to etcd.

- A watch that is cut goes on after the last revision that is known.
- A revision that was compacted meanwhile, or a state that has gone back (a snapshot was restored),
  has all keys read anew; so does a time in which etcd could not be asked.
- A watch may die without a word: a proxy forgets it, or a member has lost the others.  So once in
  a while etcd is asked for the last written key and the number of keys, which tell whether the
  watch has missed anything.  The answer also moves the known revision on, so that other
  users of etcd may compact theirs.
"""

# Twisted's failures have no types.
# mypy: disable-error-code="no-untyped-call"

from __future__ import annotations

from collections.abc import Callable
from random import random
from typing import Any, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from slardar.backoff import backoff
from slardar.errors import StoreError, one_line
from slardar.stores.etcd_keys import COMPACTED, Keys
from slardar.stores.etcd_messages import RangeAnswer, RefusedError, WatchResult
from slardar.stores.tree import Content, Entry

__all__ = ["CHECK", "Watch"]

#: Seconds between two questions whether the watch has missed anything, at least and at most: an
#: idle watch costs 1.5 requests a minute at most.
CHECK: Final = (40.0, 60.0)
#: Seconds that the watch may be behind an answer.
GRACE: Final = 2.0
#: Seconds after which a watch that has told nothing is begun again.  etcd tells of its progress
#: every 10 minutes.
SILENCE: Final = 21 * 60.0
#: Seconds until the next try: the first time, and at most.
PAUSE: Final = 0.1
LONGEST_PAUSE: Final = 15.0
#: Seconds after which a watch was a good one.
GOOD: Final = 10.0

_log: Final = Logger("slardar.stores.etcd")


class _AnewError(StoreError):
    """All keys must be read anew; etcd can be asked."""


class Watch:
    """Tells ``changed`` of each content after ``seen``, and ``failed`` why etcd cannot be asked.

    ``check`` and ``grace`` are :data:`CHECK` and :data:`GRACE`, for tests.
    """

    def __init__(
        self,
        keys: Keys,
        reactor: Any,
        seen: Content,
        changed: Callable[[Content], None],
        failed: Callable[[str], None],
        check: tuple[float, float] = CHECK,
        grace: float = GRACE,
    ) -> None:
        self._keys = keys
        self._gateway = keys.gateway
        self._reactor = reactor
        self._content = seen
        self._changed = changed
        self._failed = failed
        self._check_every = check
        self._grace = grace
        #: Whether ``changed`` must hear of the content.
        self._untold = False
        #: The content is that of this revision.
        self._known = seen.index
        #: All keys must be read before the watch goes on; and told, even if nothing is new.
        self._anew = self._must_tell = False
        #: Whether this is another watch than the first one.
        self._resumed = False
        #: Tries in a row that were no good watch.
        self._failures = 0
        #: When the watch last told anything.
        self._heard = 0.0
        self._stopped = False

    def stop(self) -> None:
        """Tell nothing any more.  The caller cancels :meth:`follow` then; who is told of something
        may call this, in which case there is nothing to cancel."""
        self._stopped = True

    async def follow(self) -> None:
        """Goes on until it is cancelled."""
        while True:
            began = self._reactor.seconds()
            try:
                if self._anew:
                    await self._read()
                if not self._stopped:
                    await self._watch()
            except CancelledError:
                raise
            except _AnewError as error:
                self._anew = True
                _log.info("{error}: all keys are read anew", error=error)
            except StoreError as error:
                if isinstance(error, RefusedError):
                    # Versions before 3.4.23 say "permission denied" where they mean the token.
                    self._gateway.forget_token()
                self._anew = self._must_tell = True
                self._failed(str(error))
            except Exception as error:
                # A mistake in slardar must not be the end of the watch.
                _log.failure("the watch of {name} is begun anew", name=self._gateway.name)
                self._anew = self._must_tell = True
                self._failed(one_line(error))
            if self._stopped:
                return
            if self._reactor.seconds() - began >= GOOD:
                self._failures = 0
            await self._sleep(backoff(PAUSE, LONGEST_PAUSE, self._failures))
            self._failures += 1

    async def _read(self) -> None:
        before = self._content
        content = await self._keys.read(before.entries)
        self._anew = False
        self._content = content
        self._known = content.index
        if self._must_tell or content.entries != before.entries:
            self._must_tell = False
            self._changed(content)

    async def _watch(self) -> None:
        """One watch, until it is cut."""
        request = {
            **self._keys.range(),
            "start_revision": self._known + 1,
            "progress_notify": True,
            "fragment": True,
        }
        self._heard = self._reactor.seconds()
        stream = await self._gateway.open(request, self._took, self._tell)
        checks = Deferred.fromCoroutine(self._check_often(stream.name))
        checks.addErrback(_wrong).addCallback(stream.end)
        try:
            await stream.ended
        finally:
            stream.cut()
            self._resumed = True
            checks.cancel()

    def _took(self, result: WatchResult) -> None:
        """Take over what the watch has told."""
        self._heard = self._reactor.seconds()
        if result.compact_revision:
            raise _AnewError(f"{self._gateway.name}: {COMPACTED}")
        if result.created and result.header.revision < self._known:
            raise _AnewError(f"{self._gateway.name}: its revision has gone back")
        # A resumed watch may tell again what is known.
        events = [one for one in result.events if one.kv.mod_revision > self._known]
        if not events:
            return
        entries = dict(self._content.entries)
        for one in events:
            name = self._keys.name(one.kv.key)
            if one.type == "DELETE":
                entries.pop(name, None)
            else:
                entries[name] = Entry(one.kv.value, one.kv.mod_revision)
        self._known = max(one.kv.mod_revision for one in events)
        self._content = Content(self._known, entries)
        self._untold = True

    def _tell(self) -> None:
        """Tell once of all changes that have come together."""
        if self._untold and not self._stopped:
            self._untold = False
            self._changed(self._content)

    async def _check_often(self, member: str) -> None:
        """Returns when the watch has been silent for too long, or its member was silent when it was
        asked, and another one was not.  Raises StoreError if the watch has missed something, or
        etcd cannot be asked."""
        if self._resumed:
            await self._check()
        while self._reactor.seconds() - self._heard < SILENCE and self._gateway.name == member:
            least, most = self._check_every
            await self._sleep(least + random() * (most - least))  # noqa: S311 - no secret
            await self._check()

    async def _check(self) -> None:
        known = self._known
        answer = await self._gateway.ask("kv/range", self._keys.newest(), RangeAnswer)
        if answer.header.revision < known:
            raise _AnewError(f"{self._gateway.name}: its revision has gone back")
        if not self._agrees(answer):
            await self._sleep(self._grace)
            if not self._agrees(answer):
                raise _AnewError(f"{self._gateway.name}: the watch has missed a change")

    def _agrees(self, answer: RangeAnswer) -> bool:
        """Whether the content has all that was written up to the answer."""
        revision = answer.header.revision
        if self._known > revision:
            return True
        entries = self._content.entries
        newest = max((one.index for one in entries.values()), default=0)
        newest_there = max((one.mod_revision for one in answer.kvs), default=0)
        if (len(entries), newest) != (answer.count, newest_there):
            return False
        self._known = revision
        return True

    async def _sleep(self, seconds: float) -> None:
        await deferLater(self._reactor, seconds, lambda: None)


def _wrong(failure: Failure) -> StoreError | None:
    """What the checks of a watch say against it; nothing if they have ended with it."""
    error: Any = failure.value
    if isinstance(error, CancelledError):
        return None
    if isinstance(error, StoreError):
        return error
    _log.failure("a watch cannot be checked", failure=failure)
    return StoreError(one_line(error))
