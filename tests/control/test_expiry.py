"""Which certificates are told of because they expire, and when."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent

from slardar.control.certificate_calls import Kept
from slardar.control.certificates import checked_pair
from slardar.control.expiry import ExpiryWatch
from slardar.control.hooks import local_time
from slardar.events import CertificateExpiry
from tests.certificates import Authority

HOUR, DAY = 3600, 86400


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class Watched:
    """A watch over some certificates, and what it tells."""

    def __init__(self, *certificates: Kept, before: float) -> None:
        """It starts so many seconds before the first one expires."""
        self.certificates = list(certificates)
        self.clock = Clock()
        self.clock.advance(certificates[0].pair.expires - before)
        self.told: list[Any] = []
        self.watch = ExpiryWatch(self.clock, self._expiring, self.clock.seconds, self.told.append)
        self.watch.start()

    def _expiring(self, until: float) -> list[Kept]:
        return [one for one in self.certificates if one.pair.expires <= until]

    def pass_hours(self, count: int) -> list[tuple[float, str]]:
        """The hours until the first expiry at which an event came, and its state."""
        found = []
        for _ in range(count):
            self.clock.advance(HOUR)
            left = (self.certificates[0].pair.expires - self.clock.seconds()) / HOUR
            found += [(left, one.state) for one in self.told]
            self.told.clear()
        return found


def kept(authority: Authority, name: str = "a", days: float = 90) -> Kept:
    """A certificate that is valid for so many days."""
    begins = timedelta(hours=-1)
    files = authority.issue(name, (f"{name}.example",), begins=begins, ends=timedelta(days=days))
    return Kept(name, checked_pair(f"store: {name}", *(one.read_text() for one in files)), "store")


def test_certificate_that_expires_is_told_of_in_stages(authority: Authority) -> None:
    """14 days, 3 days and 1 day before, and when it has expired; each once, in the log and as an
    event."""
    one = kept(authority)
    watched = Watched(one, before=20 * DAY)
    with capturedLogs() as logged:
        found = watched.pass_hours(21 * 24)
    assert found == [
        (14 * 24, "expiring"),
        (3 * 24, "expiring"),
        (24, "expiring"),
        (0, "expired"),
    ]
    when = local_time(one.pair.expires)
    assert [formatEvent(event) for event in logged] == [
        *[f"the certificate a for a.example expires {when}"] * 3,
        f"the certificate a for a.example has expired: {when}",
    ]


def test_start_tells_of_what_has_come_near(authority: Authority) -> None:
    """Once, and again after it was renewed for a short time only."""
    one = kept(authority)
    watched = Watched(one, before=2 * DAY)
    assert watched.told == [CertificateExpiry("a", "expiring", one.pair.expires)]
    watched.told.clear()
    assert watched.pass_hours(3) == []
    watched.certificates = [kept(authority, days=200)]
    assert watched.pass_hours(48) == []
    watched.watch.stop()
    assert watched.clock.getDelayedCalls() == []


def test_certificate_that_is_valid_for_a_week_is_told_of_later(authority: Authority) -> None:
    """In proportion: after two thirds of its time."""
    watched = Watched(kept(authority, days=6), before=6 * DAY)
    found = watched.pass_hours(6 * 24 + 1)
    assert [state for _, state in found] == [*["expiring"] * 3, "expired"]
    lefts = [left for left, _ in found]
    assert [48 >= lefts[0] > 46, 10.4 >= lefts[1] > 9, 3.5 >= lefts[2] > 2] == [True] * 3


def test_many_are_told_of_some_at_a_time(authority: Authority) -> None:
    """The log says how many there are beside; each is told of in the end."""
    pair = kept(authority).pair
    many = [Kept(f"c{number}", pair, "store") for number in range(50)]
    with capturedLogs() as logged:
        watched = Watched(*many, before=2 * DAY)
        counts = [len(watched.told)]
        for _ in range(3):
            watched.told.clear()
            watched.clock.advance(HOUR)
            counts.append(len(watched.told))
    assert counts == [20, 20, 10, 0]
    lines = [str(formatEvent(event)) for event in logged]
    assert [line for line in lines if "more" in line] == [
        "30 more certificates expire soon, or have expired",
        "10 more certificates expire soon, or have expired",
    ]
