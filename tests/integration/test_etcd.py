"""Two nodes with one etcd."""

from __future__ import annotations

import json
from pathlib import Path

from tests.integration.conftest import Start
from tests.integration.programs import FileServer, Slardar
from tests.integration.test_workers import until
from tests.stores.etcd_server import Etcd


def test_nodes_follow_one_etcd(tmp_path: Path, start: Start, files: FileServer) -> None:
    """A change through one node, or by another program, is served by both, and agreed on; while
    etcd is away they serve what they know, and catch up when it is back."""
    etcd: Etcd = start(Etcd(tmp_path / "etcd").ready())
    store = f"etcd:{etcd.url}/slardar/?timeout=1"
    options = ("--store", store)
    nodes = [start(Slardar(tmp_path / name, *options)) for name in ("a", "b")]
    a, b = (one.ready() for one in nodes)

    def all_serve(name: str) -> bool:
        return all(node.get(name, "/who")[0] == 200 for node in (a, b))

    def prints() -> set[str]:
        return {node.call("GET", "/status")[1]["fingerprint"] for node in (a, b)}

    server = {"host": "127.0.0.1", "port": files.port}
    assert a.call("PUT", "/upstream/one", {"servers": [server]})[0] == 200
    until(lambda: b.get("one", "/who")[0] == 200, "the other node's change")
    etcd.put("/slardar/upstreams/two", json.dumps({"servers": [server]}))
    until(lambda: all_serve("two"), "etcd's change")

    until(lambda: len(prints()) == 1, "the same fingerprint")
    etcd.kill()
    for node in (a, b):
        assert node.call("PUT", "/upstream/three", {"servers": [server]})[0] == 503
        assert node.get("two", "/who")[0] == 200
    etcd = start(etcd.again())
    etcd.put("/slardar/upstreams/three", json.dumps({"servers": [server]}))
    until(lambda: all_serve("three"), "what came later")
    until(lambda: len(prints()) == 1, "the same fingerprint")
