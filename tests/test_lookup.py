"""One lookup of a name: the files of the machine, real name servers, and a system's resolver
that the test answers for."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock

from slardar import lookup
from slardar.lookup import LOST, UNTIMED, Found, SystemLookup
from tests.nameserver import SILENT, NameServer, address, service

V4, V6 = socket.AF_INET, socket.AF_INET6
real = pytest.mark.real


class Machine:
    """A reactor, and files and a system's resolver of the test."""

    def __init__(self, reactor: Any, folder: Path) -> None:
        self._reactor = reactor
        self.resolv_conf, self.hosts = folder / "resolv.conf", folder / "hosts"
        #: What the system's resolver knows; ``None``: it never answers.
        self.known: dict[str, list[str] | None] = {}
        self.asked: list[str] = []
        self.lookup = SystemLookup(self, str(self.resolv_conf), str(self.hosts), self.ask)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reactor, name)

    def name_servers(self, *servers: NameServer, options: str = "timeout:1 attempts:1") -> None:
        lines = [f"nameserver [{server.host}]:{server.port}\n" for server in servers]
        self.resolv_conf.write_text("".join(lines) + f"options {options}\n")

    def ask(self, name: str) -> Deferred[Any]:
        """The system's resolver."""
        self.asked.append(name)
        hosts = self.known.get(name, [])
        if hosts is None:
            return Deferred()
        return succeed([(V6 if ":" in host else V4, host) for host in hosts])


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    from twisted.internet import reactor  # noqa: TID251

    machine = Machine(reactor, tmp_path)
    yield machine
    machine.lookup.stop()


@pytest.fixture
def server(machine: Machine) -> Iterator[NameServer]:
    """The one name server of the machine."""
    server = NameServer(machine)
    machine.name_servers(server)
    yield server
    server.stop()


@real
@pytest_twisted.ensureDeferred
async def test_hosts_file_comes_first(machine: Machine, server: NameServer) -> None:
    """Nobody else is asked for what it knows; names have no case, and may end with a dot."""
    machine.hosts.write_text("10.0.0.1 Web.example\n::1 web.example\n")
    server.zone["web.example"] = [address("web.example", "10.0.0.9")]
    for name in ("web.example", "WEB.example", "web.example."):
        found = await machine.lookup.look_up(name)
        assert found == Found([(V4, "10.0.0.1"), (V6, "::1")], UNTIMED)
        found.addresses.clear()
    machine.hosts.write_text("")
    assert (await machine.lookup.look_up("web.example")).addresses == [(V4, "10.0.0.9")]


@pytest.mark.parametrize("name", ["localhost", "LOCALHOST", "localhost.", "web.localhost"])
def test_localhost_needs_nobody(tmp_path: Path, name: str) -> None:
    """RFC 6761, 6.3: it is this machine, with no file, name server or resolver."""
    machine = Machine(Clock(), tmp_path)
    found = machine.lookup.look_up(name).result
    assert isinstance(found, Found)
    assert found.addresses == [(V4, "127.0.0.1"), (V6, "::1")]
    assert machine.asked == []


@real
@pytest_twisted.ensureDeferred
async def test_name_servers_are_asked(machine: Machine, server: NameServer) -> None:
    """The system's resolver is not, and the time to live is the name server's."""
    server.zone["web.example"] = [address("web.example", "10.0.0.1", 7)]
    assert await machine.lookup.look_up("web.example") == Found([(V4, "10.0.0.1")], 7)
    assert machine.asked == []


@real
@pytest.mark.parametrize("said", [None, [], SILENT, 2])
@pytest_twisted.ensureDeferred
async def test_what_name_servers_do_not_find(
    machine: Machine, server: NameServer, said: Any
) -> None:
    """The system's resolver may know it, as from LDAP; if not, it is told what the name
    servers say."""
    if said is not None:
        server.zone["web.example"] = said
    machine.known["web.example"] = ["::1", "10.0.0.2"]
    found = await machine.lookup.look_up("web.example")
    assert found == Found([(V6, "::1"), (V4, "10.0.0.2")], UNTIMED)
    assert machine.asked == ["web.example"]
    machine.known.clear()
    found = await machine.lookup.look_up("web.example")
    assert found.addresses == []
    assert "name servers" in found.reason


