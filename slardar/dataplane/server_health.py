"""The health of servers by name: learnt from other processes, and told to them.

The rules for the outcome of a request are in :mod:`slardar.health.rules`.  Here a data plane
takes the verdicts of other processes on servers, many at a time, gives its own verdicts to
a successor, and logs them if no other process does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

from slardar.dataplane.failurelog import HealthLog
from slardar.events import Publish, ignore
from slardar.health.checked import take_verdict
from slardar.health.hints import note_hint, set_hints
from slardar.health.notes import notes_of
from slardar.health.outliers import is_forgotten, note_calm, note_ejected, settle
from slardar.health.panic import panic_note
from slardar.health.rules import is_available
from slardar.health.shared import (
    Place,
    ServerIndex,
    note_back,
    note_out,
    note_penalty,
    strictest,
)
from slardar.health.slow_start import share_after
from slardar.health.verdicts import (
    MAX_TEXT,
    NO_HISTORY,
    Climb,
    Ejection,
    Extra,
    Flap,
    Heartbeat,
    Hint,
    Verdict,
    flap_of,
    hint_of,
)
from slardar.http1.interfaces import Clock
from slardar.model.live import Live, Peer, ServerLive
from slardar.model.server import Server, Upstream

__all__ = ["ServerHealth"]


class ServerHealth:
    """The health of the servers that one data plane serves.

    ``clock`` is the poller's, in monotonic seconds.  ``on_health(upstream, peer)`` is
    called when requests have put a server out of service or brought it back, and
    ``on_extra(extra)`` with what other processes are to know beside that; without
    ``on_health`` the log says so, for which ``seconds()`` gives the time, and ``publish`` is
    told of changes.
    """

    def __init__(
        self,
        live: Live,
        clock: Clock,
        seconds: Callable[[], float],
        on_health: Callable[[str, Peer], None] | None = None,
        on_extra: Callable[[Extra], None] | None = None,
        publish: Publish = ignore,
    ) -> None:
        self._on_extra = on_extra
        self._live = live
        self._clock = clock
        self._log = HealthLog(seconds, publish) if on_health is None else None
        self._index = ServerIndex()
        #: Called with an upstream's name and a peer when requests have changed its health.
        self.changed = self._log_change if on_health is None else on_health

    def _log_change(self, upstream: str, peer: Peer) -> None:
        if self._log is not None:
            down_for = max(0.0, peer.live.down_until - self._clock.now)
            self._log.took(upstream, peer.host, peer.port, down_for, peer.live.msg)

    def ejected(self, upstream: str, peer: Peer) -> None:
        """A server was ejected here."""
        extra = self._ejection(upstream, peer.host, peer.port, peer.live)
        if self._log is not None:
            self._log.ejected(extra)
        if self._on_extra is not None:
            self._on_extra(extra)

    def _ejection(self, upstream: str, host: str, port: int, live: ServerLive) -> Ejection:
        seconds = min(max(0.0, live.ejected_until - self._clock.now), 1e9)
        message = live.ejected_msg[:MAX_TEXT]
        return Ejection(upstream, host, port, seconds, live.ejections, message)

    def learn(self, upstream: Upstream, verdicts: Iterable[Verdict]) -> list[Place]:
        """Take another process's verdicts on servers of one upstream, as
        ``IPlane.set_health`` describes it.

        Returns the servers that they put out of service or brought back.
        """
        index, now = self._index.of(upstream), self._clock.now
        available: set[Place] | None = None
        changed = []
        for verdict in verdicts:
            place = (verdict.host, verdict.port)
            servers = index.get(place)
            if servers is None:
                continue
            live = self._live.server(upstream.name, *place)
            if verdict.down_for <= 0 and not verdict.on_probation:
                if note_back(live):
                    changed.append(place)
                if available is not None and _is_available(live, servers, now):
                    available.add(place)
                continue
            if available is None:
                # Computed once for all verdicts, and then kept up to date.
                available = {
                    other
                    for other, some in index.items()
                    if _is_available(self._live.server(upstream.name, *other), some, now)
                }
            others = len(available) > (place in available)
            config = strictest(servers)
            if note_out(
                live, config, now, verdict.down_for, others, verdict.message, verdict.fail_num
            ):
                changed.append(place)
                if not _is_available(live, servers, now):
                    available.discard(place)
            if self._log is not None:
                self._log.know(upstream.name, *place)
        return changed

    def check(
        self, upstream: Upstream, verdicts: Iterable[Heartbeat], is_logged: bool = False
    ) -> list[Place]:
        """Take what heartbeats say of servers of one upstream, as ``IPlane.set_checked``
        describes it.

        ``is_logged``: another process has logged it before.  Returns the servers that it put
        out of service or may have brought back.
        """
        index = self._index.of(upstream)
        changed = []
        for verdict in verdicts:
            place = (verdict.host, verdict.port)
            if place in index:
                live = self._live.server(upstream.name, *place)
                if take_verdict(live, verdict):
                    changed.append(place)
                if self._log is not None:
                    (self._log.know_checked if is_logged else self._log.checked)(verdict)
        return changed

    def hinted(self, upstream: str, peer: Peer) -> None:
        """A server has said something of itself here."""
        if self._on_extra is not None:
            self._on_extra(hint_of(upstream, peer.host, peer.port, peer.live, self._clock.now))

    def climbs(self, upstream: str, peer: Peer, label: str) -> None:
        """The weight of a server begins to climb here, in the level ``label``."""
        if self._on_extra is not None:
            self._on_extra(Climb(upstream, peer.host, peer.port, 0.0, label))

    def hint(self, upstream: Upstream, place: Place, value: str) -> bool:
        """A server has said this in a heartbeat, as ``IPlane.hint`` describes it.

        Returns whether it gets other requests from now on.
        """
        if not upstream.hints or place not in self._index.of(upstream):
            return False
        return note_hint(self._live.server(upstream.name, *place), value, self._clock.now)

    def learn_extras(self, upstream: Upstream, extras: Iterable[Extra]) -> list[Place]:
        """Take what other processes say of servers of one upstream, as ``IPlane.set_extras``
        describes it.

        Returns the servers that get other requests from now on.
        """
        index, now = self._index.of(upstream), self._clock.now
        changed = []
        for extra in extras:
            place = (extra.host, extra.port)
            if place not in index:
                continue
            live = self._live.server(upstream.name, *place)
            if isinstance(extra, Hint):
                if upstream.hints:
                    set_hints(live, extra.full_for, extra.drains, extra.weight, now)
                    changed.append(place)
            elif isinstance(extra, Flap):
                note_penalty(live, extra.penalty, now)
            elif isinstance(extra, Climb):
                if self._climb(upstream, extra, now):
                    changed.append(place)
            elif extra.calm is not None:
                note_calm(live, now, extra.calm, extra.times)
            elif upstream.outlier is not None and note_ejected(
                live, now, extra.seconds, extra.times, extra.message
            ):
                changed.append(place)
        return changed

    def _climb(self, upstream: Upstream, climb: Climb, now: float) -> bool:
        """Let a server go on climbing; returns whether it does."""
        turn = self._live.server(upstream.name, climb.host, climb.port)
        if climb.level:
            if climb.level not in upstream.labels:
                return False
            turn = self._live.turn(upstream.name, climb.host, climb.port, climb.level)
        if climb.seconds >= upstream.slow_start:
            return False
        turn.is_cold = False
        turn.climbs_from = now - climb.seconds
        turn.share = share_after(climb.seconds, upstream.slow_start)
        return True

    def known_extras(self, upstreams: Mapping[str, Upstream]) -> Iterator[Extra]:
        """What keeps servers from requests beside their health, as ``IPlane.known_extras``
        gives it; ``upstreams`` are those that are served."""
        now, turns = self._clock.now, self._live.turns
        for key, live in self._live.servers.items():
            upstream, host, port = key
            outlier = upstreams[upstream].outlier if upstream in upstreams else None
            if live.ejected_until > now:
                yield self._ejection(upstream, host, port, live)
            elif outlier is not None and live.ejections:
                calm = now - live.calm_from
                if not is_forgotten(live.ejections, calm, outlier.eject):
                    yield Ejection(upstream, host, port, 0.0, live.ejections, "", calm)
            flap = flap_of(upstream, host, port, live.penalty, live.flapped_at, now)
            if flap is not None:
                yield flap
            for level, turn in {"": live, **turns.get(key, {})}.items():
                if turn.climbs_from:
                    yield Climb(upstream, host, port, now - turn.climbs_from, level)
            if live.drains or live.full_until > now or live.has_hinted_weight:
                yield hint_of(upstream, host, port, live, now)

    def known(self) -> Iterator[Verdict]:
        """The servers that requests have put out of service, as ``IPlane.known_health``
        gives them."""
        now = self._clock.now
        for (upstream, host, port), live in self._live.servers.items():
            if live.down_until:
                down_for = min(max(0.0, live.down_until - now), 1e9)
                text = live.msg[:MAX_TEXT]
                yield Verdict(upstream, host, port, down_for, text, live.fail_num, down_for <= 0)

    def known_checked(self) -> Iterator[Heartbeat]:
        """What heartbeats have said of servers, as ``IPlane.known_checked`` gives it."""
        for (upstream, host, port), live in self._live.servers.items():
            if live.checked != "unchecked":
                yield Heartbeat(
                    upstream,
                    host,
                    port,
                    live.checked,  # type: ignore[arg-type]
                    live.checked_at,
                    live.checked_msg[:MAX_TEXT],
                    live.checked_fails,
                    dict(live.about),
                    live.history or NO_HISTORY,
                )

    def peers(self, upstream: Upstream) -> Mapping[str, ServerLive]:
        """``{"host:port": ServerLive}`` of one upstream."""
        found = {}
        for server in upstream.servers:
            live = found[server.key] = self._live.server(upstream.name, server.host, server.port)
            settle(live, self._clock.now)
            live.notes = notes_of(live, self._clock.now)
        return found

    def present(self, upstream: str, host: str, port: int) -> tuple[bool, int]:
        """Whether one server's health lets it have requests, and the requests under way."""
        live = self._live.servers.get((upstream, host, port))
        if live is None:
            return True, 0
        now = self._clock.now
        is_out = live.down_until > now or live.ejected_until > now or live.checked == "err"
        return not is_out, live.active

    def panics(self, upstreams: Iterable[Upstream]) -> dict[str, str]:
        """The upstreams that ignore health now, each with the reason."""
        now, live = self._clock.now, self._live

        def is_in_service(name: str, server: Server) -> bool:
            return is_available(live.server(name, server.host, server.port), server, now)

        notes = {up.name: panic_note(up, is_in_service) for up in upstreams if up.panic}
        return {name: note for name, note in notes.items() if note}

    def forget(self, upstream: str, gone: Collection[Place]) -> None:
        """Drop what is known of servers that an upstream, which has changed, no longer has."""
        self._live.forget(upstream, gone)
        self._index.forget([upstream])
        if self._log is not None:
            self._log.forget(upstream, gone)


def _is_available(live: ServerLive, servers: Sequence[Server], now: float) -> bool:
    """Whether one server takes requests in any of its levels."""
    if len(servers) == 1:
        return is_available(live, servers[0], now)
    return any(is_available(live, server, now) for server in servers)
