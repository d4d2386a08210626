"""What ``GET /overview`` shows: the counters behind a live view, at a bounded cost.

``/status`` and ``/metrics`` tell everything of every server, which takes long where there are many.
Here a caller gets a row for each upstream, and the servers of the few upstreams that it names.
Rates are for the caller to find: everything counted only grows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from operator import add as add_up
from typing import Any

from slardar import __version__
from slardar.control.actions import Actions
from slardar.control.names import Names
from slardar.control.origins import shadowed
from slardar.control.pieces import in_pieces
from slardar.control.status import Times, shown_levels, shown_service, shown_store
from slardar.model.server import Upstream
from slardar.observers.exposition import Facts
from slardar.observers.totals import ServerTotals, UpstreamTotals

__all__ = ["COLUMNS", "overview"]

#: What a row of the index holds.
COLUMNS = ("name", "servers", "up", "requests", "errors", "retries", "bytes_out")
#: Seconds for which servers are timed after a call that names an upstream.
_TIMED = 15.0
#: Lines about things that are wrong, at most.
_MAX_LINES = 100


async def overview(
    actions: Actions, names: Names, wanted: Collection[str], has_index: bool
) -> dict[str, Any]:
    """The whole object, ready for JSON.

    ``wanted`` are the upstreams whose servers are shown; those that there are not, or that are not
    among ``names``, are left out.  With ``has_index`` every upstream has a row.
    """
    plane = actions.plane
    if wanted:
        plane.time_servers(_TIMED)
    await in_pieces(plane.collect(), actions.history.turn)
    found = _about_process(actions, names)
    facts: Facts = plane.facts()
    totals = plane.totals
    snapshot = actions.snapshot
    known = [name for name in sorted(snapshot.upstreams) if name in names]
    if has_index:
        rows = (_row(snapshot.upstreams[name], totals.upstreams.get(name), facts) for name in known)
        found["index"] = {
            "columns": COLUMNS,
            "rows": await in_pieces(rows, actions.history.turn),
        }
    found["bounds"] = totals.bounds
    found["totals"] = await _totals(actions, known)
    if names.is_everything:
        found["totals"]["refused"] = dict(totals.refused)
        found["totals"]["connections"] = dict(facts.connections)
        found["totals"]["tunnels"] = sum(facts.tunnels.values())
    found["upstreams"] = await _details(
        actions, [name for name in dict.fromkeys(wanted) if name in names], facts
    )
    return found


def _about_process(actions: Actions, names: Names) -> dict[str, Any]:
    """What is not about one upstream; for a caller with some names, what tells of no other one."""
    snapshot = actions.snapshot
    found: dict[str, Any] = {
        "slardar_version": __version__,
        "time": actions.clock(),
        "start_time": Times()[int(actions.start_time)],
        "shd_config_version": snapshot.version,
        "fingerprint": snapshot.fingerprint,
    }
    if not names.is_everything:
        return found
    statistics = actions.plane.statistics()
    found["config_timer"] = statistics.get("config_timer", {})
    found["workers"] = statistics.get("workers", {})
    found["generations"] = [actions.generation(), *actions.older_generations()]
    found["store"] = shown_store(
        actions.store, actions.store_url, actions.store_trouble, actions.clock()
    )
    times = Times()
    found["services"] = {
        name: shown_service(snapshot.services[name], snapshot.upstreams[name], state, times)
        for name, state in sorted(actions.service_watch.shown().items())
        if name in snapshot.services
    }
    found["failed"] = dict(list(actions.failed.items())[:_MAX_LINES])
    found["shadowed"] = shadowed(actions.settings, actions.held, snapshot)[:_MAX_LINES]
    return found


def _row(upstream: Upstream, totals: UpstreamTotals | None, facts: Facts) -> tuple[str | int, ...]:
    """The values of :data:`COLUMNS`."""
    name = upstream.name
    servers = {(server.host, server.port): server.state for server in upstream.servers}
    up = 0
    for (host, port), state in servers.items():
        up += state == "up" and facts.server(name, host, port)[0]
    if totals is None:
        return name, len(servers), up, 0, 0, 0, 0
    requests, errors = _requests(totals.codes)
    return name, len(servers), up, requests, errors, totals.retries, totals.bytes_out


def _requests(codes: Mapping[int, int]) -> tuple[int, int]:
    """All requests, and those whose client got an error of the servers' side, or no reply."""
    errors = 0
    for code, count in codes.items():
        if code >= 500 or not code:
            errors += count
    return sum(codes.values()), errors


