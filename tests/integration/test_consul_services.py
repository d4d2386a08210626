"""Services in Consul's catalogue: twistd, real sockets and a real Consul."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.consul_agent import ConsulAgent
from tests.integration.conftest import Start
from tests.integration.sockets import in_thread, wait_for
from tests.integration.test_names import Backend, Load, backends
from tests.integration.test_workers import is_running
from tests.integration.upgrades import Upgraded

#: A service whose dead servers are known soon.
BODY = {"consul_service": "web", "empty_grace": 0.5, "interval": 0.2, "server": {"max_fails": 3}}


class Site:
    """Consul, and slardar that asks it."""

    def __init__(
        self,
        folder: Path,
        start: Start,
        consul: ConsulAgent,
        workers: int = 2,
        *options: str,
        **environ: str,
    ) -> None:
        self.consul = consul
        folder.mkdir(exist_ok=True)
        program = Upgraded(
            folder,
            *("--store", "memory:", "--amp", "unix:a.sock", *options),
            count=workers,
            CONSUL_HTTP_ADDR=consul.address,
            **environ,
        )
        self.slardar: Upgraded = start(program).ready()

    def put(self, body: Any = BODY) -> None:
        code, answer = self.slardar.call("PUT", "/service/web", body)
        assert code == 200, answer

    def agent(self, path: str, body: Any = None) -> None:
        """Tell the agent something."""
        answer = self.consul.request("PUT", f"/v1/agent/{path}", body and json.dumps(body))
        assert answer.status == 200, answer

    def register(self, server: Backend, name: str = "web", **keys: Any) -> str:
        """Register an instance of a service; returns its id, which ends as its address does."""
        host, port = server.server_address[:2]
        instance = {"Name": name, "ID": f"{name}-{host!s}", "Address": host, "Port": port, **keys}
        self.agent("service/register", instance)
        return str(instance["ID"])

    def leave(self, name: str) -> None:
        """Deregister an instance."""
        self.agent(f"service/deregister/{name}")

    def servers(self) -> dict[str, dict[str, Any]]:
        """What the status says of each server, by its host."""
        levels = self.slardar.status()["cls:web"]
        return {one["server"].split(":")[1]: one for level in levels for one in level}

    def shown(self) -> dict[str, Any]:
        """What the status says of the service."""
        found: dict[str, Any] = self.slardar.status()["services"]["web"]
        return found


@pytest.fixture
def three() -> Iterator[list[Backend]]:
    """Servers at three addresses, on one port."""
    with backends("127.0.0.1", "127.0.0.2", "127.0.0.3") as servers:
        yield servers


def host_of(server: Backend) -> str:
    return str(server.server_address[0])


@in_thread
def test_traffic_follows_the_catalogue(
    tmp_path: Path, start: Start, three: list[Backend], consul: ConsulAgent
) -> None:
    """Instances come and go, fall ill and recover, are in maintenance and have weights; no request
    fails.  An agent that comes back without its state empties the service after the grace."""
    site = Site(tmp_path, start, consul)
    one, two, other = map(host_of, three)
    ttl = {"TTL": "10m", "Status": "passing"}
    first = site.register(three[0], Tags=["v2", "x"])
    site.register(three[2], Tags=["v1"])
    site.put({**BODY, "tag": "v2"})
    # The first request after the call already finds a server.
    assert site.slardar.get("web") == (200, one)
    load = Load(site.slardar, 12)
    try:
        meta = {"max_fails": "7", "fail_timeout": "soon"}
        weights = {"Passing": 5, "Warning": 1}
        second = site.register(three[1], Tags=["v2"], Check=ttl, Meta=meta, Weights=weights)
        wait_for(lambda: load.seen() == {one, two}, "both serve")
        found = site.servers()
        assert [found[host]["weight"] for host in (one, two)] == [1, 5]
        assert [found[host]["max_fails"] for host in (one, two)] == [3, 7]
        assert site.shown()["note"].startswith(f"{second}: Meta fail_timeout: expected a number")
        for state in ("warn", "fail"):
            site.agent(f"check/{state}/service:{second}")
            wait_for(lambda: load.seen() == {one}, state)
            site.agent(f"check/pass/service:{second}")
            wait_for(lambda: load.seen() == {one, two}, "it is well again")
        site.agent(f"service/maintenance/{second}?enable=true&reason=test")
        wait_for(lambda: load.seen() == {one}, "maintenance")
        assert site.servers()[two]["state"] == "drain"
        site.agent(f"service/maintenance/{second}?enable=false")
        wait_for(lambda: load.seen() == {one, two}, "the end of maintenance")
        site.put(BODY)
        wait_for(lambda: load.seen() == {one, two, other}, "no tag")
        site.leave(first)
        wait_for(lambda: load.seen() == {two, other}, "one has left")
        site.put({**BODY, "passing": False})
        site.agent(f"check/warn/service:{second}")
        wait_for(lambda: site.servers()[two]["weight"] == 1, "the weight of a warning")
        assert load.seen() == {two, other}
    finally:
        load.stop()
    assert load.wrong == []
    site.agent("maintenance?enable=true&reason=test")
    wait_for(
        lambda: [one.get("state") for one in site.servers().values()] == ["drain"] * 2,
        "maintenance of the node",
    )
    site.agent("maintenance?enable=false")
    wait_for(lambda: site.slardar.get("web")[0] == 200, "the end of maintenance")
    version = site.slardar.status()["shd_config_version"]
    consul.restart(empty=True)
    wait_for(lambda: "empty_since" in site.shown(), "the empty state")
    wait_for(lambda: site.slardar.get("web")[0] == 502, "the end of the grace")
    assert site.slardar.status()["shd_config_version"] == version + 1
    site.register(three[0])
    wait_for(lambda: site.slardar.get("web") == (200, one), "the state that is new")


@in_thread
def test_node_that_vanishes(
    tmp_path: Path, start: Start, three: list[Backend], consul: ConsulAgent
) -> None:
    """Most servers die with their node: no request fails, and they go after the grace.  Those of
    the agent's own node come first if they shall."""
    site = Site(tmp_path, start, consul)
    hosts = [host_of(server) for server in three]
    own, *others = three
    site.register(own, "fleet")
    for server in others:
        host, port = server.server_address[:2]
        instance = {"Service": "fleet", "ID": f"fleet-{host!s}", "Address": host, "Port": port}
        body = json.dumps({"Node": "far", "Address": "127.0.0.9", "Service": instance})
        assert consul.request("PUT", "/v1/catalog/register", body).status == 200
    fleet = {**BODY, "consul_service": "fleet", "empty_grace": 1.5, "server": {}}
    site.put({**fleet, "near": "_agent"})
    levels = site.slardar.status()["cls:web"]
    found = [[one["server"].split(":")[1] for one in level] for level in levels]
    assert found == [hosts[:1], hosts[1:]]
    site.put(fleet)
    load = Load(site.slardar, 12)
    try:
        wait_for(lambda: load.seen() == set(hosts), "all serve")
        for server in others:
            server.shutdown()
            server.server_close()
        body = json.dumps({"Node": "far"})
        assert consul.request("PUT", "/v1/catalog/deregister", body).status == 200
        wait_for(lambda: "halved_since" in site.shown(), "the missing servers")
        assert site.shown()["servers"] == 3
        assert [site.servers()[host]["max_fails"] for host in hosts] == [0, 1, 1]
        wait_for(lambda: site.shown()["servers"] == 1, "the end of the grace")
        assert load.seen() == set(hosts[:1])
    finally:
        load.stop()
    assert load.wrong == []


