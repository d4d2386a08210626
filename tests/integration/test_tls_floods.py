"""Floods of handshakes, and clients of TLS that are slow: the others hardly wait, and the
deadlines and limits of plain connections hold."""

from __future__ import annotations

import json
import socket
import ssl
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.programs import PATIENCE
from tests.integration.test_fairness import WORST, delayed
from tests.integration.test_tls import Site, answer, ask
from tests.integration.test_workers import until

#: Hellos that come at once: more than half a second of work.
FLOOD = 800
REQUEST = b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n"
LARGE = b"GET /large HTTP/1.1\r\nHost: a.example\r\n\r\n"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site that is not started yet."""
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


def change(site: Site, **sections: dict[str, float]) -> None:
    """Change sections of the site's file."""
    file = site.folder / "slardar.yaml"
    settings = json.loads(file.read_text())
    for name, section in sections.items():
        settings.setdefault(name, {}).update(section)
    file.write_text(json.dumps(settings))


def hello(site: Site, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> bytes:
    """A client's first message."""
    outgoing = ssl.MemoryBIO()
    client = site.context(maximum_version=version).wrap_bio(
        ssl.MemoryBIO(), outgoing, server_hostname="a.example"
    )
    with pytest.raises(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


def connections(site: Site) -> int:
    """The clients that there are, as the status says; it is up to a second old."""
    return int(site.program.call("GET", "/status")[1]["statistics"]["connections"])


def is_over(sock: socket.socket) -> bool:
    """Whether the server has ended a connection; nothing waits."""
    sock.setblocking(False)
    try:
        while sock.recv(1 << 20):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        pass
    return True


@pytest.mark.alone
@pytest.mark.parametrize("workers", ["0", "2"])
def test_flood_of_hellos(site: Site, workers: str) -> None:
    """Eight hundred clients say hello at once, and nothing more.  Clients with TLS and without
    it, who are connected, wait at most 0.3 s; new ones are served, too, and those of the flood
    are gone after their time."""
    site.start(workers)
    program = site.program.ready()
    plain = socket.create_connection(("127.0.0.1", program.port), PATIENCE)
    site.stack.callback(plain.close)
    kept: list[socket.socket] = [plain, site.connect(), site.connect()]
    for sock in kept:
        ask(sock)
    status = program.call("GET", "/status")[1]
    pids: list[Any] = [program.pid, *(one["pid"] for one in status.get("workers", {}).values())]
    words = hello(site)
    flood = [site.plain() for _ in range(FLOOD)]
    for sock in flood:
        sock.send(words)
    waits: list[float] = []
    under_way = set(flood)
    while under_way:
        for sock in kept:
            # Time that they waited for a processor does not count.
            before = sum(map(delayed, (*pids, "thread-self")))
            began = time.monotonic()
            assert ask(sock).startswith(b"HTTP/1.1 200 OK")
            took = time.monotonic() - began
            waits.append(took - sum(map(delayed, (*pids, "thread-self"))) + before)
        for sock in list(under_way):
            sock.setblocking(False)
            try:
                # On a busy machine, its time is over before its turn.
                assert sock.recv(1, socket.MSG_PEEK) in (b"\x16", b"")
            except BlockingIOError:
                break
            under_way.remove(sock)
    assert len(waits) > 20
    assert max(waits) < WORST, sorted(waits)[-5:]
    assert ask(site.connect()).startswith(b"HTTP/1.1 200 OK")
    until(lambda: all(map(is_over, flood)), "the flood is over")
    for sock in kept:
        assert ask(sock).startswith(b"HTTP/1.1 200 OK")


def slow_hello(site: Site) -> tuple[socket.socket, bytes]:
    """A client that has its hello to send."""
    return site.plain(), hello(site)


def slow_finish(site: Site) -> tuple[socket.socket, bytes]:
    """A client that has the end of its handshake to send."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = site.context().wrap_bio(incoming, outgoing, server_hostname="a.example")
    sock = site.plain()
    while True:
        try:
            client.do_handshake()
            return sock, outgoing.read()
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(65536))


def slow_head(site: Site) -> tuple[socket.socket, bytes]:
    """A client that has the head of a request to send, in records of one byte."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = site.context().wrap_bio(incoming, outgoing, server_hostname="a.example")
    sock = site.plain()
    while True:
        try:
            client.do_handshake()
            break
        except ssl.SSLWantReadError:
            sock.sendall(outgoing.read())
            incoming.write(sock.recv(65536))
    sock.sendall(outgoing.read())
    for byte in REQUEST:
        client.write(bytes((byte,)))
    return sock, outgoing.read()


@pytest.mark.parametrize("workers", ["0", "2"])
def test_slow_clients(site: Site, workers: str) -> None:
    """Some send a byte at a time: of their hello, of the end of their handshake, of their
    request.  Each has ``client_header`` for all of it, and no byte gives it more.  Others stop
    reading in the middle of a reply, and have ``send`` to go on."""
    change(site, timeouts={"client_header": 1.0, "send": 1.0})
    site.start(workers)
    kept = site.connect()
    ask(kept)
    slow = [make(site) for make in (slow_hello, slow_finish, slow_head) for _ in range(10)]
    for _ in range(10):
        stopped = site.connect()
        stopped.sendall(LARGE)
        assert stopped.recv(100).startswith(b"HTTP/1.1 200 OK")
    at = 0
    while not all(is_over(sock) for sock, _ in slow):
        for sock, words in slow:
            try:
                sock.send(words[at : at + 1])
            except ConnectionError:
                pass
        at += 1
        assert at < 40, "they are still there"
        end = time.monotonic() + 0.1
        ask(kept)
        until(lambda end=end: time.monotonic() > end, "the next byte")
    until(lambda: connections(site) == 1, "those that stopped are gone, too")
    assert ask(kept).startswith(b"HTTP/1.1 200 OK")
    assert "Traceback" not in site.program.output


def test_limit_of_connections(site: Site) -> None:
    """Clients that only began their handshakes count, others wait in the kernel's queue, and
    are served when the time of those is over."""
    change(site, limits={"connections": 10}, timeouts={"client_header": 1.0})
    site.start()
    half = [site.plain() for _ in range(10)]
    for sock in half:
        sock.sendall(hello(site)[:100])
    began = time.monotonic()
    late = [site.plain() for _ in range(10)]
    until(lambda: connections(site) == 10, "the status knows them")
    sock = site.context().wrap_socket(late[0], server_hostname="a.example")
    site.stack.callback(sock.close)
    sock.sendall(REQUEST)
    assert answer(sock).startswith(b"HTTP/1.1 200 OK")
    assert time.monotonic() - began > 0.7
    until(lambda: all(map(is_over, half)), "their time is over")
