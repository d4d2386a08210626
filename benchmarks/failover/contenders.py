"""The proxies that meet the faults, with settings that can be compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from benchmarks.proxies import PROXIES, SUBJECT, Proxy

__all__ = ["CONTENDERS", "SETTINGS"]

_SLARDAR = (
    "twistd -n --pidfile= slardar --workers 0 --store memory: "
    "--config @{folder}/failover-slardar.yaml "
    "--listen tcp:@{port}:interface=127.0.0.1:backlog=4096 "
    "--control tcp:@{control}:interface=127.0.0.1"
)


def _set_up(name: str, *configs: str) -> Proxy:
    """A proxy of the benchmarks with the configuration of this one."""
    proxy = PROXIES[name]
    words = dict(zip(proxy.configs, configs, strict=True))
    command = []
    for word in proxy.command:
        for other, own in words.items():
            word = word.replace(other, own)
        command.append(word)
    return dataclasses.replace(proxy, command=tuple(command), configs=configs)


CONTENDERS: Mapping[str, Proxy] = {
    proxy.name: proxy
    for proxy in (
        dataclasses.replace(
            PROXIES[SUBJECT],
            command=tuple(_SLARDAR.split()),
            configs=("failover-slardar.yaml",),
        ),
        _set_up("haproxy", "failover-haproxy.cfg"),
        Proxy(
            "nginx",
            "nginx",
            ("nginx", "-e", "stderr", "-c", "@{folder}/failover-nginx.conf"),
            ("nginx", "-v"),
            ("failover-nginx.conf",),
        ),
        _set_up("envoy", "failover-envoy.yaml"),
        _set_up("traefik", "failover-traefik.yml", "failover-traefik-routes.yml"),
    )
}

#: What each proxy is told beside what is common to all, for the report.
SETTINGS: Mapping[str, str] = {
    SUBJECT: "`outlier: {eject: 10}`; `retry_on` names 500, 502, 503 and 504; else its defaults, "
    "so that `retry_budget` lets at most a fifth of the requests be sent again",
    "haproxy": "`observe layer7` with its defaults (after 10 errors in a row the server waits for "
    "its next good heartbeat), `retry-on all-retryable-errors`, `option redispatch 1`, "
    "`disable-l7-retry` for POST",
    "nginx": "no heartbeats: the open-source nginx has none; `max_fails=1 fail_timeout=10s`, its "
    "defaults; `proxy_next_upstream` names errors, timeouts, 500, 502, 503 and 504",
    "envoy": "`outlier_detection` with its defaults (5 errors in a row), except an `interval` of "
    "1 s and a `base_ejection_time` of 10 s; `retry_on: 5xx,reset` for GET and "
    "`connect-failure` for POST, `previous_hosts`; circuit breakers out of the way (by default, "
    "3 retries at a time)",
    "traefik": "`passiveHealthCheck` with `failureWindow: 10s, maxFailedAttempts: 3`; `retry` "
    "with `status: 500-599`",
}
