"""Panic: with too few servers in service, health is ignored.

If most servers of an upstream are out of service, the few that are left get the requests of
all, and fail under them.  It is then better to ask every server, also those that are out:
some of them still answer.  This is Envoy's panic threshold.

The share is counted over the upstream: over all servers of all its levels that take
requests by their configuration.  A level of which no server is in service is passed over
during a panic too, unless no level has one.  Pure; no function blocks.
"""

from __future__ import annotations

from collections.abc import Callable

from slardar.health.rules import is_wanted
from slardar.model.server import Server, Upstream

__all__ = ["panic_note", "panics"]


def panics(available: int, wanted: int, share: float) -> bool:
    """Whether health is to be ignored.

    ``wanted`` servers take requests by their configuration, and ``available`` of them are
    in service.  ``share`` is the upstream's ``panic``, from 0 (never) to 1.
    """
    return available < wanted * share


def panic_note(upstream: Upstream, is_available: Callable[[str, Server], bool]) -> str:
    """Why an upstream ignores health now, for a person; empty if it does not.

    ``is_available`` gets the upstream's name and a server.
    """
    if not upstream.panic:
        return ""
    wanted = [server for server in upstream.servers if is_wanted(server)]
    available = sum(is_available(upstream.name, server) for server in wanted)
    if not panics(available, len(wanted), upstream.panic):
        return ""
    return (
        f"{available} of {len(wanted)} servers are in service, a smaller share than"
        f" {upstream.panic:g}: health is ignored"
    )
