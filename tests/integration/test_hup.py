"""HUP with other timeouts and limits, on the real program."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import pytest_twisted

from slardar.config import Settings, parse_settings
from slardar.service import SlardarService
from tests.integration.conftest import Start
from tests.integration.programs import Nginx, Slardar
from tests.integration.test_workers import Team, until

LONG = "/" + "x" * 100


@pytest.fixture
def silent() -> Iterator[int]:
    """The port of a server that accepts connections and never sends a byte."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield server.getsockname()[1]


@pytest.fixture
def clients() -> Iterator[ExitStack]:
    """Closes the clients of a test."""
    with ExitStack() as stack:
        yield stack


class Site:
    """slardar with a configuration file that changes."""

    def __init__(
        self, folder: Path, start: Start, clients: ExitStack, workers: str, **upstreams: object
    ) -> None:
        self.clients = clients
        self.path = folder / "slardar.yaml"
        self._upstreams = upstreams
        self.write()
        options = ("--config", "slardar.yaml", "--workers", workers)
        self.slardar: Slardar = start(Slardar(folder, *options)).ready()

    def write(self, **settings: object) -> None:
        """Write the file."""
        self.path.write_text(json.dumps({"upstreams": self._upstreams, **settings}))

    def hup(self, **settings: object) -> None:
        """Write the file, and make slardar read it."""
        self.write(**settings)
        before = self.slardar.output.count("read again: nothing")
        self.slardar.signal(signal.SIGHUP)
        until(lambda: self.slardar.output.count("read again: nothing") > before, "it is read again")

    def connect(self) -> http.client.HTTPConnection:
        """A client that keeps its connection."""
        client = http.client.HTTPConnection("127.0.0.1", self.slardar.port, timeout=20)
        self.clients.callback(client.close)
        client.connect()
        return client


def status_of(client: http.client.HTTPConnection, path: str, host: str = "a") -> int:
    """The status of a reply."""
    client.request("GET", path, headers={"Host": host})
    reply = client.getresponse()
    reply.read()
    return reply.status


def server(port: int, **keys: object) -> dict[str, object]:
    """An upstream of one server."""
    return {"servers": [{"host": "127.0.0.1", "port": port}], **keys}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_new_timeouts_and_limits_hold_without_a_restart(
    tmp_path: Path, start: Start, clients: ExitStack, nginx: Nginx, silent: int, workers: str
) -> None:
    """They hold in every process, on new and on open connections; an upstream's own timeouts
    stay; a wrong file changes nothing."""
    site = Site(
        tmp_path,
        start,
        clients,
        workers,
        a=server(nginx.port),
        default=server(silent, **{"try": 1}),
        own=server(silent, read_timeout=50),
    )
    kept = [site.connect() for _ in range(8)]
    assert {status_of(client, LONG) for client in kept} == {404}

    site.hup(timeouts={"read": 0.3, "drain": 0.4}, limits={"url": 50})
    site.slardar.wait_for(r"read again: timeouts, limits hold from now on")
    assert {status_of(client, LONG) for client in kept} == {414}
    for client in [site.connect() for _ in range(8)]:
        assert status_of(client, "/who") == 200
        assert status_of(client, LONG) == 414
    begin = time.monotonic()
    assert status_of(site.connect(), "/", "default") == 504
    assert time.monotonic() - begin < 10

    # A wrong file changes nothing.
    site.write(limits={"url": 60, "head": "x"})
    site.slardar.signal(signal.SIGHUP)
    site.slardar.wait_for(r"not read again: .*limits\.head")
    assert status_of(site.connect(), "/" + "y" * 54) == 414

    # The defaults hold again.
    site.hup(timeouts={"drain": 0.4})
    assert {status_of(client, LONG) for client in [site.connect() for _ in range(8)]} == {404}

    # The stop waits for the new drain time, and no longer.
    waiting = site.connect()
    waiting.request("GET", "/", headers={"Host": "own"})
    until(lambda: site.slardar.call("GET", "/status")[1]["statistics"]["active"] == 1, "it waits")
    begin = time.monotonic()
    assert site.slardar.stop() in (0, -signal.SIGTERM)
    assert time.monotonic() - begin < 15


