"""What keeps servers from requests beside their health, as the director knows it.

Workers eject servers by what they see, hear what servers say of themselves, and let servers
climb.  Here the director keeps all of it for workers that begin later, with the penalties for
going out of service again and again, and the cap on the ejections of all workers.  Nothing here
does I/O.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from msgspec import structs

from slardar.health.flaps import penalty_after
from slardar.health.hints import FULL, note_hint, set_hints
from slardar.health.outliers import LONGEST, count_wanted, is_forgotten, is_over
from slardar.health.shared import Place
from slardar.health.verdicts import Climb, Ejection, Extra, Flap, Hint, flap_of, hint_of
from slardar.model.live import ServerLive
from slardar.model.server import Outlier, Upstream

__all__ = ["Extras"]


class _Ejected(NamedTuple):
    """An ejection, which may be over."""

    until: float
    ejection: Ejection
    #: The upstream's ``outlier.eject``.
    eject: float

    def at(self, now: float) -> Ejection | None:
        """The ejection, or what is remembered of it; ``None`` if it is forgotten."""
        if self.until > now:
            return structs.replace(self.ejection, seconds=self.until - now)
        calm = now - self.until
        if is_forgotten(self.ejection.times, calm, self.eject):
            return None
        return structs.replace(self.ejection, seconds=0.0, calm=calm)


class _Servers:
    """What is known of the servers of one upstream."""

    def __init__(self) -> None:
        self.ejected: dict[Place, _Ejected] = {}
        #: States of which only the hints mean anything.
        self.hinted: dict[Place, ServerLive] = {}
        #: The penalty as it was computed at a time.
        self.flaps: dict[Place, tuple[float, float]] = {}
        #: By server and level, when it began to climb, and how long it does.
        self.climbs: dict[tuple[Place, str], tuple[float, float]] = {}


class Extras:
    """The servers that are ejected, what servers have said of themselves, which ones climb, and
    penalties.  Times are the reactor's seconds."""

    def __init__(self) -> None:
        self._upstreams: dict[str, _Servers] = {}

    def _of(self, upstream: str) -> _Servers:
        return self._upstreams.setdefault(upstream, _Servers())

    def take(
        self, upstream: Upstream, extras: Iterable[Extra], now: float
    ) -> tuple[list[Extra], list[Extra]]:
        """Keep what a worker says of servers that the upstream has.

        An ejection is kept for no longer than the rules say.  Returns what the other workers
        are to know; and what takes back the other ejections: those that were over the cap,
        because several workers ejected at once.
        """
        taken: list[Extra] = []
        refused: list[Extra] = []
        now_ejected: list[Ejection] = []
        for extra in extras:
            if isinstance(extra, Ejection):
                now_ejected.append(structs.replace(extra, calm=None))
            elif isinstance(extra, Climb):
                self._climb(upstream, extra, now)
            elif isinstance(extra, Hint) and upstream.hints:
                live = self._server(extra.upstream, (extra.host, extra.port))
                set_hints(live, min(extra.full_for, FULL), extra.drains, extra.weight, now)
                taken.append(extra)
        if upstream.outlier is not None and now_ejected:
            self._eject(upstream, upstream.outlier, now_ejected, now, taken, refused)
        return taken, refused

    def know(self, upstream: Upstream, extras: Iterable[Extra], now: float) -> None:
        """Begin with what another director knew of servers that the upstream has."""
        others: list[Extra] = []
        for extra in extras:
            place = (extra.host, extra.port)
            if isinstance(extra, Flap):
                self._of(upstream.name).flaps[place] = (extra.penalty, now)
            elif isinstance(extra, Ejection) and extra.calm is not None:
                if upstream.outlier is not None:
                    self._of(upstream.name).ejected[place] = _Ejected(
                        now - extra.calm, extra, upstream.outlier.eject
                    )
            else:
                others.append(extra)
        self.take(upstream, others, now)

    def flapped(self, upstream: str, host: str, port: int, now: float) -> None:
        """Requests have put a server out of service that had been in it."""
        flaps = self._of(upstream).flaps
        penalty, since = flaps.get((host, port), (0.0, now))
        flaps[host, port] = (penalty_after(penalty, since, now), now)

    def hint(self, upstream: Upstream, place: Place, value: str, now: float) -> Hint | None:
        """A server has said this in a heartbeat.  Returns what workers are to know, if it is
        something new."""
        live = self._server(upstream.name, place) if upstream.hints else None
        if live is None or not note_hint(live, value, now):
            return None
        return hint_of(upstream.name, *place, live, now)

    def _server(self, upstream: str, place: Place) -> ServerLive:
        """The hints of one server."""
        return self._of(upstream).hinted.setdefault(place, ServerLive())

    def _climb(self, upstream: Upstream, climb: Climb, now: float) -> None:
        """Keep that a server climbs.  Where workers began at different times, the last one
        counts: the server gets less rather than more."""
        if climb.seconds < upstream.slow_start and climb.level in ("", *upstream.labels):
            key = ((climb.host, climb.port), climb.level)
            self._of(upstream.name).climbs[key] = (now - climb.seconds, upstream.slow_start)

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
        known = self._of(upstream.name).ejected
        ejected = {place for place, about in known.items() if about.until > now}
        for extra in ejections:
            place = (extra.host, extra.port)
            more = place not in ejected
            if extra.seconds <= 0 or is_over(len(ejected) + more, wanted, outlier.max_share):
                refused.append(structs.replace(extra, seconds=0.0))
                continue
            seconds = min(extra.seconds, outlier.eject * LONGEST)
            extra = structs.replace(extra, seconds=seconds)
            if more or known[place].until < now + seconds:
                known[place] = _Ejected(now + seconds, extra, outlier.eject)
            ejected.add(place)
            taken.append(extra)

    def known(self, now: float) -> Iterator[Extra]:
        """What holds now."""
        for upstream, servers in self._upstreams.items():
            for about in servers.ejected.values():
                ejection = about.at(now)
                if ejection is not None:
                    yield ejection
            for (host, port), live in servers.hinted.items():
                if live.drains or live.full_until > now or live.has_hinted_weight:
                    yield hint_of(upstream, host, port, live, now)
            for (host, port), (penalty, since) in servers.flaps.items():
                flap = flap_of(upstream, host, port, penalty, since, now)
                if flap is not None:
                    yield flap
            for ((host, port), level), (since, seconds) in servers.climbs.items():
                if now < since + seconds:
                    yield Climb(upstream, host, port, max(0.0, now - since), level)

    def show(self, upstream: str, place: Place, live: ServerLive, now: float) -> None:
        """Write what is known of a server into ``live``, which is made for the status."""
        servers = self._upstreams.get(upstream)
        about = None if servers is None else servers.ejected.get(place)
        if about is not None and about.until > now:
            live.ejected_until = about.until
            live.ejected_at = time.time() - (about.ejection.seconds - (about.until - now))
            live.ejected_msg = about.ejection.message

    def forget(self, name: str, gone: Collection[Place], upstream: Upstream | None) -> None:
        """Drop the servers that an upstream has lost; and all, if it is gone, or if it ejects
        none, believes no hints, or lets no server climb any more."""
        servers = self._upstreams.get(name)
        if servers is None:
            return
        if upstream is None:
            del self._upstreams[name]
            return
        if not upstream.hints:
            servers.hinted.clear()
        if upstream.outlier is None:
            servers.ejected.clear()
        if not upstream.slow_start:
            servers.climbs.clear()
        for place in gone:
            servers.ejected.pop(place, None)
            servers.hinted.pop(place, None)
            servers.flaps.pop(place, None)
        servers.climbs = {key: one for key, one in servers.climbs.items() if key[0] not in gone}