async def _totals(actions: Actions, names: Collection[str]) -> dict[str, Any]:
    """The counters of these upstreams together."""
    totals = actions.plane.totals
    found = dict.fromkeys(("requests", "errors", "retries", "bytes_in", "bytes_out"), 0)
    buckets = [0] * (len(totals.bounds) + 1)

    def add() -> Iterator[None]:
        for name in names:
            one = totals.upstreams.get(name)
            if one is not None:
                requests, errors = _requests(one.codes)
                found["requests"] += requests
                found["errors"] += errors
                found["retries"] += one.retries
                found["bytes_in"] += one.bytes_in
                found["bytes_out"] += one.bytes_out
                buckets[:] = map(add_up, buckets, one.buckets)
                yield

    await in_pieces(add(), actions.history.turn)
    return {**found, "buckets": buckets}


async def _details(actions: Actions, wanted: Collection[str], facts: Facts) -> dict[str, Any]:
    """The upstreams that were named, with their servers."""
    statistics = actions.plane.statistics()
    resolved = statistics.get("names", {})
    panics = statistics.get("panic") or {}
    errors = statistics.get("balancer_errors") or {}
    times = Times()

    def shown() -> Iterator[tuple[str, dict[str, Any]]]:
        for name in wanted:
            upstream = actions.snapshot.upstreams.get(name)
            if upstream is not None:
                found = _upstream(actions, upstream, facts.tunnels.get(name, 0))
                found["levels"] = shown_levels(upstream, actions.plane.peers(name), resolved, times)
                totals = actions.plane.totals.upstreams.get(name)
                _add_counts(found["levels"], upstream, {} if totals is None else totals.servers)
                for key, values in (("panic", panics), ("balancer_error", errors)):
                    if name in values:
                        found[key] = values[name]
                yield name, found

    return dict(await in_pieces(shown(), actions.history.turn))


def _upstream(actions: Actions, upstream: Upstream, tunnels: int) -> dict[str, Any]:
    """One upstream, without its servers."""
    name = upstream.name
    totals = actions.plane.totals.upstreams.get(name)
    if totals is None:
        totals = UpstreamTotals(len(actions.plane.totals.bounds) + 1)
    requests, errors = _requests(totals.codes)
    return {
        "mode": upstream.mode,
        "origin": actions.origin(name),
        "requests": requests,
        "errors": errors,
        "codes": dict(totals.codes),
        "buckets": list(totals.buckets),
        "seconds": totals.seconds,
        "retries": totals.retries,
        "exhausted": totals.exhausted,
        "bytes_in": totals.bytes_in,
        "bytes_out": totals.bytes_out,
        "tunnels": tunnels,
        "counts": dict(actions.plane.counts(name)),
    }


def _add_counts(
    levels: Collection[Collection[dict[str, Any]]],
    upstream: Upstream,
    totals: Mapping[str, ServerTotals],
) -> None:
    """Add to the servers what the metrics have counted of them."""
    for level, configured in zip(levels, upstream.levels, strict=True):
        for shown, server in zip(level, configured.servers, strict=True):
            shown["address"] = server.key
            counted = totals.get(server.key) or ServerTotals()
            shown["codes"] = dict(counted.codes)
            shown["errors"] = _requests(counted.codes)[1]
            shown["kinds"] = dict(counted.failures)
            shown["ejections"] = counted.ejections
            if counted.buckets:
                shown["buckets"] = list(counted.buckets)
