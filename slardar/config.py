"""The settings of a process, with every default.

A settings object is frozen; the command line's options make a changed copy.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from slardar.errors import ConfigError, PartlyReadError
from slardar.model.access_log import AccessLog, parse_access_logs
from slardar.model.hook import OnError
from slardar.model.listener import ListenerSpec, specs_of
from slardar.model.networks import Networks
from slardar.model.otlp import problem_of_otlp
from slardar.model.parse import Plugins, check_name, parse_routes, parse_upstream
from slardar.model.reader import Problems, joined, read, read_partly, shown
from slardar.model.routes import Route
from slardar.model.server import Interval, Seconds, Timeout, Upstream
from slardar.model.service import Service, parse_service
from slardar.model.setting import parse_setting, settings_in_use
from slardar.model.tls import MinVersion, Verify

__all__ = [
    "Control",
    "ControlTls",
    "Health",
    "History",
    "Hooks",
    "Hsts",
    "Limits",
    "Metrics",
    "Network",
    "Settings",
    "Timeouts",
    "Tls",
    "TlsAcme",
    "TlsCertificate",
    "TlsClient",
    "Token",
    "Tracing",
    "Workers",
    "load_file",
    "parse_settings",
    "read_config_file",
    "read_settings",
]

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
T = TypeVar("T")

#: A name that a certificate can be for.  Its last label is no number, so that it is no address.
_DNS_NAME = re.compile(
    r"(?=.{1,253}\Z)(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*"
    r"(?![0-9]+\Z)[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
)

#: Up to a tebibyte, which is more than any body or head.
Count = Annotated[int, Meta(ge=0, le=2**40, description="an integer from 0 to 1099511627776")]
Positive = Annotated[int, Meta(ge=1, le=2**40, description="an integer from 1 to 1099511627776")]


#: Seconds of a year: what the preload list of browsers asks for at least
#: (https://hstspreload.org/).
_YEAR = 31536000


class Timeouts(Struct, frozen=True, forbid_unknown_fields=True):
    """Time-outs in seconds.  The defaults are nginx's; ``client_header`` and ``connect`` are
    shorter.

    Only three may be 0: ``keepalive`` (no connection is kept), ``linger`` and ``drain``
    (slardar does not wait).
    """

    client_header: Timeout = 10
    client_body: Timeout = 60
    keepalive: Seconds = 75
    connect: Timeout = 3
    send: Timeout = 60
    read: Timeout = 60
    linger: Seconds = 5
    drain: Seconds = 30


class Limits(Struct, frozen=True, forbid_unknown_fields=True):
    """Limits in bytes; ``headers`` counts lines, ``connections`` connections of a process.

    ``body`` 0 is no limit, as in nginx; ``retry_buffer`` 0 keeps no body for a second try.
    ``linger`` is as large as ``body``: reading and dropping a body costs less than passing
    it on.
    """

    head: Positive = 32768
    headers: Positive = 100
    url: Positive = 8192
    body: Count = 1073741824
    connections: Positive = 10000
    retry_buffer: Count = 65536
    linger: Count = 1073741824


class Health(Struct, frozen=True, forbid_unknown_fields=True):
    """Active heartbeats."""

    #: Seconds between two heartbeats of a server; an upstream may have its own.
    interval: Interval = 5
    #: Seconds for one heartbeat, from the connection to the answer.
    timeout: Timeout = 1
    #: Whether there are any.
    enabled: bool = True


class Hooks(Struct, frozen=True, forbid_unknown_fields=True):
    """What happens to a request whose hook failed, and what hooks may use.

    ``budget`` is the CPU time of one call, in seconds; ``lua_memory`` the memory of all Lua
    hooks of a worker, in bytes.  ``body`` is how many bytes of a request's body hooks may
    see; its maximum is a mebibyte, the largest text that a hook may hold.
    """

    on_error: OnError = "reject"
    budget: Annotated[
        float, Meta(ge=0.001, le=1, description="a number of seconds from 0.001 to 1")
    ] = 0.05
    lua_memory: Annotated[
        int, Meta(ge=2**24, le=2**32, description="an integer from 16777216 to 4294967296")
    ] = 67108864
    body: Annotated[int, Meta(ge=1, le=2**20, description="an integer from 1 to 1048576")] = 65536


class History(Struct, frozen=True, forbid_unknown_fields=True):
    """The history of the configuration."""

    #: How many versions can be looked at and gone back to.
    versions: Annotated[int, Meta(ge=1, le=1000000, description="an integer from 1 to 1000000")] = (
        1000
    )


#: Upper ends of buckets in seconds.  Prometheus asks for one that has no end; it is added.
Bounds = Annotated[
    tuple[Annotated[float, Meta(gt=0, le=3600)], ...],
    Meta(min_length=1, max_length=100, description="a list of 1 to 100 numbers of seconds"),
]


class Metrics(Struct, frozen=True, forbid_unknown_fields=True):
    """The buckets of the histograms.

    The bounds are Prometheus' own, from 1 ms to 10 s; slardar itself takes less than that.
    """

    #: Upper ends, in seconds, of the buckets for the time of requests.
    buckets: Bounds = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
    #: Upper ends, in seconds, of the buckets for what slardar has added to that time.
    added_buckets: Bounds = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05,
                             0.1, 0.25, 0.5, 1, 2.5, 5, 10)  # fmt: skip


class Tracing(Struct, frozen=True, forbid_unknown_fields=True):
    """Trace contexts for servers, and where spans go."""

    #: Where spans go: the URL of a collector that takes OTLP over HTTP; ``None``: nowhere.
    otlp: str | None = None
    #: The share of the requests that are sampled, drawn by lot.
    sample: Annotated[float, Meta(ge=0, le=1, description="a number from 0 to 1")] = 1
    #: ``service.name`` of the spans.
    service: Annotated[
        str,
        Meta(pattern=r"\A[^\x00-\x1f\x7f]{1,255}\Z", description="1 to 255 printable characters"),
    ] = "slardar"


class Token(Struct, frozen=True, forbid_unknown_fields=True):
    """A token of the control channel; the file holds only its SHA-256."""

    #: Names the caller in the log and the history, so it is one short line.
    name: Annotated[
        str, Meta(pattern=r"\A[^\x00-\x1f\x7f]{1,64}\Z", description="1 to 64 printable characters")
    ]
    #: The digest of the token.
    sha256: Annotated[
        str, Meta(pattern=r"\A[0-9a-fA-F]{64}\Z", description="64 hexadecimal digits (a SHA-256)")
    ]
    #: ``read`` may ask, ``admin`` may change, too.
    role: Literal["read", "admin"] = "read"
    #: The names that the caller may see and change; without any, all of them.
    names: tuple[str, ...] = ()


class ControlTls(Struct, frozen=True, forbid_unknown_fields=True):
    """TLS on the control channels: files in PEM."""

    #: The certificate, and after it those that lead to its CA.
    cert: str
    #: The key of the certificate.
    key: str
    #: If given, only callers with a certificate of this CA are let in.
    client_ca: str | None = None


class Control(Struct, frozen=True, forbid_unknown_fields=True):
    """Where the control channels listen, and the tokens that may call them."""

    #: The endpoint of the calls over HTTP.
    http: str = "tcp:1995:interface=127.0.0.1"
    #: The endpoint of the calls over AMP.
    amp: str = "unix:slardar.sock:mode=600"
    #: Those who may call; without any, the channels must be out of reach of other machines.
    tokens: tuple[Token, ...] = ()
    #: Networks from which the channels may be called over TCP; without any, all of them.
    allow: tuple[str, ...] = ()
    #: TLS on the channels that listen over TCP.
    tls: ControlTls | None = None

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks of ``allow``."""
        return tuple(ipaddress.ip_network(text) for text in self.allow)


