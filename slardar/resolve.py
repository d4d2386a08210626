"""Names of servers to addresses, again and again, without blocking.

A name in use is looked up again when its addresses are no longer good, as its source says,
and when a file of this machine that has a say in it has changed.  If a lookup fails, the
last known addresses stay in use, and the status shows why.

Where there are workers, the director looks names up (:class:`Resolver`) and tells the
workers what it has found (:class:`ToldNames`).  How one lookup is made is
:mod:`slardar.lookup`'s, and when the next one is :mod:`slardar.repeated`'s.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet import defer
from twisted.logger import Logger

from slardar.lookup import Found, Lookup, SystemLookup
from slardar.repeated import Lookups, Schedule
from slardar.resolvconf import Addresses

__all__ = ["Addresses", "NameState", "Names", "Resolver", "ToldNames"]

#: Seconds that requests wait for the first lookup of a name.
FIRST = 3.0
#: Addresses of a name that are used; a name server may send thousands.
MOST_ADDRESSES = 64

Follower = Callable[[Addresses], None]

_log = Logger("slardar.resolve")


class NameState:
    """What the status shows of a name."""

    __slots__ = ("addresses", "failed_at", "reason")

    def __init__(self, addresses: Addresses, failed_at: float, reason: str) -> None:
        #: The addresses in use.
        self.addresses = addresses
        #: Since when lookups fail (epoch seconds; 0: the last one has not), and why.
        self.failed_at = failed_at
        self.reason = reason


class _Name:
    """A name that is followed."""

    __slots__ = ("addresses", "followers", "schedule", "waiting")

    def __init__(self) -> None:
        self.followers: list[Follower] = []
        #: What the last good lookup found; empty before the first.
        self.addresses: Addresses = []
        #: Of lookups that are made here.
        self.schedule = Schedule()
        #: The callers of ``follow`` that wait for the first answer.
        self.waiting: list[defer.Deferred[None]] = []


class Names:
    """Tells followers the addresses of the names that they follow.  A subclass says where the
    addresses come from."""

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._names: dict[str, _Name] = {}

    def follow(self, name: str, follower: Follower) -> defer.Deferred[None]:
        """Tell ``follower`` the addresses of ``name`` now and when they change.

        Fires after the first answer, or after :data:`FIRST` seconds without one; never
        fails.  Addresses are sorted, IPv4 first, so that a name server that gives them in
        another order changes nothing.
        """
        known = self._names.get(name)
        if known is None:
            known = self._names[name] = _Name()
        known.followers.append(follower)
        if known.addresses:
            _tell(name, known.addresses, [follower])
            return defer.succeed(None)
        waiting: defer.Deferred[None] = defer.Deferred()
        known.waiting.append(waiting)
        waiting.addTimeout(FIRST, self._reactor)
        waiting.addErrback(lambda failure: None)
        self._ask(name, known)
        return waiting

    def _ask(self, name: str, known: _Name) -> None:
        """A follower waits for the first answer about a name."""
        raise NotImplementedError

    def _answer(self, name: str, known: _Name, addresses: Addresses) -> None:
        """Take an answer about a name; if it has no address, the last ones stay in use."""
        if addresses and addresses != known.addresses:
            known.addresses = addresses
            _tell(name, addresses, list(known.followers))
        _release(known)

    def unfollow(self, name: str, follower: Follower) -> None:
        """Tell ``follower`` no more."""
        known = self._names.get(name)
        if known is None or follower not in known.followers:
            return
        known.followers.remove(follower)
        if not known.followers:
            del self._names[name]
            _release(known)

    def shown(self) -> Mapping[str, NameState]:
        """What the status shows of the names that are looked up here."""
        return {}

    def addresses(self, name: str) -> Addresses | None:
        """What is known of a name that somebody follows; ``None`` before the first answer."""
        known = self._names.get(name)
        if known is None or any(not deferred.called for deferred in known.waiting):
            return None
        return known.addresses

    def stop(self) -> None:
        """Tell followers nothing more, and let nobody wait for a first answer."""
        names, self._names = self._names, {}
        for known in names.values():
            _release(known)


class Resolver(Names):
    """Looks names up, again and again.

    A name has one lookup under way at a time, however many follow it.  ``lookup`` makes one
    lookup; by default it does what this machine does.  ``draw()`` is a number from 0 to 1.
    """

    def __init__(
        self,
        reactor: Any,
        lookup: Lookup | None = None,
        draw: Callable[[], float] = random.random,
    ) -> None:
        super().__init__(reactor)
        self._lookup = lookup or SystemLookup(reactor)
        self._draw = draw
        self._lookups = Lookups(
            reactor,
            self._lookup.look_up,
            self._found,
            lambda reason: Found(reason=reason),
            self._lookup.has_changed,
        )

    def unfollow(self, name: str, follower: Follower) -> None:
        """See :meth:`Names.unfollow`."""
        super().unfollow(name, follower)
        if name not in self._names:
            self._lookups.end(name)

    def shown(self) -> Mapping[str, NameState]:
        """See :meth:`Names.shown`."""
        return {
            name: NameState(known.addresses, known.schedule.failed_at, known.schedule.reason)
            for name, known in self._names.items()
        }

    def stop(self) -> None:
        """See :meth:`Names.stop`; look nothing up any more."""
        self._lookups.stop()
        self._lookup.stop()
        super().stop()

    def _ask(self, name: str, known: _Name) -> None:
        self._lookups.begin(name)

    def _found(self, name: str, found: Found) -> float:
        """Take what a lookup has found.  Returns the seconds until the next one."""
        known = self._names[name]
        schedule, failed_at = known.schedule, known.schedule.failed_at
        addresses = list(found.addresses)
        if addresses:
            # The kind of addresses that nobody could say anything of stays as it was.
            addresses += [one for one in known.addresses if one[0] in found.unknown]
            if failed_at:
                _log.info("server name {name} has an address again", name=name)
            delay = schedule.good(found.ttl, self._draw())
        else:
            if not failed_at:
                # Logged once, not with every lookup.
                _log.warn(
                    "no address found for server name {name}: {reason}",
                    name=name,
                    reason=found.reason,
                )
            delay = schedule.bad(found.reason)
        self._answer(name, known, sorted(set(addresses))[:MOST_ADDRESSES])
        return delay


class ToldNames(Names):
    """Names that another process looks up, which tells what it has found."""

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        #: The addresses that were told, also of names without a follower.
        self._told: dict[str, Addresses] = {}

    def learn(self, found: Mapping[str, Sequence[tuple[int, str]]], again: Iterable[str]) -> None:
        """Take the addresses of names, which are empty if none was found.

        Names in ``again`` are being looked up anew: followers wait for the next answer.
        """
        for name in again:
            self._told.pop(name, None)
        for name, some in found.items():
            addresses = self._told[name] = list(some)
            known = self._names.get(name)
            if known is not None:
                self._answer(name, known, addresses)

    def unfollow(self, name: str, follower: Follower) -> None:
        """See :meth:`Names.unfollow`."""
        super().unfollow(name, follower)
        if name not in self._names:
            self._told.pop(name, None)

    def _ask(self, name: str, known: _Name) -> None:
        told = self._told.get(name)
        if told is not None:
            self._answer(name, known, told)


def _tell(name: str, addresses: Addresses, followers: list[Follower]) -> None:
    for follower in followers:
        try:
            follower(list(addresses))
        except Exception:
            _log.failure("a follower of server name {name} failed", name=name)


def _release(known: _Name) -> None:
    """Nobody waits for the first answer any longer."""
    waiting, known.waiting = known.waiting, []
    for deferred in waiting:
        if not deferred.called:
            deferred.callback(None)