@pytest.mark.parametrize("workers", ["0", "2"])
def test_trusted_proxies(
    tmp_path: Path, start: Start, clients: ExitStack, nginx: Nginx, workers: str
) -> None:
    """``trusted`` and ``forwarded`` hold in every process, on connections that are there, too."""
    log = tmp_path / "access.log"
    settings = {"access_log": {"to": f"file:{log}", "format": "{client}"}}
    site = Site(tmp_path, start, clients, workers, a=server(nginx.port))
    kept = [site.connect() for _ in range(6)]
    sent = {
        "Host": "a",
        "X-Forwarded-For": "6.6.6.6, 1.1.1.1",
        "X-Forwarded-Proto": "https",
        "X-Real-IP": "1.1.1.1",
    }

    def told() -> set[str]:
        found = set()
        for client in kept:
            client.request("GET", "/told", headers=sent)
            found.add(client.getresponse().read().decode())
        return found

    hops = "6.6.6.6, 1.1.1.1, 127.0.0.1"
    assert told() == {f"{hops}|http||"}
    own = "for=127.0.0.1;proto=http;host=a"
    site.hup(trusted=["127.0.0.0/8"], forwarded=True, **settings)
    site.slardar.wait_for("read again: access_log, trusted, forwarded hold from now on")
    assert told() == {f"{hops}|https|1.1.1.1|{own}"}
    until(lambda: log.exists() and log.read_text() == "1.1.1.1\n" * 6, "the clients are logged")
    site.hup(trusted=["192.0.2.0/24"], **settings)
    assert told() == {f"{hops}|http||"}
    until(lambda: log.read_text() == "1.1.1.1\n" * 6 + "127.0.0.1\n" * 6, "they are logged")
    site.write(trusted=["10.0.0.1/8"])
    site.slardar.signal(signal.SIGHUP)
    site.slardar.wait_for(r"not read again: .*trusted\[0\]: expected a network such as")


@pytest.mark.parametrize("workers", ["0", "1"])
def test_new_limit_of_connections(
    tmp_path: Path, start: Start, clients: ExitStack, nginx: Nginx, workers: str
) -> None:
    """With a lower limit new clients wait until enough old ones have left, and no old one is
    closed; with a higher limit new clients are accepted at once."""
    site = Site(tmp_path, start, clients, workers, a=server(nginx.port))
    first, second = site.connect(), site.connect()
    assert (status_of(first, "/who"), status_of(second, "/who")) == (200, 200)
    site.hup(limits={"connections": 2})
    third = site.connect()
    third.request("GET", "/who", headers={"Host": "a"})
    third.sock.settimeout(0.3)
    with pytest.raises(TimeoutError):
        third.sock.recv(1)
    third.sock.settimeout(20)
    # Connected clients are served meanwhile.
    assert (status_of(first, "/who"), status_of(second, "/who")) == (200, 200)
    site.hup(limits={"connections": 3})
    assert third.getresponse().status == 200
    site.hup(limits={"connections": 2})
    assert status_of(first, "/who") == 200
    fourth = site.connect()
    fourth.request("GET", "/who", headers={"Host": "a"})
    first.close()
    second.close()
    assert fourth.getresponse().status == 200


def test_replacement_of_a_worker_has_them_too(tmp_path: Path, start: Start, nginx: Nginx) -> None:
    """It begins with the settings of the HUP."""
    _file(tmp_path, nginx)
    team = start(Team(tmp_path, "--config", "slardar.yaml")).ready()
    _file(tmp_path, nginx, limits={"url": 50})
    team.signal(signal.SIGHUP)
    team.wait_for("read again: limits hold from now on")
    os.kill(team.pids()["worker-0"], signal.SIGKILL)
    team.wait_for("worker-0 .* ended")
    until(team.are_alive, "a replacement serves")
    for _ in range(8):
        assert team.get("a", LONG)[0] == 414


def _file(folder: Path, nginx: Nginx, **settings: object) -> None:
    text = json.dumps({"upstreams": {"a": server(nginx.port)}, **settings})
    (folder / "slardar.yaml").write_text(text)


@pytest.mark.parametrize("starts", [True, False])
@pytest_twisted.ensureDeferred
async def test_signal_during_the_start(starts: bool) -> None:
    """Workers serve before the start is over, and what was read for it may be older than the
    signal: the files are read again as soon as it is over, if it has succeeded."""
    from twisted.internet import reactor  # noqa: TID251

    settings = parse_settings({"store": "memory:", "workers": 0})
    reads: list[Settings] = []

    def read_again() -> Settings:
        reads.append(settings)
        return settings

    service = SlardarService(reactor, settings, read_again)
    service.running = 1
    reloaded = service.reload()
    service.ready.addErrback(lambda _failure: None)
    assert reads == []
    if starts:
        service.ready.callback(None)
    else:
        service.ready.errback(RuntimeError("cannot start"))
    await reloaded
    assert len(reads) == (1 if starts else 0)
