"""What is asked of name servers, and what is believed: records by hand, and real name servers."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import CancelledError, ensureDeferred
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.names import dns

from slardar.dns import (
    NameServers,
    Reply,
    ServiceRecord,
    ServiceReply,
    read_records,
    read_services,
)
from slardar.resolvconf import ResolvConf
from tests.nameserver import SILENT, NameServer, address, alias, service

#: Seconds within which a condition must come true, also on a busy machine.
PATIENCE = 20.0
V4, V6 = socket.AF_INET, socket.AF_INET6

# Records.


def test_least_time_to_live_counts() -> None:
    """That of every alias on the way, and of every address; names have no case."""
    records = [
        alias("web.example", "A.example", 50),
        address("b.example", "10.0.0.1", 40),
        address("B.example", "10.0.0.2", 30),
        alias("a.EXAMPLE", "b.example", 60),
    ]
    assert read_records(records, "Web.example", dns.A) == (
        ["10.0.0.1", "10.0.0.2"],
        30,
        "b.example",
    )
    records[0] = alias("web.example", "a.example", 5)
    assert read_records(records, "web.example", dns.A)[1] == 5


def test_only_records_of_the_name_are_believed() -> None:
    """Not of other names, nor of other kinds; a short time to live of them counts for nothing."""
    records = [
        address("web.example", "10.0.0.1", 60),
        address("web.example", "::1", 1),
        address("other.example", "10.0.0.2", 1),
        alias("third.example", "web.example", 1),
    ]
    assert read_records(records, "web.example", dns.A) == (["10.0.0.1"], 60, "web.example")
    assert read_records(records, "web.example", dns.AAAA) == (["::1"], 1, "web.example")
    assert read_records(records, "fourth.example", dns.A) == ([], float("inf"), "fourth.example")


def test_aliases_that_lead_nowhere() -> None:
    """The name at which they end is told; a circle ends."""
    assert read_records([alias("a", "b", 7)], "a", dns.A) == ([], 7, "b")
    circle = [alias("a", "b", 7), alias("b", "a", 8)]
    assert read_records(circle, "a", dns.A)[:2] == ([], 7)


def test_time_to_live_that_is_too_long() -> None:
    """RFC 2181, 8: a value with the highest bit set means 0."""
    for ttl, seconds in ((2**31 - 1, 2**31 - 1), (2**31, 0), (2**32 - 1, 0), (0, 0)):
        record = address("a", "10.0.0.1")
        record.ttl = ttl
        assert read_records([record], "a", dns.A)[1] == seconds


def test_records_of_services() -> None:
    """An alias may lead to them, their least time to live counts, and the root as a target is no
    name; other records are not believed."""
    records = [
        alias("_http._tcp.web.example", "_http._tcp.b.example", 50),
        service("_http._tcp.b.example", "One.example", 8001, 1, 20, ttl=40),
        service("_HTTP._tcp.b.example", "two.example", 8002, 2, 30, ttl=30),
        service("_http._tcp.b.example", "", 0),
        service("_http._tcp.c.example", "three.example", 8003, ttl=1),
        address("_http._tcp.b.example", "10.0.0.1", 1),
    ]
    assert read_services(records, "_http._tcp.web.example") == (
        [
            ServiceRecord(1, 20, 8001, "one.example"),
            ServiceRecord(2, 30, 8002, "two.example"),
            ServiceRecord(0, 0, 0, ""),
        ],
        30,
        "_http._tcp.b.example",
    )


# Name servers.


class Site:
    """Three name servers, and a client that asks each for a fifth of a second."""

    def __init__(self, reactor: Any) -> None:
        self.reactor = reactor
        self.servers = [NameServer(reactor) for _ in range(3)]
        self.one, self.two, self.three = self.servers
        self.client = NameServers(reactor, self.conf())

    def conf(self, **options: Any) -> ResolvConf:
        servers = tuple((server.host, server.port) for server in self.servers)
        options = {"servers": servers, "attempts": 1, "timeout": 0.2} | options
        return ResolvConf(**options)

    def ask(self, name: str) -> Any:
        return ensureDeferred(self.client.look_up(name))

    def waiting(self) -> int:
        """What could make the reactor ask once more: sockets and delayed calls."""
        return len(self.reactor.getReaders()) + len(self.reactor.getDelayedCalls())

    async def until(self, condition: Callable[[], bool]) -> None:
        """Let the reactor run until ``condition()`` is true."""
        end = self.reactor.seconds() + PATIENCE
        while not condition():
            assert self.reactor.seconds() < end, "it did not happen in time"
            await deferLater(self.reactor, 0.005)

    def stop(self) -> None:
        self.client.stop()
        for server in self.servers:
            server.stop()


@pytest.fixture
def site() -> Iterator[Site]:
    from twisted.internet import reactor  # noqa: TID251

    site = Site(reactor)
    yield site
    site.stop()


real = pytest.mark.real


@real
@pytest_twisted.ensureDeferred
async def test_both_kinds_of_addresses(site: Site) -> None:
    """The reply has all addresses, and the least time of both kinds."""
    site.one.zone["web.example"] = [
        address("web.example", "10.0.0.2", 30),
        address("web.example", "10.0.0.1", 30),
        address("web.example", "2001:db8::1", 20),
    ]
    assert await site.ask("web.example") == Reply(
        [(V4, "10.0.0.2"), (V4, "10.0.0.1"), (V6, "2001:db8::1")], 20
    )
    assert sorted(site.one.asked) == [("web.example", kind, "udp") for kind in ("A", "AAAA")]


@real
@pytest_twisted.ensureDeferred
async def test_name_that_does_not_exist(site: Site) -> None:
    """One name server says so, and no other one is asked; also where it has other records."""
    for said in (dns.ENAME, []):
        site.one.zone["web.example"] = said
        reply = await site.ask("web.example")
        assert reply.addresses == []
        assert reply.reason == "the name servers know no address of it"
        assert reply.unknown == ()
    assert site.two.asked == site.three.asked == []


@real
@pytest_twisted.ensureDeferred
async def test_name_servers_that_fail(site: Site) -> None:
    """The next one is asked, and from then on it is the first; if all fail, the reply says
    why, and that nobody knows."""
    found = [address("web.example", "10.0.0.1")]
    site.one.zone["web.example"] = dns.ESERVER
    site.two.zone["web.example"] = SILENT
    site.three.zone["web.example"] = found
    assert (await site.ask("web.example")).addresses == [(V4, "10.0.0.1")]
    counts = [len(server.asked) for server in site.servers]
    assert (await site.ask("web.example")).addresses == [(V4, "10.0.0.1")]
    assert [len(server.asked) for server in site.servers] == [*counts[:2], counts[2] + 2]
    site.three.zone["web.example"] = dns.EREFUSED
    reply = await site.ask("web.example")
    assert (reply.addresses, reply.unknown) == ([], (V4, V6))
    assert reply.reason == (
        "name servers: 127.0.0.1 could not answer (SERVFAIL), 127.0.0.1 gave no answer, "
        "127.0.0.1 refused to answer (REFUSED)"
    )


@real
@pytest_twisted.ensureDeferred
async def test_one_kind_fails(site: Site) -> None:
    """The other kind is used, and it is told which kind nobody knows about."""
    for server in site.servers:
        server.zone["web.example"] = [address("web.example", "10.0.0.1")]
        server.zone["web.example", "AAAA"] = dns.ESERVER
    assert await site.ask("web.example") == Reply([(V4, "10.0.0.1")], 60, "", (V6,))


@real
@pytest_twisted.ensureDeferred
async def test_search_domains_are_tried(site: Site) -> None:
    """The first that has an address; a name server that fails ends the search, because what
    comes later must not take the place of what is not known now."""
    site.client.stop()
    site.client = NameServers(site.reactor, site.conf(search=("a.example", "b.example")))
    site.one.zone["web.b.example"] = [address("web.b.example", "10.0.0.1")]
    assert (await site.ask("web")).addresses == [(V4, "10.0.0.1")]
    assert site.one.names_asked() == ["web.a.example", "web.b.example"]
    assert (await site.ask("web.")).addresses == []
    for server in site.servers:
        server.zone["web.a.example"] = dns.ESERVER
    assert (await site.ask("web")).addresses == []


@real
@pytest_twisted.ensureDeferred
async def test_aliases_are_followed(site: Site) -> None:
    """Also where the name server does not follow them itself, and not for ever."""
    site.one.zone.update({
        "web.example": [alias("web.example", "a.example", 9)],
        "a.example": [alias("a.example", "b.example", 30)],
        "b.example": [address("b.example", "10.0.0.1", 30)],
        "circle.example": [alias("circle.example", "other.example")],
        "other.example": [alias("other.example", "circle.example")],
    })  # fmt: skip
    assert await site.ask("web.example") == Reply([(V4, "10.0.0.1")], 9)
    site.one.asked.clear()
    assert (await site.ask("circle.example")).addresses == []
    assert len(site.one.asked) < 20


@real
@pytest_twisted.ensureDeferred
async def test_services(site: Site) -> None:
    """Their records come, over TCP if there are many; a name server that fails is told apart from
    one that knows of none, and only the latter leads to the next search domain."""
    name = "_http._tcp.web.example"
    site.client.stop()
    site.client = NameServers(site.reactor, site.conf(search=("a.example",)))

    async def ask() -> ServiceReply:
        return await site.client.look_up_service(name)

    records = [service(name, f"s{port}.example", port, ttl=7) for port in range(1, 31)]
    site.one.zone[name] = records
    found = await ask()
    assert [record.port for record in found.records] == list(range(1, 31))
    assert (found.ttl, found.reason) == (7, "")
    assert (name, "SRV", "tcp") in site.one.asked
    site.one.zone = {f"{name}.a.example": [service(f"{name}.a.example", "s.example", 80)]}
    assert (await ask()).records == [ServiceRecord(0, 0, 80, "s.example")]
    for said in (dns.ENAME, [], [address(name, "10.0.0.1")]):
        site.one.zone = {name: said}
        assert await ask() == ServiceReply()
    for server in site.servers:
        server.zone = {name: dns.ESERVER}
    site.one.zone[f"{name}.a.example"] = [service(f"{name}.a.example", "s.example", 80)]
    found = await ask()
    assert found.records == []
    assert found.reason.startswith("name servers: 127.0.0.1 could not answer (SERVFAIL)")


@real
@pytest_twisted.ensureDeferred
async def test_long_answer_comes_over_tcp(site: Site) -> None:
    """From the name server whose answer was cut."""
    site.one.zone["web.example"] = [address("web.example", f"10.0.0.{n}") for n in range(200)]
    assert len((await site.ask("web.example")).addresses) == 200
    assert ("web.example", "A", "tcp") in site.one.asked
    assert site.two.asked == site.three.asked == []


@real
@pytest_twisted.ensureDeferred
async def test_thousands_of_records(site: Site) -> None:
    """twisted.names takes no more than 1,000 names in an answer: the next one is asked."""
    hosts = [f"10.0.{number // 250}.{number % 250}" for number in range(3000)]
    site.one.zone["web.example"] = [address("web.example", host) for host in hosts]
    site.two.zone["web.example"] = [address("web.example", host) for host in hosts[:900]]
    found = (await site.ask("web.example")).addresses
    assert found == [(V4, host) for host in hosts[:900]]


@real
@pytest_twisted.ensureDeferred
async def test_answer_that_is_cut_over_tcp(site: Site) -> None:
    """It is taken as it is, and not asked for again and again."""
    site.one.always_cut = True
    site.one.zone["web.example"] = [address("web.example", "10.0.0.1")]
    assert (await site.ask("web.example")).addresses == [(V4, "10.0.0.1")]
    assert len(site.one.asked) == 4


@real
@pytest_twisted.ensureDeferred
async def test_tcp_that_gives_no_answer(site: Site) -> None:
    """It costs a moment, and the next name server answers."""
    good = [address("web.example", "10.0.0.1")]
    site.one.zone["web.example"] = [address("web.example", f"10.0.0.{n}") for n in range(30)]
    site.two.zone["web.example"] = good
    ask = site.one.messageReceived

    def no_tcp(message: Any, proto: Any, address: Any = None) -> None:
        if address is not None:
            ask(message, proto, address)

    site.one.messageReceived = no_tcp  # type: ignore[method-assign]
    assert (await site.ask("web.example")).addresses == [(V4, "10.0.0.1")]


@real
@pytest_twisted.ensureDeferred
async def test_answer_with_a_wrong_number(site: Site) -> None:
    """Somebody else has guessed: the right answer is waited for."""
    site.one.wrong_ids = [1, 2, 3]
    site.one.zone["web.example"] = [address("web.example", "10.0.0.1")]
    assert (await site.ask("web.example")).addresses == [(V4, "10.0.0.1")]
    assert site.two.asked == []


@real
@pytest_twisted.ensureDeferred
async def test_lookup_can_be_cancelled(site: Site) -> None:
    """No other name server is asked then."""
    for server in site.servers:
        server.zone["web.example"] = SILENT
    before = site.waiting()
    asked = site.ask("web.example")
    await site.until(lambda: len(site.one.asked) == 2)
    assert site.waiting() > before
    asked.cancel()
    with pytest.raises(CancelledError):
        await asked
    assert site.waiting() == before
    assert site.two.asked == []


@real
@pytest_twisted.ensureDeferred
async def test_nobody_listens(site: Site) -> None:
    """That is learnt at once, however long a name server may take."""
    site.client.stop()
    site.client = NameServers(site.reactor, site.conf(timeout=60))
    site.three.zone["web.example"] = [address("web.example", "10.0.0.1")]
    for server in site.servers[:2]:
        await server.stop()
    assert (await site.ask("web.example")).addresses == [(V4, "10.0.0.1")]
    await site.three.stop()
    assert "127.0.0.1 cannot be asked (Connection refused)" in (await site.ask("a")).reason
    site.servers.clear()


@real
@pytest_twisted.ensureDeferred
async def test_nothing_is_logged_or_left(site: Site) -> None:
    """There are thousands of questions in an hour."""
    site.one.wrong_ids = [1, 2]
    site.one.zone["web.example"] = [address("web.example", f"10.0.0.{n}") for n in range(30)]
    site.two.zone["silent.example"] = site.one.zone["silent.example"] = SILENT
    before = len(os.listdir("/proc/self/fd"))
    lines: list[Any] = []
    globalLogPublisher.addObserver(lines.append)
    try:
        for name in ("web.example", "silent.example", "none.example") * 3:
            await site.ask(name)
    finally:
        globalLogPublisher.removeObserver(lines.append)
    assert lines == []
    site.client.stop()
    await site.until(lambda: len(os.listdir("/proc/self/fd")) <= before)
