"""The workers' counters, added up, and what the workers know of servers' health.

Nothing here does I/O: :class:`slardar.workers.parent.Workers` hands the reports in.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import structs

from slardar.dataplane.balancer_errors import BalancerError
from slardar.model.live import ServerLive
from slardar.workers.messages import BalancerReport, Report, ServerReport, UpstreamReport

__all__ = ["COUNTERS", "Tally"]

#: Counters that only grow, and outlive the worker that counted.
COUNTERS = ("accepted", "requests", "refused", "access_log_dropped", "spans_dropped")
#: Counters of what is there now, which ends with the worker.
_GAUGES = ("connections", "active", "tunnels")

#: Statuses of a server, the worst last.  Where workers disagree, the worst is shown: a
#: server that fails for some clients is not a good one.
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
    """What all workers have reported.  ``worker`` is a worker's number everywhere.

    ``began`` (epoch seconds) is shown as the last change of a server that no worker has
    reported.
    """

    def __init__(self, began: float) -> None:
        self._began = began
        self._ended = dict.fromkeys(COUNTERS, 0)
        self._reports: dict[int, Report] = {}
        self._servers: dict[_Key, _Servers] = {}
        #: The last errors of balancers, by upstream and worker; the errors of all workers
        #: that have ended are under -1.
        self._balancers: dict[str, dict[int, BalancerError]] = {}
        #: The counters of each upstream by worker; those of workers that have ended under -1.
        self._upstreams: dict[str, dict[int, dict[str, int]]] = {}
        #: The version in which each upstream was last changed.
        self._changed: dict[str, int] = {}

    def take(self, worker: int, report: Report, servers: Iterable[ServerReport]) -> None:
        """Take a report; ``servers`` are the servers in it that count."""
        self._reports[worker] = report
        for about in servers:
            key = (about.upstream, about.host, about.port)
            found = self._servers.get(key)
            if found is None:
                found = self._servers[key] = _Servers()
            found.reports[worker] = about

    def take_balancers(self, worker: int, version: int, errors: Iterable[BalancerReport]) -> None:
        """Take errors of balancers from a worker that serves ``version``.

        Errors of an upstream that was changed in a later version are those of a former
        balancer, and are ignored.
        """
        for error in errors:
            if version >= self._changed.get(error.upstream, 0):
                self._balancers.setdefault(error.upstream, {})[worker] = error.about

    def take_upstreams(self, worker: int, reports: Iterable[UpstreamReport]) -> None:
        """Take the counters of upstreams that there are."""
        for about in reports:
            self._upstreams.setdefault(about.upstream, {})[worker] = about.counts

    def upstream(self, name: str) -> dict[str, int]:
        """The counters of one upstream in all workers together, but for zeros."""
        return _summed(self._upstreams.get(name, {}).values())

    def upstream_changed(self, name: str, version: int, is_there: bool) -> None:
        """An upstream has a new balancer since this version, or is gone."""
        self._balancers.pop(name, None)
        if is_there:
            self._changed[name] = version
        else:
            self._changed.pop(name, None)
            self._upstreams.pop(name, None)

    def balancer_errors(self) -> dict[str, BalancerError]:
        """The last error of each upstream's balancer, with the count of all workers."""
        return {name: _together(*errors.values()) for name, errors in self._balancers.items()}

    def worker_ended(self, worker: int) -> None:
        """Keep what a worker has counted, and drop what was under way in it."""
        report = self._reports.pop(worker, None)
        if report is not None:
            for name in COUNTERS:
                self._ended[name] += getattr(report, name)
        for found in self._servers.values():
            about = found.reports.pop(worker, None)
            if about is not None:
                found.requests += about.requests
                found.failures += about.failures
        for errors in self._balancers.values():
            error = errors.pop(worker, None)
            if error is not None:
                errors[-1] = _together(error, *filter(None, [errors.get(-1)]))

        for workers in self._upstreams.values():
            counts = workers.pop(worker, None)
            if counts is not None:
                kept = {name: count for name, count in counts.items() if name != "waiting"}
                workers[-1] = _summed([kept, workers.get(-1, {})])

    def forget(self, upstream: str, servers: Iterable[tuple[str, int]]) -> None:
        """Drop servers that an upstream has lost."""
        for host, port in servers:
            self._servers.pop((upstream, host, port), None)

    def report(self, worker: int) -> Report | None:
        """The last report of a worker that runs; ``None`` before its first one."""
        return self._reports.get(worker)

    def totals(self) -> dict[str, int]:
        """The counters of all workers together."""
        totals = dict(self._ended)
        totals.update(dict.fromkeys(_GAUGES, 0))
        for report in self._reports.values():
            for name in totals:
                totals[name] += getattr(report, name)
        return totals

    def active(self, upstream: str, host: str, port: int) -> int:
        """The requests under way on one server."""
        found = self._servers.get((upstream, host, port))
        return 0 if found is None else sum(one.active for one in found.reports.values())

    def server(self, upstream: str, host: str, port: int) -> ServerLive:
        """One server as all workers together know it, for status."""
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
            live.notes.update(about.notes)
            if shown is None or _rank(about) > _rank(shown):
                shown = about
        if shown is not None:
            live.status = shown.status
            live.fail_num = shown.fail_num
            live.last_modified = shown.last_modified
            live.msg = shown.message
        return live


def _together(*errors: BalancerError) -> BalancerError:
    last = max(errors, key=lambda error: error.last)
    return structs.replace(last, count=sum(error.count for error in errors))


def _summed(some: Iterable[Mapping[str, int]]) -> dict[str, int]:
    total: dict[str, int] = {}
    for counts in some:
        for name, count in counts.items():
            total[name] = total.get(name, 0) + count
    return total


def _rank(about: ServerReport) -> tuple[int, float]:
    return _WORST.index(about.status), about.last_modified