class TlsClient(Struct, frozen=True, forbid_unknown_fields=True):
    """Certificates of clients."""

    #: Whether they are asked for, and whether a client without one is let in.
    verify: Annotated[Verify, Meta(description="none, optional or require")] = "none"
    #: The file of the CAs that are believed.
    ca: str | None = None


class TlsCertificate(Struct, frozen=True, forbid_unknown_fields=True):
    """A certificate for clients: a pair of files in PEM, or a folder of pairs."""

    #: The certificate, and after it those that lead to its CA.
    cert: str | None = None
    #: Without it, the key is in ``cert``.
    key: str | None = None
    #: Instead of ``cert``: the folder of the pairs.
    folder: str | None = None
    #: Instead of ``tls.client``, for the names of these certificates.
    client: TlsClient | None = None


class TlsAcme(Struct, frozen=True, forbid_unknown_fields=True):
    """Certificates that a CA signs by itself (ACME, RFC 8555)."""

    #: The names that get certificates, each one of its own.
    hosts: Annotated[tuple[str, ...], Meta(description="a list of names of hosts")] = ()
    #: Where the CA writes to its customer.
    email: Annotated[
        Annotated[str, Meta(pattern=r"\A[!-?A-~]{1,64}@[!-?A-~]{1,190}\Z")] | None,
        Meta(description="an address of e-mail"),
    ] = None
    #: Where the CA's service begins: Let's Encrypt's.
    directory: Annotated[
        str,
        Meta(
            pattern=r"\Ahttps://[A-Za-z0-9._:\[\]-]{1,255}(?:/[!-~]{0,1000})?\Z",
            description="a URL that begins with https://",
        ),
    ] = "https://acme-v02.api.letsencrypt.org/directory"
    #: The file of the CAs, in PEM, of which the directory's own certificate has to be; ``None``:
    #: those that are known to everybody.
    ca: Annotated[
        Annotated[str, Meta(pattern=r"\A[^\x00]+\Z")] | None,
        Meta(description="the name of a file"),
    ] = None


