"""Names of servers, looked up repeatedly with a clock and answers of the test."""

from __future__ import annotations

import socket
import time
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher

from slardar.lookup import Found
from slardar.repeated import AGAIN, AGAIN_MOST, FILES, LONGEST, SHORTEST
from slardar.resolve import FIRST, MOST_ADDRESSES, Resolver, ToldNames

#: Seconds for which the answers of the test are good.
TTL = 20.0


class Asked(Deferred[Found]):
    """A lookup that the test answers."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name

    def answer(self, *hosts: str, ttl: float = TTL, unknown: tuple[int, ...] = ()) -> None:
        """Answer with these addresses, in this order."""
        found = [(V6 if ":" in host else V4, host) for host in hosts]
        self.callback(Found(found, ttl, "" if found else "no such name", unknown))


class Reactor(Clock):
    """A clock with lookups that the test answers."""

    def __init__(self) -> None:
        super().__init__()
        self.lookups: list[Asked] = []
        self.broken = False
        self.files_change = False
        self.stopped = 0

    def look_up(self, name: str) -> Asked:
        if self.broken:
            raise UnicodeError("label too long")
        self.lookups.append(Asked(name))
        return self.lookups[-1]

    def has_changed(self) -> bool:
        changed, self.files_change = self.files_change, False
        return changed

    def stop(self) -> None:
        self.stopped += 1


def resolver_of(reactor: Reactor, drawn: float = 0.0) -> Resolver:
    """A resolver with the lookups of the test."""
    return Resolver(reactor, reactor, lambda: drawn)


@pytest.fixture
def reactor() -> Reactor:
    return Reactor()


@pytest.fixture
def log() -> Any:
    """The texts of warnings and worse events."""
    lines: list[str] = []

    def observe(event: LogEvent) -> None:
        if event["log_namespace"] == "slardar.resolve":
            lines.append(event["log_format"].format(**event))

    globalLogPublisher.addObserver(observe)
    yield lines
    globalLogPublisher.removeObserver(observe)


V4, V6 = socket.AF_INET, socket.AF_INET6


def test_follower_is_told_the_first_answer(reactor: Reactor) -> None:
    """IPv4 comes first, and each address once; only then does ``follow`` fire."""
    told: list[Any] = []
    done = resolver_of(reactor).follow("a", told.append)
    (lookup,) = reactor.lookups
    assert lookup.name == "a"
    assert not done.called
    lookup.answer("::1", "10.0.0.2", "10.0.0.1", "10.0.0.2")
    assert told == [[(V4, "10.0.0.1"), (V4, "10.0.0.2"), (V6, "::1")]]
    assert done.called


@pytest.mark.parametrize(
    ("ttl", "drawn", "seconds"),
    [
        (20.0, 0.0, 20.0),
        (20.0, 1.0, 18.0),
        (0.0, 1.0, SHORTEST),
        (1.0, 1.0, SHORTEST),
        (86400.0, 0.0, LONGEST),
        (float("inf"), 1.0, LONGEST * 0.9),
    ],
)
def test_name_is_looked_up_when_its_time_is_over(
    reactor: Reactor, ttl: float, drawn: float, seconds: float
) -> None:
    """Somewhat earlier by lot, and within the bounds whatever a name server says; the same
    addresses in another order are no change."""
    told: list[Any] = []
    resolver_of(reactor, drawn).follow("a", told.append)
    for _ in range(3):
        reactor.lookups.pop().answer("10.0.0.1", "10.0.0.2", ttl=ttl)
        reactor.advance(seconds - 0.1)
        assert reactor.lookups == []
        reactor.advance(0.1)
        assert len(reactor.lookups) == 1
    reactor.lookups.pop().answer("10.0.0.2", "10.0.0.1")
    assert len(told) == 1
    reactor.advance(TTL)
    reactor.lookups.pop().answer("10.0.0.3")
    assert told[1:] == [[(V4, "10.0.0.3")]]


def test_failure_changes_nothing(reactor: Reactor) -> None:
    """The last known addresses stay in use, also for later followers."""
    told: list[Any] = []
    later: list[Any] = []
    resolver = resolver_of(reactor)
    resolver.follow("a", told.append)
    reactor.lookups.pop().answer("10.0.0.1")
    reactor.advance(TTL)
    reactor.lookups.pop().answer()
    assert len(told) == 1
    assert resolver.follow("a", later.append).called
    assert later == told
    reactor.advance(AGAIN)
    reactor.lookups.pop().answer("10.0.0.2")
    assert told[1:] == later[1:] == [[(V4, "10.0.0.2")]]


def test_lookup_that_fails_is_made_again_soon(reactor: Reactor) -> None:
    """At first after a second, then after twice as long, up to a limit; an answer begins anew."""
    resolver_of(reactor).follow("a", [].append)

    def pauses(count: int) -> list[float]:
        found = []
        for _ in range(count):
            began = reactor.seconds()
            reactor.lookups.pop().answer()
            while not reactor.lookups:
                reactor.advance(0.5)
            found.append(reactor.seconds() - began)
        return found

    assert pauses(6) == [AGAIN, 2.0, 4.0, 8.0, AGAIN_MOST, AGAIN_MOST]
    reactor.lookups.pop().answer("10.0.0.1")
    reactor.advance(TTL)
    assert pauses(1) == [AGAIN]


def test_status_of_names(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has the addresses in use, and while lookups fail, since when and why."""
    resolver = resolver_of(reactor)
    resolver.follow("a", [].append)
    monkeypatch.setattr(time, "time", lambda: 1000.0 + reactor.seconds())

    def shown() -> tuple[Any, ...]:
        state = resolver.shown()["a"]
        return [address for _, address in state.addresses], state.failed_at, state.reason

    assert shown() == ([], 0.0, "")
    reactor.lookups.pop().answer("10.0.0.1")
    assert shown() == (["10.0.0.1"], 0.0, "")
    reactor.advance(TTL)
    for _ in range(3):
        reactor.lookups.pop().answer()
        assert shown() == (["10.0.0.1"], 1000.0 + TTL, "no such name")
        reactor.advance(AGAIN_MOST)
    reactor.lookups.pop().answer("10.0.0.2")
    assert shown() == (["10.0.0.2"], 0.0, "")


