"""What is followed of services, and when their servers change, with a clock and a catalogue of the
test."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from slardar.catalogues.base import Listing
from slardar.catalogues.watch import (
    BURST,
    LONGEST,
    PAUSE,
    KnownService,
    ServiceState,
    ServiceWatch,
    with_missing,
)
from slardar.model.service import Levels, Listed
from slardar.resolve import FIRST
from tests.catalogues.kit import HandCatalogue, one_level, service_of

#: The grace of the services here, in seconds.
GRACE = 30.0


class Watched(ServiceWatch):
    """Follows services in a catalogue of the test, and notes what it tells."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.catalogue = HandCatalogue()
        super().__init__(self.clock, {"dns_service": self.catalogue})
        self.tellings: list[list[str]] = []
        self.changed = lambda names: self.tellings.append(sorted(names))

    def follows(self, *services: Any) -> None:
        self.follow({service.name: service for service in services})

    def told(self) -> list[list[str]]:
        """What has been told since the last look, once all that was gathered is told."""
        self.clock.advance(PAUSE)
        told, self.tellings = self.tellings, []
        return told


@pytest.fixture
def watch() -> Watched:
    return Watched()


@pytest.fixture
def log() -> Iterator[list[str]]:
    """The texts of what it logs."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_namespace"] == "slardar.catalogues":
            lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


A, B = service_of("a", empty_grace=GRACE), service_of("b", empty_grace=GRACE)


def test_servers_are_those_listed_last(watch: Watched) -> None:
    """Nothing is known before; what does not change is not told."""
    watch.follows(A)
    assert watch.levels(A) is None
    watch.catalogue.lists("a", 1, 2)
    assert watch.told() == [["a"]]
    watch.catalogue.lists("a", 1, 2)
    assert watch.told() == []
    watch.catalogue.lists("a", 2)
    assert watch.told() == [["a"]]
    assert watch.levels(A) == one_level(2)
    assert watch.levels(service_of("never")) is None


def test_first_change_is_told_at_once(watch: Watched) -> None:
    """So are some more of them, if they come one after the other."""
    watch.follows(A)
    for port in range(1, BURST + 1):
        watch.catalogue.lists("a", port)
        assert watch.tellings == [["a"]] * (port - 1)
        watch.clock.advance(0)
        assert watch.tellings == [["a"]] * port


def test_storm_is_told_a_few_times(watch: Watched) -> None:
    """However many answers come for however many services, and the last ones are told, too."""
    names = [f"s{number}" for number in range(50)]
    services = [service_of(name) for name in names]
    watch.follows(*services)
    for number in range(1000):
        watch.catalogue.lists(names[number % 50], *range(1, 2 + number // 50))
        watch.clock.advance(0.002)
    watch.clock.advance(LONGEST)
    told = watch.told()
    assert len(told) <= BURST + 2.0 / LONGEST + 3
    assert sorted({name for names in told for name in names}) == sorted(names)
    assert {watch.levels(service) for service in services} == {one_level(*range(1, 21))}
    # A quiet time later a change is told at once again.
    watch.clock.advance(2 * LONGEST)
    watch.catalogue.lists("s7", 1)
    watch.clock.advance(0)
    assert watch.tellings == [["s7"]]


def test_failure_takes_nothing_away(watch: Watched, log: list[str]) -> None:
    """The status says since when and why, the log once."""
    watch.follows(A)
    watch.catalogue.lists("a", 1)
    assert watch.told() == [["a"]]
    before = time.time()
    for reason in ("no answer", "refused"):
        watch.catalogue.fails("a", reason)
        watch.clock.advance(100 * GRACE)
    assert watch.told() == []
    assert watch.levels(A) == one_level(1)
    state = watch.shown()["a"]
    assert (state.reason, state.empty_at) == ("refused", 0.0)
    assert before <= state.failed_at <= state.looked_up_at <= time.time()
    watch.catalogue.lists("a", 1)
    assert (watch.shown()["a"].failed_at, watch.told()) == (0.0, [])
    assert log == ["dns_service a: no answer", "dns_service a: is answered again"]


def test_empty_answer_keeps_the_servers_for_the_grace(watch: Watched) -> None:
    """Failures do not prolong it, and other empty answers do not either."""
    watch.follows(A)
    watch.catalogue.lists("a", 1)
    watch.told()
    watch.catalogue.lists("a")
    watch.told()
    assert watch.levels(A) == one_level(1)
    assert watch.shown()["a"].empty_at > 0
    watch.clock.advance(GRACE / 2)
    watch.catalogue.lists("a")
    watch.catalogue.fails("a")
    watch.clock.advance(GRACE / 2 - 3 * PAUSE)
    assert (watch.told(), watch.levels(A)) == ([], one_level(1))
    watch.clock.advance(PAUSE)
    assert (watch.told(), watch.levels(A)) == ([["a"]], ())
    watch.catalogue.lists("a", 1)
    assert (watch.told(), watch.levels(A)) == ([["a"]], one_level(1))
    assert watch.shown()["a"].empty_at == 0
    watch.clock.advance(2 * GRACE)
    assert watch.told() == []


def test_servers_that_come_back_within_the_grace(watch: Watched) -> None:
    """They were never away."""
    watch.follows(A)
    watch.catalogue.lists("a", 1)
    watch.catalogue.lists("a")
    watch.clock.advance(GRACE - 1)
    watch.catalogue.lists("a", 1)
    watch.told()
    watch.clock.advance(2)
    assert (watch.told(), watch.levels(A)) == ([], one_level(1))


def test_grace_of_nothing_and_what_is_meant(watch: Watched) -> None:
    """With ``empty_grace`` 0, and when the catalogue means it, the servers are gone at once."""
    hasty = service_of("hasty", "a", empty_grace=0)
    watch.follows(A, hasty)
    watch.catalogue.lists("a", 1)
    watch.told()
    watch.catalogue.lists("a")
    assert (watch.told(), watch.levels(hasty), watch.levels(A)) == (
        [["a", "hasty"]],
        (),
        one_level(1),
    )
    watch.catalogue.means_none("a")
    assert (watch.told(), watch.levels(A)) == ([["a", "hasty"]], ())


# Fewer than half of the servers.


def ports(watch: Watched, service: Any = A) -> dict[int, int | None]:
    """The servers that a service has, with ``max_fails`` of those that say it."""
    found = watch.levels(service)
    assert found is not None
    return {one.port: one.max_fails for level in found for one in level}


def test_sudden_loss_of_more_than_half(watch: Watched, log: list[str]) -> None:
    """The missing servers stay for the grace, and the first failure of one of them counts."""
    watch.follows(A)
    watch.catalogue.lists("a", 1, 2, 3, 4, 5)
    watch.told()
    watch.catalogue.lists("a", 1, 2)
    assert watch.told() == [["a"]]
    assert ports(watch) == {1: None, 2: None, 3: 1, 4: 1, 5: 1}
    assert watch.shown()["a"].halved_at > 0
    watch.clock.advance(GRACE - 3 * PAUSE)
    watch.catalogue.fails("a")
    assert (watch.told(), len(ports(watch))) == ([], 5)
    watch.clock.advance(2 * PAUSE)
    assert (watch.told(), ports(watch)) == ([["a"]], {1: None, 2: None})
    assert watch.shown()["a"].halved_at == 0
    # What is listed counts as the whole from now on.
    watch.catalogue.lists("a", 2)
    watch.told()
    assert ports(watch) == {2: None}
    assert log[0] == "dns_service a: lists 2 servers and had 5; the others stay for a while"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((1, 2), (1,)),
        ((1, 2, 3, 4), (1, 2)),
        ((1, 2, 3), (1, 2)),
        # All are replaced, by more of them or by half as many.
        ((1, 2, 3, 4), (5, 6, 7, 8)),
        ((1, 2, 3, 4), (5, 6)),
        ((1,), (2,)),
    ],
)
def test_loss_that_is_no_accident(
    watch: Watched, before: tuple[int, ...], after: tuple[int, ...]
) -> None:
    """Half of the servers are still there, or others in their place: the old ones go at once."""
    watch.follows(A)
    watch.catalogue.lists("a", *before)
    watch.catalogue.lists("a", *after)
    assert watch.levels(A) == one_level(*after)
    assert watch.shown()["a"].halved_at == 0


def test_new_servers_are_taken_at_once(watch: Watched) -> None:
    """All old ones leave, and new ones come one by one: at half as many the old ones go."""
    watch.follows(A)
    watch.catalogue.lists("a", 1, 2, 3, 4, 5)
    watch.catalogue.lists("a")
    watch.catalogue.lists("a", 11)
    assert ports(watch) == {11: None, **dict.fromkeys(range(1, 6), 1)}
    watch.catalogue.lists("a", 11, 12)
    assert len(ports(watch)) == 7
    watch.catalogue.lists("a", 11, 12, 13)
    assert ports(watch) == {11: None, 12: None, 13: None}


def test_servers_that_come_back_are_as_before(watch: Watched) -> None:
    """One by one, and as soon as half of them are back the others are believed to be gone."""
    watch.follows(A)
    watch.catalogue.lists("a", 1, 2, 3, 4, 5)
    watch.catalogue.lists("a", 1)
    watch.catalogue.lists("a", 2, 1)
    assert ports(watch) == {1: None, 2: None, 3: 1, 4: 1, 5: 1}
    watch.catalogue.lists("a", 1, 2, 4)
    assert ports(watch) == {1: None, 2: None, 4: None}


def test_all_that_is_missing_goes_at_once(watch: Watched) -> None:
    """At the end of the grace of the first that went, so churn prolongs nothing."""
    watch.follows(A)
    watch.catalogue.lists("a", *range(1, 11))
    watch.catalogue.lists("a", 1, 2, 3)
    watch.clock.advance(GRACE - 1)
    watch.catalogue.lists("a", 1, 2)
    assert len(ports(watch)) == 10
    watch.clock.advance(1)
    assert set(ports(watch)) == {1, 2}
    watch.catalogue.lists("a", 1, 2, 3)
    assert set(ports(watch)) == {1, 2, 3}
    watch.catalogue.lists("a", 1)
    assert set(ports(watch)) == {1, 2, 3}


def test_halved_service_with_another_grace(watch: Watched) -> None:
    """Each service has its own, and 0 believes the catalogue at once."""
    hasty = service_of("hasty", "a", empty_grace=0)
    watch.follows(A, hasty)
    watch.catalogue.lists("a", 1, 2, 3)
    watch.catalogue.lists("a", 1)
    assert (set(ports(watch)), set(ports(watch, hasty))) == ({1, 2, 3}, {1})
    assert watch.shown()["hasty"].halved_at == 0 < watch.shown()["a"].halved_at


def test_server_that_drains_is_no_loss(watch: Watched) -> None:
    """It was about to leave: it does not stay, and does not count as one that was there."""

    def lists(*servers: Listed) -> None:
        watch.catalogue.told["a"](Listing((servers,) if servers else ()))

    old = [Listed("127.0.0.1", port) for port in range(1, 6)]
    leaving = [Listed("127.0.0.1", port, state="drain") for port in range(1, 6)]
    new = [Listed("127.0.0.1", port) for port in (11, 12)]
    watch.follows(A)
    lists(*old, *new)
    lists(*leaving, *new)
    assert watch.levels(A) == ((*leaving, *new),)
    lists(*new)
    assert watch.levels(A) == (tuple(new),)
    lists(*leaving[:3], *new)
    lists()
    assert watch.levels(A) == (tuple(new),)


@pytest.mark.parametrize(
    ("may_fail", "said", "found"), [(0, None, 1), (0, 0, 1), (0, 5, 5), (3, None, None), (3, 0, 1)]
)
def test_probation_of_a_missing_server(may_fail: int, said: int | None, found: int | None) -> None:
    """What the service or the catalogue says of failures holds, unless it is that none counts."""
    whole = ((Listed("127.0.0.1", 1), Listed("127.0.0.1", 2, max_fails=said)),)
    (level,) = with_missing(whole, one_level(1), may_fail)
    assert level[1].max_fails == found
    # Where no other server is listed, nothing changes.
    assert with_missing(whole, (), may_fail) == whole


def test_missing_servers_stay_in_their_level() -> None:
    """The servers of a lower level do not serve beside them."""

    def level(*found: int) -> Any:
        return tuple(Listed("127.0.0.1", port, max_fails=9) for port in found)

    whole: Levels = (level(1, 2, 3), level(7))
    assert with_missing(whole, (level(7),), 0) == whole
    assert with_missing(whole, (level(7, 8), level(1)), 0) == (level(1, 2, 3, 8), level(7))
    assert with_missing((level(1),), (level(2), level(3), level(4)), 0) == (
        level(1, 2),
        level(3),
        level(4),
    )


def test_halved_service_in_another_process(watch: Watched) -> None:
    """The grace goes on there."""
    watch.follows(A)
    watch.catalogue.lists("a", 1, 2, 3)
    watch.catalogue.lists("a", 1)
    watch.clock.advance(GRACE - 1)
    heir = Watched()
    heir.learn(watch.known())
    heir.follows(A)
    assert set(ports(heir)) == {1, 2, 3}
    assert heir.shown()["a"].halved_at > 0 == heir.shown()["a"].empty_at
    heir.catalogue.lists("a", 1)
    heir.clock.advance(1)
    assert set(ports(heir)) == {1}


def test_edit_of_the_grace_counts_at_once(watch: Watched) -> None:
    """Also while the service is empty."""
    watch.follows(A)
    watch.catalogue.lists("a", 1)
    watch.catalogue.lists("a")
    watch.clock.advance(10)
    watch.told()
    shorter = service_of("a", empty_grace=12)
    watch.follows(shorter)
    watch.told()
    assert watch.levels(shorter) == one_level(1)
    watch.clock.advance(2)
    assert (watch.told(), watch.levels(shorter)) == ([["a"]], ())


def test_services_of_one_name_ask_once(watch: Watched) -> None:
    """It is followed as long as one of them is; a later one knows at once."""
    other = service_of("other", "a")
    watch.follows(A)
    watch.catalogue.lists("a", 1)
    assert watch.told() == [["a"]]
    watch.follows(A, other)
    assert watch.told() == [["a", "other"]]
    assert watch.levels(other) == one_level(1)
    watch.follows(other)
    assert watch.catalogue.begun == ["a"]
    watch.follows(B)
    assert list(watch.catalogue.told) == ["b"]
    watch.follows(service_of("b", "c"))
    assert list(watch.catalogue.told) == ["c"]


def test_services_of_an_unknown_catalogue_are_not_followed(watch: Watched) -> None:
    """They have no servers, and nobody waits for them."""
    lost = ServiceWatch(watch.clock, {})
    lost.follow({"a": A})
    assert lost.first([A]).called
    assert (lost.levels(A), lost.shown()) == (None, {"a": ServiceState()})
    lost.follow({})
    lost.stop()


@pytest.mark.parametrize("tell", [HandCatalogue.lists, HandCatalogue.fails])
def test_first_answer_is_waited_for(watch: Watched, tell: Any) -> None:
    """Whatever it is, and not for ever; what is known need not be waited for."""
    watch.follows(A, B)
    both = watch.first([A, B])
    tell(watch.catalogue, "a")
    assert not both.called
    assert watch.first([A]).called
    watch.clock.advance(FIRST - 0.1)
    assert not both.called
    watch.clock.advance(0.1)
    assert both.called
    watch.follows(A)
    late = watch.first([A, B])
    assert late.called


def test_service_may_be_held_before_it_is_followed(watch: Watched) -> None:
    """What it knows then is not asked for again; without a follower it ends."""
    release = watch.hold(A)
    watch.catalogue.lists("a", 1)
    assert watch.told() == []
    watch.follows(A)
    release()
    assert (watch.told(), watch.levels(A), watch.catalogue.begun) == (
        [["a"]],
        one_level(1),
        ["a"],
    )
    asked = watch.hold(B)
    waiting = watch.first([B])
    asked()
    assert waiting.called
    assert list(watch.catalogue.told) == ["a"]


def test_what_one_process_knows_another_begins_with(watch: Watched) -> None:
    """Until its own catalogue lists something else; an unknown one is dropped."""
    watch.follows(A, B)
    watch.catalogue.lists("a", 1)
    known = watch.known()
    assert known == [KnownService(A.origin, one_level(1), one_level(1))]
    heir = Watched()
    heir.learn([*known, KnownService(("dns_service", "gone"), one_level(9))])
    heir.follows(A, B)
    assert heir.levels(A) == one_level(1)
    assert heir.first([A]).called
    assert not heir.first([B]).called
    heir.catalogue.fails("a")
    assert (heir.told(), heir.levels(A)) == ([], one_level(1))
    heir.catalogue.lists("a", 2)
    assert (heir.told(), heir.levels(A)) == ([["a"]], one_level(2))


def test_grace_goes_on_in_another_process(watch: Watched) -> None:
    """It does not begin anew, and servers that were gone stay away."""
    watch.follows(A, B)
    for name in ("a", "b"):
        watch.catalogue.lists(name, 1)
    watch.catalogue.lists("a")
    watch.clock.advance(GRACE - 1)
    watch.catalogue.lists("b")
    watch.clock.advance(1)
    heir = Watched()
    heir.learn(watch.known())
    heir.follows(A, B)
    assert (heir.levels(A), heir.levels(B)) == ((), one_level(1))
    assert heir.shown()["a"].empty_at > 0
    for name in ("a", "b"):
        heir.catalogue.lists(name)
    heir.clock.advance(GRACE - 1)
    assert (heir.told(), heir.levels(B)) == ([["b"]], ())


def test_stop_leaves_nothing_behind(watch: Watched) -> None:
    """No timer stays, nobody waits, and nothing more is followed."""
    watch.follows(A, B)
    waiting = watch.first([B])
    watch.catalogue.lists("a", 1)
    watch.catalogue.lists("a")
    watch.stop()
    assert waiting.called
    assert watch.catalogue.is_stopped
    assert watch.clock.getDelayedCalls() == []
    watch.follows(A)
    watch.hold(B)()
    assert (watch.told(), watch.catalogue.told) == ([], {})