class Hsts(Struct, frozen=True, forbid_unknown_fields=True):
    """What browsers are told by ``Strict-Transport-Security`` (RFC 6797).

    Written as a number of seconds, it is ``max_age`` alone.
    """

    #: Seconds for which a browser asks this host by https only; 0 ends that.
    max_age: Count
    #: The same holds for the hosts below this one.
    subdomains: bool = False
    #: Lists in browsers may have this host.
    preload: bool = False


class Tls(Struct, frozen=True, forbid_unknown_fields=True):
    """TLS to clients, on the endpoints ``tls:`` of ``listen``."""

    certificates: Annotated[
        tuple[TlsCertificate, ...], Meta(description="a list of certificates")
    ] = ()
    #: The name whose certificate is for clients that name none, or one without certificate.
    default: str | None = None
    min_version: Annotated[MinVersion, Meta(description='"1.2" or "1.3"')] = "1.2"
    #: A list of suites for TLS 1.2, as OpenSSL reads it; ``None``: Mozilla's intermediate one.
    ciphers: str | None = None
    client: TlsClient = TlsClient()
    #: Certificates that are fetched and renewed; ``None``: none.
    acme: TlsAcme | None = None
    #: Requests without TLS for a name that has a certificate are sent to https; a number is the
    #: port there.
    redirect: Annotated[
        bool | Annotated[int, Meta(ge=1, le=65535)],
        Meta(description="true, false or a port from 1 to 65535"),
    ] = False
    #: What replies over TLS tell browsers, for names that have a certificate.
    hsts: Hsts | None = None

    @property
    def redirects(self) -> bool:
        """Whether requests without TLS are sent to https."""
        return self.redirect is not False

    @property
    def https_port(self) -> int:
        """The port that they are sent to; 0: that of a listener with TLS."""
        return 0 if isinstance(self.redirect, bool) else self.redirect


Workers = Annotated[
    Annotated[int, Meta(ge=0, le=256)] | Literal["auto"],
    Meta(description='"auto" or a number of processes from 0 to 256'),
]