def test_kind_of_address_that_is_not_known_stays(reactor: Reactor) -> None:
    """A name server that fails on one kind takes no address of this kind away."""
    told: list[Any] = []
    resolver_of(reactor).follow("a", told.append)
    reactor.lookups.pop().answer("10.0.0.1", "::1")
    reactor.advance(TTL)
    reactor.lookups.pop().answer("10.0.0.2", unknown=(V6,))
    reactor.advance(TTL)
    reactor.lookups.pop().answer("10.0.0.2")
    assert told[1:] == [[(V4, "10.0.0.2"), (V6, "::1")], [(V4, "10.0.0.2")]]


def test_thousands_of_addresses(reactor: Reactor) -> None:
    """Only some are used, and always the same ones, whatever their order."""
    told: list[Any] = []
    hosts = [f"10.0.{number // 250}.{number % 250}" for number in range(4000)]
    resolver_of(reactor).follow("a", told.append)
    reactor.lookups.pop().answer(*hosts)
    reactor.advance(TTL)
    reactor.lookups.pop().answer(*reversed(hosts))
    assert [len(addresses) for addresses in told] == [MOST_ADDRESSES]


def test_files_that_change_end_all_waiting(reactor: Reactor) -> None:
    """All names are looked up at once, also those whose lookup is under way."""
    told: list[Any] = []
    resolver = resolver_of(reactor)
    for name in ("a", "b"):
        resolver.follow(name, told.append)
    lost, known = reactor.lookups
    known.answer("10.0.0.1", ttl=50.0)
    reactor.lookups.clear()
    reactor.advance(FILES)
    assert reactor.lookups == []
    reactor.files_change = True
    reactor.advance(FILES)
    assert [lookup.name for lookup in reactor.lookups] == ["a", "b"]
    assert lost.called
    for lookup in reactor.lookups:
        lookup.answer("10.0.0.2", ttl=50.0)
    assert told == [[(V4, "10.0.0.1")], [(V4, "10.0.0.2")], [(V4, "10.0.0.2")]]
    reactor.lookups.clear()
    # The former time of b is not kept any more.
    reactor.advance(48.0)
    assert reactor.lookups == []
    reactor.advance(2.0)
    assert len(reactor.lookups) == 2


def test_answer_is_not_waited_for_longer_than_first(reactor: Reactor) -> None:
    """A slow lookup does not hold up a change of configuration; its answer counts all the same."""
    told: list[Any] = []
    done = resolver_of(reactor).follow("a", told.append)
    reactor.advance(FIRST - 0.1)
    assert not done.called
    reactor.advance(0.1)
    assert done.called
    assert done.result is None
    reactor.lookups.pop().answer("10.0.0.1")
    assert told == [[(V4, "10.0.0.1")]]


