"""Several observers as one, none of which harms another."""

from __future__ import annotations

from typing import Final

from twisted.logger import Logger

from slardar.http1.interfaces import Clock, Observer
from slardar.http1.record import RequestRecord

__all__ = ["Observers"]

#: Seconds between two lines of the log about observers that fail.
_COMPLAINT_PAUSE: Final = 60.0

_log: Final = Logger("slardar.observers")


class Observers(Observer):
    """Hands each record to every observer, in the order in which they were added.

    All of them get the same record: an observer must not change it.  One that raises costs
    its own knowledge, and nothing else; the log says so at most once a minute.
    """

    __slots__ = ("_clock", "_next_complaint", "_observers")

    def __init__(self, clock: Clock) -> None:
        self._clock: Clock = clock
        self._observers: list[Observer] = []
        #: When the log may say again that an observer fails, in monotonic seconds.
        self._next_complaint: float = 0.0

    def add(self, observer: Observer) -> None:
        """Tell ``observer`` of every request that ends from now on."""
        self._observers.append(observer)

    def set_told(self, observer: Observer, is_told: bool) -> None:
        """Tell ``observer`` from now on, or tell it no more: one with nothing to do need not be
        called for each request."""
        if is_told and observer not in self._observers:
            self._observers.append(observer)
        elif not is_told and observer in self._observers:
            self._observers.remove(observer)

    def request_ended(self, record: RequestRecord) -> None:
        for observer in self._observers:
            try:
                observer.request_ended(record)
            except Exception:
                self._complain()

    def tunnel_began(self, record: RequestRecord) -> None:
        for observer in self._observers:
            try:
                observer.tunnel_began(record)
            except Exception:
                self._complain()

    def _complain(self) -> None:
        if self._clock.now >= self._next_complaint:
            self._next_complaint = self._clock.now + _COMPLAINT_PAUSE
            _log.failure("an observer of requests failed")
