"""What keeps servers from requests beside their health, as the director knows it.

Workers eject servers by what they see.  Here the director keeps the ejections for workers
that begin later, and the cap on all workers together.  Nothing here does I/O.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator

from msgspec import structs

from slardar.health.outliers import LONGEST, count_wanted, is_over
from slardar.health.shared import Place
from slardar.health.verdicts import Ejection, Extra
from slardar.model.live import ServerLive
from slardar.model.server import Upstream

__all__ = ["Extras"]


class Extras:
    """The servers that are ejected.  Times are the reactor's seconds."""

    def __init__(self) -> None:
        #: By upstream and server: until when, and the ejection.
        self._ejected: dict[str, dict[Place, tuple[float, Ejection]]] = {}

    def take(
        self, upstream: Upstream, extras: Iterable[Extra], now: float
    ) -> tuple[list[Extra], list[Extra]]:
        """Keep what is said of servers that the upstream has.

        An ejection is kept for no longer than the rules say.  Returns what was taken; and
        what takes back the other ejections: those that were over the cap, because several
        workers ejected at once.
        """
        taken: list[Extra] = []
        refused: list[Extra] = []
        outlier = upstream.outlier
        if outlier is None:
            return taken, refused
        wanted = count_wanted(upstream)
        known = self._ejected.get(upstream.name, {})
        ejected = {place: about for place, about in known.items() if about[0] > now}
        for extra in extras:
            place = (extra.host, extra.port)
            more = place not in ejected
            if extra.seconds <= 0 or is_over(len(ejected) + more, wanted, outlier.max_share):
                refused.append(structs.replace(extra, seconds=0.0))
                continue
            seconds = min(extra.seconds, outlier.eject * LONGEST)
            extra = structs.replace(extra, seconds=seconds)
            if more or ejected[place][0] < now + seconds:
                ejected[place] = (now + seconds, extra)
            taken.append(extra)
        self._ejected[upstream.name] = ejected
        return taken, refused

    def known(self, now: float) -> Iterator[Extra]:
        """What holds now."""
        for ejected in self._ejected.values():
            for until, ejection in ejected.values():
                if until > now:
                    yield structs.replace(ejection, seconds=until - now)

    def show(self, upstream: str, place: Place, live: ServerLive, now: float) -> None:
        """Write what is known of a server into ``live``, which is made for the status."""
        until, ejection = self._ejected.get(upstream, {}).get(place, (0.0, None))
        if ejection is not None and until > now:
            live.ejected_until = until
            live.ejected_at = time.time() - (ejection.seconds - (until - now))
            live.ejected_msg = ejection.message

    def forget(self, name: str, gone: Collection[Place], upstream: Upstream | None) -> None:
        """Drop the servers that an upstream has lost; and all, if it is gone or ejects none
        any more."""
        if upstream is None or upstream.outlier is None:
            self._ejected.pop(name, None)
        else:
            ejected = self._ejected.get(name, {})
            for place in gone:
                ejected.pop(place, None)
