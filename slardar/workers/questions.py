"""Questions to workers: what only the process that serves requests can tell."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.internet import defer

from slardar.errors import ConfigError, NotReadyError
from slardar.workers import messages
from slardar.workers.messages import Done, Explain, FindDecision, Told
from slardar.workers.process import WorkerGone, WorkerProcess

__all__ = ["Questions"]

#: Seconds within which a worker must answer, and how many are asked one after the other.
_WITHIN = 3.0
_WORKERS = 2


class Questions:
    """Asks workers, and takes their answers."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._number = 0
        #: Who was asked what, and the answer once it is there.
        self._asked: dict[int, tuple[WorkerProcess, Told | None]] = {}

    async def ask(
        self, workers: Iterable[WorkerProcess], make: Callable[[int], Explain | FindDecision]
    ) -> Told:
        """The answer of the first of these workers that has one; ``make`` makes the question.

        :raise NotReadyError: if none of them answers, or there is none.
        :raise ConfigError: if one refuses the question.
        """
        reason = "no worker serves at the moment"
        for process in list(workers)[:_WORKERS]:
            self._number += 1
            number = self._number
            self._asked[number] = (process, None)
            # No limit that the worker would be killed for: its pings tell whether it hangs.  And a
            # Deferred of its own, for a cancelled answer would pass for an error of the worker's.
            answer: defer.Deferred[Done] = defer.Deferred()
            process.tell(messages.encode(make(number)), None).addCallbacks(
                answer.callback, answer.errback
            )
            try:
                done = await answer.addTimeout(_WITHIN, self._reactor)
            except WorkerGone:
                reason = f"{process.name} has ended"
                continue
            except defer.TimeoutError:
                reason = f"{process.name} did not answer within {_WITHIN:g} s"
                continue
            finally:
                _, told = self._asked.pop(number)
            if done.error:
                raise ConfigError(done.error)
            if told is not None:
                return told
            reason = f"{process.name} gave no answer"
        raise NotReadyError(reason)

    def told(self, process: WorkerProcess, told: Told) -> None:
        """A worker tells something; what it was not asked for is ignored."""
        asked, _ = self._asked.get(told.number, (None, None))
        if asked is process:
            self._asked[told.number] = (process, told)
