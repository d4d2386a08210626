"""Steps that a turn of the poller had no time for: queues that take turns.

A step may take as long as a whole turn, for it may run users' hooks.  Each key (the host
that was asked for) has a queue of its own, so a host whose hooks are slow waits for itself
alone.
"""

from __future__ import annotations

from collections import deque

from slardar.dataplane.pollable import Batched
from slardar.http1.interfaces import Step

__all__ = ["Arrival", "StepQueues"]


class StepQueues:
    """A queue of steps for each key; ``take`` serves one queue after the other."""

    __slots__ = ("_queues", "keys")

    def __init__(self) -> None:
        #: The keys that have steps, the one to be served next first.
        self.keys: deque[str] = deque()
        self._queues: dict[str, deque[tuple[Batched, Step]]] = {}

    def put(self, channel: Batched, step: Step, key: str) -> None:
        """Add a step behind the others of its key."""
        queue = self._queues.get(key)
        if queue is None:
            queue = self._queues[key] = deque()
            self.keys.append(key)
        queue.append((channel, step))

    def take(self) -> tuple[Batched, Step]:
        """Remove and return the next step; IndexError if there is none."""
        key = self.keys.popleft()
        queue = self._queues[key]
        taken = queue.popleft()
        if queue:
            self.keys.append(key)
        else:
            del self._queues[key]
        return taken


class Arrival(Step):
    """Handles what a channel has read, as a step, because that may take long."""

    __slots__ = ("_channel", "_data")

    def __init__(self, channel: Batched, data: bytes) -> None:
        self._channel = channel
        self._data = data

    def look(self) -> None:
        self._channel.arrive(self._data)

    def go_on(self) -> None:
        """Nothing follows."""
