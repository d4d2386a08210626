"""What EndpointSlices of Kubernetes mean (API ``discovery.k8s.io/v1``).

A service has any number of slices, and each has endpoints of one family of addresses with the
same ports.  Hints about zones are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct, field

from slardar.catalogues.base import Report, report_of, usable_address
from slardar.model.names import normal_host
from slardar.model.service import Listed

__all__ = ["Meta", "Slice", "SliceList", "listing_of"]


class Meta(Struct, rename="camel"):
    """What every object and every list has."""

    name: str = ""
    resource_version: str = ""


class _Conditions(Struct):
    """``None``: the cluster does not know."""

    ready: bool | None = None
    serving: bool | None = None
    terminating: bool | None = None


class _Target(Struct):
    uid: str = ""


class _Endpoint(Struct, rename="camel"):
    addresses: list[str] = field(default_factory=list)
    conditions: _Conditions | None = None
    target_ref: _Target | None = None


class _Port(Struct):
    name: str | None = None
    port: int | None = None
    protocol: str | None = None


class Slice(Struct, rename="camel"):
    """One EndpointSlice."""

    metadata: Meta
    address_type: str = "IPv4"
    endpoints: list[_Endpoint] | None = None
    ports: list[_Port] | None = None


class SliceList(Struct):
    """The slices of a service."""

    metadata: Meta
    items: list[Slice] | None = None


def listing_of(slices: Iterable[Slice], port: str) -> Report:
    """The servers in these slices.  ``port`` is the name or the number of their port; empty: they
    have one.

    A pod that has addresses of both families is one server, with that of IPv4.
    """
    states: dict[tuple[str, int], Literal["up", "drain"]] = {}
    families: dict[str, str] = {}
    unusable: set[str] = set()
    for one in sorted(slices, key=lambda one: (one.address_type, one.metadata.name)):
        number = _port(one, port)
        for endpoint in one.endpoints or ():
            state = _state(endpoint.conditions or _Conditions())
            if state is None:
                continue
            host = _host(endpoint, one.address_type)
            if host is None or number is None:
                what = "an address" if host is None else f"a port {port}".rstrip()
                unusable.add(f"{one.metadata.name} (without {what} that can be used)")
                continue
            pod = endpoint.target_ref.uid if endpoint.target_ref is not None else ""
            if pod and families.setdefault(pod, one.address_type) != one.address_type:
                continue
            # An endpoint that moves to another slice is in both for a while.
            if states.get((host, number)) != "up":
                states[host, number] = state
    level = tuple(Listed(*place, state=state) for place, state in sorted(states.items()))
    return report_of((level,) if level else (), unusable, "slices")


def _state(conditions: _Conditions) -> Literal["up", "drain"] | None:
    """``None``: no server.  What is not known counts as the API's documentation says: it is ready,
    it serves if it is ready, and it does not end."""
    ready = conditions.ready is not False
    if not conditions.terminating:
        return "up" if ready else None
    serving = ready if conditions.serving is None else conditions.serving
    return "drain" if serving else None


def _host(endpoint: _Endpoint, address_type: str) -> str | None:
    # All addresses of an endpoint are of one pod, and the first one is to be used.
    host = endpoint.addresses[0] if endpoint.addresses else ""
    if address_type == "FQDN":
        return normal_host(f"{host.removesuffix('.')}.")
    return usable_address(host)


def _port(one: Slice, wanted: str) -> int | None:
    if not one.ports:
        # Every port, says the API.
        return int(wanted) if wanted.isdigit() else None
    found = {
        port.port
        for port in one.ports
        if port.protocol in (None, "TCP") and wanted in ("", port.name, str(port.port))
    }
    number = found.pop() if len(found) == 1 else None
    return number if number is not None and 0 < number < 65536 else None
