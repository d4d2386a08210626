"""Follows all services, each in its catalogue, and tells when the servers of some have changed.

A catalogue that cannot be asked takes no server away.  One that lists no server any more takes
the last ones away after the service's ``empty_grace``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping
from functools import partial
from typing import Any

from msgspec import Struct
from twisted.internet import defer
from twisted.logger import Logger

from slardar.catalogues.base import Catalogue, Failed, Report
from slardar.model.service import Levels, Origin, Service
from slardar.resolve import FIRST

__all__ = ["GATHER", "KnownService", "ServiceState", "ServiceWatch"]

#: Seconds for which changes are gathered before they are told, so that many answers at a time
#: make one change of the configuration.
GATHER = 0.1
#: Seconds by which the end of a grace may be missed: times are added and subtracted.
_ROUNDING = 0.001

_log = Logger("slardar.catalogues")


class KnownService(Struct, frozen=True):
    """What a catalogue has listed last, for another process."""

    origin: Origin
    levels: Levels
    #: Seconds for which it has listed no server; ``None``: it lists these.
    empty_for: float | None = None


class ServiceState(Struct, frozen=True):
    """What the status shows of a service.  Times are in epoch seconds; 0: never."""

    #: When the catalogue was asked last, or told something by itself.
    looked_up_at: float = 0.0
    #: Since when it cannot be asked (0: it can), and why.
    failed_at: float = 0.0
    reason: str = ""
    #: Since when it lists no server (0: it does).
    empty_at: float = 0.0
    #: What of its last answer could not be used.
    note: str = ""


class _Followed:
    """What is known of one origin, which several services may have."""

    def __init__(self) -> None:
        #: The services, and whoever wants it followed for a while.
        self.users: dict[Hashable, Service] = {}
        #: The servers that were listed last; ``None`` if none ever were.
        self.levels: Levels | None = None
        self.state = ServiceState()
        #: Since when no server is listed, in the reactor's seconds; ``None``: some are, or it is
        #: meant.
        self.empty_from: float | None = None
        #: The calls at the ends of the services' graces.
        self.graces: list[Any] = []
        #: Whether the catalogue has said anything, and those who wait for it.
        self.is_told = False
        self.waiting: list[defer.Deferred[None]] = []


class ServiceWatch:
    """See the module.

    ``catalogues`` are the catalogues by the keys of services that name them; the services of
    others are not followed.  ``changed``, which is to be set, is called with the names of services
    whose servers may differ.
    """

    def __init__(self, reactor: Any, catalogues: Mapping[str, Catalogue]) -> None:
        self._reactor = reactor
        self._catalogues = catalogues
        self.changed: Callable[[Collection[str]], None] = lambda names: None
        self._services: Mapping[str, Service] = {}
        self._followed: dict[Origin, _Followed] = {}
        #: What another process has known.
        self._learnt: dict[Origin, KnownService] = {}
        #: The services to be told of, and the call that will tell.
        self._new: set[str] = set()
        self._call: Any = None
        self._is_over = False

    # What is followed.

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
        """Fires when something is known of each of these, which are followed; at the latest after
        :data:`slardar.resolve.FIRST` seconds.  Never fails."""
        waiting = []
        for service in services:
            followed = self._followed.get(service.origin)
            if followed is not None and not followed.is_told:
                asked: defer.Deferred[None] = defer.Deferred()
                followed.waiting.append(asked)
                waiting.append(asked.addTimeout(FIRST, self._reactor).addErrback(lambda _: None))
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
            followed.levels, followed.is_told = learnt.levels, True
            if learnt.empty_for is not None:
                followed.empty_from = self._reactor.seconds() - learnt.empty_for
                followed.state = ServiceState(empty_at=time.time() - learnt.empty_for)
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

    # What catalogues say.

    def _told(self, origin: Origin, followed: _Followed, report: Report) -> None:
        place = " ".join(origin)
        before, now = followed.state, time.time()
        if isinstance(report, Failed):
            if not before.failed_at:
                # Logged once, not each time.
                _log.warn("{place}: {reason}", place=place, reason=report.reason)
            followed.state = ServiceState(
                now, before.failed_at or now, report.reason, before.empty_at, before.note
            )
        else:
            if before.failed_at:
                _log.info("{place}: is answered again", place=place)
            is_empty = not report.levels
            if is_empty and not before.empty_at:
                _log.warn("{place}: lists no server", place=place)
            empty_at = (before.empty_at or now) if is_empty else 0.0
            followed.state = ServiceState(now, empty_at=empty_at, note=report.note)
            known = followed.levels, followed.empty_from
            if is_empty and not report.is_meant:
                if followed.empty_from is None:
                    followed.empty_from = self._reactor.seconds()
            else:
                followed.levels = report.levels
                followed.empty_from = None
            if known != (followed.levels, followed.empty_from):
                self._plan_graces(followed)
                self._tell(followed)
        _answer(followed)

    def _plan_graces(self, followed: _Followed) -> None:
        """Tell of the services again when their graces are over."""
        _end_graces(followed)
        if followed.empty_from is None:
            return
        now = self._reactor.seconds()
        for grace in {service.empty_grace for service in followed.users.values()}:
            if followed.empty_from + grace > now:
                delay = followed.empty_from + grace - now
                followed.graces.append(self._reactor.callLater(delay, self._tell, followed))

    def _tell(self, followed: _Followed) -> None:
        self._new.update(name for name in followed.users if isinstance(name, str))
        if self._new and self._call is None:
            self._call = self._reactor.callLater(GATHER, self._tell_new)

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
        begun, now = followed.empty_from, self._reactor.seconds()
        if begun is not None and now >= begun + service.empty_grace - _ROUNDING:
            return ()
        return followed.levels

    def shown(self) -> Mapping[str, ServiceState]:
        """What the status shows of each service."""
        nothing = _Followed()
        return {
            name: self._followed.get(service.origin, nothing).state
            for name, service in self._services.items()
        }

    # The upgrade in place.

    def known(self) -> list[KnownService]:
        """What the catalogues have listed last, for :meth:`learn` of another process."""
        return [
            KnownService(
                origin,
                followed.levels,
                None
                if followed.empty_from is None
                else self._reactor.seconds() - followed.empty_from,
            )
            for origin, followed in self._followed.items()
            if followed.levels is not None
        ]

    def learn(self, known: Iterable[KnownService]) -> None:
        """Begin with what another process has known.  To be called before :meth:`follow`."""
        self._learnt = {one.origin: one for one in known}


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
