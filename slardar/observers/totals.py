"""What all processes have counted together, since the first of them began."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TypeVar

from slardar.hooks.report import HookTally
from slardar.model.snapshot import Snapshot
from slardar.observers.counted import Counted, HookCounted, ServerCounted, UpstreamCounted

__all__ = ["HookTotals", "ServerTotals", "Totals", "UpstreamTotals"]

#: Upstreams and servers that are gone, and that no scrape has shown since: at most so many
#: are kept.
_MAX_GONE = 10000

_Key = TypeVar("_Key", str, int)


class ServerTotals:
    """The attempts on one server: by status (0: no reply), failures by kind, ejections.

    ``buckets`` are the times of its replies while somebody looked at it; empty if nobody has."""

    __slots__ = ("buckets", "codes", "ejections", "failures")

    def __init__(self) -> None:
        self.codes: dict[int, int] = {}
        self.failures: dict[str, int] = {}
        self.ejections = 0
        self.buckets: list[int] = []


class UpstreamTotals:
    """The requests of one upstream, as :class:`slardar.observers.counts.UpstreamCounts`."""

    __slots__ = (
        "buckets",
        "bytes_in",
        "bytes_out",
        "codes",
        "exhausted",
        "retries",
        "seconds",
        "servers",
    )

    def __init__(self, size: int) -> None:
        self.codes: dict[int, int] = {}
        self.buckets = [0] * size
        self.seconds = 0.0
        self.bytes_in = self.bytes_out = 0
        self.retries = self.exhausted = 0
        self.servers: dict[str, ServerTotals] = {}


class HookTotals:
    """The calls of one hook, in all its versions."""

    __slots__ = ("calls", "errors", "seconds")

    def __init__(self) -> None:
        self.calls = self.errors = 0
        self.seconds = 0.0


class Totals:
    """Adds up what processes tell.  Nothing here ever goes down.

    ``bounds`` and ``added_bounds`` are those of :class:`slardar.observers.counts.Counting`.
    """

    def __init__(self, bounds: Collection[float], added_bounds: Collection[float]) -> None:
        self.bounds = tuple(bounds)
        self.added_bounds = tuple(added_bounds)
        self.upstreams: dict[str, UpstreamTotals] = {}
        self.refused: dict[str, int] = {}
        self.added = [0] * (len(self.added_bounds) + 1)
        self.added_seconds = 0.0
        #: By the hook's language and name, ``lua/script.a.example``.
        self.hooks: dict[str, HookTotals] = {}
        #: Workers that were replaced in processes before this one, and lines of access logs
        #: that were dropped there.
        self.restarts = self.dropped = 0
        #: Those of this process that a successor knows of.
        self._told = (0, 0)
        #: Upstreams and servers (``host:port``, else empty) that are gone, oldest first.
        self._gone: dict[tuple[str, str], None] = {}
        #: Of each version of a hook: calls, errors, nanoseconds and timed calls so far.
        self._hook_versions: dict[tuple[str, int], tuple[int, int, int, int]] = {}

    # What is counted.

    def take(self, counted: Counted, snapshot: Snapshot) -> None:
        """Add what a process has told.  Of what ``snapshot`` does not have, only that is
        counted which is still shown."""
        for upstream in counted.upstreams:
            self._take_upstream(upstream, snapshot, _are_same(counted.bounds, self.bounds))
        _add(self.refused, counted.refused)
        if len(counted.added) == len(self.added) and _are_same(
            counted.added_bounds, self.added_bounds
        ):
            _add_buckets(self.added, counted.added)
            self.added_seconds += counted.added_seconds
        for path, about in counted.hooks.items():
            hook = self._hook(path)
            hook.calls += about.calls
            hook.errors += about.errors
            hook.seconds += about.seconds
        self.restarts += counted.restarts
        self.dropped += counted.dropped

    def _take_upstream(self, about: UpstreamCounted, snapshot: Snapshot, same: bool) -> None:
        name = about.upstream
        totals = self.upstreams.get(name)
        if totals is None:
            if name not in snapshot.upstreams:
                return
            totals = self.upstreams[name] = UpstreamTotals(len(self.bounds) + 1)
        _add(totals.codes, about.codes)
        if same and len(about.buckets) == len(totals.buckets):
            _add_buckets(totals.buckets, about.buckets)
            totals.seconds += about.seconds
        totals.bytes_in += about.bytes_in
        totals.bytes_out += about.bytes_out
        totals.retries += about.retries
        totals.exhausted += about.exhausted
        known: set[str] | None = None
        for server in about.servers:
            found = totals.servers.get(server.server)
            if found is None:
                if known is None:
                    upstream = snapshot.upstreams.get(name)
                    known = set() if upstream is None else {one.key for one in upstream.servers}
                if server.server not in known:
                    continue
                found = totals.servers[server.server] = ServerTotals()
            _add(found.codes, server.codes)
            if server.failures:
                _add(found.failures, server.failures)
            found.ejections += server.ejections
            if same and len(server.buckets) == len(totals.buckets):
                found.buckets = found.buckets or [0] * len(totals.buckets)
                _add_buckets(found.buckets, server.buckets)

    def ejected(self, upstream: str, server: str) -> None:
        """A server that there is was ejected once more."""
        totals = self.upstreams.get(upstream)
        if totals is None:
            totals = self.upstreams[upstream] = UpstreamTotals(len(self.bounds) + 1)
        totals.servers.setdefault(server, ServerTotals()).ejections += 1

    def _hook_called(
        self, key: tuple[str, int], calls: int, errors: int, nanoseconds: int, timed: int
    ) -> None:
        before = self._hook_versions.get(key, (0, 0, 0, 0))
        self._hook_versions[key] = (calls, errors, nanoseconds, timed)
        hook = self._hook(key[0])
        new = calls - before[0]
        if new <= 0:
            return
        hook.calls += new
        hook.errors += max(0, errors - before[1])
        if timed > before[3]:
            # The calls that were timed stand for the others.
            hook.seconds += new * max(0, nanoseconds - before[2]) / (timed - before[3]) / 1e9
        elif timed:
            hook.seconds += new * nanoseconds / timed / 1e9

    def _hook(self, path: str) -> HookTotals:
        found = self.hooks.get(path)
        if found is None:
            found = self.hooks[path] = HookTotals()
        return found

    def take_hooks(self, tally: HookTally) -> set[tuple[str, int]]:
        """Take the counters of all hooks; returns their versions, for :meth:`keep_hooks`."""
        versions = set()
        for path, mark, stats in tally.calls():
            versions.add((path, mark))
            timed = sum(stats.buckets.values())
            self._hook_called((path, mark), stats.calls, stats.errors, stats.nanoseconds, timed)
        return versions

    def keep_hooks(self, versions: Collection[tuple[str, int]]) -> None:
        """Forget all versions but these, and the hooks that none of them is of."""
        self._hook_versions = {
            key: value for key, value in self._hook_versions.items() if key in versions
        }
        paths = {path for path, _ in versions}
        self.hooks = {path: hook for path, hook in self.hooks.items() if path in paths}

    # What is gone.

    def changed(self, names: Iterable[str], snapshot: Snapshot) -> None:
        """These upstreams have changed: what is gone of them is shown once more."""
        for name in names:
            totals = self.upstreams.get(name)
            if totals is None:
                continue
            found = snapshot.upstreams.get(name)
            if found is None:
                self._gone[name, ""] = None
                continue
            self._gone.pop((name, ""), None)
            known = {server.key for server in found.servers}
            for key in totals.servers:
                if key in known:
                    self._gone.pop((name, key), None)
                else:
                    self._gone[name, key] = None
        while len(self._gone) > _MAX_GONE:
            self._forget(next(iter(self._gone)))

    def gone(self) -> list[tuple[str, str]]:
        """What the next scrape shows for the last time, for :meth:`forget`."""
        return list(self._gone)

    def forget(self, shown: Iterable[tuple[str, str]]) -> None:
        """A scrape has shown these, which were gone before; those that have come back
        stay."""
        for key in shown:
            if key in self._gone:
                self._forget(key)

    def _forget(self, key: tuple[str, str]) -> None:
        del self._gone[key]
        name, server = key
        if server:
            totals = self.upstreams.get(name)
            if totals is not None:
                totals.servers.pop(server, None)
        else:
            self.upstreams.pop(name, None)

    # For a successor.

    def hand_over(self, restarts: int, dropped: int = 0) -> Counted:
        """All of it since the call before, for a process that takes over; ``restarts`` and
        ``dropped`` are those of this process so far.  What is handed over is here no more."""
        told = Counted(
            tuple(_told_upstream(name, totals) for name, totals in self.upstreams.items()),
            self.refused,
            tuple(self.added),
            self.added_seconds,
            {
                path: HookCounted(hook.calls, hook.errors, hook.seconds)
                for path, hook in self.hooks.items()
            },
            self.restarts + restarts - self._told[0],
            self.dropped + dropped - self._told[1],
            self.bounds,
            self.added_bounds,
        )
        self.upstreams, self.refused, self.hooks, self._gone = {}, {}, {}, {}
        self.added, self.added_seconds = [0] * len(self.added), 0.0
        self.restarts = self.dropped = 0
        self._told = (restarts, dropped)
        return told


def _told_upstream(name: str, totals: UpstreamTotals) -> UpstreamCounted:
    return UpstreamCounted(
        name,
        dict(totals.codes),
        tuple(totals.buckets),
        totals.seconds,
        totals.bytes_in,
        totals.bytes_out,
        totals.retries,
        totals.exhausted,
        tuple(
            ServerCounted(
                key,
                dict(server.codes),
                dict(server.failures),
                server.ejections,
                tuple(server.buckets),
            )
            for key, server in totals.servers.items()
        ),
    )


def _are_same(theirs: tuple[float, ...] | None, ours: tuple[float, ...]) -> bool:
    return theirs is None or theirs == ours


def _add(totals: dict[_Key, int], counts: dict[_Key, int]) -> None:
    for key, count in counts.items():
        totals[key] = totals.get(key, 0) + count


def _add_buckets(totals: list[int], counts: tuple[int, ...]) -> None:
    for index, count in enumerate(counts):
        totals[index] += count
