"""A service: an upstream whose servers are those that a service catalogue lists.

The operator writes where the servers come from and every other key of the upstream.  Of both
and of what the catalogue says, :meth:`Service.upstream` makes the upstream that is served.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Mapping
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, structs

from slardar.errors import ConfigError
from slardar.model.consul_query import ConsulQuery, is_agents, is_consul_name, is_consul_text
from slardar.model.kubernetes_query import (
    KubernetesQuery,
    is_cluster,
    is_port,
    is_service_of_kubernetes,
)
from slardar.model.names import normal_host
from slardar.model.parse import Plugins, copied, known_odd, parse_upstream
from slardar.model.reader import ANY_KEY, Problems, UnknownKey, is_note, joined, read, shown
from slardar.model.server import Count, Seconds, Server, Text, Upstream
from slardar.model.shown import unshown
from slardar.model.tls import ServerTls

__all__ = [
    "EachServer",
    "Levels",
    "Listed",
    "Origin",
    "Service",
    "ServiceKeys",
    "levels_of",
    "merge_service",
    "parse_service",
]

#: The keys of a server that a catalogue may leave out.
_LEFT_OUT = ("max_fails", "fail_timeout", "max_conns")
_DEFAULTS = {"max_fails": 0, "fail_timeout": 10, "max_conns": 0}
_NOTHING: Mapping[str, Any] = {}
#: Stands for the servers when the other keys of a service are checked.
_ANY_SERVER = [{"host": "127.0.0.1", "port": 1}]


class Listed(Struct, frozen=True):
    """One server, as a catalogue lists it.

    The catalogue may leave out the keys that are ``None`` here: they are those of
    :attr:`Service.each_server`, or an upstream's defaults.
    """

    host: str
    port: int
    weight: int = 1
    state: Literal["up", "drain"] = "up"
    max_fails: int | None = None
    fail_timeout: float | None = None
    max_conns: int | None = None

    @property
    def place(self) -> tuple[str, int]:
        """Host and port, which name a server in its level."""
        return self.host, self.port

    def written(self) -> dict[str, Any]:
        """The server as an upstream has it, without the keys that are left out."""
        found: dict[str, Any] = {"host": self.host, "port": self.port, "weight": self.weight}
        if self.state != "up":
            found["state"] = self.state
        for key in _LEFT_OUT:
            value = getattr(self, key)
            if value is not None:
                found[key] = value
        return found


#: The servers of a service, in levels as those of ``cluster``: a lower level is used only when
#: no server of the levels above is available.
Levels = tuple[tuple[Listed, ...], ...]
#: Where the servers of a service come from: the key that names the catalogue, and what the
#: catalogue is asked for.
Origin = tuple[str, ...]


class EachServer(Struct, frozen=True, forbid_unknown_fields=True):
    """``server``: the keys that every server of the service has."""

    #: Where the catalogue does not say it, as in a server.
    max_fails: Count | None = None
    #: As in a server.
    fail_timeout: Seconds | None = None
    #: As in a server.
    max_conns: Count | None = None


class ServiceKeys(Struct, frozen=True):
    """The keys of a service that an upstream does not have."""

    #: A name with SRV records, such as ``_http._tcp.web.example``.
    dns_service: Text | None = None
    #: The name of a service in Consul's catalogue.
    consul_service: Text | None = None
    #: One tag or several, all of which an instance has.
    tag: Annotated[str | tuple[str, ...], Meta(description="a tag or a list of tags")] = ()
    #: Whether instances with warnings are left out; critical ones always are.
    passing: bool = True
    #: The datacentre; the agent's own without it.
    dc: Text | None = None
    #: The node whose instances come first, ``_agent`` for the agent's own.
    near: Text | None = None
    #: The agents that are asked: ``http://HOST:PORT[,HOST:PORT...]``.
    consul: Text | None = None
    #: The label ``slardar.upstream`` of containers in Docker.
    docker_service: Text | None = None
    #: ``NAMESPACE/NAME`` of a service in Kubernetes.
    kubernetes_service: Text | None = None
    #: The name or the number of the endpoints' port; the only one without it.
    port: Annotated[int | str | None, Meta(description="a port's number or its name")] = None
    #: Where Kubernetes is: ``https://HOST:PORT``; the cluster that slardar runs in without it.
    url: Text | None = None
    server: EachServer = EachServer()
    #: Seconds for which the last servers stay when the catalogue lists none any more; 0 takes
    #: them away at once.
    empty_grace: Seconds = 30


#: The keys that say where the servers come from, of which a service has one; and the keys that
#: belong to each.
_ORIGINS = {
    "dns_service": (),
    "consul_service": ("tag", "passing", "dc", "near", "consul"),
    "docker_service": (),
    "kubernetes_service": ("port", "url"),
}
#: All keys of a service that an upstream does not have.
_OURS = {"server", "empty_grace", *_ORIGINS, *(key for keys in _ORIGINS.values() for key in keys)}
#: Keys of an upstream that a service does not have.
_NOT_HERE = ("servers", "cluster")


class Service(Struct, frozen=True):
    """A service, ready for use.  Never changed; a change makes a new one."""

    name: str
    origin: Origin
    #: What the user wrote.
    source: Mapping[str, Any]
    #: SHA-256 over name and source, as a number, for the snapshot's fingerprint.
    digest: int
    empty_grace: float
    #: The keys of the upstream, without its servers.
    keys: Mapping[str, Any]
    #: The keys that every server has.
    each_server: Mapping[str, Any]
    #: How its servers are spoken to over TLS, with what is in the files.
    tls: ServerTls | None = None

    def upstream(self, levels: Levels) -> Upstream:
        """The upstream with these servers, of which there may be none.

        Plugins and unknown keys are not looked at again: the service was checked when it was
        made.
        """
        written = [[{**self.each_server, **one.written()} for one in level] for level in levels]
        servers: dict[str, Any]
        if len(written) > 1:
            servers = {"cluster": [{"servers": level} for level in written]}
        else:
            servers = {"servers": written[0] if written else []}
        body = {**servers, **self.keys}
        where = f"services.{self.name}"
        upstream = parse_upstream(self.name, body, where, None, ANY_KEY, may_be_empty=True)
        return upstream if self.tls is None else structs.replace(upstream, tls=self.tls)

    def same_as(self, other: Service) -> bool:
        """Whether both are the same: written alike, with the same in the files of ``tls``."""
        return self.digest == other.digest and self.tls == other.tls


def parse_service(
    name: str,
    body: object,
    where: str,
    plugins: Plugins | None = None,
    passes: Container[UnknownKey] = (),
) -> Service:
    """The service ``name`` that ``body`` describes; ``where`` begins every path.

    ``body`` is copied.  Raises ConfigError with every mistake.  Unknown keys in ``passes`` and keys
    that begin with ``x_`` are kept and mean nothing.
    """
    if not isinstance(body, Mapping):
        raise ConfigError(
            f'{where}: expected an object such as {{"dns_service": "_http._tcp.web.example"}}, '
            f"got {shown(body)}"
        )
    problems = Problems(passes)
    found = read(ServiceKeys, {key: body[key] for key in _OURS if key in body}, where, problems)
    origins = [key for key in _ORIGINS if body.get(key) is not None]
    left_out = {*_OURS, *_NOT_HERE}
    if not origins:
        expected = " or ".join(f'"{key}"' for key in _ORIGINS)
        problems.add(where, f"expected {expected}, which says where the servers come from")
    elif len(origins) > 1:
        problems.add(where, f"expected one of {' and '.join(origins)}, and not both")
    for key in _NOT_HERE:
        if key in body:
            problems.add(joined(where, key), "expected nothing: a service's servers are looked up")
    for owner, keys in _ORIGINS.items():
        for key in keys:
            if key in body and origins and owner not in origins:
                problems.add(joined(where, key), f"belongs to {owner}")
    if isinstance(body.get("dns_service"), str):
        _check_dns_name(body["dns_service"], joined(where, "dns_service"), problems)
    if found is not None and found.consul_service is not None:
        _check_consul(found, where, problems)
    if found is not None and found.docker_service is not None:
        _check_text(found.docker_service, joined(where, "docker_service"), problems)
    if found is not None and found.kubernetes_service is not None:
        _check_kubernetes(found, where, problems)
    rest = {key: value for key, value in body.items() if key not in left_out}
    tls = None
    try:
        tls = parse_upstream(name, {"servers": _ANY_SERVER, **rest}, where, plugins, passes).tls
    except ConfigError as error:
        problems.lines += error.problems
    problems.raise_if_any()
    assert found is not None
    try:
        source: dict[str, Any] = copied(body)
    except (TypeError, ValueError, RecursionError):
        # All but a note in ``server`` has been checked.
        raise ConfigError(f"{where}.server: expected what JSON can hold") from None
    canonical = json.dumps([name, source], sort_keys=True, separators=(",", ":"))
    return Service(
        name=name,
        origin=_origin(found),
        source=source,
        digest=int.from_bytes(hashlib.sha256(canonical.encode()).digest(), "big"),
        empty_grace=found.empty_grace,
        keys={key: value for key, value in source.items() if key not in left_out},
        each_server={
            key: value
            for key, value in source.get("server", {}).items()
            if value is not None and not is_note(key)
        },
        tls=tls,
    )


def levels_of(upstream: Upstream, each_server: Mapping[str, Any] = _NOTHING) -> Levels:
    """The servers of a service's upstream.  ``each_server`` is what its service has of every
    server; what differs from it is what the catalogue has said."""
    return tuple(
        tuple(_listed(server, each_server) for server in level.servers) for level in upstream.levels
    )


def _listed(server: Server, each_server: Mapping[str, Any]) -> Listed:
    said = {}
    for key in _LEFT_OUT:
        value = getattr(server, key)
        if value != each_server.get(key, _DEFAULTS[key]):
            said[key] = value
    state: Literal["up", "drain"] = "up" if server.state == "up" else "drain"
    return Listed(server.host, server.port, server.weight, state, **said)


def _check_dns_name(text: str, path: str, problems: Problems) -> None:
    host = normal_host(text)
    if host is None or ":" in host or host.replace(".", "").isdigit():
        problems.add(path, f"expected a DNS name such as _http._tcp.web.example, got {shown(text)}")


def _check_consul(found: ServiceKeys, where: str, problems: Problems) -> None:
    if not is_consul_name(found.consul_service or ""):
        problems.add(
            joined(where, "consul_service"),
            f"expected a name of a service without /, got {shown(found.consul_service)}",
        )
    texts = {"dc": found.dc, "near": found.near}
    for place, tag in enumerate(_tags(found)):
        texts["tag" if isinstance(found.tag, str) else f"tag[{place}]"] = tag
    for key, text in texts.items():
        if text is not None:
            _check_text(text, f"{where}.{key}", problems)
    if found.consul is not None and not is_agents(found.consul):
        problems.add(
            joined(where, "consul"),
            "expected http://HOST:PORT, or https://, with more HOST:PORT after commas, got"
            f" {shown(found.consul)}",
        )


def _check_text(text: str, path: str, problems: Problems) -> None:
    if not is_consul_text(text):
        problems.add(path, f"expected 1 to 255 printable characters, got {shown(text)}")


def _check_kubernetes(found: ServiceKeys, where: str, problems: Problems) -> None:
    if not is_service_of_kubernetes(found.kubernetes_service or ""):
        problems.add(
            joined(where, "kubernetes_service"),
            f"expected NAMESPACE/NAME, got {shown(found.kubernetes_service)}",
        )
    if found.port is not None and not is_port(found.port):
        problems.add(
            joined(where, "port"),
            f"expected a port's number or its name, got {shown(found.port)}",
        )
    if found.url is not None and not is_cluster(found.url):
        problems.add(
            joined(where, "url"), f"expected https://HOST:PORT or http://, got {shown(found.url)}"
        )


def _tags(found: ServiceKeys) -> tuple[str, ...]:
    return (found.tag,) if isinstance(found.tag, str) else found.tag


def _origin(found: ServiceKeys) -> Origin:
    if found.docker_service is not None:
        return ("docker_service", found.docker_service)
    if found.kubernetes_service is not None:
        port = "" if found.port is None else str(found.port)
        url = (found.url or "").removesuffix("/")
        return KubernetesQuery(found.kubernetes_service, port, url).origin
    if found.consul_service is None:
        return ("dns_service", (found.dns_service or "").lower())
    query = ConsulQuery(
        found.consul_service,
        tuple(sorted(set(_tags(found)))),
        found.passing,
        found.dc or "",
        found.near or "",
        found.consul or "",
    )
    return query.origin


def merge_service(
    current: Service | None, name: str, body: object, where: str, plugins: Plugins | None = None
) -> Service:
    """The service after a PUT of ``body``, which replaces the whole.

    The body may be an answer sent back, with what stands for a password or a secret.  An unknown
    key that the service has already is no mistake.
    """
    known = None if current is None else current.upstream(())
    if isinstance(body, Mapping):
        body = unshown(known, body, where)
    return parse_service(name, body, where, plugins, known_odd(known))
