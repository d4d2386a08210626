"""``mysql`` against the real MariaDB."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from slardar.health.probes.base import ProbeOptions, Result
from slardar.health.probes.mysql import Mysql
from tests.health.probes.real import MariaDb, beat, connect
from tests.integration.sockets import wait_for

pytestmark = pytest.mark.real

#: Other addresses of this machine, which MariaDB may block; one for each test that needs it.
NEAR, BLOCKED = "127.0.0.2", "127.0.0.3"
STATEMENTS = """
CREATE DATABASE shop;
CREATE USER monitor@'%' IDENTIFIED BY 'secret';
GRANT SELECT ON shop.* TO monitor@'%';
CREATE USER open@'%';
CREATE USER odd@'%' IDENTIFIED VIA ed25519 USING PASSWORD('secret');
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MariaDb]:
    """MariaDB with a few users."""
    started = MariaDb(tmp_path_factory.mktemp("mariadb") / "server", STATEMENTS)
    yield started
    started.end()


def ask(server: MariaDb, source: str = "127.0.0.1", **keys: str) -> Result:
    """One heartbeat, with keys of the upstream."""
    return beat(Mysql(ProbeOptions("mysql", **keys)), server.port, source)  # type: ignore[arg-type]


def test_any_number_of_heartbeats_blocks_nobody(server: MariaDb) -> None:
    """One broken connection would, with the settings of this server."""
    for _ in range(3):
        for keys in ({}, {"user": "monitor", "password": "secret"}, {"user": "monitor"}):
            found = ask(server, NEAR, **keys)
            assert "blocked" not in found.message
    found = ask(server, NEAR)
    assert found.status == "ok"
    assert re.fullmatch(r"\d+\.\d+\.\d+-MariaDB.*", str(found.about["version"]))


def test_blocked_host_is_a_failure(server: MariaDb) -> None:
    """The message is the server's."""
    assert ask(server, BLOCKED).status == "ok"
    with connect(server.port, BLOCKED) as client:
        assert client.recv(1000)  # the greeting
    wait_for(lambda: ask(server, BLOCKED).status != "ok", "the server has counted the client")
    found = ask(server, BLOCKED)
    assert found.status == "err"
    assert found.message.startswith(
        f"Host '{BLOCKED}' is blocked because of many connection errors"
    )
    assert found.message.endswith(" (error 1129)")
    assert ask(server).status == "ok"


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"user": "monitor", "password": "secret"}, ""),
        ({"user": "monitor", "password": "secret", "name": "shop"}, ""),
        ({"user": "open"}, ""),
        ({"user": "monitor", "password": "wrong"}, r"Access denied for user .* \(error 1045\)"),
        ({"user": "monitor"}, r"Access denied for user .* \(error 1045\)"),
        ({"user": "open", "password": "secret"}, r"Access denied for user .* \(error 1045\)"),
        (
            {"user": "monitor", "password": "secret", "name": "hidden"},
            r"Access denied .* to database 'hidden' \(error 1044\)",
        ),
        (
            {"user": "odd", "password": "secret"},
            r"Access denied .* \(error 1045\); the login's method client_ed25519 is not known",
        ),
    ],
)
def test_user_must_be_let_in(server: MariaDb, keys: dict[str, str], says: str) -> None:
    """The user, the password and the database are the upstream's."""
    found = ask(server, **keys)
    assert re.fullmatch(says, found.message), found
    assert found.status == ("err" if says else "ok")


def test_login_leaves_no_trace(server: MariaDb) -> None:
    """The server sees a client that says good-bye, and logs nothing."""
    assert ask(server, user="monitor", password="secret").status == "ok"
    before = server.output
    for _ in range(20):
        assert ask(server, user="monitor", password="secret").status == "ok"
    assert server.output == before
