"""Certificates that are about to expire: the log and an event say so, a bounded number at a time.

Only those in use count.  Each is told of 14 days before it expires, 3 days and 1 day before, and
when it has expired.  One that is valid for less than six weeks is told of later, in proportion:
whoever issues certificates for a week renews them in days.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.logger import Logger

from slardar.control.certificate_calls import Kept
from slardar.control.hooks import local_time
from slardar.events import CertificateExpiry, Publish
from slardar.model.certificate import described

__all__ = ["ExpiryWatch"]

_DAY: Final = 86400
#: Seconds before the expiry, in order.
_STAGES: Final = (14 * _DAY, 3 * _DAY, _DAY, 0)
#: Seconds of validity from which on the stages hold as they are.
_USUAL: Final = 42 * _DAY
#: Seconds between two looks.
_PERIOD: Final = 3600.0
#: Certificates that one look tells of; the next one tells of others.
_AT_ONCE: Final = 20

_log = Logger("slardar.control")


class ExpiryWatch:
    """Looks at certificates again and again.

    ``expiring`` gives those in use that expire until a time, ``reactor`` gives turns, ``clock``
    epoch seconds.
    """

    def __init__(
        self,
        reactor: Any,
        expiring: Callable[[float], Sequence[Kept]],
        clock: Callable[[], float],
        publish: Publish,
    ) -> None:
        self._reactor = reactor
        self._expiring = expiring
        self._clock = clock
        self._publish = publish
        #: How many stages were told of, by name and expiry.
        self._told: dict[tuple[str, int], int] = {}
        self._call: Any = None

    def start(self) -> None:
        """Look now, and every hour."""
        self._look()

    def stop(self) -> None:
        """Look no more."""
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _look(self) -> None:
        now = self._clock()
        told, self._told = self._told, {}
        left = _AT_ONCE
        waiting = 0
        for one in self._expiring(now + _STAGES[0]):
            place = one.name, one.pair.expires
            before = told.get(place, 0)
            stage = _stage(one, now)
            if stage > before and not left:
                waiting += 1
                stage = before
            elif stage > before:
                left -= 1
                self._tell(one, now)
            if stage:
                self._told[place] = stage
        if waiting:
            _log.warn("{count} more certificates expire soon, or have expired", count=waiting)
        self._call = self._reactor.callLater(_PERIOD, self._look)

    def _tell(self, one: Kept, now: float) -> None:
        expires = one.pair.expires
        has_expired = expires <= now
        _log.warn(
            "the certificate {name} for {hosts} {verb} {when}",
            name=one.name,
            hosts=", ".join(one.pair.names[:3]),
            verb="has expired:" if has_expired else "expires",
            when=local_time(expires),
        )
        state = "expired" if has_expired else "expiring"
        self._publish(CertificateExpiry(one.name, state, expires))  # type: ignore[arg-type]


def _stage(one: Kept, now: float) -> int:
    """How many stages are over."""
    left = one.pair.expires - now
    valid = one.pair.expires - described(one.pair.cert).not_before
    share = min(1.0, valid / _USUAL)
    return sum(left <= share * stage for stage in _STAGES)
