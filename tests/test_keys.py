"""Every documented key and option works, is logged as without effect, or is refused.

The first table names all keys.  When a key's feature is written, the key moves from its
group to another here, too.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from twisted.logger import capturedLogs, formatEvent
from twisted.python import usage

import slardar
from slardar.config import (
    Control,
    ControlTls,
    Health,
    History,
    Hooks,
    Hsts,
    Limits,
    Metrics,
    Settings,
    Timeouts,
    Tls,
    TlsAcme,
    TlsCertificate,
    TlsClient,
    Tracing,
    parse_settings,
)
from slardar.errors import ConfigError
from slardar.model.access_log import AccessLog
from slardar.model.inert import inert_upstreams
from slardar.model.server import (
    HedgeOpts,
    HttpOpts,
    LevelBody,
    Outlier,
    QueueOpts,
    RetryBudgetOpts,
    Server,
    TlsOpts,
    UpstreamBody,
)
from slardar.model.service import EachServer, ServiceKeys
from slardar.options import Options
from tests.control.fakes import FakePlane, FakeStore, make_actions, result_of

SERVER = {"host": "127.0.0.1", "port": 80}

#: Keys that work, by the attribute that slardar's code reads.
WORKS = {
    Settings: ("listen", "control", "workers", "store", "store_copy", "timeouts", "limits",
               "health", "hooks", "history", "metrics", "access_log", "tracing", "tls",
               "conf_hash", "default_upstream", "first_upstreams", "first_services", "first_routes",
               "first_settings", "trusted", "forwarded"),
    AccessLog: ("to", "format", "sample", "interval", "syslog"),
    Control: ("http", "amp", "tokens", "networks", "tls"),
    ControlTls: ("cert", "key", "client_ca"),
    Timeouts: ("client_header", "client_body", "keepalive", "connect", "send", "read", "linger",
               "drain"),
    Limits: ("head", "headers", "url", "body", "connections", "retry_buffer", "linger"),
    Health: ("interval", "timeout", "enabled"),
    History: ("versions",),
    Hooks: ("on_error", "budget", "lua_memory", "body"),
    Metrics: ("buckets", "added_buckets"),
    Tracing: ("otlp", "sample", "service"),
    Tls: ("certificates", "default", "min_version", "ciphers", "client", "acme", "redirect",
          "hsts"),
    Hsts: ("max_age", "subdomains", "preload"),
    TlsAcme: ("hosts", "email", "directory", "ca"),
    TlsCertificate: ("cert", "key", "folder", "client"),
    TlsClient: ("verify", "ca"),
    Server: ("host", "port", "weight", "max_fails", "fail_timeout", "backup", "state",
             "max_conns", "tls"),
    TlsOpts: ("verify", "ca", "cert", "key", "server_name", "alpn"),
    LevelBody: ("servers", "tries"),
    HttpOpts: ("http_query", "statuses"),
    RetryBudgetOpts: ("share", "min"),
    HedgeOpts: ("after",),
    QueueOpts: ("size", "timeout"),
    UpstreamBody: ("servers", "cluster", "protected", "mode", "mode_opts", "tries", "try_timeout",
                   "deadline", "retry_budget", "hedge", "queue",
                   "connect_timeout", "send_timeout", "read_timeout", "keepalive", "retry_on",
                   "public", "panic", "slow_start", "enable", "typ", "sensibility", "rise",
                   "interval", "name", "user", "password", "outlier", "hints", "access_log",
                   "decisions", "proxy_protocol", "tls"),
    ServiceKeys: ("origin", "each_server", "empty_grace", "consul_service", "tag", "passing", "dc",
                  "near", "consul", "docker_service", "kubernetes_service", "port", "url"),
    EachServer: ("max_fails", "fail_timeout", "max_conns"),
    Outlier: ("errors", "latency", "min_requests", "window", "eject", "max_share"),
}  # fmt: skip
#: Keys whose attribute has another name.
CALLED = {
    "first_upstreams": "upstreams",
    "networks": "allow",
    "first_services": "services",
    "first_routes": "routes",
    "first_settings": "settings",
    "origin": "dns_service",
    "each_server": "server",
    "tries": "try",
    "connect_timeout": "timeout",
    "http_query": "query",
    "password": "pass",
}


#: Settings that are refused because their feature does not exist yet, with a good value.
LATER_SETTINGS = {
    "streams": {},
}


@cache
def sources() -> frozenset[str]:
    """The names of all attributes that slardar's code reads, except in the modules that
    declare the keys and read them from users' text."""
    root = Path(slardar.__file__).parent
    declared = {root / "config.py", root / "model" / "server.py", root / "model" / "parse.py"}
    found = {"backup"}  # the model makes a level of it
    for path in root.rglob("*.py"):
        if path not in declared:
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
                    found.add(node.attr)
    return frozenset(found)


