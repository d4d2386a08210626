"""Services whose servers DNS lists: twistd, real sockets and a real name server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import threads

from tests.integration.conftest import Start
from tests.integration.sockets import in_thread, wait_for
from tests.integration.test_names import Backend, Load, backends, machine
from tests.integration.upgrades import Upgraded
from tests.nameserver import NameServer, service

NAME = "_http._tcp.web.example"
#: A service whose servers are looked at five times a second, so that one that has died is known
#: at once.
BODY = {"dns_service": NAME, "empty_grace": 0.5, "interval": 0.2, "server": {"max_fails": 3}}


class Site:
    """A name server, and slardar that asks it."""

    def __init__(self, folder: Path, start: Start, workers: int) -> None:
        from twisted.internet import reactor  # noqa: TID251

        self._reactor = reactor
        self.names: NameServer = self.on_reactor(NameServer, reactor)
        # What is known without a name server stays known when the only one is away.
        hosts = "".join(f"127.0.0.{number} s{number}.example\n" for number in (1, 2))
        (folder / "hosts").write_text(hosts)
        (folder / "resolv.conf").write_text(
            f"nameserver [{self.names.host}]:{self.names.port}\noptions timeout:1 attempts:1\n"
        )
        program = Upgraded(folder, count=workers, PYTHONPATH=machine(folder))
        self.slardar: Upgraded = start(program).ready()

    def on_reactor(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return threads.blockingCallFromThread(self._reactor, function, *arguments)

    def lists(self, *servers: tuple[int, int, int]) -> None:
        """The servers of the service, each with its number, port and priority."""
        self.names.zone[NAME] = [
            service(NAME, f"s{number}.example", port, priority, 10, ttl=1)
            for number, port, priority in servers
        ]

    def shown(self) -> dict[str, Any]:
        """What the status says of the service."""
        found: dict[str, Any] = self.slardar.status()["services"]["web"]
        return found

    def version(self) -> int:
        found: int = self.slardar.status()["shd_config_version"]
        return found


@pytest.fixture
def two() -> Iterator[list[Backend]]:
    """Servers at 127.0.0.1 and 127.0.0.2, on one port."""
    with backends("127.0.0.1", "127.0.0.2") as servers:
        yield servers


@pytest.mark.parametrize("workers", [0, 2])
@in_thread
def test_traffic_follows_records(
    tmp_path: Path,
    start: Start,
    two: list[Backend],
    workers: int,
) -> None:
    """A server that leaves the answer gets no more requests, and none fails; the server of a
    lower level serves once the others are dead.  Without a record the last servers stay for the
    grace; while no name server answers they stay, also over an upgrade."""
    site = Site(tmp_path, start, workers)
    slardar, port = site.slardar, two[0].server_address[1]
    site.lists((1, port, 1))
    assert slardar.call("PUT", "/service/web", BODY)[0] == 200
    one, other = (server.server_address[0] for server in two)
    load = Load(slardar, 3)
    try:
        # The first request after the call already finds a server.
        assert slardar.get("web") == (200, one)
        version = site.version()
        site.lists((2, port, 1))
        # One worker may take the change a moment before the other.
        wait_for(lambda: load.seen() == {other}, "the new server")
        assert site.version() == version + 1
        site.lists((1, port, 1), (2, port, 7))
        wait_for(lambda: slardar.get("web") == (200, one), "the lower number")
        assert slardar.call("GET", "/services")[1] == {"web": BODY}
        levels = slardar.call("GET", "/upstreams")[1]["web"]["cluster"]
        hosts = [[server["host"] for server in level["servers"]] for level in levels]
        assert hosts == [["s1.example."], ["s2.example."]]
        code, answer = slardar.call("PUT", "/upstream/web", {"mode": "p2c"})
        assert (code, "web is a service" in answer["msg"]) == (409, True)
        two[0].shutdown()
        two[0].server_close()
        wait_for(lambda: slardar.get("web") == (200, other), "the second level")
    finally:
        load.stop()
    assert load.wrong == []
    site.lists()
    wait_for(lambda: "empty_since" in site.shown(), "the answer without a record")
    wait_for(lambda: slardar.get("web")[0] == 502, "the end of the grace")
    assert slardar.call("GET", "/upstreams")[1]["web"]["servers"] == []
    site.lists((2, port, 1))
    wait_for(lambda: slardar.get("web") == (200, other), "the server that is back")
    site.on_reactor(site.names.stop)
    wait_for(lambda: "lookup" in site.shown(), "the failure")
    assert "127.0.0.1 cannot be asked" in site.shown()["lookup"]["msg"]
    if workers:
        version = site.version()
        slardar.upgrade()
        assert (site.version(), site.shown()["servers"]) == (version, 1)
    assert slardar.get("web") == (200, other)
    assert slardar.call("DELETE", "/service/web")[0] == 200
    assert slardar.get("web")[0] == 502
