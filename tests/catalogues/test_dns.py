"""Services in DNS: what SRV records mean, and when they are looked up, with a clock and answers of
the test."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock

from slardar.catalogues.base import Failed, Listing, Report
from slardar.catalogues.dns import SCALE, DnsCatalogue, listing_of
from slardar.dns import ServiceRecord, ServiceReply
from slardar.model.service import Listed, parse_service
from slardar.repeated import AGAIN, AGAIN_MOST, FILES, LONGEST, SHORTEST

ORIGIN = ("dns_service", "_http._tcp.web.example")
A, B = Listed("a.example.", 80), Listed("b.example.", 80)


def record(target: str, port: int = 80, priority: int = 0, weight: int = 0) -> ServiceRecord:
    return ServiceRecord(priority, weight, port, target)


def weights(*given: int) -> list[int]:
    """The weights that servers of one priority get."""
    records = [record(f"s{n}.example", n + 1, 5, weight) for n, weight in enumerate(given)]
    listing = listing_of(records)
    assert isinstance(listing, Listing)
    (level,) = listing.levels
    return [server.weight for server in sorted(level, key=lambda server: server.port)]


def test_priorities_are_levels() -> None:
    """The lowest number comes first; the order of the records does not matter."""
    records = [
        record("c.example", 82, 20, 1),
        record("b.example", 81, 10, 3),
        record("a.example", 81, 10, 2),
        record("b.example", 81, 20, 7),
    ]
    levels = (
        (Listed("a.example.", 81, 2), Listed("b.example.", 81, 3)),
        (Listed("b.example.", 81, 7), Listed("c.example.", 82, 1)),
    )
    assert listing_of(records) == Listing(levels) == listing_of(reversed(records))


@pytest.mark.parametrize(
    ("given", "found"),
    [
        ((10, 30), [10, 30]),
        ((0,), [1]),
        ((0, 0, 0), [1, 1, 1]),
        ((1, 0), [SCALE, 1]),
        ((65535, 0, 3), [65535 * SCALE, 1, 3 * SCALE]),
    ],
)
def test_weights(given: tuple[int, ...], found: list[int]) -> None:
    """A weight of 0 has the smallest share, and all of them alone have equal ones."""
    assert weights(*given) == found


def test_server_that_is_named_twice() -> None:
    """A list names a server once: it has both weights."""
    listing = listing_of([record("a.example", weight=3), record("a.example", weight=4)])
    assert listing == Listing(((Listed("a.example.", 80, 7),),))


def test_root_means_that_there_is_none() -> None:
    """Only alone; beside other records it means nothing (RFC 2782)."""
    assert listing_of([record("", 0)]) == Listing((), True)
    assert listing_of([record("", 0), record("a.example")]) == Listing(((A,),))
    assert listing_of([]) == Listing(())


def test_records_that_cannot_be_used() -> None:
    """They are left out, with a note; an answer that has no others is no answer."""
    wrong = [record("a b.example"), record("a.example", 0), record(f"{'x' * 64}.example")]
    listing = listing_of([*wrong, record("b.example")])
    assert isinstance(listing, Listing)
    assert listing.levels == ((B,),)
    assert listing.note.startswith("3 of the records cannot be used: a b.example:80, a.example:0")
    failed = listing_of(wrong)
    assert failed == Failed(listing.note)


def test_address_as_a_target() -> None:
    """Some name servers list addresses; an address has no dot at its end."""
    listing = listing_of([record("10.0.0.1"), record("2001:db8::1")])
    assert isinstance(listing, Listing)
    assert {server.host for server in listing.levels[0]} == {"10.0.0.1", "2001:db8::1"}


@given(
    st.lists(
        st.builds(
            ServiceRecord,
            st.integers(0, 65535),
            st.integers(0, 65535),
            st.integers(0, 65535),
            st.text(max_size=20),
        ),
        max_size=20,
    )
)
def test_every_answer_makes_an_upstream_or_says_why_not(records: list[ServiceRecord]) -> None:
    """Whatever a name server sends: nothing is refused later."""
    listing = listing_of(records)
    if isinstance(listing, Failed):
        assert "\n" not in listing.reason
    else:
        upstream = parse_service("a", {"dns_service": "a"}, "a").upstream(listing.levels)
        assert len(upstream.servers) == sum(map(len, listing.levels))
        assert all(server.weight > 0 for server in upstream.servers)


class Asked(Deferred[ServiceReply]):
    """A lookup that the test answers."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


