"""One lookup of a name, as this machine looks names up: hosts file, DNS, system's resolver; and
one of a service, which only DNS knows.

DNS is asked by ``twisted.names``, because it says for how long an address is good; what DNS
does not find, the system's resolver is asked for, which knows the other sources of
``nsswitch.conf``.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from twisted.internet import defer

from slardar import resolvconf
from slardar.resolvconf import Addresses, WatchedFile
from slardar.system_resolver import SystemResolver

if TYPE_CHECKING:
    from slardar.dns import ServiceReply

__all__ = ["UNTIMED", "Found", "Lookup", "SystemLookup"]

#: Seconds for which an answer is good whose source says nothing about that: files and the
#: system's resolver.
UNTIMED = 10.0
#: Seconds after which a lookup by the system's resolver counts as lost; glibc gives up
#: after 5 seconds, twice, for each name server.
LOST = 60.0
#: Names that name servers are asked for at a time: each takes two sockets.
MOST = 100

_LOOPBACK: Addresses = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]


@dataclass
class Found:
    """What a lookup has found."""

    #: None: the lookup has failed.
    addresses: Addresses = field(default_factory=list)
    #: Seconds for which they are good, as their source says.
    ttl: float = UNTIMED
    #: Why the lookup has failed; empty if it has not.
    reason: str = ""
    #: The kinds of addresses (``AF_INET``, ``AF_INET6``) of which nobody could say whether
    #: there are any.
    unknown: tuple[int, ...] = ()


class Lookup(Protocol):
    """Looks one name up, once."""

    def look_up(self, name: str) -> defer.Deferred[Found]:
        """What is found for a name.  It may be cancelled."""

    def has_changed(self) -> bool:
        """Whether answers may be others since this was last asked, whatever their ``ttl``."""

    def stop(self) -> None:
        """Nothing will be looked up any more."""


class SystemLookup:
    """Looks names up as this machine does.

    ``resolv_conf`` and ``hosts`` are the paths of its files; ``system(name)`` asks the system's
    resolver.
    """

    def __init__(
        self,
        reactor: Any,
        resolv_conf: str | None = None,
        hosts: str | None = None,
        system: Callable[[str], defer.Deferred[Addresses]] | None = None,
    ) -> None:
        self._reactor = reactor
        self._system = system or SystemResolver(reactor).ask
        self._conf = WatchedFile(
            resolv_conf or resolvconf.RESOLV_CONF, resolvconf.parse_resolv_conf
        )
        self._hosts = WatchedFile(hosts or resolvconf.HOSTS, resolvconf.parse_hosts)
        #: The name servers of the ``resolv.conf`` that was read last.
        self._servers: Any = None
        self._servers_of: resolvconf.ResolvConf | None = None
        self._room = defer.DeferredSemaphore(MOST)
        self._readings = 0

    def look_up(self, name: str) -> defer.Deferred[Found]:
        """See :class:`Lookup`."""
        plain = name.removesuffix(".").lower()
        addresses = self._hosts.read().get(plain)
        if addresses:
            return defer.succeed(Found(list(addresses)))
        if plain == "localhost" or plain.endswith(".localhost"):
            # RFC 6761, 6.3: no name server is asked.
            return defer.succeed(Found(list(_LOOPBACK)))
        return defer.ensureDeferred(self._look_up(name))

    def look_up_service(self, name: str) -> defer.Deferred[ServiceReply]:
        """What SRV records say of a service such as ``_http._tcp.web.example``.  It may be
        cancelled."""
        return defer.ensureDeferred(self._look_up_service(name))

    def has_changed(self) -> bool:
        """See :class:`Lookup`: whether a file has changed."""
        self._conf.read()
        self._hosts.read()
        before, self._readings = self._readings, self._conf.readings + self._hosts.readings
        return before != self._readings and before > 0

    def stop(self) -> None:
        """See :class:`Lookup`."""
        if self._servers is not None:
            self._servers.stop()

    async def _look_up(self, name: str) -> Found:
        servers = self._name_servers()
        reason, unknown = "", ()
        if servers is not None:
            reply = await self._room.run(_start, servers.look_up, name)
            if reply.addresses:
                return Found(reply.addresses, reply.ttl, "", reply.unknown)
            reason, unknown = reply.reason, reply.unknown
        addresses = await self._ask_system(name)
        if addresses:
            return Found(addresses)
        return Found([], UNTIMED, reason or "the system's resolver found no address", unknown)

    async def _look_up_service(self, name: str) -> ServiceReply:
        servers = self._name_servers()
        if servers is None:
            from slardar.dns import ServiceReply

            return ServiceReply(reason="resolv.conf names no name server")
        reply: ServiceReply = await self._room.run(_start, servers.look_up_service, name)
        return reply

    def _name_servers(self) -> Any:
        """The name servers that ``resolv.conf`` names now; ``None`` if it names none."""
        conf = self._conf.read()
        if conf != self._servers_of:
            self._servers_of = conf
            self.stop()
            self._servers = None
            if conf.servers:
                # Workers look nothing up: they need not hold the code in memory.
                from slardar.dns import NameServers

                self._servers = NameServers(self._reactor, conf)
        return self._servers

    async def _ask_system(self, name: str) -> Addresses:
        try:
            return await self._system(name).addTimeout(LOST, self._reactor)
        except defer.TimeoutError:
            return []


def _start(ask: Callable[[str], Coroutine[Any, Any, Any]], name: str) -> defer.Deferred[Any]:
    return defer.ensureDeferred(ask(name))
