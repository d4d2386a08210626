"""Certificates that are set at run time, on the real program: under load, over an upgrade, and on
another node of one store."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.certificates import Authority
from tests.integration.conftest import Start
from tests.integration.programs import PATIENCE, Slardar
from tests.integration.test_tls import Site, ask
from tests.integration.test_workers import until
from tests.integration.upgrades import Upgraded
from tests.stores.etcd_server import Etcd

LISTEN = "tls:0:interface=127.0.0.1"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site whose files have no certificate."""
    with ExitStack() as stack:
        site = Site(tmp_path, stack)
        for path in (tmp_path / "certs").iterdir():
            path.unlink()
        # A busy machine may be slow with a handshake.
        file = tmp_path / "slardar.yaml"
        file.write_text(json.dumps({**json.loads(file.read_text()), "timeouts": {}}))
        yield site


def body_of(authority: Authority, name: str = "a.example") -> dict[str, str]:
    """What a call sends for a new certificate."""
    cert, key = authority.issue("new", (name,))
    return {"cert": cert.read_text(), "key": key.read_text()}


def der(body: dict[str, str]) -> bytes:
    return ssl.PEM_cert_to_DER_cert(body["cert"])


class Load:
    """Clients that make handshakes and requests all the time."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.failures: list[Any] = []
        self.served = 0
        self._ends = threading.Event()
        self._threads = [threading.Thread(target=self._run) for _ in range(2)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ends.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        context = self._site.context()
        # The clients must not use all of the machine's time.
        while not self._ends.wait(0.005):
            try:
                with context.wrap_socket(
                    socket.create_connection(("127.0.0.1", self._site.port), PATIENCE),
                    server_hostname="a.example",
                ) as sock:
                    for _ in range(2):
                        assert ask(sock).startswith(b"HTTP/1.1 200 OK")
                        self.served += 1
            except Exception as error:
                self.failures.append(error)

    def more(self) -> None:
        """Wait for more requests."""
        goal = self.served + 10
        until(lambda: self.served >= goal, "requests are answered")


def test_certificates_are_set_under_load_and_over_an_upgrade(site: Site) -> None:
    """When the call is answered, every worker shows the new one to new handshakes.  No request
    fails, no connection is closed, and nothing tells the key."""
    options = ("--config", "slardar.yaml", "--store", "memory:", "--listen", LISTEN)
    program = Upgraded(site.folder, *options, listen=False)
    site.stack.callback(program.end)
    site.program = program
    site.port = int(program.wait_for(r"requests on tls 127\.0\.0\.1:(\d+)")[1])
    program.control = int(program.wait_for(r"control on tcp 127\.0\.0\.1:(\d+)")[1])
    with pytest.raises(ssl.SSLError, match="unrecognized"):
        site.connect()
    bodies = [body_of(site.authority) for _ in range(3)]

    def put(number: int) -> None:
        status, answer = program.call("PUT", "/certificate/any", bodies[number])
        assert (status, answer) == (200, {"status": 200})
        # Each is on one of the workers.
        shown = {site.connect().getpeercert(True) for _ in range(10)}
        assert shown == {der(bodies[number])}

    put(0)
    kept = site.connect()
    ask(kept)
    with Load(site) as load:
        put(1)
        broken = {**bodies[2], "key": bodies[0]["key"]}
        status, answer = program.call("PUT", "/certificate/any", broken)
        assert (status, "is not that of the certificate" in answer["msg"]) == (400, True)
        ask(kept)
        assert kept.getpeercert(True) == der(bodies[0])
        load.more()
    assert load.failures == []
    program.upgrade()
    assert site.connect().getpeercert(True) == der(bodies[1])
    with Load(site) as load:
        put(2)
        load.more()
    assert load.failures == []
    (found,) = program.call("GET", "/certificates")[1]
    assert (found["name"], found["names"], found["in_use"]) == ("any", ["a.example"], True)
    told = [program.call("GET", path)[1] for path in ("/status", "/history", "/certificates")]
    text = program.output + json.dumps(told)
    for body in bodies:
        assert body["key"].splitlines()[1] not in text
    assert program.call("DELETE", "/certificate/any")[0] == 200
    with pytest.raises(ssl.SSLError, match="unrecognized"):
        site.connect()


def test_certificate_of_one_node_serves_on_the_other(
    tmp_path: Path, site: Site, start: Start
) -> None:
    """And so does one that somebody writes to the store, unless it is broken; a node that is
    started later has them, too."""
    etcd: Etcd = start(Etcd(tmp_path / "etcd").ready())
    options = ("--store", f"etcd:{etcd.url}/slardar/?timeout=1", "--listen", LISTEN)

    def node(name: str) -> Slardar:
        started: Slardar = start(Slardar(tmp_path / name, *options)).ready()
        return started

    def shown(one: Slardar, name: str = "a.example") -> bytes | None:
        site.port = int(one.wait_for(r"requests on tls 127\.0\.0\.1:(\d+)")[1])
        try:
            return site.connect(name).getpeercert(True)
        except ssl.SSLError:
            return None

    a, b = node("a"), node("b")
    first, second = body_of(site.authority), body_of(site.authority, "b.example")
    assert a.call("PUT", "/certificate/a.example", first)[0] == 200
    assert shown(a) == der(first)
    until(lambda: shown(b) == der(first), "the other node shows it")
    etcd.put("/slardar/certificates/b.example", json.dumps(second))
    for one in (a, b):
        until(lambda one=one: shown(one, "b.example") == der(second), "both show it")  # type: ignore[misc]
    etcd.put("/slardar/certificates/b.example", json.dumps({**second, "key": first["key"]}))
    for one in (a, b):
        until(
            lambda one=one: "certificates.b.example" in one.call("GET", "/status")[1]["failed"],  # type: ignore[misc]
            "the broken one is told of",
        )
        assert shown(one, "b.example") == der(second)
    assert b.call("PUT", "/certificate/b.example", second)[0] == 200
    until(lambda: "failed" not in a.call("GET", "/status")[1], "it is repaired")
    late = node("c")
    assert [shown(late, name) for name in ("a.example", "b.example")] == [der(first), der(second)]
    prints = {one.call("GET", "/status")[1]["fingerprint"] for one in (a, b, late)}
    assert len(prints) == 1