def nested(path: str, value: Any) -> dict[str, Any]:
    """``a.b`` and a value as nested objects."""
    *outer, key = path.split(".")
    found = {key: value}
    for name in reversed(outer):
        found = {name: found}
    return found


def test_no_key_is_missing_here() -> None:
    """Every key of the model is in exactly one group."""
    for cls, names in WORKS.items():
        keys = {CALLED.get(name, name) for name in names}
        declared = set(cls.__struct_encode_fields__)
        if cls is UpstreamBody:
            keys |= {"http_opts"}
        assert keys == declared, cls.__name__


@pytest.mark.parametrize(
    "name", sorted({name for names in WORKS.values() for name in names} - {"statuses", "cluster"})
)
def test_what_works_is_read(name: str) -> None:
    """Code outside of the model reads it; otherwise it could have no effect."""
    assert name in sources()


def test_named_statuses_and_clusters_reach_the_data_plane() -> None:
    """They have the names that they have in an upstream ready for use."""
    assert {"failed_statuses", "levels"} <= sources()


#: Levels decide in a cluster, so ``backup`` has no effect there.
BACKUP = {"cluster": [{"servers": [{**SERVER, "backup": True}]}]}


def test_key_without_effect_is_said_once() -> None:
    """It is logged with its place, from the file and the store at the start, and from a call."""
    wanted = "upstreams.{}.cluster.servers.backup: taken, but without effect: "

    def said(events: list[Any], name: str) -> list[str]:
        lines = [formatEvent(event) for event in events if event["log_level"].name == "warn"]
        return [line for line in lines if wanted.format(name) in line]

    with capturedLogs() as logged:
        actions = make_actions(FakeStore(), FakePlane(), upstreams={"a": BACKUP})
    assert len(said(logged, "a")) == 1
    with capturedLogs() as logged:
        result_of(actions.set_upstream("b", BACKUP, "ops"))
        result_of(actions.set_upstream("b", {**BACKUP, "keepalive": 5}, "ops"))
    assert len(said(logged, "b")) == 1


def test_ten_thousand_upstreams_make_one_line_a_key() -> None:
    """The first upstream is named, the others are counted."""
    (line,) = inert_upstreams((f"upstreams.u{number}", BACKUP) for number in range(10_000))
    assert line.startswith(
        "upstreams.u0.cluster.servers.backup (and in 9999 more): taken, but without effect: "
    )


@pytest.mark.parametrize("key", LATER_SETTINGS)
def test_setting_of_a_later_version_is_refused(key: str) -> None:
    """This holds for the file, too."""
    with pytest.raises(ConfigError) as caught:
        parse_settings(nested(key, LATER_SETTINGS[key]), "f")
    (line,) = caught.value.problems
    assert line == f"f: {key}: {key.rpartition('.')[2]} is not available yet"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--listen", "ssl:8443"], "expected tls:PORT"),
        (["--control", "tls:1995"], "expected an endpoint without TLS, which control.tls adds"),
        (["--listen", "haproxy:haproxy:tcp:8080"], "haproxy: stands in listen only, once before"),
        (["--control", "haproxy:tcp:1995"], "haproxy: stands in listen only"),
        (["--store", "mysql://127.0.0.1/slardar"], "expected sqlite:FILE, memory:, consul:URL"),
        (["--upstream", "a"], "expected NAME=HOST:PORT"),
        (["--workers", "many"], 'expected "auto"'),
        (["--control", "tcp:1995"], "--control"),
    ],
)
def test_option_that_is_refused(words: list[str], says: str) -> None:
    """The message is one line that names the option."""
    with pytest.raises(usage.UsageError) as caught:
        Options().parseOptions(words)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{words[0]}: ")
    assert says in line


def test_every_option_of_the_contract_is_taken() -> None:
    """The process starts with its value."""
    options = Options()
    words = [
        *("--listen", "tcp:0", "--control", "unix:c.sock", "--amp", "unix:b.sock"),
        *("--store", "memory:", "--workers", "3", "--upstream", "a=127.0.0.1:80"),
    ]
    options.parseOptions(words)
    found = options.settings
    assert (found.listen, found.store, found.workers) == (("tcp:0",), "memory:", 3)
    assert (found.control.http, found.control.amp) == ("unix:c.sock", "unix:b.sock")
    assert list(found.first_upstreams) == ["a"]
