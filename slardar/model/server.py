"""Servers and upstreams as immutable values.

``slardar.model.parse`` reads what a user writes into an :class:`UpstreamBody`, and makes
of it an :class:`Upstream`, with which the rest of slardar works.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import msgspec
from msgspec import Meta, Struct

from slardar.model.reader import UnknownKey
from slardar.model.tls import ALPN_HTTP, ServerTls

__all__ = [
    "Count",
    "HttpOpts",
    "Interval",
    "Level",
    "Outlier",
    "ProbeOptions",
    "Seconds",
    "Server",
    "Timeout",
    "TlsOpts",
    "Upstream",
    "UpstreamBody",
    "server_key",
    "servers_gone",
]

Port = Annotated[int, Meta(ge=1, le=65535, description="an integer from 1 to 65535")]
Weight = Annotated[int, Meta(ge=0, le=10**9, description="an integer from 0 to 1000000000")]
Count = Annotated[int, Meta(ge=0, le=10**9, description="an integer from 0 to 1000000000")]
Positive = Annotated[int, Meta(ge=1, le=10**9, description="an integer from 1 to 1000000000")]
#: 10**9 seconds are 31 years.  The bounds refuse NaN and the infinities, too.
Seconds = Annotated[
    float, Meta(ge=0, le=1e9, description="a number of seconds from 0 to 1000000000")
]
Share = Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")]
Times = Annotated[float, Meta(ge=0, le=1e9, description="a number from 0 to 1000000000")]
#: A time-out: 0 would end everything at once.
Timeout = Annotated[
    float,
    Meta(gt=0, le=1e9, description="a number of seconds above 0 and up to 1000000000"),
]
#: Between two heartbeats: more often would be load.
Interval = Annotated[
    float, Meta(ge=0.1, le=1e9, description="a number of seconds from 0.1 to 1000000000")
]
Text = Annotated[str, Meta(description="a string")]


class TlsOpts(Struct, frozen=True, forbid_unknown_fields=True):
    """How servers are spoken to over TLS."""

    #: Whether the server's certificate is verified.
    verify: bool = True
    #: The file with the CAs that are believed, or their certificates in PEM; ``None``: those that
    #: the system believes.
    ca: Text | None = None
    #: The files of the certificate that is shown to servers, and of its key; without ``key`` it is
    #: in the file of the certificate.
    cert: Text | None = None
    key: Text | None = None
    #: The server's name, which its certificate must have; ``None``: the Host of each request.
    server_name: Text | None = None
    #: The protocols that are offered (ALPN).
    alpn: Annotated[tuple[str, ...], Meta(description="a list of strings")] = (ALPN_HTTP,)


class Server(Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """One server of an upstream."""

    #: An address or a DNS name.
    host: Text
    port: Port
    #: Its share of the requests, relative to the other servers; 0 takes none.
    weight: Weight = 1
    #: So many failures within ``fail_timeout`` seconds put it out of service for as long;
    #: 0 is never (lua-resty-checkups' default; nginx's is 1).
    max_fails: Count = 0
    fail_timeout: Seconds = 10
    #: A backup is used only when no other server is available.
    backup: bool = False
    #: ``drain``: no new requests, requests under way finish.  ``down``: as ``drain``, and
    #: shown as down.
    state: Literal["up", "drain", "down"] = "up"
    #: The most requests under way, per process; 0 is no limit.
    max_conns: Count = 0
    #: ``None``: as its upstream says.
    tls: Annotated[bool | TlsOpts | None, Meta(description="true, false or an object")] = None

    @property
    def key(self) -> str:
        """``host:port``, with brackets around an IPv6 address."""
        return server_key(self.host, self.port)


def server_key(host: str, port: int) -> str:
    """``host:port``, with brackets around an IPv6 address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


class HttpOpts(Struct, frozen=True, forbid_unknown_fields=True):
    """The query of an HTTP heartbeat, and which statuses are failures."""

    #: The whole request that heartbeats of ``typ`` ``http`` send.
    query: str | None = None
    #: A status mapped to false is a failure, in heartbeats and in proxied replies.
    statuses: dict[str, bool] = {}


class Outlier(Struct, frozen=True, forbid_unknown_fields=True):
    """When a server is ejected (:mod:`slardar.health.outliers`)."""

    #: Its share of failures is over this; a reply with 5xx is a failure.
    errors: Share = 0.5
    #: Its mean time of a reply is over so many times the median of its peers; 0: not looked
    #: at.
    latency: Times = 3
    #: Fewer requests in the window say nothing.
    min_requests: Positive = 20
    #: Seconds whose requests count.
    window: Timeout = 10
    #: Seconds for which it is ejected the first time.
    eject: Timeout = 30
    #: The largest share of the upstream's servers that is ejected.
    max_share: Share = 0.3


