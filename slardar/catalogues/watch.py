"""Follows all services, each in its catalogue, and tells when the servers of some have changed.

A catalogue that cannot be asked takes no server away.  One that suddenly lists no server, or fewer
than half of those before, may have had an accident: it takes the missing ones away after the
service's ``empty_grace``.  Servers that are new are taken at once, and as soon as half as many as
before are listed, whichever they are, the missing ones go: so a deployment that replaces all
servers at once leaves none of the old ones behind.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection, Hashable, Iterable, Mapping
from functools import partial
from typing import Any

from msgspec import Struct, structs
from twisted.internet import defer
from twisted.logger import Logger

from slardar.catalogues.base import Catalogue, Failed, Listing, Report
from slardar.catalogues.pace import Pace
from slardar.model.service import Levels, Listed, Origin, Service
from slardar.resolve import FIRST

__all__ = ["BURST", "KNOWN", "LONGEST", "PAUSE", "KnownService", "ServiceState", "ServiceWatch"]

#: Changes that are told at once after a quiet time.  Those that come then are gathered for so many
#: seconds, and for twice as long each time, up to the second number.
BURST = 3
PAUSE = 0.05
LONGEST = 0.25
#: Seconds by which the end of a grace may be missed: times are added and subtracted.
_ROUNDING = 0.001
#: Seconds for which a start waits for a catalogue whose last listing it knows from before.  A
#: catalogue that is there answers sooner, and what it lists is newer.
KNOWN = 0.5

_log = Logger("slardar.catalogues")


class KnownService(Struct, frozen=True):
    """What a catalogue has listed last, for another process."""

    origin: Origin
    levels: Levels
    #: What it listed before servers went missing, and seconds since then; ``None``: none are.
    whole: Levels | None = None
    missing_for: float | None = None


class ServiceState(Struct, frozen=True):
    """What the status shows of a service.  Times are in epoch seconds; 0: never."""

    #: When the catalogue was asked last, or told something by itself.
    looked_up_at: float = 0.0
    #: Since when it cannot be asked (0: it can), and why.
    failed_at: float = 0.0
    reason: str = ""
    #: Since when it lists no server (0: it does).
    empty_at: float = 0.0
    #: Since when servers stay that it lists no longer, beside those that it lists (0: none do).
    halved_at: float = 0.0
    #: What of its last answer could not be used.
    note: str = ""


class _Followed:
    """What is known of one origin, which several services may have."""

    def __init__(self) -> None:
        #: The services, and whoever wants it followed for a while.
        self.users: dict[Hashable, Service] = {}
        #: The servers that are listed now; ``None`` if nothing was ever listed.
        self.levels: Levels | None = None
        #: The servers that were listed when none was missing; ``None`` if none ever were.
        self.whole: Levels | None = None
        self.state = ServiceState()
        #: Since when servers of the whole are missing, in the reactor's seconds; ``None``: none
        #: are, or it is meant.
        self.missing_from: float | None = None
        #: The calls at the ends of the services' graces.
        self.graces: list[Any] = []
        #: Whether the catalogue has said anything, and those who wait for it.
        self.is_told = False
        self.waiting: list[defer.Deferred[None]] = []

    def misses_servers(self) -> bool:
        """Whether fewer than half as many servers are listed as before, or none.

        Servers that drained then are not counted: they were about to leave.
        """
        listed = _count(self.levels or ())
        if self.whole is None:
            return not listed
        return 2 * listed < sum(one.state == "up" for level in self.whole for one in level)

    def is_halved(self) -> bool:
        """Whether some servers are listed, and others are missing."""
        return self.missing_from is not None and bool(self.levels)

    def longest_grace(self) -> float:
        """The longest ``empty_grace`` of its services."""
        return max((service.empty_grace for service in self.users.values()), default=0.0)


class ServiceWatch:
    """See the module.

    ``catalogues`` are the catalogues by the keys of services that name them; the services of
    others are not followed.  ``changed``, which is to be set, is called with the names of services
    whose servers may differ.  So may be ``recall``, which is asked for what was listed before this
    start, and ``noted``, which is called when :meth:`known` has something new.
    """

    def __init__(self, reactor: Any, catalogues: Mapping[str, Catalogue]) -> None:
        self._reactor = reactor
        self._catalogues = catalogues
        self.changed: Callable[[Collection[str]], None] = lambda names: None
        self.recall: Callable[[], Awaitable[Iterable[KnownService]]] | None = None
        self.noted: Callable[[], None] = lambda: None
        self._services: Mapping[str, Service] = {}
        self._followed: dict[Origin, _Followed] = {}
        #: What another process has known, and whether it has told so right now.
        self._learnt: dict[Origin, KnownService] = {}
        self._is_heir = False
        #: The services to be told of, and the call that will tell.
        self._new: set[str] = set()
        self._call: Any = None
        self._pace = Pace(PAUSE, LONGEST, BURST)
        self._is_over = False

    # What is followed.

    async def begin(self, services: Mapping[str, Service]) -> None:
        """Follow these services from the start on.  Returns as :meth:`first` fires."""
        if services and self.recall is not None and not self._is_heir:
            self._learnt = {one.origin: one for one in await self.recall()}
        self.follow(services)
        await self.first(services.values())
        if services:
            self.noted()

    def follow(self, services: Mapping[str, Service]) -> None:
        """Follow these services from now on, and no others."""
        if self._is_over or services is self._services:
            return
        before, self._services = self._services, services
        # The new ones first, so that nothing is asked anew that two services share.
        for name, service in services.items():
            if before.get(name) is not service:
                self._use(name, service)
        for name, service in before.items():
            if name not in services or services[name].origin != service.origin:
                self._release(name, service)

    def hold(self, service: Service) -> Callable[[], None]:
        """Follow a service that may be one of those followed soon.  Returns what ends this."""
        user = object()
        if not self._is_over:
            self._use(user, service)
        return partial(self._release, user, service)

    def first(self, services: Iterable[Service]) -> defer.Deferred[None]:
        """Fires when the catalogues have said something of each of these, which are followed; at
        the latest after :data:`slardar.resolve.FIRST` seconds, and after :data:`KNOWN` seconds if
        it is known what was listed before this start.  Never fails."""
        waiting = []
        for service in services:
            followed = self._followed.get(service.origin)
            if followed is not None and not followed.is_told:
                asked: defer.Deferred[None] = defer.Deferred()
                followed.waiting.append(asked)
                most = FIRST if followed.levels is None else KNOWN
                waiting.append(asked.addTimeout(most, self._reactor).addErrback(lambda _: None))
        return defer.DeferredList(waiting).addCallback(lambda _: None)

    def stop(self) -> None:
        """Ask no catalogue any more, and tell nothing."""
        self._is_over = True
        self._services = {}
        for followed in self._followed.values():
            _end_graces(followed)
            _answer(followed)
        self._followed = {}
        for catalogue in self._catalogues.values():
            catalogue.stop()
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def _use(self, user: Hashable, service: Service) -> None:
        catalogue = self._catalogues.get(service.origin[0])
        if catalogue is None:
            return
        followed = self._followed.get(service.origin)
        if followed is not None:
            followed.users[user] = service
            self._plan_graces(followed)
            # What was told before may not have been told of this one.
            self._tell(followed)
            return
        followed = self._followed[service.origin] = _Followed()
        followed.users[user] = service
        learnt = self._learnt.pop(service.origin, None)
        if learnt is not None:
            followed.levels, followed.is_told = learnt.levels, self._is_heir
            followed.whole = learnt.levels if learnt.missing_for is None else learnt.whole
            if learnt.missing_for is not None:
                followed.missing_from = self._reactor.seconds() - learnt.missing_for
                since = time.time() - learnt.missing_for
                followed.state = (
                    ServiceState(halved_at=since) if learnt.levels else ServiceState(empty_at=since)
                )
                self._plan_graces(followed)
        catalogue.follow(service.origin, partial(self._told, service.origin, followed))

    def _release(self, user: Hashable, service: Service) -> None:
        followed = self._followed.get(service.origin)
        if followed is None or followed.users.pop(user, None) is None:
            return
        if not followed.users:
            del self._followed[service.origin]
            _end_graces(followed)
            _answer(followed)
            self._catalogues[service.origin[0]].unfollow(service.origin)
            self.noted()

    # What catalogues say.

    def _told(self, origin: Origin, followed: _Followed, report: Report) -> None:
        place = " ".join(origin)
        before, now = followed.state, time.time()
        if isinstance(report, Failed):
            if not before.failed_at:
                # Logged once, not each time.
                _log.warn("{place}: {reason}", place=place, reason=report.reason)
            followed.state = structs.replace(
                before,
                looked_up_at=now,
                failed_at=before.failed_at or now,
                reason=report.reason,
            )
        else:
            if before.failed_at:
                _log.info("{place}: is answered again", place=place)
            if not report.levels and not before.empty_at:
                _log.warn("{place}: lists no server", place=place)
            known = followed.levels, followed.whole, followed.missing_from
            self._take(place, followed, report)
            halved_at = 0.0
            if followed.is_halved():
                is_same = known[2] == followed.missing_from
                halved_at = (is_same and before.halved_at) or now
            followed.state = ServiceState(
                now,
                empty_at=0.0 if report.levels else before.empty_at or now,
                halved_at=halved_at,
                note=report.note,
            )
            if known != (followed.levels, followed.whole, followed.missing_from):
                self._plan_graces(followed)
                self._tell(followed)
                self.noted()
        _answer(followed)

    def _take(self, place: str, followed: _Followed, report: Listing) -> None:
        """Note what is listed now, and whether servers are missing."""
        now = self._reactor.seconds()
        begun = followed.missing_from
        is_over = begun is not None and now >= begun + followed.longest_grace() - _ROUNDING
        if is_over and (followed.levels or report.levels):
            # Those that were missing are gone, and what is listed is all there is.
            followed.whole, followed.missing_from = followed.levels, None
        followed.levels = report.levels
        if report.is_meant or not followed.misses_servers():
            followed.whole, followed.missing_from = report.levels, None
        elif followed.missing_from is None:
            followed.missing_from = now
            if report.levels:
                _log.warn(
                    "{place}: lists {now} servers and had {before}; the others stay for a while",
                    place=place,
                    now=_count(report.levels),
                    before=_count(followed.whole or ()),
                )

    def _plan_graces(self, followed: _Followed) -> None:
        """Tell of the services again when their graces are over."""
        _end_graces(followed)
        if followed.missing_from is None:
            return
        now = self._reactor.seconds()
        for grace in {service.empty_grace for service in followed.users.values()}:
            if followed.missing_from + grace > now:
                delay = followed.missing_from + grace - now
                followed.graces.append(self._reactor.callLater(delay, self._tell, followed))

    def _tell(self, followed: _Followed) -> None:
        self._new.update(name for name in followed.users if isinstance(name, str))
        if self._new and self._call is None:
            # Not at once, so that answers that come together make one change.
            delay = self._pace.delay(self._reactor.seconds())
            self._call = self._reactor.callLater(delay, self._tell_new)

    def _tell_new(self) -> None:
        self._call = None
        new, self._new = self._new, set()
        self.changed(new)

    # Questions.

    def levels(self, service: Service) -> Levels | None:
        """The servers that a service has now.  ``None`` if nothing is known: those that it has had
        stay."""
        followed = self._followed.get(service.origin)
        if followed is None:
            return None
        if followed.missing_from is None or self._is_grace_over(followed, service):
            return followed.levels
        if followed.whole is None:
            return None
        may_fail = service.each_server.get("max_fails", 0)
        return with_missing(followed.whole, followed.levels or (), may_fail)

    def _is_grace_over(self, followed: _Followed, service: Service) -> bool:
        begun, now = followed.missing_from, self._reactor.seconds()
        return begun is None or now >= begun + service.empty_grace - _ROUNDING

    def shown(self) -> Mapping[str, ServiceState]:
        """What the status shows of each service."""
        return {name: self._state(service) for name, service in self._services.items()}

    def _state(self, service: Service) -> ServiceState:
        followed = self._followed.get(service.origin)
        if followed is None:
            return ServiceState()
        if followed.state.halved_at and self._is_grace_over(followed, service):
            return structs.replace(followed.state, halved_at=0.0)
        return followed.state

    # The upgrade in place.

    def known(self) -> list[KnownService]:
        """What the catalogues have listed last, for :meth:`learn` of another process."""
        return [
            KnownService(
                origin,
                followed.levels,
                followed.whole,
                None
                if followed.missing_from is None
                else self._reactor.seconds() - followed.missing_from,
            )
            for origin, followed in self._followed.items()
            if followed.levels is not None
        ]

    def learn(self, known: Iterable[KnownService]) -> None:
        """Begin with what another process has known until now, whatever ``recall`` would say.  To
        be called before :meth:`begin` and :meth:`follow`."""
        self._is_heir = True
        self._learnt = {one.origin: one for one in known}


def with_missing(whole: Levels, listed: Levels, may_fail: int) -> Levels:
    """The servers that are listed, and those of the whole that are missing.

    A server of the whole stays in its level, for a level may be missing altogether.  One that was
    draining does not stay.  If others are listed, a missing one is on probation: the first failure
    puts it out of service, even if ``may_fail`` or it says that none ever does.
    """
    found = {one.place: one for level in listed for one in level}
    known = {one.place for level in whole for one in level}
    merged: list[list[Listed]] = [[] for _ in range(max(len(whole), len(listed)))]
    for level, servers in zip(merged, whole, strict=False):
        for one in servers:
            if one.place in found:
                level.append(found[one.place])
            elif one.state == "up":
                level.append(_on_probation(one, may_fail) if listed else one)
    for level, servers in zip(merged, listed, strict=False):
        level += (one for one in servers if one.place not in known)
    return tuple(tuple(sorted(level, key=lambda one: one.place)) for level in merged if level)


def _on_probation(one: Listed, may_fail: int) -> Listed:
    most = may_fail if one.max_fails is None else one.max_fails
    return one if most else structs.replace(one, max_fails=1)


def _count(levels: Levels) -> int:
    return sum(map(len, levels))


def _end_graces(followed: _Followed) -> None:
    for call in followed.graces:
        if call.active():
            call.cancel()
    followed.graces = []


def _answer(followed: _Followed) -> None:
    """Nobody waits for the first answer any longer."""
    followed.is_told = True
    waiting, followed.waiting = followed.waiting, []
    for asked in waiting:
        if not asked.called:
            asked.callback(None)
