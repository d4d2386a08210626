"""Prometheus' text format 0.0.4, written in pieces, so that nothing waits for all of it.

``prometheus-client`` keeps an object with a lock for every series and writes them in one go:
0.3 s for 10,000 counters and 1,000 histograms.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

from slardar.hooks.report import HookTally
from slardar.model.server import Upstream
from slardar.model.snapshot import Snapshot
from slardar.observers.families import FAMILIES, PREFIX
from slardar.observers.totals import Totals, UpstreamTotals

__all__ = ["CONTENT_TYPE", "Exposition", "Facts", "escaped", "scrape"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

#: Characters of one piece, about: some hundred lines, and a fraction of a millisecond.
_PIECE = 30000


class Facts(NamedTuple):
    """What a plane knows of the present."""

    #: Connections of clients by listener, and tunnels by upstream.
    connections: Mapping[str, int]
    tunnels: Mapping[str, int]
    #: Workers by state, how many were replaced, and lines of access logs that were dropped.
    workers: Mapping[str, int]
    restarts: int
    dropped: int
    #: Of an upstream's server (host and port): whether its health lets it have requests, and
    #: the requests under way on it.
    server: Callable[[str, str, int], tuple[bool, int]]


class CountingPlane(Protocol):
    """A data plane that counts (:class:`slardar.interfaces.IPlane`)."""

    totals: Totals

    def collect(self) -> Iterator[None]:
        """Bring ``totals`` up to date, a little with each step."""

    def facts(self) -> Facts:
        """What there is at present."""

    def hook_tally(self) -> HookTally:
        """The counters of the hooks."""


def scrape(
    plane: CountingPlane,
    snapshot: Snapshot,
    version: str,
    stale: float = 0.0,
    expiries: Sequence[tuple[str, int]] = (),
) -> Iterator[str]:
    """The text about ``plane``, which serves ``snapshot``, in pieces; some of them are empty.

    Between two pieces others may have their turn.  ``version`` is slardar's, ``stale`` the seconds
    since what is served was last known to be what the store holds, ``expiries`` the names of
    certificates, each with the time when it expires, in epoch seconds.
    """
    for _ in plane.collect():
        yield ""
    hooks = plane.totals.take_hooks(plane.hook_tally())
    shown = Exposition(snapshot, plane.totals, plane.facts(), hooks, version, stale, expiries)
    yield from shown.pieces()


class Exposition:
    """All that is to be shown, in one scrape.

    ``snapshot`` is what is served, ``hooks`` are the versions of hooks that there are
    (:meth:`slardar.observers.totals.Totals.take_hooks`), ``version`` is slardar's,
    ``stale`` the seconds since it was last known to be what the store holds, ``expiries`` when
    certificates expire.
    """

    def __init__(
        self,
        snapshot: Snapshot,
        totals: Totals,
        facts: Facts,
        hooks: Collection[tuple[str, int]],
        version: str,
        stale: float = 0.0,
        expiries: Sequence[tuple[str, int]] = (),
    ) -> None:
        self._expiries = expiries
        self._snapshot = snapshot
        self._hooks = hooks
        self._totals = totals
        self._facts = facts
        self._version = version
        self._stale = stale
        #: The upstreams and servers of which there are totals, and those that are gone.
        self._upstreams = sorted({*snapshot.upstreams, *totals.upstreams})
        self._labels = {name: f'upstream="{escaped(name)}"' for name in self._upstreams}
        self._gone = totals.gone()

    def pieces(self) -> Iterator[str]:
        """The text.  Between two pieces the configuration and the totals may change."""
        for family in FAMILIES:
            write: Callable[[str], Iterator[str]] = getattr(self, f"_{family.name}")
            name = PREFIX + family.name
            yield from _joined(
                f"# HELP {name} {family.help}\n# TYPE {name} {family.type}\n", write(name)
            )
        self._totals.forget(self._gone)
        self._totals.keep_hooks(self._hooks)

    # Of upstreams.

    def _found(self) -> Iterator[tuple[str, UpstreamTotals | None]]:
        """Upstreams' labels, and their totals: ``None`` before the first request."""
        totals = self._totals.upstreams
        for name in self._upstreams:
            yield self._labels[name], totals.get(name)

    def _requests_total(self, name: str) -> Iterator[str]:
        for label, found in self._found():
            if found is not None:
                for code, count in sorted(found.codes.items()):
                    yield f'{name}{{{label},code="{code}"}} {count}\n'

    def _request_duration_seconds(self, name: str) -> Iterator[str]:
        bounds = self._totals.bounds
        ends = [_end(bound) for bound in bounds]
        zeros = [0] * (len(bounds) + 1)
        for label, found in self._found():
            if found is None:
                yield _histogram(name, label, ends, zeros, 0.0)
            else:
                yield _histogram(name, label, ends, found.buckets, found.seconds)

    def _retries_total(self, name: str) -> Iterator[str]:
        for label, found in self._found():
            yield f"{name}{{{label}}} {0 if found is None else found.retries}\n"

    def _retry_budget_exhausted_total(self, name: str) -> Iterator[str]:
        for label, found in self._found():
            yield f"{name}{{{label}}} {0 if found is None else found.exhausted}\n"

    def _bytes_received_total(self, name: str) -> Iterator[str]:
        for label, found in self._found():
            yield f"{name}{{{label}}} {0 if found is None else found.bytes_in}\n"

    def _bytes_sent_total(self, name: str) -> Iterator[str]:
        for label, found in self._found():
            yield f"{name}{{{label}}} {0 if found is None else found.bytes_out}\n"

    def _tunnels(self, name: str) -> Iterator[str]:
        tunnels = self._facts.tunnels
        for upstream in self._snapshot.upstreams:
            label = self._labels[upstream]
            yield f"{name}{{{label}}} {tunnels.get(upstream, 0)}\n"

    # Of servers.

    def _server_requests_total(self, name: str) -> Iterator[str]:
        for label, found in self._found():
            for key, server in [] if found is None else list(found.servers.items()):
                labels = f'{name}{{{label},server="{escaped(key)}",code="'
                for code, count in server.codes.items():
                    yield f'{labels}{code}"}} {count}\n'

    def _server_failures_total(self, name: str) -> Iterator[str]:
        for label, found in self._found():
            for key, server in [] if found is None else list(found.servers.items()):
                for kind, count in server.failures.items():
                    yield f'{name}{{{label},server="{escaped(key)}",kind="{kind}"}} {count}\n'

    def _server_up(self, name: str) -> Iterator[str]:
        for upstream in self._snapshot.upstreams.values():
            for labels, host, port in self._servers(upstream):
                up, _ = self._facts.server(upstream.name, host, port)
                yield f"{name}{labels} {1 if up else 0}\n"

    def _server_active_requests(self, name: str) -> Iterator[str]:
        for upstream in self._snapshot.upstreams.values():
            for labels, host, port in self._servers(upstream):
                _, active = self._facts.server(upstream.name, host, port)
                yield f"{name}{labels} {active}\n"

    def _ejections_total(self, name: str) -> Iterator[str]:
        for label, found in self._found():
            for key, server in [] if found is None else list(found.servers.items()):
                if server.ejections:
                    yield f'{name}{{{label},server="{escaped(key)}"}} {server.ejections}\n'

    def _servers(self, upstream: Upstream) -> Iterator[tuple[str, str, int]]:
        """The servers of an upstream, each once, with their labels."""
        label = self._labels[upstream.name]
        seen: set[str] = set()
        for server in upstream.servers:
            key = server.key
            if key not in seen:
                seen.add(key)
                yield f'{{{label},server="{escaped(key)}"}}', server.host, server.port

    # Of the process.

    def _refused_total(self, name: str) -> Iterator[str]:
        for reason, count in sorted(self._totals.refused.items()):
            yield f'{name}{{reason="{reason}"}} {count}\n'

    def _added_seconds(self, name: str) -> Iterator[str]:
        totals = self._totals
        ends = [_end(bound) for bound in totals.added_bounds]
        yield _histogram(name, "", ends, totals.added, totals.added_seconds)

    def _connections(self, name: str) -> Iterator[str]:
        for listener, count in sorted(self._facts.connections.items()):
            yield f'{name}{{listener="{escaped(listener)}"}} {count}\n'

    def _hook_calls_total(self, name: str) -> Iterator[str]:
        for path, hook in sorted(self._totals.hooks.items()):
            label = f'{name}{{hook="{escaped(path)}",outcome='
            yield f'{label}"ok"}} {max(0, hook.calls - hook.errors)}\n'
            yield f'{label}"error"}} {hook.errors}\n'

    def _hook_seconds_total(self, name: str) -> Iterator[str]:
        for path, hook in sorted(self._totals.hooks.items()):
            yield f'{name}{{hook="{escaped(path)}"}} {hook.seconds:.6f}\n'

    def _config_version(self, name: str) -> Iterator[str]:
        yield f"{name} {self._snapshot.version}\n"

    def _config_fingerprint_info(self, name: str) -> Iterator[str]:
        yield f'{name}{{fingerprint="{self._snapshot.fingerprint}"}} 1\n'

    def _store_stale_seconds(self, name: str) -> Iterator[str]:
        yield f"{name} {self._stale:.3f}\n"

    def _certificate_expiry_seconds(self, name: str) -> Iterator[str]:
        first: dict[str, int] = {}
        for one, expires in self._expiries:
            # The same file may be in the settings twice.
            first[one] = min(expires, first.get(one, expires))
        for one, expires in first.items():
            yield f'{name}{{name="{escaped(one)}"}} {expires}\n'

    def _workers(self, name: str) -> Iterator[str]:
        for state in ("alive", "starting", "ended"):
            yield f'{name}{{state="{state}"}} {self._facts.workers.get(state, 0)}\n'

    def _worker_restarts_total(self, name: str) -> Iterator[str]:
        yield f"{name} {self._totals.restarts + self._facts.restarts}\n"

    def _access_log_dropped_total(self, name: str) -> Iterator[str]:
        yield f"{name} {self._totals.dropped + self._facts.dropped}\n"

    def _build_info(self, name: str) -> Iterator[str]:
        yield f'{name}{{version="{escaped(self._version)}"}} 1\n'


