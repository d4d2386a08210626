"""The AMP control channel of a running slardar, and its client."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted
from twisted.internet import threads
from twisted.internet.error import ConnectError, ConnectionClosed
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import LogEvent, LogLevel, globalLogPublisher

import slardar.amp
from tests.control.fakes import upstream
from tests.integration.conftest import Start
from tests.integration.programs import CHECKOUT, FileServer, Slardar
from tests.integration.test_workers import until
from tests.integration.upgrades import Upgraded

TOKEN = "s3cret"
DIGEST = "1ec1c26b50d5d3c58d9583181af8076655fe00756bf7285940ba3670f99fcba0"


@pytest.fixture
def errors() -> Iterator[list[LogEvent]]:
    """What this process logs as an error."""
    found: list[LogEvent] = []

    def look(event: LogEvent) -> None:
        if event["log_level"] in (LogLevel.error, LogLevel.critical):
            found.append(event)

    globalLogPublisher.addObserver(look)
    yield found
    globalLogPublisher.removeObserver(look)


async def connected(endpoint: str, token: str | None = None) -> slardar.amp.Client:
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    return await slardar.amp.connect(reactor, endpoint, token, timeout=20)


@pytest_twisted.ensureDeferred
async def test_client_lives_through_an_upgrade(
    tmp_path: Path, start: Start, files: FileServer
) -> None:
    """The client makes changes that every worker serves, is told its mistakes, and goes on with
    the next generation."""
    site = start(Upgraded(tmp_path, "--store", "sqlite:slardar.db")).ready()
    client = await connected(f"unix:{tmp_path}/slardar.sock")
    try:
        host, _, port = files.address.partition(":")
        version = await client.update_upstream(
            "www", {"servers": [{"host": host, "port": int(port)}]}
        )
        assert version == 1
        happened: list[dict[str, Any]] = []
        await client.subscribe(happened.append, ["upstream"])
        status, body = await threads.deferToThread(site.get, "www", "/who")
        assert (status, body) == (200, "http.server\n")
        with pytest.raises(slardar.amp.InvalidUpstream, match=r"upstreams\.www\.servers"):
            await client.update_upstream("www", {"servers": 5})
        with pytest.raises(slardar.amp.NotFound):
            await client.delete_upstream("none")
        await threads.deferToThread(site.upgrade)
        assert "www" in await client.get_upstreams()
        assert await client.patch_server("www", files.address, {"weight": 3}) == 2
        assert [one["who"] for one in await client.get_history()] == ["amp", "amp"]
        assert await client.rollback(1) == 3
        found = await client.get_upstream("www")
        assert found["servers"][0].get("weight", 1) == 1
        # The ids of the old process mean nothing to the new one, which tells all that it keeps.
        expected = [("gap", None), ("upstream", 2), ("upstream", 3)]
        await threads.deferToThread(until, lambda: len(happened) >= 3, "the events have come")
        assert [(one["kind"], one.get("version")) for one in happened] == expected
    finally:
        await client.close()


@pytest_twisted.ensureDeferred
async def test_over_tcp_with_a_token(tmp_path: Path, start: Start, errors: list[LogEvent]) -> None:
    """A wrong token is told at once; the right one is used again after each reconnection."""
    (tmp_path / "slardar.yaml").write_text(
        f"control: {{tokens: [{{name: ops, role: admin, sha256: {DIGEST}}}]}}\n"
    )
    words = ("--config", "slardar.yaml", "--store", "memory:")
    words += ("--amp", "tcp:0:interface=127.0.0.1")
    site = start(Slardar(tmp_path, *words)).ready()
    port = site.wait_for(r"amp on tcp 127\.0\.0\.1:(\d+)")[1]
    with pytest.raises(slardar.amp.Unauthorized):
        await connected(f"tcp:127.0.0.1:{port}", "wrong")
    client = await connected(f"tcp:127.0.0.1:{port}", TOKEN)
    try:
        assert await client.update_upstream("a", upstream(1)) == 1
    finally:
        await client.close()
    without = await connected(f"tcp:127.0.0.1:{port}")
    try:
        with pytest.raises(slardar.amp.Unauthorized, match="Login"):
            await without.status()
    finally:
        await without.close()
    assert errors == []


class HangingUp(Protocol):
    """A slardar that ends just when somebody logs in."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.loseConnection()


@pytest_twisted.ensureDeferred
async def test_connection_that_ends_during_the_login(errors: list[LogEvent]) -> None:
    """The attempt has failed, which is no bug that is logged."""
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    port = reactor.listenTCP(0, Factory.forProtocol(HangingUp), interface="127.0.0.1")  # type: ignore[attr-defined]
    try:
        with pytest.raises(ConnectionClosed):
            await connected(f"tcp:127.0.0.1:{port.getHost().port}", TOKEN)
    finally:
        await port.stopListening()
    assert errors == []


@pytest_twisted.ensureDeferred
async def test_change_under_way_fails_if_slardar_dies(tmp_path: Path, start: Start) -> None:
    """Whether it was made is not known, so it is not made again.  A question is asked again."""
    site = start(Slardar(tmp_path, "--store", "memory:")).ready()
    client = await connected(f"unix:{tmp_path}/slardar.sock")
    try:
        site.signal(signal.SIGSTOP)
        changing = client.update_upstream("a", upstream(1))
        asking = client.status()
        site.signal(signal.SIGKILL)
        with pytest.raises(Exception, match=r"[Cc]onnection"):
            await changing
        site.wait()
        again = start(Slardar(tmp_path, "--store", "memory:")).ready()
        assert (await asking)["shd_config_version"] == 0
        assert again.pid
    finally:
        await client.close()


@pytest_twisted.ensureDeferred
async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(ConnectError):
        await connected(f"unix:{tmp_path}/none.sock")


@pytest_twisted.ensureDeferred
async def test_example_drains_a_server(tmp_path: Path, start: Start, files: FileServer) -> None:
    """examples/drain.py takes a server out and brings it back."""
    words = ("--store", "memory:", "--upstream", f"www={files.address},127.0.0.1:1")
    start(Slardar(tmp_path, *words)).ready()
    command = [sys.executable, CHECKOUT / "examples" / "drain.py"]
    command += ["unix:slardar.sock", "www", files.address]
    done = await threads.deferToThread(
        subprocess.run,
        command,
        cwd=tmp_path,
        input="\n",
        text=True,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert f"version 1: {files.address} gets no new request" in done.stdout
    assert f"version 2: {files.address} is back" in done.stdout
