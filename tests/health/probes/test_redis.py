"""``redis``: what the answers to PING and INFO say of the server."""

from __future__ import annotations

import pytest

from slardar.health.probes.base import ProbeOptions, Result
from slardar.health.probes.redis import MAX_INFO, MAX_LINE, Redis
from tests.health.probes.kit import talk

PING = b"*1\r\n$4\r\nPING\r\n"
INFO = b"*2\r\n$4\r\nINFO\r\n$11\r\nreplication\r\n*2\r\n$4\r\nINFO\r\n$6\r\nserver\r\n"


def bulk(*lines: bytes) -> bytes:
    """An answer to INFO."""
    text = b"".join(line + b"\r\n" for line in lines)
    return b"$%d\r\n%b\r\n" % (len(text), text)


SERVER = bulk(b"# Server", b"redis_version:7.0.15", b"redis_mode:standalone")
MASTER = bulk(b"# Replication", b"role:master", b"connected_slaves:0")
REPLICA = (b"# Replication", b"role:slave", b"master_host:10.0.0.9", b"master_port:6379")
DOWN = bulk(*REPLICA, b"master_link_status:down", b"master_sync_in_progress:0")
UP = bulk(*REPLICA, b"master_link_status:up")
LINK = {"version": "7.0.15", "role": "slave", "master_host": "10.0.0.9", "master_port": 6379}


def result(*pieces: bytes) -> Result:
    """The result of a heartbeat without AUTH."""
    return talk(Redis(ProbeOptions("redis")).begin(), pieces).result


def test_info_is_asked_for_after_pong() -> None:
    """A proxy that closes at an unknown command has answered PING by then."""
    check = Redis(ProbeOptions("redis")).begin()
    assert check.connected() == PING
    assert check.received(b"+PO") is None
    assert check.received(b"NG\r\n") == INFO
    assert check.received(MASTER) is None
    assert check.received(SERVER) == Result("ok", "", {"version": "7.0.15", "role": "master"})


def test_replica_with_its_master() -> None:
    """The status shows whom it follows."""
    assert result(b"+PONG\r\n", UP, SERVER) == Result(
        "ok", "", {**LINK, "master_link_status": "up"}
    )


def test_replica_without_its_master_is_unstable() -> None:
    """The message is lua-resty-checkups'."""
    assert result(b"+PONG\r\n", DOWN, SERVER) == Result(
        "unstable", "master link status: down", {**LINK, "master_link_status": "down"}
    )


@pytest.mark.parametrize(
    ("line", "says"),
    [
        (b"-LOADING Redis is loading the dataset in memory", "LOADING Redis is loading the"),
        (b"-MASTERDOWN Link with MASTER is down", "MASTERDOWN Link with MASTER is down"),
        (b"-ERR max number of clients reached", "ERR max number of clients reached"),
        (b"-NOAUTH Authentication required.", "NOAUTH Authentication required."),
        (b"HTTP/1.1 400 Bad Request", "unexpected answer to PING: HTTP/1.1 400 Bad Request"),
        (b":1", "unexpected answer to PING: :1"),
        (b"", "unexpected answer to PING: "),
        (b"x" * (MAX_LINE + 1), "the server does not speak Redis' protocol"),
    ],
)
def test_ping_without_pong_is_a_failure(line: bytes, says: str) -> None:
    """The message has the server's own text."""
    found = result(line + b"\r\n")
    assert found.status == "err"
    assert found.message.startswith(says)


@pytest.mark.parametrize("data", [b"", b"+PON", b"+PONG"])
def test_server_that_closes_before_pong_fails(data: bytes) -> None:
    """The end of the line belongs to the answer."""
    assert result(data) == Result("err", "the server closed the connection without an answer")


@pytest.mark.parametrize(
    "info",
    [
        b"",
        b"-NOPERM this user has no permissions to run the 'info' command\r\n" * 2,
        b"$-1\r\n",
        b"*0\r\n",
        b"$x\r\n",
        b"$99999999\r\n",
        b"$%d\r\n" % MAX_INFO,
        b"x" * (MAX_LINE + 1),
    ],
)
def test_server_without_info_is_ok(info: bytes) -> None:
    """Proxies in front of Redis have no INFO, and they may close at it."""
    assert result(b"+PONG\r\n", info) == Result("ok")


def test_what_came_of_info_counts() -> None:
    """A server that refuses one part, or closes after it, still has told the other."""
    refused = b"-ERR no\r\n"
    assert result(b"+PONG\r\n", refused, SERVER) == Result("ok", "", {"version": "7.0.15"})
    assert result(b"+PONG\r\n", DOWN, refused).status == "unstable"
    assert result(b"+PONG\r\n", DOWN).status == "unstable"


def test_long_info_is_read_to_its_end() -> None:
    """A master names its replicas, and a line may have any length."""
    replicas = [b"slave%d:ip=10.0.0.1,port=1,state=online" % number for number in range(5000)]
    info = bulk(b"role:master", b"x" * 300_000, *replicas, b"master_link_status:down")
    assert len(info) < MAX_INFO
    found = result(b"+PONG\r\n", info, SERVER)
    assert (found.status, found.about["version"]) == ("unstable", "7.0.15")


@pytest.mark.parametrize(
    ("user", "sent"),
    [
        (None, b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n"),
        ("", b"*2\r\n$4\r\nAUTH\r\n$6\r\nsecret\r\n"),
        ("me", b"*3\r\n$4\r\nAUTH\r\n$2\r\nme\r\n$6\r\nsecret\r\n"),
    ],
)
def test_password_is_sent_before_ping(user: str | None, sent: bytes) -> None:
    """The user is named if the upstream names one."""
    probe = Redis(ProbeOptions("redis", user=user, password="secret"))
    found = talk(probe.begin(), [b"+OK\r\n", b"+PONG\r\n" + MASTER + SERVER])
    assert found.sent.startswith(sent + PING)
    assert found.result.status == "ok"


def test_wrong_password_is_a_failure() -> None:
    """The message has the server's text, and not the password."""
    probe = Redis(ProbeOptions("redis", password="secret"))
    text = b"WRONGPASS invalid username-password pair or user is disabled."
    assert talk(probe.begin(), [b"-" + text + b"\r\n+PONG\r\n"]).result == Result(
        "err", text.decode()
    )
    odd = talk(probe.begin(), [b"+PONG\r\n"]).result
    assert odd.message == "unexpected answer to AUTH: +PONG"
