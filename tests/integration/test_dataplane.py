"""The data plane in this process, with real sockets and servers that misbehave."""

from __future__ import annotations

import gc
import os
import resource
import select
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_twisted

from slardar.config import Limits, Timeouts
from slardar.dataplane.channel import BULK_SIZE, HIGH_MARK, Channel
from slardar.errors import ConfigError
from slardar.http1.attempt import Attempt
from slardar.http1.client import ClientConnection
from slardar.model.snapshot import Route
from tests.buffers import MORE_THAN_BUFFERS
from tests.certificates import Authority
from tests.integration.sockets import (
    Client,
    Connection,
    Origin,
    Served,
    answer_all,
    in_thread,
    reply,
    wait_for,
)

#: The most bytes that may wait in the process for one slow side: those below the mark, and
#: the read that passed it.
BOUND = HIGH_MARK + BULK_SIZE + 4096

MakeOrigin = Callable[..., Origin]


#: Runs a test with servers that are spoken to in the clear, and over TLS.
BOTH = pytest.mark.parametrize("origin", ["plain", "tls"], indirect=True)


@pytest.fixture
def origin(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[MakeOrigin]:
    """Makes servers that end with the test, and are spoken to over TLS or not."""
    origins: list[Origin] = []
    is_secured = getattr(request, "param", "plain") == "tls"
    authority = Authority(tmp_path_factory.mktemp("ca")) if is_secured else None

    def make(*arguments: Any, **named: Any) -> Origin:
        origins.append(Origin(*arguments, authority=authority, **named))
        return origins[-1]

    yield make
    for one in origins:
        one.stop()


async def _serving(endpoint: str = "tcp:0:interface=127.0.0.1", **changes: Any) -> Served:
    from twisted.internet import reactor  # noqa: TID251 - the one that pytest-twisted runs

    limits, folder = changes.pop("limits", Limits()), changes.pop("folder", None)
    served = Served(reactor, limits, Timeouts(**changes), folder=folder)
    await served.begin(endpoint)
    return served


@pytest.fixture(params=["plain", "tls"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path | None:
    """Where certificates are made for clients with TLS; ``None`` for those without."""
    return tmp_path if request.param == "tls" else None


#: For tests in which TLS plays no part, or which look below it.
PLAIN = pytest.mark.parametrize("folder", ["plain"], indirect=True)


@pytest_twisted.async_yield_fixture
async def served(folder: Path | None) -> AsyncIterator[Served]:
    """A data plane with the default settings."""
    served = await _serving(folder=folder)
    yield served
    await served.end()


@pytest_twisted.async_yield_fixture
async def hasty(folder: Path | None) -> AsyncIterator[Served]:
    """A data plane with short timeouts."""
    served = await _serving(
        folder=folder, connect=0.3, read=0.5, send=0.5, client_body=0.5, keepalive=0.5
    )
    yield served
    await served.end()


# Ends.


@BOTH
@in_thread
def test_connection_that_has_ended_leaves_no_garbage(served: Served, origin: MakeOrigin) -> None:
    """Its memory is free at once, as nothing of it is in a circle."""
    server = origin(lambda connection: connection.send(reply()))
    served.put("up", server)
    kinds = (ClientConnection, Attempt, Channel)

    def left() -> list[object]:
        return [one for one in gc.get_objects() if isinstance(one, kinds)]

    gc.collect()
    gc.disable()
    try:
        before = len(left())
        for _ in range(3):
            with served.client() as client:
                assert client.get().status == 200
        wait_for(lambda: len(left()) <= before, "the end of the connections")
    finally:
        gc.enable()


# Connections to servers.


@BOTH
@in_thread
def test_connection_is_used_again(served: Served, origin: MakeOrigin) -> None:
    """Consecutive requests use one connection to the server."""
    server = origin()
    served.put("up", server)
    with served.client() as client:
        for number in range(5):
            assert client.get(f"/{number}").body == b"origin"
    with served.client() as client:
        assert client.get("/5").status == 200
    assert len(server.connections) == 1
    assert server.connections[0].requests == [f"/{number}" for number in range(6)]


@BOTH
@in_thread
def test_newest_connection_is_used_and_surplus_closed(served: Served, origin: MakeOrigin) -> None:
    """Of five connections of a burst, ``keepalive`` two stay, and the next request takes the
    one that was given back last."""
    gate = threading.Event()

    def gated(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            if request[0].startswith("GET /wait"):
                gate.wait(20)
            connection.send(reply())

    server = origin(gated)
    served.put("up", server, keepalive=2)
    clients = [served.client() for _ in range(5)]
    for client in clients:
        client.ask("/wait")
    wait_for(lambda: len(server.paths) == 5)
    gate.set()
    for client in clients:
        assert client.reply().status == 200
    wait_for(lambda: server.open_connections == 2)
    newest = served.run(lambda: served.pool(server).idle[-1].sock.getsockname())
    assert clients[0].get("/next").status == 200
    used = [one for one in server.connections if "/next" in one.requests]
    assert [one.sock.getpeername() for one in used if not one.ended] == [newest]
    for client in clients:
        client.close()


@BOTH
@pytest.mark.parametrize("method", ["GET", "POST"])
@in_thread
def test_connection_that_the_server_has_just_closed(
    served: Served, origin: MakeOrigin, method: str
) -> None:
    """A server that ends idle connections at will costs no request: neither one that may be
    repeated, whenever the end comes, nor one that must not be, if the end has arrived."""

    def once_only(connection: Connection) -> None:
        if connection.request() is not None:
            connection.send(reply())
            # A keep-alive reply, and then the end.

    server = origin(once_only)
    served.put("up", server)
    with served.client() as client:
        for _ in range(30):
            client.ask("/", "up", method, "Content-Length: 0")
            assert client.reply().status == 200
            if method == "POST":
                wait_for(lambda: server.open_connections == 0)
    assert served.live_of(server).failures == 0
    assert len(server.paths) == 30


@BOTH
@in_thread
def test_stale_connection_found_by_the_request_itself(served: Served, origin: MakeOrigin) -> None:
    """The server closes when the next request arrives: the request is sent again on a new
    connection, and no failure is counted."""

    def closes_on_second(connection: Connection) -> None:
        if connection.request() is not None:
            connection.send(reply())
            connection.head()

    server = origin(closes_on_second)
    served.put("up", server)
    with served.client() as client:
        assert client.get("/1").status == 200
        assert client.get("/2").status == 200
    live = served.live_of(server)
    assert (live.failures, live.active, live.requests) == (0, 0, 2)
    assert server.paths == ["/1", "/2", "/2"]


@BOTH
@in_thread
def test_reply_that_nobody_asked_for(served: Served, origin: MakeOrigin) -> None:
    """Bytes after a reply poison the connection; the next client gets its own reply."""

    def talks_too_much(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            connection.send(reply(request[0].encode()) + reply(b"poison"))

    server = origin(talks_too_much)
    served.put("up", server)
    for number in range(5):
        with served.client() as client:
            assert client.get(f"/{number}").body == b"GET /%d HTTP/1.1" % number
    assert len(server.connections) == 5


@BOTH
@pytest.mark.parametrize("size", [8000, 30_000, 70_000, 2_000_000])
@in_thread
def test_bytes_behind_a_body_that_was_not_read(
    served: Served, origin: MakeOrigin, size: int
) -> None:
    """A large body passes in the kernel; bytes after it poison the connection, too."""
    body = (bytes(range(251)) * 8000)[:size]

    def talks_too_much(connection: Connection) -> None:
        while connection.request() is not None:
            connection.send(reply(body) + reply(b"poison"))

    server = origin(talks_too_much)
    served.put("up", server)
    for number in range(5):
        with served.client() as client:
            assert client.get(f"/{number}").body == body
    assert len(server.connections) == 5


@BOTH
@in_thread
def test_large_bodies_on_one_connection(
    served: Served, origin: MakeOrigin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bodies of every size, one after the other, are whole, and the connection is kept.  The
    large ones pass in the kernel, if they are not to be sealed."""
    splice = os.splice
    spliced = [0]

    def counted(*arguments: Any) -> int:
        spliced[0] += 1
        return splice(*arguments)

    monkeypatch.setattr(os, "splice", counted)
    sizes = [8000, 8192, 8193, 40_960, 65_536, 100_000, 262_144, 262_145, 700_001, 3_000_000, 5]

    def large(connection: Connection) -> None:
        for size in sizes:
            connection.request()
            connection.send(reply(b"%d " % size + b"x" * size))
        answer_all(connection)

    server = origin(large)
    served.put("up", server)
    with served.client() as client:
        for size in sizes:
            assert client.get().body == b"%d " % size + b"x" * size
        assert client.get().body == b"origin"
    assert len(server.connections) == 1
    # What is sealed passes nowhere else.
    assert (spliced[0] > 0) == (server.tls is None and not served.has_tls)


@BOTH
@in_thread
def test_server_that_breaks_off_within_a_large_body(served: Served, origin: MakeOrigin) -> None:
    """The client can tell that the body is incomplete."""

    def breaks(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 2_000_000)

    server = origin(breaks)
    served.put("up", server)
    with served.client() as client:
        client.ask()
        status, headers = client.head()
        assert (status, headers["content-length"]) == (200, "5000000")
        assert client.exactly(2_000_000) == b"x" * 2_000_000
        assert client.rest() == b""


# Changes while requests run.


@BOTH
@in_thread
def test_drained_server(served: Served, origin: MakeOrigin) -> None:
    """Its idle connections close, its request under way finishes, and new ones go to other
    servers."""
    gate = threading.Event()

    def slow(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            if "/slow" in request[0]:
                gate.wait(20)
            connection.send(reply(b"old"))

    old, new = origin(slow), origin(name="new")
    served.put("up", old)
    with served.client() as running, served.client() as client:
        running.ask("/slow")
        wait_for(lambda: old.paths == ["/slow"])
        assert client.get("/").body == b"old"
        assert old.open_connections == 2
        served.put("up", servers=[{**old.server, "state": "drain"}, new.server])
        wait_for(lambda: old.open_connections == 1)
        assert [client.get("/").body for _ in range(3)] == [b"new"] * 3
        assert running.is_open()
        gate.set()
        assert running.reply().body == b"old"
        wait_for(lambda: old.open_connections == 0)
        assert running.get("/").body == b"new"


@BOTH
@in_thread
def test_removed_server_and_removed_upstream(served: Served, origin: MakeOrigin) -> None:
    """A removed server behaves as a drained one; without its upstream the answer is 502, and
    the request under way still finishes."""
    gate = threading.Event()

    def slow(connection: Connection) -> None:
        while connection.request() is not None:
            gate.wait(20)
            connection.send(reply(b"old"))

    old, new = origin(slow), origin(name="new")
    served.put("up", old)
    with served.client() as running, served.client() as other:
        running.ask("/slow")
        wait_for(lambda: old.paths)
        served.put("up", new)
        assert other.get("/").body == b"new"
        served.remove("up")
        refused = other.get("/")
        assert refused.status == 502
        wait_for(lambda: new.open_connections == 0)
        gate.set()
        assert running.reply().body == b"old"
        wait_for(lambda: old.open_connections == 0)
    assert len(served.live) == 0


@in_thread
def test_change_touches_no_neighbour(served: Served, origin: MakeOrigin) -> None:
    """After a hundred changes of one upstream, another one's client connection, server
    connection and counters live on."""
    one, two, extra = origin(name="one"), origin(name="two"), origin(name="extra")
    served.put("one", one)
    served.put("two", two)
    with served.client() as client:
        assert client.get("/", "one").body == b"one"
        assert client.get("/", "two").body == b"two"
        for number in range(100):
            servers = [two.server, extra.server] if number % 2 else [two.server]
            served.put("two", servers=servers)
            if number % 10 == 0:
                assert client.get("/", "one").body == b"one"
        # Another server of the changed upstream lives on, too.
        assert client.get("/", "two").status == 200
    assert len(one.connections) == 1
    assert len(two.connections) == 1
    assert served.live_of(one, "one").requests == 11


@in_thread
def test_change_that_is_refused_leaves_all_as_it_was(served: Served, origin: MakeOrigin) -> None:
    """A balancer that refuses its options when it is made stops the whole change."""
    one, two = origin(name="one"), origin(name="two")
    served.put("one", one)
    served.put("two", two)
    with served.client() as client:
        assert client.get("/", "one").body == b"one"
        assert client.get("/", "two").body == b"two"
        before = served.snapshot
        with pytest.raises(ConfigError):
            served.put("two", one, mode_opts={"no": "such"})
        served.snapshot = before
        assert client.get("/", "two").body == b"two"
        assert client.get("/", "one").body == b"one"
    assert served.statistic("version") == before.version


@BOTH
@in_thread
def test_tunnel_outlives_changes(served: Served, origin: MakeOrigin) -> None:
    """A WebSocket goes on through a hundred changes of its upstream, and through the
    upstream's end."""

    def websocket(connection: Connection) -> None:
        connection.head()
        connection.send(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\n\r\nhello"
        )
        while data := connection.sock.recv(65536):
            connection.send(data.upper())
        connection.send(b"bye")

    server, other = origin(websocket), origin()
    served.put("up", server)
    with served.client() as client:
        client.ask("/", "up", "GET", "Connection: Upgrade", "Upgrade: websocket")
        assert client.head()[0] == 101
        assert client.exactly(5) == b"hello"
        for number in range(100):
            served.put("up", servers=[server.server, other.server][: 1 + number % 2])
            if number % 10 == 0:
                client.send(b"ping%d" % number)
                assert client.exactly(len(b"PING%d" % number)) == b"PING%d" % number
        served.remove("up")
        big = b"x" * 3_000_000
        sender = threading.Thread(target=client.send, args=(big,))
        sender.start()
        assert client.exactly(len(big)) == big.upper()
        sender.join()
        assert served.statistic("tunnels") == 1
        client.end()
        assert client.rest() == b"bye"
    wait_for(lambda: served.statistic("tunnels") == 0)
    wait_for(lambda: served.statistic("connections") == 0)
    wait_for(lambda: served.statistic("active") == 0)


# Slow sides.


@BOTH
@in_thread
def test_slow_client_keeps_memory_bounded(served: Served, origin: MakeOrigin) -> None:
    """A client that does not read stops the server and does not fill the proxy's memory; in
    the end it gets every byte."""
    size = MORE_THAN_BUFFERS
    sent = [0]

    def large(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        piece = b"0123456789abcdef" * 4096
        while sent[0] < size:
            connection.send(piece[: size - sent[0]])
            sent[0] = min(size, sent[0] + len(piece))

    server = origin(large)
    served.put("up", server)
    with served.client(receive_buffer=32768) as client:
        client.ask()
        status, headers = client.head()
        assert (status, headers["content-length"]) == (200, str(size))
        # Wait until all buffers are full and nothing moves.
        before = -1
        while before != sent[0]:
            before = sent[0]
            threading.Event().wait(0.15)
            assert served.held() <= BOUND
        assert sent[0] < size
        body = client.exactly(size)
    assert body == (b"0123456789abcdef" * (size // 16 + 1))[:size]


@BOTH
@in_thread
def test_slow_server_keeps_memory_bounded(served: Served, origin: MakeOrigin) -> None:
    """This also holds for an upload to a server that does not read; in the end it is whole."""
    size = MORE_THAN_BUFFERS
    gate, got = threading.Event(), [0]

    def reads_late(connection: Connection) -> None:
        connection.head()
        gate.wait(20)
        got[0] = len(connection._buffer)
        while got[0] < size:
            got[0] += len(connection.sock.recv(1 << 20))
        connection.send(reply(b"%d" % got[0]))

    server = origin(reads_late)
    served.put("up", server)
    sent = [0]

    with served.client() as client:

        def upload() -> None:
            client.send(b"POST / HTTP/1.1\r\nHost: up\r\nContent-Length: %d\r\n\r\n" % size)
            piece = b"x" * 100_000
            while sent[0] < size:
                client.send(piece[: size - sent[0]])
                sent[0] = min(size, sent[0] + len(piece))

        thread = threading.Thread(target=upload)
        thread.start()
        before = -1
        while before != sent[0] or not sent[0]:
            before = sent[0]
            threading.Event().wait(0.15)
            assert served.held() <= BOUND
        assert sent[0] < size
        gate.set()
        answer = client.reply()
        thread.join()
    assert answer.body == b"%d" % size


@BOTH
@in_thread
def test_large_chunked_download(served: Served, origin: MakeOrigin) -> None:
    """Ten megabytes in chunks of every size arrive as they were."""
    pieces = [bytes([number % 251]) * (number * 37 % 60_000 + 1) for number in range(350)]

    def chunked(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for piece in pieces:
            connection.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        connection.send(b"0\r\n\r\n")
        answer_all(connection)

    server = origin(chunked)
    served.put("up", server)
    with served.client() as client:
        got = client.get()
        assert got.body == b"".join(pieces)
        assert client.get().body == b"origin"
    assert len(server.connections) == 1


@in_thread
def test_client_that_takes_nothing_is_cut_off(hasty: Served, origin: MakeOrigin) -> None:
    """Both connections are closed after ``timeouts.send`` without a byte taken."""

    def large(connection: Connection) -> None:
        connection.request()
        connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 30000000\r\n\r\n")
        connection.send(b"x" * 30_000_000)

    server = origin(large)
    hasty.put("up", server)
    with hasty.client(receive_buffer=4096) as client:
        client.ask()
        wait_for(lambda: server.paths)
        wait_for(lambda: server.open_connections == 0)
        wait_for(lambda: hasty.statistic("connections") == 0)
    assert hasty.statistic("active") == 0


# Clients that leave.


@BOTH
@in_thread
def test_client_that_resets_mid_request(served: Served, origin: MakeOrigin) -> None:
    """Nobody waits for the reply any more: the server's connection is closed within about a
    second."""
    noticed: list[float] = []

    def waits(connection: Connection) -> None:
        connection.request()
        connection.wait_closed()
        noticed.append(time.monotonic())

    server = origin(waits)
    served.put("up", server)
    client = served.client()
    client.ask("/long")
    wait_for(lambda: server.paths)
    left = time.monotonic()
    client.reset()
    wait_for(lambda: noticed)
    assert noticed[0] - left < 5.0
    wait_for(lambda: served.statistic("active") == 0)
    live = served.live_of(server)
    assert (live.active, live.failures) == (0, 0)


@BOTH
@in_thread
def test_client_that_resets_while_its_upload_is_held_back(
    served: Served, origin: MakeOrigin
) -> None:
    """A client that is paused because its server is slow is also noticed when it goes."""
    noticed = threading.Event()

    def never_reads(connection: Connection) -> None:
        connection.head()
        while not noticed.wait(0.01):
            error = connection.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            state = connection.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]
            if error or state != 1:  # no longer ESTABLISHED
                noticed.set()

    server = origin(never_reads)
    served.put("up", server)
    client = served.client()
    client.send(b"POST / HTTP/1.1\r\nHost: up\r\nContent-Length: 100000000\r\n\r\n")
    client.sock.setblocking(False)
    quiet_since = time.monotonic()
    while time.monotonic() - quiet_since < 0.2:
        try:
            client.sock.send(b"x" * 100_000)
            quiet_since = time.monotonic()
        except (BlockingIOError, ssl.SSLWantWriteError):
            threading.Event().wait(0.01)
    assert served.statistic("active") == 1
    client.reset()
    wait_for(lambda: served.statistic("active") == 0)
    assert noticed.wait(20)


@in_thread
def test_client_that_closes_mid_request(served: Served, origin: MakeOrigin) -> None:
    """A client that has closed looks like one that has half-closed, and its kernel goes on
    answering keep-alive probes; it is noticed within about a second all the same."""
    noticed: list[float] = []

    def waits(connection: Connection) -> None:
        connection.request()
        connection.wait_closed()
        noticed.append(time.monotonic())

    server = origin(waits)
    served.put("up", server)
    client = served.client()
    client.ask("/long")
    wait_for(lambda: server.paths)
    left = time.monotonic()
    client.close()
    wait_for(lambda: noticed)
    assert noticed[0] - left < 8.0
    wait_for(lambda: served.statistic("active") == 0)
    assert served.live_of(server).failures == 0


@in_thread
def test_half_closed_client_gets_its_reply(served: Served, origin: MakeOrigin) -> None:
    """The client's end after the request does not end the request: every byte of the interim
    reply and of the reply arrives, although slardar has probed the client meanwhile."""
    gate = threading.Event()

    def slow(connection: Connection) -> None:
        while connection.request() is not None:
            gate.wait(20)
            connection.send(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")
            connection.send(reply(b"x" * 1_000_000))

    server = origin(slow)
    served.put("up", server)
    with served.client() as client:
        client.ask()
        client.end()
        wait_for(lambda: server.paths)
        # The first probing byte comes after a second.
        assert client.exactly(1) == b"H"
        gate.set()
        assert client.line_block() == b"TTP/1.1 103 Early Hints\r\nLink: </x>"
        assert len(client.reply().body) == 1_000_000
        assert client.rest() == b""


# Endpoints and servers.


@pytest_twisted.ensureDeferred
async def test_unix_socket(tmp_path: Path, origin: MakeOrigin, monkeypatch: Any) -> None:
    """A client of a unix socket is served; the socket's file is removed with the listener."""
    monkeypatch.chdir(tmp_path)
    served = await _serving("unix:front.sock")
    server = origin()

    def script() -> None:
        served.put("up", server)
        with served.client() as client:
            assert client.get("/").body == b"origin"
        assert (tmp_path / "front.sock").exists()

    from twisted.internet.threads import deferToThread

    try:
        await deferToThread(script)
    finally:
        await served.end()
    assert not (tmp_path / "front.sock").exists()


@pytest_twisted.ensureDeferred
async def test_ipv6(origin: MakeOrigin) -> None:
    """Clients and servers may be reached by IPv6."""
    from twisted.internet.threads import deferToThread

    try:
        server = origin(host="::1")
    except OSError:
        pytest.skip("no IPv6 here")
    served = await _serving("tcp6:0:interface=\\:\\:1")

    def script() -> None:
        served.put("up", server)
        with served.client() as client:
            assert client.get("/").body == b"origin"

    try:
        await deferToThread(script)
    finally:
        await served.end()


@pytest.mark.real(False)
@pytest.mark.parametrize("endpoint", ["nonsense", "tcp:x", "ssl:0:privateKey=a", "stdio:"])
@pytest_twisted.ensureDeferred
async def test_endpoint_that_is_refused(endpoint: str) -> None:
    """A string that is no endpoint, or one whose protocol would be lost, is refused in one
    line."""
    with pytest.raises(ConfigError) as caught:
        await _serving(endpoint)
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith("listen: expected ")


@BOTH
@in_thread
def test_server_by_name(served: Served, origin: MakeOrigin) -> None:
    """A name is looked up before the change is answered, so the next request finds it."""
    server = origin()
    served.put("up", servers=[{**server.server, "host": "localhost"}])
    with served.client() as client:
        assert client.get("/").body == b"origin"
        # The same name again, and beside it a name that no lookup finds.
        lost = {"host": "does-not-exist.invalid", "port": 80}
        served.put("up", servers=[{**server.server, "host": "localhost", "weight": 3}, lost])
        assert [client.get("/").status for _ in range(8)] == [200] * 8
        served.remove("up")
        assert client.get("/").status == 502


@in_thread
def test_routes_and_default(served: Served, origin: MakeOrigin) -> None:
    """An upstream to which only a route leads is made ready with its first request."""
    one, two = origin(name="one"), origin(name="two")
    served.put("one", one)
    served.put("two", two)
    routes = (Route(upstream="two", path="/two/"), Route(upstream="gone", path="/gone/"))
    served.snapshot = served.snapshot.with_routes(routes)
    served.run(served.plane.apply, served.snapshot, [])
    with served.client() as client:
        assert client.get("/two/x", "one").body == b"two"
        assert client.get("/", "one").body == b"one"
        assert client.get("/gone/x", "one").status == 502
        assert client.get("/", "unknown").status == 502


# Time.


@in_thread
def test_server_that_does_not_accept(hasty: Served, origin: MakeOrigin) -> None:
    """A server whose queue is full gets ``timeout`` seconds; then another one is tried, and
    without another one the answer is 504."""
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)
        fillers = []
        # Fill the queue until a connection is not completed any more.
        while True:
            filler = socket.socket()
            fillers.append(filler)
            filler.settimeout(0.15)
            try:
                filler.connect(deaf.getsockname())
            except TimeoutError:
                break
            assert len(fillers) < 20
        full = {"host": "127.0.0.1", "port": deaf.getsockname()[1]}
        good = origin()
        hasty.put("up", servers=[full, good.server])
        hasty.put("alone", servers=[full])
        with hasty.client() as client:
            assert client.get("/").body == b"origin"
            assert client.get("/", "alone").status == 504
        for filler in fillers:
            filler.close()


@in_thread
def test_server_that_does_not_reply(hasty: Served, origin: MakeOrigin) -> None:
    """The client gets 504 after ``read_timeout``, and the server's connection is closed; if
    there is a second server, it is tried instead."""

    def mute(connection: Connection) -> None:
        connection.request()
        connection.wait_closed()

    bad, good = origin(mute), origin()
    hasty.put("alone", bad)
    hasty.put("up", bad, good)
    with hasty.client() as client:
        assert client.get("/", "alone").status == 504
        assert client.get("/", "up").body == b"origin"
    wait_for(lambda: bad.open_connections == 0)
    assert hasty.live_of(bad, "alone").failures == 1


@in_thread
def test_server_that_refuses(served: Served, origin: MakeOrigin) -> None:
    """The next server is tried at once; if there is none, the answer is 502."""
    gone = origin()
    gone.stop()
    good = origin()
    served.put("up", gone, good)
    served.put("alone", gone)
    with served.client() as client:
        assert [client.get("/").body for _ in range(4)] == [b"origin"] * 4
        assert client.get("/", "alone").status == 502


@in_thread
def test_idle_client_is_let_go(hasty: Served, origin: MakeOrigin) -> None:
    """Its connection ends in order after ``timeouts.keepalive`` without a request."""
    hasty.put("up", origin())
    with hasty.client() as client:
        assert client.get("/").status == 200
        assert client.rest() == b""


@BOTH
@in_thread
def test_http_1_0(served: Served, origin: MakeOrigin) -> None:
    """A client of HTTP/1.0 gets the reply up to the connection's end, without chunks, and may
    ask to keep the connection."""

    def chunked(connection: Connection) -> None:
        while connection.request() is not None:
            connection.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nsome")
            threading.Event().wait(0.02)
            connection.send(b"\r\n5\r\n more\r\n0\r\n\r\n")

    served.put("chunked", origin(chunked))
    served.put("plain", origin())
    with served.client() as client:
        client.send(b"GET / HTTP/1.0\r\nHost: chunked\r\n\r\n")
        got = client.reply()
        assert "transfer-encoding" not in got.headers
        assert got.body == b"some more"
    with served.client() as client:
        for _ in range(2):
            client.send(b"GET / HTTP/1.0\r\nHost: plain\r\nConnection: keep-alive\r\n\r\n")
            assert client.reply().body == b"origin"


# Many.


@pytest_twisted.ensureDeferred
async def test_limit_of_connections(origin: MakeOrigin) -> None:
    """Beyond ``limits.connections`` clients wait in the kernel's queue, and are served as soon
    as others have left."""
    from twisted.internet.threads import deferToThread

    served = await _serving(limits=Limits(connections=3))
    server = origin()

    def script() -> None:
        served.put("up", server)
        inside = [served.client() for _ in range(3)]
        for client in inside:
            assert client.get("/").status == 200
        waiting = [served.client() for _ in range(2)]
        for client in waiting:
            client.ask("/waiting")
        for client in inside:
            assert client.get("/").status == 200
        assert "/waiting" not in server.paths
        assert served.statistic("connections") == 3
        inside.pop().close()
        assert waiting[0].reply().status == 200
        inside.pop().close()
        assert waiting[1].reply().status == 200
        for client in inside + waiting:
            client.close()

    try:
        await deferToThread(script)
    finally:
        await served.end()


@pytest.mark.parametrize(("limit", "status"), [(10, 413), (11, 200), (0, 200)])
@pytest_twisted.ensureDeferred
async def test_limit_of_a_body(origin: MakeOrigin, limit: int, status: int) -> None:
    """A body of more than ``limits.body`` is refused, with a length or in chunks; 0 is no
    limit."""
    from twisted.internet.threads import deferToThread

    served = await _serving(limits=Limits(body=limit))
    server = origin()

    def script() -> None:
        served.put("up", server)
        head = b"POST / HTTP/1.1\r\nHost: up\r\n"
        for rest in (
            b"Content-Length: 11\r\n\r\nhello world",
            b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
        ):
            with served.client() as client:
                client.send(head + rest)
                assert client.reply().status == status

    try:
        await deferToThread(script)
    finally:
        await served.end()


@PLAIN
@in_thread
def test_thousand_connections_at_once(served: Served, origin: MakeOrigin) -> None:
    """A thousand clients are connected together, and each gets its own reply, twice."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 8192 and hard != resource.RLIM_INFINITY:
        pytest.skip("too few descriptors here")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, 8192), hard))

    def echo(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            connection.send(reply(request[0].split(" ")[1].encode()))

    served.put("up", origin(echo))
    clients = [served.client() for _ in range(1000)]
    try:
        wait_for(lambda: served.statistic("connections") == 1000)
        # They come in waves, because the server of this test has a thread for each connection.
        for turn in range(2):
            for start in range(0, 1000, 50):
                wave = list(enumerate(clients))[start : start + 50]
                for number, client in wave:
                    client.ask(f"/{turn}/{number}")
                for number, client in wave:
                    assert client.reply().body == b"/%d/%d" % (turn, number)
    finally:
        for client in clients:
            client.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    wait_for(lambda: served.statistic("connections") == 0)


# The end.


@in_thread
def test_stop_finishes_what_is_under_way(served: Served, origin: MakeOrigin) -> None:
    """A request under way gets its reply, with Connection: close; a client whose reply has
    begun gets the rest; an idle connection is closed; no new one is accepted."""
    gate = threading.Event()

    def slow(connection: Connection) -> None:
        while (request := connection.request()) is not None:
            if "/slow" in request[0]:
                gate.wait(20)
            if "/begun" in request[0]:
                connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
                gate.wait(20)
                connection.send(b"world")
            else:
                connection.send(reply())

    server = origin(slow)
    served.put("up", server)
    idle, running, begun = served.client(), served.client(), served.client()
    assert idle.get("/").status == 200
    running.ask("/slow")
    begun.ask("/begun")
    assert begun.head()[0] == 200
    wait_for(lambda: len(server.paths) == 3)
    served.start_stop()
    assert idle.rest() == b""
    with pytest.raises(ConnectionRefusedError):
        served.client()
    assert running.is_open()
    gate.set()
    got = running.reply()
    assert got.status == 200
    assert got.headers["connection"] == "close"
    running.close()
    assert begun.exactly(10) == b"helloworld"
    assert begun.rest() == b""
    served.finish_stop()
    wait_for(lambda: server.open_connections == 0)


@in_thread
def test_stop_leaves_idle_clients_their_grace(served: Served, origin: MakeOrigin) -> None:
    """A client that sends a request in this time gets its reply with ``Connection: close``; an
    idle connection ends at once when the time is shortened."""
    served.put("up", origin())
    asking, idle = served.client(), served.client()
    assert asking.get("/").status == idle.get("/").status == 200

    def stop() -> None:
        served._stopping = served.plane.stop(100.0, 100.0)

    served.run(stop)
    # Longer than idle clients stay otherwise.
    assert not select.select([asking.sock, idle.sock], [], [], 0.6)[0]
    got = asking.get("/")
    assert (got.status, got.headers["connection"]) == (200, "close")
    asking.wait_closed()
    assert idle.is_open()
    served.run(served.plane.hurry, 10.0)
    idle.wait_closed()
    idle.close()
    served.finish_stop()


@in_thread
def test_stop_leaves_new_clients_more_time(served: Served, origin: MakeOrigin) -> None:
    """Their first request is on its way: its end would be a failure for them.  An idle client
    asks again by itself."""
    served.put("up", origin())
    asked, new = served.client(), served.client()
    assert asked.get("/").status == 200
    # It is connected as soon as the plane has accepted it.
    wait_for(lambda: len(served.plane._clients) == 2)

    def stop() -> None:
        served._stopping = served.plane.stop()

    served.run(stop)
    asked.wait_closed()
    got = new.get("/")
    assert (got.status, got.headers["connection"]) == (200, "close")
    new.wait_closed()
    served.finish_stop()


@in_thread
def test_stop_serves_whoever_the_kernel_has_greeted(served: Served, origin: MakeOrigin) -> None:
    """Clients in the queue at that moment, with or without their request sent, are neither
    refused nor reset: each gets its reply."""
    server = origin()
    served.put("up", server)
    clients: list[Client] = []

    def rush_and_stop() -> None:
        # This runs in the reactor's thread, so nobody is accepted meanwhile.
        for number in range(40 if served.has_tls else 200):
            clients.append(served.client())
            # A handshake would wait for an answer.
            if number % 2 and not served.has_tls:
                clients[-1].ask(f"/{number}")
        # Handshakes in this process, one after the other, take a while.
        served._stopping = served.plane.stop(None, 10.0 if served.has_tls else None)

    served.run(rush_and_stop)
    for number, client in enumerate(clients):
        if not number % 2 or served.has_tls:
            client.ask(f"/{number}")
    for client in clients:
        got = client.reply()
        assert got.status == 200
        assert got.headers["connection"] == "close"
        client.close()
    served.finish_stop()


@in_thread
def test_stop_sends_what_is_written(served: Served, origin: MakeOrigin) -> None:
    """A reply that the proxy holds for a slow client is delivered whole before the end."""
    body = b"z" * 6_000_000

    def large(connection: Connection) -> None:
        connection.request()
        connection.send(reply(body, 200, "Connection: close"))

    served.put("up", origin(large))
    with served.client(receive_buffer=65536) as client:
        client.ask("/", "up", "GET", "Connection: close")
        assert client.head()[0] == 200
        served.start_stop()
        got = client.exactly(1000)
        threading.Event().wait(0.4)
        got += client.rest()
    assert got == body
    served.finish_stop()


@pytest_twisted.ensureDeferred
async def test_stop_takes_no_longer_than_it_may(origin: MakeOrigin) -> None:
    """Requests that have not finished after ``timeouts.drain`` are cut off, tunnels included."""
    from twisted.internet.threads import deferToThread

    served = await _serving(drain=0.4)

    def mute(connection: Connection) -> None:
        if connection.request() is not None and connection.requests == ["/tunnel"]:
            connection.send(b"HTTP/1.1 101 Go\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        connection.wait_closed()

    server = origin(mute)

    def script() -> None:
        served.put("up", server)
        with served.client() as client, served.client() as tunnel:
            client.ask()
            tunnel.ask("/tunnel", "up", "GET", "Connection: Upgrade", "Upgrade: echo")
            assert tunnel.head()[0] == 101
            wait_for(lambda: "/" in server.paths)
            began = time.monotonic()
            served.start_stop()
            served.finish_stop()
            assert 0.3 < time.monotonic() - began < 10.0
            client.wait_closed()
            tunnel.wait_closed()

    await deferToThread(script)
    assert served.statistic("active") == 0
