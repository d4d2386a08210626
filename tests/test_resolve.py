"""Names of servers, looked up repeatedly with a clock of the test."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from twisted.internet.address import IPv4Address, IPv6Address, UNIXAddress
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from zope.interface.verify import verifyObject

from slardar.resolve import FIRST, LOST, REFRESH, Resolver, ToldNames


class Lookup:
    """A lookup that the test answers."""

    def __init__(self, receiver: Any, name: str) -> None:
        verifyObject(IResolutionReceiver, receiver)
        self.receiver = receiver
        self.name = name
        receiver.resolutionBegan(self)

    def answer(self, *hosts: str) -> None:
        """Answer with these addresses, in this order."""
        for host in hosts:
            kind = IPv6Address if ":" in host else IPv4Address
            self.receiver.addressResolved(kind("TCP", host, 0))
        self.receiver.resolutionComplete()


class Reactor(Clock):
    """A clock with a resolver of names that only records lookups."""

    def __init__(self) -> None:
        super().__init__()
        self.nameResolver = self
        self.lookups: list[Lookup] = []
        self.broken = False

    def resolveHostName(self, receiver: Any, name: str) -> None:
        if self.broken:
            raise UnicodeError("label too long")
        self.lookups.append(Lookup(receiver, name))


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
    resolver = Resolver(reactor)
    done = resolver.follow("a", told.append)
    (lookup,) = reactor.lookups
    assert lookup.name == "a"
    assert not done.called
    lookup.receiver.addressResolved(UNIXAddress("odd"))
    lookup.answer("::1", "10.0.0.2", "10.0.0.1", "10.0.0.2")
    assert told == [[(V4, "10.0.0.1"), (V4, "10.0.0.2"), (V6, "::1")]]
    assert done.called


def test_change_is_told_at_the_next_look(reactor: Reactor) -> None:
    """A lookup comes every REFRESH seconds; the same addresses in another order are no change."""
    told: list[Any] = []
    Resolver(reactor).follow("a", told.append)
    reactor.lookups.pop().answer("10.0.0.1", "10.0.0.2")
    reactor.advance(REFRESH - 0.1)
    assert reactor.lookups == []
    reactor.advance(0.1)
    reactor.lookups.pop().answer("10.0.0.2", "10.0.0.1")
    assert len(told) == 1
    reactor.advance(REFRESH)
    reactor.lookups.pop().answer("10.0.0.3")
    assert told[1:] == [[(V4, "10.0.0.3")]]


def test_failure_changes_nothing(reactor: Reactor) -> None:
    """The last known addresses stay in use, also for later followers."""
    told: list[Any] = []
    later: list[Any] = []
    resolver = Resolver(reactor)
    resolver.follow("a", told.append)
    reactor.lookups.pop().answer("10.0.0.1")
    reactor.advance(REFRESH)
    reactor.lookups.pop().answer()
    assert len(told) == 1
    assert resolver.follow("a", later.append).called
    assert later == told
    reactor.advance(REFRESH)
    reactor.lookups.pop().answer("10.0.0.2")
    assert told[1:] == later[1:] == [[(V4, "10.0.0.2")]]


def test_answer_is_not_waited_for_longer_than_first(reactor: Reactor) -> None:
    """A slow lookup does not hold up a change of configuration; its answer counts all the same."""
    told: list[Any] = []
    done = Resolver(reactor).follow("a", told.append)
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
    done = Resolver(reactor).follow("a", told.append)
    reactor.lookups.pop().answer()
    assert done.called
    assert told == []
    reactor.advance(REFRESH)
    reactor.lookups.pop().answer("10.0.0.1")
    assert len(told) == 1


def test_name_has_one_lookup_at_a_time(reactor: Reactor) -> None:
    """This holds for any number of followers and any duration, up to LOST seconds."""
    told: list[Any] = []
    resolver = Resolver(reactor)
    waiting = [resolver.follow("a", told.append) for _ in range(50)]
    for _ in range(int(LOST / REFRESH) - 1):
        reactor.advance(REFRESH)
    assert len(reactor.lookups) == 1
    reactor.advance(REFRESH)
    assert len(reactor.lookups) == 2
    reactor.lookups[1].answer("10.0.0.1")
    assert len(told) == 50
    assert all(done.called for done in waiting)
    # A late answer of the lost lookup does no harm.
    reactor.lookups[0].answer("10.0.0.1")
    assert len(told) == 50


def test_unfollowed_name_is_looked_up_no_more(reactor: Reactor) -> None:
    """A name is forgotten with its last follower; other names go on."""
    told: list[Any] = []
    one, two = told.append, [].append
    resolver = Resolver(reactor)
    for follower in (one, two):
        resolver.follow("a", follower)
    resolver.follow("b", two)
    reactor.lookups.pop(0).answer("10.0.0.1")
    resolver.unfollow("a", one)
    resolver.unfollow("a", one)
    resolver.unfollow("never", one)
    reactor.lookups.clear()
    reactor.advance(REFRESH)
    assert [lookup.name for lookup in reactor.lookups] == ["a"]  # that of b is under way
    reactor.lookups.pop().answer("10.0.0.2")
    assert told == [[(V4, "10.0.0.1")]]
    resolver.unfollow("a", two)
    reactor.advance(LOST)
    assert {lookup.name for lookup in reactor.lookups} == {"b"}
    resolver.unfollow("b", two)
    assert reactor.getDelayedCalls() == []


def test_answer_that_comes_after_unfollow_is_dropped(reactor: Reactor) -> None:
    """This also holds if the name is followed again, with a new lookup."""
    told: list[Any] = []
    resolver = Resolver(reactor)
    waiting = resolver.follow("a", told.append)
    resolver.unfollow("a", told.append)
    assert waiting.called
    resolver.follow("a", told.append)
    assert len(reactor.lookups) == 2
    reactor.lookups[0].answer("10.0.0.1")
    assert told == []
    reactor.lookups[1].answer("10.0.0.2")
    assert told == [[(V4, "10.0.0.2")]]


def test_stop_leaves_nothing_behind(reactor: Reactor) -> None:
    """No timer stays, nobody waits, and a late answer reaches nobody."""
    told: list[Any] = []
    resolver = Resolver(reactor)
    waiting = resolver.follow("a", told.append)
    resolver.stop()
    resolver.stop()
    assert waiting.called
    assert reactor.getDelayedCalls() == []
    reactor.lookups.pop().answer("10.0.0.1")
    assert told == []


def test_name_without_address_is_logged_once(reactor: Reactor, log: list[str]) -> None:
    """It is not logged every ten seconds; another line comes when it has an address again."""
    Resolver(reactor).follow("a", [].append)
    for _ in range(5):
        reactor.lookups.pop().answer()
        reactor.advance(REFRESH)
    assert log == ["no address found for server name a"]
    reactor.lookups.pop().answer("10.0.0.1")
    reactor.advance(REFRESH)
    reactor.lookups.pop().answer("10.0.0.1")
    reactor.advance(REFRESH)
    assert log[1:] == ["server name a has an address again"]
    reactor.lookups.pop().answer()
    assert log[2:] == ["no address found for server name a"]


def test_lookup_that_raises_ends_nothing(reactor: Reactor, log: list[str]) -> None:
    """It counts as failed, and the next lookup is made all the same."""
    told: list[Any] = []
    resolver = Resolver(reactor)
    reactor.broken = True
    assert resolver.follow("a", told.append).called
    reactor.advance(REFRESH)
    reactor.broken = False
    reactor.advance(REFRESH)
    reactor.lookups.pop().answer("10.0.0.1")
    assert len(told) == 1
    assert log[0] == "looking up server name a failed"


def test_follower_that_raises_harms_no_other(reactor: Reactor, log: list[str]) -> None:
    """The error is logged, and the others are told."""
    told: list[Any] = []

    def broken(addresses: Any) -> None:
        raise RuntimeError("no")

    resolver = Resolver(reactor)
    resolver.follow("a", broken)
    resolver.follow("a", told.append)
    reactor.lookups.pop().answer("10.0.0.1")
    assert len(told) == 1
    assert log == ["a follower of server name a failed"]


def test_followers_cannot_change_what_is_known(reactor: Reactor) -> None:
    """Each gets its own list."""
    resolver = Resolver(reactor)
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
    resolver = Resolver(reactor)
    assert resolver.addresses("web") is None
    resolver.follow("web", lambda found: None)
    assert resolver.addresses("web") is None
    reactor.advance(FIRST)
    assert resolver.addresses("web") == []
    reactor.lookups[0].answer("10.0.0.1")
    assert resolver.addresses("web") == [(socket.AF_INET, "10.0.0.1")]
