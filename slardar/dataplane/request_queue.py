"""The requests of one upstream that wait until one of its servers has room.

The oldest begins first.  It begins in a step of the poller, and so does the next one: a
request that begins may end at once and make room, and a thousand of them must neither call
each other nor take a turn of the poller for themselves.
"""

from __future__ import annotations

from collections.abc import Callable

from slardar.http1.interfaces import QueueBase, SelectionBase, Step, WaitingExchange

__all__ = ["RequestQueue"]


class RequestQueue(QueueBase):
    """See the module.  ``soon(step)`` takes a step at the end of the batch under way.

    ``selection`` is the one in service: an edit of the upstream may have made room.
    """

    __slots__ = ("_is_called", "_soon", "_waiting", "selection")

    def __init__(self, soon: Callable[[Step], None]) -> None:
        super().__init__()
        self._soon = soon
        #: In order; a dictionary, so that one may leave from the middle.
        self._waiting: dict[WaitingExchange, None] = {}
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
        return True

    def leave(self, exchange: WaitingExchange) -> None:
        """See the base."""
        self._waiting.pop(exchange, None)
        self.waiting = len(self._waiting)

    def next(self) -> None:
        """Let the oldest begin if there is room, and then look again."""
        self._is_called = False
        for exchange in self._waiting:
            selection = self.selection
            if exchange.begin_waiting(exchange.selection if selection is None else selection):
                self.room()
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
