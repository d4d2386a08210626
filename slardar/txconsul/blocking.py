"""A blocking query that is put again and again, by the rules of Consul's documentation.

Consul answers such a query when there is something newer than an index, or when the query's wait
is over.  An answer may be the old one.  An index that goes backwards, as after a snapshot was
restored, means that the query starts anew.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Protocol, TypeVar

from twisted.internet import defer, task
from twisted.logger import Logger

__all__ = ["Blocking", "Indexed", "read_index"]

#: Seconds after a first failure before Consul is asked again, and at most; between, they double.
FIRST_DELAY, LONGEST_DELAY = 0.25, 10.0
#: Milliseconds for which a server may have heard nothing of the leader before another is asked.
MAX_LAG = 5000

_log = Logger("slardar.txconsul")


class Indexed(Protocol):
    """An answer to a blocking query; :func:`read_index` reads both from its headers."""

    #: Consul's index of what was asked for, at least 1.
    index: int
    #: Whether the server that answered may be behind the others.
    lags: bool


T = TypeVar("T", bound=Indexed)


def read_index(headers: Mapping[str, str]) -> tuple[int, bool]:
    """The index of an answer, and whether its server may be behind the others.

    Raises LookupError or ValueError if the headers are none of Consul's.
    """
    lags = (
        headers.get("X-Consul-KnownLeader", "true") != "true"
        or int(headers.get("X-Consul-LastContact", "0")) > MAX_LAG
    )
    # An index of 0 would make each query answer at once.
    return max(int(headers["X-Consul-Index"]), 1), lags


class Blocking(Generic[T]):
    """Puts a query, and hands over each answer that can be believed.

    ``ask(index, is_stale)`` puts it once: it waits for something newer than the index, or for
    nothing if that is 0, and with ``is_stale`` any server may answer, not only the leader.
    ``may_be_stale`` says whether this is wanted; an answer that looks old is then asked for
    again, of the leader.

    ``pace(now)`` gives the seconds until the next query, so that something that changes all the
    time is not asked for all the time.  ``chance()`` is a number from 0 to 1.
    """

    def __init__(
        self,
        reactor: Any,
        ask: Callable[[int, bool], Awaitable[T]],
        *,
        may_be_stale: bool,
        pace: Callable[[float], float],
        chance: Callable[[], float],
    ) -> None:
        self._reactor = reactor
        self._ask = ask
        self._may_be_stale = may_be_stale
        self._pace = pace
        self._chance = chance
        #: An answer with a lower index is old, unless the leader gives it.
        self.least = 0
        self._is_stopped = False
        self._waiting: defer.Deferred[Any] | None = None
        #: What the next query waits for something newer than; 0: it does not wait.
        self._index = 0
        #: Whether only the leader is asked next.
        self._doubts = False
        #: Whether nothing can have happened unseen since the last answer.
        self._trusts = False
        self._failures = 0

    def start(self, take: Callable[[T, bool], None], failed: Callable[[Exception], None]) -> None:
        """Begin, with a query that waits for nothing.

        ``take(answer, trusts)`` gets the answers.  ``trusts`` says that this is the same state as
        that of the answer before, or a later one: what has the same index has not changed.  If it
        raises, that is a failure, too.  ``failed(error)`` is called after each failure; it must not
        raise.
        """
        self._take = take
        self._failed = failed
        defer.Deferred.fromCoroutine(self._run()).addErrback(
            lambda failure: _log.failure("Consul is followed no more", failure=failure)
        )

    def stop(self) -> None:
        """Hand nothing over any more, and ask nobody."""
        self._is_stopped = True
        if self._waiting is not None:
            self._waiting.cancel()

    async def _run(self) -> None:
        try:
            while not self._is_stopped:
                await self._turn()
        except defer.CancelledError:
            if not self._is_stopped:
                raise

    async def _turn(self) -> None:
        """Ask once, and hand the answer over."""
        await self._sleep(self._pace(self._reactor.seconds()))
        is_stale = self._may_be_stale and not self._doubts
        try:
            answer = await self._wait(defer.Deferred.fromCoroutine(self._ask_for(is_stale)))
            self._note(answer, is_stale)
        except Exception as error:
            self._index = 0
            self._trusts = False
            if self._is_stopped:
                return
            self._failed(error)
            delay = min(FIRST_DELAY * 2.0 ** min(self._failures, 16), LONGEST_DELAY)
            self._failures += 1
            # Many clients lose one Consul at the same moment.
            await self._sleep(delay * (0.5 + 0.5 * self._chance()))

    async def _ask_for(self, is_stale: bool) -> T:
        return await self._ask(self._index, is_stale)

    def _note(self, answer: T, is_stale: bool) -> None:
        """Take an answer by Consul's rules."""
        went_back = answer.index < self._index
        if is_stale and (went_back or answer.lags or answer.index < self.least):
            # A server that is behind, or a state that was restored: the leader knows.
            self._index = 0
            self._doubts = True
            return
        self._take(answer, self._trusts and not went_back)
        self._doubts = False
        self._failures = 0
        # After going back, the same indexes may come again, for other things.
        self._index = 0 if went_back else answer.index
        self._trusts = not went_back

    async def _sleep(self, seconds: float) -> None:
        if seconds > 0 and not self._is_stopped:
            await self._wait(task.deferLater(self._reactor, seconds))

    async def _wait(self, deferred: defer.Deferred[Any]) -> Any:
        """Wait for something that :meth:`stop` cancels."""
        self._waiting = deferred
        try:
            return await deferred
        finally:
            self._waiting = None