class Settings(Struct, frozen=True, forbid_unknown_fields=True):
    """The settings of a process, from its file and its options."""

    #: Keys of a later version; the refusal says that they are not available yet.
    later: ClassVar[tuple[str, ...]] = ("streams",)

    listen: Annotated[tuple[str, ...], Meta(description="a list of endpoint strings")] = (
        "tcp:8080",
    )
    control: Control = Control()
    #: Processes that serve requests: ``auto`` is one for each core, 0 is the director itself.
    workers: Workers = "auto"
    store: str = "sqlite:slardar.db"
    #: The file with what was served last, for a store that lives elsewhere.
    store_copy: Annotated[str, Meta(pattern=r"\A[^\x00]+\Z", description="the name of a file")] = (
        "slardar-store-copy.db"
    )
    #: How long is waited, in seconds.
    timeouts: Timeouts = Timeouts()
    #: How much is taken.
    limits: Limits = Limits()
    health: Health = Health()
    hooks: Hooks = Hooks()
    history: History = History()
    #: Written as null, an object or a list of objects.
    access_log: tuple[AccessLog, ...] = ()
    metrics: Metrics = Metrics()
    #: Written as false, true (every default) or an object.
    tracing: Tracing | None = None
    tls: Tls = Tls()
    #: Networks, addresses and ``unix:``: whose word about the clients of requests is believed.
    trusted: Annotated[tuple[str, ...], Meta(description="a list of networks")] = ()
    #: Servers get ``Forwarded`` (RFC 7239), too.
    forwarded: bool = False
    #: Shown in ``GET /status``, for tools that generate the file.
    conf_hash: str | None = None
    default_upstream: str | None = None
    upstreams: Any = msgspec.field(default_factory=dict)
    #: Upstreams whose servers a catalogue lists.
    services: Any = msgspec.field(default_factory=dict)
    routes: Any = ()
    #: What hooks read as settings, by name (:mod:`slardar.model.setting`).
    settings: Any = msgspec.field(default_factory=dict)

    @property
    def listeners(self) -> tuple[ListenerSpec, ...]:
        """The listeners of ``listen``, in order."""
        return specs_of(self.listen)

    @property
    def needs_certificates(self) -> bool:
        """Whether there is anything to be read for ``tls``."""
        return self.tls != Tls() or any(one.tls for one in self.listeners)

    @property
    def first_upstreams(self) -> Mapping[str, Upstream]:
        """The upstreams of the file and the command line, by name."""
        return self.upstreams  # type: ignore[no-any-return]

    @property
    def first_services(self) -> Mapping[str, Service]:
        """The services of the file, by name."""
        return self.services  # type: ignore[no-any-return]

    @property
    def first_settings(self) -> Mapping[str, str]:
        """The settings of hooks that the file has, as JSON texts by name."""
        return self.settings  # type: ignore[no-any-return]

    @property
    def first_routes(self) -> tuple[Route, ...]:
        """The routes of the file."""
        return self.routes  # type: ignore[no-any-return]


#: Keys of Settings that may be empty in a file.
_SECTIONS = (
    *("control", "timeouts", "limits", "health", "hooks", "metrics", "history", "tls"),
    *("upstreams", "services", "routes", "settings", "trusted"),
)


def parse_settings(raw: object, where: str = "", plugins: Plugins | None = None) -> Settings:
    """The settings that ``raw`` describes; an empty file means all defaults.

    ``where`` names the file in front of every path.  Raises ConfigError with every
    mistake.
    """
    settings, problems = read_settings(raw, where, plugins)
    if problems:
        raise ConfigError(problems)
    return settings


