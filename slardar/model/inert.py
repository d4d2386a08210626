"""Keys that are taken and checked, but have no effect in this version.

Users of upyun/slardar have these keys in their stores, so the keys are not refused.  The
log says once of each key that it has no effect.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["inert_upstream", "inert_upstreams"]

_BACKUP = "in a cluster the order of its levels decides"


def inert_upstream(source: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Each key without effect in an upstream as it was written, and the reason."""
    cluster = source.get("cluster")
    if cluster:
        levels = cluster.values() if isinstance(cluster, Mapping) else cluster
        if any(server.get("backup") for level in levels for server in level["servers"]):
            yield "cluster.servers.backup", _BACKUP


def inert_upstreams(sources: Iterable[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """A line for each key without effect in any of the upstreams.

    Each upstream comes with its place (``upstreams.a``).  A line names the first upstream
    that has the key, and says how many more have it.
    """
    found: dict[tuple[str, str], list[str]] = {}
    for place, source in sources:
        for one in inert_upstream(source):
            found.setdefault(one, []).append(place)
    lines = []
    for (key, reason), places in found.items():
        more = f" (and in {len(places) - 1} more)" if len(places) > 1 else ""
        lines.append(_line(f"{places[0]}.{key}{more}", reason))
    return lines


def _line(place: str, reason: str) -> str:
    return f"{place}: taken, but without effect: {reason}"
