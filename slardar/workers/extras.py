"""What keeps servers from requests beside their health, as the director knows it.

Workers eject servers by what they see, and hear what servers say of themselves.  Here the
director keeps both for workers that begin later, and the cap on the ejections of all workers.
Nothing here does I/O.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator

from msgspec import structs

from slardar.health.hints import FULL, note_hint, set_hints
from slardar.health.outliers import LONGEST, count_wanted, is_over
from slardar.health.shared import Place
from slardar.health.verdicts import Ejection, Extra, Hint, hint_of
from slardar.model.live import ServerLive
from slardar.model.server import Outlier, Upstream

__all__ = ["Extras"]


class Extras:
    """The servers that are ejected, and what servers have said of themselves.  Times are the
    reactor's seconds."""

    def __init__(self) -> None:
        #: By upstream and server: until when, and the ejection.
        self._ejected: dict[str, dict[Place, tuple[float, Ejection]]] = {}
        #: By upstream and server: a state of which only the hints mean anything.
        self._hinted: dict[str, dict[Place, ServerLive]] = {}

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
        now_ejected: list[Ejection] = []
        for extra in extras:
            if isinstance(extra, Ejection):
                now_ejected.append(extra)
            elif upstream.hints:
                live = self._server(extra.upstream, (extra.host, extra.port))
                set_hints(live, min(extra.full_for, FULL), extra.drains, extra.weight, now)
                taken.append(extra)
        if upstream.outlier is not None and now_ejected:
            self._eject(upstream, upstream.outlier, now_ejected, now, taken, refused)
        return taken, refused

    def hint(self, upstream: Upstream, place: Place, value: str, now: float) -> Hint | None:
        """A server has said this in a heartbeat.  Returns what workers are to know, if it is
        something new."""
        live = self._server(upstream.name, place) if upstream.hints else None
        if live is None or not note_hint(live, value, now):
            return None
        return hint_of(upstream.name, *place, live, now)

    def _server(self, upstream: str, place: Place) -> ServerLive:
        """The hints of one server."""
        return self._hinted.setdefault(upstream, {}).setdefault(place, ServerLive())

    def _eject(
        self,
        upstream: Upstream,
        outlier: Outlier,
        ejections: list[Ejection],
        now: float,
        taken: list[Extra],
        refused: list[Extra],
    ) -> None:
        """Add each ejection to ``taken`` or, if it is over the cap, what takes it back to
        ``refused``."""
        wanted = count_wanted(upstream)
        known = self._ejected.get(upstream.name, {})
        ejected = {place: about for place, about in known.items() if about[0] > now}
        for extra in ejections:
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

    def known(self, now: float) -> Iterator[Extra]:
        """What holds now."""
        for ejected in self._ejected.values():
            for until, ejection in ejected.values():
                if until > now:
                    yield structs.replace(ejection, seconds=until - now)
        for upstream, servers in self._hinted.items():
            for (host, port), live in servers.items():
                if live.drains or live.full_until > now or live.has_hinted_weight:
                    yield hint_of(upstream, host, port, live, now)

    def show(self, upstream: str, place: Place, live: ServerLive, now: float) -> None:
        """Write what is known of a server into ``live``, which is made for the status."""
        until, ejection = self._ejected.get(upstream, {}).get(place, (0.0, None))
        if ejection is not None and until > now:
            live.ejected_until = until
            live.ejected_at = time.time() - (ejection.seconds - (until - now))
            live.ejected_msg = ejection.message

    def forget(self, name: str, gone: Collection[Place], upstream: Upstream | None) -> None:
        """Drop the servers that an upstream has lost; and all, if it is gone, or if it ejects
        none or believes no hints any more."""
        if upstream is None or not upstream.hints:
            self._hinted.pop(name, None)
        else:
            for place in gone:
                self._hinted.get(name, {}).pop(place, None)
        if upstream is None or upstream.outlier is None:
            self._ejected.pop(name, None)
        else:
            ejected = self._ejected.get(name, {})
            for place in gone:
                ejected.pop(place, None)