class Reactor(Clock):
    """A clock with lookups that the test answers."""

    def __init__(self) -> None:
        super().__init__()
        self.lookups: list[Asked] = []
        self.files_change = False

    def look_up_service(self, name: str) -> Asked:
        self.lookups.append(Asked(name))
        return self.lookups[-1]

    def has_changed(self) -> bool:
        changed, self.files_change = self.files_change, False
        return changed

    def stop(self) -> None:
        """Nothing to do."""

    def answer(self, *records: ServiceRecord, ttl: float = 20.0, reason: str = "") -> None:
        self.lookups.pop(0).callback(ServiceReply(list(records), ttl, reason))

    def seconds_until_next(self) -> float:
        """The seconds until the next lookup, for which it waits."""
        began = self.seconds()
        while not self.lookups:
            self.advance(0.5)
        return self.seconds() - began


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


def followed(reactor: Reactor) -> tuple[DnsCatalogue, list[Report]]:
    """A catalogue with one service, and what is told of it."""
    told: list[Report] = []
    catalogue = DnsCatalogue(reactor, reactor, lambda: 0.0)
    catalogue.follow(ORIGIN, told.append)
    return catalogue, told


def test_records_are_looked_up_when_their_time_is_over(reactor: Reactor) -> None:
    """Within the bounds that names have; each answer is told."""
    _, told = followed(reactor)
    assert [lookup.name for lookup in reactor.lookups] == [ORIGIN[1]]
    for ttl, seconds in ((20.0, 20.0), (0.0, SHORTEST), (86400.0, LONGEST)):
        reactor.answer(record("a.example"), ttl=ttl)
        assert reactor.seconds_until_next() == seconds
    assert told == [Listing(((A,),))] * 3
    reactor.answer(record("", 0), ttl=50.0)
    assert reactor.seconds_until_next() == 50.0


@pytest.mark.parametrize("reason", ["", "no answer"])
def test_nothing_is_asked_for_again_soon(reactor: Reactor, reason: str) -> None:
    """No record and no answer, each as what it is; a record begins anew."""
    _, told = followed(reactor)
    pauses = []
    for _ in range(6):
        reactor.answer(reason=reason)
        pauses.append(reactor.seconds_until_next())
    assert pauses == [AGAIN, 2.0, 4.0, 8.0, AGAIN_MOST, AGAIN_MOST]
    assert told == [Failed(reason) if reason else Listing(())] * 6
    reactor.answer(record("a.example"))
    reactor.seconds_until_next()
    reactor.answer(reason=reason)
    assert reactor.seconds_until_next() == AGAIN


def test_unfollowed_service_is_looked_up_no_more(reactor: Reactor) -> None:
    """Nor does an answer that is under way count."""
    catalogue, told = followed(reactor)
    catalogue.unfollow(ORIGIN)
    assert reactor.lookups.pop().called
    catalogue.follow(ORIGIN, told.append)
    catalogue.stop()
    assert told == []
    assert reactor.getDelayedCalls() == []


def test_changed_files_ask_at_once(reactor: Reactor) -> None:
    """Another name server may be meant."""
    _, told = followed(reactor)
    reactor.answer(record("a.example"), ttl=60.0)
    reactor.files_change = True
    assert reactor.seconds_until_next() == FILES
    reactor.answer(record("b.example"))
    assert told[-1] == Listing(((B,),))


def test_lookup_with_a_bug_is_a_failure(reactor: Reactor, monkeypatch: Any) -> None:
    """The service is looked up again."""

    def look_up(_: str) -> Any:
        raise UnicodeError("label too long")

    monkeypatch.setattr(reactor, "look_up_service", look_up)
    _, told = followed(reactor)
    assert told == [Failed("UnicodeError: label too long")]
