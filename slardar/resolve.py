"""Names of servers to addresses, again and again, without blocking.

A name in use is looked up again when its addresses are no longer good, as its source says,
and when a file of this machine that has a say in it has changed.  If a lookup fails, the
last known addresses stay in use, and the status shows why.

Where there are workers, the director looks names up (:class:`Resolver`) and tells the
workers what it has found (:class:`ToldNames`).  How one lookup is made is
:mod:`slardar.lookup`'s.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet import defer
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from slardar.lookup import Found, Lookup, SystemLookup
from slardar.resolvconf import Addresses

__all__ = ["Addresses", "NameState", "Names", "Resolver", "ToldNames"]

#: Seconds that requests wait for the first lookup of a name.
FIRST = 3.0
#: Seconds between two lookups of a name, whatever a name server says: one that says 0 is
#: not asked all the time, and a server that has moved is found within a minute.
SHORTEST = 1.0
LONGEST = 60.0
#: Seconds until a lookup that has failed is made again: this, then twice as long each time.
AGAIN = 1.0
AGAIN_MOST = 10.0
#: Seconds between two looks at the files of this machine.
FILES = 5.0
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

    __slots__ = (
        "addresses",
        "failed_at",
        "followers",
        "lookup",
        "next",
        "pause",
        "reason",
        "waiting",
    )

    def __init__(self) -> None:
        self.followers: list[Follower] = []
        #: What the last good lookup found; empty before the first.
        self.addresses: Addresses = []
        #: The lookup under way, and the call that will begin the next one.
        self.lookup: defer.Deferred[Found] | None = None
        self.next: Any = None
        #: Since when lookups fail (epoch seconds; 0: the last one has not), and why.
        self.failed_at = 0.0
        self.reason = ""
        #: Seconds until the next lookup, if one more fails.
        self.pause = AGAIN
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
        self._files = LoopingCall(self._look_at_files)
        self._files.clock = reactor

    def follow(self, name: str, follower: Follower) -> defer.Deferred[None]:
        """See :meth:`Names.follow`."""
        if not self._files.running:
            self._files.start(FILES)
        return super().follow(name, follower)

    def unfollow(self, name: str, follower: Follower) -> None:
        """See :meth:`Names.unfollow`."""
        known = self._names.get(name)
        super().unfollow(name, follower)
        if known is not None and name not in self._names:
            _end(known)
        if not self._names and self._files.running:
            self._files.stop()

    def shown(self) -> Mapping[str, NameState]:
        """See :meth:`Names.shown`."""
        return {
            name: NameState(known.addresses, known.failed_at, known.reason)
            for name, known in self._names.items()
        }

    def stop(self) -> None:
        """See :meth:`Names.stop`; look nothing up any more."""
        if self._files.running:
            self._files.stop()
        for known in self._names.values():
            _end(known)
        self._lookup.stop()
        super().stop()

    def _look_at_files(self) -> None:
        if self._lookup.has_changed():
            for name, known in list(self._names.items()):
                # A lookup under way may have asked a name server that is no longer meant.
                _end(known)
                self._ask(name, known)

    def _ask(self, name: str, known: _Name) -> None:
        if known.lookup is not None:
            return
        if known.next is not None and known.next.active():
            known.next.cancel()
        try:
            lookup = self._lookup.look_up(name)
        except Exception:
            lookup = defer.fail()
        known.lookup = lookup
        lookup.addErrback(_failed, name)
        lookup.addCallback(self._looked_up, name, known, lookup)

    def _looked_up(
        self, found: Found | None, name: str, known: _Name, lookup: defer.Deferred[Found]
    ) -> None:
        # Else it was cancelled, and perhaps nobody follows the name any more.
        if found is not None and known.lookup is lookup:
            known.lookup = None
            self._found(name, known, found)

    def _found(self, name: str, known: _Name, found: Found) -> None:
        addresses = list(found.addresses)
        if addresses:
            # The kind of addresses that nobody could say anything of stays as it was.
            addresses += [one for one in known.addresses if one[0] in found.unknown]
            if known.failed_at:
                _log.info("server name {name} has an address again", name=name)
            known.failed_at, known.reason, known.pause = 0.0, "", AGAIN
            # Somewhat earlier, so that names that were found together are not always
            # looked up together.
            delay = min(found.ttl, LONGEST) * (1.0 - 0.1 * self._draw())
        else:
            if not known.failed_at:
                known.failed_at = time.time()
                # Logged once, not with every lookup.
                _log.warn(
                    "no address found for server name {name}: {reason}",
                    name=name,
                    reason=found.reason,
                )
            known.reason = found.reason
            delay, known.pause = known.pause, min(2 * known.pause, AGAIN_MOST)
        known.next = self._reactor.callLater(max(delay, SHORTEST), self._ask, name, known)
        self._answer(name, known, sorted(set(addresses))[:MOST_ADDRESSES])


def _failed(failure: Any, name: str) -> Found | None:
    """A lookup that was cancelled has found nothing; any other failure is a bug."""
    if failure.check(defer.CancelledError):
        return None
    # The other names must be looked up all the same.
    _log.failure("looking up server name {name} failed", failure=failure, name=name)
    return Found(reason=f"{failure.type.__name__}: {failure.value}")


def _end(known: _Name) -> None:
    """Look a name up no more."""
    lookup, known.lookup = known.lookup, None
    if lookup is not None:
        lookup.cancel()
    if known.next is not None and known.next.active():
        known.next.cancel()


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
