"""The table of metrics: every name, once, with its type, its labels and its help text."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["FAMILIES", "PREFIX", "Family"]

#: All names begin so.
PREFIX = "slardar_"


class Family(NamedTuple):
    """One metric; ``name`` without the prefix, ``alarm`` for the documentation: when to look."""

    name: str
    type: Literal["counter", "gauge", "histogram"]
    labels: tuple[str, ...]
    help: str
    alarm: str = ""


_UPSTREAM = ("upstream",)
_SERVER = ("upstream", "server")

#: In the order in which they are shown.
FAMILIES: tuple[Family, ...] = (
    Family(
        "requests_total",
        "counter",
        ("upstream", "code"),
        "Requests that have ended, by the status that the client got; 0: it got none.",
        'the share of `code=~"5.."` rises',
    ),
    Family(
        "request_duration_seconds",
        "histogram",
        _UPSTREAM,
        "Seconds from a request's head to the end of its reply, without tunnels.",
        "a high quantile rises, and `slardar_added_seconds` does not: servers are slow",
    ),
    Family(
        "server_requests_total",
        "counter",
        ("upstream", "server", "code"),
        "Attempts on a server that have ended, by the status of its reply; 0: none came.",
        "one server has another share of errors than its peers",
    ),
    Family(
        "server_failures_total",
        "counter",
        ("upstream", "server", "kind"),
        "Attempts that failed, by kind: connect, tls, timeout, error, status or deadline.",
        "it rises: the kind says what to look for",
    ),
    Family(
        "server_up",
        "gauge",
        _SERVER,
        "1 if health lets the server have requests, else 0.",
        "0 for longer than a deployment takes",
    ),
    Family(
        "server_active_requests",
        "gauge",
        _SERVER,
        "Requests under way on the server.",
        "near `max_conns`, or far from its peers",
    ),
    Family(
        "retries_total",
        "counter",
        _UPSTREAM,
        "Attempts that followed a failed one of the same request.",
        "more than a few percent of the requests",
    ),
    Family(
        "retry_budget_exhausted_total",
        "counter",
        _UPSTREAM,
        "Requests that the retry budget did not let be tried again.",
        "it rises: servers fail faster than retries may hide",
    ),
    Family(
        "ejections_total",
        "counter",
        _SERVER,
        "Times that the server was ejected as an outlier.",
        "it rises for the same server again and again",
    ),
    Family(
        "refused_total",
        "counter",
        ("reason",),
        "Requests that reached no upstream, by why.",
        '`reason="no_upstream"` rises: a name is missing or misspelt',
    ),
    Family(
        "bytes_received_total",
        "counter",
        _UPSTREAM,
        "Bytes from clients: heads and content of bodies, tunnels included.",
    ),
    Family(
        "bytes_sent_total",
        "counter",
        _UPSTREAM,
        "Bytes to clients, tunnels included.",
    ),
    Family(
        "added_seconds",
        "histogram",
        (),
        "Seconds of a request in which no server had it: what slardar has added.",
        "a high quantile over some milliseconds: more workers, or lighter hooks",
    ),
    Family(
        "connections",
        "gauge",
        ("listener",),
        "Connections of clients, tunnels included.",
        "near `limits.connections` times the workers",
    ),
    Family("tunnels", "gauge", _UPSTREAM, "Connections that have become tunnels."),
    Family(
        "hook_calls_total",
        "counter",
        ("hook", "outcome"),
        "Calls of a hook, by outcome: ok or error.",
        '`outcome="error"` rises: the hook may be suspended',
    ),
    Family(
        "hook_seconds_total",
        "counter",
        ("hook",),
        "Seconds that calls of a hook took; most calls are estimated from those timed.",
        "its rate nears the number of workers: hooks take all the time",
    ),
    Family("config_version", "gauge", (), "The version of the configuration that is served."),
    Family(
        "config_fingerprint_info",
        "gauge",
        ("fingerprint",),
        "Always 1; nodes with the same configuration have the same fingerprint.",
        "nodes of a cluster differ for more than a moment",
    ),
    Family(
        "store_stale_seconds",
        "gauge",
        (),
        "Seconds since what is served was last known to be what the store holds; 0 while it is.",
        "more than 0: changes are not seen",
    ),
    Family(
        "certificate_expiry_seconds",
        "gauge",
        ("name",),
        "When a certificate for clients expires, in seconds since 1970; name is its name in the"
        " store, or its file.",
        "`slardar_certificate_expiry_seconds - time()` under 1209600 (14 days): it is not renewed",
    ),
    Family(
        "workers",
        "gauge",
        ("state",),
        "Worker processes by state: alive, starting or ended.",
        'fewer `state="alive"` than configured',
    ),
    Family(
        "worker_restarts_total",
        "counter",
        (),
        "Workers that have ended and were replaced.",
        "it rises: the log says why",
    ),
    Family(
        "access_log_dropped_total",
        "counter",
        (),
        "Lines of access logs that were dropped, for nobody took them in time.",
        "it rises: a disk or a collector is too slow",
    ),
    Family("build_info", "gauge", ("version",), "Always 1; the version of slardar."),
)
