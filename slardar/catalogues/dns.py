"""Services in DNS: SRV records list the servers (RFC 2782).

A priority is a level, the lowest number first; a weight is a weight.  How weights of 0 and the
target ``.`` are read: :func:`listing_of`.  The names in the records are looked up as the names of
all servers are, not here.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, Final, Protocol

from twisted.internet import defer

from slardar.catalogues.base import Catalogue, Failed, Report, report_of, usable_address
from slardar.dns import ServiceRecord, ServiceReply
from slardar.lookup import SystemLookup
from slardar.model.names import normal_host
from slardar.model.service import Listed, Origin
from slardar.repeated import Lookups, Schedule

__all__ = ["SCALE", "DnsCatalogue", "ServiceLookup", "listing_of"]

#: Where a priority has weights of 0 and others, the others count so much more than in DNS, and
#: 0 counts as 1.
SCALE: Final = 100
#: The largest weight of a server.
_MAX_WEIGHT: Final = 10**9


class ServiceLookup(Protocol):
    """Looks one service up, once (:class:`slardar.lookup.SystemLookup`)."""

    def look_up_service(self, name: str) -> defer.Deferred[ServiceReply]:
        """What SRV records say of a service.  It may be cancelled."""

    def has_changed(self) -> bool:
        """Whether answers may be others since this was last asked, whatever their ``ttl``."""

    def stop(self) -> None:
        """Nothing will be looked up any more."""


class DnsCatalogue(Catalogue):
    """Looks SRV records up again and again, by their time to live.

    ``draw()`` is a number from 0 to 1.
    """

    def __init__(
        self,
        reactor: Any,
        lookup: ServiceLookup | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        self._lookup = lookup or SystemLookup(reactor)
        self._draw = draw
        self._followed: dict[str, tuple[Origin, Callable[[Report], None], Schedule]] = {}
        self._lookups = Lookups(
            reactor,
            self._lookup.look_up_service,
            self._take,
            lambda reason: ServiceReply(reason=reason),
            self._lookup.has_changed,
        )

    def follow(self, origin: Origin, told: Callable[[Report], None]) -> None:
        """See :meth:`Catalogue.follow`."""
        self._followed[origin[1]] = (origin, told, Schedule())
        self._lookups.begin(origin[1])

    def unfollow(self, origin: Origin) -> None:
        """See :meth:`Catalogue.unfollow`."""
        del self._followed[origin[1]]
        self._lookups.end(origin[1])

    def stop(self) -> None:
        """See :meth:`Catalogue.stop`."""
        self._followed = {}
        self._lookups.stop()
        self._lookup.stop()

    def _take(self, name: str, reply: ServiceReply) -> float:
        """Tell what a lookup has found.  Returns the seconds until the next one."""
        _, told, schedule = self._followed[name]
        report = Failed(reply.reason) if reply.reason else listing_of(reply.records)
        told(report)
        if isinstance(report, Failed):
            return schedule.bad(report.reason)
        if report.levels or report.is_meant:
            return schedule.good(reply.ttl, self._draw())
        return schedule.bad("no record")


def listing_of(records: Iterable[ServiceRecord]) -> Report:
    """The servers that SRV records list.

    Only the target ``.`` means that the service is decidedly not available.  In a priority in which
    all weights are 0, they count as 1; where only some are, 0 counts as 1 and every other weight
    :data:`SCALE` times as much, so that a server of weight 0 has a very small chance.  A server
    that a priority names twice has both weights.
    """
    by_priority: dict[int, dict[tuple[str, int], int]] = {}
    unusable: list[str] = []
    is_meant = False
    for priority, weight, port, target in records:
        if not target:
            is_meant = True
            continue
        host = _host(target)
        if host is None or not port:
            unusable.append(f"{target}:{port}")
            continue
        servers = by_priority.setdefault(priority, {})
        servers[host, port] = servers.get((host, port), 0) + weight
    levels = tuple(
        tuple(
            Listed(host, port, weight)
            for (host, port), weight in sorted(_weights(by_priority[priority]).items())
        )
        for priority in sorted(by_priority)
    )
    return report_of(levels, unusable, "records", is_meant)


def _host(target: str) -> str | None:
    """The host of a server with this target, ``None`` if it cannot be one."""
    # An address is not what RFC 2782 wants, and clear all the same.  A name gets the dot, for it
    # is a whole one: no search domain may be put behind it.
    return usable_address(target) or normal_host(f"{target}.")


def _weights(servers: dict[tuple[str, int], int]) -> dict[tuple[str, int], int]:
    """The weights that the servers of one priority get."""
    some, least = any(servers.values()), min(servers.values())
    scale = SCALE if some and not least else 1
    return {key: min(weight * scale, _MAX_WEIGHT) or 1 for key, weight in servers.items()}
