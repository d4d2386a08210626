"""A worker's place: its number and sockets, which stay when the process is replaced."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

from slardar.model.listener import ListenerSpec
from slardar.workers.messages import Report
from slardar.workers.process import WorkerProcess

__all__ = ["Slot", "SlotSocket"]

#: Seconds that a worker must have served; one that ends before died young.
_YOUNG = 10.0
#: Seconds until the replacement of one that died young, the second time in a row; it
#: doubles each time, up to the second value.
_DELAY = 0.1
_MAX_DELAY = 5.0


class SlotSocket(NamedTuple):
    """A listening socket of a place."""

    sock: socket.socket
    listener: ListenerSpec
    #: Whether the workers of other places accept on it, too.
    shared: bool


class Slot:
    """One place, with or without a process in it."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"worker-{number}"
        self.sockets: list[SlotSocket] = []
        self.process: WorkerProcess | None = None
        #: Deaths in a row of workers that were young.
        self.young_deaths = 0
        self.restarts = 0
        #: A worker of this slot has served.
        self.has_served = False
        #: The call that starts the replacement.
        self.pending: Any = None

    def died(self, ready_at: float | None, now: float) -> float:
        """A worker has ended that served since ``ready_at`` (``None``: it never did), in
        the reactor's seconds; answers after how many its replacement is to start."""
        is_young = ready_at is None or now - ready_at < _YOUNG
        self.young_deaths = self.young_deaths + 1 if is_young else 0
        self.restarts += 1
        if self.young_deaths <= 1:
            return 0.0
        # The exponent has an end, for a number of any size would have none.
        return min(_MAX_DELAY, _DELAY * 2.0 ** min(self.young_deaths - 2, 16))

    @property
    def state(self) -> str:
        """``alive``, ``starting`` or ``ended``: what ``config_timer`` shows."""
        if self.process is None:
            return "ended"
        return "starting" if self.process.ready_at is None else "alive"

    def about(self, report: Report | None, now: float) -> dict[str, Any]:
        """For status; ``report`` is the last one of the process."""
        process = self.process
        return {
            "pid": None if process is None else process.pid,
            "version": None if report is None else report.version,
            "connections": 0 if report is None else report.connections,
            "requests": 0 if report is None else report.requests,
            "age": 0.0 if process is None else round(now - process.born, 1),
            "restarts": self.restarts,
        }
