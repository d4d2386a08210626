"""What ``GET /status`` shows: the names and the form are upyun/slardar's.

It is built anew for each call, from the snapshot and the counters of the data plane.  With 10,000
upstreams of two servers that takes about 0.15 s, so do not ask for it in a loop.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from slardar import __version__
from slardar.catalogues.watch import ServiceState
from slardar.config import Settings
from slardar.health import checked
from slardar.interfaces import IKeptStore, IPlane, IStore
from slardar.model.acme import HostState
from slardar.model.live import ServerLive
from slardar.model.reader import is_note, joined
from slardar.model.server import Server, Upstream
from slardar.model.service import Service
from slardar.model.snapshot import Snapshot
from slardar.resolve import NameState
from slardar.stores.trouble import Trouble

__all__ = [
    "Times",
    "build_status",
    "ignored_keys",
    "shown_levels",
    "shown_service",
    "shown_store",
]


class Times(dict[int, str]):
    """Local times as text, by epoch second.  Many servers share the same second."""

    def __missing__(self, second: int) -> str:
        text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
        self[second] = text
        return text


def build_status(
    settings: Settings,
    snapshot: Snapshot,
    plane: IPlane,
    start_time: float,
    failed: Mapping[str, str],
    generations: Sequence[Mapping[str, Any]] = (),
    hooks: Sequence[Mapping[str, Any]] = (),
    origins: Mapping[str, Any] | None = None,
    services: Mapping[str, ServiceState] | None = None,
    store: Mapping[str, Any] | None = None,
    certificates: Mapping[str, Any] | None = None,
    tls: Mapping[str, Any] | None = None,
    acme: Mapping[str, HostState] | None = None,
) -> dict[str, Any]:
    """The whole object, ready for JSON.

    ``start_time`` is in epoch seconds;
    ``failed`` says, by key path, what of the stored state could not be used, and why;
    ``generations`` are the processes that serve, this one first and then those that an
    upgrade has replaced; ``hooks`` are the hooks with their states; ``origins`` says where
    upstreams, services and routes come from; ``services`` what their catalogues have said;
    ``store`` how the store is (:func:`shown_store`); ``certificates`` how many there are, and what
    is wrong with them; ``tls`` what there is to know of TLS to clients;
    ``acme`` how it is with the certificates that are got by ACME.
    """
    times = Times()
    statistics = dict(plane.statistics())
    balancer_errors = statistics.pop("balancer_errors", None)
    names = statistics.pop("names", {})
    panics = statistics.pop("panic", None)
    last_check = statistics.pop("last_check", None)
    status: dict[str, Any] = {
        "slardar_version": __version__,
        "start_time": times[int(start_time)],
        "conf_hash": settings.conf_hash,
        "shd_config_version": snapshot.version,
        "checkup_timer_alive": statistics.pop("checkup_timer_alive", False),
        "last_check_time": None if last_check is None else times[int(last_check)],
        "config_timer": statistics.pop("config_timer", {}),
        "workers": statistics.pop("workers", {}),
        "generations": list(generations),
        "fingerprint": snapshot.fingerprint,
        "statistics": statistics,
    }
    if store is not None:
        status["store"] = dict(store)
    if certificates:
        status["certificates"] = dict(certificates)
    if tls is not None:
        status["tls"] = dict(tls)
    if origins is not None:
        status["origins"] = dict(origins)
    if services:
        status["services"] = {
            name: shown_service(snapshot.services[name], snapshot.upstreams[name], state, times)
            for name, state in sorted(services.items())
            if name in snapshot.services
        }
    if acme:
        status["acme"] = {host: _acme(state, times) for host, state in sorted(acme.items())}
    if hooks:
        status["hooks"] = list(hooks)
    if balancer_errors:
        status["balancer_errors"] = balancer_errors
    if panics:
        status["panic"] = panics
    if failed:
        status["failed"] = dict(failed)
    ignored = ignored_keys(snapshot)
    if ignored:
        status["ignored"] = ignored
    counts = {name: found for name in sorted(snapshot.upstreams) if (found := plane.counts(name))}
    if counts:
        status["upstreams"] = counts
    for name, upstream in sorted(snapshot.upstreams.items()):
        status[f"cls:{name}"] = shown_levels(upstream, plane.peers(name), names, times)
    return status


def shown_store(store: IStore, url: str, trouble: Trouble | None, now: float) -> dict[str, Any]:
    """How the store is, for the status: ``trouble`` is what is wrong with it, ``now`` the time in
    epoch seconds."""
    shown: dict[str, Any] = {
        "url": url,
        "status": "ok" if trouble is None else trouble.status,
    }
    if trouble is not None:
        shown["since"] = Times()[int(trouble.since)]
        shown["age"] = round(max(0.0, now - trouble.since), 1)
        shown["reason"] = trouble.reason
    if IKeptStore.providedBy(store):
        shown["copy"] = {"file": store.copy.path}
        if store.copy.problem:
            shown["copy"]["problem"] = store.copy.problem
    return shown


def ignored_keys(snapshot: Snapshot) -> list[str]:
    """A line for each key in the store that slardar does not know."""
    upstreams = sorted(snapshot.upstreams.items())
    lines = [line for _, upstream in upstreams for _, line in upstream.unknown]
    for index, route in enumerate(snapshot.routes):
        if route.x_:
            odd = (key for key in route.notes if not is_note(key))
            lines += (f"{joined(f'routes[{index}]', key)}: unknown key" for key in odd)
    return lines


def _acme(state: HostState, times: Times) -> dict[str, Any]:
    shown: dict[str, Any] = {"status": state.status}
    if state.expires:
        shown["expires"] = times[int(state.expires)]
    if state.next:
        shown["next"] = times[int(state.next)]
    if state.failures:
        shown["failures"] = state.failures
    if state.error:
        shown["error"] = state.error
    if state.node:
        shown["node"] = state.node
    return shown


def shown_service(
    service: Service, upstream: Upstream, state: ServiceState, times: Times
) -> dict[str, Any]:
    """One service, with what its catalogue has said."""
    shown: dict[str, Any] = {
        service.origin[0]: service.source[service.origin[0]],
        "servers": len(upstream.servers),
        "looked_up": times[int(state.looked_up_at)] if state.looked_up_at else None,
    }
    if state.empty_at:
        shown["empty_since"] = times[int(state.empty_at)]
    if state.halved_at:
        shown["halved_since"] = times[int(state.halved_at)]
    if state.note:
        shown["note"] = state.note
    if state.failed_at:
        shown["lookup"] = {"failing_since": times[int(state.failed_at)], "msg": state.reason}
    return shown


def shown_levels(
    upstream: Upstream,
    peers: Mapping[str, ServerLive],
    names: Mapping[str, NameState],
    times: Times,
) -> list[list[dict[str, Any]]]:
    """The servers of an upstream, a list for each level: ``peers`` is what is known of them,
    ``names`` what lookups of their names have found."""
    name = upstream.name
    return [
        [_server(name, server, peers, names, times) for server in level.servers]
        for level in upstream.levels
    ]


def _server(
    upstream: str,
    server: Server,
    peers: Mapping[str, ServerLive],
    names: Mapping[str, NameState],
    times: Times,
) -> dict[str, Any]:
    key = server.key
    # A server that is not served yet is shown like one that has had no request.
    live = peers.get(key) or ServerLive()
    health = checked.shown(live)
    timeout = server.fail_timeout
    shown: dict[str, Any] = {
        "server": f"{upstream}:{key}",
        "status": health.status,
        "weight": server.weight,
        "max_fails": server.max_fails,
        "fail_timeout": int(timeout) if timeout == int(timeout) else timeout,
        "fail_num": health.fail_num,
        "lastmodified": times[int(health.since)],
        "msg": health.message,
        "active": live.active,
        "requests": live.requests,
        "failures": live.failures,
    }
    if live.notes:
        shown["notes"] = dict(live.notes)
    if live.about:
        shown["about"] = dict(live.about)
    if server.state != "up":
        shown["state"] = server.state
    found = names.get(server.host)
    if found is not None:
        shown["addresses"] = [address for _, address in found.addresses]
        if found.failed_at:
            shown["lookup"] = {"failing_since": times[int(found.failed_at)], "msg": found.reason}
    return shown