@real
@pytest_twisted.ensureDeferred
async def test_services_are_asked_for_in_dns_alone(machine: Machine, server: NameServer) -> None:
    """Neither the hosts file nor the system's resolver knows ports."""
    name = "_http._tcp.web.example"
    machine.hosts.write_text(f"10.0.0.1 {name}\n")
    server.zone[name] = [service(name, "one.example", 80, ttl=7)]
    found = await machine.lookup.look_up_service(name)
    assert ([record.target for record in found.records], found.ttl) == (["one.example"], 7)
    machine.resolv_conf.write_text("")
    found = await machine.lookup.look_up_service(name)
    assert found.reason == "resolv.conf names no name server"
    assert machine.asked == []


@pytest.mark.parametrize("text", [None, "", "search example\n"])
def test_machine_without_name_servers(tmp_path: Path, text: str | None) -> None:
    """The system's resolver does it alone."""
    machine = Machine(Clock(), tmp_path)
    if text is not None:
        machine.resolv_conf.write_text(text)
    machine.known["web.example"] = ["10.0.0.1"]
    assert machine.lookup.look_up("web.example").result == Found([(V4, "10.0.0.1")], UNTIMED)
    found = machine.lookup.look_up("other.example").result
    assert found == Found([], UNTIMED, "the system's resolver found no address")


def test_system_that_never_answers(tmp_path: Path) -> None:
    """The lookup ends all the same."""
    clock = Clock()
    machine = Machine(clock, tmp_path)
    machine.known["web.example"] = None
    looked_up = machine.lookup.look_up("web.example")
    clock.advance(LOST - 1)
    assert not looked_up.called
    clock.advance(1)
    assert isinstance(looked_up.result, Found)
    assert looked_up.result.reason


@real
@pytest_twisted.ensureDeferred
async def test_other_name_server_is_asked_once_the_file_says_so(
    machine: Machine, server: NameServer
) -> None:
    """The change is noticed once, and the next lookup asks the new name server."""
    other = NameServer(machine)
    server.zone["web.example"] = [address("web.example", "10.0.0.1")]
    other.zone["web.example"] = [address("web.example", "10.0.0.2")]
    assert not machine.lookup.has_changed()
    assert (await machine.lookup.look_up("web.example")).addresses == [(V4, "10.0.0.1")]
    assert not machine.lookup.has_changed()
    machine.name_servers(other)
    assert machine.lookup.has_changed()
    assert not machine.lookup.has_changed()
    assert (await machine.lookup.look_up("web.example")).addresses == [(V4, "10.0.0.2")]
    machine.hosts.write_text("10.0.0.3 web.example\n")
    assert machine.lookup.has_changed()
    await other.stop()


@real
@pytest_twisted.ensureDeferred
async def test_few_names_are_asked_for_at_a_time(
    machine: Machine, server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands of names do not take thousands of sockets; all of them are answered."""
    monkeypatch.setattr(lookup, "MOST", 3)
    names = [f"n{number}.example" for number in range(30)]
    server.zone.update({name: [address(name, "10.0.0.1")] for name in names})
    few = SystemLookup(machine, str(machine.resolv_conf), str(machine.hosts))
    under_way: list[int] = []
    ask = server.messageReceived

    def count(*message: Any) -> None:
        under_way.append(few._room.limit - few._room.tokens)
        ask(*message)

    server.messageReceived = count  # type: ignore[method-assign]
    waiting = [few.look_up(name) for name in names]
    for one in waiting:
        assert (await one).addresses == [(V4, "10.0.0.1")]
    assert max(under_way) == 3
    few.stop()
