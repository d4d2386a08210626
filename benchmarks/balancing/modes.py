"""The balancers that are compared, and the servers and requests that they get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from slardar.model.live import Peer, ServerLive
from slardar.model.server import Server
from slardar.plugins import balancer_factory
from slardar.simulation.clients import request_of
from slardar.simulation.load import Arrival

__all__ = ["BOUND", "MODES", "Mode", "balancer", "peers", "request"]

BOUND = 1.25


class Mode(NamedTuple):
    """A balancer with its options, under a title for the report."""

    title: str
    mode: str
    options: Mapping[str, Any] = {}


MODES = (
    Mode("wrr", "wrr"),
    Mode("least_conn", "least_conn"),
    Mode("p2c", "p2c"),
    Mode("ewma", "ewma"),
    Mode("random", "random"),
    Mode("hash", "url_hash"),
    Mode(f"hash, bound {BOUND:g}", "url_hash", {"bound": BOUND}),
    Mode("maglev", "maglev"),
    Mode(f"maglev, bound {BOUND:g}", "maglev", {"bound": BOUND}),
    Mode("sticky", "sticky", {"secret": "only for a benchmark"}),
)


def peers(count: int, without: int = -1) -> list[Peer]:
    """Equal servers, but for one that is left out: 10.0.0.0:80, 10.0.0.1:80, ..."""
    return [
        Peer(Server(f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 80), ServerLive())
        for n in range(count)
        if n != without
    ]


def balancer(mode: Mode, servers: Sequence[Peer]) -> Any:
    """A balancer that has had its first requests: tables are built."""
    made = balancer_factory(mode.mode)(servers, mode.options)
    for number in range(1000):
        made.pick(servers, request(number))
    return made


def request(number: int, cookies: str = "") -> Any:
    """A request for the path with this number."""
    client = f"10.9.{number >> 8 & 255}.{number & 255}"
    return request_of(Arrival(0.0, "GET", f"/{number}", client), cookies=cookies)
