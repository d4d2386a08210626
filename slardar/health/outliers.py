"""Ejection of outliers: servers that fail or are slow where their peers are not.

Passive health goes by failures in a row of time; an outlier may answer every second request
well.  So its replies of the last seconds are counted, a 5xx among the failures:

- **Errors.**  With at least ``min_requests`` in the window, a server is ejected when the share
  of failures is over ``errors``.
- **Latency.**  Its mean time of a good reply is compared with those of the other servers of
  its level, without the tenth of the window in which its replies took longest, where both have
  ``min_requests`` good replies in the rest.  Over ``latency`` times their median, it is ejected.
- **How long.**  ``eject`` seconds, twice as long each time that it follows, at most
  :data:`LONGEST` times ``eject``.  For each ``eject`` seconds that a server is back and not
  ejected, one time is forgotten.
- **The cap.**  No server is ejected if more than ``max_share`` of the servers that take
  requests by their configuration were ejected then, or if no other one is in service.

Pure, as the rules are: the monotonic time is an argument, and the state is in the server's
``live``.  No function blocks; the request path may call all of them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from slardar.health.rules import is_wanted
from slardar.model.live import Peer, ServerLive
from slardar.model.server import Outlier, Upstream

__all__ = [
    "LONGEST",
    "Outcomes",
    "Outliers",
    "count_wanted",
    "ejection_length",
    "is_forgotten",
    "is_over",
    "note_calm",
    "note_ejected",
    "settle",
]

#: An ejection is at most so many times as long as the first one (Envoy's default, too).
LONGEST: Final = 10
#: Parts of the window, which begins anew part by part.
_PARTS: Final = 10
#: The times that are counted, at most: more would make no ejection longer.
_MOST: Final = 8


class Outcomes:
    """What became of the attempts on one server in the last ``window`` seconds."""

    __slots__ = (
        "_counts",
        "_failed",
        "_part",
        "_seconds",
        "count",
        "failed",
        "seconds",
        "window",
    )

    def __init__(self, window: float) -> None:
        self.window = window
        #: Attempts, how many of them failed, and the seconds that the others took.
        self.count = 0
        self.failed = 0
        self.seconds = 0.0
        # The same, part by part; a part's place is its number modulo their count.
        self._counts = [0] * _PARTS
        self._failed = [0] * _PARTS
        self._seconds = [0.0] * _PARTS
        #: The number of the newest part.
        self._part = 0

    def note(self, now: float, failed: bool, seconds: float) -> None:
        """An attempt that took so many seconds is over."""
        self.forget(now)
        place = self._part % _PARTS
        self._counts[place] += 1
        self.count += 1
        if failed:
            self._failed[place] += 1
            self.failed += 1
        else:
            self._seconds[place] += seconds
            self.seconds += seconds

    def forget(self, now: float) -> None:
        """Drop the parts that are too old by ``now``."""
        part = int(now * _PARTS / self.window)
        if part <= self._part:
            return
        for number in range(max(self._part, part - _PARTS) + 1, part + 1):
            place = number % _PARTS
            self._counts[place] = self._failed[place] = 0
            self._seconds[place] = 0.0
        self._part = part
        self.count, self.failed = sum(self._counts), sum(self._failed)
        # Added up anew, so that no error of rounding stays.
        self.seconds = sum(self._seconds)

    @property
    def good(self) -> int:
        """Attempts that did not fail."""
        return self.count - self.failed

    def mean(self, least: int) -> float:
        """The mean time of the good replies, without the part of the window in which they
        took longest: a moment in which something stalled says nothing of a server.

        -1 if that leaves fewer than ``least`` replies.
        """
        longest = max(self._seconds)
        place = self._seconds.index(longest)
        count = self.good - (self._counts[place] - self._failed[place])
        return max(0.0, self.seconds - longest) / count if count >= least else -1.0


class Outliers:
    """Finds the outliers of one upstream, and keeps the cap.

    ``levels`` are the peers of each level; ``wanted`` is how many servers take requests by
    their configuration.
    """

    __slots__ = ("_ejected", "_full_until", "_levels", "_next_look", "_wanted", "settings")

    def __init__(
        self, settings: Outlier, levels: Sequence[Sequence[Peer]], wanted: int, now: float
    ) -> None:
        self.settings = settings
        self._levels = levels
        self._wanted = wanted
        #: The servers that are ejected, some of which may be back; and until when the cap
        #: is reached for sure.
        self._ejected: set[ServerLive] = set()
        self._full_until = 0.0
        #: When latencies are compared again.
        self._next_look = 0.0
        for peers in levels:
            for peer in peers:
                self.look(peer.live, now)

    def look(self, live: ServerLive, now: float) -> None:
        """A server may have been ejected, or brought back, from outside."""
        self._full_until = 0.0
        if live.ejected_until > now:
            self._ejected.add(live)
        else:
            self._ejected.discard(live)

    def note(self, live: ServerLive, now: float, failed: bool, seconds: float) -> bool:
        """An attempt on the server is over.  Returns whether it has too many failures."""
        if live.ejected_until > now:
            # It was sent before, or there is nobody else to send it to.
            return False
        settings = self.settings
        outcomes: Outcomes | None = live.outcomes
        if outcomes is None or outcomes.window != settings.window:
            outcomes = live.outcomes = Outcomes(settings.window)
        outcomes.note(now, failed, seconds)
        return (
            failed
            and outcomes.count >= settings.min_requests
            and outcomes.failed > settings.errors * outcomes.count
        )

    def errors(self, live: ServerLive) -> str:
        """Why a server that has too many failures is ejected, for a person."""
        outcomes: Outcomes = live.outcomes
        return (
            f"{outcomes.failed} of {outcomes.count} requests failed in {self.settings.window:g} s"
        )

    def is_due(self, now: float) -> bool:
        """Whether latencies are to be compared: once for each part of the window, and not
        more than once a second, however many requests there are."""
        return self.settings.latency > 0 and now >= self._next_look

    def slow(self, now: float) -> list[tuple[Peer, str]]:
        """The servers that are much slower than their peers, the slowest first, each with
        the reason for a person."""
        settings = self.settings
        self._next_look = now + max(1.0, settings.window / _PARTS)
        found: list[tuple[float, Peer, str]] = []
        for peers in self._levels:
            means: list[tuple[float, int]] = []
            for position, peer in enumerate(peers):
                outcomes: Outcomes | None = peer.live.outcomes
                if outcomes is not None and peer.live.ejected_until <= now:
                    outcomes.forget(now)
                    mean = outcomes.mean(settings.min_requests)
                    if mean >= 0:
                        means.append((mean, position))
            means.sort()
            for place in range(len(means) - 1, 0, -1):
                mean, position = means[place]
                usual = _median_without(means, place)
                if mean <= settings.latency * usual:
                    # The others are quicker.
                    break
                found.append(
                    (
                        mean / max(usual, 1e-9),
                        peers[position],
                        f"its replies took {_time(mean)}, those of its peers {_time(usual)}",
                    )
                )
        found.sort(key=_how_slow, reverse=True)
        return [(peer, message) for _, peer, message in found]

    def may_eject(self, now: float) -> bool:
        """Whether the cap leaves room for one more."""
        if now < self._full_until:
            return False
        self._ejected = {live for live in self._ejected if live.ejected_until > now}
        if not is_over(len(self._ejected) + 1, self._wanted, self.settings.max_share):
            return True
        if self._ejected:
            self._full_until = min([live.ejected_until for live in self._ejected])
        return False


def _how_slow(found: tuple[float, Peer, str]) -> float:
    return found[0]


def _median_without(means: Sequence[tuple[float, int]], left_out: int) -> float:
    """The median of sorted means, without one of them."""
    count = len(means) - 1
    low, high = (count - 1) // 2, count // 2
    low += low >= left_out
    high += high >= left_out
    return (means[low][0] + means[high][0]) / 2


def _time(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"


def is_over(ejected: int, wanted: int, max_share: float) -> bool:
    """Whether so many ejected servers are more than ``max_share`` of those that take requests
    by their configuration."""
    return ejected > wanted * max_share + 1e-9


def is_forgotten(times: int, calm: float, eject: float) -> bool:
    """Whether an ejection that was over ``calm`` seconds ago makes the next one no longer."""
    return _remembered(times, calm, eject) <= 0


def _remembered(times: int, calm: float, eject: float) -> int:
    """The times that are not forgotten after ``calm`` seconds."""
    return times - int(min(calm / eject, float(_MOST)))


def ejection_length(live: ServerLive, eject: float, now: float) -> tuple[float, int]:
    """For how many seconds a server is ejected that is ejected now, and how many times this
    is, without those that are forgotten."""
    times = live.ejections
    if live.ejected_until <= now:
        times = _remembered(times, now - live.calm_from, eject)
    times = min(max(times, 0), _MOST) + 1
    return eject * min(2 ** (times - 1), LONGEST), times


def note_ejected(live: ServerLive, now: float, seconds: float, times: int, message: str) -> bool:
    """The server is ejected for ``seconds``, here or by another process; with 0 it is back.

    ``times`` is that of :func:`ejection_length`.  Returns whether this changed something.
    """
    if seconds <= 0:
        if live.ejected_until <= now:
            return False
        live.ejected_until = live.calm_from = now
        live.ejections = max(0, live.ejections - 1)
        if live.share == 1:
            # It was out for a moment only, so it need not climb.
            live.is_cold = False
        settle(live, now)
        return True
    until = now + seconds
    if until <= live.ejected_until:
        return False
    live.ejected_until = live.calm_from = until
    live.ejections = times
    live.ejected_at = time.time()
    live.ejected_msg = message
    # What it did before must not eject it again when it is back.
    live.outcomes = None
    return True


def note_calm(live: ServerLive, now: float, calm: float, times: int) -> None:
    """Another process knows an ejection that was over ``calm`` seconds ago."""
    if live.ejected_until <= now:
        live.ejections = times
        live.calm_from = now - calm


def settle(live: ServerLive, now: float) -> None:
    """End an ejection whose time is over."""
    if 0 < live.ejected_until <= now:
        live.ejected_until = 0.0
        live.ejected_msg = ""


def count_wanted(upstream: Upstream) -> int:
    """How many servers take requests by their configuration, in any level."""
    return len({(server.host, server.port) for server in upstream.servers if is_wanted(server)})
