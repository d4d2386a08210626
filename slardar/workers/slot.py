"""A worker's place: a number and sockets, which stay when the process is replaced."""

from __future__ import annotations

import socket
from typing import Any, NamedTuple

from slardar.model.listener import ListenerSpec
from slardar.workers.messages import Report
from slardar.workers.process import WorkerProcess

__all__ = ["Slot", "SlotSocket"]

#: A worker that has served for fewer seconds than this has died young.
_YOUNG = 10.0
#: Seconds until a worker that died young is replaced, the second time in a row.  They
#: double with each time, up to the second value.
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
        #: How many workers in a row have died young.
        self.young_deaths = 0
        self.restarts = 0
        #: A worker in this place has served.
        self.has_served = False
        #: The call that will start a replacement.
        self.pending: Any = None

    def died(self, ready_at: float | None, now: float) -> float:
        """A worker has ended; answers in how many seconds its replacement is to start.

        It has served since ``ready_at`` (``None``: it never served); that and ``now`` are in
        the reactor's seconds.
        """
        is_young = ready_at is None or now - ready_at < _YOUNG
        self.young_deaths = self.young_deaths + 1 if is_young else 0
        self.restarts += 1
        if self.young_deaths <= 1:
            return 0.0
        # The exponent is bounded: 2.0 ** 1024 is an error.
        return min(_MAX_DELAY, _DELAY * 2.0 ** min(self.young_deaths - 2, 16))

    @property
    def state(self) -> str:
        """``alive``, ``starting`` or ``ended``: what ``config_timer`` shows."""
        if self.process is None:
            return "ended"
        return "starting" if self.process.ready_at is None else "alive"

    def about(self, report: Report | None, now: float) -> dict[str, Any]:
        """What status shows; ``report`` is the last report of the process."""
        process = self.process
        return {
            "pid": None if process is None else process.pid,
            "version": None if report is None else report.version,
            "connections": 0 if report is None else report.connections,
            "requests": 0 if report is None else report.requests,
            "age": 0.0 if process is None else round(now - process.born, 1),
            "restarts": self.restarts,
        }
