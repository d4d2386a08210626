"""How connections end, over real sockets: written bytes arrive, whichever side ends first."""

from __future__ import annotations

import itertools
import random
import subprocess
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import pytest_twisted

from slardar.config import Limits, Timeouts
from tests.certificates import Authority
from tests.dataplane.test_hooks import engine_of
from tests.hooks.kit import hook, hooks
from tests.integration.sockets import (
    Connection,
    Origin,
    Served,
    in_thread,
    reply,
    wait_for,
)

LARGE = bytes(range(256)) * 1600  # 400 KiB
MakeOrigin = Callable[..., Origin]

#: slardar's own answer to a request for this host: the status, and a piece of the body.
MADE = {"hooked": (403, b"no"), "nobody": (502, b"no upstream")}


#: Runs a test with servers that are spoken to in the clear, and over TLS.
BOTH = pytest.mark.parametrize("origin", ["plain", "tls"], indirect=True)


@pytest.fixture
def origin(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeOrigin]:
    """Makes servers that end with the test."""
    origins: list[Origin] = []
    is_secured = getattr(request, "param", "plain") == "tls"
    authority = Authority(tmp_path_factory.mktemp("ca")) if is_secured else None

    def make(*arguments: Any, **named: Any) -> Origin:
        origins.append(Origin(*arguments, authority=authority, **named))
        return origins[-1]

    yield make
    for one in origins:
        one.stop()


async def _serving(folder: Path | None, limits: Limits, **timeouts: Any) -> Served:
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    served = Served(reactor, limits, Timeouts(**timeouts), folder=folder)
    engine_of(
        served.plane,
        {
            "refuse": lambda request, _: request.reject(403, "no"),
            "reply:silence": lambda request, _: request.reject(444),
        },
    )
    await served.begin("tcp:0:interface=127.0.0.1")
    served.snapshot = served.snapshot.with_hooks(
        hooks(hook("script.hooked", "refuse"), hook("script.silent", "reply:silence"))
    )
    await served.plane.apply(served.snapshot, [])
    return served


