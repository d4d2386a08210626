"""The path that the hash balancers use is a real nginx's ``$uri``."""

from __future__ import annotations

import socket
from pathlib import Path

from slardar.balancers.hashing import UrlHash
from tests.balancers.kit import FakeRequest, make_peers
from tests.balancers.test_hashing import URIS
from tests.integration.conftest import Start
from tests.integration.programs import Nginx


def uri_of(nginx: Nginx, target: str) -> bytes:
    """nginx's ``$uri`` for a request target; empty if nginx refuses it."""
    with socket.create_connection(("127.0.0.1", nginx.port), timeout=10) as sock:
        sock.sendall(f"GET {target} HTTP/1.0\r\n\r\n".encode("latin-1"))
        reply = b"".join(iter(lambda: sock.recv(65536), b""))
    head, _, body = reply.partition(b"\r\n\r\n")
    return body if b" 200 " in head.split(b"\r\n")[0] else b""


def test_paths_are_nginxs(tmp_path: Path, start: Start) -> None:
    """This holds for every form in the table, and for each byte."""
    nginx = start(Nginx(tmp_path / "nginx", 'location / { return 200 "$uri"; }'))
    balancer = UrlHash(make_peers([1]), {})
    targets = [*URIS, *(f"/a%{byte:02x}b" for byte in range(256))]
    compared = 0
    for target in targets:
        found = uri_of(nginx, target)
        if found:
            key = balancer.key(FakeRequest(target))
            assert key.encode("utf-8", "surrogateescape") == found, target
            compared += 1
    # nginx refuses %00 and the last three of the table.
    assert compared == len(targets) - 4