class RetryBudgetOpts(Struct, frozen=True, forbid_unknown_fields=True):
    """How many requests may be sent again that a server may have begun."""

    #: Of the requests of the last 10 seconds.
    share: Annotated[float, Meta(ge=0, le=100, description="a number from 0 to 100")] = 0.2
    #: Retries a second that are allowed however few requests there are, in all workers
    #: together.
    min: Annotated[float, Meta(ge=0, le=1e9, description="a number from 0 to 1000000000")] = 10


class HedgeOpts(Struct, frozen=True, forbid_unknown_fields=True):
    """When a request is sent to a second server too."""

    #: Seconds without a reply.
    after: Timeout


class QueueOpts(Struct, frozen=True, forbid_unknown_fields=True):
    """Requests that wait while every server has its ``max_conns``."""

    #: How many, in each process; 0 is none.
    size: Count = 0
    #: Seconds for which each may wait.
    timeout: Timeout = 1


class LevelBody(Struct, frozen=True, forbid_unknown_fields=True):
    """One level of ``cluster``."""

    #: The servers of the level.
    servers: tuple[Server, ...]
    #: How many of them one request may try; all without it.
    tries: Positive | None = msgspec.field(default=None, name="try")


class UpstreamBody(Struct, frozen=True, forbid_unknown_fields=True):
    """An upstream as it is written; the defaults are lua-resty-checkups'."""

    #: Keys that belong to something else; the refusal says where they belong.
    elsewhere: ClassVar[Mapping[str, str]] = dict.fromkeys(
        ("consul_service", "dns_service", "docker_service", "kubernetes_service"),
        "belongs to a service (services in the file, or PUT /service/NAME)",
    )

    servers: tuple[Server, ...] = ()
    #: Instead of ``servers``: a list of levels, or an object of named clusters.
    cluster: Any = None
    enable: bool = True
    #: A probe by name, see ``slardar.plugins.find_probe``.
    typ: Text = "general"
    http_opts: HttpOpts = HttpOpts()
    #: Heartbeats in a row that must fail before the status changes, and good ones in a row
    #: that bring a server back.
    sensibility: Positive = 1
    rise: Positive = 1
    #: Seconds between two heartbeats of a server; ``None``: ``health.interval``.
    interval: Interval | None = None
    protected: bool = True
    #: ``""`` also means the default.
    mode: Text = "wrr"
    mode_opts: Annotated[dict[str, Any], Meta(description="an object")] = {}
    tries: Positive | None = msgspec.field(default=None, name="try")
    try_timeout: Seconds = 0
    #: Seconds for a request over all its attempts; 0: no limit.
    deadline: Seconds = 0
    timeout: Timeout | None = None
    send_timeout: Timeout | None = None
    read_timeout: Timeout | None = None
    keepalive: Count = 100
    retry_budget: RetryBudgetOpts | None = RetryBudgetOpts()
    hedge: HedgeOpts | None = None
    queue: QueueOpts = QueueOpts()
    slow_start: Seconds = 0
    outlier: Outlier | None = None
    #: If a smaller share than this of the servers is in service, health is ignored.
    panic: Share = 0
    #: Whether servers are believed what they say in ``X-Slardar-Hint``.
    hints: bool = False
    #: Kinds of failure after which another server is asked (slardar.http1.retry).
    retry_on: Annotated[tuple[str, ...], Meta(description="a list of strings")] = (
        "connect",
        "error",
        "timeout",
        "status",
        "http_502",
    )
    #: Whether servers are spoken to over TLS, and how.
    tls: Annotated[bool | TlsOpts, Meta(description="true, false or an object")] = False
    #: The version of the PROXY protocol header at the beginning of each connection to a server;
    #: 0: there is none.
    proxy_protocol: Annotated[
        Literal[0, 1, 2], Meta(description="0, 1 or 2, a version of the PROXY protocol")
    ] = 0
    #: Whether a Host leads to it; if not, only routes and hooks do.
    public: bool = True
    #: Whether its requests are in the access logs.
    access_log: bool = True
    #: Whether what is decided for each of its requests is kept for a while.
    decisions: bool = False
    #: For heartbeats: the database, the user and the password.
    name: Text | None = None
    user: Text | None = None
    password: Text | None = msgspec.field(default=None, name="pass")


