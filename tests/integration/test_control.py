"""The control channel of a running slardar, under callers that mean no good."""

from __future__ import annotations

import re
import socket
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
    """A connection that has said so much."""
    sock = socket.create_connection(("127.0.0.1", slardar.control), timeout=10)
    try:
        sock.sendall(sent)
    except OSError:
        pass  # it is refused
    return sock


def test_idle_connections_keep_nobody_out(tmp_path: Path, start: Start) -> None:
    """Three times as many as there may be: silent, in the middle of a head or of a body."""
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
    """400 MiB in pieces of 4, ten at a time; what all may hold together is 32 MiB."""
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
