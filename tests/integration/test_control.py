"""The control channel of a running slardar, with hostile callers."""

from __future__ import annotations

import http.client
import json
import re
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from tests.integration.conftest import Start
from tests.integration.programs import Slardar

MIB = 1 << 20


def resident(slardar: Slardar) -> int:
    """MiB of memory that the process has now."""
    text = Path(f"/proc/{slardar.pid}/status").read_text()
    found = re.search(r"VmRSS:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) >> 10


def connect(slardar: Slardar, sent: bytes = b"") -> socket.socket:
    """A connection that has sent these bytes."""
    sock = socket.create_connection(("127.0.0.1", slardar.control), timeout=10)
    try:
        sock.sendall(sent)
    except OSError:
        pass  # the connection is refused
    return sock


def test_idle_connections_keep_nobody_out(tmp_path: Path, start: Start) -> None:
    """Three times the limit: silent, in the middle of a head or of a body."""
    slardar = start(Slardar(tmp_path, "--store", "memory:")).ready()
    head = b"PUT /upstream/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n"
    with ExitStack() as opened:
        for number in range(768):
            sent = (b"", b"GET /", head + b"1234")[number % 3]
            opened.enter_context(connect(slardar, sent))
            if number % 128 == 127:
                assert slardar.call("GET", "/upstreams") == (200, {})
        assert slardar.call("PUT", "/routes", [])[0] == 200


def test_memory_of_aborted_bodies_returns(tmp_path: Path, start: Start) -> None:
    """400 MiB in pieces of 4, ten at a time; all bodies together may hold 32 MiB."""
    slardar = start(Slardar(tmp_path, "--store", "memory:")).ready()
    before = resident(slardar)
    head = b"PUT /upstream/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n" % (4 * MIB)
    body = b"x" * (4 * MIB - 1)
    for _ in range(10):
        with ExitStack() as opened:
            for _ in range(10):
                opened.enter_context(connect(slardar, head + body))
    assert slardar.call("GET", "/upstreams") == (200, {})
    assert resident(slardar) - before < 100


def test_writers_that_race_lose_nothing(tmp_path: Path, start: Start) -> None:
    """Eight writers add servers to the same upstream, each to the version that it read; a
    writer that gets 412 reads again.  Without the condition most servers would be lost."""
    slardar = start(Slardar(tmp_path, "--store", "memory:")).ready()
    first = {"servers": [{"host": "127.0.0.1", "port": 1}]}
    assert slardar.call("PUT", "/upstream/a", first)[0] == 200

    def add(ports: range) -> int:
        """How often the writer got 412."""
        connection = http.client.HTTPConnection("127.0.0.1", slardar.control, timeout=30)
        refused = 0
        for port in ports:
            while True:
                connection.request("GET", "/upstream/a")
                reply = connection.getresponse()
                only = {"If-Match": reply.headers["ETag"]}
                upstream = json.loads(reply.read())
                upstream["servers"].append({"host": "127.0.0.1", "port": port})
                connection.request("PUT", "/upstream/a", json.dumps(upstream), only)
                reply = connection.getresponse()
                reply.read()
                if reply.status == 200:
                    break
                assert reply.status == 412
                refused += 1
        connection.close()
        return refused

    with ThreadPoolExecutor(8) as threads:
        refused = sum(threads.map(add, (range(n, n + 5) for n in range(100, 180, 10))))
    status, upstream = slardar.call("GET", "/upstream/a")
    assert status == 200
    assert len(upstream["servers"]) == 41
    assert refused > 0


def test_replies_nobody_reads_cost_little(tmp_path: Path, start: Start) -> None:
    """A large configuration is asked for 50 times on each of 40 connections, and not read:
    once would be 100 MB, and all together 5 GB. Afterwards the memory is free again."""
    servers = [{"host": "10.0.0.1", "port": port} for port in range(1, 1001)]
    upstreams = {f"u{number}": {"servers": servers} for number in range(15)}
    (tmp_path / "c.yaml").write_text(json.dumps({"upstreams": upstreams}))
    slardar = start(Slardar(tmp_path, "--store", "memory:", "--config", "c.yaml")).ready()
    length = len(json.dumps(slardar.call("GET", "/upstreams")[1]))
    assert length > 2 * MIB
    before = resident(slardar)
    with ExitStack() as opened:
        for _ in range(40):
            sent = b"GET /upstreams HTTP/1.1\r\nHost: localhost\r\n\r\n" * 50
            opened.enter_context(connect(slardar, sent))
        assert slardar.call("GET", "/routes") == (200, [])
        assert resident(slardar) - before < 150
    assert slardar.call("GET", "/routes") == (200, [])
    assert resident(slardar) - before < 60


def test_client_that_half_closes_gets_its_reply(tmp_path: Path, start: Start) -> None:
    """``nc -N`` closes so, here byte by byte; a body that is cut short is no call."""
    slardar = start(Slardar(tmp_path)).ready()
    head = b"PUT /routes HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n"
    for body, status in ((b"[]", b"HTTP/1.1 200"), (b"[", b"")):
        with connect(slardar) as sock:
            for byte in head + body:
                sock.sendall(bytes([byte]))
            sock.shutdown(socket.SHUT_WR)
            reply = b"".join(iter(lambda: sock.recv(4096), b""))
            assert reply[:12] == status
    assert slardar.call("GET", "/status")[1]["shd_config_version"] == 1
