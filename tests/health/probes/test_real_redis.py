"""``redis`` against the real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from slardar.health.probes.base import ProbeOptions, Result
from slardar.health.probes.redis import Redis
from tests.health.probes.real import RedisServer, beat, connect
from tests.integration.sockets import wait_for

pytestmark = pytest.mark.real

Start = Callable[..., RedisServer]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts Redis with options, and ends it after the test."""
    servers: list[RedisServer] = []

    def start_one(*options: str) -> RedisServer:
        servers.append(RedisServer(tmp_path / f"redis-{len(servers)}", *options))
        return servers[-1]

    yield start_one
    for server in reversed(servers):
        server.end()


def ask(server: RedisServer, user: str | None = None, password: str | None = None) -> Result:
    """One heartbeat."""
    return beat(Redis(ProbeOptions("redis", user=user, password=password)), server.port)


def test_replica_is_unstable_while_its_master_is_gone(start: Start) -> None:
    """It is ok while it follows, and the master is ok all the time."""
    master = start("--repl-diskless-sync-delay", "0")
    assert ask(master).status == "ok"
    version = ask(master).about["version"]
    assert ask(master).about == {"version": version, "role": "master"}
    replica = start("--replicaof", f"127.0.0.1 {master.port}")
    wait_for(lambda: ask(replica).status == "ok", "the replica follows")
    about = {
        "version": version,
        "role": "slave",
        "master_host": "127.0.0.1",
        "master_port": master.port,
        "master_link_status": "up",
    }
    assert ask(replica) == Result("ok", "", about)
    master.end()
    wait_for(lambda: ask(replica).status != "ok", "the replica has lost its master")
    assert ask(replica) == Result(
        "unstable", "master link status: down", {**about, "master_link_status": "down"}
    )


def test_password_and_user(start: Start) -> None:
    """Each way to be let in or kept out; a user without INFO is ok without a version."""
    server = start("--requirepass", "secret", "--user", "me", "on", ">word", "+ping")
    assert ask(server).message == "NOAUTH Authentication required."
    assert ask(server, None, "wrong").message.startswith("WRONGPASS ")
    assert ask(server, None, "secret").about["role"] == "master"
    assert ask(server, "me", "word") == Result("ok")
    assert ask(server, "me", "secret").message.startswith("WRONGPASS ")


def test_server_that_takes_no_more_clients(start: Start) -> None:
    """It says so, and the message is its own."""
    server = start("--maxclients", "1")
    with connect(server.port) as client:
        client.sendall(b"PING\r\n")
        assert client.recv(100) == b"+PONG\r\n"
        assert ask(server) == Result("err", "ERR max number of clients reached")
    wait_for(lambda: ask(server).status == "ok", "the client has left")
