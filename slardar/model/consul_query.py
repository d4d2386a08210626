"""What a service asks Consul for, and how its origin says so."""

from __future__ import annotations

import re
from collections.abc import Iterable

from msgspec import Struct

from slardar.model.names import split_host_port

__all__ = ["ConsulQuery", "is_agents", "is_consul_name", "is_consul_text"]

_TEXT = re.compile(r"[^\x00-\x1f\x7f]{1,255}")
_KEY = "consul_service"


class ConsulQuery(Struct, frozen=True):
    """A question to ``/v1/health/service/NAME``, and whom it is put to."""

    service: str
    #: An instance has all of them.
    tags: tuple[str, ...] = ()
    #: Whether instances with warnings are left out.
    passing: bool = True
    #: The datacentre; empty: the agent's own.
    dc: str = ""
    #: The node whose instances come first, ``_agent`` for the agent's own; empty: none do.
    near: str = ""
    #: The URL of the agents; empty: the usual ones.
    agents: str = ""

    @property
    def origin(self) -> tuple[str, ...]:
        """The query as the origin of a service."""
        named = {"dc": self.dc, "near": self.near, "consul": self.agents}
        return (
            _KEY,
            self.service,
            *(f"tag={tag}" for tag in self.tags),
            *(() if self.passing else ("passing=false",)),
            *(f"{key}={value}" for key, value in named.items() if value),
        )

    @classmethod
    def of(cls, origin: Iterable[str]) -> ConsulQuery:
        """The query that has this origin."""
        _, service, *said = origin
        pairs = [one.partition("=")[::2] for one in said]
        named = dict(pairs)
        return cls(
            service,
            tuple(value for key, value in pairs if key == "tag"),
            "passing" not in named,
            named.get("dc", ""),
            named.get("near", ""),
            named.get("consul", ""),
        )


def is_consul_text(text: str) -> bool:
    """Whether a tag, a node or a datacentre may have this name."""
    return _TEXT.fullmatch(text) is not None


def is_consul_name(text: str) -> bool:
    """Whether a service may have this name; it becomes a part of a path."""
    return is_consul_text(text) and "/" not in text and text not in (".", "..")


def is_agents(text: str) -> bool:
    """Whether this is ``http://HOST:PORT[,HOST:PORT...]``, or the same with ``https``."""
    scheme, found, rest = text.partition("://")
    addresses = rest.removesuffix("/").split(",")
    return (
        scheme in ("http", "https")
        and bool(found)
        and all(split_host_port(address) is not None for address in addresses)
    )
