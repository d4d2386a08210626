"""Adds one server to an upstream, or removes one; the other servers stay as they are.

Both functions take a place, which says what level or named cluster of the upstream is
meant.  Nothing here blocks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from slardar.errors import ConfigError, ConflictError, NotFoundError
from slardar.model.names import host_port
from slardar.model.parse import Plugins, copied, known_odd, parse_upstream
from slardar.model.reader import Problems, joined, read, shown
from slardar.model.server import Server, Upstream

__all__ = ["ANYWHERE", "Place", "add_server", "remove_server"]


class Place(Struct, frozen=True):
    """A part of an upstream, as the parameters of a call name it."""

    #: A level of a ``cluster`` that is a list, counted from 0.
    level: str | None = None
    #: A name in a ``cluster`` that is an object.
    cluster: str | None = None


#: Every part of the upstream.
ANYWHERE = Place()


class _Part(Struct):
    """A list of servers of a written upstream."""

    #: The name of the list in messages.
    title: str
    servers: list[dict[str, Any]]


def add_server(
    current: Upstream,
    host: str,
    port: int,
    body: object,
    where: str,
    place: Place = ANYWHERE,
    plugins: Plugins | None = None,
) -> Upstream:
    """The upstream with one more server, at the end of its list.

    ``body`` holds the server's other keys, and may be empty; ``where`` begins the path of
    every mistake in it.  If the upstream has several levels or clusters, ``place`` must
    name one.  Raises ConfigError, and ConflictError if the list has the server already.
    """
    if not isinstance(body, Mapping):
        raise ConfigError(f'{where}: expected an object such as {{"weight": 5}}, got {shown(body)}')
    problems = Problems(known_odd(current))
    for key, known in (("host", host), ("port", port)):
        if key in body and body[key] != known:
            problems.add(joined(where, key), f"expected {shown(known)} or nothing")
    server = {"host": host, "port": port, **body}
    read(Server, server, where, problems)
    problems.raise_if_any()
    source = copied(current.source)
    parts = _parts(current, source, place)
    if len(parts) > 1:
        kind = "cluster=NAME" if current.named else "level=NUMBER"
        titles = ", ".join(part.title for part in parts)
        raise ConfigError(f"{where}: expected the parameter {kind}, for there are {titles}")
    (part,) = parts
    if _index(part, host, port) is not None:
        raise ConflictError(
            f"{part.title} of upstream {current.name} has the server {host_port(host, port)}"
            " already: PATCH changes it"
        )
    part.servers.append(server)
    return _parsed(current, source, plugins)


def remove_server(
    current: Upstream,
    host: str,
    port: int,
    place: Place = ANYWHERE,
    plugins: Plugins | None = None,
) -> Upstream:
    """The upstream without one server, which is removed from ``place``: one list or all.

    Raises NotFoundError if no such list has the server, and ConflictError if the server is
    the last of a list, since no list can be empty.
    """
    source = copied(current.source)
    found = False
    for part in _parts(current, source, place):
        index = _index(part, host, port)
        if index is None:
            continue
        found = True
        if len(part.servers) == 1:
            raise ConflictError(
                f"{host_port(host, port)} is the last server of {part.title} of upstream "
                f"{current.name}, which cannot be empty"
            )
        del part.servers[index]
    if not found:
        raise NotFoundError(f"upstream {current.name} has no server {host_port(host, port)} there")
    return _parsed(current, source, plugins)


def _parts(current: Upstream, source: Mapping[str, Any], place: Place) -> list[_Part]:
    """The lists of servers that ``place`` means: one, or all if it names none."""
    cluster = source.get("cluster")
    if isinstance(cluster, Mapping):
        parts = {name: _Part(f"cluster {name}", one["servers"]) for name, one in cluster.items()}
        wanted, other, kind = place.cluster, place.level, "cluster"
    elif cluster is not None:
        parts = {str(n): _Part(f"level {n}", one["servers"]) for n, one in enumerate(cluster)}
        wanted, other, kind = place.level, place.cluster, "level"
    else:
        parts = {"": _Part("the list", source["servers"])}
        wanted, other, kind = None, place.level or place.cluster, ""
    if other is not None:
        has = f"{kind}s, and no {'levels' if current.named else 'clusters with names'}"
        raise ConfigError(f"upstream {current.name} has {has if kind else 'one list of servers'}")
    if wanted is None:
        return list(parts.values())
    if wanted not in parts:
        raise ConfigError(f"{kind}: expected one of {', '.join(parts)}, got {shown(wanted)}")
    return [parts[wanted]]


def _index(part: _Part, host: str, port: int) -> int | None:
    for index, server in enumerate(part.servers):
        if (server["host"], server["port"]) == (host, port):
            return index
    return None


def _parsed(current: Upstream, source: Any, plugins: Plugins | None) -> Upstream:
    where = f"upstreams.{current.name}"
    return parse_upstream(current.name, source, where, plugins, known_odd(current))
