"""Asks name servers for the addresses of names and for the servers of services, and how long
the answers may be used.

The questions and answers are ``twisted.names``'s, by UDP from a random port, and by TCP if
an answer is too long.  Here is what is asked of whom, and what is believed.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final, NamedTuple, TypeVar

from twisted.internet import defer
from twisted.internet.interfaces import IReadDescriptor
from twisted.names import client, dns, error
from zope.interface import implementer

from slardar.resolvconf import Addresses, ResolvConf, candidates

__all__ = ["NameServers", "Reply", "ServiceRecord", "ServiceReply", "read_records", "read_services"]

T = TypeVar("T")

#: Records of one answer that are read; an answer over TCP may have some 4,000.
_MAX_RECORDS: Final = 1000
#: Names that lead from one to the next until there is an address.
_MAX_ALIASES: Final = 16
#: Queries for one name, if the name server does not follow aliases itself.
_MAX_QUERIES: Final = 4
#: Bytes of a datagram, and datagrams that are read at a time.
_MAX_DATAGRAM: Final = 65535
_MAX_DATAGRAMS: Final = 20
#: A time to live with the highest bit set means 0 (RFC 2181, 8).
_TOO_LONG: Final = 1 << 31

_KINDS: Final = ((dns.A, socket.AF_INET), (dns.AAAA, socket.AF_INET6))
#: The methods of twisted's resolver that ask for records, by the records' type.
_QUERIES: Final = {
    dns.A: "lookupAddress",
    dns.AAAA: "lookupIPV6Address",
    dns.SRV: "lookupService",
}


@dataclass
class Reply:
    """What name servers say of one name."""

    addresses: Addresses = field(default_factory=list)
    #: Seconds for which the addresses may be used; without an address it means nothing.
    ttl: float = float("inf")
    #: Why there is no address; empty if there is one.
    reason: str = ""
    #: The kinds of addresses that could not be asked for: there may be some.
    unknown: tuple[int, ...] = ()


class ServiceRecord(NamedTuple):
    """One server of a service, as an SRV record names it (RFC 2782)."""

    #: A server with a higher number is asked only if none with a lower number can be reached.
    priority: int
    #: The server's share among those of its priority.
    weight: int
    port: int
    #: The server's name, absolute, in lower case and without the dot at its end; empty for
    #: the root, which says that there is no server.
    target: str


@dataclass
class ServiceReply:
    """What name servers say of one service."""

    #: Empty if there is no such service, or nobody can say.
    records: list[ServiceRecord] = field(default_factory=list)
    #: Seconds for which the records may be used; without a record it means nothing.
    ttl: float = float("inf")
    #: Why nobody can say; empty if there is an answer.
    reason: str = ""


def read_records(records: Iterable[Any], name: str, kind: int) -> tuple[list[str], float, str]:
    """The addresses of one kind (``dns.A`` or ``dns.AAAA``) that an answer has for ``name``,
    their time to live in seconds, and the name at which the aliases end.

    An alias that is used lowers the time to live of all.  Records of other names are not
    believed.
    """
    family = socket.AF_INET if kind == dns.A else socket.AF_INET6
    return _read(records, name, kind, lambda about: socket.inet_ntop(family, about.address))


def read_services(records: Iterable[Any], name: str) -> tuple[list[ServiceRecord], float, str]:
    """The same for SRV records."""
    return _read(
        records,
        name,
        dns.SRV,
        lambda about: ServiceRecord(
            about.priority, about.weight, about.port, _text(about.target).removesuffix(".")
        ),
    )


def _read(
    records: Iterable[Any], name: str, kind: int, value_of: Callable[[Any], T]
) -> tuple[list[T], float, str]:
    aliases: dict[str, tuple[str, int]] = {}
    found: dict[str, list[tuple[T, int]]] = {}
    for record in list(records)[:_MAX_RECORDS]:
        owner = _text(record.name)
        if record.type == dns.CNAME:
            aliases[owner] = (_text(record.payload.name), _seconds(record.ttl))
        elif record.type == kind:
            value = value_of(record.payload)
            found.setdefault(owner, []).append((value, _seconds(record.ttl)))
    current, ttl = name.lower(), float("inf")
    for _ in range(_MAX_ALIASES):
        alias = aliases.get(current)
        if current in found or alias is None:
            break
        current, ttl = alias[0], min(ttl, alias[1])
    some = found.get(current, [])
    return [value for value, _ in some], min([ttl, *(own for _, own in some)]), current


def _text(name: Any) -> str:
    text: str = name.name.decode("latin-1")
    return text.lower()


def _seconds(ttl: Any) -> int:
    seconds = int(ttl)
    return 0 if seconds >= _TOO_LONG else seconds


class _Resolver(client.Resolver):
    """Asks one name server."""

    def queryUDP(self, queries: Any, timeout: Any = None) -> Any:
        """Ask by UDP; ``timeout`` has one number of seconds."""
        protocol: Any = dns.DNSDatagramProtocol
        protocol = protocol(self, reactor=self._reactor)
        try:
            port = _Port(self._reactor, self.servers[0], protocol)
        except OSError:
            return defer.fail()
        asked = protocol.query(self.servers[0], queries, timeout[0])
        return asked.addBoth(port.close)

    def messageReceived(self, message: Any, protocol: Any, address: Any = None) -> None:
        """An answer to what was not asked: dropped, and not logged, as there may be many."""

    def filterAnswers(self, message: Any) -> Any:
        """The records of an answer; one that was cut is asked for once more, over TCP."""
        if not message.trunc:
            return client.Resolver.filterAnswers(self, message)  # type: ignore[no-untyped-call]
        whole: Any = self.queryTCP(message.queries)  # type: ignore[no-untyped-call]
        return whole.addCallback(self._from_tcp)

    def _from_tcp(self, message: Any) -> Any:
        # An answer that says once more that it was cut must not be asked for for ever.
        message.trunc = 0
        return self.filterAnswers(message)


@implementer(IReadDescriptor)
class _Port:
    """A socket for one question by UDP, from a port that the kernel draws.

    ``reactor.listenUDP`` would log two lines for each question, and not learn at once that
    nobody listens at the name server.
    """

    def __init__(self, reactor: Any, server: tuple[str, int], protocol: Any) -> None:
        family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
        self._reactor, self._server, self._protocol = reactor, server, protocol
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._socket.connect(server)
        except OSError:
            self._socket.close()
            raise
        protocol.noisy = False
        protocol.makeConnection(self)
        reactor.addReader(self)

    def write(self, data: bytes, _address: object) -> None:
        """Send a question; called by the protocol."""
        self._socket.send(data)

    def close(self, result: Any) -> Any:
        """There is an answer, or nobody waits for one."""
        self._reactor.removeReader(self)
        self._socket.close()
        self._take_questions()
        return result

    def _take_questions(self) -> list[Any]:
        """The questions without an answer; their time is measured no more."""
        questions = list(self._protocol.liveMessages.values())
        self._protocol.liveMessages.clear()
        for _, timer in questions:
            timer.cancel()
        return [asked for asked, _ in questions]

    # For the reactor.

    def fileno(self) -> int:
        return self._socket.fileno()

    def logPrefix(self) -> str:
        return "dns"

    def doRead(self) -> None:
        """Datagrams have come: some, so that nobody who sends many keeps the reactor busy."""
        for _ in range(_MAX_DATAGRAMS):
            if self._socket.fileno() < 0:
                return
            try:
                data = self._socket.recv(_MAX_DATAGRAM)
            except BlockingIOError:
                return
            except OSError as problem:
                self._fail(problem)
                return
            # The kernel drops what others than the name server send.
            self._protocol.datagramReceived(data, self._server)

    def connectionLost(self, reason: Any) -> None:
        """The kernel has an error for the socket, or the reactor ends."""
        number = errno.ECONNABORTED
        if self._socket.fileno() >= 0:
            number = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) or number
        self._fail(OSError(number, os.strerror(number)))

    def _fail(self, reason: OSError) -> None:
        """No answer can come, mostly because nobody listens there."""
        for asked in self._take_questions():
            asked.errback(reason)


class _UnansweredError(Exception):
    """No name server has said whether there is an address; the text says why."""


class NameServers:
    """The name servers of one ``resolv.conf``.

    The name server that was last to answer is asked first, so that one that is away costs
    time only once.
    """

    def __init__(self, reactor: Any, conf: ResolvConf) -> None:
        self._reactor = reactor
        self._conf = conf
        # A resolver for each: twisted's one for all would ask another one over TCP than
        # the one whose answer was cut, and no other one after a refusal.
        make: Any = _Resolver
        self._resolvers: list[Any] = [
            make(servers=[server], timeout=(conf.timeout,), reactor=reactor)
            for server in conf.servers
        ]
        self._first = 0

    async def look_up(self, name: str) -> Reply:
        """What the name servers say of a name and its search domains; never fails."""
        reply = Reply(reason="no name to ask for")
        for candidate in candidates(name, self._conf):
            reply = await self._ask_all_kinds(candidate)
            if reply.addresses or reply.unknown:
                # Behind a name that nobody knows about for now may be an address, so the
                # next name must not take its place.
                break
        return reply

    async def look_up_service(self, name: str) -> ServiceReply:
        """What the name servers say of a service and its search domains; never fails."""
        for candidate in candidates(name, self._conf):
            try:
                records, ttl = await self._ask(candidate, dns.SRV, read_services)
            except _UnansweredError as error:
                # As for addresses: the next name must not take the place of this one.
                return ServiceReply(reason=str(error))
            if records:
                return ServiceReply(records, ttl)
        return ServiceReply()

    def stop(self) -> None:
        """Close the connections to the name servers."""
        for resolver in self._resolvers:
            _hang_up(resolver)

    async def _ask_all_kinds(self, name: str) -> Reply:
        asked = [
            defer.ensureDeferred(self._ask(name, kind, partial(read_records, kind=kind)))
            for kind, _ in _KINDS
        ]
        reply, reasons = Reply(), []
        for (is_known, result), (_, family) in zip(await _all(asked), _KINDS, strict=True):
            if not is_known:
                result.trap(_UnansweredError)
                reasons.append(result.getErrorMessage())
                reply.unknown += (family,)
                continue
            addresses, ttl = result
            if addresses:
                reply.addresses += [(family, address) for address in addresses]
                reply.ttl = min(reply.ttl, ttl)
        if not reply.addresses:
            reply.reason = reasons[0] if reasons else "the name servers know no address of it"
        return reply

    async def _ask(
        self, name: str, kind: int, read: Callable[[list[Any], str], tuple[list[T], float, str]]
    ) -> tuple[list[T], float]:
        """What ``read`` finds in the records of one kind, and their time to live; nothing if
        there is none."""
        ttl = float("inf")
        for _ in range(_MAX_QUERIES):
            records = await self._ask_each(name, kind)
            found, own, last = read(records, name)
            ttl = min(ttl, own)
            if found or last == name.lower():
                return found, ttl
            name = last
        return [], ttl

    async def _ask_each(self, name: str, kind: int) -> list[Any]:
        """The records of an answer, from the first name server that has one."""
        problems: dict[int, str] = {}
        count, seconds = len(self._resolvers), self._conf.timeout
        first = self._first
        for attempt in range(self._conf.attempts * count):
            number = (first + attempt) % count
            resolver = self._resolvers[number]
            query = getattr(resolver, _QUERIES[kind])
            # ``seconds`` is twisted's time for UDP; an answer over TCP gets twice as much again.
            asked = query(name, (seconds,)).addTimeout(3 * seconds, self._reactor)
            try:
                records: list[Any] = (await asked)[0]
            except error.DNSNameError:
                records = []
            except defer.CancelledError:
                raise
            except Exception as problem:
                problems[number] = _words(problem)
                if isinstance(problem, defer.TimeoutError):
                    # A connection on which nothing comes is not used again.
                    _hang_up(resolver)
                continue
            self._first = number
            return records
        said = (
            f"{host} {problems[number]}"
            for number, (host, _) in enumerate(self._conf.servers)
            if number in problems
        )
        raise _UnansweredError(f"name servers: {', '.join(said)}")


async def _all(asked: list[defer.Deferred[Any]]) -> list[tuple[bool, Any]]:
    """Wait for all of them; whether each has a result, and the result or the failure."""
    everything = defer.DeferredList(asked, consumeErrors=True)
    try:
        results: Any = await everything
    except defer.CancelledError:
        for one in asked:
            one.cancel()
        raise
    for is_known, result in results:
        if not is_known and not result.check(_UnansweredError):
            result.raiseException()
    return list(results)


def _hang_up(resolver: Any) -> None:
    for connection in list(resolver.connections):
        connection.transport.abortConnection()


_WORDS: Final[dict[type[Exception], str]] = {
    error.DNSFormatError: "could not read the question (FORMERR)",
    error.DNSServerError: "could not answer (SERVFAIL)",
    error.DNSNotImplementedError: "does not answer such questions (NOTIMP)",
    error.DNSQueryRefusedError: "refused to answer (REFUSED)",
}


def _words(problem: Exception) -> str:
    if isinstance(problem, defer.TimeoutError):
        return "gave no answer"
    if isinstance(problem, OSError):
        return f"cannot be asked ({problem.strerror})"
    return _WORDS.get(type(problem), f"failed: {type(problem).__name__}")