def read_settings(
    raw: object, where: str = "", plugins: Plugins | None = None
) -> tuple[Settings, list[str]]:
    """The correct parts of ``raw``, with defaults for the rest, and a line for each mistake.

    Use the settings only if there is no mistake; otherwise they serve only to find more
    mistakes (:mod:`slardar.options`).
    """
    problems = Problems()
    if raw is None:
        raw = {}
    elif isinstance(raw, Mapping):
        # A section whose lines are all commented out is read as null.
        raw = {
            key: value for key, value in raw.items() if value is not None or key not in _SECTIONS
        }
    access_log: tuple[AccessLog, ...] = ()
    tracing: Tracing | None = None
    if isinstance(raw, Mapping):
        access_log = parse_access_logs(raw.get("access_log"), "access_log", problems)
        tracing = _parse_tracing(raw.get("tracing"), problems)
        own = ("access_log", "tracing")
        raw = {key: value for key, value in raw.items() if key not in own}
        raw = _with_hsts(raw)
    settings = read_partly(Settings, raw, "", problems)
    upstreams: dict[str, Upstream] = {}
    services: dict[str, Service] = {}
    routes: tuple[Route, ...] = ()
    values: dict[str, str] = {}
    if isinstance(raw, Mapping):
        upstreams = _named("upstreams", raw.get("upstreams", {}), parse_upstream, problems, plugins)
        services = _named("services", raw.get("services", {}), parse_service, problems, plugins)
        values = _named("settings", raw.get("settings", {}), _parse_setting, problems, plugins)
        problems.lines += settings_in_use(values, {}, {}, {})[1].values()
        try:
            routes = parse_routes(raw.get("routes", ()), "routes")
        except ConfigError as error:
            problems.lines += error.problems
    _check(settings, problems)
    for name in services:
        if name in upstreams:
            problems.add(joined("services", name), f"{shown(name)} is an upstream, too")
    default = upstreams.get(settings.default_upstream or "")
    if default is None and settings.default_upstream in services:
        default = services[settings.default_upstream].upstream(())
    if default is not None and not default.public:
        problems.add(
            "default_upstream", f"expected an upstream that is public, {default.name} is not"
        )
    prefix = f"{where}: " if where else ""
    lines = [prefix + line for line in problems.lines]
    found = msgspec.structs.replace(
        settings,
        upstreams=upstreams,
        services=services,
        routes=routes,
        settings=values,
        access_log=access_log,
        tracing=tracing,
    )
    return found, lines


