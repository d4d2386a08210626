"""Makes values of the model from what users write: an upstream, or a change of one.

Every function raises :class:`ConfigError` with every mistake found, and then changes
nothing.  No function blocks; a large upstream (1,000 servers) takes some milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Protocol

import msgspec

from slardar.errors import ConfigError, NotFoundError
from slardar.model.dyups import parse_dyups
from slardar.model.names import check_name, normal_host, parse_server_key, split_host_port
from slardar.model.reader import (
    Problems,
    UnknownKey,
    is_note,
    joined,
    read,
    read_partly,
    read_right,
    shown,
)
from slardar.model.routes import parse_routes
from slardar.model.server import (
    Level,
    LevelBody,
    ProbeOptions,
    Server,
    TlsOpts,
    Upstream,
    UpstreamBody,
    server_key,
)
from slardar.model.shown import HIDDEN, unshown
from slardar.model.tls import ServerTls

__all__ = [
    "Plugins",
    "check_name",
    "copied",
    "known_odd",
    "merge_upstream",
    "parse_dyups",
    "parse_routes",
    "parse_server_key",
    "parse_upstream",
    "patch_server",
    "split_host_port",
    "unread_tls",
]


class Plugins(Protocol):
    """What refuses names of plugins that do not exist; the module ``slardar.plugins`` does.

    ``where`` is the upstream's path, with which every line of a ConfigError begins.
    """

    def check_mode(self, mode: str, options: Mapping[str, Any], where: str) -> None:
        """Raises ConfigError for a balancer that does not exist, or for options
        (``mode_opts``) that it does not take."""

    def check_probe(self, options: ProbeOptions, where: str) -> None:
        """Raises ConfigError for a probe that does not exist, or for options that it does
        not take."""

    def read_tls(self, options: TlsOpts, where: str) -> ServerTls:
        """``options`` with what is in their files.  ``where`` is the path of ``tls``.  Raises
        ConfigError for a file that cannot be read, or that does not fit."""


_STATUS = re.compile("[1-5][0-9]{2}")
_RETRY = re.compile(r"connect|error|timeout|status|non_idempotent|http_[1-5][0-9]{2}")
#: How a certificate or a key in PEM begins.
_PEM = "-----BEGIN "
_MAX_ALPN = 10
#: The most objects and lists within each other; a person writes five or six.
_DEPTH = 32
#: Keys of a server that GET always shows, as lua-resty-checkups does.
_SHOWN = {"host": "", "port": 0, "weight": 1, "max_fails": 0, "fail_timeout": 10}


def parse_upstream(
    name: str,
    body: object,
    where: str,
    plugins: Plugins | None = None,
    passes: Container[UnknownKey] = (),
    may_be_empty: bool = False,
) -> Upstream:
    """The upstream ``name`` that ``body`` describes; ``where`` begins every path.

    ``body`` is copied.  Unknown keys in ``passes`` and keys that begin with ``x_`` are kept
    and mean nothing.  With ``may_be_empty`` the list ``servers`` may have no server: the
    upstream then has no level.
    """
    problems = Problems(passes)
    try:
        check_name(name, where)
    except ConfigError as error:
        problems.lines += error.problems
    try:
        plain = copied(body)
    except (TypeError, ValueError, RecursionError):
        # JSON cannot hold the body (NaN, a date, a list in itself): find the places, and
        # all other mistakes.
        _read(name, body, where, problems, plugins, may_be_empty)
        _find_odd(body, where, _DEPTH + 1, problems)
        raise ConfigError(problems.lines or f"{where}: expected what JSON can hold") from None
    parsed, levels = _read(name, plain, where, problems, plugins, may_be_empty)
    secured = _Secured(plugins, problems)
    if parsed is not None:
        secured.read(parsed, levels, where)
    problems.raise_if_any()
    assert parsed is not None
    assert isinstance(plain, dict)
    return _upstream(name, parsed, levels, plain, tuple(problems.passed), secured)


def _read(
    name: str,
    body: object,
    where: str,
    problems: Problems,
    plugins: Plugins | None,
    may_be_empty: bool,
) -> tuple[UpstreamBody | None, list[Level]]:
    """The correct parts of an upstream; every mistake is added to ``problems``."""
    parsed = read(UpstreamBody, body, where, problems)
    levels: list[Level] = []
    if not isinstance(body, Mapping):
        return None, levels
    # Parts without a mistake are checked even if others have one.
    found = parsed or read_partly(UpstreamBody, body, where, Problems())
    if ("servers" in body) == ("cluster" in body):
        problems.add(where, 'expected "servers" or "cluster", and not both')
    if "cluster" in body:
        levels = _cluster(body["cluster"], f"{where}.cluster", problems)
    elif "servers" in body:
        servers = found.servers or _salvaged(body["servers"])
        if servers or (servers is not None and not may_be_empty):
            _check_servers(servers, f"{where}.servers", problems)
            levels = _flat_levels(servers)
    _check_rest(found, where, problems)
    if plugins is not None:
        _check_plugins(name, found, body, where, problems, plugins)
    return parsed, levels


def _check_plugins(
    name: str,
    found: UpstreamBody,
    body: Mapping[Any, Any],
    where: str,
    problems: Problems,
    plugins: Plugins,
) -> None:
    # If ``mode`` or ``typ`` is not even a string, ``read`` has said so.
    if "mode" not in body or found.mode == body["mode"]:
        try:
            plugins.check_mode(_mode(found), _options(found), where)
        except ConfigError as error:
            problems.lines += error.problems
    if "typ" not in body or found.typ == body["typ"]:
        try:
            plugins.check_probe(_probe(name, found), where)
        except ConfigError as error:
            problems.lines += error.problems


def _salvaged(raw: object) -> tuple[Server, ...] | None:
    """Servers of a list with mistakes; they serve only to look for more mistakes.

    A missing or wrong host or port gets a value that no other server has.
    """
    if not isinstance(raw, (list, tuple)):
        return None
    servers = []
    for index, item in enumerate(raw):
        unlike = {"host": f"server-{index}.invalid", "port": -1 - index}
        servers.append(Server(**{**unlike, **read_right(Server, item)}))
    return tuple(servers)


def _mode(body: UpstreamBody) -> str:
    return body.mode or "wrr"


def _options(body: UpstreamBody) -> dict[str, Any]:
    """The options that the balancer gets."""
    if not any(map(is_note, body.mode_opts)):
        return body.mode_opts
    return {key: value for key, value in body.mode_opts.items() if not is_note(key)}


def _failed_statuses(body: UpstreamBody) -> frozenset[int]:
    """The statuses that ``http_opts.statuses`` maps to false."""
    return frozenset(
        int(status)
        for status, good in body.http_opts.statuses.items()
        if not good and _STATUS.fullmatch(status)
    )


def _probe(name: str, body: UpstreamBody) -> ProbeOptions:
    """The options that the probe gets."""
    query = body.http_opts.query
    return ProbeOptions(
        typ=body.typ,
        host=name,
        http_query=None if query is None else query.encode("utf-8", "replace"),
        failed_statuses=_failed_statuses(body),
        name=body.name,
        user=body.user,
        password=body.password,
    )


def _upstream(
    name: str,
    body: UpstreamBody,
    levels: list[Level],
    source: dict[str, Any],
    unknown: tuple[tuple[UnknownKey, str], ...],
    secured: _Secured,
) -> Upstream:
    """The upstream, which keeps ``source``; its servers get the keys that GET always shows."""
    for server in _written_servers(source):
        written = server.copy()
        server.clear()
        server.update(_SHOWN)
        server.update(written)
        server["host"] = normal_host(written["host"])
    named = isinstance(body.cluster, Mapping)
    # The keys of an object have no order, but clusters are tried in the order written.
    order = [level.name for level in levels] if named else []
    canonical = json.dumps([name, source, order], sort_keys=True, separators=(",", ":"))
    return Upstream(
        name=name,
        levels=tuple(_normal_hosts(level) for level in levels),
        source=source,
        digest=int.from_bytes(hashlib.sha256(canonical.encode()).digest(), "big"),
        named=named,
        enable=body.enable,
        probe=_probe(name, body),
        failed_statuses=_failed_statuses(body),
        sensibility=body.sensibility,
        rise=body.rise,
        interval=body.interval,
        protected=body.protected,
        mode=_mode(body),
        mode_opts=_options(body),
        tries=body.tries,
        try_timeout=body.try_timeout,
        deadline=body.deadline,
        connect_timeout=body.timeout,
        send_timeout=body.send_timeout,
        read_timeout=body.read_timeout,
        keepalive=body.keepalive,
        slow_start=body.slow_start,
        outlier=body.outlier,
        panic=body.panic,
        hints=body.hints,
        retry_on=frozenset(body.retry_on),
        retry_budget=body.retry_budget,
        hedge=body.hedge,
        queue=body.queue,
        proxy_protocol=body.proxy_protocol,
        tls=secured.tls,
        server_tls=secured.server_tls,
        public=body.public,
        access_log=body.access_log,
        decisions=body.decisions,
        unknown=unknown,
    )


def _cluster(raw: object, path: str, problems: Problems) -> list[Level]:
    """The levels of ``cluster``: a list of levels, or an object of named clusters."""
    if isinstance(raw, Mapping):
        items = [(str(key), joined(path, key), value) for key, value in raw.items()]
    elif isinstance(raw, (list, tuple)):
        items = [("", f"{path}[{index}]", value) for index, value in enumerate(raw)]
    else:
        problems.add(path, f"expected a list or an object of levels, got {shown(raw)}")
        return []
    if not items:
        problems.add(path, "expected at least one level")
    levels = []
    for name, where, value in items:
        body = read(LevelBody, value, where, problems)
        if body is not None:
            _check_servers(body.servers, f"{where}.servers", problems)
            levels.append(Level(name or None, body.servers, body.tries))
        elif isinstance(value, Mapping):
            servers = _salvaged(value.get("servers"))
            if servers is not None:
                _check_servers(servers, f"{where}.servers", problems)
    return levels


def _flat_levels(servers: tuple[Server, ...]) -> list[Level]:
    """The levels of a flat list: the backups are a second level."""
    backups = tuple(server for server in servers if server.backup)
    if not backups:
        return [Level(None, servers)]
    first = tuple(server for server in servers if not server.backup)
    return [Level(None, part) for part in (first, backups) if part]


def _check_servers(servers: tuple[Server, ...], path: str, problems: Problems) -> None:
    """Check the servers of one list.

    A list names a server once: a second time would only double its share, which its
    weight can say.  Other lists may name the server too, as in lua-resty-checkups.
    """
    seen: set[tuple[str, int]] = set()
    if not servers:
        problems.add(path, "expected at least one server")
    for index, server in enumerate(servers):
        host = normal_host(server.host)
        if host is None:
            problems.add(
                f"{path}[{index}].host",
                f"expected an address or a DNS name, got {shown(server.host)}",
            )
        elif (host, server.port) in seen:
            problems.add(f"{path}[{index}]", f"{server.key} is named twice")
        else:
            seen.add((host, server.port))
        if isinstance(server.tls, TlsOpts):
            check_tls(server.tls, f"{path}[{index}].tls", problems)


def _check_rest(body: UpstreamBody, where: str, problems: Problems) -> None:
    # Its type allows any depth.
    _find_odd(body.mode_opts, f"{where}.mode_opts", _DEPTH, problems)
    if isinstance(body.tls, TlsOpts):
        check_tls(body.tls, f"{where}.tls", problems)
    if body.outlier is not None and 0 < body.outlier.latency <= 1:
        problems.add(
            f"{where}.outlier.latency", f"expected 0 or more than 1, got {body.outlier.latency:g}"
        )
    for index, name in enumerate(body.retry_on):
        if not _RETRY.fullmatch(name):
            problems.add(
                f"{where}.retry_on[{index}]",
                "expected connect, error, timeout, status, non_idempotent or http_NNN, "
                f"got {shown(name)}",
            )
    if body.password == HIDDEN:
        problems.add(f"{where}.pass", "expected the password, got what stands for one in answers")
    for status in body.http_opts.statuses:
        if not _STATUS.fullmatch(status):
            problems.add(
                f"{where}.http_opts.statuses", f"expected an HTTP status, got {shown(status)}"
            )


class _Secured:
    """What an upstream and its servers say of TLS, with what is in the files.

    Without ``plugins`` the files are not read, and nothing of it can be used.
    """

    def __init__(self, plugins: Plugins | None, problems: Problems) -> None:
        self._plugins = plugins
        self._problems = problems
        self.tls: ServerTls | None = None
        self.server_tls: dict[str, ServerTls | None] = {}

    def read(self, body: UpstreamBody, levels: list[Level], where: str) -> None:
        """Read what ``body`` and its servers say; adds every mistake."""
        if self._problems.lines:
            # A file may be named by mistake.
            return
        self.tls = self._read(body.tls, f"{where}.tls")
        for path, servers in _lists(body, levels, where):
            for index, server in enumerate(servers):
                if server.tls is not None:
                    key = server_key(normal_host(server.host) or server.host, server.port)
                    place = f"{path}[{index}].tls"
                    found = self._read(server.tls, place)
                    if self.server_tls.setdefault(key, found) != found:
                        self._problems.add(place, f"{key} has another tls in another level")
        is_secured = any((self.tls, *self.server_tls.values()))
        if is_secured and body.enable and body.typ == "mysql":
            self._problems.add(
                f"{where}.typ",
                "expected another one with tls: MySQL begins TLS inside of its own protocol",
            )

    def _read(self, options: bool | TlsOpts, path: str) -> ServerTls | None:
        if options is False:
            return None
        if options is True:
            return ServerTls()
        if self._plugins is not None:
            try:
                return self._plugins.read_tls(options, path)
            except ConfigError as error:
                self._problems.lines += error.problems
                return None
        return unread_tls(options)


def _lists(
    body: UpstreamBody, levels: list[Level], where: str
) -> Iterator[tuple[str, tuple[Server, ...]]]:
    """The lists of servers, each with its path."""
    if body.cluster is None:
        yield f"{where}.servers", body.servers
        return
    for index, level in enumerate(levels):
        path = f"[{index}]" if level.name is None else f".{level.name}"
        yield f"{where}.cluster{path}.servers", level.servers


def unread_tls(options: TlsOpts) -> ServerTls:
    """``options`` before their files are read."""
    ca, cert = options.ca or "", options.cert or ""
    is_inline = _PEM in ca
    return ServerTls(
        options.verify,
        ca=ca if is_inline else "",
        server_name=normal_host(options.server_name or "") or "",
        alpn=options.alpn,
        ca_file="" if is_inline else ca,
        cert_file=cert,
        key_file=options.key or cert,
    )


def check_tls(options: TlsOpts, path: str, problems: Problems) -> None:
    """Add what is wrong with ``options`` without a look at their files."""
    for key in ("ca", "cert", "key"):
        value = getattr(options, key)
        if value == "" or (value and "\0" in value):
            problems.add(f"{path}.{key}", "expected the path of a file")
        elif value and _PEM in value and key != "ca":
            # What is in it must be in no message.
            problems.add(f"{path}.{key}", "expected the path of a file, and not what is in it")
    if options.key is not None and options.cert is None:
        problems.add(f"{path}.cert", "is missing: the key belongs to a certificate")
    name = options.server_name
    if name is not None and normal_host(name) is None:
        problems.add(f"{path}.server_name", f"expected a DNS name or an address, got {shown(name)}")
    for index, protocol in enumerate(options.alpn):
        if not (protocol.isascii() and 0 < len(protocol) <= 255):
            problems.add(
                f"{path}.alpn[{index}]",
                f"expected 1 to 255 ASCII characters, got {shown(protocol)}",
            )
    if len(options.alpn) > _MAX_ALPN:
        problems.add(f"{path}.alpn", f"expected at most {_MAX_ALPN} protocols")


def _normal_hosts(level: Level) -> Level:
    servers = tuple(
        server
        if (host := normal_host(server.host)) == server.host
        else msgspec.structs.replace(server, host=host)
        for server in level.servers
    )
    return Level(level.name, servers, level.tries)


def copied(body: object) -> Any:
    """A deep copy of plain data through JSON: equal to what a store gives back.

    Raises TypeError, ValueError or RecursionError for data that JSON cannot hold.
    """
    text = json.dumps(
        dict(body) if isinstance(body, Mapping) else body, allow_nan=False, ensure_ascii=False
    )
    text.encode()  # raises for a lone surrogate
    return json.loads(text)


def _find_odd(value: object, path: str, depth: int, problems: Problems) -> None:
    """Add a problem for each place in ``value`` that JSON cannot hold, or that has more
    than ``depth`` objects and lists within each other, unless the place has one already."""
    items: Iterable[tuple[str, object]]
    if isinstance(value, Mapping):
        for key in value:
            if key is not None and not isinstance(key, (str, int, float)):
                problems.add_first(joined(path, key), "expected a string as key")
        items = ((joined(path, key), item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        items = ((f"{path}[{index}]", item) for index, item in enumerate(value))
    else:
        if not _is_plain(value):
            problems.add_first(path, f"expected a value that JSON can hold, got {shown(value)}")
        return
    if depth == 0:
        problems.add_first(path, f"expected at most {_DEPTH} objects and lists within each other")
        return
    for where, item in items:
        _find_odd(item, where, depth - 1, problems)


def _is_plain(value: object) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return True
    if isinstance(value, int):
        return value.bit_length() <= 64  # other readers of JSON refuse larger integers
    return value is None


def _written_servers(source: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Every server object of a written upstream, in order."""
    if "servers" in source:
        yield from source["servers"]
        return
    cluster = source["cluster"]
    for level in cluster.values() if isinstance(cluster, Mapping) else cluster:
        yield from level["servers"]


