"""From Consul's answer about a service to the servers that it lists.

An instance is listed if it is healthy enough, by its own checks and those of its node.  Its address
is the service's, or else the node's; its weight is that of the service definition.  Keys of a
server stand in the instance's ``Meta``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import msgspec
from msgspec import Struct

from slardar.catalogues.base import Failed, Listing, Report
from slardar.model.consul_query import ConsulQuery
from slardar.model.names import host_port, normal_host
from slardar.model.reader import shown
from slardar.model.server import Count, Seconds, Weight
from slardar.model.service import Listed

__all__ = ["Instance", "listing_of", "read_instances"]

#: The checks by which Consul marks maintenance: of a node, and of one instance.
_NODE_MAINTENANCE: Final = "_node_maintenance"
_SERVICE_MAINTENANCE: Final = "_service_maintenance:"
#: The states of checks, the worst one last.  Any other one is as bad as critical.
_STATES: Final = ("passing", "warning", "critical")
_WARNING: Final = _STATES.index("warning")
_CRITICAL: Final = _STATES.index("critical")
_MAX_WEIGHT: Final = 10**9
#: Things that a note names.
_MAX_NAMED: Final = 3
#: The keys of ``Meta`` that mean something here.
_KEYS: Final[dict[str, tuple[Any, str]]] = {
    "weight": (Weight, "an integer from 0 to 1000000000"),
    "max_fails": (Count, "an integer from 0 to 1000000000"),
    "fail_timeout": (Seconds, "a number of seconds from 0 to 1000000000"),
    "max_conns": (Count, "an integer from 0 to 1000000000"),
    "backup": (bool, "true or false"),
}


class Check(Struct, frozen=True, rename={"check_id": "CheckID", "status": "Status"}):
    """A check of a node or of an instance."""

    check_id: str = ""
    status: str = ""


class Node(Struct, frozen=True, rename={"name": "Node", "address": "Address"}):
    """The node on which an instance runs."""

    name: str = ""
    address: str | None = ""


class Weights(Struct, frozen=True, rename="pascal"):
    """The weights of an instance whose checks pass, and of one with a warning."""

    passing: int = 1
    warning: int = 1


class Definition(
    Struct,
    frozen=True,
    rename={"id": "ID", "address": "Address", "port": "Port", "meta": "Meta", "weights": "Weights"},
):
    """An instance as it was registered."""

    id: str = ""
    address: str | None = ""
    port: int = 0
    meta: dict[str, str] | None = None
    weights: Weights | None = None


class Instance(
    Struct, frozen=True, rename={"node": "Node", "service": "Service", "checks": "Checks"}
):
    """One entry of ``/v1/health/service/NAME``."""

    node: Node
    service: Definition
    checks: tuple[Check, ...] | None = None

    @property
    def name(self) -> str:
        """The instance's id, which is its own on its node only."""
        return self.service.id

    @property
    def health(self) -> int:
        """The worst of the states of its checks, apart from maintenance."""
        return max(
            (
                _STATES.index(check.status) if check.status in _STATES else _CRITICAL
                for check in self.checks or ()
                if not _is_maintenance(check)
            ),
            default=0,
        )

    @property
    def is_in_maintenance(self) -> bool:
        """Whether somebody has put it or its node into maintenance."""
        return any(map(_is_maintenance, self.checks or ()))


_decoder = msgspec.json.Decoder(tuple[Instance, ...])


def read_instances(body: bytes) -> tuple[Instance, ...]:
    """The instances of an answer in JSON.  Raises ValueError for anything else."""
    return _decoder.decode(body)


def listing_of(instances: Sequence[Instance], query: ConsulQuery, near: str = "") -> Report:
    """The servers that an answer lists.

    Critical instances are never listed, those with warnings only if the query takes them.  One in
    maintenance drains.  ``near`` is the node whose servers are the first level; those marked
    ``backup`` are the last one.
    """
    listed: dict[tuple[str, int], tuple[int, Listed]] = {}
    notes: list[str] = []
    has_unusable = False
    for one in sorted(instances, key=lambda one: (one.name, one.node.name)):
        health = one.health
        if health >= _CRITICAL or (query.passing and health >= _WARNING):
            continue
        address = one.service.address or one.node.address or ""
        host = normal_host(address)
        if host is None or not 0 < one.service.port < 65536:
            has_unusable = True
            notes.append(f"{one.name}: cannot be reached at {host_port(address, one.service.port)}")
            continue
        if (host, one.service.port) in listed:
            notes.append(f"{one.name}: {host_port(host, one.service.port)} is listed already")
            continue
        said = _said(one, notes)
        is_backup = said.pop("backup", False)
        level = 2 if is_backup else 0 if near and one.node.name == near else 1
        weight = said.pop("weight", None)
        weights = one.service.weights or Weights()
        if health >= _WARNING or weight is None:
            weight = weights.warning if health >= _WARNING else weights.passing
        server = Listed(
            host,
            one.service.port,
            max(0, min(weight, _MAX_WEIGHT)),
            "drain" if one.is_in_maintenance else "up",
            **said,
        )
        listed[server.place] = level, server
    note = _note(notes)
    if has_unusable and not listed:
        return Failed(note)
    return Listing(tuple(_levels(list(listed.values()))), note=note)


def _is_maintenance(check: Check) -> bool:
    return check.check_id == _NODE_MAINTENANCE or check.check_id.startswith(_SERVICE_MAINTENANCE)


def _said(one: Instance, notes: list[str]) -> dict[str, Any]:
    """The keys that its ``Meta`` has; a wrong one is noted, and is not there."""
    said: dict[str, Any] = {}
    for key, text in (one.service.meta or {}).items():
        if key in _KEYS:
            kind, expected = _KEYS[key]
            try:
                said[key] = msgspec.convert(text, kind, strict=False)
            except msgspec.ValidationError:
                notes.append(f"{one.name}: Meta {key}: expected {expected}, got {shown(text)}")
    return said


def _levels(listed: Sequence[tuple[int, Listed]]) -> Iterator[tuple[Listed, ...]]:
    for wanted in range(3):
        servers = [server for level, server in listed if level == wanted]
        if servers:
            yield tuple(sorted(servers, key=lambda server: server.place))


def _note(notes: list[str]) -> str:
    more = len(notes) - _MAX_NAMED
    text = "; ".join(sorted(notes)[:_MAX_NAMED])
    return ascii(f"{text}; and {more} more" if more > 0 else text)[1:-1]
