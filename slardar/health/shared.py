"""What one process has learnt of servers' health, as another one takes it.

Each worker counts failures on its own (:mod:`slardar.health.rules`).  When it puts a
server out of service, or brings it back, the other workers are told, so that they do not
lose requests to find out.  Pure, as the rules are; no function blocks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from slardar.health.rules import note_flap, set_status
from slardar.model.live import ServerLive
from slardar.model.server import Server, Upstream

__all__ = ["Place", "ServerIndex", "note_back", "note_out", "note_penalty", "strictest"]

#: A server's host and port.
Place = tuple[str, int]


class ServerIndex:
    """Finds servers of upstreams by host and port, without looking at all of them.

    The index of an upstream is made when it is first needed.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[Upstream, Mapping[Place, tuple[Server, ...]]]] = {}

    def of(self, upstream: Upstream) -> Mapping[Place, tuple[Server, ...]]:
        """The servers of an upstream by host and port, with one entry for each level that has
        the server."""
        known = self._known.get(upstream.name)
        if known is not None and known[0] is upstream:
            return known[1]
        index: dict[Place, tuple[Server, ...]] = {}
        for server in upstream.servers:
            place = (server.host, server.port)
            known_too = index.get(place)
            index[place] = (server,) if known_too is None else (*known_too, server)
        self._known[upstream.name] = (upstream, index)
        return index

    def forget(self, names: Collection[str]) -> None:
        """Drop the indexes of upstreams that have changed or are gone."""
        for name in names:
            self._known.pop(name, None)


def strictest(servers: Sequence[Server]) -> Server:
    """Of one server in several levels, the entry whose settings put it out of service for
    longest: the server's health is the same in all levels."""
    if len(servers) == 1:
        return servers[0]
    return max(servers, key=lambda server: (server.max_fails > 0, server.fail_timeout))


def note_out(
    live: ServerLive,
    config: Server,
    now: float,
    seconds: float,
    others_available: bool,
    message: str,
    fail_num: int = 0,
) -> bool:
    """Another worker has put the server out of service, for ``seconds`` more; with 0 its time is
    over.  ``fail_num``: its failures in a row there.

    The server is then on probation in both processes.  Without ``others_available`` it
    stays in service as ``unstable``: the findings of one worker must not leave another one
    without a server.  Returns whether this changed which servers are in service.
    """
    until = now + seconds
    if until <= live.down_until:
        return False
    live.fails = max(live.fails, config.max_fails)
    live.first_fail = now
    live.fail_num = max(live.fail_num, live.fails, fail_num)
    was_out = live.down_until > now
    if not others_available and not was_out:
        set_status(live, "unstable", message)
        return False
    note_flap(live, now)
    live.held_from = now + config.fail_timeout
    live.down_until = until
    set_status(live, "err", message)
    # True also for a server that was out: the time until it is looked at again is longer.
    return True


def note_penalty(live: ServerLive, penalty: float, now: float) -> None:
    """Another process knows this penalty of the server (:mod:`slardar.health.flaps`)."""
    live.penalty = penalty
    live.flapped_at = now


def note_back(live: ServerLive) -> bool:
    """Another worker got a good reply from the server, which had been out of service.

    Returns whether this changed which servers are in service.
    """
    was_out = live.down_until > 0
    live.fails = live.fail_num = 0
    live.down_until = 0.0
    set_status(live, "ok", "")
    return was_out