def merge_upstream(
    current: Upstream | None,
    name: str,
    body: object,
    where: str,
    plugins: Plugins | None = None,
) -> Upstream:
    """The upstream after a POST of ``body``.

    As in lua-resty-checkups, a body with ``cluster`` replaces the whole upstream, and a
    body without ``cluster`` keeps the keys that it leaves out.  The body may be an answer
    sent back (:mod:`slardar.model.shown`).  An unknown key that the upstream has already
    is no mistake.
    """
    if isinstance(body, Mapping):
        replaces = "cluster" in body
        body = unshown(current, body, where)
        if current is not None and not replaces:
            kept = dict(current.source)
            if "servers" in body:
                kept.pop("cluster", None)
            body = {**kept, **body}
    return parse_upstream(name, body, where, plugins, known_odd(current))


def known_odd(current: Upstream | None) -> Container[UnknownKey]:
    """The unknown keys of an upstream, which somebody has written into the store."""
    return () if current is None else {key for key, _ in current.unknown}


def patch_server(
    current: Upstream,
    host: str,
    port: int,
    body: object,
    where: str,
    plugins: Plugins | None = None,
) -> Upstream:
    """The upstream with some keys of one server changed, in each level that has it.

    Host and port cannot change.  ``where`` begins the path of every mistake in ``body``.
    Raises NotFoundError if the upstream has no such server.
    """
    if not isinstance(body, Mapping) or not body:
        raise ConfigError(f'{where}: expected an object such as {{"weight": 5}}, got {shown(body)}')
    passes = known_odd(current)
    problems = Problems(passes)
    for key in ("host", "port"):
        if key in body:
            problems.add(joined(where, key), f"a server's {key} cannot be changed; add another one")
    source = copied(current.source)
    same = [
        server
        for server in _written_servers(source)
        if (server["host"], server["port"]) == (host, port)
    ]
    if not same:
        raise NotFoundError(f"upstream {current.name} has no server {host}:{port}")
    changed = read(Server, {**same[0], **body}, where, problems)
    if changed is not None and isinstance(changed.tls, TlsOpts):
        check_tls(changed.tls, f"{where}.tls", problems)
    problems.raise_if_any()
    for server in same:
        server.update(body)
    place = f"upstreams.{current.name}"
    return parse_upstream(current.name, source, place, plugins, passes)