class Level(Struct, frozen=True):
    """Servers that are tried before those of the next level."""

    name: str | None
    servers: tuple[Server, ...]
    tries: int | None = None


class ProbeOptions(Struct, frozen=True):
    """The parts of an upstream that the probes of heartbeats may read."""

    #: The name of the probe.
    typ: str = "general"
    #: The name of the upstream.
    host: str = ""
    #: ``http_opts.query``: a whole request, sent as it is.
    http_query: bytes | None = None
    #: The statuses that ``http_opts.statuses`` maps to false.
    failed_statuses: frozenset[int] = frozenset()
    #: The upstream's key ``name``: a database.
    name: str | None = None
    user: str | None = None
    #: The upstream's key ``pass``.
    password: str | None = None


class Upstream(Struct, frozen=True):
    """An upstream, ready for use.  Never changed; a change makes a new one."""

    name: str
    levels: tuple[Level, ...]
    #: What the user wrote, normalised: for GET, for stores and for merges.
    source: Mapping[str, Any]
    #: SHA-256 over name and source, as a number, for the snapshot's fingerprint.
    digest: int
    #: Whether ``cluster`` was an object of named clusters.
    named: bool = False
    enable: bool = True
    #: How heartbeats ask a server.
    probe: ProbeOptions = ProbeOptions()
    #: The statuses that ``http_opts.statuses`` maps to false.
    failed_statuses: frozenset[int] = frozenset()
    sensibility: int = 1
    rise: int = 1
    interval: float | None = None
    protected: bool = True
    mode: str = "wrr"
    mode_opts: Mapping[str, Any] = {}
    tries: int | None = None
    try_timeout: float = 0
    deadline: float = 0
    connect_timeout: float | None = None
    send_timeout: float | None = None
    read_timeout: float | None = None
    keepalive: int = 100
    slow_start: float = 0
    outlier: Outlier | None = None
    panic: float = 0
    hints: bool = False
    retry_on: frozenset[str] = frozenset()
    #: ``None``: any number of requests may be sent again.
    retry_budget: RetryBudgetOpts | None = RetryBudgetOpts()
    hedge: HedgeOpts | None = None
    queue: QueueOpts = QueueOpts()
    proxy_protocol: int = 0
    #: How servers are spoken to over TLS; ``None``: they are not.
    tls: ServerTls | None = None
    #: The same for servers that say it themselves, by their keys.
    server_tls: Mapping[str, ServerTls | None] = {}
    #: Whether it serves the Host that is its name.
    public: bool = True
    access_log: bool = True
    decisions: bool = False
    #: Unknown keys of ``source``, with a line for each.
    unknown: tuple[tuple[UnknownKey, str], ...] = ()
    #: When a user asked to reload the module of its balancer (epoch nanoseconds); 0: never.
    #: It is not a part of ``source``.
    loaded: int = 0

    @property
    def servers(self) -> tuple[Server, ...]:
        """Every server, level by level."""
        return tuple(server for level in self.levels for server in level.servers)

    def tls_of(self, server: Server) -> ServerTls | None:
        """How one of its servers is spoken to over TLS; ``None``: it is not."""
        own = self.server_tls
        return own.get(server.key, self.tls) if own else self.tls

    @property
    def all_tls(self) -> set[ServerTls]:
        """Every way in which its servers are spoken to over TLS."""
        return {one for one in (self.tls, *self.server_tls.values()) if one is not None}

    def same_as(self, other: Upstream) -> bool:
        """Whether both are the same: written alike, with the same in the files of ``tls``."""
        return (
            self.digest == other.digest
            and self.tls == other.tls
            and self.server_tls == other.server_tls
        )

    @property
    def labels(self) -> tuple[str, ...]:
        """For each level what tells it from the others: its name, or its place in the list."""
        return tuple(level.name or str(index) for index, level in enumerate(self.levels))

    def following(self, known: Upstream | None) -> Upstream:
        """This upstream as the successor of ``known``.

        It keeps a reload that ``known`` asked for, so that a process that missed ``known``
        still reloads.
        """
        if known is None or known.loaded <= self.loaded:
            return self
        return msgspec.structs.replace(self, loaded=known.loaded)


def servers_gone(old: Upstream | None, new: Upstream | None) -> set[tuple[str, int]]:
    """Host and port of the servers that ``old`` has and ``new`` does not have.

    ``None`` means that there is no such upstream before, or afterwards.
    """
    if old is None:
        return set()
    gone = {(server.host, server.port) for server in old.servers}
    if new is not None:
        gone -= {(server.host, server.port) for server in new.servers}
    return gone
