"""A store that lives elsewhere, with what this machine remembers of it while it is away.

Every node serves what it last knew.  What was served is kept in a copy on this machine, so that a
node may also start while the store is away.  The store is tried again until it is there, and its
state is a change then.

A store that is suddenly empty is more often an accident than an order: Consul was started anew
without its data, say.  A state that has lost all that is served, or nearly all, and that no slardar
has made, is held back: what is served stays until the content is there again, or until somebody
says that the loss is meant.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from msgspec import structs
from twisted.internet.defer import Deferred, fail, maybeDeferred, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from slardar.backoff import backoff
from slardar.errors import ConflictError, StoreError, printable
from slardar.interfaces import IKeptStore, IWatchedStore
from slardar.model.change import Change, Recorded, Revision, StoredState
from slardar.stores.copy import StateCopy, reason_of
from slardar.stores.loss import is_restored, lost
from slardar.stores.trouble import Trouble
from slardar.stores.urls import hidden_url

__all__ = ["KeptStore"]

T = TypeVar("T")

#: Seconds for which a start waits for the store, before it goes on with the copy.
_START = 5.0
#: Seconds for one attempt to open the store, for one call of it, and for its end.
_ATTEMPT = 30.0
_CALL = 15.0
_CLOSE = 5.0
#: Seconds between attempts: the first pause, and the longest.
_PAUSE = 0.5
_MAX_PAUSE = 10.0
#: Seconds between two lines of the log that say that the store is away.
_QUIET = 60.0
#: Seconds between two notes in the copy that it is still the store's state.
_NOTE = 60.0
#: Seconds between the return of a lost content and the moment when it is served: whoever restores
#: a store may write it key by key.
_SETTLE = 1.0
#: The revision of a state that comes from the copy.  No store has it.
_COPY = "copy"

_log = Logger("slardar.store")


@implementer(IKeptStore)
class KeptStore:
    """The store ``inner``, which ``url`` names, with its copy on this machine.

    ``reactor`` gives time, ``clock`` epoch seconds, and ``draw`` a number from 0 to 1 by lot.
    """

    def __init__(
        self,
        inner: IWatchedStore,
        url: str,
        copy: StateCopy,
        reactor: Any,
        clock: Callable[[], float] = time.time,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._inner: Any = inner
        self.url = hidden_url(url)
        self.copy = copy
        self._reactor = reactor
        self._clock = clock
        self._draw = draw
        self._is_open = self._is_closing = False
        #: Whether the store has been opened; the attempt to do so, and who waits for the first one.
        self._is_reached = False
        self._attempt: Deferred[Any] | None = None
        self._first: Deferred[StoredState | None] | None = None
        #: Attempts in a row that have failed.
        self._failures = 0
        #: What is to be done later, by a name: the next attempt, say.
        self._calls: dict[str, Any] = {}
        self._changed: Callable[[StoredState], None] | None = None
        self._failed: Callable[[str], None] | None = None
        #: The state with which the store was opened, until it is told.
        self._early: StoredState | None = None
        #: What was served last, as far as this machine knows; and until when the store was known to
        #: hold it, if that is not now.
        self.kept: StoredState | None = None
        self.known_until: float | None = None
        self._away: Trouble | None = None
        self._held: Trouble | None = None
        #: The state that is held back.
        self.waiting: StoredState | None = None
        #: What the log has said last of the store that is away, and when.
        self._said = ""
        self._said_at: float | None = None

    @property
    def trouble(self) -> Trouble | None:
        """Why what is served may not be what the store holds; ``None`` if it is."""
        return self._away or self._held

    # The start.

    def take_over(self, state: StoredState, known_until: float | None) -> None:
        """See :class:`slardar.interfaces.IKeptStore`."""
        self.kept, self.known_until = state, known_until

    def open(self) -> Deferred[StoredState]:
        """Open the store.

        If it is not there within 5 s, or its state has lost what was served, it fires with what was
        served last; with an empty state if nothing is known.
        """
        if self._is_open or self._is_closing:
            return fail(StoreError(f"{self.url}: this store is open already"))
        self._is_open = True
        return Deferred.fromCoroutine(self._open())

    async def _open(self) -> StoredState:
        copied = await self.copy.open()
        if self.kept is None and copied is not None:
            self.kept, self.known_until = copied.state, copied.time
        self._check_open()
        first: Deferred[StoredState | None] = Deferred()
        self._first = first
        self._later("first", _START, self._not_in_time)
        self._try()
        state = await first
        self._check_open()
        if state is not None and self._may_pass(state):
            return state
        known: StoredState = structs.replace(self.kept or StoredState(), revision=_COPY)
        return known

    def _check_open(self) -> None:
        if not self._is_open:
            raise StoreError(f"{self.url}: this store was closed while it was opened")

    def _try(self) -> None:
        """Make one attempt to open the store."""
        self._attempt = attempt = self._limited(maybeDeferred(self._inner.open), _ATTEMPT)
        attempt.addCallbacks(self._reached, self._not_reached)

    def _reached(self, state: StoredState) -> None:
        self._attempt = None
        if not self._is_open:
            return
        self._is_reached = True
        self._failures = 0
        self.known_until = None
        self._later("note", _NOTE, self._note)
        if not self._answer_first(state):
            self._early = state
            if self._changed is not None:
                self._follow()

    def _not_reached(self, failure: Failure) -> None:
        self._attempt = None
        if not self._is_open:
            return
        self._gone(reason_of(failure))
        self._answer_first(None)
        self._end_inner().addCallback(self._try_later)

    def _try_later(self, _: object) -> None:
        if self._is_open:
            pause = backoff(_PAUSE, _MAX_PAUSE, self._failures, self._draw)
            self._failures += 1
            self._later("try", pause, self._try)

    def _not_in_time(self) -> None:
        """The start goes on; the attempt does, too."""
        self._gone(f"{self.url}: no answer within {_START:g} s")
        self._answer_first(None)

    def _answer_first(self, state: StoredState | None) -> bool:
        """Answer the start, if it waits."""
        first, self._first = self._first, None
        self._cancel("first")
        if first is not None:
            first.callback(state)
        return first is not None

    # What the store tells.

    def watch(self, changed: Callable[[StoredState], None], failed: Callable[[str], None]) -> None:
        """See :class:`slardar.interfaces.IWatchedStore`."""
        self._changed, self._failed = changed, failed
        if self.trouble is not None:
            failed(self.trouble.reason)
        if self._is_reached:
            self._follow()

    def _follow(self) -> None:
        early, self._early = self._early, None
        if early is not None:
            self._told(early)
        try:
            self._inner.watch(self._told, self._gone)
        except Exception:
            # A bug of a third party's store.
            self._is_reached = False
            self._not_reached(Failure())  # type: ignore[no-untyped-call]

    def _told(self, state: StoredState) -> None:
        """The store holds this state."""
        if not self._is_open or self._changed is None:
            return
        self._be_back()
        if self.waiting is not None:
            self._look_again(state)
        elif self._may_pass(state):
            self._changed(state)

    def _gone(self, reason: str) -> None:
        """The store is away."""
        if not self._is_open:
            return
        # It may quote what somebody else's server has said.
        reason = printable(reason)
        if self._away is None:
            since = self._clock() if self.known_until is None else self.known_until
            self._away = Trouble("stale", since, reason)
        else:
            self._away = structs.replace(self._away, reason=reason)
        if reason != self._said:
            self._say()
        if self._failed is not None:
            self._failed(reason)

    def _say(self) -> None:
        """Log that the store is away, once a minute at most."""
        now = self._clock()
        wait = 0.0 if self._said_at is None else self._said_at + _QUIET - now
        if wait > 0:
            self._later("say", wait, self._say)
        elif self._away is not None and self._away.reason != self._said:
            self._said, self._said_at = self._away.reason, now
            _log.error(
                "the store is away, and {what} is served: {reason}",
                what="only the file" if self.kept is None else "what was known of it last",
                reason=self._away.reason,
            )

    def _be_back(self) -> None:
        away, self._away = self._away, None
        if away is not None and self._said:
            self._said = ""
            seconds = self._clock() - away.since
            _log.info("the store is there again, after {seconds:.0f} s", seconds=seconds)

    # A state that has lost what is served.

    def _may_pass(self, state: StoredState) -> bool:
        """Whether a state may be served; else it is held back."""
        reason = "" if self.kept is None else lost(self.kept, state)
        if not reason:
            return True
        self.waiting = state
        self._held = Trouble("held", self._clock(), _advice(reason))
        _log.critical("the store's new state is not served: {reason}", reason=self._held.reason)
        if self._failed is not None:
            self._failed(self._held.reason)
        return False

    def _look_again(self, state: StoredState) -> None:
        """Another state came while one is held back."""
        assert self.kept is not None
        assert self._held is not None
        self.waiting = state
        if state.version > self.kept.version:
            self._release("another node has taken the store as it is")
        elif is_restored(self.kept, state):
            self._later("settle", _SETTLE, self._settled)
        else:
            reason = _advice(lost(self.kept, state) or "has lost a part of what is served")
            self._held = structs.replace(self._held, reason=reason)

    def _settled(self) -> None:
        kept, waiting = self.kept, self.waiting
        if self._away is not None or kept is None or waiting is None:
            return
        if is_restored(kept, waiting):
            self._release("the store has its content again")

    def _release(self, why: str) -> None:
        state = self._end_hold()
        if state is not None and self._changed is not None:
            _log.info("{why}", why=why)
            self._changed(state)

    def _end_hold(self) -> StoredState | None:
        self._cancel("settle")
        state, self.waiting, self._held = self.waiting, None, None
        return state

    # What the caller tells and asks.

    def keep(self, state: StoredState) -> None:
        """See :class:`slardar.interfaces.IKeptStore`."""
        if self.trouble is not None:
            if self.kept is None:
                # It is empty only because the store was never seen: not worth a copy.
                return
            # The store has not counted what was changed here.
            state = structs.replace(state, version=self.kept.version)
        self.kept = state
        self._note()

    def _note(self) -> None:
        """Have the copy say what is served, and until when the store was known to hold it."""
        if self.kept is not None:
            now = self._clock()
            self.copy.keep(self.kept, now if self.trouble is None else self.trouble.since)
        self._later("note", _NOTE, self._note)

    def commit(
        self, expected: Revision, changes: Sequence[Change], version: int
    ) -> Deferred[Revision]:
        """See :class:`slardar.interfaces.IStore`.

        While the store is away it fails at once; so it does while a state is held back, except for
        a commit to the state that is held back: who names that state takes it.  What the file says
        is only for the record, so it may change all the time.
        """
        if not self._is_open:
            return fail(StoreError(f"{self.url}: this store is not open"))
        trouble = self.trouble
        is_acceptance = self.waiting is not None and expected == self.waiting.revision
        if trouble is not None and not (is_acceptance and trouble is self._held):
            if not is_acceptance and all(one.kind == "file" for one in changes):
                return succeed(expected)
            if trouble is self._held:
                return fail(ConflictError(trouble.reason))
            return fail(
                StoreError(f"the store is away, so nothing can be changed: {trouble.reason}")
            )
        made: Deferred[Revision] = self._limited(
            maybeDeferred(self._inner.commit, expected, changes, version),
            _CALL,
            "; it is not known whether the change is made",
        )

        def accepted(revision: Revision) -> Revision:
            self._end_hold()
            return revision

        return made.addCallback(accepted) if is_acceptance else made

    def keep_history(self, versions: int) -> None:
        """See :class:`slardar.interfaces.IStore`."""
        self._inner.keep_history(versions)

    def history(self, before: int | None, limit: int) -> Deferred[list[Recorded]]:
        """See :class:`slardar.interfaces.IStore`; it fails at once while the store is away."""
        return self._ask(self._inner.history, before, limit)

    def state_at(self, version: int) -> Deferred[StoredState]:
        """See :class:`slardar.interfaces.IStore`; it fails at once while the store is away."""
        return self._ask(self._inner.state_at, version)

    def _ask(self, ask: Callable[..., Deferred[T]], *arguments: Any) -> Deferred[T]:
        if not self._is_open:
            return fail(StoreError(f"{self.url}: this store is not open"))
        if self._away is not None:
            return fail(StoreError(f"the store is away: {self._away.reason}"))
        return self._limited(maybeDeferred(ask, *arguments), _CALL)

    def _limited(self, answer: Deferred[T], seconds: float, so: str = "") -> Deferred[T]:
        """The same answer, or a StoreError if there is none in time; ``so`` says what follows."""

        def too_late(_: object, seconds: float) -> T:
            raise StoreError(f"{self.url}: no answer within {seconds:g} s{so}")

        return answer.addTimeout(seconds, self._reactor, too_late)

    # The end.

    def close(self) -> Deferred[None]:
        """Let go of the store, and of the copy with what was served last.  It can be opened again
        after that."""
        if not self._is_open:
            return succeed(None)
        self._is_open, self._is_closing = False, True
        return Deferred.fromCoroutine(self._close())

    async def _close(self) -> None:
        for name in list(self._calls):
            self._cancel(name)
        if self._attempt is not None:
            self._attempt.cancel()
        if self._first is not None:
            self._answer_first(None)
        await self._end_inner()
        if self.kept is not None:
            self.known_until = None if self.trouble is None else self.trouble.since
            self.copy.keep(self.kept, self.known_until or self._clock())
        await self.copy.close()
        self._away = self._changed = self._failed = self._early = None
        self._said, self._said_at = "", None
        self._is_reached = self._is_closing = False
        self._end_hold()

    def _end_inner(self) -> Deferred[None]:
        """Close the store; what goes wrong with it is nobody's business any more."""
        ended = self._limited(maybeDeferred(self._inner.close), _CLOSE)
        return ended.addErrback(lambda failure: None)

    def _later(self, name: str, seconds: float, call: Callable[[], None]) -> None:
        """Do this after some time, unless the same is waiting already."""

        def run() -> None:
            del self._calls[name]
            call()

        if name not in self._calls and self._is_open:
            self._calls[name] = self._reactor.callLater(seconds, run)

    def _cancel(self, name: str) -> None:
        call = self._calls.pop(name, None)
        if call is not None:
            call.cancel()


def _advice(reason: str) -> str:
    return (
        f"the store {reason}: what is served stays, and nothing can be changed, until the store is"
        " restored, or POST /store/accept says that the loss is meant"
    )