def _with_hsts(raw: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same, with ``tls.hsts`` as an object if it is a number."""
    tls = raw.get("tls")
    if not isinstance(tls, Mapping) or type(tls.get("hsts")) is not int:
        return raw
    return {**raw, "tls": {**tls, "hsts": {"max_age": tls["hsts"]}}}


def _named(
    section: str,
    raw: object,
    parse: Callable[[str, object, str, Plugins | None], T],
    problems: Problems,
    plugins: Plugins | None,
) -> dict[str, T]:
    """What ``parse`` makes of each value of a section, by name."""
    if not isinstance(raw, Mapping):
        problems.add(section, f"expected an object of {section} by name")
        return {}
    values: dict[str, T] = {}
    for name, body in raw.items():
        if not isinstance(name, str) and type(name) is not int:
            problems.add(f"{section}[{shown(name)}]", "expected a name; put it in quotes")
            continue
        try:
            place = joined(section, str(name))
            values[str(name)] = parse(str(name), body, place, plugins)
        except ConfigError as error:
            problems.lines += error.problems
    return values


def _parse_setting(name: str, value: object, where: str, plugins: Plugins | None) -> str:
    return parse_setting(name, value, where)


def _parse_tracing(raw: object, problems: Problems) -> Tracing | None:
    """The tracing of the setting: none for false and null."""
    if raw is None or raw is False:
        return None
    if raw is True:
        return Tracing()
    if not isinstance(raw, Mapping):
        problems.add("tracing", f"expected true, false or an object, got {shown(raw)}")
        return None
    tracing = read(Tracing, raw, "tracing", problems)
    if tracing is None or tracing.otlp is None:
        return tracing
    problem = problem_of_otlp(tracing.otlp)
    if problem:
        problems.add("tracing.otlp", problem)
    return tracing


def _check(settings: Settings, problems: Problems) -> None:
    if not settings.listen:
        problems.add("listen", "expected at least one endpoint")
    if settings.default_upstream is not None:
        try:
            check_name(settings.default_upstream, "default_upstream")
        except ConfigError as error:
            problems.lines += error.problems
    for key in ("buckets", "added_buckets"):
        bounds = getattr(settings.metrics, key)
        if list(bounds) != sorted(set(bounds)):
            problems.add(f"metrics.{key}", "expected ascending numbers")
    _check_tls(settings.tls, problems)
    seen: set[str] = set()
    for index, token in enumerate(settings.control.tokens):
        digest = token.sha256.lower()
        if token.name in seen:
            problems.add(f"control.tokens[{index}].name", f"{shown(token.name)} is given twice")
        if digest in seen:
            problems.add(f"control.tokens[{index}].sha256", "the same token is given twice")
        seen |= {token.name, digest}
        for place, name in enumerate(token.names):
            try:
                check_name(name, f"control.tokens[{index}].names[{place}]")
            except ConfigError as error:
                problems.lines += error.problems
    for index, text in enumerate(settings.trusted):
        try:
            Networks([text])
        except ValueError:
            problems.add(
                f"trusted[{index}]",
                "expected a network such as 10.0.0.0/8, without bits beyond its length, an address"
                f" or unix:, got {shown(text)}",
            )
    for index, text in enumerate(settings.control.allow):
        try:
            ipaddress.ip_network(text)
        except ValueError:
            problems.add(
                f"control.allow[{index}]",
                f"expected a network such as 10.0.0.0/8, without bits beyond its length, got"
                f" {shown(text)}",
            )


def _check_tls(tls: Tls, problems: Problems) -> None:
    policies = [("tls.client", tls.client)]
    for index, one in enumerate(tls.certificates):
        where = f"tls.certificates[{index}]"
        if (one.cert is None) == (one.folder is None):
            problems.add(where, "expected cert and key, or folder")
        elif one.folder is not None and one.key is not None:
            problems.add(where, "expected no key beside folder, which holds the keys, too")
        if one.client is not None:
            policies.append((f"{where}.client", one.client))
    hsts = tls.hsts
    if hsts is not None and hsts.preload and not (hsts.subdomains and hsts.max_age >= _YEAR):
        problems.add(
            "tls.hsts",
            f"expected subdomains and a max_age of at least {_YEAR} seconds, for preload is true",
        )
    for where, policy in policies:
        if policy.verify != "none" and policy.ca is None:
            problems.add(where, f"expected ca, for verify is {policy.verify}")
    if tls.acme is not None:
        _check_acme(tls.acme, problems)


def _check_acme(acme: TlsAcme, problems: Problems) -> None:
    if not acme.hosts:
        problems.add("tls.acme.hosts", "expected at least one name")
    seen: set[str] = set()
    for index, name in enumerate(acme.hosts):
        where = f"tls.acme.hosts[{index}]"
        if name.startswith("*."):
            problems.add(
                where,
                f"expected a name without a star, got {shown(name)}: a certificate for a wildcard"
                " needs DNS-01, which slardar does not speak",
            )
        elif _DNS_NAME.fullmatch(name) is None:
            problems.add(where, f"expected a name such as www.example.com, got {shown(name)}")
        elif name.lower() in seen:
            problems.add(where, f"{shown(name)} is given twice")
        seen.add(name.lower())


def load_file(path: str, plugins: Plugins | None = None) -> Settings:
    """The settings in a YAML file.  Reads the file, so it blocks: for the start only."""
    settings, problems = read_config_file(path, plugins)
    if problems:
        raise ConfigError(problems)
    return settings


def read_config_file(path: str, plugins: Plugins | None = None) -> tuple[Settings, list[str]]:
    """The settings in a YAML file, and a line for each mistake.

    The settings are as :func:`read_settings` returns them.  Reads the file, so it blocks.
    Raises ConfigError for a file that is no YAML.
    """
    # Imported here: workers never read a file, and start without the parser.
    from slardar.model.yaml_file import read_file

    problems: list[str] = []
    try:
        raw = read_file(path)
    except PartlyReadError as error:
        raw = error.value
        problems += error.problems
    settings, more = read_settings(raw, path, plugins)
    return settings, problems + more