def _histogram(name: str, labels: str, ends: list[str], buckets: list[int], seconds: float) -> str:
    """The lines of one histogram.  The counts are of one moment, so they fit together."""
    comma = labels + "," if labels else ""
    around = f"{{{labels}}}" if labels else ""
    so_far = 0
    lines = []
    for end, count in zip(ends, buckets, strict=False):
        so_far += count
        lines.append(f'{name}_bucket{{{comma}le="{end}"}} {so_far}\n')
    so_far += buckets[-1]
    lines.append(f'{name}_bucket{{{comma}le="+Inf"}} {so_far}\n')
    lines.append(f"{name}_sum{around} {seconds:.6f}\n{name}_count{around} {so_far}\n")
    return "".join(lines)


def _end(bound: float) -> str:
    """A bucket's end as Go writes it, so that all clients call it the same."""
    return f"{bound:g}" if bound < 1e6 else repr(bound)


def _joined(head: str, lines: Iterator[str]) -> Iterator[str]:
    """Lines in pieces; ``head`` stands before the first line, and alone if there is none."""
    piece, size = [head], 0
    for line in lines:
        piece.append(line)
        size += len(line)
        if size >= _PIECE:
            yield "".join(piece)
            piece, size = [], 0
    if piece:
        yield "".join(piece)


def escaped(text: str) -> str:
    """A label's value: a backslash, a quote and a line's end cannot end it."""
    if "\\" in text or '"' in text or "\n" in text:
        return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    return text
