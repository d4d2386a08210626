"""Names of servers to addresses, again and again, without blocking.

The system's resolver is used, with ``/etc/hosts``, ``nsswitch.conf`` and search domains,
as operators expect.  It gives no TTL, so a name in use is looked up again every
:data:`REFRESH` seconds.  If a lookup fails, the last known addresses stay in use.

Where there are workers, the director looks names up (:class:`Resolver`) and tells the
workers what it has found (:class:`ToldNames`).
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from twisted.internet import defer
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import IResolutionReceiver
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

__all__ = ["REFRESH", "Addresses", "Names", "Resolver", "ToldNames"]

#: Seconds between two lookups of a name; the TTL of most service names is 5 to 60.
REFRESH = 10.0

#: Seconds that requests wait for the first lookup of a name.
FIRST = 3.0

#: Seconds after which a lookup counts as lost, so that a new one may begin; glibc gives up
#: after 5 seconds, twice, for each name server.
LOST = 60.0

Addresses = list[tuple[int, str]]
Follower = Callable[[Addresses], None]

_log = Logger("slardar.resolve")


@implementer(IResolutionReceiver)
class _Receiver:
    """Collects the addresses of one lookup; IPv4 first, as servers mostly listen."""

    def __init__(self, done: Callable[[Addresses], None]) -> None:
        self._done = done
        self._found: Addresses = []

    def resolutionBegan(self, resolution: Any) -> None:
        """Nothing to do: the lookup cannot be stopped."""

    def addressResolved(self, address: Any) -> None:
        if isinstance(address, IPv4Address):
            self._add((socket.AF_INET, address.host))
        elif isinstance(address, IPv6Address):
            self._add((socket.AF_INET6, address.host))

    def _add(self, found: tuple[int, str]) -> None:
        if found not in self._found:
            self._found.append(found)

    def resolutionComplete(self) -> None:
        self._done(sorted(self._found))


class _Name:
    """A name that is followed."""

    __slots__ = ("addresses", "asked", "fails", "followers", "waiting")

    def __init__(self) -> None:
        self.followers: list[Follower] = []
        #: What the last good lookup found; empty before the first.
        self.addresses: Addresses = []
        #: When the lookup under way began, in the reactor's seconds (``None``: none is).
        self.asked: float | None = None
        #: Whether the last lookup found nothing.
        self.fails = False
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

    def stop(self) -> None:
        """Tell followers nothing more, and let nobody wait for a first answer."""
        names, self._names = self._names, {}
        for known in names.values():
            _release(known)


class Resolver(Names):
    """Looks names up, again and again.

    A name has one lookup under way at a time, however many follow it.
    """

    def __init__(self, reactor: Any) -> None:
        super().__init__(reactor)
        self._refresh = LoopingCall(self._look_again)
        self._refresh.clock = reactor

    def follow(self, name: str, follower: Follower) -> defer.Deferred[None]:
        """See :meth:`Names.follow`."""
        if not self._refresh.running:
            self._refresh.start(REFRESH, now=False)
        return super().follow(name, follower)

    def unfollow(self, name: str, follower: Follower) -> None:
        """See :meth:`Names.unfollow`."""
        super().unfollow(name, follower)
        if not self._names and self._refresh.running:
            self._refresh.stop()

    def stop(self) -> None:
        """See :meth:`Names.stop`; look nothing up any more."""
        if self._refresh.running:
            self._refresh.stop()
        super().stop()

    def _look_again(self) -> None:
        for name, known in list(self._names.items()):
            self._ask(name, known)

    def _ask(self, name: str, known: _Name) -> None:
        now = self._reactor.seconds()
        if known.asked is not None and now - known.asked < LOST:
            return
        known.asked = now

        def done(addresses: Addresses) -> None:
            if self._names.get(name) is known:  # else nobody follows it any more
                known.asked = None
                self._found(name, known, addresses)

        try:
            self._reactor.nameResolver.resolveHostName(_Receiver(done), name)
        except Exception:
            # If the resolver fails on one name, the others must be looked up all the same.
            _log.failure("looking up server name {name} failed", name=name)
            done([])

    def _found(self, name: str, known: _Name, addresses: Addresses) -> None:
        if not addresses:
            # Logged once, not every ten seconds.
            if not known.fails:
                _log.warn("no address found for server name {name}", name=name)
        elif known.fails:
            _log.info("server name {name} has an address again", name=name)
        known.fails = not addresses
        self._answer(name, known, addresses)


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
