"""A name server of the test, on a port of this machine."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import DeferredList
from twisted.internet.error import CannotListenError
from twisted.names import dns, server

__all__ = ["SILENT", "NameServer", "address", "alias", "service"]

#: The answer of a name server that does not answer.
SILENT = -1


def address(owner: str, host: str, ttl: int = 60) -> Any:
    """A record of an address."""
    record = dns.Record_AAAA if ":" in host else dns.Record_A
    return dns.RRHeader(owner, record.TYPE, ttl=ttl, payload=record(host, ttl))


def alias(owner: str, target: str, ttl: int = 60) -> Any:
    """A record that says that a name means another one."""
    return dns.RRHeader(owner, dns.CNAME, ttl=ttl, payload=dns.Record_CNAME(target, ttl))


def service(
    owner: str, target: str, port: int, priority: int = 0, weight: int = 0, ttl: int = 60
) -> Any:
    """A record of one server of a service; an empty ``target`` is the root."""
    payload = dns.Record_SRV(priority, weight, port, target, ttl)
    return dns.RRHeader(owner, dns.SRV, ttl=ttl, payload=payload)


class NameServer(server.DNSServerFactory):
    """Answers over UDP and TCP what ``zone`` says.

    ``zone`` has, for a name, the records of its answer or a number: an error of DNS, or
    :data:`SILENT`.  A pair of a name and a type counts before the name.  A name that is not
    there gets NXDOMAIN.  Answers over UDP have no more than ``most`` records.
    """

    def __init__(self, reactor: Any, host: str = "127.0.0.1", port: int = 0) -> None:
        super().__init__()
        self.noisy = False
        self._reactor = reactor
        self.host = host
        self.zone: dict[Any, Any] = {}
        self.most = 20
        #: Whether all answers say that they were cut, those over TCP included.
        self.always_cut = False
        #: What was asked: name, type and transport.
        self.asked: list[tuple[str, str, str]] = []
        #: What the next answers over UDP have as their number, instead of the question's.
        self.wrong_ids: list[int] = []
        self._open(port)

    def _open(self, port: int) -> None:
        while True:
            datagrams = dns.DNSDatagramProtocol(self, reactor=self._reactor)
            udp = self._reactor.listenUDP(port, datagrams, interface=self.host)
            self.port: int = udp.getHost().port
            try:
                tcp = self._reactor.listenTCP(self.port, self, interface=self.host)
            except CannotListenError:
                udp.stopListening()
                if port:
                    raise
                continue
            self._ports = [udp, tcp]
            return

    def names_asked(self) -> list[str]:
        """The names that were asked for, each time that they were."""
        return [name for name, kind, _ in self.asked if kind == "A"]

    def messageReceived(self, message: Any, proto: Any, address: Any = None) -> None:
        """A question has come."""
        (query,) = message.queries
        name, kind = query.name.name.decode().lower(), dns.QUERY_TYPES[query.type]
        self.asked.append((name, kind, "tcp" if address is None else "udp"))
        said = self.zone.get((name, kind), self.zone.get(name, dns.ENAME))
        if said == SILENT:
            return
        answer = dns.Message(message.id, answer=1, recAv=1, maxSize=0)
        answer.trunc = int(self.always_cut)
        answer.queries = message.queries
        if isinstance(said, int):
            answer.rCode = said
        else:
            answer.answers = [one for one in said if one.type in (query.type, dns.CNAME)]
            if address is not None and len(answer.answers) > self.most:
                answer.answers, answer.trunc = answer.answers[: self.most], 1
        for number in self.wrong_ids:
            answer.id = (message.id + number) % 65536
            self._reply(proto, answer, address)
        answer.id = message.id
        self._reply(proto, answer, address)

    def _reply(self, proto: Any, answer: Any, address: Any) -> None:
        proto.writeMessage(answer, *(() if address is None else (address,)))

    def stop(self) -> Any:
        """End it; fires when its port is free."""
        for connection in list(self.connections):
            connection.transport.abortConnection()
        ports, self._ports = self._ports, []
        return DeferredList([port.stopListening() for port in ports])