@pytest.fixture(params=["plain", "tls"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where certificates are made for clients with TLS; ``None`` for those without."""
    return tmp_path if request.param == "tls" else None


@pytest_twisted.async_yield_fixture
async def served(folder: Path | None) -> AsyncIterator[Served]:
    """A data plane with the default timeouts, whose limit of bodies is a megabyte."""
    served = await _serving(folder, Limits(body=1_000_000))
    yield served
    await served.end()


@pytest_twisted.async_yield_fixture
async def hasty(folder: Path | None) -> AsyncIterator[Served]:
    """A data plane with short timeouts."""
    served = await _serving(
        folder, Limits(body=1_000_000), linger=0.5, read=1, client_body=20, client_header=20
    )
    yield served
    await served.end()


# Every way to end, with every kind of reply.


class Way(NamedTuple):
    """How a client ends its connection, or lets it end."""

    version: str = "1.1"
    close: bool = True
    #: The bytes that it sends after its request, and whether it then closes its side.
    behind: bytes = b""
    ends: bool = False
    #: Whether these bytes come after a random moment.
    later: bool = True


_MORE = b"GET /small HTTP/1.1\r\nHost: up\r\n\r\n"
WAYS = {
    "close": Way(),
    "HTTP/1.0": Way("1.0", close=False),
    "half-closed at once": Way(ends=True, later=False),
    "half-closed later": Way(ends=True),
    "half-closed, kept alive": Way(close=False, ends=True),
    "half-closed, HTTP/1.0": Way("1.0", close=False, ends=True),
    "stray line end at once": Way(behind=b"\r\n", later=False),
    "stray line end later": Way(behind=b"\r\n"),
    "stray line end, HTTP/1.0": Way("1.0", close=False, behind=b"\r\n"),
    "stray line end and half-closed": Way(behind=b"\r\n", ends=True),
    "more requests at once": Way(behind=_MORE * 50, later=False),
    "more requests later": Way(behind=_MORE * 50),
    "no request": Way(close=False, behind=b"\0\r\n\r\n", later=False),
}


def _answering(connection: Connection) -> None:
    """Answers after a moment, in the way that the path asks for."""
    while (request := connection.request()) is not None:
        _moment()
        if "/large" in request[0]:
            connection.send(reply(LARGE))
        elif "/chunks" in request[0]:
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            for start in range(0, len(LARGE), 100_000):
                piece = LARGE[start : start + 100_000]
                connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            connection.send(b"0\r\n\r\n")
        else:
            connection.send(reply(b"small"))


def _moment() -> None:
    """Wait for up to a millisecond, without the steps of the clock."""
    end = time.perf_counter() + random.random() * 0.001
    while time.perf_counter() < end:
        pass


def _round(served: Served, way: Way, path: str, host: str) -> str:
    """Make one connection; returns what was wrong with the replies, or an empty text."""
    with served.client(8192 if path != "/small" else 0) as client:
        lines = [f"GET {path} HTTP/{way.version}", f"Host: {host}"]
        if way.close:
            lines.append("Connection: close")
        request = "\r\n".join([*lines, "", ""]).encode()
        client.send(request if way.later else request + way.behind)
        if way.later:
            _moment()
        try:
            if way.later and way.behind:
                client.send(way.behind)
            if way.ends:
                client.end()
        except OSError:
            pass  # the end may come first; the bytes before it count
        try:
            got = client.reply()
            rest = client.rest()
        except (AssertionError, OSError) as error:
            return repr(error)
    status, body = MADE.get(host, (200, b"small" if path == "/small" else LARGE))
    if got.status != status or (got.body != body if host == "up" else body not in got.body):
        return f"{got.status} with {len(got.body)} bytes"
    if way.behind.startswith(b"\0"):
        return "" if rest.startswith(b"HTTP/1.1 400 ") else f"and then {rest[:50]!r}"
    return f"and then {rest[:50]!r}" if rest else ""


@pytest.mark.parametrize("way", WAYS)
@in_thread
def test_no_reply_is_lost(served: Served, origin: MakeOrigin, way: str) -> None:
    """However a connection ends, each reply arrives whole, with an end in order after it."""
    served.put("up", origin(_answering))
    wrong: list[str] = []
    # A handshake takes a while.
    rounds = [("/small", "up")] * (30 if served.has_tls else 100) + [
        ("/large", "up"),
        ("/chunks", "up"),
    ] * 6
    rounds += [("/small", "hooked"), ("/small", "nobody")] * 15
    for path, host in rounds:
        if fault := _round(served, WAYS[way], path, host):
            wrong.append(f"{host}{path}: {fault}")
    assert wrong == []
    # All these clients have closed, so no connection stays.
    wait_for(lambda: served.statistic("connections") == 0)


@in_thread
def test_tunnel_ends_behind_its_bytes(served: Served, origin: MakeOrigin) -> None:
    """Whichever side ends or breaks, the bytes for the other side arrive, even if that side
    goes on sending."""
    heard = threading.Semaphore(0)
    size = 20_000

    def upgraded(connection: Connection) -> None:
        head = connection.head()
        assert head is not None
        connection.send(
            b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
        )
        connection.send(b"y" * size)
        if "/breaks" in head[0]:
            heard.acquire(timeout=20)
            connection.reset()
            return
        if "/ends" in head[0]:
            connection.end()
        connection.origin.paths.append(str(len(connection.rest())))

    server = origin(upgraded)
    served.put("up", server)
    for path in ("/breaks", "/ends", "/waits") * 10:
        with served.client(8192) as client:
            client.ask(path, "up", "GET", "Connection: Upgrade", "Upgrade: x")
            assert client.line_block()
            got = client.exactly(1)
            heard.release()
            _moment()
            if path != "/breaks":
                client.send(LARGE)
                client.end()
            assert len(got + client.rest()) == size
    wait_for(lambda: server.paths.count(str(len(LARGE))) == 20)
    wait_for(lambda: served.statistic("tunnels") == 0)


# Refusals of uploads.


def _early(connection: Connection) -> None:
    """Refuses by the head, and closes without reading on."""
    if connection.head() is not None:
        connection.send(reply(b"too much", 413, "Connection: close"))


def _swallowing(connection: Connection) -> None:
    """Reads until the end, and sends nothing."""
    connection.head()
    connection.rest()


REFUSERS = {"limits.body": ("up", 413), "server": ("early", 413), "hook": ("hooked", 403)}


def _serve_refusers(served: Served, origin: MakeOrigin) -> None:
    served.put("up", origin(_swallowing))
    served.put("early", origin(_early))


@BOTH
@pytest.mark.parametrize("who", REFUSERS)
@pytest.mark.parametrize("framing", ["length", "chunks"])
@in_thread
def test_refused_upload_gets_its_reply(
    served: Served, origin: MakeOrigin, who: str, framing: str
) -> None:
    """A client that reads only after writing 40 MB gets the reply, and the end."""
    _serve_refusers(served, origin)
    host, status = REFUSERS[who]
    if who != "limits.body":
        served.run(setattr, served.plane, "max_body", 1 << 30)
    size, piece = 40_000_000, b"x" * 1_000_000
    line = f"Content-Length: {size}" if framing == "length" else "Transfer-Encoding: chunked"
    with served.client() as client:
        client.ask("/in", host, "POST", line)
        for _ in range(size // len(piece)):
            client.send(piece if framing == "length" else b"f4240\r\n" + piece + b"\r\n")
        if framing == "chunks":
            client.send(b"0\r\n\r\n")
        got = client.reply()
        assert (got.status, got.headers["connection"]) == (status, "close")
        assert client.rest() == b""


@pytest.mark.parametrize("who", REFUSERS)
@in_thread
def test_refused_upload_of_a_slow_client(hasty: Served, origin: MakeOrigin, who: str) -> None:
    """Each piece restarts ``timeouts.linger``, so the upload may take longer in all."""
    _serve_refusers(hasty, origin)
    host, status = REFUSERS[who]
    if who != "limits.body":
        hasty.run(setattr, hasty.plane, "max_body", 1 << 30)
    with hasty.client() as client:
        client.ask("/in", host, "POST", "Content-Length: 2000000")
        for _ in range(7):
            threading.Event().wait(0.1)
            client.send(b"x" * 6000)
        got = client.reply()
        assert got.status == status
        # slardar stops waiting when the client is silent.
        assert client.rest() == b""
        wait_for(lambda: hasty.statistic("connections") == 0)


@BOTH
@pytest.mark.parametrize("expect", [True, False])
@pytest.mark.parametrize("who", REFUSERS)
@in_thread
def test_refused_upload_by_curl(
    served: Served, origin: MakeOrigin, tmp_path: Path, who: str, expect: bool
) -> None:
    """curl shows the reply; a curl that waits for a 100 sends no body."""
    _serve_refusers(served, origin)
    host, status = REFUSERS[who]
    if who != "limits.body":
        served.run(setattr, served.plane, "max_body", 1 << 30)
    upload = tmp_path / "upload"
    with upload.open("wb") as file:
        file.truncate(40_000_000)
    url = served.curl_words("/in")
    header = ["-H", f"Host: {host}", "-H", "Expect: 100-continue" if expect else "Expect:"]
    write = ["-s", "-S", "-w", "%{http_code} %{size_upload}", "-o", "/dev/null"]
    done = subprocess.run(
        ["curl", *write, *header, "--expect100-timeout", "20", "-T", str(upload), *url],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    code, sent = done.stdout.split()
    assert (done.returncode, int(code)) == (0, status), done.stderr
    if expect:
        assert sent == "0"


@BOTH
@pytest.mark.parametrize("who", REFUSERS)
@in_thread
def test_client_that_waited_and_sends_all_the_same(
    served: Served, origin: MakeOrigin, who: str
) -> None:
    """The reply was final, and no byte of the body is taken for a request."""
    _serve_refusers(served, origin)
    host, status = REFUSERS[who]
    body = b"GET /evil HTTP/1.1\r\nHost: up\r\n\r\n" * 32_000
    if who != "limits.body":
        served.run(setattr, served.plane, "max_body", 1 << 30)
    with served.client() as client:
        client.ask("/in", host, "PUT", f"Content-Length: {len(body)}", "Expect: 100-continue")
        got = client.reply()
        assert got.status == status
        try:
            client.send(body)
        except OSError:
            pass  # slardar may have closed the connection
        assert client.rest() == b""


# Servers that are silent, or are no HTTP servers.


@in_thread
def test_silent_server_is_left_though_the_client_waits_for_its_word(
    hasty: Served, origin: MakeOrigin
) -> None:
    """After ``read_timeout`` the next server is tried, whatever ``client_body`` is."""

    def silent(connection: Connection) -> None:
        connection.head()
        connection.rest()

    def asking(connection: Connection) -> None:
        head = connection.head()
        assert head is not None
        connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        connection.send(reply(connection.body(head[1], False)))

    first, second = origin(silent), origin(asking)
    hasty.put("up", first, second)
    began = time.monotonic()
    with hasty.client() as client:
        client.ask("/in", "up", "PUT", "Content-Length: 4", "Expect: 100-continue")
        assert client.head()[0] == 100
        client.send(b"body")
        assert client.reply().body == b"body"
    assert time.monotonic() - began < 10.0
    assert [hasty.live_of(one).failures for one in (first, second)] == [1, 0]


@BOTH
@pytest.mark.parametrize(
    "rubbish",
    [b"\x15\x03\x01\0\x02", b"220 mail\r\n", b"HTTP/1.1 200 OK\nX: y\n\n", b"<"],
    ids=["TLS", "SMTP", "bare LF", "HTML"],
)
@in_thread
def test_server_that_speaks_no_http_is_left_at_once(
    served: Served, origin: MakeOrigin, rubbish: bytes
) -> None:
    """502 comes long before ``read_timeout``, though the server's connection stays open; a
    request that may be sent again gets another server's reply."""

    def other(connection: Connection) -> None:
        if connection.head() is not None:
            connection.send(rubbish)
            connection.rest()

    server = origin(other)
    served.put("up", server)
    with served.client() as client:
        began = time.monotonic()
        assert client.get("/").status == 502
        assert time.monotonic() - began < 5.0
        served.put("up", server, origin())
        statuses = {client.get("/").status for _ in range(4)}
    assert statuses == {200}
    assert served.live_of(server).failures > 1


# Clients that have closed their side.


@in_thread
def test_no_reply_is_no_byte(served: Served, origin: MakeOrigin) -> None:
    """A client that has closed its side and waits for a hook that sees replies gets no byte
    meanwhile; a 444 is only the end."""
    gate = threading.Event()

    def slow(connection: Connection) -> None:
        while connection.request() is not None:
            gate.wait(20)
            connection.send(reply())

    server = origin(slow)
    for name in ("silent", "up"):
        served.put(name, server)
    clients = {}
    for host in ("silent", "up"):
        clients[host] = served.client()
        clients[host].ask("/", host)
        clients[host].end()
    # The other client shows that the time for a probing byte has come.
    assert clients["up"].exactly(1) == b"H"
    gate.set()
    assert clients["silent"].rest() == b""
    assert clients["up"].rest().startswith(b"TTP/1.1 200 ")


@pytest.mark.real(False)
def test_table_is_whole() -> None:
    """No two ways are equal."""
    assert all(a != b for a, b in itertools.combinations(WAYS.values(), 2))
