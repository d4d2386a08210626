"""The workers' counters, added up; and what they know of a server's health.

Pure: :class:`slardar.workers.parent.Workers` feeds it with the workers' reports.
"""

from __future__ import annotations

from collections.abc import Iterable

from slardar.model.live import ServerLive
from slardar.workers.messages import Report, ServerReport

__all__ = ["COUNTERS", "Tally"]

#: Counters that only grow, and outlive the worker that counted.
COUNTERS = ("accepted", "requests", "refused")
#: What is so now, and ends with the worker.
_GAUGES = ("connections", "active", "tunnels")

#: When the workers do not agree about a server, the worst is shown: each of them has its
#: reason, and a server that fails for some is no good one.
_WORST = ("unchecked", "ok", "unstable", "err")

_Key = tuple[str, str, int]


class _Servers:
    """A server's counts in each worker that runs, and in those that have ended."""

    __slots__ = ("failures", "reports", "requests")

    def __init__(self) -> None:
        self.reports: dict[int, ServerReport] = {}
        self.requests = 0
        self.failures = 0


class Tally:
    """What all workers have reported.  A worker goes by its number.

    ``began`` (epoch seconds): since when a server is unchecked that nobody asked.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._ended = dict.fromkeys(COUNTERS, 0)
        self._reports: dict[int, Report] = {}
        self._servers: dict[_Key, _Servers] = {}

    def take(self, worker: int, report: Report, servers: Iterable[ServerReport]) -> None:
        """A report came; ``servers`` are those of it that are to be counted."""
        self._reports[worker] = report
        for about in servers:
            key = (about.upstream, about.host, about.port)
            found = self._servers.get(key)
            if found is None:
                found = self._servers[key] = _Servers()
            found.reports[worker] = about

    def worker_ended(self, worker: int) -> None:
        """What it counted stays counted; what was under way in it is not any more."""
        report = self._reports.pop(worker, None)
        if report is not None:
            for name in COUNTERS:
                self._ended[name] += getattr(report, name)
        for found in self._servers.values():
            about = found.reports.pop(worker, None)
            if about is not None:
                found.requests += about.requests
                found.failures += about.failures

    def forget(self, upstream: str, servers: Iterable[tuple[str, int]]) -> None:
        """An upstream has these servers no more."""
        for host, port in servers:
            self._servers.pop((upstream, host, port), None)

    def report(self, worker: int) -> Report | None:
        """The last report of a worker that runs."""
        return self._reports.get(worker)

    def totals(self) -> dict[str, int]:
        """The counters of all of them."""
        totals = dict(self._ended)
        totals.update(dict.fromkeys(_GAUGES, 0))
        for report in self._reports.values():
            for name in totals:
                totals[name] += getattr(report, name)
        return totals

    def server(self, upstream: str, host: str, port: int) -> ServerLive:
        """One server, as the workers together know it; a copy, for status."""
        live = ServerLive()
        live.last_modified = self._began
        found = self._servers.get((upstream, host, port))
        if found is None:
            return live
        live.requests, live.failures = found.requests, found.failures
        shown: ServerReport | None = None
        for about in found.reports.values():
            live.requests += about.requests
            live.failures += about.failures
            live.active += about.active
            if shown is None or _rank(about) > _rank(shown):
                shown = about
        if shown is not None:
            live.status = shown.status
            live.fail_num = shown.fail_num
            live.last_modified = shown.last_modified
            live.msg = shown.message
        return live


def _rank(about: ServerReport) -> tuple[int, float]:
    return _WORST.index(about.status), about.last_modified
