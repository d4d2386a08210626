"""The requests of one upstream that wait until one of its servers has room.

The oldest begins first.  A hook may choose clusters for a request; if these have no room, the
requests for other clusters do not wait for it.

A request begins in a step of the poller, and so does the next one.  A request that begins may
end at once and make room, and a thousand of them must neither call each other nor take a turn
of the poller for themselves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from slardar.http1.interfaces import QueueBase, SelectionBase, Step, WaitingExchange

__all__ = ["RequestQueue"]

#: Choices of clusters without room, after which no further request is looked at in a step.
_MOST_KEYS: Final = 16


class RequestQueue(QueueBase):
    """See the module.  ``soon(step)`` takes a step at the end of the batch under way.

    ``selection`` is the one in service: an edit of the upstream may have made room.
    """

    __slots__ = ("_choosy", "_is_called", "_soon", "_waiting", "selection")

    def __init__(self, soon: Callable[[Step], None]) -> None:
        super().__init__()
        self._soon = soon
        #: In order; a dictionary, so that one may leave from the middle.
        self._waiting: dict[WaitingExchange, None] = {}
        #: How many of them are for chosen clusters.
        self._choosy = 0
        #: The next step is on its way.
        self._is_called = False
        self.selection: SelectionBase | None = None

    def __repr__(self) -> str:
        return f"<RequestQueue waiting={self.waiting}>"

    def serve(self, selection: SelectionBase) -> None:
        """Another selection of the upstream is in service from now on."""
        self.selection = selection
        self.room()

    def room(self) -> None:
        """See the base."""
        if self.waiting and not self._is_called:
            self._is_called = True
            self._soon(_Next(self))

    def enter(self, exchange: WaitingExchange, size: int) -> bool:
        """See the base."""
        if self.waiting >= size:
            return False
        self._waiting[exchange] = None
        self.waiting = len(self._waiting)
        if exchange.request.cluster_key is not None:
            self._choosy += 1
        return True

    def leave(self, exchange: WaitingExchange) -> None:
        """See the base."""
        if exchange in self._waiting:
            del self._waiting[exchange]
            self.waiting = len(self._waiting)
            if exchange.request.cluster_key is not None:
                self._choosy -= 1

    def next(self) -> None:
        """Let the oldest begin for which there is room, and then look again."""
        self._is_called = False
        #: The clusters that have no room.
        full: list[Any] = []
        for exchange in self._waiting:
            key = exchange.request.cluster_key
            if key in full:
                continue
            selection = self.selection
            if exchange.begin_waiting(exchange.selection if selection is None else selection):
                self.room()
                return
            full.append(key)
            if not self._choosy or len(full) == _MOST_KEYS:
                return


class _Next(Step):
    """The oldest request may begin."""

    __slots__ = ("_queue",)

    def __init__(self, queue: RequestQueue) -> None:
        self._queue = queue

    def look(self) -> None:
        """Nothing is to be seen before."""

    def go_on(self) -> None:
        self._queue.next()
