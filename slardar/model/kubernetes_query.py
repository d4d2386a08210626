"""What a service asks Kubernetes for, and how its origin says so."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from slardar.model.names import normal_host, split_host_port

__all__ = ["KubernetesQuery", "is_cluster", "is_port", "is_service_of_kubernetes"]

_KEY = "kubernetes_service"
#: A label of DNS, as names of namespaces, services and ports are.
_LABEL = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"


class KubernetesQuery(Struct, frozen=True):
    """A question for the endpoints of a service, and whom it is put to."""

    #: ``NAMESPACE/NAME``.
    service: str
    #: The name or the number of the port; empty: the only one.
    port: str = ""
    #: The URL of the cluster; empty: the cluster in which slardar runs.
    url: str = ""

    @property
    def origin(self) -> tuple[str, ...]:
        """The query as the origin of a service."""
        named = {"port": self.port, "url": self.url}
        return (
            _KEY,
            self.service,
            *(f"{key}={value}" for key, value in named.items() if value),
        )

    @classmethod
    def of(cls, origin: Iterable[str]) -> KubernetesQuery:
        """The query that has this origin."""
        _, service, *said = origin
        named = dict(one.partition("=")[::2] for one in said)
        return cls(service, named.get("port", ""), named.get("url", ""))


def is_service_of_kubernetes(text: str) -> bool:
    """Whether this is ``NAMESPACE/NAME``."""
    return re.fullmatch(f"{_LABEL}/{_LABEL}", text) is not None


def is_port(port: int | str) -> bool:
    """Whether a port may have this number or name."""
    if isinstance(port, str) and re.fullmatch("[0-9]{1,9}", port) is None:
        return re.fullmatch(_LABEL, port) is not None
    return 0 < int(port) < 65536


def is_cluster(text: str) -> bool:
    """Whether this is ``https://HOST[:PORT]``, or the same with ``http``."""
    scheme, found, rest = text.partition("://")
    place = rest.removesuffix("/")
    is_host = split_host_port(place) is not None or (
        normal_host(place) is not None and (":" not in place or place[:1] == "[")
    )
    return scheme in ("http", "https") and bool(found) and is_host