@in_thread
def test_agent_that_is_away(tmp_path: Path, start: Start, three: list[Backend]) -> None:
    """The last servers serve while the agent is dead or silent, and while it lists none because it
    has just come back; what changes then is known as before."""
    consul = ConsulAgent(tmp_path / "consul")
    load = None
    try:
        site = Site(tmp_path / "slardar", start, consul)
        one, two, _ = map(host_of, three)
        site.register(three[0])
        site.put({**BODY, "empty_grace": 30})
        load = Load(site.slardar, 12)
        consul.pause()
        assert load.seen() == {one}
        consul.resume()
        site.register(three[1])
        wait_for(lambda: load.seen() == {one, two}, "the second")
        consul.kill()
        wait_for(lambda: "refused" in str(site.shown().get("lookup")), "the failure")
        assert load.seen() == {one, two}
        consul.start()
        wait_for(lambda: "lookup" not in site.shown(), "the answer")
        assert load.seen() == {one, two}
        site.leave("web-127.0.0.1")
        wait_for(lambda: load.seen() == {two}, "one has left")
    finally:
        if load is not None:
            load.stop()
        consul.end()
    assert load.wrong == []


@in_thread
def test_start_while_the_agent_is_away(tmp_path: Path, start: Start, three: list[Backend]) -> None:
    """After a failure of power at both: the servers that were listed last serve from the first
    request on, and what the agent lists later is followed."""
    consul = ConsulAgent(tmp_path / "consul")
    folder = tmp_path / "slardar"
    folder.mkdir()
    settings = {"services": {"web": {**BODY, "empty_grace": 30}}}
    (folder / "settings.json").write_text(json.dumps(settings))
    one, two, _ = map(host_of, three)
    config = ("--config", "settings.json")
    kept = folder / "slardar-services.json"
    try:
        site = Site(folder, start, consul, 0, *config)
        site.register(three[0])
        wait_for(lambda: site.slardar.get("web") == (200, one), "the server")
        wait_for(lambda: kept.exists() and one.encode() in kept.read_bytes(), "the file")
        kept.unlink()
        site.slardar.usr2()
        pid = int(site.slardar.wait_for(r"upgraded: pid (\d+) serves")[1])
        site.slardar.note()
        wait_for(kept.exists, "the file of the new process")
        os.kill(pid, signal.SIGKILL)
        consul.kill()
        wait_for(lambda: not is_running(pid), "the end")
        (folder / "twistd.pid").unlink()
        site = Site(folder, start, consul, 0, *config)
        assert site.slardar.get("web") == (200, one)
        assert "refused" in site.shown()["lookup"]["msg"]
        consul.start()
        site.register(three[1])
        wait_for(lambda: site.slardar.get("web") == (200, two), "the other server")
        wait_for(lambda: two.encode() in kept.read_bytes(), "the other server in the file")
    finally:
        consul.end()


