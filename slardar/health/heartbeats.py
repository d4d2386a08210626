"""Active health: what the results of heartbeats say about the servers of an upstream.

The rules are lua-resty-checkups', with ``rise`` beside ``sensibility``.  They are pure: results
and times are arguments.  Whoever sends heartbeats hands the results in, one at a time, in
the order in which they came; the results and their order decide everything.

- **Counting.**  ``fail_num`` counts results in a row that are not ``ok``.  With
  ``sensibility`` of them, the status becomes that of the last result.  Fewer change nothing.
- **Failed.**  A server whose status became ``err`` has failed.  It gets no requests until
  ``rise`` results in a row are no ``err``; then its status is that of the last result.
- **Flapping.**  A server that fails again and again, and comes back in between, is brought back
  later from the third time on (:mod:`slardar.health.flaps`); at once if no wanted server of
  the upstream is left.
- **Unstable.**  A server that a probe calls ``unstable`` answers, so it stays in service.
- **Protected.**  If all wanted servers of an upstream have failed, levels and named clusters
  included, the one that failed last stays in service as ``unstable``.  When another server
  comes back, it becomes ``err``.  With ``protected`` false it is ``err`` at once.

A server is *wanted* if it is configured to take requests.  A server that is ``down``
gets no heartbeats, and is ``unchecked``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from slardar.health.flaps import held_for, penalty_after
from slardar.health.probes.base import Result
from slardar.health.rules import is_wanted
from slardar.health.shared import Place
from slardar.health.verdicts import MAX_TEXT, NO_HISTORY, Heartbeat, History, Status
from slardar.model.server import Upstream

__all__ = ["Beat", "Beats", "places_to_check"]


class Beat:
    """What heartbeats know of one server of an upstream."""

    __slots__ = (
        "about",
        "fail_num",
        "fail_timeout",
        "failed_at",
        "flapped_at",
        "goods",
        "has_failed",
        "held_until",
        "host",
        "message",
        "penalty",
        "port",
        "since",
        "status",
        "wanted",
    )

    def __init__(self, host: str, port: int, now: float) -> None:
        self.host = host
        self.port = port
        self.status: Status = "unchecked"
        #: Since when it has this status, in epoch seconds.
        self.since = now
        #: What was wrong with the last result that was not ``ok``; empty if all is well.
        self.message = ""
        #: What the server said of itself the last time.
        self.about: Mapping[str, str | int] = {}
        #: Results in a row that were not ``ok``, and results in a row that were no ``err``.
        self.fail_num = 0
        self.goods = 0
        #: Whether its results keep it out of service, and its number among the failures of
        #: the upstream.
        self.has_failed = False
        self.failed_at = 0
        self.wanted = True
        #: Flap damping (:mod:`slardar.health.flaps`), in epoch seconds: the penalty when it
        #: failed last, at ``flapped_at``; and until when good results do not bring it back.
        self.fail_timeout = 0.0
        self.penalty = 0.0
        self.flapped_at = 0.0
        self.held_until = 0.0

    def __repr__(self) -> str:
        return f"<Beat {self.host}:{self.port} {self.status} fail_num={self.fail_num}>"

    def verdict(self, upstream: str) -> Heartbeat:
        """What other processes and the status are told."""
        return Heartbeat(
            upstream,
            self.host,
            self.port,
            self.status,
            self.since,
            self.message[:MAX_TEXT],
            self.fail_num,
            dict(self.about),
            self._history() if self.penalty else NO_HISTORY,
        )

    def _history(self) -> History:
        goods = self.goods if self.has_failed else 0
        return History(self.has_failed, goods, self.penalty, self.flapped_at, self.held_until)

    def remember(self, history: History) -> None:
        """Go on with what another process remembers."""
        self.has_failed = self.status == "err" or history.has_failed
        self.goods = history.goods
        self.penalty = history.penalty
        self.flapped_at = history.flapped_at
        self.held_until = history.held_until

    def is_back(self, rise: int) -> bool:
        """Whether its results are good enough to bring it back."""
        return self.has_failed and self.goods >= rise

    def set_status(self, status: Status, now: float) -> None:
        if status != self.status:
            self.status = status
            self.since = now


class Beats:
    """The heartbeats of one upstream.  ``now`` is in epoch seconds everywhere."""

    __slots__ = ("_failures", "_kept", "_protected", "_rise", "_sensibility", "_serving", "servers")

    def __init__(self, upstream: Upstream, now: float) -> None:
        #: The servers that get heartbeats, by host and port, in the configured order.
        self.servers: dict[Place, Beat] = {}
        #: How many wanted servers have not failed.  To count them for each result would
        #: cost too much in an upstream of 10,000 servers.
        self._serving = 0
        #: The server that has failed and stays in service all the same.
        self._kept: Beat | None = None
        #: How often a server of the upstream has failed.
        self._failures = 0
        self.take(upstream, now)

    def take(self, upstream: Upstream, now: float) -> list[Beat]:
        """Use the servers and rules of ``upstream`` from now on.

        Servers that it had before keep what is known of them.  Returns the servers whose
        status this has changed.
        """
        self._sensibility = upstream.sensibility
        self._rise = upstream.rise
        self._protected = upstream.protected
        before = self.servers
        self.servers = {}
        timeouts: dict[Place, float] = {}
        for server in upstream.servers:
            place = (server.host, server.port)
            timeouts[place] = max(timeouts.get(place, 0.0), server.fail_timeout)
        for place, wanted in places_to_check(upstream).items():
            beat = self.servers[place] = before.get(place) or Beat(*place, now)
            beat.wanted = wanted
            beat.fail_timeout = timeouts[place]
        return self._settle(now)

    def know(self, verdict: Heartbeat) -> None:
        """Begin with what another process knew of a server; :meth:`settle` comes after the
        last one."""
        beat = self.servers.get((verdict.host, verdict.port))
        if beat is not None:
            beat.status = verdict.status
            beat.since = verdict.since
            beat.message = verdict.message
            beat.about = verdict.about
            beat.fail_num = verdict.fail_num
            beat.remember(verdict.history)
            if beat.has_failed and beat.status == "unstable":
                self._kept = beat

    def settle(self, now: float) -> list[Beat]:
        """Look at all servers anew.  Returns those whose status this has changed."""
        return self._settle(now)

    def note(self, place: Place, result: Result, now: float) -> list[Beat]:
        """A heartbeat has ended.  Returns the servers of which there is something new.

        Without effect if the upstream does not have the server, or does not check it.
        """
        beat = self.servers.get(place)
        if beat is None:
            return []
        before = self._told(beat)
        others = self._count(beat, result, now)
        if self._told(beat) != before:
            others.append(beat)
        return others

    def _told(self, beat: Beat) -> tuple[object, ...]:
        """What is something new when it changes."""
        goods = min(beat.goods, self._rise) if beat.has_failed else 0
        return beat.status, beat.fail_num, beat.message, beat.about, goods

    def _count(self, beat: Beat, result: Result, now: float) -> list[Beat]:
        """Take a result; returns the other servers that it has changed."""
        status = result.status
        if result.about or status == "ok":
            beat.about = result.about
        if status == "err":
            beat.goods = 0
        else:
            beat.goods += 1
        if status == "ok":
            beat.fail_num = 0
        else:
            beat.fail_num += 1
            beat.message = result.message
        if status == "err":
            if beat.fail_num >= self._sensibility and not beat.has_failed:
                return self._failed(beat, now)
            return []
        if beat.has_failed:
            if not beat.is_back(self._rise):
                return []
            if now < beat.held_until and self._serving:
                beat.message = "it fails again and again: held back, though it answers now"
                return []
            return self._came_back(beat, status, now)
        if status == "ok":
            beat.message = ""
        if status == "ok" or beat.fail_num >= self._sensibility:
            beat.set_status(status, now)
        return []

    def _failed(self, beat: Beat, now: float) -> list[Beat]:
        """The server goes out of service; returns the other servers that this has changed."""
        self._failures += 1
        beat.penalty = penalty_after(beat.penalty, beat.flapped_at, now)
        beat.flapped_at = now
        beat.held_until = now + held_for(beat.penalty, beat.fail_timeout)
        beat.has_failed = True
        beat.failed_at = self._failures
        if beat.wanted:
            self._serving -= 1
            back = None if self._serving else self._held_back()
            if back is not None:
                self._came_back(back, "ok", now)
                beat.set_status("err", now)
                return [back]
            if self._protected and not self._serving:
                self._kept = beat
                beat.set_status("unstable", now)
                return []
        beat.set_status("err", now)
        return []

    def _held_back(self) -> Beat | None:
        """A wanted server that answers and is held back only because it failed too often."""
        for beat in self.servers.values():
            if beat.wanted and beat.is_back(self._rise):
                return beat
        return None

    def _came_back(self, beat: Beat, status: Status, now: float) -> list[Beat]:
        beat.has_failed = False
        beat.set_status(status, now)
        if status == "ok":
            beat.message = ""
        if not beat.wanted:
            return []
        self._serving += 1
        kept, self._kept = self._kept, None
        if kept is None or kept is beat:
            return []
        kept.set_status("err", now)
        return [kept]

    def _settle(self, now: float) -> list[Beat]:
        wanted = [beat for beat in self.servers.values() if beat.wanted]
        failed = [beat for beat in self.servers.values() if beat.has_failed]
        self._serving = sum(not beat.has_failed for beat in wanted)
        kept: Beat | None = None
        if self._protected and not self._serving and wanted:
            # Of servers that failed at the same time, as far as is known, the first one.
            kept = max(wanted, key=lambda beat: (beat is self._kept, beat.failed_at))
        self._kept = kept
        changed = []
        for beat in failed:
            status: Status = "unstable" if beat is kept else "err"
            if beat.status != status:
                beat.set_status(status, now)
                changed.append(beat)
        return changed

    def __iter__(self) -> Iterator[Beat]:
        return iter(self.servers.values())


def places_to_check(upstream: Upstream) -> dict[Place, bool]:
    """The servers that get heartbeats, in the configured order, each with whether it is
    wanted: in one of its levels at least."""
    places: dict[Place, bool] = {}
    if upstream.enable:
        for server in upstream.servers:
            if server.state != "down":
                place = (server.host, server.port)
                places[place] = places.get(place, False) or is_wanted(server)
    return places
