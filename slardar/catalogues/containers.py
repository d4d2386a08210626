"""What containers of Docker mean: a label of a container says more of the server that it is.

=====================  =========================================================================
``slardar.upstream``   the service
``slardar.port``       the port in the container; by default the only one that it exposes
``slardar.network``    which network's address is used; by default that of the only one
``slardar.weight``     the weight, by default 1
=====================  =========================================================================
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import Struct, field

from slardar.catalogues.base import Report, report_of, usable_address
from slardar.model.server import Port
from slardar.model.service import Listed

__all__ = ["Container", "listing_of"]

#: The largest weight of a server.
_MAX_WEIGHT: Final = 10**9


class _Port(Struct, rename="pascal"):
    private_port: Port
    type: str = "tcp"


class _Network(Struct):
    address: str = field(name="IPAddress", default="")
    ipv6: str = field(name="GlobalIPv6Address", default="")


class _Networks(Struct, rename="pascal"):
    networks: dict[str, _Network] | None = None


class _HostConfig(Struct, rename="pascal"):
    network_mode: str = ""


class Container(Struct, rename="pascal"):
    """A container, as Docker lists it."""

    id: str
    names: list[str] | None = None
    labels: dict[str, str] | None = None
    ports: list[_Port] | None = None
    host_config: _HostConfig = field(default_factory=_HostConfig)
    network_settings: _Networks = field(default_factory=_Networks)


def listing_of(containers: Iterable[Container], address: str) -> Report:
    """The servers that these containers are; ``address`` is that of Docker's host."""
    # Two containers in the network of the host may say one port; they are one server.
    weights: dict[tuple[str, int], int] = {}
    unusable: list[str] = []
    for one in containers:
        try:
            host, port, weight = _server(one, address)
            weights[host, port] = min(weights.get((host, port), 0) + weight, _MAX_WEIGHT)
        except ValueError as error:
            name = one.names[0].removeprefix("/") if one.names else one.id[:12]
            unusable.append(f"{name} ({error})")
    level = tuple(Listed(*place, weight) for place, weight in sorted(weights.items()))
    return report_of((level,) if level else (), unusable, "containers")


def _server(container: Container, address: str) -> tuple[str, int, int]:
    """Host, port and weight.  Raises ValueError with what is missing."""
    labels = container.labels or {}
    weight = labels.get("slardar.weight", "1")
    if not re.fullmatch("[0-9]{1,10}", weight) or int(weight) > _MAX_WEIGHT:
        raise ValueError("slardar.weight is no weight")
    return _address(container, labels, address), _port(container, labels), int(weight)


def _port(container: Container, labels: Mapping[str, str]) -> int:
    text = labels.get("slardar.port")
    if text is None:
        exposed = {port.private_port for port in container.ports or () if port.type == "tcp"}
        if len(exposed) != 1:
            what = "several ports are" if exposed else "no port is"
            raise ValueError(f"{what} exposed, and slardar.port does not say which")
        return exposed.pop()
    if not re.fullmatch("[0-9]{1,5}", text) or not 0 < int(text) < 65536:
        raise ValueError("slardar.port is no port")
    return int(text)


def _address(container: Container, labels: Mapping[str, str], host: str) -> str:
    if container.host_config.network_mode == "host":
        return host
    networks = {
        name: network.address or network.ipv6
        for name, network in (container.network_settings.networks or {}).items()
    }
    name = labels.get("slardar.network")
    if name is None:
        addresses = [address for address in networks.values() if address]
        if len(addresses) > 1:
            raise ValueError("it is in several networks, and slardar.network does not say which")
        found = addresses[0] if addresses else ""
    else:
        found = networks.get(name, "")
    usable = usable_address(found)
    if usable is None:
        raise ValueError("it has no address" if name is None else "no address in slardar.network")
    return usable