def test_failed_first_lookup_is_an_answer(reactor: Reactor) -> None:
    """No follower is told, none waits, and the next lookup may succeed."""
    told: list[Any] = []
    done = resolver_of(reactor).follow("a", told.append)
    reactor.lookups.pop().answer()
    assert done.called
    assert told == []
    reactor.advance(AGAIN)
    reactor.lookups.pop().answer("10.0.0.1")
    assert len(told) == 1


def test_name_has_one_lookup_at_a_time(reactor: Reactor) -> None:
    """This holds for any number of followers and any duration."""
    told: list[Any] = []
    resolver = resolver_of(reactor)
    waiting = [resolver.follow("a", told.append) for _ in range(50)]
    reactor.advance(LONGEST * 2)
    (lookup,) = reactor.lookups
    lookup.answer("10.0.0.1")
    assert len(told) == 50
    assert all(done.called for done in waiting)


def test_unfollowed_name_is_looked_up_no_more(reactor: Reactor) -> None:
    """A name is forgotten with its last follower; other names go on."""
    told: list[Any] = []
    one, two = told.append, [].append
    resolver = resolver_of(reactor)
    for follower in (one, two):
        resolver.follow("a", follower)
    resolver.follow("b", two)
    reactor.lookups.pop(0).answer("10.0.0.1")
    resolver.unfollow("a", one)
    resolver.unfollow("a", one)
    resolver.unfollow("never", one)
    under_way = reactor.lookups.pop()
    reactor.advance(TTL)
    assert [lookup.name for lookup in reactor.lookups] == ["a"]  # that of b is under way
    reactor.lookups.pop().answer("10.0.0.2")
    assert told == [[(V4, "10.0.0.1")]]
    resolver.unfollow("a", two)
    reactor.advance(LONGEST)
    assert reactor.lookups == []
    resolver.unfollow("b", two)
    assert under_way.called
    assert reactor.getDelayedCalls() == []
    assert resolver.shown() == {}


def test_answer_that_comes_after_unfollow_is_dropped(reactor: Reactor) -> None:
    """This also holds if the name is followed again, with a new lookup."""
    told: list[Any] = []
    resolver = resolver_of(reactor)
    waiting = resolver.follow("a", told.append)
    resolver.unfollow("a", told.append)
    assert waiting.called
    resolver.follow("a", told.append)
    assert len(reactor.lookups) == 2
    reactor.lookups[0].answer("10.0.0.1")
    assert told == []
    reactor.lookups[1].answer("10.0.0.2")
    assert told == [[(V4, "10.0.0.2")]]


def test_stop_leaves_nothing_behind(reactor: Reactor, log: list[str]) -> None:
    """No timer stays, nobody waits, and a late answer reaches nobody."""
    told: list[Any] = []
    resolver = resolver_of(reactor)
    waiting = resolver.follow("a", told.append)
    resolver.follow("b", told.append)
    reactor.lookups.pop().answer("10.0.0.1")
    resolver.stop()
    resolver.stop()
    assert waiting.called
    assert reactor.stopped
    assert reactor.getDelayedCalls() == []
    reactor.lookups.pop().answer("10.0.0.1")
    assert len(told) == 1
    assert log == []


def test_name_without_address_is_logged_once(reactor: Reactor, log: list[str]) -> None:
    """It is not logged with every lookup; another line comes when it has an address again."""
    failed = "no address found for server name a: no such name"
    resolver_of(reactor).follow("a", [].append)
    for _ in range(5):
        reactor.lookups.pop().answer()
        reactor.advance(AGAIN_MOST)
    assert log == [failed]
    reactor.lookups.pop().answer("10.0.0.1")
    reactor.advance(TTL)
    reactor.lookups.pop().answer("10.0.0.1")
    reactor.advance(TTL)
    assert log[1:] == ["server name a has an address again"]
    reactor.lookups.pop().answer()
    assert log[2:] == [failed]


def test_lookup_that_raises_ends_nothing(reactor: Reactor, log: list[str]) -> None:
    """It counts as failed, and the next lookup is made all the same."""
    told: list[Any] = []
    resolver = resolver_of(reactor)
    reactor.broken = True
    assert resolver.follow("a", told.append).called
    assert resolver.shown()["a"].reason == "UnicodeError: label too long"
    reactor.broken = False
    reactor.advance(AGAIN)
    reactor.lookups.pop().errback(RuntimeError("no"))
    reactor.advance(2 * AGAIN)
    reactor.lookups.pop().answer("10.0.0.1")
    assert len(told) == 1
    assert log.count("looking up server name a failed") == 2


