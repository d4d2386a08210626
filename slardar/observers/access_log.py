"""Access logs: a line for every request that has ended, and some for those that take long.

The lines of several requests are handed on at once.  Writing them to where they go is the work
of threads (:mod:`slardar.observers.outlets`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import random
from time import monotonic
from typing import Any, Final

from twisted.internet import defer
from twisted.logger import Logger

from slardar.http1.interfaces import Clock, Observer
from slardar.http1.record import RequestRecord
from slardar.model.access_log import AccessLog
from slardar.observers.lines import BEGIN, END, PROGRESS, Lines, lines_for
from slardar.observers.outlets import Outlet
from slardar.observers.sinks import Sink, sink_for

__all__ = ["AccessLogs", "Log"]

#: Seconds that a line waits for others at most.
_TICK: Final = 0.1
#: Requests under way that are looked at in one turn of the reactor.
_SLICE: Final = 1000
#: Seconds between two looks at the requests under way, at most and at least; and how many
#: looks there are in an interval.
_LONGEST_LOOK: Final = 15.0
_SHORTEST_LOOK: Final = 0.05
_LOOKS: Final = 4.0
#: Seconds for what is not written yet when a log ends.
_LAST: Final = 2.0
#: And until a thread is given up that hangs in the kernel.
_HANGS: Final = 0.5

_log: Final = Logger("slardar.observers")


class Log:
    """One access log.  ``outlet`` takes its lines, which ``lines`` makes."""

    def __init__(self, settings: AccessLog, outlet: Outlet, lines: Lines) -> None:
        self.settings: AccessLog = settings
        self.outlet: Outlet = outlet
        self._lines: Lines = lines
        self._share: float = float(settings.sample)
        #: 0: nothing is told of requests under way.
        self.interval: float = float(settings.interval) if lines.has_events else 0.0
        #: The tunnels and long requests under way, and when they were told of last;
        #: negative: lots have decided against them.
        self._long: dict[RequestRecord, float] = {}

    def request_ended(self, record: RequestRecord) -> None:
        """A request has ended."""
        if self._long:
            told = self._long.pop(record, 0.0)
            if told < 0.0:
                return
            if told:
                self._tell(record, END, record.ended)
                return
        if not self._is_drawn():
            return
        if self._lines.add(record):
            self.make_lines()

    def goes_on(self, record: RequestRecord, now: float, is_long: bool) -> bool:
        """A request is under way; True if the log says so.

        ``is_long``: it will take long, however short it has been so far.
        """
        told = self._long.get(record, 0.0)
        if not self.interval or told < 0.0:
            return False
        if told:
            if now - told < self.interval:
                return False
            event = PROGRESS
        elif not is_long and now - record.started < self.interval:
            return False
        elif self._is_drawn():
            event = BEGIN
        else:
            self._long[record] = -1.0
            return False
        self._long[record] = now
        self._tell(record, event, now)
        return True

    def _is_drawn(self) -> bool:
        """Whether lots have decided that a request is logged."""
        return self._share >= 1.0 or random() < self._share  # noqa: S311 - a sample

    def forget(self, record: RequestRecord) -> None:
        """A request has ended that is in the log no more."""
        if self._long:
            self._long.pop(record, None)

    def _tell(self, record: RequestRecord, event: str, now: float) -> None:
        self.make_lines()
        self.outlet.put(self._lines.event(record, event, now), 1)

    def make_lines(self) -> None:
        """Make the lines of requests that have ended."""
        count = self._lines.waiting
        if count:
            self.outlet.put(self._lines.take(), count)


class AccessLogs(Observer):
    """The access logs of one data plane.

    ``worker`` is the name of the worker in their lines, ``stdout`` the descriptor of
    standard output.  ``under_way()`` gives the records of the requests under way.
    """

    def __init__(
        self,
        reactor: Any,
        clock: Clock,
        worker: str,
        stdout: int,
        under_way: Callable[[], Iterable[RequestRecord]],
        make_sink: Callable[[AccessLog, int], Sink] = sink_for,
    ) -> None:
        self._reactor: Any = reactor
        self._clock: Clock = clock
        self._worker: str = worker
        self._stdout: int = stdout
        self._under_way: Callable[[], Iterable[RequestRecord]] = under_way
        self._make_sink: Callable[[AccessLog, int], Sink] = make_sink
        self._logs: list[Log] = []
        #: The upstreams whose requests are in no log.
        self._silent: set[str] = set()
        #: Lines that logs have dropped which there are no more.
        self._dropped: int = 0
        #: The next call of :meth:`_tick`, and of :meth:`_look`; ``None`` while there is
        #: nothing to do.
        self._next_tick: Any = None
        self._next_look: Any = None

    @property
    def dropped(self) -> int:
        """How many lines were dropped since the start."""
        dropped = self._dropped
        for log in self._logs:
            dropped += log.outlet.dropped
        return dropped

    # Requests.

    def request_ended(self, record: RequestRecord) -> None:
        """A request has ended."""
        if not self._logs:
            return
        if self._silent and record.upstream in self._silent:
            for log in self._logs:
                log.forget(record)
            return
        for log in self._logs:
            log.request_ended(record)
        if self._next_tick is None:
            self._tick_soon()

    def tunnel_began(self, record: RequestRecord) -> None:
        """A request has become a tunnel."""
        self._goes_on(record, True)

    def _goes_on(self, record: RequestRecord, is_long: bool) -> None:
        if self._silent and record.upstream in self._silent:
            return
        for log in self._logs:
            if log.goes_on(record, self._clock.now, is_long):
                self._tick_soon()

    def _tick_soon(self) -> None:
        if self._next_tick is None:
            self._next_tick = self._reactor.callLater(_TICK, self._tick)

    def _tick(self) -> None:
        """Write what there is."""
        self._next_tick = None
        for log in self._logs:
            log.make_lines()
            log.outlet.hurry()

    def _look(self) -> None:
        """Look at the requests under way, some of them in a turn."""
        # The plane's clock stands still between its own batches.
        self._clock.now = monotonic()
        self._look_at(iter(list(self._under_way())))

    def _look_at(self, records: Iterator[RequestRecord]) -> None:
        self._next_look = None
        for count, record in enumerate(records, 1):
            # It may have ended since the list was made.
            if not record.ended:
                self._goes_on(record, False)
            if count == _SLICE:
                self._next_look = self._reactor.callLater(0, self._look_at, records)
                return
        self._plan_look()

    def _plan_look(self) -> None:
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        intervals = [log.interval for log in self._logs if log.interval]
        if intervals:
            seconds = max(min(min(intervals) / _LOOKS, _LONGEST_LOOK), _SHORTEST_LOOK)
            self._next_look = self._reactor.callLater(seconds, self._look)

    # Settings.

    def take(self, settings: Iterable[AccessLog]) -> None:
        """Write these logs from now on.  A log whose settings stay goes on as it is."""
        known = {log.settings: log for log in self._logs}
        logs: list[Log] = []
        for one in settings:
            log = known.pop(one, None)
            logs.append(self._begin(one) if log is None else log)
        self._logs = logs
        for gone in known.values():
            self._end(gone)
        self._plan_look()

    def _begin(self, settings: AccessLog) -> Log:
        outlet = Outlet(settings.to, self._make_sink(settings, self._stdout), self._say)
        outlet.start()
        return Log(settings, outlet, lines_for(settings.format, self._worker, outlet.max_line))

    def _say(self, text: str) -> None:
        """From a thread: log a line."""
        self._reactor.callFromThread(_warn, text)

    def take_silent(self, name: str, is_silent: bool) -> None:
        """Whether the requests of an upstream are in no log."""
        if is_silent:
            self._silent.add(name)
        else:
            self._silent.discard(name)

    def reopen(self) -> None:
        """Open files anew."""
        for log in self._logs:
            log.make_lines()
            log.outlet.reopen()

    def watch(self) -> None:
        """This process is about to end: nobody will call :meth:`reopen` any more."""
        for log in self._logs:
            log.outlet.watch()

    # The end.

    def stop(self) -> defer.Deferred[None]:
        """Write what is not written yet; fires when it is, or cannot be in time."""
        for call in (self._next_tick, self._next_look):
            if call is not None:
                call.cancel()
        self._next_tick = self._next_look = None
        logs, self._logs = self._logs, []
        ends: list[Any] = [self._end(log) for log in logs]
        done: Any = defer.DeferredList(ends)
        return done.addCallback(_nothing)  # type: ignore[no-any-return]

    def _end(self, log: Log) -> Any:
        log.make_lines()
        end = _End(self._reactor, self._count_dropped, log.outlet)
        return end.done

    def _count_dropped(self, dropped: int) -> None:
        self._dropped += dropped


class _End:
    """Waits for the end of an outlet."""

    def __init__(self, reactor: Any, count: Callable[[int], None], outlet: Outlet) -> None:
        self._reactor = reactor
        self._count = count
        self._outlet = outlet
        self.done: Any = defer.Deferred()
        self._late: Any = reactor.callLater(_LAST + _HANGS, self._over)
        outlet.stop(_LAST, self._ended)

    def _ended(self) -> None:
        """From the outlet's thread."""
        self._reactor.callFromThread(self._over)

    def _over(self) -> None:
        if not self.done.called:
            if self._late.active():
                self._late.cancel()
            self._count(self._outlet.dropped)
            self.done.callback(None)


def _warn(text: str) -> None:
    _log.warn("{text}", text=text)


def _nothing(_: Any) -> None:
    return None
