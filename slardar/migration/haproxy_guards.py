"""Whether HAProxy would keep a request from its server, or change it before.

Whatever is not known to be harmless is a guard: requests that it may be for are not passed on.
"""

from __future__ import annotations

import re

from slardar.migration.haproxy_words import OWN
from slardar.migration.statement import Scope, Statement, is_trusted_header

__all__ = ["guards_of", "is_harmless"]

#: What the import reads itself, and what is listed and keeps no request back: it chooses a server,
#: changes replies, or is for logs, checks, caches or pages of HAProxy's own.
_HARMLESS = frozenset(
    {
        *("acl", "bind", "use_backend", "default_backend", "default-server", "server", "disabled"),
        *(
            "enabled",
            "server-template",
            "use-server",
            "balance",
            "hash-type",
            "hash-balance-factor",
        ),
        *("hash-preserve-affinity", "maxconn", "fullconn", "retries", "retry-on", "cookie"),
        *("stick-table", "stick on", "stick match", "stick store-request", "stick store-response"),
        *("appsession", "persist", "force-persist", "ignore-persist", "dispatch", "source"),
        *("log", "no log", "log-format", "log-format-sd", "log-tag", "log-send-hostname"),
        *("log-steps", "error-log-format", "capture", "declare", "errorfile", "errorfiles"),
        *("errorloc", "errorloc302", "errorloc303", "http-error", "email-alert", "monitor"),
        *("monitor-uri", "external-check", "guid", "bind-process", "http-send-name-header"),
        *("load-server-state-from-file", "server-state-file-name", "max-keep-alive-queue"),
        *("max-session-srv-conns", "tcp-request inspect-delay", "tcp-response inspect-delay"),
    }
)
_OPTIONS = frozenset(
    {
        *("httpchk", "allbackups", "persist", "originalto", "http_proxy", "transparent"),
        *("mysql-check", "redis-check", "tcp-check", "ssl-hello-chk", "ldap-check", "smtpchk"),
        *("pgsql-check", "spop-check", "external-check", "httpslog", "http-no-delay"),
        *("accept-invalid-http-response", "accept-unsafe-violations-in-http-request"),
        *("accept-unsafe-violations-in-http-response", "h1-case-adjust-bogus-server"),
        *("http-pretend-keepalive", "http-use-proxy-header", "idle-close-on-response"),
        *("independent-streams", "tcp-smart-accept", "tcp-smart-connect", "use-small-buffers"),
    }
)
#: What begins so is harmless, whatever follows.
_FAMILIES = re.compile(
    "(timeout|stats|http-check|tcp-check|compression|http-after-response|no option"
    "|filter-sequence) .*"
)
_FILTERS = ("compression", "spoe", "trace", "cache", "opentracing", "otel", "bwlim-in", "bwlim-out")
#: Actions of ``http-request`` and the like that let a request or a reply through as it is, or
#: change headers alone.
_ACTIONS = re.compile(
    "allow|accept|(set|add|del|replace)-header|replace-value|(un)?set-var(-fmt)?|capture"
    "|track-sc[0-9]+|sc-(inc|add|set)-.*|set-(log-level|nice|mark|tos|fc-mark|fc-tos|bc-mark|bc-tos"
    "|priority-class|priority-offset|timeout|status|map|src|src-port)|do-resolve|wait-for-body"
    "|wait-for-handshake|early-hint|disable-l7-retry|(add|del)-acl|del-map|send-spoe-group|pause"
    "|cache-use|cache-store|strict-mode|set-retries|do-log"
)
_RULES = ("http-request", "http-response", "tcp-request", "tcp-response")


def is_harmless(one: Statement) -> bool:
    """Whether it is known that a line keeps no request back and changes none."""
    name = one.name
    if name in OWN or name in _HARMLESS or _FAMILIES.fullmatch(name):
        return True
    kind, _, action = name.partition(" ")
    if kind == "option":
        return action in _OPTIONS
    if kind == "filter":
        return one.args[:1] != [] and one.args[0] in _FILTERS
    if kind not in _RULES:
        return False
    args = list(one.args)
    if kind.startswith("tcp-") and action in ("connection", "session", "content") and args:
        action = args.pop(0)
    # Rules look at the Host that another rule has set.
    of_header = kind == "http-request" and action.endswith("-header") and args[:1] != []
    if of_header and args[0].lower() == "host":
        return False
    is_pattern = args[1:2] == ["-m"]
    if of_header and action == "del-header" and (is_pattern or is_trusted_header(args[0])):
        # Without it clients could tell the server what the server takes for the proxy's word.
        return False
    # A variable may be named in brackets.
    return _ACTIONS.fullmatch(action.partition("(")[0]) is not None


def guards_of(section: Statement, scope: Scope) -> list[Statement]:
    """The lines of a section, and of the defaults that hold for it, that may keep requests back."""
    around = scope.outer.statements if scope.outer is not None else []
    return [one for one in [*around, *(section.block or ())] if not is_harmless(one)]