@in_thread
def test_token_of_the_environment(tmp_path: Path, start: Start, three: list[Backend]) -> None:
    """One without rights finds no server and says why; one that is revoked takes none away."""
    consul = ConsulAgent(tmp_path / "consul", token="00000000-0000-0000-0000-000000000001")
    try:
        rules = 'service_prefix "" { policy = "read" } node_prefix "" { policy = "read" }'
        token, accessor = consul.new_token(rules)
        other, _ = consul.new_token('key_prefix "" { policy = "read" }')
        wrong = Site(tmp_path / "w", start, consul, 0, CONSUL_HTTP_TOKEN=other)
        right = Site(tmp_path / "r", start, consul, 0, CONSUL_HTTP_TOKEN=token)
        right.register(three[0])
        for site in (wrong, right):
            site.put({**BODY, "near": "_agent"})
        assert wrong.slardar.get("web")[0] == 502
        assert wrong.shown()["lookup"]["msg"] == "the token may not read the service"
        assert "empty_since" not in wrong.shown()
        assert right.slardar.get("web") == (200, host_of(three[0]))
        assert "near: the agent does not tell its node" in right.shown()["note"]
        consul.revoke(accessor)
        # The query under way ends with the first change after that.
        right.register(three[1])
        wait_for(lambda: "lookup" in right.shown(), "the failure")
        assert "ACL not found" in right.shown()["lookup"]["msg"]
        assert token not in right.slardar.output
        assert right.slardar.get("web")[0] == 200
    finally:
        consul.end()


def until(condition: Callable[[], Any], seconds: float) -> bool:
    """Whether the condition is true within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.02)  # noqa: TID251
    return False


@in_thread
def test_storm_of_registrations(tmp_path: Path, start: Start, consul: ConsulAgent) -> None:
    """A thousand of them are a few versions (a dozen in a second), and all servers are there in the
    end."""
    site = Site(tmp_path, start, consul, 0)
    site.put({"consul_service": "storm", "enable": False})

    def register(number: int) -> None:
        address = f"127.{number // 200}.0.{number % 200 + 1}"
        body = {
            "Node": f"storm-{number % 50}",
            "Address": address,
            "Service": {
                "Service": "storm",
                "ID": f"storm-{number}",
                "Port": 80,
                "Address": address,
            },
        }
        answer = consul.request("PUT", "/v1/catalog/register", json.dumps(body))
        assert answer.status == 200, answer

    begin = site.slardar.status()["shd_config_version"]
    began = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(register, range(1000)))
    wait_for(lambda: site.shown()["servers"] == 1000, "all of them")
    took = time.monotonic() - began
    changes = site.slardar.status()["shd_config_version"] - begin
    # A busy machine takes longer, in which more are due.
    assert changes <= 10 + 10 * took
