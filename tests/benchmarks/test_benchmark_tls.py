"""Clients of TLS: what they offer, and handshakes that are counted only if they are complete."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.handshakes import PROCESSES, Shaker
from benchmarks.load import LoadError, parse_wrk
from benchmarks.pair import HOST, client_environment, make_pair
from benchmarks.proxies import PROXIES, ROOT

pytestmark = pytest.mark.real


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Any]:
    """A server of TLS; it has the number of tickets it issues, and what it saw."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(make_pair(tmp_path))
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    seen: list[tuple[Any, bool]] = []

    def serve(sock: socket.socket) -> None:
        try:
            with context.wrap_socket(sock, server_side=True) as tls:
                seen.append((tls.cipher(), bool(tls.session_reused)))
                assert tls.recv(1) == b"", "no request is sent"
                tls.unwrap()
        except OSError:
            pass

    def accept() -> None:
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=serve, args=(sock,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    port = listener.getsockname()[1]
    yield SimpleNamespace(port=port, context=context, seen=seen, folder=tmp_path)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_pair_is_made_once_and_is_the_owners(tmp_path: Path) -> None:
    """All proxies get the same certificate, and nobody else gets its key."""
    pair = make_pair(tmp_path)
    text = pair.read_text()
    assert make_pair(tmp_path).read_text() == text
    assert pair.stat().st_mode & 0o077 == 0
    shown = subprocess.run(
        ["openssl", "x509", "-text", "-noout"],
        input=text,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert f"DNS:{HOST}, IP Address:127.0.0.1" in shown
    assert "ASN1 OID: prime256v1" in shown


@pytest.mark.parametrize("resumes", [False, True])
def test_client_resumes_only_where_it_is_told(server: Any, resumes: bool) -> None:
    """The first handshake is a full one in any case."""
    shaker = Shaker(server.port, resumes)
    for _ in range(3):
        assert shaker.shake() > 0
    assert [reused for _, reused in server.seen] == [False, resumes, resumes]


def test_session_that_is_not_resumed_is_no_resumed_handshake(server: Any) -> None:
    """A proxy without tickets would be measured for something else."""
    server.context.num_tickets = 0
    shaker = Shaker(server.port, True)
    shaker.shake()
    with pytest.raises(OSError, match="not resumed"):
        shaker.shake()


def run(port: int, folder: Path) -> str:
    """What the program prints."""
    return subprocess.run(
        [sys.executable, "-m", "benchmarks.handshakes", str(port), "0.3", "full"],
        env={**os.environ, **client_environment(folder)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    ).stdout


def test_program_counts_handshakes(server: Any) -> None:
    """Its output is read as wrk's is, and its clients offer AES-128 alone."""
    found = parse_wrk(run(server.port, server.folder))
    assert found.requests >= PROCESSES, "each client made one or more"
    assert (found.failed, 0 < found.p50_ms <= found.p99_ms) == (0, True)
    assert {cipher[0] for cipher, _ in server.seen} == {"TLS_AES_128_GCM_SHA256"}


def test_failed_handshakes_are_counted(tmp_path: Path) -> None:
    """The output has the reason, and there is no result."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    output = run(port, tmp_path)
    assert "Connection refused" in output
    with pytest.raises(LoadError, match="no request was answered"):
        parse_wrk(output)


def test_all_but_old_ones_speak_tls() -> None:
    """Twisted's resource is measured without TLS, and so are those with an access log."""
    silent = {name for name, proxy in PROXIES.items() if not proxy.speaks_tls}
    assert silent == {"twisted", "slardar-log"}