def test_lookup_that_somebody_else_cancels(reactor: Reactor, log: list[str]) -> None:
    """It has failed, and the next one comes."""
    told: list[Any] = []
    resolver_of(reactor).follow("a", told.append)
    reactor.lookups.pop().cancel()
    assert log == ["no address found for server name a: the lookup was given up"]
    reactor.advance(AGAIN)
    reactor.lookups.pop().answer("10.0.0.1")
    assert len(told) == 1


def test_follower_that_raises_harms_no_other(reactor: Reactor, log: list[str]) -> None:
    """The error is logged, and the others are told."""
    told: list[Any] = []

    def broken(addresses: Any) -> None:
        raise RuntimeError("no")

    resolver = resolver_of(reactor)
    resolver.follow("a", broken)
    resolver.follow("a", told.append)
    reactor.lookups.pop().answer("10.0.0.1")
    assert len(told) == 1
    assert log == ["a follower of server name a failed"]


def test_followers_cannot_change_what_is_known(reactor: Reactor) -> None:
    """Each gets its own list."""
    resolver = resolver_of(reactor)
    resolver.follow("a", lambda addresses: addresses.clear())
    reactor.lookups.pop().answer("10.0.0.1")
    told: list[Any] = []
    resolver.follow("a", told.append)
    assert told == [[(V4, "10.0.0.1")]]


# Names that another process looks up.


def test_told_before_it_is_followed(reactor: Reactor) -> None:
    """Nobody waits for what is known, also that there is no address; and nothing is asked."""
    names = ToldNames(reactor)
    told: list[Any] = []
    names.learn({"a": ((V4, "10.0.0.1"),), "b": ()}, ())
    assert names.follow("a", told.append).called
    assert names.follow("b", told.append).called
    assert told == [[(V4, "10.0.0.1")]]
    assert reactor.lookups == []
    assert reactor.getDelayedCalls() == []


def test_told_while_somebody_waits(reactor: Reactor) -> None:
    """The first word about a name is the answer; later ones are told if they differ, and
    one without an address changes nothing."""
    names = ToldNames(reactor)
    told: list[Any] = []
    waiting = [names.follow(name, told.append) for name in ("a", "b")]
    names.learn({"b": ()}, ())
    assert [one.called for one in waiting] == [False, True]
    names.learn({"a": ((V4, "10.0.0.1"),)}, ())
    assert waiting[0].called
    names.learn({"a": ((V4, "10.0.0.1"),), "b": ()}, ())
    names.learn({"a": (), "b": ((V6, "::1"),)}, ())
    assert told == [[(V4, "10.0.0.1")], [(V6, "::1")]]
    assert names.follow("a", told.append).called
    assert told[2:] == [[(V4, "10.0.0.1")]]


def test_name_that_is_looked_up_again_is_waited_for(reactor: Reactor) -> None:
    """What was said of it before is no answer any more; the wait has an end."""
    names = ToldNames(reactor)
    names.learn({"a": ()}, ())
    names.learn({}, ("a", "b"))
    waiting = names.follow("a", [].append)
    assert not waiting.called
    reactor.advance(FIRST)
    assert waiting.called


def test_told_name_is_forgotten_with_its_last_follower(reactor: Reactor) -> None:
    """Else those of years would be kept."""
    names = ToldNames(reactor)
    told: list[Any] = []
    names.learn({"a": ((V4, "10.0.0.1"),)}, ())
    names.follow("a", told.append)
    names.unfollow("a", told.append)
    assert names._told == {}
    waiting = names.follow("a", told.append)
    assert not waiting.called
    names.stop()
    assert waiting.called


def test_addresses_that_are_known(reactor: Reactor) -> None:
    """None before the first answer or after the time for it; empty where there is none."""
    resolver = resolver_of(reactor)
    assert resolver.addresses("web") is None
    resolver.follow("web", lambda found: None)
    assert resolver.addresses("web") is None
    reactor.advance(FIRST)
    assert resolver.addresses("web") == []
    reactor.lookups[0].answer("10.0.0.1")
    assert resolver.addresses("web") == [(socket.AF_INET, "10.0.0.1")]
