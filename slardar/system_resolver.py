"""The system's resolver (getaddrinfo), asked in threads of its own.

A call of it cannot be stopped, and takes minutes where the name servers of the machine are
away.
"""

from __future__ import annotations

import socket
from typing import Any, Final

from twisted.internet import defer
from twisted.internet.address import IPv4Address, IPv6Address
from twisted.internet.interfaces import (
    IHostnameResolver,
    IHostResolution,
    IReactorPluggableNameResolver,
    IResolutionReceiver,
)
from zope.interface import implementer

from slardar.daemon import call_in_daemon
from slardar.resolvconf import Addresses

__all__ = ["MOST", "ReactorNames", "SystemResolver"]

#: Calls at a time; the reactor has as many threads for everything.
MOST: Final = 10


class SystemResolver:
    """Asks the system's resolver for names, :data:`MOST` at a time; the others wait.

    ``reactor`` has ``callFromThread``.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._running = 0
        #: The names that wait for a thread, in order.
        self._waiting: dict[defer.Deferred[Addresses], str] = {}

    def ask(self, name: str) -> defer.Deferred[Addresses]:
        """The addresses of a name; none if it has none.

        It may be cancelled.  A call that has begun goes on then, and nobody gets its result.
        """
        asked: defer.Deferred[Addresses] = defer.Deferred(self._cancelled)
        self._waiting[asked] = name
        self._begin()
        return asked

    def _cancelled(self, asked: defer.Deferred[Addresses]) -> None:
        self._waiting.pop(asked, None)

    def _begin(self) -> None:
        while self._waiting and self._running < MOST:
            asked = next(iter(self._waiting))
            name = self._waiting.pop(asked)
            try:
                call = call_in_daemon(self._reactor, _addresses_of, name)
            except RuntimeError:
                # The machine has no thread left; the name is asked for again later.
                asked.callback([])
            else:
                self._running += 1
                call.addBoth(self._ended, asked)

    def _ended(self, result: Any, asked: defer.Deferred[Addresses]) -> None:
        self._running -= 1
        if not asked.called:
            asked.callback(result)
        self._begin()


def _addresses_of(name: str) -> Addresses:
    """What the system's resolver says of one name; may hang."""
    try:
        found = socket.getaddrinfo(name, 0, 0, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        # There is no such name, or it is none at all.
        return []
    return [
        (family, str(place[0]))
        for family, _, _, _, place in found
        if family in (socket.AF_INET, socket.AF_INET6)
    ]


class ReactorNames:
    """Has a reactor look its names up here, for clients of stores and catalogues.

    Its own threads would do it otherwise, and the reactor waits for them when it ends.  A reactor
    that does not ask for names, as one of a test, is left alone.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._before: Any = None

    def install(self) -> None:
        """From now on."""
        if self._before is None and IReactorPluggableNameResolver.providedBy(self._reactor):
            names = _HostnameResolver(SystemResolver(self._reactor))
            self._before = self._reactor.installNameResolver(names)

    def remove(self) -> None:
        """As it was before."""
        if self._before is not None:
            self._reactor.installNameResolver(self._before)
            self._before = None


@implementer(IHostnameResolver)
class _HostnameResolver:
    """What a reactor asks for a name."""

    def __init__(self, resolver: SystemResolver) -> None:
        self._resolver = resolver

    def resolveHostName(
        self,
        resolutionReceiver: IResolutionReceiver,  # noqa: N803
        hostName: str,  # noqa: N803
        portNumber: int = 0,  # noqa: N803
        addressTypes: Any = None,  # noqa: N803
        transportSemantics: str = "TCP",  # noqa: N803
    ) -> IHostResolution:
        receiver = resolutionReceiver
        asked = self._resolver.ask(hostName)
        resolution = _Resolution(hostName, asked)
        receiver.resolutionBegan(resolution)

        def tell(addresses: Addresses) -> None:
            for family, host in addresses:
                kind: Any = IPv6Address if family == socket.AF_INET6 else IPv4Address
                if addressTypes is None or kind in addressTypes:
                    receiver.addressResolved(kind(transportSemantics, host, portNumber))
            receiver.resolutionComplete()

        # Whoever cancels wants to hear nothing.
        asked.addCallbacks(tell, lambda failure: None)
        return resolution


@implementer(IHostResolution)
class _Resolution:
    """A name that is being looked up."""

    def __init__(self, name: str, asked: defer.Deferred[Any]) -> None:
        self.name = name
        self._asked = asked

    def cancel(self) -> None:
        self._asked.cancel()
